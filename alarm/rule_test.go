package alarm

import (
	"testing"
	"time"

	"understudy/metric"
)

func TestARuleInWords(t *testing.T) {
	m := metric.New("Mine", "m", "shop", "a")
	for want, r := range map[string]Rule{
		"Maximum of Mine/m{shop=a} > 10, 3 of 5 × 1 min": {Metric: m, Stat: "Maximum", Comparison: Greater, Threshold: 10, Datapoints: 3, Periods: 5, Period: time.Minute},
		"p99 of Mine/m{shop=a} <= 0.5, 2 of 2 × 10 s":    {Metric: m, Stat: "p99", Comparison: LessOrEqual, Threshold: .5, Periods: 2, Period: 10 * time.Second},
		"m1/m2 < 1, 1 of 1 × 90 min": {Comparison: Less, Threshold: 1, Periods: 1, Period: 90 * time.Minute,
			Queries: []Query{{ID: "m1", Metric: m, Stat: "Sum"}, {ID: "e", Expression: "m1/m2", Returns: true}}},
	} {
		if got := r.String(); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}
