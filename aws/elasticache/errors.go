package elasticache

import (
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/elasticache/types"

	"understudy/aws/wire"
)

func invalid(format string, args ...any) error {
	return wire.Refuse("InvalidParameterValue", format, args...)
}

func combination(format string, args ...any) error {
	return wire.Refuse("InvalidParameterCombination", format, args...)
}

func noGroup(id string) error {
	return &types.ReplicationGroupNotFoundFault{Message: aws.String("ReplicationGroup " + id + " not found.")}
}

func noCluster(id string) error {
	return &types.CacheClusterNotFoundFault{Message: aws.String("CacheCluster " + id + " not found.")}
}

// available refuses what only a group at rest can do.
func available(r record) error {
	if r.State == stateAvailable && r.Task == nil {
		return nil
	}
	return &types.InvalidReplicationGroupStateFault{Message: aws.String("Replication group " + r.ID + " is not in available state, it is " + r.State + ".")}
}

// unserved refuses parameters that ask for what is not here.
func unserved(given map[string]bool) error {
	for _, name := range []string{"GlobalReplicationGroupId", "LogDeliveryConfigurations", "UserGroupIds", "UserGroupIdsToAdd", "UserGroupIdsToRemove", "RemoveUserGroups", "SnapshotArns", "ServerlessCacheSnapshotName", "DataTieringEnabled", "ClusterMode", "CacheSecurityGroupNames", "Durability", "NetworkType", "IpDiscovery", "PrimaryClusterId", "SnapshotName", "TransitEncryption"} {
		if given[name] {
			return combination("%s: this front does not serve what it asks for; see docs/aws.md", name)
		}
	}
	return nil
}
