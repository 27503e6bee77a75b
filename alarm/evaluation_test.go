package alarm

import (
	"encoding/json"
	"testing"
	"time"

	"understudy/metric"
)

// longRule breaches every other period.
func longRule(n int) (Rule, []metric.Point) {
	r := ruleOf(n, n, Missing)
	r.Period = 10 * time.Second
	_, end := r.Range(noon)
	var points []metric.Point
	for i := range n {
		points = append(points, metric.Point{At: end.Add(-time.Duration(n-i) * r.Period), Value: float64(i%2) - 0.123456789012345, Count: 1e15})
	}
	return r, points
}

func TestLongRulesHaveDataThatFit(t *testing.T) {
	r, points := longRule(mostPeriods)
	d := Evaluate(r, Alarm, points, noon)
	var data struct {
		RecentDatapoints    []float64
		EvaluatedDatapoints []struct{ Timestamp string }
	}
	if err := json.Unmarshal([]byte(d.Data), &data); err != nil || len(d.Data) > longestData || len(d.Reason) > 1023 {
		t.Fatalf("%v, %d characters of data, %d of reason", err, len(d.Data), len(d.Reason))
	}
	newest := points[mostPeriods-1]
	if n := len(data.EvaluatedDatapoints); n < 20 || len(data.RecentDatapoints) != n || data.EvaluatedDatapoints[0].Timestamp != Stamp(newest.At) ||
		data.RecentDatapoints[n-1] != newest.Value {
		t.Errorf("the newest points are not told: %s", d.Data)
	}
	rule := Rule{Stat: "Sum", Period: time.Second, Periods: mostPeriods, Comparison: Less}
	if err := rule.Validate(); err != nil {
		t.Error(err)
	}
	if rule.Periods++; rule.Validate() == nil {
		t.Error("a rule of more periods is one")
	}
}

// Eight times the points cost eight times as much; they cost sixty when each was compared with each.
func TestLongRulesCostByTheirLength(t *testing.T) {
	cost := func(n int) time.Duration {
		r, points := longRule(n)
		best := time.Hour
		for range 5 {
			from := time.Now()
			Evaluate(r, Alarm, points, noon)
			best = min(best, time.Since(from))
		}
		return best
	}
	short, long := cost(mostPeriods/8), cost(mostPeriods)
	if long > 30*short {
		t.Errorf("%v for %d points, %v for %d", short, mostPeriods/8, long, mostPeriods)
	}
	t.Logf("%v for %d points, %v for %d", short, mostPeriods/8, long, mostPeriods)
}

func TestUnevaluatedKeepsTheState(t *testing.T) {
	for _, before := range []State{OK, Alarm, InsufficientData} {
		d := Unevaluated(before, EvaluationError, "Error in expression 'e1': Undefined id 'm2'")
		if d.State != before || d.Changed || d.Evaluation != "EVALUATION_ERROR" || d.Reason == "" {
			t.Errorf("%s: %+v", before, d)
		}
	}
}
