package elasticache

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/elasticache"
	"github.com/aws/aws-sdk-go-v2/service/elasticache/types"

	"understudy/aws/wire"
	"understudy/backup"
	"understudy/cluster"
)

// film is a source of snapshots; gate holds them up.
type film struct {
	gate chan struct{}
	fail error
	now  func() time.Time
}

func (film) DataSize(context.Context, string) (int64, error) { return 1, nil }

func (f film) Dump(ctx context.Context, group, to string) (backup.Dumped, error) {
	if f.gate != nil {
		select {
		case <-f.gate:
		case <-ctx.Done():
			return backup.Dumped{}, ctx.Err()
		}
	}
	if f.fail != nil {
		return backup.Dumped{}, f.fail
	}
	return backup.Dumped{Spec: cluster.Spec{Name: group, Nodes: []cluster.NodePlace{{ID: "main-001", Zone: "a"}, {ID: "main-002", Zone: "b"}}}, Node: "main-002", Zone: "b",
		Role: cluster.RoleReplica, At: f.now().UTC(), Engine: "redis", Version: "7.0.15"}, os.WriteFile(to, []byte("RDB"), 0o600)
}

// cutter is a service with snapshots, whose clock is the test's.
type cutter struct {
	*Service
	t      *testing.T
	ctx    context.Context
	now    time.Time
	source *film
	seeded string
}

func newCutter(t *testing.T) *cutter {
	t.Helper()
	c := &cutter{t: t, now: time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)}
	clock := func() time.Time { return c.now }
	c.source = &film{now: clock}
	archive, err := backup.Open(backup.Options{Dir: t.TempDir(), Now: clock, Check: func(context.Context, string) (backup.Contents, error) {
		return backup.Contents{Keys: 2, Expires: 1}, nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld()
	w.groups["main"] = &stand{spec: cluster.Spec{Name: "main", Nodes: []cluster.NodePlace{{ID: "main-001", Zone: "a"}, {ID: "main-002", Zone: "b"}}}, primary: "main-001", epoch: 1}
	p := &process{world: w}
	c.Service, err = New(t.Context(), Options{
		Groups: p, Store: p, Zones: []string{"a", "b"}, Engine: Engine{"redis", "7.0.15"}, Now: clock,
		Backups: &Backups{Archive: archive, Source: c.source, Contents: func(context.Context, string) (backup.Contents, error) { return backup.Contents{Keys: 1}, nil },
			Seed: func(node cluster.NodeID, put func(string) error) error {
				c.seeded = string(node)
				return put(t.TempDir() + "/base.rdb")
			}},
	})
	if err != nil {
		t.Fatal(err)
	}
	c.ctx = wire.WithCall(t.Context(), wire.Call{Service: "elasticache", Operation: "DescribeSnapshots", Region: "us-east-1", Account: "000000000000"})
	c.Service.ctx = t.Context()
	if err := c.adopt(c.ctx); err != nil {
		t.Fatal(err)
	}
	return c
}

// list are the snapshots that a filter finds: "NAME status …".
func (c *cutter) list(in elasticache.DescribeSnapshotsInput) string {
	c.t.Helper()
	out, err := c.describeSnapshots(c.ctx, &in)
	if err != nil {
		return code(err)
	}
	var all []string
	for _, s := range out.Snapshots {
		all = append(all, *s.SnapshotName+" "+*s.SnapshotStatus)
	}
	return strings.Join(all, ", ")
}

// code is the one that an error has on the wire, or its whole text.
func code(err error) string {
	if err == nil {
		return ""
	}
	code, _, _ := strings.Cut(err.Error(), ": ")
	return code
}

func (c *cutter) set(f func(*record)) {
	c.t.Helper()
	if _, err := c.change(c.ctx, "main", func(r *record) error { f(r); return nil }); err != nil {
		c.t.Fatal(err)
	}
}

func TestASnapshotIsCreatingUntilItIsWhole(t *testing.T) {
	c := newCutter(t)
	c.source.gate = make(chan struct{})
	out, err := c.createSnapshot(c.ctx, &elasticache.CreateSnapshotInput{SnapshotName: aws.String("First"), ReplicationGroupId: aws.String("main"), Tags: []types.Tag{{Key: aws.String("a"), Value: aws.String("b")}}})
	if err != nil || *out.Snapshot.SnapshotStatus != "creating" || out.Snapshot.NodeSnapshots != nil {
		t.Fatalf("%+v, %v", out, err)
	}
	r, _ := c.groups.Get("main")
	if got := c.state(r, c.live("main")); got != stateSnapshotting {
		t.Errorf("the group is %s", got)
	}
	for want, in := range map[string]elasticache.CreateSnapshotInput{
		"InvalidReplicationGroupState":  {SnapshotName: aws.String("other"), CacheClusterId: aws.String("main-001")},
		"InvalidParameterValue":         {SnapshotName: aws.String("x-"), ReplicationGroupId: aws.String("main")},
		"InvalidParameterCombination":   {SnapshotName: aws.String("x"), ReplicationGroupId: aws.String("main"), CacheClusterId: aws.String("main-001")},
		"ReplicationGroupNotFoundFault": {SnapshotName: aws.String("x"), ReplicationGroupId: aws.String("none")},
		"CacheClusterNotFound":          {SnapshotName: aws.String("x"), CacheClusterId: aws.String("main-009")},
	} {
		if _, err := c.createSnapshot(c.ctx, &in); code(err) != want {
			t.Errorf("%s: %v", want, err)
		}
	}
	if _, err := c.deleteSnapshot(c.ctx, &elasticache.DeleteSnapshotInput{SnapshotName: aws.String("first")}); code(err) != "InvalidSnapshotState" {
		t.Errorf("deleted while it is taken: %v", err)
	}
	if err := c.opts.Snapshots.Check(c.ctx, "first"); code(err) != "InvalidSnapshotState" {
		t.Errorf("a group of half a snapshot: %v", err)
	}
	close(c.source.gate)
	c.work.Wait()
	got, err := c.describeSnapshots(c.ctx, &elasticache.DescribeSnapshotsInput{SnapshotName: aws.String("FIRST"), ShowNodeGroupConfig: aws.Bool(true)})
	if err != nil || len(got.Snapshots) != 1 {
		t.Fatalf("%+v, %v", got, err)
	}
	s := got.Snapshots[0]
	if n := s.NodeSnapshots[0]; *s.SnapshotStatus != "available" || *s.CacheClusterId != "main-002" || *s.SnapshotSource != "manual" || *s.Port != 6379 ||
		*n.NodeGroupConfiguration.ReplicaCount != 1 || n.NodeGroupConfiguration.ReplicaAvailabilityZones[0] != "b" {
		t.Errorf("%+v", s)
	}
	tags, err := c.addTagsToResource(c.ctx, &elasticache.AddTagsToResourceInput{ResourceName: s.ARN, Tags: []types.Tag{{Key: aws.String("c"), Value: aws.String("d")}}})
	if err != nil || len(tags.TagList) != 2 {
		t.Errorf("%+v, %v", tags, err)
	}
	events, err := c.describeEvents(c.ctx, &elasticache.DescribeEventsInput{})
	if err != nil || len(events.Events) != 1 || !strings.HasPrefix(*events.Events[0].Message, "Snapshot succeeded") {
		t.Errorf("%+v, %v", events, err)
	}
	c.source.fail = errors.New("no")
	if _, err := c.createSnapshot(c.ctx, &elasticache.CreateSnapshotInput{SnapshotName: aws.String("bad"), ReplicationGroupId: aws.String("main")}); err != nil {
		t.Fatal(err)
	}
	c.work.Wait()
	if got := c.list(elasticache.DescribeSnapshotsInput{}); got != "bad failed, first available" {
		t.Error(got)
	}
}

func TestSnapshotsAreCopiedFoundAndMadeGroupsOf(t *testing.T) {
	c := newCutter(t)
	if _, err := c.createSnapshot(c.ctx, &elasticache.CreateSnapshotInput{SnapshotName: aws.String("one"), CacheClusterId: aws.String("main-001")}); err != nil {
		t.Fatal(err)
	}
	c.work.Wait()
	for want, in := range map[string]elasticache.CopySnapshotInput{
		"SnapshotNotFoundFault":       {SourceSnapshotName: aws.String("none"), TargetSnapshotName: aws.String("two")},
		"SnapshotAlreadyExistsFault":  {SourceSnapshotName: aws.String("one"), TargetSnapshotName: aws.String("one")},
		"InvalidParameterCombination": {SourceSnapshotName: aws.String("one"), TargetSnapshotName: aws.String("two"), TargetBucket: aws.String("b")},
		"":                            {SourceSnapshotName: aws.String("one"), TargetSnapshotName: aws.String("two")},
	} {
		if _, err := c.copySnapshot(c.ctx, &in); code(err) != want {
			t.Errorf("%s: %v", want, err)
		}
		c.work.Wait()
	}
	for want, in := range map[string]elasticache.DescribeSnapshotsInput{
		"one available, two available": {CacheClusterId: aws.String("main-001"), SnapshotSource: aws.String("user")},
		"":                             {SnapshotSource: aws.String("system")},
		"SnapshotNotFoundFault":        {SnapshotName: aws.String("none")},
		"InvalidParameterValue":        {SnapshotSource: aws.String("other")},
	} {
		if got := c.list(in); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	if err := errors.Join(c.opts.Snapshots.Check(c.ctx, "TWO"), c.opts.Snapshots.Seed(c.ctx, "TWO", "new-001"), c.restored(c.ctx, "new", "two")); err != nil || c.seeded != "new-001" {
		t.Errorf("%q, %v", c.seeded, err)
	}
	c.opts.Backups.Contents = func(context.Context, string) (backup.Contents, error) {
		return backup.Contents{Keys: 5, Expires: 5}, nil
	}
	if err := c.restored(c.ctx, "new", "two"); err == nil {
		t.Error("a key is missing, and nobody notices")
	}
	if err := c.checkFinal("one"); code(err) != "SnapshotAlreadyExistsFault" {
		t.Errorf("%v", err)
	}
	for range 2 { // the second time after a crash
		if err := c.opts.Snapshots.Final(c.ctx, "main", "last"); err != nil {
			t.Error(err)
		}
	}
	if err := c.opts.Snapshots.Final(c.ctx, "gone", "other"); err == nil {
		t.Error("a group goes whose data nobody has kept")
	}
	c.source.fail = errors.New("no")
	for range 3 { // its deletion is tried every half second
		if err := c.opts.Snapshots.Final(c.ctx, "main", "full"); err == nil {
			t.Error("it was made")
		}
	}
	failed := 0
	for _, e := range c.events.list() {
		if strings.HasPrefix(e.Message, "Snapshot failed") {
			failed++
		}
	}
	if failed != 1 {
		t.Errorf("%d attempts were told of", failed)
	}
	if err := c.opts.Snapshots.Final(c.ctx, "main", "one"); !errors.Is(err, backup.ErrExists) {
		t.Errorf("another's snapshot is taken for the final one: %v", err)
	}
}

// Each day one, in the window, from then on kept for as long as the group says; the last one stays.
func TestTheSnapshotOfTheDay(t *testing.T) {
	c := newCutter(t)
	at := func(text string) {
		t.Helper()
		now, err := time.Parse("2006-01-02 15:04", text)
		if err != nil {
			t.Fatal(err)
		}
		c.now = now
		c.takeDaily()
		c.work.Wait()
		c.takeDaily() // of what was taken one is enough
		c.work.Wait()
	}
	want := func(names string) {
		t.Helper()
		if got := strings.ReplaceAll(c.list(elasticache.DescribeSnapshotsInput{SnapshotSource: aws.String("system")}), "automatic.main-2026-", ""); got != names {
			t.Errorf("%s: %s, want %s", c.now, got, names)
		}
	}
	c.set(func(r *record) { r.Window = "23:30-00:30" })
	at("2026-11-30 23:40")
	want("") // the group keeps none
	c.set(func(r *record) { r.Retention = 2 })
	at("2026-11-30 12:00")
	want("")
	at("2026-12-01 00:10")
	want("12-01-00-10 available")
	at("2026-12-01 00:20")
	at("2026-12-01 23:30")
	want("12-01-00-10 available, 12-01-23-30 available")
	c.source.fail = errors.New("no")
	at("2026-12-02 23:31")
	at("2026-12-02 23:35") // too soon
	want("12-01-00-10 available, 12-01-23-30 available, 12-02-23-31 failed")
	c.source.fail = nil
	at("2026-12-02 23:45")
	want("12-01-00-10 available, 12-01-23-30 available, 12-02-23-31 failed, 12-02-23-45 available")
	at("2026-12-03 00:30") // the window is over; the first is two days old
	want("12-01-23-30 available, 12-02-23-31 failed, 12-02-23-45 available")
	c.set(func(r *record) { r.Retention = 0 })
	at("2026-12-30 12:00")
	want("12-02-23-31 failed, 12-02-23-45 available")
}
