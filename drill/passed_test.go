package drill

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Only a drill that a local group passed says when that was, and only as long as it is kept.
func TestTheNewestDrillThatAGroupPassedIsFound(t *testing.T) {
	dir, day := filepath.Join(t.TempDir(), "drills"), time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
	keep := func(days int, group string, v Verdict, target string) {
		r := Result{ID: fmt.Sprintf("run-%d", days), Group: group, Verdict: v, Target: target, Started: day.AddDate(0, 0, days)}
		if err := r.save(dir, nil); err != nil {
			t.Fatal(err)
		}
	}
	p := &Passed{Dir: dir}
	now := day.AddDate(0, 1, 0)
	want := func(days int) {
		t.Helper()
		now = now.Add(lookEvery)
		if got := p.Newest("main", now); days < 0 && !got.IsZero() || days >= 0 && !got.Equal(day.AddDate(0, 0, days)) {
			t.Errorf("%v, want day %d", got, days)
		}
	}
	want(-1)
	keep(1, "main", Pass, targetLocal)
	keep(2, "main", Pass, targetLocal)
	want(2)
	keep(3, "main", Fail, targetLocal)
	keep(4, "other", Pass, targetLocal)
	keep(5, "main", Pass, "sentinel://a:1/main")
	if err := os.MkdirAll(filepath.Join(dir, "run-6"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "run-6", resultFile), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	want(2)
	if err := os.RemoveAll(filepath.Join(dir, "run-2")); err != nil {
		t.Fatal(err)
	}
	want(1)
}
