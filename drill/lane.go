package drill

import (
	"context"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"understudy/history"
)

// The client's own limits. They are the same in every lane, and named in the report.
const (
	dialTimeout = time.Second
	readTimeout = 3 * time.Second // go-redis's default
)

func clientOptions(addr string) *redis.Options {
	return &redis.Options{
		Addr:          addr,
		MaxRetries:    -1,
		DialerRetries: 1,
		DialTimeout:   dialTimeout,
		ReadTimeout:   readTimeout,
		WriteTimeout:  readTimeout,
		// Hints from a managed service would tell the client of a failover; the lanes have none.
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
}

// Where an operation was sent. The direct lane has one address for everything.
const (
	wherePrimary = "primary"
	whereReader  = "reader"
	whereSplit   = "split"
	whereDirect  = "direct"
)

// entry is one operation, and how it looked to the client when it did not succeed.
type entry struct {
	history.Op
	// Failure is the error as the client saw it, "" when there was none. The history's outcome
	// is narrower: a broken connection is an error to the client, and unknown to the judge.
	Failure string `json:"failure,omitempty"`
	Replied bool   `json:"replied,omitempty"` // Failure was a reply, not a broken connection
}

// lane is one way of reaching the group, with clients of its own and keys of its own.
type lane struct {
	name  string
	about string
	addrs map[string]string // where -> HOST:PORT
	login Login             // at all of them
	// opens, when not nil, opens a connection to a place in place of its address.
	opens    func(where string) *redis.Client
	expires  bool   // every key of the lane has a TTL
	prefix   string // of every key
	workload mix
	writers  int
	readers  int
	rate     int // ops/s over all workers
	seed     uint64

	clock    func() time.Duration
	gauge    gauge
	sessions []atomic.Uint64 // per writer: number of its newest session, for readers to read

	workers []*worker
	stop    chan struct{}
	running sync.WaitGroup
}

func (l *lane) key(format string, args ...any) string { return l.prefix + fmt.Sprintf(format, args...) }

// connect opens a connection of its own to a place.
func (l *lane) connect(where string) *redis.Client {
	where = l.place(where)
	if l.opens != nil {
		return l.opens(where)
	}
	return l.login.client(l.addrs[where])
}

// place names where an operation goes in this lane.
func (l *lane) place(where string) string {
	if _, ok := l.addrs[where]; ok {
		return where
	}
	return whereDirect
}

// start begins the load: consumers of the queue, writers, readers, each with its own connections.
func (l *lane) start(expected time.Duration) {
	l.stop = make(chan struct{})
	consumers := l.workload.consumers(l.writers)
	paced := l.writers - consumers + l.readers
	// A quarter more than the rate allows: a log that grows under load would copy itself then.
	room := int(expected.Seconds()*float64(l.rate)/float64(paced)*1.25) + 64
	for i := range l.writers + l.readers {
		w := newWorker(l, i, room)
		l.workers = append(l.workers, w)
		body, interval := w.read, time.Duration(paced)*time.Second/time.Duration(l.rate)
		switch {
		case i < consumers:
			body = nil
		case i < l.writers:
			body, interval = w.write, interval*time.Duration(l.workload.operationsOfStep())
		}
		l.running.Go(func() {
			defer w.close()
			if body == nil {
				w.consume()
				return
			}
			w.pace(interval, body)
		})
	}
}

// end stops the load and waits for what is under way; every operation has a deadline of its own.
func (l *lane) end() {
	close(l.stop)
	l.running.Wait()
}

// entries joins the logs of the workers; the load must have ended.
func (l *lane) entries() []entry {
	n := 0
	for _, w := range l.workers {
		n += len(w.log)
	}
	all := make([]entry, 0, n)
	for _, w := range l.workers {
		all = append(all, w.log...)
	}
	for i := range all {
		all[i].ID = uint64(i + 1)
	}
	return all
}

// worker is one client of the application.
type worker struct {
	lane    *lane
	id      int
	rand    *rand.Rand
	clients map[string]*redis.Client
	log     []entry
	seq     uint64 // of the values that it wrote
	session session
}

func newWorker(l *lane, id, room int) *worker {
	return &worker{
		lane: l, id: id, rand: rand.New(rand.NewPCG(l.seed, uint64(id))),
		clients: map[string]*redis.Client{}, log: make([]entry, 0, room),
	}
}

func (w *worker) close() {
	for _, c := range w.clients {
		_ = c.Close() // nothing is under way
	}
}

// client returns this worker's connection to an endpoint, opened at its first use.
func (w *worker) client(where string) *redis.Client {
	where = w.lane.place(where)
	c := w.clients[where]
	if c == nil {
		c = w.lane.connect(where)
		w.clients[where] = c
	}
	return c
}

// pace calls step at the worker's share of the rate. A step that took too long is not made up for:
// an application's visitors do not come twice as fast after an outage.
func (w *worker) pace(interval time.Duration, step func()) {
	timer := time.NewTimer(time.Duration(w.rand.Int64N(int64(interval))))
	defer timer.Stop()
	for {
		select {
		case <-w.lane.stop:
			return
		case <-timer.C:
		}
		began := time.Now()
		step()
		// ±25 %, so that the workers do not march in step.
		jittered := interval*3/4 + time.Duration(w.rand.Int64N(int64(interval)/2+1))
		timer.Reset(max(0, jittered-time.Since(began)))
	}
}

// record ends an operation that began at o.Invoked.
func (w *worker) record(o history.Op, err error) {
	e := entry{Op: o}
	e.Client, e.Returned = w.id, w.lane.clock()
	e.Where = w.lane.place(o.Where)
	e.Outcome, e.Failure, e.Replied = classify(o.Kind, err)
	w.log = append(w.log, e)
	w.lane.gauge.add(e)
}

func (w *worker) nextValue() string {
	w.seq++
	return fmt.Sprintf("%d.%d", w.id, w.seq)
}

// gauge is what the live view reads while the workers write.
type gauge struct {
	writes, reads, errors, unknown atomic.Int64
	lastWrite                      atomic.Int64 // when the newest write was acked, ns of the run's clock
	longest                        atomic.Int64 // the longest time between two acks so far, ns
	latency                        [latencyBuckets]atomic.Uint32
}

// latencyBuckets are four to a power of two of nanoseconds: 19 % wide at most.
const latencyBuckets = 4 * 48

func latencyBucket(d time.Duration) int {
	n := uint64(max(d, 4))
	exp := bits.Len64(n) - 1
	return min(latencyBuckets-1, exp*4+int(n>>(exp-2)&3))
}

// bucketTop is the largest duration of a bucket.
func bucketTop(b int) time.Duration {
	exp := b / 4
	return time.Duration(1)<<exp + time.Duration(b%4+1)*(time.Duration(1)<<exp/4)
}

func (g *gauge) add(e entry) {
	switch {
	case e.unknown():
		g.unknown.Add(1)
	case e.Failure != "":
		g.errors.Add(1)
	case e.Kind == history.Get:
		g.reads.Add(1)
	case e.ackedWrite():
		g.writes.Add(1)
		at := int64(e.Returned)
		if before := g.lastWrite.Swap(at); before > 0 && at-before > g.longest.Load() {
			g.longest.Store(at - before)
		}
	}
	if e.Kind != history.Pop {
		g.latency[latencyBucket(e.Returned-e.Invoked)].Add(1)
	}
}

// background is the context of every operation of a lane: the client's timeouts bound it, and
// cutting it off would leave a write of unknown outcome behind.
var background = context.Background()
