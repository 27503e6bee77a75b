package sim

import (
	"context"
	"os"
	"path/filepath"
	"runtime/debug"
	"testing"
)

func TestMain(m *testing.M) {
	debug.SetGCPercent(1000) // each schedule is small and short: collecting it would take a third of the time
	os.Exit(m.Run())
}

func TestSimKeepsEveryPromiseInTenThousandSchedules(t *testing.T) {
	n := 10_000
	if testing.Short() {
		n = 1000
	}
	r, err := Run(context.Background(), Options{Seed: 1, Schedules: n})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d schedules, %d operations (%d acked), %d events, in %v: %.0f schedules/s; faults %v",
		r.Schedules, r.Operations, r.Acked, r.Steps, r.Duration, float64(r.Schedules)/r.Duration.Seconds(), r.Faults)
	for _, f := range r.Failures {
		t.Errorf("seed %d: %s\nkeep this in failover/testdata/sim:\n%s", f.Seed, f.What, f.Script)
	}
	for _, k := range faultKinds {
		if r.Faults[k] == 0 {
			t.Errorf("no %s in %d schedules", k, n)
		}
	}
}

func TestSimGivesEqualRunsForEqualSeeds(t *testing.T) {
	digest := func(workers int) uint64 {
		r, err := Run(context.Background(), Options{Seed: 77, Schedules: 100, Workers: workers})
		if err != nil {
			t.Fatal(err)
		}
		return r.Digest
	}
	if one, two := digest(1), digest(2); one != two {
		t.Errorf("one worker: digest %x, two workers: %x", one, two)
	}
	if r, err := Run(context.Background(), Options{Seed: 78, Schedules: 100}); err != nil || r.Digest == digest(1) {
		t.Errorf("another seed gives the same digest, or %v", err)
	}
}

// TestSimScriptsOfFixedBugs replays what once failed, also with other seeds.
func TestSimScriptsOfFixedBugs(t *testing.T) {
	scripts, err := filepath.Glob("../testdata/sim/*.txt")
	if err != nil || len(scripts) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, path := range scripts {
		t.Run(filepath.Base(path), func(t *testing.T) {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if trace, err := Replay(string(text)); err != nil {
				t.Fatalf("%v\n%s", err, trace)
			}
			s, err := Parse(string(text))
			if err != nil {
				t.Fatal(err)
			}
			for s.Seed = range uint64(neighbours) {
				if o := outcomeOf(s, nil); o.failure != "" {
					t.Fatalf("%s\n%s", o.failure, s)
				}
			}
		})
	}
}

func TestScheduleReadsItsOwnText(t *testing.T) {
	for seed := range uint64(50) {
		s := NewSchedule(seed, 0)
		again, err := Parse(s.String())
		if err != nil {
			t.Fatal(err)
		}
		if again.String() != s.String() {
			t.Fatalf("wrote\n%s\nread\n%s", s, again)
		}
	}
	if _, err := Parse("1s melt-down a=0 b=0 for=1s"); err == nil {
		t.Error("an unknown fault was accepted")
	}
}
