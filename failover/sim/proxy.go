package sim

import (
	"slices"
	"strconv"
	"time"

	"understudy/cluster"
	"understudy/failover"
	"understudy/history"
)

// proxy keeps a Gate and the rules of the data path: permit checked at each send and each ack, group
// commit, replay of what was certainly not carried out.
type proxy struct {
	actor
	w     *world
	index int
	host  int
	clock clock
	g     *failover.Gate

	clients    []*client
	pipe       *pipe // for data; the commits use the same rules on one of their own
	commitPipe *pipe
	committing *commit
	held       []*request // wait for a writer
	replied    []*request // wait for a commit, or for word of what became of them
	dirty      [registers]int
	barrier    bool // the primary may have a write that no commit of this proxy waits for, or has waited for
	doubts     int  // how often that has come up
	epoch      cluster.Epoch
	poked      bool
	ticked     bool // MutationTickerPermit: what the last tick found
	healedAck  bool
	deaf       time.Duration // until then nothing that the agents say arrives
}

// client asks one thing at a time.
type client struct {
	id int
	x  *proxy
}

// stage is where a request is.
type stage uint8

const (
	stageHeld stage = iota
	stageSent
	stageReplied
	stageDone
)

// request is one operation on its way.
type request struct {
	op      history.Op
	key     int
	client  *client
	stage   stage
	attempt int
	since   time.Duration
	receipt failover.Receipt
	execAt  time.Duration
	exec    cluster.Epoch
	log     *stream
	off     int64 // of the log after it
	primary bool  // whoever carried it out was one
}

// pipe is a connection to one redis-server.
type pipe struct {
	x      *proxy
	node   int
	replid string
	p      *proc // bound when the first bytes arrive
	open   bool  // as the proxy sees it
	cut    bool  // as the server sees it
	lossy  bool  // the network has failed it before: it holds back, and has ended it or not
	sent   []*request
}

// commit is a PING and WAIT under way: it covers every reply that came before it was sent.
type commit struct {
	epoch  cluster.Epoch
	demand failover.Demand
	batch  []*request
	pipe   *pipe
	doubts int // of the proxy, when it was sent
}

// reply is a redis-server's answer.
type reply struct {
	rejected bool // certainly not carried out
	value    int64
	at       time.Duration
	log      *stream // that the server wrote
	off      int64
	primary  bool
}

func newProxy(w *world, i int) *proxy {
	x := &proxy{w: w, index: i, host: w.sched.Nodes + i, g: failover.NewGate()}
	x.clock = w.sched.clock(x.host)
	if w.sched.OneClock {
		x.clock = w.sched.clock(0)
	}
	for c := range w.sched.Clients {
		x.clients = append(x.clients, &client{id: i*100 + c, x: x})
	}
	if w.wrong(failover.MutationTickerPermit) {
		w.at(&x.actor, w.between(0, w.profile.TTL), x.tick)
	}
	return x
}

func (x *proxy) local() time.Duration { return x.clock.at(x.w.now) }

// listen keeps hearing what a node's agent says: pushed when they share a clock, asked for if not.
func (x *proxy) listen(n *node) {
	if x.w.sched.OneClock {
		return // agent.tell pushes
	}
	x.ask(n, n.agent, -1)
}

func (x *proxy) ask(n *node, a *agent, version int) {
	at, answered := x.local(), false
	again := func(version int) {
		if !answered && n.agent == a && a.alive {
			answered = true
			x.ask(n, a, version)
		}
	}
	x.w.at(&x.actor, x.w.now+3*x.w.profile.Renew, func() { again(-1) })
	x.w.send(x.host, n.index, func() {
		a.hear(version, func(s cluster.NodeStatus, v int) {
			x.w.send(n.index, x.host, func() {
				x.w.at(&x.actor, x.w.now, func() { x.learn(at, s); again(v) })
			})
		})
	})
}

// hear registers a listener that has seen a version.
func (a *agent) hear(version int, tell func(cluster.NodeStatus, int)) {
	a.w.at(&a.actor, a.w.now, func() {
		if !a.alive {
			return
		}
		a.listeners = append(a.listeners, tell)
		if version != a.version {
			a.forced = true
			a.kick()
		}
	})
}

// tell gives the newest status to every proxy that is to know.
func (a *agent) tell(s cluster.NodeStatus) {
	listeners := a.listeners
	a.listeners = nil
	for _, l := range listeners {
		l(s, a.version)
	}
	if a.w.sched.OneClock {
		at := a.in.Now
		for _, x := range a.w.proxies {
			a.w.send(a.n.index, x.host, func() { a.w.at(&x.actor, a.w.now, func() { x.learn(at, s) }) })
		}
	}
}

func (x *proxy) learn(at time.Duration, s cluster.NodeStatus) {
	if x.deaf > x.w.now || !x.g.Learn(at, s) {
		return
	}
	if _, e := x.g.Leader(); e != x.epoch {
		x.epoch = e
		x.doubt()
		x.w.tracef("proxy %d: learns epoch %d", x.index, e)
		x.reconsider()
	}
	x.poke()
}

// reconsider closes the connection to a primary that was replaced: what it has not answered yet will
// never be known.
func (x *proxy) reconsider() {
	leader, _ := x.g.Leader()
	s, _ := x.g.Node(leader)
	for _, p := range []*pipe{x.pipe, x.commitPipe} {
		if p != nil && (x.w.nodes[p.node].id != leader || p.replid != s.Fork.ReplID) {
			x.closed(p)
		}
	}
}

// writer applies the permit check: at each send, by this proxy's clock.
func (x *proxy) writer() (failover.Writer, bool) {
	w, ok := x.g.Writer(x.local())
	if x.w.wrong(failover.MutationTickerPermit) {
		_, e := x.g.Leader()
		ok = x.ticked && w.Epoch == e
	}
	return w, ok
}

func (x *proxy) mayAck(e cluster.Epoch) bool {
	if x.w.wrong(failover.MutationTickerPermit) {
		_, epoch := x.g.Leader()
		return x.ticked && e == epoch
	}
	return x.g.MayAck(x.local(), e)
}

// tick is the wrong rule: the permit is looked at now and then.
func (x *proxy) tick() {
	_, x.ticked = x.g.Writer(x.local())
	x.poke()
	x.w.at(&x.actor, x.w.now+x.w.profile.TTL, x.tick)
}

// submit takes a client's request.
func (x *proxy) submit(r *request) {
	r.since = x.w.now
	x.w.at(&x.actor, x.w.now+x.w.sched.Hold, x.poke)
	x.dispatch(r)
}

// dispatch forwards a request, or holds it.
func (x *proxy) dispatch(r *request) {
	w, ok := x.writer()
	if !ok || w.Hold != "" && r.op.Kind.Writes() {
		r.stage = stageHeld
		x.held = append(x.held, r)
		return
	}
	p := x.connect(&x.pipe, w)
	r.stage, r.attempt = stageSent, r.attempt+1
	r.receipt = failover.Receipt{Epoch: w.Epoch, ReplID: w.ReplID}
	p.sent = append(p.sent, r)
	attempt := r.attempt
	x.reach(p, func() { p.p.serve(p, r, attempt) })
}

// connect returns the connection to the writer.
func (x *proxy) connect(at **pipe, w failover.Writer) *pipe {
	node := slices.IndexFunc(x.w.nodes, func(n *node) bool { return n.id == w.Node })
	if p := *at; p != nil && p.open && p.node == node && p.replid == w.ReplID {
		return p
	}
	if *at != nil {
		x.closed(*at)
	}
	*at = &pipe{x: x, node: node, replid: w.ReplID, open: true}
	return *at
}

// reach does something at the server behind the pipe, which it finds there when it arrives first. A new
// connection is of use only if the server is a primary that writes the log of the proxy's permit: one
// that restarted, and leads again, does so under another epoch and perhaps another rule.
func (x *proxy) reach(p *pipe, do func()) {
	x.w.sendOn(p, x.host, p.node, func() {
		if p.cut {
			return
		}
		if p.p == nil {
			p.p = x.w.nodes[p.node].proc
			if p.p == nil || !p.p.alive || (p.p.role != cluster.RolePrimary || p.p.log.id != p.replid) && !x.w.wrong(failover.MutationDemotionKeepsClients) {
				p.refuse()
				return
			}
			p.p.clients = append(p.p.clients, p)
		}
		x.w.at(&p.p.actor, x.w.now, do)
	})
}

// refuse resets a new connection: nothing that was sent on it has been carried out.
func (p *pipe) refuse() {
	x := p.x
	p.cut = true
	x.w.send(p.node, x.host, func() {
		x.w.at(&x.actor, x.w.now, func() {
			sent := p.sent
			p.sent = nil
			for _, r := range sent {
				r.stage = stageHeld
				x.held = append(x.held, r)
			}
			x.closed(p)
			x.pokeLater()
		})
	})
}

// dropClients closes the connections of the clients.
func (p *proc) dropClients() {
	clients := p.clients
	p.clients = nil
	for _, c := range clients {
		c.cut = true
		x := c.x
		p.w.send(p.n.index, x.host, func() { p.w.at(&x.actor, p.w.now, func() { x.closed(c); x.poke() }) })
	}
}

// closed ends a pipe: what was sent on it and not answered may have been carried out.
func (x *proxy) closed(p *pipe) {
	if !p.open {
		return
	}
	p.open = false
	if x.pipe == p {
		x.pipe = nil
	}
	if x.commitPipe == p {
		x.commitPipe = nil
	}
	if c := x.committing; c != nil && c.pipe == p {
		x.committing = nil
	}
	sent := p.sent
	p.sent = nil
	for _, r := range sent {
		if r.op.Kind.Writes() {
			x.doubt()
		}
		x.unanswered(r)
	}
}

// doubt: the server may have a write that no commit of this proxy will wait for.
func (x *proxy) doubt() {
	x.doubts++
	x.barrier = !x.w.wrong(failover.MutationNoBarrier)
}

// unanswered decides about a request whose effect is not known: reads and idempotent writes are
// sent again, others end unknown.
func (x *proxy) unanswered(r *request) {
	if r.op.Kind == history.Get || r.op.Kind == history.Set {
		if r.op.Kind == history.Set {
			// Sent again, it may take effect twice, and another write may lie between: that is the price
			// of the rule, so for the order of the register it is one more write of unknown outcome.
			first := r.op
			first.Outcome, first.ID = history.Unknown, 0
			x.w.replays = append(x.w.replays, first)
		}
		r.stage = stageHeld
		x.held = append(x.held, r)
		return
	}
	x.finish(r, history.Unknown)
}

// serve carries a request out, or rejects it.
func (p *proc) serve(c *pipe, r *request, attempt int) {
	w := p.w
	write := r.op.Kind.Writes()
	if !p.alive || c.cut {
		return
	}
	if write && p.isPaused() {
		p.held = append(p.held, func() { p.serve(c, r, attempt) })
		return
	}
	a := reply{at: w.now, log: p.log, primary: p.role == cluster.RolePrimary}
	switch {
	case p.loading > w.now, p.busy > w.now, write && (p.role != cluster.RolePrimary || p.n.refuses > w.now):
		a.rejected = true
	case r.op.Kind == history.Get:
		a.value = int64(p.state.registers[r.key])
	case r.op.Kind == history.Set:
		p.append(entry{kind: entrySet, key: uint8(r.key), op: uint32(r.op.ID)})
	case r.op.Kind == history.Push:
		p.append(entry{kind: entryPush, op: uint32(r.op.ID)})
	case r.op.Kind == history.Incr:
		p.append(entry{kind: entryIncr, op: uint32(r.op.ID)})
		a.value = p.state.count
	}
	a.off = p.off
	w.sendOn(c, p.n.index, c.x.host, func() {
		w.at(&c.x.actor, w.now, func() { c.x.answered(c, r, attempt, a) })
	})
}

// answered takes a server's reply.
func (x *proxy) answered(p *pipe, r *request, attempt int, a reply) {
	if !p.open || r.attempt != attempt || r.stage != stageSent {
		return
	}
	if i := slices.Index(p.sent, r); i >= 0 {
		p.sent = slices.Delete(p.sent, i, i+1)
	}
	if a.rejected {
		r.stage = stageHeld
		x.held = append(x.held, r)
		x.pokeLater()
		return
	}
	r.stage, r.execAt, r.exec, r.log = stageReplied, a.at, r.receipt.Epoch, a.log
	r.off, r.primary = a.off, a.primary
	r.op.Result = ""
	if a.value != 0 {
		r.op.Result = strconv.FormatInt(a.value, 10)
	}
	if r.op.Kind == history.Set {
		x.dirty[r.key]++
	}
	if x.clean(r) && x.mayAck(r.receipt.Epoch) {
		x.finish(r, history.OK)
		return
	}
	x.replied = append(x.replied, r)
	x.poke()
}

// clean reports whether a reply may be given without a commit: it shows nothing that can be lost.
func (x *proxy) clean(r *request) bool {
	if x.w.sched.Durability == cluster.DurabilityAsync {
		return true
	}
	if r.op.Kind != history.Get {
		return false
	}
	if x.w.wrong(failover.MutationReadUncommitted) {
		return true
	}
	return !x.w.sched.Committed && x.dirty[r.key] == 0 && !x.barrier
}

func (x *proxy) pokeLater() { x.w.at(&x.actor, x.w.now+x.w.between(ms, 4*ms), x.poke) }

// poke looks again at everything that waits.
func (x *proxy) poke() {
	if x.poked {
		return
	}
	x.poked = true
	held := x.held
	x.held = nil
	for _, r := range held {
		if x.w.now-r.since >= x.w.sched.Hold {
			x.expire(r)
			continue
		}
		x.dispatch(r)
	}
	replied := x.replied
	x.replied = nil
	for _, r := range replied {
		x.resolve(r)
	}
	x.commit()
	x.poked = false
}

// expire ends a request that waited too long.
func (x *proxy) expire(r *request) {
	if r.attempt > 0 && r.op.Kind.Writes() {
		x.doubt()
		x.finish(r, history.Unknown) // an earlier attempt may have been carried out
		return
	}
	x.finish(r, history.Error)
}

// resolve asks the gate what becomes of a reply that waits.
func (x *proxy) resolve(r *request) {
	switch f := x.g.Fate(x.local(), r.receipt); f {
	case failover.FateWait, failover.FateCommit, failover.FateCarried:
		if x.w.now-r.since >= x.w.sched.Hold && !x.inBatch(r) {
			r.attempt++
			x.expire(r)
			return
		}
		if f == failover.FateCarried {
			_, e := x.g.Leader()
			w, _ := x.g.Writer(x.local())
			x.w.tracef("proxy %d: operation %d is carried into epoch %d", x.index, r.op.ID, e)
			r.receipt.Epoch, r.receipt.ReplID = e, w.ReplID
		}
		x.replied = append(x.replied, r)
	case failover.FateKept:
		x.w.tracef("proxy %d: operation %d is kept", x.index, r.op.ID)
		x.finish(r, history.OK)
	case failover.FateUnknown:
		x.clear(r)
		x.unanswered(r)
	}
}

func (x *proxy) inBatch(r *request) bool {
	return x.committing != nil && slices.Contains(x.committing.batch, r)
}

// clear: r's key is no longer dirty because of it.
func (x *proxy) clear(r *request) {
	if r.op.Kind == history.Set && r.stage == stageReplied {
		x.dirty[r.key]--
	}
}

// commit asks for one commit of all that waits under the present epoch.
func (x *proxy) commit() {
	if x.committing != nil || len(x.replied) == 0 {
		return
	}
	w, ok := x.g.Writer(x.local())
	if !ok && w.Addr == "" || !x.g.MayAck(x.local(), w.Epoch) {
		return
	}
	c := &commit{epoch: w.Epoch, demand: x.g.Demand(), doubts: x.doubts}
	for _, r := range x.replied {
		if r.receipt.Epoch == c.epoch {
			c.batch = append(c.batch, r)
		}
	}
	if len(c.batch) == 0 {
		return
	}
	// What the replicas acknowledged before a read says nothing about it: they may have let go of this primary
	// since, and another may have written. Only something new that they acknowledge shows that they follow.
	fresh := x.w.sched.Committed && !x.w.wrong(failover.MutationReadByOldAcks)
	c.pipe = x.connect(&x.commitPipe, w)
	x.committing = c
	need := func(acked []cluster.NodeID) bool {
		return len(acked) >= c.demand.Surely || c.demand.Satisfied(w.Node, acked)
	}
	x.reach(c.pipe, func() {
		p := c.pipe.p
		if !p.alive || c.pipe.cut {
			return
		}
		if p.role != cluster.RolePrimary || p.busy > x.w.now {
			x.back(c, func() { x.committed(c, nil, false) })
			return
		}
		if fresh && !p.isPaused() {
			p.append(entry{kind: entryMark})
		}
		id, off := p.log.id, p.off
		x.back(c, func() { x.located(c, id, off) })
		p.wait(need, 300*ms, func(acked []cluster.NodeID, ok bool) {
			x.back(c, func() { x.committed(c, acked, ok) })
		})
	})
}

func (x *proxy) back(c *commit, do func()) {
	x.w.sendOn(c.pipe, c.pipe.node, x.host, func() { x.w.at(&x.actor, x.w.now, do) })
}

// sendOn sends on a connection: what the network loses ends it, some time later, as a timeout does.
func (w *world) sendOn(p *pipe, from, to int, deliver func()) {
	if w.links[from][to].cut > 0 && !p.lossy {
		p.lossy = true
		if w.chance(50) {
			x := p.x
			w.at(&x.actor, w.now+w.between(100*ms, time.Second), func() { x.closed(p); x.poke() })
			return
		}
	}
	if p.lossy && w.links[from][to].cut > 0 {
		w.links[from][to].held = append(w.links[from][to].held, deliver)
		return
	}
	w.send(from, to, deliver)
}

// located: the log ended at off after the replies of the batch had been given.
func (x *proxy) located(c *commit, id string, off int64) {
	if x.committing != c {
		return
	}
	for _, r := range c.batch {
		if r.receipt.Epoch == c.epoch && r.receipt.ReplID == id {
			r.receipt.Offset = off
		}
	}
}

// committed ends a commit. The rules are those of this moment: the permit may have been renewed under
// others than those that the commit was asked for with.
func (x *proxy) committed(c *commit, acked []cluster.NodeID, ok bool) {
	if x.committing != c {
		return
	}
	x.committing = nil
	leader, _ := x.g.Leader()
	demand := x.g.Demand()
	if !ok || !x.mayAck(c.epoch) || len(acked) < demand.Surely && !demand.Satisfied(leader, acked) {
		x.pokeLater()
		return
	}
	if c.epoch == x.epoch && c.doubts == x.doubts {
		x.barrier = false
	}
	for _, r := range c.batch {
		if i := slices.Index(x.replied, r); i >= 0 && r.stage == stageReplied {
			x.replied = slices.Delete(x.replied, i, i+1)
			x.finish(r, history.OK)
		}
	}
	x.poke()
}

// finish gives the client its answer.
func (x *proxy) finish(r *request, outcome history.Outcome) {
	w := x.w
	x.clear(r)
	r.stage = stageDone
	r.op.Returned, r.op.Outcome = w.now, outcome
	if outcome == history.OK {
		w.executed = append(w.executed, execution{r.execAt, r.exec, r.op.ID, r.log, r.off, r.op.Kind.Writes(), r.primary})
		if w.healed && (r.op.Kind.Writes() || x.onlyReads()) && r.since > w.sched.Length {
			x.healedAck = true
		}
	}
	w.tracef("proxy %d: operation %d %s %s %s result %q epoch %d", x.index, r.op.ID, r.op.Kind, r.op.Key, outcome, r.op.Result, r.exec)
	w.mark(string(outcome), int64(r.op.ID))
	w.log.Add(r.op)
	w.asked--
	r.client.think()
}

// onlyReads: where there are readers, nobody writes through the second proxy. What is written elsewhere is
// news to it, and no commit of a write speaks for its reads.
func (x *proxy) onlyReads() bool { return x.w.sched.Readers && x.index == 1 }

// think waits a moment before the next operation.
func (c *client) think() {
	w := c.x.w
	w.at(&c.x.actor, w.now+w.between(5*ms, w.sched.Think), c.next)
}

// next asks for one more thing.
func (c *client) next() {
	w := c.x.w
	if w.stopped {
		return
	}
	w.nextID++
	w.asked++
	id := w.nextID
	r := &request{client: c, op: history.Op{Client: c.id, ID: id, Invoked: w.now, Where: "primary"}}
	value := strconv.FormatUint(id, 10)
	r.key = w.rng.IntN(registers)
	k := w.rng.IntN(10)
	if w.sched.Readers && (c.id%2 == 1 || c.x.onlyReads()) {
		k = 4
	}
	switch {
	case k < 4:
		r.op.Kind, r.op.Key, r.op.Value = history.Set, registerNames[r.key], value
	case k < 7:
		r.op.Kind, r.op.Key = history.Get, registerNames[r.key]
	case k < 9:
		r.op.Kind, r.op.Key, r.op.Value = history.Push, "list", value
	default:
		r.op.Kind, r.op.Key = history.Incr, "count"
	}
	c.x.submit(r)
}

var registerNames = [registers]string{"r0", "r1", "r2"}
