package series

import (
	"context"
	"encoding/json"
	"log/slog"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/util/compression"

	"understudy/metric"
)

// Labels of a series: whose it is, and which part of a sample.
const (
	labelID        = "id" // see encode
	labelNamespace = "namespace"
	labelName      = "name"
	labelUnit      = "unit"
	labelPart      = "part"
)

// Parts of a sample are in series of their own, at one timestamp: a value (and how often it was seen, unless once);
// or a statistic set; or the buckets of a minute that was rolled up, with the lowest and the highest value.
const (
	partValue   = "value"
	partWeight  = "weight"
	partCount   = "count"
	partSum     = "sum"
	partLow     = "low"
	partHigh    = "high"
	partBuckets = "buckets"
	partMark    = "rolled" // not of a sample: minutes before it are in the minutes' store
)

// grain is a store of one resolution. Its TSDB takes one value a timestamp, so samples of one second (minute) take
// its milliseconds in turn: they all count, as in CloudWatch, however many there are.
type grain struct {
	*tsdb.DB
	span  int64             // ms that a slot's number counts in: 1,000 or 60,000
	slots int64             // how many samples of a metric there is room for in a span
	next  map[string]cursor // by id and unit: what was written last
}

type cursor struct{ span, slot int64 }

// grainOptions are what tells the stores apart.
type grainOptions struct {
	span, slots  int64
	block        time.Duration // one file's span; also how much the head holds, one and a half times
	biggest      time.Duration // after compaction
	keep, window time.Duration
	size         int64
}

func openGrain(dir string, o grainOptions, log *slog.Logger) (*grain, error) {
	t := tsdb.DefaultOptions()
	t.RetentionDuration, t.MaxBytes = o.keep.Milliseconds(), o.size
	t.MinBlockDuration, t.MaxBlockDuration = o.block.Milliseconds(), o.biggest.Milliseconds()
	t.OutOfOrderTimeWindow = o.window.Milliseconds()
	t.WALCompression = compression.Zstd
	// A segment is given room on the disk before it is written, and goes as a whole: small ones keep the bound near.
	t.WALSegmentSize, t.MaxBlockChunkSegmentSize = 8<<20, 32<<20
	t.StripeSize = 1 << 10 // a thousand series, not millions
	t.NoLockfile = true    // the data directory has a lock of its own
	db, err := tsdb.Open(dir, log, nil, t, nil)
	if err != nil {
		return nil, err
	}
	return &grain{DB: db, span: o.span, slots: o.slots, next: map[string]cursor{}}, nil
}

// encode makes an ID one label: dimensions may have any name, and none but these may match.
func encode(id metric.ID) string {
	words := []string{id.Namespace, id.Name}
	for _, d := range id.Dimensions {
		words = append(words, d.Name, d.Value)
	}
	text, err := json.Marshal(words)
	if err != nil {
		panic("series: an ID that is no JSON: " + err.Error()) // strings always are
	}
	return string(text)
}

func decode(text string) (metric.ID, bool) {
	var words []string
	if json.Unmarshal([]byte(text), &words) != nil || len(words) < 2 || len(words)%2 != 0 {
		return metric.ID{}, false
	}
	return metric.New(words[0], words[1], words[2:]...), true
}

// batch is an append to one store that is kept as a whole.
type batch struct {
	*grain
	storage.Appender
	taken map[place]int64
}

// place is a metric's span; taken says which slot of it was the last.
type place struct {
	key  string
	span int64
}

func (g *grain) begin(ctx context.Context) *batch {
	return &batch{grain: g, Appender: g.DB.Appender(ctx), taken: map[place]int64{}}
}

func (b *batch) commit() error {
	if err := b.Appender.Commit(); err != nil {
		return err
	}
	for p, slot := range b.taken {
		if last, ok := b.next[p.key]; !ok || p.span >= last.span {
			b.next[p.key] = cursor{p.span, slot}
		}
	}
	return nil
}

// slot is the timestamp of the next sample of a metric in the span of at, ms.
func (b *batch) slot(ctx context.Context, id, unit string, at int64) (int64, error) {
	p := place{id + unit, floor(at, b.span)}
	slot, err := b.after(ctx, id, unit, p)
	if err != nil {
		return 0, err
	}
	if slot >= b.slots {
		return 0, ErrFull
	}
	b.taken[p] = slot
	return p.span + slot, nil
}

// after is the first free slot.
func (b *batch) after(ctx context.Context, id, unit string, p place) (int64, error) {
	if slot, ok := b.taken[p]; ok {
		return slot + 1, nil
	}
	switch last, known := b.next[p.key]; {
	case known && p.span == last.span:
		return last.slot + 1, nil
	case known && p.span > last.span: // nothing is there yet
		return 0, nil
	}
	newest, any, err := b.newest(ctx, id, unit, p.span)
	if !any || err != nil {
		return 0, err
	}
	return newest - p.span + 1, nil
}

// newest is the last timestamp that a metric has in a span.
func (g *grain) newest(ctx context.Context, id, unit string, start int64) (at int64, any bool, err error) {
	q, err := g.Querier(start, start+g.slots-1)
	if err != nil {
		return 0, false, err
	}
	defer q.Close()
	all := q.Select(ctx, false, nil, equal(labelID, id), equal(labelUnit, unit))
	var it chunkenc.Iterator
	for all.Next() {
		it = all.At().Iterator(it)
		for it.Next() != chunkenc.ValNone {
			at, any = max(at, it.AtT()), true
		}
		if err := it.Err(); err != nil {
			return 0, false, err
		}
	}
	return at, any, all.Err()
}

func equal(name, value string) *labels.Matcher {
	return labels.MustNewMatcher(labels.MatchEqual, name, value)
}

// part appends one part of a sample.
func (b *batch) part(id metric.ID, text, unit, part string, at int64, v float64) error {
	_, err := b.Append(0, describe(id, text, unit, part), at, v)
	return err
}

func describe(id metric.ID, text, unit, part string) labels.Labels {
	return labels.FromStrings(labelID, text, labelNamespace, id.Namespace, labelName, id.Name, labelUnit, unit, labelPart, part)
}

func floor(at, span int64) int64 {
	if r := at % span; r >= 0 {
		return at - r
	} else {
		return at - r - span
	}
}
