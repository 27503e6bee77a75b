package sim

import (
	"cmp"
	"slices"
	"strconv"
	"time"

	"understudy/cluster"
	"understudy/failover"
	"understudy/history"
)

const (
	// healBound is how long a group may take to be whole again once nothing is broken any more: an
	// expiry, the longest back-off between two starts, a few full syncs.
	healBound = 15 * time.Second
)

func (w *world) wrong(m failover.Mutation) bool { return w.sched.Mutation == m }

// play runs the whole schedule: faults, then heal and demand progress, then check.
func (w *world) play() {
	for _, n := range w.nodes {
		n.startAgent()
	}
	for _, x := range w.proxies {
		for _, c := range x.clients {
			w.at(&x.actor, w.between(0, 50*ms), c.next)
		}
	}
	for _, f := range w.sched.Faults {
		w.at(nil, f.At, func() { w.inject(f) })
	}
	w.run(w.sched.Length)
	w.healAll()
	since := w.now
	for w.failure == "" && !w.whole() {
		if w.now-since > healBound {
			w.stuck()
			return
		}
		w.run(w.now + 50*ms)
	}
	w.stopped = true
	// Each operation ends within holdLimit; a primary that was lost late is replaced.
	for end := w.now + healBound; w.failure == "" && (w.asked > 0 || !w.served()) && w.now < end; {
		w.run(w.now + 20*ms)
	}
	if w.failure == "" {
		w.check()
	}
}

// healAll ends every fault.
func (w *world) healAll() {
	w.tracef("HEAL")
	w.healed = true
	s := w.store
	s.slow, s.forgets = 0, 0
	for s.down > 0 {
		s.up()
	}
	for from := range w.links {
		for to := range w.links[from] {
			w.links[from][to].slow = 0
			for w.links[from][to].cut > 0 {
				w.heal(from, to)
			}
		}
	}
	s.down, s.forgets = 0, 0
	for _, n := range w.nodes {
		n.failKind = 0
		n.owing = 0
		if n.agent == nil || !n.agent.alive {
			n.startAgent()
		}
	}
}

// whole reports whether the group serves again with every node, and has acked something new through
// every proxy.
func (w *world) whole() bool {
	l := w.store.lead
	if l.State != cluster.LeadHeld || !l.Promoted {
		return false
	}
	for _, n := range w.nodes {
		if n.agent == nil || n.agent.out.Status.State != cluster.StateReady || n.agent.out.Status.Epoch != l.Epoch {
			return false
		}
	}
	if w.sched.Durability == cluster.DurabilitySync && (l.Rule.W == 0 || len(l.Rule.Voters) != len(w.nodes)-1) {
		return false
	}
	for _, x := range w.proxies {
		if !x.healedAck {
			return false
		}
	}
	return true
}

// stuck: no progress. That is right only where a data set was destroyed and other processes died
// beside it: then no log that is left can be shown to hold every acked write.
func (w *world) stuck() {
	if w.destroyed && w.deaths > 2 {
		w.tracef("no primary: right, since data was destroyed")
		return
	}
	l := w.store.lead
	reasons := ""
	for _, n := range w.nodes {
		s := n.agent.out.Status
		reasons += "; " + string(n.id) + " " + string(s.State) + " " + s.Reason
	}
	w.fail("no progress %v after all faults have ended: epoch %d of %s %s promoted=%v, rule %v W=%d%s",
		healBound, l.Epoch, l.Holder, l.State, l.Promoted, l.Rule.Voters, l.Rule.W, reasons)
}

func (w *world) tookShort() {
	w.short = true
}

// checkPermit: when a node gets its first permit of an epoch, no other node may still be a primary
// under an older permit.
func (a *agent) checkPermit() {
	n, w := a.n, a.w
	if a.out.WriteUntil <= a.in.Now {
		return
	}
	until := n.clock.when(a.out.WriteUntil)
	epoch := a.out.Status.Epoch
	if n.permitEpoch == epoch {
		n.permitUntil = max(n.permitUntil, until)
		return
	}
	n.permitEpoch, n.permitUntil = epoch, until
	for _, o := range w.nodes {
		if w.sched.BadClocks || o == n || o.permitUntil <= w.now || o.permitEpoch >= epoch {
			continue
		}
		for _, p := range o.procs {
			if p.alive && p.role == cluster.RolePrimary {
				w.fail("two primaries: %s gets a permit of epoch %d while %s runs unfenced under one of epoch %d for another %v",
					n.id, epoch, o.id, o.permitEpoch, o.permitUntil-w.now)
			}
		}
	}
}

// check judges the whole history.
func (w *world) check() {
	if !w.sched.BadClocks {
		w.checkOrder()
	}
	if w.sched.Durability == cluster.DurabilityAsync {
		return // what was lost is reported by drills; the order above still holds
	}
	data, ok := w.surviving()
	if !ok {
		return
	}
	v := history.Check(&w.log, data)
	switch {
	case w.short:
		return // a power loss beyond the promise: at most the fsync interval is gone
	case v.Lost > 0:
		w.fail("%d acked writes are lost: %v", v.Lost, v.LostExamples)
	case w.sched.BadClocks: // stale reads are what clocks prevent
	case !v.Clean():
		w.fail("duplicated %d, refused and there %d, stale reads %d: %v", v.Duplicated, v.Phantoms, v.StaleReads, v.Examples)
	case w.sched.Seed%8 == 0:
		if key, ok := history.Linearizable(append(w.replays, w.log.Ops...)); !ok {
			w.fail("the history of %s is not linearizable", key)
		}
	}
}

// checkOrder: what was acked was carried out under epochs that only grow, in true time: at no moment
// did two nodes accept.
func (w *world) checkOrder() {
	slices.SortFunc(w.executed, func(a, b execution) int { return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.epoch, b.epoch)) })
	var a execution // of the newest epoch so far
	for _, b := range w.executed {
		switch {
		case b.epoch >= a.epoch:
			a = b
		case b.log != a.log: // a primary that takes a new epoch for itself goes on with its log
			w.fail("two primaries: operation %d was carried out under epoch %d at %v, after operation %d under epoch %d", b.op, b.epoch, b.at, a.op, a.epoch)
			return
		}
	}
}

// served reports whether the holder of the lead is a primary.
func (w *world) served() bool {
	n := w.target(-1)
	return w.store.lead.State == cluster.LeadHeld && n.proc != nil && n.proc.alive && n.proc.role == cluster.RolePrimary && n.permitUntil > w.now
}

// surviving reads the primary's data set.
func (w *world) surviving() (history.Data, bool) {
	d := history.Data{Registers: map[string]string{}, Lists: map[string][]string{}, Counters: map[string]int64{}}
	for _, n := range w.nodes {
		p := n.proc
		if n.id != w.store.lead.Holder || p == nil || p.role != cluster.RolePrimary {
			continue
		}
		p.log.walk(p.off, func(e entry) {
			switch e.kind {
			case entrySet:
				d.Registers[registerNames[e.key]] = strconv.Itoa(int(e.op))
			case entryPush:
				d.Lists["list"] = append(d.Lists["list"], strconv.Itoa(int(e.op)))
			case entryIncr:
				d.Counters["count"]++
			}
		})
		return d, true
	}
	w.fail("the primary was lost again after all faults had ended")
	return d, false
}
