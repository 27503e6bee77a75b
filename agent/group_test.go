package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	redigo "github.com/gomodule/redigo/redis"

	"understudy/cluster"
	"understudy/etcd"
	"understudy/failover"
	"understudy/redis"
	"understudy/rpc"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == redis.FencerArg {
		os.Exit(redis.FencerMain(os.Stdin))
	}
	os.Exit(m.Run())
}

// patience bounds every wait for the group.
const patience = 15 * time.Second

// group is three agents over real redis-servers, an embedded store and a fencer, in this process.
type group struct {
	t      *testing.T
	dir    string
	began  time.Time
	store  cluster.Store
	fencer *redis.Fencer
	binary redis.Binary
	nodes  []failover.Peer
	config map[string]string
	bootID string // file; "": the kernel's
	secret string
	tls    *TLSOptions
	rpc    *rpc.Server
	at     string // where rpc answers

	requests int
	adopted  map[cluster.NodeID]*redis.AdoptOptions // nil: the agents run their own servers

	agents map[cluster.NodeID]*Agent
	stops  map[cluster.NodeID]func() error

	mu     sync.Mutex
	last   map[cluster.NodeID]cluster.NodeStatus
	served map[cluster.NodeID]time.Time // when the node last began to lead with a permit
	lost   map[cluster.NodeID]time.Time // when it last ceased to
	events []cluster.Event
	newer  chan struct{}
}

// groupOptions change what newGroup makes.
type groupOptions struct {
	dir    string
	wrap   func(cluster.Store) cluster.Store
	config map[string]string

	bootIDFile string
	secret     string
	tls        *TLSOptions
}

// newGroup prepares a group and starts no agent yet.
func newGroup(t *testing.T, o groupOptions) *group {
	t.Helper()
	g := &group{
		t: t, dir: o.dir, began: time.Now(), config: o.config, bootID: o.bootIDFile, secret: o.secret, tls: o.tls, newer: make(chan struct{}),
		agents: map[cluster.NodeID]*Agent{}, stops: map[cluster.NodeID]func() error{}, last: map[cluster.NodeID]cluster.NodeStatus{},
		served: map[cluster.NodeID]time.Time{}, lost: map[cluster.NodeID]time.Time{},
	}
	if g.dir == "" {
		g.dir = shortDir(t)
	}
	var err error
	if g.binary, err = redis.FindServer(t.Context(), ""); err != nil {
		t.Skip(err)
	}
	if g.fencer, err = redis.StartFencer(redis.FencerOptions{}); err != nil {
		t.Fatal(err)
	}
	stopRPC := g.serveRPC()
	e, err := etcd.StartEmbedded(t.Context(), etcd.EmbedOptions{Dir: filepath.Join(g.dir, "store")})
	if err != nil {
		t.Fatal(err)
	}
	g.store = e.Store()
	if o.wrap != nil {
		g.store = o.wrap(g.store)
	}
	t.Cleanup(func() {
		if t.Failed() {
			g.dump()
		}
		for _, stop := range g.stops {
			_ = stop()
		}
		stopRPC()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := e.Stop(ctx); err != nil {
			t.Error(err)
		}
		if err := g.fencer.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	for i, zone := range []string{"a", "b", "c"} {
		id := cluster.NodeID(fmt.Sprintf("main-%03d", i+1))
		g.nodes = append(g.nodes, failover.Peer{Node: id, Zone: zone})
	}
	return g
}

// serveRPC answers for all agents on one socket until the returned func is called.
func (g *group) serveRPC() func() {
	g.t.Helper()
	g.rpc, g.at = rpc.NewServer(rpc.ServerOptions{}), rpc.Unix(filepath.Join(g.dir, "rpc.sock"))
	l, err := rpc.Listen(g.t.Context(), g.at, nil)
	if err != nil {
		g.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- g.rpc.Serve(ctx, l) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			g.t.Error(err)
		}
	}
}

// shortDir is a directory whose path leaves room for a unix socket's name.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "us")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// startGroup starts a group and waits until every node is ready.
func startGroup(t *testing.T, o groupOptions) *group {
	t.Helper()
	g := newGroup(t, o)
	for _, n := range g.nodes {
		g.start(n.Node)
	}
	g.waitReady()
	return g
}

func (g *group) clock() time.Duration { return time.Since(g.began) }

// start runs one agent.
func (g *group) start(id cluster.NodeID) {
	g.t.Helper()
	p, err := failover.ProfileByName("fast")
	if err != nil {
		g.t.Fatal(err)
	}
	o := Options{
		Group: "main", Nodes: g.nodes, Durability: cluster.DurabilitySync, Profile: p, Dir: filepath.Join(g.dir, string(id)),
		Binary: g.binary, Config: g.config, Secret: g.secret, TLS: g.tls, Store: g.store, RPC: g.rpc, Fencer: g.fencer, BootIDFile: g.bootID,
		Peers: func(cluster.NodeID) string { return g.at },
		Clock: g.clock, OnStatus: g.onStatus, OnEvent: g.onEvent,
	}
	o.Adopt = g.adopted[id]
	for _, n := range g.nodes {
		if n.Node == id {
			o.Self = n
		}
	}
	if os.Getenv("AGENT_LOG") != "" {
		o.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	a, err := New(o)
	if err != nil {
		g.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	g.agents[id] = a
	g.stops[id] = sync.OnceValue(func() error {
		cancel()
		return <-done
	})
}

func (g *group) onStatus(_ time.Duration, s cluster.NodeStatus) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if leads, led := s.Leads && s.Permit > 0, g.last[s.Node]; leads && !(led.Leads && led.Permit > 0) {
		g.served[s.Node] = time.Now()
		if s.Addr == "" || s.Socket == "" && g.adopted == nil || s.Fork.ReplID == "" || len(s.Rules) == 0 || s.Role != cluster.RolePrimary {
			g.t.Errorf("a permit begins without what a proxy needs: %+v", s)
		}
	} else if !leads && led.Leads {
		g.lost[s.Node] = time.Now()
	}
	g.last[s.Node] = s
	close(g.newer)
	g.newer = make(chan struct{})
}

func (g *group) onEvent(e cluster.Event) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.events = append(g.events, e)
}

// wait returns when the condition on the newest statuses holds; what says it in an error.
func (g *group) wait(what string, ok func(map[cluster.NodeID]cluster.NodeStatus) bool) {
	g.t.Helper()
	limit := time.After(patience)
	for {
		g.mu.Lock()
		holds, newer := ok(g.last), g.newer
		g.mu.Unlock()
		if holds {
			return
		}
		select {
		case <-newer:
		case <-limit:
			g.t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// hasEvent reports whether some node has told of it.
func (g *group) hasEvent(name string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.ContainsFunc(g.events, func(e cluster.Event) bool { return e.Name == name })
}

func (g *group) waitEvent(name string) {
	g.t.Helper()
	waitUntil(g.t, "event "+name, func() bool { return g.hasEvent(name) })
}

func (g *group) forgetEvents() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.events = nil
}

// leader returns who may accept writes; "" when nobody may.
func leader(last map[cluster.NodeID]cluster.NodeStatus) cluster.NodeID {
	for id, s := range last {
		if s.Leads && s.Permit > 0 {
			return id
		}
	}
	return ""
}

// waitReady waits until one node leads, all others are ready replicas and the rule counts them.
func (g *group) waitReady() cluster.NodeID {
	g.t.Helper()
	var primary cluster.NodeID
	g.wait("a primary and every other node a ready replica of it", func(last map[cluster.NodeID]cluster.NodeStatus) bool {
		primary = leader(last)
		for _, n := range g.nodes {
			s := last[n.Node]
			if s.State != cluster.StateReady || s.Epoch != last[primary].Epoch || n.Node != primary && !s.Electable {
				return false
			}
		}
		return primary != "" && len(last[primary].Rules) == 1 && len(last[primary].Rules[0].Voters) == len(g.nodes)-1
	})
	return primary
}

// waitNewPrimary waits until another node than the old one may accept writes.
func (g *group) waitNewPrimary(old cluster.NodeID) cluster.NodeID {
	g.t.Helper()
	var primary cluster.NodeID
	g.wait(fmt.Sprintf("another primary than %s", old), func(last map[cluster.NodeID]cluster.NodeStatus) bool {
		primary = leader(last)
		return primary != "" && primary != old
	})
	return primary
}

func (g *group) status(id cluster.NodeID) cluster.NodeStatus {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.last[id]
}

// servedAt is when the node last began to lead with a permit.
func (g *group) servedAt(id cluster.NodeID) time.Time {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.served[id]
}

// lostAt is when the node last ceased to lead.
func (g *group) lostAt(id cluster.NodeID) time.Time {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.lost[id]
}

// stopAll stops every agent at once and returns how long that took.
func (g *group) stopAll() time.Duration {
	g.t.Helper()
	began := time.Now()
	var wg sync.WaitGroup
	for id, stop := range g.stops {
		wg.Go(func() {
			if err := stop(); err != nil {
				g.t.Errorf("stop %s: %v", id, err)
			}
		})
	}
	wg.Wait()
	g.mu.Lock()
	defer g.mu.Unlock()
	clear(g.last)
	return time.Since(began)
}

// replicas are the nodes that do not lead.
func (g *group) replicas(primary cluster.NodeID) []cluster.NodeID {
	var ids []cluster.NodeID
	for _, n := range g.nodes {
		if n.Node != primary {
			ids = append(ids, n.Node)
		}
	}
	return ids
}

// forget takes a node's data set away.
func (g *group) forget(id cluster.NodeID) {
	g.t.Helper()
	if err := os.RemoveAll(filepath.Join(g.dir, string(id), "redis", "appendonlydir")); err != nil {
		g.t.Fatal(err)
	}
}

// lead is the record in the store.
func (g *group) lead() cluster.Lead {
	g.t.Helper()
	entries, _, err := g.store.List(g.t.Context(), cluster.LeadKey("main"))
	if err != nil || len(entries) != 1 {
		g.t.Fatalf("the lead: %v, %v", entries, err)
	}
	var l cluster.Lead
	if err := json.Unmarshal(entries[0].Value, &l); err != nil {
		g.t.Fatal(err)
	}
	return l
}

// signal sends a signal to a node's redis-server and returns when it was sent.
func (g *group) signal(id cluster.NodeID, sig syscall.Signal) time.Time {
	g.t.Helper()
	at := time.Now()
	if err := syscall.Kill(g.status(id).PID, sig); err != nil {
		g.t.Fatal(err)
	}
	return at
}

// switchover has the primary hand over, and returns when the request that was not refused was made:
// a primary that leads since a moment ago does not know its replicas yet.
func (g *group) switchover(primary cluster.NodeID) time.Time {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(g.t.Context(), patience)
	defer cancel()
	for {
		g.mu.Lock()
		newer := g.newer
		g.mu.Unlock()
		g.requests++
		at := time.Now()
		r, err := g.agents[primary].Request(ctx, failover.Request{ID: fmt.Sprintf("request-%d", g.requests), Kind: failover.RequestSwitchover})
		switch {
		case err != nil:
			g.t.Fatal(err)
		case r.OK:
			return at
		case !r.Refused:
			g.t.Fatal(r.Message)
		}
		select {
		case <-newer:
		case <-ctx.Done():
			g.t.Fatalf("still refused: %s", r.Message)
		}
	}
}

// dial connects to a node's redis-server.
func (g *group) dial(id cluster.NodeID) redigo.Conn {
	g.t.Helper()
	l := g.agents[id].login()
	network, place := "unix", l.Socket
	if place == "" {
		network, place = "tcp", l.Addr
	}
	c, err := redigo.Dial(network, place, redigo.DialPassword(l.Password), redigo.DialUsername(l.User), redigo.DialReadTimeout(5*time.Second), redigo.DialWriteTimeout(5*time.Second))
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { _ = c.Close() })
	return c
}

// do runs one command on a node's redis-server.
func (g *group) do(id cluster.NodeID, command string, args ...any) string {
	g.t.Helper()
	c := g.dial(id)
	defer c.Close()
	reply, err := c.Do(command, args...)
	if err != nil {
		g.t.Fatalf("%s on %s: %v", command, id, err)
	}
	if text, ok := reply.([]byte); ok {
		return string(text)
	}
	return fmt.Sprint(reply)
}

// set writes a key on the primary and waits until a replica holds it.
func (g *group) set(primary cluster.NodeID, key, value string) {
	g.t.Helper()
	c := g.dial(primary)
	defer c.Close()
	if _, err := c.Do("SET", key, value); err != nil {
		g.t.Fatalf("SET on %s: %v", primary, err)
	}
	if n, err := redigo.Int(c.Do("WAIT", 1, 2000)); err != nil || n < 1 {
		g.t.Fatalf("WAIT on %s: %d, %v", primary, n, err)
	}
}

func (g *group) fullSyncs() int {
	g.t.Helper()
	total := 0
	for _, n := range g.nodes {
		total += infoField(g.t, g.do(n.Node, "INFO", "stats"), "sync_full")
	}
	return total
}

func infoField(t *testing.T, info, name string) int {
	t.Helper()
	_, rest, ok := strings.Cut(info, "\r\n"+name+":")
	var n int
	if _, err := fmt.Sscan(rest, &n); !ok || err != nil {
		t.Fatalf("INFO has no %s", name)
	}
	return n
}

// phases returns what the newest event with phases says.
func (g *group) phases() map[string]float64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, e := range slices.Backward(g.events) {
		if len(e.Phases) > 0 {
			return e.Phases
		}
	}
	return nil
}

func (g *group) dump() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, e := range g.events[max(0, len(g.events)-40):] {
		g.t.Logf("%s %s epoch %d %s: %s %v", e.Time.Format("05.000"), e.Node, e.Epoch, e.Name, e.Message, e.Phases)
	}
	for _, n := range g.nodes {
		g.t.Logf("%+v", g.last[n.Node])
	}
}

// report logs the spread of some durations, and the worst few of the phases.
func report(t *testing.T, what string, took []time.Duration) (p50, p99, worst time.Duration) {
	t.Helper()
	slices.Sort(took)
	p50, p99, worst = took[len(took)/2], took[min(len(took)-1, len(took)*99/100)], took[len(took)-1]
	t.Logf("%s, %d times: p50 %.1f ms, p99 %.1f ms, max %.1f ms", what, len(took),
		p50.Seconds()*1000, p99.Seconds()*1000, worst.Seconds()*1000)
	return p50, p99, worst
}
