// Package host runs on one machine the nodes that the store places there, of any number of groups.
//
// It keeps this machine's record in the store alive, writes the desired state of groups that have none,
// gives nodes without a machine, or with one that is lost, another, and starts and stops what belongs
// here. What a node is, it is told by whoever makes it: a func that starts one.
package host

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"understudy/cluster"
)

// Node is a started node.
type Node interface {
	// Run runs the node until ctx ends, and returns when nothing of it is left.
	Run(ctx context.Context) error
}

// Assignment is a node that is to run here.
type Assignment struct {
	Spec   cluster.Spec
	Place  cluster.NodePlace
	Port   int    // of its redis-server, kept over restarts
	Secret string // of the group
	Store  cluster.Store
}

// Options say which machine this is.
type Options struct {
	Machine cluster.Machine // Seq is the host's own
	Store   cluster.Store
	// Groups are written to the store when it has none of that name. Their nodes need no machine.
	Groups []cluster.Spec
	Dir    string // keeps ports.json
	// PortBase is the first port for redis-servers of this machine.
	PortBase int
	// ReplaceAfter is how long a machine must be silent before its nodes go elsewhere; default 5 min. A
	// machine that cannot renew its own record stops its nodes after four fifths of that.
	ReplaceAfter time.Duration
	// CrowdAfter is how long a node waits for a machine of its own before it shares one; default 30 s.
	CrowdAfter time.Duration
	// Renew is the time between two renewals of the machine's record; default 5 s.
	Renew time.Duration

	// Start makes a node and does not run it yet.
	Start func(Assignment) (Node, error)
	// OnSpecs is told of every change of the specs or of where machines are reached. It must not block.
	OnSpecs func([]cluster.Spec)
	OnEvent func(cluster.Event)
	Clock   func() time.Duration
	Logger  *slog.Logger
	Metrics prometheus.Registerer // nil: nobody counts
}

func (o *Options) complete() error {
	switch {
	case o.Machine.Name == "" || o.Machine.Zone == "" || o.Machine.Host == "" || o.Machine.RPC == "":
		return errors.New("host: the machine's Name, Zone, Host and RPC are needed")
	case o.Store == nil || o.Start == nil || o.Clock == nil || o.Dir == "":
		return errors.New("host: Store, Start, Clock and Dir are needed")
	case o.PortBase <= 0:
		return errors.New("host: PortBase is needed")
	}
	if o.Machine.Slots == 0 {
		o.Machine.Slots = defaultSlots
	}
	if o.ReplaceAfter == 0 {
		o.ReplaceAfter = 5 * time.Minute
	}
	if o.CrowdAfter == 0 {
		o.CrowdAfter = 30 * time.Second
	}
	if o.Renew == 0 {
		o.Renew = 5 * time.Second
	}
	if o.ReplaceAfter < 6*o.Renew {
		return errors.New("host: ReplaceAfter must be at least six times Renew: a machine that misses a few renewals is not lost")
	}
	if o.OnSpecs == nil {
		o.OnSpecs = func([]cluster.Spec) {}
	}
	if o.OnEvent == nil {
		o.OnEvent = func(cluster.Event) {}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return nil
}

// defaultSlots is how many nodes a machine runs when nothing else is said.
const defaultSlots = 16

func (o *Options) portsFile() string { return filepath.Join(o.Dir, "ports.json") }
