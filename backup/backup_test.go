package backup

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"understudy/cluster"
)

// shop is a source with data that is not Redis's: what an RDB file is, is Check's to know.
type shop struct {
	data string
	size int64
	fail error
	gate chan struct{} // closed when Dump may go on; nil: at once
	most atomic.Int32  // Dumps at once, at most
	now  atomic.Int32
}

func (s *shop) DataSize(context.Context, string) (int64, error) {
	return max(s.size, int64(len(s.data))), nil
}

func (s *shop) Dump(ctx context.Context, group, to string) (Dumped, error) {
	n := s.now.Add(1)
	defer s.now.Add(-1)
	for old := s.most.Load(); n > old && !s.most.CompareAndSwap(old, n); old = s.most.Load() {
	}
	if s.gate != nil {
		select {
		case <-s.gate:
		case <-ctx.Done():
			return Dumped{}, ctx.Err()
		}
	}
	if err := os.WriteFile(to, []byte(s.data), 0o600); err != nil {
		return Dumped{}, err
	}
	return Dumped{Spec: cluster.Spec{Name: group, Secret: "/key"}, Node: "main-002", Role: cluster.RoleReplica, Epoch: 3, At: time.Now().UTC(), Engine: "redis", Version: "7.0.15"}, s.fail
}

// check takes a file for an RDB when it begins as one.
func check(_ context.Context, path string) (Contents, error) {
	text, err := os.ReadFile(path)
	if err == nil && !bytes.HasPrefix(text, []byte("REDIS")) {
		err = errors.New("it is no RDB file")
	}
	return Contents{Keys: int64(bytes.Count(text, []byte("k"))), Expires: 1}, err
}

func open(t *testing.T, dir string, events *[]string) *Archive {
	t.Helper()
	var mu sync.Mutex
	a, err := Open(Options{Dir: dir, Check: check, OnEvent: func(e cluster.Event) {
		mu.Lock()
		defer mu.Unlock()
		if events != nil {
			*events = append(*events, e.Name)
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func create(t *testing.T, a *Archive, s Source, r Request) (Backup, error) {
	t.Helper()
	w, err := a.Begin(r, s)
	if err != nil {
		t.Fatal(err)
	}
	return w.Do(t.Context())
}

func ids(list []Backup) (all string) {
	for _, b := range list {
		all += fmt.Sprintf("%s:%s ", b.ID, b.State)
	}
	return strings.TrimSpace(all)
}

func TestABackupIsWholeAndVerifiedOrNotThere(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "backups")
	var events []string
	a := open(t, dir, &events)
	good := &shop{data: "REDISkkk"}
	b, err := create(t, a, good, Request{ID: "one", Group: "main", Attributes: map[string]int{"port": 1}})
	if err != nil || b.State != StateAvailable || b.Keys != 3 || b.Bytes != 8 || b.Node != "main-002" || b.Spec.Secret != "" || b.Finished.IsZero() || len(b.SHA256) != 64 {
		t.Fatalf("%+v, %v", b, err)
	}
	if _, err := a.Begin(Request{ID: "one", Group: "main"}, good); !errors.Is(err, ErrExists) {
		t.Errorf("a second of that name: %v", err)
	}
	for _, bad := range []string{"", "..", ".x", "a/b", "A", "-a", strings.Repeat("a", 256)} {
		if err := CheckName(bad); !errors.Is(err, ErrName) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	// What is damaged when it is written, or is not written at all, is never there.
	for id, s := range map[string]*shop{"damaged": {data: "RADISH"}, "refused": {data: "REDIS", fail: errors.New("no")}, "large": {data: "REDIS", size: 1 << 60}} {
		b, err := create(t, a, s, Request{ID: id, Group: "main"})
		if err == nil || b.State != StateFailed || b.Reason == "" {
			t.Errorf("%s: %+v, %v", id, b, err)
		}
		if id == "large" != errors.Is(err, ErrRoom) {
			t.Errorf("%s: %v", id, err)
		}
	}
	left, _ := os.ReadDir(dir)
	if len(left) != 1 {
		t.Errorf("there are %v", left)
	}
	// The same in the next process, which knows nothing of those.
	if got := ids(open(t, dir, nil).List("main")); got != "one:available" {
		t.Errorf("there are %s", got)
	}
	again, err := open(t, dir, nil).Get("one")
	if err != nil || again.SHA256 != b.SHA256 || string(*again.Attributes) != "{\n    \"port\": 1\n  }" {
		t.Errorf("%+v, %s, %v", again, *again.Attributes, err)
	}
	if got := strings.Join(events, " "); !strings.HasPrefix(got, "backup_made backup_failed") {
		t.Errorf("told of %s", got)
	}
}

func TestADamagedBackupIsFoundAndNeverRestored(t *testing.T) {
	dir := t.TempDir()
	a := open(t, dir, nil)
	for _, id := range []string{"read", "put", "short", "fine"} {
		if _, err := create(t, a, &shop{data: "REDISkkk"}, Request{ID: id, Group: "main"}); err != nil {
			t.Fatal(err)
		}
	}
	spoil := func(id, data string) {
		if err := os.WriteFile(filepath.Join(dir, id, dumpFile), []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	spoil("read", "REDISkkl")
	spoil("put", "REDISkkl")
	spoil("short", "REDIS")
	to := filepath.Join(t.TempDir(), "base.rdb")
	if _, err := a.Verify(t.Context(), "read"); !errors.Is(err, ErrDamaged) {
		t.Errorf("verified: %v", err)
	}
	for _, id := range []string{"put", "read"} {
		if err := a.Put(t.Context(), id, to); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: restored: %v", id, err)
		}
		if _, err := os.Stat(to); err == nil {
			t.Errorf("%s: damaged bytes are left where a server would read them", id)
		}
		if _, err := a.BeginCopy(id, "copy", nil); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: copied: %v", id, err)
		}
	}
	if err := a.Put(t.Context(), "fine", to); err != nil {
		t.Error(err)
	}
	if got := ids(open(t, dir, nil).List("")); got != "read:damaged put:damaged short:damaged fine:available" {
		t.Errorf("the next process finds %s", got)
	}
}

func TestWhatWasNotFinishedIsClearedAway(t *testing.T) {
	dir := t.TempDir()
	a := open(t, dir, nil)
	w, err := a.Begin(Request{ID: "half", Group: "main"}, &shop{data: "REDIS"})
	if err != nil {
		t.Fatal(err)
	}
	half := filepath.Join(dir, newPrefix+"1")
	for _, err := range []error{os.Mkdir(half, 0o700), writeSync(filepath.Join(half, begunFile), w.Backup().Manifest), os.WriteFile(filepath.Join(half, dumpFile), []byte("REDIS"), 0o600),
		os.Mkdir(filepath.Join(dir, oldPrefix+"1"), 0o700), os.Mkdir(filepath.Join(dir, "lost+found"), 0o700)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	var events []string
	if list := open(t, dir, &events).List(""); len(list) > 0 || strings.Join(events, " ") != "backup_interrupted" {
		t.Errorf("%s; told of %v", ids(list), events)
	}
	left, _ := os.ReadDir(dir)
	if len(left) != 1 || left[0].Name() != "lost+found" {
		t.Errorf("there are %v", left)
	}
}

func TestCopiesDeletionAndRetention(t *testing.T) {
	dir := t.TempDir()
	a := open(t, dir, nil)
	for id, kind := range map[string]Kind{"auto": KindAutomatic, "manual": KindManual, "final": KindFinal} {
		if _, err := create(t, a, &shop{data: "REDISk"}, Request{ID: id, Group: "main", Kind: kind}); err != nil {
			t.Fatal(err)
		}
	}
	w, err := a.BeginCopy("auto", "copy", nil)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := w.Do(t.Context()); err != nil || b.Kind != KindManual || b.CopyOf != "auto" || b.Bytes != 6 || b.Group != "main" {
		t.Errorf("%+v, %v", b, err)
	}
	_, end, err := a.use("auto", false)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Delete("auto"); !errors.Is(err, ErrState) {
		t.Errorf("deleted while it is read: %v", err)
	}
	end()
	if err := errors.Join(a.Prune("main", time.Now().Add(-time.Hour)), a.Prune("other", time.Now().Add(time.Hour))); err != nil || len(a.List("")) != 4 {
		t.Errorf("nothing is old: %v, %s", err, ids(a.List("")))
	}
	if err := a.Prune("main", time.Now().Add(time.Hour)); err != nil {
		t.Error(err)
	}
	if _, err := a.Get("auto"); !errors.Is(err, ErrNotFound) || len(a.List("")) != 3 {
		t.Errorf("%v, %s", err, ids(a.List("")))
	}
	if err := errors.Join(a.Delete("manual"), a.Delete("copy")); err != nil {
		t.Error(err)
	}
	if err := a.Delete("copy"); !errors.Is(err, ErrNotFound) {
		t.Errorf("deleted again: %v", err)
	}
	left, _ := os.ReadDir(dir)
	if len(left) != 1 || left[0].Name() != "final" {
		t.Errorf("there are %v", left)
	}
}

func TestBackupsWaitForTheirTurn(t *testing.T) {
	a := open(t, t.TempDir(), nil)
	s := &shop{data: "REDIS", gate: make(chan struct{})}
	var wg sync.WaitGroup
	refused := atomic.Int32{}
	for i := range maxWaiting + 8 {
		w, err := a.Begin(Request{ID: fmt.Sprint("b", i), Group: "main"}, s)
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			if _, err := w.Do(t.Context()); errors.Is(err, ErrBusy) {
				refused.Add(1)
			}
		})
	}
	if got := len(a.List("main")); got != maxWaiting+8 {
		t.Errorf("%d are listed", got)
	}
	if err := a.Delete("b0"); !errors.Is(err, ErrState) && a.List("main")[0].State != StateFailed {
		t.Errorf("deleted while it is made: %v", err)
	}
	for refused.Load() < 7 { // one works, maxWaiting wait
		time.Sleep(time.Millisecond)
	}
	close(s.gate)
	wg.Wait()
	if s.most.Load() != 1 {
		t.Errorf("%d at once", s.most.Load())
	}
}

// A disk that is full in the middle leaves nothing, and the next backup finds the room again.
func TestAFullDiskLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=256k"); err != nil {
		t.Skip("a small disk needs root: ", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	a := open(t, dir, nil)
	lies := &shop{data: "REDIS" + strings.Repeat("k", 400<<10), size: -1}
	w, err := a.Begin(Request{ID: "full", Group: "main"}, small{lies})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Do(t.Context()); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("%v", err)
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("there are %v", left)
	}
	if _, err := create(t, a, &shop{data: "REDIS" + strings.Repeat("k", 100<<10)}, Request{ID: "fits", Group: "main"}); err != nil {
		t.Error(err)
	}
	if _, err := create(t, a, &shop{data: "REDIS" + strings.Repeat("k", 140<<10)}, Request{ID: "nearly", Group: "main"}); !errors.Is(err, ErrRoom) {
		t.Errorf("a tenth of the disk stays free: %v", err)
	}
}

// small says that its data take no room.
type small struct{ *shop }

func (small) DataSize(context.Context, string) (int64, error) { return 0, nil }

func TestRequestsAreAnsweredOnceAndAgain(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		a := open(t, dir, nil)
		s := &shop{data: "REDISk", gate: make(chan struct{})}
		api := NewAPI(APIOptions{Archive: a, Source: s, Home: "main"})
		h := api.Handler()
		ask := func(method, path, body string) (int, Outcome) {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequest(method, path, strings.NewReader(body)).WithContext(t.Context()))
			var o Outcome
			if err := json.Unmarshal(w.Body.Bytes(), &o); err != nil {
				t.Errorf("%s %s: %s", method, path, w.Body)
			}
			return w.Code, o
		}
		if code, o := ask(http.MethodPost, "/api/backups", `{"request_id":"r","id":"one"}`); code != http.StatusAccepted || o.Done {
			t.Errorf("under way: %d %+v", code, o)
		}
		if code, o := ask(http.MethodPost, "/api/backups", `{"request_id":"r","id":"other"}`); code != http.StatusBadRequest {
			t.Errorf("another request under that id: %d %+v", code, o)
		}
		if code, o := ask(http.MethodPost, "/api/backups", `{"id":"one"}`); code != http.StatusConflict || !o.Refused {
			t.Errorf("the name is taken: %d %+v", code, o)
		}
		close(s.gate)
		for range 2 {
			if code, o := ask(http.MethodPost, "/api/backups", `{"request_id":"r","id":"one"}`); code != http.StatusOK || !o.OK || o.Backup.Group != "main" || o.Backup.Keys != 1 {
				t.Errorf("made, and told again: %d %+v", code, o)
			}
		}
		if code, o := ask(http.MethodPost, "/api/backups/one/verify", ""); code != http.StatusOK || !o.OK {
			t.Errorf("verified: %d %+v", code, o)
		}
		if code, o := ask(http.MethodPost, "/api/backups/none/restore", `{"group":"x"}`); code != http.StatusConflict || !o.Refused {
			t.Errorf("nobody restores here: %d %+v", code, o)
		}
		if code, _ := ask(http.MethodPost, "/api/backups", `{"what":1}`); code != http.StatusBadRequest {
			t.Errorf("an unknown member: %d", code)
		}
		if code, o := ask(http.MethodDelete, "/api/backups/one", ""); code != http.StatusOK || !o.OK {
			t.Errorf("deleted: %d %+v", code, o)
		}
		if code, o := ask(http.MethodGet, "/api/backups/one", ""); code != http.StatusBadGateway || o.OK {
			t.Errorf("it is gone: %d %+v", code, o)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := api.Run(ctx); err != nil {
			t.Error(err)
		}
		if code, o := ask(http.MethodPost, "/api/backups", ""); code != http.StatusBadGateway {
			t.Errorf("asked while it stops: %d %+v", code, o)
		}
	})
}
