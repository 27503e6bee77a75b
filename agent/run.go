package agent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"understudy/redis"
)

// bootIDFile names this start of the operating system: what a process wrote and did not sync is still
// there as long as it reads the same, whatever became of the process.
const bootIDFile = "/proc/sys/kernel/random/boot_id"

// runs keeps a note on this node's disk that says how the last run of its redis-server ended, so that
// the next one knows what its data set is worth. The note is one line of words: "running BOOT" while the
// server runs and after a crash of it, "stopped BOOT" after it ended in order, and "short" behind
// either when a power loss took the newest writes and nothing has made up for that since.
type runs struct {
	note string // path
	boot string // of this start of the operating system; "" when that cannot be read: it equals no other

	// mu is held while the note is written: its writers must follow one another, and the loop is none
	// of them.
	mu     sync.Mutex
	server *redis.Server // whose run the note is about
	short  bool
}

func openRuns(dir, bootIDFile string) *runs {
	boot, _ := os.ReadFile(bootIDFile)
	return &runs{note: filepath.Join(dir, "run"), boot: strings.TrimSpace(string(boot))}
}

// begin says whether a power loss may have taken the newest writes of the data set, if there is one, that
// a server is about to start on: the operating system was started again since the last run, and that run
// did not end in order. It notes, on disk when it returns, that a server runs.
func (r *runs) begin(data bool) (short bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.server = nil
	text, err := os.ReadFile(r.note)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return false, fmt.Errorf("how the last run ended: %w", err)
	}
	state, rest, _ := strings.Cut(strings.TrimSpace(string(text)), " ")
	boot, mark, _ := strings.Cut(rest, " ")
	r.short = data && (mark == "short" || state != "stopped" && (boot == "" || boot != r.boot))
	return r.short, r.write("running")
}

// started says which server begin was about.
func (r *runs) started(s *redis.Server) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.server = s
}

// promoted notes that this server's data set is the group's now: nothing that it lacks will ever be
// found. It does nothing when another server has been started since.
func (r *runs) promoted(s *redis.Server) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.short || r.server != s {
		return nil
	}
	r.short = false
	return r.write("running")
}

// stopped notes that the server ended in order: all that it had is on disk.
func (r *runs) stopped() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.write("stopped")
}

// write replaces the note. mu is held.
func (r *runs) write(state string) error {
	boot := r.boot
	if boot == "" {
		boot = "unknown"
	}
	line := state + " " + boot
	if r.short {
		line += " short"
	}
	return writeSync(r.note, line+"\n")
}
