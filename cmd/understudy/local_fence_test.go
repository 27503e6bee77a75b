package main

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"understudy/failover"
	"understudy/redis"
)

func TestDeltaMustBeAboveTheTimeThatFencingTakes(t *testing.T) {
	const ms = time.Millisecond
	for _, c := range []struct {
		took         []time.Duration
		refused, say bool
	}{
		{[]time.Duration{2 * ms, 3 * ms, 5 * ms}, false, false},
		{[]time.Duration{2 * ms, 3 * ms, 80 * ms}, false, true},
		{[]time.Duration{140 * ms, 160 * ms, 180 * ms}, false, true}, // busy with something else, and fast enough once
		{[]time.Duration{151 * ms, 160 * ms, 180 * ms}, true, false},
	} {
		var log bytes.Buffer
		p := failover.Profile{Name: "fast", Delta: 150 * ms}
		err := checkFence(p, c.took, slog.New(slog.NewTextHandler(&log, nil)))
		if (err != nil) != c.refused || (log.Len() > 0) != c.say {
			t.Errorf("%v: %v, said %q", c.took, err, log.String())
		}
		if err != nil && (!strings.Contains(err.Error(), "150ms") || !strings.Contains(err.Error(), "151ms") || !strings.Contains(err.Error(), "delta=361ms")) {
			t.Errorf("the numbers are not in it: %v", err)
		}
	}
}

func TestFencingIsMeasuredOnRealProcesses(t *testing.T) {
	f, err := redis.StartFencer(redis.FencerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := f.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	took, err := measureFence(t.Context(), f)
	if err != nil || len(took) != fenceRounds || took[0] <= 0 || took[0] > took[len(took)-1] {
		t.Errorf("%v, %v", took, err)
	}
}
