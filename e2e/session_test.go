package e2e

import (
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gomodule/redigo/redis"
)

// dial opens one connection, which never reconnects: what a test does on it happens on one socket.
func dial(t *testing.T, addr string, options ...redis.DialOption) redis.Conn {
	t.Helper()
	options = append([]redis.DialOption{redis.DialConnectTimeout(time.Second), redis.DialReadTimeout(patience)}, options...)
	c, err := redis.Dial("tcp", addr, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// do sends a command and demands that it is not refused.
func do(t *testing.T, c redis.Conn, name string, args ...any) any {
	t.Helper()
	reply, err := c.Do(name, args...)
	if err != nil {
		t.Fatalf("%s %v: %v", name, args, err)
	}
	return reply
}

// crash kills the primary and waits for the next one.
func (g *Group) crash() Status {
	g.t.Helper()
	return g.WaitForPrimary(g.KillPrimary())
}

func TestBlockedPopOutlivesACrashAndGetsItsElement(t *testing.T) {
	g := StartGroup(t)
	s := g.WaitAvailable()
	c := dial(t, g.Primary)
	type popped struct {
		both []string
		err  error
	}
	got := make(chan popped, 1)
	go func() {
		both, err := redis.Strings(c.Do("BRPOP", "queue", 0))
		got <- popped{both, err}
	}()
	eventually(t, "a blocked client", func() error {
		if n := info(t, s.node(s.Primary).Addr, "clients", "blocked_clients"); n < 1 {
			return fmt.Errorf("%d are blocked", n)
		}
		return nil
	})
	g.crash()
	do(t, dial(t, g.Primary), "LPUSH", "queue", "after")
	select {
	case p := <-got:
		if p.err != nil || strings.Join(p.both, " ") != "queue after" {
			t.Errorf("BRPOP: %q, %v", p.both, p.err)
		}
	case <-time.After(patience):
		t.Fatal("the blocked client never got the element")
	}
	if n, err := redis.Int(c.Do("LLEN", "queue")); n != 0 || err != nil {
		t.Errorf("the queue has %d elements left, %v", n, err)
	}
}

func TestSubscriberKeepsItsSocketAndHearsWhatIsPublishedAfterACrash(t *testing.T) {
	g := StartGroup(t)
	g.WaitAvailable()
	sub := redis.PubSubConn{Conn: dial(t, g.Primary)}
	if err := sub.Subscribe("news"); err != nil {
		t.Fatal(err)
	}
	if err := sub.PSubscribe("price:*"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if s, ok := sub.ReceiveWithTimeout(patience).(redis.Subscription); !ok {
			t.Fatalf("no confirmation: %v", s)
		}
	}
	pub := dial(t, g.Primary)
	hear := func(channel, text string) {
		t.Helper()
		switch m := sub.ReceiveWithTimeout(patience).(type) {
		case redis.Message:
			if m.Channel != channel || string(m.Data) != text {
				t.Errorf("heard %s %q, want %s %q", m.Channel, m.Data, channel, text)
			}
		default:
			t.Fatalf("instead of the message %q came %v", text, m)
		}
	}
	do(t, pub, "PUBLISH", "news", "before")
	hear("news", "before")
	g.crash()
	// Nobody keeps a message for a subscriber that is on its way, as with a single server.
	eventually(t, "a subscriber on the new primary", func() error {
		both := do(t, pub, "PUBSUB", "NUMSUB", "news").([]any)
		if n, _ := redis.Int(both[1], nil); n != 1 {
			return fmt.Errorf("%d subscribers", n)
		}
		return nil
	})
	do(t, pub, "PUBLISH", "news", "after")
	hear("news", "after")
	do(t, pub, "PUBLISH", "price:7", "12.50")
	hear("price:7", "12.50")
}

func TestTransactionThatWasQueuedBeforeACrashIsExecutedAfterIt(t *testing.T) {
	g := StartGroup(t)
	g.WaitAvailable()
	c := dial(t, g.Primary)
	do(t, c, "SET", "stock", 10)
	do(t, c, "MULTI")
	do(t, c, "DECRBY", "stock", 3)
	do(t, c, "LPUSH", "orders", "a")
	g.crash()
	replies, err := redis.Values(c.Do("EXEC"))
	if err != nil || fmt.Sprint(replies) != "[7 1]" {
		t.Fatalf("EXEC: %v, %v", replies, err)
	}
	if n, err := redis.Int(c.Do("GET", "stock")); n != 7 || err != nil {
		t.Errorf("stock is %d, %v", n, err)
	}
}

func TestWatchAcrossACrashLetsTheTransactionFail(t *testing.T) {
	g := StartGroup(t)
	g.WaitAvailable()
	early, late := dial(t, g.Primary), dial(t, g.Primary)
	do(t, early, "SET", "stock", 10)
	do(t, early, "WATCH", "stock")
	do(t, late, "WATCH", "stock")
	do(t, late, "MULTI")
	do(t, late, "SET", "stock", 8)
	g.crash()
	do(t, early, "MULTI")
	do(t, early, "SET", "stock", 9)
	for name, c := range map[string]redis.Conn{"watched before": early, "queued before": late} {
		if reply, err := c.Do("EXEC"); reply != nil || err != nil {
			t.Errorf("%s: EXEC answers %v, %v; nobody can vouch for the watched key", name, reply, err)
		}
	}
	if n, err := redis.Int(early.Do("GET", "stock")); n != 10 || err != nil {
		t.Errorf("stock is %d, %v", n, err)
	}
	// The connection is not spoilt: a new attempt goes through.
	do(t, early, "WATCH", "stock")
	do(t, early, "MULTI")
	do(t, early, "SET", "stock", 9)
	if reply := do(t, early, "EXEC"); reply == nil {
		t.Error("the second attempt failed, too")
	}
}

func TestSessionStateIsKeptAcrossACrash(t *testing.T) {
	g := StartGroup(t)
	g.WaitAvailable()
	ctx := t.Context()
	c := client(t, g.Primary).Conn() // go-redis says HELLO 3
	defer c.Close()
	if err := c.Select(ctx, 5).Err(); err != nil {
		t.Fatal(err)
	}
	if err := c.ClientSetName(ctx, "shop").Err(); err != nil {
		t.Fatal(err)
	}
	if err := c.HSet(ctx, "cart", "item", "1").Err(); err != nil {
		t.Fatal(err)
	}
	id, err := c.ClientID(ctx).Result()
	if err != nil {
		t.Fatal(err)
	}
	g.crash()
	cart, err := c.Do(ctx, "HGETALL", "cart").Result()
	if _, isMap := cart.(map[any]any); !isMap || err != nil {
		t.Errorf("HGETALL answers %T %v, %v: want RESP3's map, from database 5", cart, cart, err)
	}
	if name, err := c.ClientGetName(ctx).Result(); name != "shop" || err != nil {
		t.Errorf("CLIENT GETNAME: %q, %v", name, err)
	}
	if now, err := c.ClientID(ctx).Result(); now != id || err != nil {
		t.Errorf("CLIENT ID was %d and is %d, %v", id, now, err)
	}
	other := dial(t, g.Primary)
	if n, err := redis.Int(other.Do("EXISTS", "cart")); n != 0 || err != nil {
		t.Errorf("the cart is in database 0 of another client: %d, %v", n, err)
	}
}

func TestPipelineDuringACrashIsAnsweredInOrder(t *testing.T) {
	const sets = 1000
	g := StartGroup(t)
	s := g.WaitAvailable()
	victim := s.node(s.Primary).PID
	c := dial(t, g.Primary)
	sent := make(chan error, 1)
	killed := make(chan struct{})
	go func() {
		for i := range sets {
			if i == sets/2 {
				if err := c.Flush(); err != nil {
					sent <- err
					return
				}
				<-killed // the second half meets the outage for sure
			}
			_ = c.Send("SET", "p:"+strconv.Itoa(i), i) // errors stay until Flush
			_ = c.Send("GET", "p:"+strconv.Itoa(i))
		}
		sent <- c.Flush()
	}()
	for i := range sets {
		if i == sets/4 { // the first half is on its way
			if err := syscall.Kill(victim, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			close(killed)
		}
		if ok, err := redis.String(c.Receive()); ok != "OK" || err != nil {
			t.Fatalf("SET %d: %q, %v", i, ok, err)
		}
		if v, err := redis.Int(c.Receive()); v != i || err != nil {
			t.Fatalf("GET %d: %d, %v", i, v, err)
		}
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	for i := range sets {
		if v, err := redis.Int(c.Do("GET", "p:"+strconv.Itoa(i))); v != i || err != nil {
			t.Fatalf("afterwards key %d is %d, %v", i, v, err)
		}
	}
	if now := g.WaitForPrimary(s); now.Primary == s.Primary {
		t.Errorf("%s leads again", now.Primary)
	}
}
