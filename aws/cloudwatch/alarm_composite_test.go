package cloudwatch

import (
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"
)

// still is an alarm whose state no evaluation changes: its metric has no data, and that is ignored.
func still(name string) *cloudwatch.PutMetricAlarmInput {
	in := lag(name)
	in.Period, in.DatapointsToAlarm, in.TreatMissingData, in.AlarmActions = aws.Int32(86400), nil, aws.String("ignore"), nil
	return in
}

func composed(name, rule string) *cloudwatch.PutCompositeAlarmInput {
	return &cloudwatch.PutCompositeAlarmInput{AlarmName: &name, AlarmRule: &rule}
}

func (r *ringing) mustCompose(t *testing.T, in *cloudwatch.PutCompositeAlarmInput) {
	t.Helper()
	if _, err := r.PutCompositeAlarm(t.Context(), in); err != nil {
		t.Fatal(err)
	}
}

func (r *ringing) mustSet(t *testing.T, name string, s types.StateValue) {
	t.Helper()
	if _, err := r.SetAlarmState(t.Context(), &cloudwatch.SetAlarmStateInput{AlarmName: &name, StateValue: s, StateReason: aws.String("trying")}); err != nil {
		t.Fatal(err)
	}
}

func (r *ringing) describe(t *testing.T, in *cloudwatch.DescribeAlarmsInput) *cloudwatch.DescribeAlarmsOutput {
	t.Helper()
	out, err := r.DescribeAlarms(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

var both = []types.AlarmType{types.AlarmTypeCompositeAlarm, types.AlarmTypeMetricAlarm}

// names are those of an answer: metric alarms, then composite ones.
func names(out *cloudwatch.DescribeAlarmsOutput) string {
	var all []string
	for _, a := range out.MetricAlarms {
		all = append(all, *a.AlarmName)
	}
	for _, a := range out.CompositeAlarms {
		all = append(all, "+"+*a.AlarmName)
	}
	return strings.Join(all, " ")
}

func TestACompositeAlarmIsReadBackAndTellsWhatKeepsItBack(t *testing.T) {
	r := newRinging(t)
	r.mustPut(t, still("child"))
	r.mustPut(t, still("deploying"))
	in := composed("page", ` ALARM("child")  AND NOT FALSE`)
	in.AlarmDescription, in.AlarmActions, in.OKActions = aws.String("d"), []string{topic}, []string{topic}
	in.ActionsSuppressor, in.ActionsSuppressorWaitPeriod, in.ActionsSuppressorExtensionPeriod = aws.String("arn:aws:cloudwatch:us-east-1:123456789012:alarm:deploying"), aws.Int32(0), aws.Int32(3600)
	r.mustCompose(t, in)
	page := func() types.CompositeAlarm {
		t.Helper()
		out := r.describe(t, &cloudwatch.DescribeAlarmsInput{AlarmNames: []string{"page"}, AlarmTypes: []types.AlarmType{types.AlarmTypeCompositeAlarm}})
		if len(out.CompositeAlarms) != 1 || len(out.MetricAlarms) != 0 {
			t.Fatalf("%+v", out)
		}
		return out.CompositeAlarms[0]
	}
	a := page()
	same(t, "composite", &cloudwatch.PutCompositeAlarmInput{
		AlarmName: a.AlarmName, AlarmRule: a.AlarmRule, AlarmDescription: a.AlarmDescription, AlarmActions: a.AlarmActions, OKActions: a.OKActions,
		ActionsSuppressor: a.ActionsSuppressor, ActionsSuppressorWaitPeriod: a.ActionsSuppressorWaitPeriod, ActionsSuppressorExtensionPeriod: a.ActionsSuppressorExtensionPeriod,
	}, in)
	if a.StateValue != types.StateValueOk || !*a.ActionsEnabled || a.InsufficientDataActions == nil || a.ActionsSuppressedBy != "" || a.ActionsSuppressedReason != nil {
		t.Errorf("%+v", a)
	}
	if got := r.subject(t, 1); got != `OK: "page" in US East (N. Virginia)` {
		t.Error(got)
	}
	r.mustSet(t, "deploying", types.StateValueAlarm)
	r.mustSet(t, "child", types.StateValueAlarm)
	if a = page(); a.StateValue != types.StateValueAlarm || a.ActionsSuppressedBy != types.ActionsSuppressedByAlarm || *a.ActionsSuppressedReason != "Actions suppressed by Alarm" ||
		!strings.Contains(*a.StateReason, "child") || !strings.Contains(*a.StateReasonData, "triggeringAlarms") {
		t.Errorf("%+v", a)
	}
	r.mustSet(t, "deploying", types.StateValueOk)
	if a = page(); a.ActionsSuppressedBy != types.ActionsSuppressedByExtensionPeriod {
		t.Errorf("%+v", a)
	}
	in.ActionsSuppressor, in.ActionsSuppressorWaitPeriod, in.ActionsSuppressorExtensionPeriod = nil, nil, nil
	r.mustCompose(t, in)
	if a = page(); a.ActionsSuppressor != nil || a.ActionsSuppressorWaitPeriod != nil || a.ActionsSuppressedBy != "" || a.StateValue != types.StateValueAlarm {
		t.Errorf("%+v", a)
	}
}

func TestFamiliesOfAlarms(t *testing.T) {
	r := newRinging(t)
	for _, name := range []string{"a", "b", "c", "suppressor"} {
		r.mustPut(t, still(name))
	}
	r.mustCompose(t, composed("low", `ALARM(a) OR OK("arn:aws:cloudwatch:us-east-1:123456789012:alarm:b")`))
	top := composed("top", "ALARM(low) AND ALARM(a)")
	top.ActionsSuppressor, top.ActionsSuppressorWaitPeriod, top.ActionsSuppressorExtensionPeriod = aws.String("suppressor"), aws.Int32(1), aws.Int32(1)
	r.mustCompose(t, top)
	for name, want := range map[string][2]string{"top": {"a +low", ""}, "low": {"a b", "+top"}, "a": {"", "+low +top"}, "b": {"", "+low"}, "c": {"", ""}, "suppressor": {"", ""}, "none": {"", ""}} {
		if got := names(r.describe(t, &cloudwatch.DescribeAlarmsInput{ChildrenOfAlarmName: &name})); got != want[0] {
			t.Errorf("children of %s: %q, want %q", name, got, want[0])
		}
		if got := names(r.describe(t, &cloudwatch.DescribeAlarmsInput{ParentsOfAlarmName: &name})); got != want[1] {
			t.Errorf("parents of %s: %q, want %q", name, got, want[1])
		}
	}
	child := r.describe(t, &cloudwatch.DescribeAlarmsInput{ChildrenOfAlarmName: aws.String("low")}).MetricAlarms[0]
	same(t, "child", child, types.MetricAlarm{AlarmName: aws.String("a"), AlarmArn: aws.String("arn:aws:cloudwatch:us-east-1:123456789012:alarm:a"),
		StateValue: types.StateValueInsufficientData, StateUpdatedTimestamp: child.StateUpdatedTimestamp})
	parent := r.describe(t, &cloudwatch.DescribeAlarmsInput{ParentsOfAlarmName: aws.String("b")}).CompositeAlarms[0]
	same(t, "parent", parent, types.CompositeAlarm{AlarmName: aws.String("low"), AlarmArn: aws.String("arn:aws:cloudwatch:us-east-1:123456789012:alarm:low")})

	drop := func(names ...string) error {
		_, err := r.DeleteAlarms(t.Context(), &cloudwatch.DeleteAlarmsInput{AlarmNames: names})
		return err
	}
	told(t, drop("a", "c"), "ValidationError", "Cannot delete a as there are composite alarm(s) depending on it: low.")
	told(t, drop("suppressor"), "ValidationError", "Cannot delete suppressor as there are composite alarm(s) depending on it: top.")
	told(t, drop("top", "low"), "ValidationError", "Only one composite alarm can be deleted at a time, not top and low")
	if got := names(r.describe(t, &cloudwatch.DescribeAlarmsInput{AlarmTypes: both})); got != "a b c suppressor +low +top" {
		t.Errorf("%s: something was deleted", got)
	}
	if err := drop("top", "suppressor", "none", "top"); err != nil { // names that there are not are let pass
		t.Error(err)
	}
	if err := drop("low", "a", "b"); err != nil {
		t.Error(err)
	}
	if err := drop("none"); err != nil {
		t.Error(err)
	}
	if got := names(r.describe(t, &cloudwatch.DescribeAlarmsInput{AlarmTypes: both})); got != "c" {
		t.Errorf("%s, want c", got)
	}
}
