package history

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"
)

// maxExamples bounds the examples in a Verdict: they are for a person to start from.
const maxExamples = 10

// Verdict counts what Check found.
type Verdict struct {
	Acked   int // writes that were answered with OK
	Errors  int // operations that were refused
	Unknown int // operations whose outcome the client does not know

	Lost       int // acked writes that are absent from the surviving data, and that nothing newer replaced
	Duplicated int // effects that are there more often than they were asked for
	Phantoms   int // refused writes that are there all the same
	StaleReads int // reads that returned an older value than a write acked, or read, before they began

	StaleByWhere map[string]int // StaleReads by endpoint
	LostExamples []string       // at most 10, in the order of the keys
	Examples     []string       // of the other findings, at most 10
}

// Clean reports whether nothing was lost, doubled, raised from the dead or read stale.
func (v Verdict) Clean() bool {
	return v.Lost == 0 && v.Duplicated == 0 && v.Phantoms == 0 && v.StaleReads == 0
}

// Check compares a Log with the data that survived it. A write of unknown outcome excuses its own
// presence and its own absence, and nothing else.
func Check(l *Log, surviving Data) Verdict {
	v := Verdict{StaleByWhere: map[string]int{}}
	keys := map[string]*keyOps{}
	for _, o := range l.Ops {
		v.count(o)
		k := keys[o.Key]
		if k == nil {
			k = &keyOps{}
			keys[o.Key] = k
		}
		k.add(o)
	}
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		k := keys[key]
		if len(k.sets)+len(k.gets) > 0 {
			v.register(key, k, surviving.Registers[key])
		}
		if len(k.pushes)+len(k.pops) > 0 {
			v.list(key, k, surviving.Lists[key])
		}
		if len(k.incrs) > 0 {
			v.counter(key, k, surviving.Counters[key])
		}
	}
	return v
}

// keyOps are the operations on one key.
type keyOps struct{ sets, gets, pushes, pops, incrs []Op }

func (k *keyOps) add(o Op) {
	switch o.Kind {
	case Set:
		k.sets = append(k.sets, o)
	case Get:
		k.gets = append(k.gets, o)
	case Push:
		k.pushes = append(k.pushes, o)
	case Pop:
		k.pops = append(k.pops, o)
	case Incr:
		k.incrs = append(k.incrs, o)
	default:
		panic(fmt.Sprintf("history: unknown kind %q of operation %d", o.Kind, o.ID))
	}
}

func (v *Verdict) count(o Op) {
	switch {
	case o.Outcome == Error:
		v.Errors++
	case o.Outcome == Unknown:
		v.Unknown++
	case o.Kind.Writes():
		v.Acked++
	}
}

// register: a register's last value must not be older than any acked write of it.
func (v *Verdict) register(key string, k *keyOps, value string) {
	writes := map[string]Op{}
	for _, w := range k.sets {
		writes[w.Value] = w
	}
	from, known := writes[value]
	if known && from.Outcome == Error {
		v.Phantoms++
		v.note("%s holds %q, which was refused (operation %d)", key, value, from.ID)
	}
	for _, w := range k.sets {
		if w.Outcome == OK && older(from, known, w) {
			v.Lost++
			v.lost("%s=%q, acked at %v (operation %d): the surviving value is %q", key, w.Value, w.Returned, w.ID, value)
		}
	}
	newest := newestBefore(append(witnesses(k.gets, writes), k.sets...))
	for _, r := range k.gets {
		if r.Outcome != OK {
			continue
		}
		w, any := newest(r.Invoked)
		if !any {
			continue
		}
		from, known := writes[r.Result]
		if older(from, known, w) {
			v.StaleReads++
			v.StaleByWhere[r.Where]++
			v.note("%s at %v on %s read %q (operation %d), %q had been acked or read at %v", key, r.Invoked, r.Where, r.Result, r.ID, w.Value, w.Returned)
		}
	}
}

// older reports whether a value that came from the write from is surely older than w: from had ended
// before w began, or it is no write of the log at all (the value from before).
func older(from Op, known bool, w Op) bool {
	if !known {
		return true
	}
	return from.ID != w.ID && from.end() < w.Invoked
}

// witnesses are the writes that reads have shown: from when such a read has ended no other may show
// anything older, acked or not.
func witnesses(gets []Op, writes map[string]Op) []Op {
	var seen []Op
	for _, r := range gets {
		if w, known := writes[r.Result]; known && r.Outcome == OK {
			w.Outcome, w.Returned = OK, r.Returned
			seen = append(seen, w)
		}
	}
	return seen
}

// newestBefore returns a lookup: among the acked writes that had returned before a time, the one
// that began last. Any other acked write of that time is no sharper a witness of staleness.
func newestBefore(sets []Op) func(time.Duration) (Op, bool) {
	var acked []Op
	for _, w := range sets {
		if w.Outcome == OK {
			acked = append(acked, w)
		}
	}
	slices.SortFunc(acked, func(a, b Op) int { return int(min(1, max(-1, a.Returned-b.Returned))) })
	best := make([]Op, len(acked)) // best[i]: the one that began last among acked[:i+1]
	for i, w := range acked {
		if i > 0 && best[i-1].Invoked > w.Invoked {
			w = best[i-1]
		}
		best[i] = w
	}
	return func(at time.Duration) (Op, bool) {
		i, _ := slices.BinarySearchFunc(acked, at, func(w Op, at time.Duration) int {
			if w.Returned < at {
				return -1
			}
			return 1
		})
		if i == 0 {
			return Op{}, false
		}
		return best[i-1], true
	}
}

// list: each acked push is in the list or was popped, once.
func (v *Verdict) list(key string, k *keyOps, have []string) {
	seen := map[string]int{}
	for _, e := range have {
		seen[e]++
	}
	maybePopped := 0
	for _, p := range k.pops {
		switch {
		case p.Outcome == Unknown:
			maybePopped++
		case p.Outcome == OK && p.Result != "":
			seen[p.Result]++
		}
	}
	for _, p := range k.pushes {
		n := seen[p.Value]
		switch {
		case n > 1:
			v.Duplicated += n - 1
			v.note("%s: %q is there %d times (operation %d)", key, p.Value, n, p.ID)
		case n == 1 && p.Outcome == Error:
			v.Phantoms++
			v.note("%s: %q is there and was refused (operation %d)", key, p.Value, p.ID)
		case n == 0 && p.Outcome == OK && maybePopped > 0:
			maybePopped-- // a pop whose answer was lost may have taken it
		case n == 0 && p.Outcome == OK:
			v.Lost++
			v.lost("%s: %q, acked at %v (operation %d)", key, p.Value, p.Returned, p.ID)
		}
	}
}

// counter: no acked increment is missing, and no answer was given twice.
func (v *Verdict) counter(key string, k *keyOps, have int64) {
	var acked, unknown, twice int64
	answers := map[int64]bool{}
	for _, o := range k.incrs {
		switch o.Outcome {
		case Unknown:
			unknown++
		case OK:
			acked++
			n, err := strconv.ParseInt(o.Result, 10, 64)
			if err != nil {
				continue // the client did not keep the answer
			}
			if answers[n] {
				twice++ // what the first of them added is gone
			}
			answers[n] = true
		}
	}
	if lost := max(acked-have, twice); lost > 0 {
		v.Lost += int(lost)
		v.lost("%s is %d after %d acked increments; %d answers came twice", key, have, acked, twice)
	}
	if more := have - acked - unknown; more > 0 {
		v.Duplicated += int(more)
		v.note("%s is %d after %d acked increments and %d of unknown outcome", key, have, acked, unknown)
	}
}

func (v *Verdict) lost(format string, args ...any) {
	if len(v.LostExamples) < maxExamples {
		v.LostExamples = append(v.LostExamples, fmt.Sprintf(format, args...))
	}
}

func (v *Verdict) note(format string, args ...any) {
	if len(v.Examples) < maxExamples {
		v.Examples = append(v.Examples, fmt.Sprintf(format, args...))
	}
}
