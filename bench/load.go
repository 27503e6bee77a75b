package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"understudy/history"
)

// valueSize is the size of every value in bytes: a small session.
const valueSize = 100

// load is writers that write unique values as fast as they are answered, through one client, as an
// application does, and keep a ledger.
type load struct {
	client  *redis.Client
	began   time.Time
	stop    chan struct{}
	writing sync.WaitGroup
	writers []*writer
	lastAck atomic.Int64    // when, in ns since began
	fault   time.Duration   // when it came; 0: it did not
	ended   time.Duration   // when the load ended
	acks    []time.Duration // when writes were acked, in order; once judged
}

// writer is one of them.
type writer struct {
	load    *load
	id      int
	log     history.Log
	errors  int // operations that failed in spite of the client's own retries
	unknown int // of these: neither refused nor unable to connect, at the last attempt
	example error
}

func startLoad(ctx context.Context, c *redis.Client, writers int) *load {
	l := &load{client: c, began: time.Now(), stop: make(chan struct{})}
	for i := range writers {
		w := &writer{load: l, id: i}
		w.log.Ops = make([]history.Op, 0, 100_000) // a log that grows copies itself, and that shows as a gap
		l.writers = append(l.writers, w)
		l.writing.Go(func() { w.run(ctx) })
	}
	return l
}

func (l *load) now() time.Duration { return time.Since(l.began) }

// sinceAck is how long ago the newest write was acked.
func (l *load) sinceAck() time.Duration { return l.now() - time.Duration(l.lastAck.Load()) }

// end stops the writers. Each ends the operation that it is in, which the client's timeouts bound.
func (l *load) end() {
	l.ended = l.now()
	close(l.stop)
	l.writing.Wait()
}

func (w *writer) run(ctx context.Context) {
	l := w.load
	padding := strings.Repeat("x", valueSize)
	for n := 0; ctx.Err() == nil; n++ {
		select {
		case <-l.stop:
			return
		default:
		}
		key := fmt.Sprintf("w:%d:%d", w.id, n)
		op := history.Op{Client: w.id, ID: uint64(n*len(l.writers) + w.id + 1), Kind: history.Set, Key: key, Value: (key + padding)[:valueSize], Where: "primary"}
		op.Invoked = l.now()
		err := l.client.Set(ctx, op.Key, op.Value, 0).Err()
		op.Returned = l.now()
		op.Outcome = history.OK
		if err == nil {
			l.lastAck.Store(int64(op.Returned))
		} else {
			// The client may have sent it more than once: whatever the last attempt met, an earlier
			// one may have been carried out.
			op.Outcome = history.Unknown
			w.failed(err)
		}
		w.log.Add(op)
	}
}

func (w *writer) failed(err error) {
	w.errors++
	if w.example == nil {
		w.example = err
	}
	var reply redis.Error
	var network *net.OpError
	switch {
	case errors.As(err, &reply) && !strings.HasPrefix(reply.Error(), "UNKNOWN"):
	case errors.As(err, &network) && network.Op == "dial":
	default:
		w.unknown++
	}
}

// judged is what one fault did to the writers.
type judged struct {
	Acked int `json:"acked"`
	Lost  int `json:"lost"`
	// LostBytes is what the lost writes take in the log.
	LostBytes int64   `json:"lost_bytes"`
	Errors    int     `json:"errors"`
	Unknown   int     `json:"unknown"`
	GapMs     float64 `json:"gap_ms"`   // the longest time without an acked write, from the fault on
	QuietMs   float64 `json:"quiet_ms"` // the same before the fault: what the machine does by itself
	Error     string  `json:"error,omitempty"`
}

// judge compares the ledger with the data that a client of the primary of now sees. The load must have
// ended.
func (l *load) judge(ctx context.Context, survivor *redis.Client) (judged, error) {
	var all history.Log
	var j judged
	for _, w := range l.writers {
		all.Join(&w.log)
		j.Errors += w.errors
		j.Unknown += w.unknown
		if w.example != nil {
			j.Error = w.example.Error()
		}
	}
	l.acks = acksOf(all.Ops)
	j.QuietMs = quiet(all.Ops, l.fault)
	_, j.GapMs = longestGap(l.acks, l.fault, l.ended)
	data, err := stored(ctx, survivor, all.Ops)
	if err != nil {
		return j, err
	}
	v := history.Check(&all, data)
	j.Acked, j.Lost, j.LostBytes = v.Acked, v.Lost, lostBytes(all.Ops, data)
	if v.Duplicated+v.Phantoms > 0 {
		return j, fmt.Errorf("the ledger does not fit the data: %v", v.Examples)
	}
	return j, nil
}

// quiet is the longest time without an acked write before the fault, in ms.
func quiet(ops []history.Op, fault time.Duration) float64 {
	var early []history.Op
	for _, o := range ops {
		if o.Returned < fault && o.Invoked > warmUp/5 { // the first ones open connections
			early = append(early, o)
		}
	}
	gap, _ := history.Gaps(early)
	return ms(gap)
}

// acksOf is when writes were acked, in order.
func acksOf(ops []history.Op) []time.Duration {
	var at []time.Duration
	for _, o := range ops {
		if o.Outcome == history.OK && o.Kind.Writes() {
			at = append(at, o.Returned)
		}
	}
	slices.Sort(at)
	return at
}

// stored reads the keys that were written.
func stored(ctx context.Context, c *redis.Client, ops []history.Op) (history.Data, error) {
	const batch = 1000
	d := history.Data{Registers: make(map[string]string, len(ops))}
	for len(ops) > 0 {
		some := ops[:min(batch, len(ops))]
		ops = ops[len(some):]
		keys := make([]string, len(some))
		for i, o := range some {
			keys[i] = o.Key
		}
		values, err := c.MGet(ctx, keys...).Result()
		if err != nil {
			return d, fmt.Errorf("read back what was written: %w", err)
		}
		for i, v := range values {
			if text, ok := v.(string); ok {
				d.Registers[keys[i]] = text
			}
		}
	}
	return d, nil
}

// direct is a client of one server, without retries.
func direct(addr string) *redis.Client {
	return redis.NewClient(&redis.Options{Addr: addr, MaxRetries: -1, DialerRetries: 1, MaintNotificationsConfig: noHints})
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
