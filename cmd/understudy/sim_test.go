package main

import (
	"strings"
	"testing"
	"time"

	"understudy/failover/sim"
)

func TestSimBarSaysHowFarItIsAndHowLongTheRestTakes(t *testing.T) {
	for _, c := range []struct {
		report sim.Report
		want   string
	}{
		{sim.Report{Schedules: 250, Duration: time.Second}, "[#######.......................] 250 of 1000 schedules, 250/s, 0 failed, 3s left"},
		{sim.Report{Schedules: 1000, Duration: 4 * time.Second, Failures: make([]sim.Failure, 2)}, "[##############################] 1000 of 1000 schedules, 250/s, 2 failed, 0s left"},
	} {
		if got := simProgress(c.report, 1000); got != c.want {
			t.Errorf("got  %s\nwant %s", got, c.want)
		}
	}
}

func TestSimBarWritesOverItselfAndLeavesFailuresStanding(t *testing.T) {
	var out strings.Builder
	b := &simBar{out: &out, total: 200}
	b.show(sim.Report{Schedules: 100, Duration: time.Second})
	b.show(sim.Report{Schedules: 101, Duration: time.Second + simBarEvery/2}) // too soon
	if _, err := b.Write([]byte("seed 7: two primaries\n")); err != nil {
		t.Fatal(err)
	}
	b.show(sim.Report{Schedules: 200, Duration: time.Second + simBarEvery/2})
	text := out.String()
	if strings.Contains(text, "101 of") {
		t.Errorf("the bar was drawn again within %v:\n%q", simBarEvery, text)
	}
	if !strings.Contains(text, "\r\x1b[Kseed 7: two primaries\n\r\x1b[K[") || !strings.HasSuffix(text, "0s left\n") {
		t.Errorf("the failure does not stand on a line of its own, or the last bar has no end:\n%q", text)
	}
}
