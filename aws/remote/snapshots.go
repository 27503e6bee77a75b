package remote

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/elasticache"

	"understudy/cluster"
)

// Snapshot is a backup of a group.
type Snapshot struct {
	Name      string
	State     string    // creating, available, restoring, copying, deleting
	Automatic bool      // taken every day, and ended by the retention
	Created   time.Time // of its data; zero while it is being made
}

// Snapshots are those of a group, oldest first. Errors as Group's.
func (c *Client) Snapshots(ctx context.Context, group string) ([]Snapshot, error) {
	// All are asked for: one of a group of one shard is of a node, and may name that alone.
	in := &elasticache.DescribeSnapshotsInput{}
	var found []Snapshot
	for p, n := elasticache.NewDescribeSnapshotsPaginator(c.groups, in), 0; p.HasMorePages(); n++ {
		if n == mostPages {
			return found, fmt.Errorf("%w: DescribeSnapshots: more than %d pages", ErrRefused, mostPages)
		}
		bound, cancel := c.bound(ctx)
		page, err := p.NextPage(bound)
		cancel()
		if err != nil {
			return nil, explain(err)
		}
		for _, s := range page.Snapshots {
			if aws.ToString(s.ReplicationGroupId) != group && cluster.GroupOf(cluster.NodeID(aws.ToString(s.CacheClusterId))) != group {
				continue
			}
			is := Snapshot{Name: aws.ToString(s.SnapshotName), State: aws.ToString(s.SnapshotStatus), Automatic: aws.ToString(s.SnapshotSource) == "automated"}
			for _, n := range s.NodeSnapshots {
				is.Created = aws.ToTime(n.SnapshotCreateTime)
			}
			found = append(found, is)
		}
	}
	slices.SortStableFunc(found, func(a, b Snapshot) int { return a.Created.Compare(b.Created) })
	return found, nil
}

// Change is what ChangeGroup sets; nil stays as it is.
type Change struct {
	AutomaticFailover, MultiAZ *bool
	SnapshotRetention          *int // days
}

// ChangeGroup has a group be otherwise. It returns before that is done: the group's State tells. It is not repeated,
// as TestFailover. Errors as Group's.
func (c *Client) ChangeGroup(ctx context.Context, group string, change Change) error {
	ctx, cancel := c.bound(ctx)
	defer cancel()
	in := &elasticache.ModifyReplicationGroupInput{ReplicationGroupId: &group, ApplyImmediately: aws.Bool(true), AutomaticFailoverEnabled: change.AutomaticFailover, MultiAZEnabled: change.MultiAZ}
	if change.SnapshotRetention != nil {
		in.SnapshotRetentionLimit = aws.Int32(int32(*change.SnapshotRetention))
	}
	_, err := c.groups.ModifyReplicationGroup(ctx, in, once)
	return explain(err)
}

// TakeSnapshot has a node begin a backup: of a group of one shard AWS takes a node's name. Its State tells when it
// is whole. It is not repeated. Errors as Group's.
func (c *Client) TakeSnapshot(ctx context.Context, node, name string) error {
	ctx, cancel := c.bound(ctx)
	defer cancel()
	_, err := c.groups.CreateSnapshot(ctx, &elasticache.CreateSnapshotInput{CacheClusterId: &node, SnapshotName: &name}, once)
	return explain(err)
}
