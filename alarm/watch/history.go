package watch

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"understudy/cluster"
	"understudy/shelf"
)

// How much history there is. AWS keeps two weeks; the counts bound what an alarm that flaps each second costs.
const (
	keepHistory   = 14 * 24 * time.Hour
	mostOfAlarm   = 500
	mostOfAll     = 20_000
	pruneEvery    = time.Hour
	pruneOvershot = 50 // entries above mostOfAlarm that are waited for, so that not each entry costs a deletion
)

// history is what happened to alarms, those included that are gone.
type history struct {
	kept *shelf.Shelf[Entry]

	mu      sync.Mutex
	byAlarm map[string][]Entry // newest first
	all     int
}

func newHistory(store cluster.Store) *history {
	return &history{kept: shelf.New[Entry](store, prefix+"history/"), byAlarm: map[string][]Entry{}}
}

func (h *history) load(ctx context.Context) error {
	if err := h.kept.Load(ctx); err != nil {
		return err
	}
	for _, e := range h.kept.All() {
		h.insert(e)
	}
	return nil
}

// add keeps an entry. One that is there already was added before a crash, or by another who tells of the alarm.
func (h *history) add(ctx context.Context, e Entry) error {
	err := h.kept.Add(ctx, e.Key, e)
	if errors.Is(err, shelf.ErrThere) {
		return nil
	}
	if err != nil {
		return err
	}
	h.insert(e)
	for _, old := range h.surplus(e.Alarm, mostOfAlarm, pruneOvershot) {
		if err := h.remove(ctx, old); err != nil {
			return nil // the entry itself is there; what is left goes with the next
		}
	}
	return nil
}

func (h *history) insert(e Entry) {
	h.mu.Lock()
	defer h.mu.Unlock()
	list := h.byAlarm[e.Alarm]
	i, _ := slices.BinarySearchFunc(list, e, func(a, b Entry) int { return -compare(a, b) })
	h.byAlarm[e.Alarm] = slices.Insert(list, i, e)
	h.all++
}

func compare(a, b Entry) int {
	switch {
	case a.Key < b.Key:
		return -1
	case a.Key > b.Key:
		return 1
	}
	return 0
}

// surplus are an alarm's oldest entries above most, when there are more than slack of them.
func (h *history) surplus(name string, most, slack int) []Entry {
	h.mu.Lock()
	defer h.mu.Unlock()
	if list := h.byAlarm[name]; len(list) > most+slack {
		return slices.Clone(list[most:])
	}
	return nil
}

func (h *history) remove(ctx context.Context, e Entry) error {
	if err := h.kept.Remove(ctx, e.Key); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	before := len(h.byAlarm[e.Alarm])
	list := slices.DeleteFunc(h.byAlarm[e.Alarm], func(x Entry) bool { return x.Key == e.Key })
	h.all -= before - len(list)
	h.byAlarm[e.Alarm] = list
	if len(list) == 0 {
		delete(h.byAlarm, e.Alarm)
	}
	return nil
}

// of is an alarm's history, newest first.
func (h *history) of(name string) []Entry {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.byAlarm[name])
}

// list is the history of all alarms, newest first.
func (h *history) list() []Entry {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := make([]Entry, 0, h.all)
	for _, list := range h.byAlarm {
		all = append(all, list...)
	}
	slices.SortFunc(all, func(a, b Entry) int { return -compare(a, b) })
	return all
}

// prune forgets what is too old, and the oldest of too many.
func (h *history) prune(ctx context.Context, now time.Time) {
	all := h.list()
	for i, e := range all {
		if i < mostOfAll && now.Sub(e.At) <= keepHistory {
			continue
		}
		if h.remove(ctx, e) != nil {
			return // what is left goes with the next
		}
	}
}

// History is what happened to an alarm, or to all ("") in the last two weeks, newest first. Alarms that are gone have theirs.
func (w *Watch) History(name string) []Entry {
	if name != "" {
		return w.history.of(name)
	}
	return w.history.list()
}
