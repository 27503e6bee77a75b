package agent

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"understudy/cluster"
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
func (m machine) begin(want worth) *runs {
	m.t.Helper()
	r := openRuns(m.dir, m.file)
	m.again(r, want)
	return r
}

// again is the start of a server under the same agent.
func (m machine) again(r *runs, want worth) {
	m.t.Helper()
	have, err := r.begin(someFiles, nil)
	if err != nil {
		m.t.Fatal(err)
	}
	if have != want {
		m.t.Errorf("the data set is worth %+v, want %+v", have, want)
	}
}

// lead is the promotion of the server, and a look at it afterwards.
func (m machine) lead(r *runs) {
	m.t.Helper()
	changes, err := r.promotes()
	m.no(err)
	m.no(r.promoted(changes, false))
	m.no(r.led(changes))
}

func (m machine) no(err error) {
	m.t.Helper()
	if err != nil {
		m.t.Error(err)
	}
}

// someFiles is a data set.
const someFiles = "1.incr.aof:7 "

var (
	nothing = worth{}
	intact  = worth{intact: true}
	short   = worth{short: true}
)

func TestDataIsShortAfterThePowerWasLostAndNotAfterACrash(t *testing.T) {
	m := newMachine(t)
	r := m.begin(nothing) // no note: nothing is known of what is there
	m.lead(r)
	m.again(r, intact) // the server crashed
	m.begin(intact)    // its agent, too

	m.boot("second")
	r = m.begin(short)
	m.again(r, short) // a crash makes up for nothing
	r = m.begin(short)
	m.no(r.stopped(cluster.Position{}, someFiles))
	m.boot("third")
	r = m.begin(short) // nor does an end in order
	changes, err := r.promotes()
	m.no(err)
	m.again(r, short)
	m.no(r.promoted(changes, false)) // an earlier server's promotion says nothing
	r = m.begin(short)
	m.lead(r)
	r = m.begin(intact)

	m.no(r.stopped(cluster.Position{}, someFiles))
	m.boot("fourth")
	m.begin(intact) // it had ended in order before
}

// A holder that lost its data set has none that is whole, however often it starts; nor has one that has
// begun to follow, whether or not it came to it.
func TestDataIsNotWholeWithoutALookAtAPrimary(t *testing.T) {
	m := newMachine(t)
	r := m.begin(nothing)
	m.lead(r)
	if w, err := r.begin("", nil); err != nil || w != nothing {
		t.Errorf("without data: %+v, %v", w, err)
	}
	m.begin(nothing)
	r = m.begin(nothing)

	m.lead(r)
	r = m.begin(intact)
	m.no(r.follows())
	m.begin(nothing)

	changes, err := r.promotes() // its append-only file is still being written when it crashes
	m.no(err)
	m.no(r.promoted(changes, false))
	r = m.begin(nothing)
	changes, err = r.promotes()
	m.no(err)
	m.no(r.follows())
	m.no(r.led(changes)) // that look was before
	m.begin(nothing)
}

func TestLogIsKnownExactlyAfterAStopInOrderUntilItMoves(t *testing.T) {
	m := newMachine(t)
	at := cluster.Position{ReplID: "log", Offset: 42}
	r := m.begin(nothing)
	m.no(r.stopped(at, someFiles))
	m.boot("second")
	r = m.begin(worth{exact: at})
	m.again(r, worth{exact: at}) // a crash before anything was changed
	m.boot("third")
	r = m.begin(worth{exact: at}) // or a power loss
	_, err := r.promotes()
	m.no(err)
	m.again(r, nothing)
	m.no(r.stopped(at, someFiles))
	m.no(r.follows())
	m.begin(nothing)

	m.lead(r)
	m.no(r.stopped(at, someFiles))
	r = m.begin(worth{intact: true, exact: at})
	w, err := r.begin("2.base.rdb:9 ", nil) // the server has written its file anew, and crashed
	m.no(err)
	if w != intact {
		t.Errorf("its own data set is worth %+v", w)
	}
	m.no(r.stopped(at, someFiles))
	w, err = openRuns(m.dir, m.file).begin("2.incr.aof:9 ", nil) // somebody has put another data set there
	m.no(err)
	if w != nothing {
		t.Errorf("another data set is worth %+v", w)
	}
}

func TestLogWasLastSeenBeforeACrashAndIsForgottenInAPowerLoss(t *testing.T) {
	m := newMachine(t)
	at := cluster.Position{ReplID: "log", Offset: 42}
	r := m.begin(nothing)
	m.no(r.looked(at))
	r = m.begin(worth{last: at})
	m.boot("second")
	m.begin(nothing)
	m.no(r.looked(at))
	m.no(os.WriteFile(filepath.Join(m.dir, "last.json"), []byte(`{"repl`), 0o600))
	m.begin(nothing)
}

func TestDataIsShortWhereTheBootCannotBeTold(t *testing.T) {
	m := newMachine(t)
	m.no(os.Remove(m.file))
	r := m.begin(nothing)
	m.lead(r)
	r = m.begin(short)
	m.lead(r)
	m.no(r.stopped(cluster.Position{}, someFiles))
	m.begin(intact)
}

// crashed rewrites a note as if its server had not ended in order.
func crashed(t *testing.T, path string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var n note
	if err := json.Unmarshal(text, &n); err != nil {
		t.Fatal(err)
	}
	n.State, n.At = stateRunning, cluster.Position{}
	if text, err = json.Marshal(n); err == nil {
		err = os.WriteFile(path, text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
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
		crashed(t, filepath.Join(g.dir, string(n.Node), "run.json"))
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
