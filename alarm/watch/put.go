package watch

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"understudy/alarm"
)

// Limits of an account and of one alarm: CloudWatch's, but for MostAlarms, which bounds memory and the store.
const (
	MostAlarms   = 20_000
	MostActions  = 5 // of one state
	mostChildren = 100
)

// Put makes an alarm, or replaces all that was put of it but its tags and its state; earlier data count. Name,
// Description, Rule or Composite, Muted and Actions of a are taken, and the tags where the alarm is new. Errors: an
// alarm.Invalid, ErrFull, ErrStopped, the store's.
func (w *Watch) Put(ctx context.Context, a Alarm) error {
	return w.do(ctx, func(ctx context.Context) error {
		if err := w.check(a); err != nil {
			return err
		}
		before, there := w.alarms.Get(a.Name)
		if there && (before.Rule == nil) != (a.Rule == nil) {
			return alarm.Invalid(fmt.Sprintf("An alarm of another type has the name %s already; delete it first.", a.Name))
		}
		if !there {
			if err := w.add(ctx, a); err != nil {
				return err
			}
		} else if err := w.replace(ctx, a); err != nil {
			return err
		}
		a, _ = w.alarms.Get(a.Name)
		w.learn(a)
		w.tell(a)
		if a.Rule != nil {
			w.plan.at(a.Name, w.opts.Now())
			return nil
		}
		return w.weigh(ctx, a.Name, alarm.Cause{ARN: w.place.arn(a.Name), Created: !there})
	})
}

func (w *Watch) add(ctx context.Context, a Alarm) error {
	if n := len(w.alarms.Names()); n >= MostAlarms {
		return fmt.Errorf("there are %d alarms: %w", n, ErrFull)
	}
	now := w.opts.Now()
	a.Configured, a.Since, a.Updated = now, now, now
	a.State, a.Reason, a.Data, a.Evaluation, a.Entries, a.Untold = alarm.InsufficientData, alarm.Initial, "", "", 0, nil
	a.Suppression = alarm.Suppression{}
	if a.Composite != nil && a.Composite.Suppressor != nil {
		a.Suppression.Seen = a.State
	}
	a.note(Configuration, now, fmt.Sprintf("Alarm %q created", a.Name), w.place.configurationData(nil, &a))
	return w.alarms.Add(ctx, a.Name, a)
}

func (w *Watch) replace(ctx context.Context, next Alarm) error {
	now := w.opts.Now()
	_, err := w.alarms.Change(ctx, next.Name, func(a *Alarm) error {
		before := *a
		a.Description, a.Rule, a.Composite, a.Muted, a.Actions, a.Configured = next.Description, next.Rule, next.Composite, next.Muted, next.Actions, now
		a.Suppression = suppressionAfter(before, *a)
		a.note(Configuration, now, fmt.Sprintf("Alarm %q updated", a.Name), w.place.configurationData(&before, a))
		return nil
	})
	return err
}

// suppressionAfter is where an alarm stands whose suppressor may be another one now: AWS drops the periods then.
func suppressionAfter(before, after Alarm) alarm.Suppression {
	s := func(a Alarm) *alarm.Suppressor {
		if a.Composite == nil {
			return nil
		}
		return a.Composite.Suppressor
	}
	was, is := s(before), s(after)
	switch {
	case is == nil:
		return alarm.Suppression{}
	case was == nil:
		return alarm.Suppression{Seen: after.State}
	case *was == *is:
		return before.Suppression
	}
	return alarm.Suppression{Seen: before.Suppression.Seen, Pending: before.Suppression.Pending}
}

// check refuses what cannot be an alarm.
func (w *Watch) check(a Alarm) error {
	for _, s := range []alarm.State{alarm.OK, alarm.Alarm, alarm.InsufficientData} {
		if n := len(a.Actions.Of(s)); n > MostActions {
			return alarm.Invalid(fmt.Sprintf("An alarm has at most %d actions for one state, not %d.", MostActions, n))
		}
	}
	if a.Composite == nil {
		if err := a.Rule.Validate(); err != nil {
			return err
		}
		if len(a.Rule.Queries) == 0 {
			return nil
		}
		if _, err := compile(*a.Rule); err != nil {
			return alarm.Invalid(err.Error())
		}
		return nil
	}
	e, err := alarm.Parse(a.Composite.Rule)
	if err != nil {
		return alarm.Invalid(err.Error())
	}
	if n := len(e.Children()); n > mostChildren {
		return alarm.Invalid(fmt.Sprintf("An AlarmRule names at most %d alarms, not %d.", mostChildren, n))
	}
	return w.checkParts(a, a.depends(e))
}

// checkParts refuses a composite alarm whose parts are not there, or depend on it.
func (w *Watch) checkParts(a Alarm, parts []string) error {
	for _, part := range parts {
		if _, ok := w.alarms.Get(part); !ok && part != a.Name {
			return alarm.Invalid(fmt.Sprintf("The alarm %s, which %s depends on, does not exist.", part, a.Name))
		}
	}
	cycle := alarm.Cycle(a.Name, func(name string) []string {
		if name == a.Name {
			return parts
		}
		x, ok := w.alarms.Get(name)
		if k := w.known[name]; ok && k != nil && k.expression != nil {
			return x.depends(k.expression)
		}
		return nil
	})
	if cycle != nil {
		return alarm.Invalid("An alarm cannot depend on itself: " + strings.Join(cycle, " -> ") + ".")
	}
	return nil
}

// Delete takes alarms away, all or none of them; names that there are not are let pass. Their history stays. An alarm
// that a composite alarm depends on stays, unless that one goes with it. Errors: an alarm.Invalid, ErrStopped, the
// store's; after one of the store's some may be gone.
func (w *Watch) Delete(ctx context.Context, names []string) error {
	// What is due anyway is told before, so that a topic that cannot be reached does not keep Run's goroutine waiting.
	for _, name := range names {
		if err := w.tellOne(ctx, name); err != nil {
			return err
		}
	}
	return w.do(ctx, func(ctx context.Context) error {
		for _, name := range names {
			for _, parent := range slices.Sorted(maps.Keys(w.parents[name])) {
				if !slices.Contains(names, parent) {
					return alarm.Invalid(fmt.Sprintf("Cannot delete %s as there are composite alarm(s) depending on it: %s.", name, parent))
				}
			}
		}
		for _, name := range names {
			if err := w.remove(ctx, name); err != nil {
				return err
			}
		}
		return nil
	})
}

// remove takes an alarm away, when it has told what has become untold since.
func (w *Watch) remove(ctx context.Context, name string) error {
	a, ok := w.alarms.Get(name)
	if !ok {
		return nil
	}
	if err := w.tellOne(ctx, name); err != nil {
		return err
	}
	now := w.opts.Now()
	e := a.entry(Configuration, now, fmt.Sprintf("Alarm %q deleted", name), w.place.configurationData(&a, nil))
	if err := w.history.add(ctx, e); err != nil {
		return err
	}
	if err := w.alarms.Remove(ctx, name); err != nil {
		return err
	}
	w.forget(name)
	return nil
}

// Enable has alarms carry out their actions again; names that there are not are let pass, as CloudWatch does.
func (w *Watch) Enable(ctx context.Context, names []string) error { return w.mute(ctx, names, false) }

// Disable keeps alarms from carrying out their actions; their states go on.
func (w *Watch) Disable(ctx context.Context, names []string) error { return w.mute(ctx, names, true) }

func (w *Watch) mute(ctx context.Context, names []string, muted bool) error {
	return w.do(ctx, func(ctx context.Context) error {
		for _, name := range names {
			if a, ok := w.alarms.Get(name); !ok || a.Muted == muted {
				continue
			}
			a, err := w.alarms.Change(ctx, name, func(a *Alarm) error {
				before := *a
				a.Muted, a.Configured = muted, w.opts.Now()
				a.note(Configuration, a.Configured, fmt.Sprintf("Alarm %q updated", name), w.place.configurationData(&before, a))
				return nil
			})
			if err != nil {
				return err
			}
			w.tell(a)
		}
		return nil
	})
}

// SetState puts an alarm into a state, with a reason and data (JSON, or "") of the caller's, and carries the state's actions out
// if it is another one. The next evaluation puts a metric alarm back. Errors: ErrNone, ErrStopped, the store's.
func (w *Watch) SetState(ctx context.Context, name string, s alarm.State, reason, data string) error {
	return w.do(ctx, func(ctx context.Context) error {
		a, ok := w.alarms.Get(name)
		if !ok {
			return fmt.Errorf("%s: %w", name, ErrNone)
		}
		if a.State == s {
			_, err := w.alarms.Change(ctx, name, func(a *Alarm) error { a.Reason, a.Data, a.Updated = reason, data, w.opts.Now(); return nil })
			return err
		}
		return w.move(ctx, name, alarm.Decision{State: s, Changed: true, Reason: reason, Data: data, Evaluation: a.Evaluation})
	})
}

// ChangeTags puts what f returns in place of an alarm's tags. Errors: ErrNone, f's, the store's.
func (w *Watch) ChangeTags(ctx context.Context, name string, f func(map[string]string) (map[string]string, error)) (map[string]string, error) {
	a, err := w.alarms.Change(ctx, name, func(a *Alarm) (err error) {
		a.Tags, err = f(a.Tags)
		return err
	})
	return a.Tags, err
}

// Test sends what an alarm's topics would be told if it went into ALARM now, and says in the reason that it is a test. The
// state stays. It returns the messages, each with the error of its topic. Errors: ErrNone.
func (w *Watch) Test(ctx context.Context, name string) ([]Tested, error) {
	a, ok := w.alarms.Get(name)
	if !ok {
		return nil, fmt.Errorf("%s: %w", name, ErrNone)
	}
	now := w.opts.Now()
	before := a.State
	a.State, a.Since = alarm.Alarm, now
	a.Reason, a.Data = "This is a test that an operator asked for: nothing is wrong. The alarm itself stays in "+string(before)+".", ""
	var all []Tested
	for _, topic := range a.Actions.Of(a.State) {
		t := Tested{Post: *w.place.post(a, before, topic, fmt.Sprintf("test-%d", now.UnixNano()))}
		failure, err := w.publish(ctx, t.Post, now)
		if err != nil {
			failure = err.Error()
		}
		t.Error = failure
		if w.opts.Confirmed != nil && failure == "" {
			if t.Subscribers, err = w.opts.Confirmed(ctx, topic); err != nil {
				return all, err
			}
		}
		all = append(all, t)
	}
	return all, nil
}

// Tested is a message of a test.
type Tested struct {
	Post
	Error       string `json:"error,omitempty"` // "": its topic took it
	Subscribers int    `json:"subscribers"`     // confirmed ones of the topic
}
