package rpc

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Every question is counted on both sides, by what became of it; docs/metrics.md lists what is counted.
func TestQuestionsAreCountedOnBothSides(t *testing.T) {
	atServer, atClient := prometheus.NewRegistry(), prometheus.NewRegistry()
	s := NewServer(ServerOptions{Metrics: atServer})
	addr := serveWith(t, s, Unix(filepath.Join(t.TempDir(), "s")), nil, newActor("n1"))
	c := NewClient(ClientOptions{Metrics: atClient, HedgeAfter: time.Minute})
	defer c.Close()
	if _, err := c.Report(t.Context(), To{Node: "n1", Addr: addr}, 0, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Report(t.Context(), To{Node: "n2", Addr: addr}, 0, 0); err == nil {
		t.Fatal("a node that does not run here has answered")
	}
	if _, err := c.Position(t.Context(), To{Node: "n1", Addr: addr}); err == nil {
		t.Fatal("an actor has no redis-server")
	}
	wantCounted(t, atServer, map[string]float64{"understudy_rpc_answered_total report ok": 1,
		"understudy_rpc_answered_total report refused": 1, "understudy_rpc_answered_total position failed": 1})
	wantCounted(t, atClient, map[string]float64{"understudy_rpc_asked_total report ok": 1, "understudy_rpc_asked_total report failed": 1,
		"understudy_rpc_asked_total position failed": 1, "understudy_rpc_hedged_total": 0})
}

// wantCounted compares a registry's samples, by name and labels, and demands that docs/metrics.md lists them.
func wantCounted(t *testing.T, reg *prometheus.Registry, want map[string]float64) {
	t.Helper()
	page, err := os.ReadFile("../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, f := range families {
		if !strings.Contains(string(page), "| `"+f.GetName()+"` | counter |") {
			t.Errorf("docs/metrics.md does not list %s", f.GetName())
		}
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range m.GetLabel() { // in the order of their names
				name += " " + l.GetValue()
			}
			n++
			if got, ok := want[name]; !ok || got != m.GetCounter().GetValue() {
				t.Errorf("%s is %v; want %v", name, m.GetCounter().GetValue(), want)
			}
		}
	}
	if n != len(want) {
		t.Errorf("%d samples, want %v", n, want)
	}
}
