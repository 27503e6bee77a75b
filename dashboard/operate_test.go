package dashboard

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"understudy/cluster"
	"understudy/failover"
)

func TestARepeatedSwitchoverIsAnsweredAgainAlsoByTheNextPrimary(t *testing.T) {
	s := newStage(t)
	s.healthy()
	s.actors["main-001"].answer = failover.Reply{OK: true, Message: "main-002 leads", Lead: cluster.Lead{Epoch: 4}}
	ask := `{"to":"main-002","request_id":"once"}`
	_, first := s.post(t, "/api/switchover", ask)
	s.speak(1, func(st *cluster.NodeStatus) { st.Epoch = 4 })
	s.speak(2, func(st *cluster.NodeStatus) { leads(st); st.Epoch = 4 })
	code, again := s.post(t, "/api/switchover", ask)
	if code != 200 || again.Message != first.Message || again.Epoch != 4 {
		t.Errorf("%d %+v, the first answer was %+v", code, again, first)
	}
	if n := s.actors["main-001"].times.Load() + s.actors["main-002"].times.Load(); n != 1 {
		t.Errorf("nodes were asked %d times", n)
	}
	if code, o := s.post(t, "/api/switchover", `{"to":"main-003","request_id":"once"}`); code != 400 || !strings.Contains(o.Message, "another request") {
		t.Errorf("the same id for another request: %d %+v", code, o)
	}
}

func TestARequestThatIsRepeatedWhileItIsUnderWayIsCarriedOutOnce(t *testing.T) {
	s := newStage(t)
	s.healthy()
	a := s.actors["main-001"]
	release := make(chan struct{})
	a.hook = func() { <-release }
	a.answer = failover.Reply{OK: true, Message: "main-002 leads"}
	var wg sync.WaitGroup
	codes := make([]int, 5)
	for i := range codes {
		wg.Go(func() { codes[i], _ = s.post(t, "/api/switchover", `{"request_id":"x"}`) })
	}
	for a.times.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	close(release)
	wg.Wait()
	if a.times.Load() != 1 || codes[0] != 200 || codes[4] != 200 {
		t.Errorf("asked %d times, answered %v", a.times.Load(), codes)
	}
}

func TestARefusedRequestMayBeMadeAgain(t *testing.T) {
	s := newStage(t)
	s.healthy()
	a := s.actors["main-001"]
	a.answer = failover.Reply{Refused: true, Message: "main-002: it has not caught up yet"}
	if code, _ := s.post(t, "/api/switchover", `{"request_id":"x"}`); code != 409 {
		t.Fatalf("%d", code)
	}
	a.answer = failover.Reply{OK: true, Message: "main-002 leads"}
	if code, o := s.post(t, "/api/switchover", `{"request_id":"x"}`); code != 200 {
		t.Errorf("%d %+v", code, o)
	}
}

func TestTheNewestRequestsAreRemembered(t *testing.T) {
	r := newRequests()
	done := 0
	ask := func(i int) Outcome {
		return r.answer(fmt.Sprint(i), "asks", func() Outcome { done++; return Outcome{OK: true, Message: fmt.Sprint(done)} })
	}
	for i := range remembered + 3 {
		ask(i)
	}
	if o := ask(3); o.Message != "4" {
		t.Errorf("request 3 was done again: %+v", o)
	}
	if o := ask(0); o.Message != fmt.Sprint(remembered+4) {
		t.Errorf("request 0 is older than the bound: %+v", o)
	}
	if len(r.known) != remembered || len(r.order) != remembered {
		t.Errorf("%d are kept, in the order %d", len(r.known), len(r.order))
	}
	if o := r.answer(strings.Repeat("x", maxRequestID+1), "", nil); !o.Invalid {
		t.Errorf("%+v", o)
	}
}

func TestAFailoverThatIsRepeatedKillsOnce(t *testing.T) {
	s := newStage(t)
	s.healthy()
	go func() {
		for s.killed.Load() == 0 {
			time.Sleep(time.Millisecond)
		}
		s.speak(1, func(st *cluster.NodeStatus) { st.Epoch = 4 })
		s.speak(3, func(st *cluster.NodeStatus) { leads(st); st.Epoch = 4 })
	}()
	for range 2 {
		if code, o := s.post(t, "/api/failover", `{"request_id":"f"}`); code != 200 || !strings.Contains(o.Message, "main-003 leads") {
			t.Fatalf("%d %+v", code, o)
		}
	}
	if s.killed.Load() != 1 {
		t.Errorf("%d were killed", s.killed.Load())
	}
}

func TestADryRunPlansAndChangesNothing(t *testing.T) {
	s := newStage(t)
	s.healthy()
	code, o := s.post(t, "/api/failover", `{"dry_run":true}`)
	if code != 200 || o.Plan == nil || o.Plan.To != "main-002" || o.Plan.From != "main-001" || o.Plan.ExpectedMs != nil {
		t.Fatalf("%d %+v %+v", code, o, o.Plan)
	}
	text := strings.Join(o.Plan.Steps, "\n")
	for _, want := range []string{"redis-server of main-001 (pid 101, zone us-east-1a) gets SIGKILL", "main-002 and main-003 read", "main-002 takes epoch 4", "main-003: from now on a replica of main-002"} {
		if !strings.Contains(text, want) {
			t.Errorf("the plan lacks %q:\n%s", want, text)
		}
	}
	if !strings.Contains(o.Plan.Loss, "nothing") {
		t.Errorf("loss %q", o.Plan.Loss)
	}
	s.actors["main-001"].answer = failover.Reply{OK: true, To: "main-003"}
	code, o = s.post(t, "/api/switchover", `{"dry_run":true,"zone":"us-east-1c"}`)
	if r := s.actors["main-001"].asked.Load(); code != 200 || r == nil || !r.DryRun || r.Zone != "us-east-1c" || o.Plan.To != "main-003" {
		t.Errorf("%d %+v; asked %+v", code, o, r)
	}
	if code, o := s.post(t, "/api/failover", `{"dry_run":true,"zone":"us-east-1b"}`); code != 409 || o.Plan != nil {
		t.Errorf("a dry run of what would be refused: %d %+v", code, o)
	}
	if s.killed.Load() != 0 {
		t.Error("a primary was killed")
	}
}

// stuck has main-001's data gone and the replicas restarted: no log is surely whole.
func (s *stage) stuck() {
	s.healthy()
	s.pass(time.Minute)
	for i := 1; i <= 3; i++ {
		s.speak(i, func(st *cluster.NodeStatus) { st.State = cluster.StateSyncing })
	}
	for id, a := range s.actors {
		a.lead.State, a.lead.Cause, a.lead.Position = cluster.LeadReleased, "redis-server ended", cluster.Position{ReplID: "aa", Offset: 1000}
		a.report.Position = cluster.Position{ReplID: "new-" + string(id)}
	}
	s.actors["main-003"].report.Last = cluster.Position{ReplID: "aa", Offset: 940}
	s.actors["main-002"].report.Last = cluster.Position{ReplID: "aa", Offset: 900}
}

func TestAGroupWithoutAPrimaryGoesOnOnlyWhenTheLossIsAccepted(t *testing.T) {
	s := newStage(t)
	s.stuck()
	if st := s.Status(); !strings.Contains(st.Reason, "nobody can be chosen. The lead of main-001 is vacant (released: redis-server ended)") ||
		st.Nodes[1].Electable || !strings.Contains(st.Nodes[1].Reason, "lineage") {
		t.Errorf("%q, %+v", st.Reason, st.Nodes[1])
	}
	s.actors["main-003"].answer = failover.Reply{Refused: true, Message: "at least 60 bytes of the last primary's log are lost"}
	code, o := s.post(t, "/api/failover", `{}`)
	if code != 409 || !strings.Contains(o.Message, "at least 60 bytes") || !strings.Contains(o.Message, "understudy failover --accept-data-loss") {
		t.Errorf("%d %+v", code, o)
	}
	if r := s.actors["main-003"].asked.Load(); r == nil || r.Kind != failover.RequestForce || r.AcceptLoss {
		t.Errorf("main-003 has the best log that is left, and was asked %+v", r)
	}
	if code, o := s.post(t, "/api/failover", `{"accept_data_loss":true,"zone":"us-east-1a"}`); code != 409 {
		t.Errorf("no primary is in that zone: %d %+v", code, o)
	}
	code, o = s.post(t, "/api/failover", `{"accept_data_loss":true,"dry_run":true}`)
	if code != 200 || o.Plan == nil || o.Plan.To != "main-003" || o.Plan.LostBytes != 60 || s.actors["main-003"].times.Load() != 1 {
		t.Errorf("%d %+v %+v", code, o, o.Plan)
	}
	s.actors["main-003"].answer = failover.Reply{OK: true, Message: "main-003 leads", Lead: cluster.Lead{Epoch: 4}}
	for range 2 {
		code, o = s.post(t, "/api/failover", `{"accept_data_loss":true,"request_id":"yes"}`)
		if code != 200 || o.Epoch != 4 {
			t.Errorf("%d %+v", code, o)
		}
	}
	if r := s.actors["main-003"].asked.Load(); !r.AcceptLoss || s.actors["main-003"].times.Load() != 2 {
		t.Errorf("asked %d times, last %+v", s.actors["main-003"].times.Load(), r)
	}
}

func TestForceGoesToTheNodeThatIsNamedInstead(t *testing.T) {
	s := newStage(t)
	s.stuck()
	s.actors["main-003"].answer = failover.Reply{Refused: true, To: "main-002", Message: "the best log that is left is main-002's"}
	s.actors["main-002"].answer = failover.Reply{OK: true, Message: "main-002 leads"}
	if code, o := s.post(t, "/api/failover", `{"accept_data_loss":true}`); code != 200 || o.Message != "main-002 leads" {
		t.Errorf("%d %+v", code, o)
	}
}

func TestExplainIsServed(t *testing.T) {
	s := newStage(t)
	s.healthy()
	var e failover.Explanation
	if code := s.get(t, "/api/explain", &e); code != 200 || e.Primary != "main-001" || e.Election.Winner != "main-002" || len(e.Nodes) != 3 {
		t.Errorf("%d %+v", code, e)
	}
}

// TestNoAnswerShowsAnAccess: the proxies' password for a primary goes to proxies only.
func TestNoAnswerShowsAnAccess(t *testing.T) {
	s := newStage(t)
	s.healthy()
	s.speak(1, func(st *cluster.NodeStatus) {
		leads(st)
		st.Access = cluster.Access{User: "ep-3-user", Password: "hunter2-secret"}
	})
	s.Record(cluster.Event{Name: "serving", Node: "main-001", Epoch: 3, Message: "serves"})
	for _, path := range []string{"/api/status", "/api/explain", "/healthz", "/metrics"} {
		res, err := http.Get(s.url + path)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil || len(text) == 0 {
			t.Fatalf("%s: %v, %d bytes", path, err, len(text))
		}
		if strings.Contains(string(text), "hunter2") || strings.Contains(string(text), "ep-3-user") {
			t.Errorf("%s shows it: %s", path, text)
		}
	}
	for _, body := range []string{`{"dry_run":true}`, `{"zone":"nowhere"}`} {
		_, o := s.post(t, "/api/failover", body)
		text, err := json.Marshal(o)
		if err != nil || strings.Contains(string(text), "hunter2") {
			t.Errorf("%v %s", err, text)
		}
	}
}

func TestTheLastFailoverOutlivesTheProcess(t *testing.T) {
	file := filepath.Join(t.TempDir(), "last-failover.json")
	keep := func(o *Options) { o.ChangeFile = file }
	s := newStageWith(t, keep)
	s.healthy()
	began := time.Now()
	s.Record(cluster.Event{Time: began, Node: "main-001", Epoch: 3, Name: "primary_lost"})
	for _, a := range s.actors {
		a.lead = cluster.Lead{Epoch: 4, Kind: cluster.KindFailover, Cause: "it ended", From: "main-001", Holder: "main-002"}
	}
	s.speak(2, func(st *cluster.NodeStatus) {
		leads(st)
		st.Epoch, st.Fork = 4, cluster.Fork{ReplID: "bb", Parent: "aa", At: 990}
	})
	s.Record(cluster.Event{Time: began.Add(30 * time.Millisecond), Node: "main-002", Epoch: 4, Name: "serving"})
	keeps := s.keepsChanges(t)
	want := s.Status().LastFailover
	if want == nil || want.LostBytes != 10 {
		t.Fatalf("%+v", want)
	}
	keeps()

	again := newStageWith(t, keep)
	again.healthy()
	// The group's start is no failover, and hides none.
	again.Record(cluster.Event{Time: time.Now(), Node: "main-001", Epoch: 5, Name: "serving"})
	for _, a := range again.actors {
		a.lead = cluster.Lead{Epoch: 5, Kind: cluster.KindStart, Holder: "main-001"}
	}
	got := again.Status().LastFailover
	if got == nil || got.To != "main-002" || got.LostBytes != 10 || got.Kind != "failover" || !got.Started.Equal(want.Started) {
		t.Errorf("%+v, want %+v", got, want)
	}
	if p := again.expect(&Plan{}, cluster.KindFailover); p.ExpectedMs == nil || *p.ExpectedMs != want.DurationMs {
		t.Errorf("%+v", p)
	}
	if p := again.expect(&Plan{}, cluster.KindSwitchover); p.ExpectedMs != nil {
		t.Errorf("there was no switchover: %+v", p)
	}
	if err := os.WriteFile(file, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if s := newStageWith(t, keep).Status(); s.LastFailover != nil {
		t.Errorf("from a damaged file: %+v", s.LastFailover)
	}
}

// keepsChanges runs what writes them; the returned func ends that and waits.
func (s *stage) keepsChanges(t *testing.T) func() {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); s.keepChanges(ctx) }()
	return func() { cancel(); <-done }
}

func TestAGroupIsDegradedWhileItsRuleIsNotWhole(t *testing.T) {
	rule := func(voters ...cluster.NodeID) func(*cluster.NodeStatus) {
		return func(st *cluster.NodeStatus) {
			leads(st)
			st.Rules = []cluster.Rule{cluster.NewRule(cluster.DurabilitySync, voters)}
		}
	}
	s := newStage(t)
	s.healthy()
	before := s.Status()
	if before.State != cluster.GroupAvailable || before.Reason != "" || before.Since.IsZero() || before.PermitMs != 800 {
		t.Errorf("%+v", before)
	}
	for _, c := range []struct {
		set  func(*cluster.NodeStatus)
		want string
	}{
		{rule("main-002"), "main-003 does not count yet"},
		{rule(), "main-001 alone has the newest"},
		{func(st *cluster.NodeStatus) { leads(st); st.Alone = true }, "main-001 alone has the newest"},
		{func(st *cluster.NodeStatus) { leads(st); st.NoQuorum = true }, "on_lost_quorum is refuse"},
	} {
		s.speak(1, c.set)
		got := s.Status()
		if got.State != cluster.GroupDegraded || !strings.Contains(got.Reason, c.want) || got.Since.Before(before.Since) {
			t.Errorf("%s: %q since %v; want %q", got.State, got.Reason, got.Since, c.want)
		}
	}
	if w := s.Status().Writable(); !strings.Contains(w, "writes wait") {
		t.Errorf("without a quorum it is writable: %q", w)
	}
	s.healthy()
	if got := s.Status(); got.State != cluster.GroupAvailable || len(got.Troubles) != 0 {
		t.Errorf("%+v", got)
	}
}

func TestStatusGivesEachReason(t *testing.T) {
	var others []string
	s := newStageWith(t, func(o *Options) { o.Troubles = func() []string { return others } })
	s.healthy()
	reasons := func(state cluster.GroupState, want ...string) {
		t.Helper()
		var got struct {
			State   cluster.GroupState
			Reasons []string
		}
		s.get(t, "/api/status", &got)
		if got.State != state || len(got.Reasons) != len(want) {
			t.Errorf("%s: %q, want %s: %q", got.State, got.Reasons, state, want)
			return
		}
		for i := range want {
			if !strings.Contains(got.Reasons[i], want[i]) {
				t.Errorf("%q, want %q", got.Reasons[i], want[i])
			}
		}
	}
	reasons(cluster.GroupAvailable)
	others = []string{"stale reads are given"}
	s.Record(cluster.Event{Name: "failsafe"})
	reasons(cluster.GroupDegraded, "the store is unreachable", "stale reads")
	s.speak(1, func(st *cluster.NodeStatus) { leads(st); st.Alone = true })
	reasons(cluster.GroupDegraded, "on_lost_quorum shrink is in force", "the store is unreachable", "stale reads")
	if all := s.StoreTroubles(); len(all) != 1 {
		t.Errorf("%q", all)
	}
	s.Record(cluster.Event{Name: "fencing"})
	others = nil
	s.speak(1, func(st *cluster.NodeStatus) { st.Permit = 0 })
	reasons(cluster.GroupFailingOver, "no primary since "+time.Now().UTC().Format("2006-"))
}

func TestStatusShowsWhatANodePutAsideAndItsFences(t *testing.T) {
	s := newStage(t)
	s.healthy()
	d := cluster.Divergence{Epoch: 2, Node: "main-003", Path: "/data/lost/2", Bytes: 120, Keys: 7, Size: 999, Time: time.Now().UTC()}
	s.speak(3, func(st *cluster.NodeStatus) {
		st.Lost, st.Fences = []cluster.Divergence{d}, []string{"permit", "fencer"}
	})
	s.actors["main-003"].report.Revoked = 2
	var got cluster.Status
	s.get(t, "/api/status", &got)
	n := got.Nodes[2]
	if len(n.Lost) != 1 || n.Lost[0] != d || len(n.Fences) != 2 || n.Revoked != 2 {
		t.Errorf("%+v", n)
	}
}

func TestMetricsCountWhatTheGroupWentThrough(t *testing.T) {
	s := newStage(t)
	s.healthy()
	s.Record(cluster.Event{Name: "failsafe"})
	s.Record(cluster.Event{Name: "claims_early"})
	s.speak(1, func(st *cluster.NodeStatus) { leads(st); st.Epoch = 4 }) // its log goes on
	res, err := http.Get(s.url + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"failsafe{group=\"main\"} 1", "failsafes_total{group=\"main\"} 1", "early_elections_total{group=\"main\"} 1",
		"false_alarms_total{group=\"main\"} 1", "voters{group=\"main\"} 3", "write_quorum{group=\"main\"} 1", "degraded{group=\"main\"} 1"} {
		if !strings.Contains(string(text), "understudy_group_"+want) {
			t.Errorf("no understudy_group_%s", want)
		}
	}
	s.Record(cluster.Event{Name: "store_back"})
	if s.counts.failsafe || s.change != nil {
		t.Errorf("%+v; a false alarm is no change of primary: %+v", s.counts, s.change)
	}
}
