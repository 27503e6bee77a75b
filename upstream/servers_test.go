package upstream

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"understudy/cluster"
	"understudy/failover"
	"understudy/redis"
)

// patience bounds every wait for something that takes a fraction of a second on an idle machine.
const patience = 20 * time.Second

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); !ok(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("%s: not within %v", what, patience)
		}
	}
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// server is a real redis-server that nobody of ours fails over.
type server struct {
	*redis.Server
	t      *testing.T
	opts   redis.ServerOptions
	client *goredis.Client
}

func freePort(t *testing.T, host string) int {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	must(t, err)
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// startServer starts a server without a data set, as a replica of nobody.
func startServer(t *testing.T, host string, port int, config map[string]string) *server {
	t.Helper()
	bin, err := redis.FindServer(t.Context(), "")
	must(t, err)
	if port == 0 {
		port = freePort(t, host)
	}
	dir, err := os.MkdirTemp("", "upstream-") // t.TempDir is too long for a unix socket
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	s := &server{t: t, opts: redis.ServerOptions{Binary: bin, Dir: dir, Host: host, Port: port, Socket: filepath.Join(dir, "s"), ReplicaOf: "127.0.0.1:1",
		Config: map[string]string{"appendonly": "no"}}}
	for k, v := range config {
		s.opts.Config[k] = v
	}
	s.client = goredis.NewClient(&goredis.Options{Network: "unix", Addr: s.opts.Socket, Password: config["requirepass"], MaxRetries: -1, Protocol: 2})
	t.Cleanup(func() { _ = s.client.Close() })
	s.start()
	return s
}

func (s *server) start() {
	s.t.Helper()
	var err error
	s.Server, err = redis.Start(s.opts)
	must(s.t, err)
	process := s.Server
	s.t.Cleanup(func() { _ = process.Kill() })
	waitFor(s.t, "redis-server answers", func() bool { return s.client.Ping(context.Background()).Err() == nil })
}

func (s *server) follow(p *server) {
	s.t.Helper()
	must(s.t, s.client.ReplicaOf(context.Background(), p.opts.Host, fmt.Sprint(p.opts.Port)).Err())
}

// following follows p and waits for the link.
func (s *server) following(p *server) *server {
	s.t.Helper()
	s.follow(p)
	waitFor(s.t, "the replica's link is up", func() bool {
		text, err := s.client.Info(context.Background(), "replication").Result()
		return err == nil && strings.Contains(text, "master_link_status:up") && strings.Contains(text, fmt.Sprintf("master_port:%d\r\n", p.opts.Port))
	})
	return s
}

func (s *server) promote() *server {
	s.t.Helper()
	must(s.t, s.client.ReplicaOf(context.Background(), "NO", "ONE").Err())
	return s
}

func (s *server) id() cluster.NodeID { return cluster.NodeID(s.Addr()) }

// trio is a primary with two replicas.
func trio(t *testing.T, config map[string]string) (a, b, c *server) {
	t.Helper()
	a, b, c = startServer(t, "127.0.0.1", 0, config).promote(), startServer(t, "127.0.0.1", 0, config), startServer(t, "127.0.0.1", 0, config)
	b.following(a)
	c.following(a)
	return a, b, c
}

func staticOf(servers ...*server) *Static {
	s := &Static{Primary: servers[0].Addr()}
	for _, x := range servers[1:] {
		s.Replicas = append(s.Replicas, x.Addr())
	}
	return s
}

// observer learns as a proxy does, from a watcher that runs until the test ends.
type observer struct {
	*Watcher
	t      *testing.T
	mu     sync.Mutex
	gate   *failover.Gate
	events []cluster.Event
	says   map[cluster.NodeID]cluster.NodeStatus
	epochs []cluster.NodeID // who led in each epoch
}

var began = time.Now()

func clock() time.Duration { return time.Since(began) + time.Hour }

func watch(t *testing.T, o Options) *observer {
	t.Helper()
	v := &observer{t: t, gate: failover.NewGate(), says: map[cluster.NodeID]cluster.NodeStatus{}}
	o.Group, o.Clock, o.OnStatus = "g", clock, v.learn
	o.OnEvent = func(e cluster.Event) {
		v.mu.Lock()
		defer v.mu.Unlock()
		v.events = append(v.events, e)
	}
	if o.Interval == 0 {
		o.Interval, o.Lease = 50*time.Millisecond, 500*time.Millisecond // other tests want the processor too
	}
	w, err := New(o)
	must(t, err)
	v.Watcher = w
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if t.Failed() {
			for _, e := range v.events {
				t.Logf("%s epoch %d %s: %s", e.Time.Format("05.000"), e.Epoch, e.Name, e.Message)
			}
		}
	})
	return v
}

func (v *observer) learn(at time.Duration, s cluster.NodeStatus) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if at > clock() || s.Group != "g" {
		v.t.Errorf("a status at %v, now is %v: %+v", at, clock(), s)
	}
	if old, ok := v.says[s.Node]; ok && s.Epoch < old.Epoch {
		v.t.Errorf("the epoch went back: %d -> %d", old.Epoch, s.Epoch)
	}
	if s.Leads {
		for len(v.epochs) <= int(s.Epoch) {
			v.epochs = append(v.epochs, "")
		}
		if was := v.epochs[s.Epoch]; was != "" && was != s.Node {
			v.t.Errorf("%s and %s both lead in epoch %d", was, s.Node, s.Epoch)
		}
		v.epochs[s.Epoch] = s.Node
	}
	v.says[s.Node] = s
	v.gate.Learn(at, s)
}

// writer is where a proxy would send a write now; "" when it would hold it.
func (v *observer) writer() string {
	v.mu.Lock()
	defer v.mu.Unlock()
	w, ok := v.gate.Writer(clock())
	if !ok {
		return ""
	}
	return w.Addr
}

func (v *observer) epoch() cluster.Epoch {
	v.mu.Lock()
	defer v.mu.Unlock()
	_, epoch := v.gate.Leader()
	return epoch
}

// readers counts where a proxy would send reads.
func (v *observer) readers() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return len(v.gate.Readers(clock()))
}

func (v *observer) status(s *server) cluster.NodeStatus {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.says[s.id()]
}

// said counts events by name.
func (v *observer) said(name string) int {
	v.mu.Lock()
	defer v.mu.Unlock()
	n := 0
	for _, e := range v.events {
		if e.Name == name {
			n++
		}
	}
	return n
}

func (v *observer) waitForWriter(s *server) {
	v.t.Helper()
	waitFor(v.t, "the primary is "+s.Addr(), func() bool { return v.writer() == s.Addr() })
}

// startProcess runs a program until the test ends.
func startProcess(t *testing.T, path string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(path, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	must(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd
}

// startSentinels runs n sentinels that watch the primary as "mine", and waits until each knows the others
// and the replicas.
func startSentinels(t *testing.T, primary *server, n, replicas int) (addrs []string, processes []*exec.Cmd) {
	t.Helper()
	path, err := exec.LookPath("redis-sentinel")
	if err != nil {
		t.Skip("redis-sentinel is not installed: apt install redis-sentinel")
	}
	for range n {
		dir, port := t.TempDir(), freePort(t, "127.0.0.1")
		conf := filepath.Join(dir, "sentinel.conf")
		must(t, os.WriteFile(conf, fmt.Appendf(nil, `bind 127.0.0.1
port %d
dir %s
logfile %s/log
sentinel monitor mine %s %d %d
sentinel down-after-milliseconds mine 500
sentinel failover-timeout mine 3000
`, port, dir, dir, primary.opts.Host, primary.opts.Port, n/2+1), 0o600))
		processes = append(processes, startProcess(t, path, conf))
		addrs = append(addrs, fmt.Sprintf("127.0.0.1:%d", port))
	}
	for _, addr := range addrs {
		c := goredis.NewSentinelClient(&goredis.Options{Addr: addr, MaxRetries: -1})
		t.Cleanup(func() { _ = c.Close() })
		waitFor(t, "sentinel "+addr+" knows all", func() bool {
			m, err := c.Master(context.Background(), "mine").Result()
			return err == nil && m["num-other-sentinels"] == fmt.Sprint(n-1) && m["num-slaves"] == fmt.Sprint(replicas) && m["flags"] == "master"
		})
	}
	return addrs, processes
}

// stopServer freezes a server; it is continued before it is killed.
func stopServer(t *testing.T, s *server) {
	t.Helper()
	must(t, syscall.Kill(s.PID(), syscall.SIGSTOP))
	pid := s.PID()
	t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGCONT) })
}

func continueServer(t *testing.T, s *server) {
	t.Helper()
	must(t, syscall.Kill(s.PID(), syscall.SIGCONT))
}

// silent is an address that takes connections and says nothing.
func silent(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { _ = l.Close() })
	return l.Addr().String()
}
