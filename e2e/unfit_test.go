package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// unfit is a way to make a replica one that must not be elected.
type unfit struct {
	spoil func(g *Group, primary, replica Node)
	state string // that the replica is in while the primary dies
	// later is how many writes are acked between. A second or so after it was spoilt it is no voter any more,
	// and the fit one must lead; until then its log, which it cannot show, is needed, and the old primary may
	// be waited for.
	later int64
}

// A candidate that has less than the group acked, or cannot say what it has, must lose to the one that has
// everything, even if it answers first.
func TestUnfitReplicaIsNotElected(t *testing.T) {
	for name, u := range map[string]unfit{
		"in the middle of a full sync": {state: "syncing", later: 1500, spoil: func(g *Group, primary, replica Node) {
			populate(g.t, g.Primary, 4000)
			// A thousandth of a second for each key: the replica stays in its sync for seconds.
			configure(g.t, primary.Addr, "rdb-key-save-delay", "1000")
			kill(g.t, replica.PID)
			g.loseDisk(replica.ID)
		}},
		"loading its data set": {state: "loading", spoil: func(g *Group, _, replica Node) {
			populate(g.t, g.Primary, 300_000)
			kill(g.t, replica.PID)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			g := StartGroup(t)
			before := g.WaitAvailable()
			bad, good := before.replicas()[0], before.replicas()[1]
			l := startLoad(t, g.Primary)
			l.waitAcked(100)
			u.spoil(g, before.node(before.Primary), bad)
			g.wait(bad.ID+" in the state "+u.state, func(s Status) bool { return s.node(bad.ID).State == u.state })
			l.waitAcked(u.later)
			if s := g.Status(); s.node(bad.ID).State != u.state {
				t.Fatalf("%s was %s for too short a time to be tested: it is %s", bad.ID, u.state, s.node(bad.ID).State)
			}
			from := l.now()
			g.KillPrimary()
			after := g.WaitForPrimary(before)
			l.waitAcked(100)
			t.Logf("%s was %s; %s leads after %v", bad.ID, u.state, after.Primary, (l.now() - from).Round(time.Millisecond))
			if after.Primary == bad.ID || after.Primary != good.ID && u.later > 0 {
				t.Errorf("%s leads although %s was %s and %s was fit", after.Primary, bad.ID, u.state, good.ID)
			}
			l.judge(g)
		})
	}
}

// populate writes n small keys in few commands, none of which takes long enough to pass for a hang.
func populate(t *testing.T, addr string, n int) {
	t.Helper()
	const script = "for i = ARGV[1], ARGV[2] do redis.call('SET', 'populated:' .. i, i) end"
	c := client(t, addr)
	const batch = 10_000
	for from := 0; from < n; from += batch {
		if err := c.Eval(context.Background(), script, nil, from, min(n, from+batch)-1).Err(); err != nil && !errors.Is(err, redis.Nil) {
			t.Fatalf("populate: %v", err)
		}
	}
}

// configure sets one of redis-server's own settings.
func configure(t *testing.T, addr, name, value string) {
	t.Helper()
	if err := client(t, addr).ConfigSet(context.Background(), name, value).Err(); err != nil {
		t.Fatalf("CONFIG SET %s %s at %s: %v", name, value, addr, err)
	}
}

func kill(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatalf("kill %d: %v", pid, err)
	}
}

// The replica slept while more was written than the kernel buffers for it, and wakes up when the primary
// dies: it is alive, its link was up, and it lacks megabytes.
func TestReplicaThatLagsIsNotElected(t *testing.T) {
	g := StartGroup(t)
	before := g.WaitAvailable()
	l := startLoad(t, g.Primary)
	l.waitAcked(100)
	lags := before.replicas()[0]
	thaw := freeze(t, mustLook(t, lags.PID))
	fill(t, g.Primary, "missed:", 2000, 16<<10)
	g.KillPrimary()
	thaw()
	after := g.WaitForPrimary(before)
	if after.Primary == lags.ID {
		t.Errorf("%s leads, and had slept", lags.ID)
	}
	l.waitAcked(100)
	if n, err := countKeys(t, g.Primary, "missed:*"); err != nil || n != 2000 {
		t.Errorf("%d of 2000 acked keys are there: %v", n, err)
	}
	l.judge(g)
}

func countKeys(t *testing.T, addr, pattern string) (int, error) {
	t.Helper()
	keys, err := client(t, addr).Keys(context.Background(), pattern).Result()
	return len(keys), err
}

// In async a primary acks what nobody else has. When it comes back after a failover its log is longer than
// the new one, and of another lineage: it must neither win the next election nor mix its data in.
func TestLongerLogOfAnotherLineageDoesNotWin(t *testing.T) {
	g := StartGroup(t, "--durability", "async")
	before := g.WaitAvailable()
	fill(t, g.Primary, "first:", 500, 10)
	g.wait("equal offsets", func(s Status) bool {
		keys := 0
		for _, n := range s.replicas() {
			have, err := client(t, n.Addr).DBSize(context.Background()).Result()
			if err == nil && have == 500 {
				keys++
			}
		}
		return keys == 2
	})
	var frozen []process
	for _, n := range before.replicas() {
		frozen = append(frozen, mustLook(t, n.PID))
	}
	thaw := freeze(t, frozen...)
	fill(t, g.Primary, "gone:", 5000, 1000)
	g.KillPrimary()
	thaw()
	second := g.WaitForPrimary(before)
	fill(t, g.Primary, "second:", 500, 10)
	told := g.WaitAvailable().Last // a moment after its primary is shown, the change is told of
	g.KillPrimary()
	third := g.WaitForPrimary(second)
	t.Logf("%s, then %s, then %s; the change lost %d bytes by the status", before.Primary, second.Primary, third.Primary, told.LostBytes)
	last := g.WaitAvailable()
	gone, _ := countKeys(t, g.Primary, "gone:*")
	for prefix, want := range map[string]int{"first:": 500, "second:": 500} {
		if n, err := countKeys(t, g.Primary, prefix+"*"); err != nil || n != want {
			t.Errorf("%d of %d keys %s are there: %v", n, want, prefix, err)
		}
	}
	// All or what the kernel had passed on; but everybody the same.
	for _, n := range last.Nodes {
		eventually(t, n.ID+" with the primary's keys", func() error {
			if have, err := client(t, n.Addr).DBSize(context.Background()).Result(); err != nil || int(have) != 1000+gone {
				return fmt.Errorf("%d keys, want %d: %w", have, 1000+gone, err)
			}
			return nil
		})
	}
	if gone == 5000 || second.Primary == before.Primary {
		return
	}
	saved, _ := filepath.Glob(filepath.Join(g.Data, "nodes", before.Primary, "lost", "*", "lost.json"))
	t.Logf("%d of 5000 acked keys are gone; put aside: %v", 5000-gone, saved)
	if told.LostBytes == 0 && len(saved) == 0 {
		t.Errorf("%d of 5000 acked keys are gone, and nobody says so: %+v", 5000-gone, told)
	}
}

// smallDisk gives a node's redis-server a file system of its own, of so many megabytes.
func smallDisk(t *testing.T, data, node string, megabytes int) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skipf("NOT TESTED: %s mounts a small file system, and this is not root. Run as root: go test ./e2e/ -run '^%s$' -v", t.Name(), t.Name())
	}
	dir := filepath.Join(data, "nodes", node, "redis")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%dm,mode=700", megabytes)); err != nil {
		t.Skipf("NOT TESTED: %s mounts a small file system, and may not: %v", t.Name(), err)
	}
	t.Cleanup(func() {
		eventually(t, "an idle file system at "+dir, func() error { return syscall.Unmount(dir, 0) })
	})
	return dir
}

// fillDisk writes until there is no room left, and returns how to make room again.
func fillDisk(t *testing.T, dir string) (empty func()) {
	t.Helper()
	path := filepath.Join(dir, "ballast")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	block := make([]byte, 4096)
	for err == nil {
		_, err = f.Write(block)
	}
	return func() {
		if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
			t.Errorf("make room in %s: %v", dir, err)
		}
	}
}

// A replica whose disk is full ends itself at the next write, and again after each start.
func TestReplicaWithAFullDiskIsNotElected(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	const bad = "main-002"
	disk := smallDisk(t, data, bad, 16)
	g := StartGroupOn(t, data)
	before := g.WaitAvailable()
	if before.Primary == bad {
		t.Fatalf("%s leads from the start", bad)
	}
	l := startLoad(t, g.Primary)
	l.waitAcked(100)
	makeRoom := fillDisk(t, disk)
	g.wait(bad+" to fail", func(s Status) bool { return s.node(bad).PID != before.node(bad).PID })
	g.KillPrimary()
	after := g.WaitForPrimary(before)
	l.waitAcked(300)
	if now := g.Status(); after.Primary == bad || now.Primary == bad {
		t.Errorf("%s leads with a full disk", bad)
	} else if now.Epoch != after.Epoch {
		t.Errorf("epoch %d became %d: the group flaps", after.Epoch, now.Epoch)
	}
	makeRoom()
	l.judge(g)
}
