package remote

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	watched "github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"
	"github.com/aws/aws-sdk-go-v2/service/elasticache"
	"github.com/aws/aws-sdk-go-v2/service/elasticache/types"

	"understudy/cluster"
	"understudy/metric"
)

// Event is a line of DescribeEvents.
type Event struct {
	At      time.Time // by the API's clock
	Source  string    // the group, or a node
	Message string
}

// mostPages bounds what is read of one list: 5,000 events of a region in one window are a flood, not a story.
const mostPages = 50

// mostMinutes is how far back AWS keeps events: 14 days.
const mostMinutes = 14 * 24 * 60

// Events returns what happened to the group and its nodes since a time, oldest first; AWS keeps 14 days. Errors as
// Group's.
func (c *Client) Events(ctx context.Context, group string, since time.Time) ([]Event, error) {
	// All of the region are asked for: one call, where each node and the group would be one each. Backwards from the
	// API's own now, because its clock is not ours.
	minutes := min(max(int32(time.Since(since)/time.Minute)+2, 1), mostMinutes)
	in := &elasticache.DescribeEventsInput{Duration: &minutes, MaxRecords: aws.Int32(100)}
	ctx, cancel := c.bound(ctx)
	defer cancel()
	var found []Event
	for p, n := elasticache.NewDescribeEventsPaginator(c.groups, in), 0; p.HasMorePages(); n++ {
		if n == mostPages {
			return found, fmt.Errorf("%w: DescribeEvents: more than %d pages since %s", ErrRefused, mostPages, since.Format(time.RFC3339))
		}
		page, err := p.NextPage(ctx)
		if err != nil {
			return nil, explain(err)
		}
		for _, e := range page.Events {
			source := aws.ToString(e.SourceIdentifier)
			if aws.ToTime(e.Date).Before(since) {
				continue
			}
			if e.SourceType == types.SourceTypeReplicationGroup && source == group || e.SourceType == types.SourceTypeCacheCluster && cluster.GroupOf(cluster.NodeID(source)) == group {
				found = append(found, Event{At: aws.ToTime(e.Date), Source: source, Message: aws.ToString(e.Message)})
			}
		}
	}
	slices.SortStableFunc(found, func(a, b Event) int { return cmp.Compare(a.At.UnixNano(), b.At.UnixNano()) })
	return found, nil
}

// Points answers one question to CloudWatch (GetMetricData), in the order of time. A metric that nobody published
// has none. Errors as Group's.
func (c *Client) Points(ctx context.Context, q metric.Query) ([]metric.Point, error) {
	ctx, cancel := c.bound(ctx)
	defer cancel()
	m := &watched.Metric{Namespace: &q.ID.Namespace, MetricName: &q.ID.Name}
	for _, d := range q.ID.Dimensions {
		m.Dimensions = append(m.Dimensions, watched.Dimension{Name: aws.String(d.Name), Value: aws.String(d.Value)})
	}
	in := &cloudwatch.GetMetricDataInput{
		StartTime: &q.Start, EndTime: &q.End, ScanBy: watched.ScanByTimestampAscending,
		MetricDataQueries: []watched.MetricDataQuery{{Id: aws.String("m"), MetricStat: &watched.MetricStat{
			Metric: m, Period: aws.Int32(int32(q.Period / time.Second)), Stat: &q.Stat, Unit: watched.StandardUnit(q.Unit),
		}}},
	}
	var found []metric.Point
	for p, n := cloudwatch.NewGetMetricDataPaginator(c.watch, in), 0; p.HasMorePages() && n < mostPages; n++ {
		page, err := p.NextPage(ctx)
		if err != nil {
			return nil, explain(err)
		}
		for _, r := range page.MetricDataResults {
			for i, at := range r.Timestamps[:min(len(r.Timestamps), len(r.Values))] {
				found = append(found, metric.Point{At: at, Value: r.Values[i], Unit: q.Unit})
			}
		}
	}
	return found, nil
}
