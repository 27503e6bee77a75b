package sim

import (
	"time"

	"understudy/cluster"
	"understudy/failover"
)

// store is the one record: linearizable compare-and-swap, behind a network that delays, loses and
// repeats nothing.
type store struct {
	w        *world
	revision int64
	lead     cluster.Lead
	holders  []cluster.NodeID // by epoch

	down    int           // how many faults hold it down now
	backlog []func()      // requests that came meanwhile
	slow    time.Duration // how long its disk takes
	forgets int           // percent of the answers that are lost
}

func (s *store) host() int { return len(s.w.links) - 1 }

// request carries do out at the store, as soon as it is up, and sends the answer back.
func (s *store) request(from int, do func() (answer func())) {
	s.w.send(from, s.host(), func() {
		serve := func() {
			s.w.at(nil, s.w.now+s.w.between(100*us, ms)+s.slow, func() {
				answer := do()
				if s.w.rng.IntN(100) >= s.forgets {
					s.w.send(s.host(), from, answer)
				}
			})
		}
		if s.down > 0 {
			s.backlog = append(s.backlog, serve)
			return
		}
		serve()
	})
}

func (s *store) up() {
	if s.down--; s.down > 0 {
		return
	}
	waiting := s.backlog
	s.backlog = nil
	for _, serve := range waiting {
		serve()
	}
}

// swap is compare-and-swap; it returns the new revision, 0 on a conflict.
func (s *store) swap(next cluster.Lead, revision int64) int64 {
	if revision != s.revision {
		return 0
	}
	s.check(next)
	s.revision++
	s.lead = next
	s.w.mark("lead", int64(next.Epoch)<<32|int64(next.Seq))
	s.w.tracef("store: rev %d epoch %d %s %s promoted=%v rule=%v/%d/%d %s %s", s.revision, next.Epoch, next.Holder, next.State,
		next.Promoted, next.Rule.Voters, next.Rule.W, next.Rule.Copies, next.Kind, next.Cause)
	for _, n := range s.w.nodes {
		s.notify(n)
	}
	return s.revision
}

// check: epochs only grow, and have one holder each.
func (s *store) check(next cluster.Lead) {
	if next.Epoch < s.lead.Epoch {
		s.w.fail("the epoch went back in the store: %d -> %d", s.lead.Epoch, next.Epoch)
	}
	for int(next.Epoch) >= len(s.holders) {
		s.holders = append(s.holders, "")
	}
	if h := s.holders[next.Epoch]; h != "" && h != next.Holder {
		s.w.fail("epoch %d has two holders: %s and %s", next.Epoch, h, next.Holder)
	}
	s.holders[next.Epoch] = next.Holder
}

// notify is the watch of one node: a change that does not get through is read again later.
func (s *store) notify(n *node) {
	a := n.agent
	if a == nil {
		return
	}
	if s.down > 0 || !s.w.open(s.host(), n.index) {
		a.watchLater()
		return
	}
	lead, revision := s.lead, s.revision
	s.w.send(s.host(), n.index, func() { a.sawLead(lead, revision) })
}

// watchLater lists and watches again, as a broken watch does.
func (a *agent) watchLater() {
	if a.relisting {
		return
	}
	a.relisting = true
	a.w.at(&a.actor, a.w.now+a.w.between(50*ms, 2*a.w.profile.Renew), func() {
		a.relisting = false
		if a.alive {
			a.list(func(ok bool) {
				if !ok {
					a.watchLater()
				}
			})
		}
	})
}

// list reads the record; done is told whether an answer came in time.
func (a *agent) list(done func(ok bool)) {
	ended := false
	end := func(ok bool) {
		if !ended && a.alive {
			ended = true
			done(ok)
		}
	}
	s := a.w.store
	s.request(a.n.index, func() func() {
		lead, revision := s.lead, s.revision
		return func() {
			a.sawLead(lead, revision)
			end(true)
		}
	})
	a.w.at(&a.actor, a.w.now+a.callTimeout(), func() { end(false) })
}

func (a *agent) sawLead(lead cluster.Lead, revision int64) {
	a.post(func() {
		if !a.in.Store.Known || revision > a.in.Store.Revision {
			a.in.Store = failover.StoreView{Known: true, Lead: lead, Revision: revision, SeenAt: a.clock()}
		}
	})
}

// swap carries an ActSwap out. After anything but a success it reads the record first.
func (a *agent) swap(action failover.Action) {
	ended := false
	end := func(r failover.Result) {
		if ended || !a.alive {
			return
		}
		ended = true
		r.ID, r.Kind = action.ID, action.Kind
		if r.Outcome == failover.OutcomeOK {
			a.sawLead(action.Lead, r.Revision)
			a.post(func() { a.in.Results = append(a.in.Results, r) })
			return
		}
		a.list(func(bool) { a.post(func() { a.in.Results = append(a.in.Results, r) }) })
	}
	s := a.w.store
	s.request(a.n.index, func() func() {
		revision := s.swap(action.Lead, action.Revision)
		return func() {
			if revision == 0 {
				end(failover.Result{Outcome: failover.OutcomeConflict, Detail: "conflict"})
				return
			}
			end(failover.Result{Outcome: failover.OutcomeOK, Revision: revision})
		}
	})
	a.w.at(&a.actor, a.w.now+a.callTimeout(), func() {
		end(failover.Result{Outcome: failover.OutcomeUnknown, Detail: "no answer"})
	})
}
