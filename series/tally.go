package series

import (
	"cmp"
	"math"
	"slices"

	"github.com/prometheus/prometheus/model/histogram"

	"understudy/metric"
)

// weighted is a value that was seen n times.
type weighted struct{ v, n float64 }

// tally is what is known of all samples of a period.
type tally struct {
	metric.Set
	values []weighted
	bare   bool // values are not kept: no percentile will be asked
	blind  bool // a statistic set is among them that says nothing of its values: there are no percentiles
}

func (t *tally) extend(s metric.Set) {
	if t.Count == 0 {
		t.Min, t.Max = s.Min, s.Max
	}
	t.Count += s.Count
	t.Sum += s.Sum
	t.Min, t.Max = min(t.Min, s.Min), max(t.Max, s.Max)
}

func (t *tally) value(v, n float64) {
	t.extend(metric.Set{Count: n, Sum: v * n, Min: v, Max: v})
	t.keep(v, n)
}

func (t *tally) keep(v, n float64) {
	if !t.bare {
		t.values = append(t.values, weighted{v, n})
	}
}

func (t *tally) set(s metric.Set) {
	t.extend(s)
	if s.Min != s.Max {
		t.blind = true
		return
	}
	t.keep(s.Min, s.Count)
}

// buckets adds a minute that was rolled up. A bucket's samples count as its middle, which is at most 1.1 % away.
func (t *tally) buckets(h *histogram.FloatHistogram, low, high float64) {
	t.extend(metric.Set{Count: h.Count, Sum: h.Sum, Min: low, Max: high})
	if t.bare {
		return
	}
	if h.ZeroCount > 0 {
		t.keep(0, h.ZeroCount)
	}
	side := func(spans []histogram.Span, counts []float64, sign float64) {
		index := int32(0)
		for _, s := range spans {
			index += s.Offset
			for range s.Length {
				if n := counts[0]; n > 0 {
					t.keep(min(max(sign*middle(index), low), high), n)
				}
				counts = counts[1:]
				index++
			}
		}
	}
	side(h.PositiveSpans, h.PositiveBuckets, 1)
	side(h.NegativeSpans, h.NegativeBuckets, -1)
}

// schema divides each power of two into 2^5 buckets, so that their bounds are 2.2 % apart.
const (
	schema    = 5
	perDouble = 1 << schema
)

// bucket is the index of the bucket of v > 0: (2^((i-1)/32), 2^(i/32)].
func bucket(v float64) int32 { return int32(math.Ceil(math.Log2(v) * perDouble)) }

func middle(index int32) float64 { return math.Exp2((float64(index) - 0.5) / perDouble) }

// zero: what is nearer to 0 than this counts as 0; Prometheus's own default.
var zero = math.Ldexp(1, -128)

// histogram is the tally in buckets: the form in which percentiles outlive the seconds.
func (t *tally) histogram() *histogram.FloatHistogram {
	h := &histogram.FloatHistogram{CounterResetHint: histogram.GaugeType, Schema: schema, ZeroThreshold: zero, Count: t.Count, Sum: t.Sum}
	above, below := map[int32]float64{}, map[int32]float64{}
	for _, w := range t.values {
		switch {
		case math.Abs(w.v) <= zero:
			h.ZeroCount += w.n
		case w.v > 0:
			above[bucket(w.v)] += w.n
		default:
			below[bucket(-w.v)] += w.n
		}
	}
	h.PositiveSpans, h.PositiveBuckets = spans(above)
	h.NegativeSpans, h.NegativeBuckets = spans(below)
	return h
}

// spans are the runs of buckets that have samples, and their counts.
func spans(counts map[int32]float64) (runs []histogram.Span, all []float64) {
	indexes := make([]int32, 0, len(counts))
	for i := range counts {
		indexes = append(indexes, i)
	}
	slices.Sort(indexes)
	next := int32(0)
	for _, i := range indexes {
		if len(runs) == 0 || i != next {
			runs = append(runs, histogram.Span{Offset: i - next})
		}
		runs[len(runs)-1].Length++
		all = append(all, counts[i])
		next = i + 1
	}
	return runs, all
}

// statistic reads a Query's Stat.
func statistic(name string) (func(*tally) (float64, bool), error) {
	p, ok := metric.ParseStat(name)
	if !ok {
		return nil, ErrQuery
	}
	switch name {
	case "SampleCount":
		return func(t *tally) (float64, bool) { return t.Count, true }, nil
	case "Sum":
		return func(t *tally) (float64, bool) { return t.Sum, true }, nil
	case "Average":
		return func(t *tally) (float64, bool) { return t.Sum / t.Count, true }, nil
	case "Minimum":
		return func(t *tally) (float64, bool) { return t.Min, true }, nil
	case "Maximum":
		return func(t *tally) (float64, bool) { return t.Max, true }, nil
	}
	return func(t *tally) (float64, bool) { return t.percentile(p) }, nil
}

// percentile is the least value that the fraction p of the samples do not exceed.
func (t *tally) percentile(p float64) (float64, bool) {
	if t.blind || len(t.values) == 0 {
		return 0, false
	}
	slices.SortFunc(t.values, func(a, b weighted) int { return cmp.Compare(a.v, b.v) })
	total := 0.0
	for _, w := range t.values {
		total += w.n
	}
	rank, seen := p*total, 0.0
	for _, w := range t.values {
		// Counts add up with an error of rounding.
		if seen += w.n; seen >= rank*(1-1e-12) {
			return w.v, true
		}
	}
	return t.values[len(t.values)-1].v, true
}
