package cloudwatch

import (
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"
)

// asPut is what an alarm would be put with to be as it is shown.
func asPut(a types.MetricAlarm) *cloudwatch.PutMetricAlarmInput {
	return &cloudwatch.PutMetricAlarmInput{
		AlarmName: a.AlarmName, AlarmDescription: a.AlarmDescription, ActionsEnabled: a.ActionsEnabled,
		OKActions: a.OKActions, AlarmActions: a.AlarmActions, InsufficientDataActions: a.InsufficientDataActions,
		MetricName: a.MetricName, Namespace: a.Namespace, Statistic: a.Statistic, ExtendedStatistic: a.ExtendedStatistic, Dimensions: a.Dimensions,
		Period: a.Period, Unit: a.Unit, EvaluationPeriods: a.EvaluationPeriods, DatapointsToAlarm: a.DatapointsToAlarm,
		Threshold: a.Threshold, ComparisonOperator: a.ComparisonOperator, TreatMissingData: a.TreatMissingData,
		EvaluateLowSampleCountPercentile: a.EvaluateLowSampleCountPercentile, Metrics: a.Metrics, ThresholdMetricId: a.ThresholdMetricId,
	}
}

// An alarm that was put once more as it is shown is the same: what was not given is not there, but for lists and
// ActionsEnabled, which AWS always shows.
func TestAnAlarmIsReadBackAsItWasPut(t *testing.T) {
	r := newRinging(t)
	for name, change := range map[string]func(put, shown *cloudwatch.PutMetricAlarmInput){
		"the guide's": func(_, _ *cloudwatch.PutMetricAlarmInput) {},
		"as little as there can be": func(put, shown *cloudwatch.PutMetricAlarmInput) {
			for _, in := range []*cloudwatch.PutMetricAlarmInput{put, shown} {
				in.AlarmDescription, in.DatapointsToAlarm, in.TreatMissingData, in.AlarmActions, in.Dimensions = nil, nil, nil, nil, nil
			}
			shown.AlarmActions, shown.Dimensions = []string{}, []types.Dimension{}
		},
		"all of it": func(put, shown *cloudwatch.PutMetricAlarmInput) {
			for _, in := range []*cloudwatch.PutMetricAlarmInput{put, shown} {
				in.ActionsEnabled, in.Unit, in.TreatMissingData = aws.Bool(false), types.StandardUnitSeconds, aws.String("missing")
				in.OKActions = []string{topic, "arn:aws:automate:us-east-1:ec2:recover"}
				in.InsufficientDataActions = []string{"arn:aws:ssm-incidents::123456789012:response-plan/x"}
				in.Period, in.Threshold = aws.Int32(1), aws.Float64(-0.1)
			}
			put.Dimensions = []types.Dimension{{Name: aws.String("b"), Value: aws.String("2")}, {Name: aws.String("a"), Value: aws.String("1")}}
			shown.Dimensions = []types.Dimension{put.Dimensions[1], put.Dimensions[0]}
			put.Tags = []types.Tag{{Key: aws.String("k"), Value: aws.String("v")}}
		},
		"a percentile": func(put, shown *cloudwatch.PutMetricAlarmInput) {
			for _, in := range []*cloudwatch.PutMetricAlarmInput{put, shown} {
				in.Statistic, in.ExtendedStatistic, in.EvaluateLowSampleCountPercentile = "", aws.String("p99.9"), aws.String("evaluate")
			}
		},
		"a percentile that waits": func(put, shown *cloudwatch.PutMetricAlarmInput) {
			for _, in := range []*cloudwatch.PutMetricAlarmInput{put, shown} {
				in.Statistic, in.ExtendedStatistic, in.EvaluateLowSampleCountPercentile = "", aws.String("p10"), aws.String("ignore")
			}
		},
		"metric math": func(put, shown *cloudwatch.PutMetricAlarmInput) {
			for _, in := range []*cloudwatch.PutMetricAlarmInput{put, shown} {
				onMath(in, "100*m1/m2")
			}
			shown.Dimensions = []types.Dimension{}
			put.Metrics[0].ReturnData = nil // as true
		},
	} {
		put, shown := lag(name), lag(name)
		shown.ActionsEnabled, shown.OKActions, shown.InsufficientDataActions = aws.Bool(true), []string{}, []string{}
		change(put, shown)
		r.mustPut(t, put)
		a := r.one(t, name)
		same(t, name, asPut(a), shown)
		if *a.AlarmArn != "arn:aws:cloudwatch:us-east-1:123456789012:alarm:"+name {
			t.Error(*a.AlarmArn)
		}
		r.mustPut(t, asPut(a))
		same(t, name+", put again", asPut(r.one(t, name)), shown)
	}
}

// onMath makes an alarm one on an expression over two metrics.
func onMath(in *cloudwatch.PutMetricAlarmInput, text string) {
	in.MetricName, in.Namespace, in.Statistic, in.Period, in.Dimensions = nil, nil, "", nil, nil
	stat := func(id, name, stat string, unit types.StandardUnit, dimensions []types.Dimension) types.MetricDataQuery {
		return types.MetricDataQuery{Id: &id, ReturnData: aws.Bool(false), MetricStat: &types.MetricStat{Stat: &stat, Period: aws.Int32(60), Unit: unit,
			Metric: &types.Metric{Namespace: aws.String("Mine"), MetricName: &name, Dimensions: dimensions}}}
	}
	in.Metrics = []types.MetricDataQuery{
		{Id: aws.String("e1"), Expression: &text, Label: aws.String("errors, %"), Period: aws.Int32(60), ReturnData: aws.Bool(true)},
		stat("m1", "Errors", "Sum", types.StandardUnitCount, []types.Dimension{{Name: aws.String("shop"), Value: aws.String("a")}}),
		stat("m2", "Requests", "p90", "", []types.Dimension{}),
	}
	in.Metrics[2].AccountId = aws.String("123456789012")
}

// The three protocols show one alarm. AWS's own answer to a put is empty.
func TestAnAlarmInThreeProtocols(t *testing.T) {
	r := newRinging(t)
	r.form(t, 200, "Action", "PutMetricAlarm", "AlarmName", "lag", "MetricName", "ReplicationLag", "Namespace", "AWS/ElastiCache", "Statistic", "Average",
		"Period", "300", "Threshold", "10", "ComparisonOperator", "GreaterThanThreshold", "EvaluationPeriods", "2", "DatapointsToAlarm", "2",
		"Dimensions.member.1.Name", "ReplicationGroupId", "Dimensions.member.1.Value", "redis-ha", "TreatMissingData", "notBreaching", "AlarmActions.member.1", topic)
	shown := lag("lag")
	shown.AlarmDescription, shown.ActionsEnabled, shown.OKActions, shown.InsufficientDataActions = nil, aws.Bool(true), []string{}, []string{}
	same(t, "CBOR", asPut(r.one(t, "lag")), shown)

	text := r.form(t, 200, "Action", "DescribeAlarms", "AlarmNames.member.1", "lag", "AlarmTypes.member.1", "MetricAlarm")
	for _, part := range []string{"<AlarmName>lag</AlarmName>", "<Threshold>10", "<TreatMissingData>notBreaching</TreatMissingData>", "<DatapointsToAlarm>2</DatapointsToAlarm>",
		"<AlarmActions><member>" + topic + "</member></AlarmActions>", "<Dimensions><member><Name>ReplicationGroupId</Name><Value>redis-ha</Value></member></Dimensions>"} {
		if !strings.Contains(text, part) {
			t.Errorf("%s is not in %s", part, text)
		}
	}
	var out struct {
		MetricAlarms    []map[string]any
		CompositeAlarms []any
	}
	r.json(t, 200, "DescribeAlarms", `{"AlarmNames":["lag"]}`, &out)
	if len(out.MetricAlarms) != 1 || out.CompositeAlarms == nil {
		t.Fatalf("%+v", out)
	}
	a := out.MetricAlarms[0]
	if at, ok := a["AlarmConfigurationUpdatedTimestamp"].(float64); !ok || time.Since(time.Unix(int64(at), 0)) > time.Minute || a["Threshold"] != 10.0 {
		t.Errorf("%+v", a)
	}
	for _, absent := range []string{"AlarmDescription", "Metrics", "Unit", "ExtendedStatistic", "EvaluationState", "EvaluateLowSampleCountPercentile", "ThresholdMetricId"} {
		if v, ok := a[absent]; ok {
			t.Errorf("%s is there: %v", absent, v)
		}
	}
}

// An update replaces all that was put, and leaves tags and state alone.
func TestAnUpdateReplacesAllButStateAndTags(t *testing.T) {
	r := newRinging(t)
	in := lag("a")
	in.Period, in.EvaluationPeriods, in.DatapointsToAlarm, in.TreatMissingData = aws.Int32(86400), aws.Int32(2), nil, aws.String("ignore") // no data: the state stays
	in.Tags = []types.Tag{{Key: aws.String("team"), Value: aws.String("shop")}}
	r.mustPut(t, in)
	if _, err := r.SetAlarmState(t.Context(), &cloudwatch.SetAlarmStateInput{AlarmName: in.AlarmName, StateValue: types.StateValueAlarm, StateReason: aws.String("trying"), StateReasonData: aws.String(`{"a":1}`)}); err != nil {
		t.Fatal(err)
	}
	before := r.one(t, "a")
	if before.StateValue != types.StateValueAlarm || *before.StateReason != "trying" || *before.StateReasonData != `{"a":1}` || !before.StateTransitionedTimestamp.After(*before.AlarmConfigurationUpdatedTimestamp) {
		t.Errorf("%+v", before)
	}
	in.AlarmDescription, in.AlarmActions, in.Threshold = nil, nil, aws.Float64(20)
	in.Tags = []types.Tag{{Key: aws.String("team"), Value: aws.String("other")}}
	r.mustPut(t, in)
	after := r.one(t, "a")
	if after.AlarmDescription != nil || len(after.AlarmActions) != 0 || *after.Threshold != 20 || !after.AlarmConfigurationUpdatedTimestamp.After(*before.AlarmConfigurationUpdatedTimestamp) {
		t.Errorf("%+v", after)
	}
	if after.StateValue != types.StateValueAlarm || *after.StateReason != "trying" || !after.StateTransitionedTimestamp.Equal(*before.StateTransitionedTimestamp) {
		t.Errorf("%+v", after)
	}
	tags, err := r.ListTagsForResource(t.Context(), &cloudwatch.ListTagsForResourceInput{ResourceARN: after.AlarmArn})
	if err != nil || len(tags.Tags) != 1 || *tags.Tags[0].Value != "shop" {
		t.Errorf("%+v %v", tags, err)
	}
}
