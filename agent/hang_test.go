package agent

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// childEnv has TestGroupOfAnotherProcess be that process.
const childEnv = "AGENT_TEST_CHILD"

// TestGroupOfAnotherProcess runs a group for a test that stops its whole process.
func TestGroupOfAnotherProcess(t *testing.T) {
	if os.Getenv(childEnv) == "" {
		t.Skip("it is the child of TestServerOfAnAgentThatHangsIsKilledAtTheDeadline")
	}
	g := startGroup(t, groupOptions{})
	primary := g.waitReady()
	others := g.replicas(primary)
	fmt.Printf("\nready %d %d %d\n", g.status(primary).PID, g.status(others[0]).PID, g.status(others[1]).PID)
	_, _ = io.Copy(io.Discard, os.Stdin)
}

func TestServerOfAnAgentThatHangsIsKilledAtTheDeadline(t *testing.T) {
	child := exec.Command("/proc/self/exe", "-test.run", "^TestGroupOfAnotherProcess$", "-test.count", "1")
	child.Env = append(os.Environ(), childEnv+"=1")
	child.Stderr = os.Stderr
	stdin, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = child.Process.Kill(); _ = child.Wait(); _ = stdin.Close() })
	var primary, first, second int
	for lines := bufio.NewScanner(out); primary == 0 && lines.Scan(); {
		if text, ok := strings.CutPrefix(lines.Text(), "ready "); ok {
			if _, err := fmt.Sscan(text, &primary, &first, &second); err != nil {
				t.Fatal(err)
			}
		}
	}
	if primary == 0 {
		t.Fatal("the other process has no group")
	}
	gone := goneAt(t, primary)
	began := time.Now()
	if err := child.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	select {
	case at := <-gone:
		// The permit ends T − δ after a renewal was sent, at most 150 ms before; the deadline is δ later.
		t.Logf("killed %v after its agent was stopped", at.Sub(began))
		if took := at.Sub(began); took > 1200*time.Millisecond {
			t.Errorf("killed after %v: a challenger may have begun at 1.15 s", took)
		}
	case <-time.After(patience):
		t.Fatal("it lives on without its agent")
	}
	for _, pid := range []int{first, second} {
		if stopped(pid) {
			t.Errorf("replica %d was killed, too: it accepts no write, and has a copy", pid)
		}
	}
	firstGone, secondGone := goneAt(t, first), goneAt(t, second)
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	for _, gone := range []<-chan time.Time{firstGone, secondGone} {
		select {
		case <-gone:
		case <-time.After(patience):
			t.Fatal("a server outlives its agent")
		}
	}
}

func TestFencerThatDiesUnderAGroupIsReplacedAndKnowsIt(t *testing.T) {
	g := startGroup(t, groupOptions{})
	primary := g.waitReady()
	before := g.fencer.PID()
	if err := syscall.Kill(before, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	waitUntil(t, "there is another fencer", func() bool { return g.fencer.PID() != before })
	pid := g.status(primary).PID
	if !g.fencer.Guards(pid) {
		t.Error("it does not know of the primary")
	}
	gone := goneAt(t, pid)
	if err := g.fencer.Until(pid, 10*time.Millisecond); err != nil { // what a permit that is not renewed would do
		t.Fatal(err)
	}
	select {
	case <-gone:
	case <-time.After(patience):
		t.Fatal("the new fencer does not kill")
	}
	g.waitNewPrimary(primary)
	g.waitReady()
}
