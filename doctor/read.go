package doctor

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"understudy/aws/remote"
	"understudy/cluster"
	"understudy/metric"
)

// Cloud is where ElastiCache, CloudWatch and SNS are asked: AWS, or the front of a local instance.
type Cloud interface {
	Group(ctx context.Context, id string) (remote.Group, error)
	Alarms(ctx context.Context) ([]remote.Alarm, error)
	HasMetric(ctx context.Context, id metric.ID) (bool, error)
	Topic(ctx context.Context, arn string) ([]remote.Subscription, error)
	Snapshots(ctx context.Context, group string) ([]remote.Snapshot, error)
	Events(ctx context.Context, group string, since time.Time) ([]remote.Event, error)
}

var _ Cloud = (*remote.Client)(nil)

// The bounds of what is asked of a cloud.
const (
	mostTopics = 50  // that alarms of the group tell
	mostAsked  = 100 // metrics of its alarms: one call each
)

// ReadCloud fills in what the API knows of the group id. It returns the error of the group itself, whose facts are
// then in Unread, too; what else cannot be read is in Unread only.
func (p *Patient) ReadCloud(ctx context.Context, c Cloud, id string) error {
	g, err := c.Group(ctx, id)
	p.unless(FromGroup, err)
	if err == nil {
		p.Group = g
	}
	var failed error
	p.Alarms, failed = c.Alarms(ctx)
	if p.unless(FromAlarms, failed); failed == nil {
		p.readMetrics(ctx, c)
		p.readTopics(ctx, c)
	}
	return err
}

// unless keeps why a source was not read.
func (p *Patient) unless(s Source, err error) {
	if err != nil {
		p.Missed(s, plain(err))
	}
}

// Missed says that a source was not read, and why.
func (p *Patient) Missed(s Source, why string) {
	if p.Unread == nil {
		p.Unread = map[Source]string{}
	}
	if p.Unread[s] == "" {
		p.Unread[s] = why
	}
}

// noFront is said of an address that answers, and not as AWS does.
const noFront = "nothing there answers AWS's clients"

// plain is an error without the SDK's account of its attempts.
func plain(err error) string {
	if strings.Contains(err.Error(), "UnknownError") || strings.Contains(err.Error(), "deserialization failed") {
		return noFront
	}
	text := strings.ReplaceAll(err.Error(), "\n", "; ")
	if i := strings.LastIndex(text, "api error "); i >= 0 {
		return text[i+len("api error "):]
	}
	return text
}

// readMetrics finds the metrics of the group's alarms that nobody publishes.
func (p *Patient) readMetrics(ctx context.Context, c Cloud) {
	var asked []metric.ID
	for _, a := range p.Own() {
		for _, id := range a.Metrics() {
			if p.blind(a) || slices.ContainsFunc(asked, id.Equal) || len(asked) == mostAsked {
				continue
			}
			asked = append(asked, id)
			absent, err := p.absent(ctx, c, id)
			if err != nil {
				p.unless(FromMetrics, err)
				return
			}
			if absent {
				p.Absent = append(p.Absent, id)
			}
		}
	}
}

// rare are metrics that are published only once something has happened: a primary has no lag, an empty cache no rate
// of hits, a server without a bound is not full.
var rare = []string{"ReplicationLag", "CacheHitRate", "MasterLinkHealthStatus", "DB0AverageTTL", "DatabaseMemoryUsagePercentage"}

// absent reports whether a metric is of a node that is gone, or of a name that nobody publishes. What may have had no
// reason to be published yet is not: ours are all of this kind, and those of a node of which nothing is known yet.
func (p *Patient) absent(ctx context.Context, c Cloud, id metric.ID) (bool, error) {
	there, err := c.HasMetric(ctx, id)
	if there || err != nil {
		return false, err
	}
	node := id.Value(metric.Node)
	switch {
	case node != "" && !p.has(cluster.NodeID(node)):
		return true, nil
	case id.Namespace == metric.Understudy, slices.Contains(rare, id.Name), strings.HasSuffix(id.Name, "Cmds"), strings.HasSuffix(id.Name, "Latency"):
		return false, nil
	case node == "":
		return true, nil
	}
	return c.HasMetric(ctx, metric.New(metric.ElastiCache, "EngineCPUUtilization", metric.Node, node))
}

func (p *Patient) readTopics(ctx context.Context, c Cloud) {
	p.Topics = map[string]Topic{}
	for _, a := range p.Own() {
		for _, arn := range a.Actions {
			if _, seen := p.Topics[arn]; seen || !strings.Contains(arn, ":sns:") || len(p.Topics) == mostTopics {
				continue
			}
			all, err := c.Topic(ctx, arn)
			if errors.Is(err, remote.ErrNoTopic) {
				p.Topics[arn] = Topic{Missing: true}
				continue
			}
			if err != nil {
				p.unless(FromTopics, err)
				return
			}
			t := Topic{}
			for _, s := range all {
				if s.Confirmed {
					t.Confirmed++
				} else {
					t.Pending++
				}
			}
			p.Topics[arn] = t
		}
	}
}

// ReadSnapshots fills in the backups from the API's snapshots.
func (p *Patient) ReadSnapshots(ctx context.Context, c Cloud, id string) {
	all, err := c.Snapshots(ctx, id)
	p.unless(FromBackups, err)
	for _, s := range all {
		p.Backup = append(p.Backup, Backup{Name: s.Name, Whole: s.State == remote.Available && !s.Created.IsZero(), Automatic: s.Automatic, Created: s.Created})
	}
}

// eventsReach is how far back AWS keeps events.
const eventsReach = 14 * 24 * time.Hour

// ReadEvents looks for a tried failover in the group's events, when no record tells of a newer one.
func (p *Patient) ReadEvents(ctx context.Context, c Cloud, id string) {
	events, err := c.Events(ctx, id, p.At.Add(-eventsReach))
	p.unless(FromDrills, err)
	for _, ev := range events {
		if strings.Contains(strings.ToLower(ev.Message), "test failover api called") && ev.At.After(p.Drill.At) {
			p.Drill = Drill{At: ev.At}
		}
	}
}
