package remotewrite

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// metrics are the Sender's own; docs/metrics.md lists them.
type metrics struct {
	sent, dropped, refused, late prometheus.Counter
	retries                      prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, queued func() float64) *metrics {
	f := promauto.With(reg)
	samples := f.NewCounterVec(prometheus.CounterOpts{Name: "understudy_remote_write_samples_total",
		Help: "Samples for the receiver of remote write, by what became of them."}, []string{"result"})
	f.NewGaugeFunc(prometheus.GaugeOpts{Name: "understudy_remote_write_queued_samples", Help: "Samples that wait to be sent."}, queued)
	return &metrics{
		sent: samples.WithLabelValues("sent"), dropped: samples.WithLabelValues("dropped"),
		refused: samples.WithLabelValues("refused"), late: samples.WithLabelValues("late"),
		retries: f.NewCounter(prometheus.CounterOpts{Name: "understudy_remote_write_retries_total", Help: "Attempts to send that failed and were repeated."}),
	}
}
