package agent

import (
	"context"
	"slices"

	"understudy/cluster"
	"understudy/failover"
)

// accessFor is what proxies say to this node's redis-server.
func (a *Agent) accessFor(leads bool) cluster.Access {
	if leads {
		return a.access
	}
	return a.reader
}

// fences name what keeps this node's redis-server from accepting writes without a permit, strongest first:
//
//	permit      proxies send it nothing without one
//	parent      it ends with this process
//	fencer      another process kills it at the permit's end
//	epoch_user  demotion deletes the user of the epoch's clients
//	replicas    demotion cuts its replicas off: nothing that it takes is acked in sync
func (a *Agent) fences() []string {
	names := []string{"permit"}
	if a.opts.Adopt == nil {
		names = append(names, "parent")
	}
	if a.guarded() {
		names = append(names, "fencer")
	}
	return append(names, "epoch_user", "replicas")
}

// guarded reports whether the fencer watches this run of redis-server.
func (a *Agent) guarded() bool {
	return a.opts.Fencer != nil && a.opts.Fencer.Guards(a.server.PID())
}

// backstop is whether redis-server refuses writes while it has no replica.
type backstop struct {
	on, busy bool
}

// backstopMsg is the end of a change of it.
type backstopMsg struct {
	promotion int64 // a later one has taken it back
	on, ok    bool
}

// keepBackstop has redis-server refuse writes without a replica, once a replica that the rule counts is
// there, for as long as the rule wants one: should everything else fail, a primary that was left alone
// takes nothing. It is never set before, or the first writes of a fresh primary would be refused. A
// promotion takes it back, and so does a rule that needs nobody.
func (a *Agent) keepBackstop(ctx context.Context) {
	b := &a.backstop
	if a.server == nil || !a.out.Status.Leads || b.busy {
		return
	}
	rule := a.in.Store.Lead.Rule
	on := b.on
	switch {
	case a.opts.Durability != cluster.DurabilitySync || rule.W == 0:
		on = false
	case slices.ContainsFunc(a.in.Local.Replicas, func(r failover.ReplicaAck) bool { return r.Online && slices.Contains(rule.Voters, r.Node) }):
		on = true
	}
	if on == b.on {
		return
	}
	b.busy = true
	promotion := a.promotions.Load()
	a.goDo(func() {
		bound, cancel := context.WithTimeout(ctx, a.callTimeout())
		defer cancel()
		err := a.requireReplica(bound, promotion, on)
		if err != nil {
			a.log.Warn("redis-server does not take min-replicas-to-write", "error", err)
			pause(ctx, a.opts.Profile.Probe) // it is tried again with the next step
		}
		a.tell(ctx, backstopMsg{promotion, on, err == nil})
	})
}

func (a *Agent) requireReplica(ctx context.Context, promotion int64, on bool) error {
	a.changeMu.Lock()
	defer a.changeMu.Unlock()
	if a.promotions.Load() != promotion {
		return nil // it is a fresh primary again
	}
	c, err := a.control(ctx)
	if err != nil {
		return err
	}
	n := 0
	if on {
		n = 1
	}
	return c.RequireReplicas(ctx, n)
}

func (a *Agent) backstopChanged(m backstopMsg) {
	if m.promotion != a.promotions.Load() {
		return
	}
	a.backstop.busy = false
	if m.ok {
		a.backstop.on = m.on
	}
}
