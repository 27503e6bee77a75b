package doctor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"understudy/aws/remote"
	"understudy/metric"
)

// cloud is an API that answers from memory.
type cloud struct {
	group  remote.Group
	alarms []remote.Alarm
	there  []metric.ID
	topics map[string][]remote.Subscription
	events []remote.Event
	err    error // of everything but the group
	asked  int
}

func (c *cloud) Group(context.Context, string) (remote.Group, error) { return c.group, nil }
func (c *cloud) Alarms(context.Context) ([]remote.Alarm, error)      { return c.alarms, c.err }
func (c *cloud) Snapshots(context.Context, string) ([]remote.Snapshot, error) {
	return nil, c.err
}

func (c *cloud) HasMetric(_ context.Context, id metric.ID) (bool, error) {
	c.asked++
	return slices.ContainsFunc(c.there, id.Equal), nil
}

func (c *cloud) Topic(_ context.Context, arn string) ([]remote.Subscription, error) {
	if t, ok := c.topics[arn]; ok {
		return t, nil
	}
	return nil, fmt.Errorf("%w: %s", remote.ErrNoTopic, arn)
}

func (c *cloud) Events(context.Context, string, time.Time) ([]remote.Event, error) {
	return c.events, c.err
}

func TestOnlyTheGroupsOwnAlarmsAreFollowed(t *testing.T) {
	h := healthy()
	gone, wrong := lagOf("shop-009", "breaching"), lagOf("shop", "missing")
	gone.Actions = []string{"arn:aws:sns:us-east-1:123456789012:none", "arn:aws:automate:us-east-1:ec2:stop"}
	c := &cloud{group: h.Group, alarms: []remote.Alarm{gone, wrong, lagOf("shop-002", "missing"), lagOf("other-001", "missing")}, there: []metric.ID{lagOf("shop-002", "").Metric},
		topics: map[string][]remote.Subscription{topic: {{Protocol: "email"}, {Protocol: "https", Confirmed: true}}}}
	p := Patient{At: noon}
	if err := p.ReadCloud(t.Context(), c, "shop"); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]metric.ID{gone.Metric}, p.Absent); diff != "" || c.asked != 2 {
		t.Errorf("%d asked: %s", c.asked, diff)
	}
	want := map[string]Topic{topic: {Confirmed: 1, Pending: 1}, "arn:aws:sns:us-east-1:123456789012:none": {Missing: true}}
	if diff := cmp.Diff(want, p.Topics); diff != "" || len(p.Unread) != 0 {
		t.Error(diff, p.Unread)
	}
}

// A metric of a node that is there is missed only when others of it are known: else nothing was collected yet.
func TestANewNodesMetricsAreNotMissed(t *testing.T) {
	h := healthy()
	odd := lagOf("shop-002", "missing")
	odd.Metric.Name = "EngineCPUUtilisation"
	c := &cloud{group: h.Group, alarms: []remote.Alarm{odd}}
	for _, known := range []bool{false, true} {
		if known {
			c.there = []metric.ID{metric.New(metric.ElastiCache, "EngineCPUUtilization", "CacheClusterId", "shop-002")}
		}
		p := Patient{At: noon}
		if err := p.ReadCloud(t.Context(), c, "shop"); err != nil || len(p.Absent) != len(c.there) {
			t.Errorf("known %v: %v %v", known, p.Absent, err)
		}
	}
}

func TestWhatTheAPIRefusesIsSaid(t *testing.T) {
	c := &cloud{group: healthy().Group, err: errors.New("operation error CloudWatch: DescribeAlarms, https response error StatusCode: 400, RequestID: 1, api error InvalidAction: not served here")}
	p := Patient{At: noon}
	if err := p.ReadCloud(t.Context(), c, "shop"); err != nil {
		t.Fatal(err)
	}
	p.ReadSnapshots(t.Context(), c, "shop")
	p.ReadEvents(t.Context(), c, "shop")
	if p.Unread[FromAlarms] != "InvalidAction: not served here" || p.sees(FromBackups) || p.sees(FromDrills) {
		t.Error(p.Unread)
	}
	for _, f := range Examine(p) {
		if f.ID != "source-not-read" && f.ID != "maxmemory-without-policy" {
			t.Errorf("%s is concluded from what was not read: %s", f.ID, f.What)
		}
	}
}

func TestATriedFailoverIsADrill(t *testing.T) {
	c := &cloud{events: []remote.Event{{At: noon.Add(-time.Hour), Message: "Test Failover API called for node group 0001"}, {At: noon, Message: "Finished recovery for cache nodes 0001"}}}
	p := Patient{At: noon, Drill: Drill{At: noon.Add(-48 * time.Hour), ID: "old", Failed: true}}
	p.ReadEvents(t.Context(), c, "shop")
	if diff := cmp.Diff(Drill{At: noon.Add(-time.Hour)}, p.Drill); diff != "" {
		t.Error(diff)
	}
}

func TestClientsAreReadWithoutReplicasAndOurselves(t *testing.T) {
	text := "id=3 addr=10.0.0.1:5 laddr=10.0.0.9:6379 fd=8 name= age=3 idle=0 flags=N db=0 cmd=get user=default lib-name=redis-py(rq_v1) lib-ver=5.0.1\n" +
		"id=4 addr=10.0.0.2:6 name=worker flags=b\r\nid=5 addr=10.0.0.3:7 name= flags=S\nid=6 addr=10.0.0.3:8 name=understudy-doctor flags=N\n\nnonsense\n"
	want := []Client{{Library: "redis-py(rq_v1)", Version: "5.0.1", Addr: "10.0.0.1:5"}, {Name: "worker", Addr: "10.0.0.2:6"}}
	if diff := cmp.Diff(want, clientsIn(text)); diff != "" {
		t.Error(diff)
	}
}

func FuzzClientList(f *testing.F) {
	f.Add("id=3 addr=10.0.0.1:5 name= flags=N lib-name=x lib-ver=1.2\n", "7.2.0-rc1")
	f.Fuzz(func(t *testing.T, text, version string) {
		p := Patient{Users: clientsIn(text)}
		for i := range p.Users {
			p.Users[i].Version = version
		}
		for _, x := range Examine(p) {
			if x.What == "" {
				t.Errorf("%+v", x)
			}
		}
	})
}

func TestKeysAreOfTheClassThatTheirNamesSay(t *testing.T) {
	for _, c := range []struct {
		key, kind string
		expires   bool
		class     Class
		shown     string
	}{
		{"PHPREDIS_SESSION:6f1", "string", true, Sessions, "PHPREDIS_SESSION:…"},
		{"sess:abc", "string", true, Sessions, "sess:…"},
		{"spring:session:sessions:9d", "hash", true, Sessions, "spring:session:sessions:…"},
		{"laravel_cache:products:7", "string", true, Cache, "laravel_cache:products:…"},
		{"laravel_database_queues:default", "list", false, Queue, "laravel_database_queues:…"},
		{"queues:default:reserved", "zset", false, Queue, "queues:default:…"},
		{"resque:gitlab:queue:mail", "list", false, Queue, "resque:gitlab:queue:…"},
		{"bull:mail:wait", "list", false, Queue, "bull:mail:…"},
		{"orders", "stream", false, Queue, "orders…"},
		{"timeline:7", "list", true, "", "timeline:…"},
		{"product:7", "string", false, "", "product:…"},
		{"a:b:c:d:queue", "string", false, "", "a:b:c:d:…"},
		{"", "string", false, "", "…"},
		{"\x00\xff\x00", "string", false, "", "???…"},
	} {
		if got := classOf(c.key, c.kind, c.expires); got != c.class {
			t.Errorf("%q is %q, want %q", c.key, got, c.class)
		}
		if got := shown(c.key); got != c.shown {
			t.Errorf("%q is shown as %q, want %q", c.key, got, c.shown)
		}
	}
}

func TestCommandLinesAreQuotedForAShell(t *testing.T) {
	p := Place{Local: true, Own: []string{"--data", "/tmp/it's here"}, Front: []string{"--data", "/tmp/it's here"}}
	if got, want := p.aws("sns", "x", ""), `understudy aws --data '/tmp/it'\''s here' sns x ''`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got := (Place{Flags: []string{"--region", "us-east-1"}}).aws("sns", "[x]"); got != "aws --region us-east-1 sns '[x]'" {
		t.Error(got)
	}
}

func TestVersionsAreComparedByTheirNumbers(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{{"5.0.1", "6.0.0", true}, {"10.0.0", "6.0.0", false}, {"v6.0.0", "6.0.0", false}, {"6.0.0-rc1", "6.0.1", true}, {"6", "6.0.0", true}, {"", "6.0.0", true}} {
		if got := older(c.a, c.b); got != c.want {
			t.Errorf("%s older than %s: %v", c.a, c.b, got)
		}
	}
	if numbers("dev") != nil || strings.Trim(fmt.Sprint(numbers("9.23.0-beta.1")), "[]") != "9 23 0" {
		t.Error(numbers("dev"), numbers("9.23.0-beta.1"))
	}
}

// hands remember what they were told.
type hands []string

func (h *hands) ChangeGroup(_ context.Context, group string, c remote.Change) error {
	*h = append(*h, fmt.Sprintf("change %s %t %t %t", group, c.AutomaticFailover != nil, c.MultiAZ != nil, c.SnapshotRetention != nil))
	return nil
}
func (h *hands) EnableAlarmActions(_ context.Context, names ...string) error {
	*h = append(*h, "enable "+strings.Join(names, ","))
	return nil
}
func (h *hands) PutAlarm(_ context.Context, a remote.Alarm) error {
	*h = append(*h, "put "+a.Name)
	return nil
}
func (h *hands) BackUp(_ context.Context, of, name string) error {
	*h = append(*h, strings.TrimSpace("backup "+of+" "+name))
	return nil
}

func TestFixesDoWhatTheySay(t *testing.T) {
	p := healthy()
	p.Group.AutomaticFailover, p.Group.MultiAZ, p.Group.SnapshotRetention, p.Backup = "disabled", "disabled", 0, nil
	without(&p, "no-primary")
	p.Alarms[0].ActionsEnabled = false
	var did hands
	for _, f := range Examine(p) {
		if f.Safe {
			if err := f.Fix.Apply(t.Context(), &did); err != nil {
				t.Fatal(err)
			}
		}
	}
	want := hands{"change shop true false false", "backup shop-002 understudy-shop-20261130-120000", "enable " + p.Alarms[0].Name, "change shop true true false", "put understudy-doctor-shop-no-primary", "change shop false false true"}
	if diff := cmp.Diff(want, did); diff != "" {
		t.Error(diff)
	}
}
