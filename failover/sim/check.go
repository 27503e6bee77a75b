package sim

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
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

// staleBound is how old what a read on the primary endpoint shows may be where reads do not wait for
// commits: inside a cut the old permit may last, while writes go on outside.
func (w *world) staleBound() time.Duration { return w.profile.TTL }

func (w *world) wrong(m failover.Mutation) bool { return w.sched.Mutation == m }

// play runs the whole schedule: faults, then heal and demand progress, then check.
func (w *world) play() {
	w.store.elect()
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
	since := w.healAll()
	for w.failure == "" && !w.whole() {
		if w.now-since > healBound {
			w.stuck()
			return
		}
		w.run(w.now + 50*ms)
	}
	w.healTook = max(0, w.now-since)
	w.stopped = true
	// Each operation ends within Hold; a primary that was lost late is replaced.
	for end := w.now + healBound; w.failure == "" && (w.asked > 0 || !w.served()) && w.now < end; {
		w.run(w.now + 20*ms)
	}
	if w.failure == "" {
		w.check()
	}
}

// healAll ends every fault. It returns when the last process that was stopped goes on.
func (w *world) healAll() time.Duration {
	w.tracef("HEAL")
	w.healed = true
	for from := range w.links {
		for to := range w.links[from] {
			l := &w.links[from][to]
			l.slow, l.loss = 0, 0
			for l.cut > 0 {
				w.heal(from, to)
			}
		}
	}
	s := w.store
	s.slow, s.forgets = 0, 0
	for i := range s.members {
		s.members[i].down = 0
	}
	s.look()
	since := w.now
	for _, n := range w.nodes {
		since = max(since, n.heal())
	}
	for _, x := range w.proxies {
		since = max(since, x.frozen)
	}
	return since
}

// heal ends what is wrong with a node, and returns when it all runs again.
func (n *node) heal() time.Duration {
	n.failKind, n.owing, n.refuses, n.unlinked = 0, 0, 0, 0
	if n.fencer > 0 {
		n.fencer = 1
		n.fencerBack()
	}
	if n.agent == nil || !n.agent.alive {
		n.startAgent()
	}
	until := max(n.agent.frozen, n.machine.frozen)
	if p := n.proc; p != nil && p.alive {
		p.busy = min(p.busy, n.w.now)
		until = max(until, p.frozen)
	}
	return until
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
	if w.destroyed && slices.ContainsFunc(w.nodes, func(n *node) bool { return n.died && !n.lost }) {
		w.tracef("no primary: right, since data was destroyed")
		return
	}
	restarted := 0
	for _, n := range w.nodes {
		restarted += boolInt(len(n.procs) > 1)
	}
	l := w.store.lead
	alone := l.Rule.W == 0 || slices.Contains(l.Rule.Voters, l.Holder) // the holder's own log is needed
	if w.sched.Adopted && l.State == cluster.LeadReleased && (restarted > 1 || restarted == 1 && alone) {
		w.tracef("no primary: right, since what the data sets are worth that were read again is not known")
		return
	}
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
// under an older permit; unless it can have nothing acked any more, because too few of the nodes that its
// rules need have not let go of it.
func (a *agent) checkPermit() {
	n, w := a.n, a.w
	if a.out.WriteUntil <= a.in.Now {
		return
	}
	epoch := a.out.Status.Epoch
	fresh := n.permitEpoch != epoch
	n.permitEpoch, n.permitUntil, n.permitRules = epoch, a.out.WriteUntil, a.out.Status.Rules
	if !fresh {
		return
	}
	for _, o := range w.nodes {
		left := o.clock.when(o.permitUntil) - w.now
		if w.sched.trustsNoClock() || o == n || left <= 0 || o.permitEpoch >= epoch || o.cannotAck(n) {
			continue
		}
		for _, p := range o.procs {
			if p.alive && p.role == cluster.RolePrimary {
				w.fail("two primaries: %s gets a permit of epoch %d while %s runs unfenced under one of epoch %d for another %v",
					n.id, epoch, o.id, o.permitEpoch, left)
			}
		}
	}
}

// cannotAck reports whether the rules of this primary cannot be satisfied any more, now that next leads.
func (n *node) cannotAck(next *node) bool {
	var left []cluster.NodeID
	for _, o := range n.w.nodes {
		if o != n && o != next && o.promised < n.permitEpoch {
			left = append(left, o.id)
		}
	}
	return slices.ContainsFunc(n.permitRules, func(r cluster.Rule) bool { return !r.Satisfied(n.id, left) })
}

// trustsNoClock: without commits only permits keep two primaries apart, and these clocks break them.
func (s Schedule) trustsNoClock() bool { return s.BadClocks && s.Durability == cluster.DurabilityAsync }

// check judges the whole history.
func (w *world) check() {
	if w.sched.trustsNoClock() {
		return
	}
	w.checkOrder()
	p, ok := w.surviving()
	switch {
	case !ok || w.short || w.accepted:
		return // a power loss beyond the promise, or an operator who accepted a loss
	case w.sched.Durability == cluster.DurabilityAsync:
		w.checkLedger(p)
		return
	}
	v := history.Check(&w.log, dataOf(p))
	switch {
	case v.Lost > 0:
		w.fail("%d acked writes are lost: %v", v.Lost, v.LostExamples)
	case v.Duplicated > 0 || v.Phantoms > 0:
		w.fail("duplicated %d, refused and there %d: %v", v.Duplicated, v.Phantoms, v.Examples)
	case !w.strict():
		w.checkAge()
	case v.StaleReads > 0:
		w.fail("stale reads %d: %v", v.StaleReads, v.Examples)
	case w.sched.Committed || w.sched.Seed%8 == 0:
		if key, ok := history.Linearizable(append(w.replays, w.log.Ops...)); !ok {
			w.fail("the history of %s is not linearizable", key)
		}
	}
}

// strict reports whether no read may be stale: each waits for a commit, or there is one proxy, which
// knows of every write, and clocks that it can trust.
func (w *world) strict() bool {
	return w.sched.Committed || w.sched.Proxies == 1 && !w.sched.BadClocks
}

// checkAge: where reads do not wait for commits, none shows what was overwritten more than staleBound
// before it began. (What it shows may be lost in a failover; the setting is for those who can bear that.)
func (w *world) checkAge() {
	if w.sched.BadClocks {
		return // the permit is what bounds the age
	}
	writes := map[string]history.Op{}
	for _, o := range w.log.Ops {
		if o.Kind == history.Set {
			writes[o.Value] = o
		}
	}
	for _, r := range w.log.Ops {
		if r.Kind != history.Get || r.Outcome != history.OK {
			continue
		}
		from, known := writes[r.Result]
		for _, o := range writes {
			overwritten := o.Key == r.Key && o.Outcome == history.OK && o.Returned < r.Invoked-w.staleBound()
			if overwritten && (!known || from.ID != o.ID && from.Outcome == history.OK && from.Returned < o.Invoked) {
				w.fail("a read at %v (operation %d) shows %q of %s, although %q had been acked at %v: more than %v old",
					r.Invoked, r.ID, r.Result, r.Key, o.Value, o.Returned, w.staleBound())
				return
			}
		}
	}
}

// checkOrder: what was acked was carried out under epochs that only grow, in true time: at no moment
// did two nodes accept. Reads count where they are promised to be of the newest primary.
func (w *world) checkOrder() {
	slices.SortFunc(w.executed, func(a, b execution) int { return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.epoch, b.epoch)) })
	var a execution // of the newest epoch so far
	for _, b := range w.executed {
		switch {
		case !b.write && !w.sched.Committed && w.sched.Durability == cluster.DurabilitySync:
		case b.epoch >= a.epoch:
			a = b
		case b.log != a.log || !b.primary: // a primary that takes a new epoch for itself goes on with its log
			w.fail("two primaries: operation %d was carried out under epoch %d at %v, after operation %d under epoch %d", b.op, b.epoch, b.at, a.op, a.epoch)
			return
		}
	}
}

// ledger notes where the record says that one log left another.
func (w *world) ledger(l cluster.Lead) {
	if strings.HasPrefix(l.Cause, "an operator accepted the loss") {
		w.accepted = true
	}
	n := len(l.Lineage)
	if !l.Promoted || n == 0 || slices.ContainsFunc(w.forks, func(f leaving) bool { return f.log == l.Lineage[n-1].ReplID }) {
		return
	}
	f := l.Lineage[n-1]
	w.forks = append(w.forks, leaving{log: f.ReplID, parent: f.Parent, at: f.At, epoch: f.Epoch, planned: l.Kind == cluster.KindSwitchover})
}

// checkLedger: in async a failover loses what was acked beyond the place where the new log left the old
// one, as the record tells it, and nothing else; a switchover loses nothing.
func (w *world) checkLedger(p *proc) {
	there := map[uint32]bool{}
	p.log.walk(p.off, func(e entry) { there[e.op] = true })
	for _, e := range w.executed {
		if !e.write || there[uint32(e.op)] {
			continue
		}
		gone, planned := w.leftOut(e)
		switch {
		case !slices.ContainsFunc(w.forks, func(f leaving) bool { return f.log == e.log.id }):
			w.fail("operation %d was acked under epoch %d in log %s, which is not on record, and is lost", e.op, e.epoch, e.log.id)
		case !gone:
			w.fail("operation %d was acked under epoch %d at %s:%d and is lost, although no log on record leaves it out", e.op, e.epoch, e.log.id, e.off)
		case planned:
			w.fail("operation %d was acked under epoch %d at %s:%d and was lost in a switchover", e.op, e.epoch, e.log.id, e.off)
		default:
			continue
		}
		return
	}
}

// leftOut reports whether a log on record leaves out what e wrote, and whether the first that does came
// by a switchover.
func (w *world) leftOut(e execution) (gone, planned bool) {
	for _, f := range w.forks {
		if f.epoch <= e.epoch {
			continue
		}
		log, at := f.parent, f.at
		for log != e.log.id && log != "" {
			i := slices.IndexFunc(w.forks, func(o leaving) bool { return o.log == log })
			if i < 0 {
				break
			}
			log, at = w.forks[i].parent, min(at, w.forks[i].at)
		}
		if log != e.log.id || at < e.off {
			return true, f.planned
		}
	}
	return false, false
}

// served reports whether the holder of the lead is a primary.
func (w *world) served() bool {
	n := w.target(-1)
	return w.store.lead.State == cluster.LeadHeld && n.proc != nil && n.proc.alive && n.proc.role == cluster.RolePrimary && n.permitUntil > w.now
}

// surviving is the primary whose data set is the group's.
func (w *world) surviving() (*proc, bool) {
	for _, n := range w.nodes {
		if p := n.proc; n.id == w.store.lead.Holder && p != nil && p.role == cluster.RolePrimary {
			return p, true
		}
	}
	w.fail("the primary was lost again after all faults had ended")
	return nil, false
}

// dataOf reads a server's data set.
func dataOf(p *proc) history.Data {
	d := history.Data{Registers: map[string]string{}, Lists: map[string][]string{}, Counters: map[string]int64{}}
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
	return d
}
