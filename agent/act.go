package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"understudy/cluster"
	"understudy/failover"
	"understudy/redis"
)

// callTimeout bounds one command to redis-server or to the store: shorter than any permit, so that
// an action never outlives the right under which it was decided.
func (a *Agent) callTimeout() time.Duration { return a.opts.Profile.TTL / 2 }

// act carries one action out in the background; its Result comes back through the inbox.
func (a *Agent) act(ctx context.Context, action failover.Action) {
	server := a.server
	a.goDo(func() {
		r := failover.Result{ID: action.ID, Kind: action.Kind, Outcome: failover.OutcomeOK}
		bound, cancel := context.WithTimeout(ctx, a.callTimeout()+action.For)
		defer cancel()
		a.failpoint("before", action)
		if err := a.carryOut(bound, ctx, action, server, &r); err != nil && r.Outcome == failover.OutcomeOK {
			r.Outcome, r.Detail = failover.OutcomeFailed, err.Error()
		}
		a.failpoint("after", action)
		a.metrics.action(action.Kind, r.Outcome)
		if r.Outcome != failover.OutcomeOK {
			a.log.Debug("action failed", "action", action.Kind.String(), "outcome", r.Outcome.String(), "detail", r.Detail)
		}
		a.tell(ctx, resultMsg{r, action.Lead})
	})
}

func (a *Agent) carryOut(ctx, life context.Context, action failover.Action, server *redis.Server, r *failover.Result) error {
	switch action.Kind {
	case failover.ActStart:
		return a.start(life)
	case failover.ActKill:
		if server == nil {
			return nil
		}
		return server.Kill()
	case failover.ActSwap:
		return a.swap(ctx, life, action, r)
	case failover.ActAsk:
		return a.askAll(ctx, life, action)
	case failover.ActPersist:
		if err := a.disk.writeSeen(action.Epoch); err != nil {
			return err
		}
		a.tell(life, seenMsg(action.Epoch))
		return nil
	}
	c, err := redis.Dial(ctx, a.socket())
	if err != nil {
		return err
	}
	defer c.Close()
	switch action.Kind {
	case failover.ActFollow:
		return a.followNode(ctx, c, action.Node)
	case failover.ActRevoke:
		return a.revoke(ctx, c, action, r)
	case failover.ActPromote:
		rep, err := c.Promote(ctx)
		r.Position, r.Prev = rep.Position, rep.Prev
		if err == nil {
			if err := a.runs.promoted(server); err != nil { // costs a restart its ease, not this promotion
				a.log.Warn("the next start will take the data set for short", "error", err)
			}
		}
		return err
	case failover.ActPause:
		return a.pause(ctx, c, action, r)
	case failover.ActResume:
		return c.ResumeWrites(ctx)
	default:
		panic(fmt.Sprintf("agent: unknown action %v", action.Kind))
	}
}

// askAll asks the others and, when the question is whether the holder is silent, reads the store.
func (a *Agent) askAll(ctx, life context.Context, action failover.Action) error {
	read := make(chan error, 1)
	if action.Epoch == 0 {
		a.goDo(func() {
			bound, cancel := context.WithTimeout(ctx, action.For)
			defer cancel()
			_, err := a.readLead(bound, life)
			read <- err
		})
	} else {
		read <- nil
	}
	a.tell(life, reportsMsg{reports: a.askPeers(ctx, action.Epoch, action.For, action.Node)})
	return <-read
}

// start spawns redis-server as a replica of nobody.
func (a *Agent) start(life context.Context) error {
	port, err := a.disk.port(a.opts.Host, a.port)
	if err != nil {
		return err
	}
	data := a.disk.hasData()
	short, err := a.runs.begin(data)
	if err != nil {
		return err
	}
	s, err := redis.Start(redis.ServerOptions{
		Binary: a.opts.Binary, Dir: a.disk.redisDir(), Host: a.opts.Host, Port: port, Socket: a.socket(),
		ReplicaOf: a.hole.Addr(), Config: a.opts.Config, Guarded: a.opts.Fencer != nil, Logger: a.log,
	})
	if err != nil {
		return err
	}
	a.guard(func(f *redis.Fencer) error { return f.Guard(s.PID()) })
	a.runs.started(s)
	a.inbox <- startedMsg{server: s, intact: data && !short, short: short} // never lost: a server that nobody knows would never be stopped
	a.goDo(func() {
		select {
		case <-s.Exited():
			a.tell(life, exitMsg{s})
		case <-life.Done():
		}
	})
	return nil
}

func (a *Agent) guard(f func(*redis.Fencer) error) {
	if a.opts.Fencer == nil {
		return
	}
	if err := f(a.opts.Fencer); err != nil {
		a.log.Warn("the fencer does not answer", "error", err)
	}
}

// fenceDeadline tells the fencer when redis-server must be dead if nothing renews before.
func (a *Agent) fenceDeadline() {
	if a.server == nil || a.out.FenceAt == a.fencedAt {
		return
	}
	// Only a permit moves the deadline on. Without one the server is being fenced, and must be dead
	// in time also when this process stops in the middle of that.
	if a.out.WriteUntil == 0 && a.fencedAt != 0 && a.out.FenceAt > a.fencedAt {
		return
	}
	// Moved with every renewal; smaller changes are not worth a message.
	if a.out.FenceAt != 0 && a.fencedAt != 0 && a.out.FenceAt-a.fencedAt < a.opts.Profile.Renew/2 {
		return
	}
	a.fencedAt = a.out.FenceAt
	d := 24 * time.Hour
	if a.out.FenceAt != 0 {
		d = a.out.FenceAt - a.in.Now
	}
	pid := a.server.PID()
	a.guard(func(f *redis.Fencer) error { return f.Until(pid, d) })
}

func (a *Agent) started(m startedMsg) {
	a.server, a.fencedAt, a.inOrder = m.server, 0, false
	a.boots++
	_, port, _ := net.SplitHostPort(m.server.Addr())
	a.port, _ = strconv.Atoi(port)
	seen := a.in.Local.Seen
	a.in.Local = failover.Local{
		Process: failover.ProcessRunning, Seen: seen, Intact: m.intact, Short: m.short, Role: cluster.RoleReplica,
		Boot: fmt.Sprintf("%d-%d-%d", time.Now().UnixNano(), m.server.PID(), a.boots),
	}
	a.probeAt = 0
}

func (a *Agent) exited(m exitMsg) {
	if m.server != a.server {
		return
	}
	a.guard(func(f *redis.Fencer) error { return f.Release(m.server.PID()) })
	a.server, a.inOrder = nil, m.server.InOrder()
	l := &a.in.Local
	l.Process, l.Exit, l.Role, l.LinkUp = failover.ProcessNone, m.server.Reason(), cluster.RoleReplica, false
}

// swap changes the lead. After a refusal it reads the record, so that the machine knows why.
func (a *Agent) swap(ctx, life context.Context, action failover.Action, r *failover.Result) error {
	value, err := json.Marshal(action.Lead)
	if err != nil {
		return err
	}
	r.Revision, err = a.opts.Store.Swap(ctx, cluster.LeadKey(a.opts.Group), value, action.Revision)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, cluster.ErrConflict):
		r.Outcome = failover.OutcomeConflict
	case errors.Is(err, cluster.ErrUnknownOutcome):
		r.Outcome = failover.OutcomeUnknown
	}
	r.Detail = err.Error()
	again, cancel := context.WithTimeout(life, a.callTimeout())
	defer cancel()
	_, _ = a.readLead(again, life)
	return err
}

// followNode points redis-server at another node.
func (a *Agent) followNode(ctx context.Context, c *redis.Control, node cluster.NodeID) error {
	p, err := a.askPeer(ctx, node, 0, 0)
	if err != nil {
		return err
	}
	if p.Addr == "" {
		return fmt.Errorf("%s does not say where its redis-server listens", node)
	}
	return c.Follow(ctx, p.Addr)
}

// revoke lets go of the primary for good: first it reads what that had already sent.
func (a *Agent) revoke(ctx context.Context, c *redis.Control, action failover.Action, r *failover.Result) error {
	rep, err := c.Replication(ctx)
	if err != nil {
		return err
	}
	r.Damaged = rep.SyncInProgress
	until := a.opts.Clock() + action.For
	for rep.Role == cluster.RoleReplica && rep.LinkUp && a.opts.Clock() < until {
		if rep, err = c.Replication(ctx); err != nil {
			return err
		}
		pause(ctx, 500*time.Microsecond)
	}
	if err := c.Follow(ctx, a.hole.Addr()); err != nil {
		return err
	}
	if rep.Role == cluster.RolePrimary {
		// Writes held by a pause are let go now: they get -READONLY, were not executed, and are
		// replayed elsewhere.
		if err := c.ResumeWrites(ctx); err != nil {
			return err
		}
	}
	rep, err = c.Replication(ctx)
	r.Position, r.Prev = rep.Position, rep.Prev
	return err
}

// pause stops writes and waits until the node has every byte.
func (a *Agent) pause(ctx context.Context, c *redis.Control, action failover.Action, r *failover.Result) error {
	if err := c.PauseWrites(ctx, action.For+a.opts.Profile.TTL); err != nil {
		return err
	}
	until := a.opts.Clock() + action.For
	for {
		rep, err := c.Replication(ctx)
		if err != nil {
			return err
		}
		there, err := a.peerPosition(ctx, action.Node)
		if err == nil && there == rep.Position {
			r.Position = rep.Position
			return nil
		}
		if a.opts.Clock() >= until {
			return fmt.Errorf("%s is at %v, the primary at %v (%v)", action.Node, there, rep.Position, err)
		}
		pause(ctx, 200*time.Microsecond)
	}
}

// pause waits a moment between two looks at a condition.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

func (a *Agent) addr() string { return net.JoinHostPort(a.opts.Host, strconv.Itoa(a.port)) }

func (a *Agent) socket() string { return a.opts.Socket }
