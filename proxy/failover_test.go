package proxy

import (
	"errors"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"understudy/cluster"
)

// info reads one field of INFO replication.
func (n *node) info(t testing.TB, field string) string {
	t.Helper()
	text, err := n.client.Info(ctx, "replication").Result()
	must(t, err)
	for line := range strings.Lines(text) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), field+":"); ok {
			return v
		}
	}
	t.Fatalf("INFO has no %s", field)
	return ""
}

// fork is what the agent of a promoted node says of its log.
func (n *node) fork(t testing.TB, epoch cluster.Epoch) cluster.Fork {
	f := cluster.Fork{Epoch: epoch, ReplID: n.info(t, "master_replid")}
	if at, _ := strconv.ParseInt(n.info(t, "second_repl_offset"), 10, 64); at > 0 {
		f.Parent, f.At = n.info(t, "master_replid2"), at-1
	}
	return f
}

func (g *group) leadSync(n *node, epoch cluster.Epoch, voters ...cluster.NodeID) {
	f := n.fork(g.t, epoch)
	g.lead(n, epoch, func(s *cluster.NodeStatus) {
		syncRule(voters...)(s)
		s.Fork = f
	})
}

// pair starts a primary with one replica behind a proxy, in durability sync.
func pair(t *testing.T) (g *group, a, b *node) {
	a, b = startNode(t, "g-001"), startNode(t, "g-002")
	a.promote(t)
	b.replicaOf(t, a)
	g = startProxy(t, nil)
	g.say(b.status)
	g.leadSync(a, 1, "g-002")
	g.say(b.status)
	g.awaitWitness(b)
	return g, a, b
}

// awaitWitness waits until the proxy watches the replica's log.
func (g *group) awaitWitness(n *node) {
	g.t.Helper()
	eventually(g.t, "the proxy watches the replica's log", func() bool {
		v, _ := n.client.PubSubNumSub(ctx, g.proxy.loop.channel).Result()
		return v[g.proxy.loop.channel] == 1
	})
}

// failOver kills the primary and makes b the next one, of epoch 2.
func (g *group) failOver(a, b *node) {
	g.t.Helper()
	must(g.t, a.server.Kill())
	g.fence(a)
	b.promote(g.t)
	g.leadSync(b, 2)
}

func TestProxyNeitherLosesNorRepeatsIncrementsWhenThePrimaryDies(t *testing.T) {
	for round := range 5 {
		g, a, b := pair(t)
		var acked, unknown atomic.Int64
		var clients sync.WaitGroup
		stop := make(chan struct{})
		for range 16 {
			clients.Go(func() {
				c := dialRedis(t, g.proxy.Addrs().Primary, 2)
				for {
					select {
					case <-stop:
						return
					default:
					}
					switch err := c.Incr(ctx, "n").Err(); {
					case err == nil:
						acked.Add(1)
					case strings.HasPrefix(err.Error(), "UNKNOWN"):
						unknown.Add(1)
					default:
						t.Errorf("a client saw %v", err)
						return
					}
				}
			})
		}
		eventually(t, "increments flow", func() bool { return acked.Load() > 2000 })
		g.failOver(a, b)
		before := acked.Load()
		eventually(t, "increments flow again", func() bool { return acked.Load() > before+500 })
		close(stop)
		clients.Wait()
		n, err := b.client.Get(ctx, "n").Int64()
		must(t, err)
		if n < acked.Load() || n > acked.Load()+unknown.Load() {
			t.Errorf("round %d: %d increments acked, %d unknown, the counter says %d", round, acked.Load(), unknown.Load(), n)
		}
		if unknown.Load() > 16 {
			t.Errorf("round %d: more unknown outcomes (%d) than one batch can have", round, unknown.Load())
		}
		t.Logf("round %d: %d acked, %d unknown", round, acked.Load(), unknown.Load())
	}
}

func TestBlockedPopSurvivesThePrimary(t *testing.T) {
	g, a, b := pair(t)
	c := dialRedis(t, g.proxy.Addrs().Primary, 3)
	got := make(chan []string, 1)
	go func() {
		v, err := c.BRPop(ctx, 10*time.Second, "jobs").Result()
		if err != nil {
			t.Error(err)
		}
		got <- v
	}()
	eventually(t, "the pop is blocked", func() bool { return strings.Contains(a.client.Info(ctx, "clients").Val(), "blocked_clients:1") })
	g.failOver(a, b)
	must(t, dialRedis(t, g.proxy.Addrs().Primary, 2).LPush(ctx, "jobs", "one").Err())
	if v := <-got; len(v) != 2 || v[1] != "one" {
		t.Errorf("popped %v", v)
	}
}

func TestTransactionsAndWatchSurviveThePrimary(t *testing.T) {
	g, a, b := pair(t)
	c := dialRedis(t, g.proxy.Addrs().Primary, 2)
	one := c.Conn()
	defer one.Close()
	two := c.Conn()
	defer two.Close()
	must(t, one.Do(ctx, "MULTI").Err())
	must(t, one.Do(ctx, "SET", "t", "1").Err())
	must(t, one.Do(ctx, "INCR", "t").Err())
	must(t, two.Do(ctx, "WATCH", "w").Err())
	must(t, two.Do(ctx, "MULTI").Err())
	must(t, two.Do(ctx, "SET", "w", "1").Err())
	g.failOver(a, b)
	if v, err := one.Do(ctx, "EXEC").Slice(); err != nil || len(v) != 2 || v[1] != int64(2) {
		t.Errorf("EXEC = %v, %v", v, err)
	}
	if v, err := two.Do(ctx, "EXEC").Result(); !errors.Is(err, goredis.Nil) {
		t.Errorf("EXEC after a lost WATCH = %v, %v; want nil", v, err)
	}
	if v := b.client.Exists(ctx, "w").Val(); v != 0 {
		t.Error("a transaction whose WATCH was lost was executed")
	}
	must(t, two.Do(ctx, "SET", "w", "2").Err()) // the connection goes on as an ordinary one
}

// A transaction that was sent whole and not answered may have run: it is not sent anew, and what it had
// queued is not either.
func TestPipelinedTransactionIsUnknownAsAWhole(t *testing.T) {
	g, a, b := pair(t)
	c := dialRedis(t, g.proxy.Addrs().Primary, 2).Conn()
	defer c.Close()
	must(t, c.Ping(ctx).Err())
	a.freeze(t)
	before := g.metric("understudy_proxy_requests_total")
	done := make(chan []goredis.Cmder, 1)
	go func() {
		cmds, _ := c.TxPipelined(ctx, func(p goredis.Pipeliner) error { p.Incr(ctx, "n"); return nil })
		done <- cmds
	}()
	eventually(t, "the transaction is sent", func() bool { return g.metric("understudy_proxy_requests_total") >= before+3 })
	g.failOver(a, b)
	for _, cmd := range <-done {
		if err := cmd.Err(); err == nil || !strings.HasPrefix(err.Error(), "UNKNOWN") {
			t.Errorf("%v: %v, want UNKNOWN", cmd, err)
		}
	}
	if n, err := c.Incr(ctx, "n").Result(); n != 1 {
		t.Errorf("the next INCR gives %d, %v", n, err)
	}
}

func TestSubscriberKeepsItsSocketOverAFailover(t *testing.T) {
	for _, proto := range []int{2, 3} {
		g, a, b := pair(t)
		c := dialRedis(t, g.proxy.Addrs().Primary, proto)
		sub := c.Subscribe(ctx, "news", "sport")
		defer sub.Close()
		for range 2 {
			if _, err := sub.Receive(ctx); err != nil {
				t.Fatal(err)
			}
		}
		g.failOver(a, b)
		eventually(t, "the new primary has the subscriber", func() bool {
			v, _ := b.client.PubSubNumSub(ctx, "news", "sport").Result()
			return v["news"] == 1 && v["sport"] == 1
		})
		must(t, c.Publish(ctx, "sport", "goal").Err())
		m, err := sub.ReceiveMessage(ctx)
		if err != nil || m.Payload != "goal" {
			t.Errorf("RESP%d: %v, %v", proto, m, err)
		}
	}
}

func TestPipelineIsAnsweredInOrderOverAFailover(t *testing.T) {
	g, a, b := pair(t)
	c := dialRedis(t, g.proxy.Addrs().Primary, 2)
	done := make(chan error, 1)
	go func() {
		for i := range 200 {
			cmds, err := c.Pipelined(ctx, func(p goredis.Pipeliner) error {
				for j := range 50 {
					p.Set(ctx, "p", i*50+j, 0)
					p.Get(ctx, "p")
				}
				return nil
			})
			if err != nil {
				done <- err
				return
			}
			for j := range 50 {
				if v, err := cmds[2*j+1].(*goredis.StringCmd).Int(); v != i*50+j {
					done <- errors.Join(errors.New("the pipeline read "+strconv.Itoa(v)+" after writing "+strconv.Itoa(i*50+j)), err)
					return
				}
			}
		}
		done <- nil
	}()
	time.Sleep(50 * time.Millisecond) // somewhere in the middle of the pipelines
	g.failOver(a, b)
	must(t, <-done)
}
