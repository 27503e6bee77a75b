package proxy

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// metrics are one proxy's; docs/metrics.md lists them. The loop counts in plain numbers and adds
// them up once a turn.
type metrics struct {
	requests, replies    prometheus.Counter
	held, replayed       prometheus.Counter
	unknown, leaked      prometheus.Counter
	timedOut             prometheus.Counter
	rounds, resolved     prometheus.Counter
	clients, holding     prometheus.Gauge
	heldBytes            prometheus.Gauge
	backends, epoch      prometheus.Gauge
	holdSeconds          prometheus.Histogram
	replicaReads, onLead prometheus.Counter
	rejected, handshakes prometheus.Counter
	logins, prefaces     prometheus.Counter
	throttled            prometheus.Counter
	untold               prometheus.Counter
	reloaded, once       prometheus.Counter
	scripts, scriptBytes prometheus.Gauge
	cut                  *prometheus.CounterVec
	output, memory       prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer, group string) *metrics {
	if reg == nil {
		reg = prometheus.NewRegistry()
	}
	f := promauto.With(prometheus.WrapRegistererWith(prometheus.Labels{"group": group}, reg))
	counter := func(name, help string) prometheus.Counter {
		return f.NewCounter(prometheus.CounterOpts{Name: "understudy_proxy_" + name, Help: help})
	}
	gauge := func(name, help string) prometheus.Gauge {
		return f.NewGauge(prometheus.GaugeOpts{Name: "understudy_proxy_" + name, Help: help})
	}
	m := &metrics{
		requests:     counter("requests_total", "Requests that clients sent."),
		replies:      counter("replies_total", "Replies that clients were given."),
		held:         counter("held_requests_total", "Requests that waited for a primary."),
		replayed:     counter("replayed_requests_total", "Requests that were sent again after a rejection or a lost primary."),
		unknown:      counter("unknown_outcomes_total", "Writes answered with UNKNOWN: sent, and lost with the primary before their reply was safe."),
		leaked:       counter("leaked_errors_total", "Errors of a failover that the hold was meant to hide and that reached a client."),
		timedOut:     counter("hold_timeouts_total", "Requests answered with TRYAGAIN because no primary came in time."),
		resolved:     counter("resolved_outcomes_total", "Writes in flight when a primary was lost whose outcome the new primary's log told."),
		rounds:       counter("commit_rounds_total", "Group commits: rounds of ROLE and WAIT on the primary."),
		clients:      gauge("clients", "Connections of clients."),
		holding:      gauge("held_requests", "Requests that wait for a primary now."),
		heldBytes:    gauge("held_bytes", "Bytes of the requests that wait for a primary now."),
		backends:     gauge("backend_connections", "Connections to redis-servers."),
		epoch:        gauge("epoch", "The newest epoch whose primary this proxy knows."),
		reloaded:     counter("reloaded_scripts_total", "EVALSHAs that were sent with their script, because their connection had not sent it yet."),
		once:         counter("once_requests_total", "Writes that were sent with a marker, so that they run exactly once."),
		scripts:      gauge("kept_scripts", "Scripts that the proxy keeps for EVALSHA after a failover."),
		scriptBytes:  gauge("kept_script_bytes", "Bytes of the scripts that the proxy keeps."),
		replicaReads: counter("replica_reads_total", "Reads that a replica answered."),
		onLead:       counter("primary_reads_total", "Reads of the reader and split endpoints that the primary answered."),
		rejected:     counter("rejected_clients_total", "Connections refused because MaxClients or the machine's open files were reached."),
		handshakes:   counter("failed_handshakes_total", "TLS handshakes of clients that failed or took too long."),
		logins:       counter("failed_logins_total", "Logins of clients that were refused."),
		throttled:    counter("throttled_logins_total", "Logins that were refused unseen because too many had failed from their address."),
		untold:       counter("tap_dropped_total", "Commands that a tap did not show because they came faster than it was read."),
		prefaces:     counter("refused_prefaces_total", "Connections of networks in ProxyProtocol that did not begin with its header."),
		cut: f.NewCounterVec(prometheus.CounterOpts{Name: "understudy_proxy_cut_clients_total",
			Help: "Clients that were cut because they were past a bound, by the bound."}, []string{"reason"}),
		output: gauge("output_bytes", "Bytes that wait for clients that do not read fast enough."),
		memory: gauge("client_buffer_bytes", "Bytes that the buffers of all clients take."),
		holdSeconds: f.NewHistogram(prometheus.HistogramOpts{Name: "understudy_proxy_hold_seconds",
			Help: "How long held requests waited.", Buckets: prometheus.ExponentialBuckets(0.001, 2, 14)}),
	}
	for _, why := range []error{errOutputHard, errOutputSoft, errMemory, errInput, errHalf} {
		m.cut.WithLabelValues(why.Error()) // so that a rate over the first one is seen
	}
	return m
}
