package elasticache

import (
	"context"
	"errors"
	"fmt"
	"time"

	"understudy/cluster"
	"understudy/shelf"
)

// task is what a group's processes have yet to do. It is written before the first step, and taken away after the
// last: each step can be done again, so that whoever finds a task after a crash begins at its first.
type task struct {
	Kind taskKind `json:"kind"`
	// Node is whom a test of a failover kills, which node to reboot, or the primary that is wanted.
	Node cluster.NodeID `json:"node,omitempty"`
	// Places are the nodes that come; Leaving those that go.
	Places  []cluster.NodePlace `json:"places,omitempty"`
	Leaving []cluster.NodeID    `json:"leaving,omitempty"`
	// Snapshot is what a group is made of, or what is kept of it.
	Snapshot string `json:"snapshot,omitempty"`
	// Spec is the group that is made.
	Spec cluster.Spec `json:"spec,omitzero"`
	// Epoch was the group's when a failover was asked for.
	Epoch cluster.Epoch `json:"epoch,omitempty"`
	// Tokens are the passwords from now on, where they change.
	Tokens *tokens   `json:"tokens,omitempty"`
	Began  time.Time `json:"began"`
}

type taskKind string

// The kinds of tasks.
const (
	taskCreate taskKind = "create"
	taskDelete taskKind = "delete"
	taskModify taskKind = "modify"
	taskGrow   taskKind = "grow"
	taskShrink taskKind = "shrink"
	taskTest   taskKind = "test-failover"
	taskReboot taskKind = "reboot"
)

// given is an error after which trying again is of no use.
type given struct{ error }

func (g given) Unwrap() error { return g.error }

// again is the pause before a step that failed is tried again, and tries how often. What fails for longer than
// a store's change of leader or a node's restart, about ten seconds, is told to the operator instead.
const (
	again = 500 * time.Millisecond
	tries = 20
)

// carryOut has a goroutine carry out a group's task, unless one does.
func (s *Service) carryOut(group string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx == nil || s.ctx.Err() != nil || s.running[group] {
		return
	}
	s.running[group] = true
	ctx := s.ctx
	s.work.Go(func() {
		s.finish(ctx, group)
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.running, group)
	})
}

// finish carries out a group's task until it is done or given up.
func (s *Service) finish(ctx context.Context, group string) {
	for n := 1; ctx.Err() == nil; n++ {
		r, ok := s.groups.Get(group)
		if !ok || r.Task == nil {
			return
		}
		err := s.step(ctx, r)
		if err == nil {
			s.log.Info("done", "group", group, "task", string(r.Task.Kind), "took", s.now().Sub(r.Task.Began))
			return
		}
		if ctx.Err() != nil {
			return // it goes on at the next start
		}
		s.log.Warn("a task is not done", "group", group, "task", string(r.Task.Kind), "attempt", n, "error", err)
		// Deleting is never given up: half a group is in nobody's interest.
		if r.Task.Kind != taskDelete && (n >= tries || errors.As(err, new(given))) {
			if err = s.giveUp(ctx, r, err); err == nil {
				return
			}
		}
		select {
		case <-time.After(again):
		case <-ctx.Done():
		}
	}
}

// step carries out a task from its first step on.
func (s *Service) step(ctx context.Context, r record) error {
	switch r.Task.Kind {
	case taskCreate:
		return s.create(ctx, r)
	case taskDelete:
		return s.remove(ctx, r)
	}
	g, ok := s.opts.Groups.Find(r.ID)
	if !ok {
		return errors.New("the group does not run yet")
	}
	switch r.Task.Kind {
	case taskModify:
		return s.modify(ctx, r, g)
	case taskGrow:
		return s.grow(ctx, r, g)
	case taskShrink:
		return s.shrink(ctx, r, g)
	case taskTest:
		return s.test(ctx, r, g)
	case taskReboot:
		return s.reboot(ctx, r, g)
	}
	return given{fmt.Errorf("a task of the kind %q is not known to this version", r.Task.Kind)}
}

// giveUp puts the record in order after a task that cannot be done, so that it shows what is there.
func (s *Service) giveUp(ctx context.Context, r record, why error) error {
	if r.Task.Kind == taskCreate {
		// Nothing of it stays but the name, until the operator deletes that.
		if err := s.opts.Groups.Remove(ctx, r.ID); err != nil {
			return err
		}
	}
	_, err := s.change(ctx, r.ID, func(r *record) error {
		g, ok := s.opts.Groups.Find(r.ID)
		switch {
		case r.Task.Kind == taskCreate:
			r.State = stateFailed
			for id, m := range r.Members {
				m.State = ""
				r.Members[id] = m
			}
		case ok:
			r.State = stateAvailable
			s.settle(r, g)
		}
		r.Task = nil
		return nil
	})
	if err != nil {
		return err
	}
	s.tell(ctx, event{Group: r.ID, Message: fmt.Sprintf("The %s of %s could not be done: %v", r.Task.Kind, r.ID, why)})
	return nil
}

// settle makes a record's members those that the group has.
func (s *Service) settle(r *record, g Group) {
	spec := g.Spec()
	for id := range r.Members {
		if _, ok := spec.Place(id); !ok {
			delete(r.Members, id)
		}
	}
	for _, n := range spec.Nodes {
		m, ok := r.Members[n.ID]
		if !ok {
			m.Created = s.now()
		}
		m.State = ""
		r.Members[n.ID] = m
	}
	r.Automatic = r.Automatic && !spec.Manual
	r.MultiAZ = r.MultiAZ && r.Automatic && zones(spec) > 1
}

// done takes the task away, and has more do what belongs to that.
func (s *Service) done(ctx context.Context, group string, more func(*record)) error {
	_, err := s.change(ctx, group, func(r *record) error {
		r.Task, r.State = nil, stateAvailable
		if more != nil {
			more(r)
		}
		return nil
	})
	return err
}

// begin writes a task's intent, where the group is available; f completes the record, and may refuse.
func (s *Service) begin(ctx context.Context, group string, t task, state string, f func(*record) error) (record, error) {
	r, err := s.change(ctx, group, func(r *record) error {
		if err := available(*r); err != nil {
			return err
		}
		t.Began = s.now()
		r.Task, r.State = &t, state
		if f != nil {
			return f(r)
		}
		return nil
	})
	switch {
	case errors.Is(err, shelf.ErrNone):
		return r, noGroup(group)
	case err != nil:
		return r, err
	}
	s.carryOut(group)
	return r, nil
}

// whole waits until all nodes of a group serve and there is a primary.
func whole(ctx context.Context, g Group, within time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	status, err := g.Wait(ctx, func(s cluster.Status) bool { return s.State == cluster.GroupAvailable && s.Ready() == len(s.Nodes) })
	if err != nil {
		return fmt.Errorf("the group is not whole after %v: %s %s", within, status.Writable(), status.Reasons())
	}
	return nil
}
