package e2e

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"understudy/history"
)

// zoneSteps are what the clients of a zone do: own sessions, registers that all zones share, a queue, and
// counters. Nobody pops: which zone's client got an element says nothing.
var zoneSteps = []func(*worker){(*worker).visit, (*worker).visit, (*worker).share, (*worker).share, (*worker).push, (*worker).count}

// zonePace leaves two cores to three machines with all that belongs to them.
const zonePace = 10 * time.Millisecond

// startLoads puts the same load on every zone's own proxy: the first is that of the given machine.
func (g *Machines) startLoads(inside *Machine, others []*Machine) (in *load, out []*load) {
	g.t.Helper()
	in = startLoadPaced(g.t, inside.place(), zonePace, zoneSteps)
	for _, m := range others {
		out = append(out, startLoadPaced(g.t, m.place(), zonePace, zoneSteps))
	}
	return in, out
}

// outage is what clients saw of a cut.
type outage struct {
	from      time.Duration // when the fault was there
	lastIn    time.Duration // when the last write was acked in the zone of the old primary, the cut not healed
	firstOut  time.Duration // when the first write was acked elsewhere after the longest gap there
	gapOut    time.Duration
	staleIn   time.Duration // the oldest data that was read inside while it was cut off
	staleRead int
}

// measure finds the outage in what was seen: from is when the zone was cut off, healed when it was back.
func measure(in *load, out []*load, from, healed time.Duration) outage {
	o := outage{from: from}
	for _, op := range in.ops() {
		if counts(op) && op.Invoked >= from && op.Returned < healed {
			o.lastIn = max(o.lastIn, op.Returned)
		}
	}
	var acks []time.Duration
	for _, l := range out {
		for _, op := range l.ops() {
			if counts(op) && op.Returned > from-time.Second && op.Returned < healed {
				acks = append(acks, op.Returned)
			}
		}
	}
	slices.Sort(acks)
	for i := 1; i < len(acks); i++ {
		if gap := acks[i] - acks[i-1]; gap > o.gapOut {
			o.gapOut, o.firstOut = gap, acks[i]
		}
	}
	var all []history.Op
	for _, l := range append([]*load{in}, out...) {
		all = append(all, l.ops()...)
	}
	inside := map[int]bool{}
	for _, w := range in.workers {
		inside[w.id] = true
	}
	for _, age := range staleness(all, func(r history.Op) bool { return inside[r.Client] && r.Invoked >= from && r.Returned < healed }) {
		o.staleIn = max(o.staleIn, age)
		o.staleRead++
	}
	return o
}

// staleness returns how old each read that look accepts was: for how long a newer value had been acked, or
// shown to somebody, when the read ended. Reads that were not stale are left out.
func staleness(ops []history.Op, look func(history.Op) bool) []time.Duration {
	writes := map[string]map[string]history.Op{}
	var reads []history.Op
	for _, o := range ops {
		switch {
		case o.Kind == history.Set:
			if writes[o.Key] == nil {
				writes[o.Key] = map[string]history.Op{}
			}
			writes[o.Key][o.Value] = o
		case o.Kind == history.Get && o.Outcome == history.OK:
			reads = append(reads, o)
		}
	}
	var ages []time.Duration
	for _, r := range reads {
		if !look(r) {
			continue
		}
		from, known := writes[r.Key][r.Result]
		oldest := time.Duration(0)
		for _, w := range writes[r.Key] {
			newer := !known || from.Outcome == history.OK && from.Returned < w.Invoked
			if w.Outcome == history.OK && newer && w.Returned < r.Invoked {
				oldest = max(oldest, r.Returned-w.Returned)
			}
		}
		if oldest > 0 {
			ages = append(ages, oldest)
		}
	}
	return ages
}

// The goals of a cut for the clients outside, and T with what a busy machine adds: the bound for stale reads.
const (
	goalCutSync  = 700 * time.Millisecond
	goalCutAsync = 1500 * time.Millisecond
)

// The primary's zone is cut off with clients in it. Those must not be told OK for what the other side will
// not have; the other side must not begin before they have stopped.
func TestIsolatedPrimaryStopsBeforeTheOtherSideBegins(t *testing.T) {
	g := StartMachines(t, "sync")
	rounds := times(t, "UNDERSTUDY_ROUNDS", 1)
	var gaps []time.Duration
	for range rounds {
		o, in, out := g.isolate()
		gaps = append(gaps, o.gapOut)
		j := gather(t, out[0].at, append([]*load{in}, out...)...)
		if j.Lost > 0 || j.Duplicated > 0 || j.Phantoms > 0 {
			t.Errorf("lost %d, duplicated %d, phantoms %d: %v %v", j.Lost, j.Duplicated, j.Phantoms, j.LostExamples, j.Examples)
		}
		if o.lastIn >= o.firstOut {
			t.Errorf("a write was acked inside %v after the cut, and outside already %v after it", o.lastIn-o.from, o.firstOut-o.from)
		}
		// In the cut-off zone reads go on while the permit lasts; outside no read may be stale at all.
		if limit := fastTTL + 100*time.Millisecond; o.staleIn > limit {
			t.Errorf("inside %v old data was read; %v is the bound", o.staleIn, limit)
		}
		demandFreshReads(t, out, in)
	}
	slices.Sort(gaps)
	report(t, "cuts, seen outside, sync", gaps, goalCutSync, 5*time.Second)
	g.stop()
}

// demandFreshReads demands that no client of the loads read old data, whoever wrote the newer; others are the
// other loads.
func demandFreshReads(t *testing.T, loads []*load, others ...*load) {
	t.Helper()
	var all []history.Op
	readers := map[int]bool{}
	for _, l := range loads {
		for _, w := range l.workers {
			readers[w.id] = true
		}
	}
	for _, l := range append(others, loads...) {
		all = append(all, l.ops()...)
	}
	if old := staleness(all, func(r history.Op) bool { return readers[r.Client] }); len(old) > 0 {
		t.Errorf("%d stale reads, up to %v old", len(old), slices.Max(old))
	}
}

// isolate cuts the primary's zone off under load on all sides, heals it when the others have gone on for a
// while, and returns when the group is whole.
func (g *Machines) isolate() (o outage, in *load, out []*load) {
	g.t.Helper()
	before := g.WaitAvailable()
	inside, others := g.primary(before)
	store := "elsewhere"
	if g.storeLeader() == inside {
		store = "in it too" // which costs an election of the store's own
	}
	in, out = g.startLoads(inside, others)
	for _, l := range append([]*load{in}, out...) {
		l.waitAcked(100)
	}
	g.demandVoters(before)
	from := in.now()
	g.net.Cut(inside.Zone)
	after := others[0].wait("another primary", func(s Status) bool { return s.Primary != "" && s.Primary != before.Primary && s.Epoch > before.Epoch })
	for _, l := range out {
		l.waitAcked(100)
	}
	outlive(g.t, in, from)
	healed := in.now()
	g.net.Heal()
	g.WaitAvailable()
	for _, l := range append([]*load{in}, out...) {
		l.waitAcked(50)
		l.end()
	}
	o = measure(in, out, from, healed)
	if after.Last != nil {
		g.t.Logf("%s took over: %s; phases in ms %v", after.Primary, after.Last.Cause, after.Last.Phases)
	}
	g.t.Logf("cut off zone %s, the store's leader is %s: inside the last write was acked after %v, outside the first after %v (a gap of %v); %d stale reads inside, at most %v old",
		inside.Name, store, max(0, o.lastIn-from).Round(time.Millisecond), (o.firstOut - from).Round(time.Millisecond), o.gapOut.Round(time.Millisecond), o.staleRead, o.staleIn.Round(time.Millisecond))
	return o, in, out
}

// demandVoters waits until the others may take over. A replica that a busy machine kept from answering is out of the rule
// for a while: without any in it the others could not go on, and must not.
func (g *Machines) demandVoters(before Status) {
	g.t.Helper()
	if again := g.WaitAvailable(); again.Epoch != before.Epoch {
		g.t.Fatalf("the primary changed before the cut: %+v", again)
	}
}

// outlive waits until every permit from before the fault has ended, and the server with it: the old primary
// must have had the time to do the wrong thing.
func outlive(t *testing.T, l *load, from time.Duration) {
	t.Helper()
	eventually(t, "the end of the old permit", func() error {
		if left := from + fastTTL + 2*fastDelta - l.now(); left > 0 {
			return fmt.Errorf("%v are left", left)
		}
		return nil
	})
}

// In async the cut-off primary acks what only it has until its permit ends: it may lose that, must say so, and
// must still stop before the others begin.
func TestIsolatedAsyncPrimaryStopsInTimeAndSaysWhatWasLost(t *testing.T) {
	g := StartMachines(t, "async")
	rounds := times(t, "UNDERSTUDY_ROUNDS", 1)
	var gaps []time.Duration
	for range rounds {
		before := g.WaitAvailable()
		old, _ := g.primary(before)
		o, in, out := g.isolate()
		gaps = append(gaps, o.gapOut)
		if o.lastIn >= o.firstOut {
			t.Errorf("a write was acked inside %v after the cut, and outside already %v after it", o.lastIn-o.from, o.firstOut-o.from)
		}
		if limit := fastTTL + 100*time.Millisecond; o.lastIn-o.from > limit {
			t.Errorf("inside the last write was acked %v after the cut; %v is the bound", o.lastIn-o.from, limit)
		}
		j := gather(t, out[0].at, append([]*load{in}, out...)...)
		saved := old.lost()
		t.Logf("%d acked writes are lost; put aside in zone %s: %v", j.Lost, old.Name, saved)
		if j.Lost > 0 && len(saved) == 0 {
			t.Errorf("%d acked writes are lost, and zone %s has put nothing aside", j.Lost, old.Name)
		}
	}
	slices.Sort(gaps)
	report(t, "cuts, seen outside, async", gaps, goalCutAsync, 6*time.Second)
	g.stop()
}

// The link breaks in one direction only: one side hears the other, and is not heard.
func TestLinkCutInOneDirection(t *testing.T) {
	for name, cut := range map[string]func(g *Machines, primary *Machine, others []*Machine){
		"the primary is not heard": func(g *Machines, primary *Machine, others []*Machine) {
			for _, m := range others {
				g.net.CutOneWay(primary.Zone, m.Zone)
			}
		},
		"the primary does not hear": func(g *Machines, primary *Machine, others []*Machine) {
			for _, m := range others {
				g.net.CutOneWay(m.Zone, primary.Zone)
			}
		},
		"one replica is not heard by anybody": func(g *Machines, primary *Machine, others []*Machine) {
			g.net.CutOneWay(others[0].Zone, primary.Zone)
			g.net.CutOneWay(others[0].Zone, others[1].Zone)
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := StartMachines(t, "sync")
			before := g.WaitAvailable()
			primary, others := g.primary(before)
			in, out := g.startLoads(primary, others)
			for _, l := range append([]*load{in}, out...) {
				l.waitAcked(50)
			}
			g.demandVoters(before)
			from := in.now()
			cut(g, primary, others)
			whole := out[1] // its zone hears and is heard by at least one other in every case
			whole.waitAcked(50)
			took := in.now() - from
			g.net.Heal()
			after := g.WaitAvailable()
			for _, l := range append([]*load{in}, out...) {
				l.waitAcked(50)
				l.end()
			}
			t.Logf("writes in zone %s went on after %v; %s under epoch %d became %s under %d",
				others[1].Name, took.Round(time.Millisecond), before.Primary, before.Epoch, after.Primary, after.Epoch)
			j := gather(t, whole.at, append([]*load{in}, out...)...)
			if j.Lost > 0 || j.Duplicated > 0 || j.Phantoms > 0 {
				t.Errorf("lost %d, duplicated %d, phantoms %d: %v %v", j.Lost, j.Duplicated, j.Phantoms, j.LostExamples, j.Examples)
			}
			if after.Epoch > before.Epoch+3 {
				t.Errorf("epoch %d became %d: the group flaps", before.Epoch, after.Epoch)
			}
			g.stop()
		})
	}
}

// The replica with the newest data cannot be reached when the primary dies. The other one must have
// everything that was acked, or wait.
func TestBestReplicaIsUnreachableAtTheElection(t *testing.T) {
	g := StartMachines(t, "sync")
	before := g.WaitAvailable()
	primary, others := g.primary(before)
	l := startLoadPaced(t, others[0].place(), zonePace, zoneSteps)
	l.waitAcked(100)
	// Only others[1] gets the newest writes: others[0] stands still for a moment.
	var frozen []process
	for _, n := range before.Nodes {
		if n.Zone == others[0].Name {
			frozen = append(frozen, mustLook(t, n.PID))
		}
	}
	thaw := freeze(t, frozen...)
	l.waitAcked(50)
	g.net.Cut(others[1].Zone)
	kill(t, before.node(before.Primary).PID)
	thaw()
	from := l.now()
	after := others[0].wait("a primary again", func(s Status) bool { return s.Primary != "" && s.Epoch > before.Epoch })
	l.waitAcked(50)
	t.Logf("served again after %v, by %s; it was %s", (l.now() - from).Round(time.Millisecond), after.Primary, before.Primary)
	g.net.Heal()
	g.WaitAvailable()
	l.end()
	judgeAt(t, primary.place(), l)
	g.stop()
}

// Of the packets that leave the primary's zone 30 % are lost. That is no reason to change the primary again
// and again, and never one to lose a write.
func TestPacketLossDoesNotMakeTheGroupFlap(t *testing.T) {
	g := StartMachines(t, "sync")
	before := g.WaitAvailable()
	primary, others := g.primary(before)
	in, out := g.startLoads(primary, others[:1])
	in.waitAcked(100)
	from := in.now()
	g.net.Lose(primary.Zone, 30)
	const lossy = 6 * time.Second
	time.Sleep(lossy) // the fault lasts that long, whatever happens
	g.net.Heal()
	healed := in.now()
	after := g.WaitAvailable()
	for _, l := range append([]*load{in}, out...) {
		l.waitAcked(50)
		l.end()
	}
	acked := 0
	for _, o := range append(in.ops(), out[0].ops()...) {
		if counts(o) && o.Invoked > from && o.Returned < healed {
			acked++
		}
	}
	t.Logf("%d writes were acked in %v at a loss of 30 %%; epoch %d became %d", acked, lossy, before.Epoch, after.Epoch)
	j := gather(t, out[0].at, append([]*load{in}, out...)...)
	if j.Lost > 0 || j.Duplicated > 0 || j.Phantoms > 0 {
		t.Errorf("lost %d, duplicated %d, phantoms %d: %v %v", j.Lost, j.Duplicated, j.Phantoms, j.LostExamples, j.Examples)
	}
	// A change of primary takes more than T from the last one, and there is none to be gained by most of them.
	if limit := before.Epoch + 3; after.Epoch > limit {
		t.Errorf("epoch %d became %d in %v: the group flaps", before.Epoch, after.Epoch, lossy)
	}
	if acked == 0 {
		t.Error("no write was acked at a loss of 30 %")
	}
	g.stop()
}

// lost lists what the machine's node has put aside.
func (m *Machine) lost() []string {
	var found []string
	for _, f := range m.files("lost.json") {
		found = append(found, strings.TrimPrefix(f, m.dir))
	}
	return found
}

// freezeZone stops every process of the machine.
func (m *Machine) freezeZone() (thaw func()) {
	m.t.Helper()
	var all []process
	for _, pid := range m.pids() {
		if p, _, ok := look(pid); ok {
			all = append(all, p)
		}
	}
	return freeze(m.t, all...)
}

// A whole zone stands still and wakes up: for its processes no time has passed, and the clients' requests are
// still in its proxy's sockets.
func TestThawedZoneActsOnNothingOld(t *testing.T) {
	for name, pick := range map[string]func(m *Machine) func(){
		"the whole zone": func(m *Machine) func() { return m.freezeZone() },
		"the agent":      func(m *Machine) func() { return freeze(m.t, mustLook(m.t, m.agent.cmd.Process.Pid)) },
	} {
		t.Run(name, func(t *testing.T) {
			g := StartMachines(t, "sync")
			before := g.WaitAvailable()
			inside, others := g.primary(before)
			in, out := g.startLoads(inside, others)
			for _, l := range append([]*load{in}, out...) {
				l.waitAcked(50)
			}
			old := mustLook(t, before.node(before.Primary).PID)
			from := in.now()
			thaw := pick(inside)
			after := others[0].wait("another primary", func(s Status) bool { return s.Primary != "" && s.Primary != before.Primary })
			for _, l := range out {
				l.waitAcked(50)
			}
			took := in.now() - from
			outlive(t, in, from)
			thawed := in.now()
			thaw()
			g.WaitAvailable()
			in.waitAcked(50)
			for _, l := range append([]*load{in}, out...) {
				l.end()
			}
			if alive(old) {
				t.Errorf("%v outlived its permit", old)
			}
			o := measure(in, out, from, thawed)
			t.Logf("froze %s of zone %s: outside a gap of %v, 50 writes each after %v; epoch %d became %d", name, inside.Name, o.gapOut.Round(time.Millisecond), took.Round(time.Millisecond), before.Epoch, after.Epoch)
			all := append([]*load{in}, out...)
			j := gather(t, out[0].at, all...)
			if j.Lost > 0 || j.Duplicated > 0 || j.Phantoms > 0 {
				t.Errorf("lost %d, duplicated %d, phantoms %d: %v %v", j.Lost, j.Duplicated, j.Phantoms, j.LostExamples, j.Examples)
			}
			demandFreshReads(t, all) // nobody read anything while it was frozen
			g.stop()
		})
	}
}

// The agent is killed: its redis-server must not live on, and the others do not wait for T.
func TestKilledAgentTakesItsServerWithIt(t *testing.T) {
	g := StartMachines(t, "sync")
	before := g.WaitAvailable()
	inside, others := g.primary(before)
	in, out := g.startLoads(inside, others[:1])
	out[0].waitAcked(100)
	server := mustLook(t, before.node(before.Primary).PID)
	from := out[0].now()
	inside.kill(inside.agent)
	took := waitGone(t, server)
	others[0].wait("another primary", func(s Status) bool { return s.Primary != "" && s.Primary != before.Primary })
	out[0].waitAcked(100)
	inside.startAgent()
	g.WaitAvailable()
	for _, l := range append([]*load{in}, out...) {
		l.end()
	}
	o := measure(in, out, from, out[0].now())
	t.Logf("the agent was killed: its redis-server ended %v later; outside a gap of %v", took.Round(time.Millisecond), o.gapOut.Round(time.Millisecond))
	if took > 2*time.Second {
		t.Errorf("%v lived on for %v", server, took)
	}
	judgeAt(t, out[0].at, append(out, in)...)
	g.stop()
}

// All three machines are gone at once and come back one after the other, in any order. Where the agents are
// killed their servers write what they have acked, and nothing may be lost; where everything is killed, as a
// power loss does, up to two seconds of writes may (ARCHITECTURE.md): the last order says how many were.
func TestNodesComeBackInAnyOrderAfterAPowerLoss(t *testing.T) {
	g := StartMachines(t, "sync")
	for _, order := range [][3]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}} {
		before := g.WaitAvailable()
		l := startLoadPaced(t, g.all[0].place(), zonePace, []func(*worker){(*worker).visit, (*worker).push})
		l.waitAcked(50)
		power := order == [3]int{2, 1, 0}
		for _, m := range g.all {
			for _, pid := range m.pids() {
				if pid == m.agent.cmd.Process.Pid || power && pid != m.proxy.cmd.Process.Pid {
					_ = syscall.Kill(pid, syscall.SIGKILL) // its parent's end may have taken it already
				}
			}
		}
		for _, m := range g.all {
			<-m.agent.ended
		}
		from := l.now()
		for _, i := range order {
			g.all[i].startAgent()
			time.Sleep(100 * time.Millisecond) // machines do not boot at the same moment
		}
		after := g.WaitAvailable()
		l.waitAcked(20)
		l.end()
		j := gather(t, l.at, l)
		t.Logf("order %v: whole again after %v, epoch %d became %d", order, (l.now() - from).Round(time.Millisecond), before.Epoch, after.Epoch)
		if j.Lost > 0 && !power || j.Duplicated > 0 || j.Phantoms > 0 {
			t.Errorf("order %v: lost %d, duplicated %d, phantoms %d: %v %v", order, j.Lost, j.Duplicated, j.Phantoms, j.LostExamples, j.Examples)
		}
		if after.Epoch <= before.Epoch {
			t.Errorf("order %v: epoch %d came after %d", order, after.Epoch, before.Epoch)
		}
	}
	g.stop()
}
