package watch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"understudy/alarm"
	"understudy/metric"
	"understudy/metricmath"
)

// readWithin bounds how long the points of one alarm are waited for; again is when one whose state could not be
// written is looked at once more.
const (
	readWithin = 2 * time.Second
	again      = time.Second
)

// look evaluates an alarm that is due.
func (w *Watch) look(ctx context.Context, name string) {
	a, ok := w.alarms.Get(name)
	if !ok {
		return
	}
	now := w.opts.Now()
	if a.Composite != nil {
		if err := w.step(ctx, a, now); err != nil {
			w.unwritten(ctx, name, err)
		}
		return
	}
	d := w.evaluate(ctx, a, now)
	w.plan.at(name, next(a, now))
	if !d.Changed && d.Evaluation == a.Evaluation {
		return
	}
	if err := w.move(ctx, name, d); err != nil {
		w.unwritten(ctx, name, err)
	}
}

// unwritten looks at an alarm again soon: its state of before still counts.
func (w *Watch) unwritten(ctx context.Context, name string, err error) {
	if ctx.Err() == nil && !errors.Is(err, ErrNone) {
		w.log.Error("an alarm's state could not be written: it is evaluated again", "alarm", name, "error", err)
		w.plan.at(name, w.opts.Now().Add(again))
	}
}

// evaluate decides a metric alarm's state from the points that there are.
func (w *Watch) evaluate(ctx context.Context, a Alarm, now time.Time) alarm.Decision {
	k := w.known[a.Name]
	points, err := w.points(ctx, *a.Rule, k, now)
	var rule *ruleError
	switch {
	case errors.As(err, &rule):
		w.sayFailed(a, k, err)
		return alarm.Unevaluated(a.State, alarm.EvaluationError, rule.Error())
	case err != nil:
		w.sayFailed(a, k, err)
		return alarm.Unevaluated(a.State, alarm.EvaluationFailure, "The metric's data could not be read: "+err.Error())
	}
	k.failed = false
	w.metrics.evaluations.WithLabelValues("done").Inc()
	return alarm.Evaluate(*a.Rule, a.State, points, now)
}

// sayFailed logs once that an alarm cannot be evaluated.
func (w *Watch) sayFailed(a Alarm, k *known, err error) {
	w.metrics.evaluations.WithLabelValues("failed").Inc()
	if !k.failed {
		w.log.Error("an alarm cannot be evaluated: it keeps its state", "alarm", a.Name, "state", string(a.State), "error", err)
	}
	k.failed = true
}

// ruleError is a fault of the alarm's own rule.
type ruleError struct{ err error }

func (r *ruleError) Error() string { return r.err.Error() }

// points are what the rule compares.
func (w *Watch) points(ctx context.Context, r alarm.Rule, k *known, now time.Time) ([]metric.Point, error) {
	ctx, cancel := context.WithTimeout(ctx, readWithin)
	defer cancel()
	start, end := r.Range(now)
	q := metric.Query{ID: r.Metric, Stat: r.Stat, Unit: r.Unit, Period: r.Period, Start: start, End: end}
	if len(r.Queries) == 0 {
		return pointsOf(ctx, w.opts.Reader, q)
	}
	if k.math == nil {
		return nil, &ruleError{errors.New("the expression is none")}
	}
	return k.math.points(ctx, w.opts.Reader, r, q)
}

// pointsOf reads a metric: one point a period, also of data with several units.
func pointsOf(ctx context.Context, from metric.Reader, q metric.Query) ([]metric.Point, error) {
	all, err := from.Points(ctx, q)
	points, _ := metric.OneUnit(all)
	return points, err
}

// math is a rule's expression, understood.
type math struct {
	program *metricmath.Program
	returns string // the line that is compared
}

// compile reads the expressions of a rule. The error is PutMetricAlarm's.
func compile(r alarm.Rule) (*math, error) {
	m := &math{}
	var lines []metricmath.Line
	for _, q := range r.Queries {
		lines = append(lines, metricmath.Line{ID: q.ID, Expression: q.Expression, Period: q.Period})
		if q.Returns {
			m.returns = q.ID
		}
	}
	var err error
	if m.program, err = metricmath.Compile(lines); err != nil {
		return nil, err
	}
	return m, m.program.CheckAlarm(m.returns)
}

// points reads the metrics of the rule and computes what it compares.
func (m *math) points(ctx context.Context, from metric.Reader, r alarm.Rule, q metric.Query) ([]metric.Point, error) {
	series := map[string][]metric.Point{}
	for _, line := range r.Queries {
		if line.Expression != "" {
			continue
		}
		q.ID, q.Stat, q.Unit = line.Metric, line.Stat, line.Unit
		points, err := pointsOf(ctx, from, q)
		if err != nil {
			return nil, err
		}
		series[line.ID] = points
	}
	values, err := m.program.Run(series, q.Start, q.End)
	if err != nil {
		return nil, &ruleError{err}
	}
	v := values[m.returns]
	if len(v.Series) == 0 {
		return nil, nil
	}
	return v.Series[0].Points, nil
}

// move writes what an evaluation came to, and all that is to be told of it, in one.
func (w *Watch) move(ctx context.Context, name string, d alarm.Decision) error {
	now := w.opts.Now()
	var before alarm.State
	a, err := w.alarms.Change(ctx, name, func(a *Alarm) error {
		before = a.State
		a.Evaluation, a.Updated = d.Evaluation, now
		if d.Changed {
			w.enter(a, d, now)
		} else { // the reason says what is wrong with the evaluation, or why the state is right again
			a.Reason, a.Data = d.Reason, d.Data
		}
		return nil
	})
	if err != nil || !d.Changed {
		return err
	}
	w.changed(ctx, a, before)
	return nil
}

// enter puts an alarm into another state.
func (w *Watch) enter(a *Alarm, d alarm.Decision, now time.Time) {
	before := *a
	a.State, a.Reason, a.Data, a.Since, a.Updated = d.State, d.Reason, d.Data, now, now
	a.note(StateUpdate, now, fmt.Sprintf("Alarm updated from %s to %s", before.State, a.State), stateData(before, *a))
	if a.Composite == nil || a.Composite.Suppressor == nil {
		a.act(w.place, before.State, now)
		return
	}
	w.suppress(a, now)
}

// changed has told what an alarm's new state is, and looks at those that depend on it.
func (w *Watch) changed(ctx context.Context, a Alarm, before alarm.State) {
	w.metrics.changes.WithLabelValues(string(a.State)).Inc()
	level := slog.LevelDebug
	if a.State == alarm.Alarm || before == alarm.Alarm {
		level = slog.LevelInfo
	}
	w.log.Log(ctx, level, "alarm changed", "alarm", a.Name, "state", string(a.State), "reason", a.Reason)
	w.tell(a)
	for _, name := range slices.Sorted(maps.Keys(w.parents[a.Name])) {
		if err := w.weigh(ctx, name, alarm.Cause{Child: a.Name}); err != nil {
			w.unwritten(ctx, name, err)
		}
	}
}
