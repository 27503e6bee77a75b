package cloudwatch

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"
)

// refusedAlarms are changes to an alarm that is one, by what is said of them.
var refusedAlarms = map[string]struct {
	code   string
	change func(*cloudwatch.PutMetricAlarmInput)
}{
	"MetricName must not be null":         {"ValidationError", func(i *cloudwatch.PutMetricAlarmInput) { i.MetricName = nil }},
	"Namespace must not be null":          {"ValidationError", func(i *cloudwatch.PutMetricAlarmInput) { i.Namespace = nil }},
	"Period must not be null":             {"ValidationError", func(i *cloudwatch.PutMetricAlarmInput) { i.Period = nil }},
	"Threshold must not be null":          {"ValidationError", func(i *cloudwatch.PutMetricAlarmInput) { i.Threshold = nil }},
	"ComparisonOperator must not be null": {"ValidationError", func(i *cloudwatch.PutMetricAlarmInput) { i.ComparisonOperator = "" }},
	"EvaluationPeriods must not be null":  {"ValidationError", func(i *cloudwatch.PutMetricAlarmInput) { i.EvaluationPeriods = nil }},
	"Exactly one of the parameters Statistic and ExtendedStatistic must be specified":  {"ValidationError", func(i *cloudwatch.PutMetricAlarmInput) { i.Statistic = "" }},
	"Exactly one of the parameters Statistic and ExtendedStatistic must be specified ": {"ValidationError", func(i *cloudwatch.PutMetricAlarmInput) { i.ExtendedStatistic = aws.String("p99") }},
	"The value tm90 for parameter ExtendedStatistic is not supported here":             {"ValidationError", func(i *cloudwatch.PutMetricAlarmInput) { i.Statistic, i.ExtendedStatistic = "", aws.String("tm90") }},
	"The value Average for parameter ExtendedStatistic is not supported here":          {"ValidationError", func(i *cloudwatch.PutMetricAlarmInput) { i.Statistic, i.ExtendedStatistic = "", aws.String("Average") }},
	"The value p101 for parameter ExtendedStatistic is not supported here":             {"ValidationError", func(i *cloudwatch.PutMetricAlarmInput) { i.Statistic, i.ExtendedStatistic = "", aws.String("p101") }},
	"1 validation error detected: Value 'Median' at 'statistic' failed":                {"ValidationError", func(i *cloudwatch.PutMetricAlarmInput) { i.Statistic = "Median" }},
	"1 validation error detected: Value 'Furlongs' at 'unit' failed":                   {"ValidationError", func(i *cloudwatch.PutMetricAlarmInput) { i.Unit = "Furlongs" }},
	"Period must be 1, 5, 10, 20, 30 or a multiple of 60 seconds, not 45":              {"ValidationError", func(i *cloudwatch.PutMetricAlarmInput) { i.Period = aws.Int32(45) }},
	"1 validation error detected: Value '0' at 'period' failed":                        {"ValidationError", func(i *cloudwatch.PutMetricAlarmInput) { i.Period = aws.Int32(0) }},
	"1 validation error detected: Value '0' at 'evaluationPeriods' failed":             {"ValidationError", func(i *cloudwatch.PutMetricAlarmInput) { i.EvaluationPeriods = aws.Int32(0) }},
	"DatapointsToAlarm must be at least 1 and not more than EvaluationPeriods (2)":     {"ValidationError", func(i *cloudwatch.PutMetricAlarmInput) { i.DatapointsToAlarm = aws.Int32(3) }},
	"1 validation error detected: Value '0' at 'datapointsToAlarm' failed":             {"ValidationError", func(i *cloudwatch.PutMetricAlarmInput) { i.DatapointsToAlarm = aws.Int32(0) }},
	"Metrics cannot be checked across more than a day":                                 {"ValidationError", func(i *cloudwatch.PutMetricAlarmInput) { i.EvaluationPeriods = aws.Int32(289) }},
	"Metrics cannot be checked across more than a week": {"ValidationError", func(i *cloudwatch.PutMetricAlarmInput) {
		i.Period, i.EvaluationPeriods = aws.Int32(3600), aws.Int32(169)
	}},
	"Threshold must be a number": {"ValidationError", func(i *cloudwatch.PutMetricAlarmInput) { i.Threshold = aws.Float64(math.NaN()) }},
	"Value 'no' for TreatMissingData must be one of [breaching, notBreaching, ignore, missing]": {"ValidationError", func(i *cloudwatch.PutMetricAlarmInput) { i.TreatMissingData = aws.String("no") }},
	"EvaluateLowSampleCountPercentile can only be set for an alarm on a percentile":             {"ValidationError", func(i *cloudwatch.PutMetricAlarmInput) { i.EvaluateLowSampleCountPercentile = aws.String("ignore") }},
	"Value 'no' for EvaluateLowSampleCountPercentile must be one of [evaluate, ignore]": {"ValidationError", func(i *cloudwatch.PutMetricAlarmInput) {
		i.Statistic, i.ExtendedStatistic, i.EvaluateLowSampleCountPercentile = "", aws.String("p9"), aws.String("no")
	}},
	"ComparisonOperator GreaterThanUpperThreshold, which is anomaly detection's, is not supported here": {"ValidationError", func(i *cloudwatch.PutMetricAlarmInput) {
		i.ComparisonOperator = types.ComparisonOperatorGreaterThanUpperThreshold
	}},
	"1 validation error detected: Value 'Above' at 'comparisonOperator' failed": {"ValidationError", func(i *cloudwatch.PutMetricAlarmInput) { i.ComparisonOperator = "Above" }},
	"ThresholdMetricId is not supported here":                                   {"ValidationError", func(i *cloudwatch.PutMetricAlarmInput) { i.ThresholdMetricId = aws.String("ad1") }},
	"EvaluationCriteria is not supported here": {"InvalidParameterValue", func(i *cloudwatch.PutMetricAlarmInput) {
		i.EvaluationCriteria = &types.EvaluationCriteriaMemberPromQLCriteria{Value: types.AlarmPromQLCriteria{Query: aws.String("up")}}
	}},
	"EvaluationInterval is not supported here": {"ValidationError", func(i *cloudwatch.PutMetricAlarmInput) { i.EvaluationInterval = aws.Int32(60) }},
	"WarmUpConfiguration is not supported here": {"InvalidParameterValue", func(i *cloudwatch.PutMetricAlarmInput) {
		i.WarmUpConfiguration = &types.WarmUpConfiguration{WarmUpPeriodDurationInMinutes: aws.Int32(1)}
	}},
	"ActionConfiguration is not supported here": {"InvalidParameterValue", func(i *cloudwatch.PutMetricAlarmInput) { i.ActionConfiguration = &types.ActionConfiguration{} }},
	"The dimension ReplicationGroupId is given twice": {"ValidationError", func(i *cloudwatch.PutMetricAlarmInput) {
		i.Dimensions = append(i.Dimensions, i.Dimensions[0])
	}},
	"1 validation error detected: Value '[": {"ValidationError", func(i *cloudwatch.PutMetricAlarmInput) {
		for n := range 30 {
			i.Dimensions = append(i.Dimensions, types.Dimension{Name: aws.String(fmt.Sprint(n)), Value: aws.String("v")})
		}
	}},
	"Invalid arn syntax: redis-alerts": {"ValidationError", func(i *cloudwatch.PutMetricAlarmInput) { i.AlarmActions = []string{"redis-alerts"} }},
	"Invalid arn syntax: arn:aws:sns:": {"ValidationError", func(i *cloudwatch.PutMetricAlarmInput) { i.OKActions = []string{topic, "arn:aws:sns:"} }},
	"1 validation error detected: Value '[…, …, …, …, …, …]' at 'insufficientDataActions' failed": {"ValidationError", func(i *cloudwatch.PutMetricAlarmInput) {
		i.InsufficientDataActions = []string{topic, topic, topic, topic, topic, topic}
	}},
	"The parameter AlarmName is required.":                        {"MissingParameter", nil},
	"1 validation error detected: Value '' at 'alarmName' failed": {"ValidationError", func(i *cloudwatch.PutMetricAlarmInput) { i.AlarmName = aws.String("") }},
	"1 validation error detected: Value 'ä":                       {"ValidationError", func(i *cloudwatch.PutMetricAlarmInput) { i.AlarmName = aws.String(strings.Repeat("ä", 256)) }},
	"AlarmName must not contain ASCII control characters":         {"ValidationError", func(i *cloudwatch.PutMetricAlarmInput) { i.AlarmName = aws.String("a\nb") }},
	"An alarm of another type has the name composite already":     {"ValidationError", func(i *cloudwatch.PutMetricAlarmInput) { i.AlarmName = aws.String("composite") }},
	"Tag keys that begin with aws: are reserved": {"InvalidParameterValue", func(i *cloudwatch.PutMetricAlarmInput) {
		i.Tags = []types.Tag{{Key: aws.String("aws:x"), Value: aws.String("")}}
	}},
	"1 validation error detected: Value ':colon' at 'namespace' failed": {"ValidationError", func(i *cloudwatch.PutMetricAlarmInput) { i.Namespace = aws.String(":colon") }},
	"1 validation error detected: Value 'xxxxx":                         {"ValidationError", func(i *cloudwatch.PutMetricAlarmInput) { i.AlarmDescription = aws.String(strings.Repeat("x", 1025)) }},
}

func TestMetricAlarmsAreRefusedInCloudWatchsWords(t *testing.T) {
	r := newRinging(t)
	r.mustCompose(t, composed("composite", "TRUE"))
	for text, c := range refusedAlarms {
		i := lag("refused")
		if c.change != nil {
			c.change(i)
			_, err := r.PutMetricAlarm(t.Context(), i)
			told(t, err, c.code, strings.TrimSpace(text))
			continue
		}
		if got := r.form(t, 400, "Action", "PutMetricAlarm"); !strings.Contains(got, text) || !strings.Contains(got, c.code) { // the SDK sees that itself
			t.Error(got)
		}
	}
	if got := names(r.describe(t, &cloudwatch.DescribeAlarmsInput{AlarmTypes: both})); got != "+composite" {
		t.Errorf("%s: what was refused is there", got)
	}
}

func TestMathAlarmsAreRefusedInCloudWatchsWords(t *testing.T) {
	r := newRinging(t)
	type in = *cloudwatch.PutMetricAlarmInput
	for text, change := range map[string]func(in){
		"MetricName should not be set if list of Metrics is set.":        func(i in) { i.MetricName = aws.String("m") },
		"Namespace should not be set if list of Metrics is set.":         func(i in) { i.Namespace = aws.String("m") },
		"Dimensions should not be set if list of Metrics is set.":        func(i in) { i.Dimensions = lag("").Dimensions },
		"Period should not be set if list of Metrics is set.":            func(i in) { i.Period = aws.Int32(60) },
		"Unit should not be set if list of Metrics is set.":              func(i in) { i.Unit = types.StandardUnitCount },
		"Statistic should not be set if list of Metrics is set.":         func(i in) { i.Statistic = types.StatisticSum },
		"ExtendedStatistic should not be set if list of Metrics is set.": func(i in) { i.ExtendedStatistic = aws.String("p9") },
		"Threshold must not be null":                                     func(i in) { i.Threshold = nil },
		"EvaluateLowSampleCountPercentile can only be set":               func(i in) { i.EvaluateLowSampleCountPercentile = aws.String("ignore") },
		"Exactly one element of the metrics list should return data.":    func(i in) { i.Metrics[1].ReturnData = nil },
		"Exactly one element of the metrics list should return data. ":   func(i in) { i.Metrics[0].ReturnData = aws.Bool(false) },
		"The collection Metrics must not have a size greater than 20":    func(i in) { i.Metrics = append(i.Metrics, make21()...) },
		"An alarm based on metric math may have up to 10 metrics, not 11": func(i in) {
			i.Metrics = append(i.Metrics, make21()[:9]...)
		},
		"The period of query m2 is not the alarm's":                                              func(i in) { i.Metrics[2].MetricStat.Period = aws.Int32(300) },
		"The parameter Metrics.member.1.Period must be that of the metrics, which is 60":         func(i in) { i.Metrics[0].Period = aws.Int32(300) },
		"The value 45 for parameter Metrics.member.2.MetricStat.Period is not valid":             func(i in) { i.Metrics[1].MetricStat.Period = aws.Int32(45) },
		"The value tm9 for parameter Metrics.member.2.MetricStat.Stat is not a valid statistic.": func(i in) { i.Metrics[1].MetricStat.Stat = aws.String("tm9") },
		"The value M2 for parameter Metrics.member.3.Id is not matching":                         func(i in) { i.Metrics[2].Id = aws.String("M2") },
		"The value 111111111111 for parameter Metrics.member.2.AccountId is not valid":           func(i in) { i.Metrics[1].AccountId = aws.String("111111111111") },
		"The parameters MetricDataQuery Expression and MetricStat are mutually exclusive":        func(i in) { i.Metrics[1].Expression = aws.String("m2") },
		"The parameter Metrics.member.2.MetricStat is required.":                                 func(i in) { i.Metrics[1].MetricStat = nil },
		"The parameter Metrics.member.2.MetricStat.Metric.MetricName is required.":               func(i in) { i.Metrics[1].MetricStat.Metric.MetricName = nil },
		"Error in expression 'e1': Metrics Insights queries are not served here":                 func(i in) { i.Metrics[0].Expression = aws.String("select AVG(x) FROM y") },
		"Period must not be null": func(i in) { i.Metrics[0].Period = nil; i.Metrics = i.Metrics[:1] },
	} {
		i := lag("refused")
		onMath(i, "m1/m2")
		change(i)
		_, err := r.PutMetricAlarm(t.Context(), i)
		told(t, err, "ValidationError", strings.TrimSpace(text))
	}
	// Expressions that are none, whatever the words: the language has its own tests.
	for _, text := range []string{"m3", "m1 +", "ANOMALY_DETECTION_BAND(m1)", "SEARCH('{Mine} x', 'Sum')", "METRICS()", "AVG(m1)", "e1", "1"} {
		i := lag("refused")
		onMath(i, text)
		_, err := r.PutMetricAlarm(t.Context(), i)
		told(t, err, "ValidationError", "")
	}
	if got := names(r.describe(t, &cloudwatch.DescribeAlarmsInput{AlarmTypes: both})); got != "" {
		t.Errorf("%s: what was refused is there", got)
	}
}

// make21 are lines of metrics, more than an alarm has.
func make21() (all []types.MetricDataQuery) {
	for n := range 21 {
		q := asked(fmt.Sprint("x", n), "Errors", "a", 60)
		q.ReturnData = aws.Bool(false)
		all = append(all, q)
	}
	return all
}

func TestOtherOperationsOfAlarmsRefuse(t *testing.T) {
	r := newRinging(t)
	r.mustPut(t, still("a"))
	suppressed := func(by *string, wait, extension *int32) *cloudwatch.PutCompositeAlarmInput {
		in := composed("c", "ALARM(a)")
		in.ActionsSuppressor, in.ActionsSuppressorWaitPeriod, in.ActionsSuppressorExtensionPeriod = by, wait, extension
		return in
	}
	one := aws.Int32(1)
	for text, in := range map[string]*cloudwatch.PutCompositeAlarmInput{
		"Error in AlarmRule [":                                                                  composed("c", "ALARM(a"),
		"Error in AlarmRule [at character 1":                                                    composed("c", ")"),
		"The alarm none, which c depends on, does not exist.":                                   composed("c", "ALARM(none)"),
		"An alarm cannot depend on itself: c -> c.":                                             composed("c", "ALARM(c)"),
		"An alarm of another type has the name a already":                                       composed("a", "TRUE"),
		"ActionsSuppressorWaitPeriod and ActionsSuppressorExtensionPeriod need":                 suppressed(nil, one, nil),
		"ActionsSuppressorWaitPeriod and ActionsSuppressorExtensionPeriod are required":         suppressed(aws.String("a"), one, nil),
		"ActionsSuppressorWaitPeriod and ActionsSuppressorExtensionPeriod must not be negative": suppressed(aws.String("a"), aws.Int32(-1), one),
		"The alarm none, which c depends on, does not exist. ":                                  suppressed(aws.String("none"), one, one),
		"1 validation error detected: Value '' at 'alarmRule' failed":                           composed("c", ""),
	} {
		_, err := r.PutCompositeAlarm(t.Context(), in)
		told(t, err, "ValidationError", strings.TrimSpace(text))
	}
	hundred := make([]string, 101)
	for i := range hundred {
		hundred[i] = "a"
	}
	for text, in := range map[string]*cloudwatch.DescribeAlarmsInput{
		"AlarmNamePrefix and AlarmNames cannot both be specified":                       {AlarmNames: hundred[:1], AlarmNamePrefix: aws.String("a")},
		"ChildrenOfAlarmName can be specified with MaxRecords and NextToken only":       {ChildrenOfAlarmName: aws.String("a"), StateValue: types.StateValueOk},
		"ChildrenOfAlarmName can be specified with MaxRecords and NextToken only ":      {ChildrenOfAlarmName: aws.String("a"), ParentsOfAlarmName: aws.String("a")},
		"ParentsOfAlarmName can be specified with MaxRecords and NextToken only":        {ParentsOfAlarmName: aws.String("a"), AlarmTypes: both},
		"1 validation error detected: Value '101' at 'maxRecords' failed":               {MaxRecords: aws.Int32(101)},
		"1 validation error detected: Value '0' at 'maxRecords' failed":                 {MaxRecords: aws.Int32(0)},
		"1 validation error detected: Value '[":                                         {AlarmNames: hundred},
		"1 validation error detected: Value 'LogAlarm' at 'alarmTypes.1.member' failed": {AlarmTypes: []types.AlarmType{"LogAlarm"}},
	} {
		_, err := r.DescribeAlarms(t.Context(), in)
		told(t, err, "ValidationError", strings.TrimSpace(text))
	}
	_, err := r.DescribeAlarms(t.Context(), &cloudwatch.DescribeAlarmsInput{NextToken: aws.String("x")})
	told(t, err, "InvalidNextToken", "The next token specified is invalid.")
	_, err = r.DescribeAlarmHistory(t.Context(), &cloudwatch.DescribeAlarmHistoryInput{NextToken: aws.String("x")})
	told(t, err, "InvalidNextToken", "")
	_, err = r.DescribeAlarmHistory(t.Context(), &cloudwatch.DescribeAlarmHistoryInput{StartDate: aws.Time(past(0)), EndDate: aws.Time(past(1e9))})
	told(t, err, "ValidationError", "The parameter StartDate must not be after")
	_, err = r.DeleteAlarms(t.Context(), &cloudwatch.DeleteAlarmsInput{AlarmNames: hundred})
	told(t, err, "ValidationError", "")
	_, err = r.EnableAlarmActions(t.Context(), &cloudwatch.EnableAlarmActionsInput{AlarmNames: hundred})
	told(t, err, "ValidationError", "")
	_, err = r.DisableAlarmActions(t.Context(), &cloudwatch.DisableAlarmActionsInput{AlarmNames: hundred})
	told(t, err, "ValidationError", "")
}
