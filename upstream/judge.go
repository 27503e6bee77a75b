package upstream

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"understudy/cluster"
)

// judge decides from what the nodes and the source say. It has no clock and does nothing: equal messages
// at equal times give equal words.
//
//	roster, answers, time ──> judge ──> said (statuses), events, wake
type judge struct {
	opts  Options
	nodes map[cluster.NodeID]*node
	order []cluster.NodeID // as the source lists them

	epoch   cluster.Epoch // of held; 0: there has been no primary yet
	held    tenure        // the present primary, or the last one
	fork    cluster.Fork
	logs    []string // replication ids that were a primary's, newest last
	started time.Duration
	atStart bool // who is named is only who is believed at the start
	lost    bool // its loss was said

	dispute  tenure        // a promoted replica beside the primary; zero: none
	until    time.Duration // the end of the dispute, or of the hand-over
	handing  handover      // the source has begun to promote; zero: it has not
	progress progress
	heard    time.Duration // when the primary was last asked with success

	wake   time.Duration // when tick is due
	said   []said
	events []cluster.Event
}

// said is one status, and the time from which its permit counts.
type said struct {
	at     time.Duration
	status cluster.NodeStatus
}

// roster is what the source says of the group.
type roster struct {
	members []member
	// atStart: who is named is only who is believed at the start.
	atStart bool
}

// member is one node as the source knows it.
type member struct {
	id         cluster.NodeID
	addr, zone string // addr: HOST:PORT
	server     string // for which its certificate has to be; "" for addr's host
	named      bool   // the source calls it the primary
	doubtful   bool   // fewer than half of those who were asked list it
}

// handover names the replica that the source begins to promote, of a primary that may be alive; "" when it
// has given up.
type handover struct{ to cluster.NodeID }

// tenure is one time of one node as the primary: of one process, with one log.
type tenure struct {
	node   cluster.NodeID
	run    string
	replid string
}

// node is what is known of one.
type node struct {
	member
	answer answer // the newest
	asked  bool   // it has answered, or failed to
	// rose: this run of the process was a replica of one of our logs before. A node that is a master then was
	// promoted; one that starts as a master is an old one that came back.
	rose      string
	spurned   tenure        // as which it was passed over
	contested tenure        // as which it disputed, and that was said
	preferred time.Duration // since when all but its log has spoken for it against the primary; 0: it does not
	since     time.Duration // when it was first heard to be a master, as claim
	claim     tenure
}

// maxLogs bounds how many former logs are remembered: nobody continues one from so long ago.
const maxLogs = 64

func newJudge(o Options) *judge { return &judge{opts: o, nodes: map[cluster.NodeID]*node{}} }

func (n *node) tenure() tenure { return tenure{n.id, n.answer.word.run, n.answer.word.pos.ReplID} }

// members are the nodes in the source's order.
func (j *judge) members() []member {
	all := make([]member, 0, len(j.order))
	for _, id := range j.order {
		all = append(all, j.nodes[id].member)
	}
	return all
}

// list takes the source's list of nodes.
func (j *judge) list(now time.Duration, r roster) {
	if len(j.nodes) == 0 {
		j.started = now
	}
	order := make([]cluster.NodeID, 0, len(r.members))
	for _, m := range r.members {
		if len(order) == maxNodes {
			break
		}
		order = append(order, m.id)
		n := j.nodes[m.id]
		if n == nil {
			n = &node{}
			j.nodes[m.id] = n
			j.say("node_added", m.id, fmt.Sprintf("%s is watched", m.id))
		}
		m.named = m.named && (j.epoch == 0 || !r.atStart)
		n.member = m
	}
	if held := j.held.node; !slices.Contains(order, held) && j.present(now) {
		order = append(order, held) // whoever does not list it has not heard of it yet: it serves
	}
	before := len(j.order)
	j.atStart = r.atStart
	for _, id := range j.order {
		if n := j.nodes[id]; !slices.Contains(order, id) {
			j.forget(now, n)
		}
	}
	j.order = order
	if len(order) != before {
		j.sayAll()
	}
	j.decide(now)
}

// forget drops a node that the source does not list any more.
func (j *judge) forget(now time.Duration, n *node) {
	delete(j.nodes, n.id)
	j.said = append(j.said, said{now, cluster.NodeStatus{Group: j.opts.Group, Node: n.id, Zone: n.zone, Role: cluster.RoleReplica, State: cluster.StateDown,
		Epoch: j.epoch, Durability: cluster.DurabilityAsync, Reason: "it is not in the group any more"}})
	j.say("node_removed", n.id, fmt.Sprintf("%s is not in the group any more", n.id))
}

// hear takes a node's answer.
func (j *judge) hear(now time.Duration, x answer) {
	n := j.nodes[x.node]
	if n == nil || n.asked && x.at < n.answer.at {
		return
	}
	was := n.answer
	n.answer, n.asked = x, true
	if x.err != nil {
		n.answer.word, n.answer.addr = was.word, was.addr // the last known
		if was.err == nil && was.addr != "" {
			j.say("node_silent", n.id, fmt.Sprintf("%s does not answer: %v", n.id, x.err))
		}
	} else {
		j.note(n, was)
	}
	j.decide(now)
	j.sayOf(n)
}

// note keeps what an answer says beyond the moment.
func (j *judge) note(n *node, was answer) {
	x := n.answer
	if was.err != nil {
		j.say("node_answers", n.id, fmt.Sprintf("%s answers again, as a %s", n.id, x.word.role))
	}
	switch {
	case x.word.role == cluster.RoleReplica && slices.Contains(j.logs, x.word.pos.ReplID):
		n.rose = x.word.run
	case x.word.role == cluster.RolePrimary && n.claim != n.tenure():
		n.claim, n.since = n.tenure(), x.at
	}
	if x.word.role == cluster.RoleReplica {
		n.claim = tenure{}
	}
	if n.id == j.held.node && j.holds(n) {
		j.heard = x.at
		j.progress.primaryAt(x.at, x.word.pos)
	}
}

// fresh reports whether the node's newest answer is good, and young enough to permit anything.
func (j *judge) fresh(now time.Duration, n *node) bool {
	return n.asked && n.answer.err == nil && now < n.answer.at+j.opts.Lease
}

// claims are the nodes that say now that they are masters and serve, in the source's order.
func (j *judge) claims(now time.Duration) []*node {
	var all []*node
	for _, id := range j.order {
		n := j.nodes[id]
		if j.fresh(now, n) && n.answer.word.role == cluster.RolePrimary && n.answer.word.cannot == "" && (!n.doubtful || j.continues(n) || n.id == j.held.node) {
			all = append(all, n)
		}
	}
	return all
}

// holds reports whether the node is still what it was when it was taken for the primary.
func (j *judge) holds(n *node) bool {
	x := n.answer.word
	switch {
	case j.epoch == 0 || n.id != j.held.node || x.role != cluster.RolePrimary || x.run != j.held.run:
		return false
	case x.pos.ReplID == j.held.replid:
		return true
	case x.prev.ReplID != "":
		return false // it was promoted since: it has been a replica meanwhile
	}
	// The same process under a new name, which continues none: a server that had no replica takes one when
	// the first arrives. The data is the same.
	return x.pos.Offset >= j.progress.last()
}

// present reports whether there is a primary that may be written to now.
func (j *judge) present(now time.Duration) bool {
	n := j.nodes[j.held.node]
	return n != nil && j.fresh(now, n) && j.holds(n) && n.answer.word.cannot == ""
}

// continues reports whether the node's log continues one that was a primary's.
func (j *judge) continues(n *node) bool {
	return slices.Contains(j.logs, n.answer.word.prev.ReplID)
}

// descends reports whether the node's log continues that of the primary itself, or it was promoted. An old
// primary that was started again continues one of our logs too, from before the last fork.
func (j *judge) descends(n *node) bool {
	return n.answer.word.prev.ReplID == j.held.replid || j.promoted(n)
}

// promoted reports whether the node was a replica under our eyes, became a master with a log that continues
// ours, and was not passed over as that.
func (j *judge) promoted(n *node) bool {
	return j.continues(n) && n.rose != "" && n.rose == n.answer.word.run && n.spurned != n.tenure()
}

// tick is called when time alone may have changed something.
func (j *judge) tick(now time.Duration) { j.decide(now) }

// decide looks at all claims again.
func (j *judge) decide(now time.Duration) {
	j.wake = now + j.opts.Dispute
	claims := j.claims(now)
	inc := slices.IndexFunc(claims, func(n *node) bool { return j.holds(n) })
	switch {
	case j.epoch == 0:
		j.begin(now, claims)
	case inc >= 0:
		primary := claims[inc]
		j.keep(primary)
		j.defend(now, primary, slices.Delete(claims, inc, inc+1))
	default:
		j.succeed(now, claims)
	}
	if j.present(now) {
		j.wake = min(j.wake, j.nodes[j.held.node].answer.at+j.opts.Lease)
	} else if j.epoch > 0 && !j.lost {
		j.lost = true
		j.say("primary_lost", j.held.node, fmt.Sprintf("%s is the primary no more, or cannot be asked: %s", j.held.node, j.why(j.held.node)))
	}
}

func (j *judge) why(id cluster.NodeID) string {
	n := j.nodes[id]
	switch {
	case n == nil:
		return "it is not in the group any more"
	case n.answer.err != nil:
		return n.answer.err.Error()
	case n.answer.word.cannot != "":
		return "it answers " + n.answer.word.cannot
	case n.answer.word.role != cluster.RolePrimary:
		return "it says that it is a replica of " + n.answer.word.follows
	case n.answer.word.run != j.held.run:
		return "its process was started again"
	case n.answer.word.pos.ReplID != j.held.replid:
		return "it was promoted again since it was a replica"
	}
	return fmt.Sprintf("no answer within %v", j.opts.Lease)
}

// begin chooses the first primary, once every node has answered or failed to: an old master that came back
// is often the first to answer.
func (j *judge) begin(now time.Duration, claims []*node) {
	end := j.started + j.opts.Dispute
	for _, n := range j.nodes {
		if !n.asked && now < end {
			j.wake = min(j.wake, end)
			return
		}
	}
	if len(claims) == 0 {
		return
	}
	best := slices.MaxFunc(claims, j.better)
	if best.named || best.answer.word.replicas > 0 || now >= best.since+j.opts.Dispute {
		j.install(now, best)
		return
	}
	j.wake = min(j.wake, best.since+j.opts.Dispute)
}

// better orders claims: by replicas that follow, by who is named, by which log continues the other's, by
// where the log forked, and by the smaller id so that two watchers choose the same.
func (j *judge) better(a, b *node) int {
	x, y := a.answer.word, b.answer.word
	return cmp.Or(
		compareBool(x.replicas > 0, y.replicas > 0),
		compareBool(a.named, b.named),
		compareBool(x.prev.ReplID != "" && x.prev.ReplID == y.pos.ReplID, y.prev.ReplID != "" && y.prev.ReplID == x.pos.ReplID),
		compareBool(j.continues(a), j.continues(b)),
		cmp.Compare(x.prev.Offset, y.prev.Offset),
		cmp.Compare(b.id, a.id),
	)
}

func compareBool(x, y bool) int {
	switch {
	case x == y:
		return 0
	case x:
		return 1
	}
	return -1
}

// keep follows the primary's log through a change of its name.
func (j *judge) keep(inc *node) {
	if j.lost {
		j.lost = false
		j.say("primary_back", inc.id, fmt.Sprintf("%s answers as the primary again, with the same data", inc.id))
	}
	if t := inc.tenure(); t != j.held {
		j.held = t
		j.remember(t.replid)
		j.fork = cluster.Fork{Epoch: j.epoch, ReplID: t.replid}
		j.progress.primaryAt(inc.answer.at, inc.answer.word.pos)
	}
}

// defend weighs the other masters against a primary that says that it still is one.
func (j *judge) defend(now time.Duration, inc *node, others []*node) {
	open := false
	for _, c := range others {
		alone := inc.answer.word.replicas == 0 && c.answer.word.replicas > 0
		better := c.named && !inc.named && (alone || inc.doubtful && !c.doubtful)
		if !better {
			c.preferred = 0
		}
		switch {
		case c.answer.word.run != "" && c.answer.word.run == j.held.run: // the same process at another address
		case j.descends(c) && (c.named && !inc.named || alone || c.id == j.handing.to):
			j.install(now, c) // whoever promoted it has gone on
			return
		case better && j.persists(now, c):
			j.install(now, c)
			return
		case c.spurned == c.tenure():
		case j.promoted(c):
			open = true
			if j.contest(now, inc, c) {
				return
			}
		default:
			j.spurn(c, inc, "it did not become one by a promotion from this group's log")
		}
	}
	if !open && j.dispute.node != "" || j.handing.to != "" && now >= j.until {
		j.settle()
	}
	if j.pausing() {
		j.wake = min(j.wake, j.until)
	}
}

// persists reports whether all but its log has spoken for a master against the primary for long enough. Just
// after a promotion it does: the replicas are not moved yet, and the old one is still named.
func (j *judge) persists(now time.Duration, c *node) bool {
	if c.preferred == 0 {
		c.preferred = now
	}
	end := c.preferred + j.opts.Patience
	j.wake = min(j.wake, end)
	return now >= end
}

// contest holds the writes for a while, then decides between the primary and a promoted replica; true when
// that is the primary now.
func (j *judge) contest(now time.Duration, inc, c *node) bool {
	if j.dispute.node == "" {
		j.dispute, j.until = c.tenure(), now+j.opts.Dispute
	}
	if c.contested != c.tenure() {
		c.contested = c.tenure()
		j.say("second_primary", c.id, fmt.Sprintf("%s was promoted while %s says that it is the primary: writes are held, at most %v", c.id, inc.id, j.opts.Dispute))
		j.sayOf(inc)
	}
	if now < j.until {
		return false
	}
	if compareBool(c.answer.word.replicas > 0, inc.answer.word.replicas > 0) > 0 ||
		(c.answer.word.replicas > 0) == (inc.answer.word.replicas > 0) && !inc.named {
		j.install(now, c)
		return true
	}
	j.spurn(c, inc, "replicas follow the other one, or that is the one that is named")
	return false
}

// spurn passes a master over until it changes, or a replica follows it, or it is named.
func (j *judge) spurn(c, inc *node, why string) {
	c.spurned = c.tenure()
	j.say("second_primary_ignored", c.id, fmt.Sprintf("%s says that it is a primary, as %s does: it is ignored, because %s. What is written to it is lost to the group; make it a replica", c.id, inc.id, why))
}

// settle ends a dispute or a hand-over.
func (j *judge) settle() {
	j.dispute, j.handing = tenure{}, handover{}
	if n := j.nodes[j.held.node]; n != nil {
		j.sayOf(n)
	}
}

// pausing reports whether writes are held although the primary answers.
func (j *judge) pausing() bool { return j.dispute.node != "" || j.handing.to != "" }

// handOver takes the source's word that it is promoting a replica: what is written to the old primary
// from now on would be lost.
func (j *judge) handOver(now time.Duration, h handover) {
	n := j.nodes[j.held.node]
	if n == nil || !j.present(now) || h.to == j.held.node {
		return
	}
	if !j.pausing() {
		j.until = now + j.opts.Dispute
	}
	if h.to != "" && j.handing != h {
		j.say("handing_over", h.to, fmt.Sprintf("%s is being promoted while %s serves: writes are held, at most %v", h.to, n.id, j.opts.Dispute))
	}
	j.handing = h
	j.wake = min(j.wake, j.until)
	j.sayOf(n)
}

// succeed looks for the next primary while the last one does not say that it is one.
func (j *judge) succeed(now time.Duration, claims []*node) {
	var best *node
	for _, c := range claims {
		if !j.vouched(now, c) {
			continue
		}
		if best == nil || cmp.Or(compareBool(j.promoted(c), j.promoted(best)), j.better(c, best)) > 0 {
			best = c
		}
	}
	if best != nil {
		j.install(now, best)
	}
}

// vouched reports whether anything speaks for a master, or it has been one for long enough.
func (j *judge) vouched(now time.Duration, c *node) bool {
	another := slices.ContainsFunc(j.order, func(id cluster.NodeID) bool { return id != c.id && j.nodes[id].named })
	follow := c.answer.word.replicas > 0
	switch {
	case c.spurned == c.tenure() && !(follow && c.answer.word.prev.ReplID == j.held.replid):
		// Who names it, or follows it, may not have heard of its successor yet.
	case j.promoted(c) || c.named || follow || c.id == j.held.node && !another:
		return true
	}
	end := max(c.since, j.heard) + j.opts.Patience
	if now < end {
		j.wake = min(j.wake, end)
		return false
	}
	return !another // who names another one promises that it will come
}

// install makes the node the primary of the next epoch.
func (j *judge) install(now time.Duration, n *node) {
	before, w := j.held, n.answer.word
	if old := j.nodes[before.node]; old != nil && old != n {
		old.spurned = before // should it still say that it is one
	}
	lost := ""
	if j.epoch > 0 && w.prev.ReplID == before.replid && j.progress.replid == before.replid {
		if bytes := j.progress.last() - w.prev.Offset; bytes > 0 {
			lost = fmt.Sprintf("; at least %d bytes of the old log are not in the new one", bytes)
		}
	}
	j.epoch++
	j.held, j.fork = n.tenure(), cluster.Fork{Epoch: j.epoch, ReplID: w.pos.ReplID, Parent: w.prev.ReplID, At: w.prev.Offset}
	j.remember(j.held.replid)
	j.dispute, j.handing, j.lost, j.heard = tenure{}, handover{}, false, n.answer.at
	j.progress.primaryAt(n.answer.at, w.pos)
	if j.epoch == 1 {
		j.say("primary_found", n.id, fmt.Sprintf("%s is the primary, %d replicas follow it", n.id, w.replicas))
		for _, m := range j.nodes {
			m.named = m.named && !j.atStart
		}
	} else {
		j.say("primary_changed", n.id, fmt.Sprintf("%s is the primary after %s%s", n.id, before.node, lost))
	}
	j.sayOf(n) // first: it moves the proxy's epoch
	j.sayAll()
}

func (j *judge) remember(replid string) {
	j.logs = append(slices.DeleteFunc(j.logs, func(x string) bool { return x == replid }), replid)
	if len(j.logs) > maxLogs {
		j.logs = slices.Delete(j.logs, 0, len(j.logs)-maxLogs)
	}
	for _, n := range j.nodes { // who follows it already
		if n.answer.word.role == cluster.RoleReplica && n.answer.err == nil && n.answer.word.pos.ReplID == replid {
			n.rose = n.answer.word.run
		}
	}
}

// say adds an event.
func (j *judge) say(name string, n cluster.NodeID, message string) {
	j.events = append(j.events, cluster.Event{Group: j.opts.Group, Node: n, Epoch: j.epoch, Name: name, Message: message})
}
