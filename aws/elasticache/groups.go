package elasticache

import (
	"context"

	"understudy/cluster"
)

// Groups are the real ones. A Group that was found stays good until it is removed.
type Groups interface {
	// Names are the groups that run, sorted.
	Names() []string
	// Find is the group of that name; false: none runs.
	Find(name string) (Group, bool)
	// Create starts a group; its endpoints are taken on addresses that are free, spec.Listen.Primary's port where
	// it says one. It returns as soon as the parts run. ErrAddress: that port is taken.
	Create(ctx context.Context, spec cluster.Spec, door Door) (Group, error)
	// Remove ends a group and deletes its data. One that is not there, or only half, is no error.
	Remove(ctx context.Context, name string) error
}

// Group is one of them.
type Group interface {
	Reader
	Changer
	Operator
}

// Reader tells how a group is.
type Reader interface {
	Spec() cluster.Spec
	Status() cluster.Status
	// Wait returns the first status for which ok holds, or the newest one and ctx's error.
	Wait(ctx context.Context, ok func(cluster.Status) bool) (cluster.Status, error)
	// Endpoints are the addresses that clients use.
	Endpoints() cluster.Endpoints
}

// Changer changes the desired state of a group that serves. What was done already is no error.
type Changer interface {
	Grow(ctx context.Context, places ...cluster.NodePlace) error
	Shrink(ctx context.Context, nodes ...cluster.NodeID) error
	SetManual(ctx context.Context, manual bool) error
	// SetDirectives makes these settings of redis-server the group's, and has all nodes go by those that
	// redis-server takes while it runs; the others wait for a node's next start.
	SetDirectives(ctx context.Context, directives map[string]string) error
	// Admit says who may log in from now on.
	Admit(door Door) error
}

// Operator does what an operator asks for, and returns when it is done.
type Operator interface {
	// Switchover has the primary hand over to a node.
	Switchover(ctx context.Context, to cluster.NodeID) error
	// Failover kills the primary's redis-server, and returns when another node leads. dry: it only says whether
	// another could. cluster.ErrRefused: nobody could take over.
	Failover(ctx context.Context, dry bool) error
	// Reboot stops a node's redis-server in order and starts it again; a primary hands over first.
	Reboot(ctx context.Context, node cluster.NodeID) error
}

// Door says who gets in at a group's endpoints. It is never logged.
type Door struct {
	TLS    bool     // the endpoints speak nothing else
	Tokens []string // any of them logs the default user in; none: everybody is let in
	// Optional: who shows no token is let in too, while clients are being given one.
	Optional bool
}

// Snapshots are copies of the data of groups. Package backup has them.
type Snapshots interface {
	// Check refuses, in AWS's words, a snapshot from which no group can be made.
	Check(ctx context.Context, snapshot string) error
	// Seed puts a snapshot's data where a node that has never run finds them. It may be called again.
	Seed(ctx context.Context, snapshot string, node cluster.NodeID) error
	// Final keeps a group's data under a name before the group goes. One that is there already is that one.
	Final(ctx context.Context, group, snapshot string) error
}

// Notice is what subscribers of a group's topic are told.
type Notice struct {
	Topic   string // its ARN
	Event   string // "ElastiCache:FailoverComplete"
	Subject string // the group's or the node's name
}
