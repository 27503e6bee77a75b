package drill

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"understudy/aws/remote"
	"understudy/cluster"
)

// soundFacts are those of a group that may be broken. It is a Wednesday, 12:00.
func soundFacts() facts {
	return facts{
		kind: targetElastiCache, fault: "failover-api", now: time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC), length: 2 * time.Minute,
		status: cluster.Status{State: cluster.GroupAvailable, Primary: "shop-001", Nodes: []cluster.StatusNode{
			{ID: "shop-001", Role: cluster.RolePrimary, State: cluster.StateReady}, {ID: "shop-002", Role: cluster.RoleReplica, State: cluster.StateReady}}},
		lagFrom: "a test", maxLag: time.Second, budget: 2, amazon: true,
		group:       remote.Group{State: "available", MultiAZ: "enabled", AutomaticFailover: "enabled", Primary: "shop.example:6379", SnapshotWindow: "03:00-04:00", SnapshotRetention: 1},
		maintenance: []string{"sun:05:00-sun:06:00"},
	}
}

func TestEachGuardStandsAgainstWhatItIsThereFor(t *testing.T) {
	if refused := (Plan{Guards: guards(soundFacts())}).Refused(); len(refused) > 0 {
		t.Fatalf("a sound group is refused: %+v", refused)
	}
	for name, c := range map[string]struct {
		guard string
		spoil func(*facts)
	}{
		"the group is being modified":       {"state", func(f *facts) { f.group.State = "modifying" }},
		"no Multi-AZ":                       {"multi-az", func(f *facts) { f.group.MultiAZ = "disabled" }},
		"automatic failover on its way":     {"automatic failover", func(f *facts) { f.group.AutomaticFailover = "enabling" }},
		"cluster mode":                      {"endpoint", func(f *facts) { f.group.Primary = "" }},
		"nobody leads":                      {"primary", func(f *facts) { f.status.Primary = "" }},
		"two lead":                          {"primary", func(f *facts) { f.status.Nodes[1].Role = cluster.RolePrimary }},
		"no replica":                        {"replicas", func(f *facts) { f.status.Nodes = f.status.Nodes[:1] }},
		"a replica that does not follow":    {"whole", func(f *facts) { f.status.Nodes[1].State = cluster.StateSyncing }},
		"a replica that is behind":          {"lag", func(f *facts) { f.lag = 1001 * time.Millisecond }},
		"a lag that nobody knows":           {"lag", func(f *facts) { f.lagFrom = "" }},
		"two drills on record":              {"budget", func(f *facts) { f.used = 2 }},
		"two failovers from elsewhere":      {"budget", func(f *facts) { f.told = 2 }},
		"a record that cannot be read":      {"budget", func(f *facts) { f.budgetErr = errors.New("torn") }},
		"maintenance now":                   {"maintenance window", func(f *facts) { f.maintenance = []string{"wed:11:30-wed:12:30"} }},
		"maintenance of one node":           {"maintenance window", func(f *facts) { f.maintenance = append(f.maintenance, "wed:12:01-wed:13:00") }},
		"no window is told":                 {"maintenance window", func(f *facts) { f.maintenance = nil }},
		"a window that cannot be read":      {"maintenance window", func(f *facts) { f.maintenance = []string{"whenever"} }},
		"a snapshot begins in the drill":    {"snapshot window", func(f *facts) { f.group.SnapshotWindow = "12:01-13:00" }},
		"a switchover that AWS will not do": {"promotion", func(f *facts) { f.fault = "switchover" }},
	} {
		f := soundFacts()
		c.spoil(&f)
		refused := Plan{Guards: guards(f)}.Refused()
		if !slices.ContainsFunc(refused, func(g Guard) bool { return g.Name == c.guard }) {
			t.Errorf("%s: refused by %+v, want %s", name, refused, c.guard)
		}
		if err := (Plan{Guards: guards(f)}).err(); !errors.Is(err, cluster.ErrRefused) || !strings.Contains(err.Error(), c.guard) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWindowsAreCircles(t *testing.T) {
	saturday := time.Date(2026, 11, 28, 23, 50, 0, 0, time.UTC)
	for _, c := range []struct {
		window string
		length time.Duration
		want   bool
	}{
		{"23:00-00:30", 0, true}, {"23:55-00:30", 4 * time.Minute, false}, {"23:55-00:30", 6 * time.Minute, true}, {"00:05-01:00", 20 * time.Minute, true},
		{"22:00-23:50", time.Minute, false}, {"sat:23:00-sun:01:00", 0, true}, {"sun:00:00-sun:01:00", 11 * time.Minute, true},
		{"sun:00:00-sun:01:00", 9 * time.Minute, false}, {"fri:23:00-sat:01:00", 0, false}, {"SAT:23:45-SUN:00:45", 0, true},
	} {
		if got, err := overlaps(c.window, saturday, c.length); got != c.want || err != nil {
			t.Errorf("%s for %v: %v, %v", c.window, c.length, got, err)
		}
	}
	for _, wrong := range []string{"", "-", "03:00", "mon:03:00-04:00", "xyz:03:00-xyz:04:00", "25:00-26:00"} {
		if _, err := overlaps(wrong, saturday, 0); err == nil {
			t.Errorf("window %q is read", wrong)
		}
	}
}

func TestTheBudgetIsCountedOnDiskAndByOneDrillAtATime(t *testing.T) {
	b := budget{path: filepath.Join(t.TempDir(), "state", "budget.json"), group: "elasticache shop us-east-1"}
	now := time.Now()
	if err := b.take(now.Add(-25*time.Hour), 2); err != nil {
		t.Fatal(err)
	}
	var taken atomic.Int32
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if b.take(now, 2) == nil {
				taken.Add(1)
			}
		})
	}
	all.Wait()
	for taken.Load() < 2 { // those that met another at the lock were refused
		if err := b.take(now, 2); err != nil {
			t.Fatal(err)
		}
		taken.Add(1)
	}
	if err := b.take(now, 2); taken.Load() != 2 || !errors.Is(err, cluster.ErrRefused) {
		t.Errorf("%d were taken of 2, then %v", taken.Load(), err)
	}
	other := budget{path: b.path, group: "elasticache shop eu-west-1"}
	if n, err := other.used(now); n != 0 || err != nil {
		t.Errorf("another region's group: %d, %v", n, err)
	}
	if err := os.WriteFile(b.path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := b.used(now); err == nil {
		t.Error("a torn record is read as empty")
	}
	if err := b.take(now, 2); !errors.Is(err, cluster.ErrRefused) {
		t.Errorf("a torn record: %v", err)
	}
}

func TestTargetsAreTakenApart(t *testing.T) {
	for s, want := range map[string]place{
		"":                             {kind: targetLocal},
		"local":                        {kind: targetLocal},
		"elasticache://shop":           {kind: targetElastiCache, name: "shop"},
		"sentinel://a:1,b:2/mymaster":  {kind: targetSentinel, name: "mymaster", at: []string{"a:1", "b:2"}},
		"redis://127.0.0.1:1,[::1]:22": {kind: targetRedis, name: "127.0.0.1:1", at: []string{"127.0.0.1:1", "[::1]:22"}},
	} {
		p, err := parseTarget(s)
		if err != nil || p.kind != want.kind || p.name != want.name || !slices.Equal(p.at, want.at) {
			t.Errorf("%q: %+v, %v", s, p, err)
		}
	}
	for _, wrong := range []string{"aws", "elasticache://", "elasticache://a/b", "sentinel://a:1", "sentinel://a/b", "redis://", "redis://a:1,a:1", "memcache://a:1"} {
		if _, err := parseTarget(wrong); !errors.Is(err, ErrUsage) {
			t.Errorf("%q: %v", wrong, err)
		}
	}
}

// After a switchover of Sentinel's the former primary goes on saying "master" for ten seconds.
func TestTheNodeThatWasPromotedLastIsThePrimary(t *testing.T) {
	s := newServers("shop", fixed{}, time.Second, nil)
	defer s.close()
	says := func(a, b cluster.Role, followers int) cluster.Status {
		st := cluster.Status{State: cluster.GroupAvailable, Nodes: []cluster.StatusNode{{ID: "a", Role: a, State: cluster.StateReady}, {ID: "b", Role: b, State: cluster.StateReady}}}
		s.settle(&st, []nodeAnswer{{primary: a == cluster.RolePrimary, replicas: followers}, {primary: b == cluster.RolePrimary}})
		return st
	}
	const leads, follows = cluster.RolePrimary, cluster.RoleReplica
	for i, c := range []struct {
		a, b      cluster.Role
		followers int // of a
		primary   cluster.NodeID
		epoch     cluster.Epoch
		state     cluster.GroupState
	}{
		{leads, follows, 1, "a", 1, cluster.GroupAvailable},
		{leads, leads, 1, "b", 2, cluster.GroupFailingOver},
		{leads, leads, 0, "b", 2, cluster.GroupFailingOver},
		{follows, leads, 0, "b", 2, cluster.GroupAvailable},
		{leads, leads, 0, "a", 3, cluster.GroupFailingOver},
		{leads, follows, 1, "a", 3, cluster.GroupAvailable},
		{follows, follows, 0, "", 3, cluster.GroupNoPrimary},
	} {
		if st := says(c.a, c.b, c.followers); st.Primary != c.primary || st.Epoch != c.epoch || st.State != c.state {
			t.Errorf("step %d: %s leads under %d, %s; want %+v", i, st.Primary, st.Epoch, st.State, c)
		}
	}
}
