package elasticache

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/elasticache"
	"github.com/aws/aws-sdk-go-v2/service/elasticache/types"

	"understudy/cluster"
	"understudy/shelf"
)

const (
	topicActive   = "active"
	topicInactive = "inactive"
)

func checkTopic(arn *string) error {
	if arn != nil && *arn != "" && !strings.HasPrefix(*arn, "arn:aws:sns:") {
		return invalid("Invalid notification topic ARN %s.", *arn)
	}
	return nil
}

// modifyReplicationGroup writes the group as it is to be; what processes have to do for it is a task.
func (s *Service) modifyReplicationGroup(ctx context.Context, in *elasticache.ModifyReplicationGroupInput) (*elasticache.ModifyReplicationGroupOutput, error) {
	r, g, err := s.atRest(*in.ReplicationGroupId)
	if err != nil {
		return nil, err
	}
	if nothing(in) {
		return nil, combination("No modifications were requested")
	}
	if err := s.checkModify(in, r, g); err != nil {
		return nil, err
	}
	t := task{Kind: taskModify, Node: cluster.NodeID(strings.ToLower(aws.ToString(in.PrimaryClusterId)))}
	if in.AuthToken != nil || in.AuthTokenUpdateStrategy != "" {
		t.Tokens = s.nextTokens(r, in.AuthToken, in.AuthTokenUpdateStrategy)
	}
	was := r
	r, err = s.begin(ctx, r.ID, t, stateModifying, func(r *record) error {
		s.modified(r, in)
		if t.Node == "" && t.Tokens == nil && onlyWords(was, *r) {
			r.Task, r.State = nil, stateAvailable // no process has to know
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	s.saidOfModify(ctx, was, r, in)
	return &elasticache.ModifyReplicationGroupOutput{ReplicationGroup: s.shown(ctx, r)}, nil
}

// nothing reports whether a request changes nothing whatever the group is like.
func nothing(in *elasticache.ModifyReplicationGroupInput) bool {
	return in.AuthToken == nil && in.AuthTokenUpdateStrategy == "" && in.AutoMinorVersionUpgrade == nil && in.AutomaticFailoverEnabled == nil && in.CacheNodeType == nil &&
		in.CacheParameterGroupName == nil && len(in.CacheSecurityGroupNames) == 0 && in.ClusterMode == "" && in.Durability == "" && in.Engine == nil && in.EngineVersion == nil && in.IpDiscovery == "" &&
		len(in.LogDeliveryConfigurations) == 0 && in.MultiAZEnabled == nil && in.NotificationTopicArn == nil && in.NotificationTopicStatus == nil && in.PreferredMaintenanceWindow == nil &&
		in.PrimaryClusterId == nil && in.RemoveUserGroups == nil && in.ReplicationGroupDescription == nil && len(in.SecurityGroupIds) == 0 && in.SnapshotRetentionLimit == nil &&
		in.SnapshotWindow == nil && in.SnapshottingClusterId == nil && in.TransitEncryptionEnabled == nil && in.TransitEncryptionMode == "" && len(in.UserGroupIdsToAdd) == 0 && len(in.UserGroupIdsToRemove) == 0
}

// onlyWords reports whether two records differ in nothing that a process has to know.
func onlyWords(was, is record) bool {
	return was.Automatic == is.Automatic && was.NodeType == is.NodeType && was.Parameters == is.Parameters
}

// checkModify refuses what does not go together, or not with the group.
func (s *Service) checkModify(in *elasticache.ModifyReplicationGroupInput, r record, g Group) error {
	if err := unserved(map[string]bool{
		"Durability":        in.Durability != "",
		"UserGroupIdsToAdd": len(in.UserGroupIdsToAdd) > 0, "UserGroupIdsToRemove": len(in.UserGroupIdsToRemove) > 0, "RemoveUserGroups": aws.ToBool(in.RemoveUserGroups),
		"LogDeliveryConfigurations": len(in.LogDeliveryConfigurations) > 0, "CacheSecurityGroupNames": len(in.CacheSecurityGroupNames) > 0,
		"ClusterMode": in.ClusterMode != "" && in.ClusterMode != types.ClusterModeDisabled, "IpDiscovery": in.IpDiscovery != "" && in.IpDiscovery != types.IpDiscoveryIpv4,
		"TransitEncryption": in.TransitEncryptionEnabled != nil && *in.TransitEncryptionEnabled != r.TLS || in.TransitEncryptionMode == types.TransitEncryptionModePreferred,
	}); err != nil {
		return err
	}
	for _, err := range []error{
		checkEngine(in.Engine, in.EngineVersion), s.checkParameters(in.CacheParameterGroupName), checkTopic(in.NotificationTopicArn),
		checkWindows(in.PreferredMaintenanceWindow, in.SnapshotWindow, in.SnapshotRetentionLimit), s.checkFailover(in, r, g), checkNewPrimary(in.PrimaryClusterId, r, g),
		checkTokens(in.AuthToken, in.AuthTokenUpdateStrategy, r),
	} {
		if err != nil {
			return err
		}
	}
	switch status := in.NotificationTopicStatus; {
	case in.CacheNodeType != nil && checkNodeType(*in.CacheNodeType) != nil:
		return checkNodeType(*in.CacheNodeType)
	case status != nil && *status != topicActive && *status != topicInactive:
		return invalid("NotificationTopicStatus must be active or inactive.")
	case in.SnapshottingClusterId != nil:
		if _, ok := r.Members[cluster.NodeID(*in.SnapshottingClusterId)]; !ok {
			return noCluster(*in.SnapshottingClusterId)
		}
	}
	return nil
}

// checkFailover refuses combinations of automatic failover, Multi-AZ and nodes.
func (s *Service) checkFailover(in *elasticache.ModifyReplicationGroupInput, r record, g Group) error {
	auto, multi := r.Automatic, r.MultiAZ
	if in.AutomaticFailoverEnabled != nil {
		auto = *in.AutomaticFailoverEnabled
	}
	if in.MultiAZEnabled != nil {
		multi = *in.MultiAZEnabled
	}
	switch spec := g.Spec(); {
	case aws.ToBool(in.AutomaticFailoverEnabled) && len(spec.Nodes) < 2:
		return combination("Automatic failover needs at least one replica.")
	case multi && !auto:
		return combination("Multi-AZ can only be enabled with automatic failover: disable both, or neither.")
	case multi && zones(spec) < 2:
		return combination("Multi-AZ needs cache clusters in at least two Availability Zones.")
	}
	return nil
}

// checkNewPrimary refuses a primary that cannot take over. AWS refuses it with automatic failover on, too; here
// it is a switchover, which loses nothing.
func checkNewPrimary(id *string, r record, g Group) error {
	if id == nil {
		return nil
	}
	node := cluster.NodeID(strings.ToLower(*id))
	if _, ok := r.Members[node]; !ok {
		return noCluster(*id)
	}
	status := g.Status()
	if n, _ := status.Node(node); node != status.Primary && !n.Electable {
		return &types.InvalidCacheClusterStateFault{Message: aws.String(fmt.Sprintf("Cache cluster %s cannot become the primary now: %s", *id, n.Reason))}
	}
	return nil
}

// modified writes what a request says into a record.
func (s *Service) modified(r *record, in *elasticache.ModifyReplicationGroupInput) {
	set := func(to *string, v *string) {
		if v != nil {
			*to = *v
		}
	}
	flag := func(to *bool, v *bool) {
		if v != nil {
			*to = *v
		}
	}
	set(&r.Description, in.ReplicationGroupDescription)
	set(&r.Version, in.EngineVersion)
	set(&r.Parameters, in.CacheParameterGroupName)
	if in.PreferredMaintenanceWindow != nil {
		r.Maintenance = strings.ToLower(*in.PreferredMaintenanceWindow)
	}
	set(&r.Window, in.SnapshotWindow)
	set(&r.Source, in.SnapshottingClusterId)
	set(&r.TopicStatus, in.NotificationTopicStatus)
	flag(&r.Automatic, in.AutomaticFailoverEnabled)
	flag(&r.MultiAZ, in.MultiAZEnabled)
	flag(&r.AutoMinor, in.AutoMinorVersionUpgrade)
	if in.NotificationTopicArn != nil {
		if r.Topic = *in.NotificationTopicArn; in.NotificationTopicStatus == nil && r.Topic != "" {
			r.TopicStatus = topicActive
		}
	}
	if len(in.SecurityGroupIds) > 0 {
		r.Security = in.SecurityGroupIds
	}
	if in.SnapshotRetentionLimit != nil {
		r.Retention = *in.SnapshotRetentionLimit
	}
	if in.CacheNodeType != nil {
		r.Pending.NodeType = *in.CacheNodeType
		if aws.ToBool(in.ApplyImmediately) || *in.CacheNodeType == r.NodeType {
			r.NodeType, r.Pending.NodeType = *in.CacheNodeType, ""
		}
	}
}

// saidOfModify tells what a change does not do that somebody may expect of it.
func (s *Service) saidOfModify(ctx context.Context, was, r record, in *elasticache.ModifyReplicationGroupInput) {
	if e := s.opts.Engine; !e.is(aws.ToString(in.Engine), aws.ToString(in.EngineVersion)) {
		s.tell(ctx, event{Group: r.ID, Message: fmt.Sprintf("%s %s was asked for; %s %s is installed here and runs", or(aws.ToString(in.Engine), "Engine version"), aws.ToString(in.EngineVersion), e.Name, e.Version)})
	}
	if was.NodeType != r.NodeType {
		s.warnMemory(ctx, r)
	}
}

// modify has the group be what the record says.
func (s *Service) modify(ctx context.Context, r record, g Group) error {
	spec := g.Spec()
	if spec.Manual == r.Automatic {
		if err := g.SetManual(ctx, !r.Automatic); err != nil {
			return err
		}
		s.tell(ctx, event{Group: r.ID, Message: map[bool]string{true: "Automatic failover is turned on", false: "Automatic failover is turned off"}[r.Automatic]})
	}
	wanted := s.directives(r)
	for name := range spec.Directives { // what the group had and the parameters do not say is back at its default
		if _, ok := wanted[name]; !ok {
			wanted[name] = defaultOf(name)
		}
	}
	changed := !maps.Equal(spec.Directives, wanted)
	if changed {
		if err := g.SetDirectives(ctx, wanted); err != nil {
			return err
		}
	}
	if tokens := r.Task.Tokens; tokens != nil {
		if err := s.putTokens(ctx, r.ID, *tokens); err != nil {
			return err
		}
		if err := g.Admit(s.Door(r.ID)); err != nil {
			return err
		}
	}
	if to := r.Task.Node; to != "" && g.Status().Primary != to {
		if err := g.Switchover(ctx, to); errors.Is(err, cluster.ErrRefused) {
			return given{err}
		} else if err != nil {
			return err
		}
	}
	tokens := r.Task.Tokens
	return s.done(ctx, r.ID, func(r *record) {
		s.settle(r, g)
		if tokens != nil {
			r.Auth, r.AuthSet = len(tokens.Tokens) > 0, time.Time{}
			if r.Auth {
				r.AuthSet = s.now()
			}
		}
		for id, m := range r.Members {
			m.Reboot = m.Reboot || needsReboot(spec.Directives, wanted)
			r.Members[id] = m
		}
	})
}

// inWindow reports whether now is a group's maintenance window.
func (s *Service) inWindow(r record) bool {
	w, err := cluster.ParseWindow(r.Maintenance)
	return err == nil && w.Contains(s.opts.Now())
}

// applyPending makes what waited for the window a task.
func (s *Service) applyPending(ctx context.Context, group string) {
	_, err := s.begin(ctx, group, task{Kind: taskModify}, stateModifying, func(r *record) error {
		r.NodeType, r.Pending.NodeType = r.Pending.NodeType, ""
		return nil
	})
	if err != nil {
		s.log.Warn("a pending change is not begun: it is tried again", "group", group, "error", err)
	}
}

// mostTokens is how many are good at a time while they are changed: the one before and the new one, as on AWS.
const mostTokens = 2

// checkTokens refuses changes of tokens that cannot be made.
func checkTokens(token *string, how types.AuthTokenUpdateStrategyType, r record) error {
	switch {
	case token == nil && how == "":
		return nil
	case !r.TLS:
		return combination("AuthToken can be changed only where transit encryption is enabled.")
	case how == types.AuthTokenUpdateStrategyTypeDelete && token != nil:
		return combination("AuthToken cannot be given with the strategy DELETE.")
	case how == types.AuthTokenUpdateStrategyTypeDelete && !r.Auth:
		return combination("There is no AuthToken to delete.")
	case how == types.AuthTokenUpdateStrategyTypeDelete:
		return nil
	case token == nil:
		return combination("AuthToken must be given with the strategy %s.", how)
	}
	return checkToken(*token)
}

// nextTokens are those that are good after a change. ROTATE adds one to what was good before, no token included;
// SET leaves the new one alone.
func (s *Service) nextTokens(r record, token *string, how types.AuthTokenUpdateStrategyType) *tokens {
	now, _ := s.tokens.Get(r.ID)
	switch how {
	case types.AuthTokenUpdateStrategyTypeDelete:
		return &tokens{}
	case types.AuthTokenUpdateStrategyTypeSet:
		return &tokens{Tokens: []string{*token}}
	}
	next := tokens{Tokens: slices.Clone(now.Tokens), Optional: now.Optional || len(now.Tokens) == 0}
	if !slices.Contains(next.Tokens, *token) {
		next.Tokens = append(next.Tokens, *token)
	}
	next.Tokens = next.Tokens[max(0, len(next.Tokens)-mostTokens):]
	return &next
}

func (s *Service) putTokens(ctx context.Context, group string, t tokens) error {
	_, err := s.tokens.Change(ctx, group, func(to *tokens) error { *to = t; return nil })
	if errors.Is(err, shelf.ErrNone) {
		err = s.tokens.Add(ctx, group, t)
	}
	return err
}

// modifyCacheCluster changes what AWS lets one change through a node of a group: it is the whole group's.
func (s *Service) modifyCacheCluster(ctx context.Context, in *elasticache.ModifyCacheClusterInput) (*elasticache.ModifyCacheClusterOutput, error) {
	r, id, err := s.member(*in.CacheClusterId)
	if err != nil {
		return nil, err
	}
	if in.NumCacheNodes != nil && *in.NumCacheNodes != 1 || len(in.CacheNodeIdsToRemove) > 0 || len(in.NewAvailabilityZones) > 0 || in.AZMode != "" {
		return nil, combination("A cache cluster of %s has one node: change the number of replicas of its replication group.", s.opts.Engine.Name)
	}
	if in.CacheNodeType != nil || in.EngineVersion != nil || in.AuthToken != nil {
		return nil, combination("Cache cluster %s is a node of replication group %s: use ModifyReplicationGroup.", id, r.ID)
	}
	if _, err := s.modifyReplicationGroup(ctx, &elasticache.ModifyReplicationGroupInput{
		ReplicationGroupId: &r.ID, ApplyImmediately: in.ApplyImmediately, AutoMinorVersionUpgrade: in.AutoMinorVersionUpgrade, CacheParameterGroupName: in.CacheParameterGroupName,
		CacheSecurityGroupNames: in.CacheSecurityGroupNames, Engine: in.Engine, IpDiscovery: in.IpDiscovery, LogDeliveryConfigurations: in.LogDeliveryConfigurations,
		NotificationTopicArn: in.NotificationTopicArn, NotificationTopicStatus: in.NotificationTopicStatus, PreferredMaintenanceWindow: in.PreferredMaintenanceWindow,
		SecurityGroupIds: in.SecurityGroupIds, SnapshotRetentionLimit: in.SnapshotRetentionLimit, SnapshotWindow: in.SnapshotWindow,
	}); err != nil {
		return nil, err
	}
	if r, err = s.find(r.ID); err != nil {
		return nil, err
	}
	return &elasticache.ModifyCacheClusterOutput{CacheCluster: s.shownCluster(ctx, r, id, true)}, nil
}
