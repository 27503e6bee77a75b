package e2e

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// times is how often a fault is repeated: def in tests, more by hand.
func times(t *testing.T, env string, def int) int {
	t.Helper()
	text := os.Getenv(env)
	if text == "" {
		return def
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("%s=%q is no number of repetitions", env, text)
	}
	return n
}

// repeat breaks the group n times under a load, each time from a group that is whole, and returns
// what the load saw and when.
func repeat(t *testing.T, g *Group, n int, fault func(i int)) (judgement, []around) {
	t.Helper()
	// How many writes are acked before and after each fault: a fifth of a second's.
	between := int64(times(t, "UNDERSTUDY_BETWEEN", 200))
	l := startLoad(t, g.Primary)
	var faults []around
	for i := range n {
		before := g.WaitAvailable()
		l.waitAcked(between)
		from := l.now()
		fault(i)
		after := g.WaitForPrimary(before)
		l.waitAcked(between)
		faults = append(faults, around{from, l.now()})
		if after.Primary == before.Primary {
			t.Errorf("fault %d: %s leads again (epoch %d, %+v)", i+1, after.Primary, after.Epoch, after.Last)
		}
	}
	return l.judge(g), faults
}

func TestCrashesInARowLoseNothingAndShowNoError(t *testing.T) {
	n := times(t, "UNDERSTUDY_CRASHES", 10)
	g := StartGroup(t)
	first := g.WaitAvailable()
	j, faults := repeat(t, g, n, func(int) { g.KillPrimary() })
	report(t, "crashes", j.gaps(faults), 100*time.Millisecond, time.Second)
	// Three clients write what must not be repeated, one request each at a time; most of those that
	// a crash catches can be told apart, so at most one a crash may stay unknown.
	if len(j.unknown) > n {
		t.Errorf("%d outcomes unknown after %d crashes", len(j.unknown), n)
	}
	if last := g.Status(); last.Epoch < first.Epoch+uint64(n) || last.Last == nil || last.Last.Kind != "failover" {
		t.Errorf("after %d failovers from epoch %d the status is %+v, last %+v", n, first.Epoch, last, last.Last)
	}
}

func TestSwitchoversGoBackAndForthWithoutAnErrorOrAFullSync(t *testing.T) {
	n := times(t, "UNDERSTUDY_SWITCHOVERS", 10)
	g := StartGroup(t)
	start := g.WaitAvailable()
	pair := []string{start.replicas()[0].ID, start.Primary}
	before := fullSyncs(t, start)
	j, faults := repeat(t, g, n, func(i int) {
		if out, code := g.cli("switchover", "--to", pair[i%2]); code != 0 {
			t.Errorf("switchover %d to %s: exit %d %s", i+1, pair[i%2], code, out)
		}
	})
	report(t, "switchovers", j.gaps(faults), 20*time.Millisecond, 500*time.Millisecond)
	if len(j.unknown) > 0 {
		t.Errorf("%d outcomes unknown: a switchover is planned", len(j.unknown))
	}
	end := g.Status()
	if after := fullSyncs(t, end); after != before {
		t.Errorf("%d full syncs after the switchovers, %d before", after, before)
	}
	if end.Last == nil || end.Last.Kind != "switchover" || end.Last.To != end.Primary || end.Last.LostBytes != 0 {
		t.Errorf("the last change is %+v", end.Last)
	}
}

// fullSyncs adds up the full resyncs that each node has served since it started.
func fullSyncs(t *testing.T, s Status) int {
	t.Helper()
	sum := 0
	for _, n := range s.Nodes {
		sum += info(t, n.Addr, "stats", "sync_full")
	}
	return sum
}

// info reads a number from a section of a node's INFO.
func info(t *testing.T, addr, section, field string) int {
	t.Helper()
	c := redis.NewClient(&redis.Options{Addr: addr, MaxRetries: -1})
	defer c.Close()
	text, err := c.Info(context.Background(), section).Result()
	if err != nil {
		t.Fatalf("INFO of %s: %v", addr, err)
	}
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), field+":"); ok {
			n, err := strconv.Atoi(value)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatalf("INFO of %s has no %s", addr, field)
	return 0
}

func TestHangingPrimaryIsReplacedAndEnded(t *testing.T) {
	n := times(t, "UNDERSTUDY_HANGS", 3)
	g := StartGroup(t)
	j, faults := repeat(t, g, n, func(int) {
		s := g.HangPrimary()
		hung, _, ok := look(s.node(s.Primary).PID)
		if !ok {
			return // ended already
		}
		eventually(t, "the end of "+hung.String(), func() error {
			if alive(hung) {
				return fmt.Errorf("%v is still there", hung)
			}
			return nil
		})
	})
	report(t, "hangs", j.gaps(faults), 700*time.Millisecond, 3*time.Second)
	if len(j.unknown) > 3*n {
		t.Errorf("%d outcomes unknown after %d hangs: more than the clients had requests under way", len(j.unknown), n)
	}
}
