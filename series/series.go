// Package series keeps what was published of metrics, and answers CloudWatch's questions from it: seconds for a day,
// minutes for 15 days, on disk, within a bounded size.
package series

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"understudy/metric"
)

// How long data are kept at which resolution.
const (
	KeepHigh     = 24 * time.Hour
	KeepStandard = 15 * 24 * time.Hour
)

// MinSize is the least size that can be bounded: what is being written is not deleted.
const MinSize = 64 << 20

// Options: Dir is needed.
type Options struct {
	Dir string // seconds/ and minutes/ are made in it; nobody else may have it open
	// Keep is how long minutes are kept; 0: KeepStandard. Seconds are kept for a day, or Keep if that is less.
	Keep time.Duration
	// Size bounds the blocks on disk, bytes; 0: 1 GiB. Two thirds are for seconds. The oldest data go first. Beside
	// it there is the log of what is not in a block yet: one and a half hours of seconds, nine hours of minutes.
	Size    int64
	Logger  *slog.Logger
	Metrics prometheus.Registerer // nil: nobody asks
}

// Series are the metrics' data.
type Series struct {
	log     *slog.Logger
	metrics *metrics
	seconds *grain
	minutes *grain

	mu     sync.Mutex   // held by whoever writes
	rolled atomic.Int64 // ms: minutes before it are in minutes, whole; who reads does not wait for who writes
}

var (
	_ metric.Reader = (*Series)(nil)
	_ metric.Writer = (*Series)(nil)
)

// Open opens or makes the stores. Close must be called.
func Open(o Options) (*Series, error) {
	if o.Dir == "" {
		return nil, errors.New("series: Dir is needed")
	}
	if o.Keep == 0 {
		o.Keep = KeepStandard
	}
	if o.Size == 0 {
		o.Size = 1 << 30
	}
	if o.Keep < time.Hour || o.Keep > KeepStandard || o.Size < MinSize {
		return nil, fmt.Errorf("series: Keep %v is not from 1h to %v, or Size %d less than %d", o.Keep, KeepStandard, o.Size, MinSize)
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, err
	}
	s := &Series{log: o.Logger.With("component", "series")}
	var err error
	// Files of an hour keep the log of the head small, which is five times as large as a block.
	s.seconds, err = s.open(o, "seconds", grainOptions{span: 1000, slots: 1000, block: time.Hour, biggest: time.Hour,
		keep: min(KeepHigh, o.Keep), window: KeepHigh + mostFuture, size: o.Size / 3 * 2})
	if err != nil {
		return nil, err
	}
	// The last slot of a minute is for what the seconds came to.
	s.minutes, err = s.open(o, "minutes", grainOptions{span: 60_000, slots: 59_999, block: 6 * time.Hour, biggest: 36 * time.Hour,
		keep: o.Keep, window: mostPast + 2*mostFuture, size: o.Size / 3})
	if err != nil {
		return nil, errors.Join(err, s.seconds.Close())
	}
	rolled, err := s.mark()
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	s.rolled.Store(rolled)
	s.metrics = newMetrics(o.Metrics, s)
	return s, nil
}

func (s *Series) open(o Options, name string, g grainOptions) (*grain, error) {
	opened, err := openGrain(filepath.Join(o.Dir, name), g, slog.New(quiet{s.log.With("store", name).Handler()}))
	if err != nil {
		return nil, fmt.Errorf("open the %s of metrics: %w", name, err)
	}
	return opened, nil
}

// Run rolls seconds up until ctx ends.
func (s *Series) Run(ctx context.Context) error {
	t := time.NewTicker(10 * time.Second)
	defer t.Stop()
	for {
		if err := s.roll(ctx, time.Now()); err != nil && ctx.Err() == nil {
			s.log.Warn("metrics were not rolled up", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

// Close ends the stores. What Write took is on disk before.
func (s *Series) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return errors.Join(s.seconds.Close(), s.minutes.Close())
}

// Write keeps data: those of a resolution of 1 s among the seconds, others and old ones among the minutes. The error
// is a *Refused when a datum is at fault; then none are kept. It survives the death of the process, and of the machine
// but for what its kernel had not written.
func (s *Series) Write(ctx context.Context, data []metric.Datum) error {
	err := s.write(ctx, data)
	if _, ok := errors.AsType[*Refused](err); ok {
		s.metrics.refused.Inc()
	}
	if err == nil {
		s.metrics.samples.Add(float64(values(data)))
	}
	return err
}

// values is how many values and statistic sets there are.
func values(data []metric.Datum) (n int) {
	for _, d := range data {
		n += max(1, len(d.Values))
	}
	return n
}

func (s *Series) write(ctx context.Context, data []metric.Datum) error {
	now := time.Now()
	for i := range data {
		if err := check(data[i], now); err != nil {
			return &Refused{i, data[i].ID, err}
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	seconds, minutes := s.seconds.begin(ctx), s.minutes.begin(ctx)
	for i, d := range data {
		if err := s.place(ctx, d, now, seconds, minutes); err != nil {
			err = errors.Join(err, seconds.Rollback(), minutes.Rollback())
			if errors.Is(err, ErrFull) {
				return &Refused{i, d.ID, ErrFull}
			}
			return fmt.Errorf("keep %s: %w", d.ID, err)
		}
	}
	if err := seconds.commit(); err != nil {
		return errors.Join(fmt.Errorf("keep metrics: %w", err), minutes.Rollback())
	}
	if err := minutes.commit(); err != nil {
		return fmt.Errorf("keep metrics: %w", err)
	}
	return nil
}

// place puts a datum where it is read. A late one is in both: its minute has been rolled up without it.
func (s *Series) place(ctx context.Context, d metric.Datum, now time.Time, seconds, minutes *batch) error {
	at := d.At.UnixMilli()
	if d.High && at > now.Add(-KeepHigh).UnixMilli() {
		if err := seconds.add(ctx, d); err != nil || at >= s.rolled.Load() {
			return err
		}
	}
	return minutes.add(ctx, d)
}

// add appends a datum's samples.
func (b *batch) add(ctx context.Context, d metric.Datum) error {
	d.ID.Dimensions = append([]metric.Dimension(nil), d.ID.Dimensions...)
	d.ID.Sort()
	text, unit := encode(d.ID), d.Unit
	if unit == "" {
		unit = noUnit
	}
	put := func(parts map[string]float64) error {
		at, err := b.slot(ctx, text, unit, d.At.UnixMilli())
		for part, v := range parts {
			if err == nil {
				err = b.part(d.ID, text, unit, part, at, v)
			}
		}
		return err
	}
	if s := d.Set; s != nil {
		return put(map[string]float64{partCount: s.Count, partSum: s.Sum, partLow: s.Min, partHigh: s.Max})
	}
	for i, v := range d.Values {
		parts := map[string]float64{partValue: v}
		if d.Counts != nil && d.Counts[i] != 1 {
			parts[partWeight] = d.Counts[i]
		}
		if err := put(parts); err != nil {
			return err
		}
	}
	return nil
}

// noUnit is the unit of data that were published without one.
const noUnit = "None"

// quiet leaves out what a TSDB tells when all is well: it is no news to whoever reads our log.
type quiet struct{ slog.Handler }

func (q quiet) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= slog.LevelWarn && q.Handler.Enabled(ctx, l)
}

func (q quiet) WithAttrs(a []slog.Attr) slog.Handler { return quiet{q.Handler.WithAttrs(a)} }
func (q quiet) WithGroup(name string) slog.Handler   { return quiet{q.Handler.WithGroup(name)} }
