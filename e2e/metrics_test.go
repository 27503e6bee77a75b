package e2e

import (
	"bufio"
	"maps"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// listed is what docs/metrics.md and /metrics both say of one.
type listed struct {
	kind   string
	labels string // names, sorted, separated by ", "
}

var (
	metricRow    = regexp.MustCompile("^\\| `(understudy_[a-z_]+)` \\| ([a-z]+) \\| ([a-z, ]*) \\| \\S")
	metricType   = regexp.MustCompile(`^# TYPE (understudy_[a-z_]+) ([a-z]+)$`)
	metricSample = regexp.MustCompile(`^(understudy_[a-z_]+)\{(.*)\} \S+$`)
	metricLabel  = regexp.MustCompile(`([a-z_]+)="`)
	partOfWhole  = regexp.MustCompile(`_(bucket|sum|count)$`) // of a histogram
)

func TestMetricsPageListsWhatARunningGroupServes(t *testing.T) {
	documented := documentedMetrics(t)
	http := StartGroup(t, "--max-staleness", "1s", "--metrics-remote-write", "http://127.0.0.1:1/write").HTTP // with them all there is
	served := servedMetrics(t, http)
	for end := time.Now().Add(20 * time.Second); served["understudy_proxy_replica_age_seconds"].kind == "" && time.Now().Before(end); {
		time.Sleep(50 * time.Millisecond)
		served = servedMetrics(t, http)
	}
	if len(served) < 20 {
		t.Fatalf("only %d metrics are served: %v", len(served), served)
	}
	for _, name := range slices.Sorted(maps.Keys(served)) {
		if have, want := documented[name], served[name]; have != want {
			t.Errorf("docs/metrics.md says %+v of %s, and it is %+v", have, name, want)
		}
	}
	for name := range documented {
		if _, ok := served[name]; !ok && !ofUpstream(name) && !ofMachines(name) && !ofObserver(name) { // those are of `understudy proxy` and `understudy agent`
			t.Errorf("docs/metrics.md lists %s, which nobody serves", name)
		}
	}
}

// ofUpstream reports whether a metric is of package upstream, which runs where a group has no agents.
func ofUpstream(name string) bool { return strings.HasPrefix(name, "understudy_upstream_") }

// ofMachines reports whether a metric is of the parts that several machines need, and one does not.
func ofMachines(name string) bool {
	return strings.HasPrefix(name, "understudy_host_") || strings.HasPrefix(name, "understudy_rpc_")
}

// ofObserver reports whether a metric is of `understudy proxy --observe`, which has no group of its own; package
// proxy compares them.
func ofObserver(name string) bool { return strings.HasPrefix(name, "understudy_observe_") }

// documentedMetrics reads the tables of docs/metrics.md.
func documentedMetrics(t *testing.T) map[string]listed {
	t.Helper()
	documented := map[string]listed{}
	page, err := os.ReadFile("../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(page)) {
		if m := metricRow.FindStringSubmatch(line); m != nil {
			documented[m[1]] = listed{m[2], m[3]}
		}
	}
	return documented
}

// servedMetrics reads Understudy's own metrics off /metrics.
func servedMetrics(t *testing.T, addr string) map[string]listed {
	t.Helper()
	r, err := http.Get("http://" + addr + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	served := map[string]listed{}
	lines := bufio.NewScanner(r.Body)
	for lines.Scan() {
		if m := metricType.FindStringSubmatch(lines.Text()); m != nil {
			served[m[1]] = listed{kind: m[2]}
			continue
		}
		m := metricSample.FindStringSubmatch(lines.Text())
		if m == nil {
			continue
		}
		name := m[1]
		if _, ok := served[name]; !ok {
			name = partOfWhole.ReplaceAllString(name, "")
		}
		var labels []string
		for _, l := range metricLabel.FindAllStringSubmatch(m[2], -1) {
			if l[1] != "le" {
				labels = append(labels, l[1])
			}
		}
		slices.Sort(labels)
		served[name] = listed{served[name].kind, strings.Join(labels, ", ")}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return served
}
