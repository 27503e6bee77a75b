package drill

import (
	"fmt"
	"slices"
	"time"

	"understudy/history"
)

// observation is all that the verdict rests on.
type observation struct {
	faultHappened bool
	whyNot        string // when it did not
	changed       bool   // the epoch has grown since before the fault
	mustChange    bool
	recorded      []entry // of the lane that is judged
	loadFrom      time.Duration
	faultAt       time.Duration
	rate          int
	figures       Figures
	thresholds    Thresholds
	audit         []NodeAudit
	redundant     bool     // all nodes are ready again
	silent        []string // alarms that must have fired, and did not
	patience      time.Duration
}

// Least load before the fault, and the part of the wanted rate that must have been reached: below,
// the figures would be about a starved workload and not about the group. A small machine that is
// busy otherwise still reaches a quarter.
const (
	leastAckedBefore = 100
	leastRate        = 0.25
)

// judge weighs an observation. What makes it inconclusive comes first: a figure that broke its
// threshold before anything was broken on purpose says nothing about a failover.
func judge(o observation) (Verdict, []string) {
	if why := inconclusive(o); len(why) > 0 {
		return Inconclusive, why
	}
	if why := broken(o); len(why) > 0 {
		return Fail, why
	}
	return Pass, []string{}
}

func inconclusive(o observation) (why []string) {
	if !o.faultHappened {
		return []string{"the fault was not injected: " + o.whyNot}
	}
	if o.mustChange && !o.changed {
		why = append(why, "the fault was injected, and no change of primary followed: the epoch is the same")
	}
	acked, ops, failed := 0, 0, 0
	for _, e := range o.recorded {
		if e.Returned >= o.faultAt {
			continue
		}
		ops++
		if e.ackedWrite() {
			acked++
		}
		if e.Failure != "" {
			failed++
		}
	}
	seconds := (o.faultAt - o.loadFrom).Seconds()
	switch {
	case failed > 0:
		why = append(why, fmt.Sprintf("%d operations failed before the fault: the group was not well", failed))
	case acked < leastAckedBefore:
		why = append(why, fmt.Sprintf("only %d writes were acked before the fault, fewer than %d", acked, leastAckedBefore))
	case float64(ops) < leastRate*seconds*float64(o.rate):
		why = append(why, fmt.Sprintf("the load reached %.0f of %d ops/s before the fault: this machine is too busy", float64(ops)/seconds, o.rate))
	}
	return why
}

func broken(o observation) (why []string) {
	f, t := o.figures, o.thresholds
	add := func(cond bool, format string, args ...any) {
		if cond {
			why = append(why, fmt.Sprintf(format, args...))
		}
	}
	add(f.RTOMs == nil, "clients did not recover within the run")
	add(f.RTOMs != nil && *f.RTOMs > t.RTOMs, "rto %.1f ms is over %.0f ms", value(f.RTOMs), t.RTOMs)
	add(f.Lost > t.RPOWrites, "%d acked writes were lost, %d may be", f.Lost, t.RPOWrites)
	add(f.Duplicated > 0, "%d writes took effect twice", f.Duplicated)
	add(f.Phantoms > 0, "%d writes were refused and took effect", f.Phantoms)
	add(f.Errors > t.MaxErrors, "clients saw %d errors, %d may be seen", f.Errors, t.MaxErrors)
	add(f.StaleReads > 0, "%d reads were stale where none may be", f.StaleReads)
	add(!o.redundant, "not all nodes came back within the run and %v more", o.patience)
	for _, name := range o.silent {
		add(true, "the alarm %s did not fire within the run and %v more", name, alarmsWithin)
	}
	for _, n := range o.audit {
		add(!n.CaughtUp, "the data of %s could not be checked: %s", n.Node, n.Reason)
		add(n.CaughtUp && n.Lost > t.RPOWrites, "%d acked writes are absent from the data of %s", n.Lost, n.Node)
	}
	return why
}

func value(f *float64) float64 {
	if f == nil {
		return 0
	}
	return *f
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func msPtr(d time.Duration) *float64 { v := ms(d); return &v }

// figuresOf counts what a lane's clients saw. loadFrom is when the load began: the catalogue was
// written before.
func figuresOf(entries []entry, loadFrom, faultAt time.Duration, surviving history.Data) Figures {
	f := Figures{ErrorTexts: map[string]int{}}
	var timed, paced []history.Op
	log := history.Log{Ops: make([]history.Op, 0, len(entries))}
	for _, e := range entries {
		log.Add(e.Op)
		f.count(e)
		if e.Invoked < loadFrom {
			continue
		}
		if o, ok := asWaited(e.Op); ok {
			timed = append(timed, o)
		}
		if e.Kind != history.Pop {
			paced = append(paced, e.Op)
		}
	}
	v := history.Check(&log, surviving)
	f.Lost, f.RPOWrites, f.Duplicated, f.Phantoms = v.Lost, v.Lost, f.Duplicated+v.Duplicated, v.Phantoms
	f.ReaderStaleReads = v.StaleByWhere[whereReader]
	f.StaleReads = v.StaleReads - f.ReaderStaleReads
	f.Examples = append(slices.Clone(v.LostExamples), v.Examples...)

	w, r := history.Gaps(timed)
	f.WriteGapMs, f.ReadGapMs = ms(w), ms(r)
	p99 := history.P99(paced, faultAt)
	f.P50Ms, f.P99Ms = ms(median(paced, faultAt)), ms(p99)
	if rto, ok := history.RTO(timed, faultAt, p99); ok {
		f.RTOMs = msPtr(rto)
	}
	from, to, _ := longestGap(entries, faultAt, f.settledBy(faultAt))
	f.FailoverGapMs = ms(to - from)
	return f
}

// settledBy is when the failover was over for these clients: never, if they did not recover.
func (f Figures) settledBy(faultAt time.Duration) time.Duration {
	if f.RTOMs == nil {
		return 1<<63 - 1
	}
	return faultAt + time.Duration(*f.RTOMs*float64(time.Millisecond)) + history.Settled
}

// maxErrorTexts bounds the table of errors; what comes after it is counted together.
const maxErrorTexts = 16

func (f *Figures) count(e entry) {
	f.Operations++
	switch {
	case e.Failure == errTwice.Error():
		f.Duplicated++
	case e.unknown():
		f.Unknown++
	case e.failed():
		f.Errors++
	case e.ackedWrite():
		f.Acked++
	case e.Kind == history.Get:
		f.Reads++
	}
	if e.Failure == "" {
		return
	}
	text := e.Failure
	if _, known := f.ErrorTexts[text]; !known && len(f.ErrorTexts) >= maxErrorTexts {
		text = "others"
	}
	f.ErrorTexts[text]++
}

// asWaited makes an operation fit for the figures of time: a BRPOP waits by design, so its latency
// says nothing, and one that found nothing acked nothing.
func asWaited(o history.Op) (history.Op, bool) {
	if o.Kind == history.Pop && o.Outcome == history.OK {
		if o.Result == "" {
			return o, false
		}
		o.Invoked = o.Returned
	}
	return o, true
}

func median(ops []history.Op, before time.Duration) time.Duration {
	var l []time.Duration
	for _, o := range ops {
		if d, ended := o.Latency(); ended && o.Outcome == history.OK && o.Returned < before {
			l = append(l, d)
		}
	}
	if len(l) == 0 {
		return 0
	}
	slices.Sort(l)
	return l[len(l)/2]
}
