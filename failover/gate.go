package failover

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"understudy/cluster"
)

// Gate decides for a proxy: whether a request may be forwarded now and to whom, and whether a reply
// may be given to the client. It is fed with what the agents say of themselves and is not safe for
// concurrent use.
type Gate struct {
	nodes   map[cluster.NodeID]known
	leader  cluster.NodeID // of the highest epoch whose holder serves or has served
	epoch   cluster.Epoch
	closed  time.Duration // since when there has been no writable primary; valid while !open
	open    bool
	started bool
	handing bool // the primary's last word was that it is handing over
	// Mutation puts a known-wrong rule in; only the simulator's tests set it.
	Mutation Mutation
}

// known is the newest word of one node.
type known struct {
	at     time.Duration // by the proxy's clock, before the status was made or asked for
	status cluster.NodeStatus
}

// NewGate returns a Gate that knows nobody and forwards nothing.
func NewGate() *Gate { return &Gate{nodes: map[cluster.NodeID]known{}} }

// Learn takes a node's word. at is a reading of the proxy's clock from before the status was made:
// the permit in it is counted from then. It reports whether anything changed that a waiting request
// or reply may depend on.
func (g *Gate) Learn(at time.Duration, s cluster.NodeStatus) bool {
	old, seen := g.nodes[s.Node]
	if seen && at < old.at {
		return false // overtaken on its way
	}
	g.nodes[s.Node] = known{at, s}
	if s.Leads && s.Epoch >= g.epoch {
		g.handing = s.Pausing
	}
	if s.Leads && s.Epoch > g.epoch {
		g.leader, g.epoch = s.Node, s.Epoch
		return true
	}
	return !seen || !sameForGate(old.status, s)
}

func sameForGate(x, y cluster.NodeStatus) bool {
	return x.Leads == y.Leads && x.Epoch == y.Epoch && x.Pausing == y.Pausing && x.State == y.State &&
		x.Addr == y.Addr && x.Socket == y.Socket && x.Role == y.Role && (x.Permit > 0) == (y.Permit > 0) && x.NoQuorum == y.NoQuorum && x.Access == y.Access &&
		slices.EqualFunc(x.Rules, y.Rules, cluster.Rule.Equal)
}

// Writer is the primary as a proxy may use it.
type Writer struct {
	Node   cluster.NodeID
	Addr   string
	Socket string
	Epoch  cluster.Epoch
	ReplID string        // of the log that it writes
	Until  time.Duration // its permit ends then
	Access cluster.Access
	// Hold says why writes must wait although there is a primary, which may be read from: too few
	// replicas, and the group's setting is to refuse. "": they need not.
	Hold string
}

// Writer returns the primary to which a request may be sent now. ok is false when there is none, or
// when it is about to hand over: hold the request.
func (g *Gate) Writer(now time.Duration) (w Writer, ok bool) {
	k, there := g.nodes[g.leader]
	s := k.status
	until := k.at + s.Permit
	ok = there && s.Leads && s.Epoch == g.epoch && s.Permit > 0 && now < until
	switch {
	case ok:
		g.open, g.started = true, true
	case g.open || !g.started:
		// A permit that ran out unnoticed ended at its deadline, not when somebody asked.
		g.closed, g.open, g.started = now, false, true
		if there && s.Leads && until < now {
			g.closed = until
		}
	}
	w = Writer{Node: s.Node, Addr: s.Addr, Socket: s.Socket, Epoch: g.epoch, ReplID: s.Fork.ReplID, Until: until, Access: s.Access}
	if s.NoQuorum {
		w.Hold = "no replica can hold a copy of a write"
	}
	return w, ok && !s.Pausing
}

// Closed reports since when there has been no primary that may accept writes; 0, false while there
// is one.
func (g *Gate) Closed(now time.Duration) (time.Duration, bool) {
	g.Writer(now)
	return g.closed, !g.open
}

// handingFor bounds how long the end of a permit counts as a switchover's: hundreds of times what one takes.
const handingFor = time.Second

// HandingOver reports whether the primary is about to be another one as somebody wished, or was so a moment
// ago: the next one is known already, and nobody has to be told that there is none.
func (g *Gate) HandingOver(now time.Duration) bool {
	since, closed := g.Closed(now)
	return g.handing && (!closed || now-since < handingFor)
}

// Receipt says what is known of a reply that a primary gave.
type Receipt struct {
	Epoch cluster.Epoch // under which the request was sent
	// ReplID and Offset bound where in the log the reply's effects end; Offset 0: not known.
	ReplID string
	Offset int64
}

// Fate is what becomes of a reply that waits for its commit.
type Fate uint8

// The fates.
const (
	FateWait    Fate = iota // nobody may decide yet
	FateCommit              // the primary that gave it still leads: ack it once the rules are satisfied
	FateKept                // its effects are in the new primary's log and on a second node: ack it
	FateCarried             // its effects are in the new primary's log: commit there, then ack
	FateUnknown             // its effects may be lost
)

// Fate decides about a reply that came under the receipt.
func (g *Gate) Fate(now time.Duration, r Receipt) Fate {
	k := g.nodes[g.leader].status
	switch {
	case r.Epoch > g.epoch:
		panic(fmt.Sprintf("failover: a reply of epoch %d, the newest known is %d", r.Epoch, g.epoch))
	case !g.permitted(now):
		return FateWait
	case r.Epoch == g.epoch:
		return FateCommit
	case r.Epoch == k.Kept:
		return FateKept
	case r.ReplID != "" && k.Fork.ReplID == r.ReplID:
		return FateCarried // the same log goes on under a new epoch: all that was written to it is in it
	case r.Offset > 0 && k.Fork.Parent == r.ReplID && r.Offset <= k.Fork.At:
		return FateCarried
	default:
		return FateUnknown
	}
}

func (g *Gate) permitted(now time.Duration) bool {
	k := g.nodes[g.leader]
	return k.status.Leads && k.status.Epoch == g.epoch && k.status.Permit > 0 && now < k.at+k.status.Permit
}

// MayAck reports whether a reply that came under epoch, and whose commit is done, may be given to
// the client now: invariant 2.
func (g *Gate) MayAck(now time.Duration, epoch cluster.Epoch) bool {
	return epoch == g.epoch && g.permitted(now)
}

// Demand says what must be seen before a write is acked.
type Demand struct {
	Rules []cluster.Rule
	// Least is how many replicas must hold a write at least; 0: no commit is needed.
	Least int
	// Surely is how many replicas, whichever they are, satisfy all rules. Where that is more than
	// Least, a smaller number may do as well: who they are can tell.
	Surely int
}

// Demand returns what the present primary's rules ask for.
func (g *Gate) Demand() Demand {
	d := Demand{Rules: g.nodes[g.leader].status.Rules}
	others := g.nodes[g.leader].status.Nodes - 1
	for _, r := range d.Rules {
		votes, inside := r.W, 0
		for _, v := range r.Voters {
			if v == g.leader {
				votes--
			} else {
				inside++
			}
		}
		d.Least = max(d.Least, votes, r.Copies)
		if votes > 0 {
			d.Surely = max(d.Surely, votes+others-inside, r.Copies)
		} else {
			d.Surely = max(d.Surely, r.Copies)
		}
	}
	return d
}

// Satisfied reports whether the rules are satisfied when the replicas in acked hold a write.
func (d Demand) Satisfied(primary cluster.NodeID, acked []cluster.NodeID) bool {
	for _, r := range d.Rules {
		if !r.Satisfied(primary, acked) {
			return false
		}
	}
	return true
}

// Reader is a replica that reads may be sent to.
type Reader struct {
	Node     cluster.NodeID
	Zone     string
	Addr     string
	Socket   string
	Position cluster.Position
	LagBytes int64 // how far it is behind the primary, by its agent's word
	LagMs    float64
}

// readerSilence is how long a replica may be silent before it is not used any more, in units of
// its agent's regular messages; agents speak at least once a Renew.
const readerSilence = 2 * time.Second

// Readers returns the replicas that are up and follow the primary, ordered by id.
func (g *Gate) Readers(now time.Duration) []Reader {
	return g.replicas(now, func(id cluster.NodeID, s cluster.NodeStatus) bool {
		return !(id == g.leader && s.Leads) && s.State == cluster.StateReady
	})
}

// Standbys returns the replicas that run, whether or not their link to a primary is up, ordered by id: what
// is left to read from while nobody leads. How old their data is nobody says. The newest primary is none of
// them, also when it is a replica by now: it may have what no other node has, and what will be taken back.
// One that still calls itself a primary is none either.
func (g *Gate) Standbys(now time.Duration) []Reader {
	return g.replicas(now, func(id cluster.NodeID, s cluster.NodeStatus) bool {
		return id != g.leader && !s.Leads && (s.State == cluster.StateReady || s.State == cluster.StateSyncing)
	})
}

func (g *Gate) replicas(now time.Duration, usable func(cluster.NodeID, cluster.NodeStatus) bool) []Reader {
	var readers []Reader
	for id, k := range g.nodes {
		s := k.status
		if s.Role != cluster.RoleReplica || s.Addr == "" || now-k.at > readerSilence || !usable(id, s) {
			continue
		}
		readers = append(readers, Reader{Node: id, Zone: s.Zone, Addr: s.Addr, Socket: s.Socket, Position: s.Position, LagBytes: s.LagBytes, LagMs: s.LagMs})
	}
	slices.SortFunc(readers, func(a, b Reader) int { return cmp.Compare(a.Node, b.Node) })
	return readers
}

// Leader names the newest primary, whether or not it may accept writes now, and its epoch.
func (g *Gate) Leader() (cluster.NodeID, cluster.Epoch) { return g.leader, g.epoch }

// Node returns the newest word of one node.
func (g *Gate) Node(id cluster.NodeID) (cluster.NodeStatus, bool) {
	k, ok := g.nodes[id]
	return k.status, ok
}

// Permit returns the newest epoch and until when its primary may accept and ack writes, by the
// proxy's clock; 0 when it may not.
func (g *Gate) Permit() (cluster.Epoch, time.Duration) {
	k := g.nodes[g.leader]
	if !k.status.Leads || k.status.Epoch != g.epoch || k.status.Permit <= 0 {
		return g.epoch, 0
	}
	return g.epoch, k.at + k.status.Permit
}

// At names the node whose redis-server listens at addr (HOST:PORT).
func (g *Gate) At(addr string) (cluster.NodeID, bool) {
	for id, k := range g.nodes {
		if k.status.Addr == addr {
			return id, true
		}
	}
	return "", false
}
