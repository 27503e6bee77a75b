package etcd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"understudy/cluster"
	"understudy/cluster/clustertest"
)

func open(t testing.TB, dir string) *Embedded {
	t.Helper()
	e, err := StartEmbedded(t.Context(), EmbedOptions{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, e) })
	return e
}

func stop(t testing.TB, e *Embedded) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := e.Stop(ctx); err != nil {
		t.Fatal(err)
	}
}

func TestEmbeddedIsAStore(t *testing.T) {
	clustertest.TestStore(t, func(t *testing.T) cluster.Store { return open(t, t.TempDir()).Store() })
}

func TestEmbeddedIsReadySoonAndLeavesNothingOutsideItsDirectory(t *testing.T) {
	cwd := t.TempDir()
	t.Chdir(cwd)
	dir := t.TempDir() + "/" + strings.Repeat("long", 40) // longer than any unix address may be
	began := time.Now()
	e := open(t, dir)
	took := time.Since(began)
	t.Logf("ready on an empty directory in %v", took)
	if took > time.Second {
		t.Errorf("ready after %v, want well below 1 s", took)
	}
	stop(t, e)
	if left, err := os.ReadDir(cwd); err != nil || len(left) > 0 {
		t.Errorf("left in the working directory: %v (%v)", left, err)
	}
}

func TestEmbeddedComesBackWithItsData(t *testing.T) {
	dir := t.TempDir()
	e := open(t, dir)
	rev, err := e.Store().Swap(t.Context(), "/a", []byte("1"), 0)
	if err != nil {
		t.Fatal(err)
	}
	stop(t, e)
	began := time.Now()
	e = open(t, dir)
	t.Logf("ready on its old data in %v", time.Since(began))
	entries, _, err := e.Store().List(t.Context(), "/a")
	if err != nil || len(entries) != 1 || string(entries[0].Value) != "1" || entries[0].Revision != rev {
		t.Fatalf("after a restart: %v, %v", entries, err)
	}
	if _, err := e.Store().Swap(t.Context(), "/a", []byte("2"), rev); err != nil {
		t.Fatal(err)
	}
}

func TestEmbeddedRefusesADirectoryInUse(t *testing.T) {
	dir := t.TempDir()
	open(t, dir)
	_, err := StartEmbedded(t.Context(), EmbedOptions{Dir: dir})
	if err == nil || !strings.Contains(err.Error(), "in use by process "+strconv.Itoa(os.Getpid())) {
		t.Fatalf("a second member on %s: %v", dir, err)
	}
}

func TestTwoMembersInOneProcessAreStrangers(t *testing.T) {
	a, b := open(t, t.TempDir()), open(t, t.TempDir())
	if _, err := a.Store().Swap(t.Context(), "/a", []byte("1"), 0); err != nil {
		t.Fatal(err)
	}
	entries, _, err := b.Store().List(t.Context(), "/")
	if err != nil || len(entries) > 0 {
		t.Fatalf("the other member has %v (%v)", entries, err)
	}
}

// A watcher that was away for longer than the store's memory must not believe that nothing changed:
// its watch ends, and the list that follows shows what is there.
func TestWatchFromACompactedRevisionEnds(t *testing.T) {
	e := open(t, t.TempDir())
	rev := int64(0)
	for i := range 5 {
		var err error
		if rev, err = e.Store().Swap(t.Context(), "/a", fmt.Append(nil, i), rev); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := e.store.clients[0].Compact(t.Context(), rev); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if got, open := <-e.Store().Watch(ctx, "/", 1); open || ctx.Err() != nil {
		t.Fatalf("a watch from a compacted revision sent %v", got)
	}
	entries, at, err := e.Store().List(ctx, "/")
	if err != nil || len(entries) != 1 || entries[0].Revision != rev {
		t.Fatalf("list: %v at %d, %v", entries, at, err)
	}
}

func TestRefusedIsOnlyWhatTheServerDidNotTake(t *testing.T) {
	for _, c := range []struct {
		err  error
		want bool
	}{
		{rpctypes.ErrNoSpace, true},
		{rpctypes.ErrTooManyRequests, true},
		{rpctypes.ErrNoLeader, true},
		{status.Error(codes.PermissionDenied, "no"), true},
		{status.Error(codes.ResourceExhausted, "too large"), true},
		{context.DeadlineExceeded, false},
		{context.Canceled, false},
		{rpctypes.ErrTimeout, false},
		{rpctypes.ErrTimeoutDueToLeaderFail, false},
		{rpctypes.ErrLeaderChanged, false},
		{status.Error(codes.Unavailable, "the connection broke"), false},
		{errors.New("anything else"), false},
	} {
		if got := refused(c.err); got != c.want {
			t.Errorf("refused(%v) = %v, want %v", c.err, got, c.want)
		}
	}
}

// A swap whose context ends while it is on its way has an unknown outcome, and no other.
func TestSwapCutOffOnItsWayIsUnknown(t *testing.T) {
	e := open(t, t.TempDir())
	rev, unknown := int64(0), 0
	for i := range 200 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i)*5*time.Microsecond)
		got, err := e.Store().Swap(ctx, "/a", fmt.Append(nil, i), rev)
		cancel()
		switch {
		case err == nil:
			rev = got
		case errors.Is(err, cluster.ErrUnavailable):
		case errors.Is(err, cluster.ErrUnknownOutcome):
			unknown++
			entries, _, err := e.Store().List(t.Context(), "/a")
			if err != nil {
				t.Fatal(err)
			}
			if len(entries) > 0 {
				rev = entries[0].Revision
			}
		case errors.Is(err, cluster.ErrConflict):
			// A swap of unknown outcome was carried out after the list above.
			entries, _, err := e.Store().List(t.Context(), "/a")
			if err != nil {
				t.Fatal(err)
			}
			rev = entries[0].Revision
		default:
			t.Fatalf("swap: %v is none of the contract's errors", err)
		}
	}
	if unknown == 0 {
		t.Error("no swap was cut off on its way")
	}
}

func BenchmarkSwap(b *testing.B) {
	e := open(b, b.TempDir())
	rev := int64(0)
	value := []byte(strings.Repeat("x", 600)) // about as much as a lead record
	var took []time.Duration
	for b.Loop() {
		began := time.Now()
		var err error
		if rev, err = e.Store().Swap(b.Context(), "/a", value, rev); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50_us")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99_us")
}

// A restored store may give a revision out again: whoever knew another record under it changes nothing.
func TestSwapMeetsAnotherRecordUnderARevisionGivenOutAgain(t *testing.T) {
	s := open(t, t.TempDir()).Store()
	rev, err := s.Swap(t.Context(), "/understudy/x", []byte("after the restore"), 0)
	if err != nil {
		t.Fatal(err)
	}
	before := &Store{clients: s.clients, moved: make(chan struct{})}
	before.memory.keep(cluster.Entry{Key: "/understudy/x", Value: []byte("before it"), Revision: rev})
	if _, err := before.Swap(t.Context(), "/understudy/x", []byte("late"), rev); !errors.Is(err, cluster.ErrConflict) {
		t.Errorf("a late request changed another record: %v", err)
	}
	if _, err := s.Swap(t.Context(), "/understudy/x", []byte("in time"), rev); err != nil {
		t.Errorf("the record that was seen cannot be changed: %v", err)
	}
}

func TestMemoryKeepsFewRecordsOfAKey(t *testing.T) {
	var m memory
	for rev := range int64(3 * remembered) {
		m.keep(cluster.Entry{Key: "k", Value: []byte{byte(rev)}, Revision: rev})
	}
	if n := len(m.seen["k"]); n != remembered {
		t.Errorf("%d are kept, want %d", n, remembered)
	}
	if n := len(m.unchanged("k", 3*remembered-1)); n != 2 {
		t.Errorf("the newest is not known: %d conditions", n)
	}
	if n := len(m.unchanged("k", 0)); n != 1 {
		t.Errorf("the oldest is still known: %d conditions", n)
	}
}
