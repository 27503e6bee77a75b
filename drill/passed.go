package drill

import (
	"path/filepath"
	"sync"
	"time"
)

// Passed tells when groups have last passed a drill, by the runs that are kept in Dir: those of local groups. A run is
// read once, so that it may be asked often. Any goroutine may.
type Passed struct {
	Dir string

	mu     sync.Mutex
	looked time.Time
	passed map[string]pass // by run
}

// pass is a run of a group; zero: it did not pass, or was somebody else's group.
type pass struct {
	group string
	at    time.Time
}

// lookEvery bounds how often the directory is listed: a drill takes longer.
const lookEvery = 5 * time.Second

// Newest is when the newest drill began that the group has passed; zero: none is kept.
func (p *Passed) Newest(group string, now time.Time) (newest time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if since := now.Sub(p.looked); p.passed == nil || since >= lookEvery || since < 0 {
		p.looked = now
		p.look()
	}
	for _, x := range p.passed {
		if x.group == group && x.at.After(newest) {
			newest = x.at
		}
	}
	return newest
}

// look reads the runs that are new, and forgets those that are gone. One that cannot be read has passed nothing.
func (p *Passed) look() {
	ids, _ := runs(p.Dir) // its pattern is ours
	kept := make(map[string]pass, len(ids))
	for _, id := range ids {
		x, known := p.passed[id]
		if !known {
			var r Result
			if err := readFile(filepath.Join(p.Dir, id, resultFile), &r); err == nil && r.Verdict == Pass && r.Target == targetLocal {
				x = pass{r.Group, r.Started}
			}
		}
		kept[id] = x
	}
	p.passed = kept
}
