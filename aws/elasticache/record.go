package elasticache

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"understudy/cluster"
	"understudy/shelf"
)

// The states of a group, as AWS calls them.
const (
	stateCreating     = "creating"
	stateAvailable    = "available"
	stateModifying    = "modifying"
	stateDeleting     = "deleting"
	stateFailed       = "create-failed"
	stateSnapshotting = "snapshotting"
)

// record is what AWS's clients see of a group and no process shows, and what is under way. What the group is
// (nodes, zones, roles) is asked of the group.
type record struct {
	ID          string            `json:"id"`
	Description string            `json:"description"`
	Created     time.Time         `json:"created"`
	State       string            `json:"state"`
	NodeType    string            `json:"node_type"`
	Version     string            `json:"version,omitempty"` // that was asked for
	Parameters  string            `json:"parameters"`        // the parameter group
	Subnets     string            `json:"subnets,omitempty"` // the subnet group
	Security    []string          `json:"security,omitempty"`
	Maintenance string            `json:"maintenance"`
	Window      string            `json:"snapshot_window"`
	Retention   int32             `json:"snapshot_retention"`
	Source      string            `json:"snapshotting_cluster,omitempty"`
	Topic       string            `json:"topic,omitempty"`
	TopicStatus string            `json:"topic_status,omitempty"`
	Automatic   bool              `json:"automatic_failover"`
	MultiAZ     bool              `json:"multi_az"`
	AtRest      bool              `json:"at_rest,omitempty"`
	Key         string            `json:"kms_key,omitempty"`
	TLS         bool              `json:"tls,omitempty"`
	Auth        bool              `json:"auth,omitempty"`
	AuthSet     time.Time         `json:"auth_set,omitzero"`
	AutoMinor   bool              `json:"auto_minor"`
	Tags        map[string]string `json:"tags,omitempty"`
	// Members are the nodes, with what only AWS knows of them.
	Members map[cluster.NodeID]member `json:"members"`
	Task    *task                     `json:"task,omitempty"`
	Pending pending                   `json:"pending,omitzero"`
	// Tests are the calls of TestFailover within the last day.
	Tests []time.Time `json:"tests,omitempty"`
	// Told is the newest change of primary that events tell of; Recovering is whose recovery they have yet to.
	Told       cluster.Epoch    `json:"told"`
	Recovering []cluster.NodeID `json:"recovering,omitempty"`
}

// member is a node.
type member struct {
	Created time.Time `json:"created"`
	// State is one that the node's process does not show: "creating", "deleting", "rebooting cluster nodes".
	State string `json:"state,omitempty"`
	// Reboot: it has not taken all parameters; they come with its next start.
	Reboot bool `json:"reboot,omitempty"`
}

// pending is what waits for the maintenance window.
type pending struct {
	NodeType string `json:"node_type,omitempty"`
}

// names are the members' names, sorted.
func (r record) names() []cluster.NodeID { return slices.Sorted(maps.Keys(r.Members)) }

// adopt makes records of groups that run without one: that of the flags, and those that were restored.
func (s *Service) adopt(ctx context.Context) error {
	for _, name := range s.opts.Groups.Names() {
		if _, ok := s.groups.Get(name); ok {
			continue
		}
		g, ok := s.opts.Groups.Find(name)
		if !ok {
			continue
		}
		if err := s.groups.Add(ctx, name, s.found(g)); err != nil && !errors.Is(err, shelf.ErrThere) {
			return fmt.Errorf("take up group %s: %w", name, err)
		}
		s.told()
	}
	return nil
}

// found is the record of a group that nobody made here.
func (s *Service) found(g Group) record {
	spec, now := g.Spec(), s.now()
	r := record{
		ID: spec.Name, Description: "made by understudy up", Created: now, State: stateAvailable, NodeType: unlimited,
		Parameters: s.opts.Engine.defaultGroup(), Maintenance: defaultMaintenance(spec.Name), Window: defaultWindow(spec.Name),
		Automatic: !spec.Manual, MultiAZ: !spec.Manual && zones(spec) > 1, AutoMinor: true, Members: map[cluster.NodeID]member{},
	}
	if spec.Name != s.opts.Home {
		r.Description = "made outside of the AWS front"
	}
	for _, n := range spec.Nodes {
		r.Members[n.ID] = member{Created: now}
	}
	if last := g.Status().LastFailover; last != nil {
		r.Told = last.Epoch
	}
	return r
}

// now is the time as AWS's clients see it: in milliseconds.
func (s *Service) now() time.Time { return s.opts.Now().UTC().Truncate(time.Millisecond) }

// zones is in how many zones a group has nodes.
func zones(spec cluster.Spec) int {
	seen := map[string]bool{}
	for _, n := range spec.Nodes {
		seen[n.Zone] = true
	}
	return len(seen)
}
