// Package monitor looks at every node and every group of the process once a second and publishes what it sees: under
// AWS's names in AWS/ElastiCache, and what AWS has no metric for in Understudy.
package monitor

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"time"

	redigo "github.com/gomodule/redigo/redis"
	"github.com/prometheus/client_golang/prometheus"

	"understudy/cluster"
	"understudy/metric"
	"understudy/redis"
)

// Group is what the process itself knows of a group now.
type Group struct {
	Status cluster.Status
	// Held is how many requests the proxy holds; Leaked how many errors of failovers have reached clients since it
	// started. Proxied: there is a proxy that tells.
	Held, Leaked float64
	Proxied      bool
	// Clients are connected to the proxy, and Accepted have been since it started. They count as the primary's:
	// behind the proxy they share a few connections, and who has an alarm on CurrConnections means them.
	Clients, Accepted float64
	// Reach says how a node's server is reached; nil, or false: at its address, by whoever it lets in.
	Reach func(cluster.NodeID) (redis.Login, bool)
	// Opened is how many connections to a node's servers the parts of this process have made: they are not counted
	// as clients. nil: none.
	Opened func(cluster.NodeID) float64
	// Backup and Drill are when the newest whole backup was made, and the newest drill begun that passed; Certificate
	// is when the first of those ends that clients meet; zero: there is none.
	Backup, Drill, Certificate time.Time
}

// Options: Groups and Writer are needed.
type Options struct {
	Groups func() []Group // of the process now
	Writer metric.Writer
	Logger *slog.Logger
	// Metrics are the Collector's own; nil: nobody asks.
	Metrics prometheus.Registerer
}

// Collector publishes. It has one connection to each node.
type Collector struct {
	opts Options
	log  *slog.Logger

	metrics *metrics

	nodes  map[cluster.NodeID]*watch
	groups map[string]*past
	host   host
	ended  time.Time // the end of the last minute whose figures were published
	failed bool      // the last write did
}

// past is what is compared with the next look at a group.
type past struct {
	epoch  cluster.Epoch
	leaked float64
	// accepted are the clients of the proxy that some primary's NewConnections have had.
	accepted float64
}

// watch is a node under watch.
type watch struct {
	line
	fresh   bool      // it has not answered yet
	asked   chan look // where the look under way comes to; nil: none is
	base    *answer   // of the end of the last minute; nil: counters cannot be told before the next
	last    *answer
	lags    []float64 // of this minute, seconds
	slow    latencies // of the end of the last minute
	direct  opened    // clients that have come past the proxy since base
	current look
}

// look is what one look at a node gave; answer is nil when it did not answer.
type look struct {
	group    string
	node     cluster.StatusNode
	at       time.Time // when it was asked
	full     bool      // it is that of the end of a minute
	first    bool      // nothing was known of the node: counters grow from here
	silent   bool      // it was asked, and did not answer
	answer   *answer
	clients  float64 // of a full or first look, if counted; the next ones, too
	counted  bool
	accepted float64 // clients of the proxy so far, at its primary
	proxied  bool
	ours     float64 // connections that this process has made to the server, and to those before it
	slow     latencies
	// hits and misses of the minute, of a full look, if they could be told.
	hits, misses float64
}

const (
	// every is how often everything is looked at.
	every = time.Second
	// phase is when in each second of the wall clock: in its middle, so that what is seen is published before the
	// second ends, and whoever evaluates an alarm right after it finds the point.
	phase = every / 2
	// publishWithin is how long a look waits for answers. A node that takes longer gives no delay to the others'
	// points; its own come with the next look's.
	publishWithin = 300 * time.Millisecond
)

// New returns a Collector.
func New(o Options) (*Collector, error) {
	if o.Groups == nil || o.Writer == nil {
		return nil, errors.New("monitor: Groups and Writer are needed")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Collector{opts: o, log: o.Logger.With("component", "monitor"), metrics: newMetrics(o.Metrics), nodes: map[cluster.NodeID]*watch{}, groups: map[string]*past{}}, nil
}

// Run collects until ctx ends. A look that takes longer than a second costs the next its turn.
func (c *Collector) Run(ctx context.Context) error {
	defer c.stop()
	c.ended = minuteEnd(time.Now())
	c.host.look()
	due := nextLook(time.Now())
	for {
		t := time.NewTimer(time.Until(due))
		select {
		case <-ctx.Done():
			t.Stop()
			return nil
		case now := <-t.C:
			c.publish(ctx, c.collect(ctx, now))
			c.metrics.looks.Observe(time.Since(now).Seconds())
		}
		next := nextLook(time.Now())
		c.metrics.missed.Add(max(0, float64(next.Sub(due)/every-1)))
		due = next
	}
}

// nextLook is the next middle of a second.
func nextLook(now time.Time) time.Time {
	at := now.Truncate(every).Add(phase)
	if !at.After(now) {
		at = at.Add(every)
	}
	return at
}

// minuteEnd is the newest end of a minute that a look sees: that of a minute's last second counts as its end, so that
// the minute's points are there when it is over.
func minuteEnd(now time.Time) time.Time { return now.Add(every).Truncate(time.Minute) }

// stop ends the looks under way and closes the connections.
func (c *Collector) stop() {
	for _, w := range c.nodes {
		w.stop()
	}
}

func (w *watch) stop() {
	if w.asked != nil {
		<-w.asked
		w.asked = nil
	}
	w.close()
}

// publish keeps the data. Trouble is told once.
func (c *Collector) publish(ctx context.Context, data []metric.Datum) {
	if len(data) == 0 {
		return
	}
	err := c.opts.Writer.Write(ctx, data)
	if err != nil && !c.failed && ctx.Err() == nil {
		c.log.Error("metrics are not kept", "error", err)
	}
	if err != nil {
		c.metrics.unkept.Inc()
	}
	c.failed = err != nil
}

// collect looks at everything once.
func (c *Collector) collect(ctx context.Context, now time.Time) []metric.Datum {
	end := minuteEnd(now)
	full := !end.Equal(c.ended) // also when the clock was set back
	c.ended = end
	groups := c.opts.Groups()
	data := c.late()
	c.ask(ctx, groups, now, full)
	if full {
		c.host.look()
	}
	names := map[string]bool{}
	for _, g := range groups {
		names[g.Status.Group] = true
		data = append(data, c.group(g, now)...)
		for _, n := range g.Status.Nodes {
			w := c.nodes[n.ID]
			if w.asked == nil {
				data = append(data, c.node(w)...)
			}
		}
		if full {
			data = append(data, c.together(g, now)...)
		}
	}
	for name := range c.groups {
		if !names[name] {
			delete(c.groups, name)
		}
	}
	return data
}

// late are the points of nodes whose answers did not come in time for the last look, if they have come at all.
func (c *Collector) late() (data []metric.Datum) {
	for _, w := range c.nodes {
		if w.asked != nil {
			w.current = <-w.asked // it is over: answerWithin
			w.asked = nil
			data = append(data, c.node(w)...)
		}
	}
	return data
}

// ask asks all nodes at once, and waits for their answers, but not for long.
func (c *Collector) ask(ctx context.Context, groups []Group, now time.Time, full bool) {
	there := map[cluster.NodeID]bool{}
	for _, g := range groups {
		for _, n := range g.Status.Nodes {
			w := c.nodes[n.ID]
			if w == nil {
				w = &watch{fresh: true}
				c.nodes[n.ID] = w
			}
			there[n.ID] = true
			asked := make(chan look, 1)
			w.asked = asked
			seen := look{group: g.Status.Group, node: n, at: now, full: full, first: w.fresh}
			if n.ID == g.Status.Primary && g.Proxied {
				seen.proxied, seen.clients, seen.accepted = true, g.Clients, g.Accepted
			}
			go func() { w.look(ctx, g, &seen); asked <- seen }()
		}
	}
	for id, w := range c.nodes {
		if !there[id] {
			w.stop()
			delete(c.nodes, id)
		}
	}
	soon, cancel := context.WithTimeout(ctx, publishWithin)
	defer cancel()
	for _, w := range c.nodes {
		w.await(soon.Done())
	}
}

// await waits for the look under way until soon. If that is over because another node hangs, an answer that is there
// counts.
func (w *watch) await(soon <-chan struct{}) {
	select {
	case w.current = <-w.asked:
		w.asked = nil
		return
	case <-soon:
	}
	select {
	case w.current = <-w.asked:
		w.asked = nil
	default:
		w.current = look{}
	}
}

// look asks a node. One that is known to be down is not asked, so that a port that is somebody else's by now is not.
func (w *watch) look(ctx context.Context, g Group, seen *look) {
	if seen.node.Addr == "" || seen.node.PID == 0 {
		w.close()
		return
	}
	commands := [][]any{{"INFO", "default"}}
	if seen.full || seen.first {
		commands = [][]any{{"INFO", "everything"}, {"CLIENT", "LIST"}, {"LATENCY", "HISTOGRAM"}}
	}
	replies, err := w.ask(ctx, g.login(seen.node), commands...)
	if err != nil {
		seen.silent = true
		return
	}
	text, err := redigo.String(replies[0], nil)
	if err != nil {
		return
	}
	seen.answer = parse(text, time.Now())
	if !seen.full && !seen.first {
		return
	}
	if g.Opened != nil {
		seen.ours = g.Opened(seen.node.ID)
	}
	if list, err := redigo.String(replies[1], nil); err == nil {
		seen.clients, seen.counted = seen.clients+strangers(list), true
	}
	seen.slow, _ = parseLatencies(replies[2])
}

// login is how a node is reached.
func (g Group) login(n cluster.StatusNode) redis.Login {
	if g.Reach != nil {
		if l, ok := g.Reach(n.ID); ok {
			return l
		}
	}
	return redis.Login{Addr: n.Addr}
}

// group are the Understudy metrics of a group.
func (c *Collector) group(g Group, now time.Time) []metric.Datum {
	s := g.Status
	var data []metric.Datum
	put := func(f figure, values ...float64) {
		data = append(data, metric.Datum{ID: f.id(s.Group), At: now, Unit: table[f].unit, Values: values, High: true})
	}
	put(primaryPresent, truth(s.Primary != ""))
	put(primariesCounted, c.primaries(s))
	put(epochNumber, float64(s.Epoch))
	put(redundancyCount, redundancy(s))
	lags, down := c.replicas(s)
	put(linksDown, down)
	if len(lags) > 0 {
		put(lagOfReplicas, lags...)
	}
	was := c.groups[s.Group]
	if was != nil && s.Epoch >= was.epoch {
		put(failovers, truth(s.LastFailover != nil && s.LastFailover.Epoch > was.epoch && s.LastFailover.Kind == cluster.KindFailover))
	}
	if was != nil && g.Proxied && g.Leaked >= was.leaked {
		put(leakedRequests, g.Leaked-was.leaked)
	}
	epoch := cluster.Epoch(0)
	if s.LastFailover != nil {
		put(failoverGap, s.LastFailover.DurationMs)
		epoch = s.LastFailover.Epoch
	}
	if g.Proxied {
		put(heldRequests, g.Held)
	}
	if !g.Certificate.IsZero() {
		put(certificateDays, math.Floor(g.Certificate.Sub(now).Hours())/24)
	}
	for f, at := range map[figure]time.Time{backupAge: g.Backup, drillAge: g.Drill} {
		if !at.IsZero() {
			put(f, max(0, math.Round(now.Sub(at).Seconds())))
		}
	}
	p := &past{epoch: epoch, leaked: g.Leaked, accepted: g.Accepted}
	if was != nil {
		p.accepted = was.accepted
	}
	c.groups[s.Group] = p
	return data
}

// together are the metrics of a group for the minute that are not its nodes' values side by side.
func (c *Collector) together(g Group, now time.Time) (data []metric.Datum) {
	at := minuteEnd(now).Add(-time.Minute)
	put := func(f figure, v float64) {
		data = append(data, metric.Datum{ID: f.id(g.Status.Group), At: at, Unit: table[f].unit, Values: []float64{v}})
	}
	if c.host.hasCPU { // this machine's, once: the nodes share it
		put(hostCPU, c.host.cpu)
	}
	hits, misses := 0.0, 0.0
	for _, n := range g.Status.Nodes {
		hits += c.nodes[n.ID].current.hits
		misses += c.nodes[n.ID].current.misses
	}
	if hits+misses > 0 {
		put(hitRate, 100*hits/(hits+misses))
	}
	return data
}

// replicas are the lags of the replicas whose link is up, ms, and how many have none or do not answer. A node that says
// that it is a primary is none: PrimariesCounted tells of it.
func (c *Collector) replicas(s cluster.Status) (lags []float64, down float64) {
	for _, n := range s.Nodes {
		a := c.nodes[n.ID].current.answer
		switch {
		case n.ID == s.Primary, a != nil && a.primary():
		case a != nil && a.linked():
			lags = append(lags, lag(n))
		default:
			down++
		}
	}
	return lags, down
}

// lag is a replica's, ms, in steps of 1/64: the store keeps a binary fraction in three bytes and any other in eight, and
// nobody looks at a lag below 16 µs.
func lag(n cluster.StatusNode) float64 { return math.Round(n.LagMs*64) / 64 }

// primaries counts the servers that say that they are a primary and that no agent says is fenced or down.
func (c *Collector) primaries(s cluster.Status) (n float64) {
	for _, node := range s.Nodes {
		if a := c.nodes[node.ID].current.answer; a != nil && a.primary() && node.State != cluster.StateFenced {
			n++
		}
	}
	return n
}

// redundancy counts the nodes that could take over now.
func redundancy(s cluster.Status) (n float64) {
	for _, node := range s.Nodes {
		n += truth(node.Electable && node.ID != s.Primary)
	}
	return n
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
