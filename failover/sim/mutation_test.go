package sim

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"understudy/failover"
)

// caughtWithin is in how many schedules from seed 1 each known-wrong rule must be caught. How many it took
// is in DESIGN.md: the simulator's track record.
const caughtWithin = 10_000

// TestSimCatchesEveryKnownWrongRule puts the wrong rules in, one at a time. A group that only makes
// no progress, or a schedule that also fails under the right rules, is no catch.
func TestSimCatchesEveryKnownWrongRule(t *testing.T) {
	if testing.Short() {
		t.Skip("plays some ten thousand schedules")
	}
	for _, m := range failover.Mutations() {
		t.Run(m.String(), func(t *testing.T) {
			at, what := firstCatch(m, caughtWithin)
			if at == 0 {
				t.Fatalf("not caught in %d schedules", caughtWithin)
			}
			t.Logf("caught by schedule %d: %.160s", at, what)
		})
	}
}

// firstCatch plays schedules until one loses, doubles or shows what it must not.
func firstCatch(m failover.Mutation, limit int) (at int, what string) {
	for seed := 1; seed <= limit; {
		r, err := Run(context.Background(), Options{Seed: uint64(seed), Schedules: limit - seed + 1, Mutation: m})
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
// fail: one for each, as short as it still fails.
func TestSimCatchesWrongRulesInTheirScripts(t *testing.T) {
	scripts, err := filepath.Glob("../testdata/wrong/*.txt")
	if err != nil || len(scripts) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, m := range failover.Mutations() {
		if _, err := os.Stat("../testdata/wrong/" + m.String() + ".txt"); err != nil {
			t.Errorf("%v has no script: %v", m, err)
		}
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
