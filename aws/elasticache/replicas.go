package elasticache

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/elasticache"
	"github.com/aws/aws-sdk-go-v2/service/elasticache/types"

	"understudy/cluster"
)

// wantedReplicas is how many replicas a client asks for, and in which zones all nodes should be.
func (s *Service) wantedReplicas(count *int32, shards []types.ConfigureShard) (replicas int, wanted []string, err error) {
	switch {
	case count != nil && len(shards) > 0:
		return 0, nil, combination("NewReplicaCount and ReplicaConfiguration cannot be given together.")
	case count != nil:
		return int(*count), nil, nil
	case len(shards) != 1:
		return 0, nil, combination("One of NewReplicaCount and ReplicaConfiguration must be given, the latter for node group %s alone.", nodeGroup)
	case *shards[0].NodeGroupId != nodeGroup:
		return 0, nil, &types.NodeGroupNotFoundFault{Message: aws.String("Node group " + *shards[0].NodeGroupId + " not found.")}
	}
	replicas, wanted = int(*shards[0].NewReplicaCount), shards[0].PreferredAvailabilityZones
	if len(wanted) > 0 && len(wanted) != replicas+1 {
		return 0, nil, combination("PreferredAvailabilityZones must name %d zones: one for each replica, and the primary's.", replicas+1)
	}
	return replicas, wanted, s.checkZones(wanted)
}

// increaseReplicaCount adds nodes while the group serves.
func (s *Service) increaseReplicaCount(ctx context.Context, in *elasticache.IncreaseReplicaCountInput) (*elasticache.IncreaseReplicaCountOutput, error) {
	replicas, wanted, err := s.wantedReplicas(in.NewReplicaCount, in.ReplicaConfiguration)
	if err != nil {
		return nil, err
	}
	r, g, err := s.atRest(*in.ReplicationGroupId)
	if err != nil {
		return nil, err
	}
	spec := g.Spec()
	switch {
	case !aws.ToBool(in.ApplyImmediately):
		return nil, combination("ApplyImmediately must be true: a change of the number of replicas does not wait.")
	case replicas < len(spec.Nodes):
		return nil, invalid("The new replica count %d must be greater than the current replica count %d.", replicas, len(spec.Nodes)-1)
	case replicas >= mostNodes:
		return nil, invalid("A node group has at most %d replicas.", mostNodes-1)
	}
	for _, n := range spec.Nodes { // the zones of those that are there are given
		if i := slices.Index(wanted, n.Zone); i >= 0 {
			wanted = slices.Delete(slices.Clone(wanted), i, i+1)
		}
	}
	places := s.spread(r.ID, spec.Nodes, replicas+1-len(spec.Nodes), wanted)
	r, err = s.begin(ctx, r.ID, task{Kind: taskGrow, Places: places}, stateModifying, func(r *record) error {
		for _, p := range places {
			r.Members[p.ID] = member{Created: s.now(), State: stateCreating}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &elasticache.IncreaseReplicaCountOutput{ReplicationGroup: s.shown(ctx, r)}, nil
}

// grow adds the nodes that are not there yet.
func (s *Service) grow(ctx context.Context, r record, g Group) error {
	if missing := missingIn(g.Spec(), r.Task.Places); len(missing) > 0 {
		if err := g.Grow(ctx, missing...); err != nil {
			return err
		}
	}
	if err := whole(ctx, g, createWithin); err != nil {
		return err
	}
	for _, p := range r.Task.Places {
		s.tell(ctx, event{Node: p.ID, Message: "Cache cluster created"})
	}
	s.tell(ctx, event{Group: r.ID, Message: fmt.Sprintf("Replica count of node group %s is %d", nodeGroup, len(g.Spec().Nodes)-1), Notice: "ReplicationGroupScalingComplete"})
	s.warnMemory(ctx, r)
	return s.done(ctx, r.ID, func(r *record) { s.settle(r, g) })
}

// decreaseReplicaCount takes replicas away while the group serves.
func (s *Service) decreaseReplicaCount(ctx context.Context, in *elasticache.DecreaseReplicaCountInput) (*elasticache.DecreaseReplicaCountOutput, error) {
	r, g, err := s.atRest(*in.ReplicationGroupId)
	if err != nil {
		return nil, err
	}
	if !aws.ToBool(in.ApplyImmediately) {
		return nil, combination("ApplyImmediately must be true: a change of the number of replicas does not wait.")
	}
	leaving, err := s.leaving(in, r, g)
	if err != nil {
		return nil, err
	}
	r, err = s.begin(ctx, r.ID, task{Kind: taskShrink, Leaving: leaving}, stateModifying, func(r *record) error {
		for _, id := range leaving {
			m := r.Members[id]
			m.State = stateDeleting
			r.Members[id] = m
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &elasticache.DecreaseReplicaCountOutput{ReplicationGroup: s.shown(ctx, r)}, nil
}

// leaving are the replicas to remove: those that are named, or the last ones by their names.
func (s *Service) leaving(in *elasticache.DecreaseReplicaCountInput, r record, g Group) (ids []cluster.NodeID, err error) {
	spec, primary := g.Spec(), g.Status().Primary
	if len(in.ReplicasToRemove) > 0 {
		if in.NewReplicaCount != nil || len(in.ReplicaConfiguration) > 0 {
			return nil, combination("ReplicasToRemove cannot be given with NewReplicaCount or ReplicaConfiguration.")
		}
		for _, name := range in.ReplicasToRemove {
			id := cluster.NodeID(strings.ToLower(name))
			if _, ok := spec.Place(id); !ok {
				return nil, noCluster(name)
			}
			if id == primary {
				return nil, invalid("%s is the primary: it cannot be removed.", name)
			}
			if !slices.Contains(ids, id) {
				ids = append(ids, id)
			}
		}
	} else {
		replicas, wanted, err := s.wantedReplicas(in.NewReplicaCount, in.ReplicaConfiguration)
		if err != nil {
			return nil, err
		}
		if replicas < 0 || replicas >= len(spec.Nodes)-1 {
			return nil, invalid("The new replica count %d must be less than the current replica count %d.", replicas, len(spec.Nodes)-1)
		}
		ids = choose(spec, primary, len(spec.Nodes)-1-replicas, wanted, r.MultiAZ)
	}
	left := spec
	left.Nodes = slices.DeleteFunc(slices.Clone(spec.Nodes), func(p cluster.NodePlace) bool { return slices.Contains(ids, p.ID) })
	switch {
	case r.Automatic && len(left.Nodes) < 2:
		return nil, invalid("A replication group with automatic failover must have at least one replica.")
	case r.MultiAZ && zones(left) < 2:
		return nil, invalid("A replication group with Multi-AZ must have cache clusters in at least two Availability Zones.")
	}
	return ids, nil
}

// choose picks replicas to remove: such that the zones stay which are wanted, and two of them with Multi-AZ.
func choose(spec cluster.Spec, primary cluster.NodeID, count int, wanted []string, multi bool) (ids []cluster.NodeID) {
	keep := slices.Clone(wanted)
	if p, ok := spec.Place(primary); ok {
		if i := slices.Index(keep, p.Zone); i >= 0 {
			keep = slices.Delete(keep, i, i+1)
		}
	}
	var candidates, last []cluster.NodeID
	for _, n := range slices.Backward(spec.Nodes) {
		if n.ID == primary {
			continue
		}
		rest := slices.DeleteFunc(slices.Clone(spec.Nodes), func(p cluster.NodePlace) bool {
			return p.ID == n.ID || slices.Contains(candidates, p.ID)
		})
		if i := slices.Index(keep, n.Zone); i >= 0 {
			keep = slices.Delete(keep, i, i+1)
			last = append(last, n.ID)
		} else if multi && zones(cluster.Spec{Nodes: rest}) < 2 {
			last = append(last, n.ID)
		} else {
			candidates = append(candidates, n.ID)
		}
	}
	return append(candidates, last...)[:count]
}

// shrink removes the nodes that are still there. One that leads by now hands over first.
func (s *Service) shrink(ctx context.Context, r record, g Group) error {
	spec := g.Spec()
	leaving := slices.DeleteFunc(slices.Clone(r.Task.Leaving), func(id cluster.NodeID) bool { _, ok := spec.Place(id); return !ok })
	if len(leaving) > 0 {
		if slices.Contains(leaving, g.Status().Primary) {
			for _, n := range g.Status().Nodes {
				if n.Electable && !slices.Contains(leaving, n.ID) {
					if err := g.Switchover(ctx, n.ID); err != nil {
						return err
					}
					break
				}
			}
		}
		if err := g.Shrink(ctx, leaving...); err != nil {
			return err
		}
	}
	if err := whole(ctx, g, createWithin); err != nil {
		return err
	}
	for _, id := range r.Task.Leaving {
		s.tell(ctx, event{Node: id, Message: "Cache cluster deleted"})
	}
	s.tell(ctx, event{Group: r.ID, Message: fmt.Sprintf("Replica count of node group %s is %d", nodeGroup, len(g.Spec().Nodes)-1), Notice: "ReplicationGroupScalingComplete"})
	return s.done(ctx, r.ID, func(r *record) { s.settle(r, g) })
}
