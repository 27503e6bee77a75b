package elasticache

import (
	"context"
	"net"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/elasticache"
	"github.com/aws/aws-sdk-go-v2/service/elasticache/types"

	"understudy/aws/wire"
	"understudy/cluster"
)

// find is the record of a group; names are the same in capitals.
func (s *Service) find(id string) (record, error) {
	r, ok := s.groups.Get(strings.ToLower(id))
	if _, runs := s.opts.Groups.Find(strings.ToLower(id)); !ok && runs { // made elsewhere, a moment ago
		if err := s.adopt(context.Background()); err != nil {
			return r, err
		}
		r, ok = s.groups.Get(strings.ToLower(id))
	}
	if !ok {
		return r, noGroup(id)
	}
	return r, nil
}

// member is the record of the group that a cluster, one node of it, belongs to.
func (s *Service) member(id string) (record, cluster.NodeID, error) {
	node := cluster.NodeID(strings.ToLower(id))
	r, ok := s.groups.Get(cluster.GroupOf(node))
	if _, there := r.Members[node]; !ok || !there {
		return r, node, noCluster(id)
	}
	return r, node, nil
}

// atRest is a group that may be changed now.
func (s *Service) atRest(id string) (record, Group, error) {
	r, err := s.find(id)
	if err == nil {
		err = available(r)
	}
	if err != nil {
		return r, nil, err
	}
	g, ok := s.opts.Groups.Find(r.ID)
	if !ok {
		return r, nil, starting(r.ID)
	}
	return r, g, nil
}

func (s *Service) describeReplicationGroups(ctx context.Context, in *elasticache.DescribeReplicationGroupsInput) (*elasticache.DescribeReplicationGroupsOutput, error) {
	if err := s.adopt(ctx); err != nil {
		return nil, err
	}
	all := s.groups.All()
	if in.ReplicationGroupId != nil {
		r, err := s.find(*in.ReplicationGroupId)
		if err != nil {
			return nil, err
		}
		all = []record{r}
	}
	page, next, err := wire.Page(ctx, wire.Paging{Token: in.Marker, Limit: in.MaxRecords}, all, func(r record) string { return r.ID })
	if err != nil {
		return nil, err
	}
	out := &elasticache.DescribeReplicationGroupsOutput{Marker: next}
	for _, r := range page {
		out.ReplicationGroups = append(out.ReplicationGroups, *s.shown(ctx, r))
	}
	return out, nil
}

// live is a group's processes as they are now; without a group that runs, its zero value.
type live struct {
	status    cluster.Status
	spec      cluster.Spec
	endpoints cluster.Endpoints
	runs      bool
}

func (s *Service) live(id string) (l live) {
	if g, ok := s.opts.Groups.Find(id); ok {
		l = live{status: g.Status(), spec: g.Spec(), endpoints: g.Endpoints(), runs: true}
	}
	return l
}

// shown is a group as AWS describes it.
func (s *Service) shown(ctx context.Context, r record) *types.ReplicationGroup {
	call, l := wire.CallOf(ctx), s.live(r.ID)
	g := &types.ReplicationGroup{
		ARN: aws.String(call.ARN("replicationgroup:" + r.ID)), ReplicationGroupId: &r.ID, Description: &r.Description, ReplicationGroupCreateTime: &r.Created,
		Status: aws.String(s.state(r, l)), CacheNodeType: &r.NodeType, Engine: &s.opts.Engine.Name, ClusterEnabled: aws.Bool(false), ClusterMode: types.ClusterModeDisabled,
		AutomaticFailover: automatic(r, l), MultiAZ: types.MultiAZStatusDisabled, SnapshotRetentionLimit: &r.Retention, SnapshotWindow: &r.Window,
		AtRestEncryptionEnabled: &r.AtRest, TransitEncryptionEnabled: &r.TLS, AuthTokenEnabled: &r.Auth, AutoMinorVersionUpgrade: &r.AutoMinor,
		DataTiering: types.DataTieringStatusDisabled, NetworkType: types.NetworkTypeIpv4, IpDiscovery: types.IpDiscoveryIpv4,
		PendingModifiedValues: &types.ReplicationGroupPendingModifiedValues{}, NodeGroups: []types.NodeGroup{s.shownNodeGroup(r, l)},
		MemberClusters: []string{}, LogDeliveryConfigurations: []types.LogDeliveryConfiguration{}, UserGroupIds: []string{},
	}
	for _, id := range r.names() {
		g.MemberClusters = append(g.MemberClusters, string(id))
	}
	if r.MultiAZ {
		g.MultiAZ = types.MultiAZStatusEnabled
	}
	if r.TLS {
		g.TransitEncryptionMode = types.TransitEncryptionModeRequired
	}
	if r.Key != "" {
		g.KmsKeyId = &r.Key
	}
	if r.Auth {
		g.AuthTokenLastModifiedDate = &r.AuthSet
	}
	if r.Source != "" && r.Retention > 0 {
		g.SnapshottingClusterId = &r.Source
	}
	if t := r.Task; t != nil && t.Kind == taskModify && t.Node != "" {
		g.PendingModifiedValues.PrimaryClusterId = aws.String(string(t.Node))
	}
	return g
}

// state is a group's: one at rest whose processes are being started is not available yet.
func (s *Service) state(r record, l live) string {
	if r.State == stateAvailable && !l.runs {
		return stateModifying
	}
	if r.State == stateAvailable && s.snapshotting(r.ID) {
		return stateSnapshotting
	}
	return r.State
}

// automatic says on which way automatic failover is.
func automatic(r record, l live) types.AutomaticFailoverStatus {
	if len(r.Members) < 2 { // there is nobody to fail over to; with a replica there will be
		return types.AutomaticFailoverStatusDisabled
	}
	changing := l.runs && r.State == stateModifying && l.spec.Manual == r.Automatic
	switch {
	case r.Automatic && changing:
		return types.AutomaticFailoverStatusEnabling
	case r.Automatic:
		return types.AutomaticFailoverStatusEnabled
	case changing:
		return types.AutomaticFailoverStatusDisabling
	}
	return types.AutomaticFailoverStatusDisabled
}

func (s *Service) shownNodeGroup(r record, l live) types.NodeGroup {
	n := types.NodeGroup{NodeGroupId: aws.String(nodeGroup), Status: aws.String(s.state(r, l)), NodeGroupMembers: []types.NodeGroupMember{}}
	if l.runs && r.State != stateCreating {
		n.PrimaryEndpoint, n.ReaderEndpoint = endpoint(l.endpoints.Primary), endpoint(l.endpoints.Reader)
	}
	for _, id := range r.names() {
		m := types.NodeGroupMember{CacheClusterId: aws.String(string(id)), CacheNodeId: aws.String(cacheNode)}
		if zone := zoneOf(r, l, id); zone != "" {
			m.PreferredAvailabilityZone = &zone
		}
		if l.runs && r.State != stateCreating {
			role := string(cluster.RoleReplica)
			if l.status.Primary == id {
				role = string(cluster.RolePrimary)
			}
			m.CurrentRole, m.ReadEndpoint = &role, nodeEndpoint(l, id)
		}
		n.NodeGroupMembers = append(n.NodeGroupMembers, m)
	}
	return n
}

// nodeEndpoint is where a node's redis-server is; nil while that is not known.
func nodeEndpoint(l live, id cluster.NodeID) *types.Endpoint {
	n, _ := l.status.Node(id)
	return endpoint(n.Addr)
}

func endpoint(addr string) *types.Endpoint {
	host, port, err := net.SplitHostPort(addr)
	n, wrong := strconv.Atoi(port)
	if err != nil || wrong != nil {
		return nil
	}
	return &types.Endpoint{Address: &host, Port: aws.Int32(int32(n))}
}

// zoneOf is where a node is, or will be.
func zoneOf(r record, l live, id cluster.NodeID) string {
	if p, ok := l.spec.Place(id); ok {
		return p.Zone
	}
	if r.Task != nil {
		for _, p := range append(r.Task.Spec.Nodes, r.Task.Places...) {
			if p.ID == id {
				return p.Zone
			}
		}
	}
	return ""
}

// describeCacheClusters lists nodes: each is a cluster of one node, as AWS has it.
func (s *Service) describeCacheClusters(ctx context.Context, in *elasticache.DescribeCacheClustersInput) (*elasticache.DescribeCacheClustersOutput, error) {
	type one struct {
		r  record
		id cluster.NodeID
	}
	var all []one
	switch {
	case in.CacheClusterId != nil:
		r, id, err := s.member(*in.CacheClusterId)
		if err != nil {
			return nil, err
		}
		all = []one{{r, id}}
	case aws.ToBool(in.ShowCacheClustersNotInReplicationGroups): // there are none
	default:
		for _, r := range s.groups.All() {
			for _, id := range r.names() {
				all = append(all, one{r, id})
			}
		}
	}
	// The zero byte has keys sort as the list is: by group, then by node.
	page, next, err := wire.Page(ctx, wire.Paging{Token: in.Marker, Limit: in.MaxRecords}, all, func(o one) string { return o.r.ID + "\x00" + string(o.id) })
	if err != nil {
		return nil, err
	}
	out := &elasticache.DescribeCacheClustersOutput{Marker: next}
	for _, o := range page {
		out.CacheClusters = append(out.CacheClusters, *s.shownCluster(ctx, o.r, o.id, aws.ToBool(in.ShowCacheNodeInfo)))
	}
	return out, nil
}

// shownCluster is a node as AWS describes it.
func (s *Service) shownCluster(ctx context.Context, r record, id cluster.NodeID, nodes bool) *types.CacheCluster {
	call, l, m := wire.CallOf(ctx), s.live(r.ID), r.Members[id]
	zone, status := zoneOf(r, l, id), s.nodeState(r, l, id)
	c := &types.CacheCluster{
		ARN: aws.String(call.ARN("cluster:" + string(id))), CacheClusterId: aws.String(string(id)), CacheClusterStatus: &status, ReplicationGroupId: &r.ID,
		CacheClusterCreateTime: &m.Created, CacheNodeType: &r.NodeType, NumCacheNodes: aws.Int32(1), PreferredAvailabilityZone: &zone,
		Engine: &s.opts.Engine.Name, EngineVersion: &s.opts.Engine.Version, CacheParameterGroup: parametersOf(r, id), CacheSubnetGroupName: aws.String(or(r.Subnets, defaultSubnets)),
		PreferredMaintenanceWindow: &r.Maintenance, SnapshotRetentionLimit: aws.Int32(0), SnapshotWindow: &r.Window, AutoMinorVersionUpgrade: &r.AutoMinor,
		AtRestEncryptionEnabled: &r.AtRest, TransitEncryptionEnabled: &r.TLS, AuthTokenEnabled: &r.Auth, NetworkType: types.NetworkTypeIpv4, IpDiscovery: types.IpDiscoveryIpv4,
		ClientDownloadLandingPage: aws.String(""), ReplicationGroupLogDeliveryEnabled: aws.Bool(false), PendingModifiedValues: &types.PendingModifiedValues{},
		CacheSecurityGroups: []types.CacheSecurityGroupMembership{}, SecurityGroups: []types.SecurityGroupMembership{}, LogDeliveryConfigurations: []types.LogDeliveryConfiguration{},
	}
	if string(id) == r.source() {
		c.SnapshotRetentionLimit = &r.Retention
	}
	for _, g := range r.Security {
		c.SecurityGroups = append(c.SecurityGroups, types.SecurityGroupMembership{SecurityGroupId: aws.String(g), Status: aws.String("active")})
	}
	if r.Topic != "" {
		c.NotificationConfiguration = &types.NotificationConfiguration{TopicArn: &r.Topic, TopicStatus: &r.TopicStatus}
	}
	if r.TLS {
		c.TransitEncryptionMode = types.TransitEncryptionModeRequired
	}
	if r.Auth {
		c.AuthTokenLastModifiedDate = &r.AuthSet
	}
	if r.Pending.NodeType != "" {
		c.PendingModifiedValues.CacheNodeType = &r.Pending.NodeType
	}
	if nodes {
		c.CacheNodes = []types.CacheNode{{
			CacheNodeId: aws.String(cacheNode), CacheNodeStatus: &status, CacheNodeCreateTime: &m.Created, CustomerAvailabilityZone: &zone,
			Endpoint: nodeEndpoint(l, id), ParameterGroupStatus: c.CacheParameterGroup.ParameterApplyStatus,
		}}
	}
	return c
}

// source is the cluster of which snapshots are taken, as AWS shows it: the one that was chosen, or the last.
func (r record) source() string {
	if r.Source != "" {
		return r.Source
	}
	if names := r.names(); len(names) > 0 {
		return string(names[len(names)-1])
	}
	return ""
}

// nodeState is a node's: what is under way with it, or what its process is.
func (s *Service) nodeState(r record, l live, id cluster.NodeID) string {
	if m := r.Members[id]; m.State != "" {
		return m.State
	}
	switch state := s.state(r, l); state {
	case stateAvailable:
	case stateModifying:
		if n, ok := l.status.Node(id); ok && n.State == cluster.StateReady {
			return stateAvailable
		}
		return stateModifying
	default:
		return state
	}
	if n, ok := l.status.Node(id); ok && n.State == cluster.StateReady {
		return stateAvailable
	}
	return stateModifying // AWS has no word for a node that is down and comes back
}
