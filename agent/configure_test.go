package agent

import (
	"context"
	"fmt"
	"slices"
	"syscall"
	"testing"

	redigo "github.com/gomodule/redigo/redis"

	"understudy/cluster"
	"understudy/failover"
)

// configure has agents go by settings.
func (g *group) configure(s failover.Settings, ids ...cluster.NodeID) {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(g.t.Context(), patience)
	defer cancel()
	for _, id := range ids {
		if err := g.agents[id].Configure(ctx, s); err != nil {
			g.t.Fatal(err)
		}
	}
}

func (g *group) ids() (all []cluster.NodeID) {
	for _, n := range g.nodes {
		all = append(all, n.Node)
	}
	return all
}

// write writes one key and demands that two nodes have it.
func (g *group) acked(c redigo.Conn, key string) {
	g.t.Helper()
	if _, err := c.Do("SET", key, key); err != nil {
		g.t.Fatalf("SET %s: %v", key, err)
	}
	if n, err := redigo.Int(c.Do("WAIT", 1, 2000)); err != nil || n < 1 {
		g.t.Fatalf("%s is on %d replicas: %v", key, n, err)
	}
}

func TestNodesComeAndGoWhileThePrimaryServes(t *testing.T) {
	g := startGroup(t, groupOptions{})
	primary := g.waitReady()
	c := g.dial(primary)
	before := g.ids()
	g.acked(c, "a")

	joins := cluster.NodeID("main-004")
	g.nodes = append(g.nodes, failover.Peer{Node: joins, Zone: "a"})
	g.configure(failover.Settings{Nodes: g.nodes}, before...)
	g.start(joins)
	if p := g.waitReady(); p != primary {
		t.Fatalf("%s leads, and %s did before the group grew", p, primary)
	}
	if got := g.do(joins, "GET", "a"); got != "a" {
		t.Errorf("the new node has %q", got)
	}
	g.acked(c, "b")

	goes := g.replicas(primary)[0]
	g.nodes = slices.DeleteFunc(g.nodes, func(p failover.Peer) bool { return p.Node == goes })
	g.configure(failover.Settings{Nodes: g.nodes}, goes)
	g.configure(failover.Settings{Nodes: g.nodes}, g.ids()...)
	g.wait(fmt.Sprintf("a rule without %s", goes), func(last map[cluster.NodeID]cluster.NodeStatus) bool {
		rules := last[primary].Rules
		return len(rules) == 1 && len(rules[0].Voters) == 2 && !slices.Contains(rules[0].Voters, goes)
	})
	if err := g.stops[goes](); err != nil {
		t.Error(err)
	}
	g.acked(c, "c")

	// The group as it is now survives the loss of its primary, with the new node among those that decide.
	g.signal(primary, syscall.SIGKILL)
	next := g.waitNewPrimary(primary)
	for _, key := range []string{"a", "b", "c"} {
		if got := g.do(next, "GET", key); got != key {
			t.Errorf("%s has %q as %s", next, got, key)
		}
	}
	g.waitReady()
}

func TestWithoutAutomaticFailoverOnlyTheLastPrimaryGoesOn(t *testing.T) {
	g := startGroup(t, groupOptions{})
	primary := g.waitReady()
	g.acked(g.dial(primary), "a")
	g.configure(failover.Settings{Nodes: g.nodes, Manual: true}, g.ids()...)
	epoch := g.status(primary).Epoch
	g.signal(primary, syscall.SIGKILL)
	g.wait("the same primary under a newer epoch", func(last map[cluster.NodeID]cluster.NodeStatus) bool {
		if p := leader(last); p != "" && p != primary {
			t.Fatalf("%s took over", p)
		}
		return leader(last) == primary && last[primary].Epoch > epoch
	})
	if got := g.do(primary, "GET", "a"); got != "a" {
		t.Errorf("%s came back with %q", primary, got)
	}
	g.waitReady()

	// On again, the replicas take over as ever.
	g.configure(failover.Settings{Nodes: g.nodes}, g.ids()...)
	g.signal(primary, syscall.SIGKILL)
	g.waitNewPrimary(primary)
}
