package host

import (
	"testing"
	"time"

	"understudy/cluster"
)

func TestZonesWithoutAPrimaryAreFreeForTheStoresLeader(t *testing.T) {
	now := time.Minute
	machine := func(zone string, at time.Duration) seen {
		return seen{at: at, entry: entry[cluster.Machine]{value: cluster.Machine{Zone: zone}}}
	}
	h := &Host{
		opts: Options{Renew: time.Second, Clock: func() time.Duration { return now }}, known: true,
		machines: map[string]seen{"m1": machine("a", now), "m2": machine("b", now), "m3": machine("c", now-time.Hour), "m4": machine("a", now)},
		specs:    map[string]entry[cluster.Spec]{"g": {value: cluster.Spec{Nodes: []cluster.NodePlace{{ID: "g-001", Zone: "a"}, {ID: "g-002", Zone: "b"}}}}},
		leads:    map[string]lead{"g": {Lead: cluster.Lead{Holder: "g-001", State: cluster.LeadHeld}}},
	}
	want := func(free ...string) {
		t.Helper()
		z := h.Zones()
		for _, name := range []string{"m1", "m2", "m3", "m4", "unknown"} {
			expected := false
			for _, f := range free {
				expected = expected || f == name
			}
			if got := z.Free(name); got != expected {
				t.Errorf("%s free: %v, want %v", name, got, expected)
			}
		}
	}
	want("m2") // m3 is silent
	if z := h.Zones(); !z.Primary("a") || z.Primary("b") {
		t.Error("the primary is not where it is")
	}
	h.leads["g"] = lead{Lead: cluster.Lead{Holder: "g-002", State: cluster.LeadHeld}}
	want("m1", "m4")
	h.leads["g"] = lead{Lead: cluster.Lead{Holder: "g-002", State: cluster.LeadReleased}}
	want("m1", "m2", "m4")
	h.known = false
	want()
}
