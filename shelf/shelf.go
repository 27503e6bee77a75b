// Package shelf keeps records as JSON in the store: as a Shelf where one process writes them, which then has them in
// memory as well; or one by one, each against the revision that was read, where several processes do.
package shelf

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"understudy/cluster"
)

// within bounds one call of the store; loadWithin that which reads all records of a kind, tens of thousands maybe.
const (
	within     = 2 * time.Second
	loadWithin = 30 * time.Second
)

// Shelf keeps records of one kind, in the store and in memory. Nobody else writes them, so reading asks nobody.
// What it gives out is not to be changed.
type Shelf[T any] struct {
	store  cluster.Store
	prefix string

	writing sync.Mutex // held by whoever changes a record: one at a time

	mu    sync.Mutex
	items map[string]*volume[T]
}

// volume is one record.
type volume[T any] struct {
	value    T
	text     []byte
	revision int64
}

// New returns a shelf whose records are kept below prefix; Load must be called before all else.
func New[T any](store cluster.Store, prefix string) *Shelf[T] {
	return &Shelf[T]{store: store, prefix: prefix, items: map[string]*volume[T]{}}
}

// Load reads what the store has.
func (s *Shelf[T]) Load(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, loadWithin)
	defer cancel()
	entries, _, err := s.store.List(ctx, s.prefix)
	if err != nil {
		return fmt.Errorf("read %s of the store: %w", s.prefix, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range entries {
		v := &volume[T]{text: e.Value, revision: e.Revision}
		if err := json.Unmarshal(e.Value, &v.value); err != nil {
			return fmt.Errorf("read %s: no record of this version: %w", e.Key, err)
		}
		s.items[strings.TrimPrefix(e.Key, s.prefix)] = v
	}
	return nil
}

// Get is the record of that name; false: there is none.
func (s *Shelf[T]) Get(name string) (value T, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.items[name]
	if v == nil {
		return value, false
	}
	return v.value, true
}

// All are the records in the order of their names.
func (s *Shelf[T]) All() []T {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]T, 0, len(s.items))
	for _, name := range slices.Sorted(maps.Keys(s.items)) {
		list = append(list, s.items[name].value)
	}
	return list
}

// Names are those of the records, sorted.
func (s *Shelf[T]) Names() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.items))
}

// ErrNone: there is no record of that name. ErrThere: there is one.
var (
	ErrNone  = errors.New("there is no record of that name")
	ErrThere = errors.New("there is a record of that name")
)

// Add writes a record that is not there yet. Errors: ErrThere.
func (s *Shelf[T]) Add(ctx context.Context, name string, value T) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	if _, ok := s.Get(name); ok {
		return fmt.Errorf("%s: %w", name, ErrThere)
	}
	return s.write(ctx, name, &volume[T]{value: value}, value)
}

// Change has f change a copy of a record, and writes it unless f returns an error, which is Change's then.
// Errors: ErrNone.
func (s *Shelf[T]) Change(ctx context.Context, name string, f func(*T) error) (value T, err error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	s.mu.Lock()
	v := s.items[name]
	s.mu.Unlock()
	if v == nil {
		return value, fmt.Errorf("%s: %w", name, ErrNone)
	}
	if err := json.Unmarshal(v.text, &value); err != nil {
		return value, err
	}
	if err := f(&value); err != nil {
		return v.value, err
	}
	return value, s.write(ctx, name, v, value)
}

// Remove takes a record away; one that is not there is no error.
func (s *Shelf[T]) Remove(ctx context.Context, name string) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	s.mu.Lock()
	v := s.items[name]
	s.mu.Unlock()
	if v == nil {
		return nil
	}
	if _, err := s.swap(ctx, name, nil, v.revision); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.items, name)
	return nil
}

// write puts value in place of what old has. writing is held.
func (s *Shelf[T]) write(ctx context.Context, name string, old *volume[T], value T) error {
	text, err := json.Marshal(value)
	if err != nil {
		return err
	}
	revision, err := s.swap(ctx, name, text, old.revision)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.items[name] = &volume[T]{value: value, text: text, revision: revision}
	return nil
}

// swap writes one key; nobody else does.
func (s *Shelf[T]) swap(ctx context.Context, name string, text []byte, revision int64) (int64, error) {
	// What was begun is written though the client has gone.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), within)
	defer cancel()
	return cluster.SwapSole(ctx, s.store, s.prefix+name, text, revision)
}
