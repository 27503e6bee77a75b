// Package cluster holds the words that every part of Understudy shares: nodes, epochs, log
// positions, the voter rule, the lead record and the Store contract.
//
// It imports only the standard library, so that the pure packages can use it.
package cluster

import (
	"fmt"
	"slices"
	"time"
)

// NodeID names a node in ElastiCache's way: "<group>-001".
type NodeID string

// Epoch is the fencing number. It grows with every change of primary and is never reused.
type Epoch uint64

// Role is what a redis-server says it is.
type Role string

// The two roles of a node.
const (
	RolePrimary Role = "primary"
	RoleReplica Role = "replica"
)

// NodeState is the state of a node as `understudy status` shows it.
type NodeState string

// The states of a node.
const (
	StateReady   NodeState = "ready"   // serves: a primary with a permit, or a replica whose link is up
	StateSyncing NodeState = "syncing" // a replica without a link to its primary, or in a full sync
	StateLoading NodeState = "loading" // reads its own data set from disk
	StateDown    NodeState = "down"    // no process, or it does not answer
	StateFenced  NodeState = "fenced"  // runs, and cannot accept a write
)

// Durability says what "acked" means.
type Durability string

// The two durabilities.
const (
	DurabilitySync  Durability = "sync"  // acked means on two nodes
	DurabilityAsync Durability = "async" // Redis's own: acked means on the primary
)

// LostQuorum says what a sync primary does when no replica is left that could hold a write.
type LostQuorum string

// The two ways to lose the quorum.
const (
	LostQuorumShrink LostQuorum = "shrink" // the rule shrinks in the store first; writes go on, on one node
	LostQuorumRefuse LostQuorum = "refuse" // the rule stays; writes wait, then get a clear error
)

// GroupState is the state of a whole group as `understudy status` shows it.
type GroupState string

// The states of a group.
const (
	GroupAvailable   GroupState = "available"    // a primary with a permit, and every node ready
	GroupDegraded    GroupState = "degraded"     // a primary with a permit, and a node missing
	GroupFailingOver GroupState = "failing-over" // a change of primary is on its way
	GroupNoPrimary   GroupState = "no-primary"   // nobody may accept writes, and nothing is on its way
	GroupStopped     GroupState = "stopped"
)

// Position is a place in a replication log: an offset in bytes under a replication id.
// Offsets of different replication ids are never compared: see Lineage.
type Position struct {
	ReplID string `json:"replid"`
	Offset int64  `json:"offset"`
}

func (p Position) String() string {
	id := p.ReplID
	if len(id) > 8 {
		id = id[:8]
	}
	return fmt.Sprintf("%s:%d", id, p.Offset)
}

// Rule says which replicas must hold a write before it is acked: at least W of Voters, the primary
// counted when it is itself a voter, and at least Copies replicas of any kind besides the primary.
// An election under the rule needs the logs of V-W+1 voters: any write that was acked is then in
// one of them.
type Rule struct {
	Voters []NodeID `json:"voters"` // sorted
	W      int      `json:"w"`
	Copies int      `json:"copies"`
}

// Satisfied reports whether a write held by the primary and by the replicas in acked may be acked.
func (r Rule) Satisfied(primary NodeID, acked []NodeID) bool {
	votes, copies := 0, 0
	for _, n := range acked {
		if n == primary {
			continue
		}
		copies++
		if slices.Contains(r.Voters, n) {
			votes++
		}
	}
	if slices.Contains(r.Voters, primary) {
		votes++
	}
	return votes >= r.W && copies >= r.Copies
}

// Quorum is the number of voters whose logs an election needs: V-W+1. It is 0 when the rule has
// no voters: then only the last holder's own log is complete.
func (r Rule) Quorum() int {
	if len(r.Voters) == 0 {
		return 0
	}
	return len(r.Voters) - r.W + 1
}

// Implies reports whether every write that r lets pass would also be found by an election under
// next, when primary is the node that accepts writes.
func (r Rule) Implies(next Rule, primary NodeID) bool {
	if next.W <= 0 || len(next.Voters) == 0 {
		return true
	}
	// The worst case: r is satisfied by its voters that next does not count, as far as they go.
	inBoth, votes := 0, 0
	for _, v := range r.Voters {
		switch {
		case v == primary:
			votes++
		case slices.Contains(next.Voters, v):
			inBoth++
		}
	}
	outside := len(r.Voters) - votes - inBoth
	must := r.W - votes - outside // replicas common to both that r forces
	if must < 0 {
		must = 0
	}
	if slices.Contains(next.Voters, primary) {
		must++
	}
	return must >= next.W
}

// Equal reports whether two rules demand the same.
func (r Rule) Equal(o Rule) bool {
	return r.W == o.W && r.Copies == o.Copies && slices.Equal(r.Voters, o.Voters)
}

// NewRule is the rule for the given replicas: sorted, one of them must hold a write (none when
// there are none, or in async).
func NewRule(d Durability, replicas []NodeID) Rule {
	r := Rule{Voters: slices.Clone(replicas)}
	slices.Sort(r.Voters)
	if d == DurabilitySync && len(r.Voters) > 0 {
		r.W, r.Copies = 1, 1
	}
	return r
}

// LeadState says whether the holder of the lead may still accept writes.
type LeadState string

// The states of the lead.
const (
	LeadHeld     LeadState = "held"     // the holder renews it; its permit ends TTL after it last sent a renewal
	LeadReleased LeadState = "released" // the holder is fenced: it accepts no write under this epoch any more
)

// Fork says that the log ReplID, first written under Epoch, continues the log Parent after offset
// At. A log that starts from a data set read from disk has no parent.
type Fork struct {
	Epoch  Epoch  `json:"epoch"`
	ReplID string `json:"replid"`
	Parent string `json:"parent,omitempty"`
	At     int64  `json:"at"`
}

// Lead is the one record that decides who the primary is. It is changed by compare-and-swap only.
type Lead struct {
	Epoch    Epoch         `json:"epoch"`
	Holder   NodeID        `json:"holder"`
	Boot     string        `json:"boot"` // the run of the holder's redis process under which it holds
	Seq      uint64        `json:"seq"`  // grows with each renewal, so that observers see a change
	State    LeadState     `json:"state"`
	TTL      time.Duration `json:"ttl"`
	Rule     Rule          `json:"rule"` // what an election after this epoch needs
	Lineage  []Fork        `json:"lineage,omitempty"`
	Position Position      `json:"position"` // the holder's last known position
	Cause    string        `json:"cause,omitempty"`
	Kind     string        `json:"kind,omitempty"` // how Holder came to hold: "start", "failover" or "switchover"
	From     NodeID        `json:"from,omitempty"` // the holder before

	// Promoted is true once the holder's redis-server has been promoted and its log is in Lineage:
	// only then does the holder accept writes, and only then can it be followed.
	Promoted bool `json:"promoted"`
	// Phases holds how long each phase of the change took so far, in milliseconds.
	Phases map[string]float64 `json:"phases_ms,omitempty"`
	// LostBytes is what an operator accepted to lose of the log before, in bytes, when Cause says so;
	// -1: more than can be known.
	LostBytes int64 `json:"lost_bytes,omitempty"`
}

// Kept reports the epoch before Epoch whose whole log lives on under it, 0 when that is not known:
// in a switchover everything that the old primary executed is in the new one's log.
func (l Lead) Kept() Epoch {
	if l.Kind == KindSwitchover && l.From != l.Holder { // its own log goes on, and no second node has it for that
		return l.Epoch - 1
	}
	return 0
}

// How a holder came to hold the lead.
const (
	KindStart      = "start"
	KindFailover   = "failover"
	KindSwitchover = "switchover"
)

// Access is the user of one epoch, under which proxies speak to its primary. Demotion deletes it,
// which ends its connections. It is told to proxies only and never shown or logged.
type Access struct {
	User     string `json:"user,omitempty"` // "" when the server lets everybody in
	Password string `json:"password,omitempty"`
}

// Divergence is a data set that was put aside before its node gave up writes which the group's log
// does not have.
type Divergence struct {
	Epoch Epoch     `json:"epoch"` // under which the newest of them were written
	Node  NodeID    `json:"node"`
	Path  string    `json:"path"`  // directory with dump.rdb and lost.json, on the node's machine
	Bytes int64     `json:"bytes"` // of its log past the fork; -1: not known, the server died with its log
	Keys  int64     `json:"keys"`  // in the whole data set
	Size  int64     `json:"size"`  // of the RDB file, in bytes
	Time  time.Time `json:"time"`
}

// NodeStatus is what an agent says of its own node: to proxies, to the status page and to other
// agents. It carries a permit when the node is the primary.
type NodeStatus struct {
	Group  string    `json:"group"`
	Node   NodeID    `json:"node"`
	Zone   string    `json:"zone"`
	Nodes  int       `json:"nodes"`            // how many nodes the group has, this one included
	Addr   string    `json:"addr"`             // HOST:PORT of the redis-server
	Socket string    `json:"socket,omitempty"` // its unix socket, for parts on the same machine
	Role   Role      `json:"role"`
	State  NodeState `json:"state"`
	Epoch  Epoch     `json:"epoch"` // the highest epoch that the node has seen

	// Leads is true while the node holds the lead of Epoch and its redis has been promoted.
	Leads bool `json:"leads"`
	// Permit is how long after this status was made writes may still be forwarded and acked, by
	// the agent's clock; 0 means not at all. A receiver counts it from before it asked for, or was
	// pushed, this status: see failover.Gate.
	Permit time.Duration `json:"permit"`
	// Pausing is true while a switchover away from this node is under way: hold new writes.
	Pausing bool `json:"pausing"`
	// Kept is set by a primary: everything that was executed under this earlier epoch is in its
	// log, so a reply that came under it may be given to the client without waiting for a commit.
	Kept Epoch `json:"kept,omitempty"`
	// Fork is set by a primary: the log that it writes, and where that left the log before it.
	Fork Fork `json:"fork,omitzero"`
	// Rules must all be satisfied before a write is acked (sync); empty in async.
	Rules []Rule `json:"rules,omitempty"`

	// Access is set by a primary for its proxies.
	Access Access `json:"access,omitzero"`
	// NoQuorum is true while a sync primary has too few replicas to ack a write and may not shrink its
	// rule (LostQuorumRefuse): hold new writes instead of sending them.
	NoQuorum bool `json:"no_quorum,omitempty"`
	// Alone is true while a sync primary acks writes that no replica need have, or is about to: its rule in
	// the store has no voter, or one without is on its way there.
	Alone bool `json:"alone,omitempty"`
	// Fences name what keeps this node from accepting writes without a permit, strongest first.
	Fences []string `json:"fences,omitempty"`
	// Lost are the data sets that this node put aside, oldest first.
	Lost []Divergence `json:"lost,omitempty"`

	Position   Position   `json:"position"`
	LagBytes   int64      `json:"lag_bytes"` // replicas: how far behind the primary, as this node last heard
	LagMs      float64    `json:"lag_ms"`    // replicas: age of the newest byte received from the primary
	Durability Durability `json:"durability"`
	PID        int        `json:"pid"` // of the redis-server, 0 when it is not running
	AgentPID   int        `json:"agent_pid"`
	Electable  bool       `json:"electable"`
	Reason     string     `json:"reason"` // why it is not electable, or not ready
}

// Event is one transition worth a line in the timeline. It feeds the log, the metrics and
// GET /api/events.
type Event struct {
	Time    time.Time          `json:"time"`
	Group   string             `json:"group"`
	Node    NodeID             `json:"node,omitempty"`
	Epoch   Epoch              `json:"epoch,omitempty"`
	Name    string             `json:"event"` // snake_case, e.g. "primary_lost", "promoted"
	Message string             `json:"message"`
	Phases  map[string]float64 `json:"phases_ms,omitempty"` // of a whole failover, in milliseconds
}
