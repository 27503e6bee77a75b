package sim

import (
	"slices"
	"time"

	"understudy/cluster"
	"understudy/failover"
)

// store is the one record: linearizable compare-and-swap, carried out by members of which one leads, as
// etcd's are. A leader that no majority follows any more carries nothing out; what had reached it may
// still be carried out by the next one, or never, and whoever asked does not hear which.
type store struct {
	w        *world
	revision int64
	lead     cluster.Lead
	past     []record         // what a backup may hold, oldest first
	holders  []cluster.NodeID // by epoch
	restored bool
	era      int // counts restorations: what was under way before one is lost with its connection

	members  []member
	leader   int // of members; -1: none
	term     int // counts leaders and elections
	backlog  []pending
	endpoint []int // by host: the member that it talks to

	slow    time.Duration // how long the disks take
	forgets int           // percent of the answers that are lost
}

// member is one server of the store, on a host of its own: a zone's, as far as faults go.
type member struct {
	host   int
	down   int  // how many faults hold it down now
	lagged bool // it was cut off from the leader, and its watchers were not told of something
}

// record is the key at one moment.
type record struct {
	at       time.Duration
	revision int64
	lead     cluster.Lead
}

// pending is a request that waits for a leader.
type pending struct {
	era    int
	via    int // the member that it came to
	do     func() (answer func())
	answer func(func())
}

func newStore(w *world, firstHost int) *store {
	s := &store{w: w}
	for i := range w.sched.Members {
		s.members = append(s.members, member{host: firstHost + i})
	}
	for h := range w.links {
		s.endpoint = append(s.endpoint, h%len(s.members)) // the one of its own zone
	}
	return s
}

// hosts are those of the members.
func (s *store) hosts() []int {
	var hosts []int
	for _, m := range s.members {
		hosts = append(hosts, m.host)
	}
	return hosts
}

// request carries do out at the store, as soon as there is a leader, and sends the answer back.
func (s *store) request(from int, do func() (answer func())) {
	via, era := s.endpoint[from], s.era
	host := s.members[via].host
	s.w.send(from, host, func() {
		s.arrive(pending{era: era, via: via, do: do, answer: func(answer func()) {
			if s.w.rng.IntN(100) >= s.forgets {
				s.w.send(host, from, answer)
			}
		}})
	})
}

// turn has a host talk to another member: the one that it talked to did not answer.
func (s *store) turn(from int) { s.endpoint[from] = (s.endpoint[from] + 1) % len(s.members) }

// arrive takes a request at a member, which hands it on to the leader.
func (s *store) arrive(p pending) {
	switch {
	case p.era != s.era:
		return
	case s.leader < 0 && s.w.chance(50):
		s.backlog = append(s.backlog, p)
	case s.leader < 0, s.members[p.via].down > 0:
		return // whoever asked hears nothing in time
	case s.leader == p.via:
		s.serve(p)
	case s.joined(p.via, s.leader):
		to, back := s.members[s.leader].host, p.answer
		p.answer = func(answer func()) { s.w.send(to, s.members[p.via].host, func() { back(answer) }) }
		s.w.send(s.members[p.via].host, to, func() { s.serve(p) })
	}
}

// serve carries a request out, unless the leader is lost meanwhile.
func (s *store) serve(p pending) {
	term := s.term
	s.w.at(nil, s.w.now+s.w.between(100*us, ms)+s.slow, func() {
		switch {
		case p.era != s.era:
			return
		case s.term == term && s.leader >= 0:
			p.answer(p.do())
		case s.w.chance(50):
			p.answer = func(func()) {} // its client has given up, and the entry is in the log of the next leader
			s.backlog = append(s.backlog, p)
			s.drain()
		}
	})
}

func (s *store) drain() {
	if s.leader < 0 {
		return
	}
	waiting := s.backlog
	s.backlog = nil
	for _, p := range waiting {
		s.serve(p)
	}
}

// joined reports whether two members reach each other.
func (s *store) joined(a, b int) bool {
	x, y := s.members[a], s.members[b]
	return x.down == 0 && y.down == 0 && (a == b || s.w.open(x.host, y.host) && s.w.open(y.host, x.host))
}

// follows reports whether a majority would follow member m.
func (s *store) follows(m int) bool {
	n := 0
	for i := range s.members {
		if s.joined(m, i) {
			n++
		}
	}
	return n > len(s.members)/2
}

// look is called when a member or a link came or went: it takes the lead from a member that no majority
// follows, and has another elected.
func (s *store) look() {
	switch {
	case s.leader >= 0 && s.follows(s.leader):
		for i := range s.members {
			if m := &s.members[i]; m.lagged && s.joined(i, s.leader) {
				m.lagged = false
				s.notifyAll()
			}
		}
		return
	case s.leader >= 0:
		s.w.tracef("store: member %d does not lead any more", s.leader)
	}
	s.depose()
}

// depose leaves the store without a leader until an election has ended.
func (s *store) depose() {
	s.leader = -1
	s.term++
	term, wait := s.term, s.w.between(100*ms, time.Second)
	if len(s.members) == 1 {
		wait = 0 // it has only itself to ask
	}
	s.w.at(nil, s.w.now+wait, func() {
		if s.term == term {
			s.elect()
		}
	})
}

// elect chooses any member that a majority follows. Without one the next change is waited for.
func (s *store) elect() {
	var fit []int
	for i := range s.members {
		if s.follows(i) {
			fit = append(fit, i)
		}
	}
	if len(fit) == 0 {
		return
	}
	s.leader = fit[s.w.rng.IntN(len(fit))]
	s.term++
	if len(s.members) > 1 {
		s.w.tracef("store: member %d leads", s.leader)
	}
	s.look()
	s.drain()
}

// hold takes members down until the function that it returns is called.
func (s *store) hold(members ...int) (up func()) {
	for _, m := range members {
		s.members[m].down++
	}
	s.look()
	return func() {
		for _, m := range members {
			s.members[m].down--
		}
		s.look()
	}
}

// bumped is by how much an operator raises the revision of a backup.
const bumped = 1000

// restore puts a backup back: the record and its revision as they were a while ago.
func (s *store) restore(age time.Duration) {
	r := record{}
	for _, p := range s.past {
		// A store that lost all and a node that lost all begin a new group together: nobody is there to object
		// until the others are heard.
		if p.at <= s.w.now-age || r.revision == 0 && s.w.destroyed {
			r = p
		}
	}
	s.w.tracef("store: restored from a backup of revision %d, epoch %d; it was at revision %d, epoch %d", r.revision, r.lead.Epoch, s.revision, s.lead.Epoch)
	if s.w.chance(50) && r.revision > 0 {
		r.revision = s.revision + bumped // as etcd's manual advises
	}
	s.lead, s.revision, s.restored, s.backlog = r.lead, r.revision, true, nil
	s.era++
	s.past = []record{r}
	for _, n := range s.w.nodes {
		if n.agent != nil {
			n.agent.watchLater()
		}
	}
}

// swap is compare-and-swap; it returns the new revision, 0 on a conflict. known is the record that the
// asker has seen under the revision, nil if it has not: a restored store gives revisions out again.
func (s *store) swap(next cluster.Lead, revision int64, known *cluster.Lead) int64 {
	if revision != s.revision || known != nil && !sameLead(*known, s.lead) {
		return 0
	}
	s.check(next)
	s.revision++
	s.lead = next
	s.past = append(s.past, record{s.w.now, s.revision, next})
	s.w.ledger(next)
	s.w.mark("lead", int64(next.Epoch)<<32|int64(next.Seq))
	s.w.tracef("store: rev %d epoch %d %s %s promoted=%v rule=%v/%d/%d %s %s", s.revision, next.Epoch, next.Holder, next.State,
		next.Promoted, next.Rule.Voters, next.Rule.W, next.Rule.Copies, next.Kind, next.Cause)
	s.notifyAll()
	return s.revision
}

// check: epochs only grow, and have one holder each, whatever is restored; a rule that must not be given
// up is not.
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
	if s.w.sched.Refuse && s.w.sched.Durability == cluster.DurabilitySync && s.lead.Rule.W > 0 && next.Rule.W == 0 {
		s.w.fail("the rule shrank to no voter in epoch %d although it must not", next.Epoch)
	}
}

func (s *store) notifyAll() {
	for _, n := range s.w.nodes {
		s.notify(n)
	}
}

// notify is the watch of one node: a change that does not get through is read again later. A member that
// the leader does not reach may also just say nothing until it does.
func (s *store) notify(n *node) {
	a, via := n.agent, s.endpoint[n.index]
	if a == nil {
		return
	}
	host := s.members[via].host
	switch {
	case s.leader >= 0 && s.joined(s.leader, via):
	case s.w.chance(50):
		s.members[via].lagged = true
		return
	default:
		a.watchLater()
		return
	}
	if !s.w.open(host, n.index) {
		a.watchLater()
		return
	}
	lead, revision := s.lead, s.revision
	deliver := func() { s.w.send(host, n.index, func() { a.sawLead(lead, revision, 0) }) }
	if via == s.leader {
		deliver()
		return
	}
	s.w.send(s.members[s.leader].host, host, deliver)
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
			a.list(a.callTimeout(), func(ok bool) {
				if !ok {
					a.watchLater()
				}
			})
		}
	})
}

// list reads the record as a whole; done is told whether an answer came in time.
func (a *agent) list(limit time.Duration, done func(ok bool)) {
	ended, sent := false, a.clock()
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
			a.sawLead(lead, revision, sent)
			end(true)
		}
	})
	a.w.at(&a.actor, a.w.now+limit, func() {
		if !ended {
			s.turn(a.n.index)
		}
		end(false)
	})
}

// sawLead takes what the store says. sent is when it was asked as a whole, 0 for news of a change: less
// than what was known before that means that it was restored from a backup.
func (a *agent) sawLead(lead cluster.Lead, revision int64, sent time.Duration) {
	a.post(func() {
		old := a.in.Store
		back := old.Known && sent > old.SeenAt && (revision < old.Revision || revision == old.Revision && !sameLead(lead, old.Lead))
		if back {
			a.watchLater()
		}
		if !old.Known || revision > old.Revision || back {
			a.in.Store = failover.StoreView{Known: true, Lead: lead, Revision: revision, SeenAt: a.clock()}
		}
	})
}

// sameLead compares what no two records have in common: a store that was restored gives revisions out again.
func sameLead(a, b cluster.Lead) bool {
	return a.Epoch == b.Epoch && a.Seq == b.Seq && a.Holder == b.Holder && a.State == b.State
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
			a.sawLead(action.Lead, r.Revision, 0)
			a.post(func() { a.in.Results = append(a.in.Results, r) })
			return
		}
		a.list(a.callTimeout(), func(bool) { a.post(func() { a.in.Results = append(a.in.Results, r) }) })
	}
	s := a.w.store
	var known *cluster.Lead
	if v := a.in.Store; v.Revision == action.Revision && v.Revision > 0 {
		known = &v.Lead
	}
	s.request(a.n.index, func() func() {
		revision := s.swap(action.Lead, action.Revision, known)
		return func() {
			if revision == 0 {
				end(failover.Result{Outcome: failover.OutcomeConflict, Detail: "conflict"})
				return
			}
			end(failover.Result{Outcome: failover.OutcomeOK, Revision: revision})
		}
	})
	a.w.at(&a.actor, a.w.now+a.callTimeout(), func() {
		if !ended {
			s.turn(a.n.index)
		}
		end(failover.Result{Outcome: failover.OutcomeUnknown, Detail: "no answer"})
	})
}

// upMembers names the members that no fault holds down.
func (s *store) upMembers() []int {
	var up []int
	for i, m := range s.members {
		if m.down == 0 {
			up = append(up, i)
		}
	}
	return up
}

// majority names enough members to be one, the leader first.
func (s *store) majority() []int {
	order := s.upMembers()
	slices.SortStableFunc(order, func(a, b int) int { return boolInt(b == s.leader) - boolInt(a == s.leader) })
	return order[:min(len(order), len(s.members)/2+1)]
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}
