package upstream

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"understudy/aws/remote"
)

// replicationGroup is a source that asks AWS which nodes a group has, and in which zones they are. Which of
// them is the primary the nodes say: CurrentRole follows a failover by many seconds.
type replicationGroup struct {
	opts  ElastiCache
	again chan struct{}
}

const (
	// apiWithin bounds one call.
	apiWithin = 10 * time.Second
	// hurryAPI is how many times as often the API is asked while there is no primary: a node may have been
	// replaced. With the default that is a call in 5 s, of which AWS allows many more.
	hurryAPI = 3
	// apiClosest is how many calls fit into Poll, whoever doubts.
	apiClosest = 5
	// mostBackoff bounds the pause after calls that failed, in polls. The nodes go on being asked.
	mostBackoff = 8
)

func newElastiCache(o ElastiCache) *replicationGroup {
	return &replicationGroup{opts: o, again: make(chan struct{}, 1)}
}

func (g *replicationGroup) poke() {
	select {
	case g.again <- struct{}{}:
	default:
	}
}

func (g *replicationGroup) run(ctx context.Context, w *Watcher) {
	rng := rand.New(rand.NewPCG(w.opts.Seed, 0))
	var c *remote.Client
	failed := 0 // in a row
	for {
		var r roster
		var err error
		if c == nil {
			c, err = g.client(ctx)
		}
		if err == nil {
			r, err = g.describe(ctx, c)
		}
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			g.failed(ctx, w, failed == 0, err)
			failed++
		} else {
			if failed > 0 {
				w.tell(ctx, trouble{"source_answers", "the ElastiCache API answers again"})
			}
			failed = 0
			w.tell(ctx, r)
		}
		if g.rest(ctx, w, failed, rng) != nil {
			return
		}
	}
}

// rest waits until the next call is due. After failures it takes twice as long each time, and nobody's doubt
// shortens that: AWS has said that it is asked too much, or cannot answer.
func (g *replicationGroup) rest(ctx context.Context, w *Watcher, failed int, rng *rand.Rand) error {
	if failed > 0 {
		return pause(ctx, jittered(min(g.opts.Poll<<min(failed-1, 8), mostBackoff*g.opts.Poll), rng), nil)
	}
	gap := g.opts.Poll
	if w.hurried.Load() {
		gap /= hurryAPI
	}
	least := g.opts.Poll / apiClosest
	if err := pause(ctx, least, nil); err != nil {
		return err
	}
	return pause(ctx, jittered(gap, rng)-least, g.again)
}

// failed counts a failure, and says the first in a row.
func (g *replicationGroup) failed(ctx context.Context, w *Watcher, first bool, err error) {
	w.metrics.sourceFailures.Inc()
	name := "source_failed"
	if remote.Throttled(err) {
		w.metrics.throttled.Inc()
		name = "source_throttled"
	}
	if first {
		w.tell(ctx, trouble{name, fmt.Sprintf("the ElastiCache API does not say which nodes there are; the last list stands: %v", err)})
	}
}

// client finds credentials where the SDK does, unless they were given. It makes no retries of its own: the
// next poll is one.
func (g *replicationGroup) client(ctx context.Context) (*remote.Client, error) {
	return remote.New(ctx, remote.Options{
		Region: g.opts.Region, Endpoint: g.opts.Endpoint, AccessKey: g.opts.AccessKey, SecretKey: g.opts.SecretKey, SessionToken: g.opts.SessionToken,
		Attempts: 1, Within: apiWithin,
	})
}

// describe asks for the group's nodes.
func (g *replicationGroup) describe(ctx context.Context, c *remote.Client) (roster, error) {
	found, err := c.Group(ctx, g.opts.ReplicationGroup)
	if err != nil {
		return roster{}, err
	}
	if len(found.Nodes) == 0 {
		return roster{}, fmt.Errorf("replication group %s has no node with an endpoint yet: its status is %q", g.opts.ReplicationGroup, found.State)
	}
	var r roster
	for _, n := range found.Nodes {
		r.members = append(r.members, member{id: n.ID, addr: n.Addr, zone: n.Zone, named: n.Primary})
	}
	return r, nil
}
