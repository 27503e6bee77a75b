package monitor

import (
	"fmt"
	"testing"
	"time"

	"understudy/cluster"
	"understudy/metric"
)

const primaryInfo = "# Server\r\nrun_id:%s\r\nrole:%s\r\nused_memory:50\r\nmaxmemory:200\r\nkeyspace_hits:%d\r\nkeyspace_misses:%d\r\nmaster_link_status:up\r\n" +
	"total_connections_received:5\r\ndb0:keys=3,expires=1,avg_ttl=7\r\ndb1:keys=2,expires=0,avg_ttl=0\r\ncmdstat_get:calls=%d,usec=%d,usec_per_call=1\r\n"

// minuteOf runs one full look at a node and returns its metrics under the node's dimensions.
func minuteOf(c *Collector, at time.Time, info string) map[string][]float64 {
	w := c.nodes["main-001"]
	w.current = look{group: "main", node: cluster.StatusNode{ID: "main-001", LagMs: 1500}, at: at, full: true, clients: 2, counted: true}
	if info != "" {
		w.current.answer = parse(info, at)
	}
	got := map[string][]float64{}
	for _, d := range c.node(w) {
		if len(d.ID.Dimensions) == 1 && d.ID.Namespace == metric.ElastiCache {
			got[d.ID.Name] = d.Values
		}
	}
	return got
}

func same(t *testing.T, got map[string][]float64, name, want string) {
	t.Helper()
	if text := fmt.Sprint(got[name]); text != want {
		t.Errorf("%s: %s, want %s", name, text, want)
	}
}

func TestCountersOfAnotherLifeOrRoleGiveNoPoint(t *testing.T) {
	c := &Collector{metrics: newMetrics(nil), nodes: map[cluster.NodeID]*watch{"main-001": {}}, groups: map[string]*past{}}
	at := time.Now().Truncate(time.Minute)
	first := minuteOf(c, at, fmt.Sprintf(primaryInfo, "a", "master", 10, 10, 100, 1000))
	same(t, first, "CacheHits", "[]")
	same(t, first, "CurrItems", "[5]")
	same(t, first, "DatabaseMemoryUsagePercentage", "[25]")
	same(t, first, "CurrConnections", "[2]")
	same(t, first, "ReplicationLag", "[]")
	second := minuteOf(c, at.Add(time.Minute), fmt.Sprintf(primaryInfo, "a", "master", 13, 11, 104, 1012))
	same(t, second, "CacheHits", "[3]")
	same(t, second, "CacheHitRate", "[75]")
	same(t, second, "GetTypeCmds", "[4]")
	same(t, second, "StringBasedCmdsLatency", "[3]")
	same(t, second, "NewConnections", "[0]")
	// A reset drops the point of that counter, another role or process those of all.
	same(t, minuteOf(c, at.Add(2*time.Minute), fmt.Sprintf(primaryInfo, "a", "master", 2, 11, 104, 1012)), "CacheHits", "[]")
	demoted := minuteOf(c, at.Add(3*time.Minute), fmt.Sprintf(primaryInfo, "a", "slave", 50, 50, 200, 2000))
	same(t, demoted, "CacheMisses", "[]")
	same(t, demoted, "ReplicationLag", "[1.5]")
	same(t, demoted, "IsMaster", "[0]")
	same(t, minuteOf(c, at.Add(4*time.Minute), fmt.Sprintf(primaryInfo, "b", "slave", 60, 60, 200, 2000)), "CacheMisses", "[]")
	if silent := minuteOf(c, at.Add(5*time.Minute), ""); len(silent) != 0 {
		t.Errorf("a node that does not answer has %v", silent)
	}
	same(t, minuteOf(c, at.Add(6*time.Minute), fmt.Sprintf(primaryInfo, "b", "slave", 90, 60, 200, 2000)), "CacheHits", "[]")
}

func TestAGroupTellsOfItsFailover(t *testing.T) {
	c := &Collector{metrics: newMetrics(nil), nodes: map[cluster.NodeID]*watch{}, groups: map[string]*past{}}
	of := func(g Group) map[string][]float64 {
		got := map[string][]float64{}
		for _, d := range c.group(g, time.Now()) {
			got[d.ID.Name] = d.Values
		}
		return got
	}
	calm := Group{Status: cluster.Status{Group: "main", Epoch: 1, Primary: "main-001"}, Proxied: true, Leaked: 2}
	first := of(calm)
	same(t, first, "PrimaryPresent", "[1]")
	same(t, first, "Failovers", "[]")
	same(t, first, "BackupAge", "[]")
	same(t, of(calm), "Failovers", "[0]")
	calm.Status.Epoch, calm.Leaked = 2, 5
	calm.Status.LastFailover = &cluster.Change{Epoch: 2, Kind: cluster.KindFailover, DurationMs: 64}
	failed := of(calm)
	same(t, failed, "Failovers", "[1]")
	same(t, failed, "LastFailoverGap", "[64]")
	same(t, failed, "LeakedRequests", "[3]")
	same(t, of(calm), "Failovers", "[0]")
}

func TestOwnConnectionsAreNotCounted(t *testing.T) {
	list := "id=1 addr=127.0.0.1:5 laddr=x name= db=0\nid=2 addr=/tmp/a.sock:0 laddr=x name= db=0\nid=3 addr=127.0.0.1:6 laddr=x name=understudy-monitor db=0\n"
	if n := strangers(list); n != 1 {
		t.Errorf("%v connections, want 1", n)
	}
}
