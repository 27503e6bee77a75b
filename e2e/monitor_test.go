package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"understudy/certs"
	"understudy/monitor"
)

// oneOfEach has a command of each family that AWS counts.
var oneOfEach = [][]any{
	{"set", "s", "1"}, {"get", "s"}, {"get", "none"}, {"hset", "h", "f", "v"}, {"lpush", "l", "1"}, {"sadd", "S", "m"}, {"zadd", "z", "1", "m"},
	{"xadd", "x", "*", "f", "v"}, {"pfadd", "p", "e"}, {"geoadd", "g", "1", "1", "m"}, {"expire", "s", "100"}, {"publish", "c", "m"},
	{"eval", "return 1", "0"},
}

// What a group publishes in its life is what the table of package monitor lists, and docs/metrics.md with it.
func TestAGroupPublishesWhatTheTableLists(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := certs.Init(dir, "test", false); err != nil {
		t.Fatal(err)
	}
	if err := certs.Issue(dir, certs.Request{Name: "door", Hosts: []string{"127.0.0.1"}}); err != nil {
		t.Fatal(err)
	}
	drills := filepath.Join(dir, "drills")
	if err := os.MkdirAll(filepath.Join(drills, "one"), 0o700); err != nil {
		t.Fatal(err)
	}
	passed := fmt.Sprintf(`{"group": "main", "target": "local", "verdict": "pass", "started": %q}`, time.Now().Format(time.RFC3339))
	if err := os.WriteFile(filepath.Join(drills, "one", "result.json"), []byte(passed), 0o600); err != nil {
		t.Fatal(err)
	}
	g := StartGroup(t, "--drills", drills, "--primary-tls-addr", "127.0.0.1:0",
		"--tls-ca", filepath.Join(dir, "ca.pem"), "--tls-cert", filepath.Join(dir, "door.pem"), "--tls-key", filepath.Join(dir, "door.key"))
	before := g.WaitAvailable()
	if _, code := g.cli("backup", "create"); code != 0 {
		t.Fatal("no backup was made")
	}
	direct := client(t, before.node(before.Primary).Addr)
	if err := direct.ConfigSet(t.Context(), "maxmemory", "100mb").Err(); err != nil {
		t.Fatal(err)
	}
	waitPublished(g, "Understudy LinkUp CacheClusterId,ReplicationGroupId") // counters grow from the first look on
	use(t, g, before)
	waitPublished(g, "AWS/ElastiCache StringBasedCmdsLatency CacheClusterId")
	g.KillPrimary()
	g.WaitForPrimary(before)
	waitPublished(g, "Understudy LastFailoverGap ReplicationGroupId")
	want := map[string]bool{}
	for _, m := range monitor.Metrics() {
		want[m.Namespace+" "+m.Name+" "+strings.Join(m.Dimensions, ",")] = true
	}
	for _, m := range watched(g) {
		if !want[m] {
			t.Errorf("an alarm of the pack is on a metric that is not listed: %s", m)
		}
	}
	have := published(g)
	for _, m := range slices.Sorted(maps.Keys(want)) {
		if !have[m] {
			t.Errorf("listed, and not published: %s", m)
		}
	}
	for _, m := range slices.Sorted(maps.Keys(have)) {
		if !want[m] {
			t.Errorf("published, and not listed: %s", m)
		}
	}
}

// waitPublished waits for a metric: those of a minute come at its end.
func waitPublished(g *Group, metric string) {
	g.t.Helper()
	tick := time.NewTicker(time.Second / 2)
	defer tick.Stop()
	for deadline := time.Now().Add(time.Minute + patience); !published(g)[metric]; <-tick.C {
		if time.Now().After(deadline) {
			g.t.Fatalf("%s was not published", metric)
		}
	}
}

// watched are the metrics of the group's alarms.
func watched(g *Group) (all []string) {
	g.t.Helper()
	out, code := g.aws("cloudwatch", "describe-alarms")
	var answer struct {
		MetricAlarms []struct {
			Namespace, MetricName string
			Dimensions            []struct{ Name string }
		}
	}
	if err := json.Unmarshal([]byte(out), &answer); err != nil || code != 0 || len(answer.MetricAlarms) < 10 {
		g.t.Fatalf("alarms: exit %d, %v: %s", code, err, out)
	}
	for _, a := range answer.MetricAlarms {
		var names []string
		for _, d := range a.Dimensions {
			names = append(names, d.Name)
		}
		all = append(all, a.Namespace+" "+a.MetricName+" "+strings.Join(slices.Sorted(slices.Values(names)), ","))
	}
	return all
}

// use runs a command of each family, so that each has calls, and time.
func use(t *testing.T, g *Group, s Status) {
	t.Helper()
	through, direct := client(t, g.Primary), client(t, s.node(s.Primary).Addr)
	for _, c := range oneOfEach {
		if err := through.Do(t.Context(), c...).Err(); err != nil && err.Error() != "redis: nil" {
			t.Fatalf("%v: %v", c, err)
		}
	}
	_ = direct.Do(t.Context(), "readonly").Err() // an error where there is no cluster, and a call all the same
}

// published are the metrics that a group has: namespace, name and the names of the dimensions.
func published(g *Group) map[string]bool {
	g.t.Helper()
	out, code := g.cli("metrics", "list", "--json")
	if code != 0 {
		g.t.Fatal("metrics cannot be listed")
	}
	var all []struct {
		Namespace, Name string
		Dimensions      map[string]string
	}
	if err := json.Unmarshal([]byte(out), &all); err != nil {
		g.t.Fatal(err)
	}
	have := map[string]bool{}
	for _, m := range all {
		have[m.Namespace+" "+m.Name+" "+strings.Join(slices.Sorted(maps.Keys(m.Dimensions)), ",")] = true
	}
	return have
}
