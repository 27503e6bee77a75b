package proxy

import (
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

// Each way in which a client can send a script.
var endlessScripts = map[string]func(c *goredis.Conn) error{
	"alone": func(c *goredis.Conn) error {
		return c.Eval(ctx, "while true do end", []string{"endless"}).Err()
	},
	"behind what is done already": func(c *goredis.Conn) error { // redis-server answers all that it has read at once
		replies, _ := c.Pipelined(ctx, func(p goredis.Pipeliner) error {
			p.Get(ctx, "k")
			p.Eval(ctx, "while true do end", []string{"endless"})
			return nil
		})
		return replies[1].Err()
	},
	"read only": func(c *goredis.Conn) error {
		return c.EvalRO(ctx, "while true do end", []string{"endless"}).Err()
	},
	"in a transaction": func(c *goredis.Conn) error {
		_, err := c.TxPipelined(ctx, func(p goredis.Pipeliner) error {
			p.EvalRO(ctx, "while true do end", []string{"endless"})
			return nil
		})
		return err
	},
}

func TestEndlessScriptIsNotSentToTheNextPrimary(t *testing.T) {
	for name, run := range endlessScripts {
		t.Run(name, func(t *testing.T) {
			g, a, b := pair(t)
			c := dialRedis(t, g.proxy.Addrs().Primary, 2).Conn()
			defer c.Close()
			told := make(chan error, 1)
			go func() { told <- run(c) }()
			time.Sleep(2 * suspectFor) // the time that it takes to find the primary hung
			g.failOver(a, b)
			if err := <-told; err == nil || !strings.HasPrefix(err.Error(), "UNKNOWN") {
				t.Errorf("the script's client was told %v, want -UNKNOWN", err)
			}
			must(t, dialRedis(t, g.proxy.Addrs().Primary, 2).Set(ctx, "k", "v", 0).Err())
			if text := b.client.Info(ctx, "commandstats").Val(); strings.Contains(text, "cmdstat_eval") {
				t.Errorf("the new primary was sent the script: %s", text)
			}
		})
	}
}

// A script that has just been sent when its primary dies is not the cause of that.
func TestScriptInFlightAtACrashIsSentAnew(t *testing.T) {
	g, a, b := pair(t)
	c := dialRedis(t, g.proxy.Addrs().Primary, 2)
	must(t, c.Ping(ctx).Err())
	a.freeze(t)
	before := g.metric("understudy_proxy_requests_total")
	told := make(chan error, 1)
	go func() { told <- c.Eval(ctx, "return redis.call('INCR', KEYS[1])", []string{"n"}).Err() }()
	eventually(t, "the script is sent", func() bool { return g.metric("understudy_proxy_requests_total") > before })
	sent := time.Now()
	must(t, a.server.Kill())
	if took := time.Since(sent); took > suspectFor/2 {
		t.Skipf("NOT TESTED: the machine took %v to end a process", took)
	}
	g.fence(a)
	b.promote(t)
	g.leadSync(b, 2)
	must(t, <-told)
	if n := b.client.Get(ctx, "n").Val(); n != "1" {
		t.Errorf("the script ran %s times", n)
	}
}
