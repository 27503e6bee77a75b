package sim

import (
	"fmt"
	"time"

	"understudy/cluster"
	"understudy/failover"
)

// act carries one action out, as package agent does, each in its own time. A failpoint may end the
// agent just before or just after.
func (a *agent) act(action failover.Action) {
	n := a.n
	if n.failKind == action.Kind {
		n.failKind = 0
		if !n.failAfter {
			n.fallOver("before "+action.Kind.String(), n.failFor)
			return
		}
		defer a.w.at(&a.actor, a.w.now+a.w.between(0, 3*ms), func() {
			if a.alive {
				n.fallOver("after "+action.Kind.String(), n.failFor)
			}
		})
	}
	a.w.tracef("node %d: does %s %s epoch %d %s", n.index, action.Kind, action.Node, action.Epoch, action.Why)
	switch action.Kind {
	case failover.ActStart:
		a.w.at(&a.actor, a.w.now+a.w.between(2*ms, 10*ms), func() { a.start(action) })
	case failover.ActKill:
		a.w.at(&a.actor, a.w.now+a.w.between(100*us, ms), func() {
			if a.alive && a.proc != nil {
				a.proc.kill(action.Why, false)
			}
			a.w.at(&a.actor, a.w.now+2*ms, func() { a.end(action, failover.Result{}) })
		})
	case failover.ActSwap:
		a.swap(action)
	case failover.ActAsk:
		a.ask(action)
	case failover.ActPledge:
		a.askPledges(action)
	case failover.ActSave:
		a.w.at(&a.actor, a.w.now+a.w.between(5*ms, 100*ms), func() { a.save(action) })
	case failover.ActPersist:
		a.w.at(&a.actor, a.w.now+a.w.between(ms, 5*ms), func() { a.persist(action) })
	default:
		a.command(action)
	}
}

// end posts a result; result is for callers inside the loop.
func (a *agent) end(action failover.Action, r failover.Result) {
	a.post(func() { a.result(action, r) })
}

func (a *agent) result(action failover.Action, r failover.Result) {
	r.ID, r.Kind = action.ID, action.Kind
	if r.Outcome == 0 {
		r.Outcome = failover.OutcomeOK
	}
	a.in.Results = append(a.in.Results, r)
	a.probeAt = min(a.probeAt, a.clock()) // look at once at what was changed
}

// ask asks the others and, when the question is whether the holder is silent, reads the store.
func (a *agent) ask(action failover.Action) {
	open, outcome := 1, failover.OutcomeOK
	done := func() {
		if open--; open == 0 {
			a.result(action, failover.Result{Outcome: outcome})
		}
	}
	if action.Epoch == 0 {
		open++
		a.list(a.n.clock.lasting(action.For), func(ok bool) {
			if !ok {
				outcome = failover.OutcomeFailed
			}
			a.post(done) // after what was read
		})
	}
	a.askPeers(action.Epoch, action.For, action.Node, done)
}

// persist writes the agent's notes. A disk that takes nothing says so.
func (a *agent) persist(action failover.Action) {
	if !a.alive {
		return
	}
	if a.n.refuses > a.w.now {
		a.end(action, failover.Result{Outcome: failover.OutcomeFailed, Detail: "no space left on device"})
		return
	}
	k := &a.n.notes
	a.n.promised = max(a.n.promised, action.Revoked)
	k.seen = max(k.seen, action.Epoch)
	if !a.w.wrong(failover.MutationRevokedInMemory) {
		k.revoked = max(k.revoked, action.Revoked)
	}
	k.lead = action.Lead
	a.post(func() {
		l := &a.in.Local
		l.Seen, l.Revoked, l.Kept = max(l.Seen, action.Epoch), max(l.Revoked, action.Revoked), action.Lead
		a.result(action, failover.Result{})
	})
}

// save puts the data set aside.
func (a *agent) save(action failover.Action) {
	switch {
	case !a.alive:
	case a.n.refuses > a.w.now:
		a.end(action, failover.Result{Outcome: failover.OutcomeFailed, Detail: "no space left on device"})
	case a.proc == nil || !a.proc.alive:
		a.end(action, failover.Result{Outcome: failover.OutcomeFailed, Detail: "connect to redis-server: not there"})
	default:
		a.proc.saved = true
		a.end(action, failover.Result{Detail: "saved"})
	}
}

// askPledges asks every other node to confirm this holder: all must.
func (a *agent) askPledges(action failover.Action) {
	need, ended := len(a.w.nodes)-1, false
	if a.w.wrong(failover.MutationPledgeMajority) {
		need = len(a.w.nodes) / 2
	}
	end := func(o failover.Outcome) {
		if !ended {
			ended = true
			a.end(action, failover.Result{Outcome: o})
		}
	}
	for _, n := range a.w.nodes {
		if n != a.n {
			a.askPledge(n, action, func(r failover.Reply) {
				if !r.OK {
					return
				}
				if need--; need == 0 {
					end(failover.OutcomeOK)
				}
			})
		}
	}
	a.w.at(&a.actor, a.w.now+a.n.clock.lasting(action.For), func() { end(failover.OutcomeFailed) })
}

// askPledge asks one node.
func (a *agent) askPledge(n *node, action failover.Action, answer func(failover.Reply)) {
	a.w.nextRequest++
	r := failover.Request{ID: fmt.Sprintf("pledge%d", a.w.nextRequest), Kind: failover.RequestPledge, Node: a.n.id, Epoch: action.Epoch}
	a.w.send(a.n.index, n.index, func() {
		b := n.agent
		if b == nil || !b.alive {
			return
		}
		a.w.at(&b.actor, a.w.now, func() {
			b.request(r, func(reply failover.Reply) {
				a.w.send(n.index, a.n.index, func() { a.w.at(&a.actor, a.w.now, func() { answer(reply) }) })
			})
		})
	})
}

// request hands the machine somebody's wish.
func (a *agent) request(r failover.Request, answer func(failover.Reply)) {
	if answer != nil {
		a.waiting[r.ID] = answer
	}
	a.post(func() { a.in.Request = &r })
}

func (a *agent) start(action failover.Action) {
	if !a.alive {
		return
	}
	if p := a.n.proc; a.w.sched.Adopted && p != nil && p.alive {
		a.adopt(action, p)
		return
	}
	d := a.n.disk
	p := a.n.boot()
	a.proc = p
	a.post(func() {
		a.fencedAt, a.probing, a.probeAt = 0, false, 0
		a.probeNo++
		a.in.Local = failover.Local{
			Process: failover.ProcessRunning, Seen: a.in.Local.Seen, Role: cluster.RoleReplica, Boot: p.boot,
			Revoked: a.in.Local.Revoked, Kept: a.in.Local.Kept, Last: a.last,
			Intact: d.held && !d.short, Short: d.held && d.short,
		}
		if a.w.sched.Adopted { // nobody has looked at its disk
			a.in.Local.Intact, a.in.Local.Short = false, false
		}
		if a.w.wrong(failover.MutationIntactIsData) {
			a.in.Local.Intact, a.in.Local.Short = d.exists, false
		}
		if !p.alive {
			a.exited(p, "died at once")
		}
		a.result(action, failover.Result{})
	})
}

// adopt takes over a redis-server that runs already: it is demoted before anybody is told of it.
func (a *agent) adopt(action failover.Action, p *proc) {
	ended := false
	a.w.at(&a.actor, a.w.now+a.callTimeout(), func() {
		if !ended {
			ended = true
			a.end(action, failover.Result{Outcome: failover.OutcomeFailed, Detail: "redis-server does not answer"})
		}
	})
	a.w.at(&p.actor, a.w.now, func() {
		if ended || !p.alive || p.loading > a.w.now || p.busy > a.w.now {
			return
		}
		ended = true
		p.follow(-1)
		p.resume()
		p.fence(0)
		a.post(func() {
			a.proc, a.fencedAt, a.probing, a.probeAt = p, 0, false, 0
			a.probeNo++
			l := a.in.Local
			a.in.Local = failover.Local{
				Process: failover.ProcessRunning, Seen: l.Seen, Role: cluster.RoleReplica, Boot: p.boot,
				Revoked: l.Revoked, Kept: l.Kept, Last: a.last,
			}
			if !p.alive {
				a.exited(p, "died at once")
			}
			a.result(action, failover.Result{})
		})
	})
}

func (a *agent) exited(p *proc, why string) {
	if a.proc != p {
		return
	}
	a.proc = nil
	l := &a.in.Local
	if l.At > 0 && l.Last == (cluster.Position{}) {
		a.last = l.Position
	}
	l.Process, l.Exit, l.Role, l.LinkUp = failover.ProcessNone, why, cluster.RoleReplica, false
}

// command is an action on the redis-server. The answer may be too late; the command may be carried
// out all the same.
func (a *agent) command(action failover.Action) {
	p, ended := a.proc, false
	end := func(r failover.Result) {
		if !ended {
			ended = true
			a.w.at(&a.actor, a.w.now, func() { a.end(action, r) })
		}
	}
	failed := func(why string) { end(failover.Result{Outcome: failover.OutcomeFailed, Detail: why}) }
	a.w.at(&a.actor, a.w.now+a.n.clock.lasting(a.w.profile.TTL/2+action.For), func() { failed("no answer") })
	if p == nil {
		failed("connect to redis-server: not there")
		return
	}
	on := func(after time.Duration, do func()) {
		a.w.at(&p.actor, a.w.now+after, func() {
			switch {
			case !p.alive:
				failed("the connection was reset")
			case p.loading > a.w.now:
				failed("LOADING")
			case p.busy > a.w.now:
				failed("BUSY")
			default:
				do()
			}
		})
	}
	answer := func() {
		i := p.info()
		end(failover.Result{Position: i.position, Prev: i.prev})
	}
	first := a.w.between(100*us, 500*us)
	switch action.Kind {
	case failover.ActFollow:
		a.followNode(action, func(node int) {
			if ended {
				return // too late to be sent
			}
			on(first, func() { p.follow(node); answer() })
		})
	case failover.ActRevoke:
		on(first, func() { a.drain(p, p.syncing, a.w.now+a.n.clock.lasting(action.For), on, end) })
	case failover.ActPromote:
		on(first, func() { p.promote(); answer() })
	case failover.ActResume:
		on(first, func() { p.resume(); answer() })
	case failover.ActPause:
		on(first, func() {
			p.pause(a.n.clock.lasting(action.For + a.w.profile.TTL))
			a.equal(action, p, a.w.now+a.n.clock.lasting(action.For), on, end)
		})
	}
}

// followNode asks where the other server listens before it follows it.
func (a *agent) followNode(action failover.Action, then func(node int)) {
	for _, n := range a.w.nodes {
		if n.id == action.Node {
			a.askPeer(n, 0, 0, func(failover.Report) { then(n.index) })
		}
	}
}

// drain reads what the primary has already sent, then follows a port that refuses.
func (a *agent) drain(p *proc, damaged bool, until time.Duration, on func(time.Duration, func()), end func(failover.Result)) {
	if p.role == cluster.RoleReplica && p.master != nil && !p.syncing && a.w.now < until {
		on(2*ms, func() { a.drain(p, damaged, until, on, end) })
		return
	}
	p.follow(-1)
	if p.pausing {
		p.resume()
	}
	i := p.info()
	end(failover.Result{Position: i.position, Prev: i.prev, Damaged: damaged})
}

// equal waits until the other server has every byte of this one.
func (a *agent) equal(action failover.Action, p *proc, until time.Duration, on func(time.Duration, func()), end func(failover.Result)) {
	mine := p.info().position
	answered := false
	again := func(there cluster.Position) {
		if answered {
			return
		}
		answered = true
		switch {
		case there == mine:
			end(failover.Result{Position: mine})
		case a.w.now >= until:
			end(failover.Result{Outcome: failover.OutcomeFailed, Detail: "the offsets are not equal"})
		default:
			on(500*us, func() { a.equal(action, p, until, on, end) })
		}
	}
	a.w.at(&a.actor, until+ms, func() { again(cluster.Position{}) })
	for _, n := range a.w.nodes {
		if n.id == action.Node {
			a.w.send(a.n.index, n.index, func() { a.peerPosition(n, again) })
		}
	}
}

func (a *agent) peerPosition(n *node, answer func(cluster.Position)) {
	q := n.proc
	if n.agent == nil || !n.agent.alive || q == nil {
		return
	}
	a.w.at(&q.actor, a.w.now, func() {
		if q.alive {
			there := q.info().position
			a.w.send(n.index, a.n.index, func() { a.w.at(&a.actor, a.w.now, func() { answer(there) }) })
		}
	})
}
