package sim

import (
	"slices"
	"time"

	"understudy/cluster"
	"understudy/failover"
)

// FaultKind is what goes wrong.
type FaultKind string

// The faults. A is a node, or -1: whoever holds the lead then; B is another host.
const (
	FaultKillRedis    FaultKind = "kill-redis"
	FaultHangRedis    FaultKind = "hang-redis"
	FaultBusyRedis    FaultKind = "busy-redis"
	FaultFreezeAgent  FaultKind = "freeze-agent"
	FaultFreezeHost   FaultKind = "freeze-host"   // agent, redis-server and fencer
	FaultFreezeGuards FaultKind = "freeze-guards" // agent and fencer: redis-server runs unwatched
	FaultFreezeProxy  FaultKind = "freeze-proxy"
	FaultCrashAgent   FaultKind = "crash-agent"
	FaultCrashAt      FaultKind = "crash-at" // the agent dies at its next action of kind B
	FaultPowerLoss    FaultKind = "power-loss"
	FaultWipe         FaultKind = "wipe" // the node comes back with an empty disk
	FaultCut          FaultKind = "cut"  // one direction, A to B; B -1 is the store
	FaultIsolate      FaultKind = "isolate"
	FaultSlow         FaultKind = "slow"
	FaultLateAnswers  FaultKind = "late-answers" // of the store, to this node: the others see what it does at once
	FaultReset        FaultKind = "reset"        // its replication connections
	FaultStoreDown    FaultKind = "store-down"
	FaultStoreForgets FaultKind = "store-forgets" // answers are lost
	FaultStoreSlow    FaultKind = "store-slow"
	FaultCutStore     FaultKind = "cut-store"  // the node and the store do not reach each other
	FaultCutNodes     FaultKind = "cut-nodes"  // the node and the other nodes do not reach each other
	FaultDeafProxy    FaultKind = "deaf-proxy" // it hears nothing from the agents
	FaultSwitchover   FaultKind = "switchover"
	FaultStop         FaultKind = "stop" // in order, then started again
)

var faultKinds = []FaultKind{
	FaultKillRedis, FaultHangRedis, FaultBusyRedis, FaultFreezeAgent, FaultFreezeHost, FaultFreezeGuards, FaultFreezeProxy, FaultCrashAgent,
	FaultCrashAt, FaultPowerLoss, FaultWipe, FaultCut, FaultIsolate, FaultSlow, FaultLateAnswers, FaultReset, FaultStoreDown,
	FaultStoreForgets, FaultStoreSlow, FaultCutStore, FaultCutNodes, FaultDeafProxy, FaultSwitchover, FaultStop,
}

// Fault is one thing that goes wrong, and for how long.
type Fault struct {
	At, For time.Duration
	Kind    FaultKind
	A, B    int
}

// target is the node that a fault names.
func (w *world) target(a int) *node {
	if a >= 0 {
		return w.nodes[a%len(w.nodes)]
	}
	for _, n := range w.nodes {
		if n.id == w.store.lead.Holder {
			return n
		}
	}
	return w.nodes[0]
}

// inject lets a fault happen, and end.
func (w *world) inject(f Fault) {
	if w.healed {
		return
	}
	n := w.target(f.A)
	w.injected[f.Kind]++
	w.mark(string(f.Kind), int64(n.index))
	w.tracef("FAULT %s node %d (%d) for %v", f.Kind, n.index, f.B, f.For)
	end := w.now + f.For
	after := func(do func()) {
		w.at(nil, end, func() {
			if !w.healed { // healing has ended it already
				do()
			}
		})
	}
	switch f.Kind {
	case FaultKillRedis:
		if n.proc != nil {
			n.proc.kill("killed", false)
		}
	case FaultHangRedis:
		n.freezeRedis(end)
	case FaultBusyRedis:
		if n.proc != nil {
			n.proc.busy = max(n.proc.busy, end)
		}
	case FaultFreezeAgent:
		if n.agent != nil {
			n.agent.frozen = max(n.agent.frozen, end)
		}
	case FaultFreezeHost, FaultFreezeGuards:
		n.machine.frozen = max(n.machine.frozen, end)
		if n.agent != nil {
			n.agent.frozen = max(n.agent.frozen, end)
		}
		if f.Kind == FaultFreezeHost {
			n.freezeRedis(end)
		}
	case FaultFreezeProxy:
		x := w.proxies[abs(f.B)%len(w.proxies)]
		x.frozen = max(x.frozen, end)
	case FaultDeafProxy:
		x := w.proxies[abs(f.B)%len(w.proxies)]
		x.deaf = max(x.deaf, end)
	case FaultCrashAgent:
		n.fallOver("killed", f.For)
	case FaultCrashAt:
		n.failKind = failover.ActionKind(1 + abs(f.B)%int(failover.ActPersist))
		n.failAfter, n.failFor = f.B%2 == 0, f.For
	case FaultPowerLoss, FaultWipe:
		w.destroy(n, f)
	case FaultSwitchover:
		w.switchover(f)
	case FaultStop:
		w.stop(n, f.For)
	default:
		w.injectNetwork(f, n, after)
	}
}

func (w *world) injectNetwork(f Fault, n *node, after func(func())) {
	s := w.store
	switch f.Kind {
	case FaultCut:
		to := f.B % len(w.links)
		if f.B < 0 {
			to = s.host()
		}
		if to != n.index {
			w.cut(n.index, to)
			after(func() { w.heal(n.index, to) })
		}
	case FaultIsolate, FaultCutStore, FaultCutNodes:
		for h := range w.links {
			if h == n.index || f.Kind == FaultCutStore && h != s.host() || f.Kind == FaultCutNodes && h >= len(w.nodes) {
				continue
			}
			w.cut(n.index, h)
			w.cut(h, n.index)
			after(func() { w.heal(n.index, h); w.heal(h, n.index) })
		}
	case FaultSlow:
		late := w.between(5*ms, 400*ms)
		for h := range w.links {
			if h != n.index {
				w.links[n.index][h].slow += late
				after(func() { w.links[n.index][h].slow -= late })
			}
		}
	case FaultLateAnswers:
		late := w.between(200*ms, 450*ms)
		w.links[s.host()][n.index].slow += late
		after(func() { w.links[s.host()][n.index].slow -= late })
	case FaultReset:
		if p := n.proc; p != nil {
			p.dropReplicas()
			if p.master != nil {
				p.linkDown(p.master)
			}
		}
	case FaultStoreDown:
		s.down++
		after(s.up)
	case FaultStoreForgets:
		s.forgets += 40
		after(func() { s.forgets -= 40 })
	case FaultStoreSlow:
		late := w.between(50*ms, 700*ms)
		s.slow += late
		after(func() { s.slow -= late })
	default:
		panic("sim: unknown fault " + string(f.Kind))
	}
}

func abs(n int) int { return max(n, -n) }

func (n *node) freezeRedis(until time.Duration) {
	p := n.proc
	if p == nil || !p.alive {
		return
	}
	p.frozen = max(p.frozen, until)
	if a := n.agent; a != nil && a.alive && a.probing {
		a.probeTimeout()
	}
}

// fallOver ends the agent and starts it again after a while.
func (n *node) fallOver(why string, down time.Duration) {
	n.down(why, down, false)
}

func (n *node) down(why string, down time.Duration, power bool) {
	n.crash(why, power)
	n.owing++
	n.w.at(nil, n.w.now+max(down, 5*ms), func() {
		if n.owing--; n.owing == 0 && (n.agent == nil || !n.agent.alive) {
			n.startAgent()
		}
	})
}

// destroy takes a node's data set, or the end of it: only where the others surely have a copy, and
// one node in a schedule. Two are beyond what sync durability promises.
func (w *world) destroy(n *node, f Fault) {
	l := w.store.lead
	if w.destroyed || l.State != cluster.LeadHeld || !l.Promoted || l.Rule.W == 0 || len(l.Rule.Voters) < len(w.nodes)-1 ||
		slices.Contains(l.Rule.Voters, l.Holder) {
		w.tracef("skipped: the others have no whole copy")
		w.injected[f.Kind]--
		return
	}
	w.destroyed = true
	n.down("power loss", f.For, true)
	if f.Kind == FaultWipe {
		n.disk, n.seen = disk{}, 0
	}
}

// switchover asks the holder's agent.
func (w *world) switchover(f Fault) {
	n := w.target(-1)
	a := n.agent
	if a == nil || !a.alive {
		return
	}
	r := failover.Request{ID: time.Duration(w.seq).String(), Kind: failover.RequestSwitchover}
	if f.B >= 0 {
		r.To = nodeID(f.B % len(w.nodes))
	}
	a.post(func() { a.in.Request = &r })
}

// stop ends an agent in order: it fences, releases, and leaves.
func (w *world) stop(n *node, down time.Duration) {
	a := n.agent
	if a == nil || !a.alive {
		return
	}
	r := failover.Request{ID: "stop", Kind: failover.RequestStop}
	a.post(func() { a.in.Request = &r })
	var leave func()
	limit := w.now + w.profile.TTL + time.Second
	leave = func() {
		l := a.in.Store.Lead
		if l.Holder == n.id && l.State != cluster.LeadReleased && w.now < limit && a.alive {
			w.at(&a.actor, w.now+5*ms, leave)
			return
		}
		if a.alive {
			n.fallOver("stopped", down)
		}
	}
	w.at(&a.actor, w.now+5*ms, leave)
}
