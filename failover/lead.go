package failover

import (
	"fmt"
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
	sent     sentRules
	looks    looks
	replicas map[cluster.NodeID]*replicaTrack
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
		m.leading.sent.add(m.base(), next.Rule)
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
