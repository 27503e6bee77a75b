package shelf_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"understudy/cluster"
	"understudy/cluster/clustertest"
	"understudy/shelf"
)

type thing struct{ Name, Colour string }

func newShelf(t *testing.T, store cluster.Store) *shelf.Shelf[thing] {
	t.Helper()
	s := shelf.New[thing](store, "/things/")
	if err := s.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestAnotherProcessFindsWhatWasPutOnTheShelf(t *testing.T) {
	store := &clustertest.Memory{}
	s := newShelf(t, store)
	for _, name := range []string{"b/1", "a", "ab"} {
		if err := s.Add(t.Context(), name, thing{name, "red"}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Add(t.Context(), "a", thing{}); !errors.Is(err, shelf.ErrThere) {
		t.Errorf("added twice: %v", err)
	}
	if _, err := s.Change(t.Context(), "a", func(x *thing) error { x.Colour = "blue"; return nil }); err != nil {
		t.Fatal(err)
	}
	refused := errors.New("no")
	if x, err := s.Change(t.Context(), "a", func(x *thing) error { x.Colour = "green"; return refused }); !errors.Is(err, refused) || x.Colour != "blue" {
		t.Errorf("a refused change: %v, %v", x, err)
	}
	if _, err := s.Change(t.Context(), "c", func(*thing) error { return nil }); !errors.Is(err, shelf.ErrNone) {
		t.Errorf("change of nothing: %v", err)
	}
	for _, name := range []string{"ab", "ab"} {
		if err := s.Remove(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	later := newShelf(t, store)
	want := []thing{{"a", "blue"}, {"b/1", "red"}}
	if !slices.Equal(later.All(), want) || !slices.Equal(s.All(), want) || !slices.Equal(later.Names(), []string{"a", "b/1"}) {
		t.Errorf("%v and %v, want %v", s.All(), later.All(), want)
	}
}

// others has somebody else write before each of the first writes.
type others struct {
	*clustertest.Memory
	first int
}

func (o *others) Swap(ctx context.Context, key string, value []byte, rev int64) (int64, error) {
	if o.first > 0 {
		o.first--
		entries, _, err := o.List(ctx, key)
		if err != nil {
			return 0, err
		}
		theirs := []byte(`{"Name":"theirs","Colour":"grey"}`)
		if len(entries) > 0 {
			theirs = entries[0].Value
		}
		if _, err := o.Memory.Swap(ctx, key, theirs, rev); err != nil {
			return 0, err
		}
	}
	return o.Memory.Swap(ctx, key, value, rev)
}

func TestAChangeThatMeetsAnotherIsMadeAgain(t *testing.T) {
	store := &others{Memory: &clustertest.Memory{}, first: 3}
	x, err := shelf.Change(t.Context(), store, "k", &thing{Name: "mine"}, func(x *thing) error { x.Colour += "!"; return nil })
	if err != nil || x != (thing{"theirs", "grey!"}) {
		t.Fatalf("%v, %v", x, err)
	}
	got, revision, err := shelf.Get[thing](t.Context(), store, "k")
	if err != nil || got != x {
		t.Fatalf("%v, %v", got, err)
	}
	if err := shelf.Put(t.Context(), store, "k", thing{}, revision-1); !errors.Is(err, cluster.ErrConflict) {
		t.Errorf("written at an old revision: %v", err)
	}
	store.first = 100
	if _, err := shelf.Change(t.Context(), store, "k", nil, func(*thing) error { return nil }); !errors.Is(err, cluster.ErrConflict) {
		t.Errorf("others change it all the time: %v", err)
	}
	store.first = 0
	if err := shelf.Remove(t.Context(), store, "k"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := shelf.Get[thing](t.Context(), store, "k"); !errors.Is(err, shelf.ErrNone) {
		t.Errorf("removed, and found: %v", err)
	}
	if _, err := shelf.Change(t.Context(), store, "k", nil, func(*thing) error { return nil }); !errors.Is(err, shelf.ErrNone) {
		t.Errorf("change of nothing: %v", err)
	}
}
