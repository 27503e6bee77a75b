package failover

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"understudy/cluster"
)

// asked is a Question about a healthy group: n1 leads epoch 4, n2 and n3 follow with the whole log.
func asked(t *testing.T, change func(*Question)) Explanation {
	t.Helper()
	profile, err := ProfileByName("fast")
	if err != nil {
		t.Fatal(err)
	}
	nodes := []Peer{{Node: "n1", Zone: "a"}, {Node: "n2", Zone: "b"}, {Node: "n3", Zone: "c"}}
	now := 10 * time.Second
	lead := cluster.Lead{Epoch: 4, Holder: "n1", State: cluster.LeadHeld, Promoted: true, TTL: time.Second,
		Rule: cluster.NewRule(cluster.DurabilitySync, []cluster.NodeID{"n2", "n3"}), Position: cluster.Position{ReplID: "x", Offset: 100},
		Lineage: []cluster.Fork{{Epoch: 3, ReplID: "w"}, {Epoch: 4, ReplID: "x", Parent: "w", At: 50}}}
	q := Question{Config: Config{Group: "g", Nodes: nodes, Durability: cluster.DurabilitySync, Profile: profile}, Now: now, Known: map[cluster.NodeID]Knowledge{}}
	for _, n := range nodes {
		k := Knowledge{At: now - 10*time.Millisecond, Store: StoreView{Known: true, Lead: lead, Revision: 9, SeenAt: now - 40*time.Millisecond}}
		k.Status = cluster.NodeStatus{Node: n.Node, Zone: n.Zone, Role: cluster.RoleReplica, State: cluster.StateReady, Epoch: 4,
			Electable: true, Position: lead.Position, Fences: []string{"permit", "parent", "fencer", "epoch_user", "replicas"}}
		k.Report = Report{Node: n.Node, Seen: 4, Fit: true, Position: lead.Position}
		if n.Node == "n1" {
			k.Status.Leads, k.Status.Permit, k.Status.Electable, k.Status.Role = true, 800*time.Millisecond, false, cluster.RolePrimary
		}
		q.Known[n.Node] = k
	}
	if change != nil {
		change(&q)
	}
	return Explain(q)
}

// with changes what one node knows and says.
func with(id cluster.NodeID, change func(*Knowledge)) func(*Question) {
	return func(q *Question) {
		k := q.Known[id]
		change(&k)
		q.Known[id] = k
	}
}

// all makes several changes.
func all(changes ...func(*Question)) func(*Question) {
	return func(q *Question) {
		for _, c := range changes {
			c(q)
		}
	}
}

// led changes the record that every node knows.
func led(change func(*cluster.Lead)) func(*Question) {
	return func(q *Question) {
		for id, k := range q.Known {
			change(&k.Store.Lead)
			q.Known[id] = k
		}
	}
}

// lost has the primary gone: its record released, its node without a server.
var lost = all(led(func(l *cluster.Lead) { l.State, l.Cause = cluster.LeadReleased, "redis-server ended" }),
	with("n1", func(k *Knowledge) {
		k.Status.Leads, k.Status.Permit, k.Status.State = false, 0, cluster.StateDown
		k.Report.Fit, k.Report.Reason = false, "redis-server is not running"
	}))

func at(id cluster.NodeID, offset int64) func(*Question) {
	return with(id, func(k *Knowledge) { k.Report.Position.Offset, k.Status.Position.Offset = offset, offset })
}

func TestExplainSaysWhoWouldWinAndByWhichPartOfTheRule(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Question)
		winner cluster.NodeID
		reason string
		bytes  int64
	}{
		{"equal in all", nil, "n2", "id: n2 and n3 are equal", 0},
		{"a longer log", at("n2", 90), "n3", "log: n3 has the longest (offset 100; n2 has 90)", 0},
		{"a longer log on both, and not all of the primary's", at("n1", 130), "n2", "id:", 30},
		{"priority", func(q *Question) { q.Config.Nodes[2].Priority = 5 }, "n3", "priority: the logs are equal, and n3 has priority 5, n2 0", 0},
		{"a full disk goes behind priority", all(func(q *Question) { q.Config.Nodes[2].Priority = 5 },
			with("n3", func(k *Knowledge) { k.Report.ReadOnly = "MISCONF" })), "n2", "disk: ", 0},
		{"another zone", func(q *Question) { q.Config.Nodes[1].Zone = "a" }, "n3", "zone: ", 0},
		{"one is silent", with("n2", func(k *Knowledge) { k.At -= time.Minute }), "", "1 of the 2 voters' logs", 0},
		{"one loads", with("n3", func(k *Knowledge) { k.Report.Fit, k.Report.Reason = false, "redis-server is loading its data set" }),
			"", "n3: redis-server is loading its data set", 0},
		{"another lineage", with("n3", func(k *Knowledge) { k.Report.Position.ReplID = "z" }), "", "n3: its log is not of this group's lineage", 0},
		{"alone", led(func(l *cluster.Lead) { l.Rule = cluster.NewRule(cluster.DurabilitySync, nil) }), "", "only n1 has every acked write", 0},
		{"async needs no quorum", all(func(q *Question) { q.Config.Durability = cluster.DurabilityAsync },
			with("n2", func(k *Knowledge) { k.At -= time.Minute })), "n3", "fit: n3 is the only node", 0},
		{"the last primary is back with all it had", all(lost, at("n2", 80), at("n3", 80), with("n2", func(k *Knowledge) { k.Report.Fit = false }),
			with("n1", func(k *Knowledge) { k.Report.Fit, k.Report.Complete, k.Report.Position.ReplID = true, 4, "q" })), "n1", "log: n1", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := asked(t, c.change).Election
			if b.Winner != c.winner || !strings.Contains(b.Reason, c.reason) || strings.Contains(b.Reason, "n1 does not answer") {
				t.Errorf("winner %q: %s\nwant %q: %s", b.Winner, b.Reason, c.winner, c.reason)
			}
			if c.winner != "" && b.LostBytes != c.bytes {
				t.Errorf("%d bytes lost (%s), want %d", b.LostBytes, b.Loss, c.bytes)
			}
			if b.Loss == "" {
				t.Error("it does not say what would be lost")
			}
		})
	}
}

func TestExplainSaysWhyNoFailoverHasHappened(t *testing.T) {
	for _, c := range []struct {
		name, want string
		change     func(*Question)
	}{
		{"healthy", "none is needed: n1 leads, and may accept writes for 790ms more", nil},
		{"pausing", "a switchover away from n1 is under way", with("n1", func(k *Knowledge) { k.Status.Pausing = true })},
		{"no quorum", "on_lost_quorum: refuse", with("n1", func(k *Knowledge) { k.Status.NoQuorum = true })},
		{"cut off", "n1 may still have a permit: it last renewed 40ms ago, and the others wait until that is T+δ (1.15s)",
			with("n1", func(k *Knowledge) { k.Status.Leads = false })},
		{"about to", "the lead of n1 is vacant (released: redis-server ended), and n2 can take it", lost},
		{"waits", "nobody can be chosen. The lead of n1 is vacant (released: redis-server ended), and: 1 of the 2 voters' logs",
			all(lost, with("n3", func(k *Knowledge) { k.Report.Fit, k.Report.Reason = false, "broken" }))},
		{"promotion", "n1 has epoch 4 and is being promoted",
			all(led(func(l *cluster.Lead) { l.Promoted = false }), with("n1", func(k *Knowledge) { k.Status.Leads = false }))},
		{"no store", "nobody has been able to read the store yet", func(q *Question) {
			for id, k := range q.Known {
				k.Store, k.Status.Leads = StoreView{}, false
				q.Known[id] = k
			}
		}},
		{"the store went back", "the store shows epoch 4, and epoch 6 was seen",
			all(lost, with("n3", func(k *Knowledge) { k.Status.Epoch = 6 }))},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := asked(t, c.change)
			if !strings.Contains(e.Failover, c.want) {
				t.Errorf("%s\nwant %s", e.Failover, c.want)
			}
			if e.Waits != (c.name == "waits") {
				t.Errorf("it waits for an operator: %v", e.Waits)
			}
		})
	}
}

func TestExplainNamesWhatKeepsANodeFromTheLead(t *testing.T) {
	e := asked(t, all(with("n2", func(k *Knowledge) { k.At -= time.Minute }),
		with("n3", func(k *Knowledge) { k.Status.Electable, k.Status.Reason = false, "its link to the primary is down" })))
	for i, want := range []string{"it leads", "its agent has been silent for 1m", "its link to the primary is down"} {
		if n := e.Nodes[i]; n.Electable || !strings.Contains(n.Reason, want) {
			t.Errorf("%s: electable %v, %q; want %q", n.ID, n.Electable, n.Reason, want)
		}
	}
	if e.Nodes[0].Fences[0] != "permit" || e.Nodes[0].Weaker != nil || e.PermitMs != 790 {
		t.Errorf("fences %v, weaker for %v, permit %v ms", e.Nodes[0].Fences, e.Nodes[0].Weaker, e.PermitMs)
	}
	adopted := asked(t, with("n2", func(k *Knowledge) { k.Status.Fences = []string{"permit", "epoch_user", "replicas"} }))
	if w := adopted.Nodes[1].Weaker; len(w) != 2 || !strings.Contains(w[0], "does not end with its agent") {
		t.Errorf("an adopted server's fences are weaker for %v", w)
	}
	alone := asked(t, led(func(l *cluster.Lead) { l.Rule = cluster.NewRule(cluster.DurabilitySync, nil) }))
	if n := alone.Nodes[1]; n.Electable || !strings.Contains(n.Reason, "only n1 has every acked write") {
		t.Errorf("%+v", n)
	}
}

func TestExplainKnowsAStoreThatIsSilent(t *testing.T) {
	late := func(ids ...cluster.NodeID) func(*Question) {
		return func(q *Question) {
			for _, id := range ids {
				with(id, func(k *Knowledge) { k.Store.SeenAt -= time.Second })(q)
			}
		}
	}
	for want, change := range map[string]func(*Question){
		"answers; the last renewal was seen 40ms ago":                       nil,
		"silent for 1.04s":                                                  late("n1", "n2", "n3"),
		"the primary renews in it, and these nodes do not see that: n2, n3": late("n2", "n3"),
	} {
		if s := asked(t, change).Store; !strings.Contains(s.Text, want) || s.OK != (change == nil) {
			t.Errorf("%+v, want %s", s, want)
		}
	}
}

// TestExplainChoosesAsTheMachineDoes: a node whose Machine is given the same reports claims the lead exactly
// when Explain names it.
func TestExplainChoosesAsTheMachineDoes(t *testing.T) {
	claims := 0
	for seed := range uint64(500) {
		r := rand.New(rand.NewPCG(seed, 1))
		var q Question
		e := asked(t, all(lost, func(in *Question) {
			for i := range in.Config.Nodes {
				in.Config.Nodes[i].Priority = r.IntN(2)
				with(in.Config.Nodes[i].Node, func(k *Knowledge) {
					k.Report.Position = cluster.Position{ReplID: []string{"w", "x", "x", "z"}[r.IntN(4)], Offset: 50 + int64(r.IntN(4))}
					k.Report.Fit = k.Report.Node == "n2" || r.IntN(4) > 0
					k.Report.Reason = "it is not"
				})(in)
			}
			in.Config.Durability = []cluster.Durability{cluster.DurabilitySync, cluster.DurabilityAsync}[r.IntN(2)]
			q = *in
		}))
		claimed, told := elects(q, "n2")
		if claimed != (e.Election.Winner == "n2") {
			t.Fatalf("seed %d: Explain says %q (%s), the Machine of n2 claims: %v (%s)", seed, e.Election.Winner, e.Election.Reason, claimed, told)
		}
		if claimed {
			claims++
		}
	}
	if claims < 50 || claims > 450 {
		t.Errorf("%d of 500 claimed: the cases do not tell", claims)
	}
}

// elects runs self's Machine through an election with the reports of q.
func elects(q Question, self cluster.NodeID) (claimed bool, told string) {
	cfg := q.Config
	for _, p := range cfg.Nodes {
		if p.Node == self {
			cfg.Self = p
		}
	}
	m := New(cfg)
	k := q.Known[self]
	in := Input{Now: q.Now, Store: k.Store, Peers: map[cluster.NodeID]Report{}, Local: Local{
		Process: ProcessRunning, Boot: "b", At: q.Now, OKAt: q.Now, Position: k.Report.Position, Seen: 4}}
	var open []Action
	for range 12 {
		out := m.Step(in)
		open = append(open, out.Actions...)
		for _, e := range out.Events {
			told += fmt.Sprintln(e.Name, e.Message)
		}
		in.Results = nil
		in.Now += cfg.Profile.Window
		in.Local.OKAt = in.Now
		for _, a := range open {
			if a.Kind == ActSwap {
				return true, told
			}
			if a.Kind == ActAsk {
				for id, k := range q.Known {
					if id != self {
						k.Report.At, k.Report.Revoked = in.Now, 4
						in.Peers[id] = k.Report
					}
				}
			}
			in.Results = append(in.Results, Result{ID: a.ID, Kind: a.Kind, Outcome: OutcomeOK, Position: k.Report.Position})
		}
		in.Local.At, open = in.Now, nil
	}
	return false, told
}

func TestADryRunNamesTheSuccessorAndChangesNothing(t *testing.T) {
	s := newMachineScript(cluster.DurabilitySync, func(*Config) {})
	now := time.Second
	m := s.m
	m.mode, m.lead, m.revision, m.writeUntil = modeLead, cluster.Lead{Epoch: 4, Holder: "n1", Boot: "b1", State: cluster.LeadHeld, Promoted: true, TTL: time.Second}, 3, now+800*time.Millisecond
	m.leading.replicas = map[cluster.NodeID]*replicaTrack{"n3": {online: true, current: true, need: 1, needAt: now}}
	in := Input{Now: now, Store: StoreView{Known: true, Lead: m.lead, Revision: 3, SeenAt: now}, Local: Local{
		Process: ProcessRunning, Boot: "b1", OKAt: now, Role: cluster.RolePrimary, Replicas: []ReplicaAck{{Node: "n3", Online: true, Offset: 1}}},
		Request: &Request{ID: "r", Kind: RequestSwitchover, DryRun: true}}
	out := m.Step(in)
	if len(out.Replies) != 1 || !out.Replies[0].OK || out.Replies[0].To != "n3" {
		t.Fatalf("%+v", out.Replies)
	}
	for _, a := range out.Actions {
		if a.Kind != ActSwap && a.Kind != ActPersist && a.Kind != ActPledge {
			t.Errorf("it does %v", a.Kind)
		}
	}
	if m.mode != modeLead || out.Status.Pausing {
		t.Errorf("mode %v", m.mode)
	}
	in.Request = &Request{ID: "r2", Kind: RequestSwitchover, To: "n2", DryRun: true}
	if out = m.Step(in); len(out.Replies) != 1 || !out.Replies[0].Refused || !strings.Contains(out.Replies[0].Message, "n2: it is not connected") {
		t.Errorf("%+v", out.Replies)
	}
}
