package elasticache

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"testing"

	"understudy/aws/wire"
	"understudy/cluster"
	"understudy/cluster/clustertest"
)

// world is what outlives a process: the store, and the groups as their own records have them.
type world struct {
	store  clustertest.Memory
	mu     sync.Mutex
	groups map[string]*stand
	news   chan struct{}
}

// stand stands for a group of redis-servers.
type stand struct {
	spec    cluster.Spec
	door    Door
	primary cluster.NodeID
	epoch   cluster.Epoch
	last    *cluster.Change
	reboots int
	refuse  string // why nobody can take over
}

func newWorld() *world { return &world{groups: map[string]*stand{}, news: make(chan struct{})} }

// process is one run of Understudy; it dies at its step number die, counted from 1; 0: it does not.
type process struct {
	*world
	die   int
	after bool // what the step does is done before it dies
	step  int
	dead  bool
	end   context.CancelFunc
}

var errDead = errors.New("the process is dead")

// do is one step that changes something outside of the process.
func (p *process) do(f func() error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dead {
		return errDead
	}
	p.step++
	if p.step == p.die {
		p.dead = true
		if p.after {
			_ = f()
		}
		p.end()
		return errDead
	}
	err := f()
	close(p.news)
	p.news = make(chan struct{})
	return err
}

func (p *process) List(ctx context.Context, prefix string) ([]cluster.Entry, int64, error) {
	return p.store.List(ctx, prefix)
}

func (p *process) Watch(ctx context.Context, prefix string, from int64) <-chan []cluster.Entry {
	return p.store.Watch(ctx, prefix, from)
}

func (p *process) Swap(ctx context.Context, key string, value []byte, rev int64) (next int64, err error) {
	err = p.do(func() (err error) { next, err = p.store.Swap(ctx, key, value, rev); return err })
	return next, err
}

func (p *process) Names() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Sorted(maps.Keys(p.groups))
}

func (p *process) Find(name string) (Group, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	g := p.groups[name]
	return handle{p, g}, g != nil
}

func (p *process) Create(_ context.Context, spec cluster.Spec, door Door) (Group, error) {
	g := &stand{spec: spec, door: door, primary: spec.Nodes[0].ID, epoch: 1}
	return handle{p, g}, p.do(func() error { p.groups[spec.Name] = g; return nil })
}

func (p *process) Remove(_ context.Context, name string) error {
	return p.do(func() error { delete(p.groups, name); return nil })
}

// handle is a group as a process reaches it.
type handle struct {
	p *process
	g *stand
}

func (h handle) Spec() cluster.Spec {
	h.p.mu.Lock()
	defer h.p.mu.Unlock()
	s := h.g.spec
	s.Nodes, s.Directives = slices.Clone(s.Nodes), maps.Clone(s.Directives)
	return s
}

func (h handle) Status() cluster.Status {
	h.p.mu.Lock()
	defer h.p.mu.Unlock()
	return h.status()
}

func (h handle) status() cluster.Status {
	s := cluster.Status{Group: h.g.spec.Name, State: cluster.GroupAvailable, Primary: h.g.primary, Epoch: h.g.epoch, LastFailover: h.g.last}
	for _, n := range h.g.spec.Nodes {
		role := cluster.RoleReplica
		if n.ID == h.g.primary {
			role = cluster.RolePrimary
		}
		s.Nodes = append(s.Nodes, cluster.StatusNode{ID: n.ID, Zone: n.Zone, Role: role, State: cluster.StateReady, Addr: "127.0.0.1:1", Electable: true})
	}
	return s
}

func (h handle) Wait(ctx context.Context, ok func(cluster.Status) bool) (cluster.Status, error) {
	for {
		h.p.mu.Lock()
		s, news := h.status(), h.p.news
		h.p.mu.Unlock()
		if ok(s) {
			return s, nil
		}
		select {
		case <-news:
		case <-ctx.Done():
			return s, ctx.Err()
		}
	}
}

func (h handle) Endpoints() cluster.Endpoints {
	return cluster.Endpoints{Primary: "127.0.0.1:6379", Reader: "127.0.0.1:6380", Split: "127.0.0.1:6381"}
}

func (h handle) Grow(_ context.Context, places ...cluster.NodePlace) error {
	return h.p.do(func() error { h.g.spec.Nodes = append(slices.Clone(h.g.spec.Nodes), places...); return nil })
}

func (h handle) Shrink(_ context.Context, nodes ...cluster.NodeID) error {
	return h.p.do(func() error {
		h.g.spec.Nodes = slices.DeleteFunc(slices.Clone(h.g.spec.Nodes), func(n cluster.NodePlace) bool { return slices.Contains(nodes, n.ID) })
		return nil
	})
}

func (h handle) SetManual(_ context.Context, manual bool) error {
	return h.p.do(func() error { h.g.spec.Manual = manual; return nil })
}

func (h handle) SetDirectives(_ context.Context, d map[string]string) error {
	return h.p.do(func() error { h.g.spec.Directives = maps.Clone(d); return nil })
}

func (h handle) Admit(door Door) error {
	return h.p.do(func() error { h.g.door = door; return nil })
}

func (h handle) Reboot(_ context.Context, _ cluster.NodeID) error {
	return h.p.do(func() error { h.g.reboots++; return nil })
}

func (h handle) Switchover(_ context.Context, to cluster.NodeID) error {
	return h.p.do(func() error { h.change(cluster.KindSwitchover, to); return nil })
}

func (h handle) change(kind string, to cluster.NodeID) {
	h.g.epoch++
	h.g.last = &cluster.Change{Epoch: h.g.epoch, Kind: kind, From: h.g.primary, To: to}
	h.g.primary = to
}

func (h handle) Failover(_ context.Context, dry bool) error {
	h.p.mu.Lock()
	refuse := h.g.refuse
	h.p.mu.Unlock()
	if refuse != "" {
		return errors.Join(cluster.ErrRefused, errors.New(refuse))
	}
	if dry {
		return nil
	}
	return h.p.do(func() error {
		for _, n := range h.g.spec.Nodes {
			if n.ID != h.g.primary {
				h.change(cluster.KindFailover, n.ID)
				return nil
			}
		}
		return cluster.ErrRefused
	})
}

// call is a request's context.
func call(ctx context.Context, operation string) context.Context {
	return wire.WithCall(ctx, wire.Call{Service: "elasticache", Operation: operation, Region: "us-east-1", Account: "000000000000"})
}

// run starts a service over the world in a process that dies at the step, and returns how to end it.
func (w *world) run(t *testing.T, p *process, o Options) (*Service, func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	p.world, p.end = w, cancel
	o.Groups, o.Store = p, p
	if o.Zones == nil {
		o.Zones = []string{"us-east-1a", "us-east-1b", "us-east-1c"}
	}
	o.Engine = Engine{Name: "redis", Version: "7.0.15"}
	s, err := New(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Run(ctx) }()
	return s, func() { cancel(); <-done }
}
