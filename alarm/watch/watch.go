// Package watch keeps alarms and their history in the store, evaluates each alarm when it is due, and has the topics
// told of what changed: at least once, also after a crash, and each message with an ID by which a topic takes it once.
package watch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"understudy/alarm"
	"understudy/cluster"
	"understudy/metric"
	"understudy/shelf"
)

// Options say over what. All but Confirmed, Now, Metrics and Logger are needed.
type Options struct {
	Store  cluster.Store
	Reader metric.Reader
	// Publish has a topic take a message; when it returns nil the message is safe. An error that says that it will never
	// be taken wraps ErrRefused; any other is tried again.
	Publish func(ctx context.Context, p Post) error
	// Confirmed is how many confirmed subscriptions a topic has; nil: tests do not tell.
	Confirmed func(ctx context.Context, topic string) (int, error)
	Region    string
	Account   string // twelve digits
	Now       func() time.Time
	Metrics   prometheus.Registerer
	Logger    *slog.Logger
}

// Errors of a Watch, compared with errors.Is. A rule that is none is an alarm.Invalid.
var (
	// ErrNone: there is no such alarm.
	ErrNone = shelf.ErrNone
	// ErrRefused: the topic will never take the message.
	ErrRefused = errors.New("refused by the topic")
	// ErrFull: there are MostAlarms.
	ErrFull = errors.New("no more alarms may be made")
	// ErrStopped: Run has ended, or has not begun.
	ErrStopped = errors.New("alarms are not kept now")
)

// prefix is where the records are.
const prefix = "/understudy/aws/cloudwatch/"

// Watch is all alarms. What changes one is done by Run's goroutine, one thing after another: no change meets another.
type Watch struct {
	opts    Options
	place   place
	log     *slog.Logger
	metrics *metrics

	alarms  *shelf.Shelf[Alarm]
	history *history

	jobs    chan job
	running chan struct{} // closed when Run has begun
	ended   chan struct{} // closed when it has ended

	// Of Run's goroutine.
	plan    *plan
	known   map[string]*known
	parents map[string]map[string]bool // names of composite alarms, by what they depend on

	mu     sync.Mutex
	untold map[string]bool // alarms that have something to tell
	news   chan struct{}   // has an element when untold has
}

// known is what is worked out once of an alarm's rule.
type known struct {
	math       *math
	expression *alarm.Expression
	failed     bool // the last evaluation could not be made; that was told
}

type job struct {
	do   func(context.Context) error
	done chan error
}

// New reads what there is; see Run. The error names the option that is missing.
func New(ctx context.Context, o Options) (*Watch, error) {
	if o.Store == nil || o.Reader == nil || o.Publish == nil || o.Region == "" || o.Account == "" {
		return nil, errors.New("watch: Store, Reader, Publish, Region and Account are needed")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	w := &Watch{
		opts: o, place: place{o.Region, o.Account}, log: o.Logger.With("component", "alarms"),
		alarms: shelf.New[Alarm](o.Store, prefix+"alarms/"), history: newHistory(o.Store),
		jobs: make(chan job), running: make(chan struct{}), ended: make(chan struct{}),
		plan: newPlan(), known: map[string]*known{}, parents: map[string]map[string]bool{},
		untold: map[string]bool{}, news: make(chan struct{}, 1),
	}
	if err := w.alarms.Load(ctx); err != nil {
		return nil, fmt.Errorf("alarms: %w", err)
	}
	if err := w.history.load(ctx); err != nil {
		return nil, fmt.Errorf("history of alarms: %w", err)
	}
	w.metrics = newMetrics(o.Metrics, w)
	for _, a := range w.alarms.All() {
		w.learn(a)
		w.tell(a)
	}
	return w, nil
}

// Run evaluates alarms and has topics told until ctx ends. What is untold then the next process tells.
func (w *Watch) Run(ctx context.Context) error {
	var telling sync.WaitGroup
	telling.Go(func() { w.tellAll(ctx) })
	defer telling.Wait()
	defer close(w.ended)
	close(w.running)
	prune := time.NewTicker(pruneEvery)
	defer prune.Stop()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		timer.Reset(w.plan.wait(w.opts.Now()))
		select {
		case <-ctx.Done():
			return nil
		case j := <-w.jobs:
			j.done <- j.do(ctx)
		case <-prune.C:
			w.history.prune(ctx, w.opts.Now())
		case <-timer.C:
			if name, ok := w.plan.due(w.opts.Now()); ok {
				w.look(ctx, name)
			}
		}
	}
}

// do has Run's goroutine do something, and returns what came of it.
func (w *Watch) do(ctx context.Context, f func(context.Context) error) error {
	select {
	case <-w.running:
	default:
		return ErrStopped
	}
	j := job{do: func(running context.Context) error {
		if ctx.Err() != nil {
			return ctx.Err() // who asked has gone
		}
		return f(running)
	}, done: make(chan error, 1)}
	select {
	case w.jobs <- j:
	case <-w.ended:
		return ErrStopped
	case <-ctx.Done():
		return ctx.Err()
	}
	return <-j.done
}

// Alarm is an alarm as it stands. What it points to is not to be changed.
func (w *Watch) Alarm(name string) (Alarm, bool) { return w.alarms.Get(name) }

// Alarms are all, in the order of their names. What they point to is not to be changed.
func (w *Watch) Alarms() []Alarm { return w.alarms.All() }

// ARN is an alarm's.
func (w *Watch) ARN(name string) string { return w.place.arn(name) }

// learn works out what an alarm's rule says, and plans when to look at it.
func (w *Watch) learn(a Alarm) {
	w.forget(a.Name)
	k := &known{}
	w.known[a.Name] = k
	switch {
	case a.Composite != nil:
		e, err := alarm.Parse(a.Composite.Rule)
		if err != nil {
			w.log.Error("an alarm's rule is none: it keeps its state", "alarm", a.Name, "error", err)
			return
		}
		k.expression = e
		for _, child := range a.depends(e) {
			if w.parents[child] == nil {
				w.parents[child] = map[string]bool{}
			}
			w.parents[child][a.Name] = true
		}
		if !a.Suppression.Until.IsZero() {
			w.plan.at(a.Name, a.Suppression.Until)
		}
	case len(a.Rule.Queries) > 0:
		m, err := compile(*a.Rule)
		if err != nil {
			w.log.Error("an alarm's expression is none: it keeps its state", "alarm", a.Name, "error", err)
			return
		}
		k.math = m
		fallthrough
	default:
		w.plan.at(a.Name, next(a, w.opts.Now()))
	}
}

// depends are the alarms that a composite alarm looks at.
func (a Alarm) depends(e *alarm.Expression) []string {
	names := e.Children()
	if s := a.Composite.Suppressor; s != nil {
		names = append(names, alarm.NameOf(s.Alarm))
	}
	return names
}

func (w *Watch) forget(name string) {
	delete(w.known, name)
	w.plan.drop(name)
	for _, of := range w.parents {
		delete(of, name)
	}
}
