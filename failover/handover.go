package failover

import (
	"fmt"
	"slices"
	"time"

	"understudy/cluster"
)

// handover is the state of a switchover away from this node, in the order of the design: hold,
// pause, offsets equal, demote the old one first, move the epoch.
type handover struct {
	request Request
	to      cluster.NodeID
	since   time.Duration
	pausing bool
	paused  bool
	demoted bool
	until   time.Duration    // writes are paused until then at least
	at      cluster.Position // where the log ended when both had all of it
	moved   bool
	base    int64 // the revision that the moved epoch replaces
	failed  string
}

// release is the state of giving up the lead without a successor.
type release struct {
	cause string
	since time.Duration // the loss was noticed
	fence time.Duration // how long fencing took
	tryAt time.Duration
}

// pauseFor bounds a switchover's pause: beyond it the client's patience is worth more.
func (m *Machine) pauseFor() time.Duration { return m.cfg.Profile.TTL / 2 }

// request takes an operator's wish.
func (m *Machine) request() {
	r := m.in.Request
	if r == nil {
		return
	}
	if old, ok := m.answered[r.ID]; ok {
		m.out.Replies = append(m.out.Replies, old)
		return
	}
	switch {
	case r.Kind == RequestStop:
		m.stop(*r)
	case r.Kind == RequestPledge:
		m.pledge(*r)
	case r.Kind == RequestForce:
		m.takeForce(*r)
	case m.mode == modeHandover:
		if m.handover.request.ID != r.ID {
			m.reply(*r, Reply{Refused: true, Message: "a switchover is under way already; wait for it"})
		}
	case m.mode != modeLead:
		m.reply(*r, Reply{Refused: true, Message: fmt.Sprintf("%s does not lead %s", m.cfg.Self.Node, m.cfg.Group)})
	default:
		to, reason := m.successor(*r)
		if reason != "" {
			m.reply(*r, Reply{Refused: true, Message: reason})
			return
		}
		if r.DryRun {
			m.out.Replies = append(m.out.Replies, Reply{ID: r.ID, OK: true, To: to, Lead: m.lead})
			return // not remembered: nothing was done
		}
		m.handOver(*r, to)
	}
}

// handOver begins a switchover.
func (m *Machine) handOver(r Request, to cluster.NodeID) {
	if r.Cause == "" {
		r.Cause = "requested"
	}
	m.handover = handover{request: r, to: to, since: m.in.Now}
	m.mode = modeHandover
	m.event("switchover_started", fmt.Sprintf("%s hands over to %s: %s", m.cfg.Self.Node, to, r.Cause))
}

// reply answers a request and remembers the answer.
func (m *Machine) reply(r Request, a Reply) {
	a.ID = r.ID
	if a.Lead.Epoch == 0 {
		a.Lead = m.lead
	}
	m.out.Replies = append(m.out.Replies, a)
	if a.Refused {
		return // nothing was done: the same request may be made again
	}
	m.answered[r.ID] = a
	m.order = append(m.order, r.ID)
	if len(m.order) > 64 {
		delete(m.answered, m.order[0])
		m.order = m.order[1:]
	}
}

// successor chooses whom to hand over to, or says why that is not possible.
func (m *Machine) successor(r Request) (cluster.NodeID, string) {
	if r.To == m.cfg.Self.Node {
		return "", fmt.Sprintf("%s is the primary already", r.To)
	}
	var best *Peer
	bestAck, known := int64(-1), false
	reasons := ""
	for i, n := range m.cfg.Nodes {
		if r.To != "" && n.Node != r.To || r.Zone != "" && n.Zone != r.Zone {
			continue
		}
		known = true
		if n.Node == m.cfg.Self.Node {
			reasons += fmt.Sprintf("; %s is the primary already", n.Node)
			continue
		}
		ack, why := m.canTakeOver(n.Node)
		if why != "" {
			reasons += fmt.Sprintf("; %s: %s", n.Node, why)
			continue
		}
		if best == nil || n.Priority > best.Priority || n.Priority == best.Priority && ack > bestAck {
			best, bestAck = &m.cfg.Nodes[i], ack
		}
	}
	switch {
	case !known:
		return "", fmt.Sprintf("no node of %s is named %q or lies in zone %q", m.cfg.Group, r.To, r.Zone)
	case best == nil:
		return "", "no node can take over now" + reasons
	}
	return best.Node, ""
}

// canTakeOver returns what the replica has acknowledged, or why it cannot be handed the lead.
func (m *Machine) canTakeOver(id cluster.NodeID) (int64, string) {
	t := m.leading.replicas[id]
	// A word from before it had caught up says nothing any more: it was loading then, perhaps.
	r, known := m.in.Peers[id]
	switch {
	case known && !r.Fit && (t == nil || !t.current || r.At >= t.since):
		return 0, r.Reason
	case r.ReadOnly != "":
		return 0, "its redis-server refuses writes: " + r.ReadOnly
	}
	if t == nil || !t.online {
		return 0, "it is not connected to the primary"
	}
	if !t.current {
		return 0, "it has not caught up yet"
	}
	if ack, online := m.in.Local.acked(id); online {
		return ack, ""
	}
	return 0, "it is not connected to the primary"
}

// hand carries a switchover out.
func (m *Machine) hand() {
	h := &m.handover
	if h.moved {
		m.handed()
		return
	}
	if !h.demoted && m.deposed() {
		m.reply(h.request, Reply{Message: "the primary was lost during the switchover; see the events"})
		return
	}
	if h.demoted && (m.lead.Holder != m.cfg.Self.Node || m.lead.State != cluster.LeadHeld) {
		// Demoted in time, too late to move: the epoch is not ours any more.
		m.reply(h.request, Reply{Message: fmt.Sprintf("%s took the lead during the switchover", m.lead.Holder)})
		m.startFence("another node has the lead")
		return
	}
	_, busy := m.busy(classRedis)
	switch {
	case busy:
		m.wake(m.in.Now + m.cfg.Profile.Probe)
	case h.failed != "" && !h.demoted:
		m.abort()
	case !h.pausing:
		wait := m.pauseFor()
		if m.cfg.Mutation == MutationSwitchoverNoWait {
			wait = 0
		}
		h.pausing = m.do(Action{Kind: ActPause, Node: h.to, For: wait})
		h.until = m.in.Now + wait + m.cfg.Profile.TTL
	case !h.paused:
		h.failed = "the pause had no answer"
	case !h.demoted:
		// From here on no reply of this epoch may be given as acked on this node's word; the new
		// primary's status says that all of the epoch is kept.
		m.writeUntil = 0
		m.do(Action{Kind: ActRevoke, Epoch: m.lead.Epoch})
	case m.in.Now >= h.until && m.cfg.Mutation != MutationSwitchoverNoWait:
		// The pause may have ended before the demotion: what was written then is here only.
		m.reply(h.request, Reply{Message: "the primary was demoted too late; this node takes the lead again"})
		m.startRelease("switchover: demoted after the pause had ended")
	default:
		m.move()
	}
}

// abort gives the switchover up before anything was moved.
func (m *Machine) abort() {
	h := &m.handover
	m.do(Action{Kind: ActResume})
	m.event("switchover_aborted", h.failed)
	m.reply(h.request, Reply{Message: fmt.Sprintf("switchover to %s given up after %v, nothing changed: %s", h.to, m.in.Now-h.since, h.failed)})
	if m.writeUntil == 0 {
		m.startFence("switchover failed: " + h.failed)
		return
	}
	m.mode = modeLead
}

// move gives the next epoch to the successor. The old primary has all of the old epoch's log and is
// a voter of the new rule, so no election can miss a write.
func (m *Machine) move() {
	h := &m.handover
	next := m.renewal()
	next.Epoch++
	next.Holder, next.Boot, next.Promoted = h.to, "", false
	next.Kind, next.From, next.Cause = cluster.KindSwitchover, m.cfg.Self.Node, h.request.Cause
	next.Phases = map[string]float64{"pause": milliseconds(m.in.Now - h.since)}
	next.Position = h.at
	if m.cfg.Durability == cluster.DurabilitySync {
		voters := []cluster.NodeID{m.cfg.Self.Node}
		for _, v := range m.lead.Rule.Voters {
			if v != h.to && v != m.cfg.Self.Node {
				voters = append(voters, v)
			}
		}
		next.Rule = cluster.NewRule(cluster.DurabilitySync, voters)
	}
	h.base = m.base()
	h.moved = m.do(Action{Kind: ActSwap, Lead: next, Revision: h.base, Why: "move the epoch"})
}

// handed waits until the successor serves, or until it is plain that it never got the lead.
func (m *Machine) handed() {
	h, l := &m.handover, m.lead
	_, waiting := m.busy(classStore)
	limit := h.since + m.pauseFor() + m.cfg.Profile.TTL
	switch {
	case m.revision > h.base && l.Holder == h.to && l.Promoted:
		m.reply(h.request, Reply{OK: true, Message: fmt.Sprintf("%s leads", h.to)})
		m.mode = modeFollow
	case m.revision > h.base && l.Holder != h.to, m.revision > h.base && l.State != cluster.LeadHeld:
		m.reply(h.request, Reply{Message: fmt.Sprintf("%s took the lead instead of %s", l.Holder, h.to)})
		m.mode = modeFollow
	case m.revision > h.base && m.in.Now >= limit:
		m.reply(h.request, Reply{Message: fmt.Sprintf("%s has the lead and does not serve yet; see the events", h.to)})
		m.mode = modeFollow
	case m.revision == h.base && !waiting && m.in.Now >= limit:
		m.reply(h.request, Reply{Message: "the store did not take the new epoch; this node takes the lead again"})
		m.startRelease("switchover failed in the store")
	default:
		m.wake(max(limit, m.in.Now+time.Millisecond))
	}
}

// stop fences and releases in order before the process ends.
func (m *Machine) stop(r Request) {
	m.stopping = true
	if m.mode == modeLead || m.mode == modePromote || m.mode == modeRecord || m.mode == modeHandover {
		m.startFence("stopped")
	}
	m.reply(r, Reply{OK: true, Message: "stopping"})
}

// startFence makes sure that the redis-server cannot accept a write: by demotion when it answers,
// by SIGKILL when it does not.
func (m *Machine) startFence(cause string) {
	m.fenceBy = m.fenceAt()
	m.writeUntil = 0
	m.leading.joint = nil
	m.releases = release{cause: cause, since: m.in.Now}
	m.mode = modeFence
	m.event("fencing", cause)
}

// fence waits until the redis-server is demoted or dead.
func (m *Machine) fence() {
	l, r := m.in.Local, &m.releases
	_, changing := m.busy(classRedis)
	demoted := m.revoked >= m.ownEpoch() && !changing && (l.At <= m.redisAt || l.Role == cluster.RoleReplica)
	if l.Process != ProcessRunning || demoted {
		m.startRelease(r.cause)
		return
	}
	kill := m.hung() || l.Busy || m.in.Now-r.since >= m.cfg.Profile.Probe
	switch p, busy := m.busy(classRedis); {
	case kill && (!busy || p.Kind != ActKill):
		m.do(Action{Kind: ActKill, Why: r.cause})
	case !busy && m.revoked < m.ownEpoch():
		m.do(Action{Kind: ActRevoke, Epoch: m.ownEpoch()})
	}
	m.wake(r.since + m.cfg.Profile.Probe)
	m.wake(m.in.Now + m.cfg.Profile.Probe)
}

// ownEpoch is the newest epoch under which this node may have accepted writes.
func (m *Machine) ownEpoch() cluster.Epoch {
	if m.lead.Holder == m.cfg.Self.Node {
		return m.lead.Epoch
	}
	return m.lead.Epoch - 1
}

// startRelease says in the store that this node is fenced.
func (m *Machine) startRelease(cause string) {
	since := m.in.Now
	if m.mode == modeFence {
		since = m.releases.since
	}
	m.writeUntil = 0
	m.leading.joint = nil
	m.releases = release{cause: cause, since: since, fence: m.in.Now - since}
	m.mode = modeRelease
}

// release puts the end of the lead into the store, if it is still ours to end.
func (m *Machine) release() {
	r := &m.releases
	if m.lead.Holder != m.cfg.Self.Node || m.lead.State != cluster.LeadHeld || m.backward {
		m.mode = modeFollow
		return
	}
	if _, waiting := m.busy(classStore); waiting || m.in.Now < r.tryAt {
		m.wake(r.tryAt)
		return
	}
	next := m.renewal()
	next.State, next.Cause = cluster.LeadReleased, r.cause
	detect := time.Duration(0)
	if l := m.in.Local; l.Process == ProcessRunning && m.hung() {
		detect = m.in.Now - l.OKAt
	}
	next.Phases = map[string]float64{"detect": milliseconds(detect), "fence": milliseconds(r.fence)}
	r.tryAt = m.in.Now + m.cfg.Profile.Probe
	m.do(Action{Kind: ActSwap, Lead: next, Revision: m.revision, Why: "release: " + r.cause})
}

// publish fills in what others may know.
func (m *Machine) publish() {
	l := m.in.Local
	leads := m.mode == modeLead && m.writeUntil > m.in.Now || m.mode == modeHandover && !m.handover.moved
	s := cluster.NodeStatus{
		Group: m.cfg.Group, Node: m.cfg.Self.Node, Zone: m.cfg.Self.Zone, Nodes: len(m.cfg.Nodes), Epoch: m.lead.Epoch,
		Durability: m.cfg.Durability, Position: l.Position, Role: cluster.RoleReplica, Leads: leads,
		Pausing: m.mode == modeHandover,
	}
	early := m.cfg.Mutation == MutationServeBeforeStore && m.mode == modeRecord && m.writeUntil > 0
	s.Leads = leads || early
	if s.Leads {
		s.Role, s.Kept, s.Rules = cluster.RolePrimary, m.lead.Kept(), slices.Clone(m.rules())
		s.Permit = max(0, m.writeUntil-m.in.Now)
		s.NoQuorum, s.Alone = m.noQuorum(), m.alone()
		if n := len(m.lead.Lineage); n > 0 {
			s.Fork = m.lead.Lineage[n-1]
		}
		if early {
			s.Fork = cluster.Fork{Epoch: m.lead.Epoch, ReplID: m.leading.promoted.Position.ReplID}
		}
	}
	fit, reason := m.fit()
	s.State, s.Reason = m.state(leads), reason
	s.Electable = fit && !leads
	if s.Electable {
		s.Electable, s.Reason = m.electable()
	}
	m.out.Status, m.out.Report, m.out.WriteUntil = s, m.report(), m.writeUntil
	if m.accepts() {
		m.out.FenceAt = m.fenceAt()
	}
}

// electable says whether this replica could take over, and why not.
func (m *Machine) electable() (bool, string) {
	l := m.in.Local
	if _, _, ok := place(m.lead.Lineage, l.Position, l.Prev); !ok {
		return false, "its log is not of this group's lineage yet"
	}
	if !l.LinkUp && m.lead.State == cluster.LeadHeld {
		return false, "its link to the primary is down"
	}
	return true, ""
}

// fenceAt is the separate fencer's deadline: no challenger starts before it, and a Machine that
// still steps has demoted or killed the server by then.
func (m *Machine) fenceAt() time.Duration {
	if m.mode == modeFence {
		return m.fenceBy // it does not move on while the server is being fenced
	}
	if m.writeUntil == 0 {
		return m.in.Now + m.cfg.Profile.TTL
	}
	return m.writeUntil + m.cfg.Profile.Delta
}

// state is the node's state in the words of `understudy status`.
func (m *Machine) state(leads bool) cluster.NodeState {
	l := m.in.Local
	switch {
	case l.Process != ProcessRunning || m.hung():
		return cluster.StateDown
	case l.Loading:
		return cluster.StateLoading
	case leads:
		return cluster.StateReady
	case l.Role == cluster.RolePrimary:
		return cluster.StateFenced
	case l.LinkUp && !l.Syncing:
		return cluster.StateReady
	default:
		return cluster.StateSyncing
	}
}
