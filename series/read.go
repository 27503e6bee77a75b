package series

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"understudy/metric"
)

// sample is one slot of a metric.
type sample struct {
	parts   map[string]float64 // but for the value and the buckets
	value   float64
	valued  bool
	buckets *histogram.FloatHistogram
}

// key says whose samples: List and roll read many metrics at once.
type key struct{ id, unit string }

// samples are one metric's of one unit. Most are plain values, seen once: they stay in the order they were read in, and
// only what has more parts is put together by timestamp.
type samples struct {
	plain []stamped
	other map[int64]*sample
}

// stamped is a value and its timestamp, ms.
type stamped struct {
	at    int64
	value float64
}

// each calls f for each sample in the order of time.
func (s *samples) each(f func(at int64, s *sample)) {
	if len(s.other) > 0 {
		for _, p := range s.plain {
			o := s.at(p.at)
			o.value, o.valued = p.value, true
		}
		for _, at := range slices.Sorted(maps.Keys(s.other)) {
			f(at, s.other[at])
		}
		return
	}
	one := sample{valued: true}
	for _, p := range s.plain {
		one.value = p.value
		f(p.at, &one)
	}
}

func (s *samples) at(ms int64) *sample {
	if s.other == nil {
		s.other = map[int64]*sample{}
	}
	if s.other[ms] == nil {
		s.other[ms] = &sample{}
	}
	return s.other[ms]
}

// samples reads those from start until before end, ms, by metric.
func (g *grain) samples(ctx context.Context, start, end int64, which ...*labels.Matcher) (map[key]*samples, error) {
	q, err := g.Querier(start, end-1)
	if err != nil {
		return nil, err
	}
	defer q.Close()
	found := map[key]*samples{}
	all := q.Select(ctx, false, nil, which...)
	var it chunkenc.Iterator
	for all.Next() {
		series := all.At()
		l := series.Labels()
		if l.Get(labelPart) == partMark {
			continue
		}
		k := key{l.Get(labelID), l.Get(labelUnit)}
		if found[k] == nil {
			found[k] = &samples{}
		}
		it = series.Iterator(it)
		if err := found[k].gather(it, l.Get(labelPart)); err != nil {
			return nil, err
		}
	}
	return found, all.Err()
}

// gather adds one part. A metric and unit has one series of a part, whose samples come in the order of time.
func (s *samples) gather(it chunkenc.Iterator, part string) error {
	for kind := it.Next(); kind != chunkenc.ValNone; kind = it.Next() {
		if kind == chunkenc.ValFloatHistogram {
			at, buckets := it.AtFloatHistogram(nil)
			s.at(at).buckets = buckets
			continue
		}
		at, v := it.At()
		if part == partValue {
			s.plain = append(s.plain, stamped{at, v})
			continue
		}
		o := s.at(at)
		if o.parts == nil {
			o.parts = map[string]float64{}
		}
		o.parts[part] = v
	}
	return it.Err()
}

// count adds a sample to a tally. One that is not whole was being written when the process died: it was not taken.
func (s *sample) count(t *tally) {
	switch low, whole := s.parts[partLow]; {
	case s.valued:
		t.value(s.value, cmp.Or(s.parts[partWeight], 1))
	case !whole:
	case s.buckets != nil:
		t.buckets(s.buckets, low, s.parts[partHigh])
	case s.parts[partCount] > 0:
		t.set(metric.Set{Count: s.parts[partCount], Sum: s.parts[partSum], Min: low, Max: s.parts[partHigh]})
	}
}

// Points answers q. Where the unit is not asked for and a metric has several, each has points of its own. Periods of
// less than a minute are answered from data of a resolution of 1 s, which are kept for a day. A percentile is the
// least value that so many percent of the samples do not exceed: exact while seconds are kept and for what was
// published by the minute, and within 1.1 % of the value in minutes that seconds were rolled up to. The error wraps
// ErrQuery when the question is at fault.
func (s *Series) Points(ctx context.Context, q metric.Query) ([]metric.Point, error) {
	stat, err := statistic(q.Stat)
	if err != nil {
		return nil, fmt.Errorf("%w: %q is no statistic", ErrQuery, q.Stat)
	}
	if !metric.ValidPeriod(q.Period) || !q.End.After(q.Start) {
		return nil, fmt.Errorf("%w: a period of %v from %v to %v", ErrQuery, q.Period, q.Start, q.End)
	}
	// Percentiles alone need each value.
	tallies, err := s.tally(ctx, q, !metric.Percentile(q.Stat))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", q.ID, err)
	}
	var points []metric.Point
	for at, t := range tallies {
		if v, ok := stat(t); ok && t.Count > 0 {
			points = append(points, metric.Point{At: q.Start.Add(time.Duration(at.number) * q.Period), Value: v, Count: t.Count, Unit: at.unit})
		}
	}
	slices.SortFunc(points, func(a, b metric.Point) int { return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.Unit, b.Unit)) })
	return points, nil
}

// period is the number of a period of a query, and the unit.
type period struct {
	unit   string
	number int64
}

// tally counts each period's samples: minutes as far as they were rolled up, seconds from there.
func (s *Series) tally(ctx context.Context, q metric.Query, bare bool) (map[period]*tally, error) {
	rolled := s.rolled.Load()
	id := q.ID
	id.Dimensions = slices.Clone(id.Dimensions)
	id.Sort()
	which := []*labels.Matcher{equal(labelID, encode(id))}
	if q.Unit != "" {
		which = append(which, equal(labelUnit, q.Unit))
	}
	start, end := q.Start.UnixMilli(), q.End.UnixMilli()
	end = start + (end-start+q.Period.Milliseconds()-1)/q.Period.Milliseconds()*q.Period.Milliseconds()
	found := map[period]*tally{}
	read := func(g *grain, from int64, rolledTill int64) error {
		if from >= end {
			return nil
		}
		all, err := g.samples(ctx, from, end, which...)
		for k, of := range all {
			var p period
			var t *tally
			of.each(func(at int64, s *sample) {
				if at >= rolledTill && at%g.span == g.span-1 {
					return // rolled up since: its seconds are read
				}
				next := period{k.unit, (floor(at, g.span) - start) / q.Period.Milliseconds()}
				if t == nil || next != p {
					if p = next; found[p] == nil {
						found[p] = &tally{bare: bare}
					}
					t = found[p]
				}
				s.count(t)
			})
		}
		return err
	}
	if q.Period < time.Minute {
		return found, read(s.seconds, start, end)
	}
	if err := read(s.minutes, start, rolled); err != nil {
		return nil, err
	}
	return found, read(s.seconds, max(start, rolled), end)
}

// List returns the metrics that have data of the time that is kept.
func (s *Series) List(ctx context.Context, f metric.Filter) ([]metric.ID, error) {
	since := f.Since
	if since.IsZero() {
		since = time.Now().Add(-KeepStandard)
	}
	which := []*labels.Matcher{labels.MustNewMatcher(labels.MatchNotEqual, labelID, "")}
	if f.Namespace != "" {
		which = append(which, equal(labelNamespace, f.Namespace))
	}
	if f.Name != "" {
		which = append(which, equal(labelName, f.Name))
	}
	texts := map[string]bool{}
	for _, g := range []*grain{s.seconds, s.minutes} {
		if err := g.list(ctx, since.UnixMilli(), texts, which); err != nil {
			return nil, fmt.Errorf("list metrics: %w", err)
		}
	}
	ids := []metric.ID{}
	for text := range texts {
		if id, ok := decode(text); ok && has(id, f.Dimensions) {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, func(a, b metric.ID) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name),
			slices.CompareFunc(a.Dimensions, b.Dimensions, func(a, b metric.Dimension) int {
				return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Value, b.Value))
			}))
	})
	return ids, nil
}

// list adds the IDs of series that have a sample after since, ms.
func (g *grain) list(ctx context.Context, since int64, to map[string]bool, which []*labels.Matcher) error {
	q, err := g.Querier(since+1, time.Now().Add(2*mostFuture).UnixMilli())
	if err != nil {
		return err
	}
	defer q.Close()
	all := q.Select(ctx, false, nil, which...)
	var it chunkenc.Iterator
	for all.Next() {
		id := all.At().Labels().Get(labelID)
		if to[id] {
			continue
		}
		it = all.At().Iterator(it)
		to[id] = it.Next() != chunkenc.ValNone
		if !to[id] {
			delete(to, id)
		}
	}
	return all.Err()
}

func has(id metric.ID, wanted []metric.Dimension) bool {
	for _, w := range wanted {
		if !slices.ContainsFunc(id.Dimensions, func(d metric.Dimension) bool { return d.Name == w.Name && (w.Value == "" || d.Value == w.Value) }) {
			return false
		}
	}
	return true
}
