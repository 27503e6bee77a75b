package sim

import (
	"context"
	"os"
	"runtime/debug"
	"testing"

	"understudy/failover"
)

func TestMain(m *testing.M) {
	debug.SetGCPercent(1000) // each schedule is small and short: collecting it would take a third of the time
	os.Exit(m.Run())
}

// schedulesInTest is how many schedules each `make test` plays.
const schedulesInTest = 10_000

func TestSimEverySchedulesKeepsItsPromises(t *testing.T) {
	n := schedulesInTest
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
	_ = failover.MutationNone
}
