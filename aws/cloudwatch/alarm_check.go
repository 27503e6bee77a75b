package cloudwatch

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"

	"understudy/alarm"
	"understudy/aws/wire"
	"understudy/metric"
)

// mostLines is how many metrics and expressions an alarm has.
const mostLines = 20

// unservedMember refuses what would change an alarm's behaviour and is not here: to let it pass would be an alarm that
// does not ring.
func unservedMember(name string) error {
	return invalidAlarm("%s is not supported here; see docs/aws.md", name)
}

// checkAlarm refuses members that are missing or do not go together. "… must not be null" and "… should not be set" are
// AWS's words.
func checkAlarm(in *cloudwatch.PutMetricAlarmInput) error {
	for _, m := range []struct {
		name  string
		given bool
	}{
		{"ThresholdMetricId", in.ThresholdMetricId != nil}, {"EvaluationCriteria", in.EvaluationCriteria != nil},
		{"EvaluationInterval", in.EvaluationInterval != nil}, {"EvaluationWindow", in.EvaluationWindow != nil},
		{"WarmUpConfiguration", in.WarmUpConfiguration != nil}, {"ActionConfiguration", in.ActionConfiguration != nil},
	} {
		if m.given {
			return unservedMember(m.name)
		}
	}
	check := checkSingle
	if len(in.Metrics) > 0 {
		check = checkMath
	}
	if err := check(in); err != nil {
		return err
	}
	switch {
	case in.ComparisonOperator == "":
		return invalidAlarm("ComparisonOperator must not be null")
	case !slices.Contains(alarm.Comparisons, alarm.Comparison(in.ComparisonOperator)):
		return unservedMember("ComparisonOperator " + string(in.ComparisonOperator) + ", which is anomaly detection's,")
	case in.Threshold == nil:
		return invalidAlarm("Threshold must not be null")
	case in.EvaluationPeriods == nil:
		return invalidAlarm("EvaluationPeriods must not be null")
	case in.EvaluateLowSampleCountPercentile != nil && in.ExtendedStatistic == nil:
		return invalidAlarm("EvaluateLowSampleCountPercentile can only be set for an alarm on a percentile, which ExtendedStatistic says")
	}
	return nil
}

// checkSingle is for an alarm on one metric.
func checkSingle(in *cloudwatch.PutMetricAlarmInput) error {
	switch {
	case in.MetricName == nil:
		return invalidAlarm("MetricName must not be null")
	case in.Namespace == nil:
		return invalidAlarm("Namespace must not be null")
	case in.Period == nil:
		return invalidAlarm("Period must not be null")
	case (in.Statistic == "") == (in.ExtendedStatistic == nil):
		return invalidAlarm("Exactly one of the parameters Statistic and ExtendedStatistic must be specified")
	case in.ExtendedStatistic == nil:
		return nil
	}
	if _, ok := metric.ParseStat(*in.ExtendedStatistic); !ok || !metric.Percentile(*in.ExtendedStatistic) {
		return invalidAlarm("The value %s for parameter ExtendedStatistic is not supported here: percentiles from p0 to p100 are", *in.ExtendedStatistic)
	}
	return nil
}

// checkMath is for an alarm on an expression.
func checkMath(in *cloudwatch.PutMetricAlarmInput) error {
	for _, m := range []struct {
		name  string
		given bool
	}{
		{"MetricName", in.MetricName != nil}, {"Namespace", in.Namespace != nil}, {"Dimensions", len(in.Dimensions) > 0},
		{"Period", in.Period != nil}, {"Unit", in.Unit != ""}, {"Statistic", in.Statistic != ""}, {"ExtendedStatistic", in.ExtendedStatistic != nil},
	} {
		if m.given {
			return invalidAlarm("%s should not be set if list of Metrics is set.", m.name)
		}
	}
	return nil
}

// checkLines refuses lines that are none by themselves; how they fit together the alarm's rule knows.
func checkLines(ctx context.Context, list []types.MetricDataQuery) error {
	var f faults
	r := &request{call: wire.CallOf(ctx)}
	for i, q := range list {
		r.checkQuery(&f, q, fmt.Sprintf("Metrics.member.%d", i+1))
		if insights(aws.ToString(q.Expression)) {
			f.add("Error in expression '%s': Metrics Insights queries are not served here; ask for metrics by MetricStat", *q.Id)
		}
	}
	if len(f) > 0 {
		return invalidAlarm("%s", strings.Join(f, "\n"))
	}
	return nil
}
