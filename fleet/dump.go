package fleet

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"understudy/cluster"
	"understudy/redis"
)

// Dumped says what a data set in a file is of.
type Dumped struct {
	Spec    cluster.Spec
	Node    cluster.NodeID // that wrote it
	Zone    string
	Role    cluster.Role // of the node then
	Epoch   cluster.Epoch
	At      time.Time // before the moment whose data set it is
	Engine  string    // "redis" or "valkey"
	Version string    // of the server that wrote it
}

// catchUpWithin bounds the wait for a replica that is to have what the primary has: one that lags for longer is
// asked only if no other can.
const catchUpWithin = 10 * time.Second

// Dump writes the group's data set to a file that is not there yet, an RDB. Everything that was acked before the
// call is in it. A replica writes it, of those that can the one that lags least; the primary only when no replica
// can. Whoever calls must verify the file.
func (g *Group) Dump(ctx context.Context, to string) (Dumped, error) {
	var d Dumped
	var err error
	for range dumpTries {
		if d, err = g.dump(ctx, to); err == nil || ctx.Err() != nil || g.Status().Epoch == d.Epoch {
			break
		}
	}
	if err != nil {
		return Dumped{}, fmt.Errorf("dump %s: %w", g.Name(), err)
	}
	return d, nil
}

// dumpTries is how often a dump is begun when the primary changes meanwhile.
const dumpTries = 3

// dump is one attempt; the epoch is that under which it was begun.
func (g *Group) dump(ctx context.Context, to string) (Dumped, error) {
	bound, cancel := context.WithTimeout(ctx, catchUpWithin)
	defer cancel()
	s, err := g.Wait(bound, func(s cluster.Status) bool { return s.Writable() == "" })
	if err != nil {
		return Dumped{Epoch: s.Epoch}, fmt.Errorf("without a primary nobody can say what was acked: %s", s.Writable())
	}
	var after cluster.Position
	at := time.Now().UTC() // before the question: what was acked by then is in the answer
	if n := g.node(s.Primary); n != nil {
		after, err = n.Position(bound)
	}
	if err != nil {
		return Dumped{Epoch: s.Epoch}, fmt.Errorf("where the primary %s is: %w", s.Primary, err)
	}
	d := Dumped{Spec: g.Spec(), Epoch: s.Epoch, At: at, Engine: g.fleet.opts.Binary.Flavor, Version: g.fleet.opts.Binary.Version}
	var errs error
	for _, n := range sources(s) {
		err := g.dumpOf(ctx, n.ID, to, after)
		if err == nil {
			d.Node, d.Zone, d.Role = n.ID, n.Zone, n.Role
			return d, nil
		}
		errs = errors.Join(errs, err, remove(to))
		if ctx.Err() != nil {
			break
		}
	}
	if errs == nil {
		errs = errors.New("no node is ready: " + s.Reasons())
	}
	return Dumped{Epoch: s.Epoch}, errs
}

// dumpOf has one node do it.
func (g *Group) dumpOf(ctx context.Context, id cluster.NodeID, to string, after cluster.Position) error {
	n := g.node(id)
	if n == nil {
		return fmt.Errorf("%s has left the group", id)
	}
	return n.Dump(ctx, to, after, catchUpWithin)
}

func remove(path string) error {
	if err := os.Remove(path); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// sources are the nodes that can be dumped, the best first: replicas by their lag, then the primary. A node that is
// not the primary and follows nobody may be anywhere.
func sources(s cluster.Status) []cluster.StatusNode {
	var all []cluster.StatusNode
	for _, n := range s.Nodes {
		if n.State == cluster.StateReady {
			all = append(all, n)
		}
	}
	slices.SortStableFunc(all, func(a, b cluster.StatusNode) int {
		if first := cmp.Compare(rank(a.ID == s.Primary), rank(b.ID == s.Primary)); first != 0 {
			return first
		}
		return cmp.Or(cmp.Compare(a.LagBytes, b.LagBytes), cmp.Compare(a.LagMs, b.LagMs))
	})
	return all
}

func rank(primary bool) int {
	if primary {
		return 1
	}
	return 0
}

// DataSize is how many bytes the group's data set takes in memory, as the first node says that answers.
func (g *Group) DataSize(ctx context.Context) (int64, error) {
	errs := error(nil)
	for _, id := range g.ids() {
		if n := g.node(id); n != nil {
			size, err := n.DataSize(ctx)
			if err == nil {
				return size, nil
			}
			errs = errors.Join(errs, err)
		}
	}
	return 0, fmt.Errorf("how large is the data set of %s: %w", g.Name(), errs)
}

// Contents counts the keys that the primary has now.
func (g *Group) Contents(ctx context.Context) (redis.Contents, error) {
	n := g.node(g.Status().Primary)
	if n == nil {
		return redis.Contents{}, fmt.Errorf("count the keys of %s: there is no primary", g.Name())
	}
	return n.Contents(ctx)
}

// Record puts an event of somebody else into the group's timeline.
func (g *Group) Record(e cluster.Event) { g.record(e) }
