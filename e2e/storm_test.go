package e2e

import (
	"slices"
	"testing"
	"time"

	"understudy/history"
)

// After the primary is gone everything comes at once: two replicas without data want a full sync, two
// hundred clients' requests have been held, and some were in flight when the primary died.
func TestStormAfterACrashDrainsAndLosesNothing(t *testing.T) {
	const clients = 200
	g := StartGroup(t)
	before := g.WaitAvailable()
	fill(t, g.Primary, "ballast:", 30_000, 1000)
	var steps []func(*worker)
	for len(steps) < clients {
		steps = append(steps, (*worker).visit, (*worker).visit, (*worker).visit, (*worker).push)
	}
	crowd := startLoadPaced(t, place{addr: g.Primary}, clients*loadPace/4, steps)
	l := startLoad(t, g.Primary)
	crowd.waitAcked(clients)
	l.waitAcked(100)
	for _, n := range before.replicas() {
		kill(t, n.PID)
		g.loseDisk(n.ID)
	}
	g.wait("both replicas in their full sync", func(s Status) bool {
		r := s.replicas()
		return s.Primary != "" && r[0].State == "syncing" && r[1].State == "syncing"
	})
	from := l.now()
	g.KillPrimary() // the only node with the data: it must lead again
	after := g.WaitForPrimary(before)
	if after.Primary != before.Primary {
		t.Errorf("%s leads, and only %s had the data", after.Primary, before.Primary)
	}
	crowd.waitAcked(2 * clients)
	drained := l.now()
	g.WaitAvailable()
	whole := l.now()
	crowd.end()
	l.end()
	j := judgeAt(t, l.at, crowd, l)
	j.demandNoError(t)
	report(t, "crashes during two full syncs", j.gaps([]around{{from, whole}}), time.Second, 8*time.Second)
	var waits []time.Duration
	for _, o := range j.ops {
		if d, ended := o.Latency(); ended && o.Invoked < drained && o.Returned > from && o.Kind != history.Pop {
			waits = append(waits, d)
		}
	}
	slices.Sort(waits)
	t.Logf("of %d requests in the storm half waited at most %v, the longest %v; everything drained %v after the crash, every node ready after %v",
		len(waits), waits[len(waits)/2].Round(time.Millisecond), waits[len(waits)-1].Round(time.Millisecond),
		(drained - from).Round(time.Millisecond), (whole - from).Round(time.Millisecond))
	// Requests in flight of three clients that write what must not be repeated, and of the crowd's fifty.
	if limit := clients/4 + 3; len(j.unknown) > limit {
		t.Errorf("%d outcomes unknown, more than the %d requests that can have been in flight", len(j.unknown), limit)
	}
}
