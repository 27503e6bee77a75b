package agent

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"understudy/cluster"
	"understudy/failover"
)

// metrics are this node's own; docs/metrics.md lists them.
type metrics struct {
	epoch, leads, permit, offset prometheus.Gauge
	settings                     prometheus.Gauge
	reloads, spreads             prometheus.Counter
	events                       *prometheus.CounterVec
	actions                      *prometheus.CounterVec
	phases                       *prometheus.GaugeVec
}

func newMetrics(reg prometheus.Registerer, group string, node cluster.NodeID) *metrics {
	if reg == nil {
		reg = prometheus.NewRegistry()
	}
	f := promauto.With(prometheus.WrapRegistererWith(prometheus.Labels{"group": group, "node": string(node)}, reg))
	gauge := func(name, help string) prometheus.Gauge {
		return f.NewGauge(prometheus.GaugeOpts{Name: "understudy_agent_" + name, Help: help})
	}
	return &metrics{
		epoch:    gauge("epoch", "The highest epoch that the node has seen."),
		leads:    gauge("leads", "1 while the node is the primary and holds a permit."),
		permit:   gauge("permit_seconds", "How long the node may still accept writes without a renewal."),
		offset:   gauge("offset_bytes", "The node's replication offset."),
		settings: gauge("settings_version", "The newest version of the users and parameters set at a primary that the node knows; 0: none were."),
		spreads: f.NewCounter(prometheus.CounterOpts{Name: "understudy_agent_settings_spread_total",
			Help: "How often users or parameters that had changed at the node while it led were put into the store for the others."}),
		reloads: f.NewCounter(prometheus.CounterOpts{Name: "understudy_agent_certificate_reloads_total",
			Help: "How often the node's redis-server was told to read its certificates anew, and did."}),
		events: f.NewCounterVec(prometheus.CounterOpts{Name: "understudy_agent_events_total",
			Help: "Transitions of the node, by name."}, []string{"event"}),
		actions: f.NewCounterVec(prometheus.CounterOpts{Name: "understudy_agent_actions_total",
			Help: "Actions that the node carried out, by kind and outcome."}, []string{"action", "outcome"}),
		phases: f.NewGaugeVec(prometheus.GaugeOpts{Name: "understudy_failover_phase_seconds",
			Help: "How long each phase of the last change of primary took that ended on this node."}, []string{"phase"}),
	}
}

func (m *metrics) status(s cluster.NodeStatus) {
	m.epoch.Set(float64(s.Epoch))
	m.leads.Set(0)
	if s.Leads {
		m.leads.Set(1)
	}
	m.permit.Set(s.Permit.Seconds())
	m.offset.Set(float64(s.Position.Offset))
}

func (m *metrics) event(e cluster.Event) {
	m.events.WithLabelValues(e.Name).Inc()
	for phase, ms := range e.Phases {
		m.phases.WithLabelValues(phase).Set(ms / 1000)
	}
}

func (m *metrics) action(k failover.ActionKind, o failover.Outcome) {
	m.actions.WithLabelValues(k.String(), o.String()).Inc()
}
