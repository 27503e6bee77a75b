package proxy

import (
	"strings"
	"testing"
)

// What is queued counts from EXEC on: a failover, or DISCARD, finds the session as it was before.
func TestSessionChangesWithExecOnly(t *testing.T) {
	g, a, b := pair(t)
	addr := g.proxy.Addrs().Primary
	c, other := dialTalker(t, addr), dialRedis(t, addr, 2)
	c.say("MULTI")
	c.say("SELECT 5")
	c.say("CLIENT SETNAME early")
	c.say("DISCARD")
	c.say("SET in0 1")
	c.say("CLIENT GETNAME")
	c.hear("+OK", "+QUEUED", "+QUEUED", "+OK", "+OK", "$-1")
	id := other.ClientID(ctx).Val() - 1
	c.say("MULTI")
	c.say("SET in0 2")
	c.say("SELECT 5")
	c.say("SET in5 1")
	c.say("CLIENT SETNAME late")
	c.say("CLIENT GETNAME")
	c.say("CLIENT ID")
	c.say("WAIT 0 10")
	c.hear("+OK", "+QUEUED", "+QUEUED", "+QUEUED", "+QUEUED", "+QUEUED", "+QUEUED", "+QUEUED")
	g.failOver(a, b)
	c.say("EXEC")
	c.hear("*7", "+OK", "+OK", "+OK", "+OK", "$4", "late", ":"+itoa(id))
	if line, err := c.r.ReadString('\n'); err != nil || line[0] != ':' {
		t.Fatalf("WAIT in a transaction: %q, %v", line, err)
	}
	c.say("GET in5")
	c.say("CLIENT GETNAME")
	c.say("SELECT 0")
	c.say("GET in0")
	c.hear("$1", "1", "$4", "late", "+OK", "$1", "2")
}

// A WATCH holds until something ends it; a failed EXEC or DISCARD outside of a transaction does not.
func TestWatchIsNotForgottenByWhatFails(t *testing.T) {
	g, _, _ := pair(t)
	addr := g.proxy.Addrs().Primary
	c, other := dialTalker(t, addr), dialRedis(t, addr, 2)
	for _, before := range []string{"EXEC", "DISCARD", "MULTI now", "WATCH"} {
		c.say("WATCH w")
		c.hear("+OK")
		c.say("%s", before)
		if line, err := c.r.ReadString('\n'); err != nil || line[0] != '-' {
			t.Fatalf("%s: %q, %v", before, line, err)
		}
		must(t, other.Incr(ctx, "w").Err())
		c.say("MULTI")
		c.say("SET w 0")
		c.say("EXEC")
		c.hear("+OK", "+QUEUED", "*-1")
	}
	c.say("MULTI now")
	c.say("INCR plain")
	c.say("EXEC")
	if line, err := c.r.ReadString('\n'); err != nil || !strings.HasPrefix(line, "-ERR wrong number") {
		t.Fatalf("MULTI now: %q, %v", line, err)
	}
	c.hear(":1", "-ERR EXEC without MULTI")
}

func TestRefusedCommandSpoilsItsTransaction(t *testing.T) {
	g, _, _ := pair(t)
	c := dialTalker(t, g.proxy.Addrs().Primary)
	for _, refused := range []string{"CLIENT PAUSE 1", "MONITOR", "SUBSCRIBE a b", "CLIENT KILL nonsense x y", "CONFIG SET appendonly no", "ACL DELUSER ep-1"} {
		c.say("MULTI")
		c.say("SET spoilt 1")
		c.hear("+OK", "+QUEUED")
		c.say("%s", refused)
		if line, err := c.r.ReadString('\n'); err != nil || line[0] != '-' {
			t.Errorf("%s: %q, %v", refused, line, err)
		}
		c.say("EXEC")
		c.say("EXISTS spoilt")
		c.hear(strings.TrimSpace(errExecAbort), ":0")
	}
}

// SUBSCRIBE in a transaction counts from EXEC on, too.
func TestSubscriptionOfATransactionOutlivesThePrimary(t *testing.T) {
	g, a, b := pair(t)
	c := dialTalker(t, g.proxy.Addrs().Primary)
	c.say("MULTI")
	c.say("SUBSCRIBE news")
	c.say("EXEC")
	c.hear("+OK", "+QUEUED", "*1", "*3", "$9", "subscribe", "$4", "news", ":1")
	g.failOver(a, b)
	eventually(t, "the new primary has the subscriber", func() bool { return b.client.PubSubNumSub(ctx, "news").Val()["news"] == 1 })
	must(t, dialRedis(t, g.proxy.Addrs().Primary, 2).Publish(ctx, "news", "x").Err())
	c.hear("*3", "$7", "message", "$4", "news", "$1", "x")
}
