package cloudwatch

import (
	"context"
	"errors"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"

	"understudy/metric"
	"understudy/series"
)

// mostPoints is how many periods a request of GetMetricStatistics spans.
const mostPoints = 1440

func (s *Service) getMetricStatistics(ctx context.Context, in *cloudwatch.GetMetricStatisticsInput) (*cloudwatch.GetMetricStatisticsOutput, error) {
	period, err := length(*in.Period)
	if err != nil {
		return nil, err
	}
	start := align(*in.StartTime, period, s.opts.Now())
	switch n := in.EndTime.Sub(start) / period; {
	case !in.EndTime.After(*in.StartTime):
		return nil, badCombination("The parameter StartTime must be less than the parameter EndTime.")
	case n > mostPoints:
		return nil, badCombination("You have requested up to %d datapoints, which exceeds the limit of %d. You may reduce the datapoints requested by increasing Period, or decreasing the time range.", n, mostPoints)
	case len(in.Statistics)+len(in.ExtendedStatistics) == 0:
		return nil, badCombination("At least one of the parameters Statistics and ExtendedStatistics must be specified.")
	}
	q := metric.Query{ID: named(*in.Namespace, *in.MetricName, in.Dimensions), Unit: string(in.Unit), Period: period, Start: start, End: *in.EndTime}
	found := found{at: map[moment]int{}, points: []types.Datapoint{}}
	for _, stat := range in.Statistics {
		q.Stat = string(stat)
		if err := s.add(ctx, &found, q, func(d *types.Datapoint, v float64) { put(d, stat, v) }); err != nil {
			return nil, err
		}
	}
	for _, stat := range in.ExtendedStatistics {
		q.Stat = stat
		err := s.add(ctx, &found, q, func(d *types.Datapoint, v float64) {
			if d.ExtendedStatistics == nil {
				d.ExtendedStatistics = map[string]float64{}
			}
			d.ExtendedStatistics[stat] = v
		})
		if errors.Is(err, series.ErrQuery) {
			return nil, badValue("The value %s for parameter ExtendedStatistics.member is invalid: percentiles are p0.0 to p100.", stat)
		}
		if err != nil {
			return nil, err
		}
	}
	return &cloudwatch.GetMetricStatisticsOutput{Label: in.MetricName, Datapoints: found.points}, nil
}

// moment tells the points of an answer apart.
type moment struct {
	at   int64
	unit string
}

// found collects what the statistics say of one period in one point.
type found struct {
	at     map[moment]int
	points []types.Datapoint
}

// add asks for one statistic and has set put it into the points.
func (s *Service) add(ctx context.Context, f *found, q metric.Query, set func(*types.Datapoint, float64)) error {
	points, err := s.opts.Reader.Points(ctx, q)
	if err != nil {
		return err
	}
	for _, p := range points {
		unit := p.Unit
		if unit == "" {
			unit = string(types.StandardUnitNone)
		}
		m := moment{p.At.UnixMilli(), unit}
		i, there := f.at[m]
		if !there {
			i = len(f.points)
			f.at[m] = i
			f.points = append(f.points, types.Datapoint{Timestamp: aws.Time(p.At), Unit: types.StandardUnit(unit)})
		}
		set(&f.points[i], p.Value)
	}
	return nil
}

func put(d *types.Datapoint, stat types.Statistic, v float64) {
	switch stat {
	case types.StatisticAverage:
		d.Average = &v
	case types.StatisticSum:
		d.Sum = &v
	case types.StatisticSampleCount:
		d.SampleCount = &v
	case types.StatisticMinimum:
		d.Minimum = &v
	case types.StatisticMaximum:
		d.Maximum = &v
	}
}

// length is a period that CloudWatch knows, of so many seconds.
func length(seconds int32) (time.Duration, error) {
	d := time.Duration(seconds) * time.Second
	if !metric.ValidPeriod(d) {
		return 0, badValue("The parameter Period must be 1, 5, 10, 20, 30 or a multiple of 60.")
	}
	return d, nil
}

// align rounds a start down as CloudWatch does: the older it is, the coarser are the data that are kept.
func align(start time.Time, period time.Duration, now time.Time) time.Time {
	const day = 24 * time.Hour
	switch age := now.Sub(start); {
	case age >= 63*day:
		return start.UTC().Truncate(time.Hour)
	case age >= 15*day:
		return start.UTC().Truncate(5 * time.Minute)
	}
	return start.UTC().Truncate(min(period, time.Minute))
}
