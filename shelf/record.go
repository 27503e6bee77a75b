package shelf

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"understudy/cluster"
)

// attempts bounds how often a change that met another is made again.
const attempts = 10

// List reads the records whose keys have the prefix, in their order.
func List[T any](ctx context.Context, store cluster.Store, prefix string) (all []T, err error) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	entries, _, err := store.List(ctx, prefix)
	if err != nil {
		return nil, fmt.Errorf("read %s of the store: %w", prefix, err)
	}
	for _, e := range entries {
		var v T
		if err := json.Unmarshal(e.Value, &v); err != nil {
			return nil, fmt.Errorf("read %s: no record of this version: %w", e.Key, err)
		}
		all = append(all, v)
	}
	return all, nil
}

// Get reads one record. Errors: ErrNone.
func Get[T any](ctx context.Context, store cluster.Store, key string) (v T, revision int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	entries, _, err := store.List(ctx, key)
	if err != nil {
		return v, 0, fmt.Errorf("read %s of the store: %w", key, err)
	}
	for _, e := range entries {
		if e.Key != key {
			continue
		}
		if err := json.Unmarshal(e.Value, &v); err != nil {
			return v, 0, fmt.Errorf("read %s: no record of this version: %w", key, err)
		}
		return v, e.Revision, nil
	}
	return v, 0, fmt.Errorf("%s: %w", key, ErrNone)
}

// Change has f change a record, and writes it unless f returns an error, which is Change's then. made is the record where
// there is none; nil: that is ErrNone.
func Change[T any](ctx context.Context, store cluster.Store, key string, made *T, f func(*T) error) (v T, err error) {
	for range attempts {
		v, revision, err := Get[T](ctx, store, key)
		if errors.Is(err, ErrNone) && made != nil {
			v, err = *made, nil
		}
		if err != nil {
			return v, err
		}
		if err := f(&v); err != nil {
			return v, err
		}
		if err := Put(ctx, store, key, v, revision); !again(err) {
			return v, err
		}
	}
	return v, fmt.Errorf("write %s: others change it all the time: %w", key, cluster.ErrConflict)
}

// again reports whether to read the record and change it once more: what is not known shows then.
func again(err error) bool {
	return errors.Is(err, cluster.ErrConflict) || errors.Is(err, cluster.ErrUnknownOutcome)
}

// Put writes a record at the revision that was read; 0: it is not there yet. Errors: as Swap's.
func Put(ctx context.Context, store cluster.Store, key string, v any, revision int64) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	// What was begun is written though the client has gone.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), within)
	defer cancel()
	if _, err := store.Swap(ctx, key, text, revision); err != nil {
		return fmt.Errorf("write %s: %w", key, err)
	}
	return nil
}

// Remove takes a record away; one that is not there is no error.
func Remove(ctx context.Context, store cluster.Store, key string) error {
	for range attempts {
		_, revision, err := Get[json.RawMessage](ctx, store, key)
		if errors.Is(err, ErrNone) {
			return nil
		}
		if err != nil {
			return err
		}
		bound, cancel := context.WithTimeout(context.WithoutCancel(ctx), within)
		_, err = store.Swap(bound, key, nil, revision)
		cancel()
		if !again(err) {
			return err
		}
	}
	return fmt.Errorf("remove %s: others change it all the time: %w", key, cluster.ErrConflict)
}
