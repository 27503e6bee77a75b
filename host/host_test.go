package host

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"understudy/cluster"
	"understudy/cluster/clustertest"
)

// patience bounds every wait.
const patience = 20 * time.Second

// stage is a store and machines on it.
type stage struct {
	t     *testing.T
	store cluster.Store
	began time.Time

	mu     sync.Mutex
	runs   map[string]string // node -> machine that runs it
	seen   map[string]Assignment
	twice  []string
	events []cluster.Event
	newer  chan struct{}
}

func newStage(t *testing.T) *stage {
	return &stage{t: t, store: new(clustertest.Memory), began: time.Now(), runs: map[string]string{}, seen: map[string]Assignment{}, newer: make(chan struct{})}
}

// actor plays a node.
type actor struct {
	stage   *stage
	machine string
	a       Assignment
}

func (x *actor) Run(ctx context.Context) error {
	id := string(x.a.Place.ID)
	x.stage.change(func(s *stage) {
		if other := s.runs[id]; other != "" {
			s.twice = append(s.twice, fmt.Sprintf("%s on %s and %s", id, other, x.machine))
		}
		s.runs[id], s.seen[id] = x.machine, x.a
	})
	<-ctx.Done()
	x.stage.change(func(s *stage) { delete(s.runs, id) })
	return nil
}

func (s *stage) change(f func(*stage)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(s)
	close(s.newer)
	s.newer = make(chan struct{})
}

// options are those of a machine; tests change them before they run it.
func (s *stage) options(name, zone string) Options {
	return Options{
		Machine: cluster.Machine{Name: name, Zone: zone, Host: "127.0.0.1", RPC: "tcp:127.0.0.1:1"},
		Store:   s.store, Dir: s.t.TempDir(), PortBase: 7402, Renew: 100 * time.Millisecond, ReplaceAfter: 2 * time.Second, CrowdAfter: time.Second,
		Groups:  []cluster.Spec{{Name: "main", Nodes: []cluster.NodePlace{{ID: "main-001"}, {ID: "main-002"}, {ID: "main-003"}}, Profile: "fast"}},
		Start:   func(a Assignment) (Node, error) { return &actor{s, name, a}, nil },
		OnEvent: func(e cluster.Event) { s.change(func(s *stage) { s.events = append(s.events, e) }) },
		Clock:   func() time.Duration { return time.Since(s.began) },
	}
}

// run runs a machine until the returned func is called or the test ends.
func (s *stage) run(o Options) (*Host, func()) {
	s.t.Helper()
	h, err := New(o)
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx) }()
	stop := sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			s.t.Error(err)
		}
	})
	s.t.Cleanup(stop)
	return h, stop
}

// until waits for what the nodes are to be like.
func (s *stage) until(what string, ok func(runs map[string]string) bool) {
	s.t.Helper()
	for limit := time.After(patience); ; {
		s.mu.Lock()
		runs, newer := maps.Clone(s.runs), s.newer
		s.mu.Unlock()
		if ok(runs) {
			return
		}
		select {
		case <-newer:
		case <-limit:
			s.t.Fatalf("not %s: %v; events %v", what, runs, s.events)
		}
	}
}

func (s *stage) happened(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.events, func(e cluster.Event) bool { return e.Name == name })
}

// lead has the group served by a node, renewed until the test ends.
func (s *stage) lead(holder cluster.NodeID) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	s.t.Cleanup(func() { cancel(); <-done })
	go func() {
		defer close(done)
		rev := int64(0)
		for seq := uint64(1); ctx.Err() == nil; seq++ {
			value, _ := json.Marshal(cluster.Lead{Epoch: 1, Holder: holder, State: cluster.LeadHeld, Promoted: true, TTL: 5 * time.Second, Seq: seq})
			rev, _ = s.store.Swap(ctx, cluster.LeadKey("main"), value, rev)
			rest(ctx, 50*time.Millisecond)
		}
	}()
}

func TestNodesAreSpreadOverTheMachinesThatAreThere(t *testing.T) {
	s := newStage(t)
	hosts := map[string]*Host{}
	for i, name := range []string{"m1", "m2", "m3"} {
		hosts[name], _ = s.run(s.options(name, string(rune('a'+i))))
	}
	s.until("one on each machine", func(runs map[string]string) bool {
		on := slices.Sorted(maps.Values(runs))
		return slices.Equal(on, []string{"m1", "m2", "m3"})
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.seen["main-001"]
	if a.Port != 7402 || a.Secret == "" || a.Secret != s.seen["main-002"].Secret || a.Place.Zone == "" {
		t.Errorf("the first was given %+v, the second %+v", a, s.seen["main-002"])
	}
	if at := hosts["m2"].Where("main-001"); at != "tcp:127.0.0.1:1" {
		t.Errorf("m2 finds main-001 at %q", at)
	}
}

func TestOneMachineRunsAllWhenNoOtherComes(t *testing.T) {
	s := newStage(t)
	s.run(s.options("m1", "a"))
	s.until("all on m1", func(runs map[string]string) bool { return len(runs) == 3 })
	ports := map[int]bool{}
	for _, a := range s.seen {
		ports[a.Port] = true
	}
	if len(ports) != 3 {
		t.Errorf("ports %v", ports)
	}
}

func TestTheStoresSpecCountsAndNotTheFiles(t *testing.T) {
	s := newStage(t)
	value := `{"name":"main","nodes":[{"id":"main-001","zone":"a","machine":"m1"}],"durability":"async","profile":"wide"}`
	if _, err := s.store.Swap(t.Context(), cluster.SpecKey("main"), []byte(value), 0); err != nil {
		t.Fatal(err)
	}
	s.run(s.options("m1", "a"))
	s.until("its one node runs", func(runs map[string]string) bool { return len(runs) == 1 })
	if a := s.seen["main-001"]; a.Spec.Durability != cluster.DurabilityAsync || len(a.Spec.Nodes) != 1 {
		t.Errorf("it runs with %+v", a.Spec)
	}
}

// The store loses everything under running nodes: they go on, and it gets back what it had.
func TestAStoreThatLosesEverythingStopsNothing(t *testing.T) {
	s := newStage(t)
	for i, name := range []string{"m1", "m2", "m3"} {
		s.run(s.options(name, string(rune('a'+i))))
	}
	s.until("all run, and the machines' records say where", func(runs map[string]string) bool { return len(runs) == 3 && s.recorded() == 3 })
	s.mu.Lock()
	before, secret := maps.Clone(s.runs), s.seen["main-001"].Secret
	s.mu.Unlock()
	for {
		entries, _, err := s.store.List(t.Context(), cluster.GroupsPrefix)
		if err != nil {
			t.Fatal(err)
		}
		if len(entries) == 0 {
			break
		}
		for _, e := range entries {
			_, _ = s.store.Swap(t.Context(), e.Key, nil, e.Revision) // it may be there again already: the next round sees
		}
		if s.count("group_created") > 1 {
			break
		}
	}
	stopped := false
	s.until("the spec is there again, with every node in its place", func(runs map[string]string) bool {
		stopped = stopped || !maps.Equal(runs, before)
		rest(t.Context(), 20*time.Millisecond)
		entries, _, err := s.store.List(t.Context(), cluster.SpecKey("main"))
		if err != nil || len(entries) == 0 {
			s.change(func(*stage) {})
			return false
		}
		var spec cluster.Spec
		if err := json.Unmarshal(entries[0].Value, &spec); err != nil {
			t.Fatal(err)
		}
		for _, n := range spec.Nodes {
			if n.Machine != before[string(n.ID)] {
				s.change(func(*stage) {})
				return false
			}
		}
		return true
	})
	if stopped || len(s.twice) > 0 {
		t.Errorf("nodes were stopped: %v, and run twice: %v", stopped, s.twice)
	}
	entries, _, err := s.store.List(t.Context(), cluster.SecretKey("main"))
	if err != nil || len(entries) != 1 || string(entries[0].Value) != secret {
		t.Errorf("the secret is another one now: the servers that run have the old one (%v)", err)
	}
}

// recorded is how many nodes the machines' records say they have.
func (s *stage) recorded() int {
	s.t.Helper()
	rest(s.t.Context(), 5*time.Millisecond)
	defer s.change(func(*stage) {}) // look again: records are no events
	entries, _, err := s.store.List(s.t.Context(), cluster.MachinesPrefix)
	if err != nil {
		s.t.Fatal(err)
	}
	n := 0
	for _, e := range entries {
		var m cluster.Machine
		if err := json.Unmarshal(e.Value, &m); err != nil {
			s.t.Fatal(err)
		}
		n += len(m.Has)
	}
	return n
}

// count is how often an event was told.
func (s *stage) count(name string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, e := range s.events {
		if e.Name == name {
			n++
		}
	}
	return n
}

func TestANodeKeepsItsPortOverARestart(t *testing.T) {
	s := newStage(t)
	o := s.options("m1", "a")
	_, stop := s.run(o)
	s.until("all run", func(runs map[string]string) bool { return len(runs) == 3 })
	before := maps.Clone(s.seen)
	stop()
	s.run(o)
	s.until("all run again", func(runs map[string]string) bool { return len(runs) == 3 })
	for id, a := range s.seen {
		if a.Port != before[id].Port {
			t.Errorf("%s: port %d, and %d before", id, a.Port, before[id].Port)
		}
	}
}

func TestALostMachinesNodeMovesAndStaysMovedWhenTheMachineIsBack(t *testing.T) {
	s := newStage(t)
	stops := map[string]func(){}
	options := map[string]Options{}
	for _, m := range []struct{ name, zone string }{{"m1", "a"}, {"m2", "b"}, {"m3", "c"}} {
		o := s.options(m.name, m.zone)
		options[m.name] = o
		_, stops[m.name] = s.run(o)
	}
	s.until("all run", func(runs map[string]string) bool { return len(runs) == 3 })
	s.mu.Lock()
	lost, kept := s.runs["main-001"], s.runs["main-002"]
	s.mu.Unlock()
	s.lead("main-002")
	spare := s.options("m4", options[lost].Machine.Zone)
	spareHost, _ := s.run(spare)
	stops[lost]()
	s.until("it runs on m4", func(runs map[string]string) bool { return runs["main-001"] == "m4" && runs["main-002"] == kept })
	if !s.happened("node_replaced") {
		t.Error("nobody said so")
	}
	s.run(options[lost])
	s.until("its old machine says that it is elsewhere", func(map[string]string) bool { return s.happened("node_moved_away") })
	if len(s.twice) > 0 || s.runs["main-001"] != "m4" {
		t.Errorf("ran twice: %v; now %v", s.twice, s.runs)
	}
	if spareHost.Where("main-001") == "" {
		t.Error("m4 does not know where it is")
	}
}

// away is a store that can be taken away from one machine.
type away struct {
	cluster.Store
	mu  sync.Mutex
	off bool
}

func (a *away) set(off bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.off = off
}

func (a *away) gone() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.off
}

func (a *away) Swap(ctx context.Context, key string, value []byte, rev int64) (int64, error) {
	if a.gone() {
		return 0, cluster.ErrUnavailable
	}
	return a.Store.Swap(ctx, key, value, rev)
}

func (a *away) List(ctx context.Context, prefix string) ([]cluster.Entry, int64, error) {
	if a.gone() {
		return nil, 0, cluster.ErrUnavailable
	}
	return a.Store.List(ctx, prefix)
}

// A machine that is cut off from the store stops its nodes by its own clock, before others start them.
func TestAMachineThatIsCutOffLetsGoBeforeOthersTakeOver(t *testing.T) {
	s := newStage(t)
	cut := &away{Store: s.store}
	for _, m := range []struct{ name, zone string }{{"m1", "a"}, {"m2", "b"}, {"m3", "c"}} {
		o := s.options(m.name, m.zone)
		if m.name == "m1" {
			o.Store = cut
		}
		s.run(o)
	}
	s.until("all run", func(runs map[string]string) bool { return len(runs) == 3 })
	victim := ""
	other := cluster.NodeID("")
	for id, m := range s.runs {
		if m == "m1" {
			victim = id
		} else {
			other = cluster.NodeID(id)
		}
	}
	s.lead(other)
	s.run(s.options("m4", "a"))
	inner := s.seen[victim].Store
	cut.set(true)
	s.until("it runs on m4", func(runs map[string]string) bool { return runs[victim] == "m4" })
	if len(s.twice) > 0 {
		t.Fatalf("ran on two machines: %v", s.twice)
	}
	// Even what has not noticed yet cannot write under the node's name.
	cut.set(false)
	if _, err := inner.Swap(t.Context(), "/x", []byte("1"), 0); err != nil && !errors.Is(err, cluster.ErrUnavailable) {
		t.Errorf("swap through the old machine's hold: %v", err)
	}
}

func TestTheStoreIsClosedToNodesThatAreHeldNoMore(t *testing.T) {
	holds := true
	s := held{new(clustertest.Memory), func() bool { return holds }}
	if _, err := s.Swap(t.Context(), "/x", []byte("1"), 0); err != nil {
		t.Fatal(err)
	}
	holds = false
	if _, err := s.Swap(t.Context(), "/y", []byte("1"), 0); !errors.Is(err, cluster.ErrUnavailable) {
		t.Fatalf("swap: %v", err)
	}
}

func TestOptionsAreChecked(t *testing.T) {
	s := newStage(t)
	for want, change := range map[string]func(*Options){
		"Name":         func(o *Options) { o.Machine.Name = "" },
		"Store":        func(o *Options) { o.Store = nil },
		"PortBase":     func(o *Options) { o.PortBase = 0 },
		"ReplaceAfter": func(o *Options) { o.ReplaceAfter = 3 * o.Renew },
	} {
		o := s.options("m1", "a")
		change(&o)
		if _, err := New(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}
