package cluster

import (
	"context"
	"errors"
)

// Sentinel errors, compared with errors.Is.
var (
	// ErrConflict: the key had another revision than the one given; nothing was written.
	ErrConflict = errors.New("the record was changed by someone else")
	// ErrUnknownOutcome: the request was sent and no answer came; it may have been carried out.
	ErrUnknownOutcome = errors.New("no answer: the outcome is unknown")
	// ErrUnavailable: the store could not be reached; nothing was written.
	ErrUnavailable = errors.New("the store is not reachable")
	// ErrPermitLost: the right to accept writes ended while the work was under way.
	ErrPermitLost = errors.New("the permit to accept writes ended")
	// ErrRefused: refused for safety; the message says what to do.
	ErrRefused = errors.New("refused")
)

// Entry is one key of the store. Revision is the store's revision of its last change; a deleted
// key arrives from Watch with a nil Value.
type Entry struct {
	Key      string
	Value    []byte
	Revision int64
}

// Store keeps the few records that all parts agree on. Every implementation passes the
// conformance suite in clustertest.
type Store interface {
	// List returns the entries whose key starts with prefix, sorted by key, and the revision of
	// the whole store at which they were read. Errors: ErrUnavailable.
	List(ctx context.Context, prefix string) ([]Entry, int64, error)
	// Swap writes value at key if the key's revision is still rev (0: the key must not exist),
	// and returns the new revision; a nil value deletes the key. The write is on disk when Swap
	// returns. Errors: ErrConflict (nothing written), ErrUnavailable (nothing written),
	// ErrUnknownOutcome.
	Swap(ctx context.Context, key string, value []byte, rev int64) (int64, error)
	// Watch sends every change of a key with the prefix after revision from, in order and without
	// a gap, until ctx ends or the watch breaks; then the channel is closed and the caller lists
	// and watches again.
	Watch(ctx context.Context, prefix string, from int64) <-chan []Entry
}

// LeadKey is the key of a group's Lead.
func LeadKey(group string) string { return "/understudy/groups/" + group + "/lead" }

// SettingsKey is the key of the users and parameters that were set at a group's primary.
func SettingsKey(group string) string { return "/understudy/groups/" + group + "/settings" }
