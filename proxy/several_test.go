package proxy

import (
	"testing"
)

// Two proxies number their batches each for itself, on a channel of its own: what one of them learns
// from the new primary's log says nothing of the other's writes.
func TestTwoProxiesOfAGroupNeitherLoseNorRepeatIncrements(t *testing.T) {
	for round := range 4 {
		one, a, b := pair(t)
		two := one.beside(nil)
		if one.proxy.loop.channel == two.proxy.loop.channel {
			t.Fatal("two proxies publish on one channel")
		}
		two.awaitWitness(b)
		loads := []*increments{startIncrements(t, one.proxy.Addrs().Primary, 12), startIncrements(t, two.proxy.Addrs().Primary, 12)}
		for _, load := range loads {
			load.flow(1000)
		}
		must(t, a.server.Kill())
		one.fence(a)
		two.fence(a)
		b.promote(t)
		// The news reach one of them later: it goes by what it knows until then.
		one.leadSync(b, 2)
		loads[0].flow(100)
		two.leadSync(b, 2)
		acked, unknown := int64(0), int64(0)
		for _, load := range loads {
			load.flow(500)
			load.end()
			acked, unknown = acked+load.acked.Load(), unknown+load.unknown.Load()
		}
		n, err := b.client.Get(ctx, "n").Int64()
		if err != nil || n < acked || n > acked+unknown {
			t.Errorf("round %d: %d increments acked, %d unknown, the counter says %d, %v", round, acked, unknown, n, err)
		}
		if unknown > 24 {
			t.Errorf("round %d: more unknown outcomes (%d) than clients", round, unknown)
		}
		t.Logf("round %d: %d acked, %d unknown, %v resolved", round, acked, unknown,
			one.metric("understudy_proxy_resolved_outcomes_total")+two.metric("understudy_proxy_resolved_outcomes_total"))
	}
}
