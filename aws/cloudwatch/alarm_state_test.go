package cloudwatch

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"
	"github.com/aws/smithy-go"

	"understudy/alarm/watch"
	"understudy/aws/wire"
)

// until waits for a condition that an evaluation brings about.
func until(t *testing.T, what string, f func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(20 * time.Second); !f(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatal(what)
		}
	}
}

// What is published rings: from PutMetricData to the topic, with the reason in CloudWatch's words.
func TestPublishedDataRing(t *testing.T) {
	r := newRinging(t)
	in := lag("lag")
	in.Namespace, in.MetricName, in.Dimensions = aws.String("Mine"), aws.String("Lag"), nil
	in.Period, in.EvaluationPeriods, in.DatapointsToAlarm, in.AlarmActions, in.OKActions = aws.Int32(1), aws.Int32(1), nil, []string{topic}, nil
	publish := func(v float64) {
		t.Helper()
		d := types.MetricDatum{MetricName: in.MetricName, Value: &v, StorageResolution: aws.Int32(1), Timestamp: aws.Time(time.Now())}
		if _, err := r.PutMetricData(t.Context(), &cloudwatch.PutMetricDataInput{Namespace: in.Namespace, MetricData: []types.MetricDatum{d}}); err != nil {
			t.Fatal(err)
		}
	}
	r.mustPut(t, in)
	until(t, "an alarm without data that are notBreaching is not OK", func() bool { return r.one(t, "lag").StateValue == types.StateValueOk })
	until(t, "data above the threshold do not ring", func() bool { publish(12.5); return r.one(t, "lag").StateValue == types.StateValueAlarm })
	if got := r.subject(t, 1); got != `ALARM: "lag" in US East (N. Virginia)` {
		t.Error(got)
	}
	history, err := r.DescribeAlarmHistory(t.Context(), &cloudwatch.DescribeAlarmHistoryInput{AlarmName: in.AlarmName, HistoryItemType: types.HistoryItemTypeStateUpdate})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(history.AlarmHistoryItems, func(i types.AlarmHistoryItem) bool {
		return *i.HistorySummary == "Alarm updated from OK to ALARM" && strings.Contains(*i.HistoryData, "was greater than the threshold (10.0)")
	}) {
		t.Errorf("%+v", history.AlarmHistoryItems)
	}
}

func TestStatesAreSetAndRefused(t *testing.T) {
	r := newRinging(t)
	in := still("a")
	in.AlarmActions = []string{topic}
	r.mustPut(t, in)
	set := func(name, state, data string) error {
		in := &cloudwatch.SetAlarmStateInput{AlarmName: &name, StateValue: types.StateValue(state), StateReason: aws.String("")}
		if data != "-" {
			in.StateReasonData = &data
		}
		_, err := r.SetAlarmState(t.Context(), in)
		return err
	}
	if err := set("a", "ALARM", "-"); err != nil {
		t.Error(err)
	}
	if a := r.one(t, "a"); a.StateValue != "ALARM" || *a.StateReason != "" || a.StateReasonData != nil {
		t.Errorf("%+v", a)
	}
	if got := r.subject(t, 1); !strings.HasPrefix(got, `ALARM: "a"`) {
		t.Error(got)
	}
	at := r.one(t, "a").StateTransitionedTimestamp
	if err := set("a", "ALARM", `[1]`); err != nil { // the state is the same: no transition
		t.Error(err)
	}
	if a := r.one(t, "a"); *a.StateReasonData != "[1]" || !a.StateTransitionedTimestamp.Equal(*at) || !a.StateUpdatedTimestamp.After(*at) {
		t.Errorf("%+v", a)
	}
	told(t, set("a", "INVALID", "-"), "ValidationError", "1 validation error detected: Value 'INVALID' at 'stateValue' failed to satisfy constraint: Member must satisfy enum value set: [INSUFFICIENT_DATA, ALARM, OK]")
	told(t, set("a", "OK", "{"), "InvalidFormat", "StateReasonData is not valid JSON.")
	err := set("none", "OK", "-")
	var none *types.ResourceNotFound
	var answer interface{ HTTPStatusCode() int }
	if !errors.As(err, &none) || !errors.As(err, &answer) || answer.HTTPStatusCode() != http.StatusNotFound {
		t.Error(err)
	}
	if got := r.form(t, 404, "Action", "SetAlarmState", "AlarmName", "none", "StateValue", "OK", "StateReason", "r"); !strings.Contains(got, "<Type>Sender</Type><Code>ResourceNotFound</Code>") {
		t.Error(got)
	}
	var fault map[string]any
	r.json(t, 400, "SetAlarmState", `{"AlarmName":"a","StateValue":"OK","StateReason":"r","StateReasonData":"x"}`, &fault)
	if fault["__type"] != "com.amazonaws.cloudwatch#InvalidFormatFault" {
		t.Error(fault)
	}
}

func TestActionsAreDisabledAndEnabled(t *testing.T) {
	r := newRinging(t)
	in := still("a")
	in.AlarmActions, in.OKActions = []string{topic}, []string{topic}
	r.mustPut(t, in)
	names := []string{"a", "none"}
	if _, err := r.DisableAlarmActions(t.Context(), &cloudwatch.DisableAlarmActionsInput{AlarmNames: names}); err != nil {
		t.Fatal(err)
	}
	r.mustSet(t, "a", types.StateValueAlarm)
	if a := r.one(t, "a"); *a.ActionsEnabled || a.StateValue != types.StateValueAlarm {
		t.Errorf("%+v", a)
	}
	if _, err := r.EnableAlarmActions(t.Context(), &cloudwatch.EnableAlarmActionsInput{AlarmNames: names}); err != nil {
		t.Fatal(err)
	}
	r.mustSet(t, "a", types.StateValueOk)
	if a := r.one(t, "a"); !*a.ActionsEnabled {
		t.Errorf("%+v", a)
	}
	if got := r.subject(t, 1); !strings.HasPrefix(got, "OK:") {
		t.Errorf("%s: an alarm whose actions are disabled has told", got)
	}
}

func TestTagsOfAlarms(t *testing.T) {
	r := newRinging(t)
	name := "with: a colon/and more" // as names may be
	in := still(name)
	in.Tags = []types.Tag{{Key: aws.String("b"), Value: aws.String("1")}, {Key: aws.String("a"), Value: aws.String("")}}
	r.mustPut(t, in)
	arn := r.one(t, name).AlarmArn
	list := func() string {
		t.Helper()
		out, err := r.ListTagsForResource(t.Context(), &cloudwatch.ListTagsForResourceInput{ResourceARN: arn})
		if err != nil {
			t.Fatal(err)
		}
		text := ""
		for _, tag := range out.Tags {
			text += *tag.Key + "=" + *tag.Value + " "
		}
		return text
	}
	if got := list(); got != "a= b=1 " {
		t.Error(got)
	}
	if _, err := r.TagResource(t.Context(), &cloudwatch.TagResourceInput{ResourceARN: arn, Tags: []types.Tag{{Key: aws.String("b"), Value: aws.String("2")}}}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.UntagResource(t.Context(), &cloudwatch.UntagResourceInput{ResourceARN: arn, TagKeys: []string{"a", "none"}}); err != nil {
		t.Fatal(err)
	}
	if got := list(); got != "b=2 " {
		t.Error(got)
	}
	for at, code := range map[string]string{
		"arn:aws:cloudwatch:us-east-1:123456789012:alarm:none":          "ResourceNotFoundException",
		"arn:aws:cloudwatch:eu-west-1:123456789012:alarm:" + name:       "ResourceNotFoundException",
		"arn:aws:cloudwatch:us-east-1:111111111111:alarm:" + name:       "ResourceNotFoundException",
		"arn:aws:cloudwatch:us-east-1:123456789012:insight-rule/r":      "InvalidParameterValue",
		"arn:aws:cloudwatch:us-east-1:123456789012:dashboard:" + name:   "InvalidParameterValue",
		"arn:aws:elasticache:us-east-1:123456789012:replicationgroup:x": "InvalidParameterValue",
		"x": "InvalidParameterValue",
	} {
		_, err := r.ListTagsForResource(t.Context(), &cloudwatch.ListTagsForResourceInput{ResourceARN: &at})
		refused(t, at, err, code)
		_, err = r.UntagResource(t.Context(), &cloudwatch.UntagResourceInput{ResourceARN: &at, TagKeys: []string{"a"}})
		refused(t, at, err, code)
	}
	_, err := r.TagResource(t.Context(), &cloudwatch.TagResourceInput{ResourceARN: arn, Tags: []types.Tag{{Key: aws.String("aws:x"), Value: aws.String("")}}})
	refused(t, "aws:x", err, "InvalidParameterValue")
}

// Without alarms their operations are as they were before there were any.
func TestWithoutAlarmsTheirOperationsAreNotServed(t *testing.T) {
	c, _ := newFront(t)
	_, err := c.DescribeAlarms(t.Context(), &cloudwatch.DescribeAlarmsInput{})
	refused(t, "DescribeAlarms", err, "InvalidAction")
}

// What passes is for clients to try again, and a full account is not.
func TestErrorsOfAWatchInTheWordsOfCloudWatch(t *testing.T) {
	var stopped *wire.Error
	if err := alarmError(fmt.Errorf("x: %w", watch.ErrStopped)); !errors.As(err, &stopped) || stopped.Status != http.StatusServiceUnavailable || !stopped.Server {
		t.Error(err)
	}
	var full smithy.APIError
	if err := alarmError(fmt.Errorf("x: %w", watch.ErrFull)); !errors.As(err, &full) || full.ErrorCode() != "LimitExceeded" && full.ErrorCode() != "LimitExceededFault" {
		t.Error(err)
	}
	if err := errors.New("disk"); alarmError(err) != err {
		t.Error("another error is not what it was")
	}
}
