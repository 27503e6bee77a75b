package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"understudy/cluster"
)

// step is one part of the time between a fault and the first write that is acked after it.
type step struct{ name, about string }

// steps are those of a failover, in their order. Each ends with an event of the group, the last one at
// the clients.
var steps = []step{
	{"detect", "until the agent sees that its redis-server is gone, or takes it for hung"},
	{"release", "until the other agents know that the lead is vacant: fence, one write to the store, news of it"},
	{"elect", "until one has claimed it: drain and revoke, ask one another, one write to the store"},
	{"promote", "until the new primary has a permit: REPLICAOF NO ONE, one write to the store"},
	{"follow", "until a replica has the new primary's stream: before that no write can be acked in sync"},
	{"ack", "until a client has the first OK: the proxy goes on, one write, one commit"},
}

// plannedSteps are those of a switchover, from when it is begun: the command that asks for it is not part
// of what clients wait for.
var plannedSteps = []step{
	{"pause", "until writes are paused and the successor has every byte"},
	{"move", "until the successor has the lead: the old primary is demoted, one write to the store, news of it"},
	{"promote", "until it is promoted"},
	{"route", "until it has a permit: one write to the store"},
	{"follow", "as above"},
	{"ack", "as above"},
}

func stepsOf(fault string) []step {
	if fault == "switchover" {
		return plannedSteps
	}
	return steps
}

// course is how long each step of one failover took, in ms. A step that was over before the one before
// it counts 0.
type course map[string]float64

// courseOf finds the steps in the group's events. fault is when it was injected; the first of acks, which
// are times after began, that comes after the new primary serves ends the last step.
func courseOf(events []cluster.Event, fault, began time.Time, acks []time.Duration) (course, error) {
	ends := map[string]time.Time{}
	epoch := cluster.Epoch(0)
	for _, e := range events {
		name := map[string]string{
			"primary_lost": "detect", "primary_hung": "detect", "lead_vacant": "release", "claimed": "elect",
			"serving": "promote", "following": "follow",
		}[e.Name]
		if _, known := ends[name]; known || name == "" || name == "follow" && (epoch == 0 || e.Epoch != epoch) {
			continue
		}
		if name == "promote" {
			epoch = e.Epoch
		}
		ends[name] = e.Time
	}
	i, _ := slices.BinarySearch(acks, ends["promote"].Sub(began))
	if i == len(acks) {
		return nil, errors.New("no write was acked after the new primary served")
	}
	acked := began.Add(acks[i])
	ends["ack"] = acked
	c, at := course{}, fault
	for _, s := range steps {
		end, known := ends[s.name]
		if !known {
			return nil, fmt.Errorf("no event ends the step %q", s.name)
		}
		// Writes are acked as soon as a replica has the stream; its agent says so a moment later.
		if end.After(acked) {
			end = acked
		}
		c[s.name] = max(0, ms(end.Sub(at)))
		if end.After(at) {
			at = end
		}
	}
	return c, nil
}

// plannedCourseOf does the same for a switchover; what lies between its events is in the group's own
// phases.
func plannedCourseOf(events []cluster.Event, phases map[string]float64, began time.Time, acks []time.Duration) (course, error) {
	var started, serving, followed time.Time
	epoch := cluster.Epoch(0)
	for _, e := range events {
		switch {
		case e.Name == "switchover_started" && started.IsZero():
			started = e.Time
		case e.Name == "serving" && serving.IsZero():
			serving, epoch = e.Time, e.Epoch
		case e.Name == "following" && followed.IsZero() && epoch != 0 && e.Epoch == epoch:
			followed = e.Time
		}
	}
	i, _ := slices.BinarySearch(acks, serving.Sub(began))
	if started.IsZero() || serving.IsZero() || i == len(acks) {
		return nil, errors.New("the group has not told of the switchover, or nothing was acked after it")
	}
	acked := began.Add(acks[i])
	if followed.IsZero() || followed.After(acked) {
		followed = acked
	}
	c := course{"pause": phases["pause"], "promote": phases["promote"], "route": phases["route"],
		"follow": ms(followed.Sub(serving)), "ack": ms(acked.Sub(followed))}
	c["move"] = max(0, ms(serving.Sub(started))-c["pause"]-c["promote"]-c["route"])
	return c, nil
}

// total is the time from the fault to the first ack, in ms.
func (c course) total() float64 {
	sum := 0.0
	for _, v := range c {
		sum += v
	}
	return sum
}

// quantile is the value at q by nearest rank: p99 of 50 values is the largest.
func quantile(values []float64, q float64) float64 {
	if len(values) == 0 {
		return 0
	}
	v := slices.Sorted(slices.Values(values))
	return v[min(len(v)-1, max(0, int(q*float64(len(v))+0.999999)-1))]
}

// barWidth is how many characters the longest waterfall takes.
const barWidth = 48

// printWaterfall shows where the time of a kind of fault went, beside the floor where there is one.
func (r *report) printWaterfall(w io.Writer, fault string) {
	var courses []course
	for _, e := range r.eventsOf(fault, "understudy") {
		if e.Steps != nil {
			courses = append(courses, e.Steps)
		}
	}
	steps, from := stepsOf(fault), "fault"
	if fault == "switchover" {
		from = "begin"
	}
	fmt.Fprintf(w, "\nWATERFALL of a %s, as the clients' pause and the group's events tell it, ms, n = %d\n", fault, len(courses))
	if len(courses) == 0 {
		fmt.Fprintln(w, "not measured")
		return
	}
	of := func(name string) []float64 { return each(courses, func(c course) float64 { return c[name] }) }
	sum, floorSum := 0.0, 0.0
	for _, s := range steps {
		sum += quantile(of(s.name), 0.5)
	}
	t := table(w)
	fmt.Fprintln(t, "step\tp50\tp99\tfloor\tp50, one after the other")
	at := 0.0
	for _, s := range steps {
		p50 := quantile(of(s.name), 0.5)
		floor := r.Floor.of(fault, s.name)
		floorSum += floor
		fmt.Fprintf(t, "%s\t%.1f\t%.1f\t%s\t%s\n", s.name, p50, quantile(of(s.name), 0.99), r.Floor.cell(floor), bar(at, p50, sum))
		at += p50
	}
	totals := each(courses, course.total)
	fmt.Fprintf(t, "%s to first ack\t%.1f\t%.1f\t%s\t\n", from, quantile(totals, 0.5), quantile(totals, 0.99), r.Floor.cell(floorSum))
	_ = t.Flush()
	worst := slices.MaxFunc(courses, func(a, b course) int { return int(1000 * (a.total() - b.total())) })
	fmt.Fprintf(w, "the slowest of them:")
	for _, s := range steps {
		fmt.Fprintf(w, " %s %.1f", s.name, worst[s.name])
	}
	fmt.Fprintf(w, ": %.1f\n", worst.total())
}

// bar draws a step that begins at and lasts for some of a whole.
func bar(at, lasts, whole float64) string {
	from, to := int(at/whole*barWidth), int((at+lasts)/whole*barWidth)
	return strings.Repeat(" ", from) + "|" + strings.Repeat("#", to-from)
}

// explainSteps says what the steps are.
func explainSteps(w io.Writer, f *floor) {
	for _, s := range steps {
		fmt.Fprintf(w, "  %-8s %s\n", s.name, s.about)
	}
	fmt.Fprintln(w, "and of a switchover:")
	for _, s := range plannedSteps {
		fmt.Fprintf(w, "  %-8s %s\n", s.name, s.about)
	}
	if f != nil {
		fmt.Fprintf(w, "floor: what the same steps cost when they are done by hand, one at a time, without load and without any\n"+
			"decision in between; medians of %d, in this run: exit seen by the parent %.2f, a write to the store %.2f,\n"+
			"REPLICAOF to a port that refuses %.2f, REPLICAOF NO ONE %.2f, REPLICAOF until the link is up %.2f, SET and WAIT 1 %.2f.\n",
			f.Rounds, f.ExitMs, f.StoreMs, f.RevokeMs, f.PromoteMs, f.FollowMs, f.AckMs)
	}
}

// attribute fills in where the time of the group's event went.
func (g *group) attribute(_ context.Context, l *load, e *event) error {
	if err := g.lost(); err != nil {
		return err
	}
	began := l.began.Round(0) // the wall clock, which the group's events have too
	events := g.timeline.take(began.Add(l.fault))
	for _, seen := range events {
		if seen.Name == "serving" && e.Phases == nil {
			e.Phases = seen.Phases
		}
	}
	if e.Phases == nil {
		return errors.New("the group has not said that a primary serves")
	}
	var err error
	if e.Fault == "switchover" {
		e.Steps, err = plannedCourseOf(events, e.Phases, began, l.acks)
		return err
	}
	e.Steps, err = courseOf(events, began.Add(l.fault), began, l.acks)
	return err
}
