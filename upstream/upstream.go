// Package upstream watches a Redis that somebody else fails over, and says in the agents' words who its
// primary is.
//
// The somebody is an operator, Redis Sentinel or ElastiCache. The package changes nothing: it asks every
// node what it is, decides which of those that say "master" is the one, and makes the cluster.NodeStatus
// values from which a proxy learns. DESIGN.md says what such a word is worth.
package upstream

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"understudy/cluster"
)

// Watcher watches one group.
type Watcher struct {
	opts    Options
	log     *slog.Logger
	metrics *metrics
	source  source
	inbox   chan any      // answer, roster, handover or trouble: to the one goroutine that judges
	unsure  chan struct{} // somebody doubts: holds at most one

	// hurried is true while there is no primary: nodes and sources are asked more often.
	hurried atomic.Bool

	mu     sync.Mutex
	askers map[cluster.NodeID]*asker
}

// source knows which nodes there are, and may know who is said to be their primary. It tells by
// Watcher.tell, and returns when ctx ends.
type source interface {
	run(ctx context.Context, w *Watcher)
	// poke has it look again now, within its own bounds. It does not block.
	poke()
}

// inboxSize lets every node of a group answer at once without waiting for the judge.
const inboxSize = 2 * maxNodes

// New checks the options. The error names the field that is wrong; it holds no credentials.
func New(opts Options) (*Watcher, error) {
	if err := opts.complete(); err != nil {
		return nil, err
	}
	w := &Watcher{
		opts: opts, log: opts.Logger.With("component", "upstream", "group", opts.Group), metrics: newMetrics(opts.Metrics, opts.Group),
		inbox: make(chan any, inboxSize), unsure: make(chan struct{}, 1), askers: map[cluster.NodeID]*asker{},
	}
	w.hurried.Store(true)
	switch {
	case opts.Static != nil:
		w.source = newStatic(*opts.Static)
	case opts.Sentinel != nil:
		w.source = newSentinels(*opts.Sentinel)
	case opts.ElastiCache.ReplicationGroup != "":
		w.source = newElastiCache(*opts.ElastiCache)
	default:
		w.source = newEndpoints(*opts.ElastiCache)
	}
	return w, nil
}

// Doubt says that something is wrong with what the last statuses said: a node answered -READONLY, a
// connection to it broke, or it does not answer. Every node is asked at once. Any goroutine may call it, as
// often as it likes; it does not block.
func (w *Watcher) Doubt() {
	w.metrics.doubts.Inc()
	w.look()
}

// look has everything looked at now.
func (w *Watcher) look() {
	select {
	case w.unsure <- struct{}{}:
	default:
	}
}

// Run watches until ctx ends, and returns nil then. Options.OnStatus and OnEvent are called from it, one
// call at a time.
func (w *Watcher) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	running.Go(func() { w.source.run(ctx, w) })
	running.Go(func() { w.followNames(ctx) })
	j := newJudge(w.opts)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case x := <-w.inbox:
			w.take(ctx, &running, j, x)
		case <-w.unsure:
			w.askAll()
			w.source.poke()
			continue
		case <-timer.C:
			j.tick(w.opts.Clock())
		}
		timer.Reset(w.publish(j))
	}
}

// take hands one message to the judge.
func (w *Watcher) take(ctx context.Context, running *sync.WaitGroup, j *judge, x any) {
	now := w.opts.Clock()
	switch x := x.(type) {
	case answer:
		j.hear(now, x)
	case roster:
		j.list(now, x)
		w.appoint(ctx, running, j.members())
	case handover:
		j.handOver(now, x)
	case trouble:
		j.say(x.name, "", x.message)
	}
}

// publish gives out what the judge has to say, and returns how long it has nothing to do.
func (w *Watcher) publish(j *judge) time.Duration {
	for _, e := range j.events {
		e.Time = time.Now()
		w.log.Info(e.Message, "event", e.Name, "node", e.Node, "epoch", e.Epoch)
		w.opts.OnEvent(e)
	}
	for _, s := range j.said {
		w.opts.OnStatus(s.at, s.status)
	}
	j.events, j.said = j.events[:0], j.said[:0]
	w.metrics.epoch.Set(float64(j.epoch))
	w.metrics.nodes.Set(float64(len(j.nodes)))
	now := w.opts.Clock()
	primary, gauge := j.present(now), 0.0
	if primary {
		gauge = 1
	}
	w.metrics.primary.Set(gauge)
	if was := w.hurried.Swap(!primary); !was && !primary {
		w.look()
	}
	return max(j.wake-now, time.Millisecond)
}

// tell hands a message to the judge; false when ctx has ended.
func (w *Watcher) tell(ctx context.Context, x any) bool {
	select {
	case w.inbox <- x:
		return true
	case <-ctx.Done():
		return false
	}
}

// appoint keeps one asker for each node.
func (w *Watcher) appoint(ctx context.Context, running *sync.WaitGroup, members []member) {
	w.mu.Lock()
	defer w.mu.Unlock()
	wanted := map[cluster.NodeID]string{}
	for _, m := range members {
		wanted[m.id] = m.addr
	}
	for id, a := range w.askers {
		if wanted[id] != a.name {
			a.stop()
			delete(w.askers, id)
		}
	}
	for i, m := range members {
		if w.askers[m.id] != nil {
			continue
		}
		own, stop := context.WithCancel(ctx)
		a := &asker{w: w, id: m.id, name: m.addr, tls: w.opts.TLS, stop: stop, again: make(chan struct{}, 1), rng: rand.New(rand.NewPCG(w.opts.Seed, uint64(i)))}
		if a.tls != nil && a.tls.ServerName == "" && m.server != "" {
			a.tls = a.tls.Clone()
			a.tls.ServerName = m.server
		}
		w.askers[m.id] = a
		running.Go(func() { a.run(own) })
	}
}

// ServerName is the name for which a node's certificate has to be; "" while the node is not watched. Any
// goroutine may call it.
func (w *Watcher) ServerName(id cluster.NodeID) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	a := w.askers[id]
	switch {
	case a == nil:
		return ""
	case a.tls != nil && a.tls.ServerName != "":
		return a.tls.ServerName
	}
	host, _, _ := net.SplitHostPort(a.name)
	return host
}

func (w *Watcher) askAll() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, a := range w.askers {
		a.poke()
	}
}

// trouble is something that a source wants in the timeline.
type trouble struct{ name, message string }

// errStopped ends a wait when its context ends.
var errStopped = errors.New("stopped")

// pause waits for d, or until poked; errStopped when ctx has ended.
func pause(ctx context.Context, d time.Duration, poked <-chan struct{}) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return errStopped
	case <-t.C:
	case <-poked:
	}
	return nil
}

// jittered is d, a tenth more or less, so that many watchers do not ask in step.
func jittered(d time.Duration, rng *rand.Rand) time.Duration {
	return d - d/10 + time.Duration(rng.Int64N(int64(d/5)+1))
}
