// Package monitor looks at every node and every group of the process once a second and publishes what it sees: under
// AWS's names in AWS/ElastiCache, and what AWS has no metric for in Understudy.
package monitor

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	redis "github.com/gomodule/redigo/redis"

	"understudy/cluster"
	"understudy/metric"
)

// Group is what the process itself knows of a group now.
type Group struct {
	Status cluster.Status
	// Held is how many requests the proxy holds; Leaked how many errors of failovers have reached clients since it
	// started. Proxied: there is a proxy that tells.
	Held, Leaked float64
	Proxied      bool
	// Clients are connected to the proxy. They count as the primary's: behind the proxy they share a few
	// connections, and who has an alarm on CurrConnections means them.
	Clients float64
	// Backup and Drill are when the newest whole backup was made, and the last drill; zero: there is none.
	Backup, Drill time.Time
}

// Options: Groups and Writer are needed.
type Options struct {
	Groups func() []Group // of the process now
	Writer metric.Writer
	Logger *slog.Logger
}

// Collector publishes. It has one connection to each node.
type Collector struct {
	opts Options
	log  *slog.Logger

	nodes  map[cluster.NodeID]*watch
	groups map[string]*past
	host   host
	failed bool // the last write did
}

// past is what is compared with the next look at a group.
type past struct {
	epoch  cluster.Epoch
	leaked float64
}

// watch is a node under watch.
type watch struct {
	line
	base    *answer // of the end of the last minute; nil: counters cannot be told before the next
	last    *answer
	lags    []float64 // of this minute, seconds
	slow    latencies // of the end of the last minute
	current look
}

// look is what one look at a node gave; answer is nil when it did not answer.
type look struct {
	answer  *answer
	clients float64 // of a full look, if counted
	counted bool
	slow    latencies // of a full look
}

// every is how often everything is looked at.
const every = time.Second

// New returns a Collector.
func New(o Options) (*Collector, error) {
	if o.Groups == nil || o.Writer == nil {
		return nil, errors.New("monitor: Groups and Writer are needed")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Collector{opts: o, log: o.Logger.With("component", "monitor"), nodes: map[cluster.NodeID]*watch{}, groups: map[string]*past{}}, nil
}

// Run collects until ctx ends. A look that takes longer than a second costs the next its turn.
func (c *Collector) Run(ctx context.Context) error {
	t := time.NewTicker(every)
	defer t.Stop()
	defer func() {
		for _, n := range c.nodes {
			n.close()
		}
	}()
	minute := time.Now().Truncate(time.Minute)
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-t.C:
			full := now.Truncate(time.Minute).After(minute)
			c.publish(ctx, c.collect(ctx, now, full))
			if full {
				minute = now.Truncate(time.Minute)
			}
		}
	}
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
	c.failed = err != nil
}

// collect looks at everything once. A full look is that of the end of a minute.
func (c *Collector) collect(ctx context.Context, now time.Time, full bool) []metric.Datum {
	groups := c.opts.Groups()
	there := map[cluster.NodeID]bool{}
	var looks sync.WaitGroup
	for _, g := range groups {
		for _, n := range g.Status.Nodes {
			w := c.nodes[n.ID]
			if w == nil {
				w = &watch{}
				c.nodes[n.ID] = w
			}
			there[n.ID] = true
			looks.Go(func() { w.current = w.look(ctx, n, full) })
		}
	}
	looks.Wait()
	for id, w := range c.nodes {
		if !there[id] {
			w.close()
			delete(c.nodes, id)
		}
	}
	if full {
		c.host.look()
	}
	var data []metric.Datum
	names := map[string]bool{}
	for _, g := range groups {
		names[g.Status.Group] = true
		data = append(data, c.group(g, now)...)
		for _, n := range g.Status.Nodes {
			if n.ID == g.Status.Primary {
				c.nodes[n.ID].current.clients += g.Clients
			}
			data = append(data, c.node(g.Status.Group, n, now, full)...)
		}
	}
	for name := range c.groups {
		if !names[name] {
			delete(c.groups, name)
		}
	}
	return data
}

// look asks a node. One that is known to be down is not asked, so that a port that is somebody else's by now is not.
func (w *watch) look(ctx context.Context, n cluster.StatusNode, full bool) (seen look) {
	if n.Addr == "" || n.PID == 0 {
		w.close()
		return look{}
	}
	commands := [][]any{{"INFO", "default"}}
	if full {
		commands = [][]any{{"INFO", "everything"}, {"CLIENT", "LIST", "TYPE", "normal"}, {"LATENCY", "HISTOGRAM"}}
	}
	replies, err := w.ask(ctx, n.Addr, commands...)
	if err != nil {
		return look{}
	}
	text, err := redis.String(replies[0], nil)
	if err != nil {
		return look{}
	}
	seen.answer = parse(text, time.Now())
	if !full {
		return seen
	}
	if list, err := redis.String(replies[1], nil); err == nil {
		seen.clients, seen.counted = strangers(list), true
	}
	seen.slow, _ = parseLatencies(replies[2])
	return seen
}

// group are the Understudy metrics of a group.
func (c *Collector) group(g Group, now time.Time) []metric.Datum {
	s := g.Status
	var data []metric.Datum
	put := func(name, unit string, v float64) {
		data = append(data, metric.Datum{ID: metric.New(metric.Understudy, name, "ReplicationGroupId", s.Group), At: now, Unit: unit, Values: []float64{v}, High: true})
	}
	put("PrimaryPresent", "Count", truth(s.Primary != ""))
	put("PrimariesCounted", "Count", c.primaries(s))
	put("Epoch", "Count", float64(s.Epoch))
	put("Redundancy", "Count", redundancy(s))
	was := c.groups[s.Group]
	if was != nil && s.Epoch >= was.epoch {
		put("Failovers", "Count", truth(s.LastFailover != nil && s.LastFailover.Epoch > was.epoch && s.LastFailover.Kind == cluster.KindFailover))
	}
	if was != nil && g.Proxied && g.Leaked >= was.leaked {
		put("LeakedRequests", "Count", g.Leaked-was.leaked)
	}
	epoch := cluster.Epoch(0)
	if s.LastFailover != nil {
		put("LastFailoverGap", "Milliseconds", s.LastFailover.DurationMs)
		epoch = s.LastFailover.Epoch
	}
	if g.Proxied {
		put("HeldRequests", "Count", g.Held)
	}
	for name, at := range map[string]time.Time{"BackupAge": g.Backup, "DrillAge": g.Drill} {
		if !at.IsZero() {
			put(name, "Seconds", max(0, now.Sub(at).Seconds()))
		}
	}
	c.groups[s.Group] = &past{epoch, g.Leaked}
	return data
}

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
