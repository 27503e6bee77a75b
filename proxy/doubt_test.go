package proxy

import (
	"sync/atomic"
	"testing"
)

// TestProxyDoubtsItsPrimaryWhenRefusedOrCutOff: who watches the servers from outside is told at once that
// something is wrong, instead of finding out by its next question.
func TestProxyDoubtsItsPrimaryWhenRefusedOrCutOff(t *testing.T) {
	for name, fault := range map[string]func(*testing.T, *node){
		"demoted": func(t *testing.T, a *node) { must(t, a.client.ReplicaOf(ctx, "127.0.0.1", "1").Err()) },
		"killed":  func(t *testing.T, a *node) { must(t, a.server.Kill()) },
	} {
		t.Run(name, func(t *testing.T) {
			var doubts atomic.Int64
			a, b := startNode(t, "g-001"), startNode(t, "g-002")
			a.promote(t)
			b.replicaOf(t, a)
			g := startProxy(t, func(o *Options) { o.OnDoubt = func() { doubts.Add(1) } })
			g.lead(a, 1, nil)
			c := dialRedis(t, g.proxy.Addrs().Primary, 2)
			must(t, c.Set(ctx, "k", "1", 0).Err())
			if n := doubts.Load(); n != 0 {
				t.Fatalf("%d doubts while all is well", n)
			}
			fault(t, a)
			answered := make(chan error, 1)
			go func() { answered <- c.Set(ctx, "k", "2", 0).Err() }()
			eventually(t, "the proxy doubts", func() bool { return doubts.Load() > 0 })
			b.promote(t)
			g.lead(b, 2, nil)
			must(t, <-answered)
		})
	}
}
