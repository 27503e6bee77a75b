package failover

import (
	"fmt"
	"slices"
	"time"

	"understudy/cluster"
)

// mode is what a Machine is busy with.
type mode uint8

const (
	modeFollow   mode = iota // follows the holder, or waits for one
	modeElect                // the lead is vacant: revoke, ask, choose
	modeClaim                // the claim is on its way to the store
	modePromote              // holds the lead, redis-server is being promoted
	modeRecord               // promoted, the lineage is on its way to the store
	modeLead                 // accepts writes while the permit lasts
	modeHandover             // a switchover away from this node
	modeFence                // its redis-server is being made unable to accept writes
	modeRelease              // fenced; says so in the store
)

func (m mode) String() string {
	return [...]string{"follow", "elect", "claim", "promote", "record", "lead", "handover", "fence", "release"}[m]
}

// Machine decides for one node of one group. It is not safe for concurrent use.
type Machine struct {
	cfg  Config
	mode mode
	in   Input
	out  Output

	lastID  uint64
	pending map[class]Action // at most one action of each class is under way

	lead     cluster.Lead // the newest known record, ours included
	revision int64
	seenAt   time.Duration

	writeUntil time.Duration
	redisAt    time.Duration // when the newest change that we made to redis-server ended: older probes are void
	following  cluster.NodeID
	followed   cluster.Epoch // the newest epoch that this node may have followed
	revoked    cluster.Epoch
	ledBoot    string // the run of redis-server that was promoted last, while it has followed nobody since
	backward   bool   // the store shows less than what was seen: it was restored, or lost all
	told       int64  // the revision of which that was said, plus 1
	keeping    keeping
	doubt      doubt
	save       saving
	force      *Request // an operator's, to take the lead with what is left
	fenceBy    time.Duration
	busyAt     time.Duration // when redis-server was last seen free of scripts, while it leads
	startAfter time.Duration // back-off between two starts of a server that will not live
	starts     int
	runningAt  time.Duration
	ran        bool // a redis-server has run under this Machine
	stopping   bool // the process is about to end: start nothing, claim nothing

	election election
	leading  leading
	handover handover
	releases release
	answered map[string]Reply // the last requests, by their ids
	order    []string
}

// class groups the actions of which only one may be under way.
type class uint8

const (
	classRedis class = iota
	classStore
	classAsk
	classDisk
	classPledge
)

func classOf(k ActionKind) class {
	switch k {
	case ActSwap:
		return classStore
	case ActAsk:
		return classAsk
	case ActPersist:
		return classDisk
	case ActPledge:
		return classPledge
	default:
		return classRedis
	}
}

// New returns a Machine that follows nobody and holds nothing.
func New(cfg Config) *Machine {
	cfg.Nodes = slices.Clone(cfg.Nodes)
	return &Machine{cfg: cfg, pending: map[class]Action{}, answered: map[string]Reply{}}
}

// Step takes all that is known now and says what to do. It is called after every change of its
// input and at Output.WakeAt.
func (m *Machine) Step(in Input) Output {
	m.in, m.out = in, Output{WakeAt: in.Now + m.cfg.Profile.TTL}
	m.learnSettings()
	m.learnZones()
	m.absorbStore()
	for _, r := range in.Results {
		m.absorbResult(r)
	}
	m.request()
	m.keep()
	m.keepRunning()
	m.decide()
	m.publish()
	return m.out
}

// learnSettings takes what an operator has changed.
func (m *Machine) learnSettings() {
	if s := m.in.Settings; s != nil {
		m.cfg.Nodes, m.cfg.Manual = slices.Clone(s.Nodes), s.Manual
	}
}

// learnZones takes each node's own word for where it runs: it may not have been placed yet when this one
// was started, or have been moved since.
func (m *Machine) learnZones() {
	for i, n := range m.cfg.Nodes {
		if zone := m.in.Peers[n.Node].Zone; zone != "" {
			m.cfg.Nodes[i].Zone = zone
		}
	}
}

// decide runs the current mode. A mode that changes into another one lets that one run at once, so
// that a failover costs no extra step.
func (m *Machine) decide() {
	for range 8 {
		before := m.mode
		switch m.mode {
		case modeFollow:
			m.follow()
		case modeElect:
			m.elect()
		case modeClaim:
			m.claim()
		case modePromote:
			m.promote()
		case modeRecord:
			m.record()
		case modeLead:
			m.hold()
		case modeHandover:
			m.hand()
		case modeFence:
			m.fence()
		case modeRelease:
			m.release()
		default:
			panic(fmt.Sprintf("failover: unknown mode %d", m.mode))
		}
		if m.mode == before {
			return
		}
	}
}

// absorbStore adopts a newer record. One that is older than what was seen is not adopted: epochs are
// never used again.
func (m *Machine) absorbStore() {
	if m.lead.Epoch == 0 && m.in.Local.Kept.Epoch > 0 {
		m.lead, m.seenAt = m.in.Local.Kept, m.in.Now // read from this node's disk
		m.followed = m.lead.Epoch
	}
	v := m.in.Store
	if !v.Known {
		return
	}
	// A backup may be given higher revisions, as etcd's manual advises: what is in the record tells as well.
	m.backward = v.Lead.Epoch < m.lead.Epoch || v.Lead.Epoch == m.lead.Epoch && (v.Revision < m.revision || v.Lead.Seq < m.lead.Seq)
	if m.backward && m.cfg.Mutation == MutationEpochReused {
		m.lead, m.revision, m.seenAt, m.in.Local.Seen, m.backward = v.Lead, v.Revision, v.SeenAt, 0, false
	}
	switch {
	case m.backward && m.told != v.Revision+1:
		m.told = v.Revision + 1
		m.event("store_went_back", fmt.Sprintf("the store shows epoch %d, epoch %d was seen: it was restored from a backup or lost its data; the group goes on from what its nodes know", v.Lead.Epoch, m.lead.Epoch))
	case !m.backward && (v.Revision > m.revision || v.Lead.Epoch > m.lead.Epoch):
		m.adopt(v.Lead, v.Revision, v.SeenAt)
	}
}

func (m *Machine) adopt(l cluster.Lead, revision int64, at time.Duration) {
	if l.Epoch < m.lead.Epoch {
		panic(fmt.Sprintf("failover: epoch went back: %d -> %d", m.lead.Epoch, l.Epoch))
	}
	if m.lead.Epoch == 0 {
		m.followed = l.Epoch // by an agent before this one, perhaps
	}
	m.lead, m.revision, m.backward = l, revision, false
	m.seenAt = max(m.seenAt, at) // a pledge may be newer than the record
}

// base is the revision that a change of the record replaces.
func (m *Machine) base() int64 {
	if m.backward {
		return m.in.Store.Revision
	}
	return m.revision
}

// do starts an action unless one of its class is under way; it reports whether it did. A kill is
// never kept waiting: a server that hangs holds up every other action.
func (m *Machine) do(a Action) bool {
	c := classOf(a.Kind)
	if p, busy := m.pending[c]; busy && (a.Kind != ActKill || p.Kind == ActKill) {
		return false
	}
	m.lastID++
	a.ID = m.lastID
	m.pending[c] = a
	m.out.Actions = append(m.out.Actions, a)
	return true
}

// busy returns the action of the class that is under way.
func (m *Machine) busy(c class) (Action, bool) {
	a, ok := m.pending[c]
	return a, ok
}

func (m *Machine) absorbResult(r Result) {
	a, ok := m.pending[classOf(r.Kind)]
	if !ok || a.ID != r.ID {
		return // overtaken by a kill
	}
	delete(m.pending, classOf(r.Kind))
	switch r.Kind {
	case ActSwap:
		m.swapped(a, r)
	case ActAsk:
		m.asked(a, r)
	case ActPersist:
		m.kept(a, r)
	case ActPledge:
		m.pledged(r)
	default:
		m.redisAt = m.in.Now
		m.redisDone(a, r)
	}
}

// redisDone takes the end of an action on the redis-server.
func (m *Machine) redisDone(a Action, r Result) {
	ok := r.Outcome == OutcomeOK
	switch a.Kind {
	case ActStart:
		m.following = ""
		if !ok {
			m.event("start_failed", r.Detail)
		}
	case ActFollow:
		m.ledBoot = ""
		if ok {
			m.following = a.Node
			m.event("following", fmt.Sprintf("follows %s under epoch %d", a.Node, a.Epoch))
		}
	case ActRevoke:
		m.following = ""
		if ok {
			m.revoked = max(m.revoked, a.Epoch)
			m.election.own, m.election.ownDamaged = r, r.Damaged
		}
		m.handover.demoted = ok && m.mode == modeHandover
	case ActPromote:
		m.leading.promoted, m.leading.failed = r, !ok
	case ActPause:
		m.handover.paused, m.handover.failed, m.handover.at = ok, r.Detail, r.Position
		if m.cfg.Mutation == MutationSwitchoverNoWait {
			m.handover.paused, m.handover.failed = true, ""
		}
	case ActKill:
		m.following = ""
	case ActSave:
		m.saved(a, r)
	}
}

// asked takes the end of a question to all.
func (m *Machine) asked(a Action, r Result) {
	if a.Epoch == 0 {
		m.doubt.asked(r)
		return
	}
	m.election.askedAt, m.election.answered = m.election.askSentAt, true
}

// keepRunning restarts a redis-server that is gone, always as a replica of nobody: invariant 6.
func (m *Machine) keepRunning() {
	l := m.in.Local
	if l.Process == ProcessRunning {
		m.ran = true
		if m.runningAt == 0 {
			m.runningAt = m.in.Now
		}
		if m.in.Now-m.runningAt > 2*time.Second { // it did not die of its start
			m.starts = 0
		}
		return
	}
	m.runningAt = 0
	m.following = ""
	if m.accepts() || m.stopping {
		return // the crash is handled first: fence and release
	}
	if m.in.Now < m.startAfter {
		m.wake(m.startAfter)
		return
	}
	if m.do(Action{Kind: ActStart, Why: l.Exit}) {
		m.starts++
		// 0, 0.1, 0.2, 0.4 … 5 s: a server that dies at once must not spin.
		if m.starts > 1 {
			m.startAfter = m.in.Now + min(50*time.Millisecond<<min(m.starts, 7), 5*time.Second)
		}
	}
}

// accepts reports whether this node may be accepting writes.
func (m *Machine) accepts() bool {
	switch m.mode {
	case modePromote, modeRecord, modeLead, modeHandover, modeFence:
		return true
	default:
		return false
	}
}

// follow is the life of a replica.
func (m *Machine) follow() {
	m.writeUntil = 0
	if !m.in.Store.Known || m.stopping {
		return
	}
	if m.lead.Epoch < m.in.Local.Seen {
		return // the store went back in time, and what this node knew is lost: the others know
	}
	switch l := m.lead; {
	case l.Epoch == 0:
		m.bootstrap()
	case m.backward:
		m.outlast()
	case l.State == cluster.LeadReleased:
		m.vacant("released: " + l.Cause)
	case l.Holder == m.cfg.Self.Node:
		m.holdsWithoutServing()
	case !m.doubts():
		m.attach()
	case m.in.Now >= m.expires():
		m.vacant(fmt.Sprintf("%s has not renewed for %v", l.Holder, m.in.Now-m.seenAt))
	case m.mayElectEarly():
		m.vacant(fmt.Sprintf("%s has not renewed for %v and does not answer", l.Holder, m.in.Now-m.seenAt))
		m.election.early, m.election.revision = true, m.revision
	default:
		m.wake(m.expires())
		m.attach()
	}
	m.refuseForce()
}

// outlast waits for the end of the newest lead that is known while the store shows an older one. Its
// holder, if it serves, puts it right; else an election of all nodes does.
func (m *Machine) outlast() {
	if m.lead.State == cluster.LeadReleased || m.in.Now >= m.expires() {
		m.vacant("the store went back in time")
		return
	}
	m.wake(m.expires())
	if m.lead.Holder != m.cfg.Self.Node {
		m.attach()
	}
}

// expires is when a challenger may take the lead without the holder's word: T+δ after it last saw
// the record change, by its own clock.
func (m *Machine) expires() time.Duration {
	if m.cfg.Mutation == MutationChallengerEarly {
		return m.seenAt + m.lead.TTL/2
	}
	return m.seenAt + m.lead.TTL + m.cfg.Profile.Delta
}

// holdsWithoutServing: the record names this node, yet it does not serve.
func (m *Machine) holdsWithoutServing() {
	l := m.in.Local
	if m.lead.Boot == "" { // handed over to us: a switchover
		m.takeOver()
		return
	}
	// A run of this node that is over held it. Its redis-server is ours to fence, and is fenced once one runs
	// as a replica of nobody that we have started or taken over. Before, one that has outlived its agent may
	// still write, while proxies have their permits from then.
	if !m.ran {
		return
	}
	if l.Process == ProcessRunning && l.Role == cluster.RolePrimary {
		m.do(Action{Kind: ActRevoke, Epoch: m.lead.Epoch})
		return
	}
	m.startRelease("restarted")
}

// takeOver is the successor's part of a switchover: it must still be the run that had every byte. One
// that restarted since has a log of another name, whatever it has read from its disk.
func (m *Machine) takeOver() {
	have, want := m.in.Local.Position, m.lead.Position
	switch {
	case !m.healthy() || m.in.Local.At == 0 || m.in.Now >= m.expires():
		m.wake(m.expires())
		if m.in.Now >= m.expires() {
			m.startRelease("it was handed the lead and could not take it in time")
		}
	case have.ReplID == want.ReplID, m.cfg.Mutation == MutationSwitchoverNoWait:
		m.leading = leading{since: m.in.Now}
		m.mode = modePromote
	case have.ReplID != want.ReplID && m.in.Local.At > max(m.redisAt, m.seenAt): // an older probe may be of before it followed
		m.startRelease(fmt.Sprintf("restarted before it could take over: at %v, not %v", have, want))
	}
}

// attach makes the redis-server follow the holder.
func (m *Machine) attach() {
	l := m.lead
	if !l.Promoted || !m.healthy() {
		return
	}
	if l.Epoch <= max(m.revoked, m.in.Local.Revoked, m.keeping.promise) {
		if m.revoked < l.Epoch {
			// Promised, and not done: the agent started again, or the holder was heard of before. The holder
			// must learn of it, or it waits for this node for ever.
			m.do(Action{Kind: ActRevoke, Epoch: l.Epoch, For: m.cfg.Profile.Drain})
		}
		return
	}
	stale := m.in.Local.At <= m.redisAt
	if m.following == l.Holder && (stale || m.in.Local.Following == l.Holder) {
		return
	}
	if m.mustSave() {
		return
	}
	if m.do(Action{Kind: ActFollow, Node: l.Holder, Epoch: l.Epoch}) {
		m.followed = max(m.followed, l.Epoch)
	}
}

// healthy: the server runs, has read its data and answers.
func (m *Machine) healthy() bool {
	l := m.in.Local
	return l.Process == ProcessRunning && !l.Loading && !l.Busy && l.OKAt > 0 && !m.hung()
}

// hung: probes have been unanswered for Probe × Misses. A server that was just started, or that is
// being changed by us, is measured from then.
func (m *Machine) hung() bool {
	l := m.in.Local
	if l.Process != ProcessRunning {
		return false
	}
	return m.in.Now-max(l.OKAt, m.runningAt) >= m.cfg.Profile.hang()
}

// bootstrap makes the first lead of a group: the first node takes it, each next one waits T longer.
func (m *Machine) bootstrap() {
	if !m.healthy() {
		return
	}
	index := 0
	for i, n := range m.cfg.Nodes {
		if n.Node == m.cfg.Self.Node {
			index = i
		}
	}
	at := time.Duration(index) * (m.cfg.Profile.TTL + m.cfg.Profile.Delta)
	if m.in.Now < at {
		m.wake(at)
		return
	}
	m.sendClaim(cluster.Lead{Kind: cluster.KindStart, Cause: "first start"})
}

// vacant starts an election.
func (m *Machine) vacant(cause string) {
	m.election = election{epoch: m.lead.Epoch, since: m.in.Now, cause: cause}
	m.mode = modeElect
	m.event("lead_vacant", cause)
}

func (m *Machine) event(name, message string) {
	m.out.Events = append(m.out.Events, cluster.Event{
		Group: m.cfg.Group, Node: m.cfg.Self.Node, Epoch: m.lead.Epoch, Name: name, Message: message,
	})
}

func (m *Machine) wake(at time.Duration) {
	if at > m.in.Now && at < m.out.WakeAt {
		m.out.WakeAt = at
	}
}
