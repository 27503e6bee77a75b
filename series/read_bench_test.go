package series

import (
	"fmt"
	"testing"
	"time"

	"understudy/metric"
)

// BenchmarkPoints asks for the newest five points of each of a thousand metrics, as alarms do every minute: a budget
// of 60 µs a question is 10,000 alarms in 0.6 s of CPU.
func BenchmarkPoints(b *testing.B) {
	const metrics = 1000
	for _, kept := range []struct {
		name   string
		high   bool
		unit   time.Duration
		period []time.Duration
		long   time.Duration
	}{
		{"minutes", false, time.Minute, []time.Duration{time.Minute}, 8 * time.Hour},
		{"seconds", true, time.Second, []time.Duration{time.Second, 10 * time.Second, time.Minute}, 80 * time.Minute},
	} {
		s, err := Open(Options{Dir: b.TempDir()})
		if err != nil {
			b.Fatal(err)
		}
		ids := make([]metric.ID, metrics)
		for i := range ids {
			ids[i] = metric.New("Understudy", fmt.Sprintf("Metric%d", i%50), "CacheClusterId", fmt.Sprintf("main-%03d", i/50))
		}
		end := time.Now().Truncate(time.Minute)
		for at := end.Add(-kept.long); at.Before(end); at = at.Add(kept.unit) {
			data := make([]metric.Datum, metrics)
			for i := range data {
				data[i] = metric.Datum{ID: ids[i], At: at, Values: []float64{float64((at.Unix()*7 + int64(i)) % 100)}, High: kept.high}
			}
			if err := s.Write(b.Context(), data); err != nil {
				b.Fatal(err)
			}
		}
		if err := s.roll(b.Context(), time.Now()); err != nil {
			b.Fatal(err)
		}
		for _, period := range kept.period {
			b.Run(fmt.Sprintf("%s/%v", kept.name, period), func(b *testing.B) {
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					points, err := s.Points(b.Context(), metric.Query{ID: ids[i%metrics], Stat: "Average", Period: period, Start: end.Add(-5 * period), End: end})
					if err != nil || len(points) != 5 {
						b.Fatal(len(points), err)
					}
				}
			})
		}
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
