package dashboard

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// registerMetrics registers what can be read off at any moment; docs/metrics.md lists it.
func registerMetrics(d *Dashboard) {
	f := promauto.With(d.opts.Metrics)
	labels := prometheus.Labels{"group": d.opts.Group}
	gauge := func(name, help string, value func() float64) {
		f.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: labels}, value)
	}
	gauge("understudy_group_writable", "1 while a primary with a permit accepts writes.", func() float64 {
		if d.Status().Writable() == "" {
			return 1
		}
		return 0
	})
	gauge("understudy_dashboard_event_streams", "Open streams of GET /api/events.", func() float64 {
		open, _ := d.events.counts()
		return float64(open)
	})
	f.NewCounterFunc(prometheus.CounterOpts{Name: "understudy_dashboard_event_streams_evicted_total", ConstLabels: labels,
		Help: "Streams of events that were closed because their reader had fallen behind."}, func() float64 {
		_, evicted := d.events.counts()
		return float64(evicted)
	})
}
