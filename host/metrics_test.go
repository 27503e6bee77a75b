package host

import (
	"os"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// A machine counts what it runs and renews; docs/metrics.md lists what is counted.
func TestAMachineCountsItsNodes(t *testing.T) {
	s := newStage(t)
	o := s.options("m1", "a")
	o.CrowdAfter = o.Renew // one machine has to take all three
	reg := prometheus.NewRegistry()
	o.Metrics = reg
	h, stop := s.run(o)
	s.until("all nodes run", func(runs map[string]string) bool { return len(runs) == 3 })
	if got := samples(t, reg); got["understudy_host_starts_total"] != 3 || got["understudy_host_placements_total"] != 3 || got["understudy_host_holds"] != 1 || got["understudy_host_renewals_total"] < 1 {
		t.Errorf("%v", got)
	}
	stop()
	if h.metrics.ended == nil || samples(t, reg)["understudy_host_nodes"] != 0 {
		t.Errorf("after its end: %v", samples(t, reg))
	}
}

// samples sums a registry's metrics up by name, and demands that docs/metrics.md lists each.
func samples(t *testing.T, reg *prometheus.Registry) map[string]float64 {
	t.Helper()
	page, err := os.ReadFile("../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]float64{}
	for _, f := range families {
		if !strings.Contains(string(page), "| `"+f.GetName()+"` | "+strings.ToLower(f.GetType().String())+" |") {
			t.Errorf("docs/metrics.md does not list %s", f.GetName())
		}
		for _, m := range f.GetMetric() {
			all[f.GetName()] += m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return all
}
