package metricmath

import (
	"math"
	"slices"
	"strings"
	"time"

	"understudy/metric"
)

// Series are the points of a metric or an expression, oldest first, one a period at most.
type Series struct {
	ID     string // of the line that asked for it
	Period time.Duration
	Points []metric.Point
}

// Value is a number, or series: one, or as many as a list has.
type Value struct {
	Kind   Kind
	Number float64 // of a Scalar; NaN when there is none: the sum of no points, or 1/0
	Series []Series
}

// Scope is what an expression sees.
type Scope struct {
	Start, End time.Time        // whole periods: FILL fills between them
	Metrics    []Series         // of the request, not its expressions: what METRICS() returns
	Values     map[string]Value // by id: metrics and expressions
}

// Eval computes the expression. Its kind must have been found good by Kind, with the ids of the scope.
func (e *Expression) Eval(s Scope) Value { return s.eval(e.root) }

func scalar(v float64) Value  { return Value{Kind: Scalar, Number: finite(v)} }
func truth(b bool) float64    { return map[bool]float64{true: 1}[b] }
func one(s Series) Value      { return Value{Kind: One, Series: []Series{s}} }
func list(all []Series) Value { return Value{Kind: Many, Series: all} }

// finite makes NaN of what is no number: such a point is left out.
func finite(v float64) float64 {
	if math.IsInf(v, 0) {
		return math.NaN()
	}
	return v
}

func (s Scope) eval(n node) Value {
	switch n.op {
	case "number":
		return scalar(n.number)
	case "id":
		return s.Values[n.name]
	case "negative":
		return s.eval(n.args[0]).each(func(v float64) float64 { return -v })
	case "array":
		var all []Series
		for _, a := range n.args {
			all = append(all, s.eval(a).Series...)
		}
		return list(all)
	case "call":
		return s.call(n)
	}
	return join(s.eval(n.args[0]), s.eval(n.args[1]), binary[n.op])
}

var binary = map[string]func(a, b float64) float64{
	"+":   func(a, b float64) float64 { return a + b },
	"-":   func(a, b float64) float64 { return a - b },
	"*":   func(a, b float64) float64 { return a * b },
	"/":   func(a, b float64) float64 { return a / b },
	"^":   math.Pow,
	"==":  func(a, b float64) float64 { return truth(a == b) },
	"!=":  func(a, b float64) float64 { return truth(a != b) },
	"<":   func(a, b float64) float64 { return truth(a < b) },
	"<=":  func(a, b float64) float64 { return truth(a <= b) },
	">":   func(a, b float64) float64 { return truth(a > b) },
	">=":  func(a, b float64) float64 { return truth(a >= b) },
	"AND": func(a, b float64) float64 { return truth(a != 0 && b != 0) },
	"OR":  func(a, b float64) float64 { return truth(a != 0 || b != 0) },
}

// join computes two values point by point. A number meets every point of a series; two series meet where both have a
// point; each of a list meets the other value. A number that is none makes everything none, also of a comparison.
func join(a, b Value, f func(a, b float64) float64) Value {
	g := func(x, y float64) float64 {
		if math.IsNaN(x) || math.IsNaN(y) {
			return math.NaN()
		}
		return f(x, y)
	}
	switch {
	case a.Kind == Scalar && b.Kind == Scalar:
		return scalar(g(a.Number, b.Number))
	case a.Kind == Scalar:
		return b.each(func(v float64) float64 { return g(a.Number, v) })
	case b.Kind == Scalar:
		return a.each(func(v float64) float64 { return g(v, b.Number) })
	case a.Kind == Many:
		return a.through(func(s Series) Series { return meet(s, b.Series[0], g) })
	case b.Kind == Many:
		return b.through(func(s Series) Series { return meet(a.Series[0], s, g) })
	}
	return one(meet(a.Series[0], b.Series[0], g))
}

// meet joins two series on their times.
func meet(a, b Series, f func(a, b float64) float64) Series {
	joined := Series{Period: a.Period}
	for i, j := 0, 0; i < len(a.Points) && j < len(b.Points); {
		switch p, q := a.Points[i], b.Points[j]; p.At.Compare(q.At) {
		case -1:
			i++
		case 1:
			j++
		default:
			joined.add(p.At, f(p.Value, q.Value))
			i, j = i+1, j+1
		}
	}
	return joined
}

func (s *Series) add(at time.Time, v float64) {
	if v = finite(v); !math.IsNaN(v) {
		s.Points = append(s.Points, metric.Point{At: at, Value: v})
	}
}

// through makes a series of each.
func (v Value) through(f func(Series) Series) Value {
	made := Value{Kind: v.Kind}
	for _, s := range v.Series {
		m := f(s)
		m.ID, m.Period = s.ID, s.Period
		made.Series = append(made.Series, m)
	}
	return made
}

// each computes a value of each number.
func (v Value) each(f func(float64) float64) Value {
	if v.Kind == Scalar {
		return scalar(f(v.Number))
	}
	return v.through(func(s Series) Series {
		var made Series
		for _, p := range s.Points {
			made.add(p.At, f(p.Value))
		}
		return made
	})
}

func (s Scope) call(n node) Value {
	if n.name == "METRICS" {
		return s.metrics(n.args)
	}
	a := s.eval(n.args[0])
	switch n.name {
	case "ABS":
		return a.each(math.Abs)
	case "CEIL":
		return a.each(math.Ceil)
	case "FLOOR":
		return a.each(math.Floor)
	case "DIFF":
		return a.through(func(s Series) Series { return change(s, func(v, _ float64) float64 { return v }) })
	case "RATE":
		return a.through(func(s Series) Series { return change(s, func(v, seconds float64) float64 { return v / seconds }) })
	case "PERIOD":
		return scalar(a.Series[0].Period.Seconds())
	case "FILL":
		return s.fill(a, n.args[1])
	case "IF":
		return s.choose(a, n.args[1:])
	}
	return fold(a, folds[n.name])
}

// metrics are the request's own, or those whose id contains a text.
func (s Scope) metrics(args []node) Value {
	var all []Series
	for _, m := range s.Metrics {
		if len(args) == 0 || strings.Contains(m.ID, args[0].name) {
			all = append(all, m)
		}
	}
	return list(all)
}

// change makes a point of each two that follow one another.
func change(s Series, f func(v, seconds float64) float64) Series {
	var made Series
	for i := 1; i < len(s.Points); i++ {
		p, before := s.Points[i], s.Points[i-1]
		made.add(p.At, f(p.Value-before.Value, p.At.Sub(before.At).Seconds()))
	}
	return made
}

var folds = map[string]func([]float64) float64{
	"SUM": sum,
	"AVG": func(all []float64) float64 { return sum(all) / float64(len(all)) },
	"MIN": slices.Min[[]float64],
	"MAX": slices.Max[[]float64],
	"STDDEV": func(all []float64) float64 {
		mean := sum(all) / float64(len(all))
		squares := 0.0
		for _, v := range all {
			squares += (v - mean) * (v - mean)
		}
		return math.Sqrt(squares / float64(len(all)))
	},
}

func sum(all []float64) float64 {
	total := 0.0
	for _, v := range all {
		total += v
	}
	return total
}

// fold makes a number of a series, and of a list the series of what its members have at each time; of nothing it is
// none.
func fold(v Value, f func([]float64) float64) Value {
	if v.Kind == One {
		var all []float64
		for _, p := range v.Series[0].Points {
			all = append(all, p.Value)
		}
		if len(all) == 0 {
			return Value{Kind: Scalar, Number: math.NaN()}
		}
		return scalar(f(all))
	}
	at := map[int64][]float64{}
	var made Series
	for _, s := range v.Series {
		made.Period = s.Period
		for _, p := range s.Points {
			at[p.At.UnixNano()] = append(at[p.At.UnixNano()], p.Value)
		}
	}
	times := make([]int64, 0, len(at))
	for t := range at {
		times = append(times, t)
	}
	slices.Sort(times)
	for _, t := range times {
		made.add(time.Unix(0, t).UTC(), f(at[t]))
	}
	return one(made)
}
