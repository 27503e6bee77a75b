// Package dashboard tells people and programs, over HTTP, how a group is and what happened to it,
// and takes an operator's wish to change the primary.
package dashboard

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"understudy/cluster"
	"understudy/failover"
)

// Node is a node's agent, as far as this package needs it.
type Node interface {
	// Lead is the newest lead record that the node knows.
	Lead() cluster.Lead
	// Switchover asks the node, which must hold the lead, to hand it over.
	Switchover(ctx context.Context, r failover.Request) (failover.Reply, error)
}

// Killer really ends the redis-server of a node, as a crash would: SIGKILL, nothing in order.
type Killer func(node cluster.NodeID, pid int) error

// Registry is where metrics are registered and gathered.
type Registry interface {
	prometheus.Registerer
	prometheus.Gatherer
}

// Options say which group is shown. Every field but Logger, Metrics and Kill is needed.
type Options struct {
	Group      string
	Durability cluster.Durability
	Profile    failover.Profile
	Nodes      map[cluster.NodeID]Node
	Endpoints  Endpoints
	Clock      func() time.Duration // the agents' clock
	Kill       Killer               // nil: forced failovers are refused
	Metrics    Registry
	Logger     *slog.Logger
}

// Dashboard answers for one group.
type Dashboard struct {
	opts   Options
	log    *slog.Logger
	events *ring

	mu       sync.Mutex
	nodes    map[cluster.NodeID]heard
	led      led           // the newest primary that was heard of
	lastLed  time.Duration // when a primary last said that it may accept writes
	change   *Change       // the newest change of primary
	begun    cluster.Event // what began the change under way; zero Time when none is
	whenNews chan struct{} // closed and replaced whenever something above changes
}

// heard is a node's newest word, and when it was made.
type heard struct {
	at     time.Duration
	status cluster.NodeStatus
}

// led is a primary's newest word of its log.
type led struct {
	epoch    cluster.Epoch
	position cluster.Position
}

// New returns a Dashboard that knows of no node yet. The error names the option that is missing.
func New(o Options) (*Dashboard, error) {
	if o.Group == "" || len(o.Nodes) == 0 || o.Clock == nil || o.Profile.TTL == 0 {
		return nil, errors.New("dashboard: Group, Nodes, Clock and Profile are needed")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Metrics == nil {
		o.Metrics = prometheus.NewRegistry()
	}
	d := &Dashboard{
		opts: o, log: o.Logger.With("component", "dashboard"), events: newRing(),
		nodes: map[cluster.NodeID]heard{}, whenNews: make(chan struct{}),
	}
	registerMetrics(d)
	return d, nil
}

// Learn takes a node's word; at is when it was made, by the agents' clock. It never blocks on I/O.
func (d *Dashboard) Learn(at time.Duration, s cluster.NodeStatus) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if old, ok := d.nodes[s.Node]; ok && at < old.at {
		return
	}
	d.nodes[s.Node] = heard{at, s}
	if s.Leads {
		d.lastLed = max(d.lastLed, at+s.Permit)
		d.follow(s)
	}
	d.tell()
}

// tell wakes those who wait for news. The caller holds mu.
func (d *Dashboard) tell() {
	close(d.whenNews)
	d.whenNews = make(chan struct{})
}

// Record takes an event of the group's timeline.
func (d *Dashboard) Record(e cluster.Event) {
	d.mu.Lock()
	d.timeChange(e)
	d.tell()
	d.mu.Unlock()
	d.events.add(e)
}

// Wait returns the first status for which ok holds, or the newest one and ctx's error.
func (d *Dashboard) Wait(ctx context.Context, ok func(Status) bool) (Status, error) {
	// Permits end by themselves, without a word: look again after a while in any case.
	again := time.NewTicker(d.opts.Profile.Renew)
	defer again.Stop()
	for {
		d.mu.Lock()
		news := d.whenNews
		d.mu.Unlock()
		s := d.Status()
		if ok(s) {
			return s, nil
		}
		select {
		case <-news:
		case <-again.C:
		case <-ctx.Done():
			return s, ctx.Err()
		}
	}
}

// Handler serves the paths of INTERFACE: /healthz, /metrics, /api/status, /api/events,
// /api/switchover and /api/failover.
func (d *Dashboard) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", d.serveHealth)
	mux.HandleFunc("GET /api/status", d.serveStatus)
	mux.HandleFunc("GET /api/events", d.serveEvents)
	mux.HandleFunc("POST /api/switchover", d.serveSwitchover)
	mux.HandleFunc("POST /api/failover", d.serveFailover)
	mux.Handle("GET /metrics", promhttp.HandlerFor(d.opts.Metrics, promhttp.HandlerOpts{}))
	// A page that an operator's browser happens to show must not be able to fail the group over.
	return http.NewCrossOriginProtection().Handler(mux)
}

// Run serves on l until ctx ends; then open streams are ended and answers under way get a moment.
func (d *Dashboard) Run(ctx context.Context, l net.Listener) error {
	server := &http.Server{
		Handler: d.Handler(), ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute,
		MaxHeaderBytes: 16 << 10, BaseContext: func(net.Listener) context.Context { return ctx },
		ErrorLog: slog.NewLogLogger(d.log.Handler(), slog.LevelDebug),
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(l) }()
	select {
	case err := <-failed:
		return fmt.Errorf("serve http on %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 500*time.Millisecond)
	defer cancel()
	err := server.Shutdown(grace)
	if err != nil {
		err = server.Close()
	}
	<-failed
	return err
}
