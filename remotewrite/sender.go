// Package remotewrite passes on what is published of metrics to a receiver of Prometheus' remote-write protocol, and
// holds nobody up who publishes.
package remotewrite

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/prometheus/client_golang/exp/api/remote"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/prompb"

	"understudy/metric"
)

// Options: URL is needed.
type Options struct {
	URL     string // http(s)://[USER:PASSWORD@]HOST:PORT/api/v1/write
	Logger  *slog.Logger
	Metrics prometheus.Registerer // nil: nobody asks
}

const (
	// mostQueued bounds what waits while the receiver is away, in samples: twenty minutes of a group of three nodes,
	// and 100 MB. Beyond it the oldest go.
	mostQueued = 200_000
	// mostAtOnce bounds one request; it is Prometheus' own default.
	mostAtOnce = 2000
	// answerWithin bounds one attempt; lastPause is the longest pause between two.
	answerWithin = 10 * time.Second
	firstPause   = 100 * time.Millisecond
	lastPause    = 5 * time.Second
	// stopWithin is for what still waits when Run is to end.
	stopWithin = time.Second
	// forgetAfter is longer than any metric is late.
	forgetAfter = time.Hour
)

// Sender is a metric.Writer that sends.
type Sender struct {
	log     *slog.Logger
	api     *remote.API
	to      string // without a password
	metrics *metrics
	wake    chan struct{} // something waits
	most    int           // mostQueued, less in tests

	mu       sync.Mutex
	queue    []prompb.TimeSeries
	newest   map[string]int64 // by series, ms: the receiver takes each in the order of time, once
	forgetAt int              // that many series: those that nobody writes any more go
	away     bool             // it has been said that the receiver does not take them
}

var _ metric.Writer = (*Sender)(nil)

// New returns a Sender. The error says what is wrong with the URL.
func New(o Options) (*Sender, error) {
	u, err := CheckURL(o.URL)
	if err != nil {
		return nil, err
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Sender{log: o.Logger.With("component", "remote_write"), to: u.Redacted(), wake: make(chan struct{}, 1), most: mostQueued, newest: map[string]int64{}}
	s.metrics = newMetrics(o.Metrics, s.queued)
	s.api, err = remote.NewAPI(o.URL, remote.WithAPIPath(""), remote.WithAPIHTTPClient(&http.Client{Timeout: answerWithin}),
		remote.WithAPIBackoff(remote.BackoffConfig{Min: firstPause, Max: lastPause})) // for ever: the queue is bounded
	return s, err
}

// CheckURL refuses what nothing can be sent to. Passwords are not in its errors.
func CheckURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil {
		if wrong, ok := errors.AsType[*url.Error](err); ok {
			err = wrong.Err // without the URL, which may have a password
		}
		return nil, fmt.Errorf("that is no URL: %w", err)
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.Path == "" {
		return nil, fmt.Errorf("%s: a receiver is http(s)://HOST:PORT/api/v1/write", u.Redacted())
	}
	return u, nil
}

// Write queues data, and returns at once. It has no error: what does not fit is counted.
func (s *Sender) Write(_ context.Context, data []metric.Datum) error {
	all := series(data)
	s.mu.Lock()
	for _, x := range all {
		key, at := key(x.Labels), x.Samples[0].Timestamp
		if last, ok := s.newest[key]; ok && at <= last {
			s.metrics.late.Inc()
			continue
		}
		s.newest[key] = at
		s.queue = append(s.queue, x)
	}
	if len(s.newest) > s.forgetAt {
		old := time.Now().Add(-forgetAfter).UnixMilli()
		maps.DeleteFunc(s.newest, func(_ string, at int64) bool { return at < old })
		s.forgetAt = 2*len(s.newest) + 1000
	}
	if over := len(s.queue) - s.most; over > 0 {
		s.queue = append([]prompb.TimeSeries(nil), s.queue[over:]...)
		s.metrics.dropped.Add(float64(over))
	}
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
	return nil
}

func (s *Sender) queued() float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return float64(len(s.queue))
}

// Run sends until ctx ends, and then what waits, if that is quick.
func (s *Sender) Run(ctx context.Context) error {
	for {
		for s.next(ctx) {
		}
		select {
		case <-s.wake:
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopWithin)
			defer cancel()
			for s.next(last) {
			}
			return nil
		}
	}
}

// next sends the oldest that wait; false: nothing does, or ctx has ended.
func (s *Sender) next(ctx context.Context) bool {
	if ctx.Err() != nil {
		return false
	}
	s.mu.Lock()
	n := min(len(s.queue), mostAtOnce)
	batch := s.queue[:n:n]
	s.queue = s.queue[n:]
	s.mu.Unlock()
	if n == 0 {
		return false
	}
	_, err := s.api.Write(ctx, remote.WriteV1MessageType, &prompb.WriteRequest{Timeseries: batch}, remote.WithWriteRetryCallback(s.retry))
	switch {
	case err == nil:
		s.metrics.sent.Add(float64(n))
		s.back()
	case ctx.Err() != nil: // it is still ours
		s.mu.Lock()
		s.queue = append(batch, s.queue...)
		s.mu.Unlock()
	default:
		s.metrics.refused.Add(float64(n))
		s.log.Error("the receiver refuses metrics", "url", s.to, "samples", n, "error", err)
	}
	return ctx.Err() == nil
}

// retry is told of each attempt that failed. The log says it once.
func (s *Sender) retry(err error) {
	s.metrics.retries.Inc()
	s.mu.Lock()
	first := !s.away
	s.away = true
	s.mu.Unlock()
	if first {
		s.log.Warn("the receiver of metrics does not take them; trying again", "url", s.to, "error", err)
	}
}

func (s *Sender) back() {
	s.mu.Lock()
	was := s.away
	s.away = false
	s.mu.Unlock()
	if was {
		s.log.Info("the receiver takes metrics again", "url", s.to)
	}
}
