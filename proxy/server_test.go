package proxy

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	goredis "github.com/redis/go-redis/v9"

	"understudy/cluster"
	"understudy/redis"
)

// node is a real redis-server with what an agent would say of it.
type node struct {
	id     cluster.NodeID
	server *redis.Server
	client *goredis.Client // straight to the server
	status cluster.NodeStatus
}

func startNode(t testing.TB, id cluster.NodeID) *node { return launchNode(t, id, "") }

// launchNode starts a node; with a secret it lets only those in who know that.
func launchNode(t testing.TB, id cluster.NodeID, secret string) *node {
	t.Helper()
	bin, err := redis.FindServer(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	dir := t.TempDir()
	s, err := redis.Start(redis.ServerOptions{
		Binary: bin, Dir: dir, Host: "127.0.0.1", Port: port, Socket: filepath.Join(dir, "s"), ReplicaOf: "127.0.0.1:1",
		Config: map[string]string{"appendonly": "no"}, Secret: secret,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Kill() })
	options := &goredis.Options{Addr: s.Addr(), MaxRetries: -1, Protocol: 2}
	if secret != "" {
		options.Username, options.Password = redis.SecretUser, secret
	}
	n := &node{id: id, server: s, client: goredis.NewClient(options)}
	t.Cleanup(func() { _ = n.client.Close() })
	eventually(t, string(id)+" answers", func() bool { return n.client.Ping(context.Background()).Err() == nil })
	n.status = cluster.NodeStatus{Group: "g", Node: id, Zone: "z", Nodes: 3, Addr: s.Addr(), Socket: filepath.Join(dir, "s"),
		Role: cluster.RoleReplica, State: cluster.StateReady}
	return n
}

// replicaOf points the server at another one and waits for the link.
func (n *node) replicaOf(t testing.TB, p *node) {
	t.Helper()
	n.replicaOfAddr(t, p.server.Addr())
}

func (n *node) replicaOfAddr(t testing.TB, addr string) {
	t.Helper()
	host, port, _ := net.SplitHostPort(addr)
	must(t, n.client.ReplicaOf(context.Background(), host, port).Err())
	eventually(t, string(n.id)+" follows", func() bool {
		v, _ := n.client.Do(context.Background(), "ROLE").Slice()
		return len(v) == 5 && v[3] == "connected"
	})
}

func (n *node) promote(t testing.TB) {
	t.Helper()
	must(t, n.client.ReplicaOf(context.Background(), "NO", "ONE").Err())
}

// group is what agents would tell a proxy of some nodes.
type group struct {
	t       testing.TB
	proxy   *Proxy
	start   time.Time
	metrics *prometheus.Registry
	mu      sync.Mutex
	said    map[cluster.NodeID]cluster.NodeStatus
}

func (g *group) clock() time.Duration { return time.Since(g.start) + time.Hour }

func startProxy(t testing.TB, change func(*Options)) *group {
	t.Helper()
	g := &group{t: t, start: time.Now(), metrics: prometheus.NewRegistry(), said: map[cluster.NodeID]cluster.NodeStatus{}}
	o := Options{Group: "g", Zone: "z", Primary: "127.0.0.1:0", Reader: "127.0.0.1:0", Split: "127.0.0.1:0", Clock: g.clock, Metrics: g.metrics}
	if change != nil {
		change(&o)
	}
	p, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	g.proxy = p
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	var agents sync.WaitGroup
	agents.Go(func() { g.repeat(ctx) })
	t.Cleanup(func() {
		cancel()
		agents.Wait()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return g
}

// repeat says again what replicas said last, as agents do: one that is silent for 2 s is not read from, and a
// slow machine makes a test as long as that. The primary's word holds for its permit.
func (g *group) repeat(ctx context.Context) {
	again := time.NewTicker(500 * time.Millisecond)
	defer again.Stop()
	for {
		select {
		case <-again.C:
		case <-ctx.Done():
			return
		}
		g.mu.Lock()
		for _, s := range g.said {
			if !s.Leads {
				g.proxy.Learn(g.clock(), s)
			}
		}
		g.mu.Unlock()
	}
}

// lead says that n is the primary of an epoch and may accept writes for a long time.
func (g *group) lead(n *node, epoch cluster.Epoch, change func(*cluster.NodeStatus)) {
	s := n.status
	s.Role, s.Leads, s.Epoch, s.Permit = cluster.RolePrimary, true, epoch, time.Hour
	if change != nil {
		change(&s)
	}
	g.say(s)
}

func (g *group) say(s cluster.NodeStatus) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.said[s.Node] = s
	g.proxy.Learn(g.clock(), s)
}

// fence says that n may not accept writes any more.
func (g *group) fence(n *node) {
	g.mu.Lock()
	s := g.said[n.id]
	g.mu.Unlock()
	s.Leads, s.Permit, s.Role, s.State = false, 0, cluster.RoleReplica, cluster.StateFenced
	g.say(s)
}

func dialRedis(t testing.TB, addr string, proto int) *goredis.Client {
	c := goredis.NewClient(&goredis.Options{Addr: addr, MaxRetries: -1, Protocol: proto, ReadTimeout: 20 * time.Second})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within 10 s", what)
		}
	}
}

func syncRule(voters ...cluster.NodeID) func(*cluster.NodeStatus) {
	return func(s *cluster.NodeStatus) {
		s.Durability = cluster.DurabilitySync
		s.Rules = []cluster.Rule{cluster.NewRule(cluster.DurabilitySync, voters)}
	}
}

func key(i int) string { return fmt.Sprintf("key:%s", strconv.Itoa(i)) }

// metric is the sum of one metric's values.
func (g *group) metric(name string) (sum float64) {
	g.t.Helper()
	families, err := g.metrics.Gather()
	must(g.t, err)
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			sum += m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	return sum
}

// freeze stops the server as a machine that hangs does: its connections stay, and nothing is answered.
func (n *node) freeze(t testing.TB) {
	t.Helper()
	must(t, syscall.Kill(n.server.PID(), syscall.SIGSTOP))
	t.Cleanup(func() { _ = syscall.Kill(n.server.PID(), syscall.SIGCONT) })
}

func (n *node) thaw(t testing.TB) {
	t.Helper()
	must(t, syscall.Kill(n.server.PID(), syscall.SIGCONT))
}
