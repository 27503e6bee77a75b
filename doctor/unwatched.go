package doctor

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"understudy/aws/remote"
	"understudy/metric"
)

// watch is something that an alarm should look at.
type watch struct {
	id    string // of the finding
	what  string
	is    func(remote.Alarm) bool
	alarm func(*exam, []string) *remote.Alarm
}

func onMetric(names ...string) func(remote.Alarm) bool {
	return func(a remote.Alarm) bool {
		return slices.ContainsFunc(a.Metrics(), func(id metric.ID) bool { return slices.Contains(names, id.Name) })
	}
}

// watches are those that the doctor misses. The thresholds are those of the alarms that AWS recommends for
// ElastiCache; of the lag, 10 s.
var watches = []watch{
	{"no-alarm-on-lag", "how far the replicas are behind", isLag, (*exam).lagAlarm},
	{"no-alarm-on-no-primary", "whether the group has a primary", onMetric("PrimaryPresent", "PrimariesCounted", "IsMaster"), (*exam).primaryAlarm},
	{"no-alarm-on-cpu", "how busy the servers are", onMetric("EngineCPUUtilization", "CPUUtilization"), func(e *exam, actions []string) *remote.Alarm {
		return e.nodesAlarm("engine-cpu", "EngineCPUUtilization", "Maximum", 90, actions)
	}},
	{"no-alarm-on-memory", "how full the servers are", onMetric("DatabaseMemoryUsagePercentage", "BytesUsedForCache", "FreeableMemory", "DatabaseCapacityUsagePercentage"), func(e *exam, actions []string) *remote.Alarm {
		return e.nodesAlarm("memory", "DatabaseMemoryUsagePercentage", "Maximum", 80, actions)
	}},
}

// unwatched finds what no alarm looks at.
func (e *exam) unwatched() {
	if !e.sees(FromAlarms) || len(e.nodes()) == 0 {
		return
	}
	topic := e.topicOf(e.Own())
	for _, w := range watches {
		switch {
		case w.id == "no-alarm-on-lag" && e.count() < 2:
			continue // there is nobody to lag
		case w.id == "no-alarm-on-memory" && e.sees(FromSettings) && e.Server.MaxMemory == 0:
			continue // without a bound nothing is full, and there is no such metric
		case e.watched(w.is, ""):
			continue
		}
		f := Finding{ID: w.id, What: fmt.Sprintf("No alarm looks at %s of group %s.", w.what, e.Name())}
		var actions []string
		if topic != "" {
			actions = []string{topic}
		}
		if a := w.alarm(e, actions); a != nil {
			f.Repair = e.putAlarm(*a)
			if topic != "" { // an alarm that tells nobody is no repair
				f.Fix = put(*a)
			}
		}
		e.add(f)
	}
}

// watched reports whether an alarm of the group that can go off is of that kind; of that name, when there is one.
func (e *exam) watched(is func(remote.Alarm) bool, name string) bool {
	return slices.ContainsFunc(e.Own(), func(a remote.Alarm) bool { return is(a) && !e.blind(a) && (name == "" || a.Name == name) })
}

// topicOf is a topic that alarms of the group tell already, and that is there: the one with most listeners, then the
// one that most alarms tell; "" when there is none.
func (e *exam) topicOf(own []remote.Alarm) string {
	by := map[string]int{}
	for _, a := range own {
		for _, arn := range a.Actions {
			if strings.Contains(arn, ":sns:") && !e.Topics[arn].Missing {
				by[arn]++
			}
		}
	}
	all := slices.SortedFunc(maps.Keys(by), func(a, b string) int {
		return cmp.Or(e.Topics[b].Confirmed-e.Topics[a].Confirmed, by[b]-by[a], strings.Compare(a, b))
	})
	if len(all) == 0 {
		return ""
	}
	return all[0]
}

func (e *exam) newAlarm(kind, about string, threshold float64, comparison, missing string, actions []string) remote.Alarm {
	// Not as the alarms that come with a local group are called: those are kept as they are by others.
	return remote.Alarm{Name: "understudy-doctor-" + e.Name() + "-" + kind, Description: about, ActionsEnabled: true, Actions: actions,
		Periods: 5, Datapoints: 3, Threshold: threshold, Comparison: comparison, Missing: missing}
}

// lagAlarm looks at the lag of the whole group, and takes silence for trouble: whoever is promoted, the others lag.
func (e *exam) lagAlarm(actions []string) *remote.Alarm {
	if e.count() < 2 {
		return nil
	}
	a := e.newAlarm("replication-lag", "A replica is more than 10 s behind, or none says how far", 10, "GreaterThanThreshold", "breaching", actions)
	if e.Local {
		a.Threshold = 10_000 // milliseconds
		a.Metric, a.Stat, a.Period = metric.New(metric.Understudy, "ReplicationLag", metric.Group, e.Name()), "Maximum", time.Minute
		return &a
	}
	if a.Lines = e.overNodes("ReplicationLag", "Maximum", "MAX(METRICS())"); a.Lines == nil {
		return nil
	}
	return &a
}

// primaryAlarm looks at whether anybody leads.
func (e *exam) primaryAlarm(actions []string) *remote.Alarm {
	a := e.newAlarm("no-primary", "Nobody accepts writes", 1, "LessThanThreshold", "breaching", actions)
	a.Periods, a.Datapoints = 2, 2
	if e.Local {
		a.Metric, a.Stat, a.Period = metric.New(metric.Understudy, "PrimaryPresent", metric.Group, e.Name()), "Maximum", time.Minute
		return &a
	}
	if a.Lines = e.overNodes("IsMaster", "Maximum", "SUM(METRICS())"); a.Lines == nil {
		return nil
	}
	return &a
}

// nodesAlarm looks at the worst of the nodes.
func (e *exam) nodesAlarm(kind, name, stat string, threshold float64, actions []string) *remote.Alarm {
	a := e.newAlarm(kind, fmt.Sprintf("%s of a node is above %v", name, threshold), threshold, "GreaterThanThreshold", "notBreaching", actions)
	if a.Lines = e.overNodes(name, stat, "MAX(METRICS())"); a.Lines == nil {
		return nil
	}
	return &a
}

// mostMetrics is how many metrics an expression of an alarm may have on AWS.
const mostMetrics = 10

// overNodes is an expression over one metric of all nodes; nil when there are too many, or none.
func (e *exam) overNodes(name, stat, expression string) []remote.AlarmLine {
	nodes := e.nodes()
	if len(nodes) == 0 || len(nodes) > mostMetrics {
		return nil
	}
	lines := []remote.AlarmLine{{ID: "all", Expression: expression, Returned: true}}
	for i, n := range nodes {
		lines = append(lines, remote.AlarmLine{ID: "m" + strconv.Itoa(i+1), Metric: metric.New(metric.ElastiCache, name, metric.Node, string(n.id)), Stat: stat, Period: time.Minute})
	}
	return lines
}

// put is a fix by PutMetricAlarm.
func put(a remote.Alarm) *Fix {
	tells := "nobody yet"
	if len(a.Actions) > 0 {
		tells = strings.Join(a.Actions, ", ")
	}
	return &Fix{Does: fmt.Sprintf("put alarm %s, which tells %s", a.Name, tells), Call: "cloudwatch:PutMetricAlarm",
		act: func(ctx context.Context, h Hands) error { return h.PutAlarm(ctx, a) }}
}

// putAlarm is the command line that makes an alarm.
func (e *exam) putAlarm(a remote.Alarm) string {
	words := []string{"cloudwatch", "put-metric-alarm", "--alarm-name", a.Name}
	if a.Description != "" {
		words = append(words, "--alarm-description", a.Description)
	}
	words = append(words, "--evaluation-periods", strconv.Itoa(a.Periods), "--datapoints-to-alarm", strconv.Itoa(a.Datapoints),
		"--threshold", number(a.Threshold), "--comparison-operator", a.Comparison, "--treat-missing-data", a.Missing)
	if a.Metric.Name != "" {
		stat := "--statistic"
		if strings.HasPrefix(a.Stat, "p") {
			stat = "--extended-statistic"
		}
		words = append(words, "--namespace", a.Metric.Namespace, "--metric-name", a.Metric.Name, "--dimensions")
		for _, d := range a.Metric.Dimensions {
			words = append(words, "Name="+d.Name+",Value="+d.Value)
		}
		words = append(words, stat, a.Stat, "--period", strconv.Itoa(int(a.Period/time.Second)))
	}
	if len(a.Lines) > 0 {
		words = append(words, "--metrics", linesJSON(a.Lines))
	}
	if len(a.Actions) > 0 {
		words = append(append(words, "--alarm-actions"), a.Actions...)
	}
	return e.Place.aws(words...)
}

func number(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }
