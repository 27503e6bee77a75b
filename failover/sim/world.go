package sim

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"understudy/cluster"
	"understudy/failover"
	"understudy/history"
)

const (
	ms = time.Millisecond
	us = time.Microsecond
)

// world is one run of one Schedule: everything that happens, in true time, on one event heap.
type world struct {
	sched   Schedule
	profile failover.Profile
	rng     *rand.Rand
	now     time.Duration
	events  heap
	seq     uint64
	steps   int

	links   [][]link // from host, to host: nodes, proxies, members of the store
	store   *store
	nodes   []*node
	proxies []*proxy
	asked   int  // operations that have not ended
	stopped bool // clients ask for nothing new
	healed  bool

	log         history.Log
	executed    []execution
	replays     []history.Op // first attempts of writes that were sent again
	forks       []leaving    // where each log was left, as the record told
	nextID      uint64
	nextRequest int
	streams     int
	boots       int

	injected  map[FaultKind]int
	destroyed bool // a node lost its data set, or the end of it
	short     bool // a lead was taken with a data set that may lack its end
	accepted  bool // an operator took a lead although acked writes may be lost
	healTook  time.Duration

	failure string
	trace   *strings.Builder // nil: not wanted
	digest  uint64
}

// execution is a request that a redis-server carried out as a primary and that was then acked.
type execution struct {
	at      time.Duration
	epoch   cluster.Epoch
	op      uint64
	log     *stream
	off     int64 // of the log when it was carried out
	write   bool
	primary bool // it was one still
}

// leaving is a place where a log goes on from another, as the record told it.
type leaving struct {
	log, parent string
	at          int64
	epoch       cluster.Epoch
	planned     bool // a switchover
}

// actor is whatever a process pause can stop: its events wait until it goes on.
type actor struct{ frozen time.Duration }

func newWorld(s Schedule) *world {
	profile, err := failover.ProfileByName("fast")
	if err != nil {
		panic(err)
	}
	w := &world{sched: s, profile: profile, rng: rand.New(rand.NewPCG(s.Seed, 1)), injected: map[FaultKind]int{}}
	hosts := s.Nodes + s.Proxies + s.Members
	w.links = make([][]link, hosts)
	for i := range w.links {
		w.links[i] = make([]link, hosts)
	}
	w.store = newStore(w, s.Nodes+s.Proxies)
	for i := range s.Nodes {
		w.nodes = append(w.nodes, newNode(w, i))
	}
	for i := range s.Proxies {
		w.proxies = append(w.proxies, newProxy(w, i))
	}
	return w
}

// clock is one host's: it starts at an offset of its own and runs a little fast or slow. A fault may have it
// jump ahead; it never goes back.
type clock struct {
	offset time.Duration
	ppm    int64
}

func (c clock) at(now time.Duration) time.Duration {
	return c.offset + now + time.Duration(int64(now)/1000*c.ppm/1000)
}

// when is the first true time at which the clock shows local or more.
func (c clock) when(local time.Duration) time.Duration {
	d := int64(local - c.offset)
	return time.Duration(d/(1_000_000+c.ppm)*1_000_000+d%(1_000_000+c.ppm)*1_000_000/(1_000_000+c.ppm)) + 2
}

// lasting is how long a duration by this clock lasts in true time.
func (c clock) lasting(d time.Duration) time.Duration {
	return time.Duration(int64(d) / (1_000_000 + c.ppm) * 1_000_000)
}

// at runs do at a true time, or as soon as a is no longer frozen. A nil actor never freezes.
func (w *world) at(a *actor, at time.Duration, do func()) {
	w.seq++
	w.events.push(event{at: max(at, w.now), seq: w.seq, actor: a, do: do})
}

// run lets the world go on until a true time, or until a check has failed.
func (w *world) run(until time.Duration) {
	for len(w.events) > 0 && w.failure == "" && w.events[0].at <= until {
		e := w.events.pop()
		w.now = e.at
		if e.actor != nil && e.actor.frozen > w.now {
			w.at(e.actor, e.actor.frozen, e.do)
			continue
		}
		w.steps++
		e.do()
	}
	w.now = max(w.now, until)
}

func (w *world) fail(format string, args ...any) {
	if w.failure == "" {
		w.failure = fmt.Sprintf(format, args...)
		w.tracef("FAILED: %s", w.failure)
	}
}

func (w *world) tracef(format string, args ...any) {
	if w.trace != nil {
		fmt.Fprintf(w.trace, "%12.6f  ", w.now.Seconds())
		fmt.Fprintf(w.trace, format, args...)
		w.trace.WriteByte('\n')
	}
}

// mark folds something that happened into the digest: equal seeds must give equal digests.
func (w *world) mark(what string, n int64) {
	const prime = 1099511628211 // FNV-1a's, over words instead of bytes
	h := w.digest ^ 14695981039346656037
	for i := range len(what) {
		h = (h ^ uint64(what[i])) * prime
	}
	h = (h ^ uint64(w.now)) * prime
	w.digest = (h ^ uint64(n)) * prime
}

// between is a random duration.
func (w *world) between(a, b time.Duration) time.Duration {
	if b <= a {
		return a
	}
	return a + time.Duration(w.rng.Int64N(int64(b-a)))
}

func (w *world) chance(percent int) bool { return w.rng.IntN(100) < percent }

// link is one direction between two hosts.
type link struct {
	cut  int // how many faults cut it now
	loss int // percent of the messages that have to be sent again
	slow time.Duration
	last time.Duration // when the newest message arrives: they keep their order
	held []func()      // messages that the network may still deliver when it heals
}

// send delivers a message from host to host, unless it is lost.
func (w *world) send(from, to int, deliver func()) {
	l := &w.links[from][to]
	if l.cut > 0 {
		if w.chance(50) {
			l.held = append(l.held, deliver)
		}
		return
	}
	l.last = max(l.last+1, w.now+w.latency(from, to))
	w.at(nil, l.last, deliver)
}

// latency is how long the next message takes.
func (w *world) latency(from, to int) time.Duration {
	if from == to {
		return w.between(20*us, 60*us)
	}
	l := &w.links[from][to]
	d := w.travel() + l.slow
	for l.loss > 0 && w.chance(l.loss) {
		d += resend // and all that was sent after it waits
	}
	return d
}

// resend is after how long TCP sends again what was lost (its least RTO on Linux).
const resend = 200 * ms

func (w *world) travel() time.Duration {
	if w.rng.IntN(64) == 0 {
		return w.between(ms, 20*ms)
	}
	return w.between(100*us, 600*us)
}

func (w *world) cut(from, to int) {
	w.links[from][to].cut++
	w.changed(from, to)
}

// changed tells the store's members that a link between them has come or gone.
func (w *world) changed(from, to int) {
	if first := w.store.members[0].host; from >= first && to >= first {
		w.store.look()
	}
}

func (w *world) heal(from, to int) {
	l := &w.links[from][to]
	if l.cut--; l.cut > 0 {
		return
	}
	held := l.held
	l.held = nil
	for _, deliver := range held {
		w.send(from, to, deliver)
	}
	if from < len(w.nodes) && to < len(w.nodes) {
		w.nodes[from].pumpAll()
	}
	w.changed(from, to)
}

func (w *world) open(from, to int) bool { return w.links[from][to].cut == 0 }

// event is one thing to happen.
type event struct {
	at    time.Duration
	seq   uint64
	actor *actor
	do    func()
}

func (e event) before(o event) bool { return e.at < o.at || e.at == o.at && e.seq < o.seq }

// heap is a binary heap of events, earliest first. container/heap would box each of them.
type heap []event

func (h *heap) push(e event) {
	s := append(*h, e)
	i := len(s) - 1
	for i > 0 {
		p := (i - 1) / 2
		if !e.before(s[p]) {
			break
		}
		s[i] = s[p]
		i = p
	}
	s[i] = e
	*h = s
}

func (h *heap) pop() event {
	s := *h
	top, last := s[0], s[len(s)-1]
	s[len(s)-1] = event{}
	s = s[:len(s)-1]
	*h = s
	if len(s) == 0 {
		return top
	}
	i := 0
	for {
		c := 2*i + 1
		if c >= len(s) {
			break
		}
		if c+1 < len(s) && s[c+1].before(s[c]) {
			c++
		}
		if !s[c].before(last) {
			break
		}
		s[i] = s[c]
		i = c
	}
	s[i] = last
	return top
}
