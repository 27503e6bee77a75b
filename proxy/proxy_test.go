package proxy

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"understudy/cluster"
)

var ctx = context.Background()

func TestProxyServesAnyCommandInBothProtocols(t *testing.T) {
	n := startNode(t, "g-001")
	n.promote(t)
	g := startProxy(t, nil)
	g.lead(n, 1, nil)
	for _, proto := range []int{2, 3} {
		c := dialRedis(t, g.proxy.Addrs().Primary, proto)
		must(t, c.Set(ctx, "a", "1", time.Minute).Err())
		if v := c.Incr(ctx, "a").Val(); v != 2 {
			t.Errorf("RESP%d: INCR = %d", proto, v)
		}
		must(t, c.HSet(ctx, "h", "f", "v", "g", "w").Err())
		if v := c.HGetAll(ctx, "h").Val(); len(v) != 2 {
			t.Errorf("RESP%d: HGETALL = %v", proto, v)
		}
		if v := c.Do(ctx, "ROLE").Val().([]any)[0]; v != "master" {
			t.Errorf("RESP%d: ROLE = %v", proto, v)
		}
		if v := c.Info(ctx, "replication").Val(); !strings.Contains(v, "role:master") {
			t.Errorf("RESP%d: INFO = %q", proto, v)
		}
		if err := c.Do(ctx, "NOSUCH").Err(); err == nil || !strings.Contains(err.Error(), "unknown command") {
			t.Errorf("RESP%d: NOSUCH: %v", proto, err)
		}
		if err := c.Do(ctx, "REPLICAOF", "NO", "ONE").Err(); err == nil || !strings.Contains(err.Error(), "understudy") {
			t.Errorf("RESP%d: REPLICAOF: %v", proto, err)
		}
		if v := c.Eval(ctx, "return redis.call('get', KEYS[1])", []string{"a"}).Val(); v != "2" {
			t.Errorf("RESP%d: EVAL = %v", proto, v)
		}
		must(t, c.Del(ctx, "a", "h").Err())
	}
}

func TestProxyKeepsSessionState(t *testing.T) {
	n := startNode(t, "g-001")
	n.promote(t)
	must(t, n.client.Do(ctx, "ACL", "SETUSER", "app", "on", ">secret", "~*", "+@all").Err())
	g := startProxy(t, nil)
	g.lead(n, 1, nil)
	c := goredis.NewClient(&goredis.Options{Addr: g.proxy.Addrs().Primary, DB: 3, Username: "app", Password: "secret",
		ClientName: "worker", Protocol: 3, MaxRetries: -1, PoolSize: 1})
	defer c.Close()
	must(t, c.Set(ctx, "in3", "x", 0).Err())
	if v := c.Do(ctx, "ACL", "WHOAMI").Val(); v != "app" {
		t.Errorf("WHOAMI = %v", v)
	}
	if v := c.ClientGetName(ctx).Val(); v != "worker" {
		t.Errorf("CLIENT GETNAME = %q", v)
	}
	other := dialRedis(t, g.proxy.Addrs().Primary, 2)
	if err := other.Get(ctx, "in3").Err(); !errors.Is(err, goredis.Nil) {
		t.Errorf("a key of database 3 is seen in database 0: %v", err)
	}
	bad := goredis.NewClient(&goredis.Options{Addr: g.proxy.Addrs().Primary, Username: "app", Password: "wrong", MaxRetries: -1, Protocol: 2})
	defer bad.Close()
	if err := bad.Ping(ctx).Err(); err == nil || !strings.Contains(err.Error(), "WRONGPASS") {
		t.Errorf("a wrong password: %v", err)
	}
}

func TestProxyRunsTransactionsBlockingAndPubSub(t *testing.T) {
	n := startNode(t, "g-001")
	n.promote(t)
	g := startProxy(t, nil)
	g.lead(n, 1, nil)
	for _, proto := range []int{2, 3} {
		c := dialRedis(t, g.proxy.Addrs().Primary, proto)
		cmds, err := c.TxPipelined(ctx, func(p goredis.Pipeliner) error {
			p.Set(ctx, "t", "1", 0)
			p.Incr(ctx, "t")
			return nil
		})
		must(t, err)
		if v := cmds[1].(*goredis.IntCmd).Val(); v != 2 {
			t.Errorf("RESP%d: EXEC = %d", proto, v)
		}
		err = c.Watch(ctx, func(tx *goredis.Tx) error {
			must(t, n.client.Set(ctx, "t", "other", 0).Err())
			_, err := tx.TxPipelined(ctx, func(p goredis.Pipeliner) error { p.Set(ctx, "t", "mine", 0); return nil })
			return err
		}, "t")
		if !errors.Is(err, goredis.TxFailedErr) {
			t.Errorf("RESP%d: a watched key was changed, EXEC: %v", proto, err)
		}
		go func() { time.Sleep(30 * time.Millisecond); n.client.LPush(ctx, "q", "job") }()
		if v, err := c.BRPop(ctx, 5*time.Second, "q").Result(); err != nil || v[1] != "job" {
			t.Errorf("RESP%d: BRPOP = %v, %v", proto, v, err)
		}
		sub := c.Subscribe(ctx, "news")
		_, err = sub.Receive(ctx)
		must(t, err)
		must(t, c.Publish(ctx, "news", "hello").Err())
		m, err := sub.ReceiveMessage(ctx)
		if err != nil || m.Payload != "hello" {
			t.Errorf("RESP%d: message = %v, %v", proto, m, err)
		}
		must(t, sub.Close())
	}
}

func TestProxyHoldsWritesUntilNewPrimary(t *testing.T) {
	a, b := startNode(t, "g-001"), startNode(t, "g-002")
	a.promote(t)
	b.replicaOf(t, a)
	g := startProxy(t, nil)
	g.lead(a, 1, nil)
	g.say(b.status)
	c := dialRedis(t, g.proxy.Addrs().Primary, 2)
	must(t, c.Set(ctx, "k", "before", 0).Err())
	must(t, a.server.Kill())
	g.fence(a)
	done := make(chan error, 1)
	go func() { done <- c.Set(ctx, "k", "after", 0).Err() }()
	select {
	case err := <-done:
		t.Fatalf("a write was answered without a primary: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	b.promote(t)
	g.lead(b, 2, nil)
	must(t, <-done)
	if v := b.client.Get(ctx, "k").Val(); v != "after" {
		t.Errorf("k = %q", v)
	}
}

func TestProxyGivesUpAHoldWithARetryableError(t *testing.T) {
	g := startProxy(t, func(o *Options) { o.Hold = 50 * time.Millisecond })
	c := dialRedis(t, g.proxy.Addrs().Primary, 2)
	if err := c.Set(ctx, "k", "v", 0).Err(); err == nil || !strings.HasPrefix(err.Error(), "TRYAGAIN no primary") {
		t.Errorf("err = %v", err)
	}
}

func TestProxyAcksASyncWriteOnlyOnceAVoterHasIt(t *testing.T) {
	a, b := startNode(t, "g-001"), startNode(t, "g-002")
	a.promote(t)
	b.replicaOf(t, a)
	g := startProxy(t, nil)
	g.say(b.status)
	g.lead(a, 1, syncRule("g-002", "g-003"))
	c := dialRedis(t, g.proxy.Addrs().Primary, 2)
	must(t, c.Set(ctx, "k", "v", 0).Err())
	if v := b.client.Get(ctx, "k").Val(); v != "v" {
		t.Errorf("acked, and the replica has %q", v)
	}
	must(t, b.server.Kill())
	done := make(chan error, 2)
	go func() { done <- c.Set(ctx, "k", "w", 0).Err() }()
	go func() { time.Sleep(20 * time.Millisecond); done <- c.Get(ctx, "k").Err() }()
	select {
	case <-done:
		t.Fatal("a write without a voter was acked, or shown to a reader")
	case <-time.After(300 * time.Millisecond):
	}
	g.lead(a, 1, syncRule()) // the rule shrinks in the store
	must(t, <-done)
	must(t, <-done)
}

func TestProxyTellsReplicasApartWhenOnlyOneVotes(t *testing.T) {
	a, b, x := startNode(t, "g-001"), startNode(t, "g-002"), startNode(t, "g-003")
	a.promote(t)
	b.replicaOf(t, a)
	x.replicaOf(t, a)
	g := startProxy(t, nil)
	g.say(b.status)
	g.say(x.status)
	g.lead(a, 1, syncRule("g-002"))
	c := dialRedis(t, g.proxy.Addrs().Primary, 2)
	for i := range 20 {
		must(t, c.Set(ctx, key(i), "v", 0).Err())
	}
	must(t, b.server.Kill())
	done := make(chan error, 1)
	go func() { done <- c.Set(ctx, "k", "w", 0).Err() }()
	select {
	case <-done:
		t.Fatal("acked by a replica that has no vote")
	case <-time.After(300 * time.Millisecond):
	}
	g.lead(a, 1, syncRule("g-003"))
	must(t, <-done)
}

func TestReaderEndpointReadsReplicasAndFallsBack(t *testing.T) {
	a, b := startNode(t, "g-001"), startNode(t, "g-002")
	a.promote(t)
	b.replicaOf(t, a)
	g := startProxy(t, nil)
	g.lead(a, 1, nil)
	g.say(b.status)
	must(t, a.client.Set(ctx, "k", "v", 0).Err())
	eventually(t, "the replica has the key", func() bool { return b.client.Get(ctx, "k").Val() == "v" })
	c := dialRedis(t, g.proxy.Addrs().Reader, 2)
	if v, err := c.Get(ctx, "k").Result(); v != "v" {
		t.Errorf("k = %q, %v", v, err)
	}
	if v := c.Do(ctx, "ROLE").Val().([]any)[0]; v != "slave" {
		t.Errorf("ROLE on the reader endpoint = %v", v)
	}
	if err := c.Set(ctx, "k", "w", 0).Err(); err == nil || !strings.HasPrefix(err.Error(), "READONLY") {
		t.Errorf("a write on the reader endpoint: %v", err)
	}
	must(t, b.server.Kill())
	s := b.status
	s.State = cluster.StateDown
	g.say(s)
	if v, err := c.Get(ctx, "k").Result(); v != "v" {
		t.Errorf("without replicas k = %q, %v", v, err)
	}
}

func TestSplitEndpointReadsWhatWasWritten(t *testing.T) {
	a, b := startNode(t, "g-001"), startNode(t, "g-002")
	a.promote(t)
	b.replicaOf(t, a)
	g := startProxy(t, nil)
	g.lead(a, 1, nil)
	g.say(b.status)
	for i := range 300 {
		w, r := dialRedis(t, g.proxy.Addrs().Split, 2), dialRedis(t, g.proxy.Addrs().Split, 2)
		must(t, w.Set(ctx, "k", i, 0).Err())
		if v, err := r.Get(ctx, "k").Int(); v != i {
			t.Fatalf("written %d, read %d, %v", i, v, err)
		}
		w.Close()
		r.Close()
	}
	c := dialRedis(t, g.proxy.Addrs().Split, 2)
	before := c.Get(ctx, "k").Val()
	eventually(t, "reads go to the replica", func() bool {
		n, _ := b.client.Info(ctx, "commandstats").Result()
		_ = c.Get(ctx, "k").Val()
		return strings.Contains(n, "cmdstat_get")
	})
	if before != "299" {
		t.Errorf("k = %q", before)
	}
}

func TestNothingIsCarriedOutWithoutTheSessionsLogin(t *testing.T) {
	a, b := startNode(t, "g-001"), startNode(t, "g-002")
	a.promote(t)
	must(t, a.client.Do(ctx, "ACL", "SETUSER", "app", "on", ">secret", "~*", "&*", "+@all").Err())
	g := startProxy(t, nil)
	g.lead(a, 1, nil)
	c := goredis.NewClient(&goredis.Options{Addr: g.proxy.Addrs().Primary, Username: "app", Password: "secret", Protocol: 2, MaxRetries: -1, PoolSize: 1})
	defer c.Close()
	must(t, c.Set(ctx, "k", "v", 0).Err())
	// The next primary does not know the user. What the session sends must not run as the default one.
	b.promote(t)
	g.fence(a)
	g.lead(b, 2, nil)
	for _, cmd := range [][]any{{"SET", "x", "1"}, {"INCR", "y"}, {"BLPOP", "z", "1"}} {
		if err := c.Do(ctx, cmd...).Err(); err == nil || !strings.HasPrefix(err.Error(), "WRONGPASS") {
			t.Errorf("%v: %v, want WRONGPASS", cmd, err)
		}
	}
	if n := b.client.DBSize(ctx).Val(); n != 0 {
		t.Errorf("%d keys were written without a login", n)
	}
}

func TestClientsWaitCoversItsWrites(t *testing.T) {
	a, b := startNode(t, "g-001"), startNode(t, "g-002")
	a.promote(t)
	b.replicaOf(t, a)
	g := startProxy(t, nil)
	g.lead(a, 1, nil)
	c := dialRedis(t, g.proxy.Addrs().Primary, 2)
	must(t, c.Set(ctx, "k", "v", 0).Err())
	if n, err := c.Wait(ctx, 1, time.Second).Result(); n != 1 {
		t.Errorf("WAIT 1 = %d, %v", n, err)
	}
	must(t, b.server.Kill())
	must(t, c.Set(ctx, "k", "w", 0).Err())
	if n, err := c.Wait(ctx, 1, 50*time.Millisecond).Result(); n != 0 {
		t.Errorf("WAIT without a replica = %d, %v", n, err)
	}
}
