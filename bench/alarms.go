package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"understudy/cluster"
)

// alarms is what a starved group did although nothing was wrong with it.
type alarms struct {
	AskedS   float64  `json:"asked_s"`
	Seconds  float64  `json:"seconds"`
	Spinners int      `json:"spinners"`  // processes that took all the processor time that they could get
	Epochs   int      `json:"epochs"`    // changes of primary: each one is a false alarm
	Causes   []string `json:"causes"`    // what the group said of them
	Failsafe int      `json:"failsafes"` // times that the store did not answer in time and the nodes confirmed the primary

	Requests float64 `json:"requests"` // served by the proxy
	Acked    int     `json:"acked"`    // of the clients whose histories are judged
	Lost     int     `json:"lost"`
	Doubled  int     `json:"duplicated"`
	Stale    int     `json:"stale_reads"`
	Errors   int     `json:"errors"`
	Unknown  int     `json:"unknown"`
	GapMs    float64 `json:"gap_ms"` // the longest time without an acked write
	LoadAvg  string  `json:"load_average"`
}

// alarmLeg is how long histories are kept before they are judged.
const alarmLeg = 30 * time.Second

// measureAlarms puts a full load on all cores and counts the changes of primary.
func (b *bench) measureAlarms(ctx context.Context) (err error) {
	g, err := b.startGroup(ctx, "sync")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, g.stop()) }()
	a := &alarms{AskedS: b.alarmsFor.Seconds(), Spinners: runtime.NumCPU()}
	b.report.Alarms = a
	stop, err := b.starve(ctx, g)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	first, err := g.status(ctx)
	if err != nil {
		return err
	}
	began := time.Now()
	for leg := 0; ctx.Err() == nil && time.Since(began) < b.alarmsFor; leg++ {
		if err := a.leg(ctx, g, leg, min(alarmLeg, b.alarmsFor-time.Since(began))); err != nil {
			return errors.Join(err, g.lost())
		}
		now, err := g.status(ctx)
		if err != nil {
			return errors.Join(err, g.lost())
		}
		a.Epochs, a.Seconds, a.LoadAvg = int(now.Epoch-first.Epoch), time.Since(began).Seconds(), loadAverage()
		b.say("full load for %.0f of %.0f s: %d changes of primary, %d acked writes, %d lost, %d errors, longest gap %.0f ms",
			a.Seconds, a.AskedS, a.Epochs, a.Acked, a.Lost, a.Errors, a.GapMs)
	}
	if a.Lost+a.Doubled+a.Stale > 0 {
		return fmt.Errorf("%d acked writes lost, %d doubled, %d stale reads", a.Lost, a.Doubled, a.Stale)
	}
	return nil
}

// starve starts what takes the processor away: a loop on every core, and redis-benchmark on the primary
// endpoint, again and again. The returned func ends all of it.
func (b *bench) starve(ctx context.Context, g *group) (func() error, error) {
	ctx, cancel := context.WithCancel(ctx)
	var spinners []*process
	for i := range runtime.NumCPU() {
		p, err := start(b.dir, fmt.Sprintf("spin-%d", i), "/bin/sh", "-c", "while :; do :; done")
		if err != nil {
			cancel()
			return nil, err
		}
		spinners = append(spinners, p)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			// How much it gets done says nothing here; when the group does not answer, the clients say so.
			_ = exec.CommandContext(ctx, b.tools.benchmark, "-p", portOf(g.endpoints.Primary), "-c", "50", "-n", "200000",
				"-r", strconv.Itoa(keySpace), "-d", strconv.Itoa(valueSize), "-t", "set,get", "-q").Run()
		}
	}()
	return func() error {
		cancel()
		<-done
		var errs []error
		for _, p := range spinners {
			errs = append(errs, p.end(syscall.SIGKILL, readyWithin))
		}
		return errors.Join(errs...)
	}, nil
}

func portOf(addr string) string { return addr[strings.LastIndexByte(addr, ':')+1:] }

// leg has clients work for some time and judges them.
func (a *alarms) leg(ctx context.Context, g *group, number int, lasts time.Duration) error {
	began := time.Now()
	cs := startClients(ctx, g.endpoints.Primary, number)
	paused := pause(ctx, lasts)
	to := cs.now()
	if err := errors.Join(cs.end(), paused); err != nil {
		return err
	}
	acks := acksOf(cs.ops())
	if len(acks) == 0 {
		return fmt.Errorf("no write was acked in %v", lasts)
	}
	for i, at := range acks[1:] {
		a.GapMs = max(a.GapMs, ms(at-acks[i]))
	}
	a.GapMs = max(a.GapMs, ms(to-acks[len(acks)-1]))
	v, errs, unknown, err := cs.judge(ctx, g.endpoints.Primary)
	if err != nil {
		return err
	}
	a.Acked, a.Lost, a.Doubled, a.Stale = a.Acked+v.Acked, a.Lost+v.Lost, a.Doubled+v.Duplicated, a.Stale+v.StaleReads
	a.Errors, a.Unknown = a.Errors+len(errs), a.Unknown+unknown
	for _, e := range g.timeline.take(began) {
		a.heard(e)
	}
	c := direct(g.endpoints.Primary)
	defer c.Close()
	if err := c.FlushAll(ctx).Err(); err != nil {
		return fmt.Errorf("empty the data set: %w", err)
	}
	served, err := g.metrics(ctx, `understudy_proxy_requests_total{group="main"}`)
	a.Requests = served[`understudy_proxy_requests_total{group="main"}`]
	return err
}

// heard keeps what the group says of a change of primary.
func (a *alarms) heard(e cluster.Event) {
	switch e.Name {
	case "failsafe":
		a.Failsafe++
	case "primary_lost", "primary_hung", "fencing", "lead_vacant", "claims_early", "claimed":
		a.Causes = append(a.Causes, fmt.Sprintf("%s %s: %s", e.Node, e.Name, e.Message))
	}
}

func (r *report) printAlarms(w io.Writer) {
	a := r.Alarms
	fmt.Fprintln(w, "\nFALSE ALARMS: a healthy group on a machine whose cores are all taken")
	if a == nil {
		fmt.Fprintln(w, "not measured")
		return
	}
	fmt.Fprintf(w, "%.0f of the 3600 s of the goal, %d loops that take what they get, redis-benchmark with 50 connections; load average %s\n", a.Seconds, a.Spinners, a.LoadAvg)
	fmt.Fprintf(w, "%d changes of primary (goal: 0: %s), and %d times the nodes confirmed the primary because the store was slow\n", a.Epochs, met(a.Epochs, 0), a.Failsafe)
	fmt.Fprintf(w, "%.0f requests served; %d acked writes judged: %d lost, %d doubled, %d stale reads, %d errors, %d outcomes unknown; longest gap %.0f ms\n",
		a.Requests, a.Acked, a.Lost, a.Doubled, a.Stale, a.Errors, a.Unknown, a.GapMs)
	for _, cause := range a.Causes[:min(20, len(a.Causes))] {
		fmt.Fprintln(w, "  ", cause)
	}
}
