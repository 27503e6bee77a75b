package drill

import (
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"understudy/history"
)

// steady is a load of one write a millisecond, from 1 s on, that the given rules may spoil.
func steady(until time.Duration, spoil func(*entry)) []entry {
	var entries []entry
	for at := time.Second; at < until; at += time.Millisecond {
		e := entry{Op: history.Op{
			ID: uint64(len(entries) + 1), Kind: history.Set, Key: "k" + at.String(), Value: "v",
			Invoked: at, Returned: at + 200*time.Microsecond, Outcome: history.OK, Where: wherePrimary,
		}}
		if spoil != nil {
			spoil(&e)
		}
		entries = append(entries, e)
	}
	return entries
}

func survived(entries []entry) history.Data {
	d := history.Data{Registers: map[string]string{}}
	for _, e := range entries {
		d.Registers[e.Key] = e.Value
	}
	return d
}

func TestJudge(t *testing.T) {
	rto := 40.0
	slow := 900.0
	good := observation{
		faultHappened: true, changed: true, mustChange: true, recorded: steady(6*time.Second, nil),
		loadFrom: time.Second, faultAt: 3 * time.Second, rate: 1000, figures: Figures{RTOMs: &rto},
		thresholds: Thresholds{RTOMs: 500}, audit: []NodeAudit{{Node: "main-001", CaughtUp: true}}, redundant: true, patience: time.Second,
	}
	for _, c := range []struct {
		name   string
		change func(*observation)
		want   Verdict
		reason string
	}{
		{"all well", func(*observation) {}, Pass, ""},
		{"unknown outcomes are no errors", func(o *observation) { o.figures.Unknown = 3 }, Pass, ""},
		{"errors up to the threshold", func(o *observation) { o.figures.Errors, o.thresholds.MaxErrors = 2, 2 }, Pass, ""},
		{"a replica's death changes no primary", func(o *observation) { o.changed, o.mustChange = false, false }, Pass, ""},
		{"too slow", func(o *observation) { o.figures.RTOMs = &slow }, Fail, "rto 900.0 ms is over 500 ms"},
		{"never", func(o *observation) { o.figures.RTOMs = nil }, Fail, "did not recover"},
		{"lost", func(o *observation) { o.figures.Lost = 1 }, Fail, "1 acked writes were lost"},
		{"error", func(o *observation) { o.figures.Errors = 1 }, Fail, "1 errors"},
		{"twice", func(o *observation) { o.figures.Duplicated = 1 }, Fail, "twice"},
		{"refused and there", func(o *observation) { o.figures.Phantoms = 1 }, Fail, "refused and took effect"},
		{"stale", func(o *observation) { o.figures.StaleReads = 1 }, Fail, "stale"},
		{"a node is missing", func(o *observation) { o.redundant = false }, Fail, "not all nodes came back"},
		{"a replica lacks writes", func(o *observation) { o.audit = []NodeAudit{{Node: "main-003", CaughtUp: true, Lost: 4}} }, Fail, "4 acked writes are absent from the data of main-003"},
		{"a replica never caught up", func(o *observation) { o.audit = []NodeAudit{{Node: "main-003", Reason: "late"}} }, Fail, "could not be checked: late"},
		{"no fault", func(o *observation) { o.faultHappened, o.whyNot = false, "no such pid" }, Inconclusive, "no such pid"},
		{"nothing followed", func(o *observation) { o.changed = false }, Inconclusive, "epoch is the same"},
		{"sick before", func(o *observation) { o.recorded = slices.Clone(o.recorded); o.recorded[5].Failure = "EOF" }, Inconclusive, "failed before the fault"},
		{"hardly any load", func(o *observation) { o.recorded = o.recorded[1990:] }, Inconclusive, "only 10 writes"},
		{"a starved load", func(o *observation) { o.rate = 10_000 }, Inconclusive, "too busy"},
		{"lost and inconclusive", func(o *observation) { o.changed, o.figures.Lost = false, 1 }, Inconclusive, "epoch"},
	} {
		o := good
		c.change(&o)
		verdict, reasons := judge(o)
		if verdict != c.want || !strings.Contains(strings.Join(reasons, "\n"), c.reason) || (c.want == Pass) != (len(reasons) == 0) {
			t.Errorf("%s: %s %q, want %s with %q", c.name, verdict, reasons, c.want, c.reason)
		}
	}
}

func TestFiguresSeeTheOutageAndNothingElse(t *testing.T) {
	fault := 3 * time.Second
	entries := steady(6*time.Second, func(e *entry) {
		// Held for 120 ms and answered together; before it, the machine itself stood still for 300 ms.
		if e.Invoked >= fault && e.Invoked < fault+120*time.Millisecond {
			e.Returned = fault + 120*time.Millisecond
		}
		if e.Invoked >= 2*time.Second && e.Invoked < 2300*time.Millisecond {
			e.Returned = 2300 * time.Millisecond
		}
	})
	f := figuresOf(entries, time.Second, fault, survived(entries))
	near := func(name string, got, want float64) {
		if got < want-2 || got > want+2 {
			t.Errorf("%s is %.1f ms, want about %.0f", name, got, want)
		}
	}
	near("failover gap", f.FailoverGapMs, 120)
	near("write gap", f.WriteGapMs, 300)
	if f.Lost != 0 || f.Errors != 0 || f.Acked != len(entries) || f.RTOMs == nil {
		t.Errorf("figures %+v", f)
	}
}

func TestFiguresCountWhatIsGone(t *testing.T) {
	entries := steady(6*time.Second, nil)
	data := survived(entries)
	for _, e := range entries[:7] {
		delete(data.Registers, e.Key)
	}
	f := figuresOf(entries, time.Second, 3*time.Second, data)
	if f.Lost != 7 || f.RPOWrites != 7 || len(f.Examples) == 0 {
		t.Errorf("lost %d, rpo %d, examples %q; want 7 and some", f.Lost, f.RPOWrites, f.Examples)
	}
}

func TestABrpopThatWaitsIsNoOutage(t *testing.T) {
	entries := append(steady(6*time.Second, nil),
		entry{Op: history.Op{ID: 90_001, Kind: history.Pop, Key: "q", Invoked: 3 * time.Second, Returned: 4 * time.Second, Outcome: history.OK}},
		entry{Op: history.Op{ID: 90_002, Kind: history.Pop, Key: "q", Invoked: 4 * time.Second, Returned: 5 * time.Second, Outcome: history.OK}})
	f := figuresOf(entries, time.Second, 3*time.Second, survived(entries))
	if f.RTOMs == nil || *f.RTOMs > 2 || f.Acked != len(entries)-2 {
		t.Errorf("rto %s, acked %d of %d; an empty BRPOP was taken for a slow write", formatFigure(f.RTOMs), f.Acked, len(entries)-2)
	}
}

// replyError is an error that the server replied with, as the client library marks it.
type replyError string

func (e replyError) Error() string { return string(e) }
func (replyError) RedisError()     {}

func TestClassifySaysWhatTheClientKnows(t *testing.T) {
	for _, c := range []struct {
		kind    history.Kind
		err     error
		outcome history.Outcome
		failed  bool
		unknown bool
	}{
		{history.Set, nil, history.OK, false, false},
		{history.Set, replyError("READONLY You can't write against a read only replica."), history.Error, true, false},
		{history.Set, replyError("TRYAGAIN no primary"), history.Error, true, false},
		{history.Incr, replyError("UNKNOWN the outcome of this command is not known"), history.Unknown, false, true},
		{history.Set, io.EOF, history.Unknown, true, false},
		{history.Get, io.EOF, history.Error, true, false},
		{history.Set, &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}, history.Error, true, false},
		{history.Set, errTwice, history.Unknown, true, false},
	} {
		e := entry{Op: history.Op{Kind: c.kind}}
		e.Outcome, e.Failure, e.Replied = classify(c.kind, c.err)
		if e.Outcome != c.outcome || e.failed() != c.failed || e.unknown() != c.unknown {
			t.Errorf("%s, %v: %s, failed %v, unknown %v", c.kind, c.err, e.Outcome, e.failed(), e.unknown())
		}
	}
}

func TestUnpackKnowsAReplyOfAnotherKey(t *testing.T) {
	if v, err := unpack("a", pack("a", "1.2")); v != "1.2" || err != nil {
		t.Errorf("unpack: %q, %v", v, err)
	}
	for _, stored := range []string{pack("b", "1.2"), "a|1", ""} {
		if _, err := unpack("a", stored); !errors.Is(err, errForeign) {
			t.Errorf("unpack %q: %v, want errForeign", stored, err)
		}
	}
}

func TestEachProductHasOneWriter(t *testing.T) {
	l := &lane{workload: mixes["mixed"], writers: 8, prefix: "p:"}
	owner := map[int]int{}
	for id := l.workload.consumers(l.writers); id < l.writers; id++ {
		w := newWorker(l, id, 0)
		for range 500 {
			n := w.ownProduct()
			if was, taken := owner[n]; n >= products || taken && was != id {
				t.Fatalf("product %d is written by %d and by %d", n, was, id)
			}
			owner[n] = id
		}
	}
	if len(owner) != products {
		t.Errorf("%d of %d products are ever written", len(owner), products)
	}
}

func TestLatencyBucketsHoldTheirDurations(t *testing.T) {
	for d := time.Duration(4); d < time.Minute; d += d/7 + 1 {
		b := latencyBucket(d)
		if top := bucketTop(b); d > top || float64(top) > 1.26*float64(d) {
			t.Fatalf("%v is in bucket %d up to %v", d, b, top)
		}
	}
}
