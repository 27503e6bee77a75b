package agent

import (
	"context"

	"understudy/failover"
)

// Force asks this node to take a vacant lead although acked writes may be lost, if r.AcceptLoss. It
// returns when the node serves, or why it was refused; Reply.To names the node to ask instead.
func (a *Agent) Force(ctx context.Context, r failover.Request) (failover.Reply, error) {
	r.Kind = failover.RequestForce
	return a.ask(ctx, r)
}

// Knows is what this node knows, for whoever explains the group.
func (a *Agent) Knows() failover.Knowledge {
	v := a.view.Load()
	return failover.Knowledge{At: v.at, Status: v.status, Report: v.report, Store: v.store}
}
