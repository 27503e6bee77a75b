package agent

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestIdleGroupCostsLittle measures what three idle nodes, the store and the fencer take. The goal of
// the whole program is 2 % of a core; the bound here allows for the race detector and a loaded machine.
func TestIdleGroupCostsLittle(t *testing.T) {
	g := startGroup(t, groupOptions{})
	pids := map[string]int{"this process": os.Getpid(), "the fencer": g.fencer.PID()}
	for _, n := range g.nodes {
		pids[string(n.Node)] = g.status(n.Node).PID
	}
	before := map[string]time.Duration{}
	for what, pid := range pids {
		before[what] = processorTime(t, pid)
	}
	began := time.Now()
	time.Sleep(time.Duration(rounds(t, 3)) * time.Second) // the measured span itself
	span := time.Since(began)
	total, memory := 0.0, 0
	for what, pid := range pids {
		share, kib := 100*(processorTime(t, pid)-before[what]).Seconds()/span.Seconds(), residentKiB(t, pid)
		t.Logf("%s: %.1f %% of a core, %d KiB", what, share, kib)
		total, memory = total+share, memory+kib
	}
	t.Logf("together %.1f %% of a core, %d KiB resident", total, memory)
	if total > 25 {
		t.Errorf("an idle group takes %.1f %% of a core", total)
	}
}

// processorTime is what a process has used so far: fields 14 and 15 of /proc/PID/stat, in ticks of
// 10 ms.
func processorTime(t *testing.T, pid int) time.Duration {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("/proc", fmt.Sprint(pid), "stat"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	var user, system int
	if _, err := fmt.Sscan(strings.Join(strings.Fields(rest)[11:13], " "), &user, &system); err != nil {
		t.Fatal(err)
	}
	return time.Duration(user+system) * 10 * time.Millisecond
}

func residentKiB(t *testing.T, pid int) int {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("/proc", fmt.Sprint(pid), "status"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "VmRSS:")
	var kib int
	if _, err := fmt.Sscan(rest, &kib); err != nil {
		t.Fatal(err)
	}
	return kib
}
