package monitor

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"understudy/metric"
)

var update = flag.Bool("update", false, "write the table of docs/metrics.md anew")

const (
	page  = "../docs/metrics.md"
	begin = "<!-- Written by `go generate ./monitor` from monitor/rows.go; changes here are lost. -->\n"
	end   = "<!-- Until here. -->\n"
)

// rendered is the table as the page shows it.
func rendered() string {
	var b strings.Builder
	head := func(title, about string) {
		fmt.Fprintf(&b, "\n### %s\n\n%s\n\n| metric | unit | meaning | from |\n|---|---|---|---|\n", title, about)
	}
	rows := func(scopes ...scope) {
		for _, r := range table {
			if slices.Contains(scopes, r.scope) {
				fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", r.name, r.unit, r.meaning, r.rule)
			}
		}
	}
	b.WriteString(begin)
	head("Of nodes, and of the group together", "Each minute, in `AWS/ElastiCache` under `CacheClusterId` and under `CacheClusterId, CacheNodeId`; and in `Understudy`\nunder `ReplicationGroupId`, where all nodes' values stand side by side: Maximum is the highest node's, Sum that of all.")
	rows(ofNodes, ofWhole)
	head("Of nodes only", "Each minute, in `AWS/ElastiCache` under `CacheClusterId` and under `CacheClusterId, CacheNodeId`.")
	rows(ofNode)
	var names []string
	for _, f := range append(slices.Sorted(maps.Keys(families)), readCommands, writeCommands) {
		names = append(names, "`"+f+"`")
	}
	fmt.Fprintf(&b, "\n`*` is one of %s.\n`GetType` are all commands that read, `SetType` all that write.\n", strings.Join(names, ", "))
	head("Of groups, each second", "In `Understudy` under `ReplicationGroupId`.")
	rows(everySecond)
	head("Of nodes, each second", "In `Understudy` under `ReplicationGroupId, CacheClusterId`.")
	rows(nodeSecond)
	b.WriteString("\n" + end)
	return b.String()
}

func TestThePageIsTheTable(t *testing.T) {
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok1 := strings.Cut(string(text), begin)
	have, after, ok2 := strings.Cut(rest, end)
	if !ok1 || !ok2 {
		t.Fatalf("%s has not both of %q and %q", page, begin, end)
	}
	if *update {
		if err := os.WriteFile(page, []byte(before+rendered()+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if begin+have+end != rendered() {
		t.Errorf("%s does not show the table: `go generate ./monitor` writes it anew", page)
	}
}

// Every row says all, in CloudWatch's words, and no two are the same metric.
func TestTheTableIsWhole(t *testing.T) {
	seen := map[string]bool{}
	for _, m := range Metrics() {
		key := fmt.Sprint(m.Namespace, m.Name, m.Dimensions)
		if seen[key] || m.Name == "" || m.Unit == "" || m.Meaning == "" || m.Rule == "" || !strings.HasSuffix(m.Meaning, ".") && !strings.HasSuffix(m.Meaning, "below.") {
			t.Errorf("twice, or something is missing: %+v", m)
		}
		seen[key] = true
		if ok := m.Namespace == metric.ElastiCache || m.Namespace == metric.Understudy; !ok {
			t.Errorf("namespace of %+v", m)
		}
	}
	if len(seen) < 100 {
		t.Errorf("only %d metrics", len(seen))
	}
}
