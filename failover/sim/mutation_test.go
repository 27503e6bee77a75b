package sim

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"understudy/failover"
)

// caughtWithin says in how many schedules from seed 1 each known-wrong rule must be caught: about
// three times what was needed when it was written. It is the simulator's track record. A rule that is
// not here is not caught yet: another fence stands behind each of them, and both must be gone at once.
var caughtWithin = map[failover.Mutation]int{
	failover.MutationOffsetOnly:       900,
	failover.MutationPriorityFirst:    600,
	failover.MutationNoQuorum:         500,
	failover.MutationChallengerEarly:  100,
	failover.MutationSwitchoverNoWait: 500,
	failover.MutationRedisOutlives:    50,
	failover.MutationIntactIsData:     700,
}

// TestSimCatchesEveryKnownWrongRule puts the wrong rules in, one at a time. A group that only makes
// no progress, or a schedule that also fails under the right rules, is no catch.
func TestSimCatchesEveryKnownWrongRule(t *testing.T) {
	for _, m := range failover.Mutations() {
		n := caughtWithin[m]
		if n == 0 {
			continue
		}
		t.Run(m.String(), func(t *testing.T) {
			at, what := firstCatch(m, n)
			if at == 0 {
				t.Fatalf("not caught in %d schedules", n)
			}
			t.Logf("caught by schedule %d: %.160s", at, what)
		})
	}
}

// firstCatch plays schedules until one loses, doubles or shows what it must not.
func firstCatch(m failover.Mutation, limit int) (at int, what string) {
	for seed := 1; seed <= limit; {
		r, err := Run(context.Background(), Options{Seed: uint64(seed), Schedules: limit - seed + 1, Workers: 1, Mutation: m})
		if err != nil || len(r.Failures) == 0 {
			return 0, ""
		}
		f := r.Failures[0]
		right := outcomeOf(NewSchedule(f.Seed, failover.MutationNone), nil)
		if right.failure == "" && !strings.HasPrefix(f.What, "no progress") && !strings.HasPrefix(f.What, "the primary was lost") {
			return int(f.Seed), f.What
		}
		seed = int(f.Seed) + 1
	}
	return 0, ""
}

// neighbours is with how many seeds a script is played: its faults stay, all else differs, so that a
// script goes on meaning something when a change elsewhere shifts what a seed gives.
const neighbours = 300

// TestSimCatchesWrongRulesInTheirScripts plays schedules that need the wrong rule named in them to
// fail: rules behind which another fence stands, so that drawn schedules meet them rarely.
func TestSimCatchesWrongRulesInTheirScripts(t *testing.T) {
	scripts, err := filepath.Glob("../testdata/wrong/*.txt")
	if err != nil || len(scripts) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, path := range scripts {
		t.Run(filepath.Base(path), func(t *testing.T) {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			s, err := Parse(string(text))
			if err != nil || s.Mutation == failover.MutationNone {
				t.Fatalf("mutation %v, %v", s.Mutation, err)
			}
			wrong := s.Mutation
			for i := range uint64(neighbours) {
				s.Seed, s.Mutation = i, wrong
				if outcomeOf(s, nil).failure == "" {
					continue
				}
				s.Mutation = failover.MutationNone
				if o := outcomeOf(s, nil); o.failure != "" {
					t.Fatalf("seed %d: the right rule fails as well: %s", i, o.failure)
				}
				t.Logf("caught with seed %d", i)
				return
			}
			t.Errorf("%v is not caught with any of %d seeds", wrong, neighbours)
		})
	}
}
