package proxy

import (
	"fmt"
	"net"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"golang.org/x/sys/unix"

	"understudy/cluster"
)

// cable carries TCP to a redis-server until it is cut: then nothing arrives any more, and nobody is told.
type cable struct {
	addr string
	mu   sync.Mutex
	cut  bool
	heal *sync.Cond
}

func startCable(t *testing.T, to string) *cable {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	c := &cable{addr: l.Addr().String()}
	c.heal = sync.NewCond(&c.mu)
	t.Cleanup(func() { c.set(false); _ = l.Close() })
	go func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", to)
			if err != nil {
				_ = near.Close()
				continue
			}
			t.Cleanup(func() { _ = near.Close(); _ = far.Close() })
			go c.carry(near, far)
			go c.carry(far, near)
		}
	}()
	return c
}

func (c *cable) set(cut bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cut = cut
	c.heal.Broadcast()
}

func (c *cable) carry(from, to net.Conn) {
	defer to.Close()
	defer from.Close()
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		c.mu.Lock()
		for c.cut {
			c.heal.Wait()
		}
		c.mu.Unlock()
		if _, werr := to.Write(buf[:n]); err != nil || werr != nil {
			return
		}
	}
}

// blackHole is an address from which no connect gets an answer.
func blackHole(t *testing.T) string {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	t.Cleanup(func() { _ = unix.Close(fd) })
	must(t, unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	must(t, unix.Listen(fd, 0))
	name, err := unix.Getsockname(fd)
	must(t, err)
	addr := fmt.Sprintf("127.0.0.1:%d", name.(*unix.SockaddrInet4).Port)
	for { // its queue of one is filled, then what comes is dropped
		c, err := net.DialTimeout("tcp", addr, 200*time.Millisecond)
		if err != nil {
			return addr
		}
		t.Cleanup(func() { _ = c.Close() })
	}
}

// remote is a node that is reached over TCP only, through a cable.
func remote(t *testing.T, id cluster.NodeID) (*node, *cable) {
	n := startNode(t, id)
	c := startCable(t, n.server.Addr())
	n.status.Addr, n.status.Socket = c.addr, ""
	return n, c
}

// remotePair is like pair, with a primary that can be cut off from the proxy, and not from its replica.
func remotePair(t *testing.T) (g *group, a, b *node, cut *cable) {
	a, cut = remote(t, "g-001")
	b = startNode(t, "g-002")
	b.status.Socket = ""
	a.promote(t)
	b.replicaOf(t, a)
	g = startProxy(t, nil)
	g.say(b.status)
	g.leadSync(a, 1, "g-002")
	g.say(b.status)
	g.awaitWitness(b)
	return g, a, b, cut
}

// A primary behind a cut answers nothing and closes nothing. The new one is used at once.
func TestNewPrimaryIsUsedWhileTheOldOneHangs(t *testing.T) {
	g, a, b, cut := remotePair(t)
	load := startIncrements(t, g.proxy.Addrs().Primary, 16)
	load.flow(1000)

	cut.set(true)
	eventually(t, "nothing is acked any more", func() bool {
		before := load.acked.Load()
		time.Sleep(50 * time.Millisecond)
		return load.acked.Load() == before
	})
	b.promote(t)
	g.fence(a)
	began := time.Now()
	g.leadSync(b, 2)
	load.flow(1)
	t.Logf("acked %v after the news, with the old primary's connections hanging", time.Since(began))
	load.flow(500)
	load.end()
	n, err := b.client.Get(ctx, "n").Int64()
	if acked, unknown := load.acked.Load(), load.unknown.Load(); err != nil || n < acked || n > acked+unknown || unknown > 16 {
		t.Errorf("%d increments acked, %d unknown, the counter says %d, %v", acked, unknown, n, err)
	}
}

// A proxy that is cut off from everybody acks nothing, says at the bound of the hold what it cannot know,
// and its clients keep their sockets.
func TestCutOffProxyAnswersAtTheBoundOfTheHold(t *testing.T) {
	a, cut := remote(t, "g-001")
	b := startNode(t, "g-002")
	a.promote(t)
	b.replicaOf(t, a)
	g := startProxy(t, func(o *Options) { o.Hold = 700 * time.Millisecond })
	g.say(b.status)
	g.leadSync(a, 1, "g-002")
	g.say(b.status)
	g.awaitWitness(b)
	one := dialRedis(t, g.proxy.Addrs().Primary, 2).Conn()
	defer one.Close()
	two := dialRedis(t, g.proxy.Addrs().Primary, 2).Conn()
	defer two.Close()
	must(t, one.Incr(ctx, "n").Err())
	must(t, two.Set(ctx, "k", "before", 0).Err())

	cut.set(true)
	g.leadFor(a, 200*time.Millisecond) // its last news
	errs := make(chan error, 2)
	began := time.Now()
	go func() { errs <- one.Incr(ctx, "n").Err() }()
	go func() { errs <- two.Set(ctx, "k", "after", 0).Err() }()
	codes := map[string]bool{}
	for range 2 {
		err := <-errs
		if err == nil {
			t.Fatal("a write was acked by a primary that was cut off")
		}
		code, _, _ := strings.Cut(err.Error(), " ")
		codes[code] = true
	}
	if !codes["UNKNOWN"] || !codes["TRYAGAIN"] {
		t.Errorf("INCR and SET got %v", codes)
	}
	if took := time.Since(began); took < 700*time.Millisecond || took > 3*time.Second {
		t.Errorf("answered after %v", took)
	}
	cut.set(false)
	g.leadSync(a, 1, "g-002")
	must(t, one.Incr(ctx, "n").Err())
	must(t, two.Set(ctx, "k", "healed", 0).Err())
}

// leadFor repeats what was said of the primary, with a permit that ends.
func (g *group) leadFor(n *node, permit time.Duration) {
	g.mu.Lock()
	s := g.said[n.id]
	g.mu.Unlock()
	s.Permit = permit
	g.say(s)
}

func TestConnectThatNobodyAnswersStopsNothingElse(t *testing.T) {
	a, b, x := startNode(t, "g-001"), startNode(t, "g-002"), startNode(t, "g-003")
	a.promote(t)
	b.replicaOf(t, a)
	x.replicaOf(t, a)
	must(t, a.client.Set(ctx, "k", "v", 0).Err())
	eventually(t, "the replica has the key", func() bool { return b.client.Get(ctx, "k").Val() == "v" })
	g := startProxy(t, nil)
	lost := a.status
	a.status.Addr, a.status.Socket = blackHole(t), ""
	g.lead(a, 1, nil)
	g.say(b.status)
	done := make(chan error, 1)
	go func() { done <- dialRedis(t, g.proxy.Addrs().Primary, 2).Set(ctx, "k", "w", 0).Err() }()
	eventually(t, "the write is under way", func() bool { return g.metric("understudy_proxy_backend_connections") > 0 })
	reader := dialRedis(t, g.proxy.Addrs().Reader, 2)
	for range 20 {
		began := time.Now()
		if v, err := reader.Get(ctx, "k").Result(); v != "v" || time.Since(began) > connectFor/2 {
			t.Errorf("a read of a replica gave %q, %v, after %v", v, err, time.Since(began))
		}
	}
	b.promote(t)
	g.fence(a)
	began := time.Now()
	g.lead(b, 2, nil)
	must(t, <-done)
	if took := time.Since(began); took > connectFor/2 {
		t.Errorf("the write went to the new primary after %v", took)
	}
	a.status = lost
}

// The primary is reachable again, under the same epoch: whoever waited for the connect goes on.
func TestConnectIsTriedAgain(t *testing.T) {
	a := startNode(t, "g-001")
	a.promote(t)
	g := startProxy(t, nil)
	real := a.status
	a.status.Addr, a.status.Socket = blackHole(t), ""
	g.lead(a, 1, nil)
	done := make(chan error, 1)
	go func() { done <- dialRedis(t, g.proxy.Addrs().Primary, 2).Incr(ctx, "n").Err() }()
	eventually(t, "a connect was given up", func() bool { return g.metric("understudy_proxy_replayed_requests_total") > 0 })
	a.status = real
	g.lead(a, 1, nil)
	must(t, <-done)
	if n := a.client.Get(ctx, "n").Val(); n != "1" {
		t.Errorf("n = %s", n)
	}
}

// The node runs on another machine now; from the one before nothing is heard.
func TestNodeThatHasMovedIsReachedWhereItIs(t *testing.T) {
	a, before := remote(t, "g-001")
	a.promote(t)
	g := startProxy(t, nil)
	g.lead(a, 1, nil)
	c := dialRedis(t, g.proxy.Addrs().Primary, 2).Conn()
	defer c.Close()
	must(t, c.Set(ctx, "k", "v", 0).Err())
	before.set(true)
	sent := g.metric("understudy_proxy_requests_total")
	done := make(chan error, 1)
	go func() { done <- c.Set(ctx, "k", "w", 0).Err() }()
	eventually(t, "the write is on its way", func() bool { return g.metric("understudy_proxy_requests_total") > sent })
	a.status.Addr = startCable(t, a.server.Addr()).addr
	began := time.Now()
	g.lead(a, 1, nil)
	must(t, <-done)
	if took := time.Since(began); took > unackedFor/2 {
		t.Errorf("the write was answered %v after the news", took)
	}
}

// A replica that falls silent takes no reads with it.
func TestReadsOfASilentReplicaGoElsewhere(t *testing.T) {
	a := startNode(t, "g-001")
	b, cut := remote(t, "g-002")
	a.promote(t)
	b.replicaOf(t, a)
	g := startProxy(t, nil)
	g.lead(a, 1, nil)
	g.say(b.status)
	c := dialRedis(t, g.proxy.Addrs().Reader, 2)
	must(t, a.client.Set(ctx, "k", "v", 0).Err())
	eventually(t, "the replica has the key", func() bool { return c.Get(ctx, "k").Val() == "v" && calls(t, b, "get") != "" })
	sub := dialRedis(t, g.proxy.Addrs().Reader, 2).Subscribe(ctx, "news")
	defer sub.Close()
	_, err := sub.Receive(ctx)
	must(t, err)
	cut.set(true)
	read := make(chan error, 1)
	go func() { read <- c.Get(ctx, "k").Err() }()
	down := b.status
	down.State = cluster.StateDown
	g.say(down)
	must(t, <-read)
	eventually(t, "the subscriber is on the primary", func() bool {
		v, _ := a.client.PubSubNumSub(ctx, "news").Result()
		return v["news"] == 1
	})
	must(t, a.client.Publish(ctx, "news", "hello").Err())
	if m, err := sub.ReceiveMessage(ctx); err != nil || m.Payload != "hello" {
		t.Errorf("%v, %v", m, err)
	}
}

// A real cut: a network namespace whose link goes down under load.
func TestRealCutOfThePrimarysLink(t *testing.T) {
	a := startBehindLink(t, "g-001")
	b := startNode(t, "g-002")
	b.status.Socket = ""
	must(t, a.client.ReplicaOf(ctx, "NO", "ONE").Err())
	b.replicaOfAddr(t, a.status.Addr)
	g := startProxy(t, nil)
	g.say(b.status)
	g.leadSync(a.node, 1, "g-002")
	g.say(b.status)
	g.awaitWitness(b)
	load := startIncrements(t, g.proxy.Addrs().Primary, 16)
	load.flow(1000)
	a.link(t, "down")
	eventually(t, "nothing is acked any more", func() bool {
		before := load.acked.Load()
		time.Sleep(50 * time.Millisecond)
		return load.acked.Load() == before
	})
	b.promote(t)
	g.fence(a.node)
	began := time.Now()
	g.leadSync(b, 2)
	load.flow(1)
	t.Logf("acked %v after the news, over a link that is down", time.Since(began))
	load.flow(500)
	load.end()
	n, err := b.client.Get(ctx, "n").Int64()
	if acked, unknown := load.acked.Load(), load.unknown.Load(); err != nil || n < acked || n > acked+unknown || unknown > 16 {
		t.Errorf("%d increments acked, %d unknown, the counter says %d, %v", acked, unknown, n, err)
	}
}

// linked is a node in a network namespace of its own.
type linked struct {
	*node
	name string
}

func (n *linked) link(t *testing.T, state string) { run(t, "ip", "link", "set", n.name, state) }

// startBehindLink starts a redis-server at the other end of a link, or skips the test where none can be
// made.
func startBehindLink(t *testing.T, id cluster.NodeID) *linked {
	t.Helper()
	pid := unix.Getpid()
	ns, link := fmt.Sprintf("understudy-proxy-%d", pid), fmt.Sprintf("us%d", pid)
	if out, err := exec.Command("ip", "netns", "add", ns).CombinedOutput(); err != nil {
		t.Skipf("NOT TESTED: %s needs a network namespace: %v: %s. Run as root", t.Name(), err, out)
	}
	t.Cleanup(func() { run(t, "ip", "netns", "del", ns) })
	subnet := fmt.Sprintf("10.98.%d.", pid%250)
	if out, err := exec.Command("ip", "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", ns).CombinedOutput(); err != nil {
		t.Skipf("NOT TESTED: %s needs a pair of network devices: %v: %s. Run as root", t.Name(), err, out)
	}
	run(t, "ip", "addr", "add", subnet+"1/30", "dev", link)
	run(t, "ip", "link", "set", link, "up")
	run(t, "ip", "-n", ns, "addr", "add", subnet+"2/30", "dev", "eth0")
	run(t, "ip", "-n", ns, "link", "set", "eth0", "up")
	server := exec.Command("ip", "netns", "exec", ns, "redis-server", "--port", "7000", "--bind", subnet+"2", "--save", "", "--protected-mode", "no",
		"--dir", t.TempDir(), "--repl-diskless-sync-delay", "0")
	server.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	must(t, server.Start())
	t.Cleanup(func() { _ = server.Process.Kill(); _ = server.Wait() })
	addr := subnet + "2:7000"
	n := &node{id: id, client: goredis.NewClient(&goredis.Options{Addr: addr, MaxRetries: -1, Protocol: 2})}
	t.Cleanup(func() { _ = n.client.Close() })
	eventually(t, "the server behind the link answers", func() bool { return n.client.Ping(ctx).Err() == nil })
	n.status = cluster.NodeStatus{Group: "g", Node: id, Zone: "z", Nodes: 3, Addr: addr, Role: cluster.RoleReplica, State: cluster.StateReady}
	return &linked{n, link}
}

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Errorf("%s %v: %v: %s", name, args, err, out)
	}
}
