package proxy

import (
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"understudy/cluster"
)

// understudyStatus asks over a client's connection, in its protocol.
func understudyStatus(t *testing.T, c *goredis.Client) map[string]any {
	t.Helper()
	proto := c.Options().Protocol
	v, err := c.Do(ctx, "understudy", "Status").Result()
	must(t, err)
	facts := map[string]any{}
	switch x := v.(type) {
	case map[any]any:
		for k, v := range x {
			facts[k.(string)] = v
		}
	case []any:
		for i := 0; i < len(x); i += 2 {
			facts[x[i].(string)] = x[i+1]
		}
	}
	if (proto == 3) != (func() bool { _, ok := v.(map[any]any); return ok })() {
		t.Errorf("RESP%d: the status is a %T", proto, v)
	}
	if len(facts) != 17 {
		t.Errorf("RESP%d: %d facts: %v", proto, len(facts), facts)
	}
	return facts
}

func TestClientAsksHowTheGroupIs(t *testing.T) {
	a, b := startNode(t, "g-001"), startNode(t, "g-002")
	a.promote(t)
	b.replicaOf(t, a)
	g := startProxy(t, func(o *Options) { o.Hold = time.Second })
	two := func(s *cluster.NodeStatus) { s.Nodes = 2 }
	for _, proto := range []int{2, 3} {
		g.lead(a, cluster.Epoch(proto), two)
		g.say(b.status)
		at := dialRedis(t, g.proxy.Addrs().Split, proto)
		eventually(t, "the group is available", func() bool { return understudyStatus(t, at)["state"] == "available" })
		s := understudyStatus(t, at)
		if s["group"] != "g" || s["primary"] != "g-001" || s["epoch"] != int64(proto) || s["replicas"] != int64(1) ||
			s["endpoint"] != "split" || s["reads"] != "permit" || s["held_requests"] != int64(0) {
			t.Errorf("%v", s)
		}
		if since, err := time.Parse(time.RFC3339, s["since"].(string)); err != nil || time.Since(since) > time.Minute {
			t.Errorf("since %v: %v", s["since"], err)
		}
		down := b.status
		down.State = cluster.StateDown
		g.say(down)
		eventually(t, "a replica is missing", func() bool { return understudyStatus(t, at)["state"] == "degraded" })
	}
}

func TestStatusIsToldWhileThereIsNoPrimary(t *testing.T) {
	a := startNode(t, "g-001")
	a.promote(t)
	g := startProxy(t, func(o *Options) { o.Hold = 3 * time.Second })
	g.lead(a, 1, nil)
	c := dialRedis(t, g.proxy.Addrs().Primary, 2)
	must(t, c.Set(ctx, "k", "v", 0).Err())
	other := dialRedis(t, g.proxy.Addrs().Reader, 3)
	must(t, other.Get(ctx, "k").Err())
	g.fence(a)
	eventually(t, "the primary is gone", func() bool { return understudyStatus(t, other)["state"] == "failing-over" })
	done := make(chan error, 1)
	go func() { done <- c.Set(ctx, "k", "w", 0).Err() }()
	eventually(t, "a request is held", func() bool {
		s := understudyStatus(t, other)
		return s["held_requests"] == int64(1) && s["held_bytes"].(int64) > 0 && s["state"] == "failing-over" && s["primary"] == ""
	})
	err := <-done
	if err == nil || !strings.Contains(err.Error(), "no primary since "+time.Now().UTC().Format("2006-")) {
		t.Errorf("the error does not say since when: %v", err)
	}
	eventually(t, "the hold is over", func() bool { return understudyStatus(t, other)["state"] == "no-primary" })
}

func TestUnderstudyHelpsItself(t *testing.T) {
	a := startNode(t, "g-001")
	a.promote(t)
	g := startProxy(t, nil)
	g.lead(a, 1, nil)
	c := dialRedis(t, g.proxy.Addrs().Reader, 2)
	v, err := c.Do(ctx, "UNDERSTUDY", "HELP").StringSlice()
	if err != nil || !strings.Contains(strings.Join(v, "\n"), "STATUS") {
		t.Errorf("%v, %v", v, err)
	}
	for _, words := range [][]any{{"UNDERSTUDY"}, {"UNDERSTUDY", "NOSUCH"}, {"UNDERSTUDY", "STATUS", "x"}} {
		if err := c.Do(ctx, words...).Err(); err == nil || !strings.Contains(err.Error(), "UNDERSTUDY HELP") {
			t.Errorf("%v: %v", words, err)
		}
	}
}
