package series

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/tsdb"

	"understudy/metric"
)

// BenchmarkADay writes a part of a day and says what a thousand metrics at 1 s would take in a whole one: the blocks of
// 25 hours, and the log of the hour and a half that is in none yet: go test -run ^$ -bench ADay ./series
func BenchmarkADay(b *testing.B) {
	b.Run("groups", func(b *testing.B) { aDay(b, groups) })
	b.Run("mixed", func(b *testing.B) { aDay(b, mixed) })
}

// groups is what `understudy up` collects of groups of three nodes each second, as package monitor does: 18 metrics, of which
// the most never change, two are ages, and lags have steps of 1/64 ms.
func groups(random *rand.Rand, at, m int) []float64 {
	lag := func() float64 { return float64(random.IntN(256)) / 64 }
	switch m % 18 {
	case 0, 1: // of the two replicas
		return []float64{lag()}
	case 2: // of the group
		return []float64{lag(), lag()}
	case 3, 4:
		return []float64{float64(86_000 + at)}
	}
	return []float64{float64(m % 2)}
}

// mixed are a third that never change, a third that count events, and a third that are times of three digits which are
// never the same twice.
func mixed(random *rand.Rand, _, m int) []float64 {
	return []float64{[3]float64{3, float64(random.IntN(20)), float64(100+random.IntN(900)) / 10}[m%3]}
}

func aDay(b *testing.B, values func(random *rand.Rand, at, metric int) []float64) {
	const metrics, seconds = 144, 2 * 3600
	for b.Loop() {
		dir := b.TempDir()
		s, err := Open(Options{Dir: dir})
		if err != nil {
			b.Fatal(err)
		}
		random, start := rand.New(rand.NewPCG(7, 0)), time.Now().Add(-8*time.Hour).Truncate(time.Hour)
		data := make([]metric.Datum, metrics)
		for at := range seconds {
			for m := range data {
				data[m] = metric.Datum{ID: metric.New("App", fmt.Sprint("m", m), "Host", "a"), At: start.Add(time.Duration(at) * time.Second), Values: values(random, at, m), High: true}
			}
			s.rolled.Store(start.UnixMilli()) // the rollup is not measured
			if err := s.Write(b.Context(), data); err != nil {
				b.Fatal(err)
			}
		}
		log := bytesBelow(b, dir, "wal")
		if err := s.seconds.CompactHead(tsdb.NewRangeHead(s.seconds.Head(), start.UnixMilli(), start.Add(seconds*time.Second).UnixMilli()-1)); err != nil {
			b.Fatal(err)
		}
		blocks := bytesBelow(b, filepath.Join(dir, "seconds"), "") - bytesBelow(b, dir, "wal") - bytesBelow(b, dir, "chunks_head")
		perPoint := func(bytes int64) float64 { return float64(bytes) / metrics / seconds }
		b.ReportMetric(perPoint(blocks), "B/point")
		b.ReportMetric(perPoint(log), "logB/point")
		b.ReportMetric((perPoint(blocks)*25+perPoint(log)*1.5)*1000*3600/1e6, "MB/day")
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// bytesBelow adds up the files below dir whose path has the folder; "": all.
func bytesBelow(tb testing.TB, dir, folder string) (sum int64) {
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || folder != "" && !strings.Contains(p, "/"+folder+"/") {
			return err
		}
		info, err := d.Info()
		sum += info.Size()
		return err
	})
	if err != nil {
		tb.Fatal(err)
	}
	return sum
}
