package cluster

import (
	"fmt"
	"strings"
	"time"
)

// Status is the answer of GET /api/status and of `understudy status --json`. Fields are added to it,
// never renamed.
type Status struct {
	Group      string       `json:"group"`
	Mode       string       `json:"mode,omitempty"` // "observe": the endpoints forward and report, and hide nothing
	State      GroupState   `json:"state"`
	Since      time.Time    `json:"since"`            // when the group came into State, as far as this process knows
	Reason     string       `json:"reason,omitempty"` // why it is not available
	Troubles   []string     `json:"reasons"`          // all that is not as it should be, one by one
	Epoch      Epoch        `json:"epoch"`
	Durability Durability   `json:"durability"`
	Profile    string       `json:"profile"`
	Primary    NodeID       `json:"primary"`        // "" when nobody may accept writes
	PermitMs   float64      `json:"permit_ms"`      // how long Primary may go on without a renewal
	Held       string       `json:"held,omitempty"` // why new writes wait although there is a primary
	Rule       *StatusRule  `json:"rule,omitempty"` // sync: by which an election would go now
	Nodes      []StatusNode `json:"nodes"`          // ordered by id
	Endpoints  Endpoints    `json:"endpoints"`
	// OnLostQuorum is what a sync primary without a replica does.
	OnLostQuorum LostQuorum `json:"on_lost_quorum"`
	// LastFailover is the newest change of primary; null when there has been none.
	LastFailover *Change `json:"last_failover"`
}

// StatusRule is the voter rule as a Status shows it.
type StatusRule struct {
	Voters []NodeID `json:"voters"`
	W      int      `json:"w"` // how many of Voters hold a write before it is acked
}

// StatusNode is one node of a Status.
type StatusNode struct {
	ID        NodeID    `json:"id"`
	Zone      string    `json:"zone"`
	Machine   string    `json:"machine,omitempty"` // "" when the whole group is on one
	Role      Role      `json:"role"`
	State     NodeState `json:"state"`
	Addr      string    `json:"addr"` // HOST:PORT of the redis-server
	PID       int       `json:"pid"`  // of the redis-server, 0 when it is not running
	AgentPID  int       `json:"agent_pid"`
	Offset    int64     `json:"offset"`
	LagBytes  int64     `json:"lag_bytes"`
	LagMs     float64   `json:"lag_ms"`
	Electable bool      `json:"electable"`
	Reason    string    `json:"reason"`
	// Revoked: it never again follows a holder of this epoch or a lower one.
	Revoked Epoch        `json:"revoked,omitempty"`
	Fences  []string     `json:"fences,omitempty"` // what keeps it from accepting writes without a permit, strongest first
	Lost    []Divergence `json:"lost,omitempty"`   // data sets that it put aside, oldest first
}

// Endpoints are the addresses that clients use, as HOST:PORT.
type Endpoints struct {
	Primary string `json:"primary"`
	Reader  string `json:"reader"`
	Split   string `json:"split"`
	HTTP    string `json:"http"`
	// Where clients come in over TLS; "": nowhere. The addresses above are these where there are no others.
	PrimaryTLS string `json:"primary_tls,omitempty"`
	ReaderTLS  string `json:"reader_tls,omitempty"`
	SplitTLS   string `json:"split_tls,omitempty"`
}

// Change is one change of primary: a failover or a switchover.
type Change struct {
	Epoch   Epoch     `json:"epoch"` // the new one
	Kind    string    `json:"kind"`  // KindFailover or KindSwitchover
	Cause   string    `json:"cause"`
	From    NodeID    `json:"from"`
	To      NodeID    `json:"to"`
	Started time.Time `json:"started"` // when it was noticed, less the time that noticing took
	// DurationMs runs from Started until the new primary accepts writes.
	DurationMs float64            `json:"duration_ms"`
	PhasesMs   map[string]float64 `json:"phases_ms"`
	// LostBytes is how much of the old primary's log, as far as it was heard of, is not in the new
	// one's; -1: more than can be known. In sync none of it was acked, unless an operator accepted that.
	LostBytes int64 `json:"lost_bytes"`
}

// Node finds a node by its id.
func (s Status) Node(id NodeID) (StatusNode, bool) {
	for _, n := range s.Nodes {
		if n.ID == id {
			return n, true
		}
	}
	return StatusNode{}, false
}

// Ready counts the nodes that serve.
func (s Status) Ready() int {
	ready := 0
	for _, n := range s.Nodes {
		if n.State == StateReady {
			ready++
		}
	}
	return ready
}

// Writable reports why the group accepts no writes; "" when it does.
func (s Status) Writable() string {
	if s.Primary != "" {
		return s.Held
	}
	return s.Reason
}

// Reasons joins what the nodes give as theirs.
func (s Status) Reasons() string {
	var reasons []string
	for _, n := range s.Nodes {
		if n.Reason != "" {
			reasons = append(reasons, fmt.Sprintf("%s: %s", n.ID, n.Reason))
		}
	}
	return strings.Join(reasons, "; ")
}
