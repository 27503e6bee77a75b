package series

import (
	"math"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"understudy/metric"
)

// What is kept and what is refused is counted, and what it takes on disk is told.
func TestASeriesTellsWhatItKeeps(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	s, err := Open(Options{Dir: t.TempDir(), Metrics: reg})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	d := metric.Datum{ID: metric.New(metric.Understudy, "X"), At: time.Now(), Values: []float64{1, 2}, High: true}
	if err := s.Write(t.Context(), []metric.Datum{d, d}); err != nil {
		t.Fatal(err)
	}
	d.Values = []float64{math.NaN()}
	if err := s.Write(t.Context(), []metric.Datum{d}); err == nil {
		t.Fatal("no number was kept")
	}
	if kept, refused := testutil.ToFloat64(s.metrics.samples), testutil.ToFloat64(s.metrics.refused); kept != 4 || refused != 1 {
		t.Errorf("%v kept, %v refused", kept, refused)
	}
	if err := s.roll(t.Context(), time.Now()); err != nil {
		t.Fatal(err)
	}
	all, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range all {
		switch f.GetName() {
		case "understudy_series_bytes":
			if n := f.Metric[1].GetGauge().GetValue(); n <= 0 {
				t.Errorf("seconds take %v bytes", n)
			}
		case "understudy_series_rolled_timestamp_seconds":
			if age := time.Since(time.Unix(int64(f.Metric[0].GetGauge().GetValue()), 0)); age < rollAfter || age > rollAfter+time.Minute+time.Second {
				t.Errorf("rolled up until %v ago", age)
			}
		}
	}
	if len(all) != 5 {
		t.Errorf("%d metrics, want 5", len(all))
	}
}
