package fleet

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"understudy/atomicfile"
	"understudy/cluster"
	"understudy/redis"
)

// Seed has a node that has never run begin with a data set: put writes the RDB file, synced, at the path that it
// is given. Only one node of a group may be seeded, and it must be the group's only one until it leads: a node
// with nothing could lead before it. A seed that is whole already stays.
func (f *Fleet) Seed(id cluster.NodeID, put func(path string) error) error {
	if f.has(cluster.GroupOf(id)) {
		return fmt.Errorf("seed %s: %w", id, ErrExists)
	}
	dir := filepath.Join(f.nodeDir(id), "redis")
	if _, manifest := redis.SeedFiles(dir); exists(manifest) {
		return nil
	}
	return redis.Seed(dir, put)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// Restored says from what a group begins.
type Restored struct {
	Put  func(path string) error // see Seed
	Keys redis.Contents          // that the data set has
}

// ErrKeys: a group that was restored lacks keys.
var ErrKeys = errors.New("keys are missing")

// Restore is Add for a group that begins with a data set. It returns when every node has it, or leaves nothing of
// the group: also when this process dies meanwhile, see RollBack. Errors: ErrExists, ErrKeys.
func (f *Fleet) Restore(ctx context.Context, d Definition, r Restored) (*Group, error) {
	name := d.Spec.Name
	free, err := f.reserve(ctx, name)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("restore into %s: %w", name, err), d.close())
	}
	defer free()
	g, err := f.restore(ctx, d, r)
	if err == nil {
		return g, f.settle(name)
	}
	bound, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoWithin)
	defer cancel()
	if undone := f.Remove(bound, name); undone != nil {
		err = errors.Join(err, undone) // the intent stays: the next start removes the rest
	} else {
		err = errors.Join(err, f.settle(name))
	}
	return nil, fmt.Errorf("restore into %s: %w", name, err)
}

// undoWithin bounds the removal of a group that could not be restored.
const undoWithin = 30 * time.Second

// reserve takes a name that no group has, so that no other gets it until free is called, and notes on disk that
// what is there from now on is half a group.
func (f *Fleet) reserve(ctx context.Context, name string) (free func(), err error) {
	f.mu.Lock()
	taken := f.restoring[name] || f.groups[name] != nil
	f.restoring[name] = f.restoring[name] || !taken
	f.mu.Unlock()
	if taken {
		return nil, ErrExists
	}
	free = func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.restoring, name)
	}
	_, there, err := f.Spec(ctx, name)
	switch {
	case err == nil && there:
		err = ErrExists
	case err == nil:
		err = f.intend(name)
	}
	if err == nil {
		err = f.removeData(name) // of one whose removal was not finished
	}
	if err != nil {
		free()
		return nil, err
	}
	return free, nil
}

// Restoring reports whether a group of that name is being restored: it is not there for anybody yet.
func (f *Fleet) Restoring(name string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.restoring[name]
}

func (f *Fleet) restore(ctx context.Context, d Definition, r Restored) (*Group, error) {
	places := d.Spec.Nodes
	d.Spec.Nodes = places[:1]
	if err := f.Seed(places[0].ID, r.Put); err != nil {
		return nil, errors.Join(err, d.close())
	}
	g, err := f.add(ctx, d)
	if err != nil {
		return nil, errors.Join(err, d.close())
	}
	if s, err := g.Wait(ctx, func(s cluster.Status) bool { return s.Writable() == "" }); err != nil {
		return nil, fmt.Errorf("%s does not lead: %s: %w", places[0].ID, s.Writable(), err)
	}
	have, err := g.Contents(ctx)
	if err != nil {
		return nil, err
	}
	// A key with a time to live may be gone by now. There are no more than were: whoever finds the endpoints
	// before they are told of may have written.
	if lasting := r.Keys.Keys - r.Keys.Expires; have.Keys-have.Expires < lasting {
		return nil, fmt.Errorf("%w: %d without a time to live are there, and the data set has %d", ErrKeys, have.Keys-have.Expires, lasting)
	}
	if len(places) > 1 {
		if err := g.Grow(ctx, places[1:]...); err != nil {
			return nil, err
		}
	}
	s, err := g.Wait(ctx, func(s cluster.Status) bool { return s.State == cluster.GroupAvailable && len(s.Nodes) == len(places) })
	if err != nil {
		return nil, fmt.Errorf("its replicas have not copied the data: %s: %w", s.Reasons(), err)
	}
	return g, nil
}

// A restore under way is a file of the group's name in this directory: what is found there at a start is half a
// group.
func (f *Fleet) intentDir() string { return filepath.Join(f.opts.Dir, "restoring") }

func (f *Fleet) intend(name string) error {
	if err := os.MkdirAll(f.intentDir(), 0o700); err != nil {
		return err
	}
	file, err := os.Create(filepath.Join(f.intentDir(), name))
	if err != nil {
		return err
	}
	return errors.Join(file.Sync(), file.Close(), atomicfile.Sync(f.intentDir()), atomicfile.Sync(f.opts.Dir))
}

func (f *Fleet) settle(name string) error {
	return errors.Join(os.Remove(filepath.Join(f.intentDir(), name)), atomicfile.Sync(f.intentDir()))
}

// RollBack removes the groups whose restore this process's predecessor did not finish. It is called before any
// group is added.
func (f *Fleet) RollBack(ctx context.Context) error {
	entries, err := os.ReadDir(f.intentDir())
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		if err == nil {
			err = f.Remove(ctx, e.Name())
		}
		if err == nil {
			err = f.settle(e.Name())
		}
		if err != nil {
			return fmt.Errorf("remove group %s, whose restore was not finished: %w", e.Name(), err)
		}
		f.event(cluster.Event{Group: e.Name(), Name: "restore_rolled_back", Message: fmt.Sprintf("the restore into %s was not finished: nothing is left of the group", e.Name())})
	}
	return err
}
