package redis

import (
	"os/exec"
	"syscall"
	"testing"
	"time"
)

func TestPulseGrowsWhileAProcessWorksAndStandsStillWhileItIsStopped(t *testing.T) {
	if _, err := Pulse(1 << 30); err == nil {
		t.Error("a process that is not there has a pulse")
	}
	pid, _ := start(t, exec.Command("sh", "-c", "while :; do :; done"))
	over := func(d time.Duration) (time.Duration, time.Duration) {
		t.Helper()
		before, err := Pulse(pid)
		began := time.Now()
		must(t, err)
		<-time.After(d) // the span that is measured
		after, err := Pulse(pid)
		must(t, err)
		return after - before, time.Since(began)
	}
	if grew, span := over(300 * time.Millisecond); grew < span/2 {
		t.Errorf("it works, and its pulse grew by %v in %v", grew, span)
	}
	must(t, syscall.Kill(pid, syscall.SIGSTOP))
	over(50 * time.Millisecond) // what it ran until it was stopped
	if grew, span := over(300 * time.Millisecond); grew > span/10 {
		t.Errorf("it is stopped, and its pulse grew by %v in %v", grew, span)
	}
}

func TestProcessThatEndsIsKnownBeforeItIsReaped(t *testing.T) {
	sleeper := exec.Command("sleep", "60")
	if err := sleeper.Start(); err != nil {
		t.Fatal(err)
	}
	if Exiting(sleeper.Process.Pid) {
		t.Error("a process that runs is said to end")
	}
	if err := sleeper.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the end is seen while nobody has waited for it", func() bool { return Exiting(sleeper.Process.Pid) })
	_ = sleeper.Wait()
	if Exiting(sleeper.Process.Pid) {
		t.Error("a process that is gone is said to end")
	}
}
