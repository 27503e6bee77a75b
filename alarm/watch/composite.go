package watch

import (
	"context"
	"strings"
	"time"

	"understudy/alarm"
)

// weigh evaluates a composite alarm because of cause: one that it depends on, or its suppressor, went into another
// state, or it was put.
func (w *Watch) weigh(ctx context.Context, name string, cause alarm.Cause) error {
	a, ok := w.alarms.Get(name)
	k := w.known[name]
	if !ok || k == nil || k.expression == nil {
		return nil
	}
	var children []alarm.Child
	for _, child := range k.expression.Children() {
		if c, ok := w.alarms.Get(child); ok {
			children = append(children, alarm.Child{Name: child, ARN: w.place.arn(child), State: c.State, Since: c.Since})
		}
	}
	if d := k.expression.Evaluate(a.State, children, cause); d.Changed {
		return w.move(ctx, name, d)
	}
	return w.step(ctx, a, w.opts.Now())
}

// step moves a composite alarm's suppression on, because time has passed or its suppressor has changed.
func (w *Watch) step(ctx context.Context, a Alarm, now time.Time) error {
	if a.Composite.Suppressor == nil {
		return nil
	}
	trial := a
	trial.Untold = nil
	w.suppress(&trial, now)
	if trial.Suppression == a.Suppression && len(trial.Untold) == 0 {
		return nil
	}
	a, err := w.alarms.Change(ctx, a.Name, func(a *Alarm) error {
		w.suppress(a, now)
		return nil
	})
	if err != nil {
		return err
	}
	w.tell(a)
	return nil
}

// suppress carries the actions of an alarm's state out, or keeps them back, as its suppressor wants it.
func (w *Watch) suppress(a *Alarm, now time.Time) {
	s := *a.Composite.Suppressor
	by, ok := w.alarms.Get(alarm.NameOf(s.Alarm))
	next, act := s.Step(a.Suppression, a.State, ok && by.State == alarm.Alarm, now)
	if next.By != a.Suppression.By {
		a.SuppressionSince = now
	}
	a.Suppression = next
	if act {
		a.act(w.place, w.told(*a), now)
	}
	w.plan.drop(a.Name)
	if !next.Until.IsZero() {
		w.plan.at(a.Name, next.Until)
	}
}

// told is the state that a message tells as the old one: that before the newest change in the history, or in what is
// to be told.
func (w *Watch) told(a Alarm) alarm.State {
	for i := len(a.Untold) - 1; i >= 0; i-- {
		if old, ok := oldState(a.Untold[i].Entry); ok {
			return old
		}
	}
	for _, e := range w.history.of(a.Name) {
		if old, ok := oldState(e); ok {
			return old
		}
	}
	return alarm.InsufficientData
}

// oldState reads an entry of a change.
func oldState(e Entry) (alarm.State, bool) {
	rest, ok := strings.CutPrefix(e.Summary, "Alarm updated from ")
	if !ok || e.Kind != StateUpdate {
		return "", false
	}
	old, _, ok := strings.Cut(rest, " to ")
	return alarm.State(old), ok
}
