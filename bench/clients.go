package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"understudy/history"
)

// clients are an application at a steady pace: sessions that are written and read back, counters and
// lists. Each has one connection and no retries, so that whatever goes wrong shows, and keeps a history.
type clients struct {
	began   time.Time
	stop    chan struct{}
	running sync.WaitGroup
	all     []*client
	acked   atomic.Int64
}

type client struct {
	of      *clients
	id      int
	redis   *redis.Client
	seq     uint64
	log     history.Log
	errors  []string // all but -UNKNOWN
	unknown int      // answered with -UNKNOWN
}

const (
	pace     = 2 * time.Millisecond // of each client: about 3,000 operations a second together leave a core to the group
	counters = 4
)

// startClients begins a leg: keys are named after it, and no value comes twice.
func startClients(ctx context.Context, addr string, leg int) *clients {
	cs := &clients{began: time.Now(), stop: make(chan struct{})}
	steps := []func(*client, context.Context, string){(*client).session, (*client).session, (*client).session, (*client).count, (*client).count, (*client).push, (*client).push}
	for i, step := range steps {
		c := &client{of: cs, id: i, redis: redis.NewClient(&redis.Options{
			Addr: addr, MaxRetries: -1, PoolSize: 1, DialerRetries: 1, ReadTimeout: 15 * time.Second, MaintNotificationsConfig: noHints})}
		cs.all = append(cs.all, c)
		cs.running.Go(func() {
			tick := time.NewTicker(pace)
			defer tick.Stop()
			for {
				select {
				case <-cs.stop:
					return
				case <-tick.C:
					step(c, ctx, fmt.Sprint(leg))
				}
			}
		})
	}
	return cs
}

func (cs *clients) now() time.Duration { return time.Since(cs.began) }

// end waits for the last answers.
func (cs *clients) end() error {
	close(cs.stop)
	cs.running.Wait()
	var errs []error
	for _, c := range cs.all {
		errs = append(errs, c.redis.Close())
	}
	return errors.Join(errs...)
}

func (c *client) session(ctx context.Context, leg string) {
	key := fmt.Sprintf("session:%s:%d:%d", leg, c.id, c.seq/8)
	if c.seq%2 == 1 {
		c.do(history.Op{Kind: history.Get, Key: key}, func() (string, error) { return c.redis.Get(ctx, key).Result() })
		return
	}
	value := (c.value(leg) + strings.Repeat("x", valueSize))[:valueSize]
	c.do(history.Op{Kind: history.Set, Key: key, Value: value}, func() (string, error) { return "", c.redis.Set(ctx, key, value, 0).Err() })
}

func (c *client) count(ctx context.Context, leg string) {
	key := fmt.Sprintf("counter:%s:%d", leg, c.seq%counters)
	c.do(history.Op{Kind: history.Incr, Key: key}, func() (string, error) {
		n, err := c.redis.Incr(ctx, key).Result()
		return strconv.FormatInt(n, 10), err
	})
}

func (c *client) push(ctx context.Context, leg string) {
	key, value := "list:"+leg, c.value(leg)
	c.do(history.Op{Kind: history.Push, Key: key, Value: value}, func() (string, error) { return "", c.redis.RPush(ctx, key, value).Err() })
}

func (c *client) value(leg string) string { return fmt.Sprintf("%s.%d.%d.", leg, c.id, c.seq) }

// do carries out one operation and records it.
func (c *client) do(o history.Op, call func() (string, error)) {
	o.Client, o.ID, o.Where, o.Invoked = c.id, uint64(c.id)<<40|c.seq, "primary", c.of.now()
	c.seq++
	result, err := call()
	o.Returned = c.of.now()
	var reply redis.Error
	switch {
	case err == nil || errors.Is(err, redis.Nil):
		o.Result, o.Outcome = result, history.OK
		if o.Kind.Writes() {
			c.of.acked.Add(1)
		}
	case strings.HasPrefix(err.Error(), "UNKNOWN"):
		o.Outcome = history.Unknown
		c.unknown++
	default:
		o.Outcome = history.Error
		if o.Kind.Writes() && !errors.As(err, &reply) {
			o.Outcome = history.Unknown // the connection broke: nobody knows
		}
		c.errors = append(c.errors, fmt.Sprintf("%s %s at %v: %v", o.Kind, o.Key, o.Returned.Round(time.Millisecond), err))
	}
	c.log.Add(o)
}

// judge compares all histories with what is there now. The clients must have ended.
func (cs *clients) judge(ctx context.Context, addr string) (verdict history.Verdict, errs []string, unknown int, err error) {
	all := history.Log{Ops: cs.ops()}
	for _, c := range cs.all {
		errs = append(errs, c.errors...)
		unknown += c.unknown
	}
	data, err := readBack(ctx, addr, all.Ops)
	if err != nil {
		return verdict, errs, unknown, fmt.Errorf("read back what was written: %w", err)
	}
	return history.Check(&all, data), errs, unknown, nil
}

// readBack reads all keys of a history through an endpoint.
func readBack(ctx context.Context, addr string, ops []history.Op) (history.Data, error) {
	c := direct(addr)
	defer c.Close()
	d := history.Data{Registers: map[string]string{}, Lists: map[string][]string{}, Counters: map[string]int64{}}
	var registers []string
	seen := map[string]bool{}
	for _, o := range ops {
		if seen[o.Key] {
			continue
		}
		seen[o.Key] = true
		var err error
		switch o.Kind {
		case history.Push:
			d.Lists[o.Key], err = c.LRange(ctx, o.Key, 0, -1).Result()
		case history.Incr:
			d.Counters[o.Key], err = c.Get(ctx, o.Key).Int64()
		default:
			registers = append(registers, o.Key)
		}
		if err != nil && !errors.Is(err, redis.Nil) {
			return d, err
		}
	}
	for some := range slices.Chunk(registers, 1000) {
		values, err := c.MGet(ctx, some...).Result()
		if err != nil {
			return d, err
		}
		for i, v := range values {
			if text, ok := v.(string); ok {
				d.Registers[some[i]] = text
			}
		}
	}
	return d, nil
}

// ops are what all of them did.
func (cs *clients) ops() []history.Op {
	var all history.Log
	for _, c := range cs.all {
		all.Join(&c.log)
	}
	return all.Ops
}

// belongs is how long after a change of primary a gap that is counted for it may begin: what comes
// later is the machine's, or the next one's.
const belongs = 500 * time.Millisecond

// longestGap is the longest time without an ack between from and to that began soon after from, in ms,
// and when it began.
func longestGap(acks []time.Duration, from, to time.Duration) (began time.Duration, long float64) {
	first, _ := slices.BinarySearch(acks, from)
	last, longest := from, time.Duration(0)
	for _, at := range append(slices.Clone(acks[first:]), to) {
		at = min(at, to)
		if at-last > longest && last-from <= belongs {
			began, longest = last, at-last
		}
		last = at
	}
	return began, ms(longest)
}

// during lists the operations that waited through most of a gap: what kind, and when each began and
// ended, in ms from the gap's beginning.
func (cs *clients) during(from time.Duration, long float64) string {
	var words []string
	for _, c := range cs.all {
		for _, o := range c.log.Ops {
			began, ended := ms(o.Invoked-from), ms(o.Returned-from)
			if began < long/2 && ended > long/2 {
				words = append(words, fmt.Sprintf("%s %.1f to %.1f %s", o.Kind, began, ended, o.Outcome))
			}
		}
	}
	return strings.Join(words, ", ")
}
