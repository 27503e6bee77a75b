package drill

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"regexp"
	"strings"
	"testing"
	"time"
)

// exampleResult is a failed drill with all that a report can show.
func exampleResult() Result {
	rto, whole := 640.5, 1800.0
	good := Figures{RTOMs: &rto, WriteGapMs: 600, FailoverGapMs: 600, Acked: 5000, Lost: 2, Errors: 1, Unknown: 3,
		ErrorTexts: map[string]int{`ERR <script>alert("x")</script>`: 1}, Examples: []string{`k="v" </script><b>`}}
	r := Result{
		Schema: 1, ID: newID(time.Unix(1_700_000_000, 0), "kill-primary"), Fault: "kill-primary", Target: "local", Verdict: Fail,
		Reasons: []string{"2 acked writes were lost, 0 may be"}, Figures: good, RedundancyMs: &whole,
		PhasesMs: map[string]float64{"promote": 3, "detect": 1}, Thresholds: Thresholds{RTOMs: 500},
		Lanes:    []Lane{{LaneUnderstudy, aboutUnderstudy, good}, {LaneDirect, aboutDirect, Figures{Acked: 10, Errors: 9}}},
		Timeline: []Mark{{0, "drill", "fault injected"}}, Alarms: []Alarm{}, FaultAtMs: 1000, Group: "main", From: "main-001", To: "main-002",
		Nodes: 3, NodesReady: 3, Audit: []NodeAudit{{Node: "main-001", CaughtUp: true}},
		Parameters: Parameters{Workload: "mixed", DurationMs: 4000, AtMs: 1000, Command: "understudy drill run --fault kill-primary"},
	}
	entries := steady(4*time.Second, func(e *entry) {
		if e.Invoked > 2*time.Second && e.Invoked < 2500*time.Millisecond {
			e.Failure = "EOF"
		}
	})
	r.plot.add(LaneUnderstudy, entries, 0, 4*time.Second)
	r.plot.add(LaneDirect, entries[:10], 0, 4*time.Second)
	return r
}

func TestReportIsOneSelfContainedPage(t *testing.T) {
	r := exampleResult()
	var page bytes.Buffer
	if err := r.WriteHTML(&page); err != nil {
		t.Fatal(err)
	}
	text := page.String()
	checkBalanced(t, text)
	if found := regexp.MustCompile(`(?i)https?:|//[a-z]|url\(|@import|<link|\bsrc=`).FindString(text); found != "" {
		t.Errorf("the page reaches for something outside: %q", found)
	}
	if strings.Contains(text, `<script>alert`) {
		t.Error("an error's text became a script")
	}
	for _, want := range []string{"failed", "Writes paused for 600 ms", "did not recover within the run", "fault injected",
		"understudy drill run --fault kill-primary", "main-002 took over from main-001", "READONLY", "prefers-color-scheme"} {
		if !strings.Contains(text, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	if strings.Count(text, "<svg") != 4 || strings.Count(text, `<rect class="errors"`) == 0 {
		t.Errorf("%d charts, %d columns of errors", strings.Count(text, "<svg"), strings.Count(text, `<rect class="errors"`))
	}
	checkEmbedded(t, text, r)
}

// checkBalanced fails when an element is not closed where it should be.
func checkBalanced(t *testing.T, page string) {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(page))
	d.Strict, d.AutoClose, d.Entity = false, xml.HTMLAutoClose, xml.HTMLEntity
	for {
		_, err := d.Token()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Errorf("the page is not well formed: %v", err)
			return
		}
	}
}

func checkEmbedded(t *testing.T, page string, r Result) {
	t.Helper()
	_, rest, _ := strings.Cut(page, `id="result">`)
	raw, _, ok := strings.Cut(rest, "</script>")
	var back Result
	if err := json.Unmarshal([]byte(raw), &back); !ok || err != nil || back.ID != r.ID || back.Lost != 2 {
		t.Errorf("the embedded result is not the result: %v", err)
	}
}

func TestReportOfAnEmptyRun(t *testing.T) {
	r := Result{Verdict: Inconclusive, Reasons: []string{"nothing happened"}, Parameters: Parameters{DurationMs: 3000}}
	var page bytes.Buffer
	if err := r.WriteHTML(&page); err != nil || !strings.Contains(page.String(), "nothing happened") {
		t.Errorf("WriteHTML: %v", err)
	}
}

func TestJUnitTellsTheVerdict(t *testing.T) {
	for verdict, want := range map[Verdict][2]int{Pass: {0, 0}, Fail: {1, 0}, Inconclusive: {0, 1}} {
		r := exampleResult()
		r.Verdict = verdict
		var b bytes.Buffer
		if err := r.WriteJUnit(&b); err != nil {
			t.Fatal(err)
		}
		var s junitSuite
		if err := xml.Unmarshal(b.Bytes(), &s); err != nil {
			t.Fatalf("%v in %s", err, b.String())
		}
		if s.Failures != want[0] || s.Skipped != want[1] || s.Tests != 1 || !strings.Contains(s.Cases[0].Out, "lost 2") {
			t.Errorf("%s: %s", verdict, b.String())
		}
	}
}

func TestResultMarshalsToTheNamesOfTheInterface(t *testing.T) {
	b, err := json.Marshal(exampleResult())
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(b, &m); err != nil {
		t.Fatal(err)
	}
	for _, name := range strings.Fields(`schema id fault target seed started verdict reasons rto_ms rpo_writes acked lost duplicated unknown errors
		stale_reads write_gap_ms read_gap_ms redundancy_ms phases_ms thresholds lanes alarms timeline`) {
		if _, ok := m[name]; !ok {
			t.Errorf("%s is missing", name)
		}
	}
	direct := m["lanes"].([]any)[1].(map[string]any)
	if v, there := direct["rto_ms"]; !there || v != nil {
		t.Errorf("a lane that never recovered has rto_ms %v, want null", v)
	}
}

func TestLoadTakesNoPath(t *testing.T) {
	for _, id := range []string{"../etc", "", ".", "..", "a/b", "20200101T000000.000Z-switchover", "latest"} {
		if _, err := Load(t.TempDir(), id); err == nil {
			t.Errorf("Load %q: no error", id)
		}
	}
}
