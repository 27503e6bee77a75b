package elasticache

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/elasticache"
	"github.com/aws/aws-sdk-go-v2/service/elasticache/types"

	"understudy/cluster"
)

func createShop(ctx context.Context, s *Service) error {
	_, err := s.createReplicationGroup(call(ctx, "CreateReplicationGroup"), &elasticache.CreateReplicationGroupInput{
		ReplicationGroupId: aws.String("shop"), ReplicationGroupDescription: aws.String("d"), NumCacheClusters: aws.Int32(3),
		AutomaticFailoverEnabled: aws.Bool(true), MultiAZEnabled: aws.Bool(true), TransitEncryptionEnabled: aws.Bool(true), AuthToken: aws.String("0123456789abcdef"),
		CacheNodeType: aws.String("cache.t4g.micro"),
	})
	return err
}

// A crash at any step of an operation leaves, after the next start, a group that is there whole or not at all,
// and a record that says the same.
func TestACrashAtAnyStepLeavesNothingHalf(t *testing.T) {
	for name, operation := range map[string]func(context.Context, *Service) error{
		"create": createShop,
		"delete": func(ctx context.Context, s *Service) error {
			_, err := s.deleteReplicationGroup(call(ctx, "DeleteReplicationGroup"), &elasticache.DeleteReplicationGroupInput{ReplicationGroupId: aws.String("shop")})
			return err
		},
		"grow": func(ctx context.Context, s *Service) error {
			_, err := s.increaseReplicaCount(call(ctx, "IncreaseReplicaCount"), &elasticache.IncreaseReplicaCountInput{ReplicationGroupId: aws.String("shop"), NewReplicaCount: aws.Int32(4), ApplyImmediately: aws.Bool(true)})
			return err
		},
		"shrink": func(ctx context.Context, s *Service) error {
			_, err := s.decreaseReplicaCount(call(ctx, "DecreaseReplicaCount"), &elasticache.DecreaseReplicaCountInput{ReplicationGroupId: aws.String("shop"), NewReplicaCount: aws.Int32(1), ApplyImmediately: aws.Bool(true)})
			return err
		},
		"modify": func(ctx context.Context, s *Service) error {
			_, err := s.modifyReplicationGroup(call(ctx, "ModifyReplicationGroup"), &elasticache.ModifyReplicationGroupInput{
				ReplicationGroupId: aws.String("shop"), ApplyImmediately: aws.Bool(true), PrimaryClusterId: aws.String("shop-002"), CacheNodeType: aws.String("cache.m5.large"),
				AuthToken: aws.String("fedcba9876543210"), AuthTokenUpdateStrategy: types.AuthTokenUpdateStrategyTypeSet,
				AutomaticFailoverEnabled: aws.Bool(false), MultiAZEnabled: aws.Bool(false),
			})
			return err
		},
		"test-failover": func(ctx context.Context, s *Service) error {
			_, err := s.testFailover(call(ctx, "TestFailover"), &elasticache.TestFailoverInput{ReplicationGroupId: aws.String("shop"), NodeGroupId: aws.String("0001")})
			return err
		},
		"reboot": func(ctx context.Context, s *Service) error {
			_, err := s.rebootCacheCluster(call(ctx, "RebootCacheCluster"), &elasticache.RebootCacheClusterInput{CacheClusterId: aws.String("shop-001"), CacheNodeIdsToReboot: []string{"0001"}})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			for step := 1; ; step++ {
				died := true
				for _, after := range []bool{false, true} {
					synctest.Test(t, func(t *testing.T) { died = crashAt(t, operation, name != "create", step, after) && died })
				}
				if !died {
					if step < 4 {
						t.Errorf("the operation took %d steps: it cannot have written its intent, done, and written that", step)
					}
					return
				}
			}
		})
	}
}

// crashAt carries out an operation in a process that dies at a step, starts another one, and judges what is there
// then. died: it had so many steps.
func crashAt(t *testing.T, operation func(context.Context, *Service) error, exists bool, step int, after bool) (died bool) {
	w := newWorld()
	if exists {
		s, stop := w.run(t, &process{}, Options{})
		if err := createShop(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		atRest(t, s)
		stop()
	}
	p := &process{}
	s, stop := w.run(t, p, Options{})
	synctest.Wait()
	p.mu.Lock()
	p.die, p.after = p.step+step, after
	p.mu.Unlock()
	_ = operation(t.Context(), s) // whoever asked may never learn
	time.Sleep(time.Minute)
	p.mu.Lock()
	died = p.dead
	p.mu.Unlock()
	stop()
	s, stop = w.run(t, &process{}, Options{})
	defer stop()
	atRest(t, s)
	if why := w.half(s); why != "" {
		t.Errorf("after a crash at step %d (done: %v): %s", step, after, why)
	}
	return died
}

// atRest waits until nothing is under way.
func atRest(t *testing.T, s *Service) {
	t.Helper()
	synctest.Wait()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	if err := s.until(ctx, func() bool {
		return !slices.ContainsFunc(s.groups.All(), func(r record) bool { return r.Task != nil || len(r.Recovering) > 0 })
	}); err != nil {
		t.Errorf("it is not at rest: %+v", s.groups.All())
	}
	synctest.Wait()
}

// half says in what records and groups differ.
func (w *world) half(s *Service) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	r, known := s.groups.Get("shop")
	g := w.groups["shop"]
	tokens, kept := s.tokens.Get("shop")
	switch {
	case known != (g != nil):
		return fmt.Sprintf("there is a record: %v; a group: %v", known, g != nil)
	case kept != known:
		return fmt.Sprintf("there is a record: %v; tokens: %v", known, kept)
	case !known:
		return ""
	case r.State != stateAvailable:
		return "it is " + r.State
	case !slices.Equal(g.door.Tokens, tokens.Tokens) || len(tokens.Tokens) != 1 || !g.door.TLS:
		return fmt.Sprintf("endpoints take %v, the record has %v", g.door, tokens)
	case g.spec.Manual == r.Automatic:
		return "automatic failover is not what the record says"
	case g.spec.Directives["maxmemory"] != s.directives(r)["maxmemory"]:
		return fmt.Sprintf("maxmemory %s, want %s", g.spec.Directives["maxmemory"], s.directives(r)["maxmemory"])
	}
	var nodes []cluster.NodeID
	for _, n := range g.spec.Nodes {
		nodes = append(nodes, n.ID)
	}
	slices.Sort(nodes)
	if !slices.Equal(nodes, r.names()) {
		return fmt.Sprintf("nodes %v, the record has %v", nodes, r.names())
	}
	return w.untold(s, g)
}

// untold says which events of a change of primary are missing.
func (w *world) untold(s *Service, g *stand) string {
	if g.last == nil || g.last.Kind != cluster.KindFailover {
		return ""
	}
	var got []string
	for _, v := range s.events.list() {
		got = append(got, v.Message)
	}
	for _, want := range []string{"Test Failover API called", "Failover from primary node shop-001", "Recovering cache nodes", "Finished recovery"} {
		if !slices.ContainsFunc(got, func(m string) bool { return strings.HasPrefix(m, want) }) {
			return fmt.Sprintf("no event %q in %q", want, got)
		}
	}
	return ""
}
