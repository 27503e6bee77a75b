package metricmath

import (
	"math"
	"slices"
	"time"

	"understudy/metric"
)

// mostPoints bounds what FILL makes of a series: what GetMetricData returns at most.
const mostPoints = 100_800

// fill adds points to the periods of the scope that have none.
func (s Scope) fill(v Value, by node) Value {
	var filler func(Series) func(time.Time) float64
	switch {
	case by.op == "word" && by.name == "REPEAT":
		filler = repeat
	case by.op == "word":
		filler = linear
	default:
		other := s.eval(by)
		filler = func(Series) func(time.Time) float64 {
			if other.Kind == Scalar {
				return func(time.Time) float64 { return other.Number }
			}
			return lookup(other.Series[0])
		}
	}
	return v.through(func(series Series) Series {
		filled := Series{Points: slices.Clone(series.Points)}
		f, there := filler(series), lookup(series)
		if series.Period <= 0 || s.End.Sub(s.Start)/series.Period > mostPoints {
			return filled
		}
		for at := s.Start; at.Before(s.End); at = at.Add(series.Period) {
			if math.IsNaN(there(at)) {
				filled.add(at, f(at))
			}
		}
		slices.SortFunc(filled.Points, func(a, b metric.Point) int { return a.At.Compare(b.At) })
		return filled
	})
}

// lookup finds a series' value at a time, NaN where it has none.
func lookup(s Series) func(time.Time) float64 {
	return func(at time.Time) float64 {
		if i, found := slices.BinarySearchFunc(s.Points, at, order); found {
			return s.Points[i].Value
		}
		return math.NaN()
	}
}

func order(p metric.Point, at time.Time) int { return p.At.Compare(at) }

// repeat is the last value before; before the first there is none.
func repeat(s Series) func(time.Time) float64 {
	return func(at time.Time) float64 {
		if i, _ := slices.BinarySearchFunc(s.Points, at, order); i > 0 {
			return s.Points[i-1].Value
		}
		return math.NaN()
	}
}

// linear lies on the line between the points on both sides; outside of all points there is none.
func linear(s Series) func(time.Time) float64 {
	return func(at time.Time) float64 {
		i, _ := slices.BinarySearchFunc(s.Points, at, order)
		if i == 0 || i == len(s.Points) {
			return math.NaN()
		}
		a, b := s.Points[i-1], s.Points[i]
		share := float64(at.Sub(a.At)) / float64(b.At.Sub(a.At))
		return a.Value + share*(b.Value-a.Value)
	}
}

// choose is IF: at each time the second value where the first is not 0, else the third, or no point without one.
func (s Scope) choose(condition Value, of []node) Value {
	yes, no := s.eval(of[0]), Value{Kind: Scalar, Number: math.NaN()}
	if len(of) > 1 {
		no = s.eval(of[1])
	}
	if condition.Kind == Scalar && yes.Kind == Scalar && no.Kind == Scalar {
		if math.IsNaN(condition.Number) {
			return condition
		}
		return map[bool]Value{true: yes, false: no}[condition.Number != 0]
	}
	// The times are those of the condition; of a number they are those of what it chooses from.
	times := condition
	if condition.Kind == Scalar {
		times = spread(yes, no)
	}
	when, then, otherwise := valueAt(condition), valueAt(yes), valueAt(no)
	return times.through(func(series Series) Series {
		var made Series
		for _, p := range series.Points {
			switch c := when(p.At); {
			case math.IsNaN(c):
			case c != 0:
				made.add(p.At, then(p.At))
			default:
				made.add(p.At, otherwise(p.At))
			}
		}
		return made
	})
}

// spread has the times of both values.
func spread(a, b Value) Value {
	return fold(list(slices.Concat(a.Series, b.Series)), sum)
}

// valueAt is the value at a time: a number is always the same.
func valueAt(v Value) func(time.Time) float64 {
	if v.Kind == Scalar {
		return func(time.Time) float64 { return v.Number }
	}
	return lookup(v.Series[0])
}
