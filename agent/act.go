package agent

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"understudy/cluster"
	"understudy/failover"
	"understudy/redis"
)

// callTimeout bounds one command to redis-server or to the store: shorter than any permit, so that
// an action never outlives the right under which it was decided.
func (a *Agent) callTimeout() time.Duration { return a.opts.Profile.TTL / 2 }

// doing is an action with what the loop knew when it was decided.
type doing struct {
	failover.Action
	server  server
	end     logEnd
	planned bool // a switchover: the clients know
	users   bool // redis-server has a user of an epoch
}

// act carries one action out in the background; its Result comes back through the inbox.
func (a *Agent) act(ctx context.Context, action failover.Action) {
	d := doing{action, a.server, a.end, a.out.Status.Pausing, a.access.User != ""}
	a.goDo(func() {
		m := resultMsg{Result: failover.Result{ID: action.ID, Kind: action.Kind, Outcome: failover.OutcomeOK}, action: action}
		bound, cancel := context.WithTimeout(ctx, a.callTimeout()+action.For)
		if action.Kind == failover.ActSave {
			bound, cancel = context.WithTimeout(ctx, saveWithin)
		}
		defer cancel()
		a.failpoint("before", action)
		r := &m.Result
		if err := a.carryOut(bound, ctx, d, &m); err != nil && r.Outcome == failover.OutcomeOK {
			r.Outcome, r.Detail = failover.OutcomeFailed, err.Error()
		}
		a.failpoint("after", action)
		a.metrics.action(action.Kind, r.Outcome)
		if r.Outcome != failover.OutcomeOK {
			a.log.Debug("action failed", "action", action.Kind.String(), "outcome", r.Outcome.String(), "detail", r.Detail)
		}
		a.tell(ctx, m)
	})
}

func (a *Agent) carryOut(ctx, life context.Context, d doing, m *resultMsg) error {
	switch d.Kind {
	case failover.ActStart:
		return a.begin(ctx, life)
	case failover.ActKill:
		if d.server == nil {
			return nil
		}
		return d.server.Kill()
	case failover.ActSwap:
		return a.swap(ctx, life, d.Action, &m.Result)
	case failover.ActAsk:
		return a.askAll(ctx, life, d.Action)
	case failover.ActPledge:
		return a.pledgePeers(ctx, d.Action)
	case failover.ActPersist:
		return a.disk.keep(kept{Epoch: d.Epoch, Revoked: d.Revoked, Lead: d.Lead})
	}
	a.changeMu.Lock()
	defer a.changeMu.Unlock()
	c, err := a.login().Dial(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	switch d.Kind {
	case failover.ActFollow:
		return a.followNode(ctx, c, d.Node)
	case failover.ActRevoke:
		return a.revoke(ctx, life, c, d, &m.Result)
	case failover.ActPromote:
		return a.promote(ctx, c, d, m)
	case failover.ActPause:
		return a.pause(ctx, c, d.Action, &m.Result)
	case failover.ActResume:
		return c.ResumeWrites(ctx)
	case failover.ActSave:
		return a.save(ctx, c, d, &m.Result)
	default:
		panic(fmt.Sprintf("agent: unknown action %v", d.Kind))
	}
}

// promote makes redis-server a primary, with a user of its own for the epoch's clients.
func (a *Agent) promote(ctx context.Context, c *redis.Control, d doing, m *resultMsg) error {
	a.promotions.Add(1)
	changes, err := a.runs.promotes()
	if err != nil {
		return fmt.Errorf("note the promotion: %w", err)
	}
	access := cluster.Access{User: redis.EpochUser(d.Epoch), Password: rand.Text()}
	rep, err := c.PromoteFor(ctx, access)
	m.Position, m.Prev, m.access = rep.Position, rep.Prev, access
	if err != nil {
		return err
	}
	whole := rep.AppendOnly && !rep.Rewriting
	noted := make(chan struct{})
	a.noted.Store(&noted)
	a.goDo(func() { // beside the next step; swap waits for it before others may rely on this promotion
		defer close(noted)
		if err := a.runs.promoted(changes, whole); err != nil {
			a.log.Warn("the next start will take the data set for less than it is worth", "error", err)
		}
	})
	return nil
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
	if a.server == nil || a.out.FenceAt == a.fencedAt || a.opts.Adopt != nil && !a.guarded() {
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
	d := time.Duration(0) // none
	if a.out.FenceAt != 0 {
		d = max(a.out.FenceAt-a.in.Now, 1)
	}
	pid := a.server.PID()
	a.guard(func(f *redis.Fencer) error { return f.Until(pid, d) })
}

// swap changes the lead. After a refusal it reads the record, so that the machine knows why.
func (a *Agent) swap(ctx, life context.Context, action failover.Action, r *failover.Result) error {
	value, err := json.Marshal(action.Lead)
	if err != nil {
		return err
	}
	if noted := a.noted.Load(); action.Lead.Promoted && noted != nil {
		// Once the record says who was promoted, only that node's log is the newest. If every process ends
		// now, its note must say that its disk has it, or nobody's log would do at the next start.
		select {
		case <-*noted:
		case <-ctx.Done():
			return fmt.Errorf("note the promotion: %w", ctx.Err())
		}
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
	if err := a.runs.follows(); err != nil {
		return fmt.Errorf("note that the data set becomes %s's: %w", node, err)
	}
	return c.Follow(ctx, p.Addr)
}

// revoke lets go of the primary for good: first it reads what that had already sent.
func (a *Agent) revoke(ctx, life context.Context, c *redis.Control, d doing, r *failover.Result) error {
	rep, err := c.Replication(ctx)
	if err != nil {
		return err
	}
	r.Damaged = rep.SyncInProgress
	until := a.opts.Clock() + d.For
	for rep.Role == cluster.RoleReplica && rep.LinkUp && a.opts.Clock() < until {
		if rep, err = c.Replication(ctx); err != nil {
			return err
		}
		pause(ctx, 500*time.Microsecond)
	}
	if rep.Role == cluster.RolePrimary {
		err = c.Demote(ctx, a.hole.Addr())
	} else {
		err = c.Follow(ctx, a.hole.Addr())
	}
	if err == nil && (rep.Role == cluster.RolePrimary || d.users) {
		err = a.dismiss(ctx, life, c, d)
	}
	if err != nil {
		return err
	}
	rep, err = c.Replication(ctx)
	r.Position, r.Prev = d.end.known(rep.Position, rep.Prev)
	return err
}

// dismiss ends the clients' connections to a server that was demoted: what they would read is old. In a
// switchover they know, and what they have sent before they knew is still on its way: it is refused first,
// so that nobody is in doubt about it.
func (a *Agent) dismiss(ctx, life context.Context, c *redis.Control, d doing) error {
	if !d.planned {
		a.dropControl() // it is one of them
		return c.Dismiss(ctx)
	}
	promotions := a.promotions.Load()
	a.goDo(func() {
		pause(life, a.opts.Profile.Drain)
		a.changeMu.Lock() // it would end the connection of another change, too
		defer a.changeMu.Unlock()
		if a.promotions.Load() != promotions {
			return // they are the clients of a new epoch
		}
		bound, cancel := context.WithTimeout(life, a.callTimeout())
		defer cancel()
		c, err := a.login().Dial(bound)
		if err == nil {
			defer c.Close()
			a.dropControl()
			err = c.Dismiss(bound)
		}
		if err != nil {
			a.log.Warn("clients are still connected to the demoted server", "error", err)
		}
	})
	return nil
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

func (a *Agent) socket() string { return a.opts.Socket }

// Login is how redis-server is reached, and as whom. Connections count as this agent's.
func (a *Agent) Login() redis.Login { return a.login() }

// Opened is how many connections to redis-server were made with Login.
func (a *Agent) Opened() int64 { return a.opened.Load() }

func (a *Agent) login() redis.Login {
	l := redis.Login{Socket: a.socket()}
	switch {
	case a.opts.Adopt != nil:
		l = a.opts.Adopt.Login()
	case a.opts.Secret != "":
		l.User, l.Password = redis.SecretUser, a.opts.Secret
	}
	l.Opened = &a.opened
	return l
}
