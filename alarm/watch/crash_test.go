package watch

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"understudy/cluster"
	"understudy/cluster/clustertest"
)

// dying is a store that is gone after some writes, for the process that uses it. The last one may be carried out though
// its answer is lost.
type dying struct {
	*clustertest.Memory
	mu        sync.Mutex
	left      int
	carryLast bool
}

func (d *dying) Swap(ctx context.Context, key string, value []byte, rev int64) (int64, error) {
	d.mu.Lock()
	d.left--
	left := d.left
	d.mu.Unlock()
	switch {
	case left > 0:
		return d.Memory.Swap(ctx, key, value, rev)
	case left == 0 && d.carryLast:
		_, _ = d.Memory.Swap(ctx, key, value, rev)
	}
	return 0, cluster.ErrUnavailable
}

func (d *dying) List(ctx context.Context, prefix string) ([]cluster.Entry, int64, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.left <= 0 {
		return nil, 0, cluster.ErrUnavailable
	}
	return d.Memory.List(ctx, prefix)
}

func (d *dying) dead() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.left <= 0
}

// TestNoActionIsMissedOrDoubledByACrash ends a process at each of its writes, and has another one go on. Whatever the moment,
// each change in the history has its one message, and the history tells each action once.
func TestNoActionIsMissedOrDoubledByACrash(t *testing.T) {
	for _, carried := range []bool{false, true} {
		for at := 2; ; at++ {
			ended := false
			synctest.Test(t, func(t *testing.T) { ended = crashAt(t, at, carried) })
			if t.Failed() {
				t.Fatalf("the crash was at write %d, carried out: %v", at, carried)
			}
			if !ended {
				break
			}
			if at > 100 {
				t.Fatal("the scenario never ends without a crash")
			}
		}
	}
}

// crashAt reports whether the process died.
func crashAt(t *testing.T, at int, carried bool) bool {
	world := newWorld(t)
	store := &dying{Memory: &clustertest.Memory{}, left: at, carryLast: carried}
	world.store = store
	world.set("m", 1)
	w, stop := world.start()
	if err := w.Put(t.Context(), above("high", "m", time.Second)); err != nil {
		w, stop = restart(t, world, store, stop)
		if _, ok := w.Alarm("high"); !ok {
			put(t, w, above("high", "m", time.Second))
		}
	}
	died := store.dead()
	for _, v := range []float64{1, 20, 2, 30} {
		world.set("m", v)
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if store.dead() {
			died = true
			w, stop = restart(t, world, store, stop)
			time.Sleep(3 * time.Second)
			synctest.Wait()
		}
	}
	defer stop()
	var changes, actions []string // oldest first
	for _, e := range slices.Backward(w.History("high")) {
		switch e.Kind {
		case StateUpdate:
			_, to, _ := strings.Cut(e.Summary, " to ")
			changes = append(changes, "t "+to)
		case Action:
			actions = append(actions, e.Data)
		}
	}
	if !slices.Equal(changes, world.taken()) || len(changes) != 4 {
		t.Errorf("the history has the changes %v, topics were told %v", changes, world.taken())
	}
	if len(actions) != len(changes) {
		t.Errorf("%d actions in the history for %d changes", len(actions), len(changes))
	}
	for i, p := range world.posts {
		if i < len(actions) && !strings.Contains(actions[i], p.ID) {
			t.Errorf("action %d is not that of message %s: %s", i, p.ID, actions[i])
		}
	}
	if a, _ := w.Alarm("high"); len(a.Untold) != 0 {
		t.Errorf("untold: %+v", a.Untold)
	}
	return died
}

// restart ends the process whose store is gone, and starts another one.
func restart(t *testing.T, world *world, store *dying, stop func()) (*Watch, func()) {
	t.Helper()
	stop()
	store.mu.Lock()
	store.left = 1 << 30
	store.mu.Unlock()
	return world.start()
}
