package e2e

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The fast profile's T and δ: a server whose permit nobody renews is dead when they have passed.
const (
	fastTTL   = time.Second
	fastDelta = 150 * time.Millisecond
)

// fencer is the process that ends redis-servers when `up` cannot.
func (g *Group) fencer() process {
	g.t.Helper()
	for _, p := range g.processes() {
		if text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p.pid)); err == nil && strings.Contains(string(text), "\x00fencer\x00") {
			return p
		}
	}
	g.t.Fatal("there is no fencer")
	return process{}
}

// freeze stops processes, and lets them go on when the test ends at the latest.
func freeze(t *testing.T, frozen ...process) (thaw func()) {
	t.Helper()
	thaw = func() {
		for _, p := range frozen {
			if alive(p) {
				_ = syscall.Kill(p.pid, syscall.SIGCONT)
			}
		}
	}
	t.Cleanup(thaw)
	for _, p := range frozen {
		if err := syscall.Kill(p.pid, syscall.SIGSTOP); err != nil && alive(p) {
			t.Fatalf("stop %v: %v", p, err)
		}
	}
	return thaw
}

// mustLook is a process that the test knows to run.
func mustLook(t *testing.T, pid int) process {
	t.Helper()
	p, _, ok := look(pid)
	if !ok {
		t.Fatalf("process %d is gone", pid)
	}
	return p
}

// waitGone waits until the process has ended and returns how long that took.
func waitGone(t *testing.T, p process) time.Duration {
	t.Helper()
	from := time.Now()
	eventually(t, "the end of "+p.String(), func() error {
		if alive(p) {
			return fmt.Errorf("%v is still there", p)
		}
		return nil
	})
	return time.Since(from)
}

// The agents, the proxy and the store are one process here: while it is stopped only the fencer can keep
// the old primary from outliving its permit, and on thaw the proxy has clients' requests and a permit that
// is long over.
func TestFrozenAgentIsFencedAndAcksNothingStaleOnThaw(t *testing.T) {
	for name, pick := range map[string]func(g *Group, s Status) []process{
		"the agent": func(g *Group, _ Status) []process { return []process{mustLook(t, g.PID)} },
		"the agent and redis": func(g *Group, s Status) []process {
			return []process{mustLook(t, g.PID), mustLook(t, s.node(s.Primary).PID)}
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := StartGroup(t)
			before := g.WaitAvailable()
			l := startLoad(t, g.Primary)
			l.waitAcked(200)
			old := mustLook(t, before.node(before.Primary).PID)
			from := l.now()
			thaw := freeze(t, pick(g, before)...)
			took := waitGone(t, old)
			t.Logf("%s was ended %v after the freeze; T is %v", old, took.Round(time.Millisecond), fastTTL)
			if took > fastTTL+fastDelta+500*time.Millisecond { // half a second for a busy machine
				t.Errorf("%s lived for %v after its agent was stopped", old, took)
			}
			thaw()
			g.WaitForPrimary(before)
			l.waitAcked(200)
			j := l.judge(g)
			report(t, "freezes of "+name, j.gaps([]around{{from, l.now()}}), fastTTL+500*time.Millisecond, 5*time.Second)
		})
	}
}

// A suspended machine, or a whole zone that stands still: every process stops, the fencer too, and all
// wake up together with permits that ended long ago.
func TestWholeFrozenGroupAcksNothingStaleOnThaw(t *testing.T) {
	g := StartGroup(t)
	before := g.WaitAvailable()
	l := startLoad(t, g.Primary)
	l.waitAcked(200)
	from := l.now()
	thaw := freeze(t, g.processes()...)
	time.Sleep(fastTTL + 2*fastDelta) // nothing can be observed: everything that could tell is stopped
	thaw()
	g.wait("a primary again", func(s Status) bool { return s.Primary != "" })
	l.waitAcked(200)
	j := l.judge(g)
	report(t, "freezes of the whole group", j.gaps([]around{{from, l.now()}}), fastTTL+500*time.Millisecond, 5*time.Second)
	if after := g.Status(); after.Epoch == before.Epoch {
		t.Errorf("epoch %d goes on although its permit had ended in the freeze", after.Epoch)
	}
}

func TestFrozenReplicaDelaysNoWriteForLongAndCatchesUp(t *testing.T) {
	g := StartGroup(t)
	before := g.WaitAvailable()
	l := startLoad(t, g.Primary)
	l.waitAcked(200)
	from := l.now()
	var frozen []process
	for _, n := range before.replicas() {
		frozen = append(frozen, mustLook(t, n.PID))
	}
	thaw := freeze(t, frozen...) // both: no write can be acked until the rule has shrunk
	l.waitAcked(200)
	thaw()
	after := g.WaitAvailable()
	l.waitAcked(200)
	j := l.judge(g)
	report(t, "freezes of both replicas", j.gaps([]around{{from, l.now()}}), 3*time.Second, 6*time.Second) // StallAfter is 2.5 s
	if after.Epoch > before.Epoch+1 {
		t.Errorf("epoch %d became %d", before.Epoch, after.Epoch)
	}
}

// A fencer that is killed is replaced at once, and its successor knows every server and deadline.
func TestFencerThatDiesIsReplacedAndItsSuccessorFences(t *testing.T) {
	g := StartGroup(t)
	before := g.WaitAvailable()
	l := startLoad(t, g.Primary)
	l.waitAcked(100)
	first := g.fencer()
	if err := syscall.Kill(first.pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	waitGone(t, first)
	eventually(t, "another fencer", func() error {
		for _, p := range g.processes() {
			if text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p.pid)); p.pid != first.pid && strings.Contains(string(text), "\x00fencer\x00") {
				return nil
			}
		}
		return fmt.Errorf("%v has no successor", first)
	})
	l.waitAcked(100)
	if s := g.Status(); s.Epoch != before.Epoch {
		t.Errorf("the end of the fencer cost an epoch: %d became %d", before.Epoch, s.Epoch)
	}
	old := mustLook(t, before.node(before.Primary).PID)
	thaw := freeze(t, mustLook(t, g.PID))
	if took := waitGone(t, old); took > fastTTL+fastDelta+500*time.Millisecond {
		t.Errorf("the second fencer let %v live for %v", old, took)
	}
	thaw()
	g.WaitForPrimary(before)
	l.judge(g)
}

// With the fencer stopped, the end of the agent still ends every server that runs: the kernel tells them.
func TestServersEndWithTheirAgentWhileTheFencerHangs(t *testing.T) {
	g := StartGroup(t)
	g.WaitAvailable()
	family := g.processes()
	hung := g.fencer()
	freeze(t, hung)
	if err := g.up.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-g.up.ended
	var others []process
	for _, p := range family {
		if p.pid != hung.pid {
			others = append(others, p)
		}
	}
	g.demandGone(others, 2*time.Second)
	if err := syscall.Kill(hung.pid, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	g.demandGone([]process{hung}, 2*time.Second)
}
