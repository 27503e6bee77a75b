// Package pack is the alarms that every group gets: on the group, so that they go on when a replica becomes its primary.
package pack

import (
	"strings"
	"time"

	"understudy/alarm"
	"understudy/alarm/watch"
	"understudy/metric"
)

// kind is an alarm of the pack, for any group.
type kind struct {
	name string // behind the group's
	why  string // what it means, and what to do
	rule alarm.Rule
	// urgent: its end is told as well.
	urgent bool
	// copies: it makes no sense for a group of one node.
	copies bool
}

// above is a rule over a metric of the group: M of N periods.
func above(name, stat string, period time.Duration, m, n int, threshold float64) alarm.Rule {
	return alarm.Rule{
		Metric: metric.ID{Namespace: metric.Understudy, Name: name}, Stat: stat, Period: period, Periods: n, Datapoints: m,
		Threshold: threshold, Comparison: alarm.Greater, Treatment: alarm.NotBreaching,
	}
}

func below(name, stat string, period time.Duration, m, n int, threshold float64) alarm.Rule {
	r := above(name, stat, period, m, n, threshold)
	r.Comparison = alarm.Less
	return r
}

// kept is a rule whose state stays while there are no points: a restart of Understudy is no news about the group.
func kept(r alarm.Rule) alarm.Rule {
	r.Treatment = alarm.Ignore
	return r
}

// kinds are the pack. The first part has what no other metric tells; thresholds of the second are AWS's recommended alarms for
// ElastiCache, and those of the third this project's for what is behind schedule.
var kinds = []kind{
	{name: "no-primary", urgent: true, rule: kept(below("PrimaryPresent", "Maximum", time.Second, 2, 2, 1)),
		why: "No node accepts writes for two seconds, so the failover did not end. `understudy status` says what it waits for."},
	{name: "two-primaries", urgent: true, rule: kept(above("PrimariesCounted", "Minimum", time.Second, 2, 2, 1)),
		why: "Two servers say that they are the primary, for two seconds. The one without a permit is cut off from the endpoints; `understudy status` names them."},
	{name: alarm.Failover, rule: above("Failovers", "Sum", time.Second, 1, 60, 0),
		why: "The primary was lost, and a replica has taken over. `understudy status` tells why and how long it took. It ends by itself after a minute."},
	{name: "flapping", urgent: true, rule: above("Failovers", "Sum", 5*time.Minute, 1, 1, 2),
		why: "Three or more failovers within five minutes: something breaks primary after primary. Look at the machines, and at the slowest commands."},
	{name: "leaked-errors", rule: above("LeakedRequests", "Sum", time.Minute, 1, 1, 0),
		why: "Clients were given errors that the proxy could not hide. docs/errors.md says which, and what to set."},
	{name: "link-down", urgent: true, copies: true, rule: above("LinksDown", "Minimum", 10*time.Second, 2, 2, 0),
		why: "A replica has not followed its primary for twenty seconds. `understudy status` names it and the reason."},
	{name: "redundancy-lost", urgent: true, copies: true, rule: kept(below("Redundancy", "Maximum", 10*time.Second, 3, 3, 1)),
		why: "No replica could take over, for thirty seconds: the next loss of the primary is an outage. `understudy status` gives each node's reason."},

	{name: "engine-cpu", rule: above("EngineCPUUtilization", "Maximum", time.Minute, 3, 5, 90),
		why: "A redis-server's main thread is busy above 90 %: requests wait for one another."},
	{name: "engine-cpu-early", rule: above("EngineCPUUtilization", "Maximum", time.Minute, 10, 10, 80),
		why: "A redis-server's main thread has been busy above 80 % for ten minutes. The average of all nodes would hide a primary among idle replicas."},
	{name: "memory", rule: above("DatabaseMemoryUsagePercentage", "Maximum", time.Minute, 3, 5, 80),
		why: "A node uses more than 80 % of its maxmemory."},
	{name: "memory-critical", urgent: true, rule: above("DatabaseMemoryUsagePercentage", "Maximum", time.Minute, 3, 5, 90),
		why: "A node uses more than 90 % of its maxmemory: soon it evicts keys, or refuses writes."},
	{name: "lag", copies: true, rule: above("ReplicationLag", "Maximum", time.Minute, 3, 5, 1000),
		why: "A replica is more than a second behind its primary."},
	{name: "lag-critical", urgent: true, copies: true, rule: above("ReplicationLag", "Maximum", 10*time.Second, 3, 3, 10_000),
		why: "A replica is more than ten seconds behind its primary, for half a minute: readers see old data, and a failover to it would lose what is missing."},
	{name: "evictions", rule: above("Evictions", "Sum", 5*time.Minute, 2, 3, 100),
		why: "Keys are evicted because memory is full: sessions and queue items may be among them."},
	{name: "new-connections", rule: above("NewConnections", "Sum", time.Minute, 2, 3, 1000),
		why: "More than 1,000 new connections a minute: clients do not keep theirs, or come back again and again."},
	{name: "read-latency", rule: above("SuccessfulReadRequestLatency", "Average", time.Minute, 3, 5, 5000),
		why: "Reads take more than 5 ms on average in the redis-server."},
	{name: "write-latency", rule: above("SuccessfulWriteRequestLatency", "Average", time.Minute, 3, 5, 5000),
		why: "Writes take more than 5 ms on average in the redis-server."},
	{name: "hit-rate", rule: below("CacheHitRate", "Average", 5*time.Minute, 4, 6, 80),
		why: "Fewer than 80 % of the reads found their key."},

	{name: "backup-overdue", rule: above("BackupAge", "Minimum", 5*time.Minute, 1, 1, alarm.BackupOverdue.Seconds()),
		why: "The newest backup is older than a day and two hours: a daily one failed, or the schedule ended."},
	{name: "drill-overdue", rule: above("DrillAge", "Minimum", 5*time.Minute, 1, 1, alarm.DrillOverdue.Seconds()),
		why: "The last failover drill was more than a week ago. `understudy drill run` takes a minute."},
	{name: "certificate", urgent: true, rule: below("CertificateDaysLeft", "Minimum", 5*time.Minute, 1, 1, 14),
		why: "A certificate that clients meet ends within two weeks. `understudy certs issue --force` renews one of ours; it is taken up without a restart."},
}

// Names are those of the pack's alarms of any group, without its name.
func Names() (all []string) {
	for _, k := range kinds {
		all = append(all, k.name)
	}
	return all
}

// tag is on every alarm of a pack: the group that it is of.
const tag = "understudy:group"

// alarms are a group's, which act on a topic.
func alarms(group string, nodes int, topic string) (all []watch.Alarm) {
	for _, k := range kinds {
		if k.copies && nodes < 2 {
			continue
		}
		r := k.rule
		r.Metric = metric.New(r.Metric.Namespace, r.Metric.Name, metric.Group, group)
		a := watch.Alarm{
			Name: alarm.OfGroup(group, k.name), Description: strings.ReplaceAll(k.why, "`", ""), Rule: &r,
			Actions: watch.Actions{Alarm: []string{topic}}, Tags: map[string]string{tag: group},
		}
		if k.urgent {
			a.Actions.OK = []string{topic}
		}
		all = append(all, a)
	}
	return all
}
