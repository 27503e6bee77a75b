package pack

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"understudy/alarm/watch"
	"understudy/cluster/clustertest"
)

func TestEachRuleIsOne(t *testing.T) {
	names := map[string]bool{}
	for _, a := range alarms("main", 3, "arn:t") {
		if err := a.Rule.Validate(); err != nil {
			t.Errorf("%s: %v", a.Name, err)
		}
		if names[a.Name] || a.Description == "" || len(a.Name) > 255 || len(a.Description) > 1024 {
			t.Errorf("%q: its name or its description will not do", a.Name)
		}
		if len(a.Rule.Metric.Dimensions) != 1 || a.Rule.Metric.Dimensions[0].Name != "ReplicationGroupId" {
			t.Errorf("%s is not on the group: %v", a.Name, a.Rule.Metric)
		}
		names[a.Name] = true
	}
	if len(names) != len(Names()) {
		t.Errorf("%d alarms of %d kinds", len(names), len(Names()))
	}
}

// shelfless are alarms in memory.
type shelfless struct {
	alarms map[string]watch.Alarm
	broken string // what Put refuses
}

func (k *shelfless) Put(_ context.Context, a watch.Alarm) error {
	if k.broken != "" && strings.Contains(a.Name, k.broken) {
		return errors.New("no")
	}
	k.alarms[a.Name] = a
	return nil
}

func (k *shelfless) Delete(_ context.Context, names []string) error {
	for _, n := range names {
		delete(k.alarms, n)
	}
	return nil
}

func (k *shelfless) Alarm(name string) (watch.Alarm, bool) { a, ok := k.alarms[name]; return a, ok }

func (k *shelfless) of(group string) (n int) {
	for _, a := range k.alarms {
		if a.Tags[tag] == group {
			n++
		}
	}
	return n
}

func TestAPackIsMadeOnceAndGoesWithItsGroup(t *testing.T) {
	all, store := &shelfless{alarms: map[string]watch.Alarm{}}, &clustertest.Memory{}
	groups := []Group{{"main", 1}, {"shop", 3}}
	start := func() *Keeper {
		k, err := New(t.Context(), Options{
			Store: store, Alarms: all, Topic: func(context.Context) (string, error) { return "arn:topic", nil },
			Groups: func(context.Context) ([]Group, error) { return groups, nil },
		})
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	sync := func(k *Keeper) {
		t.Helper()
		if err := k.sync(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	all.broken = "shop-lag"
	if err := start().sync(t.Context()); err == nil || all.of("main") != len(alarms("main", 1, "")) {
		t.Fatalf("%v; one group's trouble kept the other from its %d alarms", err, all.of("main"))
	}
	all.broken = ""
	sync(start())
	if got := all.of("shop"); got != len(Names()) || all.of("main") >= got {
		t.Errorf("%d alarms for three nodes, %d for one", got, all.of("main"))
	}

	// What an operator has changed or deleted stays so, in another process too.
	changed := all.alarms["understudy-shop-lag"]
	changed.Muted = true
	all.alarms["understudy-shop-lag"] = changed
	delete(all.alarms, "understudy-shop-failover")
	groups[0].Nodes = 2 // it has grown
	sync(start())
	if _, ok := all.alarms["understudy-shop-failover"]; ok || !all.alarms["understudy-shop-lag"].Muted {
		t.Error("an operator's change was undone")
	}
	if all.of("main") != len(Names()) {
		t.Errorf("%d alarms for two nodes", all.of("main"))
	}

	groups = groups[:1]
	sync(start())
	if all.of("shop") != 0 || all.of("main") != len(Names()) {
		t.Errorf("%d alarms of a group that is gone, %d of one that is there", all.of("shop"), all.of("main"))
	}
	groups = append(groups, Group{"shop", 2}) // a new group of the old name
	sync(start())
	if all.of("shop") != len(Names()) || !slices.Equal(all.alarms["understudy-shop-failover"].Actions.Alarm, []string{"arn:topic"}) {
		t.Errorf("%d alarms", all.of("shop"))
	}
}
