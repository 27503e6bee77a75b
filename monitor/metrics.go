package monitor

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// metrics are the collector's own; docs/metrics.md lists them.
type metrics struct {
	looks      prometheus.Histogram
	unanswered prometheus.Counter
	unkept     prometheus.Counter
	missed     prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg) // nil: nobody asks
	counter := func(name, help string) prometheus.Counter {
		return f.NewCounter(prometheus.CounterOpts{Name: "understudy_monitor_" + name, Help: help})
	}
	return &metrics{
		looks: f.NewHistogram(prometheus.HistogramOpts{Name: "understudy_monitor_look_seconds",
			Help: "How long looks at all nodes took, until what they gave was kept.", Buckets: prometheus.ExponentialBuckets(0.001, 2, 10)}),
		unanswered: counter("unanswered_total", "Questions to a node's redis-server that it did not answer in time."),
		unkept:     counter("unkept_looks_total", "Looks whose data could not be kept."),
		missed:     counter("missed_seconds_total", "Seconds without a look because the one before took too long."),
	}
}
