package alarm

import (
	"math"
	"testing"
	"time"
)

// Recorded from PutMetricAlarm. The product of a large number of periods and a period overflows: it must not pass.
func TestWindowsAreBounded(t *testing.T) {
	const (
		day  = "Metrics cannot be checked across more than a day (EvaluationPeriods * Period must be <= 86400) for alarms using period < 3600"
		week = "Metrics cannot be checked across more than a week (EvaluationPeriods * Period must be <= 604800) for alarms using period >= 3600"
	)
	for _, c := range []struct {
		period time.Duration
		n      int
		want   string
	}{
		{time.Minute, 1440, ""}, {time.Minute, 1441, day}, {time.Second, 86_401, day},
		{time.Hour, 168, ""}, {time.Hour, 169, week}, {24 * time.Hour, 7, ""}, {24 * time.Hour, 8, week},
		{time.Minute, math.MaxInt32, day}, {time.Minute, 1 << 33, day}, {7 * 24 * time.Hour, math.MaxInt32, week},
	} {
		r := ruleOf(0, c.n, "")
		r.Period = c.period
		got := ""
		if err := r.Validate(); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%d of %v: %q, want %q", c.n, c.period, got, c.want)
		}
	}
}

// 10,000 alarms a minute may cost a second of CPU: 100 us each, and 30 are measured (BenchmarkEvaluate). The test
// allows for a slow machine and the race detector.
func TestEvaluatingIsCheap(t *testing.T) {
	r := ruleOf(2, 3, Missing)
	points := pointsOf(r, "0 - X - X")
	const alarms, each = 500, 2 * time.Millisecond
	from := time.Now()
	for range alarms {
		Evaluate(r, OK, points, noon)
	}
	if took := time.Since(from); took > alarms*each {
		t.Errorf("%v for %d alarms, at most %v are allowed for each", took, alarms, each)
	}
}
