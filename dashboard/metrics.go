package dashboard

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"understudy/cluster"
)

// registerMetrics registers what can be read off at any moment; docs/metrics.md lists it.
func registerMetrics(d *Dashboard) {
	f := promauto.With(d.opts.Metrics)
	labels := prometheus.Labels{"group": d.opts.Group}
	gauge := func(name, help string, value func() float64) {
		f.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: labels}, value)
	}
	gauge("understudy_group_writable", "1 while a primary with a permit accepts writes.", func() float64 {
		return boolValue(d.Status().Writable() == "")
	})
	registerGroup(d, gauge, func(name, help string, value func() float64) {
		f.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help, ConstLabels: labels}, value)
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

// registerGroup registers what tells of the group's safety.
func registerGroup(d *Dashboard, gauge, counter func(name, help string, value func() float64)) {
	gauge("understudy_group_degraded", "1 while a primary accepts writes and something is not as it should be: the reasons of the status.", func() float64 {
		return boolValue(d.Status().State == cluster.GroupDegraded)
	})
	gauge("understudy_group_waits_for_operator", "1 while nobody leads and nobody can be chosen, unless an operator accepts a loss or a node comes back.", func() float64 {
		return boolValue(d.Explain().Waits)
	})
	gauge("understudy_group_voters", "Nodes by whose logs an election would go; 0 in async, or while the primary is alone.", func() float64 {
		if r := d.Status().Rule; r != nil {
			return float64(len(r.Voters))
		}
		return 0
	})
	gauge("understudy_group_write_quorum", "Voters that hold a write before it is acked; 0 in async, or while the primary is alone.", func() float64 {
		if r := d.Status().Rule; r != nil {
			return float64(r.W)
		}
		return 0
	})
	gauge("understudy_group_lost_data_sets", "Data sets that nodes put aside because they have writes that the group does not have.", func() float64 {
		n := 0
		for _, node := range d.Status().Nodes {
			n += len(node.Lost)
		}
		return float64(n)
	})
	count := func(of func(counts) float64) func() float64 {
		return func() float64 {
			d.mu.Lock()
			defer d.mu.Unlock()
			return of(d.counts)
		}
	}
	gauge("understudy_group_failsafe", "1 while the primary goes on without the store because every node pledged itself to it.",
		count(func(c counts) float64 { return boolValue(c.failsafe) }))
	counter("understudy_group_failsafes_total", "Times that a primary went on without the store.",
		count(func(c counts) float64 { return float64(c.failsafes) }))
	counter("understudy_group_early_elections_total", "Elections won before the permit of a silent primary could have ended.",
		count(func(c counts) float64 { return float64(c.early) }))
	counter("understudy_group_false_alarms_total", "Epochs that a primary took for itself because a node had given it up: it was there all the time.",
		count(func(c counts) float64 { return float64(c.falseAlarms) }))
}

func boolValue(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// count takes the events that are counted. The caller holds mu.
func (d *Dashboard) count(e cluster.Event) {
	switch e.Name {
	case "failsafe":
		d.counts.failsafe = true
		d.counts.failsafes++
	case "store_back", "serving", "fencing":
		d.counts.failsafe = false
	case "claims_early":
		d.counts.early++
	}
}
