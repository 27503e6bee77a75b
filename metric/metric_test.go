package metric

import (
	"math"
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
