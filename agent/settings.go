package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"understudy/atomicfile"
	"understudy/cluster"
	"understudy/redis"
)

// What an operator sets at the primary, users and parameters of CONFIG SET, would end with it: a redis-server
// starts with what its agent gives it. So the primary's agent looks at them once a second, and puts what has
// changed into the store; every agent gives it to its own server, and keeps it on its disk.

// settingsEvery is how often a primary is asked for its users and settings: what was set within that before a
// crash may be lost.
const settingsEvery = time.Second

// spread is the record in the store, and the file "settings.json" on each node's disk.
type spread struct {
	Seq uint64 `json:"seq"` // grows with each change: a store that was restored shows less
	redis.Settings
}

const settingsFile = "settings.json"

// settings is one goroutine's.
type settings struct {
	a        *Agent
	newest   spread // that is known
	stored   uint64 // the Seq in the store, and its revision; 0: none
	revision int64

	given    server // which run has been given what
	givenSeq uint64
	users    []string // that it was given: what is gone from the next has to be taken away

	led    int64             // the promotion that was looked at first with base; 0: none
	base   map[string]string // the parameters then
	failed string            // said already
}

// keepSettings runs until ctx ends.
func (a *Agent) keepSettings(ctx context.Context) {
	s := &settings{a: a}
	if err := s.load(); err != nil {
		a.log.Warn("users and settings kept on this disk cannot be read: those in the store count", "error", err)
	}
	news := make(chan cluster.Entry, 16)
	a.goDo(func() { a.watchSettings(ctx, news) })
	look := time.NewTicker(settingsEvery)
	defer look.Stop()
	for ctx.Err() == nil {
		s.look(ctx)
		select {
		case e := <-news:
			s.learn(e)
		case <-a.settingsDue:
		case <-look.C:
		case <-ctx.Done():
		}
	}
}

// watchSettings hands on the record, when it is read and at each change; an entry without a value says that
// there is none.
func (a *Agent) watchSettings(ctx context.Context, news chan<- cluster.Entry) {
	key := cluster.SettingsKey(a.opts.Group)
	tell := func(e cluster.Entry) {
		select {
		case news <- e:
		case <-ctx.Done():
		}
	}
	for ; ctx.Err() == nil; pause(ctx, a.opts.Profile.Renew) {
		bound, cancel := context.WithTimeout(ctx, a.callTimeout())
		entries, revision, err := a.opts.Store.List(bound, key)
		cancel()
		if err != nil {
			continue // the watch of the lead says so
		}
		found := cluster.Entry{Key: key}
		for _, e := range entries {
			if e.Key == key {
				found = e
			}
		}
		tell(found)
		for changes := range a.opts.Store.Watch(ctx, key, revision) {
			for _, e := range changes {
				if e.Key == key {
					tell(e)
				}
			}
		}
	}
}

// learn takes what the store says.
func (s *settings) learn(e cluster.Entry) {
	var got spread
	if e.Value != nil {
		if err := json.Unmarshal(e.Value, &got); err != nil {
			s.a.log.Error("the record of users and settings cannot be read: what was known stays", "error", err)
			return
		}
	}
	if s.revision = e.Revision; e.Value == nil {
		s.revision = 0
	}
	s.stored = got.Seq
	if got.Seq > s.newest.Seq {
		s.keep(got)
	}
}

// keep makes a record the newest, on disk too.
func (s *settings) keep(next spread) {
	s.newest = next
	s.a.metrics.settings.Set(float64(next.Seq))
	text, err := json.Marshal(next)
	if err == nil {
		err = atomicfile.WriteSync(s.path(), append(text, '\n'), 0o600)
	}
	if err != nil {
		s.a.log.Warn("users and settings are not kept on this disk; the store has them", "error", err)
	}
}

func (s *settings) path() string { return filepath.Join(s.a.opts.Dir, settingsFile) }

func (s *settings) load() error {
	text, err := os.ReadFile(s.path())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = json.Unmarshal(text, &s.newest)
	}
	if err == nil {
		s.a.metrics.settings.Set(float64(s.newest.Seq))
	}
	return err
}

// look gives redis-server what it lacks, and at a primary finds out what has changed there.
func (s *settings) look(ctx context.Context) {
	v := s.a.view.Load()
	if v.server == nil || v.status.State == cluster.StateDown {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, s.a.callTimeout())
	defer cancel()
	err := s.give(ctx, v.server, v.status.Leads)
	if err == nil && v.status.Leads && v.status.Permit > 0 && s.given == v.server {
		err = s.collect(ctx)
	} else if !v.status.Leads {
		s.led = 0
	}
	s.say(ctx, err)
}

// say logs a failure once.
func (s *settings) say(ctx context.Context, err error) {
	text := ""
	if err != nil && ctx.Err() == nil && !errors.Is(err, redis.ErrLoading) && !errors.Is(err, redis.ErrBusy) {
		text = err.Error()
	}
	if text != "" && text != s.failed {
		s.a.log.Warn("users and settings are not the same on all nodes; it is tried again", "error", err)
	}
	s.failed = text
}

// give has the server take the newest record. One that leads is where changes are made: it takes only what it
// was not given since it was started.
func (s *settings) give(ctx context.Context, to server, leads bool) error {
	if s.given == to && (leads || s.givenSeq == s.newest.Seq) {
		return nil
	}
	if s.newest.Seq > 0 {
		c, err := s.a.control(ctx)
		if err != nil {
			return err
		}
		var gone []string
		for _, name := range s.users {
			if _, still := s.newest.Users[name]; s.given == to && !still {
				gone = append(gone, name)
			}
		}
		// What one version of redis-server does not know, another may: the rest is done all the same.
		if err := c.Apply(ctx, s.newest.Settings, gone); err != nil {
			if !errors.Is(err, redis.ErrNotAll) {
				return err
			}
			defer s.say(ctx, err)
		}
	}
	s.given, s.givenSeq, s.users = to, s.newest.Seq, slices.Sorted(maps.Keys(s.newest.Users))
	return nil
}

// collect puts what has changed at the primary into the store.
func (s *settings) collect(ctx context.Context) error {
	c, err := s.a.control(ctx)
	if err != nil {
		return err
	}
	now, err := c.Settings(ctx)
	if err != nil {
		return err
	}
	if own := s.a.ownUser(); own != "" {
		delete(now.Users, own)
	}
	if promotion := s.a.promotions.Load(); s.led != promotion {
		s.led, s.base = promotion, now.Config
	}
	next := spread{Seq: s.newest.Seq + 1, Settings: redis.Settings{Users: now.Users, Config: maps.Clone(s.newest.Config)}}
	if next.Config == nil {
		next.Config = map[string]string{}
	}
	for name, value := range now.Config {
		// Set by somebody since this node leads; or before the first look, where it was set under a primary before:
		// this server was given that value.
		if old, spread := next.Config[name]; value != s.base[name] || spread && value != old {
			next.Config[name] = value
		}
	}
	changed := !next.Equal(s.newest.Settings)
	if !changed {
		next.Seq = s.newest.Seq
	}
	if next.Seq == s.stored || next.Seq == 0 {
		return nil // nothing was ever set, or the store has it
	}
	if err := s.store(ctx, next); err != nil {
		return err
	}
	s.base = now.Config
	s.givenSeq, s.users = next.Seq, slices.Sorted(maps.Keys(next.Users))
	s.a.metrics.spreads.Inc()
	s.a.log.Info("users or settings have changed at this primary: the other nodes take them over", "version", next.Seq, "users", len(next.Users), "parameters", len(next.Config))
	return nil
}

// store writes the record as the holder of the lead. A conflict means that a holder before was late, or that
// the store went back: what the primary has counts, with the next look.
func (s *settings) store(ctx context.Context, next spread) error {
	value, err := json.Marshal(next)
	if err != nil {
		return err
	}
	revision, err := s.a.opts.Store.Swap(ctx, cluster.SettingsKey(s.a.opts.Group), value, s.revision)
	if err != nil {
		return fmt.Errorf("put users and settings into the store: %w", err)
	}
	s.revision, s.stored = revision, next.Seq
	s.keep(next)
	return nil
}

// ownUser is the user as whom the agent is let in to an adopted server.
func (a *Agent) ownUser() string {
	if a.opts.Adopt == nil {
		return ""
	}
	return a.opts.Adopt.User
}

// settingsNow has users and settings be looked at at once.
func (a *Agent) settingsNow() {
	select {
	case a.settingsDue <- struct{}{}:
	default:
	}
}
