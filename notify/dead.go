package notify

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

const deadPrefix = prefix + "dead/"

// mostDead bounds the dead letters: the oldest go.
const mostDead = 1000

// ErrNone: there is no dead letter of that name.
var ErrNone = errors.New("there is no dead letter of that name")

// DeadLetter is a delivery that was given up.
type DeadLetter struct {
	ID       string    `json:"id"` // unique, and in the order of time
	Message  Message   `json:"message"`
	Target   Target    `json:"target"`
	Attempts int       `json:"attempts"`
	Error    string    `json:"error"`
	At       time.Time `json:"at"`
}

// loadDead reads them. c.mu is held.
func (c *Courier) loadDead(ctx context.Context) error {
	entries, _, err := c.opts.Store.List(ctx, deadPrefix)
	if err != nil {
		return fmt.Errorf("read the dead letters: %w", err)
	}
	for _, e := range entries {
		var d DeadLetter
		if err := json.Unmarshal(e.Value, &d); err != nil {
			return fmt.Errorf("read %s: no record of this version: %w", e.Key, err)
		}
		c.dead = append(c.dead, d)
	}
	return nil
}

// bury keeps a delivery that was given up. It is written before the queue forgets it: a crash in between keeps two.
func (c *Courier) bury(m Message, o open, cause error, now time.Time) {
	_, end, _ := strings.Cut(o.Target.Subscription, topicName(m.Topic)+":")
	d := DeadLetter{ID: fmt.Sprintf("%020d-%s-%s", now.UnixNano(), m.ID, cmp.Or(end, "1")), Message: m, Target: o.Target, Attempts: o.Attempts, Error: short(cause), At: now}
	text, err := json.Marshal(d)
	if err == nil {
		_, err = c.swap(deadPrefix+d.ID, text, 0)
	}
	if err != nil {
		c.log.Error("a dead letter is not in the store: a restart will not know of it", "message_id", m.ID, "error", err)
	}
	c.mu.Lock()
	c.dead = append(c.dead, d)
	over := slices.Clone(c.dead[:max(0, len(c.dead)-mostDead)])
	c.mu.Unlock()
	for _, old := range over {
		if err := c.Drop(context.Background(), old.ID); err != nil && !errors.Is(err, ErrNone) {
			c.log.Warn("an old dead letter is kept", "error", err)
			return
		}
	}
}

// Dead are the dead letters, oldest first.
func (c *Courier) Dead() []DeadLetter {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.dead)
}

// Drop takes a dead letter away. Errors: ErrNone.
func (c *Courier) Drop(ctx context.Context, id string) error {
	if _, err := c.deadLetter(id); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, storeWithin)
	defer cancel()
	entries, _, err := c.opts.Store.List(ctx, deadPrefix+id)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Key != deadPrefix+id {
			continue
		}
		if _, err := c.swap(e.Key, nil, e.Revision); err != nil {
			return err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dead = slices.DeleteFunc(slices.Clone(c.dead), func(d DeadLetter) bool { return d.ID == id })
	return nil
}

// Resend delivers a dead letter anew, with its message's ID and all its attempts, and takes it away. Errors: ErrNone, and
// those of Send.
func (c *Courier) Resend(ctx context.Context, id string) error {
	d, err := c.deadLetter(id)
	if err != nil {
		return err
	}
	if err := c.Send(ctx, d.Message, []Target{d.Target}, false); err != nil {
		return err
	}
	return c.Drop(ctx, id)
}

func (c *Courier) deadLetter(id string) (DeadLetter, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := slices.IndexFunc(c.dead, func(d DeadLetter) bool { return d.ID == id })
	if i < 0 {
		return DeadLetter{}, fmt.Errorf("%s: %w", id, ErrNone)
	}
	return c.dead[i], nil
}
