package elasticache

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/elasticache"
	"github.com/aws/aws-sdk-go-v2/service/elasticache/types"

	"understudy/aws/wire"
	"understudy/cluster"
	"understudy/shelf"
)

// event is a line of DescribeEvents.
type event struct {
	Key     string           `json:"key"` // orders them; unique
	Time    time.Time        `json:"time"`
	Source  string           `json:"source"`
	Type    types.SourceType `json:"type"`
	Message string           `json:"message"`

	// Group or Node is the source; Notice is what subscribers of the group's topic are told, and of whom.
	Group  string         `json:"-"`
	Node   cluster.NodeID `json:"-"`
	Notice string         `json:"-"`
}

// keepEvents is how long AWS shows events; mostEvents bounds them besides: a group that flaps for days must not
// fill the store.
const (
	keepEvents = 14 * 24 * time.Hour
	mostEvents = 5000
)

// events are kept in the store, a key each.
type events struct {
	*shelf.Shelf[event]
	now func() time.Time

	mu     sync.Mutex
	last   int64   // the newest key, as a number
	sorted []event // oldest first
}

func newEvents(store cluster.Store, now func() time.Time) *events {
	return &events{Shelf: shelf.New[event](store, prefix+"events/"), now: now}
}

func (e *events) load(ctx context.Context) error {
	err := e.Load(ctx)
	e.sorted = e.All()
	if n := len(e.sorted); n > 0 {
		_, _ = fmt.Sscanf(e.sorted[n-1].Key, "%d", &e.last)
	}
	return err
}

// append keeps an event; its key is later than all before, whatever the clock does.
func (e *events) append(ctx context.Context, v event) error {
	e.mu.Lock()
	e.last = max(e.last+1, v.Time.UnixNano())
	v.Key = fmt.Sprintf("%020d", e.last)
	e.sorted = append(e.sorted, v)
	e.mu.Unlock()
	return e.Add(ctx, v.Key, v)
}

// prune forgets what is old.
func (e *events) prune(ctx context.Context) {
	e.mu.Lock()
	old := max(0, len(e.sorted)-mostEvents)
	for old < len(e.sorted) && e.now().Sub(e.sorted[old].Time) > keepEvents {
		old++
	}
	gone := slices.Clone(e.sorted[:old])
	e.sorted = slices.Clone(e.sorted[old:])
	e.mu.Unlock()
	for _, v := range gone {
		if e.Remove(ctx, v.Key) != nil {
			return // what is left goes with the next start
		}
	}
}

func (e *events) list() []event {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.sorted)
}

// tell keeps an event, and notifies.
func (s *Service) tell(ctx context.Context, v event) {
	v.Time = s.now()
	v.Source, v.Type = v.Group, types.SourceTypeReplicationGroup
	if v.Node != "" {
		v.Source, v.Type = string(v.Node), types.SourceTypeCacheCluster
	}
	group := or(v.Group, cluster.GroupOf(v.Node))
	s.log.Info("event", "source", v.Source, "detail", v.Message)
	if err := s.events.append(ctx, v); err != nil {
		s.log.Error("an event is not in the store: a restart will not know of it", "error", err)
	}
	if r, ok := s.groups.Get(group); ok && v.Notice != "" && r.Topic != "" && r.TopicStatus == topicActive {
		s.opts.Notify(Notice{Topic: r.Topic, Event: "ElastiCache:" + v.Notice, Subject: v.Source})
	}
}

// Tell keeps an event of a group, and tells subscribers of its topic of the notice, such as "SnapshotComplete".
func (s *Service) Tell(ctx context.Context, group string, message, notice string) {
	s.tell(ctx, event{Group: group, Message: message, Notice: notice})
}

// describeEvents lists the last hour, or what the client asks for; oldest first.
func (s *Service) describeEvents(ctx context.Context, in *elasticache.DescribeEventsInput) (*elasticache.DescribeEventsOutput, error) {
	if in.SourceIdentifier != nil && in.SourceType == "" {
		return nil, combination("SourceType must be given with SourceIdentifier.")
	}
	from, to, err := s.span(in)
	if err != nil {
		return nil, err
	}
	var found []event
	for _, v := range s.events.list() {
		switch {
		case v.Time.Before(from) || v.Time.After(to):
		case in.SourceType != "" && in.SourceType != v.Type:
		case in.SourceIdentifier != nil && !strings.EqualFold(*in.SourceIdentifier, v.Source):
		default:
			found = append(found, v)
		}
	}
	page, next, err := wire.Page(ctx, wire.Paging{Token: in.Marker, Limit: in.MaxRecords}, found, func(v event) string { return v.Key })
	out := &elasticache.DescribeEventsOutput{Marker: next}
	for _, v := range page {
		out.Events = append(out.Events, types.Event{Date: aws.Time(v.Time), Message: aws.String(v.Message), SourceIdentifier: aws.String(v.Source), SourceType: v.Type})
	}
	return out, err
}

// span is from when to when events are asked for.
func (s *Service) span(in *elasticache.DescribeEventsInput) (from, to time.Time, err error) {
	now, length := s.opts.Now(), time.Hour
	if in.Duration != nil {
		if length = time.Duration(*in.Duration) * time.Minute; length <= 0 || length > keepEvents {
			return from, to, invalid("Duration must be from 1 to %d minutes.", int(keepEvents.Minutes()))
		}
	}
	from, to = now.Add(-length), now
	switch {
	case in.StartTime != nil && in.EndTime != nil:
		from, to = *in.StartTime, *in.EndTime
	case in.StartTime != nil:
		if from = *in.StartTime; in.Duration != nil {
			to = from.Add(length)
		}
	case in.EndTime != nil:
		to, from = *in.EndTime, in.EndTime.Add(-length)
	}
	if from.After(to) {
		return from, to, combination("Start time must be before end time.")
	}
	return from, to, nil
}
