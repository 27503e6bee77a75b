package dashboard

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"understudy/cluster"
)

const (
	// kept bounds the events that a new reader gets first: some dozens of failovers.
	kept = 512
	// behind bounds how many events may wait for one reader; a slower one is sent away and comes
	// back with Last-Event-ID.
	behind = 128
	// readers bounds the open streams.
	readers = 64
	// beat keeps proxies between us and the reader from closing a quiet stream.
	beat = 15 * time.Second
)

// numbered is an event with its place in this process's timeline.
type numbered struct {
	seq   uint64
	event cluster.Event
}

// ring holds the newest events and hands new ones to the open streams.
type ring struct {
	run string // names this process's timeline: numbers of another one mean nothing here

	mu      sync.Mutex
	last    uint64
	events  []numbered
	streams map[chan numbered]struct{}
	evicted int
}

func newRing() *ring {
	return &ring{run: strconv.FormatInt(time.Now().UnixNano(), 36), streams: map[chan numbered]struct{}{}}
}

// add never blocks: a reader that has fallen behind is sent away.
func (r *ring) add(e cluster.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last++
	n := numbered{r.last, e}
	if len(r.events) == kept {
		r.events = append(r.events[:0], r.events[1:]...)
	}
	r.events = append(r.events, n)
	for c := range r.streams {
		select {
		case c <- n:
		default:
			delete(r.streams, c)
			close(c)
			r.evicted++
		}
	}
}

// open returns the kept events after lastID, the channel of those to come, and the func that ends
// it. ok is false when there are too many streams.
func (r *ring) open(lastID string) (past []numbered, c chan numbered, end func(), ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.streams) >= readers {
		return nil, nil, nil, false
	}
	after := uint64(0)
	if run, seq, found := strings.Cut(lastID, "-"); found && run == r.run {
		after, _ = strconv.ParseUint(seq, 10, 64)
	}
	for _, n := range r.events {
		if n.seq > after {
			past = append(past, n)
		}
	}
	c = make(chan numbered, behind)
	r.streams[c] = struct{}{}
	return past, c, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.streams, c)
	}, true
}

func (r *ring) counts() (streams, evicted int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.streams), r.evicted
}

// serveEvents streams the timeline: first the kept events, then each new one.
func (d *Dashboard) serveEvents(w http.ResponseWriter, r *http.Request) {
	past, news, end, ok := d.events.open(r.Header.Get("Last-Event-ID"))
	if !ok {
		http.Error(w, fmt.Sprintf("%d streams of events are open already; close one", readers), http.StatusServiceUnavailable)
		return
	}
	defer end()
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	out := http.NewResponseController(w)
	for _, n := range past {
		if d.send(w, n) != nil {
			return
		}
	}
	tick := time.NewTicker(beat)
	defer tick.Stop()
	for out.Flush() == nil {
		select {
		case n, open := <-news:
			if !open || d.send(w, n) != nil {
				return
			}
		case <-tick.C:
			if _, err := fmt.Fprint(w, ": still here\n\n"); err != nil {
				return
			}
		case <-r.Context().Done():
			return
		}
	}
}

func (d *Dashboard) send(w http.ResponseWriter, n numbered) error {
	data, err := json.Marshal(n.event)
	if err != nil {
		d.log.Error("event cannot be shown", "event", n.event.Name, "error", err)
		return nil
	}
	_, err = fmt.Fprintf(w, "id: %s-%d\ndata: %s\n\n", d.events.run, n.seq, data)
	return err
}
