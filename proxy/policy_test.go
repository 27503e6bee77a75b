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

// labelled is one metric's value, or its number of observations; false: nobody has set it.
func (g *group) labelled(name, label, value string) (float64, bool) {
	g.t.Helper()
	families, err := g.metrics.Gather()
	must(g.t, err)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if f.GetName() == name && l.GetName() == label && l.GetValue() == value {
					return m.GetGauge().GetValue() + m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount()), true
				}
			}
		}
	}
	return 0, false
}

// awaitAge waits until the proxy can prove how old a replica's data is.
func (g *group) awaitAge(n *node) {
	g.t.Helper()
	eventually(g.t, "the age of "+string(n.id)+" is known", func() bool {
		_, ok := g.labelled("understudy_proxy_replica_age_seconds", "node", string(n.id))
		return ok
	})
}

// leaderless kills the primary: its agent says so, and the replica's that the link is down.
func (g *group) leaderless(a, b *node) {
	g.t.Helper()
	must(g.t, a.server.Kill())
	cut := b.status
	cut.State = cluster.StateSyncing
	g.say(cut)
	g.fence(a)
}

// classes starts a primary and a replica, with a class of data for each policy.
func classes(t *testing.T, change func(*Options)) (g *group, a, b *node) {
	t.Helper()
	a, b = startNode(t, "g-001"), startNode(t, "g-002")
	a.promote(t)
	b.replicaOf(t, a)
	g = startProxy(t, func(o *Options) {
		o.Hold = 15 * time.Second
		o.Policies = []Policy{
			{Prefix: "session:", OnUnavailable: Fail},
			{Prefix: "cache:", OnUnavailable: Stale, MaxStaleness: time.Minute},
			{Prefix: "cache:price:", OnUnavailable: Fail},
			{Prefix: "queue:", OnUnavailable: Hold, MaxHold: 200 * time.Millisecond},
		}
		if change != nil {
			change(o)
		}
	})
	g.say(b.status)
	g.lead(a, 1, nil)
	c := dialRedis(t, g.proxy.Addrs().Primary, 2)
	must(t, c.MSet(ctx, "cache:1", "old", "cache:price:1", "9", "session:1", "s", "plain", "p").Err())
	eventually(t, "the replica has the data", func() bool { return b.client.Get(ctx, "plain").Val() == "p" })
	g.awaitAge(b)
	return g, a, b
}

// refusedAtOnce demands the error of a request that fails fast.
func refusedAtOnce(t *testing.T, what string, err error) {
	t.Helper()
	if err == nil || !strings.HasPrefix(err.Error(), "TRYAGAIN no primary since "+time.Now().UTC().Format("2006-")) ||
		!strings.Contains(err.Error(), "set to fail at once") {
		t.Errorf("%s: %v, want an error at once", what, err)
	}
}

func TestEachClassOfDataDoesAsItsPolicySays(t *testing.T) {
	g, a, b := classes(t, nil)
	client := func() *goredis.Client { return dialRedis(t, g.proxy.Addrs().Primary, 2) }
	waits := make(chan error, 8)
	read := client()
	must(t, read.Get(ctx, "plain").Err())
	g.leaderless(a, b)

	refusedAtOnce(t, "a read that fails", client().Get(ctx, "session:1").Err())
	refusedAtOnce(t, "a write that fails", client().Set(ctx, "session:1", "t", 0).Err())
	refusedAtOnce(t, "the longest prefix", client().Get(ctx, "cache:price:1").Err())
	refusedAtOnce(t, "the strictest of several keys", client().MGet(ctx, "cache:1", "session:1", "plain").Err())
	refusedAtOnce(t, "a blocking command", client().BLPop(ctx, 0, "session:q").Err())
	for _, endpoint := range []string{g.proxy.Addrs().Primary, g.proxy.Addrs().Split, g.proxy.Addrs().Reader} {
		if v, err := dialRedis(t, endpoint, 3).Get(ctx, "cache:1").Result(); v != "old" {
			t.Errorf("a stale read: %q, %v", v, err)
		}
	}
	began := time.Now()
	if err := client().Set(ctx, "queue:1", "x", 0).Err(); err == nil || !strings.Contains(err.Error(), "has waited for 2") {
		t.Errorf("a write that is held for 200 ms: %v", err)
	}
	if d := time.Since(began); d < 200*time.Millisecond || d > 10*time.Second {
		t.Errorf("it was held for %v", d)
	}
	for _, f := range []func(c *goredis.Client) error{
		func(c *goredis.Client) error { return c.Set(ctx, "cache:1", "new", 0).Err() },              // stale is for reads
		func(c *goredis.Client) error { return c.MGet(ctx, "cache:1", "plain").Err() },              // the strictest holds
		func(c *goredis.Client) error { return c.Eval(ctx, "return 1", []string{"cache:1"}).Err() }, // scripts are held
		func(c *goredis.Client) error { return c.Do(ctx, "DBSIZE").Err() },                          // what names no key is
	} {
		c := client()
		go func() { waits <- f(c) }()
	}
	eventually(t, "the rest is held", func() bool { return g.metric("understudy_proxy_held_requests") == 4 })
	select {
	case err := <-waits:
		t.Fatalf("it did not wait: %v", err)
	default:
	}
	if n := g.metric("understudy_proxy_stale_reads_total"); n != 3 {
		t.Errorf("%v stale reads were counted", n)
	}
	if n, _ := g.labelled("understudy_proxy_stale_read_age_seconds", "group", "g"); n != 3 {
		t.Errorf("%v ages were counted", n)
	}
	if n, _ := g.labelled("understudy_proxy_refused_requests_total", "bound", "fail fast"); n != 5 {
		t.Errorf("%v requests failed at once", n)
	}
	if n := g.metric("understudy_proxy_leaked_errors_total"); n != 1 { // the one that was held in vain
		t.Errorf("%v errors leaked", n)
	}
	g.healed(b, waits, 4)
	must(t, client().Get(ctx, "session:1").Err())
}

// healed makes the replica the next primary, and waits for what was held.
func (g *group) healed(b *node, waits <-chan error, n int) {
	g.t.Helper()
	b.promote(g.t)
	g.lead(b, 2, nil)
	g.answered(waits, n)
}

// answered waits for so many good answers.
func (g *group) answered(waits <-chan error, n int) {
	g.t.Helper()
	for range n {
		if err := <-waits; err != nil && !errors.Is(err, goredis.Nil) {
			g.t.Error(err)
		}
	}
}

// What was under way when the primary hung, or was held while there was still one, does as its policy says too.
func TestRequestsUnderWayDoAsTheirPolicySays(t *testing.T) {
	g, a, b := classes(t, nil)
	a.freeze(t)
	before := g.metric("understudy_proxy_requests_total")
	answers := map[string]*talker{}
	for _, key := range []string{"cache:1", "session:1", "plain"} {
		answers[key] = dialTalker(t, g.proxy.Addrs().Primary)
		answers[key].say("GET %s", key)
	}
	eventually(t, "the reads are under way", func() bool { return g.metric("understudy_proxy_requests_total") == before+3 })
	g.say(b.status)
	g.fence(a) // its connections stay: nobody answers
	answers["cache:1"].hear("$3", "old")
	answers["session:1"].hearError("set to fail at once")
	b.promote(t)
	g.lead(b, 2, nil)
	answers["plain"].hear("$1", "p")
}

// What its primary has answered waits for a replica, and then for a primary that comes to confirm it.
func TestReadsThatWaitForACommitDoAsTheirPolicySays(t *testing.T) {
	a, b := startNode(t, "g-001"), startNode(t, "g-002")
	a.promote(t)
	b.replicaOf(t, a)
	g := startProxy(t, func(o *Options) {
		o.Hold = 500 * time.Millisecond
		o.Policies = []Policy{{Prefix: "session:", OnUnavailable: Fail}}
	})
	g.say(b.status)
	g.leadSync(a, 1, "g-002")
	must(t, dialRedis(t, g.proxy.Addrs().Primary, 2).MSet(ctx, "session:1", "s", "plain", "p").Err())
	b.freeze(t)
	say := func(line string) *talker {
		c := dialTalker(t, g.proxy.Addrs().Primary)
		before := g.metric("understudy_proxy_requests_total")
		c.say("%s", line)
		eventually(t, line+" is under way", func() bool { return g.metric("understudy_proxy_requests_total") > before })
		return c
	}
	again := []*talker{say("SET session:1 t"), say("SET plain q")}
	eventually(t, "the primary has the writes", func() bool { return a.client.Get(ctx, "plain").Val() == "q" })
	failed := say("GET session:1")
	again = append(again, say("GET plain"))
	lost := say("INCR n")
	eventually(t, "the primary has counted", func() bool { return a.client.Get(ctx, "n").Val() == "1" })
	g.fence(a)
	failed.hearError("set to fail at once")
	lost.hearError("UNKNOWN")
	for _, c := range again {
		c.hearError("TRYAGAIN no primary since")
	}
}

func TestSwitchoverFailsNobody(t *testing.T) {
	g, a, b := classes(t, nil)
	pausing := g.said[a.id]
	pausing.Pausing = true
	g.say(pausing)
	waits := make(chan error, 2)
	go func() { waits <- dialRedis(t, g.proxy.Addrs().Primary, 2).Set(ctx, "session:1", "t", 0).Err() }()
	eventually(t, "the write is held", func() bool { return g.metric("understudy_proxy_held_requests") == 1 })
	demoted := a.status
	demoted.Epoch = 1
	g.say(demoted) // a replica that does not lead: the next one is promoted in a moment
	began := time.Now()
	go func() { waits <- dialRedis(t, g.proxy.Addrs().Primary, 2).Get(ctx, "session:1").Err() }()
	b.promote(t)
	g.lead(b, 2, nil)
	if time.Since(began) > 500*time.Millisecond {
		t.Skip("this machine is too slow: a switchover that lasts a second counts as a failover")
	}
	g.answered(waits, 2)
	if n := g.metric("understudy_proxy_refused_requests_total"); n != 0 {
		t.Errorf("%v requests got an error", n)
	}
}

func TestStaleReadsEndWhenTheDataIsTooOld(t *testing.T) {
	g, a, b := classes(t, func(o *Options) {
		o.Policies = []Policy{{Prefix: "cache:", OnUnavailable: Stale, MaxStaleness: time.Second, MaxHold: 50 * time.Millisecond}}
	})
	c := dialRedis(t, g.proxy.Addrs().Primary, 2)
	g.leaderless(a, b)
	lost := time.Now()
	var err error
	eventually(t, "stale reads end", func() bool { err = c.Get(ctx, "cache:1").Err(); return err != nil })
	if !strings.HasPrefix(err.Error(), "TRYAGAIN no primary since") || time.Since(lost) > 10*time.Second {
		t.Errorf("after %v: %v", time.Since(lost), err)
	}
	if given, young := g.ofAge(1.1); given != young {
		t.Errorf("%d stale reads were given, %d of them in time", given, young)
	}
}

// ofAge is how many stale reads were given, and how many of them with data that was younger than so many seconds.
func (g *group) ofAge(seconds float64) (given, young uint64) {
	families, err := g.metrics.Gather()
	must(g.t, err)
	for _, f := range families {
		if f.GetName() != "understudy_proxy_stale_read_age_seconds" {
			continue
		}
		h := f.GetMetric()[0].GetHistogram()
		for _, b := range h.GetBucket() {
			if b.GetUpperBound() <= seconds {
				young = b.GetCumulativeCount()
			}
		}
		return h.GetSampleCount(), young
	}
	return 0, 0
}

// A node that was the primary may have what will be taken back, and one that was started anew may have lost
// what it had acknowledged: neither answers.
func TestStaleReadsComeFromAProvedReplicaOnly(t *testing.T) {
	short := func(o *Options) {
		o.Policies = []Policy{{OnUnavailable: Stale, MaxStaleness: time.Minute, MaxHold: 100 * time.Millisecond}}
	}
	for what, change := range map[string]func(g *group, b *node){
		"its server is another one": func(g *group, b *node) { s := b.status; s.PID++; g.say(s) },
		"it is loading":             func(g *group, b *node) { s := b.status; s.State = cluster.StateLoading; g.say(s); g.say(b.status) },
		"it calls itself a primary": func(g *group, b *node) {
			s := b.status
			s.Role, s.State = cluster.RolePrimary, cluster.StateFenced
			g.say(s)
		},
		"it is down": func(g *group, b *node) { s := b.status; s.State = cluster.StateDown; g.say(s) },
	} {
		g, a, b := classes(t, short)
		c := dialRedis(t, g.proxy.Addrs().Primary, 2)
		must(t, c.Get(ctx, "plain").Err())
		// The old primary lives on as a replica of nobody.
		g.fence(a)
		demoted := a.status
		demoted.Role, demoted.State = cluster.RoleReplica, cluster.StateReady
		g.say(demoted)
		if v, err := c.Get(ctx, "cache:1").Result(); v != "old" {
			t.Errorf("the replica does not answer: %q, %v", v, err)
		}
		if n := b.calls(t, "get"); n != 2 { // one was to see that it has the data
			t.Errorf("the replica has answered %d reads", n)
		}
		change(g, b)
		eventually(t, what, func() bool { return len(g.ages()) == 0 })
		if v, err := c.Get(ctx, "cache:1").Result(); err == nil {
			t.Errorf("%s, and a read was given %q", what, v)
		}
	}
}

// ages are the nodes whose data's age is known.
func (g *group) ages() (nodes []string) {
	families, err := g.metrics.Gather()
	must(g.t, err)
	for _, f := range families {
		if f.GetName() == "understudy_proxy_replica_age_seconds" {
			for _, m := range f.GetMetric() {
				nodes = append(nodes, m.String())
			}
		}
	}
	return nodes
}

// calls is how many commands of a name the server has carried out.
func (n *node) calls(t testing.TB, name string) int {
	t.Helper()
	text, err := n.client.Info(context.Background(), "commandstats").Result()
	must(t, err)
	_, rest, ok := strings.Cut(text, "cmdstat_"+name+":calls=")
	if !ok {
		return 0
	}
	count := 0
	for _, d := range rest {
		if d < '0' || d > '9' {
			break
		}
		count = 10*count + int(d-'0')
	}
	return count
}

func TestStaleReadDoesNotOvertakeItsClientsWrite(t *testing.T) {
	g, a, b := classes(t, nil)
	g.leaderless(a, b)
	c := dialTalker(t, g.proxy.Addrs().Primary)
	c.say("SET cache:1 new")
	c.say("GET cache:1")
	eventually(t, "both are held", func() bool { return g.metric("understudy_proxy_held_requests") == 2 })
	if v := dialRedis(t, g.proxy.Addrs().Primary, 2).Get(ctx, "cache:1").Val(); v != "old" {
		t.Errorf("another client's read: %q", v)
	}
	b.promote(t)
	g.lead(b, 2, nil)
	c.hear("+OK", "$3", "new")
}

func TestPoliciesAreChecked(t *testing.T) {
	for text, p := range map[string][]Policy{
		"not one of hold, fail, stale": {{OnUnavailable: "wait"}},
		"max_hold":                     {{OnUnavailable: Hold, MaxHold: time.Minute}},
		"max_hold: what fails":         {{OnUnavailable: Fail, MaxHold: time.Second}},
		"max_staleness: is for":        {{OnUnavailable: Hold, MaxStaleness: time.Second}},
		"max_staleness: is needed":     {{OnUnavailable: Stale}},
		"max_staleness 1ms: from":      {{OnUnavailable: Stale, MaxStaleness: time.Millisecond}},
		`prefix "a": there are two`:    {{Prefix: "a", OnUnavailable: Fail}, {Prefix: "a", OnUnavailable: Hold}},
	} {
		if err := CheckPolicies(p, 5*time.Second); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%+v: %v, want %q", p, err, text)
		}
	}
	good := []Policy{{OnUnavailable: Hold}, {Prefix: "a", OnUnavailable: Stale, MaxStaleness: time.Second, MaxHold: time.Second}, {Prefix: "b", OnUnavailable: Fail}}
	must(t, CheckPolicies(good, 5*time.Second))
}

// hearError reads an error that has the text in it.
func (c *talker) hearError(text string) {
	c.t.Helper()
	line, err := c.r.ReadString('\n')
	must(c.t, err)
	if !strings.HasPrefix(line, "-") || !strings.Contains(line, text) {
		c.t.Fatalf("got %q, want an error with %q", line, text)
	}
}
