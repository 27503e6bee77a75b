package history

import (
	"cmp"
	"slices"
	"time"
)

// Settled is how long everything must go well before a group counts as recovered, and SlowFactor
// and SlowFloor what "well" allows: the definition of rto_ms.
const (
	Settled    = time.Second
	SlowFactor = 10
	SlowFloor  = 50 * time.Millisecond
)

// Gaps returns the longest times without an acked write and without an answered read, between the
// first operation's start and the last one's end. A gap is 0 when there was no such operation.
func Gaps(ops []Op) (writeGap, readGap time.Duration) {
	if len(ops) == 0 {
		return 0, 0
	}
	first, last := ops[0].Invoked, time.Duration(0)
	var writes, reads []time.Duration
	anyWrite, anyRead := false, false
	for _, o := range ops {
		first, last = min(first, o.Invoked), max(last, o.Invoked, o.Returned)
		write := o.Kind.Writes()
		anyWrite, anyRead = anyWrite || write, anyRead || !write
		switch {
		case o.Outcome != OK:
		case write:
			writes = append(writes, o.Returned)
		default:
			reads = append(reads, o.Returned)
		}
	}
	if anyWrite {
		writeGap = longest(first, last, writes)
	}
	if anyRead {
		readGap = longest(first, last, reads)
	}
	return writeGap, readGap
}

func longest(first, last time.Duration, at []time.Duration) time.Duration {
	slices.Sort(at)
	gap, before := time.Duration(0), first
	for _, t := range append(at, last) {
		gap, before = max(gap, t-before), t
	}
	return gap
}

// RTO is the time from the fault to the first acked write after which, for one whole second, every
// operation of every client succeeded, and within max(50 ms, 10 × p99Before). An operation that was
// under way at any moment of that second counts: a held request is an outage too. It is false when
// no such second was seen in full.
func RTO(ops []Op, fault, p99Before time.Duration) (time.Duration, bool) {
	allowed := max(SlowFloor, SlowFactor*p99Before)
	var acks []time.Duration
	var bad []Op
	last := time.Duration(0)
	for _, o := range ops {
		last = max(last, o.Invoked, o.Returned)
		latency, ended := o.Latency()
		switch {
		case o.Outcome != OK || !ended || latency > allowed:
			if !ended {
				o.Returned = forever
			}
			bad = append(bad, o)
		}
		if o.Outcome == OK && o.Kind.Writes() && o.Returned >= fault {
			acks = append(acks, o.Returned)
		}
	}
	slices.Sort(acks)
	slices.SortFunc(bad, func(a, b Op) int { return cmp.Compare(a.Invoked, b.Invoked) })
	next, badUntil := 0, time.Duration(-1)
	for _, ack := range acks {
		if ack+Settled > last {
			return 0, false
		}
		for next < len(bad) && bad[next].Invoked < ack+Settled {
			badUntil = max(badUntil, bad[next].Returned)
			next++
		}
		if badUntil <= ack {
			return ack - fault, true
		}
	}
	return 0, false
}

// P99 is the 99th percentile of the latencies of the operations that ended well before the given
// time; 0 when there was none.
func P99(ops []Op, before time.Duration) time.Duration {
	var l []time.Duration
	for _, o := range ops {
		if d, ended := o.Latency(); ended && o.Outcome == OK && o.Returned < before {
			l = append(l, d)
		}
	}
	if len(l) == 0 {
		return 0
	}
	slices.Sort(l)
	return l[(len(l)*99+99)/100-1]
}
