package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// metric adds up the samples of a metric.
func metric(t *testing.T, g *Group, name string) float64 {
	t.Helper()
	body, code, err := g.get("/metrics")
	if err != nil || code != http.StatusOK {
		t.Fatalf("/metrics: %d, %v", code, err)
	}
	sum, found := 0.0, false
	for line := range strings.Lines(string(body)) {
		rest, ok := strings.CutPrefix(line, name)
		if !ok || rest[0] != '{' && rest[0] != ' ' {
			continue
		}
		fields := strings.Fields(line)
		v, err := strconv.ParseFloat(fields[len(fields)-1], 64)
		if err != nil {
			t.Fatalf("/metrics: %q: %v", line, err)
		}
		sum, found = sum+v, true
	}
	if !found {
		t.Fatalf("/metrics has no %s", name)
	}
	return sum
}

// keys lists an object's keys, those of nested objects after a dot and those of lists' elements
// after brackets.
func keys(prefix string, v any) []string {
	var out []string
	switch v := v.(type) {
	case map[string]any:
		for k, inner := range v {
			out = append(out, prefix+k)
			out = append(out, keys(prefix+k+".", inner)...)
		}
	case []any:
		for _, inner := range v {
			out = append(out, keys(strings.TrimSuffix(prefix, ".")+"[].", inner)...)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func TestStatusHasTheFieldsThatScriptsRelyOn(t *testing.T) {
	g := StartGroup(t)
	before := g.WaitAvailable()
	g.crash()
	g.WaitAvailable()
	text, code := g.cli("status", "--json", "--check")
	if code != 0 {
		t.Fatalf("status --check of an available group: exit %d", code)
	}
	var have map[string]any
	if err := json.Unmarshal([]byte(text), &have); err != nil {
		t.Fatal(err)
	}
	want := strings.Fields(`group state epoch durability profile primary nodes endpoints last_failover
		nodes[].id nodes[].zone nodes[].role nodes[].state nodes[].addr nodes[].pid nodes[].agent_pid nodes[].offset
		nodes[].lag_bytes nodes[].lag_ms nodes[].electable nodes[].reason
		endpoints.primary endpoints.reader endpoints.split endpoints.http
		last_failover.epoch last_failover.kind last_failover.cause last_failover.from last_failover.to
		last_failover.started last_failover.duration_ms last_failover.phases_ms last_failover.lost_bytes
		last_failover.phases_ms.detect last_failover.phases_ms.fence last_failover.phases_ms.elect
		last_failover.phases_ms.promote last_failover.phases_ms.route`)
	all := keys("", have)
	for _, k := range want {
		if !slices.Contains(all, k) {
			t.Errorf("status --json has no %s: %s", k, text)
		}
	}
	s := g.Status()
	if s.Last.From != before.Primary || s.Last.To != s.Primary || s.Last.Kind != "failover" || s.Last.LostBytes != 0 || s.Last.DurationMs <= 0 {
		t.Errorf("last_failover: %+v", s.Last)
	}
	zones := map[string]bool{}
	for _, n := range s.Nodes {
		zones[n.Zone] = true
	}
	if len(s.Nodes) != 3 || len(zones) != 3 {
		t.Errorf("want three nodes in three zones: %+v", s.Nodes)
	}
}

func TestHealthAndMetricsFollowAFailover(t *testing.T) {
	g := StartGroup(t)
	before := g.WaitAvailable()
	healthy := func(want Status) {
		t.Helper()
		body, code, err := g.get("/healthz")
		var h struct {
			OK      bool
			Primary string
			Epoch   uint64
		}
		if err == nil {
			err = json.Unmarshal(body, &h)
		}
		if err != nil || code != http.StatusOK || !h.OK || h.Primary != want.Primary || h.Epoch != want.Epoch {
			t.Errorf("/healthz: %d %s, %v; want %s under epoch %d", code, body, err, want.Primary, want.Epoch)
		}
	}
	healthy(before)
	if n := metric(t, g, "understudy_proxy_epoch"); n != float64(before.Epoch) {
		t.Errorf("the proxy's epoch is %v, want %d", n, before.Epoch)
	}
	c := client(t, g.Primary)
	g.KillPrimary()
	for i := range 50 { // some of them are held
		if err := c.Set(context.Background(), "k", i, 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	after := g.WaitForPrimary(before)
	healthy(after)
	for name, want := range map[string]float64{
		"understudy_proxy_epoch": float64(after.Epoch), "understudy_group_writable": 1,
		"understudy_proxy_leaked_errors_total": 0, "understudy_proxy_hold_timeouts_total": 0,
	} {
		if n := metric(t, g, name); n != want {
			t.Errorf("%s is %v, want %v", name, n, want)
		}
	}
	if n := metric(t, g, "understudy_proxy_held_requests_total"); n == 0 {
		t.Error("no request was held through a crash")
	}
}

// event is a line of the timeline, as GET /api/events streams it.
type event struct {
	Time, Group, Node, Event, Message string

	Epoch  uint64
	Phases map[string]float64 `json:"phases_ms"`
}

// events streams the timeline until the test ends.
func (g *Group) events() <-chan event {
	g.t.Helper()
	req, err := http.NewRequestWithContext(g.t.Context(), http.MethodGet, "http://"+g.HTTP+"/api/events", nil)
	if err != nil {
		g.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		g.t.Fatal(err)
	}
	if kind := resp.Header.Get("Content-Type"); resp.StatusCode != http.StatusOK || kind != "text/event-stream" {
		g.t.Fatalf("/api/events: %s %s", resp.Status, kind)
	}
	const most = 1000 // more than a test makes
	out := make(chan event, most)
	go func() {
		defer close(out)
		defer resp.Body.Close()
		lines := bufio.NewScanner(resp.Body)
		for lines.Scan() {
			data, ok := strings.CutPrefix(lines.Text(), "data: ")
			var e event
			if ok && json.Unmarshal([]byte(data), &e) == nil {
				out <- e
			}
		}
	}()
	return out
}

// timeline is what a reader of the events has seen.
type timeline struct {
	stream <-chan event
	seen   []event
}

// wait reads on until an event of each name was seen under the epoch, and returns them.
func (l *timeline) wait(t *testing.T, epoch uint64, names ...string) map[string]event {
	t.Helper()
	found := map[string]event{}
	eventually(t, fmt.Sprintf("the events %v under epoch %d", names, epoch), func() error {
		for more := true; more; {
			select {
			case e, open := <-l.stream:
				if !open {
					t.Fatal("the stream of events ended")
				}
				l.seen = append(l.seen, e)
			default:
				more = false
			}
		}
		for _, e := range l.seen {
			if e.Epoch == epoch && slices.Contains(names, e.Event) {
				found[e.Event] = e
			}
		}
		if len(found) < len(names) {
			return fmt.Errorf("only %v were seen", slices.Sorted(maps.Keys(found)))
		}
		return nil
	})
	return found
}

func TestEventsTellAFailoverWhileItHappensAndAfterwards(t *testing.T) {
	g := StartGroup(t)
	before := g.WaitAvailable()
	live := timeline{stream: g.events()}
	after := g.crash()
	live.wait(t, before.Epoch, "primary_lost")
	seen := live.wait(t, after.Epoch, "claimed", "serving", "following")
	if e := seen["serving"]; e.Node != after.Primary || e.Group != "main" || e.Time == "" || len(e.Phases) < 3 {
		t.Errorf("the event of the new primary is %+v", e)
	}
	late := timeline{stream: g.events()}
	late.wait(t, after.Epoch, "claimed", "serving", "following")
}
