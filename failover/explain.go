package failover

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"understudy/cluster"
)

// Knowledge is what one node's agent says of itself and knows of the store. Times are readings of the
// asker's clock.
type Knowledge struct {
	At     time.Duration // when it was said
	Status cluster.NodeStatus
	Report Report
	Store  StoreView
}

// Question is a group as its nodes know it.
type Question struct {
	Config Config // as of any node; Self is not looked at
	Now    time.Duration
	Known  map[cluster.NodeID]Knowledge // the newest word of each node that has spoken
}

// Explanation answers "why": who leads and what that rests on, who would follow, and what keeps the others
// from it. It is the answer of GET /api/explain.
type Explanation struct {
	Group    string         `json:"group"`
	Epoch    cluster.Epoch  `json:"epoch"`
	Primary  cluster.NodeID `json:"primary"` // "" when nobody may accept writes
	PermitMs float64        `json:"permit_ms"`
	// Waits: nobody can be chosen, and only an operator who accepts a loss, or a node that comes back,
	// changes that.
	Waits    bool                 `json:"waits_for_operator"`
	Failover string               `json:"failover"` // why none has happened, or what one that is needed waits for
	Election Ballot               `json:"election"`
	Rule     RuleInWords          `json:"rule"`
	Store    StoreInWords         `json:"store"`
	Nodes    []NodeInWords        `json:"nodes"`          // in the order of their ids
	Lost     []cluster.Divergence `json:"lost,omitempty"` // data sets that were put aside
}

// Ballot is an election as it would go now.
type Ballot struct {
	Without cluster.NodeID `json:"without,omitempty"` // the primary, supposed to be lost now; "": there is none
	Winner  cluster.NodeID `json:"winner"`            // "" when nobody could be chosen
	Reason  string         `json:"reason"`            // why that node, or why nobody
	// Best is whose log an operator could go on with if nobody can be chosen.
	Best cluster.NodeID `json:"best,omitempty"`
	// LostBytes is how much of the last primary's log, as last heard of, the winner (or Best) lacks;
	// -1: that is not known.
	LostBytes int64      `json:"lost_bytes"`
	Loss      string     `json:"loss"`    // the same in words
	Ranking   []Standing `json:"ranking"` // of the nodes that could be chosen, best first

	unfit string // why the others could not, as "; NODE: REASON" for each
}

// without is why a node is none of those that could be chosen.
func (b *Ballot) without(id cluster.NodeID) string {
	for clause := range strings.SplitSeq(b.unfit, "; ") {
		if reason, ok := strings.CutPrefix(clause, string(id)+": "); ok {
			return reason
		}
	}
	return "it is not asked now"
}

// Standing is one candidate's place.
type Standing struct {
	Node     cluster.NodeID `json:"node"`
	Zone     string         `json:"zone"`
	Priority int            `json:"priority"`
	Offset   int64          `json:"offset"`            // in the group's log
	Decided  string         `json:"decided,omitempty"` // the part of the rule that puts it behind the one before
}

// RuleInWords is the voter rule with what it means.
type RuleInWords struct {
	cluster.Rule
	Quorum int    `json:"quorum"` // voters whose logs an election needs
	Text   string `json:"text"`
}

// StoreInWords is how the agents see the store.
type StoreInWords struct {
	OK   bool   `json:"ok"`
	Text string `json:"text"`
}

// NodeInWords is one node's part.
type NodeInWords struct {
	ID        cluster.NodeID    `json:"id"`
	Zone      string            `json:"zone"`
	Role      cluster.Role      `json:"role"`
	State     cluster.NodeState `json:"state"`
	Electable bool              `json:"electable"`
	Reason    string            `json:"reason"`            // why it is not electable
	Revoked   cluster.Epoch     `json:"revoked,omitempty"` // it never follows a holder of this epoch or a lower one again
	Fences    []string          `json:"fences"`
	Weaker    []string          `json:"weaker,omitempty"` // what its fences leave open
	StoreMs   float64           `json:"store_ms"`         // since it last saw the record change; -1: never
}

// quietAfter is how many renewals long an agent may say nothing before its word is not gone by: agents speak
// at least once each renewal.
const quietAfter = 6

// Silent is how long an agent may say nothing before its node counts as down.
func (p Profile) Silent() time.Duration { return quietAfter * p.Renew }

// Explain answers a Question. Who would win is chosen by a Machine, so that there is no second rule.
func Explain(q Question) Explanation {
	x := explainer{Question: q}
	x.newest()
	lead := x.store.Lead
	e := Explanation{Group: q.Config.Group, Epoch: lead.Epoch, Primary: x.primary, Lost: x.lost()}
	if x.primary != "" {
		e.PermitMs = milliseconds(x.permit)
	}
	e.Election = x.ballot()
	e.Failover, e.Waits = x.failover(e.Election)
	e.Rule = RuleInWords{Rule: lead.Rule, Quorum: lead.Rule.Quorum(), Text: x.rule()}
	e.Store = x.storeInWords()
	for _, p := range q.Config.Nodes {
		e.Nodes = append(e.Nodes, x.node(p, e.Election))
	}
	return e
}

// explainer is a Question and what follows from it at once.
type explainer struct {
	Question
	store   StoreView      // the newest that any node knows
	seen    cluster.Epoch  // the highest epoch that any node has seen
	primary cluster.NodeID // whose permit lasts
	permit  time.Duration  // how long
}

func (x *explainer) newest() {
	for _, p := range x.Config.Nodes {
		k, ok := x.Known[p.Node]
		if !ok {
			continue
		}
		s := k.Store
		if newer := cmp.Or(cmp.Compare(s.Lead.Epoch, x.store.Lead.Epoch), cmp.Compare(s.Revision, x.store.Revision)); newer > 0 {
			s.SeenAt = max(s.SeenAt, x.store.SeenAt)
			x.store = s
		}
		x.store.Known = x.store.Known || s.Known
		x.store.SeenAt = max(x.store.SeenAt, s.SeenAt)
		x.seen = max(x.seen, k.Status.Epoch)
		if left := k.At + k.Status.Permit - x.Now; k.Status.Leads && left > 0 && k.Status.Epoch >= x.seen {
			x.primary, x.permit = p.Node, left
		}
	}
}

// answers reports whether the node's word is new enough to go by.
func (x *explainer) answers(id cluster.NodeID) (Knowledge, bool) {
	k, ok := x.Known[id]
	return k, ok && x.Now-k.At <= x.Config.Profile.Silent()
}

// ballot has a Machine choose from what the nodes report, as it would if the primary were gone.
func (x *explainer) ballot() Ballot {
	b := Ballot{Without: x.primary, Ranking: []Standing{}}
	lead := x.store.Lead
	if lead.Epoch == 0 {
		b.Reason = "there has not been a primary yet: the first node that can will begin"
		return b
	}
	cfg := x.Config
	cfg.Self = Peer{} // it only counts
	m := New(cfg)
	lead.State = cluster.LeadReleased
	if k, ok := x.Known[lead.Holder]; ok && k.Status.Leads && (k.Status.Position.ReplID != lead.Position.ReplID || k.Status.Position.Offset > lead.Position.Offset) {
		lead.Position = k.Status.Position // newer than the last renewal
	}
	m.lead, m.backward = lead, x.seen > lead.Epoch
	m.election.epoch = lead.Epoch
	m.in.Now = x.Now + cfg.Profile.Window // nobody is waited for
	m.election.since = x.Now
	reports := x.reports(lead.Epoch)
	b.Winner, b.Reason = m.choose(reports)
	if x.primary != "" { // it is only supposed to be gone
		b.Reason = strings.Replace(b.Reason, fmt.Sprintf("; %s does not answer", x.primary), "", 1)
	}
	fit, _, unfit := m.candidates(reports)
	b.unfit = unfit
	slices.SortStableFunc(fit, m.better)
	b.rank(m, fit)
	b.weigh(m, fit, reports)
	if b.Winner != "" {
		b.Reason = b.because(b.Reason)
	}
	return b
}

// reports are those of the nodes that answer, each as it would be once the node has let go of the epoch.
func (x *explainer) reports(epoch cluster.Epoch) map[cluster.NodeID]Report {
	reports := map[cluster.NodeID]Report{}
	for _, p := range x.Config.Nodes {
		k, ok := x.answers(p.Node)
		if !ok || p.Node == x.primary || k.Report.Seen > epoch {
			continue
		}
		k.Report.Revoked = max(k.Report.Revoked, epoch)
		reports[p.Node] = k.Report
	}
	return reports
}

// rank lists the candidates with what puts each behind the one before.
func (b *Ballot) rank(m *Machine, fit []candidate) {
	for i, c := range fit {
		s := Standing{Node: c.Node, Zone: c.Zone, Priority: c.Priority, Offset: c.offset}
		if i > 0 {
			_, s.Decided = m.compare(fit[i-1], c)
		}
		b.Ranking = append(b.Ranking, s)
	}
}

// weigh says what would be lost.
func (b *Ballot) weigh(m *Machine, fit []candidate, reports map[cluster.NodeID]Report) {
	if i := slices.IndexFunc(fit, func(c candidate) bool { return c.Node == b.Winner }); i >= 0 {
		if !fit[i].whole {
			b.LostBytes = m.loss(fit[i])
		}
		b.Loss = b.inWords(m.cfg.Durability, fit[i])
		return
	}
	if b.Winner != "" { // the last resort: a data set from before a power loss
		b.LostBytes, b.Loss = -1, "what had not yet reached its disk when its machine lost power"
		return
	}
	best, ok := m.bestLeft(reports)
	if !ok {
		b.LostBytes, b.Loss = -1, "no node that answers could lead, whatever is given up"
		return
	}
	b.Best, b.LostBytes = best.Node, m.loss(best)
	b.Loss = fmt.Sprintf("if an operator has %s go on: %s", best.Node, describeLoss(b.LostBytes))
}

func (b *Ballot) inWords(d cluster.Durability, c candidate) string {
	switch {
	case c.whole || b.LostBytes == 0:
		return fmt.Sprintf("nothing: %s has all that was heard of the last primary's log", c.Node)
	case b.LostBytes < 0:
		return "it is not known how much: the logs cannot be compared"
	case d == cluster.DurabilitySync:
		return fmt.Sprintf("%d bytes of the last primary's log, as last heard of; no client was told that they are written", b.LostBytes)
	default:
		return fmt.Sprintf("%d bytes of the last primary's log, as last heard of; clients may have been told that they are written (async)", b.LostBytes)
	}
}

// because says by which part of the rule the winner is ahead.
func (b *Ballot) because(reason string) string {
	if len(b.Ranking) == 0 || b.Ranking[0].Node != b.Winner {
		return reason
	}
	if len(b.Ranking) == 1 {
		return fmt.Sprintf("fit: %s is the only node that could take over", b.Winner)
	}
	first, next := b.Ranking[0], b.Ranking[1]
	switch next.Decided {
	case "log":
		return fmt.Sprintf("log: %s has the longest (offset %d; %s has %d)", first.Node, first.Offset, next.Node, next.Offset)
	case "disk":
		return fmt.Sprintf("disk: the logs are equal, and the redis-server of %s refuses writes", next.Node)
	case "priority":
		return fmt.Sprintf("priority: the logs are equal, and %s has priority %d, %s %d", first.Node, first.Priority, next.Node, next.Priority)
	case "zone":
		return fmt.Sprintf("zone: logs and priorities are equal, and %s is in another zone than the last primary, %s is not", first.Node, next.Node)
	default:
		return fmt.Sprintf("id: %s and %s are equal in log, priority and zone, and the lower id goes first", first.Node, next.Node)
	}
}

// failover says why none has happened, or what the one that is needed waits for, and whether that is an
// operator.
func (x *explainer) failover(b Ballot) (why string, waits bool) {
	if x.primary != "" {
		return x.notNeeded(), false
	}
	lead, age := x.store.Lead, (x.Now - x.store.SeenAt).Round(time.Millisecond)
	until := lead.TTL + x.Config.Profile.Delta
	switch {
	case !x.store.Known:
		return "nobody has been able to read the store yet: nobody can take the lead without it", false
	case lead.Epoch == 0:
		return "the group has not begun: the first node whose redis-server answers takes the lead", false
	case x.seen > lead.Epoch:
		return fmt.Sprintf("the store shows epoch %d, and epoch %d was seen: it went back in time; the group goes on when every node answers", lead.Epoch, x.seen), false
	case lead.State == cluster.LeadHeld && !lead.Promoted && age < until:
		return fmt.Sprintf("%s has epoch %d and is being promoted", lead.Holder, lead.Epoch), false
	case lead.State == cluster.LeadHeld && age < until:
		return fmt.Sprintf("%s may still have a permit: it last renewed %v ago, and the others wait until that is T+δ (%v), unless a quorum of voters lets go before",
			lead.Holder, age, until), false
	case b.Winner != "":
		return fmt.Sprintf("an election is on its way: the lead of %s is vacant (%s), and %s can take it", lead.Holder, vacancy(lead, age), b.Winner), false
	default:
		return fmt.Sprintf("nobody can be chosen. The lead of %s is vacant (%s), and: %s", lead.Holder, vacancy(lead, age), b.Reason), b.Best != ""
	}
}

// notNeeded is what there is to say of a failover while a primary leads.
func (x *explainer) notNeeded() string {
	s := x.Known[x.primary].Status
	switch {
	case s.Pausing:
		return fmt.Sprintf("a switchover away from %s is under way; new writes are held", x.primary)
	case s.NoQuorum:
		return fmt.Sprintf("none is needed: %s leads. It acks no write until a replica can hold it (on_lost_quorum: refuse)", x.primary)
	default:
		return fmt.Sprintf("none is needed: %s leads, and may accept writes for %v more without a renewal", x.primary, x.permit.Round(time.Millisecond))
	}
}

func vacancy(l cluster.Lead, age time.Duration) string {
	if l.State == cluster.LeadReleased {
		return "released: " + l.Cause
	}
	return fmt.Sprintf("not renewed for %v", age)
}

// rule says what the voter rule means.
func (x *explainer) rule() string {
	r := x.store.Lead.Rule
	switch {
	case x.Config.Durability != cluster.DurabilitySync:
		return "async: a write is acked as soon as the primary has it; any fit node with the group's log may be chosen"
	case len(x.Config.Nodes) == 1:
		return "the group has one node: a write is acked when it has it, and only it can lead"
	case r.W == 0:
		return fmt.Sprintf("no replica counts: writes are acked when %s alone has them, and only it can lead", x.store.Lead.Holder)
	}
	among := ""
	if slices.Contains(r.Voters, x.store.Lead.Holder) {
		among = fmt.Sprintf(" (%s counts)", x.store.Lead.Holder)
	}
	return fmt.Sprintf("a write is acked once at least %d of %s%s and at least %d besides the primary have it; an election needs the logs of %d of them",
		r.W, joined(r.Voters), among, r.Copies, r.Quorum())
}

func joined(ids []cluster.NodeID) string {
	var names []string
	for _, id := range ids {
		names = append(names, string(id))
	}
	return strings.Join(names, ", ")
}

// storeInWords: while somebody leads, the record changes with each renewal, so its age tells.
func (x *explainer) storeInWords() StoreInWords {
	if !x.store.Known {
		return StoreInWords{Text: "no agent has been able to read it yet"}
	}
	age := x.Now - x.store.SeenAt
	if x.primary == "" {
		return StoreInWords{OK: true, Text: fmt.Sprintf("read; nobody renews, and the record has not changed for %v", age.Round(time.Millisecond))}
	}
	if age > 3*x.Config.Profile.Renew {
		return StoreInWords{Text: fmt.Sprintf("silent for %v: the primary goes on while every node confirms it, and nobody can be elected", age.Round(time.Millisecond))}
	}
	var blind []cluster.NodeID
	for _, p := range x.Config.Nodes {
		if k, ok := x.answers(p.Node); ok && x.Now-k.Store.SeenAt > 3*x.Config.Profile.Renew {
			blind = append(blind, p.Node)
		}
	}
	if len(blind) > 0 {
		return StoreInWords{Text: "the primary renews in it, and these nodes do not see that: " + joined(blind)}
	}
	return StoreInWords{OK: true, Text: fmt.Sprintf("answers; the last renewal was seen %v ago", age.Round(time.Millisecond))}
}

// node is one node's part. Its own word says whether it could take over; who is chosen from says the rest.
func (x *explainer) node(p Peer, b Ballot) NodeInWords {
	k, ok := x.answers(p.Node)
	s := k.Status
	n := NodeInWords{ID: p.Node, Zone: p.Zone, Role: cluster.RoleReplica, State: s.State, Electable: s.Electable, Reason: s.Reason,
		Revoked: k.Report.Revoked, Fences: s.Fences, StoreMs: -1}
	if k.Store.Known {
		n.StoreMs = milliseconds(x.Now - k.Store.SeenAt)
	}
	if n.Fences == nil {
		n.Fences = []string{}
	}
	for _, f := range fenceNames {
		if len(n.Fences) > 0 && !slices.Contains(n.Fences, f.name) {
			n.Weaker = append(n.Weaker, f.without)
		}
	}
	switch {
	case k.At == 0 && !ok:
		n.State, n.Electable, n.Reason = cluster.StateDown, false, "its agent has not spoken yet"
	case !ok:
		n.State, n.Electable = cluster.StateDown, false
		n.Reason = fmt.Sprintf("its agent has been silent for %v", (x.Now - k.At).Round(100*time.Millisecond))
	case p.Node == x.primary:
		n.Role, n.Electable, n.Reason = cluster.RolePrimary, false, "it leads"
	case n.Electable && !slices.ContainsFunc(b.Ranking, func(s Standing) bool { return s.Node == p.Node }):
		n.Electable, n.Reason = false, b.without(p.Node)
	case n.Electable && b.Winner == "":
		n.Electable = false
		n.Reason, _, _ = strings.Cut(b.Reason, "; ") // what the other nodes lack is said of them
	}
	return n
}

// fenceNames are the fences that a node can have, and what is left open without each.
var fenceNames = []struct{ name, without string }{
	{"permit", "proxies send it writes without a permit"},
	{"parent", "it does not end with its agent, which has not started it"},
	{"fencer", "no other process kills it when its permit has ended and its agent hangs"},
	{"epoch_user", "clients of an old epoch keep their connections over a demotion"},
	{"replicas", "its replicas stay with it over a demotion"},
}

// lost are the data sets that were put aside, newest last.
func (x *explainer) lost() []cluster.Divergence {
	var all []cluster.Divergence
	for _, p := range x.Config.Nodes {
		all = append(all, x.Known[p.Node].Status.Lost...)
	}
	slices.SortStableFunc(all, func(a, b cluster.Divergence) int { return a.Time.Compare(b.Time) })
	return all
}
