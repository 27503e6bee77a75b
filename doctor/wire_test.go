package doctor

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	watched "github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"
	"github.com/aws/aws-sdk-go-v2/service/elasticache"
	"github.com/aws/aws-sdk-go-v2/service/elasticache/types"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	told "github.com/aws/aws-sdk-go-v2/service/sns/types"
	"github.com/google/go-cmp/cmp"

	"understudy/aws/remote"
	"understudy/aws/wire"
	"understudy/metric"
)

// speak serves some operations as AWS does, and returns a client of them: package remote cannot test that by
// itself, because the wire stands on its floor.
func speak(t *testing.T, services ...*wire.Service) *remote.Client {
	t.Helper()
	server, err := wire.NewServer(wire.ServerOptions{Services: services, Region: "us-east-1", Account: "123456789012"})
	if err != nil {
		t.Fatal(err)
	}
	h := httptest.NewServer(server)
	t.Cleanup(h.Close)
	c, err := remote.New(t.Context(), remote.Options{Region: "us-east-1", Endpoint: h.URL, AccessKey: "AKIDTEST", SecretKey: "secret", Attempts: 1})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestAlarmsAreReadOverAllPages(t *testing.T) {
	s := wire.NewService(wire.CloudWatch())
	wire.Handle(s, func(_ context.Context, in *cloudwatch.DescribeAlarmsInput) (*cloudwatch.DescribeAlarmsOutput, error) {
		if !slices.Contains(in.AlarmTypes, watched.AlarmTypeCompositeAlarm) || !slices.Contains(in.AlarmTypes, watched.AlarmTypeMetricAlarm) {
			return nil, wire.Refuse("InvalidParameterValue", "composite alarms are left out when they are not asked for")
		}
		if aws.ToString(in.NextToken) == "2" {
			return &cloudwatch.DescribeAlarmsOutput{
				MetricAlarms: []watched.MetricAlarm{{AlarmName: aws.String("b"), ActionsEnabled: aws.Bool(false), EvaluationPeriods: aws.Int32(3), ExtendedStatistic: aws.String("p99"), Metrics: []watched.MetricDataQuery{
					{Id: aws.String("all"), Expression: aws.String("MAX(METRICS())")},
					{Id: aws.String("m1"), ReturnData: aws.Bool(false), MetricStat: &watched.MetricStat{Stat: aws.String("Maximum"), Period: aws.Int32(60), Metric: &watched.Metric{
						Namespace: aws.String("AWS/ElastiCache"), MetricName: aws.String("ReplicationLag"), Dimensions: []watched.Dimension{{Name: aws.String("CacheClusterId"), Value: aws.String("shop-002")}}}}},
				}}},
				CompositeAlarms: []watched.CompositeAlarm{{AlarmName: aws.String("any"), AlarmRule: aws.String("ALARM(b)"), ActionsEnabled: aws.Bool(true), AlarmActions: []string{"arn:x"}}},
			}, nil
		}
		return &cloudwatch.DescribeAlarmsOutput{NextToken: aws.String("2"), MetricAlarms: []watched.MetricAlarm{{AlarmName: aws.String("c"), ActionsEnabled: aws.Bool(true), StateValue: "OK", Namespace: aws.String("N"), MetricName: aws.String("M"),
			Dimensions: []watched.Dimension{{Name: aws.String("z"), Value: aws.String("1")}, {Name: aws.String("a"), Value: aws.String("2")}}, Statistic: "Average", Period: aws.Int32(300), EvaluationPeriods: aws.Int32(3), DatapointsToAlarm: aws.Int32(2), TreatMissingData: aws.String("notBreaching")}}}, nil
	})
	got, err := speak(t, s).Alarms(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := []remote.Alarm{
		{Name: "any", Rule: "ALARM(b)", ActionsEnabled: true, Actions: []string{"arn:x"}},
		{Name: "b", Stat: "p99", Periods: 3, Datapoints: 3, Missing: "missing", Lines: []remote.AlarmLine{{ID: "all", Expression: "MAX(METRICS())", Returned: true},
			{ID: "m1", Metric: metric.New("AWS/ElastiCache", "ReplicationLag", "CacheClusterId", "shop-002"), Stat: "Maximum", Period: time.Minute}}},
		{Name: "c", State: "OK", ActionsEnabled: true, Metric: metric.New("N", "M", "a", "2", "z", "1"), Stat: "Average", Period: 5 * time.Minute, Periods: 3, Datapoints: 2, Missing: "notBreaching"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// What is put must be what is read back: a doctor that repairs an alarm looks at it again.
func TestAnAlarmThatIsPutIsReadBack(t *testing.T) {
	s, kept := wire.NewService(wire.CloudWatch()), []watched.MetricAlarm{}
	wire.Handle(s, func(_ context.Context, in *cloudwatch.PutMetricAlarmInput) (*cloudwatch.PutMetricAlarmOutput, error) {
		kept = append(kept, watched.MetricAlarm{AlarmName: in.AlarmName, AlarmDescription: in.AlarmDescription, ActionsEnabled: in.ActionsEnabled, AlarmActions: in.AlarmActions, Namespace: in.Namespace, MetricName: in.MetricName,
			Dimensions: in.Dimensions, Statistic: in.Statistic, Period: in.Period, EvaluationPeriods: in.EvaluationPeriods, DatapointsToAlarm: in.DatapointsToAlarm, Threshold: in.Threshold,
			ComparisonOperator: in.ComparisonOperator, TreatMissingData: in.TreatMissingData, Metrics: in.Metrics})
		return &cloudwatch.PutMetricAlarmOutput{}, nil
	})
	wire.Handle(s, func(context.Context, *cloudwatch.DescribeAlarmsInput) (*cloudwatch.DescribeAlarmsOutput, error) {
		return &cloudwatch.DescribeAlarmsOutput{MetricAlarms: kept}, nil
	})
	c := speak(t, s)
	base := remote.Alarm{Description: "d", ActionsEnabled: true, Actions: []string{"arn:x"}, Periods: 5, Datapoints: 3, Threshold: 10, Comparison: "GreaterThanThreshold", Missing: "breaching"}
	one, two := base, base
	one.Name, one.Metric, one.Stat, one.Period = "one", metric.New("N", "M", "a", "2"), "Maximum", time.Minute
	two.Name, two.Lines = "two", []remote.AlarmLine{{ID: "all", Expression: "SUM(METRICS())", Returned: true}, {ID: "m1", Metric: metric.New("N", "M", "a", "2"), Stat: "Maximum", Period: time.Minute}}
	if err := errors.Join(c.PutAlarm(t.Context(), one), c.PutAlarm(t.Context(), two)); err != nil {
		t.Fatal(err)
	}
	got, err := c.Alarms(t.Context())
	if diff := cmp.Diff([]remote.Alarm{one, two}, got); diff != "" || err != nil {
		t.Error(diff, err)
	}
}

func TestTopicsThatAreGoneAreToldFromThoseThatTellNobody(t *testing.T) {
	s := wire.NewService(wire.SNS())
	wire.Handle(s, func(_ context.Context, in *sns.ListSubscriptionsByTopicInput) (*sns.ListSubscriptionsByTopicOutput, error) {
		switch *in.TopicArn {
		case "arn:aws:sns:us-east-1:123456789012:empty":
			return &sns.ListSubscriptionsByTopicOutput{}, nil
		case "arn:aws:sns:us-east-1:123456789012:full":
			return &sns.ListSubscriptionsByTopicOutput{Subscriptions: []told.Subscription{
				{Protocol: aws.String("email"), SubscriptionArn: aws.String("PendingConfirmation")}, {Protocol: aws.String("https"), SubscriptionArn: aws.String("arn:aws:sns:us-east-1:123456789012:full:1")},
				{Protocol: aws.String("sqs"), SubscriptionArn: aws.String("Deleted")}}}, nil
		}
		return nil, &told.NotFoundException{Message: aws.String("Topic does not exist")}
	})
	c := speak(t, s)
	arn := func(name string) string { return "arn:aws:sns:us-east-1:123456789012:" + name }
	if got, err := c.Topic(t.Context(), arn("empty")); err != nil || len(got) != 0 {
		t.Error(got, err)
	}
	got, err := c.Topic(t.Context(), arn("full"))
	if diff := cmp.Diff([]remote.Subscription{{Protocol: "email"}, {Protocol: "https", Confirmed: true}, {Protocol: "sqs"}}, got); diff != "" || err != nil {
		t.Error(diff, err)
	}
	if _, err := c.Topic(t.Context(), arn("none")); !errors.Is(err, remote.ErrNoTopic) {
		t.Error(err)
	}
}

func TestOnlyExactlyThatMetricIsThere(t *testing.T) {
	s := wire.NewService(wire.CloudWatch())
	wire.Handle(s, func(context.Context, *cloudwatch.ListMetricsInput) (*cloudwatch.ListMetricsOutput, error) {
		// The API's filter is by some of the dimensions: it also finds metrics that have more.
		return &cloudwatch.ListMetricsOutput{Metrics: []watched.Metric{{Namespace: aws.String("N"), MetricName: aws.String("M"), Dimensions: []watched.Dimension{{Name: aws.String("a"), Value: aws.String("1")}, {Name: aws.String("b"), Value: aws.String("2")}}}}}, nil
	})
	c := speak(t, s)
	for id, want := range map[string]bool{"a=1": false, "a=1,b=2": true} {
		m := metric.New("N", "M", "a", "1")
		if want {
			m = metric.New("N", "M", "b", "2", "a", "1")
		}
		if got, err := c.HasMetric(t.Context(), m); got != want || err != nil {
			t.Error(id, got, err)
		}
	}
}

func TestSnapshotsAreThoseOfTheGroup(t *testing.T) {
	s := wire.NewService(wire.ElastiCache())
	at := time.Date(2026, 11, 30, 3, 0, 0, 0, time.UTC)
	of := func(name, group, node, source string, created time.Time) types.Snapshot {
		x := types.Snapshot{SnapshotName: &name, SnapshotStatus: aws.String("available"), SnapshotSource: &source, NodeSnapshots: []types.NodeSnapshot{{SnapshotCreateTime: &created}}}
		if group != "" {
			x.ReplicationGroupId = &group
		}
		if node != "" {
			x.CacheClusterId = &node
		}
		return x
	}
	wire.Handle(s, func(context.Context, *elasticache.DescribeSnapshotsInput) (*elasticache.DescribeSnapshotsOutput, error) {
		return &elasticache.DescribeSnapshotsOutput{Snapshots: []types.Snapshot{
			of("new", "", "shop-002", "manual", at.Add(time.Hour)), of("old", "shop", "", "automated", at), of("other", "other", "", "manual", at), of("alike", "", "shop-two-001", "manual", at)}}, nil
	})
	made := ""
	wire.Handle(s, func(_ context.Context, in *elasticache.CreateSnapshotInput) (*elasticache.CreateSnapshotOutput, error) {
		made = fmt.Sprint(aws.ToString(in.CacheClusterId), " ", aws.ToString(in.SnapshotName))
		return &elasticache.CreateSnapshotOutput{}, nil
	})
	c := speak(t, s)
	got, err := c.Snapshots(t.Context(), "shop")
	if diff := cmp.Diff([]remote.Snapshot{{Name: "old", State: "available", Automatic: true, Created: at}, {Name: "new", State: "available", Created: at.Add(time.Hour)}}, got); diff != "" || err != nil {
		t.Error(diff, err)
	}
	if err := c.TakeSnapshot(t.Context(), "shop-002", "understudy-1"); err != nil || made != "shop-002 understudy-1" {
		t.Error(made, err)
	}
}
