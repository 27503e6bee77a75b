package proxy

import (
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

// Whatever a client notices of a failover is counted.
func TestLeakedErrorsAreCounted(t *testing.T) {
	a, b := startNode(t, "g-001"), startNode(t, "g-002")
	a.promote(t)
	must(t, a.client.Do(ctx, "ACL", "SETUSER", "app", "on", ">secret", "~*", "&*", "+@all").Err())
	g := startProxy(t, func(o *Options) { o.Hold = 200 * time.Millisecond })
	g.lead(a, 1, nil)
	c := dialRedis(t, g.proxy.Addrs().Primary, 2)
	user := goredis.NewClient(&goredis.Options{Addr: g.proxy.Addrs().Primary, Username: "app", Password: "secret", Protocol: 2, MaxRetries: -1, PoolSize: 1})
	defer user.Close()
	must(t, user.Set(ctx, "k", "v", 0).Err())
	leaked := func(n float64, what string, err error, code string) {
		t.Helper()
		if err == nil || !strings.HasPrefix(err.Error(), code) {
			t.Errorf("%s: %v, want %s", what, err, code)
		}
		eventually(t, what+" is counted", func() bool { return g.metric("understudy_proxy_leaked_errors_total") == n })
	}
	if err := c.Do(ctx, "LPUSH", "k", "x").Err(); err == nil {
		t.Error("LPUSH to a string succeeded")
	}
	must(t, a.client.ConfigSet(ctx, "min-replicas-to-write", "1").Err())
	leaked(1, "a script without replicas", c.Eval(ctx, "return redis.call('SET', KEYS[1], 'w')", []string{"k"}).Err(), "NOREPLICAS")
	g.fence(a)
	leaked(2, "a hold that ended", c.Set(ctx, "k", "w", 0).Err(), "TRYAGAIN")
	b.promote(t)
	g.lead(b, 2, nil)
	leaked(3, "a user that the new primary does not know", user.Get(ctx, "k").Err(), "WRONGPASS")
}
