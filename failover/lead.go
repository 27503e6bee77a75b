package failover

import (
	"fmt"
	"slices"
	"time"

	"understudy/cluster"
)

// leading is the state of a holder.
type leading struct {
	since     time.Duration // the claim was confirmed
	promoted  Result
	failed    bool
	granted   bool          // the first permit of this epoch was given
	sentAt    time.Duration // of the renewal under way
	renewAt   time.Duration
	startedAt time.Duration // the promotion was asked for
	okAt      time.Duration // the newest renewal that the store has taken was sent then
	pledging  pledging
	lostVoter bool          // a voter's link has gone: the others may know why
	readOnly  time.Duration // since when redis-server refuses every write; 0: it does not
	moveAt    time.Duration // not before this is the lead handed over without having been asked for

	joint    *joint
	replicas map[cluster.NodeID]*replicaTrack
}

// joint is a change of the voter rule that old permits do not cover: until those have ended, both
// rules must be satisfied.
type joint struct {
	rule     cluster.Rule
	oldUntil time.Duration // the last permit that knew only the old rule ends then
	mark     int64         // what the new voters must hold before the new rule may be stored
	marked   bool
}

// replicaTrack says how long a replica has been keeping up.
type replicaTrack struct {
	online  bool
	goneAt  time.Duration // since when it has been away
	need    int64         // an offset of ours that it has not acknowledged yet
	needAt  time.Duration // since when
	current bool          // it has once acknowledged all that we had
	since   time.Duration // when that was first seen
}

// promote makes the redis-server writable. The claim is ours, no permit has been given yet.
func (m *Machine) promote() {
	d := &m.leading
	if m.deposed() {
		return
	}
	if d.startedAt == 0 {
		if m.do(Action{Kind: ActPromote, Epoch: m.lead.Epoch}) {
			d.startedAt = m.in.Now
			d.promoted = Result{}
		}
		return
	}
	if m.cfg.Mutation == MutationServeBeforeStore && d.promoted.Outcome == OutcomeOK {
		m.writeUntil = m.in.Now + m.cfg.Profile.TTL - m.cfg.Profile.Delta
	}
	switch {
	case d.failed:
		m.startFence("promotion failed: " + d.promoted.Detail)
	case d.promoted.Outcome == OutcomeOK:
		m.mode = modeRecord
	}
}

// record puts the new log's lineage into the store; its acknowledgement is the first permit.
func (m *Machine) record() {
	d := &m.leading
	if m.deposed() {
		return
	}
	if m.lead.Promoted && m.writeUntil > m.in.Now {
		m.ledBoot = m.lead.Boot
		m.mode = modeLead
		return
	}
	// A watch may show our record before our own swap is answered, or instead of that: only an
	// acknowledgement gives a permit.
	if _, waiting := m.busy(classStore); waiting || m.in.Now < d.renewAt {
		m.wake(d.renewAt)
		return
	}
	next := m.renewal()
	next.Boot, next.Promoted = m.in.Local.Boot, true
	next.Position = d.promoted.Position
	next.Lineage = extend(m.lead.Lineage, m.lead.Epoch, d.promoted.Position, d.promoted.Prev)
	next.Phases = phases(m.lead.Phases, "promote", m.in.Now-d.since)
	m.send(next, "record lineage")
}

// hold is the life of a primary.
func (m *Machine) hold() {
	d := &m.leading
	if m.deposed() {
		return
	}
	if m.in.Now >= m.writeUntil {
		m.startFence("the store has not confirmed the permit in time")
		return
	}
	m.wake(m.writeUntil)
	m.track()
	m.askPledges()
	if m.moveOn() {
		return
	}
	m.askWhy()
	next, urgent := m.renewal(), m.changeRule()
	if urgent != nil {
		next.Rule = *urgent
	}
	if cause := m.needsNewEpoch(); cause != "" {
		// Our log goes on, so nothing else changes.
		next.Epoch, next.Kind, next.From, next.Cause = m.lead.Epoch+1, cluster.KindSwitchover, m.cfg.Self.Node, cause
		urgent = &next.Rule
	}
	if m.in.Now >= d.renewAt || urgent != nil {
		m.send(next, "renew")
	}
	m.wake(d.renewAt)
}

// needsNewEpoch says why this primary must take a new epoch for itself; "" when it need not.
func (m *Machine) needsNewEpoch() string {
	if m.backward {
		return "the store went back in time"
	}
	for _, r := range m.in.Peers {
		if r.Revoked == m.lead.Epoch {
			// It will not follow this epoch any more, and we are still here: a false alarm.
			return fmt.Sprintf("%s had given this primary up", r.Node)
		}
	}
	return ""
}

// askWhy asks the others how they are when a voter has gone: if it has let go of this epoch for good, it
// comes back only under a new one, and until then there may be no quorum.
func (m *Machine) askWhy() {
	if m.leading.lostVoter && m.do(Action{Kind: ActAsk, For: m.cfg.Profile.Window}) {
		m.leading.lostVoter = false
	}
}

// moveAgainAfter is how many T pass before a lead that could not be handed over is tried again.
const moveAgainAfter = 20

// moveOn hands the lead over without having been asked: when redis-server cannot write to its disk, and
// inside the window, back to the zone where the primary belongs.
func (m *Machine) moveOn() bool {
	d, l := &m.leading, m.in.Local
	switch {
	case l.ReadOnly == "":
		d.readOnly = 0
	case d.readOnly == 0:
		d.readOnly = m.in.Now
	}
	r := Request{Kind: RequestSwitchover}
	home := m.cfg.PreferredZone
	switch {
	case m.in.Now < d.moveAt:
		return false
	case d.readOnly > 0:
		due := d.readOnly + m.cfg.Profile.hang()
		m.wake(due)
		if m.in.Now < due {
			return false
		}
		r.Cause = "redis-server refuses writes: " + l.ReadOnly
	case m.in.ReturnNow && home != "" && home != m.cfg.Self.Zone && len(m.lead.Rule.Voters) == len(m.others()):
		r.Cause, r.Zone = "back to the preferred zone", home
	default:
		return false
	}
	r.ID = fmt.Sprintf("move-%d-%d", m.lead.Epoch, m.in.Now)
	to, reason := m.successor(r)
	if reason != "" {
		d.moveAt = m.in.Now + m.cfg.Profile.TTL
		return false
	}
	d.moveAt = m.in.Now + moveAgainAfter*m.cfg.Profile.TTL
	m.handOver(r, to)
	return true
}

// renewal is the lead as it is, a little newer.
func (m *Machine) renewal() cluster.Lead {
	next := m.lead
	next.Seq++
	next.Position = m.in.Local.Position
	return next
}

// send swaps the lead for next. The permit that comes with its acknowledgement is counted from now,
// before it is sent.
func (m *Machine) send(next cluster.Lead, why string) {
	if m.do(Action{Kind: ActSwap, Lead: next, Revision: m.base(), Why: why}) {
		m.leading.sentAt = m.in.Now
		m.leading.renewAt = m.in.Now + m.cfg.Profile.Renew
	}
}

// swapped takes the store's answer.
func (m *Machine) swapped(a Action, r Result) {
	switch r.Outcome {
	case OutcomeOK:
		if r.Revision > m.base() {
			m.adopt(a.Lead, r.Revision, m.in.Now)
		}
		m.renewed(a.Lead)
	case OutcomeConflict, OutcomeUnknown, OutcomeFailed:
		// The record itself, read again by the shell, says what is true now.
		m.leading.renewAt = m.in.Now + m.cfg.Profile.Renew/2
		if m.mode == modeHandover {
			m.handover.failed = "store: " + r.Outcome.String() + " " + r.Detail
		}
	}
}

// renewed extends the permit when the acknowledged record is ours and names a promoted holder.
func (m *Machine) renewed(l cluster.Lead) {
	d := &m.leading
	if l.Holder != m.cfg.Self.Node || l.State != cluster.LeadHeld || !l.Promoted {
		return
	}
	if m.mode != modeRecord && m.mode != modeLead {
		return
	}
	from := d.sentAt
	if m.cfg.Mutation == MutationDeadlineFromAck {
		from = m.in.Now
	}
	m.writeUntil = max(m.writeUntil, from+m.cfg.Profile.TTL-m.cfg.Profile.Delta)
	d.okAt = d.sentAt
	if d.pledging.active {
		d.pledging.active = false
		m.event("store_back", "the store answers again")
	}
	if d.joint != nil && l.Rule.Equal(d.joint.rule) {
		d.joint = nil
	}
	if !d.granted {
		d.granted = true
		m.leaveRule()
		m.served(l)
	}
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

// served is the end of a change of primary.
func (m *Machine) served(l cluster.Lead) {
	m.event("serving", fmt.Sprintf("%s accepts writes under epoch %d: %s", l.Holder, l.Epoch, l.Kind))
	e := &m.out.Events[len(m.out.Events)-1]
	e.Phases = phases(l.Phases, "route", m.in.Now-m.leading.sentAt)
	if m.force != nil {
		m.reply(*m.force, Reply{OK: true, Message: fmt.Sprintf("%s leads: %s", l.Holder, l.Cause)})
		m.force = nil
	}
}

// deposed leaves the lead when the record says that it is not ours any more, or when the
// redis-server behind it is gone or hangs.
func (m *Machine) deposed() bool {
	l := m.in.Local
	switch {
	case m.lead.Holder != m.cfg.Self.Node || m.lead.State != cluster.LeadHeld:
		m.startFence("another node has the lead")
	case m.lead.Boot != "" && l.Process == ProcessRunning && m.lead.Boot != l.Boot:
		m.startFence("restarted")
	case l.Process != ProcessRunning:
		m.event("primary_lost", l.Exit)
		m.writeUntil = 0
		// The others elect first: a server that reads its data set meanwhile would only take the
		// processor from them.
		m.startAfter = max(m.startAfter, m.in.Now+m.cfg.Profile.Window)
		m.startRelease("redis-server ended: " + l.Exit)
	case m.hung():
		m.event("primary_hung", fmt.Sprintf("no answer for %v", m.in.Now-l.OKAt))
		m.startFence("redis-server hangs")
	case m.busyTooLong():
		m.event("primary_hung", fmt.Sprintf("busy with a script since %v", m.in.Now-max(m.busyAt, m.leading.since)))
		m.startFence("redis-server is busy with a script")
	case m.writeUntil > 0 && l.At > m.redisAt && l.Role == cluster.RoleReplica:
		m.startFence("redis-server was demoted from outside")
	case m.writeUntil > 0 && l.At > m.redisAt && l.Role == cluster.RolePrimary && m.lead.Promoted && l.Position.ReplID != m.log():
		m.startFence(fmt.Sprintf("redis-server writes another log than the recorded one: %v, not %.8s", l.Position, m.log()))
	default:
		return false
	}
	return true
}

// busyTooLong reports whether the server has answered -BUSY for T: it lives, and serves nobody. (Until its
// busy-reply-threshold it does not answer at all, and counts as hung much sooner.)
func (m *Machine) busyTooLong() bool {
	if !m.in.Local.Busy {
		m.busyAt = m.in.Now
		return false
	}
	since := max(m.busyAt, m.leading.since) // what was before this lead is not counted
	m.wake(since + m.cfg.Profile.TTL)
	return m.in.Now-since >= m.cfg.Profile.TTL
}

// log is the replication id of the newest recorded log.
func (m *Machine) log() string {
	if n := len(m.lead.Lineage); n > 0 {
		return m.lead.Lineage[n-1].ReplID
	}
	return ""
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
	for _, id := range m.others() {
		t := d.replicas[id]
		if t == nil {
			t = &replicaTrack{goneAt: m.in.Now}
			d.replicas[id] = t
		}
		ack, online := l.acked(id)
		if !online {
			if t.online {
				t.goneAt, d.lostVoter = m.in.Now, true
			}
			t.online, t.current = false, false
			continue
		}
		if !t.online {
			*t = replicaTrack{online: true, need: l.Position.Offset, needAt: m.in.Now}
		}
		if ack >= t.need {
			if !t.current {
				t.since = m.in.Now
			}
			t.current, t.need, t.needAt = true, l.Position.Offset, m.in.Now
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
	t := m.leading.replicas[id]
	if t == nil {
		return voter
	}
	if !t.online {
		return voter && m.in.Now-t.goneAt < m.cfg.Profile.ShrinkAfter
	}
	if m.in.Now-t.needAt >= m.cfg.Profile.StallAfter {
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
	if len(voters) == 0 && m.in.Now-d.since < m.cfg.Profile.ShrinkAfter {
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
	return rules
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
		since, patience := max(t.goneAt, m.leading.since), m.cfg.Profile.ShrinkAfter
		if t.online { // it may be frozen: its connection lives on for long
			since, patience = t.needAt, m.cfg.Profile.StallAfter
		}
		if m.in.Now-since < patience {
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
