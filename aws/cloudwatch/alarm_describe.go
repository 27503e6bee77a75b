package cloudwatch

import (
	"context"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"

	"understudy/alarm"
	"understudy/alarm/watch"
	"understudy/aws/wire"
)

// describeAlarms lists both kinds in the order of their names; MaxRecords is of both lists together.
func (s *Service) describeAlarms(ctx context.Context, in *cloudwatch.DescribeAlarmsInput) (*cloudwatch.DescribeAlarmsOutput, error) {
	if err := checkDescribe(in); err != nil {
		return nil, err
	}
	found, show := s.selected(in), s.whole
	switch {
	case in.ChildrenOfAlarmName != nil:
		found, show = s.children(*in.ChildrenOfAlarmName), s.asChild
	case in.ParentsOfAlarmName != nil:
		found, show = s.parents(*in.ParentsOfAlarmName), s.asParent
	}
	page, next, err := wire.Page(ctx, wire.Paging{Token: in.NextToken, Limit: in.MaxRecords}, found, func(a watch.Alarm) string { return a.Name })
	if err != nil {
		return nil, err
	}
	out := &cloudwatch.DescribeAlarmsOutput{NextToken: next, MetricAlarms: []types.MetricAlarm{}, CompositeAlarms: []types.CompositeAlarm{}}
	for _, a := range page {
		show(out, a)
	}
	return out, nil
}

func checkDescribe(in *cloudwatch.DescribeAlarmsInput) error {
	others := in.AlarmNamePrefix != nil || len(in.AlarmNames) > 0 || len(in.AlarmTypes) > 0 || in.StateValue != "" || in.ActionPrefix != nil
	switch {
	case in.AlarmNamePrefix != nil && len(in.AlarmNames) > 0:
		return invalidAlarm("AlarmNamePrefix and AlarmNames cannot both be specified")
	case in.ChildrenOfAlarmName != nil && (others || in.ParentsOfAlarmName != nil):
		return invalidAlarm("ChildrenOfAlarmName can be specified with MaxRecords and NextToken only")
	case in.ParentsOfAlarmName != nil && others:
		return invalidAlarm("ParentsOfAlarmName can be specified with MaxRecords and NextToken only")
	}
	return nil
}

// selected are the alarms that fit: metric alarms, unless the client asks for others.
func (s *Service) selected(in *cloudwatch.DescribeAlarmsInput) []watch.Alarm {
	if in.ChildrenOfAlarmName != nil || in.ParentsOfAlarmName != nil {
		return nil
	}
	var from []watch.Alarm
	if in.AlarmNames == nil {
		from = s.opts.Alarms.Alarms()
	} else {
		from = s.byName(in.AlarmNames)
	}
	return slices.DeleteFunc(from, func(a watch.Alarm) bool {
		fits := ofType(in.AlarmTypes, a.Composite != nil) && strings.HasPrefix(a.Name, aws.ToString(in.AlarmNamePrefix)) &&
			(in.StateValue == "" || string(in.StateValue) == string(a.State)) &&
			(in.ActionPrefix == nil || slices.ContainsFunc(a.Actions.All(), func(arn string) bool { return strings.HasPrefix(arn, *in.ActionPrefix) }))
		return !fits
	})
}

// byName are those of the names that there are, sorted, each once.
func (s *Service) byName(names []string) (all []watch.Alarm) {
	names = slices.Clone(names)
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		if a, ok := s.opts.Alarms.Alarm(name); ok {
			all = append(all, a)
		}
	}
	return all
}

// ofType reports whether a client asks for such alarms; without AlarmTypes it asks for metric alarms, as AWS has it.
func ofType(asked []types.AlarmType, composite bool) bool {
	if composite {
		return slices.Contains(asked, types.AlarmTypeCompositeAlarm)
	}
	return len(asked) == 0 || slices.Contains(asked, types.AlarmTypeMetricAlarm)
}

// children are what a composite alarm's rule names; its suppressor is none.
func (s *Service) children(name string) []watch.Alarm {
	a, _ := s.opts.Alarms.Alarm(name)
	return s.byName(childrenOf(a))
}

func childrenOf(a watch.Alarm) []string {
	if a.Composite == nil {
		return nil
	}
	e, err := alarm.Parse(a.Composite.Rule)
	if err != nil { // Put has refused those
		return nil
	}
	return e.Children()
}

func (s *Service) parents(name string) []watch.Alarm {
	return slices.DeleteFunc(s.opts.Alarms.Alarms(), func(a watch.Alarm) bool { return !slices.Contains(childrenOf(a), name) })
}

// asChild shows what AWS shows of a child, asParent what it shows of a parent.
func (s *Service) asChild(out *cloudwatch.DescribeAlarmsOutput, a watch.Alarm) {
	if a.Composite != nil {
		out.CompositeAlarms = append(out.CompositeAlarms, types.CompositeAlarm{AlarmName: &a.Name, AlarmArn: s.arn(a),
			StateValue: types.StateValue(a.State), StateUpdatedTimestamp: &a.Updated})
		return
	}
	out.MetricAlarms = append(out.MetricAlarms, types.MetricAlarm{AlarmName: &a.Name, AlarmArn: s.arn(a),
		StateValue: types.StateValue(a.State), StateUpdatedTimestamp: &a.Updated})
}

func (s *Service) asParent(out *cloudwatch.DescribeAlarmsOutput, a watch.Alarm) {
	out.CompositeAlarms = append(out.CompositeAlarms, types.CompositeAlarm{AlarmName: &a.Name, AlarmArn: s.arn(a)})
}

func (s *Service) whole(out *cloudwatch.DescribeAlarmsOutput, a watch.Alarm) {
	if a.Composite != nil {
		out.CompositeAlarms = append(out.CompositeAlarms, s.compositeAlarm(a))
		return
	}
	out.MetricAlarms = append(out.MetricAlarms, s.metricAlarm(a))
}

func (s *Service) arn(a watch.Alarm) *string { return aws.String(s.opts.Alarms.ARN(a.Name)) }

// describeAlarmsForMetric finds alarms on one metric; those on expressions over it are none, as AWS has it.
func (s *Service) describeAlarmsForMetric(_ context.Context, in *cloudwatch.DescribeAlarmsForMetricInput) (*cloudwatch.DescribeAlarmsForMetricOutput, error) {
	out := &cloudwatch.DescribeAlarmsForMetricOutput{MetricAlarms: []types.MetricAlarm{}}
	id := named(*in.Namespace, *in.MetricName, in.Dimensions)
	for _, a := range s.opts.Alarms.Alarms() {
		r := a.Rule
		if r == nil || len(r.Queries) > 0 || !r.Metric.Equal(id) || in.Period != nil && seconds(in.Period) != r.Period ||
			in.Statistic != "" && string(in.Statistic) != r.Stat || in.ExtendedStatistic != nil && *in.ExtendedStatistic != r.Stat ||
			in.Unit != "" && string(in.Unit) != r.Unit {
			continue
		}
		out.MetricAlarms = append(out.MetricAlarms, s.metricAlarm(a))
	}
	return out, nil
}
