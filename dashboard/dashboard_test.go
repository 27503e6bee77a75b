package dashboard

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"understudy/cluster"
	"understudy/failover"
)

// actor plays a node's agent: it knows what the test says and answers requests as told.
type actor struct {
	stage  *stage
	id     cluster.NodeID
	lead   cluster.Lead
	report failover.Report
	asked  atomic.Pointer[failover.Request]
	times  atomic.Int64 // how often it was asked
	answer failover.Reply
	err    error
	hook   func() // called before an answer
}

func (a *actor) Knows() failover.Knowledge {
	k := failover.Knowledge{Report: a.report, Store: failover.StoreView{Known: a.lead.Epoch > 0, Lead: a.lead, Revision: 1, SeenAt: a.stage.clock()}}
	if w := a.stage.words.Load(); w != nil {
		if h, ok := (*w)[a.id]; ok {
			k.At, k.Status = h.at, h.status
		}
	}
	return k
}

func (a *actor) Request(_ context.Context, r failover.Request) (failover.Reply, error) {
	a.asked.Store(&r)
	a.times.Add(1)
	if a.hook != nil {
		a.hook()
	}
	return a.answer, a.err
}

// stage is a Dashboard over three actors under a clock that the test turns.
type stage struct {
	*Dashboard
	now    atomic.Int64
	actors map[cluster.NodeID]*actor
	words  atomic.Pointer[map[cluster.NodeID]heard] // what each node said last
	killed atomic.Int64                             // how often a primary was
	url    string
}

func newStage(t *testing.T) *stage { return newStageWith(t, func(*Options) {}) }

func newStageWith(t *testing.T, with func(*Options)) *stage {
	t.Helper()
	p, err := failover.ProfileByName("fast")
	if err != nil {
		t.Fatal(err)
	}
	s := &stage{actors: map[cluster.NodeID]*actor{}}
	nodes := map[cluster.NodeID]Node{}
	var peers []failover.Peer
	for i := range 3 {
		id := cluster.NodeID(fmt.Sprintf("main-%03d", i+1))
		a := &actor{stage: s, id: id}
		s.actors[id], nodes[id] = a, a
		peers = append(peers, failover.Peer{Node: id, Zone: "us-east-1" + string(rune('a'+i))})
	}
	s.now.Store(int64(time.Second))
	o := Options{
		Group: "main", Durability: cluster.DurabilitySync, Profile: p, Nodes: nodes, Peers: peers,
		Endpoints: cluster.Endpoints{Primary: "127.0.0.1:7379"}, Clock: s.clock,
		Kill: func(context.Context, cluster.NodeID, cluster.Epoch) error { s.killed.Add(1); return nil },
	}
	with(&o)
	s.Dashboard, err = New(o)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(s.Handler())
	t.Cleanup(server.Close)
	s.url = server.URL
	return s
}

func (s *stage) clock() time.Duration { return time.Duration(s.now.Load()) }

func (s *stage) pass(d time.Duration) { s.now.Add(int64(d)) }

// speak lets a node say how it is, now.
func (s *stage) speak(i int, change func(*cluster.NodeStatus)) {
	st := cluster.NodeStatus{
		Group: "main", Node: cluster.NodeID(fmt.Sprintf("main-%03d", i)), Zone: "us-east-1" + string(rune('a'+i-1)),
		Role: cluster.RoleReplica, State: cluster.StateReady, Epoch: 3, Electable: true, PID: 100 + i,
		Position: cluster.Position{ReplID: "aa", Offset: 1000},
	}
	if change != nil {
		change(&st)
	}
	words := map[cluster.NodeID]heard{}
	if w := s.words.Load(); w != nil {
		maps.Copy(words, *w)
	}
	words[st.Node] = heard{s.clock(), st}
	s.words.Store(&words)
	s.Learn(s.clock(), st)
}

func leads(st *cluster.NodeStatus) {
	st.Durability, st.Fork = cluster.DurabilitySync, cluster.Fork{Epoch: 3, ReplID: "aa"}
	st.Rules = []cluster.Rule{cluster.NewRule(cluster.DurabilitySync, []cluster.NodeID{"main-001", "main-002", "main-003"})}
	st.Leads, st.Permit, st.Role, st.Electable = true, 800*time.Millisecond, cluster.RolePrimary, false
}

// healthy has main-001 lead two replicas.
func (s *stage) healthy() {
	for id, a := range s.actors {
		a.lead = cluster.Lead{Epoch: 3, Holder: "main-001", State: cluster.LeadHeld, Promoted: true, TTL: time.Second, Kind: cluster.KindStart,
			Rule: cluster.NewRule(cluster.DurabilitySync, []cluster.NodeID{"main-002", "main-003"}), Lineage: []cluster.Fork{{Epoch: 3, ReplID: "aa"}}}
		a.report = failover.Report{Node: id, Seen: 3, Fit: true, Position: cluster.Position{ReplID: "aa", Offset: 1000}}
	}
	s.speak(1, leads)
	s.speak(2, nil)
	s.speak(3, nil)
}

func (s *stage) get(t *testing.T, path string, into any) int {
	t.Helper()
	res, err := http.Get(s.url + path)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if err := json.NewDecoder(res.Body).Decode(into); err != nil {
		t.Fatalf("GET %s: %v", path, err)
	}
	return res.StatusCode
}

func (s *stage) post(t *testing.T, path, body string) (int, Outcome) {
	t.Helper()
	res, err := http.Post(s.url+path, "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var o Outcome
	if err := json.NewDecoder(res.Body).Decode(&o); err != nil {
		t.Fatalf("POST %s: %v", path, err)
	}
	return res.StatusCode, o
}

func TestStatusTellsTheStatesOfAGroup(t *testing.T) {
	for _, c := range []struct {
		name    string
		set     func(*stage)
		state   cluster.GroupState
		primary cluster.NodeID
		health  int
	}{
		{"nobody has spoken", func(*stage) {}, cluster.GroupNoPrimary, "", 503},
		{"all ready", (*stage).healthy, cluster.GroupAvailable, "main-001", 200},
		{"a replica syncs", func(s *stage) {
			s.healthy()
			s.speak(3, func(st *cluster.NodeStatus) { st.State = cluster.StateSyncing })
		}, cluster.GroupDegraded, "main-001", 200},
		{"a replica's agent went silent", func(s *stage) {
			s.healthy()
			s.pass(2 * time.Second)
			s.speak(1, leads)
			s.speak(2, nil)
		}, cluster.GroupDegraded, "main-001", 200},
		{"the permit ran out without a word", func(s *stage) {
			s.healthy()
			s.pass(850 * time.Millisecond)
		}, cluster.GroupFailingOver, "", 503},
		{"nobody took over for long", func(s *stage) {
			s.healthy()
			s.pass(time.Minute)
			s.speak(2, nil)
			s.speak(3, nil)
		}, cluster.GroupNoPrimary, "", 503},
		{"a switchover holds the writes", func(s *stage) {
			s.healthy()
			s.speak(1, func(st *cluster.NodeStatus) { leads(st); st.Pausing = true })
		}, cluster.GroupFailingOver, "main-001", 503},
		{"the old primary does not know yet", func(s *stage) {
			s.healthy()
			s.speak(2, func(st *cluster.NodeStatus) { leads(st); st.Epoch = 4 })
		}, cluster.GroupAvailable, "main-002", 200},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStage(t)
			c.set(s)
			var got cluster.Status
			if code := s.get(t, "/api/status", &got); code != 200 {
				t.Errorf("GET /api/status: %d", code)
			}
			if got.State != c.state || got.Primary != c.primary {
				t.Errorf("state %s, primary %q; want %s, %q", got.State, got.Primary, c.state, c.primary)
			}
			if len(got.Nodes) != 3 || got.Nodes[0].ID != "main-001" || got.Nodes[2].ID != "main-003" {
				t.Errorf("nodes are not the three in order: %+v", got.Nodes)
			}
			var h health
			if code := s.get(t, "/healthz", &h); code != c.health || h.OK != (code == 200) || !h.OK && h.Reason == "" {
				t.Errorf("GET /healthz: %d %+v; want %d", code, h, c.health)
			}
		})
	}
}

func TestStatusHasTheFieldsOfTheInterface(t *testing.T) {
	s := newStage(t)
	s.healthy()
	var got map[string]any
	s.get(t, "/api/status", &got)
	for _, k := range []string{"group", "state", "epoch", "durability", "profile", "primary", "nodes", "endpoints", "last_failover",
		"since", "rule", "on_lost_quorum", "permit_ms"} {
		if _, ok := got[k]; !ok {
			t.Errorf("no %q in %v", k, got)
		}
	}
	node := got["nodes"].([]any)[0].(map[string]any)
	for _, k := range []string{"id", "zone", "role", "state", "addr", "pid", "agent_pid", "offset", "lag_bytes", "lag_ms", "electable", "reason"} {
		if _, ok := node[k]; !ok {
			t.Errorf("no %q in node %v", k, node)
		}
	}
	if got["last_failover"] != nil {
		t.Errorf("last_failover is %v before there was one", got["last_failover"])
	}
}

func TestLastFailoverIsToldWithItsPhasesAndLoss(t *testing.T) {
	s := newStage(t)
	s.healthy()
	lost := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	s.Record(cluster.Event{Time: lost, Node: "main-001", Epoch: 3, Name: "primary_lost", Message: "signal: killed"})
	s.Record(cluster.Event{Time: lost.Add(time.Millisecond), Node: "main-002", Epoch: 3, Name: "lead_vacant"})
	for _, a := range s.actors {
		a.lead = cluster.Lead{Epoch: 4, Kind: cluster.KindFailover, Cause: "released: signal: killed", From: "main-001", Holder: "main-002"}
	}
	s.speak(2, func(st *cluster.NodeStatus) {
		leads(st)
		st.Epoch, st.Position = 4, cluster.Position{ReplID: "bb", Offset: 990}
		st.Fork = cluster.Fork{Epoch: 4, ReplID: "bb", Parent: "aa", At: 988}
	})
	s.Record(cluster.Event{Time: lost.Add(40 * time.Millisecond), Node: "main-002", Epoch: 4, Name: "serving",
		Phases: map[string]float64{"detect": 2, "elect": 20, "promote": 5}})

	var got cluster.Status
	s.get(t, "/api/status", &got)
	c := got.LastFailover
	if c == nil {
		t.Fatal("no last_failover")
	}
	if c.Kind != "failover" || c.From != "main-001" || c.To != "main-002" || c.Epoch != 4 || c.Cause != "released: signal: killed" {
		t.Errorf("%+v", c)
	}
	if c.DurationMs != 42 || !c.Started.Equal(lost.Add(-2*time.Millisecond)) {
		t.Errorf("duration %v ms from %v; want 42 from 2 ms before the loss was noticed", c.DurationMs, c.Started)
	}
	if c.LostBytes != 12 {
		t.Errorf("lost_bytes %d; the old log was heard of up to 1000, the new one leaves it at 988", c.LostBytes)
	}
}

func TestSwitchoverAnswersAsTheAgentDoes(t *testing.T) {
	for _, c := range []struct {
		name  string
		reply failover.Reply
		err   error
		code  int
	}{
		{"done", failover.Reply{OK: true, Message: "main-002 leads", Lead: cluster.Lead{Epoch: 4}}, nil, 200},
		{"refused", failover.Reply{Refused: true, Message: "no node can take over now"}, nil, 409},
		{"failed", failover.Reply{Message: "given up"}, nil, 502},
		{"no answer", failover.Reply{}, errors.New("deadline"), 502},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStage(t)
			s.healthy()
			s.actors["main-001"].answer, s.actors["main-001"].err = c.reply, c.err
			code, o := s.post(t, "/api/switchover", `{"to":"main-002","zone":"us-east-1b"}`)
			if code != c.code || o.OK != (c.code == 200) || o.Refused != (c.code == 409) || o.Message == "" {
				t.Errorf("%d %+v; want %d", code, o, c.code)
			}
			if c.code == 200 && o.Epoch != 4 {
				t.Errorf("epoch %d", o.Epoch)
			}
			r := s.actors["main-001"].asked.Load()
			if r == nil || r.To != "main-002" || r.Zone != "us-east-1b" || r.ID == "" {
				t.Errorf("the primary was asked %+v", r)
			}
		})
	}
}

func TestSwitchoverIsRefusedWithoutAPrimary(t *testing.T) {
	s := newStage(t)
	if code, o := s.post(t, "/api/switchover", ""); code != 409 || !o.Refused {
		t.Errorf("%d %+v", code, o)
	}
}

func TestFailoverKillsThePrimaryAndWaitsForTheNext(t *testing.T) {
	s := newStage(t)
	s.healthy()
	go func() {
		for s.killed.Load() == 0 {
			time.Sleep(time.Millisecond)
		}
		s.speak(3, func(st *cluster.NodeStatus) { leads(st); st.Epoch = 4 })
	}()
	code, o := s.post(t, "/api/failover", `{"zone":"us-east-1a"}`)
	if code != 200 || o.Epoch != 4 || !strings.Contains(o.Message, "main-003 leads") {
		t.Errorf("%d %+v", code, o)
	}
	if s.killed.Load() != 1 {
		t.Errorf("a primary was killed %d times", s.killed.Load())
	}
}

func TestFailoverIsRefusedWhenItWouldNotBeSafe(t *testing.T) {
	for _, c := range []struct {
		name, body, want string
		set              func(*stage)
	}{
		{"another zone", `{"zone":"us-east-1b"}`, "in zone us-east-1a", (*stage).healthy},
		{"another group", `{"group":"other"}`, `no group "other"`, (*stage).healthy},
		{"nobody can take over", `{}`, "its link to the primary is down", func(s *stage) {
			s.healthy()
			for i := 2; i <= 3; i++ {
				s.speak(i, func(st *cluster.NodeStatus) {
					st.Electable, st.Reason = false, "its link to the primary is down"
				})
			}
		}},
		{"the primary acks writes alone", `{}`, "does not wait for it yet", func(s *stage) {
			s.healthy()
			s.speak(1, func(st *cluster.NodeStatus) {
				leads(st)
				st.Rules = []cluster.Rule{{Voters: []cluster.NodeID{"main-001"}}, st.Rules[0]}
			})
		}},
		{"no primary", `{}`, "no primary to kill", func(*stage) {}},
		{"nothing needs to be given up", `{"accept_data_loss":true}`, "main-001 leads: nothing needs to be given up", (*stage).healthy},
		{"no voters' logs", `{}`, "no node could be chosen after it", func(s *stage) {
			s.healthy()
			s.actors["main-003"].report.Fit = false
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStage(t)
			c.set(s)
			code, o := s.post(t, "/api/failover", c.body)
			if code != 409 || !o.Refused || !strings.Contains(o.Message, c.want) {
				t.Errorf("%d %+v; want 409 and %q", code, o, c.want)
			}
			if s.killed.Load() != 0 {
				t.Error("the primary was killed all the same")
			}
		})
	}
}

func TestABodyThatIsNotUnderstoodChangesNothing(t *testing.T) {
	s := newStage(t)
	s.healthy()
	for _, body := range []string{`{"node":"main-002"}`, `{`, `{"to":"` + strings.Repeat("x", maxBody) + `"}`} {
		if code, _ := s.post(t, "/api/switchover", body); code != 400 {
			t.Errorf("%.30s: %d, want 400", body, code)
		}
	}
	if s.actors["main-001"].asked.Load() != nil {
		t.Error("the primary was asked to hand over")
	}
}

func TestAnotherSitesPageCannotFailTheGroupOver(t *testing.T) {
	s := newStage(t)
	s.healthy()
	req, err := http.NewRequest(http.MethodPost, s.url+"/api/failover", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Origin", "https://elsewhere.example")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusForbidden || s.killed.Load() != 0 {
		t.Errorf("%s, killed %d", res.Status, s.killed.Load())
	}
}

// stream reads server-sent events.
type stream struct {
	lines *bufio.Scanner
	body  io.Closer
}

func (s *stage) stream(t *testing.T, lastID string) stream {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+"/api/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	if lastID != "" {
		req.Header.Set("Last-Event-ID", lastID)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { res.Body.Close() })
	if ct := res.Header.Get("Content-Type"); ct != "text/event-stream" {
		t.Fatalf("content type %q", ct)
	}
	return stream{bufio.NewScanner(res.Body), res.Body}
}

// next returns the next event and its id.
func (s stream) next(t *testing.T) (cluster.Event, string) {
	t.Helper()
	var e cluster.Event
	id := ""
	for s.lines.Scan() {
		switch key, value, _ := strings.Cut(s.lines.Text(), ": "); key {
		case "id":
			id = value
		case "data":
			if err := json.Unmarshal([]byte(value), &e); err != nil {
				t.Fatal(err)
			}
		case "":
			if id != "" {
				return e, id
			}
		}
	}
	t.Fatalf("the stream ended: %v", s.lines.Err())
	return e, id
}

func TestEventsComeFromTheKeptOnesOnWithoutAGap(t *testing.T) {
	s := newStage(t)
	s.Record(cluster.Event{Name: "one"})
	s.Record(cluster.Event{Name: "two"})
	in := s.stream(t, "")
	if e, _ := in.next(t); e.Name != "one" {
		t.Fatalf("first %q", e.Name)
	}
	e, id := in.next(t)
	if e.Name != "two" {
		t.Fatalf("second %q", e.Name)
	}
	s.Record(cluster.Event{Name: "three"})
	if e, _ := in.next(t); e.Name != "three" {
		t.Fatalf("live %q", e.Name)
	}
	in.body.Close()
	s.Record(cluster.Event{Name: "four"})
	in = s.stream(t, id)
	for _, want := range []string{"three", "four"} {
		if e, _ := in.next(t); e.Name != want {
			t.Fatalf("after %s came %q, want %q", id, e.Name, want)
		}
	}
	if e, _ := s.stream(t, "anotherrun-4").next(t); e.Name != "one" {
		t.Errorf("a number of another run was believed: %q came first", e.Name)
	}
}

func TestTheRingKeepsTheNewestAndSendsSlowReadersAway(t *testing.T) {
	r := newRing()
	_, slow, end, _ := r.open("")
	defer end()
	for i := range kept + behind {
		r.add(cluster.Event{Name: fmt.Sprint(i)})
	}
	past, _, end2, _ := r.open("")
	defer end2()
	if len(past) != kept || past[0].event.Name != fmt.Sprint(behind) {
		t.Errorf("%d events are kept, the first is %s", len(past), past[0].event.Name)
	}
	n := 0
	for range slow {
		n++
	}
	if _, evicted := r.counts(); n != behind || evicted != 1 {
		t.Errorf("the slow reader got %d events, %d were sent away", n, evicted)
	}
}

func TestMetricsSayWhetherTheGroupIsWritable(t *testing.T) {
	s := newStage(t)
	read := func() string {
		res, err := http.Get(s.url + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		text, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	if got := read(); !strings.Contains(got, `understudy_group_writable{group="main"} 0`) {
		t.Error(got)
	}
	s.healthy()
	if got := read(); !strings.Contains(got, `understudy_group_writable{group="main"} 1`) {
		t.Error(got)
	}
}

func TestServeEndsOpenStreamsWithItsContext(t *testing.T) {
	s := newStage(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, l, s.Handler(), slog.New(slog.DiscardHandler)) }()
	s.url = "http://" + l.Addr().String()
	s.Record(cluster.Event{Name: "one"})
	s.stream(t, "").next(t)
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(2 * time.Second):
		t.Fatal("Serve has not returned")
	}
}
