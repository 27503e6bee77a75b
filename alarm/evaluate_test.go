package alarm

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"understudy/metric"
)

var noon = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)

func ruleOf(m, n int, t Treatment) Rule {
	return Rule{Metric: metric.New("N", "M"), Stat: "Average", Period: time.Minute, Periods: n, Datapoints: m, Comparison: Greater, Treatment: t}
}

// pointsOf reads a row of the oracle, the newest on the right: 0 does not breach, X does, - is missing.
func pointsOf(r Rule, row string) []metric.Point {
	var points []metric.Point
	marks := strings.Fields(row)
	_, end := r.Range(noon)
	for i, mark := range marks {
		at := end.Add(-time.Duration(len(marks)-i) * r.Period)
		switch mark {
		case "0":
			points = append(points, metric.Point{At: at, Count: 1})
		case "X":
			points = append(points, metric.Point{At: at, Value: 1, Count: 1})
		}
	}
	return points
}

// The oracle is AWS's documentation, "How CloudWatch alarms treat missing data": R is the state before.
func TestMissingDataIsTreatedAsInAWSsTables(t *testing.T) {
	text, err := os.ReadFile("testdata/missing.txt")
	if err != nil {
		t.Fatal(err)
	}
	cells := 0
	for _, line := range strings.Split(strings.TrimSpace(string(text)), "\n") {
		if strings.HasPrefix(line, "#") {
			continue
		}
		f := strings.Split(line, "|")
		var m, n int
		if _, err := fmt.Sscanf(f[0], "%d of %d", &m, &n); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		for i, treatment := range []Treatment{Missing, Ignore, Breaching, NotBreaching} {
			want := strings.TrimSpace(f[2+i])
			for _, before := range []State{OK, Alarm, InsufficientData} {
				r := ruleOf(m, n, treatment)
				d := Evaluate(r, before, pointsOf(r, f[1]), noon)
				expected := map[string]State{"OK": OK, "ALARM": Alarm, "I": InsufficientData, "R": before}[want]
				if d.State != expected || d.Changed != (d.State != before) {
					t.Errorf("%s, %s, before %s: %s (changed %t), want %s", f[0]+f[1], treatment, before, d.State, d.Changed, expected)
				}
			}
			cells++
		}
	}
	if cells != 40 {
		t.Errorf("%d cells, the tables have 40", cells)
	}
}

func TestProseCases(t *testing.T) {
	for _, c := range []struct {
		m, n   int
		row    string
		before State
		want   State
	}{
		{3, 3, "X X X 0 0", OK, OK}, // a widely used imitation says ALARM
		{3, 3, "X X X 0 0", Alarm, OK},
		{3, 3, "- - - - X", OK, OK},
		{3, 3, "- - - X -", OK, OK},
		{3, 3, "- - - - X", InsufficientData, InsufficientData},
		{3, 3, "0 0 X X X", OK, Alarm},
		{1, 1, "0 0 X", OK, Alarm},
		{1, 1, "0 X 0", Alarm, OK},
		{2, 5, "X 0 0 0 0 0 X", OK, OK},
		{2, 5, "0 0 X 0 0 0 X", OK, Alarm},
	} {
		r := ruleOf(c.m, c.n, Missing)
		if d := Evaluate(r, c.before, pointsOf(r, c.row), noon); d.State != c.want {
			t.Errorf("%d of %d: %s, before %s: %s, want %s", c.m, c.n, c.row, c.before, d.State, c.want)
		}
	}
}

// slow decides by the rules as they are written down, over every way to look at the row.
func slow(m, n int, row []byte, treatment Treatment, before State) State {
	newest := string(row[len(row)-n:])
	real := strings.ReplaceAll(string(row), "-", "")
	if !strings.Contains(newest, "-") {
		real = newest
	} else if len(real) > n {
		real = real[len(real)-n:]
	}
	breaching, calm := strings.Count(real, "X"), strings.Count(real, "0")
	short := n - len(real)
	switch treatment {
	case Breaching:
		real += strings.Repeat("X", short)
	case NotBreaching:
		real += strings.Repeat("0", short)
	}
	switch {
	case strings.Count(real, "X") >= m:
		return Alarm
	case len(real) == n, calm > 0:
		return OK
	case treatment == Ignore:
		return before
	case breaching == 0:
		return InsufficientData
	}
	oldest := strings.IndexByte(newest, 'X')
	if oldest >= 0 && n-oldest >= m {
		return Alarm
	}
	return before
}

func TestEvaluateDecidesAsTheSlowReference(t *testing.T) {
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 1))
	for range 5_000 {
		n := 1 + rng.IntN(6)
		m := 1 + rng.IntN(n)
		row := make([]byte, n+extraPoints)
		for i := range row {
			row[i] = "0X--"[rng.IntN(4)]
		}
		treatment := []Treatment{Missing, Ignore, Breaching, NotBreaching}[rng.IntN(4)]
		before := []State{OK, Alarm, InsufficientData}[rng.IntN(3)]
		r := ruleOf(m, n, treatment)
		got := Evaluate(r, before, pointsOf(r, strings.Join(strings.Split(string(row), ""), " ")), noon)
		if want := slow(m, n, row, treatment, before); got.State != want {
			t.Fatalf("seed %d: %d of %d, %s, %s, before %s: %s, want %s", seed, m, n, row, treatment, before, got.State, want)
		}
		if !json.Valid([]byte(got.Data)) {
			t.Fatalf("seed %d: reason data %s", seed, got.Data)
		}
	}
}

func TestNumbersAreWrittenAsJavaDoes(t *testing.T) {
	for v, want := range map[float64]string{0: "0.0", 21: "21.0", -1.5: "-1.5", 1e-4: "1.0E-4", 0.001: "0.001", 9999999: "9999999.0", 1e7: "1.0E7", 12345678: "1.2345678E7"} {
		if got := Double(v); got != want {
			t.Errorf("%v: %s, want %s", v, got, want)
		}
	}
}

// Few samples say little about a percentile: with `ignore` the state stays.
func TestPercentileWithFewSamples(t *testing.T) {
	for _, c := range []struct {
		stat  string
		count float64
		few   Few
		want  State
	}{
		{"p99", 999, IgnoreFew, OK}, {"p99", 1000, IgnoreFew, Alarm}, {"p99", 1, "", Alarm}, {"p99", 1, EvaluateFew, Alarm},
		{"p10", 99, IgnoreFew, OK}, {"p10", 100, IgnoreFew, Alarm}, {"Average", 1, IgnoreFew, Alarm},
	} {
		r := Rule{Stat: c.stat, Period: time.Minute, Periods: 1, Comparison: Greater, FewSamples: c.few}
		if got := Evaluate(r, OK, []metric.Point{{At: noon.Add(-time.Minute), Value: 1, Count: c.count}}, noon).State; got != c.want {
			t.Errorf("%s of %v samples, %q: %s, want %s", c.stat, c.count, c.few, got, c.want)
		}
	}
}

func TestCadenceAndRange(t *testing.T) {
	for _, c := range []struct {
		period     time.Duration
		n          int
		cadence    time.Duration
		start, end string // of the range at 12:00:47
	}{
		{time.Minute, 3, time.Minute, "11:55:00", "12:00:00"},
		{5 * time.Minute, 1, time.Minute, "11:45:00", "12:00:00"},
		{30 * time.Second, 1, 10 * time.Second, "11:59:10", "12:00:40"},
		{10 * time.Second, 2, 10 * time.Second, "12:00:00", "12:00:40"},
		{time.Second, 2, time.Second, "12:00:43", "12:00:47"},
		{time.Hour, 25, time.Hour, "", ""},
	} {
		r := ruleOf(0, c.n, "")
		r.Period = c.period
		if got := r.Cadence(); got != c.cadence {
			t.Errorf("%v × %d is evaluated each %v, want %v", c.period, c.n, got, c.cadence)
		}
		start, end := r.Range(noon.Add(47 * time.Second))
		if c.start != "" && (start.Format(time.TimeOnly) != c.start || end.Format(time.TimeOnly) != c.end) {
			t.Errorf("%v × %d: %s to %s, want %s to %s", c.period, c.n, start.Format(time.TimeOnly), end.Format(time.TimeOnly), c.start, c.end)
		}
	}
	r := ruleOf(0, 1, "")
	if r.Due(noon, noon.Add(59*time.Second)) || !r.Due(noon.Add(59*time.Second), noon.Add(time.Minute)) || !r.Due(time.Time{}, noon) {
		t.Error("a rule of a minute is due when another minute has begun")
	}
}

func TestRulesThatAreNone(t *testing.T) {
	good := Rule{Metric: metric.New("N", "M"), Stat: "p99.9", Period: time.Minute, Periods: 3, Datapoints: 2, Comparison: Less}
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*Rule){
		"Period":              func(r *Rule) { r.Period = 61 * time.Second },
		"EvaluationPeriods":   func(r *Rule) { r.Periods = 0 },
		"DatapointsToAlarm":   func(r *Rule) { r.Datapoints = 4 },
		"across more than":    func(r *Rule) { r.Periods = 1441 },
		"ComparisonOperator":  func(r *Rule) { r.Comparison = "Above" },
		"TreatMissingData":    func(r *Rule) { r.Treatment = "skip" },
		"Statistic":           func(r *Rule) { r.Stat = "p101" },
		"Exactly one element": func(r *Rule) { r.Queries = []Query{{ID: "m1", Stat: "Sum", Period: time.Minute}} },
		"up to 10 metrics": func(r *Rule) {
			for i := range 11 {
				r.Queries = append(r.Queries, Query{ID: fmt.Sprint("m", i), Stat: "Sum", Period: time.Minute, Returns: i == 0})
			}
		},
	} {
		bad := good
		change(&bad)
		if err := bad.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want a word about %s", err, want)
		}
	}
}

// 10,000 alarms a minute may cost a second of CPU; evaluating is a small part of that.
func BenchmarkEvaluate(b *testing.B) {
	r := ruleOf(2, 3, Missing)
	points := pointsOf(r, "0 - X - X")
	for b.Loop() {
		Evaluate(r, OK, points, noon)
	}
}
