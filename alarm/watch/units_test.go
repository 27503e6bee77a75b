package watch

import (
	"context"
	"testing"
	"time"

	"understudy/alarm"
	"understudy/metric"
)

// twoUnits has two points for each period: one of many seconds, one of a single millisecond.
type twoUnits struct{}

func (twoUnits) Points(_ context.Context, q metric.Query) (all []metric.Point, err error) {
	for at := q.Start; at.Before(q.End); at = at.Add(q.Period) {
		all = append(all, metric.Point{At: at, Value: 900, Count: 1, Unit: "Milliseconds"}, metric.Point{At: at, Value: 1, Count: 60, Unit: "Seconds"})
	}
	return all, nil
}

func (twoUnits) List(context.Context, metric.Filter) ([]metric.ID, error) { return nil, nil }

// An alarm without a unit compares one value a period, whatever units were published.
func TestAPeriodOfTwoUnitsIsOnePoint(t *testing.T) {
	start := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	q := metric.Query{ID: metric.New("Shop", "Wait"), Stat: "Average", Period: time.Minute, Start: start, End: start.Add(3 * time.Minute)}
	plain, err := pointsOf(t.Context(), twoUnits{}, q)
	if err != nil {
		t.Fatal(err)
	}
	r := alarm.Rule{Queries: []alarm.Query{{ID: "m", Metric: q.ID, Stat: "Average", Period: time.Minute}, {ID: "e", Expression: "m*2", Returns: true}}}
	m, err := compile(r)
	if err != nil {
		t.Fatal(err)
	}
	doubled, err := m.points(t.Context(), twoUnits{}, r, q)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []float64{1, 1, 1} {
		if len(plain) != 3 || plain[i].Value != want || len(doubled) != 3 || doubled[i].Value != 2*want {
			t.Fatalf("%v, and doubled %v", plain, doubled)
		}
	}
}
