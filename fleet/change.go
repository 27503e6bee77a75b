package fleet

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"understudy/cluster"
	"understudy/dashboard"
	"understudy/failover"
)

// Grow adds nodes to the group while it serves. It returns when they have started: a full sync is ahead of them
// then. An error says what was not done; what was, stays: the desired state in the store tells.
func (g *Group) Grow(ctx context.Context, places ...cluster.NodePlace) error {
	g.change.Lock()
	defer g.change.Unlock()
	next := g.Spec()
	for _, p := range places {
		if _, ok := next.Place(p.ID); ok || cluster.GroupOf(p.ID) != g.Name() {
			return fmt.Errorf("grow %s: %s is a node already, or no name of one", g.Name(), p.ID)
		}
		next.Nodes = append(next.Nodes, p)
	}
	slices.SortFunc(next.Nodes, func(a, b cluster.NodePlace) int { return cmp.Compare(a.ID, b.ID) })
	if err := g.fleet.keep(ctx, next); err != nil {
		return err
	}
	// Those that are there know the new ones before these start: none of them counts on all without them.
	if err := g.configure(ctx, next, g.ids()...); err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.spec = next
	for _, p := range places {
		if err := g.newNode(p); err != nil {
			return err
		}
		if g.life != nil {
			g.startNode(g.nodes[p.ID])
		}
		g.fleet.event(cluster.Event{Group: g.Name(), Node: p.ID, Name: "node_added", Message: fmt.Sprintf("%s joins %s in zone %s", p.ID, g.Name(), p.Zone)})
	}
	g.show()
	return nil
}

// ErrPrimary: the node leads; hand over first.
var ErrPrimary = errors.New("it is the primary")

// Shrink takes nodes out of the group while it serves, and deletes their data. No write waits for that: a node
// leaves the voter rule before it stops. Errors: ErrPrimary.
func (g *Group) Shrink(ctx context.Context, ids ...cluster.NodeID) error {
	g.change.Lock()
	defer g.change.Unlock()
	next := g.Spec()
	next.Nodes = slices.DeleteFunc(next.Nodes, func(p cluster.NodePlace) bool { return slices.Contains(ids, p.ID) })
	switch s := g.Status(); {
	case len(next.Nodes) == 0:
		return fmt.Errorf("shrink %s: no node would be left; remove the group", g.Name())
	case slices.Contains(ids, s.Primary):
		return fmt.Errorf("shrink %s: %s: %w", g.Name(), s.Primary, ErrPrimary)
	}
	// Those that go first: they take no lead any more.
	if err := g.configure(ctx, next, ids...); err != nil {
		return err
	}
	if err := g.configure(ctx, next, placesIDs(next)...); err != nil {
		return err
	}
	if _, err := g.Wait(ctx, func(s cluster.Status) bool { return s.Primary != "" && !counts(s, ids) }); err != nil {
		return fmt.Errorf("shrink %s: %v still count before a write is acked: %w", g.Name(), ids, err)
	}
	if err := g.fleet.keep(ctx, next); err != nil {
		return err
	}
	g.mu.Lock()
	g.spec = next
	var gone []*node
	for _, id := range ids {
		if n := g.nodes[id]; n != nil {
			gone = append(gone, n)
			delete(g.nodes, id)
		}
	}
	g.show()
	g.mu.Unlock()
	return g.bury(ctx, gone)
}

// counts reports whether any of the nodes is in the rule by which writes are acked.
func counts(s cluster.Status, ids []cluster.NodeID) bool {
	return s.Rule != nil && slices.ContainsFunc(ids, func(id cluster.NodeID) bool { return slices.Contains(s.Rule.Voters, id) })
}

// bury ends nodes and deletes their data.
func (g *Group) bury(ctx context.Context, gone []*node) (errs error) {
	for _, n := range gone {
		n.end()
	}
	for _, n := range gone {
		if err := n.wait(ctx); err != nil {
			errs = errors.Join(errs, err)
			continue
		}
		errs = errors.Join(errs, os.RemoveAll(g.fleet.nodeDir(n.id)))
		g.fleet.event(cluster.Event{Group: g.Name(), Node: n.id, Name: "node_removed", Message: fmt.Sprintf("%s has left %s, and its data is deleted", n.id, g.Name())})
	}
	return errs
}

// wait waits for the node's end.
func (n *node) wait(ctx context.Context) error {
	if n.cancel == nil {
		n.free()
		return nil
	}
	select {
	case <-n.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%s has not stopped: %w", n.id, ctx.Err())
	}
}

// SetManual switches automatic failover off (true) and on.
func (g *Group) SetManual(ctx context.Context, manual bool) error {
	g.change.Lock()
	defer g.change.Unlock()
	next := g.Spec()
	next.Manual = manual
	if err := g.fleet.keep(ctx, next); err != nil {
		return err
	}
	if err := g.configure(ctx, next, g.ids()...); err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.spec = next
	g.show()
	return nil
}

// Reboot stops a node's redis-server in order and starts it again. A primary hands over first, where another
// node can take over.
func (g *Group) Reboot(ctx context.Context, id cluster.NodeID) error {
	g.change.Lock()
	defer g.change.Unlock()
	place, ok := g.Spec().Place(id)
	if !ok {
		return fmt.Errorf("reboot %s: it is no node of %s", id, g.Name())
	}
	if s := g.Status(); s.Primary == id && len(s.Nodes) > 1 {
		if o := g.Switchover(ctx, dashboard.SwitchoverRequest{}); !o.OK {
			return fmt.Errorf("reboot %s: it leads, and nobody takes over: %s", id, o.Message)
		}
	}
	g.mu.Lock()
	old := g.nodes[id]
	g.mu.Unlock()
	old.end()
	if err := old.wait(ctx); err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := g.newNode(place); err != nil {
		return err
	}
	if g.life != nil {
		g.startNode(g.nodes[id])
	}
	g.show()
	return nil
}

// configure has agents go by a spec. One that does not run goes by it when it starts.
func (g *Group) configure(ctx context.Context, next cluster.Spec, ids ...cluster.NodeID) error {
	settings := failover.Settings{Nodes: peers(next), Manual: next.Manual}
	for _, id := range ids {
		n := g.node(id)
		if n == nil || n.cancel == nil {
			continue
		}
		if err := n.Configure(ctx, settings); err != nil {
			return err
		}
	}
	return nil
}

// show has the page go by the spec. mu is held.
func (g *Group) show() {
	g.dashboard.SetGroup(g.peers(), g.shown(), g.spec.Manual)
}

func (g *Group) ids() []cluster.NodeID { return placesIDs(g.Spec()) }

func placesIDs(s cluster.Spec) (ids []cluster.NodeID) {
	for _, p := range s.Nodes {
		ids = append(ids, p.ID)
	}
	return ids
}
