// Package sim proves the failover rules: it plays thousands of short lives of a group, each with
// faults drawn from a seed, and checks that no acked write is lost, that two nodes never accept
// writes at the same time, that nothing stale is read, and that the group heals.
//
// The Machine and the Gate are the real ones. Around them are models, in virtual time on one heap of
// events: agents (as package agent is), redis-servers that live apart from them (replication streams,
// partial and full resynchronisation, append-only files), the store, links, proxies and clients.
// Equal seeds give equal runs.
package sim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"sync"
	"time"

	"understudy/failover"
)

// Options say what to run. The zero value runs 1,000 schedules from seed 0 on every core.
type Options struct {
	Seed      uint64 // of the first schedule; the next has the next
	Schedules int
	Workers   int
	Mutation  failover.Mutation // a known-wrong rule to put in
	Log       io.Writer         // failures as they are found; nil: nothing
	Failures  int               // stop after so many; default 1
	// Progress is told now and then how far it is, and once at the end, by one goroutine at a time; nil: nobody.
	Progress func(Report)
}

// tellEvery is after how many schedules Progress is told again.
const tellEvery = 100

// Report is what was run and found.
type Report struct {
	Schedules  int
	Operations int
	Acked      int
	Steps      int // events
	Faults     map[FaultKind]int
	Failures   []Failure     // in the order of their seeds
	Heal       time.Duration // the longest that a group took to be whole again after the last fault, in virtual time
	Duration   time.Duration
	Digest     uint64 // equal for equal Options, whatever the number of workers
}

// Failure is one schedule that broke a promise.
type Failure struct {
	Seed   uint64
	What   string
	Script string // the schedule after shrinking: keep it, and replay it with Replay
	Trace  string // of the shrunk schedule
}

// Run plays the schedules. The error is ctx's when it ends first; failures are in the Report.
func Run(ctx context.Context, o Options) (Report, error) {
	if o.Schedules == 0 {
		o.Schedules = 1000
	}
	if o.Workers == 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	if o.Failures == 0 {
		o.Failures = 1
	}
	start := time.Now()
	c := &collector{opts: o, start: start, report: Report{Faults: map[FaultKind]int{}}}
	var wg sync.WaitGroup
	for range o.Workers {
		wg.Go(func() {
			for ctx.Err() == nil {
				seed, more := c.next()
				if !more {
					return
				}
				c.take(seed, outcomeOf(NewSchedule(seed, o.Mutation), nil))
			}
		})
	}
	wg.Wait()
	for i := range c.report.Failures {
		f := &c.report.Failures[i]
		s := Shrink(NewSchedule(f.Seed, o.Mutation))
		var trace strings.Builder
		shrunk := outcomeOf(s, &trace)
		f.Script, f.Trace = fmt.Sprintf("# seed %d: %s\n%s", f.Seed, shrunk.failure, s), trace.String()
	}
	c.report.Duration = time.Since(start)
	if c.report.Schedules < o.Schedules && len(c.report.Failures) == 0 {
		return c.report, ctx.Err()
	}
	return c.report, nil
}

// collector hands out seeds and gathers outcomes.
type collector struct {
	opts   Options
	start  time.Time
	mu     sync.Mutex
	given  int
	report Report
}

func (c *collector) next() (uint64, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.given >= c.opts.Schedules || len(c.report.Failures) >= c.opts.Failures {
		return 0, false
	}
	c.given++
	return c.opts.Seed + uint64(c.given-1), true
}

func (c *collector) take(seed uint64, o outcome) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := &c.report
	r.Schedules++
	r.Operations += o.operations
	r.Acked += o.acked
	r.Steps += o.steps
	r.Heal = max(r.Heal, o.heal)
	r.Digest += o.digest // a sum: the order in which workers end does not matter
	for k, n := range o.faults {
		r.Faults[k] += n
	}
	if o.failure != "" {
		at := 0
		for at < len(r.Failures) && r.Failures[at].Seed < seed {
			at++
		}
		r.Failures = append(r.Failures[:at], append([]Failure{{Seed: seed, What: o.failure}}, r.Failures[at:]...)...)
		c.say("seed %d: %s\n", seed, o.failure)
	}
	if c.opts.Progress != nil && (r.Schedules%tellEvery == 0 || r.Schedules == c.opts.Schedules) {
		r.Duration = time.Since(c.start)
		c.opts.Progress(*r)
	}
}

func (c *collector) say(format string, args ...any) {
	if c.opts.Log != nil {
		fmt.Fprintf(c.opts.Log, format, args...)
	}
}

// outcome is what one schedule came to.
type outcome struct {
	operations, acked, steps int
	faults                   map[FaultKind]int
	heal                     time.Duration
	digest                   uint64
	failure                  string
}

// outcomeOf plays one schedule. A panic of the Machine or the Gate is a failure like any other.
func outcomeOf(s Schedule, trace *strings.Builder) (o outcome) {
	w := newWorld(s)
	w.trace = trace
	defer func() {
		if p := recover(); p != nil {
			w.fail("panic: %v%s", p, where())
		}
		o = outcome{operations: len(w.log.Ops), acked: len(w.executed), steps: w.steps, faults: w.injected,
			heal: w.healTook, digest: w.digest, failure: w.failure}
	}()
	w.play()
	return o
}

// where names the innermost frames of a panic.
func where() string {
	pcs := make([]uintptr, 16)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(4, pcs)])
	text := ""
	for {
		f, more := frames.Next()
		if strings.Contains(f.Function, "failover") {
			text += fmt.Sprintf("\n  %s:%d", f.Function, f.Line)
		}
		if !more {
			return text
		}
	}
}

// Replay plays one script and returns its trace; the error says which promise it broke.
func Replay(script string) (trace string, err error) {
	s, err := Parse(script)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	if o := outcomeOf(s, &b); o.failure != "" {
		return b.String(), errors.New(o.failure)
	}
	return b.String(), nil
}

// Shrink returns a schedule with fewer and shorter faults that still fails; s itself if it does not
// fail, or cannot be made smaller.
func Shrink(s Schedule) Schedule {
	fails := func(t Schedule) bool { return outcomeOf(t, nil).failure != "" }
	if !fails(s) {
		return s
	}
	for smaller := true; smaller; {
		smaller = false
		for i := 0; i < len(s.Faults); i++ {
			t := s
			t.Faults = append(append([]Fault(nil), s.Faults[:i]...), s.Faults[i+1:]...)
			if fails(t) {
				s, smaller = t, true
				i--
			}
		}
		for _, t := range simpler(s) {
			if fails(t) {
				s, smaller = t, true
				break
			}
		}
	}
	return s
}

// simpler are a few variants of a schedule that are easier to read.
func simpler(s Schedule) []Schedule {
	var all []Schedule
	if s.Proxies > 1 {
		t := s
		t.Proxies = 1
		all = append(all, t)
	}
	if s.Clients > 1 {
		t := s
		t.Clients = 1
		all = append(all, t)
	}
	for i, f := range s.Faults {
		if f.For > 20*ms {
			t := s
			t.Faults = append([]Fault(nil), s.Faults...)
			t.Faults[i].For = f.For / 2
			all = append(all, t)
		}
	}
	return all
}
