package agent

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	redigo "github.com/gomodule/redigo/redis"

	"understudy/cluster"
)

// What an operator sets at the primary is the group's: it is there after a crash, after a switchover, on a node that
// comes back without its disk, and after all were stopped.
func TestUsersAndSettingsOutliveTheirPrimary(t *testing.T) {
	g := startGroup(t, groupOptions{secret: "the group's"})
	first := g.waitReady()
	g.do(first, "ACL", "SETUSER", "app", "on", ">pa55", "~app:*", "&*", "+@all", "-@dangerous", "(~shared:* +get)")
	g.do(first, "ACL", "SETUSER", "brief", "on", "nopass", "~*", "+@all")
	g.do(first, "CONFIG", "SET", "maxmemory-policy", "allkeys-lru", "notify-keyspace-events", "KEA")
	g.do(first, "CONFIG", "SET", "min-replicas-max-lag", "77") // decides who may write: not for all
	for _, id := range g.replicas(first) {
		g.hasSettings(id)
	}
	wrong := g.do(g.replicas(first)[0], "CONFIG", "GET", "min-replicas-max-lag")
	if strings.Contains(wrong, "55 55]") {
		t.Errorf("a parameter that is not for all was spread: %s", wrong)
	}

	g.signal(first, syscall.SIGKILL)
	second := g.waitNewPrimary(first)
	g.waitReady()
	g.hasSettings(second)
	g.hasSettings(first) // it was started anew, with nothing
	g.do(second, "ACL", "DELUSER", "brief")
	g.do(second, "CONFIG", "SET", "maxmemory-policy", "allkeys-lfu")
	for _, n := range g.nodes {
		g.waitSetting(n.Node, "the user is gone and the policy another", func() bool {
			return !strings.Contains(g.users(n.Node), "brief") && g.param(n.Node, "maxmemory-policy") == "allkeys-lfu"
		})
	}

	g.switchover(second)
	third := g.waitNewPrimary(second)
	g.waitReady()
	g.logsIn(third)

	g.stopAll()
	g.forget(first)
	for _, n := range g.nodes {
		g.start(n.Node)
	}
	g.waitReady()
	for _, n := range g.nodes {
		g.waitSetting(n.Node, "they are there after a restart of all, on an empty node too", func() bool {
			return strings.Contains(g.users(n.Node), "user app ") && g.param(n.Node, "maxmemory-policy") == "allkeys-lfu" && g.param(n.Node, "notify-keyspace-events") != ""
		})
		if strings.Contains(g.users(n.Node), "brief") {
			t.Errorf("%s has a user that was deleted", n.Node)
		}
		g.logsIn(n.Node)
		g.keepsNoPassword(n.Node)
	}
}

// hasSettings waits until a node has what the story has set.
func (g *group) hasSettings(id cluster.NodeID) {
	g.t.Helper()
	g.waitSetting(id, "the users and the policy", func() bool {
		users := g.users(id)
		return strings.Contains(users, "user app on") && strings.Contains(users, "(~shared:* resetchannels -@all +get)") && strings.Contains(users, "user brief on") &&
			g.param(id, "maxmemory-policy") == "allkeys-lru"
	})
	g.logsIn(id)
}

func (g *group) waitSetting(id cluster.NodeID, what string, ok func() bool) {
	g.t.Helper()
	waitUntil(g.t, string(id)+": "+what, ok)
}

func (g *group) users(id cluster.NodeID) string {
	g.t.Helper()
	c := g.dial(id)
	defer c.Close()
	lines, err := redigo.Strings(c.Do("ACL", "LIST"))
	if err != nil {
		g.t.Fatal(err)
	}
	return strings.Join(lines, "\n")
}

func (g *group) param(id cluster.NodeID, name string) string {
	g.t.Helper()
	c := g.dial(id)
	defer c.Close()
	set, err := redigo.StringMap(c.Do("CONFIG", "GET", name))
	if err != nil {
		g.t.Fatal(err)
	}
	return set[name]
}

// logsIn makes sure that the user may do on a node what it was allowed, and nothing else.
func (g *group) logsIn(id cluster.NodeID) {
	g.t.Helper()
	c, err := redigo.Dial("tcp", g.status(id).Addr, redigo.DialUsername("app"), redigo.DialPassword("pa55"))
	if err != nil {
		g.t.Fatalf("%s: %v", id, err)
	}
	defer c.Close()
	if _, err := c.Do("GET", "app:1"); err != nil {
		g.t.Errorf("%s: %v", id, err)
	}
	for _, x := range [][]any{{"GET", "other"}, {"CONFIG", "GET", "*"}} {
		if _, err := c.Do(x[0].(string), x[1:]...); err == nil || !strings.HasPrefix(err.Error(), "NOPERM") {
			g.t.Errorf("%s: %v: %v", id, x, err)
		}
	}
}

// keepsNoPassword looks into what the node keeps on its disk, and the store.
func (g *group) keepsNoPassword(id cluster.NodeID) {
	g.t.Helper()
	text, err := os.ReadFile(filepath.Join(g.dir, string(id), settingsFile))
	if err != nil {
		g.t.Fatal(err)
	}
	var s spread
	if err := json.Unmarshal(text, &s); err != nil || s.Seq < 2 || s.Users["app"] == "" {
		g.t.Errorf("%s keeps %s, %v", id, text, err)
	}
	entries, _, err := g.store.List(g.t.Context(), cluster.SettingsKey("main"))
	if err != nil || len(entries) != 1 {
		g.t.Fatalf("%v, %v", entries, err)
	}
	for _, x := range []string{string(text), string(entries[0].Value)} {
		if strings.Contains(x, "pa55") || strings.Contains(x, `"ep-`) || strings.Contains(x, `"understudy"`) {
			g.t.Errorf("%s: kept what must not be: %s", id, x)
		}
	}
}
