package cloudwatch

import (
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"

	"understudy/alarm"
	"understudy/alarm/watch"
	"understudy/metric"
)

// metricAlarm is an alarm as DescribeAlarms shows it.
func (s *Service) metricAlarm(a watch.Alarm) types.MetricAlarm {
	r := a.Rule
	out := types.MetricAlarm{
		AlarmName: &a.Name, AlarmArn: s.arn(a), AlarmDescription: orNil(a.Description), AlarmConfigurationUpdatedTimestamp: &a.Configured,
		ActionsEnabled: aws.Bool(!a.Muted), OKActions: list(a.Actions.OK), AlarmActions: list(a.Actions.Alarm), InsufficientDataActions: list(a.Actions.Insufficient),
		StateValue: types.StateValue(a.State), StateReason: &a.Reason, StateReasonData: orNil(a.Data),
		StateUpdatedTimestamp: &a.Updated, StateTransitionedTimestamp: &a.Since, EvaluationState: types.EvaluationState(a.Evaluation),
		EvaluationPeriods: aws.Int32(int32(r.Periods)), Threshold: &r.Threshold, ComparisonOperator: types.ComparisonOperator(r.Comparison),
		TreatMissingData: orNil(string(r.Treatment)), EvaluateLowSampleCountPercentile: orNil(string(r.FewSamples)), Dimensions: []types.Dimension{},
	}
	if r.Datapoints > 0 {
		out.DatapointsToAlarm = aws.Int32(int32(r.Datapoints))
	}
	if len(r.Queries) > 0 {
		out.Metrics = queriesShown(r.Queries)
		return out
	}
	out.Namespace, out.MetricName, out.Dimensions = &r.Metric.Namespace, &r.Metric.Name, dimensionsShown(r.Metric)
	out.Period, out.Unit = inSeconds(r.Period), types.StandardUnit(r.Unit)
	if metric.Percentile(r.Stat) {
		out.ExtendedStatistic = &r.Stat
	} else {
		out.Statistic = types.Statistic(r.Stat)
	}
	return out
}

// compositeAlarm is one as DescribeAlarms shows it.
func (s *Service) compositeAlarm(a watch.Alarm) types.CompositeAlarm {
	out := types.CompositeAlarm{
		AlarmName: &a.Name, AlarmArn: s.arn(a), AlarmDescription: orNil(a.Description), AlarmConfigurationUpdatedTimestamp: &a.Configured,
		ActionsEnabled: aws.Bool(!a.Muted), OKActions: list(a.Actions.OK), AlarmActions: list(a.Actions.Alarm), InsufficientDataActions: list(a.Actions.Insufficient),
		StateValue: types.StateValue(a.State), StateReason: &a.Reason, StateReasonData: orNil(a.Data),
		StateUpdatedTimestamp: &a.Updated, StateTransitionedTimestamp: &a.Since, AlarmRule: &a.Composite.Rule,
	}
	if x := a.Composite.Suppressor; x != nil {
		out.ActionsSuppressor, out.ActionsSuppressorWaitPeriod, out.ActionsSuppressorExtensionPeriod = &x.Alarm, inSeconds(x.Wait), inSeconds(x.Extension)
	}
	if by := a.Suppression.By; by != alarm.ByNothing {
		out.ActionsSuppressedBy, out.ActionsSuppressedReason = types.ActionsSuppressedBy(by), aws.String(by.Reason())
	}
	return out
}

// queriesShown are an expression's lines, with ReturnData also where its default was meant.
func queriesShown(all []alarm.Query) (out []types.MetricDataQuery) {
	for _, q := range all {
		x := types.MetricDataQuery{Id: &q.ID, Label: orNil(q.Label), AccountId: orNil(q.Account), ReturnData: aws.Bool(q.Returns)}
		if q.Expression != "" {
			x.Expression = &q.Expression
			if q.Period > 0 {
				x.Period = inSeconds(q.Period)
			}
		} else {
			x.MetricStat = &types.MetricStat{Stat: &q.Stat, Period: inSeconds(q.Period), Unit: types.StandardUnit(q.Unit),
				Metric: &types.Metric{Namespace: &q.Metric.Namespace, MetricName: &q.Metric.Name, Dimensions: dimensionsShown(q.Metric)}}
		}
		out = append(out, x)
	}
	return out
}

func dimensionsShown(id metric.ID) []types.Dimension {
	all := []types.Dimension{}
	for _, d := range id.Dimensions {
		all = append(all, types.Dimension{Name: aws.String(d.Name), Value: aws.String(d.Value)})
	}
	return all
}

func inSeconds(d time.Duration) *int32 { return aws.Int32(int32(d / time.Second)) }

// orNil is for members that AWS leaves out when they were not given.
func orNil(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}

// list is for those that it shows empty.
func list(all []string) []string {
	if all == nil {
		return []string{}
	}
	return all
}
