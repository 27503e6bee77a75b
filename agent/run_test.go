package agent

import (
	"os"
	"path/filepath"
	"testing"

	"understudy/redis"
)

// machine is an operating system as runs sees it.
type machine struct {
	t         *testing.T
	dir, file string
}

func newMachine(t *testing.T) machine {
	m := machine{t: t, dir: t.TempDir()}
	m.file = filepath.Join(m.dir, "boot_id")
	m.boot("first")
	return m
}

func (m machine) boot(id string) {
	m.t.Helper()
	if err := os.WriteFile(m.file, []byte(id+"\n"), 0o600); err != nil {
		m.t.Fatal(err)
	}
}

// begin is the start of a server under a new agent.
func (m machine) begin(want string) *runs {
	m.t.Helper()
	r := openRuns(m.dir, m.file)
	m.again(r, want)
	return r
}

// again is the start of a server under the same agent.
func (m machine) again(r *runs, want string) {
	m.t.Helper()
	short, err := r.begin(true)
	if err != nil {
		m.t.Fatal(err)
	}
	if have := map[bool]string{true: "short", false: "whole"}[short]; have != want {
		m.t.Errorf("the data set is taken for %s, want %s", have, want)
	}
}

func (m machine) no(err error) {
	m.t.Helper()
	if err != nil {
		m.t.Error(err)
	}
}

func TestDataIsShortAfterThePowerWasLostAndNotAfterACrash(t *testing.T) {
	m := newMachine(t)
	r := m.begin("short") // no note: nothing is known of what is there
	s := &redis.Server{}
	r.started(s)
	m.no(r.promoted(s))
	m.again(r, "whole") // the server crashed
	m.begin("whole")    // its agent, too

	m.boot("second")
	r = m.begin("short")
	m.again(r, "short") // a crash makes up for nothing
	r = m.begin("short")
	m.no(r.stopped())
	m.boot("third")
	r = m.begin("short") // nor does an end in order
	r.started(s)
	m.no(r.promoted(&redis.Server{})) // an earlier server's promotion says nothing
	r = m.begin("short")
	r.started(s)
	m.no(r.promoted(s))
	r = m.begin("whole")

	m.no(r.stopped())
	m.boot("fourth")
	m.begin("whole") // it had ended in order before
}

func TestNodeWithoutDataLacksNothing(t *testing.T) {
	m := newMachine(t)
	if short, err := openRuns(m.dir, m.file).begin(false); short || err != nil {
		t.Errorf("short: %v, %v", short, err)
	}
	m.begin("whole")
}

func TestDataIsShortWhereTheBootCannotBeTold(t *testing.T) {
	m := newMachine(t)
	m.no(os.Remove(m.file))
	s := &redis.Server{}
	r := m.begin("short")
	r.started(s)
	m.no(r.promoted(s))
	r = m.begin("short")
	r.started(s)
	m.no(r.promoted(s))
	m.no(r.stopped())
	m.begin("whole")
}

// A power loss of all machines: no voter's log can be placed, the last holder's may lack its newest
// writes. It is taken when all have answered, and the group says so.
func TestGroupComesBackAfterAPowerLossWhenAllNodesHaveAnswered(t *testing.T) {
	boot := filepath.Join(t.TempDir(), "boot_id")
	bootAs := func(id string) {
		t.Helper()
		if err := os.WriteFile(boot, []byte(id), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	bootAs("first")
	g := newGroup(t, groupOptions{bootIDFile: boot})
	for _, n := range g.nodes {
		g.start(n.Node)
	}
	primary := g.waitReady()
	g.set(primary, "k", "v")

	others := g.replicas(primary)
	g.stopAll()
	for _, n := range g.nodes {
		m := filepath.Join(g.dir, string(n.Node), "run")
		if err := os.WriteFile(m, []byte("running first\n"), 0o600); err != nil { // as if it had not ended in order
			t.Fatal(err)
		}
	}
	bootAs("second")
	g.forgetEvents()
	g.start(primary)
	g.start(others[0])
	g.waitEvent("not_claiming") // one could have more
	if g.hasEvent("claims_short") {
		t.Error("it was taken before all had answered")
	}
	g.start(others[1])
	again := g.waitReady()
	if again != primary || !g.hasEvent("claims_short") {
		t.Errorf("%s leads, want %s; told: %v", again, primary, g.hasEvent("claims_short"))
	}
	if v := g.do(again, "GET", "k"); v != "v" {
		t.Errorf("GET is %q", v)
	}

	g.stopAll()
	bootAs("third")
	g.forgetEvents()
	for _, n := range g.nodes {
		g.start(n.Node)
	}
	g.waitReady()
	if g.hasEvent("claims_short") {
		t.Error("a stop in order is taken for a power loss")
	}
}
