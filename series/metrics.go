package series

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// metrics are the stores' own; docs/metrics.md lists them.
type metrics struct {
	samples prometheus.Counter
	refused prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, s *Series) *metrics {
	f := promauto.With(reg) // nil: nobody asks
	for name, g := range map[string]*grain{"seconds": s.seconds, "minutes": s.minutes} {
		of := prometheus.Labels{"resolution": name}
		f.NewGaugeFunc(prometheus.GaugeOpts{Name: "understudy_series_bytes", Help: "What metrics take on disk.", ConstLabels: of}, g.bytes)
		f.NewGaugeFunc(prometheus.GaugeOpts{Name: "understudy_series_active", Help: "Series in memory: one for each part of a metric that was written lately.",
			ConstLabels: of}, func() float64 { return float64(g.Head().NumSeries()) })
	}
	f.NewGaugeFunc(prometheus.GaugeOpts{Name: "understudy_series_rolled_timestamp_seconds", Help: "Until when seconds have been rolled up to minutes."},
		func() float64 { return float64(s.rolled.Load()) / 1000 })
	return &metrics{
		samples: f.NewCounter(prometheus.CounterOpts{Name: "understudy_series_samples_total", Help: "Values and statistic sets that were kept."}),
		refused: f.NewCounter(prometheus.CounterOpts{Name: "understudy_series_refused_writes_total", Help: "Writes that were refused because of what a datum says, or for want of room for it."}),
	}
}

// bytes are those of the blocks, and of the log of what is not in one yet.
func (g *grain) bytes() float64 {
	all := g.Head().Size()
	for _, b := range g.Blocks() {
		all += b.Size()
	}
	return float64(all)
}
