package host

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// metrics are this machine's; docs/metrics.md lists them.
type metrics struct {
	nodes                     prometheus.Gauge
	renewals, started, placed *prometheus.CounterVec
	ended                     prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, h *Host) *metrics {
	if reg == nil {
		reg = prometheus.NewRegistry()
	}
	f := promauto.With(reg)
	m := &metrics{
		nodes: f.NewGauge(prometheus.GaugeOpts{Name: "understudy_host_nodes", Help: "Nodes that run on this machine."}),
		renewals: f.NewCounterVec(prometheus.CounterOpts{Name: "understudy_host_renewals_total",
			Help: "Renewals of this machine's record in the store, by outcome."}, []string{"outcome"}),
		started: f.NewCounterVec(prometheus.CounterOpts{Name: "understudy_host_starts_total",
			Help: "Nodes that this machine has started, by outcome."}, []string{"outcome"}),
		placed: f.NewCounterVec(prometheus.CounterOpts{Name: "understudy_host_placements_total",
			Help: "Nodes that this machine has given a place in the store: their first, or another one than that of a lost machine."}, []string{"kind"}),
		ended: f.NewCounter(prometheus.CounterOpts{Name: "understudy_host_failed_nodes_total", Help: "Nodes that ended with an error; they are started again."}),
	}
	f.NewGaugeFunc(prometheus.GaugeOpts{Name: "understudy_host_holds",
		Help: "1 while this machine's record is renewed in time and it may run its nodes, else 0."}, func() float64 {
		if h.holds() {
			return 1
		}
		return 0
	})
	return m
}

// outcome is how metrics call an error.
func outcome(err error) string {
	if err != nil {
		return "failed"
	}
	return "ok"
}
