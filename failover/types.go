package failover

import (
	"time"

	"understudy/cluster"
)

// Peer is another node of the group, as configured.
type Peer struct {
	Node     cluster.NodeID
	Zone     string
	Priority int // higher is preferred among nodes with equal logs
}

// Config is what a Machine is built with.
type Config struct {
	Group      string
	Self       Peer
	Nodes      []Peer // every node of the group, self included, in the order of their ids
	Durability cluster.Durability
	Profile    Profile
	// OnLostQuorum is what a sync primary without a replica does; "" is LostQuorumShrink.
	OnLostQuorum cluster.LostQuorum
	// Manual: see Settings.
	Manual bool
	// PreferredZone is where the primary belongs: a holder elsewhere hands over while
	// Input.ReturnNow. "": nowhere in particular.
	PreferredZone string
	// Mutation puts a known-wrong rule in. Only the simulator's tests set it, to show that the
	// simulator would catch it.
	Mutation Mutation
}

// Input is all that a Machine may know. Times are readings of this node's monotonic clock.
type Input struct {
	Now     time.Duration
	Store   StoreView
	Local   Local
	Peers   map[cluster.NodeID]Report // the newest answer of each peer
	Results []Result                  // of actions that ended since the last step
	Request *Request
	// Settings are the group's, when they have changed since the Machine was made; nil: they have not.
	Settings *Settings
	// ReturnNow is true inside the window in which the primary may be moved back to PreferredZone.
	ReturnNow bool
}

// Settings are the part of a Config that may change while the Machine lives. Whoever changes Nodes keeps an
// order. A new node: all others know it before it starts, so that none of them counts on all without it. One
// that goes: it is told first, and takes no lead any more; then the others; it stops when it is out of the rule.
type Settings struct {
	Nodes []Peer // every node of the group, in the order of their ids; self is not among them when it is to go
	// Manual: nobody takes the lead of a primary that was lost but that primary itself, or whom an operator
	// names. AWS calls that automatic failover disabled.
	Manual bool
}

// StoreView is the newest Lead that this node has read or been told of. After the store was read as a
// whole it is what was read, even if that is older than what came before: then the store has been
// restored from a backup, or has lost all.
type StoreView struct {
	Known    bool // the store has been read at least once
	Lead     cluster.Lead
	Revision int64         // 0: there is no lead yet
	SeenAt   time.Duration // when this node last saw the record change
}

// Process says how the redis-server of this node is doing as a process.
type Process uint8

// The states of the process.
const (
	ProcessNone Process = iota // not started, or ended and reaped
	ProcessRunning
)

// Local is what this node knows of its own redis-server.
type Local struct {
	Process Process
	Exit    string // why it ended, when it has
	Boot    string // names this run of the process; never reused
	// At is when the newest answered probe was SENT; OKAt the same for the newest answer that
	// showed the server alive (LOADING and BUSY are answers).
	At, OKAt time.Duration
	Busy     bool // answered -BUSY: only SIGKILL helps if it lasts
	Loading  bool

	Role      cluster.Role
	Position  cluster.Position
	Prev      cluster.Position // the log that Position's continues, up to Prev.Offset; empty when none
	LinkUp    bool
	Syncing   bool           // in a full sync
	Damaged   bool           // a full sync began and has not ended well: the data set is not whole
	Following cluster.NodeID // "" when it follows nobody that is a node
	Replicas  []ReplicaAck   // a primary's connected replicas
	Seen      cluster.Epoch  // the highest epoch kept on this node's disk
	Revoked   cluster.Epoch  // the highest epoch that this node promised, on its disk, not to follow again
	Kept      cluster.Lead   // the newest record kept on this node's disk: for a store that went back
	// Last is where this node's log was when the run before ended, as far as it was looked at; empty
	// when this run has followed or led since, or when it is not known.
	Last cluster.Position
	// Intact: the data set that redis-server was started on is all that it had when it last was a
	// primary here, and it has followed nobody since.
	Intact bool
	Short  bool // as Intact, but for the newest writes: the machine lost power before they were on disk
	// ReadOnly says why the server refuses every write although it answers: its disk is full or broken.
	ReadOnly string
}

// ReplicaAck is a primary's view of one replica.
type ReplicaAck struct {
	Node   cluster.NodeID
	Online bool
	Offset int64 // acknowledged
}

// Report is a node's answer to another node's question.
type Report struct {
	Node     cluster.NodeID   `json:"node"`
	At       time.Duration    `json:"-"` // when the question was sent, by the asker's clock
	Boot     string           `json:"boot"`
	Zone     string           `json:"zone,omitempty"` // where it runs
	Seen     cluster.Epoch    `json:"seen"`
	Revoked  cluster.Epoch    `json:"revoked"` // it never again follows a holder of this epoch or a lower one
	Fit      bool             `json:"fit"`     // its log is whole and it could be promoted now
	Reason   string           `json:"reason,omitempty"`
	Position cluster.Position `json:"position"`
	Prev     cluster.Position `json:"prev"`
	Complete cluster.Epoch    `json:"complete"`         // it has the whole log of this epoch's holder, or of the last one that served before
	Short    cluster.Epoch    `json:"short,omitempty"`  // the same, but for what a power loss took
	Before   cluster.Epoch    `json:"before,omitempty"` // it has the whole log of the holder before this epoch's
	Followed cluster.Epoch    `json:"followed"`         // the newest epoch that it may have followed
	// Last is where the log of its data set was at least, when redis-server has read it from disk under
	// a new name; empty when Position says it.
	Last     cluster.Position `json:"last,omitzero"`
	ReadOnly string           `json:"read_only,omitempty"` // why redis-server refuses writes although it is healthy
	Ready    bool             `json:"ready"`               // replica: link up
}

// ActionKind says what the shell is to do.
type ActionKind uint8

// The actions. Each is answered by one Result with the action's ID.
const (
	ActStart   ActionKind = iota + 1 // start redis-server as a replica of nobody
	ActKill                          // SIGKILL it; done when it is reaped
	ActFollow                        // REPLICAOF Node
	ActRevoke                        // wait ≤ For for the link to drain, then REPLICAOF a black hole
	ActPromote                       // REPLICAOF NO ONE, verified; the Result carries the position
	ActPause                         // CLIENT PAUSE WRITE, then wait ≤ For until Node has every byte
	ActResume                        // CLIENT UNPAUSE
	ActSwap                          // compare-and-swap of the lead
	// ActAsk asks every peer for a Report, ≤ For; a peer may use that time to revoke Epoch. With Epoch 0 it
	// also reads the store, and fails when that does not answer within For: the answer is in the next
	// Input's Store. The answer of Node, if one is named, is not waited for.
	ActAsk
	ActPersist // keep Epoch, Revoked and Lead on this node's disk
	ActPledge  // ask EVERY peer to confirm Epoch for its holder, ≤ For; OK only if all did
	ActSave    // put the data set aside under lost/Epoch; Position: where the group left its log
)

func (k ActionKind) String() string {
	names := [...]string{"none", "start", "kill", "follow", "revoke", "promote", "pause", "resume", "swap", "ask", "persist", "pledge", "save"}
	if int(k) < len(names) {
		return names[k]
	}
	return "unknown"
}

// Action is one thing for the shell to do, without blocking the next Step.
type Action struct {
	ID       uint64
	Kind     ActionKind
	Node     cluster.NodeID
	Epoch    cluster.Epoch
	Lead     cluster.Lead     // ActSwap: the new record; ActPersist: the newest known
	Revision int64            // ActSwap: the revision that it replaces
	Revoked  cluster.Epoch    // ActPersist: promised not to be followed again
	Position cluster.Position // ActSave: where the group's log left this node's; empty: not known
	For      time.Duration
	Why      string
}

// Outcome is how an action ended.
type Outcome uint8

// The outcomes. Unknown is not a failure: it may have been carried out.
const (
	OutcomeOK Outcome = iota + 1
	OutcomeFailed
	OutcomeConflict // ActSwap: the record had another revision
	OutcomeUnknown
)

func (o Outcome) String() string {
	return [...]string{"none", "ok", "failed", "conflict", "unknown"}[o]
}

// Result ends an action.
type Result struct {
	ID       uint64
	Kind     ActionKind
	Outcome  Outcome
	Detail   string // why it failed
	Revision int64  // ActSwap: the new one
	Position cluster.Position
	Prev     cluster.Position
	Damaged  bool // ActRevoke: the server was in the middle of a full sync
}

// RequestKind is what an operator can ask of the node that holds the lead.
type RequestKind uint8

// The requests.
const (
	RequestSwitchover RequestKind = iota + 1 // hand the lead to To, or to the best node of Zone, or to the best
	RequestStop                              // the process is about to end: fence and release in order
	// RequestPledge comes from the holder Node of Epoch, which cannot reach the store: OK means that
	// this node counts it as a renewal.
	RequestPledge
	// RequestForce has this node take a vacant lead although acked writes may be lost, if AcceptLoss;
	// else it is refused with the number of bytes.
	RequestForce
)

// Request is an operator's wish. A request with an ID that was answered before is answered again
// and does nothing.
type Request struct {
	ID   string
	Kind RequestKind
	To   cluster.NodeID
	Zone string
	// DryRun: RequestSwitchover only says in Reply.To who would get the lead.
	DryRun bool

	Node       cluster.NodeID // RequestPledge: the holder
	Epoch      cluster.Epoch  // RequestPledge
	AcceptLoss bool           // RequestForce
	Cause      string         // RequestSwitchover: why; "": requested by an operator
}

// Reply ends a request.
type Reply struct {
	ID      string
	OK      bool
	Refused bool // for safety: nothing was changed
	Message string
	Lead    cluster.Lead
	// To is who should be asked instead: the best log that is left, for RequestForce; who would get the
	// lead, for a DryRun.
	To cluster.NodeID
}

// Output is what a Step decided.
type Output struct {
	Actions []Action
	Events  []cluster.Event
	Replies []Reply
	Status  cluster.NodeStatus
	Report  Report
	// WakeAt is when the next Step is needed if nothing happens before.
	WakeAt time.Duration
	// WriteUntil is when the right to accept writes ends; 0 when there is none.
	WriteUntil time.Duration
	// FenceAt is when the redis-server must be dead if this Machine has not stepped again: the
	// separate fencer's deadline. 0: none.
	FenceAt time.Duration
}

// Mutation is a known-wrong rule.
type Mutation uint8

// The known-wrong rules that a Machine can be given.
const (
	MutationNone             Mutation = iota
	MutationDeadlineFromAck           // the permit's deadline counts from the reply instead of the send
	MutationOffsetOnly                // logs are compared by offset across lineages
	MutationPriorityFirst             // priority before the log
	MutationRuleBeforeStore           // the shrunk rule is used before it is in the store
	MutationNoQuorum                  // an election needs no quorum of voters
	MutationNoRevoke                  // candidates go on following while they are asked
	MutationChallengerEarly           // a challenger waits T/2 only
	MutationServeBeforeStore          // writes are accepted before the lineage is in the store
	MutationSwitchoverNoWait          // a switchover does not wait for equal offsets

	// The rules below are the shells': the simulator's models of the agent and the proxy read them.
	MutationTickerPermit         // the proxy looks at the permit now and then instead of at each write
	MutationRedisOutlives        // redis-server outlives its agent, unfenced
	MutationReadUncommitted      // reads show what is not committed yet
	MutationNoBarrier            // the first reads after a failover do not wait for a commit
	MutationIntactIsData         // any data set on disk counts as all that the last run had
	MutationDemotionKeepsClients // a demoted server goes on answering its clients' reads

	MutationEarlyAsync      // an election before T+δ although no quorum is needed for an ack
	MutationPledgeFromReply // a pledged permit counts from the replies instead of the question
	MutationPledgeUncounted // a node that pledges does not count that as a renewal seen
	MutationRuleAtOnce      // a new rule is stored at once, although what was acked before may be elsewhere
	MutationEarlyNoQuorum   // an election before T+δ needs no quorum of voters either
	MutationEpochReused     // a store that went back is believed: its epochs are given away again

	// The shells' again.
	MutationRevokedInMemory // an agent that starts again has forgotten what it let go of
	MutationPledgeMajority  // a majority of the pledges will do
	MutationReadByOldAcks   // a read is committed by what the replicas acknowledged before it

	MutationRuleForgotten // a rule that may still reach the store is not demanded any more
	mutations             // how many there are
)

var mutationNames = [mutations]string{
	"none", "deadline-from-ack", "offset-only", "priority-first", "rule-before-store", "no-quorum", "no-revoke",
	"challenger-early", "serve-before-store", "switchover-no-wait", "ticker-permit", "redis-outlives",
	"read-uncommitted", "no-barrier", "intact-is-data", "demotion-keeps-clients",
	"early-async", "pledge-from-reply", "pledge-uncounted",
	"rule-at-once", "early-no-quorum", "epoch-reused",
	"revoked-in-memory", "pledge-majority", "read-by-old-acks",
	"rule-forgotten",
}

func (m Mutation) String() string { return mutationNames[m] }

// Mutations returns every known-wrong rule.
func Mutations() []Mutation {
	var all []Mutation
	for m := MutationNone + 1; m < mutations; m++ {
		all = append(all, m)
	}
	return all
}
