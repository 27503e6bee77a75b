package elasticache

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/elasticache"
	"github.com/aws/aws-sdk-go-v2/service/elasticache/types"

	"understudy/cluster"
)

// nodeGroup is the only node group of a group without cluster mode, and cacheNode the only node of a cluster.
const (
	nodeGroup = "0001"
	cacheNode = "0001"
)

// testFailover really kills the primary, after it has answered.
func (s *Service) testFailover(ctx context.Context, in *elasticache.TestFailoverInput) (*elasticache.TestFailoverOutput, error) {
	r, err := s.find(*in.ReplicationGroupId)
	if err != nil {
		return nil, err
	}
	if *in.NodeGroupId != nodeGroup {
		return nil, &types.NodeGroupNotFoundFault{Message: aws.String("Node group " + *in.NodeGroupId + " not found in replication group " + r.ID + ".")}
	}
	if err := available(r); err != nil {
		return nil, err
	}
	g, ok := s.opts.Groups.Find(r.ID)
	if !ok {
		return nil, starting(r.ID)
	}
	if !r.Automatic {
		return nil, &types.TestFailoverNotAvailableFault{Message: aws.String("Automatic failover must be enabled for replication group " + r.ID + " to test a failover.")}
	}
	if err := s.mayTest(); err != nil {
		return nil, err
	}
	status := g.Status()
	if err := g.Failover(ctx, true); err != nil {
		return nil, &types.TestFailoverNotAvailableFault{Message: aws.String(err.Error())}
	}
	r, err = s.begin(ctx, r.ID, task{Kind: taskTest, Node: status.Primary, Epoch: status.Epoch}, stateModifying, func(r *record) error {
		r.Tests = append(slices.DeleteFunc(r.Tests, func(t time.Time) bool { return s.now().Sub(t) > testDay }), s.now())
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &elasticache.TestFailoverOutput{ReplicationGroup: s.shown(ctx, r)}, nil
}

// testDay is the time within which AWS counts calls.
const testDay = 24 * time.Hour

// mayTest refuses calls past the limit.
func (s *Service) mayTest() error {
	if s.opts.TestFailovers == 0 {
		return nil
	}
	count, now := 0, s.now()
	for _, r := range s.groups.All() {
		for _, t := range r.Tests {
			if now.Sub(t) <= testDay {
				count++
			}
		}
	}
	if count >= s.opts.TestFailovers {
		return &types.APICallRateForCustomerExceededFault{Message: aws.String(fmt.Sprintf("TestFailover was called for %d node groups within the last 24 hours; %d are allowed here.", count, s.opts.TestFailovers))}
	}
	return nil
}

func starting(id string) error {
	return &types.InvalidReplicationGroupStateFault{Message: aws.String("Replication group " + id + " is starting: its processes do not run yet.")}
}

// recoverWithin bounds one attempt of waiting for what a change of primary brings about.
const recoverWithin = 30 * time.Second

// test kills the primary and waits until the group is whole again. Events 2 to 5 are watch's to tell: they are
// the same whoever kills.
func (s *Service) test(ctx context.Context, r record, g Group) error {
	asked := r.Task.Epoch
	if g.Status().Epoch == asked {
		// The event is first in the store: what follows belongs to it.
		if !s.toldOfTest(r) {
			s.tell(ctx, event{Group: r.ID, Message: "Test Failover API called for node group " + nodeGroup})
		}
		if err := g.Failover(ctx, false); errors.Is(err, cluster.ErrRefused) {
			return given{err}
		} else if err != nil {
			return err
		}
	}
	bound, cancel := context.WithTimeout(ctx, recoverWithin)
	defer cancel()
	if err := whole(bound, g, recoverWithin); err != nil {
		return err
	}
	if last := g.Status().LastFailover; last == nil || last.Epoch <= asked {
		return given{errors.New("this process was started anew before the primary was killed")}
	}
	if err := s.until(bound, func() bool {
		r, _ := s.groups.Get(r.ID)
		return r.Told > asked && len(r.Recovering) == 0
	}); err != nil {
		return fmt.Errorf("its events are not told yet: %w", err)
	}
	return s.done(ctx, r.ID, nil)
}

// toldOfTest reports whether the first event of a test has been told, by this process or one before.
func (s *Service) toldOfTest(r record) bool {
	return slices.ContainsFunc(s.events.list(), func(v event) bool {
		return v.Source == r.ID && !v.Time.Before(r.Task.Began) && strings.HasPrefix(v.Message, "Test Failover API called")
	})
}

// follow has a goroutine watch a group for changes of primary, unless one does.
func (s *Service) follow(group string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx == nil || s.ctx.Err() != nil || s.watched[group] != nil {
		return
	}
	ctx, cancel := context.WithCancel(s.ctx)
	s.watched[group] = cancel
	s.work.Go(func() { s.watch(ctx, group) })
}

func (s *Service) unfollow(group string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if end := s.watched[group]; end != nil {
		end()
		delete(s.watched, group)
	}
}

// lookEvery bounds a wait for news of a group: it may have been replaced.
const lookEvery = 5 * time.Second

// watch tells of changes of primary until ctx ends.
func (s *Service) watch(ctx context.Context, group string) {
	for ctx.Err() == nil {
		g, ok := s.opts.Groups.Find(group)
		r, known := s.groups.Get(group)
		if !ok || !known {
			select {
			case <-time.After(again):
			case <-ctx.Done():
			}
			continue
		}
		bound, cancel := context.WithTimeout(ctx, lookEvery)
		status, err := g.Wait(bound, func(now cluster.Status) bool { return hasNews(r, now) })
		cancel()
		if err != nil {
			continue
		}
		if err := s.tellChanges(ctx, r, status); err != nil && ctx.Err() == nil {
			s.log.Warn("a change of primary is not told yet", "group", group, "error", err)
			select {
			case <-time.After(again):
			case <-ctx.Done():
			}
		}
	}
}

// hasNews reports whether a status has what the record does not tell yet.
func hasNews(r record, now cluster.Status) bool {
	return now.LastFailover != nil && now.LastFailover.Epoch > r.Told || slices.ContainsFunc(r.Recovering, func(id cluster.NodeID) bool { return recovered(now, id) })
}

// recovered reports whether a node serves again, or is gone for good.
func recovered(now cluster.Status, id cluster.NodeID) bool {
	n, ok := now.Node(id)
	return !ok || n.State == cluster.StateReady
}

// tellChanges tells what a status has that is new, then keeps that it was told: after a crash in between it is
// told twice rather than never.
func (s *Service) tellChanges(ctx context.Context, r record, now cluster.Status) error {
	last := now.LastFailover
	fresh := last != nil && last.Epoch > r.Told
	recovering := slices.Clone(r.Recovering)
	if fresh {
		s.tellChange(ctx, r, *last)
		if last.Kind == cluster.KindFailover && last.From != "" {
			s.tell(ctx, event{Node: last.From, Message: "Recovering cache nodes " + cacheNode, Notice: "CacheNodeReplaceStarted"})
			if !slices.Contains(recovering, last.From) {
				recovering = append(recovering, last.From)
			}
		}
	}
	var left []cluster.NodeID
	for _, id := range recovering {
		if !recovered(now, id) || fresh && id == last.From && last.From != now.Primary && !backSince(now, id) {
			left = append(left, id)
			continue
		}
		s.tell(ctx, event{Node: id, Message: "Finished recovery for cache nodes " + cacheNode, Notice: "CacheNodeReplaceComplete"})
	}
	_, err := s.change(ctx, r.ID, func(r *record) error {
		r.Recovering = left
		if fresh {
			r.Told = last.Epoch
		}
		return nil
	})
	return err
}

// backSince reports whether a node that led is a replica now: its word from before its death says primary.
func backSince(now cluster.Status, id cluster.NodeID) bool {
	n, ok := now.Node(id)
	return !ok || n.State == cluster.StateReady && n.Role == cluster.RoleReplica
}

func (s *Service) tellChange(ctx context.Context, r record, c cluster.Change) {
	if c.From == "" || c.From == c.To {
		return
	}
	what := "Failover"
	if c.Kind == cluster.KindSwitchover {
		what = "Switchover"
	}
	text := fmt.Sprintf("%s from primary node %s to replica node %s completed", what, c.From, c.To)
	s.tell(ctx, event{Node: c.From, Message: text})
	s.tell(ctx, event{Group: r.ID, Message: text, Notice: "FailoverComplete"})
}

// rebootCacheCluster starts a node's redis-server anew; a primary hands over first.
func (s *Service) rebootCacheCluster(ctx context.Context, in *elasticache.RebootCacheClusterInput) (*elasticache.RebootCacheClusterOutput, error) {
	r, id, err := s.member(*in.CacheClusterId)
	if err != nil {
		return nil, err
	}
	if len(in.CacheNodeIdsToReboot) != 1 || in.CacheNodeIdsToReboot[0] != cacheNode {
		return nil, invalid("CacheNodeIdsToReboot must be %s.", cacheNode)
	}
	if available(r) != nil {
		return nil, &types.InvalidCacheClusterStateFault{Message: aws.String("Cache cluster " + string(id) + " is not in available state: its replication group is " + r.State + ".")}
	}
	r, err = s.begin(ctx, r.ID, task{Kind: taskReboot, Node: id}, stateModifying, func(r *record) error {
		m := r.Members[id]
		m.State = "rebooting cluster nodes"
		r.Members[id] = m
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &elasticache.RebootCacheClusterOutput{CacheCluster: s.shownCluster(ctx, r, id, true)}, nil
}

// reboot starts a node anew. A second time does no harm.
func (s *Service) reboot(ctx context.Context, r record, g Group) error {
	id := r.Task.Node
	bound, cancel := context.WithTimeout(ctx, recoverWithin)
	defer cancel()
	if err := g.Reboot(bound, id); err != nil {
		return err
	}
	if err := whole(ctx, g, recoverWithin); err != nil {
		return err
	}
	s.tell(ctx, event{Node: id, Message: "Cache node " + cacheNode + " restarted", Notice: "CacheNodesRebooted"})
	return s.done(ctx, r.ID, func(r *record) {
		m := r.Members[id]
		m.State, m.Reboot = "", false
		r.Members[id] = m
	})
}
