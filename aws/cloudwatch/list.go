package cloudwatch

import (
	"context"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"

	"understudy/aws/wire"
	"understudy/metric"
)

// How far back ListMetrics looks.
const (
	listed   = 14 * 24 * time.Hour
	recently = 3 * time.Hour
)

// mostFilters is how many dimensions a list is asked for.
const mostFilters = 10

func (s *Service) listMetrics(ctx context.Context, in *cloudwatch.ListMetricsInput) (*cloudwatch.ListMetricsOutput, error) {
	if len(in.Dimensions) > mostFilters {
		return nil, badValue("The collection Dimensions must not have a size greater than %d.", mostFilters)
	}
	f := metric.Filter{Namespace: aws.ToString(in.Namespace), Name: aws.ToString(in.MetricName), Since: s.opts.Now().Add(-listed)}
	if in.RecentlyActive != "" {
		f.Since = s.opts.Now().Add(-recently)
	}
	for _, d := range in.Dimensions {
		f.Dimensions = append(f.Dimensions, metric.Dimension{Name: *d.Name, Value: aws.ToString(d.Value)})
	}
	ids := []metric.ID{}
	if account := aws.ToString(in.OwningAccount); account == "" || account == wire.CallOf(ctx).Account {
		var err error
		if ids, err = s.opts.Reader.List(ctx, f); err != nil {
			return nil, err
		}
	}
	out := &cloudwatch.ListMetricsOutput{}
	page, next, err := wire.Page(ctx, wire.Paging{Token: in.NextToken}, ids, listKey)
	if err != nil {
		return nil, err
	}
	out.NextToken = next
	for _, id := range page {
		m := types.Metric{Namespace: &id.Namespace, MetricName: &id.Name, Dimensions: []types.Dimension{}}
		for _, d := range id.Dimensions {
			m.Dimensions = append(m.Dimensions, types.Dimension{Name: &d.Name, Value: &d.Value})
		}
		out.Metrics = append(out.Metrics, m)
		if aws.ToBool(in.IncludeLinkedAccounts) {
			out.OwningAccounts = append(out.OwningAccounts, wire.CallOf(ctx).Account)
		}
	}
	return out, nil
}

// listKey is a text that sorts as the Reader's list does: NUL is before all that names have.
func listKey(id metric.ID) string {
	key := id.Namespace + "\x00" + id.Name
	for _, d := range id.Dimensions {
		key += "\x00" + d.Name + "\x00" + d.Value
	}
	return key
}
