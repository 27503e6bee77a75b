package upstream

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// metrics are one watcher's.
type metrics struct {
	questions, failures, doubts prometheus.Counter
	sourceFailures, throttled   prometheus.Counter
	epoch, nodes, primary       prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer, group string) *metrics {
	if reg == nil {
		reg = prometheus.NewRegistry()
	}
	f := promauto.With(prometheus.WrapRegistererWith(prometheus.Labels{"group": group}, reg))
	counter := func(name, help string) prometheus.Counter {
		return f.NewCounter(prometheus.CounterOpts{Name: "understudy_upstream_" + name, Help: help})
	}
	gauge := func(name, help string) prometheus.Gauge {
		return f.NewGauge(prometheus.GaugeOpts{Name: "understudy_upstream_" + name, Help: help})
	}
	return &metrics{
		questions:      counter("questions_total", "Times that a node was asked what it is."),
		failures:       counter("unanswered_questions_total", "Questions to a node that were not answered."),
		doubts:         counter("doubts_total", "Reports of trouble that had every node asked at once."),
		sourceFailures: counter("source_failures_total", "Questions to a sentinel, to the ElastiCache API or to DNS that were not answered."),
		throttled:      counter("throttled_calls_total", "Calls that the ElastiCache API refused because there were too many."),
		epoch:          gauge("epoch", "Changes of primary that this watcher has counted."),
		nodes:          gauge("nodes", "Nodes that are watched."),
		primary:        gauge("primary_present", "1 while a node that is taken for the primary answers as one."),
	}
}
