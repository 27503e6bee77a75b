package history

import (
	"slices"
	"testing"
	"time"
)

const ms = time.Millisecond

// op is one operation from a to b, in milliseconds.
func op(id uint64, kind Kind, key, value string, a, b int, outcome Outcome) Op {
	o := Op{ID: id, Kind: kind, Key: key, Invoked: time.Duration(a) * ms, Returned: time.Duration(b) * ms, Outcome: outcome, Where: "primary"}
	if kind == Get || kind == Pop || kind == Incr {
		o.Result = value
	} else {
		o.Value = value
	}
	return o
}

func TestCheckFindsWhatWasAckedAndIsGone(t *testing.T) {
	for _, c := range []struct {
		name string
		ops  []Op
		data Data
		want Verdict
	}{
		{"the last acked value is there",
			[]Op{op(1, Set, "k", "a", 1, 2, OK), op(2, Set, "k", "b", 3, 4, OK)},
			Data{Registers: map[string]string{"k": "b"}}, Verdict{Acked: 2}},
		{"the last acked value is gone",
			[]Op{op(1, Set, "k", "a", 1, 2, OK), op(2, Set, "k", "b", 3, 4, OK)},
			Data{Registers: map[string]string{"k": "a"}}, Verdict{Acked: 2, Lost: 1}},
		{"everything is gone",
			[]Op{op(1, Set, "k", "a", 1, 2, OK), op(2, Set, "k", "b", 3, 4, OK)},
			Data{}, Verdict{Acked: 2, Lost: 2}},
		{"two writes at the same time: either may be last",
			[]Op{op(1, Set, "k", "a", 1, 5, OK), op(2, Set, "k", "b", 2, 4, OK)},
			Data{Registers: map[string]string{"k": "a"}}, Verdict{Acked: 2}},
		{"a write of unknown outcome may come late",
			[]Op{op(1, Set, "k", "a", 1, 2, Unknown), op(2, Set, "k", "b", 3, 4, OK)},
			Data{Registers: map[string]string{"k": "a"}}, Verdict{Acked: 1, Unknown: 1}},
		{"a refused write that is there",
			[]Op{op(1, Set, "k", "a", 1, 2, OK), op(2, Set, "k", "b", 3, 4, Error)},
			Data{Registers: map[string]string{"k": "b"}}, Verdict{Acked: 1, Errors: 1, Phantoms: 1}},
		{"a deleted register stays deleted",
			[]Op{op(1, Set, "k", "a", 1, 2, OK), op(2, Set, "k", "", 3, 4, OK)},
			Data{}, Verdict{Acked: 2}},
		{"pushed and there, pushed and popped",
			[]Op{op(1, Push, "q", "a", 1, 2, OK), op(2, Push, "q", "b", 1, 2, OK), op(3, Pop, "q", "a", 3, 4, OK)},
			Data{Lists: map[string][]string{"q": {"b"}}}, Verdict{Acked: 3}},
		{"pushed and gone",
			[]Op{op(1, Push, "q", "a", 1, 2, OK), op(2, Push, "q", "b", 1, 2, OK)},
			Data{Lists: map[string][]string{"q": {"b"}}}, Verdict{Acked: 2, Lost: 1}},
		{"a pop without an answer excuses one element, not two",
			[]Op{op(1, Push, "q", "a", 1, 2, OK), op(2, Push, "q", "b", 1, 2, OK), op(3, Pop, "q", "", 3, 9, Unknown)},
			Data{}, Verdict{Acked: 2, Unknown: 1, Lost: 1}},
		{"one push, two elements",
			[]Op{op(1, Push, "q", "a", 1, 2, OK)},
			Data{Lists: map[string][]string{"q": {"a", "a"}}}, Verdict{Acked: 1, Duplicated: 1}},
		{"popped twice",
			[]Op{op(1, Push, "q", "a", 1, 2, OK), op(2, Pop, "q", "a", 3, 4, OK), op(3, Pop, "q", "a", 5, 6, OK)},
			Data{}, Verdict{Acked: 3, Duplicated: 1}},
		{"increments: one is missing",
			[]Op{op(1, Incr, "n", "1", 1, 2, OK), op(2, Incr, "n", "2", 3, 4, OK), op(3, Incr, "n", "3", 5, 6, OK)},
			Data{Counters: map[string]int64{"n": 2}}, Verdict{Acked: 3, Lost: 1}},
		{"increments: an unknown one must not hide a lost one",
			[]Op{op(1, Incr, "n", "1", 1, 2, OK), op(2, Incr, "n", "", 3, 4, Unknown), op(3, Incr, "n", "1", 5, 6, OK)},
			Data{Counters: map[string]int64{"n": 2}}, Verdict{Acked: 2, Unknown: 1, Lost: 1}},
		{"increments: an unknown one that happened once",
			[]Op{op(1, Incr, "n", "1", 1, 2, OK), op(2, Incr, "n", "", 3, 4, Unknown)},
			Data{Counters: map[string]int64{"n": 2}}, Verdict{Acked: 1, Unknown: 1}},
		{"increments: replayed",
			[]Op{op(1, Incr, "n", "1", 1, 2, OK), op(2, Incr, "n", "3", 3, 4, OK)},
			Data{Counters: map[string]int64{"n": 3}}, Verdict{Acked: 2, Duplicated: 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := Check(&Log{c.ops}, c.data)
			if got.Acked != c.want.Acked || got.Errors != c.want.Errors || got.Unknown != c.want.Unknown ||
				got.Lost != c.want.Lost || got.Duplicated != c.want.Duplicated || got.Phantoms != c.want.Phantoms || got.StaleReads != 0 {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
			if (got.Lost > 0) != (len(got.LostExamples) > 0) {
				t.Errorf("%d lost, examples %q", got.Lost, got.LostExamples)
			}
		})
	}
}

func TestCheckFindsStaleReads(t *testing.T) {
	writes := []Op{op(1, Set, "k", "a", 10, 20, OK), op(2, Set, "k", "b", 30, 40, OK), op(3, Set, "k", "c", 45, 60, Unknown),
		op(4, Get, "k", "c", 65, 70, OK)}
	for _, c := range []struct {
		name string
		read Op
		want int
	}{
		{"before anything", op(9, Get, "k", "", 1, 5, OK), 0},
		{"the newest", op(9, Get, "k", "b", 41, 42, OK), 0},
		{"during the second write, the first value", op(9, Get, "k", "a", 35, 50, OK), 0},
		{"after the second write, the first value", op(9, Get, "k", "a", 41, 50, OK), 1},
		{"at the very moment of the ack", op(9, Get, "k", "a", 40, 50, OK), 0},
		{"nothing after an acked write", op(9, Get, "k", "", 21, 25, OK), 1},
		{"a write of unknown outcome may be seen at any time", op(9, Get, "k", "c", 90, 91, OK), 0},
		{"a value that nobody wrote", op(9, Get, "k", "z", 41, 42, OK), 1},
		{"older than what another read has shown already", op(9, Get, "k", "b", 71, 72, OK), 1},
		{"a read that failed says nothing", op(9, Get, "k", "a", 41, 50, Error), 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := Check(&Log{append(slices.Clone(writes), c.read)}, Data{Registers: map[string]string{"k": "b"}})
			if v.StaleReads != c.want || v.StaleByWhere["primary"] != c.want {
				t.Errorf("got %d stale reads, by endpoint %v; want %d", v.StaleReads, v.StaleByWhere, c.want)
			}
		})
	}
}

func TestGapsAreTheLongestTimesWithoutAnAnswer(t *testing.T) {
	ops := []Op{
		op(1, Set, "k", "a", 0, 10, OK), op(2, Get, "k", "a", 10, 20, OK), op(3, Set, "k", "b", 30, 200, OK),
		op(4, Set, "k", "c", 50, 60, Error), op(5, Get, "k", "b", 210, 220, OK), op(6, Set, "k", "d", 220, 230, Unknown),
	}
	w, r := Gaps(ops)
	if w != 190*ms || r != 200*ms {
		t.Errorf("write gap %v, read gap %v; want 190ms and 200ms", w, r)
	}
	if w, r := Gaps(ops[:1]); w != 10*ms || r != 0 {
		t.Errorf("only a write: %v, %v", w, r)
	}
	if w, _ := Gaps([]Op{op(1, Set, "k", "a", 0, 500, Error)}); w != 500*ms {
		t.Errorf("nothing was acked: the gap is %v, want the whole 500ms", w)
	}
}

// steady is one acked write every 10 ms from a to b.
func steady(a, b int) []Op {
	var ops []Op
	for t := a; t < b; t += 10 {
		ops = append(ops, op(uint64(1000+t), Set, "s", string(rune(t)), t, t+2, OK))
	}
	return ops
}

func TestRTOCountsHeldRequestsAsOutage(t *testing.T) {
	const fault = 1000 * ms
	for _, c := range []struct {
		name string
		ops  []Op
		want time.Duration
		ok   bool
	}{
		{"nothing was noticed", steady(0, 3000), 2 * ms, true},
		{"a gap", append(steady(0, 1000), steady(1300, 3000)...), 302 * ms, true},
		{"a request held across the gap, released late",
			append(append(steady(0, 1000), steady(1300, 3000)...), op(1, Get, "s", "", 1000, 1400, OK)), 402 * ms, true},
		{"an error half a second after the first ack starts the second again",
			append(append(steady(0, 1000), steady(1300, 4000)...), op(1, Get, "s", "", 1800, 1801, Error)), 802 * ms, true},
		{"no whole second was seen", append(steady(0, 1000), steady(1300, 2200)...), 0, false},
		{"a request that never ends", append(steady(0, 3000), op(1, Set, "s", "x", 1100, 0, Unknown)), 0, false},
		{"slow, within ten times the p99 before", append(steady(0, 3000), op(1, Get, "s", "", 1100, 1160, OK)), 2 * ms, true},
		{"slow, beyond it", append(steady(0, 3000), op(1, Get, "s", "", 1100, 1250, OK)), 252 * ms, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, ok := RTO(c.ops, fault, 10*ms)
			if got != c.want || ok != c.ok {
				t.Errorf("got %v, %v; want %v, %v", got, ok, c.want, c.ok)
			}
		})
	}
}

func TestP99LeavesOutTheSlowestHundredth(t *testing.T) {
	var ops []Op
	for i := range 100 {
		ops = append(ops, op(uint64(i), Set, "k", "", i*10, i*10+1, OK))
	}
	ops[7].Returned += 500 * ms
	if got := P99(ops, time.Hour); got != ms {
		t.Errorf("got %v, want 1ms", got)
	}
	if got := P99(ops, 0); got != 0 {
		t.Errorf("nothing before the start: got %v", got)
	}
}

func TestLinearizableRefusesWhatNoOrderExplains(t *testing.T) {
	good := []Op{
		op(1, Set, "k", "a", 0, 10, OK), op(2, Set, "k", "b", 5, 15, OK), op(3, Get, "k", "b", 20, 21, OK),
		op(4, Set, "k", "c", 30, 31, Unknown), op(5, Get, "k", "b", 40, 41, OK), op(6, Get, "k", "c", 50, 51, OK),
		op(7, Set, "k", "d", 60, 61, Error), op(8, Get, "k", "c", 70, 71, OK),
	}
	if key, ok := Linearizable(good); !ok {
		t.Errorf("refused at %s", key)
	}
	for name, bad := range map[string][]Op{
		"back in time":         {op(1, Set, "k", "a", 0, 1, OK), op(2, Set, "k", "b", 2, 3, OK), op(3, Get, "k", "a", 4, 5, OK)},
		"seen, then not seen":  {op(1, Set, "k", "a", 0, 99, OK), op(2, Get, "k", "a", 2, 3, OK), op(3, Get, "k", "", 4, 5, OK)},
		"a refused write seen": {op(1, Set, "k", "a", 0, 1, Error), op(2, Get, "k", "a", 2, 3, OK)},
	} {
		if _, ok := Linearizable(bad); ok {
			t.Errorf("%s: accepted", name)
		}
	}
}
