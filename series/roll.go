package series

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"understudy/metric"
)

const (
	// rollAfter is how long a minute is over before it is rolled up. What comes later is kept twice, so that it counts.
	rollAfter = 2 * time.Minute
	// rollStep bounds what is read at once after a time of being down.
	rollStep = 10 * time.Minute
)

// roll puts the seconds of every minute that is over among the minutes. A crash in it does no harm: the same samples
// are written to the same timestamps again.
func (s *Series) roll(ctx context.Context, now time.Time) error {
	until := floor(now.Add(-rollAfter).UnixMilli(), 60_000)
	for ctx.Err() == nil {
		done, err := s.rollOne(ctx, until)
		if done || err != nil {
			return err
		}
	}
	return nil
}

func (s *Series) rollOne(ctx context.Context, until int64) (done bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	from := s.rolled.Load()
	if from >= until {
		return true, nil
	}
	end := min(from+rollStep.Milliseconds(), until)
	all, err := s.seconds.samples(ctx, from, end, labels.MustNewMatcher(labels.MatchNotEqual, labelID, ""))
	if err != nil {
		return false, err
	}
	b := s.minutes.begin(ctx)
	for k, samples := range all {
		if err := b.roll(k, samples); err != nil {
			return false, errors.Join(fmt.Errorf("roll up %s: %w", k.id, err), b.Rollback())
		}
	}
	if err := b.commit(); err != nil {
		return false, err
	}
	// The mark is the end of it, in a commit of its own.
	m := s.minutes.begin(ctx)
	if _, err := m.Append(0, labels.FromStrings(labelPart, partMark), end, 1); err != nil {
		return false, errors.Join(err, m.Rollback())
	}
	if err := m.commit(); err != nil {
		return false, err
	}
	s.rolled.Store(end)
	s.forget(end)
	return false, nil
}

// roll writes one metric's minutes.
func (b *batch) roll(k key, of *samples) error {
	id, ok := decode(k.id)
	if !ok {
		return nil
	}
	minutes := map[int64]*tally{}
	of.each(func(at int64, s *sample) {
		m := floor(at, b.span)
		if minutes[m] == nil {
			minutes[m] = &tally{}
		}
		s.count(minutes[m])
	})
	for _, m := range slices.Sorted(maps.Keys(minutes)) {
		if err := b.rollMinute(id, k, m+b.span-1, minutes[m]); err != nil {
			return err
		}
	}
	return nil
}

// rollMinute writes what a minute came to: one value if all are the same, a statistic set if no values are known, else
// buckets.
func (b *batch) rollMinute(id metric.ID, k key, at int64, t *tally) error {
	put := func(part string, v float64) error { return b.part(id, k.id, k.unit, part, at, v) }
	switch {
	case t.Count == 0:
		return nil
	case t.Min == t.Max && math.Abs(t.Sum-t.Min*t.Count) <= 1e-9*math.Abs(t.Sum):
		return errors.Join(put(partValue, t.Min), put(partWeight, t.Count))
	case t.blind:
		return errors.Join(put(partCount, t.Count), put(partSum, t.Sum), put(partLow, t.Min), put(partHigh, t.Max))
	}
	_, err := b.AppendHistogram(0, describe(id, k.id, k.unit, partBuckets), at, nil, t.histogram())
	return errors.Join(err, put(partLow, t.Min), put(partHigh, t.Max))
}

// forget drops what is known of metrics that nobody has written for a while.
func (s *Series) forget(before int64) {
	for _, g := range []*grain{s.seconds, s.minutes} {
		maps.DeleteFunc(g.next, func(_ string, c cursor) bool { return c.span < before-time.Hour.Milliseconds() })
	}
}

// mark is how far roll had come, ms. Where it has not been yet, it begins with what a day ago was.
func (s *Series) mark() (int64, error) {
	now := time.Now()
	newest := floor(now.Add(-KeepHigh).UnixMilli(), 60_000)
	q, err := s.minutes.Querier(newest, now.UnixMilli())
	if err != nil {
		return 0, err
	}
	defer q.Close()
	all := q.Select(context.Background(), false, nil, equal(labelPart, partMark))
	for all.Next() {
		it := all.At().Iterator(nil)
		for it.Next() != chunkenc.ValNone {
			newest = max(newest, it.AtT())
		}
		if err := it.Err(); err != nil {
			return 0, err
		}
	}
	return newest, all.Err()
}
