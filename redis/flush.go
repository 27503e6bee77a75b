package redis

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// redis-server is told never to sync its append-only file (appendfsync no), and we sync it for it. Under
// everysec it puts the write itself off, for two seconds at most, while a sync is under way: SIGKILL then
// takes writes that it has answered. So every answered write is in the kernel's hands, whatever becomes of
// the process, and on the disk a second later.

// flushEvery is how old an answered write gets before it is on its way to the disk: what a power loss of
// every machine at once can take. As everysec.
const flushEvery = time.Second

// flusher syncs the append-only files of one directory.
type flusher struct {
	dir  string
	log  *slog.Logger
	sync func(*os.File) error
	size map[string]int64 // of each file when it was synced last
	said string           // the newest failure that was logged
}

func newFlusher(dir string, log *slog.Logger) *flusher {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &flusher{dir: filepath.Join(dir, "appendonlydir"), log: log, size: map[string]int64{},
		sync: func(f *os.File) error { return unix.Fdatasync(int(f.Fd())) }}
}

// run syncs until the server has ended, and once more then: what it wrote last is still the kernel's.
func (f *flusher) run(exited <-chan struct{}) {
	tick := time.NewTicker(flushEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			f.flush()
		case <-exited:
			f.flush()
			return
		}
	}
}

// flush syncs what has grown. redis-server says itself when a write fails; a sync that fails is said here.
func (f *flusher) flush() {
	said := ""
	if err := f.each(); err != nil {
		said = err.Error()
	}
	if said != "" && said != f.said {
		f.log.Error("the append-only file cannot be synced to disk: a power loss would take what was written since", "error", said)
	}
	f.said = said
}

func (f *flusher) each() error {
	files, err := os.ReadDir(f.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // the server is just starting
	}
	var errs error
	for _, file := range files {
		if strings.HasSuffix(file.Name(), ".incr.aof") {
			errs = errors.Join(errs, f.one(file.Name()))
		}
	}
	return errors.Join(err, errs)
}

func (f *flusher) one(name string) error {
	file, err := os.Open(filepath.Join(f.dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // rewritten meanwhile
	}
	if err != nil {
		return err
	}
	defer file.Close()
	st, err := file.Stat()
	if err != nil || st.Size() == f.size[name] {
		return err
	}
	if err := f.sync(file); err != nil {
		return &fs.PathError{Op: "fdatasync", Path: file.Name(), Err: err}
	}
	f.size[name] = st.Size() // from before the sync: what came since is synced with the next
	return nil
}
