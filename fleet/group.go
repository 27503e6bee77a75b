package fleet

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"understudy/agent"
	"understudy/cluster"
	"understudy/dashboard"
	"understudy/failover"
	"understudy/proxy"
	"understudy/redis"
	"understudy/rpc"
)

// Group is one group under way.
type Group struct {
	fleet     *Fleet
	log       *slog.Logger
	def       Definition
	profile   failover.Profile
	dashboard *dashboard.Dashboard
	forget    func() // its metrics end

	start sync.Once
	ended chan struct{} // closed when nothing of it is left
	fails chan error    // a part that ended without having been asked to
	cut   context.CancelFunc

	change sync.Mutex // held by whoever changes the group: one at a time

	mu    sync.Mutex
	spec  cluster.Spec
	nodes map[cluster.NodeID]*node
	life  context.Context // of the nodes; nil before the group has begun
}

// node is an agent under way.
type node struct {
	*agent.Agent
	id     cluster.NodeID
	free   func()        // what it takes of the fleet is given back
	cancel func()        // nil: it has not been started
	done   chan struct{} // closed when it has ended
	err    error         // why, once done is closed
}

// newGroup makes a group and starts nothing.
func newGroup(f *Fleet, d Definition) (*Group, error) {
	g := &Group{
		fleet: f, log: f.opts.Logger, def: d, profile: d.Profile, spec: d.Spec,
		ended: make(chan struct{}), fails: make(chan error, 1), nodes: map[cluster.NodeID]*node{},
	}
	var err error
	if g.profile.TTL == 0 {
		if g.profile, err = failover.ProfileByName(d.Spec.Profile); err != nil {
			return nil, err
		}
	}
	if err := os.MkdirAll(f.groupDir(d.Spec.Name), 0o700); err != nil {
		return nil, err
	}
	for _, p := range d.Spec.Nodes {
		if err := g.newNode(p); err != nil {
			g.discard()
			return nil, err
		}
	}
	registry, forget := f.opts.Metrics.Add("group " + d.Spec.Name)
	g.forget = forget
	a := d.Proxy.Addrs()
	o := dashboard.Options{
		Group: d.Spec.Name, Durability: d.Spec.Durability, Profile: g.profile, OnLostQuorum: d.Spec.OnLostQuorum, PreferredZone: d.Spec.PreferredZone,
		Peers: g.peers(), Nodes: g.shown(), Manual: d.Spec.Manual,
		Endpoints: cluster.Endpoints{Primary: cmp.Or(a.Primary, a.PrimaryTLS), Reader: cmp.Or(a.Reader, a.ReaderTLS), Split: cmp.Or(a.Split, a.SplitTLS), HTTP: f.opts.HTTP,
			PrimaryTLS: a.PrimaryTLS, ReaderTLS: a.ReaderTLS, SplitTLS: a.SplitTLS},
		Clock: f.opts.Clock, Kill: g.kill, ChangeFile: g.changeFile(), Metrics: dashboard.Both{Registerer: registry, Gatherer: f.opts.Metrics}, Logger: f.opts.Logger,
	}
	o.Troubles = d.Proxy.Troubles
	if d.Tap {
		o.Tap = d.Proxy.TapHandler()
	}
	if g.dashboard, err = dashboard.New(o); err != nil {
		g.discard()
		return nil, err
	}
	return g, nil
}

// changeFile keeps what the page tells of the last change of primary.
func (g *Group) changeFile() string {
	return filepath.Join(g.fleet.groupDir(g.spec.Name), "last-failover.json")
}

// discard gives back what a group that never ran took.
func (g *Group) discard() {
	if g.forget != nil {
		g.forget()
	}
	for _, n := range g.nodes {
		n.free()
	}
}

// newNode makes a node's agent and starts nothing. The caller holds what guards g.nodes, or is alone.
func (g *Group) newNode(p cluster.NodePlace) error {
	f := g.fleet
	slot, socket := f.socket()
	registry, forget := f.opts.Metrics.Add("node " + string(p.ID))
	free := func() { forget(); f.freeSocket(slot) }
	a, err := agent.New(agent.Options{
		Group: g.spec.Name, Self: failover.Peer{Node: p.ID, Zone: p.Zone, Priority: p.Priority}, Nodes: peers(g.spec),
		Durability: g.spec.Durability, Profile: g.profile, OnLostQuorum: g.spec.OnLostQuorum,
		PreferredZone: g.spec.PreferredZone, ReturnNow: returnNow(g.spec.ReturnWindow), Manual: g.spec.Manual,
		Dir: f.nodeDir(p.ID), Binary: f.opts.Binary, Socket: socket, Config: g.spec.Directives,
		Store: f.opts.Store, RPC: f.opts.RPC, Peers: func(cluster.NodeID) string { return f.opts.RPCAddr }, Fencer: f.opts.Fencer,
		Clock: f.opts.Clock, Logger: f.opts.Logger, Metrics: registry, OnStatus: g.learn, OnEvent: g.record,
	})
	if err != nil {
		free()
		return err
	}
	g.nodes[p.ID] = &node{Agent: a, id: p.ID, free: free, done: make(chan struct{})}
	return nil
}

// returnNow says whether the primary may return at a time; nil: never. A window that cannot be read is none:
// whoever wrote the Spec has checked it.
func returnNow(text string) func(time.Time) bool {
	w, err := cluster.ParseWindow(text)
	if text == "" || err != nil {
		return nil
	}
	return w.Contains
}

// peers are a spec's nodes as machines take them.
func peers(s cluster.Spec) []failover.Peer {
	var all []failover.Peer
	for _, n := range s.Nodes {
		all = append(all, failover.Peer{Node: n.ID, Zone: n.Zone, Priority: n.Priority})
	}
	return all
}

func (g *Group) peers() []failover.Peer { return peers(g.spec) }

// shown are the nodes as the page needs them. mu is held, or the caller is alone.
func (g *Group) shown() map[cluster.NodeID]dashboard.Node {
	all := map[cluster.NodeID]dashboard.Node{}
	for id, n := range g.nodes {
		all[id] = n.Agent
	}
	return all
}

// learn hands a node's word to those who go by it. The proxy first: clients wait there.
func (g *Group) learn(at time.Duration, s cluster.NodeStatus) {
	g.def.Proxy.Learn(at, s)
	g.dashboard.Learn(at, s)
}

func (g *Group) record(e cluster.Event) {
	g.dashboard.Record(e)
	g.fleet.opts.OnEvent(e)
}

// begin runs the group until ctx ends or stop is called.
func (g *Group) begin(ctx context.Context) {
	g.start.Do(func() {
		ctx, cut := context.WithCancel(ctx)
		g.cut = cut
		go func() {
			defer close(g.ended)
			if err := g.run(ctx); err != nil {
				g.fail(err)
			}
		}()
	})
}

// fail tells of a group that ended without having been asked to.
func (g *Group) fail(err error) {
	err = fmt.Errorf("group %s: %w", g.Name(), err)
	if !g.def.Vital {
		g.log.Error("a group ended", "group", g.Name(), "error", err)
		g.fleet.drop(g.Name())
		return
	}
	select {
	case g.fleet.failed <- err:
	default:
	}
}

// run runs the parts: the proxy ends first, so that clients are not sent to nodes that stop.
func (g *Group) run(ctx context.Context) error {
	defer func() {
		g.forget()
		if g.def.EndMetrics != nil {
			g.def.EndMetrics()
		}
	}()
	life, endNodes := context.WithCancel(context.WithoutCancel(ctx))
	defer endNodes()
	g.mu.Lock()
	g.life = life
	for _, n := range g.nodes {
		g.startNode(n)
	}
	g.mu.Unlock()
	front, endFront := context.WithCancel(ctx)
	defer endFront()
	var fronts sync.WaitGroup
	var proxyErr error
	fronts.Go(func() { g.dashboard.Run(front) })
	fronts.Go(func() {
		if proxyErr = g.def.Proxy.Run(front); front.Err() == nil {
			g.tell(fmt.Errorf("proxy ended: %w", orEnded(proxyErr)))
		}
	})
	var err error
	select {
	case <-ctx.Done():
	case err = <-g.fails:
	}
	endFront()
	fronts.Wait()
	return errors.Join(err, proxyErr, g.endNodes())
}

// tell keeps the first failure: it is the cause of others.
func (g *Group) tell(err error) {
	select {
	case g.fails <- err:
	default:
	}
}

func orEnded(err error) error {
	if err == nil {
		return errors.New("without an error and without being asked to")
	}
	return err
}

// startNode runs a node. mu is held; the group runs.
func (g *Group) startNode(n *node) {
	ctx, cancel := context.WithCancel(g.life)
	n.cancel = cancel
	go func() {
		defer close(n.done)
		n.err = n.Run(ctx)
		n.free()
		if ctx.Err() == nil {
			g.tell(fmt.Errorf("agent %s ended: %w", n.id, orEnded(n.err)))
		}
	}()
}

// endNodes ends all nodes and waits for them.
func (g *Group) endNodes() (errs error) {
	g.mu.Lock()
	all := slices.Collect(maps.Values(g.nodes))
	g.life = nil // none is started from here on
	g.mu.Unlock()
	for _, n := range all {
		n.end()
	}
	for _, n := range all {
		if n.cancel != nil {
			<-n.done
			errs = errors.Join(errs, n.err)
		}
	}
	return errs
}

func (n *node) end() {
	if n.cancel != nil {
		n.cancel()
	}
}

// stop ends the group and waits for its end.
func (g *Group) stop(ctx context.Context) error {
	g.start.Do(func() { close(g.ended) }) // it never ran
	if g.cut != nil {
		g.cut()
	}
	select {
	case <-g.ended:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// kill ends the redis-server of the node that leads under epoch, as a crash would.
func (g *Group) kill(ctx context.Context, id cluster.NodeID, epoch cluster.Epoch) error {
	n := g.node(id)
	if n == nil {
		return fmt.Errorf("%w: %s is no node of %s", cluster.ErrRefused, id, g.Name())
	}
	reply, err := n.Kill(ctx, rpc.Kill{ID: fmt.Sprintf("kill-%d", epoch), Epoch: epoch})
	if err == nil && reply.Refused {
		err = fmt.Errorf("%w: %s", cluster.ErrRefused, reply.Message)
	}
	return err
}

func (g *Group) node(id cluster.NodeID) *node {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.nodes[id]
}

// Name is the group's.
func (g *Group) Name() string { return g.def.Spec.Name }

// Spec is the desired state.
func (g *Group) Spec() cluster.Spec {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.spec
	s.Nodes, s.Directives = slices.Clone(s.Nodes), maps.Clone(s.Directives)
	return s
}

// Status says how the group is now.
func (g *Group) Status() cluster.Status { return g.dashboard.Status() }

// Wait returns the first status for which ok holds, or the newest one and ctx's error.
func (g *Group) Wait(ctx context.Context, ok func(cluster.Status) bool) (cluster.Status, error) {
	return g.dashboard.Wait(ctx, ok)
}

// StoreTroubles say what is wrong with the store, as the group's agents see it.
func (g *Group) StoreTroubles() []string { return g.dashboard.StoreTroubles() }

// Addrs are the endpoints' addresses.
func (g *Group) Addrs() proxy.Addrs { return g.def.Proxy.Addrs() }

// Figures are its proxy's.
func (g *Group) Figures() proxy.Figures { return g.def.Proxy.Figures() }

// Login is how this process reaches a node's redis-server; false: there is no such node.
func (g *Group) Login(id cluster.NodeID) (redis.Login, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	n, ok := g.nodes[id]
	if !ok {
		return redis.Login{}, false
	}
	return n.Login(), true
}

// Opened is how many connections to a node's servers this process has made: its agent, all that use Login, and the
// proxy.
func (g *Group) Opened(id cluster.NodeID) float64 {
	g.mu.Lock()
	n, ok := g.nodes[id]
	g.mu.Unlock()
	if !ok {
		return 0
	}
	return float64(n.Opened()) + g.def.Proxy.Opened(id)
}

// Handler is the group's page.
func (g *Group) Handler() http.Handler { return g.dashboard.Handler() }

// Switchover has the primary hand over, to To, to the best node of Zone, or to the best.
func (g *Group) Switchover(ctx context.Context, r dashboard.SwitchoverRequest) dashboard.Outcome {
	return g.dashboard.Switchover(ctx, r)
}

// Failover really kills the primary's redis-server, and returns when another node has taken over.
func (g *Group) Failover(ctx context.Context, r dashboard.FailoverRequest) dashboard.Outcome {
	return g.dashboard.Failover(ctx, r)
}
