package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// redisDir is where a node's redis-server keeps its data set.
func (g *Group) redisDir(node string) string { return filepath.Join(g.Data, "nodes", node, "redis") }

// loseDisk takes away all that a node's redis-server has on disk, as a machine does that comes back with a
// new one.
func (g *Group) loseDisk(node string) {
	g.t.Helper()
	if err := os.RemoveAll(filepath.Join(g.redisDir(node), "appendonlydir")); err != nil {
		g.t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(g.redisDir(node), "dump.rdb")); err != nil {
		g.t.Fatal(err)
	}
}

// fill writes n keys of size bytes, and returns when they are acked.
func fill(t *testing.T, addr, prefix string, n, size int) {
	t.Helper()
	c := client(t, addr)
	value := string(make([]byte, size))
	const batch = 500
	for from := 0; from < n; from += batch {
		p := c.Pipeline()
		for i := from; i < min(n, from+batch); i++ {
			p.Set(context.Background(), prefix+strconv.Itoa(i), value, 0)
		}
		if _, err := p.Exec(context.Background()); err != nil {
			t.Fatalf("fill %s: %v", addr, err)
		}
	}
}

// A primary that is killed and comes back within milliseconds without its data would, as a primary, empty
// everybody who follows it.
func TestPrimaryThatRestartsEmptyIsFilledAgain(t *testing.T) {
	g := StartGroup(t)
	l := startLoad(t, g.Primary)
	for i := range 3 {
		g.WaitAvailable()
		l.waitAcked(100)
		before := g.KillPrimary()
		g.loseDisk(before.Primary)
		after := g.WaitForPrimary(before)
		if after.Primary == before.Primary {
			t.Errorf("round %d: %s leads again under epoch %d, without its data", i+1, after.Primary, after.Epoch)
		}
		l.waitAcked(100)
	}
	l.judge(g)
}

// When nobody else can be asked, an empty primary is no primary: it waits, and does not empty the others
// when they come back.
func TestEmptyPrimaryWaitsForReplicasThatCannotBeAsked(t *testing.T) {
	g := StartGroup(t)
	before := g.WaitAvailable()
	l := startLoad(t, g.Primary)
	l.waitAcked(300)
	var frozen []process
	for _, n := range before.replicas() {
		frozen = append(frozen, mustLook(t, n.PID))
	}
	thaw := freeze(t, frozen...)
	g.KillPrimary()
	g.loseDisk(before.Primary)
	g.wait("the empty server to run again", func(s Status) bool {
		n := s.node(before.Primary)
		return n.PID != 0 && n.PID != before.node(before.Primary).PID
	})
	// It has all the time that it needs to do the wrong thing: the others are asked in vain for 2 T.
	deadline := time.Now().Add(2 * fastTTL)
	for time.Now().Before(deadline) {
		if s := g.Status(); s.Primary == before.Primary && s.Epoch > before.Epoch {
			// Right only if it had read its data before that was taken away: then nothing is lost.
			thaw()
			l.waitAcked(100)
			gatherAvailable(t, g, l)
			t.Logf("%s was started again before its disk was lost, and leads with its data", s.Primary)
			return
		}
		time.Sleep(20 * time.Millisecond) // the pace of looking
	}
	thaw()
	after := g.WaitForPrimary(before)
	l.waitAcked(100)
	j := gatherAvailable(t, g, l)
	t.Logf("%s lost its data; %s leads under epoch %d; %d errors were told: %v", before.Primary, after.Primary, after.Epoch, len(j.told), j.told[:min(2, len(j.told))])
}

// gatherAvailable ends the load, waits until every node is ready, and demands that nothing is lost; errors
// may have been told.
func gatherAvailable(t *testing.T, g *Group, l *load) judgement {
	t.Helper()
	l.end()
	g.WaitAvailable()
	return judgeAt(t, l.at, l)
}

// The group is stopped, and the last primary's machine is gone when it starts again: what was acked is on
// the others, and none of them may be emptied.
func TestGroupStartsWithoutTheLastPrimarysDiskAndEmptiesNobody(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	first := StartGroupOn(t, data)
	before := first.WaitAvailable()
	fill(t, first.Primary, "kept:", 1000, 10)
	first.Stop()
	first.loseDisk(before.Primary)
	u := startUp(t, data)
	select {
	case line, ok := <-u.line:
		if !ok {
			t.Fatalf("understudy up ended:\n%s", u.log())
		}
		at := parseReady(t, line)
		if n, err := client(t, at.Primary).DBSize(context.Background()).Result(); err != nil || n != 1000 {
			t.Errorf("%d of 1000 keys are there: %v", n, err)
		}
	case <-time.After(3 * time.Second):
		// Nobody leads: that is allowed. The data sets must still be there.
		t.Log("the group waits for its last primary, or for an operator")
	}
	if err := u.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	<-u.ended
	for _, n := range before.replicas() {
		files, _ := filepath.Glob(filepath.Join(first.redisDir(n.ID), "appendonlydir", "*"))
		var size int64
		for _, f := range files {
			if st, err := os.Stat(f); err == nil {
				size += st.Size()
			}
		}
		if size < 1000*10 {
			t.Errorf("%s has %d bytes in %d files: its 1000 keys are gone", n.ID, size, len(files))
		}
	}
}

// All servers die in the same moment, and those that had the data come back with it.
func TestEveryServerIsKilledAtOnceAndOneComesBackEmpty(t *testing.T) {
	g := StartGroup(t)
	before := g.WaitAvailable()
	l := startLoad(t, g.Primary)
	l.waitAcked(300)
	for _, n := range before.Nodes {
		if err := syscall.Kill(n.PID, syscall.SIGKILL); err != nil {
			t.Fatal(fmt.Errorf("kill %s: %w", n.ID, err))
		}
	}
	empty := before.replicas()[0].ID
	g.loseDisk(empty)
	from := l.now()
	after := g.WaitForPrimary(before)
	l.waitAcked(100)
	t.Logf("%s came back empty; %s leads after %v", empty, after.Primary, (l.now() - from).Round(time.Millisecond))
	if after.Primary == empty {
		t.Errorf("%s leads, and had nothing", empty)
	}
	l.judge(g)
}
