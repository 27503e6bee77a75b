package e2e

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"understudy/cluster"
	"understudy/proxy"
	server "understudy/redis"
	"understudy/upstream"
)

// The proxy before a Redis that somebody else fails over: an operator, or Redis Sentinel.

// upstreamHold is longer than any failover of Sentinel with the settings below, on a busy machine too.
const upstreamHold = 30 * time.Second

// foreign is a redis-server that Understudy neither watches over nor fails over.
type foreign struct {
	*server.Server
	t      *testing.T
	dir    string
	direct *redis.Client
}

func startForeign(t *testing.T, port string) *foreign {
	t.Helper()
	bin, err := server.FindServer(t.Context(), "")
	if err != nil {
		t.Skip(err)
	}
	dir, err := os.MkdirTemp("", "foreign-") // t.TempDir is too long for a unix socket
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	number, err := strconv.Atoi(port)
	must(t, err)
	s, err := server.Start(server.ServerOptions{Binary: bin, Dir: dir, Host: "127.0.0.1", Port: number, Socket: filepath.Join(dir, "s"), ReplicaOf: "127.0.0.1:1",
		Config: map[string]string{"appendonly": "no"}})
	must(t, err)
	t.Cleanup(func() { _ = s.Kill() })
	f := &foreign{s, t, dir, redis.NewClient(&redis.Options{Network: "unix", Addr: filepath.Join(dir, "s"), MaxRetries: -1})}
	t.Cleanup(func() { _ = f.direct.Close() })
	waitUntil(t, "a redis-server answers", func() bool { return f.direct.Ping(t.Context()).Err() == nil })
	return f
}

// foreigners are a primary and two replicas whose links are up.
func foreigners(t *testing.T) (a, b, c *foreign) {
	t.Helper()
	ports := unusedPorts(t, 3)
	a, b, c = startForeign(t, ports[0]), startForeign(t, ports[1]), startForeign(t, ports[2])
	must(t, a.direct.ReplicaOf(t.Context(), "NO", "ONE").Err())
	for _, r := range []*foreign{b, c} {
		r.follow(a)
		waitUntil(t, "a replica's link is up", func() bool {
			text, err := r.direct.Info(t.Context(), "replication").Result()
			return err == nil && strings.Contains(text, "master_link_status:up")
		})
	}
	return a, b, c
}

func (f *foreign) follow(p *foreign) {
	f.t.Helper()
	host, port, err := net.SplitHostPort(p.Addr())
	must(f.t, err, f.direct.ReplicaOf(f.t.Context(), host, port).Err())
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// proxyAddrs are the endpoints of a process, as those of a Proxy.
func proxyAddrs(p *outpost) proxy.Addrs {
	return proxy.Addrs{Primary: p.Primary, Reader: p.Reader, Split: p.Split}
}

func waitUntil(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(upstreamHold); !ok(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("%s: not within %v", what, upstreamHold)
		}
	}
}

func unusedPorts(t *testing.T, n int) []string {
	t.Helper()
	var ports []string
	var open []net.Listener
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		must(t, err)
		open = append(open, l)
		_, port, _ := net.SplitHostPort(l.Addr().String())
		ports = append(ports, port)
	}
	for _, l := range open {
		must(t, l.Close())
	}
	return ports
}

// logged is the time of the first line with the text in a log of redis-server's kind; false: there is none.
func logged(t *testing.T, path, text string) (time.Time, bool) {
	t.Helper()
	all, err := os.ReadFile(path)
	must(t, err)
	for line := range strings.Lines(string(all)) {
		if f := strings.Fields(line); len(f) > 5 && strings.Contains(line, text) { // 123:X 25 Nov 2026 07:35:16.123 * …
			at, err := time.ParseInLocation("2 Jan 2006 15:04:05.000", strings.Join(f[1:5], " "), time.Local)
			must(t, err)
			return at, true
		}
	}
	return time.Time{}, false
}

// watch is three sentinels that watch a primary.
type watch struct{ addrs, logs []string }

// asked is when the log of a sentinel first says that it asked a replica to be the primary.
func (w watch) asked(t *testing.T) time.Time {
	t.Helper()
	for _, path := range w.logs {
		if at, ok := logged(t, path, "+failover-state-wait-promotion"); ok {
			return at
		}
	}
	t.Fatal("no sentinel asked a replica to be the primary")
	return time.Time{}
}

// watchOver has three sentinels watch the primary, and returns once they know all.
func watchOver(t *testing.T, primary *foreign) watch {
	t.Helper()
	path, err := exec.LookPath("redis-sentinel")
	if err != nil {
		t.Skip("redis-sentinel is not installed: apt install redis-sentinel")
	}
	host, port, _ := net.SplitHostPort(primary.Addr())
	var w watch
	for _, own := range unusedPorts(t, 3) {
		dir := t.TempDir()
		conf := filepath.Join(dir, "sentinel.conf")
		must(t, os.WriteFile(conf, fmt.Appendf(nil, `bind 127.0.0.1
port %s
dir %s
logfile %s/log
sentinel monitor shop %s %s 2
sentinel down-after-milliseconds shop 500
sentinel failover-timeout shop 3000
`, own, dir, dir, host, port), 0o600))
		cmd := exec.Command(path, conf)
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
		must(t, cmd.Start())
		t.Cleanup(func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		})
		w.addrs, w.logs = append(w.addrs, "127.0.0.1:"+own), append(w.logs, filepath.Join(dir, "log"))
	}
	for _, addr := range w.addrs {
		c := redis.NewSentinelClient(&redis.Options{Addr: addr, MaxRetries: -1})
		waitUntil(t, "sentinel "+addr+" knows all", func() bool {
			m, err := c.Master(t.Context(), "shop").Result()
			return err == nil && m["num-other-sentinels"] == "2" && m["num-slaves"] == "2" && m["flags"] == "master"
		})
		must(t, c.Close())
	}
	return w
}

// renamed is when one of the sentinels first names another primary than not.
func renamed(ctx context.Context, addrs []string, not string) <-chan time.Time {
	said := make(chan time.Time, len(addrs))
	for _, addr := range addrs {
		go func() {
			c := redis.NewSentinelClient(&redis.Options{Addr: addr, MaxRetries: -1})
			defer c.Close()
			for ; ctx.Err() == nil; time.Sleep(2 * time.Millisecond) {
				if at, err := c.GetMasterAddrByName(ctx, "shop").Result(); err == nil && net.JoinHostPort(at[0], at[1]) != not {
					said <- time.Now()
					return
				}
			}
		}()
	}
	return said
}

// before runs a proxy that learns from a watcher, until the test ends.
func before(t *testing.T, o upstream.Options) proxy.Addrs {
	t.Helper()
	start := time.Now()
	clock := func() time.Duration { return time.Since(start) + time.Hour }
	p, err := proxy.New(proxy.Options{Group: "shop", Primary: "127.0.0.1:0", Reader: "127.0.0.1:0", Hold: upstreamHold, Clock: clock})
	must(t, err)
	var mu sync.Mutex
	var events []cluster.Event
	o.Group, o.Clock, o.OnStatus = "shop", clock, p.Learn
	o.OnEvent = func(e cluster.Event) {
		mu.Lock()
		defer mu.Unlock()
		events = append(events, e)
	}
	w, err := upstream.New(o)
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 2)
	go func() { done <- p.Run(ctx) }()
	go func() { done <- w.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		must(t, <-done, <-done)
		for _, e := range events {
			t.Logf("%s epoch %d %s: %s", e.Time.Format("05.000"), e.Epoch, e.Name, e.Message)
		}
	})
	return p.Addrs()
}

// shoppers are clients with one connection each and no retries, that do what may be done twice.
type shoppers struct {
	t       *testing.T
	stop    context.CancelFunc
	running sync.WaitGroup

	mu     sync.Mutex
	errors []string
	acked  int
	last   time.Time     // of an acked write
	gap    time.Duration // the longest time without one
	reads  int
}

// pace is how often each client does something.
const shopperPace = 2 * time.Millisecond

func shop(t *testing.T, addrs proxy.Addrs, clients int) *shoppers {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	s := &shoppers{t: t, stop: cancel, last: time.Now()}
	t.Cleanup(func() {
		cancel()
		s.running.Wait()
	})
	for i := range clients {
		s.running.Go(func() { s.run(ctx, addrs.Primary, i, s.write) })
	}
	s.running.Go(func() { s.run(ctx, addrs.Reader, 0, s.read) })
	waitUntil(t, "clients are served", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.acked > 100 && s.reads > 10
	})
	return s
}

func (s *shoppers) run(ctx context.Context, addr string, id int, step func(ctx context.Context, c *redis.Client, id, n int) error) {
	// A client that waits for as long as the proxy holds.
	c := redis.NewClient(&redis.Options{Addr: addr, MaxRetries: -1, PoolSize: 1, ReadTimeout: 2 * upstreamHold, DialTimeout: upstreamHold})
	defer c.Close()
	tick := time.NewTicker(shopperPace)
	defer tick.Stop()
	for n := 0; ctx.Err() == nil; n++ {
		if err := step(context.Background(), c, id, n); err != nil {
			s.mu.Lock()
			s.errors = append(s.errors, err.Error())
			s.mu.Unlock()
		}
		<-tick.C
	}
}

func (s *shoppers) write(ctx context.Context, c *redis.Client, id, n int) error {
	var err error
	switch key := "cart:" + strconv.Itoa(id); n % 3 {
	case 0:
		err = c.Set(ctx, key, n, 0).Err()
	case 1:
		err = c.MSet(ctx, key+":a", n, key+":b", n).Err()
	default:
		return c.Get(ctx, key).Err()
	}
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	s.gap, s.last = max(s.gap, now.Sub(s.last)), now
	s.acked++
	return nil
}

func (s *shoppers) read(ctx context.Context, c *redis.Client, _, _ int) error {
	if err := c.Get(ctx, "cart:0").Err(); err != nil && err != redis.Nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reads++
	return nil
}

// ackedAfter waits until n more writes are acked.
func (s *shoppers) ackedAfter(n int) {
	s.t.Helper()
	s.mu.Lock()
	from := s.acked
	s.mu.Unlock()
	waitUntil(s.t, "writes are acked", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.acked >= from+n
	})
}

// sawNothing ends the load and demands that no client was told of anything.
func (s *shoppers) sawNothing() {
	s.t.Helper()
	s.stop()
	s.running.Wait()
	if len(s.errors) > 0 {
		s.t.Errorf("clients saw %d errors, the first is %q", len(s.errors), s.errors[0])
	}
	s.t.Logf("%d acked writes, %d reads on the reader endpoint, the longest time without an acked write was %v", s.acked, s.reads, s.gap.Round(time.Millisecond))
}

func TestClientsSeeNothingOfAFailoverBySentinel(t *testing.T) {
	for name, fault := range map[string]func(*testing.T, *foreign){
		"killed": func(t *testing.T, a *foreign) { must(t, a.Kill()) },
		"frozen": func(t *testing.T, a *foreign) {
			pid := a.PID()
			must(t, syscall.Kill(pid, syscall.SIGSTOP))
			t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGCONT) })
		},
	} {
		t.Run(name, func(t *testing.T) {
			a, b, c := foreigners(t)
			w := watchOver(t, a)
			s := shop(t, before(t, upstream.Options{Sentinel: &upstream.Sentinel{Name: "shop", Addrs: w.addrs}}), 4)
			begin := time.Now()
			said := renamed(t.Context(), w.addrs, a.Addr())
			fault(t, a)
			at := <-said
			s.ackedAfter(200)
			s.sawNothing()
			asked := w.asked(t).Sub(begin)
			var promoted time.Duration
			for _, r := range []*foreign{b, c} {
				// In one transaction the sentinel promotes it and has it write its configuration; it serves after that.
				log := filepath.Join(r.dir, "redis.log")
				if _, ok := logged(t, log, "MASTER MODE enabled (user request from"); ok {
					done, _ := logged(t, log, "CONFIG REWRITE executed with success")
					promoted = done.Sub(begin)
				}
			}
			t.Logf("a sentinel asked a replica to be the primary after %v, it was after %v, and was named after %v; clients waited %v", asked.Round(time.Millisecond),
				promoted.Round(time.Millisecond), at.Sub(begin).Round(time.Millisecond), s.gap.Round(time.Millisecond))
			if late := s.gap - asked; late > time.Second {
				t.Errorf("clients waited %v longer than the sentinels took", late)
			}
		})
	}
}

func TestClientsSeeNothingOfSentinelsPlannedFailover(t *testing.T) {
	a, _, _ := foreigners(t)
	w := watchOver(t, a)
	s := shop(t, before(t, upstream.Options{Sentinel: &upstream.Sentinel{Name: "shop", Addrs: w.addrs}}), 4)
	said := renamed(t.Context(), w.addrs, a.Addr())
	c := redis.NewSentinelClient(&redis.Options{Addr: w.addrs[2], MaxRetries: -1})
	defer c.Close()
	must(t, c.Failover(t.Context(), "shop").Err())
	<-said
	s.ackedAfter(200)
	s.sawNothing()
}

func TestClientsSeeNoREADONLYWhenAnOperatorMovesThePrimary(t *testing.T) {
	a, b, c := foreigners(t)
	s := shop(t, before(t, upstream.Options{Static: &upstream.Static{Primary: a.Addr(), Replicas: []string{b.Addr(), c.Addr()}}}), 4)
	must(t, a.direct.ReplicaOf(t.Context(), "127.0.0.1", "1").Err()) // every write is refused now
	held := time.NewTimer(500 * time.Millisecond)
	<-held.C // the outage that the clients are not to notice
	must(t, b.direct.ReplicaOf(t.Context(), "NO", "ONE").Err())
	a.follow(b)
	c.follow(b)
	s.ackedAfter(200)
	s.sawNothing()
	for i := range 4 { // what was held was carried out on the new one
		if n, err := b.direct.Exists(t.Context(), "cart:"+strconv.Itoa(i)).Result(); err != nil || n != 1 {
			t.Errorf("cart:%d: %d, %v", i, n, err)
		}
	}
}
