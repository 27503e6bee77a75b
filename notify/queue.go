package notify

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"understudy/cluster"
)

// prefix is where all records of this package are kept: the key, the queue and the dead letters.
const prefix = "/understudy/notify/"

const queuePrefix = prefix + "queue/"

// The bounds of the queue. A message of SNS has at most 256 KiB; the store takes records of up to 1.5 MiB, so the targets
// of one message share the rest.
const (
	mostQueued   = 10000
	mostBytes    = 64 << 20
	longestEntry = 1 << 20
)

// remembered is how long the ID of a Post is kept after its last delivery, and mostRemembered how many are.
const (
	remembered     = 24 * time.Hour
	mostRemembered = 10000
)

// storeWithin bounds one call of the store.
const storeWithin = 2 * time.Second

// record is a message in the store, until all its targets have it or are given up.
type record struct {
	Message Message `json:"message,omitzero"`
	Open    []open  `json:"open,omitempty"`
	// Remember: the record stays for a while, less what was in it, and says that the message was here.
	Remember bool      `json:"remember,omitempty"`
	Done     time.Time `json:"done,omitzero"`
}

// open is a delivery that has not succeeded yet.
type open struct {
	Target   Target    `json:"target"`
	Attempts int       `json:"attempts,omitempty"`
	Next     time.Time `json:"next,omitzero"` // not before; zero: at once
	Error    string    `json:"error,omitempty"`
}

// entry is a record in memory.
type entry struct {
	key     string
	size    int
	written chan struct{} // closed when the first write has ended, with failed
	failed  error

	record  record // Courier.mu guards it
	version int    // counts its changes

	saving   sync.Mutex // one writes at a time; below are the writer's
	saved    int        // the version in the store
	revision int64
}

// load reads what the store has.
func (c *Courier) load(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, storeWithin)
	defer cancel()
	entries, _, err := c.opts.Store.List(ctx, queuePrefix)
	if err != nil {
		return fmt.Errorf("read the queue: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, kept := range entries {
		e := &entry{key: kept.Key, size: len(kept.Value), revision: kept.Revision, written: make(chan struct{})}
		close(e.written)
		if err := json.Unmarshal(kept.Value, &e.record); err != nil {
			return fmt.Errorf("read %s: no record of this version: %w", kept.Key, err)
		}
		if !e.record.Done.IsZero() {
			c.done[e.key] = e.record.Done
			continue
		}
		c.entries[e.key] = e
		c.bytes += e.size
	}
	return c.loadDead(ctx)
}

// Send takes a message for the targets: when it returns nil, the message is on disk, and each target gets it at least once
// or a dead letter has it. remember: within a day a message with the same topic, kind and ID is the same, and not sent
// again. Errors: ErrFull, ErrTooLong, cluster.ErrUnavailable.
func (c *Courier) Send(ctx context.Context, m Message, targets []Target, remember bool) error {
	if len(targets) == 0 {
		return nil
	}
	r := record{Message: m, Remember: remember}
	for _, t := range targets {
		r.Open = append(r.Open, open{Target: t})
	}
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if len(text) > longestEntry {
		return fmt.Errorf("%w: with its targets it has %d bytes, at most %d are kept", ErrTooLong, len(text), longestEntry)
	}
	e := &entry{key: queuePrefix + m.Topic + "/" + string(m.Kind) + "/" + m.ID, size: len(text), written: make(chan struct{}), record: r, version: 1}
	twin, err := c.reserve(e)
	if twin != nil {
		return twin.await(ctx)
	}
	if err != nil {
		return err
	}
	e.failed = c.save(e)
	c.mu.Lock()
	defer c.mu.Unlock()
	close(e.written)
	switch {
	case e.failed != nil:
		delete(c.entries, e.key)
		c.bytes -= e.size
		return fmt.Errorf("keep message %s: %w", m.ID, e.failed)
	case e.record.Open != nil && c.ctx != nil:
		c.begin(e)
	}
	return nil
}

// reserve makes room for an entry. twin is the same message, which is there already; done is one that was.
func (c *Courier) reserve(e *entry) (twin *entry, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if twin := c.entries[e.key]; twin != nil {
		return twin, nil
	}
	if _, ok := c.done[e.key]; ok {
		done := &entry{written: make(chan struct{})}
		close(done.written)
		return done, nil
	}
	if len(c.entries) >= mostQueued || c.bytes+e.size > mostBytes {
		return nil, fmt.Errorf("%w: %d messages of %d bytes in all", ErrFull, len(c.entries), c.bytes)
	}
	c.entries[e.key] = e
	c.bytes += e.size
	return nil, nil
}

// await returns what became of the first write.
func (e *entry) await(ctx context.Context) error {
	select {
	case <-e.written:
		return e.failed
	case <-ctx.Done():
		return ctx.Err()
	}
}

// save writes the entry's newest version, unless somebody else has.
func (c *Courier) save(e *entry) error {
	e.saving.Lock()
	defer e.saving.Unlock()
	c.mu.Lock()
	version, r := e.version, e.record
	r.Open = slices.Clone(r.Open)
	c.mu.Unlock()
	if version == e.saved {
		return nil
	}
	var text []byte
	if len(r.Open) > 0 || r.Remember {
		var err error
		if text, err = json.Marshal(r); err != nil {
			return err
		}
	}
	revision, err := c.swap(e.key, text, e.revision)
	if err != nil {
		return err
	}
	e.saved, e.revision = version, revision
	return nil
}

// swap writes one key; nobody else does.
func (c *Courier) swap(key string, text []byte, revision int64) (int64, error) {
	// What was begun is written though whoever asked has gone.
	ctx, cancel := context.WithTimeout(context.Background(), storeWithin)
	defer cancel()
	return cluster.SwapSole(ctx, c.opts.Store, key, text, revision)
}

// settle writes what became of a delivery, and forgets the message with its last one. What cannot be written now is
// tried again; a process that dies before delivers once more.
func (c *Courier) settle(e *entry) {
	err := c.save(e)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		c.unsaved[e] = true
		c.log.Warn("an outcome is not in the store yet: after a crash the message would be delivered again", "message_id", e.record.Message.ID, "error", err)
		return
	}
	delete(c.unsaved, e)
	if len(e.record.Open) > 0 || c.entries[e.key] != e {
		return
	}
	delete(c.entries, e.key)
	c.bytes -= e.size
	if e.record.Remember {
		c.done[e.key] = e.record.Done
	}
}

// sweep writes what could not be written.
func (c *Courier) sweep() {
	c.mu.Lock()
	var behind []*entry
	for e := range c.unsaved {
		behind = append(behind, e)
	}
	c.mu.Unlock()
	for _, e := range behind {
		c.settle(e)
	}
}

// forgetOld forgets IDs that are old.
func (c *Courier) forgetOld(ctx context.Context) {
	c.mu.Lock()
	old := c.oldest()
	c.mu.Unlock()
	for _, key := range old {
		if ctx.Err() != nil || c.forget(ctx, key) != nil {
			return // the next sweep does it
		}
	}
}

// oldest are the keys of remembered messages that need not be any more. c.mu is held.
func (c *Courier) oldest() (old []string) {
	type item struct {
		key string
		at  time.Time
	}
	var all []item
	for key, at := range c.done {
		all = append(all, item{key, at})
	}
	slices.SortFunc(all, func(a, b item) int { return a.at.Compare(b.at) })
	for i, x := range all {
		if c.opts.Now().Sub(x.at) > remembered || len(all)-i > mostRemembered {
			old = append(old, x.key)
		}
	}
	return old
}

// forget takes a remembered message away.
func (c *Courier) forget(ctx context.Context, key string) error {
	ctx, cancel := context.WithTimeout(ctx, storeWithin)
	defer cancel()
	entries, _, err := c.opts.Store.List(ctx, key)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Key != key {
			continue
		}
		if _, err := c.swap(key, nil, e.Revision); err != nil {
			return err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.done, key)
	return nil
}

// topicName is the end of a topic's ARN.
func topicName(arn string) string { return arn[strings.LastIndexByte(arn, ':')+1:] }

// queued are the deliveries that wait, soonest first.
func (c *Courier) queued() []Queued {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := []Queued{}
	for _, e := range c.entries {
		for _, o := range e.record.Open {
			m := e.record.Message
			all = append(all, Queued{MessageID: m.ID, Topic: m.Topic, Subscription: o.Target.Subscription, Protocol: o.Target.Protocol, Attempts: o.Attempts, Next: o.Next, Error: o.Error})
		}
	}
	slices.SortFunc(all, func(a, b Queued) int {
		return cmp.Or(a.Next.Compare(b.Next), strings.Compare(a.MessageID+a.Subscription, b.MessageID+b.Subscription))
	})
	return all
}
