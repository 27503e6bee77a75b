package drill

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"understudy/history"
)

// mix is the shape of a workload: how often, out of all steps of a kind, each thing is done.
type mix struct {
	about                                        string
	session, catalogue, queue, counter, webhooks int // steps of the writers
	readSession, readCatalogue                   int // steps of the readers
}

var mixes = map[string]mix{
	"mixed": {
		about:   "sessions written and read back, a product catalogue that is mostly read, a queue, counters",
		session: 5, catalogue: 1, queue: 2, counter: 2, readSession: 3, readCatalogue: 7,
	},
	"webhooks":  {about: "webhooks stored once (SET NX) and queued, and a queue's consumers", webhooks: 1, readCatalogue: 1},
	"sessions":  {about: "sessions written and read back by the same and by another connection", session: 1, readSession: 1},
	"catalogue": {about: "a product catalogue that is mostly read", catalogue: 1, readCatalogue: 1},
	"queue":     {about: "a queue: LPUSH on one side, BRPOP on the other", queue: 1, readCatalogue: 1},
}

// Workloads lists the names of the workloads.
func Workloads() []string { return []string{"mixed", "webhooks", "sessions", "catalogue", "queue"} }

// consumers is how many of the writers take from the queue.
func (m mix) consumers(writers int) int {
	if m.queue+m.webhooks == 0 || writers < 2 {
		return 0
	}
	return max(1, writers/4)
}

// operationsOfStep is how many operations one step of a writer is.
func (m mix) operationsOfStep() int {
	if m.webhooks > 0 {
		return 2 // stored, then queued
	}
	return 1
}

// Sizes of the workload's data.
const (
	products      = 200
	counters      = 4
	sessionUses   = 4 // writes and reads of one session, then the visitor is gone
	sessionTTL    = 30 * time.Minute
	popWait       = time.Second // the shortest BRPOP that every server version knows
	payloadLength = 120         // bytes: a serialised cart, a product's price line
)

var payload = strings.Repeat("x", payloadLength)

// session is the visitor that a writer serves.
type session struct {
	number uint64
	uses   int
}

// sessionKey names a session: one writer has one session at a time, so that the versions of its
// value have one order.
func (l *lane) sessionKey(writer int, number uint64) string {
	return l.key("sess:%d:%d", writer, number)
}

// productKey names a product; product n is written by the n'th writer only.
func (l *lane) productKey(n int) string { return l.key("product:%d", n) }

// write is one step of a writer.
func (w *worker) write() {
	m := w.lane.workload
	n := w.rand.IntN(m.session + m.catalogue + m.queue + m.counter + m.webhooks)
	switch {
	case n < m.session:
		w.useSession()
	case n < m.session+m.catalogue:
		w.set(w.lane.productKey(w.ownProduct()))
	case n < m.session+m.catalogue+m.queue:
		w.push(w.nextValue())
	case n < m.session+m.catalogue+m.queue+m.counter:
		w.incr(w.lane.key("counter:%d", w.rand.IntN(counters)))
	default:
		w.takeWebhook()
	}
}

// read is one step of a reader. It reads at the endpoints for reads, and sessions also where they
// were written: "by another connection" is what a second web server does.
func (w *worker) read() {
	m := w.lane.workload
	where := whereReader
	if w.rand.IntN(2) == 0 {
		where = whereSplit
	}
	if w.rand.IntN(m.readSession+m.readCatalogue) >= m.readSession {
		w.get(where, w.lane.productKey(w.rand.IntN(products)))
		return
	}
	consumers := m.consumers(w.lane.writers)
	writer := consumers + w.rand.IntN(w.lane.writers-consumers)
	number := w.lane.sessions[writer].Load()
	if number == 0 {
		return // that writer has had no visitor yet
	}
	if where == whereReader {
		where = wherePrimary
	}
	w.get(where, w.lane.sessionKey(writer, number))
}

// useSession opens a session, or uses the open one. Most sessions get few writes: each acked write
// keeps a key of its own then, and a lost one cannot hide behind a later write.
func (w *worker) useSession() {
	s := &w.session
	if s.uses == 0 {
		s.number++
		s.uses = sessionUses
		w.set(w.lane.sessionKey(w.id, s.number))
		w.lane.sessions[w.id].Store(s.number)
		return
	}
	s.uses--
	key := w.lane.sessionKey(w.id, s.number)
	if w.rand.IntN(2) == 0 {
		w.set(key)
		return
	}
	w.get(wherePrimary, key)
}

// ownProduct picks a product that no other writer writes.
func (w *worker) ownProduct() int {
	consumers := w.lane.workload.consumers(w.lane.writers)
	writing, first := w.lane.writers-consumers, w.id-consumers
	mine := max(1, (products-first+writing-1)/writing)
	return first + writing*w.rand.IntN(mine)
}

// takeWebhook stores a delivery once and queues it. The id is new, so "already there" means that
// somebody sent the command twice.
func (w *worker) takeWebhook() {
	id := w.nextValue()
	key := w.lane.key("webhook:%s", id)
	o := history.Op{Kind: history.Set, Key: key, Value: id, Where: wherePrimary, Invoked: w.lane.clock()}
	fresh, err := w.client(wherePrimary).SetNX(background, key, pack(key, id), sessionTTL).Result()
	if err == nil && !fresh {
		err = errTwice
	}
	w.record(o, err)
	w.push(w.nextValue())
}

func (w *worker) set(key string) {
	v := w.nextValue()
	o := history.Op{Kind: history.Set, Key: key, Value: v, Where: wherePrimary, Invoked: w.lane.clock()}
	err := w.client(wherePrimary).Set(background, key, pack(key, v), sessionTTL).Err()
	w.record(o, err)
}

func (w *worker) get(where, key string) {
	o := history.Op{Kind: history.Get, Key: key, Where: where, Invoked: w.lane.clock()}
	reply, err := w.client(where).Get(background, key).Result()
	if err == nil {
		o.Result, err = unpack(key, reply)
	}
	w.record(o, err)
}

func (w *worker) push(id string) {
	key := w.lane.key("queue")
	o := history.Op{Kind: history.Push, Key: key, Value: id, Where: wherePrimary, Invoked: w.lane.clock()}
	var err error
	w.expiring(key, func(c redis.Cmdable) func() error {
		r := c.LPush(background, key, pack(key, id))
		return r.Err
	}, &err)
	w.record(o, err)
}

// expiring sends a command that makes a key. Where keys must not stay, whatever becomes of the drill, its TTL goes
// along in the same packet.
func (w *worker) expiring(key string, send func(redis.Cmdable) func() error, err *error) {
	c := w.client(wherePrimary)
	if !w.lane.expires {
		*err = send(c)()
		return
	}
	p := c.Pipeline()
	failed := send(p)
	p.Expire(background, key, sessionTTL)
	_, _ = p.Exec(background) // the command's own error counts
	*err = failed()
}

func (w *worker) incr(key string) {
	o := history.Op{Kind: history.Incr, Key: key, Where: wherePrimary, Invoked: w.lane.clock()}
	var err error
	w.expiring(key, func(c redis.Cmdable) func() error {
		r := c.Incr(background, key)
		return func() error {
			if r.Err() == nil {
				o.Result = strconv.FormatInt(r.Val(), 10)
			}
			return r.Err()
		}
	}, &err)
	w.record(o, err)
}

// consume takes from the queue until the load ends. After an error it waits a little, as every
// consumer's loop does.
func (w *worker) consume() {
	key := w.lane.key("queue")
	for {
		select {
		case <-w.lane.stop:
			return
		default:
		}
		o := history.Op{Kind: history.Pop, Key: key, Where: wherePrimary, Invoked: w.lane.clock()}
		reply, err := w.client(wherePrimary).BRPop(background, popWait, key).Result()
		if err == nil {
			o.Result, err = unpack(key, reply[1])
		}
		w.record(o, err)
		if err != nil && !errors.Is(err, redis.Nil) {
			select {
			case <-w.lane.stop:
				return
			case <-time.After(10 * time.Millisecond):
			}
		}
	}
}

// Failures that are no error reply.
var (
	errTwice   = errors.New("a new key was already there: the command was carried out twice")
	errForeign = errors.New("the reply belongs to another key")
)

// pack makes what is stored: the key is in it, so that a reply that reached the wrong client shows.
func pack(key, value string) string { return key + "|" + value + "|" + payload }

// unpack takes the value out. Errors: errForeign.
func unpack(key, stored string) (string, error) {
	rest, ok := strings.CutPrefix(stored, key+"|")
	value, _, whole := strings.Cut(rest, "|")
	if !ok || !whole {
		return "", errForeign
	}
	return value, nil
}

// classify says what an error means: to the judge (history's outcome), and to the client.
func classify(kind history.Kind, err error) (o history.Outcome, failure string, replied bool) {
	var reply redis.Error
	var dial *net.OpError
	switch {
	case err == nil || errors.Is(err, redis.Nil):
		return history.OK, "", false
	case errors.Is(err, errTwice), errors.Is(err, errForeign):
		return history.Unknown, err.Error(), true
	case errors.As(err, &reply):
		o = history.Error
		if code, _, _ := strings.Cut(reply.Error(), " "); code == unknownCode {
			o = history.Unknown
		}
		return o, reply.Error(), true
	case errors.As(err, &dial) && dial.Op == "dial":
		return history.Error, dialCause(dial), false
	case kind == history.Get:
		return history.Error, cause(err), false
	default:
		return history.Unknown, cause(err), false
	}
}

// unknownCode begins the reply that says: sent, its answer lost, not safe to repeat.
const unknownCode = "UNKNOWN"

// cause shortens a connection's error to what differs by kind: no ports in a table of errors.
func cause(err error) string {
	var op *net.OpError
	var timeout net.Error
	switch {
	case errors.As(err, &timeout) && timeout.Timeout():
		return fmt.Sprintf("no answer within %v", readTimeout)
	case errors.As(err, &op):
		return op.Err.Error()
	default:
		return err.Error()
	}
}

func dialCause(e *net.OpError) string {
	if e.Timeout() {
		return fmt.Sprintf("connect: no answer within %v", dialTimeout)
	}
	return e.Err.Error() // says "connect:" itself
}

// unknown reports whether the client was told that the outcome is not known.
func (e entry) unknown() bool {
	return e.Replied && strings.HasPrefix(e.Failure, unknownCode+" ")
}

// failed reports whether the client saw an error.
func (e entry) failed() bool { return e.Failure != "" && !e.unknown() }

// ackedWrite reports whether the client was told that its write was carried out. A BRPOP that found
// nothing wrote nothing.
func (e entry) ackedWrite() bool {
	return e.Outcome == history.OK && e.Kind.Writes() && (e.Kind != history.Pop || e.Result != "")
}

// catalogueKeys are written before the load begins: a shop has products before it has visitors.
func (l *lane) catalogueKeys() []string {
	if l.workload.catalogue+l.workload.readCatalogue == 0 {
		return nil
	}
	keys := make([]string, products)
	for n := range keys {
		keys[n] = l.productKey(n)
	}
	return keys
}

// keysOf returns the keys that the entries touched, by what they hold, sorted.
func keysOf(entries []entry) (registers, lists, counters []string) {
	seen := map[string]bool{}
	for _, e := range entries {
		if seen[e.Key] {
			continue
		}
		seen[e.Key] = true
		switch e.Kind {
		case history.Set, history.Get:
			registers = append(registers, e.Key)
		case history.Push, history.Pop:
			lists = append(lists, e.Key)
		case history.Incr:
			counters = append(counters, e.Key)
		}
	}
	for _, keys := range [][]string{registers, lists, counters} {
		slices.Sort(keys)
	}
	return registers, lists, counters
}
