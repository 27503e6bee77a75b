package e2e

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A receiver of remote write that was away for a while gets every second, and what is kept here has them all.
func TestPrometheusGetsEverySecondThoughItWasAway(t *testing.T) {
	t.Parallel()
	r := newPrometheus(t, "", "--web.enable-remote-write-receiver") // it scrapes nothing
	if r == nil {
		t.Skip("NOT TESTED: that Prometheus takes what is sent to it: there is none here (.ci/need prometheus)")
	}
	g := StartGroup(t, "--metrics-remote-write", "http://"+r.addr+"/api/v1/write")
	g.WaitAvailable()
	r.start() // later than the group
	const lag = `understudy_replication_lag_sample_count{job="understudy",replication_group_id="main",cache_cluster_id=""}`
	has := func(seconds float64) func() error {
		return func() error {
			if n, _ := r.value("count_over_time(" + lag + "[5m])"); n < seconds {
				return fmt.Errorf("it has %v seconds", n)
			}
			return nil
		}
	}
	eventually(t, "the first seconds", has(3))
	if n, _ := r.value(lag); n != 2 {
		t.Errorf("%v replicas", n)
	}
	r.kill()
	away := time.Now()
	eventually(t, "metrics that wait", func() error {
		if n := gauge(t, g, "understudy_remote_write_queued_samples"); n < 300 || time.Since(away) < 5*time.Second {
			return fmt.Errorf("%v samples", n)
		}
		return nil
	})
	r.start()
	before, _ := r.value("vector(time())")
	eventually(t, "the seconds while it was away", has(3+5))
	first, _ := r.value("min_over_time(timestamp(" + lag + ")[5m:1s])")
	missed := gauge(t, g, "understudy_monitor_missed_seconds_total")
	if n, _ := r.value("count_over_time(" + lag + "[5m])"); n < before-first-missed-2 {
		t.Errorf("it has %v seconds of %v, and %v were not looked at", n, before-first, missed)
	}
	for name, most := range map[string]float64{`samples_total{result="dropped"}`: 0, `samples_total{result="refused"}`: 0} {
		if n := gauge(t, g, "understudy_remote_write_"+name); n > most {
			t.Errorf("%s is %v", name, n)
		}
	}
	if missed > 2 { // a busy machine may cost one; waiting for the receiver would cost all
		t.Errorf("%v seconds were not looked at", missed)
	}
}

// gauge is a metric of /metrics by its name and labels as they stand there.
func gauge(t *testing.T, g *Group, name string) float64 {
	t.Helper()
	body, _, err := g.get("/metrics")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(body)) {
		if rest, ok := strings.CutPrefix(line, name+" "); ok {
			v, err := strconv.ParseFloat(strings.TrimSpace(rest), 64)
			if err != nil {
				t.Fatal(err)
			}
			return v
		}
	}
	t.Fatalf("/metrics has no %s", name)
	return 0
}
