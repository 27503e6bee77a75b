package backup

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// metrics are the archive's; docs/metrics.md lists them.
type metrics struct {
	results  *prometheus.CounterVec
	checks   prometheus.Counter
	duration prometheus.Histogram
}

func newMetrics(reg prometheus.Registerer, a *Archive) *metrics {
	if reg == nil {
		reg = prometheus.NewRegistry()
	}
	f := promauto.With(reg)
	m := &metrics{
		results: f.NewCounterVec(prometheus.CounterOpts{Name: "understudy_backup_attempts_total", Help: "Backups and copies of them that were begun and have ended, by result."}, []string{"result"}),
		checks:  f.NewCounter(prometheus.CounterOpts{Name: "understudy_backup_verifications_total", Help: "Backups that were read again and found to be what was written."}),
		duration: f.NewHistogram(prometheus.HistogramOpts{Name: "understudy_backup_duration_seconds", Help: "How long backups took that were made, from the request until they were verified and on disk.",
			Buckets: []float64{0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000, 3000}}),
	}
	for _, result := range []string{"made", "failed"} {
		m.results.WithLabelValues(result) // a rate needs its zero
	}
	sum := func(name, help string, of func(b Backup) float64) {
		f.NewGaugeFunc(prometheus.GaugeOpts{Name: "understudy_backup_" + name, Help: help}, func() float64 {
			total := 0.0
			for _, b := range a.List("") {
				total += of(b)
			}
			return total
		})
	}
	sum("stored", "Backups that are there, damaged ones included.", func(b Backup) float64 { return one(b.Whole()) })
	sum("damaged", "Backups whose bytes are not those that were written.", func(b Backup) float64 { return one(b.State == StateDamaged) })
	sum("under_way", "Backups that are being made, or wait for their turn.", func(b Backup) float64 { return one(b.State == StateCreating) })
	sum("bytes", "Bytes of the RDB files of all backups.", func(b Backup) float64 { return one(b.Whole()) * float64(b.Bytes) })
	reg.MustRegister(newest{a})
	return m
}

func one(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}

func (m *metrics) made(_ Backup, took time.Duration, err error) {
	if err != nil {
		m.results.WithLabelValues("failed").Inc()
		return
	}
	m.results.WithLabelValues("made").Inc()
	m.duration.Observe(took.Seconds())
}

func (m *metrics) verified() { m.checks.Inc() }

// newest tells of each group's newest backup: what an alarm for a backup that is overdue needs.
type newest struct{ archive *Archive }

var newestDesc = prometheus.NewDesc("understudy_backup_newest_timestamp_seconds",
	"When the newest backup of the group was taken that is not damaged, in seconds since 1970; 0: there is none.", []string{"group"}, nil)

func (newest) Describe(to chan<- *prometheus.Desc) { to <- newestDesc }

func (n newest) Collect(to chan<- prometheus.Metric) {
	at := map[string]float64{}
	for _, g := range n.archive.opts.Groups() {
		at[g] = 0
	}
	for _, b := range n.archive.List("") {
		if b.State == StateAvailable {
			at[b.Group] = max(at[b.Group], float64(b.Created.UnixMilli())/1000)
		}
	}
	for group, seconds := range at {
		to <- prometheus.MustNewConstMetric(newestDesc, prometheus.GaugeValue, seconds, group)
	}
}
