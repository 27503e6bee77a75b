package proxy

import (
	"fmt"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

func committed(o *Options) { o.Reads = ReadsCommitted }

// beside starts a second proxy of the same group, which knows what the first one was told.
func (g *group) beside(change func(*Options)) *group {
	other := startProxy(g.t, change)
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, s := range g.said {
		other.say(s)
	}
	return other
}

// A write of another proxy's client that no replica has is not shown: the next failover takes it back.
func TestCommittedReadDoesNotShowAnotherProxysUnsafeWrite(t *testing.T) {
	g, a, b := pair(t)
	strict := g.beside(committed)
	c := dialRedis(t, strict.proxy.Addrs().Primary, 2)
	must(t, c.Set(ctx, "k", "safe", 0).Err())
	must(t, b.server.Kill())
	done := make(chan error, 1)
	go func() { done <- dialRedis(t, g.proxy.Addrs().Primary, 2).Set(ctx, "k", "unsafe", 0).Err() }()
	eventually(t, "the primary has the write", func() bool { return a.client.Get(ctx, "k").Val() == "unsafe" })
	read := make(chan string, 1)
	go func() { read <- c.Get(ctx, "k").Val() }()
	select {
	case v := <-read:
		t.Fatalf("the read gave %q while no other node had it", v)
	case <-time.After(200 * time.Millisecond):
	}
	x := startNode(t, "g-003")
	x.replicaOf(t, a)
	for _, h := range []*group{g, strict} {
		h.say(x.status)
		h.lead(a, 1, syncRule("g-003"))
	}
	if v := <-read; v != "unsafe" {
		t.Errorf("the read gave %q", v)
	}
	must(t, <-done)
}

// The replica's last word covers all that the primary has, and is from before the replica was cut off. A
// read that went by it could be older than what clients outside the cut have written since.
func TestCommittedReadNeedsAReplicaThatStillFollows(t *testing.T) {
	g, a, b := pair(t)
	strict := g.beside(committed)
	for _, proxy := range []*group{g, strict} {
		c := dialRedis(t, proxy.proxy.Addrs().Primary, 2)
		must(t, c.Set(ctx, "k", "v", 0).Err())
		if v, err := c.Get(ctx, "k").Result(); v != "v" {
			t.Fatalf("k = %q, %v", v, err)
		}
	}
	eventually(t, "the replica has acknowledged all", func() bool {
		return strings.Contains(a.client.Info(ctx, "replication").Val(), "offset="+a.info(t, "master_repl_offset")+",")
	})
	b.freeze(t) // its link stays up, as over a cut network
	if v, err := dialRedis(t, g.proxy.Addrs().Primary, 2).Get(ctx, "k").Result(); v != "v" {
		t.Errorf("with reads: permit, k = %q, %v", v, err)
	}
	read := make(chan error, 1)
	go func() { read <- dialRedis(t, strict.proxy.Addrs().Primary, 2).Get(ctx, "k").Err() }()
	select {
	case err := <-read:
		t.Fatalf("a read was given although no voter follows: %v", err)
	case <-time.After(200 * time.Millisecond):
	}
	b.thaw(t)
	must(t, <-read)
}

// BenchmarkReads compares a read of each kind in one run:
//
//	go test ./proxy -run ^$ -bench Reads -benchtime 200000x
func BenchmarkReads(b *testing.B) {
	tool, err := exec.LookPath("redis-benchmark")
	if err != nil {
		b.Skip("redis-benchmark is not installed: apt-get install redis-tools")
	}
	primary, replica := startNode(b, "g-001"), startNode(b, "g-002")
	primary.promote(b)
	replica.replicaOf(b, primary)
	g := startProxy(b, nil)
	g.say(replica.status)
	g.leadSync(primary, 1, "g-002", "g-003")
	strict := g.beside(committed)
	for _, connections := range []int{1, 50, 500} {
		for _, p := range []struct {
			reads Reads
			g     *group
		}{{ReadsPermit, g}, {ReadsCommitted, strict}} {
			b.Run(fmt.Sprintf("%s/%d", p.reads, connections), func(b *testing.B) {
				host, port, _ := net.SplitHostPort(p.g.proxy.Addrs().Primary)
				cmd := exec.Command(tool, "-h", host, "-p", port, "-c", strconv.Itoa(connections), "-n", strconv.Itoa(b.N),
					"-d", "100", "-r", "10000", "-t", "GET", "-q")
				b.ResetTimer()
				out, err := cmd.CombinedOutput()
				b.StopTimer()
				if err != nil {
					b.Fatalf("redis-benchmark: %v: %s", err, out)
				}
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "requests/s")
			})
		}
	}
}

func TestTransactionThatOnlyReadsDoesNotShowAnUnsafeWrite(t *testing.T) {
	g, a, b := pair(t)
	c := dialRedis(t, g.proxy.Addrs().Primary, 2)
	must(t, c.Set(ctx, "k", "safe", 0).Err())
	must(t, b.server.Kill())
	done := make(chan error, 1)
	go func() { done <- dialRedis(t, g.proxy.Addrs().Primary, 2).Set(ctx, "k", "unsafe", 0).Err() }()
	eventually(t, "the primary has the write", func() bool { return a.client.Get(ctx, "k").Val() == "unsafe" })
	read := make(chan string, 1)
	go func() {
		cmds, err := c.TxPipelined(ctx, func(p goredis.Pipeliner) error { p.Get(ctx, "k"); return nil })
		if err != nil {
			t.Error(err)
		}
		read <- cmds[0].(*goredis.StringCmd).Val()
	}()
	select {
	case v := <-read:
		t.Fatalf("the transaction gave %q while no other node had it", v)
	case <-time.After(200 * time.Millisecond):
	}
	g.lead(a, 1, syncRule())
	must(t, <-done)
	if v := <-read; v != "unsafe" {
		t.Errorf("the transaction gave %q", v)
	}
}
