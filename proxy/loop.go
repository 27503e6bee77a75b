package proxy

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"net"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"understudy/cluster"
	"understudy/command"
	"understudy/failover"
)

// loop serves every connection of a proxy from one goroutine: nothing in it needs a lock but the
// inbox.
type loop struct {
	opts    Options
	log     *slog.Logger
	clock   func() time.Duration
	metrics *metrics
	poll    *poller
	gate    *failover.Gate
	heard   map[cluster.NodeID]time.Duration // when each node's agent last spoke

	mu    sync.Mutex
	inbox []word
	calls []func() // of other goroutines, for the loop to run: see call
	ended bool
	// greeted are the connections whose handshakes are under way; work waits for them.
	greeted map[net.Conn]struct{}
	work    sync.WaitGroup

	taps atomic.Pointer[[]*Tap] // who sees the commands; changed under mu

	now      time.Duration // read at the start of a turn, and whenever replies arrive
	wake     time.Duration // when the next turn is due at the latest
	conns    []*conn       // by descriptor
	doors    map[int]door  // listening descriptors
	scratch  []byte
	cipher   []byte // what one read of ciphertext takes
	args     [][]byte
	flushing []*conn
	resuming []*client
	pool     []*request
	slabs    slabs
	count    counts
	gaugesAt time.Duration

	lingering []*backend // see linger
	resting   resting

	departure *departure // of the clients to another process; nil: none

	clients    map[*client]struct{}
	lanes      map[laneKey]*backend
	backends   int
	retiring   []*backend
	connecting []*backend // nothing was written to them yet
	failures   int        // to reach the primary, since it was last heard

	// The primary as the gate sees it, cached: see refresh.
	writer   failover.Writer
	writable bool          // requests may be sent, while now < writer.Until and now >= coolTill
	acking   time.Duration // replies of writer.Epoch may be given until then; 0: not
	secured  bool          // the servers have users of their own for proxies
	demand   failover.Demand
	reads    []failover.Reader

	scarce  time.Duration // since when too few replicas are there to ack a write (writer.Hold)
	sifting bool          // some read that waits may go although writes may not: see sift
	siftAt  time.Duration

	coolTill time.Duration
	replays  []*request // were sent before: they go first, in the order in which they were sent
	held     fifo
	draining bool
	turns    uint64    // counts choices of a replica, so that they go round
	homeless []*client // dedicated sessions that wait for a primary
	heldSize int
	// Of what waits elsewhere: replays, and the commands of homeless clients. See boundHold.
	replaySize, redoCount, redoSize int
	shownHeld                       int // what the metric says of how many wait

	hello      greeter
	policies   policyBook
	fresh      freshness
	standbys   []failover.Reader // what is left to read from without a primary
	staleReads uint64            // that were given
	staleAt    time.Duration     // when the newest was, and how old its data
	staleAge   time.Duration
	notes      atomic.Pointer[[]string] // see Proxy.Troubles

	ids    uint64 // of clients
	splits int    // clients of the split endpoint
	orders uint64 // numbers requests in the order in which they were first sent

	opened    uint64 // counts connections to redis-servers
	channel   string // on which batches publish their numbers
	line      []byte
	batches   uint64
	batching  []*backend
	witnesses map[cluster.NodeID]*witness
	doubts    []doubt
	settled   uint64        // counts the doubts that were ever settled
	ledSince  time.Duration // when the present primary was first heard of
	unproved  bool          // nothing was committed under its epoch yet: any read may show what only it has

	loosened []*conn   // may be read from again: see unchoke
	unended  []*client // whose uploads wait for their ends
	kept     int       // bytes of requests that are passed on, kept to be sent anew
	big      bigKeys

	slow      map[*client]struct{} // whose sockets take no more
	sweepAt   int                  // the descriptor at which sweep goes on
	memory    int                  // of the clients' buffers, in bytes, as far as this sweep has come
	heaviest  *client              // of those that this sweep has seen
	said      map[string]time.Duration
	entryKeys atomic.Pointer[keys]
	throttle  *throttle
	prefaces  []*client // that are to say for whom they are, oldest first
	spareFD   int       // see outOfDescriptors; -1: none

	commits committer
	bracket bracket
	keys    keyTable
	scripts scriptBook

	markerName   string           // begins every marker's key
	markers      uint64           // counts the markers that were given
	answeredOnce map[int][][]byte // by database: markers of requests that were answered

	allowed   map[string]bool          // refused commands and settings that are let through all the same
	strangers map[string]*command.Info // commands that the table does not have, by the primary's word; nil: nor has it
	tracker   tracker
}

// word is what an agent said, and when.
type word struct {
	at     time.Duration
	status cluster.NodeStatus
}

// counts are added to the metrics once a turn.
type counts struct {
	requests, replies, held, replayed, unknown, leaked, timedOut, rounds, resolved, replicaReads, leadReads, reloaded, once uint64

	stale   uint64
	refused [bounds]uint64       // in place of a primary, by why
	routes  [routeReasons]uint64 // of reads of the reader and the split endpoint
}

// scratchSize is what one read may take: a full socket buffer of small requests.
const scratchSize = 256 << 10

func newLoop(opts Options, m *metrics) (*loop, error) {
	p, err := newPoller()
	if err != nil {
		return nil, fmt.Errorf("proxy: %w", err)
	}
	l := &loop{
		opts: opts, log: opts.Logger, clock: opts.Clock, metrics: m, poll: p, gate: failover.NewGate(),
		heard: map[cluster.NodeID]time.Duration{},
		doors: map[int]door{}, scratch: make([]byte, scratchSize), clients: map[*client]struct{}{},
		lanes: map[laneKey]*backend{}, channel: newChannel(), markerName: newMarkerName(), line: make([]byte, 0, 128),
		witnesses: map[cluster.NodeID]*witness{}, slow: map[*client]struct{}{}, said: map[string]time.Duration{},
		greeted: map[net.Conn]struct{}{}, cipher: make([]byte, cipherSize),
		throttle: newThrottle(opts.LoginFailures, opts.LoginWithin), policies: newPolicyBook(opts.Policies, opts.Hold), fresh: newFreshness(),
	}
	ring, err := opts.keys()
	if err != nil {
		return nil, errors.Join(err, p.close())
	}
	l.entryKeys.Store(ring)
	l.reserve()
	checkDescriptors(opts.MaxClients, opts.Logger)
	l.answeredOnce = map[int][][]byte{}
	l.strangers = map[string]*command.Info{}
	if l.allowed, err = allowList(opts.Allow); err != nil {
		return nil, errors.Join(fmt.Errorf("proxy: Allow: %w", err), p.close())
	}
	l.keys.init(maphash.MakeSeed())
	l.scripts.init(maphash.MakeSeed())
	l.big = bigKeys{seed: maphash.MakeSeed(), keys: map[uint64]struct{}{}}
	l.commits.l, l.tracker.l, l.bracket.l = l, l, l
	l.tracker.every = askEvery(&opts)
	if runtime.GOMAXPROCS(0) > 1 {
		l.resting.spin = opts.BusyPoll
	}
	return l, nil
}

// learn hands a node's word to the loop; any goroutine may call it.
func (l *loop) learn(at time.Duration, s cluster.NodeStatus) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.inbox = append(l.inbox, word{at, s})
	if len(l.inbox) == 1 && !l.ended {
		l.poll.poke()
	}
}

// poke makes the loop turn; any goroutine may call it, also after the end.
func (l *loop) poke() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.ended {
		l.poll.poke()
	}
}

// run turns until ctx ends, then closes every connection.
func (l *loop) run(ctx context.Context) error {
	// The loop waits in epoll most of its life: a thread of its own saves the scheduler's hand-over.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	stop := context.AfterFunc(ctx, l.poke)
	defer stop()
	for ctx.Err() == nil {
		if err := l.turn(); err != nil {
			return err
		}
	}
	return nil
}

// turn waits for something to happen and deals with all that did.
func (l *loop) turn() error {
	events, err := l.arrivals()
	if err != nil {
		return err
	}
	l.resting.took(len(events))
	l.now = l.clock()
	l.wake = l.now + time.Second
	for i := range events {
		l.ready(int(events[i].Fd), events[i].Events)
	}
	l.listenToAgents()
	l.answerCalls()
	l.expire()
	l.reap()
	l.giveUpConnects()
	l.expirePrefaces()
	l.askWitness()
	l.endUploads()
	l.drain()
	l.bracket.start()
	l.commits.start()
	l.tracker.start()
	l.settle()
	l.depart()
	l.report()
	return nil
}

// arrivals returns the descriptors that are ready, and sleeps only when none is.
func (l *loop) arrivals() ([]unix.EpollEvent, error) {
	if events, err := l.poll.ready(); len(events) > 0 || err != nil {
		return events, err
	}
	l.endLinger()
	ms := l.patience()
	if ms == 0 {
		return nil, nil
	}
	return l.resting.sleep(l.poll, ms)
}

// settle writes what the turn produced, and lets clients that had to wait go on.
func (l *loop) settle() {
	l.boundLinger()
	for len(l.flushing) > 0 || len(l.resuming) > 0 || len(l.loosened) > 0 {
		l.endBatches()
		for i := 0; i < len(l.flushing); i++ {
			l.flush(l.flushing[i])
		}
		l.flushing = l.flushing[:0]
		resuming := l.resuming
		l.resuming = nil
		for _, c := range resuming {
			c.resume(l)
		}
		l.loosen()
	}
}

// patience is how many milliseconds the next wait may last. It counts from the last reading of the clock: what
// is due comes later by as much as the turn's work took.
func (l *loop) patience() int {
	if l.wake == 0 {
		return 0
	}
	d := l.wake - l.now
	if d <= 0 {
		return 0
	}
	return int((d + time.Millisecond - 1) / time.Millisecond)
}

// wakeAt makes sure that a turn begins at t at the latest.
func (l *loop) wakeAt(t time.Duration) { l.wake = min(l.wake, max(t, l.now)) }

func (l *loop) ready(fd int, events uint32) {
	if fd == l.poll.wake {
		l.poll.drain()
		return
	}
	if d, ok := l.doors[fd]; ok {
		l.accept(d)
		return
	}
	c := l.conns[fd]
	if c == nil {
		return // closed earlier in this turn
	}
	if events&unix.EPOLLOUT != 0 && c.blocked {
		c.blocked = false
		l.rearm(c)
		l.touch(c)
	}
	switch {
	case c.closed:
	case events&unix.EPOLLIN != 0:
		l.read(c)
	case events&(unix.EPOLLHUP|unix.EPOLLERR) != 0:
		l.drop(c, errPeerClosed)
	}
}

// listenToAgents takes what the agents said since the last turn.
func (l *loop) listenToAgents() {
	l.mu.Lock()
	words := l.inbox
	l.inbox = nil
	l.mu.Unlock()
	if len(words) == 0 {
		return
	}
	moved := false
	for _, w := range words {
		old, _ := l.gate.Node(w.status.Node)
		l.gate.Learn(w.at, w.status)
		l.heard[w.status.Node] = w.at
		l.fresh.learned(w.at, w.status)
		l.secured = l.secured || w.status.Access.User != ""
		moved = moved || old.Access != w.status.Access || old.Leads != w.status.Leads || old.Addr != w.status.Addr
	}
	l.refresh()
	if moved {
		l.leaveOld()
	}
}

// refresh caches what the gate says, and acts on a new primary.
func (l *loop) refresh() {
	before, readers := l.writer, l.reads
	l.writer, l.writable = l.gate.Writer(l.now)
	l.acking = 0
	if epoch, until := l.gate.Permit(); epoch == l.writer.Epoch {
		l.acking = until
	}
	l.demand, l.reads = l.gate.Demand(), l.gate.Readers(l.now)
	l.standbys, l.policies.scan = l.gate.Standbys(l.now), true
	if l.writer.Hold != "" && before.Hold == "" {
		l.scarce = l.now
		l.log.Warn("writes are held", "reason", l.writer.Hold, "epoch", l.writer.Epoch)
	}
	l.sifting = l.writer.Hold != "" // who waits for what may have changed
	if l.writer.Epoch != before.Epoch {
		l.log.Info("primary changed", "epoch", l.writer.Epoch, "node", l.writer.Node)
		l.keys.raiseBarrier()
		l.tracker.reset()
		clear(l.strangers)
		l.coolTill, l.ledSince, l.unproved, l.failures = 0, l.now, true, 0
		l.commits.forgive()
		l.gaugesAt = l.now
	}
	if l.writer.Access != before.Access {
		l.coolTill = 0
	}
	if l.writer.Epoch != before.Epoch || l.writer.Node != before.Node ||
		slices.ContainsFunc(readers, func(r failover.Reader) bool { return !l.isReader(r.Node) }) {
		l.leaveOthers()
	}
	if l.now < l.acking {
		l.commits.resolve()
	}
	l.askHello()
	l.watchNodes()
}

// leaveOthers retires the connections to nodes that were the primary, or a replica to read from.
func (l *loop) leaveOthers() {
	for key, b := range l.lanes {
		if key.node != l.writer.Node && !l.isReader(key.node) {
			l.retire(b)
		}
	}
	l.commits.leave()
	for c := range l.clients {
		if c.ded == nil || c.ded.key.node == l.writer.Node {
			continue
		}
		if c.kind != reader || l.away(c.ded.key.node) {
			l.retire(c.ded)
		}
	}
}

// away reports whether a node is down, by its agent's word or by its silence.
func (l *loop) away(node cluster.NodeID) bool {
	s, ok := l.gate.Node(node)
	return !ok || s.State == cluster.StateDown || l.now-l.heard[node] > silence
}

// silence is how long an agent may say nothing; failover.Gate has the same bound for reads.
const silence = 2 * time.Second

func (l *loop) isReader(node cluster.NodeID) bool {
	for _, r := range l.reads {
		if r.Node == node {
			return true
		}
	}
	return false
}

// gaugeEvery is how often the gauges are set: several times between two scrapes.
const gaugeEvery = 100 * time.Millisecond

// report adds the turn's counts to the metrics.
func (l *loop) report() {
	m, n := l.metrics, &l.count
	if l.now >= l.gaugesAt {
		l.gaugesAt = l.now + gaugeEvery
		m.clients.Set(float64(len(l.clients)))
		m.backends.Set(float64(l.backends))
		l.reportHold()
		m.scripts.Set(float64(l.scripts.order.Len()))
		m.scriptBytes.Set(float64(l.scripts.bytes))
		m.epoch.Set(float64(l.writer.Epoch))
		l.watchSlow()
		l.sweep()
		l.slabs.rest()
	} else if l.heldRequests() != l.shownHeld {
		l.wakeAt(l.gaugesAt)
	}
	if n.requests == 0 && n.replies == 0 && n.held == 0 && n.timedOut == 0 && n.rounds == 0 {
		return
	}
	l.reportReads()
	m.requests.Add(float64(n.requests))
	m.replies.Add(float64(n.replies))
	m.held.Add(float64(n.held))
	m.replayed.Add(float64(n.replayed))
	m.unknown.Add(float64(n.unknown))
	m.leaked.Add(float64(n.leaked))
	m.timedOut.Add(float64(n.timedOut))
	m.resolved.Add(float64(n.resolved))
	m.rounds.Add(float64(n.rounds))
	m.replicaReads.Add(float64(n.replicaReads))
	m.once.Add(float64(n.once))
	m.reloaded.Add(float64(n.reloaded))
	m.onLead.Add(float64(n.leadReads))
	*n = counts{}
}

// shut closes everything; only the goroutine of run, or nobody's any more, may call it.
func (l *loop) shut() {
	defer l.work.Wait() // which needs the lock to be free
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return
	}
	for c := range l.greeted {
		_ = c.Close() // ends the handshake
	}
	l.ended = true
	for fd := range l.doors {
		_ = unix.Close(fd)
	}
	for fd, c := range l.conns {
		if c != nil && !c.closed {
			c.closed = true
			_ = unix.Close(fd)
		}
	}
	if l.spareFD >= 0 {
		_ = unix.Close(l.spareFD)
	}
	_ = l.poll.close()
}
