package cloudwatch

import (
	"context"
	"errors"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"

	"understudy/aws/wire"
	"understudy/metric"
	"understudy/metricmath"
)

// Bounds of GetMetricData.
const (
	mostQueries    = 500
	mostDatapoints = 100_800
	mostHeld       = 1_000_000 // points of the metrics that expressions compute from; ours: 56 bytes each
	mostSeries     = 2_000     // series in a page, also without points; ours: 500 expressions may have lists of 500
	longestLabel   = 2_048     // bytes, as given and as expanded; ours
)

// getMetricData answers page by page. Metrics that no expression uses are read when their turn comes, so that a page
// costs what it holds; expressions are computed anew for each page.
func (s *Service) getMetricData(ctx context.Context, in *cloudwatch.GetMetricDataInput) (*cloudwatch.GetMetricDataOutput, error) {
	r := &request{Service: s, in: in, now: s.opts.Now(), call: wire.CallOf(ctx)}
	if err := r.check(); err != nil {
		return nil, err
	}
	from, err := r.begin()
	if err != nil {
		return nil, err
	}
	if r.math {
		if err := r.compute(ctx); err != nil {
			return nil, err
		}
	}
	return r.page(ctx, from)
}

// request is a GetMetricData.
type request struct {
	*Service
	in   *cloudwatch.GetMetricDataInput
	now  time.Time // of the first page: what is aligned by it does not move between pages
	call wire.Call
	zone *time.Location // of times in labels
	at   map[string]int // where in the request an id stands

	program *metricmath.Program
	math    bool                        // there are expressions
	values  map[string]metricmath.Value // then: of all ids
	mixed   map[string]bool             // and: metrics with periods of several units
}

// line is one series of an answer, oldest point first.
type line struct {
	label  string
	points []metric.Point
	mixed  bool
}

// lines are what a query returns: one series, or as many as an expression's list has.
func (r *request) lines(ctx context.Context, q types.MetricDataQuery) ([]line, error) {
	if q.MetricStat == nil {
		return r.computed(q), nil
	}
	var l line
	if r.math {
		l.points, l.mixed = r.values[*q.Id].Series[0].Points, r.mixed[*q.Id]
	} else {
		var err error
		if l.points, l.mixed, err = r.points(ctx, r.query(q.MetricStat)); err != nil {
			return nil, err
		}
	}
	l.label = r.expand(r.labelOf(q), q, *q.MetricStat.Metric.MetricName, l.points)
	return []line{l}, nil
}

// query is what the series are asked for.
func (r *request) query(m *types.MetricStat) metric.Query {
	period := seconds(m.Period)
	return metric.Query{
		ID:   named(*m.Metric.Namespace, *m.Metric.MetricName, m.Metric.Dimensions),
		Stat: *m.Stat, Unit: string(m.Unit), Period: period,
		Start: align(*r.in.StartTime, period, r.now), End: *r.in.EndTime,
	}
}

// points reads a metric: one point a period, also of data with several units.
func (s *Service) points(ctx context.Context, q metric.Query) (points []metric.Point, mixed bool, err error) {
	all, err := s.opts.Reader.Points(ctx, q)
	points, mixed = metric.OneUnit(all)
	return points, mixed, err
}

// errTooMuch is what expressions over more than mostHeld points are answered with.
var errTooMuch = errors.New("the metrics have more datapoints than expressions can be computed from: increase Period, or decrease the time range")

// compute reads all metrics and runs the expressions.
func (r *request) compute(ctx context.Context) error {
	points := map[string][]metric.Point{}
	start, held := align(*r.in.StartTime, time.Minute, r.now), 0
	r.mixed = map[string]bool{}
	for _, q := range r.in.MetricDataQueries {
		if q.MetricStat == nil {
			continue
		}
		found, mixed, err := r.points(ctx, r.query(q.MetricStat))
		if err != nil {
			return err
		}
		if held += len(found); held > mostHeld {
			return invalid(errTooMuch.Error())
		}
		points[*q.Id], r.mixed[*q.Id] = found, mixed
	}
	// FILL is not to fill what has not been yet.
	end := *r.in.EndTime
	if end.After(r.now) {
		end = r.now
	}
	var err error
	if r.values, err = r.program.Run(points, start, end); err != nil {
		return invalid(err.Error())
	}
	return nil
}

// computed are an expression's series. FILL begins at a whole minute, also where a shorter period begins later.
func (r *request) computed(q types.MetricDataQuery) []line {
	v := r.values[*q.Id]
	names := []string{*q.Id}
	if v.Kind == metricmath.Many {
		names = r.names(*q.Id, v.Series)
	}
	lines := make([]line, 0, len(v.Series))
	for i, s := range v.Series {
		points := s.Points
		if s.Period > 0 {
			start := align(*r.in.StartTime, s.Period, r.now)
			for len(points) > 0 && points[0].At.Before(start) {
				points = points[1:]
			}
		}
		of := q // a label may ask what the metric of a list's member is
		if m := r.find(s.ID); m != nil && m.MetricStat != nil {
			of = *m
		}
		label := r.labelOf(q)
		if v.Kind == metricmath.Many {
			label = within(aws.ToString(q.Label))
		}
		lines = append(lines, line{label: r.expand(label, of, names[i], points), points: points, mixed: r.mixed[s.ID]})
	}
	return lines
}

// find is the query of an id; nil: there is none.
func (r *request) find(id string) *types.MetricDataQuery {
	i, ok := r.at[id]
	if !ok {
		return nil
	}
	return &r.in.MetricDataQueries[i]
}

func seconds(n *int32) time.Duration { return time.Duration(aws.ToInt32(n)) * time.Second }
