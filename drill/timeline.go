package drill

import (
	"cmp"
	"slices"
	"time"

	"understudy/history"
)

// timeline is the marks in order, counted from zero.
func (r *run) timeline(zero time.Duration) []Mark {
	r.mu.Lock()
	defer r.mu.Unlock()
	slices.SortStableFunc(r.marks, func(a, b mark) int { return cmp.Compare(a.at, b.at) })
	t := make([]Mark, len(r.marks))
	for i, m := range r.marks {
		t[i] = Mark{ms(m.at - zero), m.who, m.event}
	}
	return t
}

// markLane puts what a lane's clients saw into the timeline.
func (r *run) markLane(name string, entries []entry, f Figures, faultAt time.Duration) {
	who := name + " clients"
	if first, ok := firstAfter(entries, faultAt, entry.failed); ok {
		r.mark(first.Returned, who, "first error: %s", first.Failure)
	}
	if from, to, ended := longestGap(entries, faultAt, f.settledBy(faultAt)); to > from {
		r.mark(from, who, "last acked write before the failover's longest gap (%.1f ms)", ms(to-from))
		if ended {
			r.mark(to, who, "first acked write after it")
		}
	}
	if f.RTOMs != nil {
		r.mark(faultAt+time.Duration(*f.RTOMs*float64(time.Millisecond)), who, "recovered: a whole second without an error or a slow answer begins")
	}
}

func firstAfter(entries []entry, at time.Duration, is func(entry) bool) (first entry, ok bool) {
	for _, e := range entries {
		if e.Returned >= at && is(e) && (!ok || e.Returned < first.Returned) {
			first, ok = e, true
		}
	}
	return first, ok
}

// longestGap finds the longest time without an acked write among those that ended after the fault and
// began before until; ended is false when it lasted until the last operation.
func longestGap(entries []entry, faultAt, until time.Duration) (from, to time.Duration, ended bool) {
	var acks []time.Duration
	last := faultAt
	for _, e := range entries {
		last = max(last, e.Returned)
		if e.ackedWrite() {
			acks = append(acks, e.Returned)
		}
	}
	slices.Sort(acks)
	before := time.Duration(0)
	for _, at := range acks {
		if at >= faultAt && before > 0 && before < until && at-before > to-from {
			from, to, ended = before, at, true
		}
		before = at
	}
	if before > 0 && before < until && last-before > to-from {
		from, to, ended = before, last, false
	}
	return from, to, ended
}

// plotBucket is the width of a column: about fifty operations at the default rate.
const plotBucket = 20 * time.Millisecond

// plot is what the report draws, by the time at which operations ended.
type plot struct {
	BucketMs float64    `json:"bucket_ms"`
	Lanes    []plotLane `json:"lanes"`
}

type plotLane struct {
	Name    string       `json:"name"`
	Buckets []plotColumn `json:"buckets"`
}

// plotColumn counts the operations that ended in one bucket; latencies are 0 when there were none.
type plotColumn struct {
	Writes  int     `json:"w"`
	Reads   int     `json:"r"`
	Errors  int     `json:"e"`
	Unknown int     `json:"u"`
	P50Ms   float64 `json:"p50"`
	P99Ms   float64 `json:"p99"`
	MaxMs   float64 `json:"max"`
}

func (p *plot) add(name string, entries []entry, from, duration time.Duration) {
	p.BucketMs = ms(plotBucket)
	columns := make([]plotColumn, int(duration/plotBucket)+1)
	latencies := make([][]time.Duration, len(columns))
	for _, e := range entries {
		i := int((e.Returned - from) / plotBucket)
		if e.Invoked < from || i >= len(columns) {
			continue
		}
		c := &columns[i]
		switch {
		case e.unknown():
			c.Unknown++
		case e.failed():
			c.Errors++
		case e.ackedWrite():
			c.Writes++
		case e.Kind == history.Get:
			c.Reads++
		}
		if o, ok := asWaited(e.Op); ok && e.Kind != history.Pop {
			latencies[i] = append(latencies[i], o.Returned-o.Invoked)
		}
	}
	for i, l := range latencies {
		if len(l) > 0 {
			slices.Sort(l)
			columns[i].P50Ms, columns[i].P99Ms, columns[i].MaxMs = ms(l[len(l)/2]), ms(l[(len(l)*99+99)/100-1]), ms(l[len(l)-1])
		}
	}
	p.Lanes = append(p.Lanes, plotLane{name, columns})
}
