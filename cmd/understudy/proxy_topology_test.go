package main

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"understudy/cluster"
	"understudy/cluster/clustertest"
)

func TestATopologyIsKeptForTheNextStart(t *testing.T) {
	file, log := filepath.Join(t.TempDir(), "topology.json"), slog.New(slog.DiscardHandler)
	d := newDirectory("main", &clustertest.Memory{}, file, log)
	d.take([]cluster.Entry{
		{Key: cluster.SpecKey("main"), Value: []byte(`{"name":"main","nodes":[{"id":"main-001","machine":"m1"}]}`)},
		{Key: cluster.MachinesPrefix + "m1", Value: []byte(`{"name":"m1","rpc":"tcp:10.0.0.11:7400"}`)},
	})
	next := newDirectory("main", &clustertest.Memory{}, file, log)
	if at := next.where("main-001"); at != "tcp:10.0.0.11:7400" || len(next.news) != 1 {
		t.Errorf("the node's agent is at %q, news %d", at, len(next.news))
	}
	if other := newDirectory("jobs", &clustertest.Memory{}, file, log); other.now() != nil {
		t.Error("another group's is taken")
	}
	// What the store says counts, and is kept in its turn.
	next.take([]cluster.Entry{{Key: cluster.MachinesPrefix + "m1", Value: []byte(`{"name":"m1","rpc":"tcp:10.0.0.12:7400"}`)}})
	third := newDirectory("main", &clustertest.Memory{}, file, log)
	if at := third.where("main-001"); at != "tcp:10.0.0.12:7400" {
		t.Errorf("after the store spoke the node's agent is at %q", at)
	}
	for _, text := range []string{"", "{", `{"group":"main","spec":{"nodes":[{"id":"main-001"}]},"machines":{"m1":{"rpc":"nonsense"}}}`} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if d := newDirectory("main", &clustertest.Memory{}, file, log); d.now() != nil || len(d.news) != 0 {
			t.Errorf("%q is taken", text)
		}
	}
}
