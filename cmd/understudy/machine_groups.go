package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"understudy/cluster"
	"understudy/dashboard"
	"understudy/failover"
	"understudy/rpc"
)

// groups shows, on this machine's HTTP address, every group that the store knows: "/" is the first of
// the configuration, "/groups/NAME/" is any. What their nodes say comes through rpc, wherever they run.
type groups struct {
	machine *machine
	log     *slog.Logger
	work    sync.WaitGroup
	wanted  chan struct{} // has room for one: specs have changed
	pages   dashboard.Pages

	mu     sync.Mutex
	wants  []cluster.Spec
	shown  map[string]*shown
	primed []cluster.Event // of groups that are not shown yet
}

// shown is one group's page.
type shown struct {
	spec      cluster.Spec
	dashboard *dashboard.Dashboard
	end       func()
}

func newGroups(m *machine) *groups {
	g := &groups{machine: m, log: m.log.With("component", "status"), wanted: make(chan struct{}, 1), shown: map[string]*shown{}}
	g.pages.Missing = "the store does not answer yet: a majority of its members must run"
	for _, want := range m.config.Groups {
		g.pages.First = append(g.pages.First, want.Name)
	}
	return g
}

// specs takes the desired state of all groups.
func (g *groups) specs(all []cluster.Spec) {
	g.mu.Lock()
	g.wants = all
	g.mu.Unlock()
	select {
	case g.wanted <- struct{}{}:
	default:
	}
}

// run shows what there is to be shown until ctx ends.
func (g *groups) run(ctx context.Context) error {
	for {
		select {
		case <-g.wanted:
			g.refresh(ctx)
		case <-ctx.Done():
			g.work.Wait()
			return nil
		}
	}
}

// refresh makes the pages follow the specs. A page whose group has changed is made anew.
func (g *groups) refresh(ctx context.Context) {
	g.mu.Lock()
	wants, have := g.wants, maps.Clone(g.shown)
	g.mu.Unlock()
	for _, spec := range wants {
		old := have[spec.Name]
		delete(have, spec.Name)
		if old != nil && sameSpec(old.spec, spec) {
			continue
		}
		if old != nil {
			g.hide(spec.Name)
		}
		if err := g.show(ctx, spec); err != nil {
			g.log.Error("the group cannot be shown", "group", spec.Name, "error", err)
		}
	}
	for name := range have {
		g.hide(name)
	}
}

func sameSpec(a, b cluster.Spec) bool {
	return slices.Equal(a.Nodes, b.Nodes) && a.Durability == b.Durability && a.Profile == b.Profile &&
		a.OnLostQuorum == b.OnLostQuorum && a.PreferredZone == b.PreferredZone
}

func (g *groups) hide(name string) {
	g.mu.Lock()
	old := g.shown[name]
	delete(g.shown, name)
	g.mu.Unlock()
	old.end()
}

// show makes a group's page and follows its nodes.
func (g *groups) show(ctx context.Context, spec cluster.Spec) error {
	p, err := failover.ProfileByName(spec.Profile)
	if err != nil {
		return err
	}
	m := g.machine
	nodes, followed, machines := map[cluster.NodeID]dashboard.Node{}, []*remote{}, map[cluster.NodeID]string{}
	for _, n := range spec.Nodes {
		r := &remote{id: n.ID, client: m.client, where: m.host.Where}
		r.word.Store(&failover.Knowledge{})
		nodes[n.ID], machines[n.ID] = r, n.Machine
		followed = append(followed, r)
	}
	registry, forget := m.metrics.Add("group " + spec.Name)
	d, err := dashboard.New(dashboard.Options{
		Group: spec.Name, Durability: spec.Durability, Profile: p, OnLostQuorum: spec.OnLostQuorum, PreferredZone: spec.PreferredZone,
		Peers: peersOf(spec), Nodes: nodes, Machines: machines, Endpoints: cluster.Endpoints{HTTP: m.http.Addr().String()},
		Clock: m.clock, Kill: killThrough(nodes), Metrics: dashboard.Both{Registerer: registry, Gatherer: m.metrics}, Logger: m.log,
	})
	if err != nil {
		forget()
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	s := &shown{spec: spec, dashboard: d, end: func() { cancel(); forget(); g.pages.Remove(spec.Name) }}
	g.pages.Set(spec.Name, d.Handler())
	g.mu.Lock()
	g.shown[spec.Name] = s
	primed := g.primed
	g.primed = nil
	g.mu.Unlock()
	for _, e := range primed {
		g.record(e)
	}
	for _, r := range followed {
		g.work.Go(func() { r.follow(ctx, d, m.clock, g.log) })
	}
	return nil
}

// maxPrimed bounds the events that wait for their group's page.
const maxPrimed = 64

// record takes an event of this machine.
func (g *groups) record(e cluster.Event) {
	g.mu.Lock()
	s := g.shown[e.Group]
	if s == nil && len(g.primed) < maxPrimed {
		g.primed = append(g.primed, e)
	}
	g.mu.Unlock()
	if s != nil {
		s.dashboard.Record(e)
	}
}

// serve answers on l until ctx ends.
func (g *groups) serve(ctx context.Context, l net.Listener) error {
	return g.machine.door.serve(ctx, l, &g.pages)
}

func writeJSON(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(v) // the asker has gone
}

// remote is a node wherever it runs.
type remote struct {
	id     cluster.NodeID
	client *rpc.Client
	where  func(cluster.NodeID) string
	word   atomic.Pointer[failover.Knowledge]
}

var _ dashboard.Node = (*remote)(nil)

func (r *remote) to() rpc.To { return rpc.To{Node: r.id, Addr: r.where(r.id)} }

// follow hears what the node says until ctx ends.
func (r *remote) follow(ctx context.Context, d *dashboard.Dashboard, clock func() time.Duration, log *slog.Logger) {
	f := rpc.Following{Client: r.client, To: r.to, Clock: clock,
		OnError: func(err error) { log.Debug("no word from a node", "node", string(r.id), "error", err) }}
	rpc.Follow(ctx, f, func(sentAt time.Duration, w rpc.Word) {
		k := w.Knowledge(sentAt)
		r.word.Store(&k)
		d.Learn(sentAt, w.Status)
		for _, e := range w.Events {
			d.Record(e)
		}
	})
}

// Knows implements dashboard.Node.
func (r *remote) Knows() failover.Knowledge { return *r.word.Load() }

// Request implements dashboard.Node: it is forwarded to the machine that runs the node.
func (r *remote) Request(ctx context.Context, q failover.Request) (failover.Reply, error) {
	return r.client.Request(ctx, r.to(), q)
}

// killThrough forwards a kill to the machine that runs the node.
func killThrough(nodes map[cluster.NodeID]dashboard.Node) dashboard.Killer {
	return func(ctx context.Context, id cluster.NodeID, epoch cluster.Epoch) error {
		r, ok := nodes[id].(*remote)
		if !ok {
			return fmt.Errorf("%w: %s is no node of this group", cluster.ErrRefused, id)
		}
		reply, err := r.client.Kill(ctx, r.to(), rpc.Kill{ID: fmt.Sprintf("kill-%d", epoch), Epoch: epoch})
		if err == nil && reply.Refused {
			err = fmt.Errorf("%w: %s", cluster.ErrRefused, reply.Message)
		}
		return err
	}
}
