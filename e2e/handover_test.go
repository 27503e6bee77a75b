package e2e

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// A new `understudy proxy` takes the place of the one that runs.

// counters are clients that each count up a key of their own, with one connection and no retries: an INCR
// must not run twice, and what is acked must be there.
type counters struct {
	t       *testing.T
	running sync.WaitGroup
	end     chan struct{}
	dials   atomic.Int64
	acked   []atomic.Int64

	mu     sync.Mutex
	errors []string
	gap    time.Duration // the longest time that one command took
}

// countUp runs so many clients; those with an odd number send ten commands at once.
func countUp(t *testing.T, addr string, clients int) *counters {
	t.Helper()
	c := &counters{t: t, end: make(chan struct{}), acked: make([]atomic.Int64, clients)}
	for i := range clients {
		c.running.Go(func() { c.run(addr, i) })
	}
	waitUntil(t, "all clients are served", func() bool {
		for i := range c.acked {
			if c.acked[i].Load() < 20 {
				return false
			}
		}
		return true
	})
	return c
}

func (c *counters) run(addr string, id int) {
	r := redis.NewClient(&redis.Options{Addr: addr, MaxRetries: -1, PoolSize: 1, ReadTimeout: patience, DisableIdentity: true,
		Dialer: func(_ context.Context, network, addr string) (net.Conn, error) {
			c.dials.Add(1)
			return net.Dial(network, addr)
		}})
	defer r.Close()
	ctx, key := context.Background(), "n:"+strconv.Itoa(id)
	for {
		select {
		case <-c.end:
			return
		default:
		}
		begin := time.Now()
		n, err := 1, error(nil)
		if id%2 == 0 {
			err = r.Incr(ctx, key).Err()
		} else {
			n = 10
			_, err = r.Pipelined(ctx, func(p redis.Pipeliner) error {
				for range n {
					p.Incr(ctx, key)
				}
				return nil
			})
		}
		c.mu.Lock()
		c.gap = max(c.gap, time.Since(begin))
		if err != nil {
			c.errors = append(c.errors, fmt.Sprintf("client %d: %v", id, err))
		}
		c.mu.Unlock()
		if err == nil {
			c.acked[id].Add(int64(n))
		}
	}
}

func (c *counters) total() (n int64) {
	for i := range c.acked {
		n += c.acked[i].Load()
	}
	return n
}

// more waits until n more writes are acked.
func (c *counters) more(n int64) {
	c.t.Helper()
	from := c.total()
	waitUntil(c.t, "writes are acked", func() bool { return c.total() >= from+n })
}

// check ends the load, and demands that no client saw an error and that the data has what was acked.
func (c *counters) check(direct *redis.Client) {
	c.t.Helper()
	close(c.end)
	c.running.Wait()
	if len(c.errors) > 0 {
		c.t.Errorf("%d errors, the first: %s", len(c.errors), c.errors[0])
	}
	for i := range c.acked {
		n, err := direct.Get(c.t.Context(), "n:"+strconv.Itoa(i)).Int64()
		if err != nil || n != c.acked[i].Load() {
			c.t.Errorf("client %d was acked %d, the data has %d, %v", i, c.acked[i].Load(), n, err)
		}
	}
}

// mustFollow starts a process with the same file that takes over, and waits for the end of the one before.
func (p *outpost) mustFollow(file string) *outpost {
	p.t.Helper()
	next := startOutpost(p.t, file, "--take-over")
	if next.Endpoints != p.Endpoints {
		p.t.Errorf("the next process serves %+v, the one before %+v", next.Endpoints, p.Endpoints)
	}
	p.ends(0)
	return next
}

// ownRuntime gives the processes of a test a directory for their sockets.
func ownRuntime(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "run-") // t.TempDir is too long for a unix socket
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	t.Setenv("XDG_RUNTIME_DIR", dir)
	return dir
}

func TestClientsSeeNothingWhenAnotherProcessTakesOver(t *testing.T) {
	a, b, c := foreigners(t)
	file := outpostFile(t, "group: shop\n"+anyPorts+fmt.Sprintf("drain: 2s\nupstream: {static: {primary: %s, replicas: [%s, %s]}}\n", a.Addr(), b.Addr(), c.Addr()))
	ownRuntime(t)
	p := startOutpost(t, file)
	idle := redis.NewClient(&redis.Options{Addr: p.Primary, DB: 5, PoolSize: 1, MaxRetries: -1})
	defer idle.Close()
	must(t, idle.Set(t.Context(), "here", "5", 0).Err())
	load := countUp(t, p.Primary, 16)
	dials := load.dials.Load()
	const rounds = 3
	begin, acked := time.Now(), load.total()
	for range rounds {
		p = p.mustFollow(file)
		load.more(500)
	}
	if v, err := idle.Get(t.Context(), "here").Result(); err != nil || v != "5" {
		t.Errorf("the idle client reads %q, %v", v, err)
	}
	fresh := redis.NewClient(&redis.Options{Addr: p.Primary, MaxRetries: -1})
	defer fresh.Close()
	must(t, fresh.Ping(t.Context()).Err())
	load.check(a.direct)
	if n := load.dials.Load() - dials; n != 0 {
		t.Errorf("clients made %d new connections", n)
	}
	if code, err := p.ask(http.MethodGet, "/healthz", &struct{}{}); err != nil || code != http.StatusOK {
		t.Errorf("healthz: %d, %v", code, err)
	}
	t.Logf("%d processes took over within %v under load: %d writes acked meanwhile, %d errors, %d reconnects, the slowest answer took %v", rounds,
		time.Since(begin).Round(time.Millisecond), load.total()-acked, len(load.errors), load.dials.Load()-dials, load.gap.Round(time.Millisecond))
	p.stop()
}

// TestReloadStartsTheNextProcess: SIGHUP is what a service manager's reload sends.
func TestReloadStartsTheNextProcess(t *testing.T) {
	a, b, c := foreigners(t)
	file := outpostFile(t, "group: shop\n"+anyPorts+fmt.Sprintf("upstream: {static: {primary: %s, replicas: [%s, %s]}}\n", a.Addr(), b.Addr(), c.Addr()))
	ownRuntime(t)
	p := startOutpost(t, file)
	load := countUp(t, p.Primary, 4)
	must(t, p.up.cmd.Process.Signal(syscall.SIGHUP))
	next := 0
	waitUntil(t, "the next process is started", func() bool {
		m := startedPID.FindStringSubmatch(p.up.log())
		if m != nil {
			next, _ = strconv.Atoi(m[1])
		}
		return m != nil
	})
	defer func() { _ = syscall.Kill(next, syscall.SIGKILL) }() // it has ended already when all went well
	waitUntil(t, "the next process has all clients", func() bool { return strings.Contains(p.up.log(), "msg=\"taken over\"") })
	load.more(200)
	load.check(a.direct)
	if n := load.dials.Load(); n > 6 { // those with pipelines have two connections
		t.Errorf("4 clients made %d connections", n)
	}
	must(t, syscall.Kill(next, syscall.SIGINT))
	p.ends(0) // its output ends with the next process's
}

var startedPID = regexp.MustCompile(`is to take over".* pid=([0-9]+)`)

func TestASubscriberIsCutWhenTimeIsUpAndReconnectsToTheNextProcess(t *testing.T) {
	a, b, c := foreigners(t)
	file := outpostFile(t, "group: shop\n"+anyPorts+fmt.Sprintf("drain: 1s\nupstream: {static: {primary: %s, replicas: [%s, %s]}}\n", a.Addr(), b.Addr(), c.Addr()))
	ownRuntime(t)
	p := startOutpost(t, file)
	r := redis.NewClient(&redis.Options{Addr: p.Primary})
	defer r.Close()
	s := r.Subscribe(t.Context(), "news")
	defer s.Close()
	_, err := s.Receive(t.Context())
	must(t, err)
	got := s.Channel()
	p = p.mustFollow(file)
	waitUntil(t, "the subscriber hears something again", func() bool {
		must(t, a.direct.Publish(t.Context(), "news", "x").Err())
		select {
		case m := <-got:
			return m != nil && m.Payload == "x"
		case <-time.After(50 * time.Millisecond):
			return false
		}
	})
	p.stop()
}

func TestTheProcessGoesOnWhenItsSuccessorIsKilled(t *testing.T) {
	a, b, c := foreigners(t)
	text := func(upstream string) string {
		return "group: shop\n" + anyPorts + "upstream: {static: {primary: " + upstream + "}}\n"
	}
	file := outpostFile(t, text(a.Addr()+", replicas: ["+b.Addr()+", "+c.Addr()+"]"))
	runtime := ownRuntime(t)
	p := startOutpost(t, file)
	load := countUp(t, p.Primary, 4)

	// The next one waits for a primary that is not there, and dies.
	must(t, os.WriteFile(file, []byte(text("127.0.0.1:"+unusedPorts(t, 1)[0])), 0o600))
	next := startProgram(t, exec.Command(program, "proxy", "--config", file, "--take-over"))
	waitUntil(t, "the next process has the sockets", func() bool { return strings.Contains(next.log(), "sockets") })
	must(t, next.cmd.Process.Kill())
	<-next.ended
	waitUntil(t, "the process before has noticed", func() bool { return strings.Contains(p.up.log(), "this one goes on") })
	load.more(200)
	load.check(a.direct)

	// Who is not this user's process gets nothing, and another group's neither.
	entries, err := os.ReadDir(filepath.Join(runtime, fmt.Sprintf("understudy-proxy-%d", os.Getuid())))
	must(t, err)
	for _, e := range entries {
		if i, err := e.Info(); err != nil || i.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v, %v", e.Name(), i.Mode(), err)
		}
	}
	must(t, os.WriteFile(file, []byte(strings.Replace(text(a.Addr()), "shop", "other", 1)), 0o600))
	if out, said, code := run(t, "proxy", "--config", file, "--take-over"); code != 2 || !strings.Contains(out+said, "serves group shop, not other") {
		t.Errorf("another group's process: exit %d, %s%s", code, out, said)
	}
	p.stop()
	if entries, err := os.ReadDir(filepath.Join(runtime, fmt.Sprintf("understudy-proxy-%d", os.Getuid()))); err != nil || len(entries) != 0 {
		t.Errorf("%v is left behind, %v", entries, err)
	}
}
