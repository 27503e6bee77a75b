package proxy

import (
	"time"

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
	stale                prometheus.Counter
	staleness            prometheus.Histogram
	replicaAge           *prometheus.GaugeVec
	refused, routes      *prometheus.CounterVec
	opened               *prometheus.CounterVec
	accepted             prometheus.Counter
	oldest               prometheus.Gauge
}

func newMetrics(o *Options) *metrics {
	reg := o.Metrics
	if reg == nil {
		reg = prometheus.NewRegistry()
	}
	f := promauto.With(prometheus.WrapRegistererWith(prometheus.Labels{"group": o.Group}, reg))
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
		accepted:     counter("accepted_clients_total", "Connections of clients that were taken."),
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
	m.opened = f.NewCounterVec(prometheus.CounterOpts{Name: "understudy_proxy_opened_connections_total",
		Help: "Connections to redis-servers that were made."}, []string{"node"})
	m.addReads(f, counter)
	m.addHold(f, gauge)
	m.addLimits(o, f)
	for _, why := range []error{errOutputHard, errOutputSoft, errMemory, errInput, errHalf} {
		m.cut.WithLabelValues(why.Error()) // so that a rate over the first one is seen
	}
	return m
}

// addReads adds what tells where reads went, and how old what they were given is.
func (m *metrics) addReads(f promauto.Factory, counter func(name, help string) prometheus.Counter) {
	m.stale = counter("stale_reads_total", "Reads that a replica answered because there was no primary, by the policy stale.")
	m.staleness = f.NewHistogram(prometheus.HistogramOpts{Name: "understudy_proxy_stale_read_age_seconds",
		Help: "How old the data of stale reads was at most when they were given.", Buckets: prometheus.ExponentialBuckets(0.016, 2, 14)})
	m.replicaAge = f.NewGaugeVec(prometheus.GaugeOpts{Name: "understudy_proxy_replica_age_seconds",
		Help: "How old a replica's data is at most, as far as this proxy can prove."}, []string{"node"})
	m.routes = f.NewCounterVec(prometheus.CounterOpts{Name: "understudy_proxy_read_routes_total",
		Help: "Reads of the reader and split endpoints, and stale reads, by where they went and why."}, []string{"to", "reason"})
	for _, l := range routeLabels {
		m.routes.WithLabelValues(l[0], l[1])
	}
}

// addHold adds what tells how far holds are from their bounds.
func (m *metrics) addHold(f promauto.Factory, gauge func(name, help string) prometheus.Gauge) {
	m.oldest = gauge("oldest_held_seconds", "How long the request has waited that has waited longest for a primary; 0: none waits.")
	m.refused = f.NewCounterVec(prometheus.CounterOpts{Name: "understudy_proxy_refused_requests_total",
		Help: "Requests that got an error in place of a primary, by the bound of holding that they had come to."}, []string{"bound"})
	for _, l := range boundLabels {
		m.refused.WithLabelValues(l)
	}
}

// addLimits shows the bounds that are set, for rules that compare with them.
func (m *metrics) addLimits(o *Options, f promauto.Factory) {
	limit := f.NewGaugeVec(prometheus.GaugeOpts{Name: "understudy_proxy_hold_limit",
		Help: "The bounds of holding that are set: of time in seconds, of requests, of bytes."}, []string{"bound"})
	limit.WithLabelValues(boundLabels[boundTime]).Set(o.Hold.Seconds())
	limit.WithLabelValues(boundLabels[boundRequests]).Set(float64(o.HoldRequests))
	limit.WithLabelValues(boundLabels[boundBytes]).Set(float64(o.HoldBytes))
}

// reportHold sets the gauges of what waits for a primary.
func (l *loop) reportHold() {
	m := l.metrics
	l.shownHeld = l.heldRequests()
	m.holding.Set(float64(l.shownHeld))
	m.heldBytes.Set(float64(l.heldSize + l.replaySize + l.redoSize))
	m.oldest.Set(l.oldestHeld().Seconds())
	if notes := l.troubles(); len(notes) > 0 || l.notes.Load() != nil {
		l.notes.Store(&notes)
	}
	for node, p := range l.fresh.proofs {
		m.replicaAge.WithLabelValues(string(node)).Set((l.now - p.asOf).Seconds())
		l.fresh.shown[node] = true
	}
	for node := range l.fresh.shown {
		if _, known := l.asOf(node); !known {
			m.replicaAge.DeleteLabelValues(string(node))
			delete(l.fresh.shown, node)
		}
	}
}

// heldRequests is how many requests wait for a primary.
func (l *loop) heldRequests() int { return l.held.n + len(l.replays) + l.redoCount }

// oldestHeld is how long the request has waited that waits longest for a primary; 0: none waits.
func (l *loop) oldestHeld() (d time.Duration) {
	if l.held.n > 0 {
		d = l.now - l.held.at(0).heldAt
	}
	for _, r := range l.replays {
		d = max(d, l.now-r.heldAt)
	}
	for _, c := range l.homeless {
		for _, r := range c.redo {
			d = max(d, l.now-r.heldAt)
		}
	}
	return d
}

// reportReads adds the turn's counts of reads, and of what got an error.
func (l *loop) reportReads() {
	m, n := l.metrics, &l.count
	m.stale.Add(float64(n.stale))
	for i, c := range n.routes {
		if c > 0 {
			m.routes.WithLabelValues(routeLabels[i][0], routeLabels[i][1]).Add(float64(c))
		}
	}
	for i, c := range n.refused {
		if c > 0 {
			m.refused.WithLabelValues(boundLabels[i]).Add(float64(c))
		}
	}
}
