package proxy

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

// counting increments one key from many clients, and counts what they are told.
func (g *group) counting(key string, clients int) (acked *atomic.Int64, stop func()) {
	acked = &atomic.Int64{}
	done := make(chan struct{})
	var all sync.WaitGroup
	for range clients {
		all.Go(func() {
			c := dialRedis(g.t, g.proxy.Addrs().Primary, 2)
			last := int64(0)
			for {
				select {
				case <-done:
					return
				default:
				}
				n, err := c.Incr(ctx, key).Result()
				if err != nil || n <= last {
					g.t.Errorf("a client was told %d after %d, %v", n, last, err)
					return
				}
				last = n
				acked.Add(1)
			}
		})
	}
	return acked, func() { close(done); all.Wait() }
}

func withOnce(o *Options) { o.Once = []string{"once:"} }

func TestWritesWithAMarkerRunExactlyOnceOverFailovers(t *testing.T) {
	for range 3 {
		a, b := startNode(t, "g-001"), startNode(t, "g-002")
		a.promote(t)
		b.replicaOf(t, a)
		g := startProxy(t, withOnce)
		g.say(b.status)
		g.leadSync(a, 1, "g-002")
		acked, stop := g.counting("once:n", 16)
		eventually(t, "increments flow", func() bool { return acked.Load() > 1000 })
		g.failOver(a, b)
		before := acked.Load()
		eventually(t, "increments flow again", func() bool { return acked.Load() > before+500 })
		stop()
		if n := b.client.Get(ctx, "once:n").Val(); n != fmt.Sprint(acked.Load()) {
			t.Errorf("%d increments were acked, the counter says %s", acked.Load(), n)
		}
		if n := g.metric("understudy_proxy_unknown_outcomes_total"); n != 0 {
			t.Errorf("%v unknown outcomes", n)
		}
	}
}

// The connection breaks and the primary stays, in async: nobody's log could tell what became of a write.
func TestWritesWithAMarkerRunExactlyOnceOverBrokenConnections(t *testing.T) {
	a := startNode(t, "g-001")
	a.promote(t)
	g := startProxy(t, withOnce)
	g.lead(a, 1, nil)
	const clients, breaks = 8, 20
	acked, stop := g.counting("once:n", clients)
	for range breaks {
		before := acked.Load()
		eventually(t, "increments flow", func() bool { return acked.Load() > before+50 })
		must(t, a.client.Do(ctx, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes").Err())
	}
	stop()
	if n := a.client.Get(ctx, "once:n").Val(); n != fmt.Sprint(acked.Load()) {
		t.Errorf("%d increments were acked, the counter says %s", acked.Load(), n)
	}
	kept := a.client.Keys(ctx, "understudy:*").Val()
	markers := len(kept)
	if len(kept) == 0 || slices.ContainsFunc(kept, func(key string) bool { return isOurChannel([]byte(key)) || strings.Contains(key, g.proxy.loop.channel) }) {
		t.Errorf("markers %q: there are some, and none tells the name of the proxy's channel", kept)
	}
	// Those of requests that were sent more than once are left to expire.
	if markers > clients*breaks+clients+onceDone {
		t.Errorf("%d markers are left of %d writes", markers, acked.Load())
	}
	for _, key := range a.client.Keys(ctx, "understudy:*").Val() {
		if ttl := a.client.TTL(ctx, key).Val(); ttl <= 0 || ttl > 2*5*time.Second+onceSpare {
			t.Errorf("a marker lives for %v", ttl)
		}
	}
}

// With a marker a command answers what it answers without.
func TestMarkersDoNotChangeReplies(t *testing.T) {
	a := startNode(t, "g-001")
	a.promote(t)
	g := startProxy(t, withOnce)
	g.lead(a, 1, nil)
	for _, proto := range []int{2, 3} {
		c := dialRedis(t, g.proxy.Addrs().Primary, proto)
		for _, cmd := range []string{
			"INCR %sn", "INCRBYFLOAT %sf 1.5", "APPEND %ss abc", "LPUSH %sl a b c", "LPOP %sl", "LPOP %sl 2", "LPOP %sl", "LPOP %sl 2",
			"SADD %sset x", "SPOP %sset", "SPOP %sset", "HSET %sh f v g w", "HINCRBYFLOAT %sh x 0.1", "ZADD %sz 1.5 m", "GETDEL %ss", "GETSET %sn 7",
			"SETNX %snx 1", "SETNX %snx 1", "XADD %sx 1-1 f v", "LPUSH %sn x", "INCR %sh", "SET %sg v GET", "SET %sg w GET", "DEL %sg %snx", "RENAME %sn %sm",
			"LMPOP 1 %sl LEFT", "ZADD %sz NX INCR 1 m",
		} {
			with, without := askBoth(c, cmd, "once:"), askBoth(c, cmd, "twice:")
			if !reflect.DeepEqual(with, without) {
				t.Errorf("RESP%d: %s: %v with a marker, %v without", proto, cmd, with, without)
			}
		}
		must(t, c.FlushAll(ctx).Err())
	}
	if n := g.metric("understudy_proxy_once_requests_total"); n < 40 {
		t.Errorf("only %v requests had a marker", n)
	}
}

func askBoth(c *goredis.Client, cmd, prefix string) string {
	var words []any
	for _, w := range strings.Fields(strings.ReplaceAll(cmd, "%s", prefix)) {
		words = append(words, w)
	}
	v, err := c.Do(ctx, words...).Result()
	text := fmt.Sprint(v, " ", err)
	before, _, _ := strings.Cut(text, " script: ") // where in the script
	return before
}

// The client must not be told to repeat what may be in the log: its repetition would have another marker.
func TestSentWriteWithAMarkerIsUnknownWhenTheHoldEnds(t *testing.T) {
	a := startNode(t, "g-001")
	a.promote(t)
	g := startProxy(t, func(o *Options) { withOnce(o); o.Hold = 300 * time.Millisecond })
	g.lead(a, 1, nil)
	c := dialRedis(t, g.proxy.Addrs().Primary, 2)
	must(t, c.Incr(ctx, "once:n").Err())
	a.freeze(t)
	before := g.metric("understudy_proxy_once_requests_total")
	told := make(chan error, 1)
	go func() { told <- c.Incr(ctx, "once:n").Err() }()
	eventually(t, "it is sent", func() bool { return g.metric("understudy_proxy_once_requests_total") > before })
	g.fence(a)
	if err := <-told; err == nil || !strings.HasPrefix(err.Error(), "UNKNOWN") {
		t.Errorf("err = %v, want UNKNOWN", err)
	}
	if err := c.Incr(ctx, "once:n").Err(); err == nil || !strings.HasPrefix(err.Error(), "TRYAGAIN") {
		t.Errorf("one that was not sent: %v, want TRYAGAIN", err)
	}
}

func TestMarkersAreOnlyForTheirPrefixes(t *testing.T) {
	a := startNode(t, "g-001")
	a.promote(t)
	g := startProxy(t, withOnce)
	g.lead(a, 1, nil)
	c := dialRedis(t, g.proxy.Addrs().Split, 3)
	must(t, c.Set(ctx, "once:s", "v", 0).Err()) // may run twice anyway
	must(t, c.Incr(ctx, "n").Err())
	must(t, c.RPush(ctx, "list", 1).Err())
	must(t, c.LMove(ctx, "list", "once:list", "LEFT", "LEFT").Err()) // not all of its keys
	_, err := c.TxPipelined(ctx, func(p goredis.Pipeliner) error { p.Incr(ctx, "once:n"); return nil })
	must(t, err)
	if n := g.metric("understudy_proxy_once_requests_total"); n != 0 {
		t.Errorf("%v requests had a marker", n)
	}
}
