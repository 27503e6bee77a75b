package main

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"understudy/cluster"
)

// timeline keeps a group's events, as GET /api/events tells them, until they are taken.
type timeline struct {
	end  context.CancelFunc
	done chan struct{}

	mu     sync.Mutex
	events []cluster.Event
}

// remembered bounds what is kept: hundreds of changes of primary.
const remembered = 10_000

func follow(addr string) *timeline {
	ctx, cancel := context.WithCancel(context.Background())
	t := &timeline{end: cancel, done: make(chan struct{})}
	go func() {
		defer close(t.done)
		t.read(ctx, "http://"+addr+"/api/events")
	}()
	return t
}

func (t *timeline) stop() {
	if t != nil {
		t.end()
		<-t.done
	}
}

// read follows the stream until it ends: with the group, or because it is stopped.
func (t *timeline) read(ctx context.Context, url string) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return // what was not told is shown as not measured
	}
	defer res.Body.Close()
	for lines := bufio.NewScanner(res.Body); lines.Scan(); {
		data, found := strings.CutPrefix(lines.Text(), "data: ")
		var e cluster.Event
		if !found || json.Unmarshal([]byte(data), &e) != nil {
			continue
		}
		t.mu.Lock()
		t.events = append(t.events[max(0, len(t.events)-remembered):], e)
		t.mu.Unlock()
	}
}

// take returns the events since a moment, by their own time, in its order, and forgets all.
func (t *timeline) take(since time.Time) []cluster.Event {
	t.mu.Lock()
	defer t.mu.Unlock()
	some := slices.DeleteFunc(t.events, func(e cluster.Event) bool { return e.Time.Before(since) })
	t.events = nil
	slices.SortStableFunc(some, func(a, b cluster.Event) int { return a.Time.Compare(b.Time) })
	return some
}
