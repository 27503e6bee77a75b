package rpc

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// The outcomes of a question, as metrics name them.
const (
	outcomeOK      = "ok"
	outcomeRefused = "refused" // it made no sense, or is about a node that does not run here
	outcomeFailed  = "failed"
)

// answered counts the questions that a server was asked.
func answered(reg prometheus.Registerer) *prometheus.CounterVec {
	return with(reg).NewCounterVec(prometheus.CounterOpts{Name: "understudy_rpc_answered_total",
		Help: "Questions of other agents, proxies and operators about nodes of this process, by kind and outcome."}, []string{"kind", "outcome"})
}

// asking counts what a client asks.
type asking struct {
	asked  *prometheus.CounterVec
	hedged prometheus.Counter
}

func newAsking(reg prometheus.Registerer) asking {
	f := with(reg)
	return asking{
		asked: f.NewCounterVec(prometheus.CounterOpts{Name: "understudy_rpc_asked_total",
			Help: "Questions to agents, by kind and outcome."}, []string{"kind", "outcome"}),
		hedged: f.NewCounter(prometheus.CounterOpts{Name: "understudy_rpc_hedged_total",
			Help: "Questions that were asked on a second connection because nothing was heard on the first in time."}),
	}
}

// with registers with reg; nil: nowhere.
func with(reg prometheus.Registerer) promauto.Factory {
	if reg == nil {
		reg = prometheus.NewRegistry()
	}
	return promauto.With(reg)
}
