package failover

import (
	"slices"
	"time"

	"understudy/cluster"
)

// joint is a change of the voter rule that old permits do not cover: until those have ended, both
// rules must be satisfied.
type joint struct {
	rule     cluster.Rule
	oldUntil time.Duration // the last permit that knew only the old rule ends then
	mark     int64         // what the new voters must hold before the new rule may be stored
	marked   bool
}

// sentRules are those that were sent to the store to replace the record of one revision. Until that record is
// known to have changed, each of them may still get there, and an election go by it: a store that was down may
// carry out late what it was told before. So each is demanded until then, whatever became of the wish for it.
type sentRules struct {
	base  int64
	rules []cluster.Rule
}

func (s *sentRules) add(base int64, r cluster.Rule) {
	if s.base != base {
		s.base, s.rules = base, nil
	}
	if !slices.ContainsFunc(s.rules, r.Equal) {
		s.rules = append(s.rules, r)
	}
}

// under are those that may still replace the record of this revision.
func (s *sentRules) under(base int64) []cluster.Rule {
	if s.base != base {
		return nil
	}
	return s.rules
}

// replicaTrack says how long a replica has been keeping up. But for since, its times are readings of
// looks.watched.
type replicaTrack struct {
	online  bool
	goneAt  time.Duration // since when it has been away
	need    int64         // an offset of ours that it has not acknowledged yet
	needAt  time.Duration // since when
	current bool          // it has once acknowledged all that we had
	since   time.Duration // when that was first seen, by the clock
}

// looks is the time in which a primary has looked at its replicas. A machine that is starved of its processor,
// or whose redis-server is slow to answer, does not look, and what a replica says meanwhile is not heard: that
// is not the replica's silence. Voters were dropped for it while nothing was wrong with them.
type looks struct {
	at      time.Duration // of the newest look
	watched time.Duration // how long has been looked at, since the lead was taken
}

// longestLook is how many probe intervals the time between two looks counts at most: one late look is nothing
// special, and a replica that is gone is dropped after a few looks even where each is late.
const longestLook = 3

// look counts a look that was begun at the given time.
func (s *looks) look(at, probe time.Duration) {
	if s.at > 0 {
		s.watched += min(max(at-s.at, 0), longestLook*probe)
	}
	s.at = max(s.at, at)
}

// leaveRule begins the epoch under the rule that it inherits and, jointly, under one without this
// node, of the nodes that were there at the election. A voter that leads cannot vouch for itself: the
// next election would need its own log. No permit of this epoch has been given that knew only the
// inherited rule, so nothing needs to end first.
func (m *Machine) leaveRule() {
	if m.cfg.Durability != cluster.DurabilitySync || !slices.Contains(m.lead.Rule.Voters, m.cfg.Self.Node) {
		return
	}
	present := m.election.present
	if m.election.epoch+1 != m.lead.Epoch || len(present) == 0 {
		present = m.others() // whichever comes first
	}
	m.leading.joint = &joint{rule: cluster.NewRule(cluster.DurabilitySync, present), oldUntil: m.in.Now}
}

// track keeps account of the replicas.
func (m *Machine) track() {
	d, l := &m.leading, m.in.Local
	if l.At <= m.redisAt {
		return
	}
	if d.replicas == nil {
		d.replicas = map[cluster.NodeID]*replicaTrack{}
	}
	d.looks.look(l.At, m.cfg.Profile.Probe)
	now := d.looks.watched
	for _, id := range m.others() {
		t := d.replicas[id]
		if t == nil {
			t = &replicaTrack{goneAt: now}
			d.replicas[id] = t
		}
		ack, online := l.acked(id)
		if !online {
			if t.online {
				t.goneAt, d.lostVoter = now, true
			}
			t.online, t.current = false, false
			continue
		}
		if !t.online {
			*t = replicaTrack{online: true, need: l.Position.Offset, needAt: now}
		}
		if ack >= t.need {
			if !t.current {
				t.since = m.in.Now
			}
			t.current, t.need, t.needAt = true, l.Position.Offset, now
		}
	}
}

// acked is what the replica has acknowledged. A primary may list one replica twice: a connection that
// has died unnoticed beside the one that replaced it.
func (l Local) acked(id cluster.NodeID) (offset int64, online bool) {
	for _, r := range l.Replicas {
		if r.Node == id && r.Online {
			offset, online = max(offset, r.Offset), true
		}
	}
	return offset, online
}

// keeps reports whether the replica should be in the rule. One that is in it already stays until it
// has been away for a while: a replica that re-points is back in milliseconds.
func (m *Machine) keeps(id cluster.NodeID, voter bool) bool {
	t, now := m.leading.replicas[id], m.leading.looks.watched
	if t == nil {
		return voter
	}
	if !t.online {
		return voter && now-t.goneAt < m.cfg.Profile.ShrinkAfter
	}
	if now-t.needAt >= m.cfg.Profile.StallAfter {
		return false
	}
	return voter || t.current
}

// changeRule moves the voter rule towards the replicas that are there. It returns the rule to store
// now, if any. Invariant 7: the rule is in the store before anything is acked under it alone.
func (m *Machine) changeRule() *cluster.Rule {
	if m.cfg.Durability != cluster.DurabilitySync || m.leading.replicas == nil {
		return nil
	}
	d, cur := &m.leading, m.lead.Rule
	var voters []cluster.NodeID
	for _, id := range m.others() {
		if m.keeps(id, slices.Contains(cur.Voters, id)) {
			voters = append(voters, id)
		}
	}
	if len(voters) == 0 && d.looks.watched < m.cfg.Profile.ShrinkAfter {
		return nil // just promoted: the replicas are on their way
	}
	target := cluster.NewRule(cluster.DurabilitySync, voters)
	if target.W == 0 && m.cfg.OnLostQuorum == cluster.LostQuorumRefuse {
		target = cur
	}
	if target.Equal(cur) {
		if !m.expectLoss(voters) {
			d.joint = nil
		}
		return nil
	}
	if cur.Implies(target, m.cfg.Self.Node) || m.cfg.Mutation == MutationRuleAtOnce {
		d.joint = nil
		return &target
	}
	return m.changeJointly(target)
}

// demandToo has the next permits know the rule besides the stored one.
func (m *Machine) demandToo(rule cluster.Rule) {
	d := &m.leading
	switch {
	case d.joint == nil:
		d.joint = &joint{rule: rule, oldUntil: m.writeUntil}
	case d.joint.rule.Equal(rule):
	case d.joint.rule.Implies(rule, m.cfg.Self.Node):
		// Whoever knows the joint rule demands enough for this one.
		d.joint = &joint{rule: rule, oldUntil: d.joint.oldUntil}
	default:
		d.joint = &joint{rule: rule, oldUntil: m.writeUntil}
	}
}

// expectLoss begins the change of the rule as soon as a voter has gone, not only when it has been away
// for a while: permits that do not know of it are then over sooner, and with them the time in which an
// election would need the log of a node that is not there. It reports whether one has gone.
func (m *Machine) expectLoss(voters []cluster.NodeID) bool {
	var there []cluster.NodeID
	for _, id := range voters {
		if t := m.leading.replicas[id]; t != nil && t.online {
			there = append(there, id)
		}
	}
	rule := cluster.NewRule(cluster.DurabilitySync, there)
	if len(there) == 0 || len(there) == len(voters) || m.lead.Rule.Implies(rule, m.cfg.Self.Node) {
		return false
	}
	m.demandToo(rule)
	return true
}

// changeJointly demands both rules until every permit that knew only the old one has ended and the
// new voters hold all that was acked before.
func (m *Machine) changeJointly(target cluster.Rule) *cluster.Rule {
	d, l := &m.leading, m.in.Local
	m.demandToo(target)
	j := d.joint
	if m.in.Now < j.oldUntil {
		m.wake(j.oldUntil)
		return nil
	}
	if !j.marked && l.At >= j.oldUntil {
		j.mark, j.marked = l.Position.Offset, true
	}
	if !j.marked {
		return nil
	}
	have := 0
	for _, v := range target.Voters {
		if ack, online := l.acked(v); online && ack >= j.mark {
			have++
		}
	}
	if have < target.W {
		return nil
	}
	return &target
}

// rules are what a proxy must see satisfied before it gives a reply to its client.
func (m *Machine) rules() []cluster.Rule {
	if m.cfg.Durability != cluster.DurabilitySync {
		return nil
	}
	rules := []cluster.Rule{m.lead.Rule}
	if j := m.leading.joint; j != nil {
		if m.cfg.Mutation == MutationRuleBeforeStore {
			return []cluster.Rule{j.rule}
		}
		rules = append(rules, j.rule)
	}
	for _, r := range m.leading.sent.under(m.base()) {
		found := func(x cluster.Rule) bool { return x.Implies(r, m.cfg.Self.Node) }
		if !slices.ContainsFunc(rules, found) && m.cfg.Mutation != MutationRuleForgotten {
			rules = append(rules, r)
		}
	}
	return rules
}

// alone reports whether the rule has no voter left, in the store or on its way there: from then on no other log
// need have what is acked.
func (m *Machine) alone() bool {
	if m.cfg.Durability != cluster.DurabilitySync {
		return false
	}
	next, underWay := m.busy(classStore)
	return m.lead.Rule.W == 0 || underWay && next.Lead.Rule.W == 0
}

// noQuorum reports whether no write can be acked with the replicas that are there, and the rule may not be
// shrunk for that: new writes wait instead of being carried out on one node. A replica that is on its way
// does not count as gone yet.
func (m *Machine) noQuorum() bool {
	if m.cfg.OnLostQuorum != cluster.LostQuorumRefuse || m.leading.replicas == nil {
		return false
	}
	var there []cluster.NodeID
	for id, t := range m.leading.replicas {
		since, patience := t.goneAt, m.cfg.Profile.ShrinkAfter
		if t.online { // it may be frozen: its connection lives on for long
			since, patience = t.needAt, m.cfg.Profile.StallAfter
		}
		if m.leading.looks.watched-since < patience {
			there = append(there, id)
		}
	}
	for _, r := range m.rules() {
		if !r.Satisfied(m.cfg.Self.Node, there) {
			return true
		}
	}
	return false
}
