package drill

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"understudy/cluster"
	"understudy/history"
	rediserver "understudy/redis"
)

const (
	auditBatch   = 500              // keys to a command
	auditTimeout = 15 * time.Second // for one server's data
	catchUpWait  = 5 * time.Second
	catchUpStep  = 10 * time.Millisecond
)

// readData fetches what is there of the keys that the entries touched.
func readData(ctx context.Context, c *redis.Client, entries []entry) (history.Data, error) {
	ctx, cancel := context.WithTimeout(ctx, auditTimeout)
	defer cancel()
	registers, lists, counters := keysOf(entries)
	d := history.Data{Registers: map[string]string{}, Lists: map[string][]string{}, Counters: map[string]int64{}}
	err := readStrings(ctx, c, registers, func(key, stored string) error {
		v, err := unpack(key, stored)
		d.Registers[key] = v
		return err
	})
	if err != nil {
		return d, err
	}
	err = readStrings(ctx, c, counters, func(key, stored string) (err error) {
		d.Counters[key], err = strconv.ParseInt(stored, 10, 64)
		return err
	})
	if err != nil {
		return d, err
	}
	for _, key := range lists {
		stored, err := c.LRange(ctx, key, 0, -1).Result()
		if err != nil {
			return d, err
		}
		for _, s := range stored {
			id, err := unpack(key, s)
			if err != nil {
				return d, err
			}
			d.Lists[key] = append(d.Lists[key], id)
		}
	}
	return d, nil
}

func readStrings(ctx context.Context, c *redis.Client, keys []string, take func(key, stored string) error) error {
	for len(keys) > 0 {
		batch := keys[:min(auditBatch, len(keys))]
		keys = keys[len(batch):]
		values, err := c.MGet(ctx, batch...).Result()
		if err != nil {
			return err
		}
		for i, v := range values {
			if s, ok := v.(string); ok {
				if err := take(batch[i], s); err != nil {
					return fmt.Errorf("%s: %w", batch[i], err)
				}
			}
		}
	}
	return nil
}

// auditNodes compares the acked writes with each node's own data: a write that only the primary
// has would be lost with the next crash.
func auditNodes(ctx context.Context, s cluster.Status, entries []entry, open func(addr string) *redis.Client) []NodeAudit {
	log := history.Log{Ops: make([]history.Op, 0, len(entries))}
	for _, e := range entries {
		log.Add(e.Op)
	}
	target, err := primaryOffset(ctx, s, open)
	audits := make([]NodeAudit, 0, len(s.Nodes))
	for _, n := range s.Nodes {
		a := NodeAudit{Node: n.ID}
		if err == nil {
			a.CaughtUp, a.Lost, a.Reason = auditNode(ctx, open(n.Addr), target, entries, &log)
		} else {
			a.Reason = "the primary's offset: " + err.Error()
		}
		audits = append(audits, a)
	}
	return audits
}

func auditNode(ctx context.Context, c *redis.Client, target int64, entries []entry, log *history.Log) (caughtUp bool, lost int, reason string) {
	defer c.Close()
	if err := catchUp(ctx, c, target); err != nil {
		return false, 0, err.Error()
	}
	data, err := readData(ctx, c, entries)
	if err != nil {
		return false, 0, err.Error()
	}
	return true, history.Check(log, data).Lost, ""
}

// primaryOffset is the end of the primary's log now: the load has stopped, so a replica that is
// there has every write of the run.
func primaryOffset(ctx context.Context, s cluster.Status, open func(addr string) *redis.Client) (int64, error) {
	n, ok := s.Node(s.Primary)
	if !ok {
		return 0, errors.New("there is no primary")
	}
	c := open(n.Addr)
	defer c.Close()
	return offset(ctx, c, "master_repl_offset")
}

func offset(ctx context.Context, c *redis.Client, field string) (int64, error) {
	info, err := c.Info(ctx, "replication").Result()
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(rediserver.InfoFields(info)[field], 10, 64)
}

// catchUp waits until a server has executed its log up to target.
func catchUp(ctx context.Context, c *redis.Client, target int64) error {
	ctx, cancel := context.WithTimeout(ctx, catchUpWait)
	defer cancel()
	tick := time.NewTicker(catchUpStep)
	defer tick.Stop()
	for {
		at, err := offset(ctx, c, "master_repl_offset")
		if err == nil && at >= target {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("it is at offset %d of %d after %v (%v)", at, target, catchUpWait, err)
		case <-tick.C:
		}
	}
}

// populate writes the catalogue before the load begins, as operations like any others: the judge
// must know what a product was before its first change.
func populate(ctx context.Context, c *redis.Client, l *lane) ([]entry, error) {
	keys := l.catalogueKeys()
	if len(keys) == 0 {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, auditTimeout)
	defer cancel()
	entries := make([]entry, len(keys))
	invoked := l.clock()
	_, err := c.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, key := range keys {
			value := "stock." + strconv.Itoa(i)
			entries[i] = entry{Op: history.Op{
				Client: -1, Kind: history.Set, Key: key, Value: value, Where: l.place(wherePrimary),
				Invoked: invoked, Outcome: history.OK,
			}}
			p.Set(ctx, key, pack(key, value), sessionTTL)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("write the catalogue of lane %s: %w", l.name, err)
	}
	returned := l.clock()
	for i := range entries {
		entries[i].Returned = returned
	}
	return entries, nil
}

// clean removes the run's keys. What it cannot remove expires, except queue and counters.
func clean(ctx context.Context, c *redis.Client, entries []entry) error {
	ctx, cancel := context.WithTimeout(ctx, auditTimeout)
	defer cancel()
	registers, lists, counters := keysOf(entries)
	keys := append(append(registers, lists...), counters...)
	for len(keys) > 0 {
		batch := keys[:min(auditBatch, len(keys))]
		keys = keys[len(batch):]
		if err := c.Unlink(ctx, batch...).Err(); err != nil {
			return fmt.Errorf("remove the drill's keys: %w", err)
		}
	}
	return nil
}
