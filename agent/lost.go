package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"understudy/atomicfile"
	"understudy/cluster"
	"understudy/failover"
	"understudy/redis"
)

// A node whose log went past the place where the group's log left it puts its data set aside before it
// follows:
//
//	<Dir>/lost/<epoch>/dump.rdb    the whole data set, as Redis writes it
//	                   lost.json   cluster.Divergence
//
// It is written beside, under a name that begins with a dot, and renamed: what has the epoch's name is whole.

// saveWithin bounds one attempt to put a data set aside: 20 GB at 100 MB/s, and as much again.
const saveWithin = 7 * time.Minute

// minFree is the share of the disk, in percent, that a saved data set must leave: an append-only file that
// finds none makes its server refuse writes, which costs more than what was saved.
const minFree = 10

// lostEvery is how often stock is taken of what was put aside: an operator may move it away.
const lostEvery = time.Minute

// lost knows the data sets that were put aside.
type lost struct {
	dir  string
	keep int   // how many
	size int64 // of all together, in bytes

	readAt time.Duration // the loop's: when to take stock again

	mu   sync.Mutex
	sets []cluster.Divergence // oldest first
}

func openLost(o Options) (*lost, error) {
	l := &lost{dir: filepath.Join(o.Dir, "lost"), keep: o.LostKeep, size: o.LostBytes}
	unfinished, err := filepath.Glob(filepath.Join(l.dir, ".*"))
	if err != nil {
		return nil, err
	}
	for _, path := range unfinished {
		if err := os.RemoveAll(path); err != nil {
			return nil, fmt.Errorf("clear away what was not finished: %w", err)
		}
	}
	return l, l.read()
}

// read takes stock of what is there. A directory without a readable lost.json was not made by us, and is
// left alone.
func (l *lost) read() error {
	names, err := filepath.Glob(filepath.Join(l.dir, "[0-9]*", "lost.json"))
	if err != nil {
		return err
	}
	var sets []cluster.Divergence
	for _, name := range names {
		var d cluster.Divergence
		text, err := os.ReadFile(name)
		if err != nil || json.Unmarshal(text, &d) != nil {
			continue
		}
		d.Path = filepath.Dir(name) // the whole data directory may have been moved
		sets = append(sets, d)
	}
	slices.SortFunc(sets, func(a, b cluster.Divergence) int { return a.Time.Compare(b.Time) })
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sets = sets
	return nil
}

// all is what is there, oldest first. The caller must not change it.
func (l *lost) all() []cluster.Divergence {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.sets
}

// save puts the data set aside.
func (a *Agent) save(ctx context.Context, c *redis.Control, d doing, r *failover.Result) error {
	path := filepath.Join(a.lost.dir, strconv.FormatUint(uint64(d.Epoch), 10))
	if _, err := os.Stat(path); err == nil {
		r.Detail = "they are in " + path + " already"
		return nil
	}
	need, err := c.DataSize(ctx)
	if err != nil {
		return err
	}
	if err := roomFor(a.opts.Dir, need); err != nil {
		return err
	}
	at, err := c.Replication(ctx)
	if err != nil {
		return err
	}
	dump, err := c.Dump(ctx)
	if err != nil {
		return err
	}
	v := cluster.Divergence{Epoch: d.Epoch, Node: a.opts.Self.Node, Path: path, Keys: dump.Keys, Time: time.Now().UTC(),
		Bytes: beyond(d, at.Position)}
	if v.Size, err = a.lost.put(ctx, a.opts.Binary, dump.Path, v); err != nil {
		return err
	}
	r.Detail = fmt.Sprintf("%d keys, %d bytes in %s", v.Keys, v.Size, path)
	if a.opts.Adopt == nil {
		_ = os.Remove(dump.Path) // it is there under its other name; the server reads its append-only file
	}
	return a.lost.prune(path)
}

// beyond is how many bytes of its log the node has that the group has not; -1 when the server died with its
// log, and where that ended is not known.
func beyond(d doing, at cluster.Position) int64 {
	at, _ = d.end.known(at, cluster.Position{})
	if at.ReplID != d.Position.ReplID || at.ReplID == "" {
		return -1
	}
	return max(0, at.Offset-d.Position.Offset)
}

// roomFor says no when so many bytes more would leave less than minFree of the disk.
func roomFor(dir string, bytes int64) error {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return fmt.Errorf("how much room is there in %s: %w", dir, err)
	}
	free, total := int64(s.Bavail)*s.Bsize, int64(s.Blocks)*s.Bsize
	if left := free - bytes; left*100 < total*minFree {
		return fmt.Errorf("the disk of %s has %d bytes free of %d; a data set of %d would leave less than %d %%: make room, or move %s away",
			dir, free, total, bytes, minFree, filepath.Join(dir, "lost"))
	}
	return nil
}

// put moves a dump to its place, whole or not at all, and returns its size.
func (l *lost) put(ctx context.Context, binary redis.Binary, dump string, v cluster.Divergence) (size int64, err error) {
	if err := os.MkdirAll(l.dir, 0o700); err != nil {
		return 0, err
	}
	temp, err := os.MkdirTemp(l.dir, ".new-*")
	if err != nil {
		return 0, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(temp))
		}
	}()
	rdb := filepath.Join(temp, "dump.rdb")
	if err := os.Link(dump, rdb); err != nil { // on another disk, or another user's: then it is copied
		if err := copyFile(dump, rdb); err != nil {
			return 0, err
		}
	}
	if err := redis.CheckDump(ctx, binary, rdb); err != nil {
		return 0, err
	}
	st, err := os.Stat(rdb)
	if err != nil {
		return 0, err
	}
	if v.Size = st.Size(); v.Size > l.size {
		return 0, fmt.Errorf("the data set has %d bytes, and all that are put aside together may have %d", v.Size, l.size)
	}
	text, err := json.MarshalIndent(v, "", "  ")
	if err == nil {
		err = atomicfile.WriteSync(filepath.Join(temp, "lost.json"), append(text, '\n'), 0o600) // syncs the directory, too
	}
	if err == nil {
		err = os.Rename(temp, v.Path)
	}
	if err == nil {
		err = errors.Join(atomicfile.Sync(l.dir), atomicfile.Sync(filepath.Dir(l.dir)))
	}
	return v.Size, err
}

// copyFile copies, and syncs the copy.
func copyFile(from, to string) error {
	r, err := os.Open(from)
	if err != nil {
		return err
	}
	defer r.Close()
	w, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(w, r)
	return errors.Join(err, w.Sync(), w.Close())
}

// prune deletes the oldest data sets past the bounds, but never the newest, at path.
func (l *lost) prune(newest string) error {
	if err := l.read(); err != nil {
		return err
	}
	sets, total := l.all(), int64(0)
	for _, d := range sets {
		total += d.Size
	}
	for len(sets) > 0 && (len(sets) > l.keep || total > l.size) && sets[0].Path != newest {
		if err := os.RemoveAll(sets[0].Path); err != nil {
			return err
		}
		total -= sets[0].Size
		sets = sets[1:]
	}
	return l.read()
}
