package sim

import (
	"fmt"
	"slices"
	"time"

	"understudy/cluster"
	"understudy/failover"
)

// The registers that clients write: few, so that they are contended.
const registers = 3

// entryKind is what a replication log holds.
type entryKind uint8

const (
	entryPing   entryKind = iota // the primary's keepalive
	entryGetAck                  // asks the replicas to acknowledge
	entryMark                    // a proxy's, that changes nothing
	entrySet
	entryPush
	entryIncr
)

// entry is one byte of a replication log, as far as offsets go.
type entry struct {
	kind entryKind
	key  uint8
	op   uint32 // the client operation
}

// stream is one replication log: what was written under one replid. Its data continues parent's up
// to at; its own offsets begin at start.
type stream struct {
	id      string
	parent  *stream
	at      int64
	start   int64
	entries []entry
}

// between calls f with every entry after offset a, up to b: the first may lie in the log before.
func (s *stream) between(a, b int64, f func(entry)) {
	if a < s.start {
		s.parent.between(a, min(b, s.start), f)
		a = s.start
	}
	if b <= s.start {
		return
	}
	for _, e := range s.entries[a-s.start : b-s.start] {
		f(e)
	}
}

// walk calls f with every entry of the data set at offset off, oldest first.
func (s *stream) walk(off int64, f func(entry)) {
	if s == nil {
		return
	}
	if off < s.start { // a replica that has not read on to where this log begins
		s.parent.walk(off, f)
		return
	}
	s.parent.walk(s.at, f)
	for _, e := range s.entries[:off-s.start] {
		f(e)
	}
}

// state is what the entries add up to, as far as clients read it.
type state struct {
	registers [registers]uint32
	count     int64
}

func (s *state) apply(e entry) {
	switch e.kind {
	case entrySet:
		s.registers[e.key] = e.op
	case entryIncr:
		s.count++
	}
}

// disk is a node's append-only file.
type disk struct {
	exists bool
	log    *stream
	off    int64
	held   bool // kept by the agent: this node was promoted on this data set, and has followed nobody since
	short  bool // it may lack the end: the machine lost power
}

// proc is one run of a redis-server.
type proc struct {
	actor
	w    *world
	n    *node
	boot string

	alive   bool
	role    cluster.Role
	log     *stream
	off     int64
	prev    cluster.Position
	state   state
	broken  bool // its data set was emptied for a full sync that has not ended
	syncing bool

	following int   // the node it is told to follow, -1: a port that refuses
	attempts  int   // counts changes of following and connections, so that old ones are void
	master    *conn // to the primary; nil when there is none
	asking    *conn // the newest that a primary has opened for it
	replicas  []*conn

	loading, busy, paused time.Duration // until
	pausing               bool
	quiet                 bool // no keepalives
	held                  []func()
	clients               []*pipe
	waiters               []*waiter

	promoted  bool // once, and has followed nobody since
	saved     bool // its data set was put aside
	diskStale bool
	synced    struct { // what is safe from a power loss
		log *stream
		off int64
	}
	fenceAt time.Duration // the fencer kills it then; 0: it does not
	fenceNo int
}

// conn is one replication connection.
type conn struct {
	p, r     *proc
	log      *stream // that p writes
	open     bool    // as the primary sees it
	online   bool
	sent     int64 // delivered
	upto     int64 // under way
	inflight bool
	ack      int64
	ackAt    time.Duration
}

// replTimeout is after how long a primary gives up a replica that says nothing (repl-timeout).
const replTimeout = 10 * time.Second

// waiter is a WAIT that blocks.
type waiter struct {
	mark int64
	need func(acked []cluster.NodeID) bool
	done func(acked []cluster.NodeID, ok bool)
}

func (w *world) newStream(parent *stream, at, start int64) *stream {
	w.streams++
	return &stream{id: fmt.Sprintf("log%d", w.streams), parent: parent, at: at, start: start}
}

// boot starts a redis-server on what the node's disk holds, as a replica of nobody.
func (n *node) boot() *proc {
	w := n.w
	w.boots++
	p := &proc{w: w, n: n, boot: fmt.Sprintf("boot%d", w.boots), alive: true, role: cluster.RoleReplica, following: -1}
	p.log = w.newStream(nil, 0, 0)
	if n.disk.exists {
		p.log.parent, p.log.at = n.disk.log, n.disk.off
		n.disk.log.walk(n.disk.off, p.state.apply)
	}
	p.loading = w.now + w.between(ms, 20*ms)
	p.synced.log, p.synced.off = p.log, 0
	n.proc = p
	n.procs = append(n.procs, p)
	n.disk.exists = true
	w.at(&p.actor, w.now+w.between(0, time.Second), p.cron)
	w.tracef("node %d: redis %s starts, log %s continues %v", n.index, p.boot, p.log.id, p.log.parent != nil)
	return p
}

// cron is what a server does once a second.
func (p *proc) cron() {
	if !p.alive {
		return
	}
	if !p.diskStale {
		p.synced.log, p.synced.off = p.log, p.off
	}
	if p.role == cluster.RolePrimary && len(p.replicas) > 0 && !p.quiet {
		p.append(entry{kind: entryPing})
	}
	for _, c := range slices.Clone(p.replicas) {
		if p.w.now-c.ackAt > replTimeout {
			p.forget(c)
		}
	}
	if c := p.master; c != nil {
		if (!c.open || !c.p.alive) && p.w.open(c.p.n.index, p.n.index) {
			p.linkDown(c)
		} else {
			p.acknowledge(c)
		}
	}
	p.w.at(&p.actor, p.w.now+time.Second, p.cron)
}

func (p *proc) append(e entry) {
	p.log.entries = append(p.log.entries, e)
	p.off++
	p.state.apply(e)
	for _, c := range p.replicas {
		c.pump()
	}
}

// pump sends what the replica has not been sent yet. The kernel sends it even if the primary dies.
func (c *conn) pump() {
	w := c.p.w
	if !c.open || !c.online || c.sent >= c.p.off || !w.open(c.p.n.index, c.r.n.index) {
		return
	}
	c.upto = c.p.off
	if c.inflight {
		return
	}
	c.inflight = true
	at := w.now + w.latency(c.p.n.index, c.r.n.index)
	w.at(&c.r.actor, at, func() {
		c.inflight = false
		c.r.receive(c)
		if c.p.alive && c.p.frozen <= w.now {
			c.pump()
		}
	})
}

func (n *node) pumpAll() {
	if n.proc == nil {
		return
	}
	for _, c := range n.proc.replicas {
		c.pump()
	}
}

// receive applies what arrived.
func (p *proc) receive(c *conn) {
	if !p.alive || p.master != c || p.syncing {
		return
	}
	ask := false
	c.log.between(p.off, c.upto, func(e entry) {
		p.state.apply(e)
		ask = ask || e.kind == entryGetAck
	})
	p.off, c.sent = c.upto, c.upto
	if ask {
		p.acknowledge(c)
	}
}

// acknowledge tells the primary how far this replica is.
func (p *proc) acknowledge(c *conn) {
	off := p.off
	if p.syncing {
		return
	}
	p.w.send(p.n.index, c.p.n.index, func() {
		p.w.at(&c.p.actor, p.w.now, func() {
			c.ackAt = p.w.now
			if c.p.alive && c.open && off > c.ack {
				c.ack = off
				c.p.wake()
			}
		})
	})
}

// acked names the replicas that hold everything up to mark.
func (p *proc) acked(mark int64) []cluster.NodeID {
	var ids []cluster.NodeID
	for _, c := range p.replicas {
		if c.open && c.online && c.ack >= mark {
			ids = append(ids, c.r.n.id)
		}
	}
	return ids
}

// wake ends the waits that are satisfied.
func (p *proc) wake() {
	waiting := p.waiters
	p.waiters = nil
	for _, x := range waiting {
		if acked := p.acked(x.mark); x.need(acked) {
			x.done(acked, true)
		} else {
			p.waiters = append(p.waiters, x)
		}
	}
}

// wait is PING and WAIT: done is called once need is satisfied, or at the latest after limit.
func (p *proc) wait(need func([]cluster.NodeID) bool, limit time.Duration, done func(acked []cluster.NodeID, ok bool)) {
	mark := p.off
	if acked := p.acked(mark); need(acked) {
		done(acked, true)
		return
	}
	if !p.isPaused() {
		p.append(entry{kind: entryGetAck})
	}
	x := &waiter{mark: mark, need: need, done: done}
	p.waiters = append(p.waiters, x)
	p.w.at(&p.actor, p.w.now+limit, func() {
		if i := slices.Index(p.waiters, x); i >= 0 && p.alive {
			p.waiters = slices.Delete(p.waiters, i, i+1)
			done(p.acked(mark), true)
		}
	})
}

func (p *proc) isPaused() bool { return p.pausing && p.paused > p.w.now }

// pause is CLIENT PAUSE WRITE.
func (p *proc) pause(d time.Duration) {
	p.pausing, p.quiet, p.paused = true, true, p.w.now+d
	p.w.at(&p.actor, p.paused, func() {
		if p.pausing && p.paused <= p.w.now {
			p.resume()
		}
	})
}

func (p *proc) resume() {
	p.pausing, p.quiet = false, false
	held := p.held
	p.held = nil
	for _, do := range held {
		do()
	}
}

// follow is REPLICAOF: of a node, or of a port that refuses.
func (p *proc) follow(node int) {
	was := p.role
	p.role, p.following = cluster.RoleReplica, node
	p.attempts++
	if p.master != nil {
		p.hangUp()
	}
	p.syncing = false
	if was == cluster.RolePrimary {
		p.demoted()
	}
	if node >= 0 {
		p.promoted, p.n.disk.held, p.n.disk.short = false, false, false
		p.connect()
	}
}

// demoted: blocked WAITs end with an error, the replicas are cut off, and the clients' connections
// are closed.
func (p *proc) demoted() {
	p.w.tracef("node %d: %s demoted at %s:%d", p.n.index, p.boot, p.log.id, p.off)
	waiting := p.waiters
	p.waiters = nil
	for _, x := range waiting {
		x.done(nil, false)
	}
	p.dropReplicas()
	if !p.w.wrong(failover.MutationDemotionKeepsClients) {
		p.dropClients()
	}
}

func (p *proc) dropReplicas() {
	for _, c := range p.replicas {
		c.open = false
		p.w.send(p.n.index, c.r.n.index, func() { p.w.at(&c.r.actor, p.w.now, func() { c.r.linkDown(c) }) })
	}
	p.replicas = nil
}

// hangUp ends this replica's connection to its primary.
func (p *proc) hangUp() {
	c := p.master
	p.master = nil
	if p.syncing {
		p.syncing = false
	}
	p.w.send(p.n.index, c.p.n.index, func() { c.p.forget(c) })
}

func (p *proc) forget(c *conn) {
	c.open, c.online = false, false
	if i := slices.Index(p.replicas, c); i >= 0 {
		p.replicas = slices.Delete(p.replicas, i, i+1)
	}
}

// linkDown: this replica has noticed that the connection is gone, and connects again.
func (p *proc) linkDown(c *conn) {
	if !p.alive || p.master != c {
		return
	}
	p.hangUp()
	p.attempts++
	p.later(p.w.between(ms, 20*ms))
}

// later tries to connect after a while, unless something else happens before.
func (p *proc) later(d time.Duration) {
	n := p.attempts
	p.w.at(&p.actor, p.w.now+d, func() {
		if p.alive && p.attempts == n && p.following >= 0 && p.master == nil {
			p.connect()
		}
	})
}

// connect asks the node that it follows to PSYNC.
func (p *proc) connect() {
	p.attempts++
	if p.w.now < p.n.unlinked {
		p.later(p.n.unlinked - p.w.now)
		return
	}
	p.later(time.Second) // unless it succeeds
	n, target := p.attempts, p.w.nodes[p.following]
	p.w.send(p.n.index, target.index, func() {
		q := target.proc
		if q == nil || !q.alive {
			return
		}
		p.w.at(&q.actor, p.w.now, func() {
			if p.alive && p.attempts == n && q.alive && q.role == cluster.RolePrimary && q.loading <= p.w.now {
				q.psync(p, n)
			}
		})
	})
}

// psync answers a replica: partially when the logs share everything up to its offset.
func (p *proc) psync(r *proc, attempt int) {
	c := &conn{p: p, r: r, log: p.log, open: true, ackAt: p.w.now}
	if old := r.asking; old != nil && old != r.master && p.w.open(r.n.index, old.p.n.index) {
		old.p.forget(old) // the end of an attempt that came to nothing
	}
	r.asking = c
	partial := !r.broken && r.off <= p.off && (r.log == p.log || r.log.id == p.prev.ReplID && r.off <= p.prev.Offset)
	if partial && p.w.sched.ShortBacklog && p.off-r.off > 8 {
		partial = false
	}
	p.replicas = append(p.replicas, c)
	if partial {
		c.online, c.sent, c.ack = true, r.off, 0
		p.w.send(p.n.index, r.n.index, func() {
			p.w.at(&r.actor, p.w.now, func() { r.continued(c, attempt) })
		})
		return
	}
	log, off, st := p.log, p.off, p.state
	took := p.w.between(2*ms, 40*ms)
	p.w.at(&p.actor, p.w.now+took, func() {
		p.w.send(p.n.index, r.n.index, func() {
			p.w.at(&r.actor, p.w.now, func() { r.load(c, attempt, log, off, st) })
		})
	})
	p.w.send(p.n.index, r.n.index, func() {
		if r.alive && r.attempts == attempt {
			r.master, r.syncing = c, true
			r.attempts++
		}
	})
}

// continued: the partial resync was granted.
func (p *proc) continued(c *conn, attempt int) {
	if !p.alive || p.attempts != attempt {
		return
	}
	p.attempts++
	p.master = c
	if p.log != c.log {
		p.prev = cluster.Position{ReplID: p.log.id, Offset: p.off}
		p.log = c.log
	}
	p.w.tracef("node %d: partial resync at %s:%d", p.n.index, p.log.id, p.off)
	p.acknowledge(c)
	c.pump()
}

// load replaces the data set by the primary's: emptied first, whole only at the end.
func (p *proc) load(c *conn, attempt int, log *stream, off int64, st state) {
	if !p.alive || p.master != c || !p.syncing {
		return
	}
	p.broken, p.diskStale, p.state = true, true, state{}
	n := p.attempts
	p.w.at(&p.actor, p.w.now+p.w.between(ms, 30*ms), func() {
		if !p.alive || p.master != c || p.attempts != n {
			return
		}
		p.broken, p.syncing = false, false
		p.log, p.off, p.state, p.prev = log, off, st, cluster.Position{}
		c.online, c.sent, c.upto = true, off, off
		p.w.tracef("node %d: full sync done at %s:%d", p.n.index, log.id, off)
		p.rewrite()
		p.acknowledge(c)
		c.pump()
	})
}

// rewrite writes the append-only file anew; until that is done the disk holds what was there before.
func (p *proc) rewrite() {
	p.diskStale = true
	log := p.log
	p.w.at(&p.actor, p.w.now+p.w.between(20*ms, 300*ms), func() {
		if p.alive && !p.broken && !p.syncing && (p.log == log || p.log.parent == log) {
			p.diskStale = false
			p.n.disk.held = p.promoted
			p.synced.log, p.synced.off = p.log, p.off
		}
	})
}

// promote is REPLICAOF NO ONE: a new log that continues the old one, with whatever data is there.
func (p *proc) promote() {
	if p.role == cluster.RolePrimary {
		return
	}
	p.attempts++
	if p.master != nil {
		p.hangUp()
	}
	p.following = -1
	parent, at := p.log, p.off
	if p.broken {
		parent, at = nil, 0
	}
	p.prev = cluster.Position{ReplID: p.log.id, Offset: p.off}
	p.log = p.w.newStream(parent, at, p.off)
	if p.broken || p.diskStale {
		p.broken, p.syncing = false, false
		p.rewrite()
	}
	p.role, p.pausing, p.quiet = cluster.RolePrimary, false, false
	p.promoted = true
	p.n.disk.held = !p.diskStale
	p.w.tracef("node %d: %s promoted, log %s continues %s:%d", p.n.index, p.boot, p.log.id, p.prev.ReplID, p.prev.Offset)
}

// kill ends the process; lights: the whole machine lost power.
func (p *proc) kill(why string, power bool) {
	if !p.alive {
		return
	}
	w := p.w
	w.tracef("node %d: %s dies: %s", p.n.index, p.boot, why)
	p.alive, p.frozen = false, 0
	p.n.died = true
	if p.n.proc == p {
		p.saveDisk(power)
	}
	for _, c := range p.replicas {
		if c.inflight && w.chance(50) {
			c.upto = c.sent + w.rng.Int64N(c.upto-c.sent+1) // the rest had not left the process
		}
		c.open = false
		w.send(p.n.index, c.r.n.index, func() {
			w.at(&c.r.actor, w.now+ms, func() { c.r.linkDown(c) })
		})
	}
	p.replicas = nil
	if p.master != nil {
		p.hangUp()
	}
	p.waiters, p.held = nil, nil
	p.dropClients()
	if a := p.n.agent; a != nil && a.proc == p {
		w.at(&a.actor, w.now+w.between(100*us, ms), func() { a.post(func() { a.exited(p, why) }) })
	}
}

// saveDisk leaves behind what the next run will find.
func (p *proc) saveDisk(power bool) {
	d := &p.n.disk
	switch {
	case p.diskStale:
		p.w.destroyed, p.n.lost = true, true
	case power:
		d.log, d.off, d.short = p.synced.log, p.synced.off, true
		p.w.destroyed, p.n.lost = true, true
	default:
		d.log, d.off = p.log, p.off
	}
}

// fence is the separate fencer's order to kill the server at a time.
func (p *proc) fence(at time.Duration) {
	p.fenceNo++
	n := p.fenceNo
	p.fenceAt = at
	if at == 0 {
		return
	}
	p.w.at(&p.n.machine, at, func() {
		if p.alive && p.fenceNo == n && p.n.fencer == 0 {
			p.w.tracef("node %d: the fencer's deadline", p.n.index)
			p.kill("killed by the fencer", false)
		}
	})
}
