package pack

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"understudy/alarm/watch"
	"understudy/cluster"
	"understudy/shelf"
)

// Group is a group that gets a pack.
type Group struct {
	Name  string
	Nodes int
}

// Keeper makes each group's pack once, and takes it away with the group. What an operator changes or deletes of it stays so.
type Keeper struct {
	opts  Options
	log   *slog.Logger
	packs *shelf.Shelf[record]
	told  string // the last trouble: it is logged once
}

// Options say over what. All but Logger are needed.
type Options struct {
	Store  cluster.Store
	Alarms Alarms
	// Groups are those that there are now, those included that have not started yet. Without an answer nothing is done.
	Groups func(context.Context) ([]Group, error)
	// Topic makes sure that the topic that alarms act on is there, and returns its ARN.
	Topic  func(context.Context) (string, error)
	Logger *slog.Logger
}

// Alarms makes and deletes them; *watch.Watch does.
type Alarms interface {
	Put(ctx context.Context, a watch.Alarm) error
	Delete(ctx context.Context, names []string) error
	Alarm(name string) (watch.Alarm, bool)
}

// record says which alarms were made for a group, deleted ones included: those are not made again.
type record struct {
	Group string   `json:"group"`
	Made  []string `json:"made"`
}

// every is how often a Keeper looks for groups that have come, grown or gone.
const every = time.Second

// New reads which packs were made. The error names the option that is missing.
func New(ctx context.Context, o Options) (*Keeper, error) {
	if o.Store == nil || o.Alarms == nil || o.Groups == nil || o.Topic == nil {
		return nil, errors.New("pack: Store, Alarms, Groups and Topic are needed")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	k := &Keeper{opts: o, log: o.Logger.With("component", "alarms"), packs: shelf.New[record](o.Store, "/understudy/aws/cloudwatch/packs/")}
	if err := k.packs.Load(ctx); err != nil {
		return nil, fmt.Errorf("packs of alarms: %w", err)
	}
	return k, nil
}

// Run keeps the packs until ctx ends.
func (k *Keeper) Run(ctx context.Context) error {
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		k.say(ctx, k.sync(ctx))
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

// say logs trouble when it is another one than before.
func (k *Keeper) say(ctx context.Context, err error) {
	told := k.told
	if k.told = ""; err != nil && ctx.Err() == nil {
		if k.told = err.Error(); k.told != told {
			k.log.Warn("the alarms that every group gets are not all as they should be", "error", err)
		}
	}
}

// sync makes what is missing, and takes away what belongs to no group any more. Trouble with one group does not keep the
// others from theirs.
func (k *Keeper) sync(ctx context.Context) error {
	groups, err := k.opts.Groups(ctx)
	if err != nil {
		return err
	}
	var all error
	for _, g := range groups {
		if err := k.make(ctx, g); err != nil {
			all = errors.Join(all, fmt.Errorf("alarms of group %s: %w", g.Name, err))
		}
	}
	for _, r := range k.packs.All() {
		if slices.ContainsFunc(groups, func(g Group) bool { return g.Name == r.Group }) {
			continue
		}
		if err := k.remove(ctx, r); err != nil {
			all = errors.Join(all, fmt.Errorf("alarms of group %s, which is gone: %w", r.Group, err))
			continue
		}
		k.log.Info("the group's alarms are gone with it", "group", r.Group)
	}
	return all
}

// make makes the alarms of a group's pack that were never made. They are made first and written down then: after a crash
// in between they are there, and left alone.
func (k *Keeper) make(ctx context.Context, g Group) error {
	r, there := k.packs.Get(g.Name)
	missing := func(a watch.Alarm) bool { return !slices.Contains(r.Made, a.Name) }
	if !slices.ContainsFunc(alarms(g.Name, g.Nodes, ""), missing) {
		return nil
	}
	topic, err := k.opts.Topic(ctx)
	if err != nil {
		return err
	}
	made := slices.Clone(r.Made)
	for _, a := range alarms(g.Name, g.Nodes, topic) {
		if !missing(a) {
			continue
		}
		if _, ok := k.opts.Alarms.Alarm(a.Name); !ok {
			if err := k.opts.Alarms.Put(ctx, a); err != nil {
				return err
			}
		}
		made = append(made, a.Name)
	}
	if !there {
		err = k.packs.Add(ctx, g.Name, record{g.Name, made})
	} else {
		_, err = k.packs.Change(ctx, g.Name, func(r *record) error { r.Made = made; return nil })
	}
	k.log.Info("the group has its alarms", "group", g.Name, "count", len(made), "topic", topic)
	return err
}

func (k *Keeper) remove(ctx context.Context, r record) error {
	if err := k.opts.Alarms.Delete(ctx, r.Made); err != nil {
		return err
	}
	return k.packs.Remove(ctx, r.Group)
}
