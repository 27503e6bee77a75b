package main

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"time"

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
	got, err := parseBenchmark([]byte(out))
	if err != nil {
		t.Fatal(err)
	}
	if want := (figure{30000.5, 0.111, 0.222}); got["SET"] != want {
		t.Errorf("SET %+v, want %+v", got["SET"], want)
	}
	if want := (figure{40000.25, 0.333, 0.444}); got["GET"] != want {
		t.Errorf("GET %+v, want %+v", got["GET"], want)
	}
	if _, err := parseBenchmark([]byte(strings.Replace(out, `"GET"`, `"INCR"`, 1))); err == nil {
		t.Error("a missing command was not noticed")
	}
}

func TestGapCountsFromTheFaultOnly(t *testing.T) {
	at := func(from, to time.Duration) history.Op {
		return history.Op{Kind: history.Set, Outcome: history.OK, Invoked: from * time.Millisecond, Returned: to * time.Millisecond}
	}
	ops := []history.Op{at(0, 200), at(210, 220), at(220, 225), at(226, 1000), at(1000, 1010)}
	before, after := gaps(ops, 230*time.Millisecond)
	if before != 10 || after != 774 {
		t.Errorf("gaps %v and %v ms, want 10 before the fault and 774 after it", before, after)
	}
}

func TestReportShowsWhatDidNotHappen(t *testing.T) {
	r := report{Rounds: 2, Events: []event{
		{Fault: "crash", Peer: "understudy", Round: 1, judged: judged{GapMs: 20}},
		{Fault: "crash", Peer: "sentinel", Round: 1, judged: judged{GapMs: 2000}},
		{Fault: "crash", Peer: "understudy", Round: 2, judged: judged{GapMs: 10}},
		{Fault: "crash", Peer: "sentinel", Round: 2, judged: judged{GapMs: 16000}, Failed: "another primary: not within 15s"},
	}}
	if got := spreadOf(r.gapRatios("crash")); got != (spread{1, 100, 100, 100}) {
		t.Errorf("ratio %+v, want 100 from the round in which both happened", got)
	}
	var out bytes.Buffer
	r.print(&out)
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
