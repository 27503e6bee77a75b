package upstream

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"understudy/cluster"
)

// fakeAPI answers the two calls as ElastiCache does, in the Query protocol.
type fakeAPI struct {
	*httptest.Server
	t      *testing.T
	mu     sync.Mutex
	nodes  []apiNode
	refuse string // an error code
	shards int
	calls  []time.Time
	hidden bool // the first call does not tell endpoints: cluster mode
}

type apiNode struct{ id, host, port, zone, role string }

func startAPI(t *testing.T, nodes ...apiNode) *fakeAPI {
	f := &fakeAPI{t: t, nodes: nodes, shards: 1}
	f.Server = httptest.NewServer(f)
	t.Cleanup(f.Close)
	return f
}

func (f *fakeAPI) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

// count is how many calls came.
func (f *fakeAPI) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.calls)
}

func (f *fakeAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, time.Now())
	if auth := r.Header.Get("Authorization"); !strings.HasPrefix(auth, "AWS4-HMAC-SHA256 Credential=AKIDTEST/") || !strings.Contains(auth, "/us-east-1/elasticache/aws4_request") {
		f.t.Errorf("not signed for the service: %q", auth)
	}
	action, version := r.FormValue("Action"), r.FormValue("Version")
	if version != "2015-02-02" {
		f.t.Errorf("%s has version %q", action, version)
	}
	w.Header().Set("Content-Type", "text/xml")
	if f.refuse != "" {
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprintf(w, `<ErrorResponse xmlns="http://elasticache.amazonaws.com/doc/2015-02-02/"><Error><Type>Sender</Type><Code>%s</Code><Message>no</Message></Error><RequestId>r</RequestId></ErrorResponse>`, f.refuse)
		return
	}
	result := ""
	switch action {
	case "DescribeReplicationGroups":
		if id := r.FormValue("ReplicationGroupId"); id != "shop" {
			f.t.Errorf("asked for group %q", id)
		}
		result = f.group()
	case "DescribeCacheClusters":
		result = f.cluster(r.FormValue("CacheClusterId"))
	default:
		f.t.Errorf("unexpected call %q", action)
	}
	fmt.Fprintf(w, `<%[1]sResponse xmlns="http://elasticache.amazonaws.com/doc/2015-02-02/"><%[1]sResult>%[2]s</%[1]sResult><ResponseMetadata><RequestId>r</RequestId></ResponseMetadata></%[1]sResponse>`, action, result)
}

func (f *fakeAPI) group() string {
	var members strings.Builder
	for _, n := range f.nodes {
		fmt.Fprintf(&members, `<NodeGroupMember><CacheClusterId>%s</CacheClusterId><CacheNodeId>0001</CacheNodeId><PreferredAvailabilityZone>%s</PreferredAvailabilityZone>`, n.id, n.zone)
		if !f.hidden {
			fmt.Fprintf(&members, `<CurrentRole>%s</CurrentRole><ReadEndpoint><Address>%s</Address><Port>%s</Port></ReadEndpoint>`, n.role, n.host, n.port)
		}
		members.WriteString(`</NodeGroupMember>`)
	}
	shard := `<NodeGroup><NodeGroupId>0001</NodeGroupId><Status>available</Status><NodeGroupMembers>` + members.String() + `</NodeGroupMembers></NodeGroup>`
	return `<ReplicationGroups><ReplicationGroup><ReplicationGroupId>shop</ReplicationGroupId><Status>available</Status><NodeGroups>` +
		strings.Repeat(shard, f.shards) + `</NodeGroups></ReplicationGroup></ReplicationGroups>`
}

func (f *fakeAPI) cluster(id string) string {
	for _, n := range f.nodes {
		if n.id == id {
			return fmt.Sprintf(`<CacheClusters><CacheCluster><CacheClusterId>%s</CacheClusterId><PreferredAvailabilityZone>%s</PreferredAvailabilityZone><CacheNodes><CacheNode><CacheNodeId>0001</CacheNodeId><Endpoint><Address>%s</Address><Port>%s</Port></Endpoint></CacheNode></CacheNodes></CacheCluster></CacheClusters>`,
				n.id, n.zone, n.host, n.port)
		}
	}
	f.t.Errorf("asked for cluster %q", id)
	return ""
}

// apiNodes describes servers as shop-001 and so on, the first as the primary.
func apiNodes(servers ...*server) []apiNode {
	var nodes []apiNode
	for i, s := range servers {
		n := apiNode{fmt.Sprintf("shop-%03d", i+1), s.opts.Host, fmt.Sprint(s.opts.Port), fmt.Sprintf("us-east-1%c", 'a'+i), "replica"}
		if i == 0 {
			n.role = "primary"
		}
		nodes = append(nodes, n)
	}
	return nodes
}

func (f *fakeAPI) options() Options {
	return Options{ElastiCache: &ElastiCache{ReplicationGroup: "shop", Region: "us-east-1", Endpoint: f.URL, AccessKey: "AKIDTEST", SecretKey: "secret-word", Poll: 500 * time.Millisecond}}
}

func (v *observer) of(id cluster.NodeID) cluster.NodeStatus {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.says[id]
}

func TestElastiCacheFailsOver(t *testing.T) {
	for _, hidden := range []bool{false, true} {
		t.Run(fmt.Sprintf("endpoints hidden %v", hidden), func(t *testing.T) {
			a, b, c := trio(t, nil)
			api := startAPI(t, apiNodes(a, b, c)...)
			api.hidden = hidden
			v := watch(t, api.options())
			v.waitForWriter(a)
			waitFor(t, "both replicas serve reads", func() bool { return v.readers() == 2 })
			if s := v.of("shop-002"); s.Zone != "us-east-1b" || s.Addr != b.Addr() {
				t.Errorf("a node from the API: %+v", s)
			}
			must(t, a.Kill()) // AWS promotes another, and the API goes on naming the dead one
			b.promote()
			v.waitForWriter(b)
			c.following(b)
			waitFor(t, "the other one follows", func() bool { return v.readers() == 1 })
			if v.epoch() != 2 {
				t.Errorf("epoch %d", v.epoch())
			}
		})
	}
}

func TestElastiCacheReplacesANode(t *testing.T) {
	a, b, c := trio(t, nil)
	api := startAPI(t, apiNodes(a, b)...)
	v := watch(t, api.options())
	v.waitForWriter(a)
	waitFor(t, "one replica serves reads", func() bool { return v.readers() == 1 })
	must(t, b.Kill())
	api.set(func() { api.nodes = apiNodes(a, c) }) // shop-002 is another machine now
	waitFor(t, "its successor serves reads", func() bool { return v.readers() == 1 && v.of("shop-002").Addr == c.Addr() })
	api.set(func() { api.nodes = apiNodes(a) })
	waitFor(t, "a node is gone", func() bool { return v.readers() == 0 && v.said("node_removed") == 1 })
	if v.of("shop-001").Nodes != 1 || v.writer() != a.Addr() {
		t.Errorf("%d nodes, writes go to %q", v.of("shop-001").Nodes, v.writer())
	}
}

func TestElastiCacheThatThrottlesIsLeftAlone(t *testing.T) {
	a := startServer(t, "127.0.0.1", 0, nil).promote()
	api := startAPI(t, apiNodes(a)...)
	o := api.options()
	o.ElastiCache.Poll = 100 * time.Millisecond
	v := watch(t, o)
	v.waitForWriter(a)
	api.set(func() { api.refuse, api.calls = "APICallRateForCustomerExceeded", nil })
	waitFor(t, "the back-off has grown", func() bool {
		v.Doubt() // which must not bring more calls
		api.mu.Lock()
		defer api.mu.Unlock()
		n := len(api.calls)
		return n > 3 && api.calls[n-1].Sub(api.calls[n-2]) > 300*time.Millisecond
	})
	if n := api.count(); n > 6 {
		t.Errorf("%d calls until the back-off was three polls long", n)
	}
	if v.said("source_throttled") != 1 {
		t.Errorf("it was told %d times", v.said("source_throttled"))
	}
	v.waitForWriter(a) // the nodes go on being asked
	api.set(func() { api.refuse = "" })
	waitFor(t, "the API answers again", func() bool { return v.said("source_answers") == 1 })
}

func TestElastiCacheWithSeveralShardsIsRefused(t *testing.T) {
	a := startServer(t, "127.0.0.1", 0, nil).promote()
	api := startAPI(t, apiNodes(a)...)
	api.shards = 2
	v := watch(t, api.options())
	waitFor(t, "it is told", func() bool { return v.said("source_failed") == 1 })
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, e := range v.events {
		if !strings.Contains(e.Message, "2 shards") || strings.Contains(e.Message, "secret-word") {
			t.Errorf("event %q", e.Message)
		}
	}
}

// names is a DNS of our own.
type names struct {
	mu sync.Mutex
	at map[string][]string
}

func (n *names) set(host string, ips ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.at[host] = ips
}

func (n *names) lookup(_ context.Context, host string) ([]string, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if ips := n.at[host]; ips != nil {
		return ips, nil
	}
	return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
}

// addresses starts three nodes on one port at three addresses, as nodes of one group are.
func addresses(t *testing.T) (port string, a, b, c *server) {
	t.Helper()
	n := freePort(t, "127.0.0.2")
	a, b, c = startServer(t, "127.0.0.2", n, nil).promote(), startServer(t, "127.0.0.3", n, nil), startServer(t, "127.0.0.4", n, nil)
	b.following(a)
	c.following(a)
	return fmt.Sprint(n), a, b, c
}

func TestEndpointsOfElastiCacheByName(t *testing.T) {
	port, a, b, c := addresses(t)
	dns := &names{at: map[string][]string{"master.x": {"127.0.0.2"}, "replica.x": {"127.0.0.3"}}}
	v := watch(t, Options{Lookup: dns.lookup, ElastiCache: &ElastiCache{Primary: "master.x:" + port, Reader: "replica.x:" + port}})
	v.waitForWriter(a)
	waitFor(t, "the replica that the reader endpoint names serves reads", func() bool { return v.readers() == 1 })
	dns.set("replica.x", "127.0.0.4") // its other turn
	waitFor(t, "both replicas serve reads", func() bool { v.Doubt(); return v.readers() == 2 })
	must(t, a.Kill()) // and DNS says nothing of it for a long time
	c.promote()
	b.follow(c)
	v.waitForWriter(c)
	dns.set("replica.x", "127.0.0.3")
	dns.set("master.x", "127.0.0.4")
	waitFor(t, "the other replica serves reads", func() bool { return v.readers() == 1 })
}

func TestNodesByNameMove(t *testing.T) {
	port, a, b, c := addresses(t)
	dns := &names{at: map[string][]string{"master.x": {"127.0.0.2"}, "n1.x": {"127.0.0.2"}, "n2.x": {"127.0.0.3"}}}
	v := watch(t, Options{Lookup: dns.lookup, ElastiCache: &ElastiCache{Primary: "master.x:" + port, Nodes: []string{"n1.x:" + port, "n2.x:" + port},
		Zones: map[string]string{"n1.x:" + port: "z1"}}})
	v.waitForWriter(a)
	n1, n2 := cluster.NodeID("n1.x:"+port), cluster.NodeID("n2.x:"+port)
	waitFor(t, "the replica serves reads", func() bool { return v.readers() == 1 })
	if s := v.of(n1); !s.Leads || s.Zone != "z1" || s.Nodes != 2 || s.Addr != a.Addr() {
		t.Errorf("the primary by its name: %+v", s)
	}
	dns.set("n2.x", "127.0.0.4") // while the old one goes on answering
	waitFor(t, "the name's new address is asked", func() bool { return v.of(n2).Addr == c.Addr() && v.of(n2).State == cluster.StateReady })
	dns.set("n2.x")
	waitFor(t, "DNS fails", func() bool { v.Doubt(); return v.said("source_failed") == 1 })
	v.waitForWriter(a)
	_ = b
}
