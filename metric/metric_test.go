package metric

import (
	"math"
	"slices"
	"testing"
	"time"
)

func TestDimensionsAreSortedByName(t *testing.T) {
	a := New(ElastiCache, "ReplicationLag", "CacheNodeId", "0001", "CacheClusterId", "main-001")
	b := New(ElastiCache, "ReplicationLag", "CacheClusterId", "main-001", "CacheNodeId", "0001")
	if !a.Equal(b) {
		t.Errorf("%s is not %s", a, b)
	}
	if want := "AWS/ElastiCache/ReplicationLag{CacheClusterId=main-001,CacheNodeId=0001}"; a.String() != want {
		t.Errorf("%s, want %s", a, want)
	}
	if a.Equal(New(ElastiCache, "ReplicationLag", "CacheClusterId", "main-001")) {
		t.Error("a metric with fewer dimensions is another metric")
	}
}

func TestStatisticsAndPeriods(t *testing.T) {
	for stat, want := range map[string]float64{"Sum": 0, "SampleCount": 0, "p99": .99, "p0": 0, "p100": 1, "p99.9": .999} {
		if got, ok := ParseStat(stat); !ok || math.Abs(got-want) > 1e-12 {
			t.Errorf("%s: %v, %t; want %v", stat, got, ok, want)
		}
	}
	for _, stat := range []string{"", "sum", "p", "p101", "p-1", "p1e2", "p.5", "p5.", "pNaN", "p0x1", "tm99", "p99.12345678901"} {
		if got, ok := ParseStat(stat); ok {
			t.Errorf("%q is a statistic: %v", stat, got)
		}
	}
	for d, want := range map[time.Duration]bool{time.Second: true, 5 * time.Second: true, 20 * time.Second: true, time.Minute: true, time.Hour: true,
		0: false, -time.Minute: false, 2 * time.Second: false, 1500 * time.Millisecond: false, 90 * time.Second: false} {
		if ValidPeriod(d) != want {
			t.Errorf("a period of %v: %t", d, !want)
		}
	}
}

func TestAPeriodHasThePointOfOneUnit(t *testing.T) {
	noon := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	at := func(minute int, v, count float64, unit string) Point {
		return Point{At: noon.Add(time.Duration(minute) * time.Minute), Value: v, Count: count, Unit: unit}
	}
	got, mixed := OneUnit([]Point{at(0, 1, 1, "Count"), at(1, 2, 1, "Count"), at(1, 3, 2, "None"), at(1, 4, 2, "Percent"), at(2, 5, 9, "None")})
	if want := []Point{at(0, 1, 1, "Count"), at(1, 3, 2, "None"), at(2, 5, 9, "None")}; !mixed || !slices.Equal(got, want) {
		t.Errorf("%v, %t", got, mixed)
	}
	if got, mixed := OneUnit([]Point{at(0, 1, 1, ""), at(1, 1, 1, "")}); mixed || len(got) != 2 {
		t.Errorf("%v, %t", got, mixed)
	}
	if got, mixed := OneUnit(nil); mixed || len(got) != 0 {
		t.Errorf("%v, %t", got, mixed)
	}
}
