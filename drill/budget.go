package drill

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"understudy/atomicfile"
	"understudy/cluster"
)

// budget counts the drills on each group in a file, so that a loop, a second operator and a second directory of
// runs cannot wear a group out. It counts what was asked for, also when AWS did not carry it out.
type budget struct {
	path  string
	group string // with its region and endpoint: the same id elsewhere is another group
}

// defaultBudgetFile is where the user's state is kept, not beside the runs: another --dir is no new budget.
func defaultBudgetFile(dir string) string {
	state := os.Getenv("XDG_STATE_HOME")
	if home, err := os.UserHomeDir(); state == "" && err == nil {
		state = filepath.Join(home, ".local", "state")
	}
	if state == "" {
		return filepath.Join(dir, "budget.json")
	}
	return filepath.Join(state, "understudy", "drill-budget.json")
}

// used counts the drills within budgetDay.
func (b budget) used(now time.Time) (int, error) {
	all, err := b.read()
	return len(recent(all[b.group], now)), err
}

func (b budget) read() (map[string][]time.Time, error) {
	all := map[string][]time.Time{}
	text, err := os.ReadFile(b.path)
	if errors.Is(err, fs.ErrNotExist) {
		return all, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &all)
	}
	if err != nil {
		return nil, fmt.Errorf("the budget in %s cannot be read: %w", b.path, err)
	}
	return all, nil
}

func recent(times []time.Time, now time.Time) []time.Time {
	return slices.DeleteFunc(slices.Clone(times), func(t time.Time) bool { return now.Sub(t) > budgetDay })
}

// take counts one more drill, unless limit are counted already. It is on disk when take returns nil. Errors:
// cluster.ErrRefused.
func (b budget) take(now time.Time, limit int) error {
	refuse := func(err error) error { return fmt.Errorf("%w: the budget: %w", cluster.ErrRefused, err) }
	if err := os.MkdirAll(filepath.Dir(b.path), 0o700); err != nil {
		return refuse(err)
	}
	unlock, err := lockFile(b.path + ".lock")
	if err != nil {
		return refuse(err)
	}
	defer unlock()
	all, err := b.read()
	if err != nil {
		return refuse(err)
	}
	for group, times := range all {
		if all[group] = recent(times, now); len(all[group]) == 0 {
			delete(all, group)
		}
	}
	if len(all[b.group]) >= limit {
		return refuse(fmt.Errorf("%d drills in the last 24 hours, %d are allowed", len(all[b.group]), limit))
	}
	all[b.group] = append(all[b.group], now.UTC())
	text, err := json.MarshalIndent(all, "", "  ")
	if err == nil {
		err = atomicfile.WriteSync(b.path, text, 0o600)
	}
	if err != nil {
		return refuse(err)
	}
	return nil
}

// lockFile waits for nobody: who holds it is done in a moment, or is another drill on the same group.
func lockFile(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("%s is held by another drill: %w", path, err)
	}
	return func() { f.Close() }, nil
}
