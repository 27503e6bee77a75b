package proxy

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"golang.org/x/sys/unix"
)

// successor starts a proxy that takes another one's place: with its sockets, and shut.
func successor(t *testing.T, old *group, change ...func(*Options)) *group {
	t.Helper()
	files, err := old.proxy.Listeners()
	must(t, err)
	given := map[string]*net.TCPListener{}
	for name, f := range files {
		l, err := net.FileListener(f)
		must(t, errors.Join(err, f.Close()))
		given[name] = l.(*net.TCPListener)
	}
	return startProxy(t, func(o *Options) {
		o.Listeners, o.Shut = given, true
		for _, f := range change {
			f(o)
		}
	})
}

// leaveTo has clients go from one proxy to another as they do between processes.
func leaveTo(next *group, within time.Duration) Leaving {
	return Leaving{
		Within:  within,
		Stopped: func(lastID uint64) error { next.proxy.Open(lastID); return nil },
		Give: func(fd int, h Handed) error {
			twin, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
			if err == nil {
				next.proxy.Adopt(twin, h)
			}
			return err
		},
	}
}

// clientsOf is how many clients a proxy has.
func clientsOf(g *group) int {
	n := make(chan int, 1)
	g.proxy.loop.call(func() { n <- len(g.proxy.loop.clients) })
	return <-n
}

func TestClientsKeepTheirSocketsWhenAnotherProxyTakesOver(t *testing.T) {
	n := startNode(t, "g-001")
	n.promote(t)
	old := startProxy(t, nil)
	old.lead(n, 1, nil)
	at := old.proxy.Addrs().Primary

	var dials, acked atomic.Int64
	dial := func(_ context.Context, network, addr string) (net.Conn, error) {
		dials.Add(1)
		return net.Dial(network, addr)
	}
	client := func(db int, name string) *goredis.Client {
		c := goredis.NewClient(&goredis.Options{Addr: at, MaxRetries: -1, PoolSize: 1, DB: db, ClientName: name, Dialer: dial, ReadTimeout: 20 * time.Second})
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	idle := client(3, "idler")
	must(t, idle.Set(ctx, "in3", "x", 0).Err())
	moved, stop := make(chan struct{}), make(chan struct{})
	var busy sync.WaitGroup
	for i := range 8 {
		c := client(0, "")
		must(t, c.Ping(ctx).Err())
		_, err := c.Pipelined(ctx, func(p goredis.Pipeliner) error { return p.Ping(ctx).Err() }) // which has a connection of its own
		must(t, err)
		busy.Go(func() {
			for after := 0; after < 50; {
				var err error
				if i%2 == 0 {
					err = c.Incr(ctx, key(i)).Err()
					acked.Add(1)
				} else {
					_, err = c.Pipelined(ctx, func(p goredis.Pipeliner) error {
						for range 100 {
							p.Incr(ctx, key(i))
						}
						return nil
					})
					acked.Add(100)
				}
				if err != nil {
					t.Errorf("client %d: %v", i, err)
					return
				}
				select {
				case <-moved:
					after++
				case <-stop:
					return
				default:
				}
			}
		})
	}
	eventually(t, "clients are served", func() bool { return acked.Load() > 1000 })
	before := dials.Load()

	next := successor(t, old)
	next.lead(n, 1, nil)
	must(t, old.proxy.Leave(ctx, leaveTo(next, 20*time.Second)))
	close(moved)
	if n := clientsOf(old); n != 0 {
		t.Errorf("%d clients were left behind", n)
	}
	busy.Wait()
	if v, err := idle.Get(ctx, "in3").Result(); err != nil || v != "x" {
		t.Errorf("the idle client reads %q, %v", v, err)
	}
	if name := idle.ClientGetName(ctx).Val(); name != "idler" {
		t.Errorf("the idle client is called %q", name)
	}
	if n := dials.Load() - before; n != 0 {
		t.Errorf("clients made %d new connections", n)
	}
	fresh := client(0, "")
	sum := int64(0)
	for i := range 8 {
		v, err := fresh.Get(ctx, key(i)).Int64()
		must(t, err)
		sum += v
	}
	if sum != acked.Load() {
		t.Errorf("%d writes were acked, the data has %d", acked.Load(), sum)
	}
}

// TestSessionsWithStateGetTimeBeforeTheyAreCut: a transaction is finished by the process that began it, a
// subscriber is served until time is up.
func TestSessionsWithStateGetTimeBeforeTheyAreCut(t *testing.T) {
	n := startNode(t, "g-001")
	n.promote(t)
	old := startProxy(t, nil)
	old.lead(n, 1, nil)
	at := old.proxy.Addrs().Primary
	tx, subscriber, blocked, half := byHand(t, at), byHand(t, at), byHand(t, at), byHand(t, at)
	tx.say("MULTI\r\n", "+OK")
	tx.say("SET a 1\r\n", "+QUEUED")
	subscriber.say("SUBSCRIBE news\r\n", "*3")
	subscriber.hear("$9", "subscribe", "$4", "news", ":1")
	blocked.say("BLPOP list 0\r\n")
	half.say("SET half")
	eventually(t, "all four are there", func() bool {
		return clientsOf(old) == 4 && n.client.Do(ctx, "CLIENT", "LIST").String() != "" &&
			strings.Contains(n.client.Info(ctx, "clients").Val(), "blocked_clients:1")
	})

	next := successor(t, old)
	next.lead(n, 1, nil)
	left := make(chan error, 1)
	o := leaveTo(next, 3*time.Second)
	stopped := make(chan struct{})
	open := o.Stopped
	o.Stopped = func(id uint64) error { defer close(stopped); return open(id) }
	go func() { left <- old.proxy.Leave(ctx, o) }()
	<-stopped
	tx.say("EXEC\r\n", "*1", "+OK")
	must(t, n.client.RPush(ctx, "list", "v").Err())
	blocked.hear("*2", "$4", "list", "$1", "v")
	must(t, n.client.Publish(ctx, "news", "x").Err())
	subscriber.hear("*3", "$7", "message", "$4", "news", "$1", "x")
	half.say(" v\r\n", "+OK") // its first half went over with it
	must(t, <-left)
	if _, err := subscriber.r.ReadByte(); !errors.Is(err, io.EOF) {
		t.Errorf("the subscriber hears %v when time is up", err)
	}
	tx.say("GET a\r\n", "$1", "1")
	blocked.say("PING\r\n", "+PONG")
	if got := clientsOf(next); got != 3 {
		t.Errorf("the next proxy has %d clients, not 3", got)
	}
}

// TestAnIdleClientWithTLSReconnects: the keys of its connection are the old process's, which cuts it while it
// is idle, and long before time is up.
func TestAnIdleClientWithTLSReconnects(t *testing.T) {
	_, paths := identity(t)
	n := startNode(t, "g-001")
	n.promote(t)
	secure := withTLS(opened(t, paths))
	old := startProxy(t, secure)
	old.lead(n, 1, nil)
	var dials atomic.Int64
	c := goredis.NewClient(&goredis.Options{Addr: old.proxy.Addrs().PrimaryTLS, PoolSize: 1,
		Dialer: func(_ context.Context, network, addr string) (net.Conn, error) {
			dials.Add(1)
			return tls.Dial(network, addr, trusting(t, paths))
		}})
	defer c.Close()
	must(t, c.Set(ctx, "k", "v", 0).Err())
	next := successor(t, old, secure)
	next.lead(n, 1, nil)
	if next.proxy.Addrs() != old.proxy.Addrs() {
		t.Errorf("%+v in place of %+v", next.proxy.Addrs(), old.proxy.Addrs())
	}
	begin := time.Now()
	must(t, old.proxy.Leave(ctx, leaveTo(next, time.Minute)))
	if took := time.Since(begin); took > 30*time.Second {
		t.Errorf("an idle client took %v", took)
	}
	if v, err := c.Get(ctx, "k").Result(); err != nil || v != "v" {
		t.Errorf("%q, %v", v, err)
	}
	if n := dials.Load(); n != 2 {
		t.Errorf("the client made %d connections", n)
	}
}

func TestAProxyGoesOnWhenItsSuccessorFails(t *testing.T) {
	n := startNode(t, "g-001")
	n.promote(t)
	old := startProxy(t, nil)
	old.lead(n, 1, nil)
	at := old.proxy.Addrs().Primary
	var clients []*lines
	for range 3 {
		c := byHand(t, at)
		c.say("PING\r\n", "+PONG")
		clients = append(clients, c)
	}
	fails := errors.New("it is gone")
	err := old.proxy.Leave(ctx, Leaving{Within: 10 * time.Second, Stopped: func(uint64) error { return nil }, Give: func(int, Handed) error { return fails }})
	if !errors.Is(err, fails) {
		t.Fatal(err)
	}
	for _, c := range append(clients, byHand(t, at)) {
		c.say("PING\r\n", "+PONG")
	}
	err = old.proxy.Leave(ctx, Leaving{Within: 10 * time.Second, Stopped: func(uint64) error { return fails }})
	if !errors.Is(err, fails) {
		t.Fatal(err)
	}
	for _, c := range append(clients, byHand(t, at)) {
		c.say("PING\r\n", "+PONG")
	}
}

// lines is a client by hand.
type lines struct {
	t *testing.T
	c net.Conn
	r *bufio.Reader
}

func byHand(t *testing.T, addr string) *lines {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	must(t, err)
	t.Cleanup(func() { _ = c.Close() })
	must(t, c.SetDeadline(time.Now().Add(20*time.Second)))
	return &lines{t, c, bufio.NewReader(c)}
}

func (c *lines) say(text string, want ...string) {
	c.t.Helper()
	_, err := fmt.Fprint(c.c, text)
	must(c.t, err)
	c.hear(want...)
}

func (c *lines) hear(want ...string) {
	c.t.Helper()
	for _, w := range want {
		line, err := c.r.ReadString('\n')
		if err != nil || strings.TrimRight(line, "\r\n") != w {
			c.t.Fatalf("heard %q, %v; want %q", line, err, w)
		}
	}
}
