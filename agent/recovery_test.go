package agent

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	redigo "github.com/gomodule/redigo/redis"

	"understudy/cluster"
	"understudy/redis"
)

// Redis reads its append-only file under a new replication id. What the agents noted at the stop is how the
// others' logs are known.
func TestGroupStoppedInOrderStartsWithoutItsOldPrimary(t *testing.T) {
	g := startGroup(t, groupOptions{})
	old := g.waitReady()
	g.set(old, "k", "v")
	g.stopAll()
	g.forgetEvents()
	for _, id := range g.replicas(old) {
		g.start(id)
	}
	primary := g.waitNewPrimary(old)
	if got := g.do(primary, "GET", "k"); got != "v" {
		t.Errorf("%s has %q", primary, got)
	}
	g.start(old)
	if now := g.waitReady(); now != primary {
		t.Errorf("%s leads, not %s", now, primary)
	}
	g.set(primary, "k", "w")
}

func TestWipedHolderDoesNotLeadAtItsSecondStart(t *testing.T) {
	g := startGroup(t, groupOptions{})
	old := g.waitReady()
	g.set(old, "k", "v")
	g.stopAll()
	g.forget(old)
	for i := range 2 {
		g.forgetEvents()
		g.start(old)
		g.waitEvent("not_claiming")
		pause(t.Context(), time.Second) // the time in which it must not
		if leader(map[cluster.NodeID]cluster.NodeStatus{old: g.status(old)}) != "" {
			t.Fatalf("start %d: it leads with an empty data set", i+1)
		}
		if err := g.stops[old](); err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range g.nodes {
		g.start(n.Node)
	}
	primary := g.waitReady()
	if got := g.do(primary, "GET", "k"); primary == old || got != "v" {
		t.Errorf("%s leads with %q", primary, got)
	}
}

func TestAgentStartsWithWhatItHasPromised(t *testing.T) {
	dir := t.TempDir()
	d, err := openDisk(dir)
	if err != nil || d.kept.Epoch != 0 {
		t.Fatalf("%+v, %v", d, err)
	}
	want := kept{Epoch: 7, Revoked: 6, Lead: cluster.Lead{Epoch: 7, Holder: "main-002", Lineage: []cluster.Fork{{Epoch: 7, ReplID: "a"}}}}
	if err := d.keep(want); err != nil {
		t.Fatal(err)
	}
	d, err = openDisk(dir)
	if err != nil || d.kept.Epoch != 7 || d.kept.Revoked != 6 || d.kept.Lead.Holder != "main-002" || len(d.kept.Lead.Lineage) != 1 {
		t.Errorf("%+v, %v", d.kept, err)
	}
	for _, text := range []string{"", "{", `{"epoch":0}`, "null"} {
		path := filepath.Join(dir, keptFile)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := openDisk(dir); err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "move its whole directory") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// Keeping a promise is on the way of an early election.
func BenchmarkKeep(b *testing.B) {
	d := disk{dir: b.TempDir()}
	k := kept{Epoch: 7, Lead: cluster.Lead{Epoch: 7, Holder: "main-002"}}
	for i := range 16 {
		k.Lead.Lineage = append(k.Lead.Lineage, cluster.Fork{Epoch: cluster.Epoch(i), ReplID: strings.Repeat("a", 40), Parent: strings.Repeat("b", 40)})
	}
	for b.Loop() {
		if err := d.keep(k); err != nil {
			b.Fatal(err)
		}
	}
}

// A primary dies with writes that no replica has. They are put aside before it follows, and counted.
func TestWritesThatTheGroupDoesNotHaveArePutAside(t *testing.T) {
	g := startGroup(t, groupOptions{})
	old := g.waitReady()
	g.set(old, "k", "v")
	before := g.status(old)
	for _, id := range g.replicas(old) {
		g.signal(id, syscall.SIGSTOP)
	}
	c := g.dial(old)
	const big, each = 40, 1 << 20 // more than the sockets of both replicas hold
	for i := range big {
		if _, err := c.Do("SET", fmt.Sprintf("big%d", i), strings.Repeat("x", each)); err != nil {
			t.Fatal(err)
		}
	}
	g.wait("the agent has seen them", func(last map[cluster.NodeID]cluster.NodeStatus) bool {
		return last[old].Position.Offset > before.Position.Offset+big*each
	})
	g.signal(old, syscall.SIGKILL)
	for _, id := range g.replicas(old) {
		g.signal(id, syscall.SIGCONT)
	}
	primary := g.waitNewPrimary(old)
	g.waitReady()
	g.waitEvent("data_put_aside")
	sets := g.status(old).Lost
	if len(sets) != 1 || sets[0].Epoch != before.Epoch || sets[0].Node != old || sets[0].Keys != big+1 || sets[0].Size < big*each/100 || sets[0].Bytes != -1 {
		t.Fatalf("put aside: %+v", sets)
	}
	if err := redis.CheckDump(t.Context(), g.binary, filepath.Join(sets[0].Path, "dump.rdb")); err != nil {
		t.Error(err)
	}
	var told cluster.Divergence
	text, err := os.ReadFile(filepath.Join(sets[0].Path, "lost.json"))
	if err == nil {
		err = json.Unmarshal(text, &told)
	}
	if err != nil || told != sets[0] {
		t.Errorf("lost.json: %+v, %v", told, err)
	}
	if n := g.do(primary, "EXISTS", fmt.Sprintf("big%d", big-1)); n != "0" {
		t.Error("the group has the last of them: nothing was lost, and this test proves nothing")
	}
	if err := g.stops[old](); err != nil {
		t.Fatal(err)
	}
	g.start(old) // the next run knows of it
	g.wait("it lists what was put aside", func(last map[cluster.NodeID]cluster.NodeStatus) bool { return len(last[old].Lost) == 1 })
}

func TestLostDataSetsAreBounded(t *testing.T) {
	dir := t.TempDir()
	rdb := filepath.Join(dir, "dump.rdb")
	empty, err := os.ReadFile(emptyDump(t))
	if err == nil {
		err = os.WriteFile(rdb, empty, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	size := int64(len(empty))
	open := func(keep int, bytes int64) *lost {
		t.Helper()
		l, err := openLost(Options{Dir: dir, LostKeep: keep, LostBytes: bytes})
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	put := func(l *lost, epoch cluster.Epoch) error {
		t.Helper()
		v := cluster.Divergence{Epoch: epoch, Path: filepath.Join(l.dir, fmt.Sprint(epoch)), Time: time.Unix(int64(epoch), 0)}
		if _, err := l.put(t.Context(), redis.Binary{}, rdb, v); err != nil {
			return err
		}
		return l.prune(v.Path)
	}
	epochs := func(l *lost) (have []cluster.Epoch) {
		for _, d := range l.all() {
			have = append(have, d.Epoch)
		}
		return have
	}
	l := open(3, 1<<20)
	for e := cluster.Epoch(8); e <= 12; e++ {
		if err := put(l, e); err != nil {
			t.Fatal(err)
		}
	}
	if have := epochs(l); !slices.Equal(have, []cluster.Epoch{10, 11, 12}) {
		t.Errorf("three are kept: %v", have)
	}
	l = open(9, 2*size)
	if err := put(l, 13); err != nil {
		t.Fatal(err)
	}
	if have := epochs(open(9, 2*size)); !slices.Equal(have, []cluster.Epoch{12, 13}) {
		t.Errorf("the bytes of two are kept: %v", have)
	}
	l = open(9, size-1)
	if err := put(l, 14); err == nil || !strings.Contains(err.Error(), "may have") {
		t.Errorf("one that is too large alone: %v", err)
	}
	if err := os.WriteFile(rdb, empty[:len(empty)-4], 0o600); err != nil {
		t.Fatal(err)
	}
	if err := put(open(9, 1<<20), 15); err == nil {
		t.Error("half a dump is put aside")
	}
	if names, err := filepath.Glob(filepath.Join(l.dir, "*")); err != nil || len(names) != 2 {
		t.Errorf("left behind: %v, %v", names, err)
	}
	if names, err := filepath.Glob(filepath.Join(l.dir, ".*")); err != nil || len(names) != 0 {
		t.Errorf("left behind: %v, %v", names, err)
	}
}

// emptyDump is an RDB file of a server without keys.
func emptyDump(t *testing.T) string {
	t.Helper()
	c, dir := lone(t)
	if _, err := c.Do("SAVE"); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "dump.rdb")
}

// lone starts a redis-server that belongs to no group.
func lone(t *testing.T) (redigo.Conn, string) {
	t.Helper()
	binary, err := redis.FindServer(t.Context(), "")
	if err != nil {
		t.Skip(err)
	}
	dir := shortDir(t)
	s, err := redis.Start(redis.ServerOptions{Binary: binary, Dir: dir, Host: "127.0.0.1", Socket: filepath.Join(dir, "s"), ReplicaOf: "127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Kill() })
	var c redigo.Conn
	waitUntil(t, "redis-server answers", func() bool {
		c, err = redigo.Dial("unix", filepath.Join(dir, "s"))
		return err == nil
	})
	t.Cleanup(func() { _ = c.Close() })
	return c, dir
}

func TestDiskWithoutRoomRefusesToPutAside(t *testing.T) {
	if err := roomFor(t.TempDir(), 0); err != nil {
		t.Skip("this disk is nearly full: ", err)
	}
	if err := roomFor(t.TempDir(), 1<<60); err == nil || !strings.Contains(err.Error(), "less than 10 %") {
		t.Errorf("an exabyte: %v", err)
	}
}

// The user of an epoch is all that lets a proxy write; it and its connections end with the epoch.
func TestEpochHasItsUserAndItsBackstop(t *testing.T) {
	g := startGroup(t, groupOptions{})
	old := g.waitReady()
	as := func(s cluster.NodeStatus) (redigo.Conn, error) {
		return redigo.Dial("unix", s.Socket, redigo.DialUsername(s.Access.User), redigo.DialPassword(s.Access.Password))
	}
	before := g.status(old)
	if before.Access.User != "ep-1" || len(before.Access.Password) < 20 {
		t.Fatalf("access %+v", before.Access)
	}
	c, err := as(before)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Do("SET", "k", "v"); err != nil {
		t.Error(err)
	}
	minReplicas := func(id cluster.NodeID) string {
		return g.do(id, "CONFIG", "GET", "min-replicas-to-write")
	}
	waitUntil(t, "the primary wants a replica", func() bool { return strings.Contains(minReplicas(old), "49]") }) // "1"
	g.switchover(old)
	primary := g.waitNewPrimary(old)
	waitUntil(t, "the epoch's client is cut off", func() bool {
		_, err := c.Do("PING")
		return err != nil && c.Err() != nil
	})
	if c, err := as(before); err == nil {
		_ = c.Close()
		t.Error("the user of the epoch before still gets in")
	}
	g.waitReady()
	if s := g.status(primary); s.Access.User != "ep-2" || !slices.Equal(s.Fences, []string{"permit", "parent", "fencer", "epoch_user", "replicas"}) {
		t.Errorf("the new primary says %+v", s)
	}
	if s := g.status(old); s.Access != (cluster.Access{}) {
		t.Errorf("a replica tells of %+v", s.Access)
	}
	waitUntil(t, "the new primary wants a replica", func() bool { return strings.Contains(minReplicas(primary), "49]") })
	for _, id := range g.replicas(primary) {
		if err := g.stops[id](); err != nil {
			t.Fatal(err)
		}
	}
	g.wait("the rule counts nobody", func(last map[cluster.NodeID]cluster.NodeStatus) bool {
		r := last[primary].Rules
		return len(r) == 1 && r[0].W == 0
	})
	waitUntil(t, "the primary wants no replica", func() bool { return strings.Contains(minReplicas(primary), "48]") })
	if got := g.do(primary, "SET", "k", "w"); got != "OK" {
		t.Error(got)
	}
}

func TestGroupWithASecretFailsOverAndKeepsStrangersOut(t *testing.T) {
	g := startGroup(t, groupOptions{secret: "the group's"})
	old := g.waitReady()
	g.set(old, "k", "v")
	g.signal(old, syscall.SIGKILL)
	primary := g.waitNewPrimary(old)
	g.waitReady()
	if got := g.do(primary, "GET", "k"); got != "v" {
		t.Errorf("%s has %q", primary, got)
	}
	for _, n := range g.nodes {
		s := g.status(n.Node)
		stranger, err := redigo.Dial("tcp", s.Addr)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := stranger.Do("GET", "k"); err == nil || !strings.HasPrefix(err.Error(), "NOAUTH") {
			t.Errorf("%s lets a stranger in: %v", n.Node, err)
		}
		_ = stranger.Close()
		proxy, err := redigo.Dial("tcp", s.Addr, redigo.DialUsername(s.Access.User), redigo.DialPassword(s.Access.Password))
		if err != nil {
			t.Fatalf("%s does not let a proxy in: %v", n.Node, err)
		}
		if _, err := proxy.Do("GET", "k"); err != nil {
			t.Errorf("a proxy's read on %s: %v", n.Node, err)
		}
		if _, err := proxy.Do("SET", "k", "w"); (err == nil) != (n.Node == primary) {
			t.Errorf("a proxy's write on %s: %v", n.Node, err)
		}
		_ = proxy.Close()
	}
}
