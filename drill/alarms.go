package drill

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"understudy/alarm"
	"understudy/alarm/watch"
	"understudy/cluster"
)

// alarmsWithin bounds the wait for an alarm that must fire: it looks at each second, and the fault is over.
const alarmsWithin = 5 * time.Second

// alarmTeller is an instance that has alarms; *api is one of `understudy up`.
type alarmTeller interface {
	// alarms are those that there are; none when the instance has no alarms at all. Errors: ErrUnreachable.
	alarms(context.Context) ([]watch.Shown, error)
	// alarmHistory is newest first.
	alarmHistory(context.Context) ([]watch.Entry, error)
}

var _ alarmTeller = (*api)(nil)

func (a *api) alarms(ctx context.Context) ([]watch.Shown, error) {
	var l watch.Listed
	err := a.ask(ctx, watch.APIPath, &l)
	return l.Alarms, err
}

func (a *api) alarmHistory(ctx context.Context) ([]watch.Entry, error) {
	var t watch.Told
	err := a.ask(ctx, watch.APIPath+"/history", &t)
	return t.Entries, err
}

// ask reads a JSON answer; one that there is not leaves into as it is. Errors: ErrUnreachable.
func (a *api) ask(ctx context.Context, path string, into any) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	resp, err := a.do(ctx, http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxHistory)).Decode(into); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrUnreachable, path, err)
	}
	return nil
}

// maxHistory bounds what is read of the history of alarms: some 20,000 entries.
const maxHistory = 128 << 20

// noteAlarms remembers how the alarms stand before the fault.
func (r *run) noteAlarms(ctx context.Context) {
	t, ok := r.api.(alarmTeller)
	if !ok {
		return
	}
	all, err := t.alarms(ctx)
	if err != nil {
		r.o.Logger.Warn("the drill does not tell which alarms fire", "error", err)
		return
	}
	r.calm = map[string]bool{}
	for _, a := range all {
		r.calm[a.Name] = a.State != alarm.Alarm
	}
}

// mustFire is the alarm that this drill must have raised; "": none. One that stood in ALARM before the fault cannot fire.
func (r *run) mustFire(s cluster.Status) string {
	f := s.LastFailover
	name := alarm.OfGroup(r.before.Group, alarm.Failover)
	if f == nil || f.Epoch <= r.before.Epoch || f.Kind != cluster.KindFailover || !r.calm[name] {
		return ""
	}
	return name
}

// readAlarms tells which alarms have fired since the fault, and waits a little for the one that must have.
func (r *run) readAlarms(ctx context.Context, s cluster.Status) []Alarm {
	t, ok := r.api.(alarmTeller)
	if !ok || r.calm == nil {
		return []Alarm{}
	}
	must := r.mustFire(s)
	ctx, cancel := context.WithTimeout(ctx, alarmsWithin)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		entries, err := t.alarmHistory(ctx)
		fired := firedSince(entries, r.started.Add(time.Duration(r.faultAt.Load())))
		i := slices.IndexFunc(fired, func(a Alarm) bool { return a.Name == must })
		switch {
		case i >= 0:
			fired[i].Expected = true
			return fired
		case err == nil && must == "":
			return fired
		}
		select {
		case <-ctx.Done():
			return append(fired, Alarm{Name: must, Expected: true})
		case <-tick.C:
		}
	}
}

// firedSince are the alarms that went into ALARM after a time, in that order, each once. Delivered is when the topic of its action
// had its message.
func firedSince(entries []watch.Entry, since time.Time) []Alarm {
	fired := []Alarm{}
	for _, e := range slices.Backward(entries) {
		if e.At.Before(since) {
			continue
		}
		i := slices.IndexFunc(fired, func(a Alarm) bool { return a.Name == e.Alarm })
		switch {
		case i < 0 && e.Kind == watch.StateUpdate && strings.HasSuffix(e.Summary, " to "+string(alarm.Alarm)):
			fired = append(fired, Alarm{Name: e.Alarm, FiredMs: msPtr(e.At.Sub(since))})
		case i >= 0 && e.Kind == watch.Action && fired[i].DeliveredMs == nil && strings.HasPrefix(e.Summary, "Successfully executed action"):
			fired[i].DeliveredMs = msPtr(e.At.Sub(since))
		}
	}
	return fired
}

// When says when the alarm fired, and when its topic had been told.
func (a Alarm) When() string {
	switch {
	case a.FiredMs == nil:
		return "it should have fired, and did not"
	case a.DeliveredMs == nil:
		return "fired after " + formatMs(*a.FiredMs)
	}
	return "fired after " + formatMs(*a.FiredMs) + ", its topic had the message after " + formatMs(*a.DeliveredMs)
}

// silent are the alarms that must have fired, and did not.
func silent(all []Alarm) (names []string) {
	for _, a := range all {
		if a.Expected && a.FiredMs == nil {
			names = append(names, a.Name)
		}
	}
	return names
}
