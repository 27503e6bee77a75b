package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// SwapSole writes a key that nobody else writes, and returns its new revision; 0 when it is deleted. Where the outcome
// of Swap is not known, or a repetition of it found the key changed, it looks what is there: value at key means that
// it was written. Errors: as Swap's, and then nothing tells that the value is there.
func SwapSole(ctx context.Context, s Store, key string, value []byte, rev int64) (int64, error) {
	next, err := s.Swap(ctx, key, value, rev)
	if errors.Is(err, ErrUnknownOutcome) || errors.Is(err, ErrConflict) {
		entries, _, failed := s.List(ctx, key)
		if failed != nil {
			return 0, fmt.Errorf("write %s: %w", key, err)
		}
		i := slices.IndexFunc(entries, func(e Entry) bool { return e.Key == key })
		switch {
		case i < 0 && value == nil:
			return 0, nil
		case i >= 0 && value != nil && string(entries[i].Value) == string(value):
			return entries[i].Revision, nil
		}
	}
	if err != nil {
		return 0, fmt.Errorf("write %s: %w", key, err)
	}
	return next, nil
}
