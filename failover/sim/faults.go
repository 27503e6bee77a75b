package sim

import (
	"fmt"
	"slices"
	"time"

	"understudy/cluster"
	"understudy/failover"
)

// FaultKind is what goes wrong.
type FaultKind string

// The faults. A is a node: its index, or -1 for whoever holds the lead then, -2 for the first of the others,
// -3 for the second. B is another host, a proxy or a member of the store.
const (
	FaultKillRedis    FaultKind = "kill-redis"
	FaultHangRedis    FaultKind = "hang-redis"
	FaultStallRedis   FaultKind = "stall-redis" // for less than a hang: a fork, a slow disk
	FaultBusyRedis    FaultKind = "busy-redis"
	FaultEmptyRedis   FaultKind = "empty-redis" // restarted at once, without its data
	FaultFullDisk     FaultKind = "full-disk"   // no write is taken: not redis-server's, not the agent's
	FaultFreezeAgent  FaultKind = "freeze-agent"
	FaultFreezeBoth   FaultKind = "freeze-both"   // agent and redis-server; the fencer runs
	FaultFreezeHost   FaultKind = "freeze-host"   // agent, redis-server and fencer
	FaultFreezeZone   FaultKind = "freeze-zone"   // all that is in the node's zone
	FaultFreezeGuards FaultKind = "freeze-guards" // agent and fencer: redis-server runs unwatched
	FaultFreezeProxy  FaultKind = "freeze-proxy"
	FaultKillFencer   FaultKind = "kill-fencer"
	FaultCrashAgent   FaultKind = "crash-agent"
	FaultCrashAt      FaultKind = "crash-at" // the agent dies at its next action of kind B
	FaultPowerLoss    FaultKind = "power-loss"
	FaultWipe         FaultKind = "wipe"       // the node comes back with an empty disk
	FaultClockJump    FaultKind = "clock-jump" // ahead, by For
	FaultCut          FaultKind = "cut"        // one direction, A to B; B -1: to the store
	FaultIsolate      FaultKind = "isolate"
	FaultCutZone      FaultKind = "cut-zone" // all that is in the node's zone from all that is not
	FaultSlow         FaultKind = "slow"
	FaultLossy        FaultKind = "lossy"        // 30 % of what it sends and gets is lost, and sent again
	FaultLateAnswers  FaultKind = "late-answers" // of the store, to this node: the others see what it does at once
	FaultLatePeers    FaultKind = "late-peers"   // what the other nodes say to it, by B ms
	FaultReset        FaultKind = "reset"        // its replication connections
	FaultCutReplica   FaultKind = "cut-replica"  // its redis-server reaches no primary; the agents talk
	FaultStoreDown    FaultKind = "store-down"
	FaultStoreMember  FaultKind = "store-member"   // one member is down
	FaultStoreMost    FaultKind = "store-majority" // most members are down, the leader among them
	FaultStoreLeader  FaultKind = "store-leader"   // its leader is deposed
	FaultStoreForgets FaultKind = "store-forgets"  // answers are lost
	FaultStoreSlow    FaultKind = "store-slow"
	FaultStoreRestore FaultKind = "store-restore" // from a backup that is as old as the fault is long
	FaultCutStore     FaultKind = "cut-store"     // the node and the store do not reach each other
	FaultCutNodes     FaultKind = "cut-nodes"     // the node and the other nodes do not reach each other
	FaultDeafProxy    FaultKind = "deaf-proxy"    // it hears nothing from the agents
	FaultSwitchover   FaultKind = "switchover"
	FaultForce        FaultKind = "force" // an operator accepts a loss
	FaultStop         FaultKind = "stop"  // in order, then started again
)

var faultKinds = []FaultKind{
	FaultKillRedis, FaultHangRedis, FaultStallRedis, FaultBusyRedis, FaultEmptyRedis, FaultFullDisk, FaultFreezeAgent, FaultFreezeBoth,
	FaultFreezeHost, FaultFreezeZone, FaultFreezeGuards, FaultFreezeProxy, FaultKillFencer, FaultCrashAgent, FaultCrashAt, FaultPowerLoss,
	FaultWipe, FaultClockJump, FaultCut, FaultIsolate, FaultCutZone, FaultSlow, FaultLossy, FaultLateAnswers, FaultLatePeers, FaultReset, FaultCutReplica, FaultStoreDown,
	FaultStoreMember, FaultStoreMost, FaultStoreLeader, FaultStoreForgets, FaultStoreSlow, FaultStoreRestore, FaultCutStore, FaultCutNodes,
	FaultDeafProxy, FaultSwitchover, FaultForce, FaultStop,
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
	first := 0
	for i, n := range w.nodes {
		if n.id == w.store.lead.Holder {
			first = i
		}
	}
	return w.nodes[(first-1-a)%len(w.nodes)]
}

// zone names the hosts that lie in the same zone as the node: nodes, proxies, a member of the store.
func (w *world) zone(n *node) []int {
	var hosts []int
	for _, o := range w.nodes {
		if w.sched.zoneOf(o.index) == w.sched.zoneOf(n.index) {
			hosts = append(hosts, o.index)
		}
	}
	for _, x := range w.proxies {
		if w.sched.home(x.index) == w.sched.zoneOf(n.index) {
			hosts = append(hosts, x.host)
		}
	}
	for i, m := range w.store.members {
		if w.sched.zoneOf(i) == w.sched.zoneOf(n.index) {
			hosts = append(hosts, m.host)
		}
	}
	return hosts
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
	case FaultFreezeProxy:
		x := w.proxies[abs(f.B)%len(w.proxies)]
		x.frozen = max(x.frozen, end)
	case FaultDeafProxy:
		x := w.proxies[abs(f.B)%len(w.proxies)]
		x.deaf = max(x.deaf, end)
	case FaultSwitchover:
		w.switchover(f)
	case FaultForce:
		w.force(n)
	case FaultStoreDown, FaultStoreMember, FaultStoreMost, FaultStoreLeader, FaultStoreForgets, FaultStoreSlow, FaultStoreRestore:
		w.injectStore(f, after)
	case FaultCut, FaultIsolate, FaultCutZone, FaultSlow, FaultLossy, FaultLateAnswers, FaultLatePeers, FaultReset, FaultCutStore, FaultCutNodes:
		w.injectNetwork(f, n, after)
	default:
		w.injectNode(f, n, end, after)
	}
}

// injectNode is what goes wrong on one machine.
func (w *world) injectNode(f Fault, n *node, end time.Duration, after func(func())) {
	switch f.Kind {
	case FaultKillRedis:
		if n.proc != nil {
			n.proc.kill("killed", false)
		}
	case FaultHangRedis:
		n.freezeRedis(end)
	case FaultStallRedis:
		n.freezeRedis(min(end, w.now+stallBound))
	case FaultBusyRedis:
		if n.proc != nil {
			n.proc.busy = max(n.proc.busy, end)
		}
	case FaultCutReplica:
		n.unlinked = max(n.unlinked, end)
		if p := n.proc; p != nil && p.master != nil {
			p.linkDown(p.master)
		}
	case FaultFullDisk:
		n.refuses = max(n.refuses, end)
	case FaultFreezeAgent:
		n.freezeAgent(end)
	case FaultFreezeBoth:
		n.freezeAgent(end)
		n.freezeRedis(end)
	case FaultFreezeHost, FaultFreezeGuards:
		n.machine.frozen = max(n.machine.frozen, end)
		n.freezeAgent(end)
		if f.Kind == FaultFreezeHost {
			n.freezeRedis(end)
		}
	case FaultFreezeZone:
		w.freezeZone(n, end, after)
	case FaultKillFencer:
		n.fencer++
		after(n.fencerBack)
	case FaultClockJump:
		n.jump(f.For)
	case FaultCrashAgent:
		n.fallOver("killed", f.For)
	case FaultCrashAt:
		n.failKind = failover.ActionKind(1 + abs(f.B)%int(failover.ActSave))
		n.failAfter, n.failFor = f.B%2 == 0, f.For
	case FaultPowerLoss, FaultWipe, FaultEmptyRedis:
		w.destroy(n, f)
	case FaultStop:
		w.stop(n, f.For)
	default:
		panic("sim: unknown fault " + string(f.Kind))
	}
}

// stallBound is how long a fork or a disk may stall a server that is none the worse for it.
const stallBound = 250 * ms

func (n *node) freezeAgent(until time.Duration) {
	if n.agent != nil {
		n.agent.frozen = max(n.agent.frozen, until)
	}
}

// freezeZone stops every process of a zone: a hypervisor, a cooling failure.
func (w *world) freezeZone(n *node, end time.Duration, after func(func())) {
	for _, h := range w.zone(n) {
		switch {
		case h < len(w.nodes):
			o := w.nodes[h]
			o.machine.frozen = max(o.machine.frozen, end)
			o.freezeAgent(end)
			o.freezeRedis(end)
		case h < len(w.nodes)+len(w.proxies):
			x := w.proxies[h-len(w.nodes)]
			x.frozen = max(x.frozen, end)
		default:
			after(w.store.hold(h - w.store.members[0].host))
		}
	}
}

// fencerBack starts the fencer again: what it missed, it does at once.
func (n *node) fencerBack() {
	if n.fencer--; n.fencer == 0 && n.proc != nil && n.proc.alive && n.proc.fenceAt != 0 {
		n.proc.fence(max(n.proc.fenceAt, n.w.now))
	}
}

// jump sets a machine's clock ahead. Where the clocks are to be trusted, by no more than δ leaves beside
// their drift.
func (n *node) jump(d time.Duration) {
	w := n.w
	if !w.sched.BadClocks {
		d = min(d, jumpBound)
		if n.jumpedAt != 0 && w.now-n.jumpedAt < 2*w.profile.TTL {
			return
		}
	}
	n.jumpedAt = w.now
	n.clock.offset += d
	if w.sched.OneClock {
		for _, o := range w.nodes {
			o.clock = n.clock
		}
		for _, x := range w.proxies {
			x.clock = n.clock
		}
	}
	for _, o := range w.nodes { // timers that are due by the new reading fire now
		if o.agent != nil {
			o.agent.kick()
		}
		if p := o.proc; p != nil && p.alive && p.fenceAt != 0 && o.agent != nil && o.agent.fencedAt != 0 {
			p.fence(max(w.now, o.clock.when(o.agent.fencedAt)))
		}
	}
	for _, x := range w.proxies {
		x.pokeLater()
	}
}

// injectStore is what goes wrong in the store.
func (w *world) injectStore(f Fault, after func(func())) {
	s := w.store
	switch f.Kind {
	case FaultStoreDown:
		after(s.hold(s.upMembers()...))
	case FaultStoreMember:
		after(s.hold(abs(f.B) % len(s.members)))
	case FaultStoreMost:
		after(s.hold(s.majority()...))
	case FaultStoreLeader:
		s.depose()
	case FaultStoreForgets:
		s.forgets += 40
		after(func() { s.forgets -= 40 })
	case FaultStoreSlow:
		late := w.between(50*ms, 700*ms)
		s.slow += late
		after(func() { s.slow -= late })
	case FaultStoreRestore:
		s.restore(f.For)
	}
}

// injectNetwork is what goes wrong between hosts.
func (w *world) injectNetwork(f Fault, n *node, after func(func())) {
	switch f.Kind {
	case FaultCut:
		to := []int{abs(f.B) % len(w.links)}
		switch {
		case f.B == theStore:
			to = w.store.hosts()
		case f.B < theStore:
			to = []int{w.target(f.B).index}
		}
		for _, h := range to {
			if h != n.index {
				w.cut(n.index, h)
				after(func() { w.heal(n.index, h) })
			}
		}
	case FaultIsolate, FaultCutStore, FaultCutNodes:
		for h := range w.links {
			if h == n.index || f.Kind == FaultCutStore && h < w.store.members[0].host || f.Kind == FaultCutNodes && h >= len(w.nodes) {
				continue
			}
			w.cutBoth(n.index, h, after)
		}
	case FaultCutZone:
		inside := w.zone(n)
		for _, a := range inside {
			for b := range w.links {
				if !slices.Contains(inside, b) {
					w.cutBoth(a, b, after)
				}
			}
		}
	case FaultSlow:
		late := w.between(5*ms, 400*ms)
		for h := range w.links {
			if h != n.index {
				w.slow(n.index, h, late, after)
			}
		}
	case FaultLossy:
		for h := range w.links {
			for _, l := range []*link{&w.links[n.index][h], &w.links[h][n.index]} {
				l.loss = lossPercent
				after(func() { l.loss = 0 })
			}
		}
	case FaultLateAnswers:
		late := w.between(200*ms, 450*ms)
		for _, h := range w.store.hosts() {
			w.slow(h, n.index, late, after)
		}
	case FaultLatePeers:
		for h := range w.nodes {
			if h != n.index {
				w.slow(h, n.index, time.Duration(1+abs(f.B))*ms, after)
			}
		}
	case FaultReset:
		if p := n.proc; p != nil {
			p.dropReplicas()
			if p.master != nil {
				p.linkDown(p.master)
			}
		}
	}
}

// lossPercent is the share of lost packets of a link that is as bad as one gets before it is given up.
const lossPercent = 30

func (w *world) cutBoth(a, b int, after func(func())) {
	w.cut(a, b)
	w.cut(b, a)
	after(func() { w.heal(a, b); w.heal(b, a) })
}

func (w *world) slow(from, to int, late time.Duration, after func(func())) {
	w.links[from][to].slow += late
	after(func() { w.links[from][to].slow -= late })
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
	if w.destroyed || w.store.restored || l.State != cluster.LeadHeld || !l.Promoted || l.Rule.W == 0 || len(l.Rule.Voters) < len(w.nodes)-1 ||
		slices.Contains(l.Rule.Voters, l.Holder) {
		w.tracef("skipped: the others have no whole copy")
		w.injected[f.Kind]--
		return
	}
	w.destroyed, n.lost = true, true
	if f.Kind == FaultEmptyRedis { // by somebody who did not know better; the agent lives
		if n.proc != nil {
			n.proc.kill("its data was deleted", false)
		}
		n.disk = disk{}
		return
	}
	n.down("power loss", f.For, true)
	if f.Kind == FaultWipe {
		n.disk, n.notes = disk{}, notes{}
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
	a.request(r, nil)
}

// force has an operator accept a loss; whom the answer names is asked next.
func (w *world) force(n *node) {
	w.nextRequest++
	r := failover.Request{ID: fmt.Sprintf("force%d", w.nextRequest), Kind: failover.RequestForce, AcceptLoss: true}
	if n.agent == nil || !n.agent.alive {
		return
	}
	n.agent.request(r, func(reply failover.Reply) {
		w.tracef("force: %s", reply.Message)
		for _, o := range w.nodes {
			if o.id == reply.To && o.agent != nil && o.agent.alive {
				r.ID += "again"
				o.agent.request(r, nil)
			}
		}
	})
}

// stop ends an agent in order: it fences, releases, and leaves.
func (w *world) stop(n *node, down time.Duration) {
	a := n.agent
	if a == nil || !a.alive {
		return
	}
	a.request(failover.Request{ID: "stop", Kind: failover.RequestStop}, nil)
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
