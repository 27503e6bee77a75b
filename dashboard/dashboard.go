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
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"understudy/cluster"
	"understudy/failover"
)

// Node is a node's agent, as far as this package needs it.
type Node interface {
	// Knows is the node's newest word, with its record of the lead and its report.
	Knows() failover.Knowledge
	// Request hands an operator's wish to the node's machine.
	Request(ctx context.Context, r failover.Request) (failover.Reply, error)
}

// Killer really ends the redis-server of the node that leads under epoch, as a crash would: SIGKILL,
// nothing in order. It does nothing, and says so, when the node does not lead under that epoch.
type Killer func(ctx context.Context, node cluster.NodeID, epoch cluster.Epoch) error

// Registry is where metrics are registered and gathered.
type Registry interface {
	prometheus.Registerer
	prometheus.Gatherer
}

// Options say which group is shown. Group, Durability, Profile, Peers, Nodes and Clock are needed.
type Options struct {
	Group         string
	Durability    cluster.Durability
	Profile       failover.Profile
	OnLostQuorum  cluster.LostQuorum // "" is cluster.LostQuorumShrink
	PreferredZone string
	Peers         []failover.Peer // every node, ordered by id
	Nodes         map[cluster.NodeID]Node
	Manual        bool                      // automatic failover is off; SetGroup changes these three
	Machines      map[cluster.NodeID]string // where each node runs, when that is worth saying
	Endpoints     cluster.Endpoints
	Clock         func() time.Duration // the agents' clock
	Kill          Killer               // nil: forced failovers are refused
	// Operator says who fails the group over, and how it is asked to, where that is not the group's agents:
	// requests to change the primary are refused with it. "": they do.
	Operator string
	Mode     string // of the endpoints, for the status; "" is the usual one
	// Troubles name what else is wrong: stale reads are given, the store is away. It must not block; nil:
	// nothing else is known.
	Troubles func() []string
	// ChangeFile keeps the newest change of primary of each kind over a restart; "": they are forgotten.
	ChangeFile string
	// Tap answers GET /api/tap; nil: there is none.
	Tap     http.Handler
	Metrics Registry
	Logger  *slog.Logger
}

// Dashboard answers for one group.
type Dashboard struct {
	opts    Options
	log     *slog.Logger
	events  *ring
	members atomic.Pointer[members]

	mu       sync.Mutex
	nodes    map[cluster.NodeID]heard
	led      led                        // the newest primary that was heard of
	lastLed  time.Duration              // when a primary last said that it may accept writes
	change   *cluster.Change            // the newest change of primary
	kept     map[string]*cluster.Change // the newest of each kind before change, also an earlier process's
	begun    cluster.Event              // what began the change under way; zero Time when none is
	was      cluster.GroupState         // as it was last looked at
	since    time.Time                  // since when it has been that
	ledTill  time.Time                  // since when nobody leads; zero: somebody does
	counts   counts
	whenNews chan struct{} // closed and replaced whenever something above changes

	requests requests
}

// members are the nodes of the group, and how it goes on when it loses its primary.
type members struct {
	peers  []failover.Peer
	nodes  map[cluster.NodeID]Node
	manual bool
}

func (d *Dashboard) group() *members { return d.members.Load() }

// SetGroup shows the group with other nodes, or with automatic failover off (manual). What is known of nodes
// that are no more is forgotten.
func (d *Dashboard) SetGroup(peers []failover.Peer, nodes map[cluster.NodeID]Node, manual bool) {
	d.members.Store(&members{peers: peers, nodes: nodes, manual: manual})
	d.mu.Lock()
	defer d.mu.Unlock()
	for id := range d.nodes {
		if nodes[id] == nil {
			delete(d.nodes, id)
		}
	}
	d.tell()
}

// counts are what the metrics count up.
type counts struct {
	failsafe    bool // the primary goes on without the store
	failsafes   int
	early       int
	falseAlarms int
}

// heard is a node's newest word, and when it was made.
type heard struct {
	at     time.Duration
	status cluster.NodeStatus
}

// led is a primary's newest word of its log.
type led struct {
	node     cluster.NodeID
	epoch    cluster.Epoch
	position cluster.Position
}

// New returns a Dashboard that knows of no node yet. The error names the option that is missing.
func New(o Options) (*Dashboard, error) {
	if o.Group == "" || len(o.Nodes) == 0 || len(o.Peers) != len(o.Nodes) || o.Clock == nil || o.Profile.TTL == 0 || o.Durability == "" {
		return nil, errors.New("dashboard: Group, Durability, Profile, Peers, Nodes and Clock are needed")
	}
	if o.OnLostQuorum == "" {
		o.OnLostQuorum = cluster.LostQuorumShrink
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Metrics == nil {
		o.Metrics = prometheus.NewRegistry()
	}
	d := &Dashboard{
		opts: o, log: o.Logger.With("component", "dashboard"), events: newRing(),
		nodes: map[cluster.NodeID]heard{}, kept: map[string]*cluster.Change{}, whenNews: make(chan struct{}), requests: newRequests(),
	}
	d.members.Store(&members{peers: o.Peers, nodes: o.Nodes, manual: o.Manual})
	if err := d.loadChanges(); err != nil {
		d.log.Warn("the last failover is not known", "error", err)
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
	d.status() // notes since when the group is as it is
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
	d.count(e)
	d.tell()
	d.mu.Unlock()
	d.events.add(e)
}

// Wait returns the first status for which ok holds, or the newest one and ctx's error.
func (d *Dashboard) Wait(ctx context.Context, ok func(cluster.Status) bool) (cluster.Status, error) {
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

// Handler serves /healthz, /metrics, /api/status, /api/explain, /api/events, /api/switchover and
// /api/failover.
func (d *Dashboard) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", d.serveHealth)
	mux.HandleFunc("GET /api/status", d.serveStatus)
	mux.HandleFunc("GET /api/explain", d.serveExplain)
	mux.HandleFunc("GET /api/events", d.serveEvents)
	if d.opts.Tap != nil {
		mux.Handle("GET /api/tap", d.opts.Tap)
	}
	mux.HandleFunc("POST /api/switchover", d.serveSwitchover)
	mux.HandleFunc("POST /api/failover", d.serveFailover)
	mux.Handle("GET /metrics", promhttp.HandlerFor(d.opts.Metrics, promhttp.HandlerOpts{}))
	// A page that an operator's browser happens to show must not be able to fail the group over.
	return http.NewCrossOriginProtection().Handler(mux)
}

// Run keeps what must outlive the process until ctx ends.
func (d *Dashboard) Run(ctx context.Context) { d.keepChanges(ctx) }

// Serve answers on l until ctx ends; then answers under way get a moment.
func Serve(ctx context.Context, l net.Listener, h http.Handler, log *slog.Logger) error {
	server := &http.Server{
		Handler: h, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute,
		MaxHeaderBytes: 16 << 10, BaseContext: func(net.Listener) context.Context { return ctx },
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
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
