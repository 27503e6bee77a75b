package main

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"

	"github.com/spf13/pflag"

	"understudy/alarm/pack"
	"understudy/alarm/watch"
	"understudy/aws/sns"
	"understudy/cluster"
	"understudy/notify"
)

// alarmConfig says which alarms there are besides those that operators make.
type alarmConfig struct {
	Pack  bool   `yaml:"alarms"`
	Topic string `yaml:"alarm-topic"`
}

func defaultAlarms() alarmConfig { return alarmConfig{Pack: true, Topic: "understudy-alarms"} }

// flags binds every setting to a flag.
func (c *alarmConfig) flags(fs *pflag.FlagSet) {
	fs.BoolVar(&c.Pack, "alarms", c.Pack, "make a pack of alarms with every group; without it those that were made are deleted")
	fs.StringVar(&c.Topic, "alarm-topic", c.Topic, "name of the topic that they tell; it is made with the first of them")
}

func (c *alarmConfig) validate() error {
	if !sns.TopicName(c.Topic) {
		return fmt.Errorf("--alarm-topic %q: a topic's name has 1 to 256 letters, digits, - and _", c.Topic)
	}
	return nil
}

// startAlarms has alarms evaluated. They need metrics: without these there are none.
func (g *local) startAlarms(ctx context.Context, a *app, store cluster.Store) error {
	if g.series == nil {
		return nil
	}
	registry, forget := g.metrics.Add("alarms")
	a.onStop("metrics of alarms", func(context.Context) error { forget(); return nil })
	c := g.config.AWS
	w, err := watch.New(ctx, watch.Options{
		Store: store, Reader: g.series, Publish: g.publishAlarm, Confirmed: g.sns.Confirmed, Region: c.Region, Account: c.Account, Metrics: registry, Logger: g.log,
	})
	if err != nil {
		return err
	}
	g.alarms = w
	a.run("alarms", part{"alarms", w.Run})
	return nil
}

// withAlarms answers about alarms before anything else.
func (g *local) withAlarms(rest http.Handler) http.Handler {
	if g.alarms == nil {
		return rest
	}
	return g.alarms.Handler(rest)
}

// publishAlarm has a topic take an alarm's message.
func (g *local) publishAlarm(ctx context.Context, p watch.Post) error {
	err := g.sns.Publish(ctx, notify.Post{Topic: p.Topic, ID: p.ID, Subject: p.Subject, Message: p.Message})
	if err != nil && !lasting(err) {
		return fmt.Errorf("%w: %w", watch.ErrRefused, err)
	}
	return err
}

// startPacks has every group get its alarms, or lose them when they are not wanted any more.
func (g *local) startPacks(ctx context.Context, a *app, store cluster.Store) error {
	if g.alarms == nil {
		return nil
	}
	k, err := pack.New(ctx, pack.Options{
		Store: store, Alarms: g.alarms, Groups: g.packed, Logger: g.log,
		Topic: func(ctx context.Context) (string, error) { return g.sns.Topic(ctx, g.config.Alarms.Topic) },
	})
	if err != nil {
		return err
	}
	a.run("packs of alarms", part{"packs of alarms", k.Run})
	return nil
}

// packed are the groups that get a pack: all that there are, or none.
func (g *local) packed(ctx context.Context) (all []pack.Group, err error) {
	if !g.config.Alarms.Pack {
		return nil, nil
	}
	specs, err := g.fleet.Specs(ctx)
	if err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(specs)) {
		all = append(all, pack.Group{Name: name, Nodes: len(specs[name].Nodes)})
	}
	return all, nil
}
