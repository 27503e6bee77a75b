package series

import (
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"understudy/metric"
)

func open(t *testing.T, dir string) *Series {
	t.Helper()
	s, err := Open(Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func fresh(t *testing.T) *Series {
	t.Helper()
	s := open(t, t.TempDir())
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func write(t *testing.T, s *Series, data ...metric.Datum) {
	t.Helper()
	if err := s.Write(t.Context(), data); err != nil {
		t.Fatal(err)
	}
}

var id = metric.New("App", "Latency", "Host", "a", "Shop", "1")

// minute is one that is over, d before now.
func minute(d time.Duration) time.Time { return time.Now().Add(-d).Truncate(time.Minute) }

func second(at time.Time, values ...float64) metric.Datum {
	return metric.Datum{ID: id, At: at, Unit: "Milliseconds", Values: values, High: true}
}

// ask returns the values of the periods of a quarter of an hour, as text.
func ask(t *testing.T, s *Series, stat string, period time.Duration, start time.Time) string {
	t.Helper()
	points, err := s.Points(t.Context(), metric.Query{ID: id, Stat: stat, Period: period, Start: start, End: start.Add(15 * time.Minute)})
	if err != nil {
		t.Fatal(err)
	}
	text := ""
	for _, p := range points {
		text += fmt.Sprintf("%v=%.4g ", p.At.Sub(start), p.Value)
	}
	return text
}

func expect(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %q, want %q", what, got, want)
	}
}

func TestWhatIsPublishedOfOneSecondAddsUp(t *testing.T) {
	s := fresh(t)
	at := minute(5 * time.Minute)
	write(t, s, second(at, 1), second(at, 2))
	write(t, s, second(at.Add(300*time.Millisecond), 3))
	write(t, s, metric.Datum{ID: id, At: at.Add(2 * time.Second), Unit: "Milliseconds", Values: []float64{10, 20}, Counts: []float64{3, 1}, High: true})
	write(t, s, second(at.Add(time.Second), 7)) // out of order
	write(t, s, second(at, 4))
	expect(t, "sums", ask(t, s, "Sum", time.Second, at), "0s=10 1s=7 2s=50 ")
	expect(t, "counts", ask(t, s, "SampleCount", time.Second, at), "0s=4 1s=1 2s=4 ")
	expect(t, "averages", ask(t, s, "Average", time.Minute, at), "0s=7.444 ")
	expect(t, "medians", ask(t, s, "p50", 5*time.Second, at), "0s=7 ")
	expect(t, "highest", ask(t, s, "p99.99", 5*time.Second, at), "0s=20 ")
}

func TestMinutesAndStatisticSets(t *testing.T) {
	s := fresh(t)
	at := minute(20 * time.Minute)
	write(t, s, metric.Datum{ID: id, At: at.Add(7 * time.Second), Values: []float64{1}}, metric.Datum{ID: id, At: at.Add(50 * time.Second), Values: []float64{5}},
		metric.Datum{ID: id, At: at.Add(time.Minute), Set: &metric.Set{Count: 4, Sum: 10, Min: 1, Max: 4}},
		metric.Datum{ID: id, At: at.Add(2 * time.Minute), Set: &metric.Set{Count: 2, Sum: 6, Min: 3, Max: 3}})
	expect(t, "sums", ask(t, s, "Sum", time.Minute, at), "0s=6 1m0s=10 2m0s=6 ")
	expect(t, "lowest", ask(t, s, "Minimum", 3*time.Minute, at), "0s=1 ")
	expect(t, "highest", ask(t, s, "Maximum", 3*time.Minute, at), "0s=5 ")
	expect(t, "percentiles", ask(t, s, "p100", time.Minute, at), "0s=5 2m0s=3 ")
	expect(t, "seconds of what was published by the minute", ask(t, s, "Sum", time.Second, at), "")
}

func TestSecondsAreRolledUpOnceAndLateOnesCount(t *testing.T) {
	s := fresh(t)
	at := minute(10 * time.Minute)
	s.rolled.Store(at.UnixMilli())
	for i := range 120 {
		write(t, s, second(at.Add(time.Duration(i)*time.Second), float64(i%60)-10))
	}
	stats := []string{"SampleCount", "Sum", "Average", "Minimum", "Maximum"}
	before := map[string]string{}
	for _, stat := range stats {
		before[stat] = ask(t, s, stat, time.Minute, at)
	}
	for range 2 { // the second time, as after a crash before the mark
		if err := s.roll(t.Context(), time.Now()); err != nil {
			t.Fatal(err)
		}
		for _, stat := range stats {
			expect(t, stat, ask(t, s, stat, time.Minute, at), before[stat])
		}
		s.rolled.Store(at.UnixMilli())
	}
	if err := s.roll(t.Context(), time.Now()); err != nil {
		t.Fatal(err)
	}
	for _, p := range []struct {
		stat string
		want float64
	}{{"p10", -5}, {"p50", 19}, {"p90", 43}, {"p100", 49}} {
		points, err := s.Points(t.Context(), metric.Query{ID: id, Stat: p.stat, Period: 2 * time.Minute, Start: at, End: at.Add(2 * time.Minute)})
		if err != nil || len(points) != 1 || math.Abs(points[0].Value-p.want) > 0.011*math.Abs(p.want) {
			t.Errorf("%s: %v %v, want %v", p.stat, points, err, p.want)
		}
	}
	write(t, s, second(at.Add(3*time.Second), 1000), second(at.Add(3*time.Second), 2000))
	expect(t, "late minutes", ask(t, s, "Maximum", time.Minute, at), "0s=2000 1m0s=49 ")
	expect(t, "late seconds", ask(t, s, "Sum", time.Minute, at), "0s=4170 1m0s=1170 ")
}

func TestUnitsAndDimensionsTellApart(t *testing.T) {
	s := fresh(t)
	at := minute(5 * time.Minute)
	other := metric.New("App", "Latency", "Host", "a")
	write(t, s, metric.Datum{ID: id, At: at, Unit: "Bytes", Values: []float64{1}}, metric.Datum{ID: id, At: at, Values: []float64{2}},
		metric.Datum{ID: other, At: at, Values: []float64{3}})
	points, err := s.Points(t.Context(), metric.Query{ID: id, Stat: "Sum", Period: time.Minute, Start: at, End: at.Add(time.Minute)})
	if err != nil || len(points) != 2 || points[0].Unit != "Bytes" || points[1].Unit != "None" {
		t.Errorf("each unit has its point: %v %v", points, err)
	}
	points, err = s.Points(t.Context(), metric.Query{ID: id, Stat: "Sum", Unit: "Bytes", Period: time.Minute, Start: at, End: at.Add(time.Minute)})
	if err != nil || len(points) != 1 || points[0].Value != 1 {
		t.Errorf("of one unit: %v %v", points, err)
	}
	for _, l := range []struct {
		filter metric.Filter
		want   int
	}{{metric.Filter{}, 2}, {metric.Filter{Name: "Latency", Dimensions: []metric.Dimension{{Name: "Shop"}}}, 1},
		{metric.Filter{Namespace: "Other"}, 0}, {metric.Filter{Since: at.Add(time.Minute)}, 0}, {metric.Filter{Since: at.Add(-time.Minute)}, 2}} {
		if ids, err := s.List(t.Context(), l.filter); err != nil || len(ids) != l.want {
			t.Errorf("list %+v: %v %v, want %d", l.filter, ids, err, l.want)
		}
	}
}

func TestWhatCannotBeKeptIsRefusedWhole(t *testing.T) {
	s := fresh(t)
	at := minute(5 * time.Minute)
	many := id
	for i := range 29 {
		many.Dimensions = append(many.Dimensions, metric.Dimension{Name: fmt.Sprint("d", i), Value: "x"})
	}
	for _, c := range []struct {
		want  error
		datum metric.Datum
	}{
		{ErrNotANumber, second(at, math.NaN())}, {ErrNotANumber, second(at, math.Inf(-1))}, {ErrRange, second(at, math.Ldexp(1, 361))},
		{ErrPast, second(time.Now().Add(-15*24*time.Hour), 1)}, {ErrFuture, second(time.Now().Add(3*time.Hour), 1)},
		{ErrDimensions, metric.Datum{ID: many, At: at, Values: []float64{1}}}, {ErrUnit, metric.Datum{ID: id, At: at, Unit: "Miles", Values: []float64{1}}},
		{ErrValues, second(at)}, {ErrValues, metric.Datum{ID: id, At: at, Values: []float64{1}, Counts: []float64{0}}},
		{ErrValues, metric.Datum{ID: id, At: at, Set: &metric.Set{Count: 1, Sum: 1, Min: 2, Max: 1}}}, {ErrName, metric.Datum{At: at, Values: []float64{1}}},
	} {
		err := s.Write(t.Context(), []metric.Datum{second(at, 1), c.datum})
		var refused *Refused
		if !errors.Is(err, c.want) || !errors.As(err, &refused) || refused.Index != 1 {
			t.Errorf("%v, want %v of the second", err, c.want)
		}
	}
	expect(t, "what was beside it", ask(t, s, "Sum", time.Minute, at), "")
	for _, q := range []metric.Query{{Stat: "Median", Period: time.Minute}, {Stat: "p101", Period: time.Minute}, {Stat: "Sum", Period: 90 * time.Second}, {Stat: "Sum"}} {
		q.ID, q.Start, q.End = id, at, at.Add(time.Minute)
		if _, err := s.Points(t.Context(), q); !errors.Is(err, ErrQuery) {
			t.Errorf("%+v: %v", q, err)
		}
	}
	hundred := make([]float64, 100)
	for range 10 {
		write(t, s, second(at, hundred...))
	}
	if err := s.Write(t.Context(), []metric.Datum{second(at, 1)}); !errors.Is(err, ErrFull) {
		t.Errorf("the 1,001st value of a second: %v", err)
	}
}

func TestOldDataAreTakenBesideNewOnes(t *testing.T) {
	s := fresh(t)
	write(t, s, second(time.Now().Add(119*time.Minute), 1), metric.Datum{ID: id, At: time.Now().Add(119 * time.Minute), Values: []float64{1}})
	for _, d := range []time.Duration{13*24*time.Hour + 23*time.Hour, 25 * time.Hour, 23 * time.Hour, time.Hour, 3 * 24 * time.Hour} {
		at := minute(d)
		write(t, s, second(at, 2), second(at, 3))
		expect(t, d.String(), ask(t, s, "Sum", time.Minute, at), "0s=5 ")
	}
}

// TestWhatWasTakenSurvivesKill9 runs itself as a process that writes until it is killed.
func TestWhatWasTakenSurvivesKill9(t *testing.T) {
	if dir := os.Getenv("SERIES_TEST_DIR"); dir != "" {
		s, at := open(t, dir), minute(5*time.Minute)
		for i := range 20 {
			write(t, s, second(at.Add(time.Duration(i)*time.Second), 1, 2, 3), metric.Datum{ID: id, At: at, Values: []float64{4}})
		}
		if err := os.WriteFile(filepath.Join(dir, "at"), []byte(at.Format(time.RFC3339)), 0o600); err != nil {
			t.Fatal(err)
		}
		self, err := os.FindProcess(os.Getpid())
		if err == nil {
			err = self.Kill()
		}
		t.Fatal("not killed: ", err)
	}
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestWhatWasTakenSurvivesKill9$")
	cmd.Env = append(os.Environ(), "SERIES_TEST_DIR="+dir)
	out, err := cmd.CombinedOutput()
	text, missing := os.ReadFile(filepath.Join(dir, "at"))
	if err == nil || missing != nil {
		t.Fatalf("%v %v\n%s", err, missing, out)
	}
	at, err := time.Parse(time.RFC3339, string(text))
	if err != nil {
		t.Fatal(err)
	}
	s := open(t, dir)
	defer s.Close()
	expect(t, "the sum", ask(t, s, "Sum", time.Hour, at), "0s=120 0s=80 ") // of each unit
	write(t, s, second(at.Add(19*time.Second), 4))
	expect(t, "what goes on", ask(t, s, "Sum", time.Second, at.Add(19*time.Second)), "0s=10 ")
}
