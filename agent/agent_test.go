package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	redigo "github.com/gomodule/redigo/redis"

	"understudy/cluster"
)

// rounds is how often a fault is repeated; AGENT_ROUNDS=30 makes the measurement of the design page.
func rounds(t *testing.T, standard int) int {
	t.Helper()
	text := os.Getenv("AGENT_ROUNDS")
	if text == "" {
		return standard
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestGroupElectsOnItsFirstStart(t *testing.T) {
	began := time.Now()
	g := startGroup(t, groupOptions{})
	t.Logf("ready after %v", time.Since(began))
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("ready after %v, want below 3 s", took)
	}
	primary := g.waitReady()
	s := g.status(primary)
	if primary != "main-001" || s.Epoch != 1 || s.Addr == "" || s.Socket == "" || s.Fork.ReplID == "" {
		t.Errorf("the first primary says %+v", s)
	}
	g.set(primary, "k", "v")
}

func TestCrashedPrimaryIsReplacedAtOnce(t *testing.T) {
	g := startGroup(t, groupOptions{})
	var took, closed, whole []time.Duration
	for i := range rounds(t, 5) {
		old := g.waitReady()
		key := fmt.Sprintf("k%d", i)
		g.set(old, key, "v")
		at := g.signal(old, syscall.SIGKILL)
		primary := g.waitNewPrimary(old)
		took, closed = append(took, g.servedAt(primary).Sub(at)), append(closed, g.lostAt(old).Sub(at))
		t.Logf("%v %v", took[i], g.phases())
		if got := g.do(primary, "GET", key); got != "v" {
			t.Fatalf("%s lost an acked write: %q", primary, got)
		}
		g.waitReady()
		whole = append(whole, time.Since(at))
	}
	report(t, "crash until nobody leads", closed)
	report(t, "crash until the next one leads", took)
	report(t, "crash until three nodes are ready and in the rule", whole)
}

func TestHungPrimaryIsReplacedAndKilled(t *testing.T) {
	g := startGroup(t, groupOptions{})
	var took []time.Duration
	for range rounds(t, 2) {
		old := g.waitReady()
		pid := g.status(old).PID
		at := g.signal(old, syscall.SIGSTOP)
		g.waitNewPrimary(old)
		took = append(took, time.Since(at))
		t.Logf("%v %v", took[len(took)-1], g.phases())
		if err := syscall.Kill(pid, 0); err != syscall.ESRCH {
			t.Errorf("the hung redis-server %d is still there: %v", pid, err)
		}
	}
	g.waitReady()
	report(t, "hang", took)
}

func TestSwitchoverThereAndBackNeedsNoFullSync(t *testing.T) {
	g := startGroup(t, groupOptions{})
	before := g.fullSyncs()
	var took []time.Duration
	for i := range rounds(t, 6) {
		old := g.waitReady()
		key := fmt.Sprintf("k%d", i)
		g.set(old, key, "v")
		at := g.switchover(old)
		primary := g.waitNewPrimary(old)
		took = append(took, g.servedAt(primary).Sub(at))
		t.Logf("%v %v", took[i], g.phases())
		if got := g.do(primary, "GET", key); got != "v" {
			t.Fatalf("%s lost an acked write: %q", primary, got)
		}
	}
	g.waitReady()
	report(t, "switchover", took)
	if after := g.fullSyncs(); after != before {
		t.Errorf("%d full syncs during the switchovers", after-before)
	}
}

// stopped reports whether a process is gone.
func stopped(pid int) bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) }

func TestStopReleasesTheLeadAndTheNextRunHasTheData(t *testing.T) {
	g := startGroup(t, groupOptions{})
	primary := g.waitReady()
	g.set(primary, "k", "v")
	var pids []int
	for _, n := range g.nodes {
		pids = append(pids, g.status(n.Node).PID)
	}
	took := g.stopAll()
	t.Logf("stopped in %v", took)
	if took > 5*time.Second {
		t.Errorf("stopped in %v, want at most 5 s", took)
	}
	for _, pid := range pids {
		if !stopped(pid) {
			t.Errorf("redis-server %d is still there", pid)
		}
	}
	if l := g.lead(); l.State != cluster.LeadReleased || l.Holder != primary {
		t.Errorf("the lead after the stop: %+v", l)
	}
	began := time.Now()
	for _, n := range g.nodes {
		g.start(n.Node)
	}
	g.waitReady()
	t.Logf("ready again in %v", time.Since(began))
	for _, n := range g.nodes {
		if got := g.do(n.Node, "GET", "k"); got != "v" {
			t.Errorf("%s has %q after the restart", n.Node, got)
		}
	}
}

func TestServerThatExitsByItselfIsReplaced(t *testing.T) {
	g := startGroup(t, groupOptions{})
	old := g.waitReady()
	g.set(old, "k", "v")
	c := g.dial(old)
	if _, err := c.Do("SHUTDOWN", "NOSAVE"); err == nil {
		t.Fatal("SHUTDOWN was answered")
	}
	primary := g.waitNewPrimary(old)
	if got := g.do(primary, "GET", "k"); got != "v" {
		t.Errorf("%s lost an acked write: %q", primary, got)
	}
	g.waitReady()
}

// A primary that comes back without its data set must not be followed: its replicas would drop theirs.
func TestPrimaryThatLostItsDataEmptiesNobody(t *testing.T) {
	g := startGroup(t, groupOptions{})
	old := g.waitReady()
	g.set(old, "k", "v")
	g.signal(old, syscall.SIGKILL)
	g.forget(old)
	g.waitNewPrimary(old)
	g.waitReady()
	for _, n := range g.nodes {
		if got := g.do(n.Node, "GET", "k"); got != "v" {
			t.Errorf("%s has %q", n.Node, got)
		}
	}
}

// The same when all were stopped: then nobody can prove to have every acked write, and nobody leads.
func TestGroupWhosePrimaryLostItsDataWaitsForAnOperator(t *testing.T) {
	g := startGroup(t, groupOptions{})
	old := g.waitReady()
	g.set(old, "k", "v")
	for _, id := range g.replicas(old) { // a write that goes straight to the server is not waited for
		waitUntil(t, string(id)+" has the write", func() bool { return g.do(id, "GET", "k") == "v" })
	}
	g.stopAll()
	g.forget(old)
	for _, n := range g.nodes {
		g.start(n.Node)
	}
	// Each election that finds nobody is told again when its reason changes; all nodes up is the last.
	g.wait("every node answers", func(last map[cluster.NodeID]cluster.NodeStatus) bool {
		for _, n := range g.nodes {
			if s := last[n.Node]; s.PID == 0 || s.State == cluster.StateDown || s.State == cluster.StateLoading {
				return false
			}
		}
		return true
	})
	time.Sleep(500 * time.Millisecond) // several windows: what must not happen has had its chance
	for _, id := range g.replicas(old) {
		if got := g.do(id, "GET", "k"); got != "v" {
			t.Errorf("%s has %q", id, got)
		}
	}
	if s := g.status(old); s.Leads {
		t.Errorf("%s leads without its data", old)
	}
}

func TestHungReplicaLeavesTheRuleAndComesBack(t *testing.T) {
	g := startGroup(t, groupOptions{})
	primary := g.waitReady()
	hung := g.replicas(primary)[0]
	g.signal(hung, syscall.SIGSTOP)
	pid := g.status(hung).PID
	t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGCONT) })
	g.set(primary, "k", "v")
	g.wait("the rule counts the other replica only", func(last map[cluster.NodeID]cluster.NodeStatus) bool {
		s := last[primary]
		if !s.Leads || s.Permit == 0 {
			t.Fatalf("the hung replica cost the primary its permit: %+v", s)
		}
		return len(s.Rules) == 1 && len(s.Rules[0].Voters) == 1 && s.Rules[0].Voters[0] == g.replicas(primary)[1]
	})
	g.set(primary, "k", "w")
	if err := syscall.Kill(pid, syscall.SIGCONT); err != nil && !errors.Is(err, syscall.ESRCH) {
		t.Fatal(err)
	}
	if now := g.waitReady(); now != primary {
		t.Errorf("%s leads, not %s any more", now, primary)
	}
}

// failingStore is a store that can be taken away.
type failingStore struct {
	cluster.Store
	gone atomic.Bool
}

func (s *failingStore) List(ctx context.Context, prefix string) ([]cluster.Entry, int64, error) {
	if s.gone.Load() {
		return nil, 0, cluster.ErrUnavailable
	}
	return s.Store.List(ctx, prefix)
}

func (s *failingStore) Swap(ctx context.Context, key string, value []byte, rev int64) (int64, error) {
	if s.gone.Load() {
		return 0, cluster.ErrUnavailable
	}
	return s.Store.Swap(ctx, key, value, rev)
}

// withoutStore starts a group whose store can be taken away.
func withoutStore(t *testing.T) (*group, *failingStore) {
	t.Helper()
	var store *failingStore
	g := startGroup(t, groupOptions{wrap: func(s cluster.Store) cluster.Store {
		store = &failingStore{Store: s}
		return store
	}})
	return g, store
}

func TestPrimaryGoesOnWithoutTheStoreWhileAllNodesPledge(t *testing.T) {
	g, store := withoutStore(t)
	primary := g.waitReady()
	store.gone.Store(true)
	g.waitEvent("failsafe")
	until := time.Now().Add(2500 * time.Millisecond) // several permits
	for i := 0; time.Now().Before(until); i++ {
		g.set(primary, fmt.Sprintf("k%d", i), "v")
		if s := g.status(primary); !s.Leads || s.Permit == 0 || s.Epoch != 1 {
			t.Fatalf("it does not lead any more: %+v", s)
		}
		pause(t.Context(), 20*time.Millisecond)
	}
	store.gone.Store(false)
	g.waitEvent("store_back")
	if now := g.waitReady(); now != primary {
		t.Errorf("%s leads, not %s", now, primary)
	}
}

// A node that does not answer may have, or get, another primary in the store.
func TestPrimaryWithoutTheStoreAndANodeIsFencedBeforeItsPermitEnds(t *testing.T) {
	g, store := withoutStore(t)
	primary := g.waitReady()
	gone := g.replicas(primary)[0]
	if err := g.stops[gone](); err != nil {
		t.Fatal(err)
	}
	g.wait("the rule counts one replica", func(last map[cluster.NodeID]cluster.NodeStatus) bool {
		r := last[primary].Rules
		return len(r) == 1 && len(r[0].Voters) == 1
	})
	g.set(primary, "k", "v")
	began := time.Now()
	store.gone.Store(true)
	g.wait("nobody leads", func(last map[cluster.NodeID]cluster.NodeStatus) bool { return leader(last) == "" })
	if took := time.Since(began); took > time.Second {
		t.Errorf("the permit went on for %v without the store", took)
	}
	g.wait("the old primary is demoted", func(last map[cluster.NodeID]cluster.NodeStatus) bool {
		return last[primary].State == cluster.StateSyncing
	})
	if took := time.Since(began); took > time.Second+150*time.Millisecond {
		t.Errorf("demoted after %v: a challenger may have begun", took)
	}
	c := g.dial(primary)
	if _, err := c.Do("SET", "k", "lost"); err == nil {
		t.Errorf("%s took a write after its permit had ended", primary)
	}
	store.gone.Store(false)
	g.start(gone)
	primary = g.waitReady()
	t.Logf("serves again %v after the store went", time.Since(began))
	if got := g.do(primary, "GET", "k"); got != "v" {
		t.Errorf("%s has %q", primary, got)
	}
	g.set(primary, "k", "w")
}

// The guarantee of the whole: what was written, held by the rule's replicas and answered under a permit
// is there after every change of primary.
func TestAckedWritesSurviveCrashesAndSwitchovers(t *testing.T) {
	g := startGroup(t, groupOptions{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	w := &writer{g: g}
	done := make(chan struct{})
	go func() { defer close(done); w.run(ctx) }()
	for i := range rounds(t, 4) {
		old := g.waitReady()
		wanted := w.acked() + 50
		waitUntil(t, "fifty more writes", func() bool { return w.acked() >= wanted })
		if i%2 == 0 {
			g.signal(old, syscall.SIGKILL)
		} else {
			g.switchover(old)
		}
		g.waitNewPrimary(old)
	}
	primary := g.waitReady()
	cancel()
	<-done
	t.Logf("%d writes were acked, %d were sent", w.acked(), w.sent)
	c := g.dial(primary)
	for _, key := range w.keys {
		if n, err := redigo.Int(c.Do("EXISTS", key)); err != nil || n != 1 {
			t.Errorf("acked write %s is not on %s (%v)", key, primary, err)
		}
	}
}

// writer writes one key after the other to whoever leads.
type writer struct {
	g    *group
	sent int
	mu   sync.Mutex
	keys []string // acked
}

func (w *writer) acked() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.keys)
}

func (w *writer) run(ctx context.Context) {
	for ctx.Err() == nil {
		w.g.mu.Lock()
		primary := leader(w.g.last)
		s := w.g.last[primary]
		w.g.mu.Unlock()
		if primary == "" {
			pause(ctx, time.Millisecond)
			continue
		}
		c, err := redigo.Dial("unix", s.Socket, redigo.DialReadTimeout(time.Second))
		if err != nil {
			pause(ctx, time.Millisecond)
			continue
		}
		for ctx.Err() == nil && w.write(c, s) {
		}
		_ = c.Close()
	}
}

// write reports whether the connection can be used on.
func (w *writer) write(c redigo.Conn, s cluster.NodeStatus) bool {
	w.sent++
	key := fmt.Sprintf("w%d", w.sent)
	if _, err := c.Do("SET", key, key); err != nil {
		return false
	}
	n, err := redigo.Int(c.Do("WAIT", 1, 200))
	if now := w.g.status(s.Node); err != nil || n < 1 || !now.Leads || now.Epoch != s.Epoch {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.keys = append(w.keys, key)
	return true
}

func waitUntil(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for limit := time.After(patience); !ok(); {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}
