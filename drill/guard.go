package drill

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"understudy/aws/remote"
	"understudy/cluster"
)

// Guard is one condition without which somebody else's group is not broken.
type Guard struct {
	Name  string `json:"name"`
	Want  string `json:"want"`
	Value string `json:"value"` // what was found
	OK    bool   `json:"ok"`
}

// The limits of the guards.
const (
	// defaultMaxLag: what a replica lacks at a failover is lost. AWS's own alarm is at a second.
	defaultMaxLag = time.Second
	// defaultBudget is how many drills a group takes in 24 hours; AWS counts 15 calls of TestFailover.
	defaultBudget = 2
	budgetDay     = 24 * time.Hour
	// defaultAbortAfter is how long a drill leaves its load on a group that accepts no write.
	defaultAbortAfter = 5 * time.Minute
	// defaultPoll is how often the API is asked; leastPoll keeps a wrong number from becoming throttling.
	defaultPoll = 5 * time.Second
	leastPoll   = 100 * time.Millisecond
)

// facts are all that the guards rest on.
type facts struct {
	kind   string
	fault  string
	status cluster.Status
	now    time.Time
	length time.Duration // of the run
	// lag is the longest of the replicas; lagFrom says how it is known, "" when it is not.
	lag     time.Duration
	lagFrom string
	maxLag  time.Duration
	// used are the drills of the last 24 hours, by the record on this disk and by the group's own events.
	used, told, budget int
	budgetErr          error

	// Of ElastiCache only.
	group       remote.Group
	maintenance []string // windows of its nodes
	amazon      bool     // AWS itself
}

// guards looks at the facts. Every guard is there each time, so that an operator sees what was looked at.
func guards(f facts) []Guard {
	ready := 0
	var primaries []string
	for _, n := range f.status.Nodes {
		if n.ID != f.status.Primary && n.State == cluster.StateReady {
			ready++
		}
		if n.Role == cluster.RolePrimary {
			primaries = append(primaries, string(n.ID))
		}
	}
	g := []Guard{
		{"primary", "one node says that it is the primary", orNone(strings.Join(primaries, ", ")), f.status.Primary != "" && len(primaries) == 1},
		{"replicas", "at least 1 that follows", fmt.Sprintf("%d of %d nodes", ready, len(f.status.Nodes)), ready >= 1},
		{"whole", "every node answers and follows", wholeValue(f.status), f.status.Ready() == len(f.status.Nodes) && ready >= 1},
		{"lag", "at most " + f.maxLag.String(), lagValue(f), f.lagFrom != "" && f.lag <= f.maxLag},
		budgetGuard(f),
	}
	if f.kind != targetElastiCache {
		return g
	}
	head := []Guard{
		{"state", "available", orNone(f.group.State), f.group.State == remote.Available},
		{"multi-az", "enabled", orNone(f.group.MultiAZ), f.group.MultiAZ == remote.Enabled},
		{"automatic failover", "enabled", orNone(f.group.AutomaticFailover), f.group.AutomaticFailover == remote.Enabled},
		{"endpoint", "a primary endpoint (no cluster mode)", orNone(f.group.Primary), f.group.Primary != ""},
	}
	tail := []Guard{f.maintenanceGuard(), f.snapshotGuard()}
	if f.fault == "switchover" {
		value, ok := "another front is asked", true
		if f.amazon {
			value, ok = "AWS refuses it while automatic failover is on: use --fault failover-api", false
		}
		tail = append(tail, Guard{"promotion", "a promotion by hand is possible", value, ok})
	}
	return slices.Concat(head, g, tail)
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

func wholeValue(s cluster.Status) string {
	var not []string
	for _, n := range s.Nodes {
		if n.State != cluster.StateReady {
			not = append(not, fmt.Sprintf("%s is %s (%s)", n.ID, n.State, n.Reason))
		}
	}
	if len(not) == 0 {
		return fmt.Sprintf("%d of %d", s.Ready(), len(s.Nodes))
	}
	return strings.Join(not, ", ")
}

func lagValue(f facts) string {
	if f.lagFrom == "" {
		return "not known"
	}
	return fmt.Sprintf("%v, from %s", f.lag.Round(time.Millisecond), f.lagFrom)
}

func budgetGuard(f facts) Guard {
	g := Guard{Name: "budget", Want: fmt.Sprintf("fewer than %d drills in 24 hours", f.budget)}
	if f.budgetErr != nil {
		g.Value = f.budgetErr.Error()
		return g
	}
	g.Value = fmt.Sprintf("%d on this machine's record", f.used)
	if f.kind == targetElastiCache {
		g.Value += fmt.Sprintf(", %d calls of TestFailover in the group's events", f.told)
	}
	g.OK = max(f.used, f.told) < f.budget
	return g
}

func (f facts) maintenanceGuard() Guard {
	g := Guard{Name: "maintenance window", Want: "not during the drill", Value: strings.Join(f.maintenance, ", "), OK: len(f.maintenance) > 0}
	for _, w := range f.maintenance {
		within, err := overlaps(w, f.now, f.length)
		if err != nil {
			g.Value, g.OK = err.Error(), false
		} else if within {
			g.OK = false
		}
	}
	g.Value = orNone(g.Value) + nowText(f.now)
	return g
}

func (f facts) snapshotGuard() Guard {
	g := Guard{Name: "snapshot window", Want: "not during the drill", Value: orNone(f.group.SnapshotWindow)}
	if f.group.SnapshotRetention == 0 {
		g.Value, g.OK = "no snapshots are kept", true
		return g
	}
	within, err := overlaps(f.group.SnapshotWindow, f.now, f.length)
	if g.OK = err == nil && !within; err != nil {
		g.Value = err.Error()
	}
	g.Value += nowText(f.now)
	return g
}

func nowText(now time.Time) string { return now.UTC().Format("; it is Mon 15:04 UTC") }

const week = 7 * 24 * time.Hour

// overlaps reports whether any moment from now on, for length, is in a window of AWS's: hh:mm-hh:mm each day, or
// ddd:hh:mm-ddd:hh:mm each week, both in UTC.
func overlaps(window string, now time.Time, length time.Duration) (bool, error) {
	from, to, ok := strings.Cut(strings.ToLower(strings.TrimSpace(window)), "-")
	a, daily, err1 := moment(from)
	b, dailyToo, err2 := moment(to)
	if !ok || err1 != nil || err2 != nil || daily != dailyToo {
		return false, fmt.Errorf("the window %q cannot be read", window)
	}
	every := week
	if daily {
		every = 24 * time.Hour
	}
	u := now.UTC()
	at := time.Duration(u.Weekday())*24*time.Hour + u.Sub(u.Truncate(24*time.Hour))
	at %= every
	long := (b - a + every) % every
	if long == 0 {
		long = every
	}
	// In the circle of a day or a week: the drill begins in the window, or the window begins in the drill.
	since := (at - a + every) % every
	until := (a - at + every) % every
	return since < long || until < length, nil
}

var weekdays = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

// moment reads hh:mm or ddd:hh:mm as the time since midnight, or since the midnight that Sunday begins with.
func moment(s string) (at time.Duration, daily bool, err error) {
	day, clock, weekly := strings.Cut(s, ":")
	if daily = !strings.Contains(clock, ":"); daily {
		clock = s
	}
	if !weekly {
		return 0, false, fmt.Errorf("no time: %q", s)
	}
	t, err := time.Parse("15:04", clock)
	if err != nil {
		return 0, daily, err
	}
	at = time.Duration(t.Hour())*time.Hour + time.Duration(t.Minute())*time.Minute
	if daily {
		return at, true, nil
	}
	i := slices.Index(weekdays, day)
	if i < 0 {
		return 0, false, fmt.Errorf("no day: %q", day)
	}
	return at + time.Duration(i)*24*time.Hour, false, nil
}
