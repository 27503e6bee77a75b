package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"understudy/cluster"
	"understudy/history"
)

func TestMedianLiesBetweenTheMiddleTwo(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   spread
	}{
		{[]float64{3}, spread{1, 3, 3, 3}},
		{[]float64{9, 1, 5}, spread{3, 5, 1, 9}},
		{[]float64{8, 2, 4, 6}, spread{4, 5, 2, 8}},
		{nil, spread{}},
	} {
		if got := spreadOf(c.values); got != c.want {
			t.Errorf("%v: %+v, want %+v", c.values, got, c.want)
		}
	}
}

func TestBenchmarkFiguresAreReadByName(t *testing.T) {
	out := `"test","rps","avg_latency_ms","min_latency_ms","p50_latency_ms","p95_latency_ms","p99_latency_ms","max_latency_ms"
"SET","30000.50","0.100","0.050","0.111","0.120","0.222","1.000"
"GET","40000.25","0.100","0.050","0.333","0.120","0.444","1.000"
`
	got, err := parseBenchmark([]byte(out), "set,get")
	if err != nil {
		t.Fatal(err)
	}
	if want := (figure{30000.5, 0.111, 0.222}); got["SET"] != want {
		t.Errorf("SET %+v, want %+v", got["SET"], want)
	}
	if want := (figure{40000.25, 0.333, 0.444}); got["GET"] != want {
		t.Errorf("GET %+v, want %+v", got["GET"], want)
	}
	if _, err := parseBenchmark([]byte(strings.Replace(out, `"GET"`, `"INCR"`, 1)), "set,get"); err == nil {
		t.Error("a missing command was not noticed")
	}
}

func TestQuietIsBeforeTheFaultOnly(t *testing.T) {
	at := func(from, to time.Duration) history.Op {
		return history.Op{Kind: history.Set, Outcome: history.OK, Invoked: from * time.Millisecond, Returned: to * time.Millisecond}
	}
	ops := []history.Op{at(0, 200), at(210, 220), at(220, 225), at(226, 1000), at(1000, 1010)}
	if before := quiet(ops, 230*time.Millisecond); before != 10 {
		t.Errorf("a gap of %v ms before the fault, want 10", before)
	}
}

func TestReportShowsWhatDidNotHappen(t *testing.T) {
	r := report{Rounds: 2, Events: []event{
		{Fault: "crash", Peer: "understudy", Round: 1, judged: judged{GapMs: 20}},
		{Fault: "crash", Peer: "sentinel", Round: 1, judged: judged{GapMs: 2000}},
		{Fault: "crash", Peer: "understudy", Round: 2, judged: judged{GapMs: 10}},
		{Fault: "crash", Peer: "sentinel", Round: 2, judged: judged{GapMs: 16000}, Failed: "another primary: not within 15s"},
	}}
	if got := spreadOf(ratios(r.Events, "crash", "understudy", "sentinel")); got != (spread{1, 100, 100, 100}) {
		t.Errorf("ratio %+v, want 100 from the round in which both happened", got)
	}
	var out bytes.Buffer
	r.print(&out, allParts())
	for _, want := range []string{"NOT COUNTED: crash of sentinel, round 2: another primary: not within 15s", "not measured"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the report does not say %q:\n%s", want, &out)
		}
	}
}

func TestUsageIsThatOfTheProcess(t *testing.T) {
	before, err := usageOf(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if before.resident < 1<<20 {
		t.Errorf("this process has %d bytes resident", before.resident)
	}
	if before.anonymous < 1<<20 || before.anonymous > before.resident {
		t.Errorf("%d of %d bytes have no file", before.anonymous, before.resident)
	}
	parents, err := parentsOf()
	if err != nil {
		t.Fatal(err)
	}
	if parents[os.Getpid()] != os.Getppid() {
		t.Errorf("parent %d, want %d", parents[os.Getpid()], os.Getppid())
	}
	if !descends(os.Getpid(), os.Getppid(), parents) || descends(os.Getppid(), os.Getpid(), parents) {
		t.Error("this process descends from its parent, not the other way round")
	}
	deadline := time.Now().Add(10 * time.Second)
	for n := 0; time.Now().Before(deadline); n++ {
		if u, err := usageOf(os.Getpid()); err == nil && u.cpu > before.cpu {
			return
		}
	}
	t.Error("a busy process used no CPU")
}

func TestStepsOfAFailoverAddUpToTheTimeUntilTheFirstAck(t *testing.T) {
	fault := time.Unix(100, 0)
	at := func(ms float64) time.Time { return fault.Add(time.Duration(ms * float64(time.Millisecond))) }
	events := []cluster.Event{
		{Name: "following", Epoch: 6, Time: at(0.5)}, // late news of the change before
		{Name: "primary_lost", Epoch: 6, Time: at(1)},
		{Name: "lead_vacant", Epoch: 6, Time: at(1.5)},
		{Name: "lead_vacant", Epoch: 6, Time: at(1.8)},
		{Name: "not_claiming", Epoch: 6, Time: at(3)},
		{Name: "claimed", Epoch: 7, Time: at(3.5)},
		{Name: "serving", Epoch: 7, Time: at(5)},
		{Name: "following", Epoch: 7, Time: at(9)},
	}
	began := fault.Add(-time.Second)
	acks := []time.Duration{999 * time.Millisecond, 1002 * time.Millisecond, 1008 * time.Millisecond, 1900 * time.Millisecond}
	got, err := courseOf(events, fault, began, acks) // acked at 8 ms, before the agent had said that it follows
	if err != nil {
		t.Fatal(err)
	}
	want := course{"detect": 1, "release": 0.5, "elect": 2, "promote": 1.5, "follow": 3, "ack": 0}
	for name, ms := range want {
		if got[name] != ms {
			t.Errorf("%s took %v ms, want %v", name, got[name], ms)
		}
	}
	if got.total() != 8 {
		t.Errorf("the steps add up to %v ms, want 8", got.total())
	}
	if _, err := courseOf(events[:6], fault, began, acks); err == nil || !strings.Contains(err.Error(), "promote") {
		t.Errorf("a group that has not said that it serves: %v", err)
	}
}

func TestQuantileIsByNearestRank(t *testing.T) {
	var fifty []float64
	for i := range 50 {
		fifty = append(fifty, float64(50-i))
	}
	for q, want := range map[float64]float64{0.5: 25, 0.9: 45, 0.99: 50, 1: 50, 0: 1} {
		if got := quantile(fifty, q); got != want {
			t.Errorf("quantile %v of 1 to 50 is %v, want %v", q, got, want)
		}
	}
}

func TestPagesBlockIsWrittenAnewAndTheRestIsLeftAlone(t *testing.T) {
	page := "before\n<!-- bench idle -->\nold\n<!-- end of bench idle -->\nafter\n"
	got, err := replaceBlock(page, "idle", "new\n")
	if want := "before\n<!-- bench idle -->\nnew\n<!-- end of bench idle -->\nafter\n"; err != nil || got != want {
		t.Errorf("%q, %v; want %q", got, err, want)
	}
	if _, err := replaceBlock(page, "soak", "new"); err == nil {
		t.Error("a page without the block was not noticed")
	}
	command := undocumented("go run ./bench -rounds 50 -docs docs/x.md -json=/tmp/y -keep /tmp failover")
	if want := "go run ./bench -rounds 50 failover"; command != want {
		t.Errorf("command %q, want %q", command, want)
	}
}

func TestPartsAreChosenByName(t *testing.T) {
	s, err := parse([]string{"-rounds", "7", "throughput", "idle"})
	if err != nil || len(s.parts) != 2 || s.parts[0].name != "idle" || s.rounds != 7 || s.within != s.parts[0].within+s.parts[1].within {
		t.Errorf("%+v, %v", s, err)
	}
	if _, err := parse([]string{"failovers"}); err == nil {
		t.Error("a part that does not exist was not noticed")
	}
	if s, err := parse(nil); err != nil || len(s.parts) != 3 || s.within > 4*time.Minute {
		t.Errorf("%d parts in %v by default, %v; want 3 within the four minutes that the Makefile promises", len(s.parts), s.within, err)
	}
}

func TestGapBelongsToAChangeOnlyIfItBeginsSoonAfterIt(t *testing.T) {
	at := func(all ...time.Duration) (acks []time.Duration) {
		for _, ms := range all {
			acks = append(acks, ms*time.Millisecond)
		}
		return acks
	}
	for _, c := range []struct {
		acks        []time.Duration
		began, long float64
	}{
		{at(90, 101, 103, 123, 130, 990), 130, 860},            // it began in time and lasted
		{at(90, 101, 103, 140, 300, 590, 700, 1500), 300, 290}, // the last one began 600 ms after the change
		{at(90), 100, 1900},             // nothing was acked afterwards
		{at(101, 111, 2100), 111, 1889}, // the window ends before the ack
	} {
		began, long := longestGap(c.acks, 100*time.Millisecond, 2*time.Second)
		if ms(began) != c.began || long != c.long {
			t.Errorf("%v: a gap of %v ms from %v, want %v from %v", c.acks, long, began, c.long, c.began)
		}
	}
}

func TestGrowthIsSeenThroughNoise(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	run := func(perChange float64) []growth {
		var all []sample
		for i := range 50 {
			changes := i * legChanges
			s := sample{Changes: changes, Files: 70 + float64(r.IntN(3)) + perChange*float64(changes), ResidentMB: 70 + 4*r.Float64(), OwnMB: 30 + 3*r.Float64(), HeapMB: 20 + 4*r.Float64(), Goroutines: 80 + float64(r.IntN(5))}
			if i == 30 {
				s.ResidentMB += 60 // one sample in the middle of something
			}
			all = append(all, s)
		}
		return growths(all)
	}
	for _, g := range run(0) {
		if g.bad() {
			t.Errorf("noise passes for growth: %+v", g)
		}
	}
	leaking := run(1.0 / 50) // a descriptor in every fiftieth change
	for _, g := range leaking {
		if g.bad() != (g.Name == "file descriptors") {
			t.Errorf("with a leak of descriptors: %+v", g)
		}
	}
	if growths(make([]sample, minSamples)) != nil {
		t.Error("a line was fitted through too few samples")
	}
}

func TestSoakMixesBothKindsAndEndsWithBoth(t *testing.T) {
	want := settings{switchovers: 100, crashes: 30}
	switchovers, crashes, longest, row := 0, 0, 0, 0
	for range want.switchovers + want.crashes {
		if next(switchovers, crashes, want) == "crash" {
			crashes++
			row = 0
			continue
		}
		switchovers++
		row++
		longest = max(longest, row)
	}
	if switchovers != want.switchovers || crashes != want.crashes || longest > 4 {
		t.Errorf("%d switchovers, %d crashes, at most %d switchovers in a row", switchovers, crashes, longest)
	}
	if next(0, 5, settings{switchovers: 5, crashes: 5}) != "switchover" {
		t.Error("a crash that was not asked for")
	}
}

func TestSoakFailsForEachBrokenPromise(t *testing.T) {
	whole := func() *soak {
		return &soak{Runs: 1, Legs: []leg{{Run: 1, Acked: 10, Events: []change{{Kind: "switchover", Partial: 2}, {Kind: "crash", Full: 1, Partial: 1}}}}}
	}
	want := settings{switchovers: 1, crashes: 1}
	for name, broken := range map[string]func(*leg){
		"":                        func(*leg) {},
		"1 acked writes lost":     func(l *leg) { l.Lost = 1 },
		"1 writes doubled":        func(l *leg) { l.Duplicated = 1 },
		"1 stale reads":           func(l *leg) { l.Stale = 1 },
		"1 errors at clients":     func(l *leg) { l.Errors = 1 },
		"1 full syncs":            func(l *leg) { l.Events[0].Full = 1 },
		"1 switchovers failed":    func(l *leg) { l.Events[0].Failed = "given up" },
		"leg 1: the disk is full": func(l *leg) { l.Failed = "the disk is full" },
	} {
		s := whole()
		broken(&s.Legs[0])
		s.conclude(want)
		if got := strings.Join(s.Reasons, "; "); !strings.HasPrefix(got, name) || name == "" && got != "" {
			t.Errorf("reasons %q, want %q", got, name)
		}
		if !s.Complete {
			t.Error("all was done, and it does not say so")
		}
	}
}

func TestSizesAreCarriedOnOnlyWhereTheyGrow(t *testing.T) {
	x := []float64{0.01, 0.25, 0.5, 1}
	if got := carryOn(x, []float64{10.1, 12.5, 15, 20}, 1); got != "10.0\t210.0" {
		t.Errorf("%q, want 10 for each GB and 210 for 20 of them", got)
	}
	if got := carryOn(x, []float64{12, 9, 11, 8}, 1); !strings.HasPrefix(got, "does not grow") {
		t.Errorf("%q of figures that fall", got)
	}
}

func TestSizesMustGrow(t *testing.T) {
	for text, good := range map[string]bool{"1": true, "0.1,2": true, "2,1": false, "1,1": false, "0": false, "": false, "a": false} {
		var s sizes
		if err := s.Set(text); (err == nil) != good {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestAgeOfThisProcessIsSmallAndGrows(t *testing.T) {
	age, err := ageOf(os.Getpid())
	if err != nil || age < 0 || age > time.Hour {
		t.Errorf("this process is %v old, %v", age, err)
	}
}

func TestPageHasABlockForEveryPart(t *testing.T) {
	var pages string // docs/proxy-speed.md is the page of the part proxies alone
	for _, page := range []string{"../docs/failover-times.md", "../docs/proxy-speed.md", "../docs/metrics.md", "../docs/alarms.md"} {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		pages += string(text)
	}
	for _, p := range allParts() {
		if _, err := replaceBlock(pages, p.name, ""); err != nil {
			t.Error(err)
		}
	}
}

func TestAlarmsCountWhatTheGroupSays(t *testing.T) {
	var a alarms
	for _, name := range []string{"failsafe", "store_back", "primary_hung", "following", "fencing"} {
		a.heard(cluster.Event{Name: name, Node: "main-001", Message: "why"})
	}
	if a.Failsafe != 1 || len(a.Causes) != 2 || a.Causes[0] != "main-001 primary_hung: why" {
		t.Errorf("%+v", a)
	}
}

func TestNetworkCutsAZoneOffAndJoinsItAgain(t *testing.T) {
	if why := zonesImpossible(); why != "" {
		t.Skipf("NOT TESTED: zones need network namespaces: %s", why)
	}
	n, err := newNetwork("test")
	t.Cleanup(func() {
		if err := n.remove(); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	a, b := n.zones[0], n.zones[1]
	// Nobody listens: who can be reached refuses at once.
	reached := func(want bool) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if !want {
			ctx, cancel = context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
		}
		_, err := a.dial(ctx, "tcp", b.ip+":9")
		if errors.Is(err, syscall.ECONNREFUSED) != want {
			t.Errorf("%s is reached from %s: %v, want %v: %v", b.ip, a.ip, !want, want, err)
		}
	}
	reached(true)
	for _, off := range []bool{true, false} {
		if err := b.cut(off); err != nil {
			t.Fatal(err)
		}
		reached(!off)
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	reached(true)
	if after, _ := os.Readlink("/proc/thread-self/ns/net"); after != before {
		t.Errorf("the thread is in namespace %s after it was in a zone, and came from %s", after, before)
	}
}

func TestLostBytesAreThoseOfTheLog(t *testing.T) {
	if got, want := inLog("SET", "w:0:12", "abc"), len("*3\r\n$3\r\nSET\r\n$6\r\nw:0:12\r\n$3\r\nabc\r\n"); got != want {
		t.Errorf("%d bytes, want %d", got, want)
	}
	ops := []history.Op{
		{Kind: history.Set, Key: "there", Value: "v", Outcome: history.OK},
		{Kind: history.Set, Key: "gone", Value: "v", Outcome: history.OK},
		{Kind: history.Set, Key: "refused", Value: "v", Outcome: history.Error},
	}
	if got, want := lostBytes(ops, history.Data{Registers: map[string]string{"there": "v"}}), int64(inLog("SET", "gone", "v")); got != want {
		t.Errorf("%d bytes lost, want %d", got, want)
	}
}

func TestStepsOfASwitchoverBeginWhenItDoes(t *testing.T) {
	began := time.Unix(100, 0)
	at := func(ms float64) time.Time { return began.Add(time.Duration(ms * float64(time.Millisecond))) }
	events := []cluster.Event{
		{Name: "switchover_started", Epoch: 3, Time: at(20)},
		{Name: "serving", Epoch: 4, Time: at(27)},
		{Name: "following", Epoch: 4, Time: at(29)},
		{Name: "following", Epoch: 4, Time: at(31)},
	}
	phases := map[string]float64{"pause": 2, "promote": 1, "route": 1.5}
	got, err := plannedCourseOf(events, phases, began, []time.Duration{19 * time.Millisecond, 30 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]float64{"pause": 2, "move": 2.5, "promote": 1, "route": 1.5, "follow": 2, "ack": 1} {
		if got[name] != want {
			t.Errorf("%s took %v ms, want %v", name, got[name], want)
		}
	}
	if got.total() != 10 {
		t.Errorf("the steps add up to %v ms, want the 10 from its begin to the first ack", got.total())
	}
}

func TestResyncsAreToldApartByWhoAsks(t *testing.T) {
	log := `1:M 25 Nov 2026 08:01:21.705 * Replica 10.98.0.1:7402 asks for synchronization
1:M 25 Nov 2026 08:01:21.705 * Partial resynchronization request from 10.98.0.1:7402 accepted. Sending 644 bytes of backlog starting from offset 1.
1:M 25 Nov 2026 08:01:22.705 * Replica 10.98.0.2:7402 asks for synchronization
1:M 25 Nov 2026 08:01:22.705 * Partial resynchronization not accepted: Requested offset for second ID was 20, but I can reply up to 10
1:M 25 Nov 2026 08:01:22.706 * Starting BGSAVE for SYNC with target: disk
1:M 25 Nov 2026 08:01:23.705 * Replica 10.98.0.2:7402 asks for synchronization
1:M 25 Nov 2026 08:01:23.705 * Full resync requested by replica 10.98.0.2:7402
`
	got := map[string]counted{}
	countResyncs(log, got)
	if got["10.98.0.1"] != (counted{Partial: 1}) || got["10.98.0.2"] != (counted{Full: 2}) {
		t.Errorf("%v", got)
	}
}

func TestFiguresOfAnEarlierRunAreShownAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "figures.json")
	r := report{Command: "go run ./bench loss", Date: "2026-01-02", Writers: 4, Losses: []loss{{Writes: 3, Bytes: 99, Reported: 120, Acked: 50}}}
	if err := r.write(path); err != nil {
		t.Fatal(err)
	}
	s, err := parse([]string{"-from", path, "loss"})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := run(t.Context(), s, &out, io.Discard); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "3 of 50 acked") || !strings.Contains(out.String(), "reported 120 bytes") {
		t.Errorf("it shows %s", &out)
	}
}
