package doctor

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"understudy/aws/remote"
	"understudy/cluster"
	"understudy/metric"
)

var noon = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)

const topic = "arn:aws:sns:us-east-1:123456789012:oncall"

// healthy is a group of ElastiCache with which nothing is wrong.
func healthy() Patient {
	p := Patient{
		At: noon, Place: Place{Flags: []string{"--region", "us-east-1"}},
		Group: remote.Group{ID: "shop", State: "available", AutomaticFailover: "enabled", MultiAZ: "enabled", Shard: "0001", Primary: "p:6379", Reader: "r:6379", Listed: 3, TLS: true, Auth: true, SnapshotRetention: 7,
			Nodes: []remote.Node{{ID: "shop-001", Zone: "us-east-1a", Primary: true}, {ID: "shop-002", Zone: "us-east-1b"}, {ID: "shop-003", Zone: "us-east-1c"}}},
		Doors:  []Door{{"primary endpoint", "p:6379", true, true}},
		Topics: map[string]Topic{topic: {Confirmed: 1}},
		Backup: []Backup{{Name: "b1", Whole: true, Read: true, Created: noon.Add(-time.Hour)}},
		Server: Server{Version: "7.1.0", MaxMemory: 1 << 30, Policy: "volatile-lru"},
		Drill:  Drill{At: noon.Add(-24 * time.Hour), ID: "d1"},
	}
	e := exam{Patient: p}
	for _, w := range watches {
		p.Alarms = append(p.Alarms, *w.alarm(&e, []string{topic}))
	}
	return p
}

// atHome is a group of a running instance with which nothing is wrong, but that it is on one machine.
func atHome() Patient {
	p := healthy()
	p.Local, p.Place, p.Hold = true, Place{Local: true, Own: []string{"--data", "/d"}, Front: []string{"--data", "/d"}}, 5*time.Second
	p.Doors = []Door{{"primary endpoint", "127.0.0.1:7379", false, false}}
	p.Status = &cluster.Status{Group: "shop", State: cluster.GroupAvailable, Primary: "shop-001", Durability: cluster.DurabilitySync}
	for _, n := range p.Group.Nodes {
		p.Status.Nodes = append(p.Status.Nodes, cluster.StatusNode{ID: n.ID, Zone: n.Zone})
	}
	return p
}

func ids(found []Finding) (all []string) {
	for _, f := range found {
		all = append(all, f.ID)
	}
	return all
}

func TestNothingIsFoundWhereNothingIsWrong(t *testing.T) {
	if found := Examine(healthy()); len(found) > 0 {
		t.Errorf("%+v", found)
	}
	if got := ids(Examine(atHome())); !slices.Equal(got, []string{"one-machine"}) {
		t.Errorf("%v", got)
	}
}

func without(p *Patient, id string) {
	p.Alarms = slices.DeleteFunc(p.Alarms, func(a remote.Alarm) bool { return strings.HasSuffix(a.Name, id) })
}

// lagOf is an alarm of one node's lag.
func lagOf(node, missing string) remote.Alarm {
	return remote.Alarm{Name: "lag-" + node, State: "OK", ActionsEnabled: true, Actions: []string{topic}, Stat: "Average", Period: 5 * time.Minute, Periods: 2, Datapoints: 2, Threshold: 10,
		Comparison: "GreaterThanThreshold", Missing: missing, Metric: metric.New(metric.ElastiCache, "ReplicationLag", "CacheClusterId", node)}
}

// Each story breaks one thing; want is all that is found then, worst first.
var stories = []struct {
	name string
	hurt func(*Patient)
	want string // ids
	fix  string // calls of the safe fixes
}{
	{"one node", func(p *Patient) { p.Group.Nodes, p.Group.Listed = p.Group.Nodes[:1], 1 }, "no-replica single-zone", ""},
	{"one zone", func(p *Patient) { p.Group.Nodes[1].Zone, p.Group.Nodes[2].Zone = "us-east-1a", "us-east-1a" }, "single-zone", ""},
	{"no automatic failover", func(p *Patient) { p.Group.AutomaticFailover = "disabled" }, "automatic-failover-off", "elasticache:ModifyReplicationGroup"},
	{"nobody to fail over to", func(p *Patient) {
		p.Group.Nodes, p.Group.Listed, p.Group.AutomaticFailover, p.Group.MultiAZ = p.Group.Nodes[:1], 1, "disabled", "disabled"
	}, "automatic-failover-off no-replica multi-az-off single-zone", ""},
	{"no Multi-AZ", func(p *Patient) { p.Group.MultiAZ = "disabled" }, "multi-az-off", "elasticache:ModifyReplicationGroup"},
	{"a modifying group", func(p *Patient) { p.Group.State = "modifying" }, "group-not-available", ""},
	{"in the clear", func(p *Patient) { p.Doors[0].TLS = false }, "tls-off", ""},
	{"without a password", func(p *Patient) { p.Doors[0].Auth = false }, "auth-off", ""},
	{"no retention", func(p *Patient) { p.Group.SnapshotRetention = 0 }, "snapshot-retention-0", "elasticache:ModifyReplicationGroup"},
	{"no backup", func(p *Patient) { p.Backup = nil }, "no-backup", "elasticache:CreateSnapshot"},
	{"a backup that is being made", func(p *Patient) { p.Backup = []Backup{{Name: "b2"}} }, "no-backup", "elasticache:CreateSnapshot"},
	{"an old backup", func(p *Patient) { p.Backup[0].Created = noon.Add(-27 * time.Hour) }, "backup-too-old", "elasticache:CreateSnapshot"},
	{"a daily backup", func(p *Patient) { p.Backup[0].Created = noon.Add(-25 * time.Hour) }, "", ""},
	{"a backup that nobody has read", func(p *Patient) { p.Backup[0].Read = false }, "backup-never-verified", ""},
	{"a damaged backup beside a good one", func(p *Patient) { p.Backup = append(p.Backup, Backup{Name: "b0", Damaged: "other bytes"}) }, "backup-damaged", ""},
	{"never drilled", func(p *Patient) { p.Drill = Drill{} }, "never-drilled", ""},
	{"an old drill", func(p *Patient) { p.Drill.At = noon.Add(-31 * 24 * time.Hour) }, "drill-too-old", ""},
	{"a failed drill", func(p *Patient) { p.Drill.Failed = true }, "drill-failed", ""},
	{"a source that is closed", func(p *Patient) { p.Missed(FromBackups, "AccessDenied: no"); p.Backup = nil }, "source-not-read", ""},
	{"alarms that cannot be read", func(p *Patient) { p.Missed(FromAlarms, "InvalidAction"); p.Alarms = nil }, "source-not-read", ""},

	{"the document's lag alarm", func(p *Patient) {
		without(p, "replication-lag")
		p.Alarms = append(p.Alarms, lagOf("shop", "notBreaching"))
	}, "alarm-dimension-is-a-group no-alarm-on-lag", "cloudwatch:PutMetricAlarm"},
	{"the same beside one that works", func(p *Patient) { p.Alarms = append(p.Alarms, lagOf("shop", "notBreaching")) }, "alarm-dimension-is-a-group", ""},
	{"a lag alarm of one node", func(p *Patient) {
		without(p, "replication-lag")
		p.Alarms = append(p.Alarms, lagOf("shop-002", "notBreaching"))
	}, "alarm-silent-after-promotion", "cloudwatch:PutMetricAlarm"},
	{"one that takes silence for trouble", func(p *Patient) {
		without(p, "replication-lag")
		p.Alarms = append(p.Alarms, lagOf("shop-002", "breaching"))
	}, "", ""},
	{"one of one node beside one of all", func(p *Patient) { p.Alarms = append(p.Alarms, lagOf("shop-002", "missing")) }, "", ""},
	{"a node that is gone", func(p *Patient) {
		a := lagOf("shop-009", "breaching")
		p.Alarms, p.Absent = append(p.Alarms, a), []metric.ID{a.Metric}
	}, "alarm-metric-is-not-there", ""},
	{"an alarm of another group", func(p *Patient) {
		p.Alarms = append(p.Alarms, lagOf("other-002", "missing"), lagOf("other", "missing"))
	}, "", ""},
	{"disabled actions", func(p *Patient) { p.Alarms[0].ActionsEnabled, p.Alarms[1].ActionsEnabled = false, false }, "alarm-actions-disabled", "cloudwatch:EnableAlarmActions"},
	{"an alarm that tells nobody", func(p *Patient) { p.Alarms[2].Actions = nil }, "alarm-without-actions", ""},
	{"the same in a composite that tells somebody", func(p *Patient) {
		p.Alarms[2].Actions = nil
		p.Alarms = append(p.Alarms, remote.Alarm{Name: "any", Rule: `ALARM("` + p.Alarms[2].Name + `")`, ActionsEnabled: true, Actions: []string{topic}})
	}, "", ""},
	{"a composite that tells nobody", func(p *Patient) {
		p.Alarms = append(p.Alarms, remote.Alarm{Name: "any", Rule: "ALARM(" + p.Alarms[2].Name + ") OR FALSE", ActionsEnabled: true})
	}, "alarm-without-actions", ""},
	{"no topic", func(p *Patient) { p.Topics[topic] = Topic{Missing: true} }, "alarm-topic-missing", ""},
	{"nobody confirmed", func(p *Patient) { p.Topics[topic] = Topic{Pending: 2} }, "topic-without-confirmed-subscribers", ""},
	{"nobody looks at the primary", func(p *Patient) { without(p, "no-primary") }, "no-alarm-on-no-primary", "cloudwatch:PutMetricAlarm"},
	{"no alarm at all", func(p *Patient) { p.Alarms = nil }, "no-alarm-on-cpu no-alarm-on-lag no-alarm-on-memory no-alarm-on-no-primary", ""},

	{"unbounded memory", func(p *Patient) { p.Server.MaxMemory = 0 }, "maxmemory-without-policy", ""},
	{"a cache that refuses", func(p *Patient) { p.Server.Policy = "noeviction"; p.Keys = keysOf(Cache, 50) }, "maxmemory-without-policy", ""},
	{"a queue that is evicted", func(p *Patient) { p.Server.Policy = "allkeys-lru"; p.Keys = keysOf(Queue, 1) }, "maxmemory-without-policy", ""},
	{"a cache that is evicted", func(p *Patient) { p.Server.Policy = "allkeys-lru"; p.Keys = keysOf(Cache, 50) }, "", ""},
	{"sessions beside a cache", func(p *Patient) {
		p.Keys = keysOf(Cache, 50)
		p.Keys.Classes[Sessions] = Share{Keys: 20}
	}, "mixed-workloads", ""},
	{"two sessions in a thousand", func(p *Patient) {
		p.Keys = keysOf(Cache, 1000)
		p.Keys.Classes[Sessions] = Share{Keys: 2}
	}, "", ""},

	{"an old redis-py", func(p *Patient) { p.Users = []Client{{Library: "redis-py(celery_v5)", Version: "5.0.1"}} }, "client-dead-socket-risk client-without-retry", ""},
	{"a new one", func(p *Patient) { p.Users = []Client{{Library: "redis-py", Version: "8.0.0"}} }, "", ""},
	{"a version that cannot be read", func(p *Patient) { p.Users = []Client{{Library: "redis-py", Version: "dev"}} }, "", ""},
	{"no names", func(p *Patient) { p.Users = []Client{{}, {Library: "rueidis", Version: "1.0.79"}} }, "client-unnamed", ""},
	{"an impatient client without a proxy", func(p *Patient) { p.Users = []Client{{Library: "go-redis(,go1.26.8)", Version: "9.20.0"}} }, "", ""},
	{"an impatient client behind one", func(p *Patient) {
		p.Users, p.Hold = []Client{{Library: "go-redis(,go1.26.8)", Version: "9.20.0"}}, 5*time.Second
	}, "client-timeout-shorter-than-hold", ""},
	{"a patient one", func(p *Patient) {
		p.Users, p.Hold = []Client{{Library: "go-redis(,go1.26.8)", Version: "9.22.0"}}, 4*time.Second
	}, "", ""},
	{"idle clients that are closed", func(p *Patient) { p.Server.Timeout, p.Hold = 3, 5*time.Second }, "client-timeout-shorter-than-hold", ""},
}

func keysOf(c Class, n int) Keys {
	return Keys{Seen: n, Classes: map[Class]Share{c: {Keys: n, Example: "x:…"}}}
}

func TestEachThingThatIsWrongIsFound(t *testing.T) {
	for _, s := range stories {
		p := healthy()
		s.hurt(&p)
		found := Examine(p)
		if got := strings.Join(ids(found), " "); got != s.want {
			t.Errorf("%s: %q, want %q", s.name, got, s.want)
		}
		var calls []string
		for _, f := range found {
			if f.Safe != (f.Fix != nil) || f.What == "" || f.Why == "" || f.Page != "docs/doctor.md#"+f.ID || f.Repair == "" && f.Advice == "" {
				t.Errorf("%s: %+v", s.name, f)
			}
			if f.Safe && !slices.Contains(calls, f.Fix.Call) {
				calls = append(calls, f.Fix.Call)
			}
			if f.Repair != "" && !strings.HasPrefix(f.Repair, "aws ") && !strings.HasPrefix(f.Repair, "understudy ") {
				t.Errorf("%s: %s is no command of ElastiCache's", s.name, f.Repair)
			}
		}
		if got := strings.Join(calls, " "); got != s.fix {
			t.Errorf("%s: fixes by %q, want %q", s.name, got, s.fix)
		}
		if diff := cmp.Diff(texts(found), texts(Examine(p))); diff != "" {
			t.Errorf("%s: not the same twice: %s", s.name, diff)
		}
	}
}

func texts(found []Finding) (all []string) {
	for _, f := range found {
		all = append(all, f.ID+f.Subject+f.What+f.Repair)
	}
	return all
}

// Without alarms on every node the lag of the next primary's successor is seen by nobody; with them it is a note.
func TestALagAlarmOnEachNodeIsANote(t *testing.T) {
	p := healthy()
	without(&p, "replication-lag")
	for _, n := range p.Group.Nodes {
		p.Alarms = append(p.Alarms, lagOf(string(n.ID), "notBreaching"))
	}
	found := Examine(p)
	if len(found) != 3 || Faults(found) != 0 || found[0].ID != "alarm-silent-after-promotion" {
		t.Errorf("%+v", found)
	}
}

func TestStatesOfALocalGroup(t *testing.T) {
	p := atHome()
	p.Status.State, p.Status.Primary, p.Status.Reason = cluster.GroupNoPrimary, "", "nobody is fit"
	p.Status.Durability = cluster.DurabilityAsync
	found := Examine(p)
	if got := strings.Join(ids(found), " "); got != "group-not-available durability-async one-machine" || found[0].Severity != Critical {
		t.Errorf("%s, %+v", got, found[0])
	}
	p.Status.State, p.Status.Primary = cluster.GroupDegraded, "shop-001"
	if found = Examine(p); found[0].Severity != Warning {
		t.Errorf("%+v", found[0])
	}
}

// What no front tells is not made up: a proxy before somebody else's group knows neither zones nor machines.
func TestAProxyOfAGroupThatIsNotOursSaysWhatItKnows(t *testing.T) {
	p := atHome()
	p.Missed(FromGroup, noFront)
	p.Group = remote.Group{}
	for i := range p.Status.Nodes {
		p.Status.Nodes[i].Zone = ""
	}
	if got := strings.Join(ids(Examine(p)), " "); got != "source-not-read" {
		t.Error(got)
	}
	p.Status.Nodes = p.Status.Nodes[:1]
	found := Examine(p)
	if got := strings.Join(ids(found), " "); got != "no-replica source-not-read" || found[0].Repair != "" || found[0].Advice == "" {
		t.Errorf("%s %+v", got, found[0])
	}
}

func TestClientsBehindAProxyKeepTheirSockets(t *testing.T) {
	p := atHome()
	p.Users = []Client{{Library: "redis-client", Version: "0.22.0"}, {Library: "redis-client", Version: "0.22.0"}}
	found := Examine(p)
	if got := strings.Join(ids(found), " "); got != "client-timeout-shorter-than-hold client-without-retry one-machine" {
		t.Fatal(got)
	}
	if found[0].Severity != Warning || found[1].Severity != Note || !strings.HasPrefix(found[0].What, "2 connections of redis-client 0.22.0:") {
		t.Errorf("%+v", found)
	}
}
