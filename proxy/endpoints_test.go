package proxy

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"understudy/cluster"
)

// threeNodes starts a primary with a replica in the proxy's zone and one in another.
func threeNodes(t *testing.T, change func(*Options)) (g *group, a, near, far *node) {
	t.Helper()
	a, near, far = startNode(t, "g-001"), startNode(t, "g-002"), startNode(t, "g-003")
	far.status.Zone = "other"
	a.promote(t)
	near.replicaOf(t, a)
	far.replicaOf(t, a)
	g = startProxy(t, change)
	g.lead(a, 1, nil)
	g.say(near.status)
	g.say(far.status)
	must(t, dialRedis(t, g.proxy.Addrs().Primary, 2).MSet(ctx, "k", "v", "k2", "v").Err())
	eventually(t, "the replicas have the data", func() bool {
		return near.client.Get(ctx, "k2").Val() == "v" && far.client.Get(ctx, "k2").Val() == "v"
	})
	return g, a, near, far
}

// routed is how many reads went where they did for a reason.
func (g *group) routed(reason string) float64 {
	g.t.Helper()
	n, _ := g.labelled("understudy_proxy_read_routes_total", "reason", reason)
	return n
}

// readsGo reads until the proxy counts a read with the reason.
func (g *group) readsGo(addr, reason string) {
	g.t.Helper()
	c := dialRedis(g.t, addr, 2)
	before := g.routed(reason)
	eventually(g.t, "reads go by "+reason, func() bool {
		if v, err := c.Get(ctx, "k").Result(); v != "v" {
			g.t.Fatalf("k = %q, %v", v, err)
		}
		return g.routed(reason) > before
	})
}

// A replica whose link is dead looks as new as ever by its own word.
func TestReplicaWhoseDataIsTooOldIsNotReadFrom(t *testing.T) {
	const bound = 500 * time.Millisecond
	g, _, near, far := threeNodes(t, func(o *Options) { o.MaxStaleness = bound })
	g.awaitAge(near)
	g.readsGo(g.proxy.Addrs().Reader, "same zone")
	near.freeze(t)
	writer := dialRedis(t, g.proxy.Addrs().Primary, 2)
	tooOld := func(n *node) func() bool {
		return func() bool { // only what was written since makes a replica's data old
			must(t, writer.Incr(ctx, "n").Err())
			age, known := g.labelled("understudy_proxy_replica_age_seconds", "node", string(n.id))
			return known && age > 2*bound.Seconds()
		}
	}
	eventually(t, "the frozen one is too old", tooOld(near))
	g.readsGo(g.proxy.Addrs().Reader, "other zone")
	far.freeze(t)
	eventually(t, "both are too old", tooOld(far))
	for _, endpoint := range []string{g.proxy.Addrs().Reader, g.proxy.Addrs().Split} {
		g.readsGo(endpoint, "too old")
	}
	near.thaw(t)
	g.readsGo(g.proxy.Addrs().Split, "same zone")
}

func TestReplicaThatIsTooFarBehindIsNotReadFrom(t *testing.T) {
	g, _, near, far := threeNodes(t, func(o *Options) { o.MaxLagBytes = 1000 })
	g.readsGo(g.proxy.Addrs().Reader, "same zone")
	near.status.LagBytes = 1001
	g.say(near.status)
	g.readsGo(g.proxy.Addrs().Reader, "other zone")
	far.status.LagBytes = 1001
	g.say(far.status)
	g.readsGo(g.proxy.Addrs().Reader, "too far behind")
	near.status.LagBytes = 1000
	g.say(near.status)
	g.readsGo(g.proxy.Addrs().Reader, "same zone")
}

// A client that had to read in another zone comes back to its own, once that has all that it has read.
func TestReadsComeBackToTheirZone(t *testing.T) {
	g, _, near, _ := threeNodes(t, nil)
	away := near.status
	away.State = cluster.StateSyncing
	g.say(away)
	for _, endpoint := range []string{g.proxy.Addrs().Reader, g.proxy.Addrs().Split} {
		c := dialRedis(t, endpoint, 2)
		eventually(t, "reads go to the other zone", func() bool {
			before := g.routed("other zone")
			must(t, c.Get(ctx, "k").Err())
			return g.routed("other zone") > before
		})
		g.say(near.status)
		eventually(t, "they come back", func() bool {
			before := g.routed("same zone")
			must(t, c.Get(ctx, "k").Err())
			return g.routed("same zone") > before
		})
		g.say(away)
	}
}

// What the split endpoint's clients read after a script, or after a write of several keys, has it.
func TestReadsDoNotGoToAReplicaPastAScriptOrAWriteOfSeveralKeys(t *testing.T) {
	g, _, near, far := threeNodes(t, nil)
	c := dialRedis(t, g.proxy.Addrs().Split, 2)
	g.readsGo(g.proxy.Addrs().Split, "same zone") // the replicas have what was written so far
	before := g.routed("key behind")
	near.freeze(t)
	far.freeze(t)
	must(t, c.MSet(ctx, "m1", "1", "m2", "2").Err())
	for _, k := range []string{"m1", "m2"} {
		if v := dialRedis(t, g.proxy.Addrs().Split, 2).Get(ctx, k).Val(); v != k[1:] {
			t.Errorf("%s = %q", k, v)
		}
	}
	if n := g.routed("key behind") - before; n != 2 {
		t.Errorf("%v reads went to the primary", n)
	}
	// It does not name the key that it writes: from here on every key is behind.
	must(t, c.Eval(ctx, "return redis.call('set', 'hid'..'den', '3')", nil).Err())
	for k, want := range map[string]string{"hidden": "3", "k": "v"} {
		if v := dialRedis(t, g.proxy.Addrs().Split, 2).Get(ctx, k).Val(); v != want {
			t.Errorf("%s = %q", k, v)
		}
	}
	if n := g.routed("key behind") - before; n != 4 {
		t.Errorf("%v reads went to the primary", n)
	}
	near.thaw(t)
	far.thaw(t)
	g.readsGo(g.proxy.Addrs().Split, "same zone")
}

func TestTransactionOnTheSplitEndpointStaysWithThePrimary(t *testing.T) {
	g, a, near, far := threeNodes(t, nil)
	before := [3]int{a.calls(t, "get"), near.calls(t, "get"), far.calls(t, "get")}
	c := dialTalker(t, g.proxy.Addrs().Split)
	for _, line := range []string{"WATCH k", "GET k", "MULTI", "GET k", "GET k2", "EXEC"} {
		c.say("%s", line)
	}
	c.hear("+OK", "$1", "v", "+OK", "+QUEUED", "+QUEUED", "*2", "$1", "v", "$1", "v")
	after := [3]int{a.calls(t, "get") - before[0], near.calls(t, "get") - before[1], far.calls(t, "get") - before[2]}
	if after[0] < 2 || after[0]+after[1]+after[2] != 3 {
		t.Errorf("the nodes have carried out %v of three reads, two of them in a transaction", after)
	}
}

func TestHoldIsBoundedInCountAndBytes(t *testing.T) {
	for bound, c := range map[string]struct {
		change func(*Options)
		size   int
	}{
		"requests": {func(o *Options) { o.HoldRequests = 2 }, 1},
		"bytes":    {func(o *Options) { o.HoldBytes = 5000 }, 2000},
	} {
		g := startProxy(t, func(o *Options) { o.Hold = time.Minute; c.change(o) })
		var all []*talker
		for i := range 3 {
			x := dialTalker(t, g.proxy.Addrs().Primary)
			x.say("SET k%d %s", i, strings.Repeat("x", c.size))
			all = append(all, x)
			if i < 2 {
				eventually(t, "it is held", func() bool { return g.metric("understudy_proxy_held_requests") == float64(i+1) })
			}
		}
		all[0].hearError("too many requests are waiting")
		eventually(t, "two are held, and one was refused by its bound", func() bool {
			n, _ := g.labelled("understudy_proxy_refused_requests_total", "bound", bound)
			return n == 1 && g.metric("understudy_proxy_leaked_errors_total") == 1 &&
				g.metric("understudy_proxy_held_requests") == 2 && g.metric("understudy_proxy_held_bytes") >= float64(2*c.size)
		})
		a := startNode(t, "g-001")
		a.promote(t)
		g.lead(a, 1, nil)
		all[1].hear("+OK")
		all[2].hear("+OK")
	}
}

// Half of a transaction must not run, nor must the next command find itself in one.
func TestTransactionThatWaitsTooLongIsGivenUpWhole(t *testing.T) {
	a, b := startNode(t, "g-001"), startNode(t, "g-002")
	a.promote(t)
	b.replicaOf(t, a)
	g := startProxy(t, func(o *Options) { o.Hold = time.Second })
	g.say(b.status)
	g.lead(a, 1, nil)
	c := dialTalker(t, g.proxy.Addrs().Primary)
	c.say("MULTI")
	c.say("SET x 1")
	c.hear("+OK", "+QUEUED")
	must(t, a.server.Kill())
	g.fence(a)
	c.say("SET y 2")
	c.say("EXEC")
	c.hearError("TRYAGAIN no primary since")
	c.hearError("TRYAGAIN no primary since")
	b.promote(t)
	g.lead(b, 2, nil)
	c.say("SET z 3")
	c.say("EXISTS x y z")
	c.hear("+OK", ":1")
}

func TestUnderstudyTellsThePolicies(t *testing.T) {
	a := startNode(t, "g-001")
	a.promote(t)
	g := startProxy(t, func(o *Options) {
		o.Hold = 4 * time.Second
		o.Policies = []Policy{{OnUnavailable: Fail}, {Prefix: "cache:", OnUnavailable: Stale, MaxStaleness: time.Minute}, {Prefix: "q:", OnUnavailable: Hold, MaxHold: time.Second}}
	})
	g.lead(a, 1, nil)
	want := []string{"cache: stale 4000 60000", "q: hold 1000 0", " fail 0 0"}
	for _, proto := range []int{2, 3} {
		v, err := dialRedis(t, g.proxy.Addrs().Reader, proto).Do(ctx, "UNDERSTUDY", "POLICIES").Slice()
		must(t, err)
		var got []string
		for _, p := range v {
			facts := map[any]any{}
			if m, ok := p.(map[any]any); ok {
				facts = m
			} else {
				for x := p.([]any); len(x) > 1; x = x[2:] {
					facts[x[0]] = x[1]
				}
			}
			got = append(got, fmt.Sprint(facts["prefix"], " ", facts["on_unavailable"], " ", facts["max_hold_ms"], " ", facts["max_staleness_ms"]))
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("RESP%d: %q, want %q", proto, got, want)
		}
	}
}
