package backup

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"

	"understudy/atomicfile"
	"understudy/cluster"
)

// Contents are what an RDB file holds: see Manifest.
type Contents struct{ Keys, Expires int64 }

// Options say where backups are kept. Dir and Check are needed.
type Options struct {
	Dir string
	// Check reads every value of an RDB file; an error says that it is damaged, or of a version that the
	// installed server cannot read.
	Check func(ctx context.Context, path string) (Contents, error)
	// Concurrent is how many are made, copied or verified at once: each reads and writes a whole data set.
	Concurrent int // default 1
	// MinFree is the share of the disk, in percent, that a new one must leave: an append-only file that finds no
	// room makes its server refuse writes. Default 10.
	MinFree int
	// Groups are those that run: the metrics tell of each, also before its first backup. nil: of none.
	Groups  func() []string
	Now     func() time.Time
	OnEvent func(cluster.Event) // must not block
	Metrics prometheus.Registerer
	Logger  *slog.Logger
}

// Archive is the directory. A backup is a folder of its name:
//
//	<Dir>/<id>/dump.rdb        the data set, as Redis writes it
//	           manifest.json   Manifest
//	           damaged         there once a look found other bytes than were written: why
//
// What is being made or deleted has a name that begins with a dot; what a crash leaves of it, Open clears away.
type Archive struct {
	opts    Options
	log     *slog.Logger
	metrics *metrics
	turn    chan struct{} // holds as many as may work at once

	mu      sync.Mutex
	items   map[string]*item
	waiting int // for their turn
}

// item is one backup. Archive.mu guards it.
type item struct {
	Backup
	users int // who read its file now
}

const (
	dumpFile     = "dump.rdb"
	manifestFile = "manifest.json"
	damagedFile  = "damaged"
	begunFile    = "begun.json" // of one that is being made: its manifest so far
	newPrefix    = ".new-"
	oldPrefix    = ".old-"
	schema       = 1
)

// maxWaiting bounds how many wait for their turn.
const maxWaiting = 32

// keepFailed bounds how many that were not made are remembered.
const keepFailed = 32

// Open reads what there is, and clears away what was not finished. The error names the option that is missing.
func Open(o Options) (*Archive, error) {
	if o.Dir == "" || o.Check == nil {
		return nil, errors.New("backup: Dir and Check are needed")
	}
	o.Concurrent, o.MinFree = cmp.Or(o.Concurrent, 1), cmp.Or(o.MinFree, 10)
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Groups == nil {
		o.Groups = func() []string { return nil }
	}
	if o.OnEvent == nil {
		o.OnEvent = func(cluster.Event) {}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	a := &Archive{opts: o, log: o.Logger.With("component", "backup"), turn: make(chan struct{}, o.Concurrent), items: map[string]*item{}}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("backup: %w", err)
	}
	entries, err := os.ReadDir(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("backup: %w", err)
	}
	for _, e := range entries {
		if err := a.open(e.Name()); err != nil {
			return nil, fmt.Errorf("backup: %w", err)
		}
	}
	a.metrics = newMetrics(o.Metrics, a)
	return a, nil
}

// open takes up one entry of the directory.
func (a *Archive) open(name string) error {
	path := filepath.Join(a.opts.Dir, name)
	switch {
	case strings.HasPrefix(name, newPrefix):
		if m, err := readManifest(filepath.Join(path, begunFile)); err == nil {
			a.event(m, "backup_interrupted", "the backup %s of %s was not finished: nothing is left of it", m.ID, m.Group)
		}
		return os.RemoveAll(path)
	case strings.HasPrefix(name, oldPrefix):
		return os.RemoveAll(path)
	}
	m, err := readManifest(filepath.Join(path, manifestFile))
	if err != nil || m.ID != name {
		a.log.Warn("this is no backup, and is left alone", "path", path, "error", err)
		return nil
	}
	b := &item{Backup: Backup{Manifest: m, State: StateAvailable}}
	if why, err := os.ReadFile(filepath.Join(path, damagedFile)); err == nil {
		b.State, b.Reason = StateDamaged, strings.TrimSpace(string(why))
	} else if st, err := os.Stat(filepath.Join(path, dumpFile)); err != nil || st.Size() != m.Bytes {
		b.State, b.Reason = StateDamaged, fmt.Sprintf("its file does not have the %d bytes that were written", m.Bytes)
		a.event(m, "backup_damaged", "the backup %s of %s is damaged: %s", m.ID, m.Group, b.Reason)
	}
	a.items[name] = b
	return nil
}

func readManifest(path string) (Manifest, error) {
	var m Manifest
	text, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(text, &m)
	}
	if err == nil && (m.Schema != schema || CheckName(m.ID) != nil) {
		err = fmt.Errorf("%s: schema %d is not known to this version", path, m.Schema)
	}
	return m, err
}

// List are the backups of a group, "" for all, oldest first; those that are not there yet, or were not made, are
// among them: see Backup.Whole.
func (a *Archive) List(group string) []Backup {
	a.mu.Lock()
	defer a.mu.Unlock()
	list := []Backup{}
	for _, b := range a.items {
		if group == "" || b.Group == group {
			list = append(list, b.Backup)
		}
	}
	slices.SortFunc(list, func(x, y Backup) int { return cmp.Or(x.Created.Compare(y.Created), cmp.Compare(x.ID, y.ID)) })
	return list
}

// Get is one of them. Errors: ErrNotFound.
func (a *Archive) Get(id string) (Backup, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	b := a.items[id]
	if b == nil {
		return Backup{}, fmt.Errorf("backup %s: %w", id, ErrNotFound)
	}
	return b.Backup, nil
}

// use keeps a backup from being deleted until the returned func is called. Errors: ErrNotFound, ErrDamaged, ErrState.
func (a *Archive) use(id string, damaged bool) (Backup, func(), error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	b := a.items[id]
	switch {
	case b == nil:
		return Backup{}, nil, fmt.Errorf("backup %s: %w", id, ErrNotFound)
	case b.State == StateDamaged && !damaged:
		return Backup{}, nil, fmt.Errorf("backup %s: %w: %s", id, ErrDamaged, b.Reason)
	case !b.Whole():
		return Backup{}, nil, fmt.Errorf("backup %s is %s: %w", id, b.State, ErrState)
	}
	b.users++
	return b.Backup, func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		b.users--
	}, nil
}

// take waits for a turn: as many as the options say work at once. Errors: ErrBusy.
func (a *Archive) take(ctx context.Context) (give func(), err error) {
	a.mu.Lock()
	full := a.waiting >= maxWaiting
	if !full {
		a.waiting++
	}
	a.mu.Unlock()
	if full {
		return nil, fmt.Errorf("%d: %w", maxWaiting, ErrBusy)
	}
	defer func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.waiting--
	}()
	select {
	case a.turn <- struct{}{}:
		return func() { <-a.turn }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Verify reads every byte of a backup again, and every value. Other bytes than were written make it damaged for
// good. Errors: ErrNotFound, ErrState, ErrDamaged; another one says that it could not be read now.
func (a *Archive) Verify(ctx context.Context, id string) (Backup, error) {
	b, end, err := a.use(id, true)
	if err != nil {
		return Backup{}, err
	}
	defer end()
	give, err := a.take(ctx)
	if err != nil {
		return b, fmt.Errorf("verify %s: %w", id, err)
	}
	defer give()
	path := a.path(id, dumpFile)
	sum, size, err := digest(ctx, path, io.Discard)
	if errors.Is(err, os.ErrNotExist) {
		size, err = 0, nil
	}
	if err != nil {
		return b, fmt.Errorf("verify %s: %w", id, err)
	}
	if why := b.differs(sum, size); why != "" {
		return a.damage(id, why)
	}
	if b.State == StateDamaged {
		return b, fmt.Errorf("backup %s: %w: %s", id, ErrDamaged, b.Reason)
	}
	// The bytes are those that were verified when it was made. An error here is not of the file: the server that
	// is installed now cannot read it.
	if _, err := a.opts.Check(ctx, path); err != nil {
		return b, fmt.Errorf("verify %s: its bytes are those that were written, and the installed server cannot read them: %w", id, err)
	}
	a.metrics.verified()
	return b, nil
}

// differs says how a file differs from the one that was written; "" when it does not.
func (b Backup) differs(sum string, size int64) string {
	switch {
	case size != b.Bytes:
		return fmt.Sprintf("its file has %d bytes, and %d were written", size, b.Bytes)
	case sum != b.SHA256:
		return fmt.Sprintf("the SHA-256 of its file is %s, and was %s", sum, b.SHA256)
	}
	return ""
}

// damage marks a backup as damaged, on disk too, and returns that as an error.
func (a *Archive) damage(id, why string) (Backup, error) {
	a.mu.Lock()
	b := a.items[id]
	if b == nil {
		a.mu.Unlock()
		return Backup{}, fmt.Errorf("backup %s: %w", id, ErrNotFound)
	}
	known := b.State == StateDamaged
	b.State, b.Reason = StateDamaged, why
	now := b.Backup
	a.mu.Unlock()
	err := fmt.Errorf("backup %s: %w: %s", id, ErrDamaged, why)
	if !known {
		a.event(now.Manifest, "backup_damaged", "the backup %s of %s is damaged: %s", id, now.Group, why)
	}
	if e := os.WriteFile(a.path(id, damagedFile), []byte(why+"\n"), 0o600); e != nil {
		err = errors.Join(err, e) // it is found again at the next look
	}
	return now, err
}

// Put copies a backup's RDB file, synced and verified, to a path at which there is none: a server is to begin with
// it. Errors: those of Verify, ErrRoom; nothing is at the path then.
func (a *Archive) Put(ctx context.Context, id, path string) error {
	give, err := a.take(ctx)
	if err != nil {
		return fmt.Errorf("copy backup %s: %w", id, err)
	}
	defer give()
	if err := a.copy(ctx, id, path); err != nil {
		return err
	}
	if _, err := a.opts.Check(ctx, path); err != nil {
		return errors.Join(fmt.Errorf("backup %s cannot be read by the installed server: %w", id, err), os.Remove(path))
	}
	return nil
}

// copy copies a backup's bytes. Others than were written make it damaged, and are not left there.
func (a *Archive) copy(ctx context.Context, id, path string) error {
	b, end, err := a.use(id, false)
	if err != nil {
		return err
	}
	defer end()
	if err := a.room(filepath.Dir(path), b.Bytes); err != nil {
		return fmt.Errorf("copy backup %s: %w", id, err)
	}
	w, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("copy backup %s: %w", id, err)
	}
	sum, size, err := digest(ctx, a.path(id, dumpFile), w)
	if err == nil {
		err = w.Sync()
	}
	if err = errors.Join(err, w.Close()); err == nil {
		if why := b.differs(sum, size); why != "" {
			_, err = a.damage(id, why)
		}
	}
	if err != nil {
		return errors.Join(fmt.Errorf("copy backup %s: %w", id, err), os.Remove(path))
	}
	return nil
}

// SetAttributes replaces what the maker of a backup keeps in its manifest. Errors: ErrNotFound, ErrState.
func (a *Archive) SetAttributes(id string, attributes any) error {
	b, end, err := a.use(id, true)
	if err != nil {
		return err
	}
	defer end()
	m := b.Manifest
	if err := m.attach(attributes); err != nil {
		return err
	}
	temp := a.path(id, begunFile)
	if err = writeSync(temp, m); err == nil {
		err = os.Rename(temp, a.path(id, manifestFile))
	}
	if err == nil {
		err = atomicfile.Sync(filepath.Join(a.opts.Dir, id))
	}
	if err != nil {
		return fmt.Errorf("change the attributes of backup %s: %w", id, err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.items[id].Attributes = m.Attributes
	return nil
}

// Delete ends a backup. It is gone for everybody before its bytes are. Errors: ErrNotFound; ErrState: it is being
// made, or read.
func (a *Archive) Delete(id string) error {
	a.mu.Lock()
	b := a.items[id]
	switch {
	case b == nil:
		a.mu.Unlock()
		return fmt.Errorf("backup %s: %w", id, ErrNotFound)
	case b.State == StateFailed:
		delete(a.items, id)
		a.mu.Unlock()
		return nil
	case !b.Whole() || b.users > 0:
		defer a.mu.Unlock()
		return fmt.Errorf("backup %s is %s, and %d read it: %w", id, b.State, b.users, ErrState)
	}
	was := b.State
	b.State = StateDeleting
	a.mu.Unlock()
	old, err := os.MkdirTemp(a.opts.Dir, oldPrefix)
	if err == nil {
		err = os.Rename(filepath.Join(a.opts.Dir, id), filepath.Join(old, id))
	}
	if err == nil {
		err = atomicfile.Sync(a.opts.Dir)
	}
	a.mu.Lock()
	if err != nil {
		b.State = was
		a.mu.Unlock()
		return fmt.Errorf("delete backup %s: %w", id, err)
	}
	delete(a.items, id)
	a.mu.Unlock()
	a.event(b.Manifest, "backup_deleted", "the backup %s of %s is deleted", id, b.Group)
	if err := os.RemoveAll(old); err != nil {
		a.log.Warn("what is left of a deleted backup goes with the next start", "backup", id, "error", err)
	}
	return nil
}

// Prune ends the automatic backups of a group that were made before a time.
func (a *Archive) Prune(group string, before time.Time) (errs error) {
	for _, b := range a.List(group) {
		if b.Kind == KindAutomatic && b.Whole() && b.Created.Before(before) {
			errs = errors.Join(errs, a.Delete(b.ID))
		}
	}
	return errs
}

func (a *Archive) path(id, file string) string { return filepath.Join(a.opts.Dir, id, file) }

// room says no when so many bytes more would leave too little of the disk. Errors: ErrRoom.
func (a *Archive) room(dir string, bytes int64) error {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return fmt.Errorf("how much room is there in %s: %w", dir, err)
	}
	free, total := int64(s.Bavail)*s.Bsize, int64(s.Blocks)*s.Bsize
	if left := free - bytes; left*100 < total*int64(a.opts.MinFree) {
		return fmt.Errorf("%w: %d bytes are free of %d, and %d more would leave less than %d %%", ErrRoom, free, total, bytes, a.opts.MinFree)
	}
	return nil
}

// event tells of something that happened to a backup.
func (a *Archive) event(m Manifest, name, format string, args ...any) {
	e := cluster.Event{Time: a.opts.Now(), Group: m.Group, Node: m.Node, Epoch: m.Epoch, Name: name, Message: fmt.Sprintf(format, args...)}
	a.log.Info(name, "backup", m.ID, "group", m.Group, "detail", e.Message)
	a.opts.OnEvent(e)
}

// digest copies a file and returns the SHA-256 and the size of what it read.
func digest(ctx context.Context, path string, to io.Writer) (sum string, size int64, err error) {
	r, err := os.Open(path)
	if err != nil {
		return "", 0, err
	}
	defer r.Close()
	hash := sha256.New()
	buf := make([]byte, 1<<20)
	for {
		if err := ctx.Err(); err != nil {
			return "", size, err
		}
		n, err := r.Read(buf)
		if n > 0 {
			hash.Write(buf[:n])
			size += int64(n)
			if _, err := to.Write(buf[:n]); err != nil {
				return "", size, err
			}
		}
		if errors.Is(err, io.EOF) {
			return hex.EncodeToString(hash.Sum(nil)), size, nil
		}
		if err != nil {
			return "", size, err
		}
	}
}

// writeSync writes a file that is on disk when it returns.
func writeSync(path string, v any) error {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(append(text, '\n'))
	return errors.Join(err, f.Sync(), f.Close())
}
