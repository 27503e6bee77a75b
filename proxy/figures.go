package proxy

import (
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"understudy/cluster"
)

// Figures are what is asked of a proxy each second, without a look at all of its metrics.
type Figures struct {
	Clients, Held    float64 // now, as of the last turn
	Accepted, Leaked float64 // clients, and errors of failovers that reached one, since the proxy was made
}

// Figures reads them. Any goroutine may call it.
func (p *Proxy) Figures() Figures {
	m := p.loop.metrics
	return Figures{Clients: read(m.clients), Held: read(m.holding), Accepted: read(m.accepted), Leaked: read(m.leaked)}
}

// Opened is how many connections to a node's servers were made since the proxy was. Any goroutine may call it.
func (p *Proxy) Opened(node cluster.NodeID) float64 {
	return read(p.loop.metrics.opened.WithLabelValues(string(node)))
}

func read(m prometheus.Metric) float64 {
	var d dto.Metric
	if m.Write(&d) != nil { // it has no value that cannot be written
		return 0
	}
	return d.GetCounter().GetValue() + d.GetGauge().GetValue()
}
