package monitor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"understudy/cluster"
	"understudy/metric"
)

type discard struct{}

func (discard) Write(context.Context, []metric.Datum) error { return nil }

// ledger keeps what is written, and when.
type ledger struct {
	mu   sync.Mutex
	data []metric.Datum
	late []string // data that came after the second, or minute, that they are of
}

func (l *ledger) Write(_ context.Context, data []metric.Datum) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, d := range data {
		end := d.At.Truncate(time.Minute).Add(time.Minute)
		if d.High {
			end = d.At.Truncate(time.Second).Add(time.Second)
		}
		if time.Now().After(end) {
			l.late = append(l.late, fmt.Sprint(d.ID, d.At))
		}
	}
	l.data = append(l.data, data...)
	return nil
}

// fickle keeps nothing in the first seconds, and is slow in one later.
type fickle struct{ n int }

func (f *fickle) Write(context.Context, []metric.Datum) error {
	switch f.n++; {
	case f.n <= 3:
		return errors.New("the disk is full")
	case f.n == 5:
		time.Sleep(2500 * time.Millisecond)
	}
	return nil
}

// A writer that fails, or is slow, is counted and ends nothing; the log says it once.
func TestLooksGoOnWhenNothingCanBeKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		f := &fickle{}
		c, err := New(Options{Groups: func() []Group { return []Group{{Status: cluster.Status{Group: "main"}}} }, Writer: f, Logger: slog.New(slog.NewTextHandler(&log, nil))})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if err := c.Run(ctx); err != nil {
			t.Fatal(err)
		}
		unkept, missed := testutil.ToFloat64(c.metrics.unkept), testutil.ToFloat64(c.metrics.missed)
		if unkept != 3 || missed != 2 || f.n != 8 || strings.Count(log.String(), "disk is full") != 1 {
			t.Errorf("%v unkept, %v missed, %d writes; log:\n%s", unkept, missed, f.n, log.String())
		}
	})
}

// machine is one whose CPU is busy for a quarter of the time.
func machine() func() (busy, all float64, ok bool) {
	all := 0.0
	return func() (float64, float64, bool) { all += 400; return all / 4, all, true }
}

// Whoever evaluates alarms when a second or a minute is over finds its points.
func TestPointsAreThereBeforeTheirTimeIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(17 * time.Millisecond) // some phase
		l := &ledger{}
		group := Group{Status: cluster.Status{Group: "main", Epoch: 1}}
		c, err := New(Options{Groups: func() []Group { return []Group{group} }, Writer: l})
		if err != nil {
			t.Fatal(err)
		}
		c.host.stat = machine()
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
		defer cancel()
		if err := c.Run(ctx); err != nil {
			t.Fatal(err)
		}
		seconds, minutes := map[time.Time]int{}, map[time.Time]int{}
		for _, d := range l.data {
			switch d.ID.Name {
			case "PrimaryPresent":
				seconds[d.At.Truncate(time.Second)]++
			case "CPUUtilization":
				minutes[d.At]++
			}
		}
		if len(l.late) > 0 || len(seconds) != 180 || len(minutes) != 3 {
			t.Errorf("late: %v; %d seconds, %d minutes of three", l.late, len(seconds), len(minutes))
		}
		for at, n := range minutes {
			if n != 1 || at.Truncate(time.Minute) != at {
				t.Errorf("%d at %v", n, at)
			}
		}
	})
}

// The figures of a group hold all its nodes, whoever leads, and a server that hangs takes nothing from the others.
func TestGroupFiguresGoOnWhileAServerHangs(t *testing.T) {
	one, two, three := startServer(t, "main-001"), startServer(t, "main-002"), startServer(t, "main-003")
	two.follow(one)
	three.follow(one)
	w := watchServers(t, one, two, three)
	calm := w.look()
	same(t, calm, "group ReplicationLag", "[7 7]")
	same(t, calm, "group LinksDown", "[0]")
	same(t, calm, "main-003 LinkUp", "[1]")

	three.signal(syscall.SIGSTOP)
	t.Cleanup(func() { three.signal(syscall.SIGCONT) })
	began := time.Now()
	hung := w.look()
	if took := time.Since(began); took > publishWithin+phase/2 {
		t.Errorf("a look at a server that hangs took %v", took)
	}
	same(t, hung, "group ReplicationLag", "[7]")
	same(t, hung, "group LinksDown", "[1]")
	same(t, hung, "main-002 LinkUp", "[1]")
	same(t, hung, "main-003 LinkUp", "[]")
	w.look()
	three.signal(syscall.SIGCONT)
	three.until("it is looked at over a new connection", func() bool { return fmt.Sprint(w.look()["group LinksDown"]) == "[0]" })
	if n := testutil.ToFloat64(w.c.metrics.unanswered); n < 1 {
		t.Errorf("%v questions were not answered", n)
	}

	two.do("REPLICAOF", "127.0.0.1", "1")
	down := w.look()
	same(t, down, "group ReplicationLag", "[7]")
	same(t, down, "group LinksDown", "[1]")
	same(t, down, "main-002 LinkUp", "[0]")
	same(t, down, "main-002 ReplicationLag", "[]")
}

// What a node answers too late for its second is published with the next look, for the second that it is of; the minute's
// figures, too.
func TestAnAnswerThatIsLateIsNotLost(t *testing.T) {
	one, two := startServer(t, "main-001"), startServer(t, "main-002")
	two.follow(one)
	w := watchServers(t, one, two)
	w.minute()
	two.do("GET", "none")
	two.signal(syscall.SIGSTOP)
	t.Cleanup(func() { two.signal(syscall.SIGCONT) })
	same(t, w.minute(), "group CacheMisses", "[0]")
	late := w.at
	two.signal(syscall.SIGCONT)
	next := w.look()
	same(t, next, "group CacheMisses", "[1]")
	same(t, next, "aws main-002 CacheMisses", "[1]")
	var seconds []time.Time
	for _, d := range w.data {
		if d.ID.Name == table[linkUp].name {
			seconds = append(seconds, d.At)
		}
	}
	if len(seconds) != 2 || !seconds[0].Equal(late) || !seconds[1].Equal(w.at) {
		t.Errorf("LinkUp is of %v, want %v and %v", seconds, late, w.at)
	}
}

// A restart drops a node's counters, and a change of roles those of both; a group's go on with the rest.
func TestCountersOfARealServerThatRestartsAreDropped(t *testing.T) {
	one, two := startServer(t, "main-001"), startServer(t, "main-002")
	two.follow(one)
	w := watchServers(t, one, two)
	w.c.host.stat = machine()
	one.do("CONFIG", "SET", "maxmemory", "100mb")
	w.minute()
	one.do("SET", "k", "v")
	one.do("GET", "k")
	two.do("GET", "none")
	first := w.minute()
	same(t, first, "aws main-001 CacheHits", "[1]")
	same(t, first, "aws main-002 CacheMisses", "[1]")
	same(t, first, "group CacheHits", "[1 0]")
	same(t, first, "group CacheHitRate", "[50]")
	for _, name := range []string{"EngineCPUUtilization", "CurrConnections"} {
		if n := len(first["group "+name]); n != 2 {
			t.Errorf("the group has %d values of %s: %v", n, name, first["group "+name])
		}
	}
	same(t, first, "group CPUUtilization", "[25]")
	for _, name := range []string{"DatabaseMemoryUsagePercentage", "SuccessfulWriteRequestLatency"} {
		if len(first["group "+name]) == 0 {
			t.Errorf("the group has no value of %s", name)
		}
	}
	one.do("GET", "k")
	one.signal(syscall.SIGSTOP) // counters outlive a second without an answer
	w.look()
	one.signal(syscall.SIGCONT)
	one.until("it is looked at over a new connection", func() bool { return fmt.Sprint(w.look()["group PrimariesCounted"]) == "[1]" })
	same(t, w.minute(), "aws main-001 CacheHits", "[1]")
	two.kill()
	two.start()
	two.follow(one)
	w.look() // its connection is gone
	one.do("GET", "k")
	restarted := w.minute()
	same(t, restarted, "aws main-002 CacheMisses", "[]")
	same(t, restarted, "group CacheHits", "[1]")
	same(t, restarted, "group CacheHitRate", "[100]")
	same(t, w.minute(), "group CacheHits", "[0 0]")

	two.do("REPLICAOF", "NO", "ONE")
	one.follow(two)
	w.group.Status.Primary = two.id
	swapped := w.minute()
	same(t, swapped, "group CacheHits", "[]")
	same(t, swapped, "group LinksDown", "[0]")
	same(t, swapped, "aws main-002 IsMaster", "[1]")
	same(t, swapped, "aws main-001 ReplicationLag", "[0.007]")
	two.do("GET", "k")
	same(t, w.minute(), "group CacheHits", "[0 1]")
	if strings.Contains(fmt.Sprint(w.c.groups), "main-") {
		t.Error("a node is taken for a group")
	}
}
