package upstream

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/elasticache"
	"github.com/aws/aws-sdk-go-v2/service/elasticache/types"

	"understudy/cluster"
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
	var c *elasticache.Client
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
	if throttled(err) {
		w.metrics.throttled.Inc()
		name = "source_throttled"
	}
	if first {
		w.tell(ctx, trouble{name, fmt.Sprintf("the ElastiCache API does not say which nodes there are; the last list stands: %v", err)})
	}
}

// throttled reports whether AWS refused a call because there were too many.
func throttled(err error) bool {
	var coded interface{ ErrorCode() string }
	if !errors.As(err, &coded) {
		return false
	}
	_, known := retry.DefaultThrottleErrorCodes[coded.ErrorCode()]
	return known || coded.ErrorCode() == "APICallRateForCustomerExceeded"
}

// client finds credentials where the SDK does, unless they were given. It makes no retries of its own: the
// next poll is one.
func (g *replicationGroup) client(ctx context.Context) (*elasticache.Client, error) {
	ctx, cancel := context.WithTimeout(ctx, apiWithin)
	defer cancel()
	options := []func(*config.LoadOptions) error{config.WithRegion(g.opts.Region), config.WithRetryer(func() aws.Retryer { return aws.NopRetryer{} })}
	if g.opts.AccessKey != "" {
		options = append(options, config.WithCredentialsProvider(
			credentials.NewStaticCredentialsProvider(g.opts.AccessKey, g.opts.SecretKey, g.opts.SessionToken)))
	}
	c, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return nil, fmt.Errorf("set up the AWS client: %w", err)
	}
	return elasticache.NewFromConfig(c, func(o *elasticache.Options) {
		if g.opts.Endpoint != "" {
			o.BaseEndpoint = &g.opts.Endpoint
		}
	}), nil
}

// describe asks for the group, and for the endpoint of each node that the first answer does not tell.
func (g *replicationGroup) describe(ctx context.Context, c *elasticache.Client) (roster, error) {
	ctx, cancel := context.WithTimeout(ctx, apiWithin)
	defer cancel()
	out, err := c.DescribeReplicationGroups(ctx, &elasticache.DescribeReplicationGroupsInput{ReplicationGroupId: &g.opts.ReplicationGroup})
	if err != nil {
		return roster{}, err
	}
	if len(out.ReplicationGroups) != 1 {
		return roster{}, fmt.Errorf("DescribeReplicationGroups %s: %d groups", g.opts.ReplicationGroup, len(out.ReplicationGroups))
	}
	shards := out.ReplicationGroups[0].NodeGroups
	if len(shards) != 1 {
		return roster{}, fmt.Errorf("replication group %s has %d shards: one is served; a group in cluster mode with several needs a client that knows slots", g.opts.ReplicationGroup, len(shards))
	}
	var r roster
	for _, m := range shards[0].NodeGroupMembers {
		x, err := g.member(ctx, c, m)
		if err != nil {
			return roster{}, err
		}
		if x.addr != "" {
			r.members = append(r.members, x)
		}
	}
	if len(r.members) == 0 {
		return roster{}, fmt.Errorf("replication group %s has no node with an endpoint yet: its status is %q", g.opts.ReplicationGroup, aws.ToString(out.ReplicationGroups[0].Status))
	}
	return r, nil
}

// member puts one node of the answer into our words; its addr is "" while it has no endpoint.
func (g *replicationGroup) member(ctx context.Context, c *elasticache.Client, m types.NodeGroupMember) (member, error) {
	id := aws.ToString(m.CacheClusterId)
	x := member{id: cluster.NodeID(id), addr: address(m.ReadEndpoint), zone: aws.ToString(m.PreferredAvailabilityZone), named: aws.ToString(m.CurrentRole) == "primary"}
	if x.addr != "" && x.zone != "" {
		return x, nil
	}
	show := true
	out, err := c.DescribeCacheClusters(ctx, &elasticache.DescribeCacheClustersInput{CacheClusterId: &id, ShowCacheNodeInfo: &show})
	if err != nil {
		return member{}, err
	}
	for _, k := range out.CacheClusters {
		if x.zone == "" {
			x.zone = aws.ToString(k.PreferredAvailabilityZone)
		}
		for _, n := range k.CacheNodes {
			if x.addr == "" {
				x.addr = address(n.Endpoint)
			}
		}
	}
	return x, nil
}

func address(e *types.Endpoint) string {
	if e == nil || aws.ToString(e.Address) == "" {
		return ""
	}
	return net.JoinHostPort(*e.Address, strconv.Itoa(int(aws.ToInt32(e.Port))))
}
