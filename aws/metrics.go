package aws

import (
	"github.com/prometheus/client_golang/prometheus"

	"understudy/aws/wire"
)

type metrics struct {
	requests *prometheus.CounterVec
	took     *prometheus.HistogramVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "understudy_aws_requests_total",
			Help: "Requests of AWS clients that were answered, by the error's code; \"\" is success.",
		}, []string{"service", "operation", "protocol", "code"}),
		// Half of what the front may take at 500 requests a second is 10 ms; a create waits for nothing.
		took: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "understudy_aws_request_seconds",
			Help:    "How long requests of AWS clients took, from their headers to the answer.",
			Buckets: []float64{.002, .005, .01, .02, .05, .1, .5, 2, 10},
		}, []string{"service"}),
	}
	reg.MustRegister(m.requests, m.took)
	return m
}

// count takes names from the models only: what a stranger calls an operation is no label.
func (m *metrics) count(s wire.Served) {
	operation := s.Operation
	if !s.Known {
		operation = "unknown"
	}
	m.requests.WithLabelValues(s.Service, operation, s.Protocol.String(), s.Code).Inc()
	m.took.WithLabelValues(s.Service).Observe(s.Took.Seconds())
}
