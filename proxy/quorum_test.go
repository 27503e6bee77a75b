package proxy

import (
	"errors"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"understudy/cluster"
)

func noQuorum(voters ...cluster.NodeID) func(*cluster.NodeStatus) {
	return func(s *cluster.NodeStatus) {
		syncRule(voters...)(s)
		s.NoQuorum = true
	}
}

// alone starts a primary that has lost its only replica, and may not go on without one.
func alone(t *testing.T, hold time.Duration) (*group, *node) {
	t.Helper()
	a, b := startNode(t, "g-001"), startNode(t, "g-002")
	a.promote(t)
	b.replicaOf(t, a)
	g := startProxy(t, func(o *Options) { o.Hold = hold })
	g.say(b.status)
	g.leadSync(a, 1, "g-002")
	c := dialRedis(t, g.proxy.Addrs().Primary, 2)
	eventually(t, "the first read is given", func() bool { return errors.Is(c.Get(ctx, "missing").Err(), goredis.Nil) })
	must(t, b.server.Kill())
	g.lead(a, 1, noQuorum("g-002"))
	return g, a
}

func TestWritesWaitForAReplicaAndReadsDoNot(t *testing.T) {
	g, a := alone(t, 20*time.Second)
	must(t, a.client.Set(ctx, "k", "old", 0).Err())
	must(t, a.client.Set(ctx, "n", "1", 0).Err())
	done := make(chan error, 4)
	writer := dialRedis(t, g.proxy.Addrs().Primary, 2)
	go func() { done <- writer.Set(ctx, "k", "new", 0).Err() }()
	go func() { done <- writer.Incr(ctx, "n").Err() }()
	go func() {
		_, err := writer.TxPipelined(ctx, func(p goredis.Pipeliner) error { p.Incr(ctx, "n"); return nil })
		done <- err
	}()
	go func() { // its read must see its own write, which waits
		c := dialRedis(t, g.proxy.Addrs().Primary, 2)
		cmds, err := c.Pipelined(ctx, func(p goredis.Pipeliner) error { p.Set(ctx, "own", "1", 0); p.Get(ctx, "own"); return nil })
		if err == nil && cmds[1].(*goredis.StringCmd).Val() != "1" {
			t.Error("a read overtook its own client's write")
		}
		done <- err
	}()
	eventually(t, "the writes are held", func() bool {
		return g.metric("understudy_proxy_held_requests") >= 4 && g.metric("understudy_proxy_held_requests_total") >= 5
	})
	reader := dialRedis(t, g.proxy.Addrs().Primary, 2)
	for range 50 {
		if v, err := reader.Get(ctx, "k").Result(); v != "old" {
			t.Fatalf("while writes wait a read gives %q, %v", v, err)
		}
	}
	if calls(t, a, "incr") != "" {
		t.Error("a write was sent to a primary that cannot ack it")
	}
	select {
	case err := <-done:
		t.Fatalf("a write was answered without a replica: %v", err)
	default:
	}
	b := startNode(t, "g-003")
	b.replicaOf(t, a)
	g.say(b.status)
	g.lead(a, 1, syncRule("g-003"))
	for range 4 {
		must(t, <-done)
	}
	if n := b.client.Get(ctx, "n").Val(); n != "3" {
		t.Errorf("n = %s on the replica", n)
	}
}

func TestWriteThatNoReplicaCanHoldGetsAClearError(t *testing.T) {
	g, _ := alone(t, 150*time.Millisecond)
	c := dialRedis(t, g.proxy.Addrs().Primary, 2)
	for name, write := range map[string]func() error{
		"SET":  func() error { return c.Set(ctx, "k", "v", 0).Err() },
		"INCR": func() error { return c.Incr(ctx, "n").Err() },
		"EXEC": func() error {
			_, err := c.TxPipelined(ctx, func(p goredis.Pipeliner) error { p.Incr(ctx, "n"); return nil })
			return err
		},
		"BLPOP": func() error { return c.BLPop(ctx, 0, "q").Err() },
	} {
		if err := write(); err == nil || !strings.HasPrefix(err.Error(), "TRYAGAIN no replica can hold a copy of a write, for ") {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Of a pipeline only the write fails: what it held up goes on.
	cmds, _ := c.Pipelined(ctx, func(p goredis.Pipeliner) error { p.Set(ctx, "k", "v", 0); p.Exists(ctx, "k"); return nil })
	if n, err := cmds[1].(*goredis.IntCmd).Result(); n != 0 || err != nil {
		t.Errorf("the read behind it: %d, %v", n, err)
	}
}

// A write that was carried out when the last replica went is not undone by giving it up: no read may
// show it until some replica has it.
func TestWriteThatWasGivenUpIsNotShownBeforeItIsSafe(t *testing.T) {
	a, b := startNode(t, "g-001"), startNode(t, "g-002")
	a.promote(t)
	b.replicaOf(t, a)
	g := startProxy(t, func(o *Options) { o.Hold = 150 * time.Millisecond })
	g.say(b.status)
	g.leadSync(a, 1, "g-002")
	c := dialRedis(t, g.proxy.Addrs().Primary, 2)
	must(t, c.Set(ctx, "k", "safe", 0).Err())
	must(t, c.Set(ctx, "other", "safe", 0).Err())
	must(t, b.server.Kill())
	done := make(chan error, 2)
	go func() { done <- c.Set(ctx, "k", "lost?", 0).Err() }()
	go func() { done <- c.Incr(ctx, "n").Err() }()
	eventually(t, "the writes are carried out", func() bool { return a.client.Exists(ctx, "n").Val() == 1 && a.client.Get(ctx, "k").Val() == "lost?" })
	g.lead(a, 1, noQuorum("g-002"))
	codes := map[string]int{}
	for range 2 {
		code, _, _ := strings.Cut((<-done).Error(), " ")
		codes[code]++
	}
	if codes["TRYAGAIN"] != 1 || codes["UNKNOWN"] != 1 {
		t.Errorf("errors %v, want TRYAGAIN for SET and UNKNOWN for INCR", codes)
	}
	if v, err := c.Get(ctx, "other").Result(); v != "safe" {
		t.Errorf("a key without such a write: %q, %v", v, err)
	}
	for _, key := range []string{"k", "n"} {
		if v, err := c.Get(ctx, key).Result(); err == nil || !strings.HasPrefix(err.Error(), "TRYAGAIN no replica") {
			t.Errorf("%s = %q, %v: a read shows what can still be lost", key, v, err)
		}
	}
	x := startNode(t, "g-003")
	x.replicaOf(t, a)
	g.say(x.status)
	g.lead(a, 1, syncRule("g-003"))
	if v, err := c.Get(ctx, "k").Result(); v != "lost?" {
		t.Errorf("once a replica has it: %q, %v", v, err)
	}
}

// A primary without enough replicas refuses by itself too; nothing was carried out then.
func TestRefusalForTooFewReplicasIsHeld(t *testing.T) {
	a, b := startNode(t, "g-001"), startNode(t, "g-002")
	a.promote(t)
	must(t, a.client.ConfigSet(ctx, "min-replicas-to-write", "1").Err())
	g := startProxy(t, nil)
	g.leadSync(a, 1, "g-002")
	done := make(chan error, 3)
	c := dialRedis(t, g.proxy.Addrs().Primary, 2)
	go func() { done <- c.Set(ctx, "k", "v", 0).Err() }()
	go func() { done <- c.Incr(ctx, "n").Err() }()
	go func() {
		_, err := c.TxPipelined(ctx, func(p goredis.Pipeliner) error { p.Incr(ctx, "n"); return nil })
		done <- err
	}()
	select {
	case err := <-done:
		t.Fatalf("answered: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	b.replicaOf(t, a)
	g.say(b.status)
	for range 3 {
		must(t, <-done)
	}
	if n := a.client.Get(ctx, "n").Val(); n != "2" {
		t.Errorf("n = %s", n)
	}
}
