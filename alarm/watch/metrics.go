package watch

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"understudy/alarm"
)

type metrics struct {
	evaluations *prometheus.CounterVec // result
	changes     *prometheus.CounterVec // state
	actions     *prometheus.CounterVec // result
	late        prometheus.Histogram
}

func newMetrics(reg prometheus.Registerer, w *Watch) *metrics {
	if reg == nil {
		reg = prometheus.NewRegistry()
	}
	f := promauto.With(reg)
	f.NewGaugeFunc(prometheus.GaugeOpts{Name: "understudy_alarm_kept", Help: "Alarms that there are."}, func() float64 { return float64(len(w.alarms.Names())) })
	f.NewGaugeFunc(prometheus.GaugeOpts{Name: "understudy_alarm_untold", Help: "Alarms whose actions or history are not written yet."}, func() float64 {
		w.mu.Lock()
		defer w.mu.Unlock()
		return float64(len(w.untold))
	})
	f.NewCounterFunc(prometheus.CounterOpts{Name: "understudy_alarm_dropped_total", Help: "Messages and entries of alarms that were given up because too many of an alarm waited; of alarms that there are."}, func() (n float64) {
		for _, a := range w.alarms.All() {
			n += float64(a.Dropped)
		}
		return n
	})
	m := &metrics{
		evaluations: f.NewCounterVec(prometheus.CounterOpts{Name: "understudy_alarm_evaluations_total", Help: "Evaluations of metric alarms, by result: `done`, `failed` when the points could not be read or the rule says nothing."}, []string{"result"}),
		changes:     f.NewCounterVec(prometheus.CounterOpts{Name: "understudy_alarm_changes_total", Help: "Changes of alarms' states, by the new one."}, []string{"state"}),
		actions:     f.NewCounterVec(prometheus.CounterOpts{Name: "understudy_alarm_actions_total", Help: "Actions of alarms, by result: `taken` by the topic, `refused`, or `retried` because the topic could not be reached."}, []string{"result"}),
		late:        f.NewHistogram(prometheus.HistogramOpts{Name: "understudy_alarm_action_seconds", Help: "From a change of an alarm's state until the topic took its message.", Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 10, 60}}),
	}
	for counter, values := range map[*prometheus.CounterVec][]string{
		m.evaluations: {"done", "failed"}, m.actions: {"taken", "refused", "retried"}, m.changes: {string(alarm.OK), string(alarm.Alarm), string(alarm.InsufficientData)},
	} {
		for _, v := range values {
			counter.WithLabelValues(v) // 0 is told from the start: a rate needs it
		}
	}
	return m
}
