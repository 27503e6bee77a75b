package main

import (
	"strings"
	"testing"
	"time"

	"understudy/cluster"
	"understudy/failover"
)

func TestStatusForPeopleSaysWhatTheJSONSays(t *testing.T) {
	when := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	s := cluster.Status{
		Group: "main", State: cluster.GroupDegraded, Since: when, Reason: "main-002 is syncing", Epoch: 7,
		Nodes: []cluster.StatusNode{
			{ID: "main-001", Zone: "a", Role: cluster.RolePrimary, State: cluster.StateReady},
			{ID: "main-002", Zone: "b", Role: cluster.RoleReplica, State: cluster.StateSyncing, Reason: "in a full sync", Lost: []cluster.Divergence{
				{Epoch: 6, Node: "main-002", Path: "/d/lost/6", Bytes: 120, Keys: 7, Size: 999, Time: when},
				{Epoch: 5, Node: "main-002", Path: "/d/lost/5", Bytes: -1, Time: when}}},
		},
		LastFailover: &cluster.Change{Kind: "failover", From: "main-002", To: "main-001", LostBytes: -1, Cause: "why not",
			PhasesMs: map[string]float64{"route": 1, "detect": 2, "extra": 3}},
	}
	text := printed(t, func(b *strings.Builder) error { return printStatus(b, s) })
	for _, want := range []string{
		"group main  degraded  epoch 7", "since 2026-05-01T12:00:00Z: main-002 is syncing", "no: in a full sync",
		"an unknown number of bytes lost (why not)", "detect 2.0 ms, route 1.0 ms, extra 3.0 ms",
		"put aside by main-002 at 2026-05-01T12:00:00Z: 120 bytes of log of epoch 6 that the group does not have, in a data set of 7 keys, 999 bytes\n  /d/lost/6",
		"an unknown part of the log of epoch 5",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if strings.Contains(text, "MACHINE") {
		t.Error("a group on one machine shows machines")
	}
	s.Nodes[0].Machine = "m1"
	if text := printed(t, func(b *strings.Builder) error { return printStatus(b, s) }); !strings.Contains(text, "MACHINE") || !strings.Contains(text, "m1") {
		t.Errorf("no machine in\n%s", text)
	}
}

func TestAnExplanationForPeopleRanksTheCandidates(t *testing.T) {
	e := failover.Explanation{
		Group: "main", Epoch: 7, Primary: "main-001", PermitMs: 812, Failover: "none is needed",
		Election: failover.Ballot{Without: "main-001", Winner: "main-003", Reason: "log: the longest", Loss: "nothing",
			Ranking: []failover.Standing{{Node: "main-003"}, {Node: "main-002", Decided: "log"}}},
		Nodes: []failover.NodeInWords{
			{ID: "main-001", Reason: "it leads", Fences: []string{"permit", "epoch_user"}, Weaker: []string{"it does not end with its agent"}},
			{ID: "main-002", Electable: true}, {ID: "main-003", Electable: true}, {ID: "main-004", Reason: "loading"},
		},
	}
	text := printed(t, func(b *strings.Builder) error { return printExplanation(b, e) })
	for _, want := range []string{
		"main-001 leads, permit 812 ms", "main-003 would win if main-001 were lost now. By log: the longest", "permit, epoch user",
		"yes, first", "yes, place 2 (behind by log)", "no: loading", "fences of main-001: it does not end with its agent",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	e.Primary, e.Election = "", failover.Ballot{Reason: "no node is fit"}
	if text := printed(t, func(b *strings.Builder) error { return printExplanation(b, e) }); !strings.Contains(text, "nobody now: no node is fit") {
		t.Errorf("%s", text)
	}
}

func printed(t *testing.T, show func(*strings.Builder) error) string {
	t.Helper()
	var b strings.Builder
	if err := show(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}
