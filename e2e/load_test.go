package e2e

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"understudy/history"
)

// The load's size: eight clients at up to 200 operations a second each keep two cores free for the
// group, and ack a write about every millisecond.
const (
	loadPace     = 5 * time.Millisecond
	loadCounters = 4
	loadQueue    = "queue"
	sessionUses  = 8 // operations on one session, then the visitor is gone
)

// load is an application: clients with one connection each and no retries, that record what they saw.
type load struct {
	t       *testing.T
	at      place
	first   int           // the number of its first client
	pace    time.Duration // between two operations of a client
	workers []*worker
	running sync.WaitGroup
	stop    context.CancelFunc
	acked   atomic.Int64
	newest  [visitors]atomic.Uint64 // the open session of each visitor
}

// place is where an application runs, and what it connects to.
type place struct {
	zone *Zone // nil: beside the test
	addr string
}

// began is when the clock of all histories was zero: loads in several places are judged together.
var began = time.Now()

// loads counts the loads of this run: no two clients share a number, nor a value.
var loads atomic.Int32

// visitors is how many clients of a load have sessions.
const visitors = 3

// worker is one client.
type worker struct {
	*load
	id      int
	visitor int
	c       *redis.Client
	ctx     context.Context
	seq     uint64
	log     history.Log
	errors  []string // what the client was told, -UNKNOWN left out
	unknown []string // names of the operations that -UNKNOWN answered
}

// startLoad puts a mixed load on the primary endpoint until judge is called.
func startLoad(t *testing.T, addr string) *load {
	t.Helper()
	return startLoadAt(t, place{addr: addr}, []func(*worker){
		(*worker).visit, (*worker).visit, (*worker).visit, (*worker).share, (*worker).share,
		(*worker).count, (*worker).push, (*worker).pop,
	})
}

// startLoadAt starts one client for each of the steps, which it repeats.
func startLoadAt(t *testing.T, at place, steps []func(*worker)) *load {
	t.Helper()
	return startLoadPaced(t, at, loadPace, steps)
}

func startLoadPaced(t *testing.T, at place, pace time.Duration, steps []func(*worker)) *load {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{t: t, at: at, pace: pace, stop: cancel, first: int(loads.Add(1)) * 1000}
	for i, step := range steps {
		w := &worker{load: l, id: l.first + i, visitor: i % visitors, c: at.client(t), ctx: ctx}
		l.workers = append(l.workers, w)
		l.running.Go(func() { w.run(step) })
	}
	t.Cleanup(func() { cancel(); l.running.Wait() })
	return l
}

func (w *worker) run(step func(*worker)) {
	pace := time.NewTicker(w.pace)
	defer pace.Stop()
	for {
		select {
		case <-w.ctx.Done():
			return
		case <-pace.C:
			step(w)
		}
	}
}

// visit writes sessions and reads them back, the own one and those of other visitors.
func (w *worker) visit() {
	number := w.newest[w.visitor].Load()
	if w.seq%sessionUses == 0 || number == 0 {
		w.set(w.session(w.visitor, number+1))
		w.newest[w.visitor].Store(number + 1)
		return
	}
	switch w.seq % 3 {
	case 0:
		w.set(w.session(w.visitor, number))
	case 1:
		w.get(w.session(w.visitor, number))
	default:
		other := (w.visitor + 1) % visitors
		w.get(w.session(other, w.newest[other].Load()))
	}
}

// session is a key that only the clients of this load use.
func (w *worker) session(visitor int, number uint64) string {
	return fmt.Sprintf("session:%d:%d:%d", w.first, visitor, number)
}

// share writes and reads registers that two clients share; each lasts for some dozens of operations,
// so that all orders of them can be searched.
func (w *worker) share() {
	key := fmt.Sprintf("shared:%d", w.now()/(200*time.Millisecond))
	if w.seq%2 == 0 {
		w.set(key)
		return
	}
	w.get(key)
}

func (w *worker) count() {
	key := fmt.Sprintf("counter:%d:%d", w.first, w.seq%loadCounters)
	w.do(history.Op{Kind: history.Incr, Key: key}, func(context.Context) (string, error) {
		n, err := w.c.Incr(background, key).Result()
		return strconv.FormatInt(n, 10), err
	})
}

func (w *worker) push() {
	value := w.value()
	w.do(history.Op{Kind: history.Push, Key: loadQueue, Value: value}, func(context.Context) (string, error) {
		return "", w.c.LPush(background, loadQueue, value).Err()
	})
}

func (w *worker) pop() {
	w.do(history.Op{Kind: history.Pop, Key: loadQueue}, func(context.Context) (string, error) {
		both, err := w.c.BRPop(background, time.Second, loadQueue).Result()
		if err != nil {
			return "", err
		}
		return both[1], nil
	})
}

func (w *worker) set(key string) {
	value := w.value()
	w.do(history.Op{Kind: history.Set, Key: key, Value: value}, func(context.Context) (string, error) {
		return "", w.c.Set(background, key, value, 0).Err()
	})
}

func (w *worker) get(key string) {
	w.do(history.Op{Kind: history.Get, Key: key}, func(context.Context) (string, error) {
		return w.c.Get(background, key).Result()
	})
}

// background bounds nothing: operations end by the client's own timeouts, as an application's do.
var background = context.Background()

// value is one that nobody else writes.
func (w *worker) value() string { return fmt.Sprintf("%d-%d", w.id, w.seq) }

func (l *load) now() time.Duration { return time.Since(began) }

// do carries out one operation and records it.
func (w *worker) do(o history.Op, call func(context.Context) (string, error)) {
	o.Client, o.ID, o.Where, o.Invoked = w.id, uint64(w.id)<<32|w.seq, "primary", w.now()
	w.seq++
	result, err := call(w.ctx)
	o.Returned, o.Outcome = w.now(), history.OK
	var told redis.Error
	switch {
	case err == nil:
		o.Result = result
	case errors.Is(err, redis.Nil):
	case strings.HasPrefix(err.Error(), "TRYAGAIN") && o.Kind == history.Set:
		// docs/errors.md: what may be repeated may have been carried out when this is told.
		o.Outcome = history.Unknown
		w.errors = append(w.errors, fmt.Sprintf("%s %s at %v: %v", o.Kind, o.Key, o.Returned, err))
	case strings.HasPrefix(err.Error(), "UNKNOWN"):
		o.Outcome = history.Unknown
		w.unknown = append(w.unknown, string(o.Kind))
	default:
		w.errors = append(w.errors, fmt.Sprintf("%s %s at %v: %v", o.Kind, o.Key, o.Returned, err))
		o.Outcome = history.Error
		var broken *net.OpError
		if o.Kind.Writes() && !errors.As(err, &told) && !(errors.As(err, &broken) && broken.Op == "dial") {
			o.Outcome = history.Unknown // the connection broke: nobody knows
		}
	}
	if counts(o) {
		w.acked.Add(1)
	}
	w.log.Add(o)
}

// counts reports whether the operation is an acked write by which outages are measured. A pop waits
// for others, so it says nothing.
func counts(o history.Op) bool {
	return o.Kind.Writes() && o.Kind != history.Pop && o.Outcome == history.OK
}

// waitAcked waits until n more writes have been acked.
func (l *load) waitAcked(n int64) {
	l.t.Helper()
	want := l.acked.Load() + n
	eventually(l.t, fmt.Sprintf("%d more acked writes", n), func() error {
		if have := l.acked.Load(); have < want {
			return fmt.Errorf("%d are missing", want-have)
		}
		return nil
	})
}

// judgement is what the clients of one or several loads saw.
type judgement struct {
	history.Verdict
	told    []string // errors, -UNKNOWN left out
	unknown []string // operations that -UNKNOWN answered
	ops     []history.Op
}

// judge ends the load, waits until every node is ready, and demands that nothing was lost and that no
// client was told an error.
func (l *load) judge(g *Group) judgement {
	l.t.Helper()
	l.end()
	g.WaitAvailable()
	j := judgeAt(l.t, l.at, l)
	j.demandNoError(l.t)
	return j
}

// end ends the load: its clients have their last answers when it returns.
func (l *load) end() {
	l.stop()
	l.running.Wait()
}

// ops are what the load's clients did; it has ended.
func (l *load) ops() []history.Op {
	var all history.Log
	for _, w := range l.workers {
		all.Join(&w.log)
	}
	return all.Ops
}

// judgeAt compares what the ended loads saw with the data that is to be had at a place, and demands that
// nothing acked is lost, nothing is there twice and no read was stale.
func judgeAt(t *testing.T, at place, loads ...*load) judgement {
	t.Helper()
	j := gather(t, at, loads...)
	if !j.Clean() {
		t.Errorf("lost %d, duplicated %d, phantoms %d, stale %d: %v %v",
			j.Lost, j.Duplicated, j.Phantoms, j.StaleReads, j.LostExamples, j.Examples)
	}
	var registers []history.Op
	for _, o := range j.ops {
		if strings.HasPrefix(o.Key, "shared:") {
			registers = append(registers, o)
		}
	}
	if key, ok := history.Linearizable(registers); !ok {
		t.Errorf("%s is not linearizable", key)
	}
	return j
}

// gather is judgeAt without a demand.
func gather(t *testing.T, at place, loads ...*load) judgement {
	t.Helper()
	var j judgement
	for _, l := range loads {
		j.ops = append(j.ops, l.ops()...)
		for _, w := range l.workers {
			j.told = append(j.told, w.errors...)
			j.unknown = append(j.unknown, w.unknown...)
		}
	}
	j.Verdict = history.Check(&history.Log{Ops: j.ops}, surviving(t, at, j.ops))
	t.Logf("%d operations, %d acked writes; errors %d, lost %d, duplicated %d, stale %d; unknown %d %v",
		len(j.ops), j.Acked, len(j.told), j.Lost, j.Duplicated, j.StaleReads, len(j.unknown), j.unknown)
	return j
}

// demandNoError demands that the clients were told nothing but -UNKNOWN.
func (j judgement) demandNoError(t *testing.T) {
	t.Helper()
	if len(j.told) > 0 {
		t.Errorf("clients saw %d errors: %s", len(j.told), strings.Join(j.told[:min(10, len(j.told))], "\n"))
	}
}

// surviving reads what is there of everything that was written.
func surviving(t *testing.T, at place, ops []history.Op) history.Data {
	t.Helper()
	c := at.client(t)
	d := history.Data{Registers: map[string]string{}, Lists: map[string][]string{}, Counters: map[string]int64{}}
	for _, o := range ops {
		var err error
		switch o.Kind {
		case history.Set, history.Get:
			if _, known := d.Registers[o.Key]; !known {
				d.Registers[o.Key], err = c.Get(background, o.Key).Result()
			}
		case history.Push, history.Pop:
			if _, known := d.Lists[o.Key]; !known {
				d.Lists[o.Key], err = c.LRange(background, o.Key, 0, -1).Result()
			}
		case history.Incr:
			if _, known := d.Counters[o.Key]; !known {
				d.Counters[o.Key], err = c.Get(background, o.Key).Int64()
			}
		}
		if err != nil && !errors.Is(err, redis.Nil) {
			t.Fatalf("read back %s: %v", o.Key, err)
		}
	}
	return d
}

// around is the time in which an outage is looked for.
type around struct{ from, to time.Duration }

// gaps is the longest time without an acked write around each fault, the shortest first.
func (j judgement) gaps(faults []around) []time.Duration {
	var out []time.Duration
	for _, f := range faults {
		var ops []history.Op
		for _, o := range j.ops {
			// The write before the fault begins the gap.
			if counts(o) && o.Returned > f.from-100*time.Millisecond && o.Returned < f.to {
				ops = append(ops, o)
			}
		}
		gap, _ := history.Gaps(ops)
		out = append(out, gap)
	}
	slices.Sort(out)
	return out
}

// report prints the gaps' percentiles beside the goal and holds the worst against a bound that a
// noisy machine keeps too.
func report(t *testing.T, what string, gaps []time.Duration, goal, bound time.Duration) {
	t.Helper()
	at := func(q float64) time.Duration {
		return gaps[min(len(gaps)-1, int(q*float64(len(gaps))))].Round(100 * time.Microsecond)
	}
	t.Logf("gap of %d %s: p50 %v, p99 %v, max %v; goal %v at p99", len(gaps), what, at(0.5), at(0.99), at(1), goal)
	if worst := gaps[len(gaps)-1]; worst > bound {
		t.Errorf("a gap of %v, which no busy machine explains (bound %v): all gaps %v", worst, bound, gaps)
	}
}
