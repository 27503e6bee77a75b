package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"understudy/alarm/watch"
	"understudy/aws"
	"understudy/aws/elasticache"
	"understudy/aws/sns"
	"understudy/cluster"
	"understudy/dashboard"
	"understudy/etcd"
	"understudy/failover"
	"understudy/fleet"
	"understudy/notify"
	"understudy/proxy"
	"understudy/redis"
	"understudy/rpc"
	"understudy/series"
)

// local is everything that `understudy up` runs: the group of its flags, and those that were made since.
type local struct {
	config  config
	profile failover.Profile
	log     *slog.Logger
	clock   func() time.Duration
	metrics *dashboard.Registries
	pages   dashboard.Pages

	binary  redis.Binary
	sockets string // directory of the unix sockets
	http    net.Listener
	door    *openDoor // of http
	rpc     *rpc.Server
	front   entry // of the group of the flags

	fleet *fleet.Fleet
	group *fleet.Group // of the flags

	elasticache *elasticache.Service
	aws         *aws.Handler
	sns         *sns.Service
	courier     *notify.Courier
	events      chan notify.Post // of groups, that could not be published yet
	backups     backups
	series      *series.Series // of metrics; nil: none are kept
	ages        ages           // of the monitor alone
	alarms      *watch.Watch   // nil: as there are no metrics
}

// prepare checks and takes all that can be refused, and starts nothing: its errors are one line for
// whoever typed the command.
func prepare(ctx context.Context, a *app, c config, log *slog.Logger) (*local, error) {
	p, err := c.timings()
	if err != nil {
		return nil, err
	}
	g := &local{config: c, profile: p, log: log, clock: newClock(), metrics: dashboard.NewRegistries(newRegistry()), rpc: rpc.NewServer(rpc.ServerOptions{Logger: log})}
	if g.binary, err = redis.FindServer(ctx, c.RedisServer); err != nil {
		return nil, err
	}
	if g.config.Data, err = filepath.Abs(c.Data); err != nil {
		return nil, fmt.Errorf("--data %s: %w", c.Data, err)
	}
	registry, forget := g.metrics.Add("http")
	a.onStop("metrics of the HTTP address", func(context.Context) error { forget(); return nil })
	if g.door, err = c.door().open(registry, log); err != nil {
		return nil, err
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
	g.pages.First = []string{c.Group}
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
func (g *local) listen(ctx context.Context, a *app) error {
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
	var err error
	g.front, err = g.openEntry(g.config.Group, g.config.listen(), func(o *proxy.Options) error { return g.config.Doors.entrance().apply(o, g.log) })
	return err
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
func (g *local) start(ctx context.Context, a *app) error {
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
	store, err := g.startStore(ctx, a)
	if err != nil {
		return err
	}
	answers, err := rpc.Listen(ctx, rpc.Unix(filepath.Join(g.sockets, rpcSocket)), nil)
	if err != nil {
		return err
	}
	a.run("rpc", part{"rpc", func(ctx context.Context) error { return g.rpc.Serve(ctx, answers) }})
	if err := g.startGroups(ctx, a, fencer, store); err != nil {
		return err
	}
	pages := g.withAlarms(g.courier.Handler(g.withBackups(&g.pages)))
	a.run("http", part{"http", func(ctx context.Context) error {
		return g.door.serve(ctx, g.http, pages, g.courier.ServeCertificate, g.aws.Before)
	}})
	return nil
}

// startStore starts the store, and watches that it goes on.
func (g *local) startStore(ctx context.Context, a *app) (cluster.Store, error) {
	store, err := etcd.StartEmbedded(ctx, etcd.EmbedOptions{Dir: filepath.Join(g.config.Data, "store"), Logger: g.log})
	if err != nil {
		return nil, err
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
	return store.Store(), nil
}

// rpcSocket is the name of the socket on which this process's agents answer one another.
const rpcSocket = "agents"

// startGroups starts the group of the flags, and those that the store knows besides.
func (g *local) startGroups(ctx context.Context, a *app, fencer *redis.Fencer, store cluster.Store) error {
	var err error
	g.fleet, err = fleet.New(fleet.Options{
		Dir: g.config.Data, Sockets: g.sockets, Binary: g.binary, Store: store, Fencer: fencer,
		RPC: g.rpc, RPCAddr: rpc.Unix(filepath.Join(g.sockets, rpcSocket)), Clock: g.clock, Metrics: g.metrics,
		Pages: &g.pages, HTTP: g.http.Addr().String(), Open: g.reopen, Logger: g.log,
	})
	if err != nil {
		return err
	}
	if err := g.openBackups(ctx, a); err != nil {
		return err
	}
	g.openMetrics(a)
	if err := g.startAWS(ctx, a, store); err != nil {
		return err
	}
	kept, ok, err := g.fleet.Spec(ctx, g.config.Group)
	if err != nil {
		return err
	}
	spec := g.config.spec()
	if ok {
		spec = keepChanges(spec, kept)
	}
	g.group, err = g.fleet.Add(ctx, fleet.Definition{
		Spec: spec, Profile: g.profile, Proxy: g.front.proxy, EndMetrics: g.front.forget, Tap: g.config.Doors.Tap, Vital: true,
	})
	if err != nil {
		return err
	}
	a.run("groups", part{"groups", g.fleet.Run}, part{"passwords", g.followLogins})
	if err := g.startMonitor(a); err != nil {
		return err
	}
	if err := g.startPacks(ctx, a, store); err != nil {
		return err
	}
	// These end before the groups that they change.
	a.run("elasticache", part{"elasticache", g.elasticache.Run}, part{"backups", g.backups.api.Run})
	return nil
}

// spec is the desired state of the group as the flags say it: its nodes are spread over the zones in turn.
func (c *config) spec() cluster.Spec {
	s := cluster.Spec{
		Name: c.Group, Durability: cluster.Durability(c.Durability), Profile: c.Profile, OnLostQuorum: cluster.LostQuorum(c.OnLostQuorum),
		PreferredZone: c.PreferredZone, ReturnWindow: c.ReturnWindow, Listen: c.listen(),
	}
	for i := range c.Nodes {
		s.Nodes = append(s.Nodes, cluster.NodePlace{ID: cluster.NodeName(c.Group, i+1), Zone: c.Zones[i%len(c.Zones)]})
	}
	return s
}

// keepChanges is what the flags say with what operators have changed since: nodes that came and went, and
// what no flag says.
func keepChanges(flags, kept cluster.Spec) cluster.Spec {
	flags.Manual, flags.Directives = kept.Manual, kept.Directives
	nodes := slices.Clone(kept.Nodes)
	for i, n := range nodes {
		if p, ok := flags.Place(n.ID); ok {
			nodes[i].Zone = p.Zone
		}
	}
	flags.Nodes = nodes
	return flags
}

// sayEvery is how often the log says what a start waits for.
const sayEvery = 5 * time.Second

// awaitReady returns once clients can be sent to the endpoints. How long redis-server reads its data
// set is not ours to bound: the log says what is waited for.
func (g *local) awaitReady(ctx context.Context, a *app) error {
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

func (g *local) poll(ctx context.Context) error {
	for {
		bound, cancel := context.WithTimeout(ctx, sayEvery)
		s, err := g.group.Wait(bound, ready)
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
