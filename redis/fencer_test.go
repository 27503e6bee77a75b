package redis

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func startFencer(t *testing.T) *Fencer {
	t.Helper()
	f, err := StartFencer(FencerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stopFencer(t, f) })
	return f
}

func stopFencer(t *testing.T, f *Fencer) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := f.Stop(ctx); err != nil {
		t.Error(err)
	}
}

// sleeper starts a process that ends by a signal only, and reports when that was.
func sleeper(t *testing.T) (int, <-chan time.Time) {
	t.Helper()
	return start(t, exec.Command("sleep", "60"))
}

func start(t *testing.T, cmd *exec.Cmd) (int, <-chan time.Time) {
	t.Helper()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan time.Time, 1)
	go func() { _ = cmd.Wait(); ended <- time.Now() }()
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	return cmd.Process.Pid, ended
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestFencerKillsAtTheLastDeadlineAndSparesTheOthers(t *testing.T) {
	f := startFencer(t)
	pid, ended := sleeper(t)
	other, otherEnded := sleeper(t)
	released, releasedEnded := sleeper(t)
	must(t, f.Guard(pid), f.Guard(other), f.Guard(released))
	began := time.Now()
	must(t, f.Until(pid, 100*time.Millisecond), f.Until(other, time.Hour), f.Until(released, 100*time.Millisecond))
	must(t, f.Until(pid, 300*time.Millisecond), f.Release(released))
	at := <-ended
	if took := at.Sub(began); took < 300*time.Millisecond || took > time.Second {
		t.Errorf("killed after %v, want 300 ms", took)
	}
	select {
	case <-otherEnded:
		t.Error("killed before its deadline")
	case <-releasedEnded:
		t.Error("killed after its release")
	default:
	}
	stopFencer(t, f)
	<-otherEnded // at the end of the fencer all that is guarded dies
	if !alive(released) {
		t.Error("a released process died with the fencer")
	}
}

func TestFencerSurvivesTheSignalsThatEndTheOthers(t *testing.T) {
	f := startFencer(t)
	pid, ended := sleeper(t)
	must(t, f.Guard(pid), f.Until(pid, 50*time.Millisecond))
	<-ended // it has begun to work, so it ignores signals by now
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		must(t, syscall.Kill(f.PID(), sig))
	}
	pid, ended = sleeper(t)
	before := f.PID()
	must(t, f.Guard(pid), f.Until(pid, 50*time.Millisecond))
	<-ended
	if f.PID() != before {
		t.Error("a signal ended the fencer")
	}
}

func TestFencerThatDiedIsReplacedAndKnowsItsCharges(t *testing.T) {
	f := startFencer(t)
	pid, ended := sleeper(t)
	before := f.PID()
	must(t, f.Guard(pid), f.Until(pid, 300*time.Millisecond), syscall.Kill(before, syscall.SIGKILL))
	select {
	case <-ended:
	case <-time.After(5 * time.Second):
		t.Fatal("the deadline was lost with the fencer")
	}
	if f.PID() == before {
		t.Error("it is the same fencer still")
	}
}

func TestWatchmanLeavesAReusedNumberAlone(t *testing.T) {
	pid, _ := sleeper(t)
	w := watchman{fds: map[int]*watched{}}
	must(t, w.obey(fmt.Sprintf("guard %d 1", pid)), w.obey(fmt.Sprintf("until %d 1", pid)))
	if len(w.fds) > 0 {
		t.Fatal("it guards a process that was started at another time")
	}
	w.look(BootTime())
	w.ending = 1
	w.look(BootTime())
	w.ending = 0
	start, err := startTime(pid)
	must(t, err, w.obey(fmt.Sprintf("guard %d %s", pid, start)))
	if len(w.fds) != 1 || !alive(pid) {
		t.Fatalf("guarded: %v", w.fds)
	}
	for _, line := range []string{"", "guard", "guard x 1", "until 1 x", "kill 1"} {
		if w.obey(line) == nil {
			t.Errorf("line %q is obeyed", line)
		}
	}
}

func TestKilledParentLeavesNoProcess(t *testing.T) {
	for _, guarded := range []bool{false, true} {
		f := startFamily(t, guarded)
		must(t, f.parent.Process.Kill())
		waitGone(t, "redis-server", f.server)
		waitGone(t, "the guarded process", f.sleeper)
		waitGone(t, "the fencer", f.fencer)
		text, err := os.ReadFile(filepath.Join(f.dir, "redis.log"))
		must(t, err)
		if inOrder := strings.Contains(string(text), "ready to exit"); inOrder != guarded {
			t.Errorf("guarded by a fencer: %v; ended in order: %v", guarded, inOrder)
		}
	}
}

// A server that does not end when it is told to is killed: at its own deadline if that is near, and
// after endWithin at the latest.
func TestEndOfTheParentKillsWhatDoesNotEndByItself(t *testing.T) {
	f := startFencer(t)
	type charge struct {
		pid   int
		ended <-chan time.Time
	}
	var deaf, frozen, overdue charge
	deaf.pid, deaf.ended = start(t, exec.Command("sh", "-c", `trap "" TERM; exec sleep 60`))
	server, _ := run(t) // it handles SIGTERM: what does not is ended by it also while it is stopped
	frozenEnded := make(chan time.Time, 1)
	go func() { <-server.Exited(); frozenEnded <- time.Now() }()
	frozen.pid, frozen.ended = server.PID(), frozenEnded
	overdue.pid, overdue.ended = start(t, exec.Command("sh", "-c", `trap "" TERM; exec sleep 60`))
	willing, willingEnded := sleeper(t)
	waitFor(t, "SIGTERM is ignored", func() bool { return ignoresTerm(deaf.pid) && ignoresTerm(overdue.pid) })
	must(t, f.Guard(deaf.pid), f.Guard(frozen.pid), f.Guard(overdue.pid), f.Guard(willing))
	must(t, f.Until(overdue.pid, 300*time.Millisecond), f.Until(deaf.pid, time.Hour))
	must(t, syscall.Kill(frozen.pid, syscall.SIGSTOP))
	began := time.Now()
	stopFencer(t, f)
	for _, c := range []struct {
		name     string
		ended    <-chan time.Time
		from, to time.Duration
	}{
		{"ends by SIGTERM", willingEnded, 0, endWithin / 2},
		{"has a deadline", overdue.ended, 250 * time.Millisecond, endWithin - 100*time.Millisecond},
		{"ignores SIGTERM", deaf.ended, endWithin - 10*time.Millisecond, 2 * endWithin},
		{"is stopped", frozen.ended, endWithin - 10*time.Millisecond, 2 * endWithin},
	} {
		if took := (<-c.ended).Sub(began); took < c.from || took > c.to {
			t.Errorf("the one that %s ended after %v, want %v to %v", c.name, took, c.from, c.to)
		}
	}
}

// ignoresTerm reads the mask of ignored signals in /proc/PID/status.
func ignoresTerm(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(text)) {
		if mask, ok := strings.CutPrefix(line, "SigIgn:"); ok {
			n, err := strconv.ParseUint(strings.TrimSpace(mask), 16, 64)
			return err == nil && n&(1<<(syscall.SIGTERM-1)) != 0
		}
	}
	return false
}

// A parent that is stopped cannot fence: the fencer does, at the deadline.
func TestStoppedParentIsFencedByTheFencer(t *testing.T) {
	f := startFamily(t, true)
	must(t, f.parent.Process.Signal(syscall.SIGSTOP))
	waitGone(t, "the process with a deadline", f.sleeper)
	if !alive(f.server) {
		t.Error("a server without a deadline was killed")
	}
	must(t, f.parent.Process.Kill())
	waitGone(t, "redis-server", f.server)
	waitGone(t, "the fencer", f.fencer)
}
