package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// process is one that ran when the test looked. Its start time tells it from a later one that was
// given the same number.
type process struct {
	pid     int
	started string // in clock ticks since boot
	name    string
}

func (p process) String() string { return fmt.Sprintf("%s (pid %d)", p.name, p.pid) }

// look reads a process and its parent's number; false when there is none, or only what its parent
// has not collected yet.
func look(pid int) (p process, parent int, ok bool) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return process{}, 0, false
	}
	// proc_pid_stat(5): pid (name) state ppid … starttime is field 22. The name may hold anything.
	open, end := strings.IndexByte(string(text), '('), strings.LastIndexByte(string(text), ')')
	fields := strings.Fields(string(text[end+1:]))
	if open < 0 || len(fields) < 20 || fields[0] == "Z" || fields[0] == "X" {
		return process{}, 0, false
	}
	parent, _ = strconv.Atoi(fields[1])
	return process{pid: pid, started: fields[19], name: string(text[open+1 : end])}, parent, true
}

// processes are `understudy up` and all that descends from it: redis-servers, the fencer. The pids
// of the status must be among them.
func (g *Group) processes() []process {
	g.t.Helper()
	entries, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		g.t.Fatal(err)
	}
	children := map[int][]process{}
	var root process
	for _, e := range entries {
		pid, _ := strconv.Atoi(filepath.Base(e))
		p, parent, ok := look(pid)
		if !ok {
			continue
		}
		children[parent] = append(children[parent], p)
		if pid == g.PID {
			root = p
		}
	}
	family := []process{root}
	for i := 0; i < len(family); i++ {
		family = append(family, children[family[i].pid]...)
	}
	return family
}

// demandGone fails the test when a process still runs after within.
func (g *Group) demandGone(family []process, within time.Duration) {
	g.t.Helper()
	deadline := time.Now().Add(within)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for _, p := range family {
		for alive(p) {
			if time.Now().After(deadline) {
				g.t.Errorf("left behind: %v", p)
				break
			}
			<-tick.C
		}
	}
}

// alive reports whether that very process still runs.
func alive(p process) bool {
	now, _, ok := look(p.pid)
	return ok && now.started == p.started
}
