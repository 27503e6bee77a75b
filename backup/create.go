package backup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"understudy/atomicfile"
	"understudy/cluster"
)

// Source is where data sets come from.
type Source interface {
	// DataSize is about how many bytes the RDB file of a group will have.
	DataSize(ctx context.Context, group string) (int64, error)
	// Dump writes a group's data set, an RDB, to a file that is not there yet, and says whose it is.
	Dump(ctx context.Context, group, to string) (Dumped, error)
}

// Dumped says what a data set is of; see Manifest.
type Dumped struct {
	Spec            cluster.Spec
	Node            cluster.NodeID
	Zone            string
	Role            cluster.Role
	Epoch           cluster.Epoch
	At              time.Time
	Engine, Version string
}

// Request says which backup is wanted.
type Request struct {
	ID         string // "": NameAt
	Group      string
	Kind       Kind // "": KindManual
	Attributes any  // kept in the manifest as JSON; nil: none
}

// Work is a backup that was asked for: its name is taken. Do makes it.
type Work struct {
	archive *Archive
	item    *item
	fill    func(ctx context.Context, path string, m *Manifest) error // writes the RDB file
	size    func(context.Context) (int64, error)
}

// Begin takes the name of a backup of a group; from now on it is listed, as being made. Whoever begins must call
// Do. Errors: ErrName, ErrExists.
func (a *Archive) Begin(r Request, src Source) (*Work, error) {
	m := Manifest{Schema: schema, ID: r.ID, Group: r.Group, Kind: r.Kind, Created: a.opts.Now().UTC()}
	if m.ID == "" {
		m.ID = NameAt(r.Group, m.Created)
	}
	if m.Kind == "" {
		m.Kind = KindManual
	}
	if err := m.attach(r.Attributes); err != nil {
		return nil, err
	}
	w, err := a.begin(m)
	if err != nil {
		return nil, err
	}
	w.size = func(ctx context.Context) (int64, error) { return src.DataSize(ctx, r.Group) }
	w.fill = func(ctx context.Context, path string, m *Manifest) error {
		d, err := src.Dump(ctx, r.Group, path)
		if err != nil {
			return err
		}
		d.Spec.Secret = "" // a key of a store that may be another one when this is read
		m.Spec, m.Node, m.Zone, m.Role, m.Epoch = d.Spec, d.Node, d.Zone, d.Role, d.Epoch
		m.Created, m.Engine, m.EngineVersion = d.At, d.Engine, d.Version
		return nil
	}
	return w, nil
}

// BeginCopy is Begin for a copy of a backup: of its bytes, not of the group as it is now. Errors: also those of Get,
// ErrState, ErrDamaged.
func (a *Archive) BeginCopy(from, to string, attributes any) (*Work, error) {
	b, end, err := a.use(from, false)
	if err != nil {
		return nil, err
	}
	m := b.Manifest
	m.ID, m.CopyOf, m.Kind = to, from, KindManual
	if attributes != nil {
		err = m.attach(attributes)
	}
	var w *Work
	if err == nil {
		w, err = a.begin(m)
	}
	end()
	if err != nil {
		return nil, err
	}
	w.size = func(context.Context) (int64, error) { return b.Bytes, nil }
	w.fill = func(ctx context.Context, path string, _ *Manifest) error { return a.copy(ctx, from, path) }
	return w, nil
}

func (m *Manifest) attach(attributes any) error {
	if attributes == nil {
		return nil
	}
	text, err := json.Marshal(attributes)
	if err != nil {
		return fmt.Errorf("attributes of %s: %w", m.ID, err)
	}
	raw := json.RawMessage(text)
	m.Attributes = &raw
	return nil
}

func (a *Archive) begin(m Manifest) (*Work, error) {
	if err := CheckName(m.ID); err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if b := a.items[m.ID]; b != nil && b.State != StateFailed {
		return nil, fmt.Errorf("backup %s: %w", m.ID, ErrExists)
	}
	w := &Work{archive: a, item: &item{Backup: Backup{Manifest: m, State: StateCreating}}}
	a.items[m.ID] = w.item
	return w, nil
}

// Backup is how it is now.
func (w *Work) Backup() Backup {
	w.archive.mu.Lock()
	defer w.archive.mu.Unlock()
	return w.item.Backup
}

// Do makes the backup and returns when it is whole, verified and on disk, or when nothing is left of it. Errors:
// ErrRoom, ErrBusy.
func (w *Work) Do(ctx context.Context) (Backup, error) {
	a := w.archive
	began := a.opts.Now()
	m, err := w.do(ctx)
	a.mu.Lock()
	if err == nil {
		w.item.Backup = Backup{Manifest: m, State: StateAvailable}
	} else {
		w.item.State, w.item.Reason = StateFailed, err.Error()
		a.forgetFailed()
	}
	b := w.item.Backup
	a.mu.Unlock()
	a.metrics.made(b, a.opts.Now().Sub(began), err)
	if err != nil {
		a.event(b.Manifest, "backup_failed", "the backup %s of %s was not made: %v", b.ID, b.Group, err)
		return b, fmt.Errorf("back up %s: %w", b.Group, err)
	}
	a.event(m, "backup_made", "the backup %s of %s is made: %d keys, %d bytes, written by the %s %s", m.ID, m.Group, m.Keys, m.Bytes, m.Role, m.Node)
	return b, nil
}

// forgetFailed keeps the newest few that were not made. mu is held.
func (a *Archive) forgetFailed() {
	var oldest *item
	n := 0
	for _, b := range a.items {
		if b.State == StateFailed {
			if n++; oldest == nil || b.Created.Before(oldest.Created) {
				oldest = b
			}
		}
	}
	if n > keepFailed {
		delete(a.items, oldest.ID)
	}
}

// do makes it in a folder of a name that nobody looks at, and renames that.
func (w *Work) do(ctx context.Context) (m Manifest, err error) {
	a := w.archive
	m = w.Backup().Manifest
	give, err := a.take(ctx)
	if err != nil {
		return m, err
	}
	defer give()
	need, err := w.size(ctx)
	if err == nil {
		err = a.room(a.opts.Dir, need)
	}
	if err != nil {
		return m, err
	}
	temp, err := os.MkdirTemp(a.opts.Dir, newPrefix)
	if err != nil {
		return m, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(temp))
		}
	}()
	if err = writeSync(filepath.Join(temp, begunFile), m); err != nil {
		return m, err
	}
	rdb := filepath.Join(temp, dumpFile)
	if err = w.fill(ctx, rdb, &m); err != nil {
		return m, err
	}
	if err = a.describe(ctx, rdb, &m); err != nil {
		return m, err
	}
	m.Finished = a.opts.Now().UTC()
	return m, a.publish(temp, m)
}

// describe verifies a file and puts into the manifest what is in it.
func (a *Archive) describe(ctx context.Context, rdb string, m *Manifest) error {
	got, err := a.opts.Check(ctx, rdb)
	if err != nil {
		return fmt.Errorf("what was written is damaged: %w", err)
	}
	sum, size, err := digest(ctx, rdb, io.Discard)
	if err != nil {
		return err
	}
	if m.CopyOf != "" && (sum != m.SHA256 || size != m.Bytes) {
		return fmt.Errorf("the copy is not what %s is", m.CopyOf)
	}
	m.Keys, m.Expires, m.SHA256, m.Bytes = got.Keys, got.Expires, sum, size
	return nil
}

// publish gives a folder its name: from then on the backup is there.
func (a *Archive) publish(temp string, m Manifest) error {
	err := atomicfile.Sync(filepath.Join(temp, dumpFile))
	if err == nil {
		err = writeSync(filepath.Join(temp, manifestFile), m)
	}
	if err == nil {
		err = os.Remove(filepath.Join(temp, begunFile))
	}
	if err == nil {
		err = atomicfile.Sync(temp)
	}
	if err == nil {
		err = os.Rename(temp, filepath.Join(a.opts.Dir, m.ID))
	}
	if err == nil {
		err = atomicfile.Sync(a.opts.Dir)
	}
	return err
}
