package cloudwatch

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"
	"github.com/aws/smithy-go"
)

func TestMetricDataIsRefusedInCloudWatchsWords(t *testing.T) {
	c, _ := newFront(t)
	now := time.Now().Truncate(time.Second)
	const code = "ValidationError"
	for text, p := range map[string]struct {
		change func(*cloudwatch.GetMetricDataInput, *types.MetricDataQuery)
		code   string
	}{
		"The parameter StartTime must not equal parameter EndTime.\n": {func(in *cloudwatch.GetMetricDataInput, _ *types.MetricDataQuery) {
			in.StartTime, in.EndTime = &now, aws.Time(now.Add(time.Second/2))
		}, code},
		"The parameter EndTime must be greater than StartTime.\n": {func(in *cloudwatch.GetMetricDataInput, _ *types.MetricDataQuery) {
			in.StartTime = aws.Time(now.Add(time.Hour))
		}, code},
		"The value -1 for parameter MaxDatapoints is not between 1 and 100800.\n": {func(in *cloudwatch.GetMetricDataInput, _ *types.MetricDataQuery) {
			in.MaxDatapoints = aws.Int32(-1)
		}, code},
		"The value 100801 for parameter MaxDatapoints is not between 1 and 100800.\n": {func(in *cloudwatch.GetMetricDataInput, _ *types.MetricDataQuery) {
			in.MaxDatapoints = aws.Int32(100_801)
		}, code},
		"The value +2500 for parameter LabelOptions.Timezone is not + or - and four digits: hours and minutes.\n": {func(in *cloudwatch.GetMetricDataInput, _ *types.MetricDataQuery) {
			in.LabelOptions = &types.LabelOptions{Timezone: aws.String("+2500")}
		}, code},
		"The next token specified is invalid.": {func(in *cloudwatch.GetMetricDataInput, _ *types.MetricDataQuery) {
			in.NextToken = aws.String("e30")
		}, "InvalidNextToken"},
		"The parameter MetricDataQueries is required.": {func(in *cloudwatch.GetMetricDataInput, _ *types.MetricDataQuery) {
			in.MetricDataQueries = []types.MetricDataQuery{}
		}, "MissingParameter"},
		"The collection MetricDataQueries must not have a size greater than 500.\n": {func(in *cloudwatch.GetMetricDataInput, _ *types.MetricDataQuery) {
			for i := range 500 {
				in.MetricDataQueries = append(in.MetricDataQueries, asked(fmt.Sprint("n", i), "m", "a", 60))
			}
		}, code},
		"The values for parameter id in MetricDataQueries are not unique.\n": {func(in *cloudwatch.GetMetricDataInput, q *types.MetricDataQuery) {
			in.MetricDataQueries = append(in.MetricDataQueries, *q)
		}, code},
		"The value M1 for parameter MetricDataQueries.member.1.Id is not matching the expected pattern ^[a-z][a-zA-Z0-9_]*$.\n": {func(_ *cloudwatch.GetMetricDataInput, q *types.MetricDataQuery) {
			q.Id = aws.String("M1")
		}, code},
		"The parameter MetricDataQueries.member.1.MetricStat is required.\n": {func(_ *cloudwatch.GetMetricDataInput, q *types.MetricDataQuery) {
			q.MetricStat = nil
		}, code},
		"The parameters MetricDataQuery Expression and MetricStat are mutually exclusive and you have specified both.\n": {func(_ *cloudwatch.GetMetricDataInput, q *types.MetricDataQuery) {
			q.Expression = aws.String("m2")
		}, code},
		"The parameter MetricDataQueries.member.1.MetricStat.Metric.Namespace is required.\nThe value tm50 for parameter MetricDataQueries.member.1.MetricStat.Stat is not a valid statistic.\n": {func(_ *cloudwatch.GetMetricDataInput, q *types.MetricDataQuery) {
			q.MetricStat.Metric.Namespace, q.MetricStat.Stat = nil, aws.String("tm50")
		}, code},
		"The parameter MetricDataQueries.member.1.MetricStat.Metric.MetricName is required.\n": {func(_ *cloudwatch.GetMetricDataInput, q *types.MetricDataQuery) {
			q.MetricStat.Metric.MetricName = nil
		}, code},
		"The value 45 for parameter MetricDataQueries.member.1.MetricStat.Period is not valid: it must be 1, 5, 10, 20, 30 or a multiple of 60.\n": {func(_ *cloudwatch.GetMetricDataInput, q *types.MetricDataQuery) {
			q.MetricStat.Period = aws.Int32(45)
		}, code},
		"The value 61 for parameter MetricDataQueries.member.1.Period is not valid: it must be 1, 5, 10, 20, 30 or a multiple of 60.\n": {func(_ *cloudwatch.GetMetricDataInput, q *types.MetricDataQuery) {
			q.Period, q.MetricStat, q.Expression = aws.Int32(61), nil, aws.String("METRICS()")
		}, code},
		"The parameters MetricDataQueries.member.1.Period and MetricDataQueries.member.1.MetricStat.Period must not differ.\n": {func(_ *cloudwatch.GetMetricDataInput, q *types.MetricDataQuery) {
			q.Period = aws.Int32(300)
		}, code},
		"The parameter MetricDataQueries.member.1.Label has 2049 bytes; 2048 are allowed.\n": {func(_ *cloudwatch.GetMetricDataInput, q *types.MetricDataQuery) {
			q.Label = aws.String(strings.Repeat("x", 2049))
		}, code},
		"The value 210987654321 for parameter MetricDataQueries.member.1.AccountId is not valid: no other account is linked to 123456789012.\n": {func(_ *cloudwatch.GetMetricDataInput, q *types.MetricDataQuery) {
			q.AccountId = aws.String("210987654321")
		}, code},
	} {
		q := asked("m1", "m", "a", 60)
		in := &cloudwatch.GetMetricDataInput{StartTime: aws.Time(now.Add(-time.Hour)), EndTime: &now, MetricDataQueries: []types.MetricDataQuery{q}}
		p.change(in, &in.MetricDataQueries[0])
		_, err := c.GetMetricData(t.Context(), in)
		told(t, err, p.code, text)
	}
}

func TestExpressionsThatCannotBeAreRefused(t *testing.T) {
	c, _ := newFront(t)
	now := time.Now()
	for e, text := range map[string]string{
		"SUM(m1)":                            "Error in expression 'e1': The expression returns a single number; an answer needs a time series\n",
		"5":                                  "Error in expression 'e1': The expression returns a single number; an answer needs a time series\n",
		"m2 + 1":                             "Error in expression 'e1': Undefined id 'm2'\n",
		"ANOMALY_DETECTION_BAND(m1, 2)":      "Error in expression 'e1': Function 'ANOMALY_DETECTION_BAND' not found",
		"SEARCH('{AWS/EC2} CPU', 'Average')": "Error in expression 'e1': ",
		"SELECT AVG(x) FROM y":               "Error in expression 'e1': Metrics Insights queries are not served here; ask for metrics by MetricStat\n",
		"m1 +":                               "Error in expression 'e1': ",
	} {
		_, err := c.GetMetricData(t.Context(), &cloudwatch.GetMetricDataInput{StartTime: aws.Time(now.Add(-time.Hour)), EndTime: &now,
			MetricDataQueries: []types.MetricDataQuery{asked("m1", "m", "a", 60), expression("e1", e)}})
		told(t, err, "ValidationError", text)
	}
	// A number may be computed from.
	hidden := expression("e1", "SUM(m1)")
	hidden.ReturnData = aws.Bool(false)
	get(t, c, now.Add(-time.Hour), now, asked("m1", "m", "a", 60), hidden, expression("e2", "m1 / e1"))
}

// told checks the code, and the text or how it begins.
func told(t *testing.T, err error, code, text string) {
	t.Helper()
	var e smithy.APIError
	if !errors.As(err, &e) || e.ErrorCode() != code || !strings.HasPrefix(e.ErrorMessage(), text) {
		t.Errorf("%v\nwant %s: %q", err, code, text)
	}
}
