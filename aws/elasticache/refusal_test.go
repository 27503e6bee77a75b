package elasticache

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/elasticache"
	"github.com/aws/aws-sdk-go-v2/service/elasticache/types"
	"github.com/aws/smithy-go"

	"understudy/aws/wire"
)

// codeOf is an error's name as AWS's shapes or codes have it.
func codeOf(err error) string {
	var own *wire.Error
	var modelled smithy.APIError
	switch {
	case errors.As(err, &own):
		return own.Code
	case errors.As(err, &modelled):
		return strings.TrimPrefix(fmt.Sprintf("%T", modelled), "*types.")
	case err == nil:
		return ""
	}
	return "unmodelled: " + err.Error()
}

// shopped runs f with a group of three that is available.
func shopped(t *testing.T, o Options, f func(t *testing.T, ctx context.Context, w *world, s *Service)) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		s, stop := w.run(t, &process{}, o)
		defer stop()
		if err := createShop(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		atRest(t, s)
		f(t, call(t.Context(), "Test"), w, s)
	})
}

func TestCreateRefusesWhatAWSRefuses(t *testing.T) {
	shopped(t, Options{}, func(t *testing.T, ctx context.Context, _ *world, s *Service) {
		type in = elasticache.CreateReplicationGroupInput
		for name, c := range map[string]struct {
			code string
			with func(*in)
		}{
			"a name that is taken, in capitals": {"ReplicationGroupAlreadyExistsFault", func(i *in) { i.ReplicationGroupId = aws.String("SHOP") }},
			"a name with two hyphens":           {"InvalidParameterValue", func(i *in) { i.ReplicationGroupId = aws.String("a--b") }},
			"a name of 41 letters":              {"InvalidParameterValue", func(i *in) { i.ReplicationGroupId = aws.String(strings.Repeat("a", 41)) }},
			"seven nodes":                       {"InvalidParameterValue", func(i *in) { i.NumCacheClusters = aws.Int32(7) }},
			"failover of one node":              {"InvalidParameterCombination", func(i *in) { i.AutomaticFailoverEnabled = aws.Bool(true) }},
			"Multi-AZ without failover":         {"InvalidParameterCombination", func(i *in) { i.NumCacheClusters, i.MultiAZEnabled = aws.Int32(2), aws.Bool(true) }},
			"Multi-AZ in one zone": {"InvalidParameterCombination", func(i *in) {
				i.AutomaticFailoverEnabled, i.MultiAZEnabled, i.PreferredCacheClusterAZs = aws.Bool(true), aws.Bool(true), []string{"us-east-1a", "us-east-1a"}
			}},
			"a zone that is not there":        {"InvalidParameterValue", func(i *in) { i.PreferredCacheClusterAZs = []string{"eu-west-1a"} }},
			"zones for another number":        {"InvalidParameterCombination", func(i *in) { i.NumCacheClusters, i.PreferredCacheClusterAZs = aws.Int32(2), []string{"us-east-1a"} }},
			"two ways to say how many":        {"InvalidParameterCombination", func(i *in) { i.NumCacheClusters, i.ReplicasPerNodeGroup = aws.Int32(2), aws.Int32(1) }},
			"cluster mode":                    {"InvalidParameterCombination", func(i *in) { i.NumNodeGroups = aws.Int32(2) }},
			"a type that is not there":        {"InvalidParameterValue", func(i *in) { i.CacheNodeType = aws.String("cache.x1.huge") }},
			"another engine":                  {"InvalidParameterValue", func(i *in) { i.Engine = aws.String("memcached") }},
			"a version of no form":            {"InvalidParameterValue", func(i *in) { i.EngineVersion = aws.String("latest") }},
			"parameters that are not there":   {"CacheParameterGroupNotFoundFault", func(i *in) { i.CacheParameterGroupName = aws.String("none") }},
			"parameters of another engine":    {"InvalidParameterCombination", func(i *in) { i.CacheParameterGroupName = aws.String("default.valkey8") }},
			"subnets that are not there":      {"CacheSubnetGroupNotFoundFault", func(i *in) { i.CacheSubnetGroupName = aws.String("none") }},
			"a token in the clear":            {"InvalidParameterCombination", func(i *in) { i.AuthToken = aws.String("0123456789abcdef") }},
			"a short token":                   {"InvalidParameterValue", func(i *in) { i.TransitEncryptionEnabled, i.AuthToken = aws.Bool(true), aws.String("short") }},
			"retention of 36 days":            {"InvalidParameterValue", func(i *in) { i.SnapshotRetentionLimit = aws.Int32(36) }},
			"a snapshot window of no form":    {"InvalidParameterValue", func(i *in) { i.SnapshotWindow = aws.String("noon") }},
			"a maintenance window of none":    {"InvalidParameterValue", func(i *in) { i.PreferredMaintenanceWindow = aws.String("sun:25:00-sun:26:00") }},
			"a primary that is not there":     {"CacheClusterNotFoundFault", func(i *in) { i.PrimaryClusterId = aws.String("lone") }},
			"a snapshot where there are none": {"InvalidParameterCombination", func(i *in) { i.SnapshotName = aws.String("s") }},
			"users":                           {"InvalidParameterCombination", func(i *in) { i.UserGroupIds = []string{"u"} }},
		} {
			i := &in{ReplicationGroupId: aws.String("other"), ReplicationGroupDescription: aws.String("d")}
			c.with(i)
			if _, err := s.createReplicationGroup(ctx, i); codeOf(err) != c.code {
				t.Errorf("%s: %v, want %s", name, err, c.code)
			}
		}
		if len(s.groups.All()) != 1 || len(s.tokens.Names()) != 1 {
			t.Error("a refused request has left something")
		}
	})
}

func TestChangesRefuseWhatAWSRefuses(t *testing.T) {
	shopped(t, Options{Home: "shop"}, func(t *testing.T, ctx context.Context, w *world, s *Service) {
		shop, other := aws.String("shop"), aws.String("other")
		modify := func(f func(*elasticache.ModifyReplicationGroupInput)) func() error {
			return func() error {
				in := &elasticache.ModifyReplicationGroupInput{ReplicationGroupId: shop}
				f(in)
				_, err := s.modifyReplicationGroup(ctx, in)
				return err
			}
		}
		test := func(id *string, node string) func() error {
			return func() error {
				_, err := s.testFailover(ctx, &elasticache.TestFailoverInput{ReplicationGroupId: id, NodeGroupId: &node})
				return err
			}
		}
		for name, c := range map[string]struct {
			code string
			ask  func() error
		}{
			"no change":                  {"InvalidParameterCombination", modify(func(*elasticache.ModifyReplicationGroupInput) {})},
			"failover off, Multi-AZ on":  {"InvalidParameterCombination", modify(func(i *elasticache.ModifyReplicationGroupInput) { i.AutomaticFailoverEnabled = aws.Bool(false) })},
			"a primary of another group": {"CacheClusterNotFoundFault", modify(func(i *elasticache.ModifyReplicationGroupInput) { i.PrimaryClusterId = aws.String("other-001") })},
			"encryption off":             {"InvalidParameterCombination", modify(func(i *elasticache.ModifyReplicationGroupInput) { i.TransitEncryptionEnabled = aws.Bool(false) })},
			"DELETE with a token": {"InvalidParameterCombination", modify(func(i *elasticache.ModifyReplicationGroupInput) {
				i.AuthToken, i.AuthTokenUpdateStrategy = aws.String("0123456789abcdef"), types.AuthTokenUpdateStrategyTypeDelete
			})},
			"a topic that is none":       {"InvalidParameterValue", modify(func(i *elasticache.ModifyReplicationGroupInput) { i.NotificationTopicArn = aws.String("topic") })},
			"a test of an unknown group": {"ReplicationGroupNotFoundFault", test(other, "0001")},
			"a test of an unknown node":  {"NodeGroupNotFoundFault", test(shop, "0002")},
			"more replicas, but fewer": {"InvalidParameterValue", func() error {
				_, err := s.increaseReplicaCount(ctx, &elasticache.IncreaseReplicaCountInput{ReplicationGroupId: shop, NewReplicaCount: aws.Int32(1), ApplyImmediately: aws.Bool(true)})
				return err
			}},
			"six replicas": {"InvalidParameterValue", func() error {
				_, err := s.increaseReplicaCount(ctx, &elasticache.IncreaseReplicaCountInput{ReplicationGroupId: shop, NewReplicaCount: aws.Int32(6), ApplyImmediately: aws.Bool(true)})
				return err
			}},
			"no replica with failover": {"InvalidParameterValue", func() error {
				_, err := s.decreaseReplicaCount(ctx, &elasticache.DecreaseReplicaCountInput{ReplicationGroupId: shop, NewReplicaCount: aws.Int32(0), ApplyImmediately: aws.Bool(true)})
				return err
			}},
			"the primary as a replica": {"InvalidParameterValue", func() error {
				_, err := s.decreaseReplicaCount(ctx, &elasticache.DecreaseReplicaCountInput{ReplicationGroupId: shop, ReplicasToRemove: []string{"shop-001"}, ApplyImmediately: aws.Bool(true)})
				return err
			}},
			"a reboot of an unknown node": {"CacheClusterNotFoundFault", func() error {
				_, err := s.rebootCacheCluster(ctx, &elasticache.RebootCacheClusterInput{CacheClusterId: aws.String("shop-009"), CacheNodeIdsToReboot: []string{"0001"}})
				return err
			}},
			"the group of the flags is deleted": {"InvalidReplicationGroupStateFault", func() error {
				_, err := s.deleteReplicationGroup(ctx, &elasticache.DeleteReplicationGroupInput{ReplicationGroupId: shop})
				return err
			}},
			"the primary is retained": {"InvalidParameterCombination", func() error {
				_, err := s.deleteReplicationGroup(ctx, &elasticache.DeleteReplicationGroupInput{ReplicationGroupId: shop, RetainPrimaryCluster: aws.Bool(true)})
				return err
			}},
			"a default group's parameters": {"InvalidCacheParameterGroupStateFault", func() error {
				_, err := s.modifyCacheParameterGroup(ctx, &elasticache.ModifyCacheParameterGroupInput{CacheParameterGroupName: aws.String("default.redis7"),
					ParameterNameValues: []types.ParameterNameValue{{ParameterName: aws.String("timeout"), ParameterValue: aws.String("1")}}})
				return err
			}},
			"an ARN of four parts": {"InvalidARNFault", func() error {
				_, err := s.listTagsForResource(ctx, &elasticache.ListTagsForResourceInput{ResourceName: aws.String("arn:aws:elasticache:shop")})
				return err
			}},
			"events of a source without its kind": {"InvalidParameterCombination", func() error {
				_, err := s.describeEvents(ctx, &elasticache.DescribeEventsInput{SourceIdentifier: shop})
				return err
			}},
		} {
			if err := c.ask(); codeOf(err) != c.code {
				t.Errorf("%s: %v, want %s", name, err, c.code)
			}
		}
		w.mu.Lock()
		w.groups["shop"].refuse = "no replica has caught up"
		w.mu.Unlock()
		if err := test(shop, "0001")(); codeOf(err) != "TestFailoverNotAvailableFault" || !strings.Contains(err.Error(), "caught up") {
			t.Errorf("a test that nobody would survive: %v", err)
		}
	})
}

func TestTestsOfAFailoverAreCountedADay(t *testing.T) {
	var later atomic.Int64
	now := func() time.Time { return time.Now().Add(time.Duration(later.Load())) }
	shopped(t, Options{TestFailovers: 2, Now: now}, func(t *testing.T, ctx context.Context, _ *world, s *Service) {
		ask := func() string {
			_, err := s.testFailover(ctx, &elasticache.TestFailoverInput{ReplicationGroupId: aws.String("shop"), NodeGroupId: aws.String("0001")})
			return codeOf(err)
		}
		if got := ask(); got != "" {
			t.Fatal(got)
		}
		if got := ask(); got != "InvalidReplicationGroupStateFault" {
			t.Errorf("a second one at once: %q", got)
		}
		atRest(t, s)
		if got := ask(); got != "" {
			t.Error(got)
		}
		atRest(t, s)
		if got := ask(); got != "APICallRateForCustomerExceededFault" {
			t.Errorf("the third within a day: %q", got)
		}
		later.Store(int64(testDay + time.Minute))
		if got := ask(); got != "" {
			t.Errorf("a day later: %q", got)
		}
		atRest(t, s)
	})
}

// A group whose type changes waits for its maintenance window, unless the client says at once.
func TestAnotherTypeWaitsForTheWindow(t *testing.T) {
	shopped(t, Options{}, func(t *testing.T, ctx context.Context, w *world, s *Service) {
		in := &elasticache.ModifyReplicationGroupInput{ReplicationGroupId: aws.String("shop"), CacheNodeType: aws.String("cache.m5.large"), PreferredMaintenanceWindow: aws.String("sat:01:00-sat:02:00")} // a bubble begins on a Saturday at 00:00
		if _, err := s.modifyReplicationGroup(ctx, in); err != nil {
			t.Fatal(err)
		}
		atRest(t, s)
		r, _ := s.groups.Get("shop")
		c := s.shownCluster(ctx, r, "shop-001", true)
		if *c.CacheNodeType != defaultNodeType || aws.ToString(c.PendingModifiedValues.CacheNodeType) != "cache.m5.large" {
			t.Errorf("%s, pending %v", *c.CacheNodeType, c.PendingModifiedValues)
		}
		time.Sleep(time.Hour + time.Minute)
		atRest(t, s)
		r, _ = s.groups.Get("shop")
		if r.NodeType != "cache.m5.large" || w.groups["shop"].spec.Directives["maxmemory"] != fmt.Sprint(6854542746/100*75) {
			t.Errorf("in the window: %+v", r)
		}
	})
}

func TestReplicasGoSuchThatTwoZonesStay(t *testing.T) {
	shopped(t, Options{Zones: []string{"a", "b"}}, func(t *testing.T, ctx context.Context, w *world, s *Service) {
		// shop-001 and shop-003 are in a, shop-002 in b.
		_, err := s.decreaseReplicaCount(ctx, &elasticache.DecreaseReplicaCountInput{ReplicationGroupId: aws.String("shop"), NewReplicaCount: aws.Int32(1), ApplyImmediately: aws.Bool(true)})
		if err != nil {
			t.Fatal(err)
		}
		atRest(t, s)
		if r, _ := s.groups.Get("shop"); fmt.Sprint(r.names()) != "[shop-001 shop-002]" {
			t.Errorf("%v are left", r.names())
		}
	})
}

func TestParametersAreThoseThatRedisTakes(t *testing.T) {
	for name, p := range parameters {
		if p.words && !p.allows(p.value) || p.allowed != "" && !p.allows(p.value) {
			t.Errorf("%s does not allow its own default %q", name, p.value)
		}
	}
	for given, want := range map[string]string{"Ex": "xE", "KEA": "AKE", "g$lshzxetdK": "AK", "": ""} {
		if got := canonical(given); got != want {
			t.Errorf("%q is %q, want %q", given, got, want)
		}
	}
	if parameters["timeout"].allows("-1") || parameters["timeout"].allows("x") || !parameters["slowlog-log-slower-than"].allows("-1") {
		t.Error("bounds")
	}
	for name := range maps.Keys(parameters) {
		if strings.ToLower(name) != name {
			t.Errorf("%s", name)
		}
	}
}
