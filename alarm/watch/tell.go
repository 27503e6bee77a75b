package watch

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"
)

// tellAgain is how long after a failure it is tried again: doubled each time, up to the longest.
const (
	tellAgain        = 100 * time.Millisecond
	tellAgainLongest = 5 * time.Second
	publishWithin    = 3 * time.Second
)

// tell has the rest of the world learn what is untold of an alarm.
func (w *Watch) tell(a Alarm) {
	if len(a.Untold) == 0 {
		return
	}
	w.mu.Lock()
	w.untold[a.Name] = true
	w.mu.Unlock()
	select {
	case w.news <- struct{}{}:
	default:
	}
}

// tellAll tells until ctx ends. An alarm whose topic cannot be reached does not keep the others waiting.
func (w *Watch) tellAll(ctx context.Context) {
	pause := tellAgain
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.news:
		}
		w.mu.Lock()
		names := slices.Sorted(maps.Keys(w.untold))
		clear(w.untold)
		w.mu.Unlock()
		left := false
		for _, name := range names {
			if err := w.tellOne(ctx, name); err != nil {
				left = true
				if ctx.Err() != nil {
					return
				}
				w.log.Warn("an alarm's actions are not carried out yet", "alarm", name, "error", err)
			}
		}
		if !left {
			pause = tellAgain
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		pause = min(2*pause, tellAgainLongest)
	}
}

// tellOne tells all that is untold of an alarm, in its order, and then takes it from its record. What was told and could
// not be taken away is told again, with the same IDs and keys.
func (w *Watch) tellOne(ctx context.Context, name string) error {
	a, ok := w.alarms.Get(name)
	if !ok {
		return nil
	}
	told := 0
	var failed error
	for _, u := range a.Untold {
		e := u.Entry
		if u.Post != nil {
			failure, err := w.publish(ctx, *u.Post, e.At)
			if err != nil {
				failed = err
				break
			}
			e.At = w.opts.Now()
			e.Summary, e.Data = actionTexts(*u.Post, u.Entry.At, failure)
		}
		if failed = w.history.add(ctx, e); failed != nil {
			break
		}
		told++
	}
	if told > 0 {
		a, err := w.alarms.Change(ctx, name, func(now *Alarm) error {
			now.Untold = slices.DeleteFunc(now.Untold, func(u Untold) bool {
				return slices.ContainsFunc(a.Untold[:told], func(x Untold) bool { return x.Entry.Key == u.Entry.Key })
			})
			return nil
		})
		if err != nil && !errors.Is(err, ErrNone) {
			failed = errors.Join(failed, err)
		}
		if err == nil && failed == nil {
			w.tell(a) // what came meanwhile
		}
	}
	if failed != nil {
		w.tell(a)
	}
	return failed
}

// publish has a topic take a message. failure is why it never will.
func (w *Watch) publish(ctx context.Context, p Post, since time.Time) (failure string, err error) {
	ctx, cancel := context.WithTimeout(ctx, publishWithin)
	defer cancel()
	err = w.opts.Publish(ctx, p)
	switch {
	case err == nil:
		w.metrics.actions.WithLabelValues("taken").Inc()
		w.metrics.late.Observe(w.opts.Now().Sub(since).Seconds())
		return "", nil
	case errors.Is(err, ErrRefused):
		w.metrics.actions.WithLabelValues("refused").Inc()
		w.log.Warn("an alarm's action failed", "topic", p.Topic, "error", err)
		return valid(err.Error()), nil
	}
	w.metrics.actions.WithLabelValues("retried").Inc()
	return "", err
}
