package fleet

import (
	"fmt"
	"slices"
	"testing"
	"time"

	redigo "github.com/gomodule/redigo/redis"

	"understudy/cluster"
	"understudy/dashboard"
	"understudy/redis"
)

// Connections that a redis-server has received are clients', this process's, which Opened counts, or replicas', which
// the server counts: no others, whatever the parts do.
func TestOpenedCountsEveryConnectionOfThisProcess(t *testing.T) {
	h := newHouse(t)
	f, _ := h.run()
	g := h.add(f, spec("one", 3))
	s := h.whole(g, 3)
	base := map[cluster.NodeID]float64{}
	clients := func(id cluster.NodeID) float64 {
		l, _ := g.Login(id)
		c, err := l.Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		text, err := redigo.String(c.Do("INFO", "everything"))
		if err != nil {
			t.Fatal(err)
		}
		fields := redis.InfoFields(text)
		var received, syncs float64
		if _, err := fmt.Sscan(fields["total_connections_received"], &received); err != nil {
			t.Fatal(err)
		}
		_, _ = fmt.Sscanf(fields["cmdstat_psync"], "calls=%f", &syncs) // a replica has had none
		return received - syncs - g.Opened(id)
	}
	settled := func(want float64, nodes ...cluster.StatusNode) {
		t.Helper()
		for _, n := range nodes {
			got := clients(n.ID) - base[n.ID]
			for end := time.Now().Add(patience); got != want && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
				got = clients(n.ID) - base[n.ID] // what is being made is not in both yet
			}
			if got != want {
				t.Errorf("%s: %v clients, want %v", n.ID, got, want)
			}
		}
	}
	for _, n := range s.Nodes {
		base[n.ID] = clients(n.ID)
	}
	for range 10 { // each has a connection of its own to the primary
		c := h.client(g.Addrs().Primary)
		if _, err := c.Do("BLPOP", "none", "0.05"); err != nil {
			t.Fatal(err)
		}
		h.do(h.client(g.Addrs().Reader), "GET", "none")
	}
	if out := g.Switchover(t.Context(), dashboard.SwitchoverRequest{}); !out.OK {
		t.Fatalf("switchover: %+v", out)
	}
	h.whole(g, 3)
	for range 10 {
		h.do(h.client(g.Addrs().Primary), "SET", "k", "v")
	}
	for _, n := range s.Nodes {
		for range 3 {
			_, _ = h.client(n.Addr).Do("PING") // it is cut where roles change, and counts
		}
	}
	settled(3, s.Nodes...)
	primary := g.Status().Primary // its counters end with it
	if out := g.Failover(t.Context(), dashboard.FailoverRequest{}); !out.OK {
		t.Fatalf("failover: %+v", out)
	}
	h.whole(g, 3)
	settled(3, slices.DeleteFunc(slices.Clone(s.Nodes), func(n cluster.StatusNode) bool { return n.ID == primary })...)
}
