package drill

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"understudy/cluster"
)

func options(g *fakeGroup) Options {
	return Options{
		HTTP: g.addr(), Fault: "switchover", Duration: 3200 * time.Millisecond, At: time.Second, Seed: 7,
		Writers: 4, Readers: 4, Rate: 500, RTO: 500 * time.Millisecond, Dir: g.t.TempDir(),
	}
}

func mustRun(t *testing.T, o Options) Result {
	t.Helper()
	r, err := Run(t.Context(), o)
	if err != nil {
		t.Fatalf("Run: %v", err)
	}
	t.Logf("%s %v: rto %s, gap %.1f ms, acked %d, lost %d, errors %d %v", r.Verdict, r.Reasons, formatFigure(r.RTOMs), r.WriteGapMs, r.Acked, r.Lost, r.Errors, r.ErrorTexts)
	return r
}

func TestRunPassesWhenClientsSeeNothing(t *testing.T) {
	t.Parallel()
	g := startGroup(t)
	g.onSwitchover = func() int {
		g.change(func(s *cluster.Status) {
			s.Epoch++
			s.LastFailover = &cluster.Change{Epoch: s.Epoch, PhasesMs: map[string]float64{"promote": 2, "route": 1}}
		})
		g.emit("switched_over")
		return http.StatusOK
	}
	o := options(g)
	var samples atomic.Int64
	var last Sample
	o.Progress = func(s Sample) { samples.Add(1); last = s }
	r := mustRun(t, o)
	if r.Verdict != Pass || len(r.Reasons) != 0 {
		t.Errorf("verdict %s %v, want pass", r.Verdict, r.Reasons)
	}
	if r.Lost != 0 || r.Errors != 0 || r.Acked < 300 || r.Reads < 300 {
		t.Errorf("figures %+v", r.Figures)
	}
	if r.RedundancyMs == nil || r.PhasesMs["promote"] != 2 {
		t.Errorf("redundancy %v, phases %v", r.RedundancyMs, r.PhasesMs)
	}
	for _, a := range r.Audit {
		if !a.CaughtUp || a.Lost != 0 {
			t.Errorf("audit of %s: %+v", a.Node, a)
		}
	}
	if samples.Load() < 20 || last.Phase != PhaseDone || last.Lanes[0].Acked < 300 {
		t.Errorf("%d samples, the last one %+v", samples.Load(), last)
	}
	if !strings.Contains(timelineText(r), "switched_over") {
		t.Errorf("the group's event is missing from the timeline:\n%s", timelineText(r))
	}
	checkKept(t, o.Dir, r)
	checkCleaned(t, g)
}

func timelineText(r Result) string {
	var lines []string
	for _, m := range r.Timeline {
		lines = append(lines, m.Who+": "+m.Event)
	}
	return strings.Join(lines, "\n")
}

func checkKept(t *testing.T, dir string, r Result) {
	t.Helper()
	all, err := List(dir)
	if err != nil || len(all) != 1 || all[0].ID != r.ID {
		t.Fatalf("List: %v, %v", all, err)
	}
	loaded, err := Load(dir, "latest")
	if err != nil || loaded.Acked != r.Acked || len(loaded.plot.Lanes) != 1 {
		t.Fatalf("Load: %+v, %v", loaded, err)
	}
	f, err := os.Open(filepath.Join(r.Dir, opsFile))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	ops := 0
	for d := json.NewDecoder(z); d.More(); ops++ {
		var e entry
		if err := d.Decode(&e); err != nil {
			t.Fatal(err)
		}
	}
	if ops != r.Operations {
		t.Errorf("%d operations are kept of %d", ops, r.Operations)
	}
}

func checkCleaned(t *testing.T, g *fakeGroup) {
	t.Helper()
	c := newClient(g.servers[0].addr)
	defer c.Close()
	if n, err := c.DBSize(context.Background()).Result(); n != 0 || err != nil {
		t.Errorf("%d keys of the drill are left (%v)", n, err)
	}
}

// The replica is cut off before the load: all that the primary acks dies with it.
func TestRunReportsWritesThatACrashLost(t *testing.T) {
	t.Parallel()
	g := startGroup(t)
	c := newClient(g.servers[1].addr)
	defer c.Close()
	if err := c.ReplicaOf(t.Context(), "NO", "ONE").Err(); err != nil {
		t.Fatal(err)
	}
	g.promoteWhenDead()
	o := options(g)
	o.Fault, o.MaxErrors = "kill-primary", 1_000_000
	r := mustRun(t, o)
	if r.Verdict != Fail || r.Lost < 100 {
		t.Errorf("verdict %s, lost %d, want a failed drill and most of the first second's writes", r.Verdict, r.Lost)
	}
	if !strings.Contains(strings.Join(r.Reasons, "\n"), "acked writes were lost") {
		t.Errorf("reasons %v", r.Reasons)
	}
}

func TestDirectLaneMeetsReadonlyAfterTheCrash(t *testing.T) {
	t.Parallel()
	g := startGroup(t)
	g.promoteWhenDead()
	o := options(g)
	o.Fault, o.Compare, o.Duration, o.MaxErrors = "kill-primary", []string{LaneDirect}, 5*time.Second, 1_000_000
	r := mustRun(t, o)
	if len(r.Lanes) != 2 {
		t.Fatalf("lanes %+v", r.Lanes)
	}
	direct := r.Lanes[1]
	if direct.RTOMs != nil {
		t.Errorf("the direct lane recovered after %.1f ms at the address of a replica", *direct.RTOMs)
	}
	readonly := 0
	for text, n := range direct.ErrorTexts {
		if strings.HasPrefix(text, "READONLY") {
			readonly += n
		}
	}
	if readonly == 0 || direct.Acked == 0 || direct.WriteGapMs < 3000 {
		t.Errorf("direct lane: %+v", direct)
	}
	if r.RTOMs == nil {
		t.Errorf("the lane on the endpoint did not recover: %+v", r.Figures)
	}
	if r.RedundancyMs == nil || r.NodesReady != 2 {
		t.Errorf("redundancy %v with %d nodes", r.RedundancyMs, r.NodesReady)
	}
}

func TestHangPrimaryIsContinuedAtTheEnd(t *testing.T) {
	t.Parallel()
	g := startGroup(t)
	o := options(g)
	o.Fault, o.MaxErrors = "hang-primary", 1_000_000
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	o.Progress = func(s Sample) {
		if s.SinceFault > 300*time.Millisecond {
			cancel() // an operator loses patience
		}
	}
	if _, err := Run(ctx, o); !errors.Is(err, context.Canceled) {
		t.Errorf("Run: %v, want context.Canceled", err)
	}
	if pid, err := processID(t.Context(), g.servers[0].addr); err != nil || pid != g.servers[0].cmd.Process.Pid {
		t.Errorf("the frozen server was not continued: pid %d, %v", pid, err)
	}
}

func TestRunIsInconclusiveWhenNothingChanged(t *testing.T) {
	t.Parallel()
	g := startGroup(t)
	g.onSwitchover = func() int { return http.StatusOK } // says yes and does nothing
	o := options(g)
	o.Dir, o.Patience = "", 200*time.Millisecond
	r := mustRun(t, o)
	if r.Verdict != Inconclusive || !strings.Contains(strings.Join(r.Reasons, " "), "no change of primary") {
		t.Errorf("verdict %s %v", r.Verdict, r.Reasons)
	}
}

func TestRunIsInconclusiveWhenTheFaultIsRefused(t *testing.T) {
	t.Parallel()
	g := startGroup(t) // whose switchover answers 409
	o := options(g)
	r := mustRun(t, o)
	if r.Verdict != Inconclusive || !strings.Contains(r.Reasons[0], "said the test") {
		t.Errorf("verdict %s %v", r.Verdict, r.Reasons)
	}
}

func TestRunRefusesAGroupThatIsNotAvailable(t *testing.T) {
	t.Parallel()
	g := startGroup(t)
	g.change(func(s *cluster.Status) { s.State = cluster.GroupDegraded })
	_, err := Run(t.Context(), options(g))
	if !errors.Is(err, cluster.ErrRefused) || !strings.Contains(err.Error(), "degraded") {
		t.Errorf("Run: %v, want it refused", err)
	}
	checkCleaned(t, g)
}

func TestKillRefusesAPidThatIsNotTheNodes(t *testing.T) {
	t.Parallel()
	g := startGroup(t)
	stranger := exec.Command("sleep", "60")
	if err := stranger.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = stranger.Process.Kill()
		_ = stranger.Wait()
	}()
	for name, victim := range map[string]cluster.StatusNode{
		"no server at all":          {ID: "main-001", Addr: g.servers[0].addr, PID: stranger.Process.Pid},
		"another node's server":     {ID: "main-001", Addr: g.servers[0].addr, PID: g.servers[1].cmd.Process.Pid},
		"a server that is down":     {ID: "main-001", Addr: g.servers[0].addr, PID: 0},
		"this very process":         {ID: "main-001", Addr: g.servers[0].addr, PID: os.Getpid()},
		"a node on another machine": {ID: "main-001", Addr: "192.0.2.1:6379", PID: g.servers[0].cmd.Process.Pid},
	} {
		fault, err := FaultNamed("kill-primary")
		if err != nil {
			t.Fatal(err)
		}
		marked := false
		_, err = fault.Inject(t.Context(), Target{Victim: victim, Mark: func() { marked = true }})
		if !errors.Is(err, cluster.ErrRefused) || marked {
			t.Errorf("%s: Inject: %v, marked %v; want it refused", name, err, marked)
		}
	}
	for _, s := range g.servers {
		if _, err := processID(t.Context(), s.addr); err != nil {
			t.Errorf("a server did not survive: %v", err)
		}
	}
}

func TestRunSaysWhatIsWrongWithItsOptions(t *testing.T) {
	for want, o := range map[string]Options{
		"kill-primary, hang-primary, switchover, kill-replica": {Fault: "kill-everything"},
		"cut-zone is not there yet":                            {Fault: "cut-zone"},
		"mixed, webhooks, sessions, catalogue, queue":          {Workload: "chess"},
		"sentinel lane is not there yet":                       {Compare: []string{"sentinel"}},
		"unknown lane":                                         {Compare: []string{"cluster"}},
		"named twice":                                          {Compare: []string{"direct", "direct"}},
		"must be at least":                                     {Duration: 5 * time.Second, At: 4 * time.Second},
		"rate 5 ":                                              {Rate: 5},
	} {
		o.HTTP = "127.0.0.1:1"
		if _, err := Run(t.Context(), o); !errors.Is(err, ErrUsage) || !strings.Contains(err.Error(), want) {
			t.Errorf("Run: %v, want ErrUsage with %q", err, want)
		}
	}
	if _, err := Run(t.Context(), Options{HTTP: "127.0.0.1:1"}); !errors.Is(err, ErrUnreachable) {
		t.Errorf("Run: %v, want ErrUnreachable", err)
	}
}
