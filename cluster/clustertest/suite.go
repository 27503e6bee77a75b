package clustertest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"understudy/cluster"
)

// patience bounds every wait of the suite.
const patience = 10 * time.Second

// TestStore runs the conformance suite. make returns an empty store, and cleans up with t.Cleanup.
func TestStore(t *testing.T, make func(t *testing.T) cluster.Store) {
	cases := []struct {
		name string
		run  func(context.Context, *testing.T, cluster.Store)
	}{
		{"SwapCreatesOnlyWhatIsNotThere", swapCreates},
		{"SwapReplacesOnlyTheRevisionGiven", swapReplaces},
		{"SwapDeletesAndTheKeyCanComeBack", swapDeletes},
		{"DeletingWhatIsNotThereChangesNothing", deletesNothing},
		{"RevisionsGrowAcrossKeys", revisionsGrow},
		{"ListIsSortedAndKeepsToThePrefix", listSorted},
		{"AnEmptyValueIsNotADeletion", emptyValue},
		{"WatchSendsEveryChangeOnceFromARevision", watchFrom},
		{"WatchAfterListMissesNothing", watchAfterList},
		{"WatchKeepsToThePrefix", watchPrefix},
		{"WatchEndsWithItsContext", watchEnds},
		{"EndedContextIsUnavailableAndWritesNothing", endedContext},
		{"ConcurrentSwapsHaveOneWinner", oneWinner},
		{"ConcurrentCountersLoseNothing", counters},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			c.run(ctx, t, make(t))
		})
	}
}

func swapCreates(ctx context.Context, t *testing.T, s cluster.Store) {
	rev := mustSwap(ctx, t, s, "/a", "1", 0)
	if rev <= 0 {
		t.Fatalf("revision %d of a new key: it must be above zero, which means absent", rev)
	}
	wantConflict(ctx, t, s, "/a", "2", 0)
	wantConflict(ctx, t, s, "/b", "2", rev)
	wantEntries(ctx, t, s, "/", cluster.Entry{Key: "/a", Value: []byte("1"), Revision: rev})
}

func swapReplaces(ctx context.Context, t *testing.T, s cluster.Store) {
	first := mustSwap(ctx, t, s, "/a", "1", 0)
	second := mustSwap(ctx, t, s, "/a", "2", first)
	wantConflict(ctx, t, s, "/a", "3", first)
	wantConflict(ctx, t, s, "/a", "3", second+1)
	wantEntries(ctx, t, s, "/", cluster.Entry{Key: "/a", Value: []byte("2"), Revision: second})
}

func swapDeletes(ctx context.Context, t *testing.T, s cluster.Store) {
	rev := mustSwap(ctx, t, s, "/a", "1", 0)
	if _, err := s.Swap(ctx, "/a", nil, rev+1); !errors.Is(err, cluster.ErrConflict) {
		t.Fatalf("delete at a wrong revision: %v, want ErrConflict", err)
	}
	gone, err := s.Swap(ctx, "/a", nil, rev)
	if err != nil {
		t.Fatal(err)
	}
	wantEntries(ctx, t, s, "/")
	wantConflict(ctx, t, s, "/a", "2", rev)
	wantConflict(ctx, t, s, "/a", "2", gone)
	again := mustSwap(ctx, t, s, "/a", "2", 0)
	if again <= gone || gone <= rev {
		t.Fatalf("revisions %d, %d, %d: they must grow through a deletion", rev, gone, again)
	}
}

func deletesNothing(ctx context.Context, t *testing.T, s cluster.Store) {
	rev := mustSwap(ctx, t, s, "/a", "1", 0)
	if _, err := s.Swap(ctx, "/b", nil, 0); err != nil {
		t.Fatal(err)
	}
	wantEntries(ctx, t, s, "/", cluster.Entry{Key: "/a", Value: []byte("1"), Revision: rev})
}

func revisionsGrow(ctx context.Context, t *testing.T, s cluster.Store) {
	last := int64(0)
	for i := range 20 {
		rev := mustSwap(ctx, t, s, fmt.Sprintf("/%02d", i), "x", 0)
		if rev <= last {
			t.Fatalf("revision %d after %d", rev, last)
		}
		last = rev
		if _, whole, err := s.List(ctx, "/none"); err != nil || whole != rev {
			t.Fatalf("the store is at revision %d (%v) after a write at %d", whole, err, rev)
		}
	}
}

func listSorted(ctx context.Context, t *testing.T, s cluster.Store) {
	for _, key := range []string{"/g/b", "/g/a", "/h/a", "/g/c", "/g"} {
		mustSwap(ctx, t, s, key, key, 0)
	}
	entries, _, err := s.List(ctx, "/g/")
	if err != nil {
		t.Fatal(err)
	}
	var keys []string
	for _, e := range entries {
		keys = append(keys, e.Key)
	}
	if want := []string{"/g/a", "/g/b", "/g/c"}; !slices.Equal(keys, want) {
		t.Fatalf("list /g/: %v, want %v", keys, want)
	}
}

func emptyValue(ctx context.Context, t *testing.T, s cluster.Store) {
	rev := mustSwap(ctx, t, s, "/a", "", 0)
	entries, _, err := s.List(ctx, "/a")
	if err != nil || len(entries) != 1 || entries[0].Revision != rev {
		t.Fatalf("an empty value: %v, %v", entries, err)
	}
	got := collect(ctx, t, s.Watch(ctx, "/a", 0), 1)
	if got[0].Value == nil {
		t.Fatal("a watcher takes an empty value for a deletion")
	}
}

func watchFrom(ctx context.Context, t *testing.T, s cluster.Store) {
	var want []cluster.Entry
	rev := int64(0)
	write := func(n int) {
		for range n {
			value := fmt.Sprint(len(want))
			rev = mustSwap(ctx, t, s, "/a", value, rev)
			want = append(want, cluster.Entry{Key: "/a", Value: []byte(value), Revision: rev})
		}
	}
	write(5)
	from := want[1].Revision
	watched := s.Watch(ctx, "/", from)
	write(5)
	gone, err := s.Swap(ctx, "/a", nil, rev)
	if err != nil {
		t.Fatal(err)
	}
	want = append(want, cluster.Entry{Key: "/a", Revision: gone})
	equalEntries(t, collect(ctx, t, watched, len(want)-2), want[2:])
}

func watchAfterList(ctx context.Context, t *testing.T, s cluster.Store) {
	const writes = 50
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() {
		rev := int64(0)
		for i := range writes {
			if i == 5 {
				close(ready)
			}
			var err error
			if rev, err = s.Swap(ctx, "/a", fmt.Append(nil, i), rev); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	<-ready
	entries, revision, err := s.List(ctx, "/a")
	if err != nil {
		t.Fatal(err)
	}
	var next int
	if _, err := fmt.Sscan(string(entries[0].Value), &next); err != nil {
		t.Fatal(err)
	}
	for _, e := range collect(ctx, t, s.Watch(ctx, "/a", revision), writes-1-next) {
		next++
		if string(e.Value) != fmt.Sprint(next) {
			t.Fatalf("watch sent %s where %d was due", e.Value, next)
		}
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func watchPrefix(ctx context.Context, t *testing.T, s cluster.Store) {
	watched := s.Watch(ctx, "/g/", 0)
	mustSwap(ctx, t, s, "/h/a", "no", 0)
	mustSwap(ctx, t, s, "/g/a", "yes", 0)
	mustSwap(ctx, t, s, "/g", "no", 0)
	mustSwap(ctx, t, s, "/g/b", "yes", 0)
	for _, e := range collect(ctx, t, watched, 2) {
		if string(e.Value) != "yes" {
			t.Fatalf("watch of /g/ sent %s", e.Key)
		}
	}
}

func watchEnds(ctx context.Context, t *testing.T, s cluster.Store) {
	inner, cancel := context.WithCancel(ctx)
	mustSwap(ctx, t, s, "/a", "1", 0)
	unread, idle := s.Watch(inner, "/", 0), s.Watch(inner, "/none", 0)
	cancel()
	for _, watched := range []<-chan []cluster.Entry{unread, idle} {
		for open := true; open; {
			select {
			case _, open = <-watched:
			case <-ctx.Done():
				t.Fatal("the watch goes on after its context has ended")
			}
		}
	}
}

func endedContext(ctx context.Context, t *testing.T, s cluster.Store) {
	rev := mustSwap(ctx, t, s, "/a", "1", 0)
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := s.Swap(ended, "/a", []byte("2"), rev); !errors.Is(err, cluster.ErrUnavailable) {
		t.Fatalf("swap: %v, want ErrUnavailable", err)
	}
	if _, _, err := s.List(ended, "/"); !errors.Is(err, cluster.ErrUnavailable) {
		t.Fatalf("list: %v, want ErrUnavailable", err)
	}
	wantEntries(ctx, t, s, "/", cluster.Entry{Key: "/a", Value: []byte("1"), Revision: rev})
}

func oneWinner(ctx context.Context, t *testing.T, s cluster.Store) {
	rev := mustSwap(ctx, t, s, "/a", "start", 0)
	for round := range 10 {
		var mu sync.Mutex
		var winners []string
		next := int64(0)
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				value := fmt.Sprintf("%d-%d", round, i)
				got, err := s.Swap(ctx, "/a", []byte(value), rev)
				switch {
				case err == nil:
					mu.Lock()
					defer mu.Unlock()
					winners, next = append(winners, value), got
				case !errors.Is(err, cluster.ErrConflict):
					t.Errorf("a loser got %v, want ErrConflict", err)
				}
			})
		}
		wg.Wait()
		if len(winners) != 1 {
			t.Fatalf("round %d: %d winners: %v", round, len(winners), winners)
		}
		wantEntries(ctx, t, s, "/a", cluster.Entry{Key: "/a", Value: []byte(winners[0]), Revision: next})
		rev = next
	}
}

// counters: several writers count up one number with read, add, swap; the sum is right.
func counters(ctx context.Context, t *testing.T, s cluster.Store) {
	mustSwap(ctx, t, s, "/n", "0", 0)
	const writers, adds = 4, 10
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for done := 0; done < adds; {
				err := add(ctx, s)
				switch {
				case err == nil:
					done++
				case !errors.Is(err, cluster.ErrConflict):
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	entries, _, err := s.List(ctx, "/n")
	if err != nil || string(entries[0].Value) != fmt.Sprint(writers*adds) {
		t.Fatalf("the counter is %v (%v), want %d", entries, err, writers*adds)
	}
}

func add(ctx context.Context, s cluster.Store) error {
	entries, _, err := s.List(ctx, "/n")
	if err != nil {
		return err
	}
	var n int
	if _, err := fmt.Sscan(string(entries[0].Value), &n); err != nil {
		return err
	}
	_, err = s.Swap(ctx, "/n", fmt.Append(nil, n+1), entries[0].Revision)
	return err
}

func mustSwap(ctx context.Context, t *testing.T, s cluster.Store, key, value string, rev int64) int64 {
	t.Helper()
	got, err := s.Swap(ctx, key, []byte(value), rev)
	if err != nil {
		t.Fatalf("swap %s at revision %d: %v", key, rev, err)
	}
	return got
}

func wantConflict(ctx context.Context, t *testing.T, s cluster.Store, key, value string, rev int64) {
	t.Helper()
	if _, err := s.Swap(ctx, key, []byte(value), rev); !errors.Is(err, cluster.ErrConflict) {
		t.Fatalf("swap %s at revision %d: %v, want ErrConflict", key, rev, err)
	}
}

func wantEntries(ctx context.Context, t *testing.T, s cluster.Store, prefix string, want ...cluster.Entry) {
	t.Helper()
	got, _, err := s.List(ctx, prefix)
	if err != nil {
		t.Fatal(err)
	}
	equalEntries(t, got, want)
}

func equalEntries(t *testing.T, got, want []cluster.Entry) {
	t.Helper()
	if !slices.EqualFunc(got, want, func(a, b cluster.Entry) bool {
		return a.Key == b.Key && string(a.Value) == string(b.Value) && a.Revision == b.Revision && (a.Value == nil) == (b.Value == nil)
	}) {
		t.Fatalf("got  %v\nwant %v", got, want)
	}
}

// collect takes n changes from a watch, and makes sure that they are in order.
func collect(ctx context.Context, t *testing.T, watched <-chan []cluster.Entry, n int) []cluster.Entry {
	t.Helper()
	var got []cluster.Entry
	for len(got) < n {
		select {
		case entries, open := <-watched:
			if !open {
				t.Fatalf("the watch ended after %d of %d changes", len(got), n)
			}
			got = append(got, entries...)
		case <-ctx.Done():
			t.Fatalf("the watch sent %d of %d changes: %v", len(got), n, got)
		}
	}
	if !slices.IsSortedFunc(got, func(a, b cluster.Entry) int { return int(a.Revision - b.Revision) }) || len(got) > n {
		t.Fatalf("the watch sent %v: out of order, or more than the %d changes made", got, n)
	}
	return got
}
