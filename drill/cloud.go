package drill

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"understudy/aws/remote"
	"understudy/cluster"
	"understudy/metric"
)

// cloud is the directory of an ElastiCache group, and what its guards need to know.
type cloud struct {
	api   *remote.Client
	id    string
	calls *callLog
	every time.Duration // how often the API is asked

	mu        sync.Mutex
	group     remote.Group // as it was told last
	recovered chan struct{}
	once      sync.Once
}

// callLog keeps the API's calls, with their request ids.
type callLog struct {
	mu    sync.Mutex
	calls []remote.Call
	ahead time.Duration // how far the API's clock is ahead of ours, by the newest answer
}

// mostCalls bounds the record; a call that changes the group is kept always.
const mostCalls = 1000

func (l *callLog) add(c remote.Call) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.calls) < mostCalls || c.Changes {
		l.calls = append(l.calls, c)
	}
	if c.Ahead != nil {
		l.ahead = *c.Ahead
	}
}

func (l *callLog) all() []remote.Call {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.calls)
}

// clockAhead is 0 while the two clocks agree as far as whole seconds can tell.
func (l *callLog) clockAhead() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ahead.Abs() < 2*time.Second {
		return 0
	}
	return l.ahead
}

// openCloud finds the API; changed is told of each call that changes the group. Errors: ErrUsage.
func openCloud(ctx context.Context, o *Options, changed func(remote.Call)) (*cloud, error) {
	c := &cloud{id: o.place.name, calls: &callLog{}, every: o.Poll, recovered: make(chan struct{})}
	ask := o.AWS
	ask.Called = func(call remote.Call) {
		c.calls.add(call)
		if call.Changes {
			changed(call)
		}
	}
	var err error
	c.api, err = remote.New(ctx, ask)
	return c, apiError(err)
}

// apiError puts an error of the API's into this package's words, which have exit codes.
func apiError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, remote.ErrConfig), errors.Is(err, remote.ErrDenied), errors.Is(err, remote.ErrUnknown):
		return fmt.Errorf("%w: %w", ErrUsage, err)
	case errors.Is(err, remote.ErrRefused):
		return fmt.Errorf("%w: %w", cluster.ErrRefused, err)
	}
	return fmt.Errorf("%w: %w", ErrUnreachable, err)
}

func (c *cloud) list(ctx context.Context) (roster, error) {
	g, err := c.api.Group(ctx, c.id)
	if err != nil {
		return roster{}, apiError(err)
	}
	c.mu.Lock()
	c.group = g
	c.mu.Unlock()
	r := roster{state: cluster.GroupAvailable, endpoints: cluster.Endpoints{Primary: g.Primary, Reader: g.Reader}}
	if g.State != remote.Available {
		r.state, r.reason = cluster.GroupDegraded, "ElastiCache says that the group is "+g.State
	}
	for _, n := range g.Nodes {
		r.nodes = append(r.nodes, cluster.StatusNode{ID: n.ID, Zone: n.Zone, Addr: n.Addr})
	}
	if len(g.Nodes) < g.Listed {
		r.state, r.reason = cluster.GroupDegraded, fmt.Sprintf("%d of %d nodes have an endpoint", len(g.Nodes), g.Listed)
	}
	return r, nil
}

func (c *cloud) told() remote.Group {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.group
}

func (c *cloud) switchover(ctx context.Context, to cluster.NodeID) error {
	return apiError(c.api.Promote(ctx, c.id, to))
}

// failover has AWS fail the primary over.
func (c *cloud) failover(ctx context.Context) error {
	return apiError(c.api.TestFailover(ctx, c.id, c.told().Shard))
}

// AWS's words in events. The text is the documented one; case differs between services.
const (
	testCalled  = "test failover api called"
	recoveredIn = "finished recovery for cache nodes"
)

// events polls DescribeEvents, by the API's clock turned into this machine's.
func (c *cloud) events(ctx context.Context, fn func(cluster.Event)) error {
	since := time.Now()
	seen := map[remote.Event]int{}
	tick := time.NewTicker(c.every)
	defer tick.Stop()
	var failed error
	for {
		ahead := c.calls.clockAhead()
		all, err := c.api.Events(ctx, c.id, since.Add(ahead-time.Second))
		if failed = err; ctx.Err() != nil {
			return nil
		}
		times := map[remote.Event]int{}
		for _, e := range all {
			if times[e]++; times[e] <= seen[e] {
				continue // two events may be alike
			}
			seen[e]++
			fn(cluster.Event{Time: e.At.Add(-ahead), Group: c.id, Node: cluster.NodeID(e.Source), Name: e.Message})
			if strings.Contains(strings.ToLower(e.Message), recoveredIn) {
				c.once.Do(func() { close(c.recovered) })
			}
		}
		select {
		case <-ctx.Done():
			return apiError(failed)
		case <-tick.C:
		}
	}
}

// awaitStory waits until the last event of a failover is there, or bound is over: events follow what they tell of.
func (c *cloud) awaitStory(ctx context.Context, bound time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	select {
	case <-c.recovered:
	case <-ctx.Done():
	}
}

// learn fills in what the guards must know of ElastiCache. What cannot be found out leaves its guard closed; only
// what stands against any drill is an error.
func (c *cloud) learn(ctx context.Context, f *facts) error {
	f.group, f.amazon = c.told(), c.api.Amazon()
	for _, n := range f.group.Nodes {
		w, err := c.api.MaintenanceWindow(ctx, n.ID)
		if err != nil {
			return apiError(err)
		}
		if !slices.Contains(f.maintenance, w) {
			f.maintenance = append(f.maintenance, w)
		}
	}
	events, err := c.api.Events(ctx, c.id, f.now.Add(-budgetDay))
	if err != nil {
		return apiError(err)
	}
	for _, e := range events {
		if strings.Contains(strings.ToLower(e.Message), testCalled) {
			f.told++
		}
	}
	return nil
}

// lagSpan is how far back CloudWatch is asked for the lag: its points are a minute each, and minutes late.
const lagSpan = 5 * time.Minute

// lag is the longest ReplicationLag of the replicas that CloudWatch tells of; known is false without a point.
func (c *cloud) lag(ctx context.Context, s cluster.Status, now time.Time) (lag time.Duration, known bool, err error) {
	for _, n := range s.Nodes {
		if n.ID == s.Primary {
			continue // the metric is of replicas only
		}
		points, err := c.api.Points(ctx, metric.Query{
			ID:   metric.New(metric.ElastiCache, "ReplicationLag", metric.Node, string(n.ID)),
			Stat: "Maximum", Period: time.Minute, Start: now.Add(-lagSpan).Truncate(time.Minute), End: now,
		})
		if err != nil {
			return 0, false, err
		}
		for _, p := range points {
			lag, known = max(lag, time.Duration(p.Value*float64(time.Second))), true
		}
	}
	return lag, known, nil
}
