package drill

import (
	"slices"
	"testing"
	"time"

	"understudy/alarm/watch"
	"understudy/cluster"
)

func TestAlarmsThatFiredSinceTheFault(t *testing.T) {
	fault := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	at := func(name string, ms int, kind watch.Kind, summary string) watch.Entry {
		return watch.Entry{Alarm: name, At: fault.Add(time.Duration(ms) * time.Millisecond), Kind: kind, Summary: summary}
	}
	got := firedSince([]watch.Entry{ // newest first
		at("b", 2100, watch.Action, `Failed to execute action t. Received error: "gone"`),
		at("b", 2000, watch.StateUpdate, "Alarm updated from INSUFFICIENT_DATA to ALARM"),
		at("a", 1500, watch.StateUpdate, "Alarm updated from ALARM to OK"),
		at("a", 1040, watch.Action, "Successfully executed action u"),
		at("a", 1020, watch.Action, "Successfully executed action t"),
		at("a", 1000, watch.StateUpdate, "Alarm updated from OK to ALARM"),
		at("c", 500, watch.StateUpdate, "Alarm updated from INSUFFICIENT_DATA to OK"),
		at("old", -10, watch.StateUpdate, "Alarm updated from OK to ALARM"),
	}, fault)
	if len(got) != 2 || got[0].Name != "a" || *got[0].FiredMs != 1000 || *got[0].DeliveredMs != 1020 || got[1].Name != "b" || *got[1].FiredMs != 2000 || got[1].DeliveredMs != nil {
		t.Errorf("%+v", got)
	}
	if names := silent(append(got, Alarm{Name: "d", Expected: true})); !slices.Equal(names, []string{"d"}) {
		t.Errorf("silent: %v", names)
	}
}

func TestAnAlarmMustFireOnlyWhenItCan(t *testing.T) {
	after := func(kind string, e cluster.Epoch) cluster.Status {
		return cluster.Status{LastFailover: &cluster.Change{Kind: kind, Epoch: e}}
	}
	const name = "understudy-main-failover"
	for what, p := range map[string]struct {
		calm  map[string]bool
		after cluster.Status
		want  string
	}{
		"a failover":                   {map[string]bool{name: true}, after(cluster.KindFailover, 5), name},
		"a switchover":                 {map[string]bool{name: true}, after(cluster.KindSwitchover, 5), ""},
		"one of before":                {map[string]bool{name: true}, after(cluster.KindFailover, 4), ""},
		"it stands in ALARM":           {map[string]bool{name: false}, after(cluster.KindFailover, 5), ""},
		"the group has no such alarm":  {map[string]bool{}, after(cluster.KindFailover, 5), ""},
		"there has never been another": {map[string]bool{name: true}, cluster.Status{}, ""},
	} {
		r := &run{before: cluster.Status{Group: "main", Epoch: 4}, calm: p.calm}
		if got := r.mustFire(p.after); got != p.want {
			t.Errorf("%s: %q, want %q", what, got, p.want)
		}
	}
}
