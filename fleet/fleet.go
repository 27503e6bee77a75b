package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"time"

	"understudy/cluster"
	"understudy/dashboard"
	"understudy/failover"
	"understudy/proxy"
	"understudy/redis"
	"understudy/rpc"
)

// Options are what all groups of a process share. Everything but Open, OnEvent and Logger is needed.
type Options struct {
	Dir     string // nodes/NODE and groups/GROUP are made below it
	Sockets string // a private directory whose name is short: unix sockets are made in it
	Binary  redis.Binary
	Store   cluster.Store
	Fencer  *redis.Fencer
	RPC     *rpc.Server // answers for all agents
	RPCAddr string      // where it does
	Clock   func() time.Duration
	Metrics *dashboard.Registries
	Pages   *dashboard.Pages
	HTTP    string // address of the pages
	// Open makes the endpoints of a group that was found in the store, with their settings; nil: only groups
	// that are added run.
	Open func(cluster.Spec) (Definition, error)
	// OnEvent is told of everything that happens to any group. It must not block.
	OnEvent func(cluster.Event)
	Logger  *slog.Logger
}

// Definition says how a group runs.
type Definition struct {
	Spec    cluster.Spec
	Profile failover.Profile // the zero value: the one that Spec names
	// Proxy serves the group's endpoints, and listens already; the group runs and closes it.
	Proxy *proxy.Proxy
	// EndMetrics ends the proxy's metrics, when the group has ended; nil: they last.
	EndMetrics func()
	Tap        bool // serve GET /api/tap
	// Vital: the process cannot do without it. What ends it ends Run.
	Vital bool
}

// Fleet is the groups.
type Fleet struct {
	opts Options
	log  *slog.Logger

	failed chan error // of a vital group

	mu     sync.Mutex
	ctx    context.Context // of Run; nil before
	groups map[string]*Group
	slots  map[int]bool // names of unix sockets in use
	// restoring are the groups that Restore is making: their names are taken.
	restoring map[string]bool
}

// ErrExists: there is a group of that name. ErrNoGroup: there is none.
var (
	ErrExists  = errors.New("there is a group of that name")
	ErrNoGroup = errors.New("there is no group of that name")
)

// New returns a Fleet without groups. The error names the option that is missing.
func New(o Options) (*Fleet, error) {
	if o.Dir == "" || o.Sockets == "" || o.Store == nil || o.RPC == nil || o.RPCAddr == "" || o.Clock == nil || o.Metrics == nil || o.Pages == nil {
		return nil, errors.New("fleet: Dir, Sockets, Store, RPC, RPCAddr, Clock, Metrics and Pages are needed")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.OnEvent == nil {
		o.OnEvent = func(cluster.Event) {}
	}
	return &Fleet{opts: o, log: o.Logger.With("component", "fleet"), failed: make(chan error, 1), groups: map[string]*Group{}, slots: map[int]bool{}, restoring: map[string]bool{}}, nil
}

// openEvery is how often a group of the store that could not be started is tried again: its port may be free
// by then.
const openEvery = 5 * time.Second

// Run runs the groups that were added, and those in the store, until ctx ends or a vital one fails. It returns
// when nothing of them is left.
func (f *Fleet) Run(ctx context.Context) error {
	ctx, end := context.WithCancel(ctx)
	f.mu.Lock()
	f.ctx = ctx
	for _, g := range f.groups {
		g.begin(ctx)
	}
	f.mu.Unlock()
	var err error
	again := time.NewTicker(openEvery)
	defer again.Stop()
	for running := true; running; {
		f.open(ctx)
		select {
		case err = <-f.failed:
			running = false
		case <-ctx.Done():
			running = false
		case <-again.C:
		}
	}
	end()
	for _, g := range f.Groups() {
		<-g.ended
	}
	return err
}

// open starts the groups of the store that do not run yet.
func (f *Fleet) open(ctx context.Context) {
	if f.opts.Open == nil {
		return
	}
	specs, err := f.Specs(ctx)
	if err != nil {
		if ctx.Err() == nil {
			f.log.Warn("the groups in the store are not known", "error", err)
		}
		return
	}
	for _, spec := range specs {
		if _, err := f.Group(spec.Name); err == nil {
			continue
		}
		d, err := f.opts.Open(spec)
		if err == nil {
			_, err = f.Add(ctx, d)
		}
		if err != nil && !errors.Is(err, ErrExists) && ctx.Err() == nil {
			f.log.Error("a group does not start", "group", spec.Name, "error", err, "again_in", openEvery)
		}
	}
}

// storeWithin bounds a call of the store.
const storeWithin = 2 * time.Second

// Specs are the desired states in the store, by the groups' names.
func (f *Fleet) Specs(ctx context.Context) (map[string]cluster.Spec, error) {
	ctx, cancel := context.WithTimeout(ctx, storeWithin)
	defer cancel()
	entries, _, err := f.opts.Store.List(ctx, cluster.GroupsPrefix)
	if err != nil {
		return nil, err
	}
	all := map[string]cluster.Spec{}
	for _, e := range entries {
		var s cluster.Spec
		if filepath.Base(e.Key) != "spec" {
			continue
		}
		if err := json.Unmarshal(e.Value, &s); err != nil || e.Key != cluster.SpecKey(s.Name) {
			return nil, fmt.Errorf("read %s: no desired state of a group: %w", e.Key, err)
		}
		all[s.Name] = s
	}
	return all, nil
}

// Spec is the desired state of a group in the store; ok is false when there is none.
func (f *Fleet) Spec(ctx context.Context, group string) (spec cluster.Spec, ok bool, err error) {
	all, err := f.Specs(ctx)
	if err != nil {
		return cluster.Spec{}, false, fmt.Errorf("read the desired state of %s: %w", group, err)
	}
	spec, ok = all[group]
	return spec, ok, nil
}

// Add writes the desired state of a group to the store and starts it. It returns as soon as its parts run: see
// Group.Wait. On an error the endpoints are closed. Errors: ErrExists.
func (f *Fleet) Add(ctx context.Context, d Definition) (*Group, error) {
	f.mu.Lock()
	taken := f.restoring[d.Spec.Name]
	f.mu.Unlock()
	if taken {
		return nil, errors.Join(fmt.Errorf("group %s is being restored: %w", d.Spec.Name, ErrExists), d.close())
	}
	g, err := f.add(ctx, d)
	if err != nil {
		return nil, errors.Join(err, d.close())
	}
	return g, nil
}

// close gives back what a definition took that does not run.
func (d Definition) close() error {
	if d.EndMetrics != nil {
		d.EndMetrics()
	}
	return d.Proxy.Close()
}

func (f *Fleet) add(ctx context.Context, d Definition) (*Group, error) {
	if f.has(d.Spec.Name) {
		return nil, fmt.Errorf("group %s: %w", d.Spec.Name, ErrExists)
	}
	g, err := newGroup(f, d)
	if err != nil {
		return nil, err
	}
	if err := f.keep(ctx, d.Spec); err != nil {
		g.discard()
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.groups[d.Spec.Name] != nil {
		g.discard()
		return nil, fmt.Errorf("group %s: %w", d.Spec.Name, ErrExists)
	}
	f.groups[d.Spec.Name] = g
	f.opts.Pages.Set(d.Spec.Name, g.dashboard.Handler())
	if f.ctx != nil {
		g.begin(f.ctx)
	}
	return g, nil
}

func (f *Fleet) has(name string) bool {
	_, err := f.Group(name)
	return err == nil
}

// keep writes the desired state to the store. Whoever changes a group holds its lock: nobody else does.
func (f *Fleet) keep(ctx context.Context, spec cluster.Spec) error {
	ctx, cancel := context.WithTimeout(ctx, storeWithin)
	defer cancel()
	value, err := json.Marshal(spec)
	if err != nil {
		return err
	}
	key := cluster.SpecKey(spec.Name)
	entries, _, err := f.opts.Store.List(ctx, key)
	if err != nil {
		return fmt.Errorf("write the desired state of %s: %w", spec.Name, err)
	}
	revision := int64(0)
	for _, e := range entries {
		if e.Key == key {
			revision = e.Revision
		}
	}
	if _, err = f.opts.Store.Swap(ctx, key, value, revision); err != nil {
		return fmt.Errorf("write the desired state of %s: %w", spec.Name, err)
	}
	return nil
}

// Group is the group of that name. Errors: ErrNoGroup.
func (f *Fleet) Group(name string) (*Group, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if g := f.groups[name]; g != nil {
		return g, nil
	}
	return nil, fmt.Errorf("group %s: %w", name, ErrNoGroup)
}

// Groups are all that run, by their names.
func (f *Fleet) Groups() []*Group {
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []*Group
	for _, name := range slices.Sorted(maps.Keys(f.groups)) {
		all = append(all, f.groups[name])
	}
	return all
}

// Remove ends a group for good: its clients are cut, its processes stopped, its data and all that the store
// has of it deleted. One that is not there, or only half, is no error: what is left of it goes.
func (f *Fleet) Remove(ctx context.Context, name string) error {
	f.mu.Lock()
	g := f.groups[name]
	f.mu.Unlock()
	// The desired state goes first: a crash from here on leaves data that nobody asks for, and no group.
	if err := f.forget(ctx, cluster.SpecKey(name)); err != nil {
		return err
	}
	if g != nil {
		if err := g.stop(ctx); err != nil {
			return fmt.Errorf("stop group %s: %w", name, err)
		}
		f.drop(name)
	}
	return errors.Join(f.forget(ctx, cluster.GroupsPrefix+name+"/"), f.removeData(name))
}

func (f *Fleet) drop(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.groups, name)
	f.opts.Pages.Remove(name)
}

// forget deletes the keys of the store with a prefix.
func (f *Fleet) forget(ctx context.Context, prefix string) error {
	ctx, cancel := context.WithTimeout(ctx, storeWithin)
	defer cancel()
	entries, _, err := f.opts.Store.List(ctx, prefix)
	for _, e := range entries {
		if _, e := f.opts.Store.Swap(ctx, e.Key, nil, e.Revision); e != nil && err == nil {
			err = e
		}
	}
	if err != nil {
		return fmt.Errorf("delete %s of the store: %w", prefix, err)
	}
	return nil
}

// nodeNumber is the end of a node's name behind its group's.
var nodeNumber = regexp.MustCompile(`^-[0-9]{3}$`)

// removeData deletes the directories of a group's nodes, and its own.
func (f *Fleet) removeData(name string) error {
	errs := os.RemoveAll(f.groupDir(name))
	entries, err := os.ReadDir(filepath.Join(f.opts.Dir, "nodes"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		errs = errors.Join(errs, err)
	}
	for _, e := range entries {
		if n := e.Name(); len(n) > len(name) && n[:len(name)] == name && nodeNumber.MatchString(n[len(name):]) {
			errs = errors.Join(errs, os.RemoveAll(f.nodeDir(cluster.NodeID(n))))
		}
	}
	return errs
}

func (f *Fleet) groupDir(name string) string { return filepath.Join(f.opts.Dir, "groups", name) }

func (f *Fleet) nodeDir(id cluster.NodeID) string {
	return filepath.Join(f.opts.Dir, "nodes", string(id))
}

// LongestSocket is the longest name in Options.Sockets, with the slash.
const LongestSocket = len("/999.redis")

// socket names a unix socket that no other node uses.
func (f *Fleet) socket() (slot int, path string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for slot = 1; f.slots[slot]; slot++ {
	}
	f.slots[slot] = true
	return slot, filepath.Join(f.opts.Sockets, fmt.Sprintf("%d.redis", slot))
}

func (f *Fleet) freeSocket(slot int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.slots, slot)
}

// event tells of something that this package did.
func (f *Fleet) event(e cluster.Event) {
	e.Time = time.Now()
	f.log.Info(e.Name, "group", e.Group, "node", string(e.Node), "detail", e.Message)
	f.opts.OnEvent(e)
}
