package clustertest

import (
	"context"
	"errors"
	"testing"

	"understudy/cluster"
)

// forgetful carries out a Swap and says that it does not know.
type forgetful struct{ cluster.Store }

func (f forgetful) Swap(ctx context.Context, key string, value []byte, rev int64) (int64, error) {
	if _, err := f.Store.Swap(ctx, key, value, rev); err != nil {
		return 0, err
	}
	return 0, cluster.ErrUnknownOutcome
}

func TestSwapSoleFindsOutWhatWasWritten(t *testing.T) {
	ctx, store := t.Context(), &Memory{}
	rev, err := cluster.SwapSole(ctx, forgetful{store}, "k", []byte("v"), 0)
	if err != nil || rev == 0 {
		t.Fatalf("revision %d, %v", rev, err)
	}
	if again, err := cluster.SwapSole(ctx, store, "k", []byte("v"), 0); err != nil || again != rev {
		t.Errorf("the same write, sent twice: revision %d, %v; want %d", again, err, rev)
	}
	if _, err := cluster.SwapSole(ctx, store, "k", []byte("w"), 0); !errors.Is(err, cluster.ErrConflict) {
		t.Errorf("another value at an old revision: %v, want ErrConflict", err)
	}
	if next, err := cluster.SwapSole(ctx, forgetful{store}, "k", nil, rev); err != nil || next != 0 {
		t.Errorf("a deletion: revision %d, %v", next, err)
	}
}
