package cloudwatch

import (
	"context"
	"regexp"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"

	"understudy/alarm"
	"understudy/alarm/watch"
	"understudy/aws/wire"
)

func (s *Service) putMetricAlarm(ctx context.Context, in *cloudwatch.PutMetricAlarmInput) (*cloudwatch.PutMetricAlarmOutput, error) {
	rule, err := ruleOf(ctx, in)
	if err != nil {
		return nil, err
	}
	return &cloudwatch.PutMetricAlarmOutput{}, s.keep(ctx, given{
		name: *in.AlarmName, description: in.AlarmDescription, enabled: in.ActionsEnabled, tags: in.Tags,
		actions: watch.Actions{OK: in.OKActions, Alarm: in.AlarmActions, Insufficient: in.InsufficientDataActions},
	}, watch.Alarm{Rule: rule})
}

func (s *Service) putCompositeAlarm(ctx context.Context, in *cloudwatch.PutCompositeAlarmInput) (*cloudwatch.PutCompositeAlarmOutput, error) {
	if in.ActionConfiguration != nil {
		return nil, unservedMember("ActionConfiguration")
	}
	if _, err := alarm.Parse(*in.AlarmRule); err != nil {
		return nil, invalidAlarm("Error in AlarmRule [%v]", err)
	}
	suppressor, err := suppressorOf(in)
	if err != nil {
		return nil, err
	}
	return &cloudwatch.PutCompositeAlarmOutput{}, s.keep(ctx, given{
		name: *in.AlarmName, description: in.AlarmDescription, enabled: in.ActionsEnabled, tags: in.Tags,
		actions: watch.Actions{OK: in.OKActions, Alarm: in.AlarmActions, Insufficient: in.InsufficientDataActions},
	}, watch.Alarm{Composite: &watch.Composite{Rule: *in.AlarmRule, Suppressor: suppressor}})
}

// suppressorOf reads the three members that go together.
func suppressorOf(in *cloudwatch.PutCompositeAlarmInput) (*alarm.Suppressor, error) {
	wait, extension := in.ActionsSuppressorWaitPeriod, in.ActionsSuppressorExtensionPeriod
	switch {
	case in.ActionsSuppressor == nil && wait == nil && extension == nil:
		return nil, nil
	case in.ActionsSuppressor == nil:
		return nil, invalidAlarm("ActionsSuppressorWaitPeriod and ActionsSuppressorExtensionPeriod need an ActionsSuppressor.")
	case wait == nil || extension == nil:
		return nil, invalidAlarm("ActionsSuppressorWaitPeriod and ActionsSuppressorExtensionPeriod are required when ActionsSuppressor is specified.")
	case *wait < 0 || *extension < 0:
		return nil, invalidAlarm("ActionsSuppressorWaitPeriod and ActionsSuppressorExtensionPeriod must not be negative.")
	}
	return &alarm.Suppressor{Alarm: *in.ActionsSuppressor, Wait: seconds(wait), Extension: seconds(extension)}, nil
}

// given is what both kinds of alarms are put with.
type given struct {
	name        string
	description *string
	enabled     *bool // nil: they are
	actions     watch.Actions
	tags        []types.Tag
}

// arnPattern is loose: regions and accounts may be missing, and what an action names is not looked at.
var arnPattern = regexp.MustCompile(`^arn:[\w-]+:[\w-]+:[\w-]*:.+$`)

// keep puts an alarm that has its rule. Tags count for a new alarm only.
func (s *Service) keep(ctx context.Context, g given, a watch.Alarm) error {
	if strings.ContainsFunc(g.name, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return invalidAlarm("AlarmName must not contain ASCII control characters")
	}
	for _, action := range g.actions.All() {
		if !arnPattern.MatchString(action) {
			return invalidAlarm("Invalid arn syntax: %s", action)
		}
	}
	tags, err := (wire.Tags{}).With(ctx, tagsOf(g.tags))
	if err != nil {
		return err
	}
	a.Name, a.Description, a.Actions, a.Tags = g.name, aws.ToString(g.description), g.actions, tags
	a.Muted = g.enabled != nil && !*g.enabled
	return alarmError(s.opts.Alarms.Put(ctx, a))
}

// ruleOf reads when the alarm is to be in ALARM. What a rule may be beside what is checked here the rule knows.
func ruleOf(ctx context.Context, in *cloudwatch.PutMetricAlarmInput) (*alarm.Rule, error) {
	if err := checkAlarm(in); err != nil {
		return nil, err
	}
	r := &alarm.Rule{
		Unit: string(in.Unit), Period: seconds(in.Period), Periods: int(*in.EvaluationPeriods), Datapoints: int(aws.ToInt32(in.DatapointsToAlarm)),
		Threshold: *in.Threshold, Comparison: alarm.Comparison(in.ComparisonOperator), Treatment: alarm.Treatment(aws.ToString(in.TreatMissingData)),
		FewSamples: alarm.Few(aws.ToString(in.EvaluateLowSampleCountPercentile)),
	}
	if len(in.Metrics) > 0 {
		var err error
		r.Queries, r.Period, err = queriesOf(ctx, in.Metrics)
		return r, err
	}
	r.Metric = named(*in.Namespace, *in.MetricName, in.Dimensions)
	for i, d := range r.Metric.Dimensions {
		if i > 0 && d.Name == r.Metric.Dimensions[i-1].Name {
			return nil, invalidAlarm("The dimension %s is given twice", d.Name)
		}
	}
	if r.Stat = string(in.Statistic); in.ExtendedStatistic != nil {
		r.Stat = *in.ExtendedStatistic
	}
	return r, nil
}

// queriesOf reads the lines of a metric math alarm, and the period that all of its metrics have.
func queriesOf(ctx context.Context, list []types.MetricDataQuery) (all []alarm.Query, period time.Duration, err error) {
	if len(list) > mostLines {
		return nil, 0, invalidAlarm("The collection Metrics must not have a size greater than %d", mostLines)
	}
	for _, q := range list {
		if q.MetricStat != nil {
			period = seconds(q.MetricStat.Period)
			break
		}
		if q.Period != nil {
			period = seconds(q.Period)
		}
	}
	if period == 0 {
		return nil, 0, invalidAlarm("Period must not be null")
	}
	if err := checkLines(ctx, list); err != nil {
		return nil, 0, err
	}
	for i, q := range list {
		if q.MetricStat == nil && q.Period != nil && seconds(q.Period) != period {
			return nil, 0, invalidAlarm("The parameter Metrics.member.%d.Period must be that of the metrics, which is %d", i+1, int(period.Seconds()))
		}
		x := alarm.Query{ID: *q.Id, Label: aws.ToString(q.Label), Expression: aws.ToString(q.Expression), Account: aws.ToString(q.AccountId),
			Period: seconds(q.Period), Returns: returned(q)}
		if m := q.MetricStat; m != nil {
			x.Metric, x.Stat, x.Unit, x.Period = named(*m.Metric.Namespace, *m.Metric.MetricName, m.Metric.Dimensions), *m.Stat, string(m.Unit), seconds(m.Period)
		}
		all = append(all, x)
	}
	return all, period, nil
}
