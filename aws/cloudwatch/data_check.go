package cloudwatch

import (
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"

	"understudy/aws/wire"
	"understudy/metric"
	"understudy/metricmath"
)

// invalid is how GetMetricData refuses. AWS ends each line, the last one too.
func invalid(texts ...string) error {
	return wire.Refuse("ValidationError", "%s", strings.Join(texts, "\n")+"\n")
}

// faults are all that is wrong with a request: AWS tells of each query.
type faults []string

func (f *faults) add(format string, args ...any) { *f = append(*f, fmt.Sprintf(format, args...)) }

var (
	idPattern   = regexp.MustCompile(`^[a-z][a-zA-Z0-9_]*$`)
	zonePattern = regexp.MustCompile(`^[+-]([01]\d|2[0-3])[0-5]\d$`)
)

// check refuses what CloudWatch refuses, in its words where they are known, and compiles the expressions.
func (r *request) check() error {
	queries := r.in.MetricDataQueries
	switch {
	case len(queries) == 0:
		return &types.MissingRequiredParameterException{Message: aws.String("The parameter MetricDataQueries is required.")}
	case len(queries) > mostQueries:
		return invalid(fmt.Sprintf("The collection MetricDataQueries must not have a size greater than %d.", mostQueries))
	}
	var f faults
	r.checkTimes(&f)
	r.at = map[string]int{}
	lines := make([]metricmath.Line, 0, len(queries))
	for i, q := range queries {
		r.checkQuery(&f, q, fmt.Sprintf("MetricDataQueries.member.%d", i+1))
		if _, twice := r.at[*q.Id]; twice {
			f.add("The values for parameter id in MetricDataQueries are not unique.")
		}
		r.at[*q.Id] = i
		l := metricmath.Line{ID: *q.Id, Expression: aws.ToString(q.Expression)}
		if q.MetricStat != nil {
			l.Period = seconds(q.MetricStat.Period)
		}
		r.math = r.math || q.Expression != nil
		lines = append(lines, l)
	}
	if len(f) > 0 {
		return invalid(f...)
	}
	return r.compile(lines)
}

// checkTimes compares whole seconds, as CloudWatch does, and reads the labels' zone.
func (r *request) checkTimes(f *faults) {
	switch start, end := r.in.StartTime.Truncate(time.Second), r.in.EndTime.Truncate(time.Second); {
	case start.Equal(end):
		f.add("The parameter StartTime must not equal parameter EndTime.")
	case start.After(end):
		f.add("The parameter EndTime must be greater than StartTime.")
	}
	if n := r.in.MaxDatapoints; n != nil && (*n < 1 || *n > mostDatapoints) {
		f.add("The value %d for parameter MaxDatapoints is not between 1 and %d.", *n, mostDatapoints)
	}
	r.zone = time.UTC
	if r.in.LabelOptions == nil || r.in.LabelOptions.Timezone == nil {
		return
	}
	text := *r.in.LabelOptions.Timezone
	if !zonePattern.MatchString(text) {
		f.add("The value %s for parameter LabelOptions.Timezone is not + or - and four digits: hours and minutes.", text)
		return
	}
	at, err := time.Parse("-0700", text)
	if err != nil {
		f.add("The value %s for parameter LabelOptions.Timezone is invalid: %v.", text, err)
		return
	}
	r.zone = at.Location()
}

// checkQuery adds what is wrong with one query, which stands at that place of the request.
func (r *request) checkQuery(f *faults, q types.MetricDataQuery, at string) {
	if !idPattern.MatchString(*q.Id) {
		f.add("The value %s for parameter %s.Id is not matching the expected pattern ^[a-z][a-zA-Z0-9_]*$.", *q.Id, at)
	}
	if account := aws.ToString(q.AccountId); account != "" && account != r.call.Account {
		f.add("The value %s for parameter %s.AccountId is not valid: no other account is linked to %s.", account, at, r.call.Account)
	}
	if n := len(aws.ToString(q.Label)); n > longestLabel {
		f.add("The parameter %s.Label has %d bytes; %d are allowed.", at, n, longestLabel)
	}
	if q.Period != nil && !metric.ValidPeriod(seconds(q.Period)) {
		f.period(*q.Period, at)
	}
	m := q.MetricStat
	switch {
	case m == nil && q.Expression == nil:
		f.add("The parameter %s.MetricStat is required.", at)
		return
	case m != nil && q.Expression != nil:
		f.add("The parameters MetricDataQuery Expression and MetricStat are mutually exclusive and you have specified both.")
		return
	case m == nil:
		return
	}
	if aws.ToString(m.Metric.Namespace) == "" {
		f.add("The parameter %s.MetricStat.Metric.Namespace is required.", at)
	}
	if aws.ToString(m.Metric.MetricName) == "" {
		f.add("The parameter %s.MetricStat.Metric.MetricName is required.", at)
	}
	if _, ok := metric.ParseStat(*m.Stat); !ok {
		f.add("The value %s for parameter %s.MetricStat.Stat is not a valid statistic.", *m.Stat, at)
	}
	switch {
	case !metric.ValidPeriod(seconds(m.Period)):
		f.period(*m.Period, at+".MetricStat")
	case q.Period != nil && *q.Period != *m.Period:
		f.add("The parameters %[1]s.Period and %[1]s.MetricStat.Period must not differ.", at)
	}
}

func (f *faults) period(n int32, of string) {
	f.add("The value %d for parameter %s.Period is not valid: it must be 1, 5, 10, 20, 30 or a multiple of 60.", n, of)
}

// compile reads the expressions. What is returned must be a series: CloudWatch has no numbers in its answers.
func (r *request) compile(lines []metricmath.Line) error {
	for _, l := range lines {
		if insights(l.Expression) {
			return invalid(fmt.Sprintf("Error in expression '%s': Metrics Insights queries are not served here; ask for metrics by MetricStat", l.ID))
		}
	}
	var err error
	if r.program, err = metricmath.Compile(lines); err != nil {
		return invalid(err.Error())
	}
	for _, q := range r.in.MetricDataQueries {
		if r.program.Kind(*q.Id) == metricmath.Scalar && returned(q) {
			return invalid(fmt.Sprintf("Error in expression '%s': The expression returns a single number; an answer needs a time series", *q.Id))
		}
	}
	return nil
}

// insights tells a query of Metrics Insights from an expression.
func insights(expression string) bool {
	word, _, _ := strings.Cut(strings.TrimSpace(expression), " ")
	return strings.EqualFold(word, "SELECT")
}

// returned is on unless a client says no.
func returned(q types.MetricDataQuery) bool { return q.ReturnData == nil || *q.ReturnData }
