package e2e

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// failpoint is a crash that a test arms in the program, which is built for that: see agent/failpoint.go.
type failpoint struct {
	t    *testing.T
	path string
}

// newFailpoint prepares crashes in what the test starts from now on.
func newFailpoint(t *testing.T) failpoint {
	f := failpoint{t, filepath.Join(t.TempDir(), "failpoint")}
	t.Setenv("UNDERSTUDY_FAILPOINT", f.path)
	return f
}

// crash says what is killed: the redis-server of the node that comes to the step, or the process of its
// agent; and when: before or after.
type crash struct{ when, step, what string }

func (c crash) String() string { return c.what + " " + c.when + " " + c.step }

// arm has the next node that comes to the step crash there.
func (f failpoint) arm(c crash) {
	f.t.Helper()
	half := f.path + ".new"
	if err := os.WriteFile(half, []byte(c.when+" "+c.step+" * "+c.what+"\n"), 0o600); err != nil {
		f.t.Fatal(err)
	}
	if err := os.Rename(half, f.path); err != nil {
		f.t.Fatal(err)
	}
}

// wait waits until somebody has crashed.
func (f failpoint) wait(c crash) {
	f.t.Helper()
	eventually(f.t, "the crash: "+c.String(), func() error {
		if _, err := os.Stat(f.path); errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return errors.New("nobody has come to that step")
	})
}

// The steps of a change of primary, as the machine orders them. What a node does for itself or at its
// leisure (start, save) has stories of its own.
var (
	failoverSteps   = []string{"persist", "revoke", "ask", "swap-claim", "promote", "swap-record", "follow"}
	switchoverSteps = []string{"pause", "revoke", "swap-move", "promote", "swap-record", "follow"}
)

func TestRedisCrashesAtEveryStepOfAFailover(t *testing.T) {
	crashAtSteps(t, failoverSteps, func(g *Group) { g.KillPrimary() })
}

func TestRedisCrashesAtEveryStepOfASwitchover(t *testing.T) {
	crashAtSteps(t, switchoverSteps, switchover)
}

// switchover asks for one until it is not refused: a group that was whole a moment ago need not be so now. It
// may fail: that is what is tested.
func switchover(g *Group) {
	eventually(g.t, "a switchover that is not refused", func() error {
		if out, code := g.cli("switchover"); code == 4 {
			return errors.New(out)
		}
		return nil
	})
}

// crashAtSteps changes the primary twice for each step, of a new group, and kills the redis-server of the
// node that comes to it, before and after. Clients write all the time and must see no error.
func crashAtSteps(t *testing.T, steps []string, change func(*Group)) {
	for _, step := range steps {
		t.Run(step, func(t *testing.T) {
			f := newFailpoint(t)
			g := StartGroup(t)
			l := startLoad(t, g.Primary)
			for _, when := range []string{"before", "after"} {
				crashAtStep(t, f, g, l, crash{when, step, "redis"}, change)
			}
			l.judge(g)
		})
	}
}

func crashAtStep(t *testing.T, f failpoint, g *Group, l *load, c crash, change func(*Group)) {
	t.Helper()
	before := g.WaitAvailable()
	l.waitAcked(100)
	f.arm(c)
	from := l.now()
	change(g)
	f.wait(c)
	after := g.wait("a primary", func(s Status) bool { return s.Primary != "" && s.Epoch > before.Epoch })
	l.waitAcked(50)
	t.Logf("%s: %s -> %s, epoch %d -> %d, served again after %v", c, before.Primary, after.Primary, before.Epoch, after.Epoch, (l.now() - from).Round(time.Millisecond))
	if after.Epoch > before.Epoch+4 {
		t.Errorf("%s: %d changes of primary for one crash within another", c, after.Epoch-before.Epoch)
	}
}

// The process holds the store, every agent and the proxy: its end in the middle of a change is that of a
// whole machine. Every node comes back with what it has.
func TestPowerIsLostAtEveryStepOfAChangeOfPrimary(t *testing.T) {
	f := newFailpoint(t)
	data := filepath.Join(t.TempDir(), "data")
	change := func(g *Group, planned bool) {
		if planned {
			switchover(g)
			return
		}
		g.KillPrimary()
	}
	for _, x := range []struct {
		crash
		planned bool
	}{
		{crash{"before", "swap-release", "process"}, false}, {crash{"after", "swap-release", "process"}, false},
		{crash{"after", "revoke", "process"}, false},
		{crash{"before", "swap-claim", "process"}, false}, {crash{"after", "swap-claim", "process"}, false},
		{crash{"after", "promote", "process"}, false}, {crash{"after", "swap-record", "process"}, false},
		{crash{"after", "pause", "process"}, true}, {crash{"before", "swap-move", "process"}, true},
		{crash{"after", "swap-move", "process"}, true}, {crash{"after", "promote", "process"}, true},
	} {
		g := StartGroupOn(t, data)
		before := g.WaitAvailable()
		l := startLoadAt(t, place{addr: g.Primary}, []func(*worker){(*worker).visit, (*worker).visit, (*worker).visit, (*worker).push})
		l.waitAcked(100)
		f.arm(x.crash)
		change(g, x.planned)
		f.wait(x.crash)
		<-g.up.ended
		l.end()
		again := StartGroupOn(t, data)
		after := again.WaitAvailable()
		t.Logf("%s: epoch %d -> %d, ready again after %v", x.crash, before.Epoch, after.Epoch, again.Ready.Round(time.Millisecond))
		judgeAt(t, place{addr: again.Primary}, l)
		if after.Epoch <= before.Epoch {
			t.Errorf("%s: epoch %d came after %d", x.crash, after.Epoch, before.Epoch)
		}
		again.Stop()
	}
}

// On several machines the agent that dies at a step takes only its own node with it. The primary's
// redis-server is killed, and the agent of the candidate at the step; or the agent of the primary, at what it
// does after the crash of its server.
func TestAgentDiesAtEveryStepOfAFailover(t *testing.T) {
	f := newFailpoint(t)
	g := StartMachines(t, "sync")
	for _, c := range []crash{
		{"before", "swap-release", "process"}, {"after", "swap-release", "process"},
		{"before", "swap-claim", "process"}, {"after", "swap-claim", "process"},
		{"after", "promote", "process"}, {"after", "swap-record", "process"},
	} {
		before := g.WaitAvailable()
		l := startLoadPaced(t, g.all[0].place(), zonePace, zoneSteps)
		l.waitAcked(50)
		f.arm(c)
		from := l.now()
		kill(t, before.node(before.Primary).PID)
		f.wait(c)
		dead := g.dead()
		dead.startAgent() // at once: with two of three nodes gone nobody can know what was acked
		l.waitAcked(1)
		took := l.now() - from
		after := g.WaitAvailable()
		l.waitAcked(20)
		l.end()
		j := gather(t, l.at, l)
		t.Logf("%s, in zone %s: served again after %v; %s under epoch %d became %s under %d", c, dead.Name, took.Round(time.Millisecond), before.Primary, before.Epoch, after.Primary, after.Epoch)
		if j.Lost > 0 || j.Duplicated > 0 || j.Phantoms > 0 {
			t.Errorf("%s: lost %d, duplicated %d, phantoms %d: %v %v", c, j.Lost, j.Duplicated, j.Phantoms, j.LostExamples, j.Examples)
		}
	}
	g.stop()
}

// dead is the machine whose agent has ended.
func (g *Machines) dead() *Machine {
	g.t.Helper()
	var dead *Machine
	eventually(g.t, "the end of an agent", func() error {
		for _, m := range g.all {
			if !m.agent.running() {
				dead = m
				return nil
			}
		}
		return errors.New("all agents run")
	})
	return dead
}
