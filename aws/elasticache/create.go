package elasticache

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/elasticache"
	"github.com/aws/aws-sdk-go-v2/service/elasticache/types"

	"understudy/aws/wire"
	"understudy/cluster"
	"understudy/shelf"
)

// ErrAddress: an address that a group should have is taken.
var ErrAddress = errors.New("the address is taken")

// mostNodes is a primary and AWS's five replicas.
const mostNodes = 6

var nameForm = regexp.MustCompile(`^[a-z]([a-z0-9]|-[a-z0-9])*$`)

// checkName refuses what AWS refuses as a name; what names which parameter that was.
func checkName(what, name string, most int) error {
	if len(name) > most || !nameForm.MatchString(name) {
		return invalid("The parameter %s is not a valid identifier. Identifiers must begin with a letter; must contain only ASCII letters, digits, and hyphens; must not end with a hyphen or contain two consecutive hyphens; and have at most %d characters.", what, most)
	}
	return nil
}

// createReplicationGroup writes down a group that is to be, and answers before a process runs.
func (s *Service) createReplicationGroup(ctx context.Context, in *elasticache.CreateReplicationGroupInput) (*elasticache.CreateReplicationGroupOutput, error) {
	r, token, err := s.planned(ctx, in)
	if err != nil {
		return nil, err
	}
	end, ok := s.make(r.ID)
	if !ok {
		return nil, groupExists(r.ID)
	}
	defer end()
	if token != "" {
		// The token first: a record without it would open a group to everybody.
		if err := s.putTokens(ctx, r.ID, tokens{Tokens: []string{token}}); err != nil {
			return nil, err
		}
	}
	if err := s.groups.Add(ctx, r.ID, r); errors.Is(err, shelf.ErrThere) {
		return nil, groupExists(r.ID)
	} else if err != nil {
		return nil, err
	}
	s.told()
	s.carryOut(r.ID)
	return &elasticache.CreateReplicationGroupOutput{ReplicationGroup: s.shown(ctx, r)}, nil
}

// make takes a name until end is called: two clients that ask for it at once must not mix their tokens.
func (s *Service) make(group string) (end func(), ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, there := s.groups.Get(group); there || s.making[group] {
		return nil, false
	}
	s.making[group] = true
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.making, group)
	}, true
}

func groupExists(id string) error {
	return &types.ReplicationGroupAlreadyExistsFault{Message: aws.String("Replication group " + id + " already exists")}
}

// planned is the record of the group that a client asks for, with the task of making it.
func (s *Service) planned(ctx context.Context, in *elasticache.CreateReplicationGroupInput) (r record, token string, err error) {
	id := strings.ToLower(*in.ReplicationGroupId)
	if err := checkName("ReplicationGroupIdentifier", id, 40); err != nil {
		return r, "", err
	}
	if _, ok := s.groups.Get(id); ok {
		return r, "", groupExists(id)
	}
	if err := s.checkCreate(ctx, in); err != nil {
		return r, "", err
	}
	places, err := s.places(id, in)
	if err != nil {
		return r, "", err
	}
	spec := cluster.Spec{Name: id, Nodes: places, Durability: s.opts.Durability, Profile: s.opts.Profile, OnLostQuorum: cluster.LostQuorumShrink, Manual: !aws.ToBool(in.AutomaticFailoverEnabled)}
	if in.Port != nil {
		spec.Listen.Primary = net.JoinHostPort("", strconv.Itoa(int(*in.Port)))
	}
	r = record{
		ID: id, Description: *in.ReplicationGroupDescription, Created: s.now(), State: stateCreating, NodeType: or(aws.ToString(in.CacheNodeType), defaultNodeType),
		Version: aws.ToString(in.EngineVersion), Parameters: or(aws.ToString(in.CacheParameterGroupName), s.opts.Engine.defaultGroup()),
		Subnets: or(aws.ToString(in.CacheSubnetGroupName), defaultSubnets), Security: in.SecurityGroupIds,
		Maintenance: strings.ToLower(or(aws.ToString(in.PreferredMaintenanceWindow), defaultMaintenance(id))), Window: or(aws.ToString(in.SnapshotWindow), defaultWindow(id)),
		Retention: aws.ToInt32(in.SnapshotRetentionLimit), Topic: aws.ToString(in.NotificationTopicArn), Automatic: !spec.Manual, MultiAZ: aws.ToBool(in.MultiAZEnabled),
		AtRest: aws.ToBool(in.AtRestEncryptionEnabled), Key: aws.ToString(in.KmsKeyId), TLS: aws.ToBool(in.TransitEncryptionEnabled),
		AutoMinor: in.AutoMinorVersionUpgrade == nil || *in.AutoMinorVersionUpgrade, Members: map[cluster.NodeID]member{},
		Task: &task{Kind: taskCreate, Spec: spec, Snapshot: aws.ToString(in.SnapshotName), Began: s.now()},
	}
	if r.Topic != "" {
		r.TopicStatus = topicActive
	}
	for _, p := range places {
		r.Members[p.ID] = member{Created: r.Created, State: stateCreating}
	}
	if token = aws.ToString(in.AuthToken); token != "" {
		r.Auth, r.AuthSet = true, r.Created
	}
	tags, err := wire.Tags{}.With(ctx, tagsOf(in.Tags))
	r.Tags = tags
	return r, token, err
}

// checkCreate refuses what does not go together.
func (s *Service) checkCreate(ctx context.Context, in *elasticache.CreateReplicationGroupInput) error {
	if err := unserved(map[string]bool{
		"GlobalReplicationGroupId": in.GlobalReplicationGroupId != nil, "LogDeliveryConfigurations": len(in.LogDeliveryConfigurations) > 0,
		"UserGroupIds": len(in.UserGroupIds) > 0, "SnapshotArns": len(in.SnapshotArns) > 0, "ServerlessCacheSnapshotName": in.ServerlessCacheSnapshotName != nil,
		"DataTieringEnabled": aws.ToBool(in.DataTieringEnabled), "ClusterMode": in.ClusterMode != "" && in.ClusterMode != types.ClusterModeDisabled,
		"CacheSecurityGroupNames": len(in.CacheSecurityGroupNames) > 0, "NetworkType": in.NetworkType != "" && in.NetworkType != types.NetworkTypeIpv4,
		"Durability": in.Durability != "", "IpDiscovery": in.IpDiscovery != "" && in.IpDiscovery != types.IpDiscoveryIpv4, "SnapshotName": in.SnapshotName != nil && s.opts.Snapshots == nil,
	}); err != nil {
		return err
	}
	switch {
	case in.PrimaryClusterId != nil:
		return noCluster(*in.PrimaryClusterId) // there are no clusters without a group
	case in.NumNodeGroups != nil && *in.NumNodeGroups != 1:
		return combination("NumNodeGroups must be 1: cluster mode is not served here.")
	case in.Port != nil && (*in.Port < 1 || *in.Port > 65535):
		return invalid("Invalid port %d. Ports must be between 1 and 65535.", *in.Port)
	}
	for _, check := range []func() error{
		func() error { return checkEngine(in.Engine, in.EngineVersion) },
		func() error { return checkNodeType(or(aws.ToString(in.CacheNodeType), defaultNodeType)) },
		func() error { return s.checkParameters(in.CacheParameterGroupName) },
		func() error { return s.checkSubnets(in.CacheSubnetGroupName) },
		func() error {
			return checkWindows(in.PreferredMaintenanceWindow, in.SnapshotWindow, in.SnapshotRetentionLimit)
		},
		func() error { return checkTopic(in.NotificationTopicArn) },
		func() error { return checkDoor(in) },
	} {
		if err := check(); err != nil {
			return err
		}
	}
	if in.SnapshotName != nil {
		return s.opts.Snapshots.Check(ctx, *in.SnapshotName)
	}
	return nil
}

// checkDoor refuses what does not go together of encryption and tokens.
func checkDoor(in *elasticache.CreateReplicationGroupInput) error {
	switch secure := aws.ToBool(in.TransitEncryptionEnabled); {
	case in.TransitEncryptionMode == types.TransitEncryptionModePreferred:
		return combination("TransitEncryptionMode preferred is not served here: an endpoint speaks TLS or does not.")
	case in.TransitEncryptionMode != "" && !secure:
		return combination("TransitEncryptionMode is only valid with TransitEncryptionEnabled.")
	case in.AuthToken != nil && !secure:
		return combination("AuthToken can be specified only with TransitEncryptionEnabled.")
	case in.AuthToken != nil:
		return checkToken(*in.AuthToken)
	case in.KmsKeyId != nil && !aws.ToBool(in.AtRestEncryptionEnabled):
		return combination("KmsKeyId can be specified only with AtRestEncryptionEnabled.")
	}
	return nil
}

// checkToken refuses what AWS takes for no token. It does not repeat it.
func checkToken(token string) error {
	bad := func(c rune) bool { return c <= ' ' || c > '~' || strings.ContainsRune(`/"@`, c) }
	if len(token) < 16 || len(token) > 128 || strings.ContainsFunc(token, bad) {
		return invalid(`Invalid AuthToken provided. It must be 16 to 128 printable characters, and none of them a space, /, " or @.`)
	}
	return nil
}

// places are the nodes that a client asks for.
func (s *Service) places(id string, in *elasticache.CreateReplicationGroupInput) ([]cluster.NodePlace, error) {
	count, wanted, err := s.counted(in)
	if err != nil {
		return nil, err
	}
	automatic, multi := aws.ToBool(in.AutomaticFailoverEnabled), aws.ToBool(in.MultiAZEnabled)
	switch {
	case count < 1 || count > mostNodes:
		return nil, invalid("A replication group has 1 to %d cache clusters.", mostNodes)
	case automatic && count < 2:
		return nil, combination("When using automatic failover, there must be at least 2 cache clusters in the replication group.")
	case multi && !automatic:
		return nil, combination("Multi-AZ can only be enabled with automatic failover.")
	case multi && len(s.opts.Zones) < 2:
		return nil, combination("Multi-AZ needs at least two Availability Zones, and there is one here: %s.", s.opts.Zones[0])
	}
	places := s.spread(id, nil, count, wanted)
	if multi && zones(cluster.Spec{Nodes: places}) < 2 {
		return nil, combination("Multi-AZ needs cache clusters in at least two Availability Zones.")
	}
	return places, nil
}

// counted is how many nodes a client asks for, and in which zones; nil: in any.
func (s *Service) counted(in *elasticache.CreateReplicationGroupInput) (count int, wanted []string, err error) {
	count, wanted = 1, in.PreferredCacheClusterAZs
	switch {
	case in.NumCacheClusters != nil && in.ReplicasPerNodeGroup != nil:
		return 0, nil, combination("NumCacheClusters and ReplicasPerNodeGroup cannot be given together.")
	case len(in.NodeGroupConfiguration) > 1:
		return 0, nil, combination("There must be one NodeGroupConfiguration: cluster mode is not served here.")
	case in.NumCacheClusters != nil:
		count = int(*in.NumCacheClusters)
	case in.ReplicasPerNodeGroup != nil:
		count = int(*in.ReplicasPerNodeGroup) + 1
	case len(wanted) > 0:
		count = len(wanted)
	}
	for _, c := range in.NodeGroupConfiguration {
		switch {
		case len(wanted) > 0:
			return 0, nil, combination("PreferredCacheClusterAZs and NodeGroupConfiguration cannot be given together.")
		case c.NodeGroupId != nil && *c.NodeGroupId != nodeGroup:
			return 0, nil, invalid("NodeGroupId must be %s.", nodeGroup)
		case c.ReplicaCount != nil:
			count = int(*c.ReplicaCount) + 1
		case len(c.ReplicaAvailabilityZones) > 0:
			count = len(c.ReplicaAvailabilityZones) + 1
		}
		if c.PrimaryAvailabilityZone != nil {
			wanted = append([]string{*c.PrimaryAvailabilityZone}, c.ReplicaAvailabilityZones...)
		} else if len(c.ReplicaAvailabilityZones) > 0 {
			wanted = append([]string{s.opts.Zones[0]}, c.ReplicaAvailabilityZones...)
		}
	}
	if len(in.PreferredCacheClusterAZs) > 0 && len(wanted) != count {
		return 0, nil, combination("The number of PreferredCacheClusterAZs (%d) must be that of the cache clusters (%d).", len(wanted), count)
	}
	return count, wanted, s.checkZones(wanted)
}

func (s *Service) checkZones(wanted []string) error {
	for _, z := range wanted {
		if !slices.Contains(s.opts.Zones, z) {
			return invalid("%s is not a valid availability zone: here are %s.", z, strings.Join(s.opts.Zones, ", "))
		}
	}
	return nil
}

// spread names and places so many new nodes beside those that are there: in the zones that are wanted, then
// where there are fewest.
func (s *Service) spread(group string, there []cluster.NodePlace, count int, wanted []string) (places []cluster.NodePlace) {
	in, used := map[string]int{}, map[cluster.NodeID]bool{}
	for _, p := range there {
		in[p.Zone]++
		used[p.ID] = true
	}
	for n := 1; len(places) < count; n++ {
		id := cluster.NodeName(group, n)
		if used[id] {
			continue
		}
		zone := s.opts.Zones[0]
		for _, z := range s.opts.Zones {
			if in[z] < in[zone] {
				zone = z
			}
		}
		if len(places) < len(wanted) {
			zone = wanted[len(places)]
		}
		in[zone]++
		places = append(places, cluster.NodePlace{ID: id, Zone: zone})
	}
	return places
}

// createWithin bounds one attempt of waiting for a new group: an empty one takes a second.
const createWithin = 30 * time.Second

// create makes the group of a record, or finds what was made of it before a crash.
func (s *Service) create(ctx context.Context, r record) error {
	g, err := s.start(ctx, r)
	if err != nil {
		return err
	}
	if err := whole(ctx, g, createWithin); err != nil {
		return err
	}
	if r.Task.Snapshot != "" {
		if err := s.restored(ctx, r.ID, r.Task.Snapshot); err != nil {
			return err
		}
	}
	// Of a snapshot one node has the data, and leads; the others copy it.
	if missing := missingIn(g.Spec(), r.Task.Spec.Nodes); len(missing) > 0 {
		if err := g.Grow(ctx, missing...); err != nil {
			return err
		}
		if err := whole(ctx, g, createWithin); err != nil {
			return err
		}
	}
	s.follow(r.ID)
	return s.created(ctx, r, g)
}

// start is the group of a record, which it starts unless it runs.
func (s *Service) start(ctx context.Context, r record) (Group, error) {
	if g, ok := s.opts.Groups.Find(r.ID); ok {
		return g, nil
	}
	spec := r.Task.Spec
	spec.Directives = s.directives(r)
	if r.Task.Snapshot != "" {
		spec.Nodes = spec.Nodes[:1]
		if err := s.opts.Snapshots.Seed(ctx, r.Task.Snapshot, spec.Nodes[0].ID); err != nil {
			return nil, fmt.Errorf("take the data of snapshot %s: %w", r.Task.Snapshot, err)
		}
	}
	g, err := s.opts.Groups.Create(ctx, spec, s.Door(r.ID))
	if errors.Is(err, ErrAddress) {
		return nil, given{err}
	}
	return g, err
}

// missingIn are the places that a spec lacks.
func missingIn(spec cluster.Spec, places []cluster.NodePlace) []cluster.NodePlace {
	return slices.DeleteFunc(slices.Clone(places), func(p cluster.NodePlace) bool { _, ok := spec.Place(p.ID); return ok })
}

// created says that a group is there, and in what it is not what was asked for.
func (s *Service) created(ctx context.Context, r record, g Group) error {
	for _, id := range r.names() {
		s.tell(ctx, event{Node: id, Message: "Cache cluster created"})
	}
	if e := s.opts.Engine; !e.is("", r.Version) {
		s.tell(ctx, event{Group: r.ID, Message: fmt.Sprintf("Engine version %s was asked for; %s %s is installed here and runs", r.Version, e.Name, e.Version)})
	}
	s.warnMemory(ctx, r)
	s.tell(ctx, event{Group: r.ID, Message: "Replication group " + r.ID + " created", Notice: "CreateReplicationGroupComplete"})
	return s.done(ctx, r.ID, func(r *record) { s.settle(r, g) })
}

// warnMemory says when the nodes may use more memory than there is.
func (s *Service) warnMemory(ctx context.Context, r record) {
	bytes, bounded := s.maxmemory(r.NodeType, s.reserved(r.Parameters))
	if r.NodeType == unlimited {
		return
	}
	if bounded {
		s.tell(ctx, event{Group: r.ID, Message: fmt.Sprintf("Node type %s has more memory than a node may use here: maxmemory is %d bytes", r.NodeType, bytes)})
	}
	if all := bytes * int64(len(r.Members)); s.opts.Memory > 0 && all > s.opts.Memory {
		s.tell(ctx, event{Group: r.ID, Message: fmt.Sprintf("%d nodes of type %s may use %d bytes, and this machine has %d: full nodes would be killed for lack of memory", len(r.Members), r.NodeType, all, s.opts.Memory)})
	}
}

// reserveHash spreads default windows over the week, as AWS does, but the same for the same name.
func reserveHash(name string) int {
	h := fnv.New32a()
	h.Write([]byte(name))
	return int(h.Sum32() % 1000)
}

var weekdays = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

func defaultMaintenance(name string) string {
	h := reserveHash(name)
	day := weekdays[h%7]
	return fmt.Sprintf("%s:%02d:00-%s:%02d:00", day, h%8+3, day, h%8+4)
}

// defaultWindow does not meet defaultMaintenance.
func defaultWindow(name string) string {
	h := reserveHash(name) % 8
	return fmt.Sprintf("%02d:00-%02d:00", (h+14)%24, (h+15)%24)
}

// checkWindows refuses windows of another form than AWS's: ddd:hh:mm-ddd:hh:mm and hh:mm-hh:mm, the second an hour at least.
func checkWindows(maintenance, snapshot *string, retention *int32) error {
	if maintenance != nil {
		if _, err := cluster.ParseWindow(strings.ToLower(*maintenance)); err != nil {
			return invalid("Invalid maintenance window %s: it must be ddd:hh24:mi-ddd:hh24:mi, 30 minutes at least.", *maintenance)
		}
	}
	if snapshot != nil {
		var h1, m1, h2, m2 int
		n, err := fmt.Sscanf(*snapshot, "%02d:%02d-%02d:%02d", &h1, &m1, &h2, &m2)
		if err != nil || n != 4 || h1 > 23 || h2 > 23 || m1 > 59 || m2 > 59 || (h2*60+m2-h1*60-m1+24*60)%(24*60) < 60 {
			return invalid("Invalid snapshot window %s: it must be hh24:mi-hh24:mi, an hour at least.", *snapshot)
		}
	}
	if retention != nil && (*retention < 0 || *retention > 35) {
		return invalid("The snapshot retention limit must be between 0 and 35.")
	}
	return nil
}

// deleteReplicationGroup flips the state before it answers: a client that looks next sees no group at rest.
func (s *Service) deleteReplicationGroup(ctx context.Context, in *elasticache.DeleteReplicationGroupInput) (*elasticache.DeleteReplicationGroupOutput, error) {
	id := strings.ToLower(*in.ReplicationGroupId)
	switch final := aws.ToString(in.FinalSnapshotIdentifier); {
	case aws.ToBool(in.RetainPrimaryCluster):
		return nil, combination("RetainPrimaryCluster is not served here: there are no cache clusters without a replication group.")
	case final != "" && s.opts.Snapshots == nil:
		return nil, combination("FinalSnapshotIdentifier: this front has no snapshots.")
	case final != "":
		if err := s.checkFinal(final); err != nil {
			return nil, err
		}
	}
	if id == s.opts.Home {
		if _, ok := s.groups.Get(id); ok {
			return nil, &types.InvalidReplicationGroupStateFault{Message: aws.String("Replication group " + id + " is the one that this understudy up runs: it goes with its data directory.")}
		}
	}
	r, err := s.change(ctx, id, func(r *record) error {
		if r.State != stateFailed || aws.ToString(in.FinalSnapshotIdentifier) != "" { // of what was not made there are no data
			if err := available(*r); err != nil {
				return err
			}
		}
		r.State, r.Task = stateDeleting, &task{Kind: taskDelete, Snapshot: aws.ToString(in.FinalSnapshotIdentifier), Began: s.now()}
		for id, m := range r.Members {
			m.State = stateDeleting
			r.Members[id] = m
		}
		return nil
	})
	if errors.Is(err, shelf.ErrNone) {
		return nil, noGroup(id)
	}
	if err != nil {
		return nil, err
	}
	s.carryOut(id)
	return &elasticache.DeleteReplicationGroupOutput{ReplicationGroup: s.shown(ctx, r)}, nil
}

// remove ends a group, keeps its data first if that is wanted, and forgets it last.
func (s *Service) remove(ctx context.Context, r record) error {
	if r.Task.Snapshot != "" {
		if err := s.opts.Snapshots.Final(ctx, r.ID, r.Task.Snapshot); err != nil {
			return fmt.Errorf("keep the data of %s as %s: %w", r.ID, r.Task.Snapshot, err)
		}
	}
	if err := s.opts.Groups.Remove(ctx, r.ID); err != nil {
		return err
	}
	if err := s.tokens.Remove(ctx, r.ID); err != nil {
		return err
	}
	for _, id := range slices.Sorted(maps.Keys(r.Members)) {
		s.tell(ctx, event{Node: id, Message: "Cache cluster deleted"})
	}
	s.tell(ctx, event{Group: r.ID, Message: "Replication group " + r.ID + " deleted"})
	s.unfollow(r.ID)
	if err := s.groups.Remove(ctx, r.ID); err != nil {
		return err
	}
	s.told()
	return nil
}
