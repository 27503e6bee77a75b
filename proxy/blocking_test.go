package proxy

import (
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

// blocked is a client that waits in BRPOP on a primary whose words can be cut off.
type blocked struct {
	g      *group
	a, b   *node
	cut    *cable
	popped chan popResult
}

type popResult struct {
	item string
	err  error
}

func startBlocked(t *testing.T, user string) *blocked {
	t.Helper()
	g, a, b, cut := remotePair(t)
	for _, n := range []*node{a, b} {
		must(t, n.client.Do(ctx, "ACL", "SETUSER", "mute", "on", "nopass", "~*", "+@all").Err())
	}
	x := &blocked{g: g, a: a, b: b, cut: cut, popped: make(chan popResult, 1)}
	c := goredis.NewClient(&goredis.Options{Addr: g.proxy.Addrs().Primary, Username: user, Password: user, MaxRetries: -1})
	t.Cleanup(func() { _ = c.Close() })
	go func() {
		both, err := c.BRPop(ctx, 0, "queue").Result()
		x.popped <- popResult{strings.Join(both, " "), err}
	}()
	eventually(t, "the client waits", func() bool { return strings.Contains(a.client.Info(ctx, "clients").Val(), "blocked_clients:1\r\n") })
	return x
}

// What was popped for a client, and never told, is not popped once more without a word: the first item would be
// lost.
func TestPopWhoseReplyWasLostIsNotRepeated(t *testing.T) {
	x := startBlocked(t, "")
	x.cut.set(true)
	must(t, x.a.client.LPush(ctx, "queue", "first").Err())
	eventually(t, "the replica has the pop as well", func() bool {
		return x.a.client.LLen(ctx, "queue").Val() == 0 && strings.Contains(x.b.client.Info(ctx, "commandstats").Val(), "cmdstat_rpop")
	})
	x.g.failOver(x.a, x.b)
	must(t, dialRedis(t, x.g.proxy.Addrs().Primary, 2).LPush(ctx, "queue", "second").Err())
	if r := <-x.popped; r.err == nil || !strings.HasPrefix(r.err.Error(), "UNKNOWN") {
		t.Errorf("the client was given %q, %v, want -UNKNOWN", r.item, r.err)
	}
}

// Who waited in vain on the old primary waits on the new one, whoever he is.
func TestBlockedPopGoesOnAtTheNextPrimary(t *testing.T) {
	for _, user := range []string{"", "mute"} { // who may use no channel has no numbers
		t.Run("user "+user, func(t *testing.T) {
			x := startBlocked(t, user)
			x.cut.set(true)
			must(t, x.a.client.LPush(ctx, "another", "first").Err())
			x.g.failOver(x.a, x.b)
			must(t, dialRedis(t, x.g.proxy.Addrs().Primary, 2).LPush(ctx, "queue", "second").Err())
			if r := <-x.popped; r.err != nil || r.item != "queue second" {
				t.Errorf("the client was given %q, %v", r.item, r.err)
			}
		})
	}
}

// A pop waits for longer than a replica is there: its number is published when it is carried out, not when it was
// sent.
func TestBlockedPopIsOlderThanTheWitness(t *testing.T) {
	x := startBlocked(t, "")
	before := x.g.metric("understudy_proxy_backend_connections")
	must(t, x.b.client.Do(ctx, "CLIENT", "KILL", "TYPE", "pubsub").Err())
	eventually(t, "the proxy watches anew", func() bool {
		x.g.say(x.b.status)
		return x.g.metric("understudy_proxy_backend_connections") >= before
	})
	x.g.awaitWitness(x.b)
	x.cut.set(true)
	time.Sleep(time.Millisecond) // so that the loss is later than the witness by the clock
	x.g.failOver(x.a, x.b)
	must(t, dialRedis(t, x.g.proxy.Addrs().Primary, 2).LPush(ctx, "queue", "second").Err())
	if r := <-x.popped; r.err != nil || r.item != "queue second" {
		t.Errorf("the client was given %q, %v", r.item, r.err)
	}
}

// A witness forgets connections that are gone, and none that is there.
func TestWitnessForgetsConnectionsThatAreGone(t *testing.T) {
	x := startBlocked(t, "")
	x.g.do(func(l *loop) {
		w := l.witnesses["g-002"]
		for id := range uint64(10 * appliedKept) {
			w.applied[1e9+id] = id
		}
		for _, c := range l.conns {
			if c == nil {
				continue
			}
			if b, ok := c.owner.(*backend); ok {
				w.applied[b.id] = 1
			}
		}
		w.sweep()
		if len(w.applied) == 0 || len(w.applied) > l.backends {
			t.Errorf("%d connections are remembered, %d are open", len(w.applied), l.backends)
		}
	})
}
