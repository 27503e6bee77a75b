package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// talker is a client that says and hears bytes.
type talker struct {
	t *testing.T
	net.Conn
	r *bufio.Reader
}

func dialTalker(t *testing.T, addr string) *talker {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	must(t, err)
	t.Cleanup(func() { _ = c.Close() })
	must(t, c.SetDeadline(time.Now().Add(30*time.Second)))
	return &talker{t, c, bufio.NewReader(c)}
}

func (c *talker) say(format string, args ...any) {
	c.t.Helper()
	_, err := fmt.Fprintf(c, format+"\r\n", args...)
	must(c.t, err)
}

// hear reads as many lines as want has, and compares them.
func (c *talker) hear(want ...string) {
	c.t.Helper()
	for _, w := range want {
		line, err := c.r.ReadString('\n')
		must(c.t, err)
		if got := strings.TrimSpace(line); got != w {
			c.t.Fatalf("got %q, want %q", got, w)
		}
	}
}

// hello3 switches to RESP3 and reads over the answer.
func (c *talker) hello3() {
	c.t.Helper()
	c.say("HELLO 3")
	c.say("PING hello3")
	for {
		line, err := c.r.ReadString('\n')
		must(c.t, err)
		if strings.TrimSpace(line) == "hello3" {
			return
		}
	}
}

func TestCacheOfATrackingClientIsEmptiedWhenThePrimaryChanges(t *testing.T) {
	g, a, b := pair(t)
	c := dialTalker(t, g.proxy.Addrs().Primary)
	c.hello3()
	c.say("CLIENT TRACKING ON BCAST PREFIX user: PREFIX shop:")
	c.hear("+OK")
	other := dialRedis(t, g.proxy.Addrs().Primary, 2)
	must(t, other.Set(ctx, "user:1", "v", 0).Err())
	c.hear(">2", "$10", "invalidate", "*1", "$6", "user:1")
	g.failOver(a, b)
	c.hear(">2", "$10", "invalidate", "_")
	must(t, other.Set(ctx, "shop:1", "v", 0).Err())
	c.hear(">2", "$10", "invalidate", "*1", "$6", "shop:1")
	c.say("CLIENT TRACKING OFF")
	c.hear("+OK")
	must(t, other.Set(ctx, "user:1", "w", 0).Err())
	c.say("PING")
	c.hear("+PONG")
}

func TestOptInTrackingOutlivesThePrimary(t *testing.T) {
	g, a, b := pair(t)
	c := dialTalker(t, g.proxy.Addrs().Primary)
	c.hello3()
	c.say("CLIENT TRACKING ON OPTIN")
	c.hear("+OK")
	c.say("CLIENT CACHING YES")
	c.hear("+OK")
	g.failOver(a, b) // between the permission to track a key and the read of it
	c.hear(">2", "$10", "invalidate", "_")
	c.say("GET tracked")
	c.hear("_")
	c.say("GET untracked")
	c.hear("_")
	other := dialRedis(t, g.proxy.Addrs().Primary, 2)
	must(t, other.Set(ctx, "untracked", "v", 0).Err())
	must(t, other.Set(ctx, "tracked", "v", 0).Err())
	c.hear(">2", "$10", "invalidate", "*1", "$7", "tracked")
}

func TestTrackingRedirectIsRefused(t *testing.T) {
	g, _, _ := pair(t)
	c := dialRedis(t, g.proxy.Addrs().Primary, 2)
	err := c.Do(ctx, "CLIENT", "TRACKING", "ON", "REDIRECT", "1").Err()
	if err == nil || !strings.Contains(err.Error(), "CLIENT TRACKING with REDIRECT is refused") {
		t.Errorf("err = %v", err)
	}
}

func TestNoEvictIsSetAgainOnceOnTheNewPrimary(t *testing.T) {
	g, a, b := pair(t)
	c := dialTalker(t, g.proxy.Addrs().Primary)
	for range 3 {
		c.say("CLIENT NO-EVICT ON")
		c.hear("+OK")
	}
	c.say("CLIENT NO-EVICT PERHAPS")
	if line, err := c.r.ReadString('\n'); err != nil || line[0] != '-' {
		t.Fatalf("%q, %v", line, err)
	}
	g.failOver(a, b)
	c.say("PING")
	c.hear("+PONG")
	if text := b.client.Info(ctx, "commandstats").Val(); !strings.Contains(text, "cmdstat_client|no-evict:calls=1,") {
		t.Errorf("NO-EVICT was not set once on the new primary: %s", text)
	}
	c.say("CLIENT NO-EVICT OFF")
	c.hear("+OK")
}

func TestClientSaysWhichRepliesItWants(t *testing.T) {
	g, a, b := pair(t)
	c := dialTalker(t, g.proxy.Addrs().Primary)
	c.say("CLIENT REPLY SKIP")
	c.say("SET skipped 1")
	c.say("GET skipped")
	c.hear("$1", "1")
	c.say("CLIENT REPLY OFF")
	for range 100 {
		c.say("INCR n")
	}
	c.say("CLIENT ID")
	c.say("NOSUCH")
	g.failOver(a, b)
	c.say("CLIENT REPLY SKIP")
	c.say("INCR n")
	c.say("CLIENT REPLY ON")
	c.hear("+OK")
	c.say("GET skipped")
	c.hear("$1", "1")
	c.say("CLIENT REPLY PERHAPS")
	c.hear("-ERR syntax error")
	c.say("MULTI")
	c.say("CLIENT REPLY OFF")
	c.say("PING")
	c.say("EXEC")
	c.say("PING unheard")
	c.say("CLIENT REPLY ON")
	c.hear("+OK", "+QUEUED", "+QUEUED", "*2", "+OK", "+PONG", "+OK")
	c.say("MULTI")
	c.say("CLIENT REPLY OFF")
	c.say("DISCARD")
	c.say("MULTI")
	c.say("CLIENT REPLY SKIP")
	c.say("EXEC")
	c.say("PING unheard")
	c.say("PING heard")
	c.hear("+OK", "+QUEUED", "+OK", "+OK", "+QUEUED", "*1", "+OK", "$5", "heard")
	c.say("CLIENT REPLY OFF")
	c.say("RESET")
	c.say("PING")
	c.say("QUIT")
	if rest, err := io.ReadAll(c.r); err != nil || !strings.HasSuffix("+RESET\r\n+PONG\r\n+OK\r\n", string(rest)) || !strings.Contains(string(rest), "PONG") {
		t.Errorf("after RESET: %q, %v", rest, err)
	}
	t.Logf("100 increments without replies over a failover: %s arrived", b.client.Get(ctx, "n").Val())
}

func TestShardChannelsOutliveThePrimary(t *testing.T) {
	g, a, b := pair(t)
	c := dialTalker(t, g.proxy.Addrs().Primary)
	c.say("SSUBSCRIBE orders")
	c.hear("*3", "$10", "ssubscribe", "$6", "orders", ":1")
	g.failOver(a, b)
	eventually(t, "the new primary has the subscriber", func() bool {
		v, _ := b.client.PubSubShardNumSub(ctx, "orders").Result()
		return v["orders"] == 1
	})
	must(t, dialRedis(t, g.proxy.Addrs().Primary, 2).SPublish(ctx, "orders", "one").Err())
	c.hear("*3", "$8", "smessage", "$6", "orders", "$3", "one")
}

// What waits on the server waits on the next one, for the time that is left.
func TestBlockingCommandsKeepTheTimeThatRemains(t *testing.T) {
	const timeout, before = 3 * time.Second, time.Second
	g, a, b := pair(t)
	must(t, dialRedis(t, g.proxy.Addrs().Primary, 2).XGroupCreateMkStream(ctx, "stream", "workers", "$").Err())
	commands := []string{"BLPOP list 3", "XREADGROUP GROUP workers me BLOCK 3000 STREAMS stream >"}
	took := make(chan time.Duration, len(commands))
	begun := time.Now()
	for _, cmd := range commands {
		c := dialTalker(t, g.proxy.Addrs().Primary)
		c.say("%s", cmd)
		go func() {
			line, err := c.r.ReadString('\n')
			if err != nil || line != "*-1\r\n" {
				t.Errorf("%s: %q, %v", cmd, line, err)
			}
			took <- time.Since(begun)
		}()
	}
	eventually(t, "both are blocked", func() bool { return strings.Contains(a.client.Info(ctx, "clients").Val(), "blocked_clients:2") })
	time.Sleep(before - time.Since(begun)) // the part of the timeout that passes on the old primary
	g.failOver(a, b)
	for range commands {
		if d := <-took; d < timeout-200*time.Millisecond || d > timeout+before/2 {
			t.Errorf("answered after %v, want %v", d, timeout)
		}
	}
}

func TestNewEntryReachesAReaderThatBlockedOnTheOldPrimary(t *testing.T) {
	g, a, b := pair(t)
	other := dialRedis(t, g.proxy.Addrs().Primary, 2)
	must(t, other.XGroupCreateMkStream(ctx, "stream", "workers", "$").Err())
	c := dialTalker(t, g.proxy.Addrs().Primary)
	c.say("XREADGROUP GROUP workers me BLOCK 0 STREAMS stream >")
	eventually(t, "it is blocked", func() bool { return strings.Contains(a.client.Info(ctx, "clients").Val(), "blocked_clients:1") })
	g.failOver(a, b)
	must(t, other.Do(ctx, "XADD", "stream", "5-1", "f", "v").Err())
	c.hear("*1", "*2", "$6", "stream", "*1", "*2", "$3", "5-1", "*2", "$1", "f", "$1", "v")
}
