package proxy

import (
	"strings"
	"testing"
)

// What a subscriber has under way when the primary is lost is carried out by the next one, with the numbers
// that it would have had.
func TestUnsubscribeUnderWayIsCarriedOutByTheNextPrimary(t *testing.T) {
	g, a, b := pair(t)
	addr := g.proxy.Addrs().Primary
	c := dialTalker(t, addr)
	c.say("SUBSCRIBE one two three")
	c.hear("*3", "$9", "subscribe", "$3", "one", ":1", "*3", "$9", "subscribe", "$3", "two", ":2", "*3", "$9", "subscribe", "$5", "three", ":3")
	before := g.metric("understudy_proxy_requests_total")
	a.freeze(t)
	c.say("UNSUBSCRIBE two")
	c.say("SUBSCRIBE four")
	c.say("PSUBSCRIBE p*")
	c.say("PUNSUBSCRIBE")
	c.say("PING")
	eventually(t, "all are sent", func() bool { return g.metric("understudy_proxy_requests_total") >= before+5 })
	g.failOver(a, b)
	c.hear("*3", "$11", "unsubscribe", "$3", "two", ":2", "*3", "$9", "subscribe", "$4", "four", ":3",
		"*3", "$10", "psubscribe", "$2", "p*", ":4", "*3", "$12", "punsubscribe", "$2", "p*", ":3", "*2", "$4", "pong", "$0", "")
	counts := b.client.PubSubNumSub(ctx, "one", "two", "three", "four").Val()
	if counts["one"]+counts["three"]+counts["four"] != 3 || counts["two"] != 0 || b.client.PubSubNumPat(ctx).Val() != 0 {
		t.Errorf("the new primary has %v", counts)
	}
	c.say("UNSUBSCRIBE one three four")
	c.say("UNSUBSCRIBE")
	c.say("GET after")
	c.hear("*3", "$11", "unsubscribe", "$3", "one", ":2", "*3", "$11", "unsubscribe", "$5", "three", ":1",
		"*3", "$11", "unsubscribe", "$4", "four", ":0", "*3", "$11", "unsubscribe", "$-1", ":0", "$-1")
}

// Only a subscriber gets messages: an array that looks like one is an answer.
func TestAnswerThatLooksLikeAMessageIsAnAnswer(t *testing.T) {
	g, _, _ := pair(t)
	c := dialTalker(t, g.proxy.Addrs().Primary)
	c.say("RPUSH list message subscribe x")
	c.say("WATCH list")
	c.say("LRANGE list 0 -1")
	c.say("LRANGE list 1 -1")
	c.say("UNWATCH")
	c.hear(":3", "+OK", "*3", "$7", "message", "$9", "subscribe", "$1", "x", "*2", "$9", "subscribe", "$1", "x", "+OK")
}

func TestRefusedSubscriptionIsAnError(t *testing.T) {
	g, _, _ := pair(t)
	c := dialTalker(t, g.proxy.Addrs().Primary)
	c.say("SUBSCRIBE")
	if line, err := c.r.ReadString('\n'); err != nil || !strings.HasPrefix(line, "-ERR wrong number") {
		t.Fatalf("%q, %v", line, err)
	}
	c.say("SUBSCRIBE a")
	c.say("RESET")
	c.say("SUBSCRIBE b")
	c.say("QUIT")
	c.hear("*3", "$9", "subscribe", "$1", "a", ":1", "+RESET", "*3", "$9", "subscribe", "$1", "b", ":1", "+OK")
}

// A proxy speaks to itself through channels. Who knew their names could make it believe that a write is safe.
func TestOwnChannelsAreNotShown(t *testing.T) {
	for _, proto := range []int{2, 3} {
		g, _, b := pair(t)
		addr := g.proxy.Addrs().Primary
		c, other := dialTalker(t, addr), dialRedis(t, addr, proto)
		if proto == 3 {
			c.hello3()
		}
		kind := map[int]string{2: "*", 3: ">"}[proto]
		c.say("PSUBSCRIBE *")
		c.hear(kind+"3", "$10", "psubscribe", "$1", "*", ":1")
		must(t, other.Incr(ctx, "n").Err()) // in a batch, which publishes its number
		must(t, other.Publish(ctx, "understudy:mine", "x").Err())
		c.hear(kind+"4", "$8", "pmessage", "$1", "*", "$15", "understudy:mine", "$1", "x")
		if names := other.PubSubChannels(ctx, "*").Val(); len(names) != 0 {
			t.Errorf("RESP%d: PUBSUB CHANNELS shows %v", proto, names)
		}
		if names := b.client.PubSubChannels(ctx, "*").Val(); len(names) != 1 {
			t.Errorf("the replica's own word is %v: nothing is tested", names)
		}
	}
}
