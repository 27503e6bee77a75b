package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"

	"understudy/atomicfile"
	"understudy/cluster"
)

// bootIDFile names this start of the operating system: what a process wrote and did not sync is still
// there as long as it reads the same, whatever became of the process.
const bootIDFile = "/proc/sys/kernel/random/boot_id"

// note is the file "run.json" on this node's disk. It says what the data set beside it is worth to the
// next run of redis-server.
type note struct {
	State string `json:"state"` // "running" while the server runs and after a crash of it; "stopped" after an end in order
	Boot  string `json:"boot"`  // of the operating system under which that was
	// Whole: the data set is all that this node had when it last was a primary, and it has followed nobody
	// since. It is taken back on disk BEFORE the server follows, so that a crash in between errs on the
	// safe side; and given only when no append-only file is being written anew: after a full sync the disk
	// holds what was there before until then.
	Whole bool `json:"whole,omitempty"`
	// Short: a power loss took the newest writes, and nothing has made up for that since.
	Short bool `json:"short,omitempty"`
	// At is where the log ended when the server was stopped in order, and the data set has not changed
	// since. redis-server itself forgets it: it reads its append-only file under a new replication id.
	At cluster.Position `json:"at,omitzero"`
	// Files is what the data set looked like then: another one says nothing of what this note is about.
	Files string `json:"files,omitempty"`
	// Loads is what the data set looked like when the server was started that is to read it, until it is known
	// that it has read that one: see runs.loaded.
	Loads dataset `json:"loads,omitempty"`
}

const (
	stateRunning = "running"
	stateStopped = "stopped"
)

// runs keeps the note.
type runs struct {
	dir  string
	boot string // of this start of the operating system; "" when that cannot be read: it equals no other

	// mu is held while the note is written: its writers must follow one another, and the loop is none
	// of them.
	mu   sync.Mutex
	note note

	// What the loop reads of it, which must not wait for a disk.
	whole   atomic.Bool
	changes atomic.Int64 // grows when the data set is about to become another one
}

func openRuns(dir, bootIDFile string) *runs {
	boot, _ := os.ReadFile(bootIDFile)
	return &runs{dir: dir, boot: strings.TrimSpace(string(boot))}
}

// worth is what the data set on disk is worth to the server that starts on it.
type worth struct {
	intact, short bool             // failover.Local says what they mean
	exact         cluster.Position // where its log ends; empty: not known
	last          cluster.Position // where it was seen last; empty: not known
}

// begin says what the data set of the given files, if there is one, is worth to the server that is about to
// start, and notes, on disk when it returns, that one runs, and what it is to read. The newest writes may be
// missing when the operating system was started again since the last run, and that did not end in order.
func (r *runs) begin(files string, set dataset) (worth, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.changes.Add(1)
	text, err := os.ReadFile(r.path("run.json"))
	n := note{}
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return worth{}, fmt.Errorf("how the last run ended: %w", err)
	case json.Unmarshal(text, &n) != nil:
		n = note{} // written whole or not at all: the disk is damaged, and the note is worth nothing
	}
	var cut func(string) (int64, bool)
	if n.Boot != r.boot { // the power was lost, and with it the end of the newest file: that is the note's to tell
		cut = func(string) (int64, bool) { return 0, true }
	}
	if n.Loads.changed(set, cut) != "" {
		n = note{} // the server before did not get to reading what it was started on, and that is gone
	}
	data := files != ""
	switch {
	case n.Files == "" || n.Files == files:
	case n.State == stateStopped:
		n = note{} // somebody has put another data set there
	default:
		n.At, n.Files = cluster.Position{}, "" // a server ran, and may have written its file anew
	}
	lostPower := n.State != stateStopped && n.At == (cluster.Position{}) && (n.Boot == "" || n.Boot != r.boot)
	n.Short = data && (n.Short || lostPower)
	if !data {
		n.Whole, n.At, n.Files = false, cluster.Position{}, ""
	}
	w := worth{intact: n.Whole && !n.Short, short: n.Whole && n.Short, exact: n.At}
	if data && !lostPower && n.At == (cluster.Position{}) {
		w.last = r.readLast()
	}
	n.State, n.Boot, n.Loads = stateRunning, r.boot, set
	r.note = n
	return w, r.write()
}

// loaded notes that the server has read the data set that it was started on.
func (r *runs) loaded() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.put(func(n *note) { n.Loads = nil })
}

// replaced notes that the server has read another data set, or none: what is on disk is worth nothing.
func (r *runs) replaced() error {
	return r.worthless(func(n *note) { n.Whole, n.Short, n.At, n.Files, n.Loads = false, false, cluster.Position{}, "", nil })
}

// follows notes, before redis-server becomes a replica of another node, that what the disk holds is
// going to be that node's. A disk that takes nothing more loses the note instead, which says the same.
func (r *runs) follows() error {
	return r.worthless(func(n *note) { n.Whole, n.At, n.Files = false, cluster.Position{}, "" })
}

func (r *runs) worthless(f func(*note)) error {
	_, err := r.change(f)
	if err == nil {
		return nil
	}
	if gone := os.Remove(r.path("run.json")); gone != nil && !errors.Is(gone, fs.ErrNotExist) {
		return errors.Join(err, gone)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.note = note{State: stateRunning, Boot: r.boot}
	r.whole.Store(false)
	return atomicfile.Sync(r.dir)
}

// promotes notes, before redis-server becomes a primary, that its log goes on. It returns what promoted is
// to be called with.
func (r *runs) promotes() (int64, error) {
	return r.change(func(n *note) { n.At, n.Files = cluster.Position{}, "" })
}

func (r *runs) change(f func(*note)) (int64, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.changes.Add(1)
	return n, r.put(f)
}

// promoted notes that the data set is the group's now: nothing that it lacks will ever be found. whole says
// that the disk has all of it already. changes is from before the promotion, so that one of an earlier
// server says nothing.
func (r *runs) promoted(changes int64, whole bool) error {
	return r.unlessChanged(changes, func(n *note) { n.Short, n.Whole = false, n.Whole || whole })
}

// led notes that the disk holds all that a primary has. changes is from when that was seen.
func (r *runs) led(changes int64) error {
	return r.unlessChanged(changes, func(n *note) { n.Whole = true })
}

func (r *runs) unlessChanged(changes int64, f func(*note)) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if changes != r.changes.Load() {
		return nil
	}
	return r.put(f)
}

// stopped notes that the server ended in order: all that it had is on disk. at is where its log ended;
// empty when that is not known. files is what the data set looks like.
func (r *runs) stopped(at cluster.Position, files string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.put(func(n *note) { n.State, n.At, n.Files = stateStopped, at, files })
}

// put changes the note, and writes it if that made a difference. A change that the disk did not take is
// none: mu is held.
func (r *runs) put(f func(*note)) error {
	before := r.note
	if f(&r.note); reflect.DeepEqual(r.note, before) {
		return nil
	}
	if err := r.write(); err != nil {
		r.note = before
		r.whole.Store(before.Whole)
		return err
	}
	return nil
}

func (r *runs) write() error {
	text, err := json.Marshal(r.note)
	if err != nil {
		return err
	}
	r.whole.Store(r.note.Whole)
	return atomicfile.WriteSync(r.path("run.json"), append(text, '\n'), 0o600)
}

func (r *runs) path(name string) string { return filepath.Join(r.dir, name) }

// looked keeps where the log was seen. It is not synced, and may be torn: it only has to outlive this
// process, and a torn one is not there.
func (r *runs) looked(at cluster.Position) error {
	text, err := json.Marshal(at)
	if err != nil {
		return err
	}
	return os.WriteFile(r.path("last.json"), text, 0o600)
}

func (r *runs) readLast() cluster.Position {
	var at cluster.Position
	text, err := os.ReadFile(r.path("last.json"))
	if err != nil || json.Unmarshal(text, &at) != nil {
		return cluster.Position{}
	}
	return at
}
