// Package clustertest keeps every Store honest: an in-memory Store for tests, and the conformance
// suite that it and every other Store must pass.
package clustertest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"understudy/cluster"
)

// Memory is a cluster.Store in this process's memory. The zero value is an empty store at revision 0.
type Memory struct {
	mu       sync.Mutex
	revision int64
	entries  map[string]cluster.Entry
	log      []cluster.Entry // every change, oldest first
	newer    chan struct{}   // closed at the next change; nil when nobody waits
}

var _ cluster.Store = (*Memory)(nil)

// List implements cluster.Store.
func (m *Memory) List(ctx context.Context, prefix string) ([]cluster.Entry, int64, error) {
	if ctx.Err() != nil {
		return nil, 0, fmt.Errorf("list %s: %w: %w", prefix, cluster.ErrUnavailable, ctx.Err())
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	entries := []cluster.Entry{}
	for key, e := range m.entries {
		if strings.HasPrefix(key, prefix) {
			entries = append(entries, e)
		}
	}
	slices.SortFunc(entries, func(a, b cluster.Entry) int { return strings.Compare(a.Key, b.Key) })
	return entries, m.revision, nil
}

// Swap implements cluster.Store.
func (m *Memory) Swap(ctx context.Context, key string, value []byte, rev int64) (int64, error) {
	if ctx.Err() != nil {
		return 0, fmt.Errorf("swap %s: %w: %w", key, cluster.ErrUnavailable, ctx.Err())
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if have := m.entries[key].Revision; have != rev {
		return 0, fmt.Errorf("swap %s at revision %d, not %d: %w", key, rev, have, cluster.ErrConflict)
	}
	if value == nil && rev == 0 {
		return m.revision, nil // nothing there to delete: nothing changes
	}
	m.revision++
	e := cluster.Entry{Key: key, Value: slices.Clone(value), Revision: m.revision}
	if m.entries == nil {
		m.entries = map[string]cluster.Entry{}
	}
	m.entries[key] = e
	if value == nil {
		delete(m.entries, key)
	}
	m.log = append(m.log, e)
	if m.newer != nil {
		close(m.newer)
		m.newer = nil
	}
	return m.revision, nil
}

// Watch implements cluster.Store.
func (m *Memory) Watch(ctx context.Context, prefix string, from int64) <-chan []cluster.Entry {
	out := make(chan []cluster.Entry)
	go func() {
		defer close(out)
		for {
			entries, newer := m.since(prefix, from)
			if len(entries) > 0 {
				from = entries[len(entries)-1].Revision
				select {
				case out <- entries:
					continue
				case <-ctx.Done():
					return
				}
			}
			select {
			case <-newer:
			case <-ctx.Done():
				return
			}
		}
	}()
	return out
}

// since returns the changes after revision from, and what is closed at the next one.
func (m *Memory) since(prefix string, from int64) ([]cluster.Entry, <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var entries []cluster.Entry
	for _, e := range m.log {
		if e.Revision > from && strings.HasPrefix(e.Key, prefix) {
			entries = append(entries, e)
		}
	}
	if m.newer == nil {
		m.newer = make(chan struct{})
	}
	return entries, m.newer
}
