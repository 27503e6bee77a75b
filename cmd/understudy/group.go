package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"understudy/agent"
	"understudy/cluster"
	"understudy/dashboard"
	"understudy/etcd"
	"understudy/failover"
	"understudy/proxy"
	"understudy/redis"
	"understudy/rpc"
)

// group is everything that `understudy up` runs.
type group struct {
	config  config
	profile failover.Profile
	log     *slog.Logger
	clock   func() time.Duration
	metrics *prometheus.Registry

	binary  redis.Binary
	sockets string // directory of the unix sockets
	http    net.Listener
	rpc     *rpc.Server
	proxy   *proxy.Proxy

	agents    []*agent.Agent
	dashboard *dashboard.Dashboard
}

// prepare checks and takes all that can be refused, and starts nothing: its errors are one line for
// whoever typed the command.
func prepare(ctx context.Context, a *app, c config, log *slog.Logger) (*group, error) {
	p, err := c.timings()
	if err != nil {
		return nil, err
	}
	g := &group{config: c, profile: p, log: log, clock: newClock(), metrics: newRegistry(), rpc: rpc.NewServer(rpc.ServerOptions{Logger: log})}
	if g.binary, err = redis.FindServer(ctx, c.RedisServer); err != nil {
		return nil, err
	}
	if g.config.Data, err = filepath.Abs(c.Data); err != nil {
		return nil, fmt.Errorf("--data %s: %w", c.Data, err)
	}
	unlock, err := lockData(g.config.Data)
	if err != nil {
		return nil, err
	}
	a.onStop("data directory", func(context.Context) error { return unlock() })
	if err := keepShape(g.config.Data, shape{Group: c.Group, Nodes: c.Nodes}); err != nil {
		return nil, err
	}
	if g.sockets, err = socketDir(g.config.Data); err != nil {
		return nil, err
	}
	a.onStop("sockets", func(context.Context) error { return os.RemoveAll(g.sockets) })
	return g, g.listen(ctx, a)
}

// newClock returns the one clock of this process. It goes on while the machine is suspended, so that
// a permit does not outlive a closed lid, and starts at zero.
func newClock() func() time.Duration {
	start := redis.BootTime()
	return func() time.Duration { return redis.BootTime() - start }
}

func newRegistry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	promauto.With(r).NewGaugeFunc(prometheus.GaugeOpts{Name: "understudy_build_info", Help: "1; the label says which version runs.",
		ConstLabels: prometheus.Labels{"version": version}}, func() float64 { return 1 })
	return r
}

// listen takes every address before anything is started.
func (g *group) listen(ctx context.Context, a *app) error {
	for _, x := range g.config.addrs() {
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", x.value)
		if err != nil {
			return addrError(x, err)
		}
		if x.flag == "http-addr" {
			g.http = l
			a.onStop("http listener", func(context.Context) error { return ignoreClosed(l.Close()) })
			continue
		}
		// The proxy listens for itself; this was to say which flag is at fault.
		if err := l.Close(); err != nil {
			return err
		}
	}
	return g.openEndpoints()
}

func addrError(x addr, err error) error {
	_, port, _ := net.SplitHostPort(x.value)
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("--%s %s: port %s is taken by another process; name another one, or 0 for any that is free", x.flag, x.value, port)
	}
	return fmt.Errorf("--%s %s: %w", x.flag, x.value, err)
}

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// start starts the parts, each before those that need it.
func (g *group) start(ctx context.Context, a *app) error {
	fencer, err := redis.StartFencer(redis.FencerOptions{Logger: g.log})
	if err != nil {
		return err
	}
	a.onStop("fencer", fencer.Stop)
	took, err := measureFence(ctx, fencer)
	if err != nil {
		return err
	}
	if err := checkFence(g.profile, took, g.log); err != nil {
		return coded{exitUsage, err}
	}
	store, err := etcd.StartEmbedded(ctx, etcd.EmbedOptions{Dir: filepath.Join(g.config.Data, "store"), Logger: g.log})
	if err != nil {
		return err
	}
	a.onStop("store", store.Stop)
	stopping := make(chan struct{})
	a.onStop("store watch", func(context.Context) error { close(stopping); return nil })
	go func() {
		select {
		case <-store.Ended():
			a.fail(errors.New("the store ended: see the log above"))
		case <-stopping:
		}
	}()
	if err := g.newParts(fencer, store.Store()); err != nil {
		return err
	}
	answers, err := rpc.Listen(ctx, rpc.Unix(filepath.Join(g.sockets, rpcSocket)), nil)
	if err != nil {
		return err
	}
	a.run("rpc", part{"rpc", func(ctx context.Context) error { return g.rpc.Serve(ctx, answers) }})
	var parts []part
	for i, x := range g.agents {
		parts = append(parts, part{"agent " + string(g.peers()[i].Node), x.Run})
	}
	a.run("agents", parts...)
	a.run("endpoints", part{"proxy", g.proxy.Run})
	a.run("http", part{"http", func(ctx context.Context) error { return g.dashboard.Run(ctx, g.http) }})
	return nil
}

// rpcSocket is the name of the socket on which this process's agents answer one another.
const rpcSocket = "agents"

// peers are the nodes, spread over the zones in turn.
func (g *group) peers() []failover.Peer {
	var peers []failover.Peer
	for i := range g.config.Nodes {
		peers = append(peers, failover.Peer{
			Node: cluster.NodeID(fmt.Sprintf("%s-%03d", g.config.Group, i+1)),
			Zone: g.config.Zones[i%len(g.config.Zones)],
		})
	}
	return peers
}

// newParts makes the agents and the dashboard, which know one another.
func (g *group) newParts(fencer *redis.Fencer, store cluster.Store) error {
	peers := g.peers()
	// All agents are in this process, and answer at one socket.
	at := func(cluster.NodeID) string { return rpc.Unix(filepath.Join(g.sockets, rpcSocket)) }
	nodes := map[cluster.NodeID]dashboard.Node{}
	for i, p := range peers {
		a, err := agent.New(agent.Options{
			Group: g.config.Group, Self: p, Nodes: peers,
			Durability: cluster.Durability(g.config.Durability), Profile: g.profile,
			OnLostQuorum: cluster.LostQuorum(g.config.OnLostQuorum), PreferredZone: g.config.PreferredZone, ReturnNow: g.config.returnNow(),
			Dir: filepath.Join(g.config.Data, "nodes", string(p.Node)), Binary: g.binary,
			Socket: filepath.Join(g.sockets, strconv.Itoa(i+1)+".redis"),
			Store:  store, RPC: g.rpc, Peers: at, Fencer: fencer,
			Clock: g.clock, Logger: g.log, Metrics: g.metrics,
			OnStatus: g.learn, OnEvent: func(e cluster.Event) { g.dashboard.Record(e) },
		})
		if err != nil {
			return err
		}
		g.agents = append(g.agents, a)
		nodes[p.Node] = a
	}
	var err error
	g.dashboard, err = dashboard.New(dashboard.Options{
		Group: g.config.Group, Durability: cluster.Durability(g.config.Durability), Profile: g.profile,
		OnLostQuorum: cluster.LostQuorum(g.config.OnLostQuorum), PreferredZone: g.config.PreferredZone,
		Peers: peers, Nodes: nodes, Endpoints: g.endpoints(), Clock: g.clock, Kill: g.kill,
		ChangeFile: filepath.Join(g.config.Data, "last-failover.json"), Tap: g.tap(), Metrics: g.metrics, Logger: g.log,
	})
	return err
}

// learn hands a node's word to those who go by it. The proxy first: clients wait there.
func (g *group) learn(at time.Duration, s cluster.NodeStatus) {
	g.proxy.Learn(at, s)
	g.dashboard.Learn(at, s)
}

// kill ends the redis-server of the node that leads under epoch, as a crash would.
func (g *group) kill(ctx context.Context, node cluster.NodeID, epoch cluster.Epoch) error {
	for i, p := range g.peers() {
		if p.Node != node {
			continue
		}
		reply, err := g.agents[i].Kill(ctx, rpc.Kill{ID: fmt.Sprintf("kill-%d", epoch), Epoch: epoch})
		if err == nil && reply.Refused {
			err = fmt.Errorf("%w: %s", cluster.ErrRefused, reply.Message)
		}
		return err
	}
	return fmt.Errorf("%w: %s is no node of %s", cluster.ErrRefused, node, g.config.Group)
}

// sayEvery is how often the log says what a start waits for.
const sayEvery = 5 * time.Second

// awaitReady returns once clients can be sent to the endpoints. How long redis-server reads its data
// set is not ours to bound: the log says what is waited for.
func (g *group) awaitReady(ctx context.Context, a *app) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	isReady := make(chan error, 1)
	go func() { isReady <- g.poll(ctx) }()
	select {
	case err := <-isReady:
		return err
	case err := <-a.failed:
		return err
	}
}

func (g *group) poll(ctx context.Context) error {
	for {
		bound, cancel := context.WithTimeout(ctx, sayEvery)
		s, err := g.dashboard.Wait(bound, ready)
		if err == nil {
			err = g.ping(bound)
		}
		cancel()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		why := whyNotReady(s)
		if ready(s) {
			why = err.Error()
		}
		g.log.Info("not ready yet", "component", "up", "reason", why)
	}
}
