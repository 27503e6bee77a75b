package remote

import (
	"context"
	"fmt"
	"net"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/elasticache"
	"github.com/aws/aws-sdk-go-v2/service/elasticache/types"

	"understudy/cluster"
)

// The words of AWS that are looked for.
const (
	Available = "available" // a group's State
	Enabled   = "enabled"   // AutomaticFailover, MultiAZ
)

// Group is a replication group of one shard, as the API tells of it.
type Group struct {
	ID, ARN           string
	State             string // available, creating, modifying, snapshotting, deleting, create-failed
	AutomaticFailover string // enabled, disabled, enabling, disabling
	MultiAZ           string // enabled, disabled
	Shard             string // id of its node group
	// Primary and Reader are the endpoints, NAME:PORT; "" while there are none, and in cluster mode.
	Primary, Reader string
	Nodes           []Node // that have an endpoint
	Listed          int    // all nodes, with an endpoint or without
	// TLS: the endpoints speak TLS only. Auth: they ask for a token.
	TLS, Auth         bool
	SnapshotWindow    string // hh:mm-hh:mm, UTC
	SnapshotRetention int    // days; 0: no snapshots are taken
}

// Node is one node of a Group.
type Node struct {
	ID   cluster.NodeID
	Addr string // NAME:PORT
	Zone string
	// Primary is what CurrentRole says: it follows a failover by many seconds.
	Primary bool
}

// Group asks for a group, and for the endpoint and zone of each node that the first answer does not tell. Errors:
// ErrUnknown, ErrDenied, ErrRefused, ErrUnreachable; and of a group that has several shards.
func (c *Client) Group(ctx context.Context, id string) (Group, error) {
	ctx, cancel := c.bound(ctx)
	defer cancel()
	out, err := c.groups.DescribeReplicationGroups(ctx, &elasticache.DescribeReplicationGroupsInput{ReplicationGroupId: &id})
	if err != nil {
		return Group{}, explain(err)
	}
	if len(out.ReplicationGroups) != 1 {
		return Group{}, fmt.Errorf("%w: DescribeReplicationGroups %s: %d groups", ErrUnknown, id, len(out.ReplicationGroups))
	}
	g := out.ReplicationGroups[0]
	is := Group{
		ID: aws.ToString(g.ReplicationGroupId), ARN: aws.ToString(g.ARN), State: aws.ToString(g.Status), AutomaticFailover: string(g.AutomaticFailover), MultiAZ: string(g.MultiAZ),
		TLS: aws.ToBool(g.TransitEncryptionEnabled), Auth: aws.ToBool(g.AuthTokenEnabled),
		SnapshotWindow: aws.ToString(g.SnapshotWindow), SnapshotRetention: int(aws.ToInt32(g.SnapshotRetentionLimit)),
	}
	if len(g.NodeGroups) > 1 {
		return is, fmt.Errorf("%w: replication group %s has %d shards: one is served; a group in cluster mode with several needs a client that knows slots", ErrRefused, id, len(g.NodeGroups))
	}
	for _, shard := range g.NodeGroups { // none while it is being made
		is.Shard, is.Primary, is.Reader = aws.ToString(shard.NodeGroupId), address(shard.PrimaryEndpoint), address(shard.ReaderEndpoint)
		is.Listed = len(shard.NodeGroupMembers)
		for _, m := range shard.NodeGroupMembers {
			n, err := c.node(ctx, m)
			if err != nil {
				return is, err
			}
			if n.Addr != "" {
				is.Nodes = append(is.Nodes, n)
			}
		}
	}
	return is, nil
}

// node puts one node of the answer into our words; its Addr is "" while it has no endpoint.
func (c *Client) node(ctx context.Context, m types.NodeGroupMember) (Node, error) {
	n := Node{ID: cluster.NodeID(aws.ToString(m.CacheClusterId)), Addr: address(m.ReadEndpoint), Zone: aws.ToString(m.PreferredAvailabilityZone), Primary: aws.ToString(m.CurrentRole) == "primary"}
	if n.Addr != "" && n.Zone != "" {
		return n, nil
	}
	k, err := c.cluster(ctx, string(n.ID))
	if err != nil {
		return Node{}, err
	}
	if n.Zone == "" {
		n.Zone = aws.ToString(k.PreferredAvailabilityZone)
	}
	for _, x := range k.CacheNodes {
		if n.Addr == "" {
			n.Addr = address(x.Endpoint)
		}
	}
	return n, nil
}

// MaintenanceWindow is a node's, ddd:hh:mm-ddd:hh:mm in UTC: the group's own answer does not tell it. Errors as Group's.
func (c *Client) MaintenanceWindow(ctx context.Context, node cluster.NodeID) (string, error) {
	ctx, cancel := c.bound(ctx)
	defer cancel()
	k, err := c.cluster(ctx, string(node))
	return aws.ToString(k.PreferredMaintenanceWindow), err
}

func (c *Client) cluster(ctx context.Context, id string) (types.CacheCluster, error) {
	out, err := c.groups.DescribeCacheClusters(ctx, &elasticache.DescribeCacheClustersInput{CacheClusterId: &id, ShowCacheNodeInfo: aws.Bool(true)})
	switch {
	case err != nil:
		return types.CacheCluster{}, explain(err)
	case len(out.CacheClusters) != 1:
		return types.CacheCluster{}, fmt.Errorf("%w: DescribeCacheClusters %s: %d clusters", ErrRefused, id, len(out.CacheClusters))
	}
	return out.CacheClusters[0], nil
}

func address(e *types.Endpoint) string {
	if e == nil || aws.ToString(e.Address) == "" {
		return ""
	}
	return net.JoinHostPort(*e.Address, strconv.Itoa(int(aws.ToInt32(e.Port))))
}

// TestFailover has AWS fail the primary of a shard over to a replica. It returns before that has happened. Its
// client does not repeat it: what was sent once may have been carried out. Errors as Group's.
func (c *Client) TestFailover(ctx context.Context, group, shard string) error {
	ctx, cancel := c.bound(ctx)
	defer cancel()
	_, err := c.groups.TestFailover(ctx, &elasticache.TestFailoverInput{ReplicationGroupId: &group, NodeGroupId: &shard}, once)
	return explain(err)
}

// Promote asks for a planned change of primary. AWS itself refuses it while automatic failover is on. It is not
// repeated, as TestFailover. Errors as Group's.
func (c *Client) Promote(ctx context.Context, group string, node cluster.NodeID) error {
	ctx, cancel := c.bound(ctx)
	defer cancel()
	_, err := c.groups.ModifyReplicationGroup(ctx, &elasticache.ModifyReplicationGroupInput{
		ReplicationGroupId: &group, PrimaryClusterId: aws.String(string(node)), ApplyImmediately: aws.Bool(true),
	}, once)
	return explain(err)
}

// once makes one attempt.
func once(o *elasticache.Options) { o.Retryer = aws.NopRetryer{} }
