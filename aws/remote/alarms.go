package remote

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	watched "github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	told "github.com/aws/aws-sdk-go-v2/service/sns/types"

	"understudy/metric"
)

// ErrNoTopic: there is no such topic, as far as these credentials can see.
var ErrNoTopic = errors.New("no such topic")

// Alarm is an alarm of CloudWatch's: of one metric, of an expression over several, or of other alarms.
type Alarm struct {
	Name, Description string
	State             string // OK, ALARM, INSUFFICIENT_DATA
	ActionsEnabled    bool
	Actions           []string // ARNs that are told when it goes to ALARM
	// Rule is a composite alarm's; "" of one over metrics.
	Rule string

	Metric     metric.ID     // of an alarm of one metric
	Stat       string        // Average, Maximum, …, p99
	Period     time.Duration // of Metric
	Lines      []AlarmLine   // of an alarm of an expression
	Periods    int           // evaluation periods
	Datapoints int           // of them, how many must breach
	Threshold  float64
	Comparison string // GreaterThanThreshold, …
	// Missing is how missing data are treated: missing, ignore, breaching, notBreaching.
	Missing string
}

// AlarmLine is one line of an alarm's expression: a metric, or an expression over other lines.
type AlarmLine struct {
	ID         string
	Expression string // "" of a metric
	Metric     metric.ID
	Stat       string
	Period     time.Duration
	Returned   bool // it is what the alarm compares
}

// Metrics are all that the alarm looks at.
func (a Alarm) Metrics() (all []metric.ID) {
	if a.Metric.Name != "" {
		all = append(all, a.Metric)
	}
	for _, l := range a.Lines {
		if l.Metric.Name != "" {
			all = append(all, l.Metric)
		}
	}
	return all
}

// Alarms are all of the region, sorted by name. Errors as Group's.
func (c *Client) Alarms(ctx context.Context) ([]Alarm, error) {
	in := &cloudwatch.DescribeAlarmsInput{MaxRecords: aws.Int32(100), AlarmTypes: []watched.AlarmType{watched.AlarmTypeMetricAlarm, watched.AlarmTypeCompositeAlarm}}
	var found []Alarm
	for p, n := cloudwatch.NewDescribeAlarmsPaginator(c.watch, in), 0; p.HasMorePages(); n++ {
		if n == mostPages {
			return found, fmt.Errorf("%w: DescribeAlarms: more than %d pages", ErrRefused, mostPages)
		}
		bound, cancel := c.bound(ctx)
		page, err := p.NextPage(bound)
		cancel()
		if err != nil {
			return nil, explain(err)
		}
		for _, a := range page.MetricAlarms {
			found = append(found, ofMetric(a))
		}
		for _, a := range page.CompositeAlarms {
			found = append(found, Alarm{Name: aws.ToString(a.AlarmName), Description: aws.ToString(a.AlarmDescription), State: string(a.StateValue),
				ActionsEnabled: aws.ToBool(a.ActionsEnabled), Actions: a.AlarmActions, Rule: aws.ToString(a.AlarmRule)})
		}
	}
	slices.SortFunc(found, func(a, b Alarm) int { return strings.Compare(a.Name, b.Name) })
	return found, nil
}

// ofMetric puts an alarm over metrics into our words.
func ofMetric(a watched.MetricAlarm) Alarm {
	is := Alarm{
		Name: aws.ToString(a.AlarmName), Description: aws.ToString(a.AlarmDescription), State: string(a.StateValue), ActionsEnabled: aws.ToBool(a.ActionsEnabled), Actions: a.AlarmActions,
		Stat: string(a.Statistic), Period: seconds(a.Period), Periods: int(aws.ToInt32(a.EvaluationPeriods)), Datapoints: int(aws.ToInt32(a.DatapointsToAlarm)),
		Threshold: aws.ToFloat64(a.Threshold), Comparison: string(a.ComparisonOperator), Missing: aws.ToString(a.TreatMissingData),
	}
	if is.Missing == "" {
		is.Missing = "missing" // AWS's default
	}
	if is.Stat == "" {
		is.Stat = aws.ToString(a.ExtendedStatistic)
	}
	if is.Datapoints == 0 {
		is.Datapoints = is.Periods
	}
	if a.MetricName != nil {
		is.Metric = idOf(a.Namespace, a.MetricName, a.Dimensions)
	}
	for _, q := range a.Metrics {
		l := AlarmLine{ID: aws.ToString(q.Id), Expression: aws.ToString(q.Expression), Returned: q.ReturnData == nil || *q.ReturnData, Period: seconds(q.Period)}
		if s := q.MetricStat; s != nil && s.Metric != nil {
			l.Metric, l.Stat, l.Period = idOf(s.Metric.Namespace, s.Metric.MetricName, s.Metric.Dimensions), aws.ToString(s.Stat), seconds(s.Period)
		}
		is.Lines = append(is.Lines, l)
	}
	return is
}

func seconds(n *int32) time.Duration { return time.Duration(aws.ToInt32(n)) * time.Second }

func idOf(namespace, name *string, dimensions []watched.Dimension) metric.ID {
	id := metric.ID{Namespace: aws.ToString(namespace), Name: aws.ToString(name)}
	for _, d := range dimensions {
		id.Dimensions = append(id.Dimensions, metric.Dimension{Name: aws.ToString(d.Name), Value: aws.ToString(d.Value)})
	}
	id.Sort()
	return id
}

func dimensionsOf(id metric.ID) (all []watched.Dimension) {
	for _, d := range id.Dimensions {
		all = append(all, watched.Dimension{Name: aws.String(d.Name), Value: aws.String(d.Value)})
	}
	return all
}

// HasMetric reports whether anybody published a metric with exactly these dimensions; CloudWatch forgets one after
// two weeks without data. Errors as Group's.
func (c *Client) HasMetric(ctx context.Context, id metric.ID) (bool, error) {
	in := &cloudwatch.ListMetricsInput{Namespace: &id.Namespace, MetricName: &id.Name}
	for _, d := range id.Dimensions {
		in.Dimensions = append(in.Dimensions, watched.DimensionFilter{Name: aws.String(d.Name), Value: aws.String(d.Value)})
	}
	for p, n := cloudwatch.NewListMetricsPaginator(c.watch, in), 0; p.HasMorePages() && n < mostPages; n++ {
		bound, cancel := c.bound(ctx)
		page, err := p.NextPage(bound)
		cancel()
		if err != nil {
			return false, explain(err)
		}
		for _, m := range page.Metrics {
			if idOf(m.Namespace, m.MetricName, m.Dimensions).Equal(id) {
				return true, nil
			}
		}
	}
	return false, nil
}

// Subscription is one of a Topic.
type Subscription struct {
	Protocol  string // email, https, sqs, …
	Confirmed bool   // else nothing is sent to it
}

// Topic asks who is told by a topic; the empty list is a topic that tells nobody. Errors: ErrNoTopic, and Group's.
func (c *Client) Topic(ctx context.Context, arn string) ([]Subscription, error) {
	var found []Subscription
	for p, n := sns.NewListSubscriptionsByTopicPaginator(c.topics, &sns.ListSubscriptionsByTopicInput{TopicArn: &arn}), 0; p.HasMorePages() && n < mostPages; n++ {
		bound, cancel := c.bound(ctx)
		page, err := p.NextPage(bound)
		cancel()
		var gone *told.NotFoundException
		switch {
		case errors.As(err, &gone):
			return nil, fmt.Errorf("%w: %w", ErrNoTopic, err)
		case err != nil:
			return nil, explain(err)
		}
		for _, s := range page.Subscriptions {
			// In place of an ARN: "PendingConfirmation", and "Deleted" for a while after its end.
			found = append(found, Subscription{Protocol: aws.ToString(s.Protocol), Confirmed: strings.HasPrefix(aws.ToString(s.SubscriptionArn), "arn:")})
		}
	}
	return found, nil
}

// EnableAlarmActions has alarms tell whom they name. Errors as Group's.
func (c *Client) EnableAlarmActions(ctx context.Context, names ...string) error {
	ctx, cancel := c.bound(ctx)
	defer cancel()
	_, err := c.watch.EnableAlarmActions(ctx, &cloudwatch.EnableAlarmActionsInput{AlarmNames: names})
	return explain(err)
}

// PutAlarm makes an alarm over metrics, in place of one of the same name. Errors as Group's.
func (c *Client) PutAlarm(ctx context.Context, a Alarm) error {
	ctx, cancel := c.bound(ctx)
	defer cancel()
	in := &cloudwatch.PutMetricAlarmInput{
		AlarmName: &a.Name, AlarmDescription: &a.Description, ActionsEnabled: aws.Bool(true), AlarmActions: a.Actions,
		EvaluationPeriods: aws.Int32(int32(a.Periods)), DatapointsToAlarm: aws.Int32(int32(a.Datapoints)), Threshold: &a.Threshold,
		ComparisonOperator: watched.ComparisonOperator(a.Comparison), TreatMissingData: &a.Missing,
	}
	if a.Metric.Name != "" {
		in.Namespace, in.MetricName, in.Dimensions = &a.Metric.Namespace, &a.Metric.Name, dimensionsOf(a.Metric)
		in.Statistic, in.Period = watched.Statistic(a.Stat), aws.Int32(int32(a.Period/time.Second))
	}
	for _, l := range a.Lines {
		q := watched.MetricDataQuery{Id: aws.String(l.ID), ReturnData: aws.Bool(l.Returned)}
		if l.Expression != "" {
			q.Expression = aws.String(l.Expression)
		} else {
			q.MetricStat = &watched.MetricStat{Stat: aws.String(l.Stat), Period: aws.Int32(int32(l.Period / time.Second)),
				Metric: &watched.Metric{Namespace: aws.String(l.Metric.Namespace), MetricName: aws.String(l.Metric.Name), Dimensions: dimensionsOf(l.Metric)}}
		}
		in.Metrics = append(in.Metrics, q)
	}
	_, err := c.watch.PutMetricAlarm(ctx, in)
	return explain(err)
}
