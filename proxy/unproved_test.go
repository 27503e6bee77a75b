package proxy

import (
	"strings"
	"testing"
)

// What the lost primary wrote last may be on the new one only. A client that is shown it, before a
// second node has it, is shown what the next crash takes back.
func TestFirstReadUnderAnEpochWaitsForASecondNode(t *testing.T) {
	g, a, b := pair(t)
	must(t, a.client.Set(ctx, "k", "unacked", 0).Err()) // not through the proxy: it knows nothing of this write
	eventually(t, "the replica has the write", func() bool { return b.client.Get(ctx, "k").Val() == "unacked" })
	must(t, a.server.Kill())
	g.fence(a)
	b.promote(t)
	before := calls(t, b, "wait")
	g.leadSync(b, 2, "g-003")
	read := make(chan string, 1)
	go func() { read <- dialRedis(t, g.proxy.Addrs().Primary, 2).Get(ctx, "k").Val() }()
	eventually(t, "commits are tried", func() bool { return calls(t, b, "wait") != before })
	select {
	case v := <-read:
		t.Fatalf("the read gave %q while no other node had it", v)
	default:
	}
	c := startNode(t, "g-003")
	c.replicaOf(t, b)
	g.say(c.status)
	if v := <-read; v != "unacked" {
		t.Fatalf("the read gave %q", v)
	}
}

// calls is what INFO says of how often a command was executed.
func calls(t *testing.T, n *node, command string) string {
	t.Helper()
	text, err := n.client.Info(ctx, "commandstats").Result()
	must(t, err)
	_, rest, _ := strings.Cut(text, "cmdstat_"+command+":")
	stats, _, _ := strings.Cut(rest, ",")
	return stats
}
