package proxy

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"understudy/cluster"
)

// observed is an Observer and who tells it of the nodes.
type observed struct {
	*Observer
	t     *testing.T
	start time.Time
	reg   *prometheus.Registry
}

func startObserver(t *testing.T) *observed {
	t.Helper()
	g := &observed{t: t, start: time.Now(), reg: prometheus.NewRegistry()}
	o, err := NewObserver(Options{Group: "g", Zone: "z", Primary: "127.0.0.1:0", Clock: func() time.Duration { return time.Since(g.start) + time.Hour }, Metrics: g.reg})
	if err != nil {
		t.Fatal(err)
	}
	g.Observer = o
	life, end := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- o.Run(life) }()
	t.Cleanup(func() {
		end()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return g
}

// leads tells that n is the primary.
func (g *observed) leads(n *node, epoch cluster.Epoch) {
	s := n.status
	s.Role, s.Leads, s.Epoch, s.Permit = cluster.RolePrimary, true, epoch, time.Hour
	g.Learn(g.opts.Clock(), s)
}

// counted is what understudy_observe_failover_errors_total says, as "error hold: n".
func (g *observed) counted() string {
	families, err := g.reg.Gather()
	must(g.t, err)
	var all []string
	for _, f := range families {
		if f.GetName() != "understudy_observe_failover_errors_total" {
			continue
		}
		for _, m := range f.GetMetric() {
			all = append(all, fmt.Sprintf("%s %s: %v", m.GetLabel()[0].GetValue(), m.GetLabel()[2].GetValue(), m.GetCounter().GetValue()))
		}
	}
	return strings.Join(all, ", ")
}

// observedClient is a connection whose words and replies are one line each.
type observedClient struct {
	net.Conn
	*bufio.Reader
	t *testing.T
}

func (g *observed) dial() observedClient {
	c, err := net.Dial("tcp", g.Addrs().Primary)
	must(g.t, err)
	g.t.Cleanup(func() { _ = c.Close() })
	must(g.t, c.SetDeadline(time.Now().Add(20*time.Second)))
	return observedClient{c, bufio.NewReader(c), g.t}
}

func (c observedClient) send(line string) {
	c.t.Helper()
	_, err := fmt.Fprintf(c.Conn, "%s\r\n", line)
	must(c.t, err)
}

// ask returns the first line of the reply; "" when the connection is closed instead.
func (c observedClient) ask(line string) string {
	c.t.Helper()
	c.send(line)
	return c.answer()
}

func (c observedClient) answer() string {
	text, err := c.ReadString('\n')
	if err != nil {
		return ""
	}
	return strings.TrimSpace(text)
}

// What a promotion by hand and a crash do to clients goes through to them, and each thing is counted once, by
// whether a hold would have hidden it.
func TestAnObserverShowsARealPromotionAndACrash(t *testing.T) {
	a, b := startNode(t, "g-001"), startNode(t, "g-002")
	a.promote(t)
	b.replicaOf(t, a)
	g := startObserver(t)
	g.leads(a, 1)
	stays := g.dial()
	if got := stays.ask("SET k v"); got != "+OK" {
		t.Fatalf("SET: %q", got)
	}

	// An operator promotes b, and a follows it. Who stays is told so; who comes anew reaches b.
	b.promote(t)
	a.replicaOf(t, b)
	g.leads(b, 2)
	if got := stays.ask("SET k w"); !strings.HasPrefix(got, "-READONLY") {
		t.Errorf("on a node that became a replica: %q", got)
	}
	if got := g.counted(); got != "READONLY hides: 1" {
		t.Errorf("after the promotion: %s", got)
	}
	idle, reads, writes, may := g.dial(), g.dial(), g.dial(), g.dial()
	for _, c := range []observedClient{idle, reads, writes, may} {
		if got := c.ask("SET k x"); got != "+OK" {
			t.Fatalf("on the new primary: %q", got)
		}
	}
	if n := b.client.Get(ctx, "k").Val(); n != "x" {
		t.Errorf("k is %q", n)
	}

	// b dies with three commands under way: one that may run twice, one that may not, and a read.
	must(t, b.client.Do(ctx, "CLIENT", "PAUSE", "60000", "ALL").Err())
	reads.send("GET k")
	writes.send("INCR n")
	may.send("SET k y")
	eventually(t, "the commands have passed", func() bool {
		families, err := g.reg.Gather()
		must(t, err)
		for _, f := range families {
			if f.GetName() == "understudy_observe_requests_total" {
				return f.GetMetric()[0].GetCounter().GetValue() == 9
			}
		}
		return false
	})
	must(t, b.server.Kill())
	for _, c := range []observedClient{idle, reads, writes, may} {
		if got := c.answer(); got != "" {
			t.Errorf("a connection to a dead node says %q", got)
		}
	}
	const dead = "READONLY hides: 1, closed hides: 3, closed unknown: 1"
	eventually(t, dead, func() bool { return g.counted() == dead })

	// Nobody leads: who comes now finds nobody there.
	if got := g.dial().answer(); got != "" {
		t.Errorf("nobody serves, and %q is the answer", got)
	}
	eventually(t, "it is counted", func() bool { return g.counted() == dead+", unreachable hides: 1" })

	// A client that goes by itself has lost nothing.
	a.promote(t)
	g.leads(a, 3)
	last := g.dial()
	if got := last.ask("GET k"); got == "" {
		t.Error("a, promoted again, does not answer")
	}
	must(t, last.Close())
	must(t, stays.Close())
	eventually(t, "they have gone", func() bool { g.mu.Lock(); defer g.mu.Unlock(); return len(g.open) == 0 })
	if got := g.counted(); got != dead+", unreachable hides: 1" {
		t.Errorf("after clients that went by themselves: %s", got)
	}
	g.documented(t)
}

// documented demands that docs/metrics.md lists what an observer serves, with its kind and labels.
func (g *observed) documented(t *testing.T) {
	t.Helper()
	page, err := os.ReadFile("../docs/metrics.md")
	must(t, err)
	families, err := g.reg.Gather()
	must(t, err)
	if len(families) < 5 {
		t.Errorf("only %d metrics", len(families))
	}
	for _, f := range families {
		var labels []string
		for _, l := range f.GetMetric()[0].GetLabel() {
			labels = append(labels, l.GetName())
		}
		row := fmt.Sprintf("| `%s` | %s | %s |", f.GetName(), strings.ToLower(f.GetType().String()), strings.Join(labels, ", "))
		if !strings.Contains(string(page), row) {
			t.Errorf("docs/metrics.md does not list %s", row)
		}
	}
}
