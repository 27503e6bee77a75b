package agent

import (
	"fmt"
	"os"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// rounds is how often a fault is repeated; AGENT_ROUNDS=30 makes the measurement of the design page.
func rounds(t *testing.T, standard int) int {
	t.Helper()
	text := os.Getenv("AGENT_ROUNDS")
	if text == "" {
		return standard
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestGroupElectsOnItsFirstStart(t *testing.T) {
	began := time.Now()
	g := startGroup(t, groupOptions{})
	t.Logf("ready after %v", time.Since(began))
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("ready after %v, want below 3 s", took)
	}
	primary := g.waitReady()
	s := g.status(primary)
	if primary != "main-001" || s.Epoch != 1 || s.Addr == "" || s.Socket == "" || s.Fork.ReplID == "" {
		t.Errorf("the first primary says %+v", s)
	}
	g.set(primary, "k", "v")
}

func TestCrashedPrimaryIsReplacedAtOnce(t *testing.T) {
	g := startGroup(t, groupOptions{})
	var took []time.Duration
	for i := range rounds(t, 5) {
		old := g.waitReady()
		key := fmt.Sprintf("k%d", i)
		g.set(old, key, "v")
		at := g.signal(old, syscall.SIGKILL)
		primary := g.waitNewPrimary(old)
		took = append(took, time.Since(at))
		t.Logf("%v %v", took[i], g.phases())
		if got := g.do(primary, "GET", key); got != "v" {
			t.Fatalf("%s lost an acked write: %q", primary, got)
		}
	}
	g.waitReady()
	report(t, "crash", took)
}

func TestHungPrimaryIsReplacedAndKilled(t *testing.T) {
	g := startGroup(t, groupOptions{})
	var took []time.Duration
	for range rounds(t, 2) {
		old := g.waitReady()
		pid := g.status(old).PID
		at := g.signal(old, syscall.SIGSTOP)
		g.waitNewPrimary(old)
		took = append(took, time.Since(at))
		t.Logf("%v %v", took[len(took)-1], g.phases())
		if err := syscall.Kill(pid, 0); err != syscall.ESRCH {
			t.Errorf("the hung redis-server %d is still there: %v", pid, err)
		}
	}
	g.waitReady()
	report(t, "hang", took)
}

func TestSwitchoverThereAndBackNeedsNoFullSync(t *testing.T) {
	g := startGroup(t, groupOptions{})
	before := g.fullSyncs()
	var took []time.Duration
	for i := range rounds(t, 6) {
		old := g.waitReady()
		key := fmt.Sprintf("k%d", i)
		g.set(old, key, "v")
		at := g.switchover(old)
		primary := g.waitNewPrimary(old)
		took = append(took, g.servedAt(primary).Sub(at))
		t.Logf("%v %v", took[i], g.phases())
		if got := g.do(primary, "GET", key); got != "v" {
			t.Fatalf("%s lost an acked write: %q", primary, got)
		}
	}
	g.waitReady()
	report(t, "switchover", took)
	if after := g.fullSyncs(); after != before {
		t.Errorf("%d full syncs during the switchovers", after-before)
	}
}
