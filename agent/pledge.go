package agent

import (
	"context"
	"errors"
	"fmt"

	"understudy/cluster"
	"understudy/failover"
)

// pledgePeers asks every other node to confirm this primary. It is nil only when all of them have: one
// that refuses, or does not answer in time, may have, or get, another primary in the store.
func (a *Agent) pledgePeers(ctx context.Context, action failover.Action) error {
	ctx, cancel := context.WithTimeout(ctx, action.For)
	defer cancel()
	nodes := a.nodes()
	answers := make(chan error, len(nodes))
	asked := 0
	for _, n := range nodes {
		if n.Node == a.opts.Self.Node {
			continue
		}
		asked++
		a.goDo(func() { answers <- a.askPledge(ctx, n.Node, action) })
	}
	var errs error
	for range asked {
		errs = errors.Join(errs, <-answers)
	}
	return errs
}

func (a *Agent) askPledge(ctx context.Context, node cluster.NodeID, action failover.Action) error {
	r, err := a.opts.Client.Request(ctx, a.to(node), failover.Request{
		ID: fmt.Sprintf("pledge-%s-%d", a.opts.Self.Node, action.ID), Kind: failover.RequestPledge,
		Node: a.opts.Self.Node, Epoch: action.Epoch,
	})
	switch {
	case err != nil:
		return fmt.Errorf("pledge of %s: %w", node, err)
	case !r.OK:
		return fmt.Errorf("pledge of %s: %s", node, r.Message)
	}
	return nil
}
