package failover

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"understudy/cluster"
)

// election is the state of one attempt to fill a vacant lead.
type election struct {
	epoch      cluster.Epoch // the vacant one
	since      time.Duration
	cause      string
	askSentAt  time.Duration
	askedAt    time.Duration // send time of the question whose answers are in
	answered   bool
	retryAt    time.Duration
	own        Result // of our own revocation
	ownDamaged bool
	told       string           // the last reason given for not claiming
	present    []cluster.NodeID // the other nodes whose logs could be continued
	claimBase  int64            // the revision that our claim replaces
	claimAt    time.Duration

	// early: the holder is silent and its permit may last. Only a quorum of voters that never follow it
	// again may choose, while the record stays at revision.
	early    bool
	revision int64
}

// elect revokes this node's own part in the vacant epoch, asks the others, and claims the lead when
// this node is the one to have it.
func (m *Machine) elect() {
	e := &m.election
	early := e.early && m.revision == e.revision
	if m.lead.Epoch != e.epoch || m.lead.State == cluster.LeadHeld && m.in.Now < m.expires() && !early {
		m.mode = modeFollow // someone else was elected, or the holder renewed after all
		return
	}
	m.wake(m.in.Now + m.cfg.Profile.Window)
	if !m.healthy() {
		m.refuseForce()
		return
	}
	if !m.letGo() {
		return
	}
	if !e.answered {
		if m.in.Now < e.retryAt {
			m.wake(e.retryAt)
			return
		}
		ask := Action{Kind: ActAsk, Epoch: e.epoch, For: m.cfg.Profile.Window}
		if early && m.in.Now < m.expires() && !m.backward {
			ask.Node = m.lead.Holder // it has just not answered
		}
		if m.do(ask) {
			e.askSentAt = m.in.Now
		}
		return
	}
	e.answered = false
	e.retryAt = m.in.Now + m.cfg.Profile.Window
	winner, reason := m.choose(m.reports())
	if newer := m.outdated(); newer != "" {
		winner, reason = "", newer
	}
	if winner != m.cfg.Self.Node {
		if reason != e.told {
			e.told = reason
			m.event("not_claiming", reason)
		}
		m.wake(e.retryAt)
		m.answerForce(winner, reason)
		return
	}
	if reason == shortReason {
		m.event("claims_short", reason)
	}
	if early {
		m.event("claims_early", fmt.Sprintf("%s is silent, and no write of it can be acked without those that have let go of it: %s", m.lead.Holder, reason))
	}
	m.claimVacant(e.cause, 0)
}

// outdated says who has seen a newer epoch than the vacant one; "" when nobody has. The store would refuse a
// claim then, unless it has been restored from a backup.
func (m *Machine) outdated() string {
	for _, n := range m.cfg.Nodes {
		if r, ok := m.in.Peers[n.Node]; ok && r.At >= m.election.askedAt && r.Seen > m.election.epoch {
			return fmt.Sprintf("%s has seen epoch %d: the vacant epoch %d is not the newest", n.Node, r.Seen, m.election.epoch)
		}
	}
	return ""
}

// letGo gives the vacant epoch up for good, and reports whether that is done: redis-server follows
// nobody, and where the record does not say that the epoch is over, the promise is on this node's disk.
func (m *Machine) letGo() bool {
	e := &m.election
	if m.cfg.Mutation == MutationNoRevoke {
		return true
	}
	if m.lead.State != cluster.LeadReleased {
		m.keeping.promise = max(m.keeping.promise, e.epoch)
		m.keep()
	}
	if m.revoked < e.epoch {
		m.do(Action{Kind: ActRevoke, Epoch: e.epoch, For: m.cfg.Profile.Drain})
		return false
	}
	return m.revokedForGood() >= e.epoch
}

// revokedForGood is the newest epoch that this node will not follow again, whatever happens to it. The
// memory of an agent ends with it: unless the record itself says that the epoch is over, the disk must know.
func (m *Machine) revokedForGood() cluster.Epoch {
	if m.lead.State == cluster.LeadReleased && m.revoked == m.lead.Epoch {
		return m.revoked
	}
	return min(m.revoked, max(m.in.Local.Revoked, m.keeping.revoked))
}

// claimVacant claims the vacant lead with this node's log, although so much of the last one is lost.
func (m *Machine) claimVacant(cause string, lost int64) {
	kind := cluster.KindFailover
	if m.lead.Holder == m.cfg.Self.Node {
		kind = cluster.KindStart
	}
	from := m.lead.Holder
	if !m.lead.Promoted && m.lead.From != "" {
		from = m.lead.From // the last that served: an epoch without a promotion leaves no trace in any log
	}
	m.sendClaim(cluster.Lead{Kind: kind, Cause: cause, From: from, LostBytes: lost})
}

// candidate is a node whose log could be continued.
type candidate struct {
	Peer
	report Report
	index  int // of its log in the lineage
	offset int64
	placed bool
	whole  bool // the last holder with all that it had: no log can be ahead of it
}

// choose says who of those that have answered should take the vacant lead, or why nobody can yet. It is
// the rule of the design: fit, log, priority, another zone than the lost one, id.
func (m *Machine) choose(reports map[cluster.NodeID]Report) (cluster.NodeID, string) {
	fit, revoked, unfit := m.candidates(reports)
	switch {
	case m.backward && !m.heardAll(reports):
		return "", "the store went back in time: every node must say which epochs it has seen" + unfit
	case m.virgin() && !m.heardAll(reports):
		return "", "nobody has led this group yet: every node must answer, for one of them may have come with data" + unfit
	}
	if rule := m.lead.Rule; rule.W > 0 && revoked >= rule.Quorum() && !m.byHand() {
		// Every acked write is in a log that is here and runs. The last holder, if it is back already,
		// has read its log from disk under a new name: all others would need a full sync from it.
		fit = slices.DeleteFunc(fit, func(c candidate) bool { return c.whole && !c.placed })
	}
	if len(fit) == 0 {
		return m.lastResort(reports, "no node is fit"+unfit)
	}
	slices.SortStableFunc(fit, m.better)
	m.election.present = nil
	for _, c := range fit {
		if c.Node != m.cfg.Self.Node {
			m.election.present = append(m.election.present, c.Node)
		}
	}
	if reason := m.complete(fit, revoked); reason != "" {
		return m.lastResort(reports, reason+unfit)
	}
	// The last holder comes back with its log from disk: the replicas, if they can, are faster.
	if fit[0].whole && m.in.Now-m.election.since < m.cfg.Profile.Window && !m.heardAll(reports) {
		return "", "waits for the other nodes to answer" + unfit
	}
	if best := fit[0]; m.byHand() && !m.virgin() && !m.servedLast(best.Node) {
		return "", fmt.Sprintf("automatic failover is off: only the last primary goes on by itself; an operator may have %s take over", best.Node)
	}
	return fit[0].Node, "the best is " + string(fit[0].Node)
}

// byHand reports whether only an operator may give the lead to another node than the last primary.
func (m *Machine) byHand() bool { return m.cfg.Manual && m.force == nil }

// heardAll reports whether every node has answered, and every voter: a voter that this node has not been told
// of yet, or no more, has not.
func (m *Machine) heardAll(reports map[cluster.NodeID]Report) bool {
	for _, p := range m.cfg.Nodes {
		if _, ok := reports[p.Node]; !ok {
			return false
		}
	}
	for _, v := range m.lead.Rule.Voters {
		if _, ok := reports[v]; !ok {
			return false
		}
	}
	return true
}

// candidates are the nodes that could go on with their logs, how many of them are voters, and why the
// others could not.
func (m *Machine) candidates(reports map[cluster.NodeID]Report) (fit []candidate, revoked int, unfit string) {
	barren := m.barren(reports)
	for _, p := range m.cfg.Nodes {
		r, ok := reports[p.Node]
		if !ok {
			unfit += fmt.Sprintf("; %s does not answer", p.Node)
			continue
		}
		c := candidate{Peer: p, report: r}
		c.whole = r.Complete == m.election.epoch && m.servedLast(p.Node) ||
			barren && r.Before == m.election.epoch && m.lead.From == p.Node
		c.index, c.offset, c.placed = place(m.lead.Lineage, r.Position, r.Prev)
		if m.virgin() {
			c.index, c.offset, c.placed, c.whole = 0, 0, true, p.Node == m.lead.Holder
		}
		switch {
		case !r.Fit:
			unfit += fmt.Sprintf("; %s: %s", p.Node, r.Reason)
			continue
		case r.Revoked < m.election.epoch && m.cfg.Mutation != MutationNoRevoke:
			unfit += fmt.Sprintf("; %s has not let go of epoch %d yet", p.Node, m.election.epoch)
			continue
		case !c.placed && !c.whole:
			unfit += fmt.Sprintf("; %s: its log is not of this group's lineage", p.Node)
			continue
		}
		fit = append(fit, c)
		if c.placed && slices.Contains(m.lead.Rule.Voters, p.Node) {
			revoked++
		}
	}
	return fit, revoked, unfit
}

// virgin reports whether the group has never had a primary that served: a first start whose promotion failed.
// Nothing has been acked then, and any log may begin; rather that of the node that was to be the first, for it
// may have been given data to begin with.
func (m *Machine) virgin() bool { return !m.lead.Promoted && len(m.lead.Lineage) == 0 }

// barren reports whether nothing can have been acked under the vacant epoch: a write needs a copy, and no
// node has followed its holder or ever will. Then the holder before it is the last one whose log counts.
func (m *Machine) barren(reports map[cluster.NodeID]Report) bool {
	if m.lead.Rule.Copies < 1 || !m.heardAll(reports) {
		return false
	}
	for _, r := range reports {
		if r.Node != m.lead.Holder && (r.Followed >= m.election.epoch || r.Revoked < m.election.epoch) {
			return false
		}
	}
	return true
}

const shortReason = "every node has answered, and none has all: the last holder's data set may lack what it had not yet written to disk when its machine lost power"

// lastResort: when every node has answered and no log is whole, the last holder's data set from before
// a power loss is the best that there will ever be.
func (m *Machine) lastResort(reports map[cluster.NodeID]Report, reason string) (cluster.NodeID, string) {
	if !m.heardAll(reports) {
		return "", reason
	}
	for _, p := range m.cfg.Nodes {
		if r := reports[p.Node]; r.Short == m.election.epoch && m.servedLast(p.Node) && r.Fit && r.Revoked >= m.election.epoch {
			return p.Node, shortReason
		}
	}
	return "", reason
}

// complete says what is missing before the best of fit surely holds every acked write; "" when
// nothing is.
func (m *Machine) complete(fit []candidate, revoked int) string {
	if m.cfg.Durability != cluster.DurabilitySync || m.virgin() || m.cfg.Mutation == MutationNoQuorum ||
		m.cfg.Mutation == MutationEarlyNoQuorum && m.election.early {
		return ""
	}
	if slices.ContainsFunc(fit, func(c candidate) bool { return c.whole }) {
		return ""
	}
	rule := m.lead.Rule
	if rule.W == 0 {
		return fmt.Sprintf("only %s has every acked write: no replica was left in the rule", m.lead.Holder)
	}
	if revoked < rule.Quorum() {
		return fmt.Sprintf("%d of the %d voters' logs that are needed (of %v) are here", revoked, rule.Quorum(), rule.Voters)
	}
	return ""
}

// better orders candidates, best first.
func (m *Machine) better(a, b candidate) int {
	order, _ := m.compare(a, b)
	return order
}

// compare says which of two candidates is the better one (below 0: a), and by which part of the rule.
func (m *Machine) compare(a, b candidate) (int, string) {
	zone := ""
	for _, n := range m.cfg.Nodes {
		if n.Node == m.lead.Holder {
			zone = n.Zone
		}
	}
	away := func(c candidate) int { return boolInt(c.Zone != zone) }
	log := cmp.Or(
		cmp.Compare(boolInt(b.whole), boolInt(a.whole)),
		cmp.Compare(b.index, a.index),
		cmp.Compare(b.offset, a.offset))
	if m.cfg.Mutation == MutationOffsetOnly {
		log = cmp.Compare(b.offset, a.offset)
	}
	parts := []struct {
		name  string
		order int
	}{
		{"log", log},
		{"disk", cmp.Compare(boolInt(a.report.ReadOnly != ""), boolInt(b.report.ReadOnly != ""))}, // it would hand over at once
		{"priority", cmp.Compare(b.Priority, a.Priority)},
		{"zone", cmp.Compare(away(b), away(a))},
		{"id", cmp.Compare(a.Node, b.Node)},
	}
	if m.cfg.Mutation == MutationPriorityFirst {
		parts[0], parts[2] = parts[2], parts[0]
	}
	for _, p := range parts {
		if p.order != 0 {
			return p.order, p.name
		}
	}
	return 0, ""
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// reports are the answers to this election's question, our own included.
func (m *Machine) reports() map[cluster.NodeID]Report {
	reports := map[cluster.NodeID]Report{m.cfg.Self.Node: m.report()}
	for id, r := range m.in.Peers {
		if r.At >= m.election.askedAt && r.Seen <= m.election.epoch {
			reports[id] = r
		}
	}
	return reports
}

// report is what this node says of itself.
func (m *Machine) report() Report {
	l := m.in.Local
	r := Report{
		Node: m.cfg.Self.Node, Boot: l.Boot, Zone: m.cfg.Self.Zone, Seen: max(m.lead.Epoch, l.Seen), Revoked: m.revokedForGood(),
		Position: l.Position, Prev: l.Prev, Ready: l.LinkUp && !l.Syncing, Last: l.Last, ReadOnly: l.ReadOnly,
	}
	if l.At <= m.redisAt && m.election.own.Kind == ActRevoke && m.revoked == m.election.epoch {
		// The probe is older than our own revocation, whose result says where the log ended.
		r.Position, r.Prev = m.election.own.Position, m.election.own.Prev
	}
	r.Followed = m.followed
	if m.lead.From == m.cfg.Self.Node && l.Intact {
		r.Before = m.lead.Epoch
	}
	if m.servedLast(m.cfg.Self.Node) {
		switch {
		case l.Intact || l.Boot == m.lead.Boot || l.Boot != "" && l.Boot == m.ledBoot:
			r.Complete = m.lead.Epoch
		case l.Short:
			r.Short = m.lead.Epoch
		}
	}
	r.Fit, r.Reason = m.fit()
	return r
}

// servedLast reports whether the node was the last that accepted writes, and has been fenced since: it holds
// a lead that was released, or held the one before a lead that never came to a promotion. A node that
// knows an older record may think so of itself, wrongly: whoever chooses goes by its own.
func (m *Machine) servedLast(id cluster.NodeID) bool {
	if m.lead.Holder == id && (m.lead.State == cluster.LeadReleased || m.backward) {
		return true // a store that went back does not take a release: that it has let go is its own word
	}
	return !m.lead.Promoted && m.lead.From == id
}

// fit says whether this node could be promoted, as far as its own server is concerned.
func (m *Machine) fit() (bool, string) {
	l := m.in.Local
	switch {
	case l.Process != ProcessRunning:
		return false, "redis-server is not running"
	case m.hung():
		return false, "redis-server does not answer"
	case l.Busy:
		return false, "redis-server is busy with a script"
	case l.Loading:
		return false, "redis-server is loading its data set"
	case l.Damaged || m.election.ownDamaged && m.revoked == m.election.epoch && m.mode == modeElect:
		return false, "its data set is not whole: a full sync did not end"
	case l.Syncing:
		return false, "redis-server is in a full sync"
	}
	return true, ""
}

// sendClaim asks the store for the next epoch.
func (m *Machine) sendClaim(l cluster.Lead) {
	l.Epoch, l.Seq, l.State = m.lead.Epoch+1, m.lead.Seq+1, cluster.LeadHeld
	l.Holder, l.Boot, l.TTL = m.cfg.Self.Node, m.in.Local.Boot, m.cfg.Profile.TTL
	l.Rule, l.Lineage, l.Position = m.lead.Rule, m.lead.Lineage, m.in.Local.Position
	if m.cfg.Durability == cluster.DurabilityAsync || m.lead.Epoch == 0 {
		// Nothing has been acked yet: any rule may begin. The strictest one means that the first
		// write is as safe as the last.
		l.Rule = cluster.NewRule(m.cfg.Durability, m.others())
	}
	l.Phases = phases(m.lead.Phases, "elect", m.in.Now-m.election.since)
	if m.lead.State != cluster.LeadReleased {
		l.Phases = map[string]float64{"detect": milliseconds(m.election.since - m.seenAt), "elect": l.Phases["elect"]}
	}
	if m.do(Action{Kind: ActSwap, Lead: l, Revision: m.base(), Why: "claim"}) {
		m.election.claimBase, m.election.claimAt = m.base(), m.in.Now
		m.mode = modeClaim
	}
}

// claim waits for the store's answer. When there was none, the record itself tells.
func (m *Machine) claim() {
	if _, waiting := m.busy(classStore); waiting {
		return
	}
	switch l := m.lead; {
	case m.revision > m.election.claimBase && l.Holder == m.cfg.Self.Node && l.Boot == m.in.Local.Boot && l.State == cluster.LeadHeld:
		m.leading = leading{since: m.in.Now}
		m.event("claimed", fmt.Sprintf("%s has epoch %d (%s)", l.Holder, l.Epoch, l.Cause))
		m.mode = modePromote
	case m.revision > m.election.claimBase || m.in.Now-m.election.claimAt > m.cfg.Profile.Window:
		m.mode = modeFollow
	default:
		m.wake(m.election.claimAt + m.cfg.Profile.Window + time.Millisecond)
	}
}

func (m *Machine) others() []cluster.NodeID {
	var ids []cluster.NodeID
	for _, n := range m.cfg.Nodes {
		if n.Node != m.cfg.Self.Node {
			ids = append(ids, n.Node)
		}
	}
	return ids
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// phases adds one phase to a copy of the record's.
func phases(have map[string]float64, name string, d time.Duration) map[string]float64 {
	next := map[string]float64{name: milliseconds(d)}
	for k, v := range have {
		if k != name {
			next[k] = v
		}
	}
	return next
}
