package placement

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"understudy/cluster"
)

// machines parses "m1/a m2/b:300s m3/c=2 m4/c+1": name, zone, silence, nodes of other groups on it, data
// of a node.
func machines(t *testing.T, text string) []Machine {
	t.Helper()
	var all []Machine
	for word := range strings.FieldsSeq(text) {
		m := Machine{}
		word, data, has := strings.Cut(word, "+")
		if has {
			m.Has = []cluster.NodeID{cluster.NodeID(data)}
		}
		word, used, has := strings.Cut(word, "=")
		if has {
			if _, err := fmt.Sscan(used, &m.Used); err != nil {
				t.Fatal(err)
			}
		}
		word, silent, has := strings.Cut(word, ":")
		if has {
			d, err := time.ParseDuration(silent)
			if err != nil {
				t.Fatal(err)
			}
			m.Silent = d
		}
		m.Name, m.Zone, _ = strings.Cut(word, "/")
		m.Slots = 2
		all = append(all, m)
	}
	return all
}

// spec parses "1@m1/a 2@/b 3@ 4!@m1/": node, machine, zone; ! is pinned. Nodes are counted as used where they are.
func spec(text string, ms []Machine) cluster.Spec {
	s := cluster.Spec{Name: "g"}
	for word := range strings.FieldsSeq(text) {
		id, place, _ := strings.Cut(word, "@")
		id, pinned := strings.CutSuffix(id, "!")
		n := cluster.NodePlace{ID: cluster.NodeID(id), Pinned: pinned}
		n.Machine, n.Zone, _ = strings.Cut(place, "/")
		s.Nodes = append(s.Nodes, n)
		for i := range ms {
			if ms[i].Name == n.Machine {
				ms[i].Used++
			}
		}
	}
	return s
}

func places(s cluster.Spec) string {
	var words []string
	for _, n := range s.Nodes {
		words = append(words, fmt.Sprintf("%s@%s/%s", n.ID, n.Machine, n.Zone))
	}
	return strings.Join(words, " ")
}

func TestPlace(t *testing.T) {
	for _, c := range []struct {
		name, machines, spec string
		serving              cluster.NodeID
		crowd                bool
		want                 string
	}{
		{name: "one a zone", machines: "m1/a m2/b m3/c", spec: "1@ 2@ 3@", want: "1@m1/a 2@m2/b 3@m3/c"},
		{name: "zones before machines", machines: "m1/a m2/a m3/b", spec: "1@ 2@", want: "1@m1/a 2@m3/b"},
		{name: "machines when zones are even", machines: "m1/a m2/a m3/b", spec: "1@ 2@ 3@", want: "1@m1/a 2@m3/b 3@m2/a"},
		{name: "the emptier machine of a zone", machines: "m1/a=1 m2/a m3/b", spec: "1@", want: "1@m2/a"},
		{name: "a zone that was asked for", machines: "m1/a m2/b", spec: "1@/b", want: "1@m2/b"},
		{name: "no machine in that zone yet", machines: "m1/a", spec: "1@/b", want: "1@/b"},
		{name: "no second node on a machine while others may come", machines: "m1/a m2/b", spec: "1@ 2@ 3@", want: "1@m1/a 2@m2/b 3@/"},
		{name: "a second node once nothing else has come", machines: "m1/a m2/b", spec: "1@m1/a 2@m2/b 3@", crowd: true, want: "1@m1/a 2@m2/b 3@m1/a"},
		{name: "crowding stops at the slots", machines: "m1/a", spec: "1@ 2@ 3@", crowd: true, want: "1@m1/a 2@m1/a 3@/"},
		{name: "a silent machine gets nothing", machines: "m1/a:20s m2/b", spec: "1@", want: "1@m2/b"},
		{name: "a full machine gets nothing", machines: "m1/a=2 m2/b", spec: "1@", want: "1@m2/b"},

		{name: "lost for good: another machine of its zone", machines: "m1/a:300s m2/b m3/c m4/a", spec: "1@m1/a 2@m2/b 3@m3/c", serving: "2", want: "1@m4/a 2@m2/b 3@m3/c"},
		{name: "not yet", machines: "m1/a:299s m2/b m3/c m4/a", spec: "1@m1/a 2@m2/b 3@m3/c", serving: "2", want: "1@m1/a 2@m2/b 3@m3/c"},
		{name: "only within the zone", machines: "m1/a:300s m2/b m3/c m4/b", spec: "1@m1/a 2@m2/b 3@m3/c", serving: "2", want: "1@m1/a 2@m2/b 3@m3/c"},
		{name: "not to a full machine", machines: "m1/a:300s m2/b m4/a=2", spec: "1@m1/a 2@m2/b", serving: "2", want: "1@m1/a 2@m2/b"},
		{name: "not beside a node of the group", machines: "m1/a:300s m2/a", spec: "1@m1/a 2@m2/a", serving: "2", want: "1@m1/a 2@m2/a"},
		{name: "never without a primary", machines: "m1/a:300s m2/b m4/a", spec: "1@m1/a 2@m2/b", want: "1@m1/a 2@m2/b"},
		{name: "never the primary itself", machines: "m1/a:300s m2/b m4/a", spec: "1@m1/a 2@m2/b", serving: "1", want: "1@m1/a 2@m2/b"},
		{name: "where its data is, after a loss of the store", machines: "m1/a+2 m2/b+3 m3/c+1", spec: "1@ 2@ 3@", want: "1@m3/c 2@m1/a 3@m2/b"},
		{name: "the place of the one whose machine is not there yet is kept", machines: "m1/a+2 m2/b+3", spec: "1@ 2@ 3@", want: "1@/ 2@m1/a 3@m2/b"},
		{name: "what is pinned stays", machines: "m1/a:300s m2/b m4/a", spec: "1!@m1/a 2@m2/b", serving: "2", want: "1@m1/a 2@m2/b"},
		{name: "what is pinned gets its machine's zone", machines: "m1/a m2/b", spec: "1!@m1/ 2!@m9/", want: "1@m1/a 2@m9/"},
		{name: "one at a time", machines: "m1/a:300s m2/b:300s m3/c m4/a m5/b", spec: "1@m1/a 2@m2/b 3@m3/c", serving: "3", want: "1@m4/a 2@m2/b 3@m3/c"},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := Input{Machines: machines(t, c.machines), Alive: 15 * time.Second, ReplaceAfter: 300 * time.Second, Serving: c.serving, Crowd: c.crowd}
			in.Spec = spec(c.spec, in.Machines)
			before := places(in.Spec)
			got, moves := Place(in)
			if places(got) != c.want {
				t.Errorf("placed %s, want %s", places(got), c.want)
			}
			if (places(got) != before) != (len(moves) > 0) {
				t.Errorf("moves %v from %s to %s", moves, before, places(got))
			}
			if places(in.Spec) != before {
				t.Error("the input was changed")
			}
		})
	}
}

// Whatever the machines are: nothing runs on more than its slots, nothing is taken from a machine that
// speaks, and with room enough no machine has two nodes of a group.
func TestAnyPlacementKeepsItsPromises(t *testing.T) {
	seed := rand.Uint64()
	rnd := rand.New(rand.NewPCG(seed, 1))
	for range 3000 {
		in := Input{Alive: 15 * time.Second, ReplaceAfter: 300 * time.Second, Crowd: rnd.IntN(4) == 0}
		for i := range 1 + rnd.IntN(6) {
			m := Machine{Silent: time.Duration(rnd.IntN(2)*rnd.IntN(400)) * time.Second}
			m.Name, m.Zone, m.Slots = fmt.Sprint("m", i), string(rune('a'+rnd.IntN(3))), rnd.IntN(4)
			in.Machines = append(in.Machines, m)
		}
		for i := range 1 + rnd.IntN(5) {
			in.Spec.Nodes = append(in.Spec.Nodes, cluster.NodePlace{ID: cluster.NodeID(fmt.Sprint(i))})
		}
		if rnd.IntN(2) == 0 {
			in.Serving = in.Spec.Nodes[rnd.IntN(len(in.Spec.Nodes))].ID
		}
		for round := range 8 {
			next, moves := Place(in)
			used := map[string]int{}
			for _, n := range next.Nodes {
				used[n.Machine]++
			}
			for _, m := range in.Machines {
				if used[m.Name] > m.Slots {
					t.Fatalf("seed %d: %s has %d of %d: %s", seed, m.Name, used[m.Name], m.Slots, places(next))
				}
				if !in.Crowd && used[m.Name] > 1 {
					t.Fatalf("seed %d: two on %s: %s", seed, m.Name, places(next))
				}
			}
			for _, mv := range moves {
				i := slices.IndexFunc(in.Machines, func(m Machine) bool { return m.Name == mv.From })
				if mv.From != "" && (in.Machines[i].Silent < in.ReplaceAfter || in.Serving == "" || in.Serving == mv.Node) {
					t.Fatalf("seed %d: %v", seed, mv)
				}
			}
			if round == 7 && len(moves) > 0 {
				t.Fatalf("seed %d: it never comes to rest: %v", seed, moves)
			}
			in.Spec = next
			for i := range in.Machines {
				in.Machines[i].Used = used[in.Machines[i].Name]
			}
		}
	}
}
