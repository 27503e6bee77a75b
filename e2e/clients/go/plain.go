package main

import (
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// client gives the libraries one face; each does its part in its own way.
type client interface {
	set(key, value string) error
	get(key string) (string, error)
	incr(key string) error
	push(key, value string) error
	pop(key string) (string, error) // "": nothing came within a second
	both(n string) error            // sets a value and adds a member in one transaction
	many(n string) (last string, err error)
	members(key string) ([]string, error)
	list(key string) ([]string, error)
	publish(channel, message string) error
	subscribe(channel string, hear func(string)) // listens until the process ends
	seen(key string) (string, error)             // get, from the client's own cache where the library has one
}

// plain is the work of all of them.
func plain(r *record, open func(endpoint string) client) {
	w := &work{record: r, primary: open("PRIMARY"), reader: open("READER"), split: open("SPLIT"), values: map[string]string{}}
	w.primary.subscribe(key+":news", func(m string) {
		n, _ := strconv.Atoi(m)
		w.heard.Store(int64(n))
	})
	n := 0
	for r.another() {
		n++
		w.round(n)
	}
	w.judge(n)
	r.finish()
}

type work struct {
	*record
	primary, reader, split client

	values                             map[string]string // acked
	members, pushed, popped            []int
	counted, maybeCounted, maybePopped int
	heard                              atomic.Int64
}

func (w *work) round(number int) {
	n := strconv.Itoa(number)
	at := key + ":value:" + strconv.Itoa(number%50)
	if w.op("SET", true, func() error { return w.primary.set(at, n) }) {
		w.values[at] = n
		w.expect("GET after SET", n, func() (string, error) { return w.primary.get(at) })
	}
	unknown := w.Unknown
	if w.op("INCR", false, func() error { return w.primary.incr(key + ":count") }) {
		w.counted++
	}
	w.maybeCounted += w.Unknown - unknown
	if w.op("LPUSH", false, func() error { return w.primary.push(key+":jobs", n) }) {
		w.pushed = append(w.pushed, number)
	}
	w.pop()
	if w.op("EXEC", false, func() error { return w.primary.both(n) }) {
		w.members = append(w.members, number)
	}
	w.expect("pipeline", n, func() (string, error) { return w.primary.many(n) })
	w.op("PUBLISH", true, func() error { return w.primary.publish(key+":news", n) })
	if w.op("SET on split", true, func() error { return w.split.set(key+":split", n) }) {
		w.expect("GET on split", n, func() (string, error) { return w.split.get(key + ":split") })
	}
	w.op("GET on reader", true, func() error { _, err := w.reader.get(at); return err }) // may be a moment behind
	w.op("cached GET", true, func() error { _, err := w.primary.seen(at); return err })
}

func (w *work) pop() {
	unknown := w.Unknown
	w.op("BRPOP", false, func() error {
		job, err := w.primary.pop(key + ":jobs")
		if job != "" {
			w.popped = append(w.popped, numbers([]string{job})...)
		}
		return err
	})
	w.maybePopped += w.Unknown - unknown
}

// expect runs a read and demands what it gives.
func (w *work) expect(what, value string, get func() (string, error)) {
	var got string
	if w.op(what, true, func() (err error) { got, err = get(); return err }) {
		w.check(got == value, "%s gave %q, not %q", what, got, value)
	}
}

func (w *work) judge(n int) {
	last := strconv.Itoa(n + 1)
	w.check(eventually(5*time.Second, func() bool {
		_ = w.primary.publish(key+":news", last) // a failure shows in what is heard
		return w.heard.Load() == int64(n+1)
	}), "the subscriber hears nothing any more")
	for at, v := range w.values {
		got := ""
		if w.op("GET", true, func() (err error) { got, err = w.primary.get(at); return err }) && got != v {
			w.Lost++
		}
		w.check(eventually(2*time.Second, func() bool { got, _ = w.primary.seen(at); return got == v }), "the cache keeps %s for %s, which is %s", got, at, v)
	}
	got := ""
	w.op("GET", true, func() (err error) { got, err = w.primary.get(key + ":count"); return err })
	count, _ := strconv.Atoi(got)
	w.Lost += max(0, w.counted-count)
	w.Doubled += max(0, count-w.counted-w.maybeCounted)
	var members, left []string
	w.op("SMEMBERS", true, func() (err error) { members, err = w.primary.members(key + ":seen"); return err })
	w.op("LRANGE", true, func() (err error) { left, err = w.primary.list(key + ":jobs"); return err })
	lost, _ := compare(w.members, numbers(members))
	gone, twice := compare(w.pushed, append(w.popped, numbers(left)...))
	w.Lost += lost + max(0, gone-w.maybePopped)
	w.Doubled += twice
}

// isNil tells "there is none" of each library.
func isNil(err error) bool {
	return err != nil && (strings.HasSuffix(err.Error(), "redis: nil") || strings.HasSuffix(err.Error(), "redis nil message") || strings.HasSuffix(err.Error(), "nil returned"))
}
