package fleet

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	redigo "github.com/gomodule/redigo/redis"
	"github.com/prometheus/client_golang/prometheus"

	"understudy/cluster"
	"understudy/dashboard"
	"understudy/etcd"
	"understudy/proxy"
	"understudy/redis"
	"understudy/rpc"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == redis.FencerArg {
		os.Exit(redis.FencerMain(os.Stdin))
	}
	os.Exit(m.Run())
}

// patience bounds every wait.
const patience = 30 * time.Second

// house is a process with a fleet in it: store, fencer and rpc are real.
type house struct {
	t      *testing.T
	opts   Options
	events []string
	mu     sync.Mutex
}

func newHouse(t *testing.T) *house {
	t.Helper()
	h := &house{t: t}
	dir, err := os.MkdirTemp("", "us")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	binary, err := redis.FindServer(t.Context(), "")
	if err != nil {
		t.Skip(err)
	}
	fencer, err := redis.StartFencer(redis.FencerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	store, err := etcd.StartEmbedded(t.Context(), etcd.EmbedOptions{Dir: filepath.Join(dir, "store")})
	if err != nil {
		t.Fatal(err)
	}
	server, at := rpc.NewServer(rpc.ServerOptions{}), rpc.Unix(filepath.Join(dir, "rpc.sock"))
	l, err := rpc.Listen(t.Context(), at, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- server.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		bound, end := context.WithTimeout(context.Background(), patience)
		defer end()
		if err := errors.Join(<-served, store.Stop(bound), fencer.Stop(bound)); err != nil {
			t.Error(err)
		}
	})
	began := time.Now()
	h.opts = Options{
		Dir: filepath.Join(dir, "data"), Sockets: dir, Binary: binary, Store: store.Store(), Fencer: fencer, RPC: server, RPCAddr: at,
		Clock:   func() time.Duration { return time.Since(began) },
		Metrics: dashboard.NewRegistries(prometheus.NewRegistry()), Pages: new(dashboard.Pages), HTTP: "127.0.0.1:1",
		OnEvent: func(e cluster.Event) {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.events = append(h.events, e.Name+" "+string(e.Node))
		},
	}
	h.opts.Open = h.define
	return h
}

// define makes the endpoints of a group.
func (h *house) define(spec cluster.Spec) (Definition, error) {
	registry, end := h.opts.Metrics.Add("proxy " + spec.Name)
	p, err := proxy.New(proxy.Options{Group: spec.Name, Primary: spec.Listen.Primary, Reader: spec.Listen.Reader, Clock: h.opts.Clock, Metrics: registry})
	return Definition{Spec: spec, Proxy: p, EndMetrics: end}, err
}

// spec is a group of so many nodes on any free ports.
func spec(name string, nodes int) cluster.Spec {
	s := cluster.Spec{Name: name, Durability: cluster.DurabilitySync, Profile: "fast", Listen: cluster.Endpoints{Primary: "127.0.0.1:0", Reader: "127.0.0.1:0"}}
	for i := range nodes {
		s.Nodes = append(s.Nodes, cluster.NodePlace{ID: cluster.NodeName(name, i+1), Zone: string(rune('a' + i))})
	}
	return s
}

// run runs a fleet until the returned func is called, or the test ends.
func (h *house) run() (*Fleet, func()) {
	h.t.Helper()
	f, err := New(h.opts)
	if err != nil {
		h.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	stop := sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			h.t.Error(err)
		}
	})
	h.t.Cleanup(stop)
	return f, stop
}

func (h *house) add(f *Fleet, s cluster.Spec) *Group {
	h.t.Helper()
	d, err := h.define(s)
	if err != nil {
		h.t.Fatal(err)
	}
	g, err := f.Add(h.t.Context(), d)
	if err != nil {
		h.t.Fatal(err)
	}
	return g
}

// whole waits until the group has so many nodes, all of them ready.
func (h *house) whole(g *Group, nodes int) cluster.Status {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), patience)
	defer cancel()
	s, err := g.Wait(ctx, func(s cluster.Status) bool { return s.State == cluster.GroupAvailable && len(s.Nodes) == nodes })
	if err != nil {
		h.t.Fatalf("group %s is not whole: %+v", g.Name(), s)
	}
	return s
}

func (h *house) client(addr string) redigo.Conn {
	h.t.Helper()
	c, err := redigo.Dial("tcp", addr, redigo.DialReadTimeout(patience))
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = c.Close() })
	return c
}

func (h *house) do(c redigo.Conn, command string, args ...any) any {
	h.t.Helper()
	reply, err := c.Do(command, args...)
	if err != nil {
		h.t.Fatalf("%s: %v", command, err)
	}
	return reply
}

// load counts up over one connection until the returned func is called, which says how far it came.
func (h *house) load(addr, key string) func() int {
	c := h.client(addr)
	stop, done := make(chan struct{}), make(chan int)
	go func() {
		n := 0
		defer func() { done <- n }()
		for {
			select {
			case <-stop:
				return
			default:
			}
			got, err := redigo.Int(c.Do("INCR", key))
			if err != nil || got != n+1 {
				h.t.Errorf("INCR %s: %d after %d, %v", key, got, n, err)
				return
			}
			n = got
		}
	}()
	return func() int { close(stop); return <-done }
}

func TestGroupsComeAndGoBesideOneAnother(t *testing.T) {
	h := newHouse(t)
	f, _ := h.run()
	one := h.add(f, spec("one", 2))
	h.whole(one, 2)
	count := h.load(one.Addrs().Primary, "n")
	two := h.add(f, spec("two", 2))
	h.whole(two, 2)
	h.do(h.client(two.Addrs().Primary), "SET", "k", "v")
	if n := h.do(h.client(one.Addrs().Primary), "EXISTS", "k").(int64); n != 0 {
		t.Error("what was written to one group is in the other")
	}
	d, err := h.define(spec("two", 2))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Add(t.Context(), d); !errors.Is(err, ErrExists) {
		t.Errorf("a second group of that name: %v", err)
	}
	if err := f.Remove(t.Context(), "two"); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Group("two"); !errors.Is(err, ErrNoGroup) {
		t.Errorf("the removed group: %v", err)
	}
	for _, path := range []string{"nodes/two-001", "nodes/two-002", "groups/two"} {
		if _, err := os.Stat(filepath.Join(h.opts.Dir, path)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is left: %v", path, err)
		}
	}
	entries, _, err := h.opts.Store.List(t.Context(), cluster.GroupsPrefix+"two/")
	if err != nil || len(entries) > 0 {
		t.Errorf("the store still has %v, %v", entries, err)
	}
	if err := f.Remove(t.Context(), "two"); err != nil {
		t.Errorf("removed again: %v", err)
	}
	if n := count(); n == 0 {
		t.Error("the other group served nobody")
	}
}

func TestNodesComeAndGoUnderLoadWithoutAnError(t *testing.T) {
	h := newHouse(t)
	f, _ := h.run()
	g := h.add(f, spec("main", 2))
	first := h.whole(g, 2)
	count := h.load(g.Addrs().Primary, "n")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := g.Grow(ctx, cluster.NodePlace{ID: "main-003", Zone: "c"}, cluster.NodePlace{ID: "main-004", Zone: "a"}); err != nil {
		t.Fatal(err)
	}
	h.whole(g, 4)
	if err := g.Shrink(ctx, first.Primary); !errors.Is(err, ErrPrimary) {
		t.Errorf("the primary goes: %v", err)
	}
	goes := cluster.NodeID("main-002")
	if first.Primary == goes {
		goes = "main-001"
	}
	if err := g.Shrink(ctx, goes, "main-003"); err != nil {
		t.Fatal(err)
	}
	s := h.whole(g, 2)
	if s.Epoch != first.Epoch {
		t.Errorf("the primary changed: epoch %d, and %d before", s.Epoch, first.Epoch)
	}
	if err := g.Reboot(ctx, s.Primary); err != nil {
		t.Fatal(err)
	}
	s = h.whole(g, 2)
	n := count()
	if got, err := redigo.Int(h.client(g.Addrs().Primary).Do("GET", "n")); err != nil || got != n {
		t.Errorf("%d were counted, and %d is there: %v", n, got, err)
	}
	t.Logf("%d increments, epoch %d: %s", n, s.Epoch, fmt.Sprint(h.events))
}

func TestAGroupIsThereAgainAsItWasChanged(t *testing.T) {
	h := newHouse(t)
	f, stop := h.run()
	g := h.add(f, spec("main", 2))
	h.whole(g, 2)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := g.Grow(ctx, cluster.NodePlace{ID: "main-003", Zone: "c"}); err != nil {
		t.Fatal(err)
	}
	h.whole(g, 3)
	if err := g.SetManual(ctx, true); err != nil {
		t.Fatal(err)
	}
	h.do(h.client(g.Addrs().Primary), "SET", "k", "v")
	stop()
	f, _ = h.run()
	for {
		if g, err := f.Group("main"); err == nil {
			s := h.whole(g, 3)
			if got, _ := redigo.String(h.client(g.Addrs().Primary).Do("GET", "k")); got != "v" || !g.Spec().Manual {
				t.Errorf("it has %q, automatic failover off: %v, %+v", got, g.Spec().Manual, s)
			}
			return
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			t.Fatal("the group is not there again")
		}
	}
}
