package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/elasticache"
	"github.com/aws/aws-sdk-go-v2/service/elasticache/types"
	"github.com/redis/go-redis/v9"
)

// awsClient is AWS's own client against a group's HTTP address.
func awsClient(g *Group) *elasticache.Client {
	return elasticache.New(elasticache.Options{
		BaseEndpoint: aws.String("http://" + g.HTTP), Region: "us-east-1", Credentials: credentials.NewStaticCredentialsProvider("any", "any", ""),
	})
}

// operator does by the SDK what an operator of ElastiCache does with one replication group.
type operator struct {
	*elasticache.Client
	t  *testing.T
	id string
}

func (o operator) show() types.ReplicationGroup {
	o.t.Helper()
	out, err := o.DescribeReplicationGroups(o.t.Context(), &elasticache.DescribeReplicationGroupsInput{ReplicationGroupId: &o.id})
	if err != nil {
		o.t.Fatal(err)
	}
	return out.ReplicationGroups[0]
}

// available waits as the SDK does, but looks more often.
func (o operator) available() types.ReplicationGroup {
	o.t.Helper()
	w := elasticache.NewReplicationGroupAvailableWaiter(o.Client, func(w *elasticache.ReplicationGroupAvailableWaiterOptions) {
		w.MinDelay, w.MaxDelay = 20*time.Millisecond, 20*time.Millisecond
	})
	if err := w.Wait(o.t.Context(), &elasticache.DescribeReplicationGroupsInput{ReplicationGroupId: &o.id}, patience); err != nil {
		o.t.Fatalf("%v: %+v", err, o.show())
	}
	return o.show()
}

// gone waits until there is no such group.
func (o operator) gone() {
	o.t.Helper()
	w := elasticache.NewReplicationGroupDeletedWaiter(o.Client, func(w *elasticache.ReplicationGroupDeletedWaiterOptions) {
		w.MinDelay, w.MaxDelay = 20*time.Millisecond, 20*time.Millisecond
	})
	if err := w.Wait(o.t.Context(), &elasticache.DescribeReplicationGroupsInput{ReplicationGroupId: &o.id}, patience); err != nil {
		o.t.Fatal(err)
	}
}

// create makes a group of three with encryption and a token.
func (o operator) create(token string) types.ReplicationGroup {
	o.t.Helper()
	if _, err := o.CreateReplicationGroup(o.t.Context(), &elasticache.CreateReplicationGroupInput{
		ReplicationGroupId: &o.id, ReplicationGroupDescription: aws.String("the shop's"), NumCacheClusters: aws.Int32(3), AutomaticFailoverEnabled: aws.Bool(true),
		MultiAZEnabled: aws.Bool(true), CacheNodeType: aws.String("cache.t4g.micro"), TransitEncryptionEnabled: aws.Bool(token != ""), AuthToken: emptyIsNil(token),
	}); err != nil {
		o.t.Fatal(err)
	}
	return o.available()
}

func emptyIsNil(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// did carries out an operation and waits until the group is at rest again.
func (o operator) did(what string, err error) types.ReplicationGroup {
	o.t.Helper()
	if err != nil {
		o.t.Fatalf("%s: %v", what, err)
	}
	begin := time.Now()
	r := o.available()
	o.t.Logf("%s: %v", what, time.Since(begin).Round(time.Millisecond))
	return r
}

// primary is the node that leads.
func primaryOf(r types.ReplicationGroup) string {
	for _, m := range r.NodeGroups[0].NodeGroupMembers {
		if aws.ToString(m.CurrentRole) == "primary" {
			return *m.CacheClusterId
		}
	}
	return ""
}

func addrOf(e *types.Endpoint) string { return net.JoinHostPort(*e.Address, fmt.Sprint(*e.Port)) }

// secure is a client of an endpoint with encryption in transit.
func secure(t *testing.T, data, addr, token string) *redis.Client {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(data, "tls", "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(text)
	c := redis.NewClient(&redis.Options{Addr: addr, Password: token, TLSConfig: &tls.Config{RootCAs: pool}, MaxRetries: -1, ReadTimeout: patience})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// count writes over one client, which does not try again, until the returned func is called: that demands that no
// write had an error and that the last hundred are there.
func count(t *testing.T, c *redis.Client) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var acked int64
	var failed error
	wg.Go(func() {
		for ; ctx.Err() == nil && failed == nil; acked++ {
			if err := c.Set(t.Context(), fmt.Sprintf("k%d", acked%100), acked, 0).Err(); err != nil {
				failed = fmt.Errorf("write %d: %w", acked, err)
			}
		}
	})
	return sync.OnceFunc(func() {
		cancel()
		wg.Wait()
		if failed != nil {
			t.Error(failed)
			return
		}
		for i := max(0, acked-100); i < acked; i++ {
			if got, err := c.Get(context.WithoutCancel(t.Context()), fmt.Sprintf("k%d", i%100)).Int64(); err != nil || got != i {
				t.Errorf("k%d is %d, want %d: %v", i%100, got, i, err)
			}
		}
		t.Logf("%d writes", acked)
	})
}

func TestAnOperatorOfElastiCacheRunsAGroupUnderLoad(t *testing.T) {
	g := StartGroup(t, "--nodes", "1")
	ctx := t.Context()
	const token = "a-token-of-enough-letters"
	o := operator{awsClient(g), t, "shop"}
	begin := time.Now()
	r := o.create(token)
	t.Logf("created in %v", time.Since(begin).Round(time.Millisecond))
	at := addrOf(r.NodeGroups[0].PrimaryEndpoint)
	if err := secure(t, g.Data, at, "").Ping(ctx).Err(); err == nil || !strings.Contains(err.Error(), "NOAUTH") {
		t.Errorf("without the token: %v", err)
	}
	stop := count(t, secure(t, g.Data, at, token))
	defer stop()

	_, err := o.TestFailover(ctx, &elasticache.TestFailoverInput{ReplicationGroupId: &o.id, NodeGroupId: aws.String("0001")})
	o.did("test-failover", err)
	o.fiveEvents()
	_, err = o.IncreaseReplicaCount(ctx, &elasticache.IncreaseReplicaCountInput{ReplicationGroupId: &o.id, NewReplicaCount: aws.Int32(3), ApplyImmediately: aws.Bool(true)})
	if r = o.did("increase-replica-count", err); len(r.MemberClusters) != 4 {
		t.Errorf("members %v", r.MemberClusters)
	}
	_, err = o.DecreaseReplicaCount(ctx, &elasticache.DecreaseReplicaCountInput{ReplicationGroupId: &o.id, NewReplicaCount: aws.Int32(1), ApplyImmediately: aws.Bool(true)})
	if r = o.did("decrease-replica-count", err); len(r.MemberClusters) != 2 {
		t.Errorf("members %v", r.MemberClusters)
	}
	was := primaryOf(r)
	next := r.MemberClusters[0]
	if next == was {
		next = r.MemberClusters[1]
	}
	_, err = o.ModifyReplicationGroup(ctx, &elasticache.ModifyReplicationGroupInput{ReplicationGroupId: &o.id, PrimaryClusterId: &next, ApplyImmediately: aws.Bool(true)})
	if r = o.did("modify --primary-cluster-id", err); primaryOf(r) != next {
		t.Errorf("%s leads, want %s", primaryOf(r), next)
	}
	_, err = o.RebootCacheCluster(ctx, &elasticache.RebootCacheClusterInput{CacheClusterId: &next, CacheNodeIdsToReboot: []string{"0001"}})
	if r = o.did("reboot of the primary", err); primaryOf(r) != was {
		t.Errorf("%s leads, want %s: the primary hands over before it is rebooted", primaryOf(r), was)
	}
	o.parameters(secure(t, g.Data, at, token))
	o.tokens(g, at, token)
	stop()
	if _, err := o.DeleteReplicationGroup(ctx, &elasticache.DeleteReplicationGroupInput{ReplicationGroupId: &o.id}); err != nil {
		t.Fatal(err)
	}
	o.gone()
	if _, err := net.Dial("tcp", at); err == nil {
		t.Errorf("%s still listens", at)
	}
}

// fiveEvents demands those of a test of a failover, in AWS's order.
func (o operator) fiveEvents() {
	o.t.Helper()
	out, err := o.DescribeEvents(o.t.Context(), &elasticache.DescribeEventsInput{})
	if err != nil {
		o.t.Fatal(err)
	}
	var got []string
	for _, e := range out.Events {
		if m := *e.Message; len(got) > 0 || strings.HasPrefix(m, "Test Failover") {
			got = append(got, string(e.SourceType)+" "+*e.SourceIdentifier+" "+m)
		}
	}
	var to string
	if len(got) > 1 {
		_, to, _ = strings.Cut(got[1], "to replica node ")
		to, _, _ = strings.Cut(to, " ")
	}
	want := []string{
		"replication-group shop Test Failover API called for node group 0001",
		"cache-cluster shop-001 Failover from primary node shop-001 to replica node " + to + " completed",
		"replication-group shop Failover from primary node shop-001 to replica node " + to + " completed",
		"cache-cluster shop-001 Recovering cache nodes 0001",
		"cache-cluster shop-001 Finished recovery for cache nodes 0001",
	}
	if !slices.Equal(got, want) || to == "" {
		o.t.Errorf("events %q", got)
	}
}

// parameters has all nodes go by a parameter group and another type.
func (o operator) parameters(c *redis.Client) {
	o.t.Helper()
	ctx := o.t.Context()
	name := aws.String("tuned")
	if _, err := o.CreateCacheParameterGroup(ctx, &elasticache.CreateCacheParameterGroupInput{CacheParameterGroupName: name, CacheParameterGroupFamily: aws.String("redis7"), Description: aws.String("d")}); err != nil {
		o.t.Fatal(err)
	}
	if _, err := o.ModifyCacheParameterGroup(ctx, &elasticache.ModifyCacheParameterGroupInput{CacheParameterGroupName: name, ParameterNameValues: []types.ParameterNameValue{
		{ParameterName: aws.String("maxmemory-policy"), ParameterValue: aws.String("allkeys-lfu")}, {ParameterName: aws.String("reserved-memory-percent"), ParameterValue: aws.String("50")},
	}}); err != nil {
		o.t.Fatal(err)
	}
	_, err := o.ModifyReplicationGroup(ctx, &elasticache.ModifyReplicationGroupInput{ReplicationGroupId: &o.id, CacheParameterGroupName: name, CacheNodeType: aws.String("cache.t4g.small"), ApplyImmediately: aws.Bool(true)})
	o.did("modify --cache-parameter-group-name --cache-node-type", err)
	// A node that comes later goes by them too.
	_, err = o.IncreaseReplicaCount(ctx, &elasticache.IncreaseReplicaCountInput{ReplicationGroupId: &o.id, NewReplicaCount: aws.Int32(2), ApplyImmediately: aws.Bool(true)})
	r := o.did("increase-replica-count", err)
	for _, m := range r.NodeGroups[0].NodeGroupMembers {
		node := redis.NewClient(&redis.Options{Addr: addrOf(m.ReadEndpoint)})
		for name, want := range map[string]string{"maxmemory-policy": "allkeys-lfu", "maxmemory": fmt.Sprint(1471026299 / 100 * 50)} {
			if got := node.ConfigGet(ctx, name).Val()[name]; got != want {
				o.t.Errorf("%s of %s is %s, want %s", name, *m.CacheClusterId, got, want)
			}
		}
		_ = node.Close()
	}
	if *r.CacheNodeType != "cache.t4g.small" {
		o.t.Errorf("the type is %s", *r.CacheNodeType)
	}
}

// tokens changes the token while clients are connected.
func (o operator) tokens(g *Group, at, token string) {
	o.t.Helper()
	next := token + "-2"
	for _, c := range []struct {
		how  types.AuthTokenUpdateStrategyType
		good map[string]bool
	}{
		{types.AuthTokenUpdateStrategyTypeRotate, map[string]bool{token: true, next: true}},
		{types.AuthTokenUpdateStrategyTypeSet, map[string]bool{token: false, next: true, "": false}},
		{types.AuthTokenUpdateStrategyTypeDelete, map[string]bool{"": true}},
		{types.AuthTokenUpdateStrategyTypeRotate, map[string]bool{"": true, next: true}},
		{types.AuthTokenUpdateStrategyTypeSet, map[string]bool{"": false, next: true}},
	} {
		in := &elasticache.ModifyReplicationGroupInput{ReplicationGroupId: &o.id, AuthTokenUpdateStrategy: c.how, ApplyImmediately: aws.Bool(true)}
		if c.how != types.AuthTokenUpdateStrategyTypeDelete {
			in.AuthToken = &next
		}
		_, err := o.ModifyReplicationGroup(o.t.Context(), in)
		o.did("modify --auth-token-update-strategy "+string(c.how), err)
		for password, good := range c.good {
			if err := secure(o.t, g.Data, at, password).Ping(o.t.Context()).Err(); (err == nil) != good {
				o.t.Errorf("after %s, %q: %v", c.how, password, err)
			}
		}
	}
}

// What an operator asked for just before the process was killed is there, or is gone, after the next start.
func TestOperationsOfElastiCacheSurviveAKill(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	kill := func(g *Group) {
		if err := syscall.Kill(g.PID, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		<-g.up.ended
	}
	g := StartGroupOn(t, data, "--nodes", "1")
	o := operator{awsClient(g), t, "shop"}
	if _, err := o.CreateReplicationGroup(t.Context(), &elasticache.CreateReplicationGroupInput{
		ReplicationGroupId: &o.id, ReplicationGroupDescription: aws.String("d"), NumCacheClusters: aws.Int32(2), AutomaticFailoverEnabled: aws.Bool(true),
	}); err != nil {
		t.Fatal(err)
	}
	told := newSubscriber(t)
	message := publishTo(t, g, told)
	kill(g) // between publishing and delivery
	close(told.answer)
	g = StartGroupOn(t, data, "--nodes", "1")
	if id := told.came(t); id != message {
		t.Errorf("%s came after the kill, not %s", id, message)
	}
	o.Client = awsClient(g)
	r := o.available()
	at := addrOf(r.NodeGroups[0].PrimaryEndpoint)
	c := redis.NewClient(&redis.Options{Addr: at, ReadTimeout: patience})
	defer c.Close()
	if err := c.Set(t.Context(), "a", "b", 0).Err(); err != nil || len(r.MemberClusters) != 2 {
		t.Errorf("%v: %v", r.MemberClusters, err)
	}
	if _, err := o.IncreaseReplicaCount(t.Context(), &elasticache.IncreaseReplicaCountInput{ReplicationGroupId: &o.id, NewReplicaCount: aws.Int32(2), ApplyImmediately: aws.Bool(true)}); err != nil {
		t.Fatal(err)
	}
	kill(g)
	g = StartGroupOn(t, data, "--nodes", "1")
	o.Client = awsClient(g)
	if r = o.available(); len(r.MemberClusters) != 3 || addrOf(r.NodeGroups[0].PrimaryEndpoint) != at {
		t.Errorf("%v at %s, was at %s", r.MemberClusters, addrOf(r.NodeGroups[0].PrimaryEndpoint), at)
	}
	if got := c.Get(t.Context(), "a").Val(); got != "b" {
		t.Errorf("a is %q", got)
	}
	out, err := o.DeleteReplicationGroup(t.Context(), &elasticache.DeleteReplicationGroupInput{ReplicationGroupId: &o.id})
	if err != nil || *out.ReplicationGroup.Status != "deleting" {
		t.Fatal(err)
	}
	kill(g)
	g = StartGroupOn(t, data, "--nodes", "1")
	o.Client = awsClient(g)
	o.gone()
	if left, err := filepath.Glob(filepath.Join(data, "nodes", "shop-*")); err != nil || len(left) > 0 {
		t.Errorf("left: %v %v", left, err)
	}
	var none *types.ReplicationGroupNotFoundFault
	if _, err := o.DeleteReplicationGroup(t.Context(), &elasticache.DeleteReplicationGroupInput{ReplicationGroupId: &o.id}); !errors.As(err, &none) {
		t.Errorf("deleting it again: %v", err)
	}
}
