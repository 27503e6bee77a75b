package metric

import "testing"

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
