// Package rpc carries what agents say to one another and to proxies, over unix sockets or mutual TLS.
//
// One server speaks for every node of its process; a question names the node. Addresses are strings,
// "unix:/PATH" or "tcp:HOST:PORT". Nothing here waits longer than its caller allows, and a peer whose
// packets vanish costs one bound, never two in a row: see Client.
package rpc

import (
	"context"
	"fmt"
	"time"

	"understudy/cluster"
	"understudy/failover"
)

// Answer is a node's report, and where its redis-server listens.
type Answer struct {
	failover.Report
	Addr string `json:"addr"` // HOST:PORT; "" while it does not run
}

// Word is what a node says of itself at one moment.
type Word struct {
	// Version changes with every change of the rest. It is not the same after a restart of the agent.
	Version uint64             `json:"version"`
	Status  cluster.NodeStatus `json:"status"` // its Permit counts from when this answer was made
	Report  failover.Report    `json:"report"`
	Lead    cluster.Lead       `json:"lead"` // the newest record that the node knows, Revision its revision
	// LeadKnown says that the node has read the store, Revision is the record's there (0: there is none),
	// and LeadAge how long ago the node saw it change.
	LeadKnown bool          `json:"lead_known"`
	Revision  int64         `json:"revision"`
	LeadAge   time.Duration `json:"lead_age"`
	// Events are those after the number that was asked with, oldest first, and EventsTo is the number
	// of the newest. A node keeps a bounded number of them.
	Events   []cluster.Event `json:"events,omitempty"`
	EventsTo uint64          `json:"events_to"`
}

// Knowledge is the word as an explanation takes it, by the asker's clock: sentAt is from before it asked.
func (w Word) Knowledge(sentAt time.Duration) failover.Knowledge {
	k := failover.Knowledge{At: sentAt, Status: w.Status, Report: w.Report,
		Store: failover.StoreView{Known: w.LeadKnown, Lead: w.Lead, Revision: w.Revision, SeenAt: sentAt - w.LeadAge}}
	k.Report.At = sentAt
	return k
}

// After says what the asker of a Word has already: it is answered when there is more.
type After struct {
	Version uint64
	Events  uint64
	Wait    time.Duration // how long the answer may be held; at most MaxWait
}

// Kill asks a node to end its redis-server as a crash would: SIGKILL. It is refused unless the node
// leads under Epoch, so that a request that comes twice, or late, does nothing.
type Kill struct {
	ID    string        `json:"id"`
	Epoch cluster.Epoch `json:"epoch"`
}

// Node is what a server passes questions on to. Every method may be called at any time, and returns
// when its context ends.
type Node interface {
	// Report answers at once when epoch is 0; else it is held until the node has let go of epoch or is
	// plainly not fit, at most wait.
	Report(ctx context.Context, epoch cluster.Epoch, wait time.Duration) (Answer, error)
	// Position asks redis-server where its log is now.
	Position(ctx context.Context) (cluster.Position, error)
	// Word is held until there is more than the asker has.
	Word(ctx context.Context, after After) (Word, error)
	// Request hands an operator's wish, or a peer's pledge, to the node's machine. A request whose ID
	// was answered before is answered again and does nothing.
	Request(ctx context.Context, r failover.Request) (failover.Reply, error)
	// Kill ends redis-server; the reply says Refused when nothing was done.
	Kill(ctx context.Context, k Kill) (failover.Reply, error)
}

// To names a node and where its agent is reached.
type To struct {
	Node cluster.NodeID
	Addr string // "unix:/PATH" or "tcp:HOST:PORT"
}

// The bounds of this package.
const (
	// MaxWait bounds how long an answer may be held: a held answer costs its asker a connection.
	MaxWait = 10 * time.Second
	// maxRequest bounds a request's body: a few names and numbers.
	maxRequest = 16 << 10
	// maxAnswer bounds an answer: a lead with its whole lineage, a status, and the events kept.
	maxAnswer = 1 << 20
	// maxName bounds a node's name as a question gives it.
	maxName = 64
)

// ask is a failover.Request on its way.
type ask struct {
	ID         string         `json:"id"`
	Kind       string         `json:"kind"`
	To         cluster.NodeID `json:"to,omitempty"`
	Zone       string         `json:"zone,omitempty"`
	DryRun     bool           `json:"dry_run,omitempty"`
	Node       cluster.NodeID `json:"node,omitempty"`
	Epoch      cluster.Epoch  `json:"epoch,omitempty"`
	AcceptLoss bool           `json:"accept_loss,omitempty"`
}

// kinds are the requests that may come from outside; a stop is its own process's affair.
var kinds = map[string]failover.RequestKind{
	"switchover": failover.RequestSwitchover, "pledge": failover.RequestPledge, "force": failover.RequestForce,
}

func newAsk(r failover.Request) (ask, error) {
	for name, kind := range kinds {
		if kind == r.Kind {
			return ask{ID: r.ID, Kind: name, To: r.To, Zone: r.Zone, DryRun: r.DryRun, Node: r.Node, Epoch: r.Epoch, AcceptLoss: r.AcceptLoss}, nil
		}
	}
	return ask{}, fmt.Errorf("request %s: kind %d is not one that can be sent", r.ID, r.Kind)
}

func (a ask) request() (failover.Request, error) {
	kind, ok := kinds[a.Kind]
	if !ok {
		return failover.Request{}, fmt.Errorf("request kind %q: not one of force, pledge, switchover", a.Kind)
	}
	if a.ID == "" || len(a.ID) > maxName {
		return failover.Request{}, fmt.Errorf("request id %.64q: 1 to %d bytes are an id", a.ID, maxName)
	}
	return failover.Request{ID: a.ID, Kind: kind, To: a.To, Zone: a.Zone, DryRun: a.DryRun, Node: a.Node, Epoch: a.Epoch, AcceptLoss: a.AcceptLoss}, nil
}
