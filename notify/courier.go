package notify

import (
	"context"
	"errors"
	"slices"
	"time"

	"understudy/metric"
)

// perLane is how many deliveries to one subscription are under way at a time. Each subscription has its own lane: one
// that hangs holds nobody else up.
const perLane = 8

// attemptWithin is how long SNS gives an endpoint to answer.
const attemptWithin = 15 * time.Second

// sweepEvery is how often what could not be written is, and metrics are handed on; forgetEvery is how often old IDs are
// forgotten, which looks at all of them.
const (
	sweepEvery  = 250 * time.Millisecond
	forgetEvery = time.Minute
)

// lane is one subscription's.
type lane struct {
	waiting []job
	running int
}

// job is a delivery that is due.
type job struct {
	entry        *entry
	subscription string
}

// Run delivers until ctx ends; what is left then is delivered by the next process.
func (c *Courier) Run(ctx context.Context) error {
	c.mu.Lock()
	c.ctx = ctx
	for _, e := range c.entries {
		select {
		case <-e.written:
			c.begin(e)
		default: // Send begins it
		}
	}
	c.mu.Unlock()
	c.work.Go(func() { // making the key takes a while: not the first message's
		if _, err := c.key.get(ctx); err != nil && ctx.Err() == nil {
			c.log.Warn("the first message makes its key", "error", err)
		}
	})
	tick, old := time.NewTicker(sweepEvery), time.NewTicker(forgetEvery)
	defer tick.Stop()
	defer old.Stop()
	for ctx.Err() == nil {
		select {
		case <-tick.C:
			c.sweep()
			c.handOn(ctx)
		case <-old.C:
			c.forgetOld(ctx)
		case <-ctx.Done():
		}
	}
	c.mu.Lock()
	c.ctx = nil
	c.lanes = map[string]*lane{}
	c.mu.Unlock()
	c.work.Wait()
	return nil
}

// begin has each open delivery of an entry made when it is due. c.mu is held.
func (c *Courier) begin(e *entry) {
	for _, o := range e.record.Open {
		c.later(job{e, o.Target.Subscription}, o.Next)
	}
}

// later has a job done at its time. c.mu is held.
func (c *Courier) later(j job, at time.Time) {
	wait := at.Sub(c.opts.Now())
	if at.IsZero() || wait <= 0 {
		c.ready(j)
		return
	}
	ctx := c.ctx
	time.AfterFunc(wait, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.ctx == ctx && ctx != nil { // else this run has ended, and the next one knows the job
			c.ready(j)
		}
	})
}

// ready puts a job into its lane. c.mu is held.
func (c *Courier) ready(j job) {
	l := c.lanes[j.subscription]
	if l == nil {
		l = &lane{}
		c.lanes[j.subscription] = l
	}
	l.waiting = append(l.waiting, j)
	c.pump(j.subscription, l)
}

// pump starts what a lane has room for. c.mu is held.
func (c *Courier) pump(subscription string, l *lane) {
	if c.ctx == nil || c.ctx.Err() != nil {
		return
	}
	ctx := c.ctx
	for l.running < perLane && len(l.waiting) > 0 {
		j := l.waiting[0]
		l.waiting = l.waiting[1:]
		l.running++
		c.work.Go(func() {
			changed := c.attempt(ctx, j)
			c.mu.Lock()
			l.running--
			c.pump(subscription, l)
			if l.running == 0 && len(l.waiting) == 0 && c.lanes[subscription] == l {
				delete(c.lanes, subscription)
			}
			c.mu.Unlock()
			if changed {
				c.settle(j.entry)
			}
		})
	}
}

// attempt makes one delivery, and notes what became of it. false: there is nothing to note.
func (c *Courier) attempt(ctx context.Context, j job) bool {
	c.mu.Lock()
	i := j.entry.find(j.subscription)
	if i < 0 {
		c.mu.Unlock()
		return false
	}
	m, o := j.entry.record.Message, j.entry.record.Open[i]
	c.mu.Unlock()

	bound, cancel := context.WithTimeout(ctx, attemptWithin)
	defer cancel()
	err := errors.New("no process of this version delivers over " + o.Target.Protocol)
	if s := c.senders[o.Target.Protocol]; s != nil {
		err = s.send(bound, m, o.Target)
	}
	if err != nil && ctx.Err() != nil {
		return false // we are being stopped: it may not be the endpoint's fault
	}
	now := c.opts.Now()
	o.Attempts++
	retry := time.Duration(0)
	result := delivered
	if err != nil {
		result, retry = c.judge(err, o)
	}
	c.metrics.attempted(o.Target.Protocol, result, now.Sub(m.At))
	switch result {
	case delivered:
		c.count(m.Topic, "NumberOfNotificationsDelivered", 1)
		c.log.Debug("delivered", "message_id", m.ID, "subscription", o.Target.Subscription, "attempts", o.Attempts)
	case failed:
		c.count(m.Topic, "NumberOfNotificationsFailed", 1)
		c.log.Warn("a message is given up", "message_id", m.ID, "subscription", o.Target.Subscription, "attempts", o.Attempts, "error", err)
		c.bury(m, o, err, now)
	case retried:
		c.log.Info("a delivery failed and is tried again", "message_id", m.ID, "subscription", o.Target.Subscription, "attempts", o.Attempts, "next_in", retry, "error", err)
	}
	c.note(j, o, err, now.Add(retry), result)
	return true
}

// judge says whether a delivery that failed is tried again, and after how long.
func (c *Courier) judge(err error, o open) (result, time.Duration) {
	p := o.Target.Policy
	if p == (Policy{}) {
		p = DefaultPolicy(o.Target.Protocol)
	}
	wait, again := p.Delay(o.Attempts)
	if errors.As(err, new(permanent)) || !again {
		return failed, 0
	}
	return retried, wait
}

// note writes an outcome into the entry.
func (c *Courier) note(j job, o open, err error, next time.Time, r result) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := j.entry
	i := e.find(j.subscription)
	e.version++
	if r == retried {
		o.Next, o.Error = next, short(err)
		e.record.Open[i] = o
		c.later(j, next)
		return
	}
	if e.record.Open = slices.Delete(slices.Clone(e.record.Open), i, i+1); len(e.record.Open) == 0 {
		e.record.Open = nil
		if e.record.Remember {
			e.record.Done, e.record.Message = c.opts.Now(), Message{}
		}
	}
}

// find is where the open delivery to a subscription is; -1: it has been made.
func (e *entry) find(subscription string) int {
	return slices.IndexFunc(e.record.Open, func(o open) bool { return o.Target.Subscription == subscription })
}

// short bounds what is kept of an error: its text may be the endpoint's.
func short(err error) string {
	text := err.Error()
	if len(text) > 500 {
		text = text[:500] + "…"
	}
	return text
}

// counts are SNS's metrics since they were last handed on.
type counts struct{ of map[countKey]float64 }

type countKey struct{ topic, name string }

func newCounts() counts { return counts{of: map[countKey]float64{}} }

// mostCounted bounds what is kept for a writer that does not take it.
const mostCounted = 10000

// Published counts a message of size bytes that a topic took, and those of its subscriptions whose filter did not.
func (c *Courier) Published(topic string, size, filtered int) {
	c.metrics.published.Inc()
	c.count(topic, "NumberOfMessagesPublished", 1)
	c.count(topic, "PublishSize", float64(size))
	if filtered > 0 {
		c.count(topic, "NumberOfNotificationsFilteredOut", float64(filtered))
	}
}

func (c *Courier) count(topic, name string, n float64) {
	if c.opts.Series == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	k := countKey{topicName(topic), name}
	if _, ok := c.counts.of[k]; ok || len(c.counts.of) < mostCounted {
		c.counts.of[k] += n
	}
}

// Namespace is that of SNS's metrics.
const Namespace = "AWS/SNS"

// handOn gives the counts to the series.
func (c *Courier) handOn(ctx context.Context) {
	c.mu.Lock()
	taken := c.counts
	c.counts = newCounts()
	c.mu.Unlock()
	if len(taken.of) == 0 {
		return
	}
	var data []metric.Datum
	for k, n := range taken.of {
		d := metric.Datum{ID: metric.New(Namespace, k.name, "TopicName", k.topic), At: c.opts.Now(), Unit: "Count", Values: []float64{1}, Counts: []float64{n}}
		if k.name == "PublishSize" {
			d.Unit, d.Values, d.Counts = "Bytes", []float64{n}, nil
		}
		data = append(data, d)
	}
	if err := c.opts.Series.Write(ctx, data); err != nil {
		c.log.Warn("counts of deliveries are lost to the series", "error", err)
	}
}
