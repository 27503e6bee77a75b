package notify

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// result is what became of one attempt.
type result string

const (
	delivered result = "delivered"
	retried   result = "retried"
	failed    result = "failed"
)

// metrics are Prometheus's, of all topics together.
type metrics struct {
	published prometheus.Counter
	attempts  *prometheus.CounterVec
	latency   prometheus.Histogram
}

func newMetrics(r prometheus.Registerer, c *Courier) *metrics {
	f := promauto.With(r)
	m := &metrics{
		published: f.NewCounter(prometheus.CounterOpts{Name: "understudy_notify_messages_total", Help: "Messages that topics took."}),
		attempts: f.NewCounterVec(prometheus.CounterOpts{Name: "understudy_notify_attempts_total",
			Help: "Attempts to deliver, by protocol and by what became of them: failed ones are given up."}, []string{"protocol", "result"}),
		latency: f.NewHistogram(prometheus.HistogramOpts{Name: "understudy_notify_delivery_seconds",
			Help: "From the publication of a message to its delivery to one subscription.", Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 5, 20, 60, 300, 3600}}),
	}
	for _, p := range Protocols {
		for _, r := range []result{delivered, retried, failed} {
			m.attempts.WithLabelValues(p, string(r))
		}
	}
	gauge := func(name, help string, of func() int) {
		f.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 {
			c.mu.Lock()
			defer c.mu.Unlock()
			return float64(of())
		})
	}
	gauge("understudy_notify_queued_messages", "Messages that are not delivered to all of their subscriptions yet; at most 10,000.", func() int { return len(c.entries) })
	gauge("understudy_notify_queued_bytes", "Their bytes in the store; at most 64 MiB.", func() int { return c.bytes })
	gauge("understudy_notify_dead_letters", "Deliveries that were given up and are still listed; at most 1,000.", func() int { return len(c.dead) })
	return m
}

func (m *metrics) attempted(protocol string, r result, since time.Duration) {
	m.attempts.WithLabelValues(protocol, string(r)).Inc()
	if r == delivered {
		m.latency.Observe(since.Seconds())
	}
}
