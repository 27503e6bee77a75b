package e2e

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// storePorts are those of the store's members: for clients, and for one another.
var storePorts = []int{2379, 2380}

// No member of the store reaches another one: nobody can renew anything. The primary goes on as long as every
// node confirms it, and nobody takes over.
func TestPrimaryGoesOnWithoutTheStoreWhileEveryNodeConfirms(t *testing.T) {
	g := StartMachines(t, "sync")
	before := g.WaitAvailable()
	inside, others := g.primary(before)
	in, out := g.startLoads(inside, others[:1])
	out[0].waitAcked(100)
	from := in.now()
	g.net.CutPorts(storePorts...)
	for out[0].now()-from < 3*fastTTL { // three permits' time
		out[0].waitAcked(20)
	}
	took := out[0].now() - from
	for _, m := range g.all {
		if s, err := m.status(); err != nil || s.Epoch != before.Epoch {
			t.Errorf("zone %s sees epoch %d without a store, it was %d: %v", m.Name, s.Epoch, before.Epoch, err)
		}
	}
	g.net.Heal()
	after := g.WaitAvailable()
	out[0].waitAcked(50)
	for _, l := range append([]*load{in}, out...) {
		l.end()
	}
	if after.Primary != before.Primary || after.Epoch != before.Epoch {
		t.Errorf("%s under epoch %d became %s under %d", before.Primary, before.Epoch, after.Primary, after.Epoch)
	}
	j := judgeAt(t, out[0].at, append(out, in)...)
	report(t, fmt.Sprintf("losses of the store for %v", took.Round(time.Second)), j.gaps([]around{{from, from + took}}), 500*time.Millisecond, 5*time.Second)
	g.stop()
}

// Without the store, and with a node that does not confirm, nobody knows whether that node was elected: the
// primary stops, and nobody begins.
func TestNobodyLeadsWithoutTheStoreAndWithoutANode(t *testing.T) {
	g := StartMachines(t, "sync")
	before := g.WaitAvailable()
	inside, others := g.primary(before)
	in, _ := g.startLoads(inside, nil)
	in.waitAcked(100)
	g.net.CutPorts(storePorts...)
	others[0].kill(others[0].agent)
	inside.wait("that nobody leads", func(s Status) bool { return s.Primary == "" })
	outlive(t, in, in.now())
	if s, err := others[1].status(); err != nil || s.Primary != "" {
		t.Errorf("zone %s sees %s lead, %v", others[1].Name, s.Primary, err)
	}
	from := in.now()
	others[0].startAgent()
	g.net.Heal()
	g.WaitAvailable()
	in.waitAcked(50)
	in.end()
	t.Logf("whole again %v after the store was back", (in.now() - from).Round(time.Millisecond))
	j := gather(t, others[1].place(), in)
	if j.Lost > 0 || j.Duplicated > 0 || j.Phantoms > 0 {
		t.Errorf("lost %d, duplicated %d, phantoms %d: %v %v", j.Lost, j.Duplicated, j.Phantoms, j.LostExamples, j.Examples)
	}
	g.stop()
}

// storeLeader is the machine whose member leads the store.
func (g *Machines) storeLeader() *Machine {
	g.t.Helper()
	var leader *Machine
	eventually(g.t, "a leader of the store", func() error {
		for _, m := range g.all {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+m.IP+":2379/metrics", nil)
			if err != nil {
				cancel()
				return err
			}
			resp, err := m.http.Do(req)
			if err == nil {
				var b bytes.Buffer
				_, err = b.ReadFrom(resp.Body)
				_ = resp.Body.Close()
				if bytes.Contains(b.Bytes(), []byte("\netcd_server_is_leader 1\n")) {
					leader = m
				}
			}
			cancel()
			if err != nil {
				return err
			}
		}
		if leader == nil {
			return fmt.Errorf("no member says that it leads")
		}
		return nil
	})
	return leader
}

// switchTo hands the lead to the node of a zone, if it is not there.
func (g *Machines) switchTo(m *Machine) Status {
	g.t.Helper()
	s := g.WaitAvailable()
	if at, _ := g.primary(s); at == m {
		return s
	}
	var to string
	for _, n := range s.Nodes {
		if n.Zone == m.Name {
			to = n.ID
		}
	}
	eventually(g.t, "a switchover to zone "+m.Name, func() error {
		out, err := exec.Command("ip", "netns", "exec", m.ns, program, "switchover", "--http", agentHTTP, "--to", to).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
	return g.WaitAvailable()
}

// The machine that is lost has the primary and the leader of the store: the store must choose first.
func TestMachineOfPrimaryAndStoreLeaderIsLost(t *testing.T) {
	g := StartMachines(t, "sync")
	lost := g.storeLeader()
	before := g.switchTo(lost)
	_, others := g.primary(before)
	in, out := g.startLoads(lost, others)
	for _, l := range out {
		l.waitAcked(100)
	}
	from := out[0].now()
	for _, pid := range lost.pids() {
		_ = syscall.Kill(pid, syscall.SIGKILL) // its parent's end may have taken it already
	}
	after := others[0].wait("another primary", func(s Status) bool { return s.Primary != "" && s.Primary != before.Primary })
	for _, l := range out {
		l.waitAcked(100)
		l.end()
	}
	t.Logf("zone %s was lost; %s leads under epoch %d", lost.Name, after.Primary, after.Epoch)
	<-lost.agent.ended
	<-lost.proxy.ended
	lost.startAgent()
	lost.startProxy()
	g.WaitAvailable()
	in.end()
	j := judgeAt(t, out[0].at, append(out, in)...)
	report(t, "losses of the machine of the primary and the store's leader", j.gaps([]around{{from, out[0].now()}}), 1500*time.Millisecond, 8*time.Second)
	g.stop()
}

// Two of three machines are gone: the third one must neither lead nor forget.
func TestMajorityOfTheStoreIsLostAndComesBack(t *testing.T) {
	g := StartMachines(t, "sync")
	before := g.WaitAvailable()
	inside, others := g.primary(before)
	l := startLoadPaced(t, others[1].place(), zonePace, zoneSteps)
	l.waitAcked(100)
	inside.kill(inside.agent)
	others[0].kill(others[0].agent)
	outlive(t, l, l.now())
	if s, err := others[1].status(); err == nil && s.Primary != "" && s.Primary != before.Primary {
		t.Errorf("%s leads with one of three members of the store", s.Primary)
	}
	from := l.now()
	others[0].startAgent()
	inside.startAgent()
	after := g.WaitAvailable()
	l.waitAcked(50)
	l.end()
	t.Logf("served again %v after the majority was back, by %s (it was %s)", (l.now() - from).Round(time.Millisecond), after.Primary, before.Primary)
	j := gather(t, l.at, l)
	if j.Lost > 0 || j.Duplicated > 0 || j.Phantoms > 0 {
		t.Errorf("lost %d, duplicated %d, phantoms %d: %v %v", j.Lost, j.Duplicated, j.Phantoms, j.LostExamples, j.Examples)
	}
	g.stop()
}

// The store is put back to what it was some changes of primary ago. Epochs must go on from the highest that
// any node has seen, and no write may be lost over it.
func TestStoreRestoredFromAnOldBackupReusesNoEpoch(t *testing.T) {
	g := StartMachines(t, "sync")
	old := g.WaitAvailable()
	copyTo := t.TempDir()
	g.stopAgents()
	for _, m := range g.all {
		copyDir(t, filepath.Join(m.dir, "data", "store"), filepath.Join(copyTo, filepath.Base(m.dir)))
	}
	g.startAgents()
	_, others := g.primary(g.WaitAvailable())
	for _, m := range others {
		g.switchTo(m)
	}
	l := startLoadPaced(t, g.all[0].place(), zonePace, zoneSteps)
	l.waitAcked(100)
	l.end()
	before := g.WaitAvailable()
	g.stopAgents()
	for _, m := range g.all {
		store := filepath.Join(m.dir, "data", "store")
		if err := os.RemoveAll(store); err != nil {
			t.Fatal(err)
		}
		copyDir(t, filepath.Join(copyTo, filepath.Base(m.dir)), store)
	}
	from := l.now()
	g.startAgents()
	after := g.WaitAvailable()
	t.Logf("the backup knew epoch %d, the group was at %d and is at %d; served again after %v", old.Epoch, before.Epoch, after.Epoch, (l.now() - from).Round(time.Millisecond))
	if after.Epoch <= before.Epoch {
		t.Errorf("epoch %d came after %d: it was given away before", after.Epoch, before.Epoch)
	}
	judgeAt(t, l.at, l)
	g.stop()
}

// stopAgents ends every agent in order, and startAgents starts them again.
func (g *Machines) stopAgents() {
	g.t.Helper()
	for _, m := range g.all {
		if err := m.agent.cmd.Process.Signal(syscall.SIGTERM); err != nil {
			g.t.Fatal(err)
		}
	}
	for _, m := range g.all {
		select {
		case <-m.agent.ended:
		case <-time.After(patience):
			g.t.Fatalf("the agent of zone %s has not stopped after %v", m.Name, patience)
		}
	}
}

func (g *Machines) startAgents() {
	for _, m := range g.all {
		m.startAgent()
	}
}

func copyDir(t *testing.T, from, to string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}
