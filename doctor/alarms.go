package doctor

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"understudy/aws/remote"
	"understudy/cluster"
	"understudy/metric"
)

// concerns reports whether a metric is of the group, or was meant to be.
func (p Patient) concerns(id metric.ID) bool {
	group := p.Name()
	node := id.Value(metric.Node)
	return group != "" && (id.Value(metric.Group) == group || node == group || node != "" && (p.has(cluster.NodeID(node)) || cluster.GroupOf(cluster.NodeID(node)) == group))
}

// Own are the alarms that look at the group, and those that are made of such alarms.
func (p Patient) Own() (own []remote.Alarm) {
	for _, a := range p.Alarms {
		if slices.ContainsFunc(a.Metrics(), p.concerns) {
			own = append(own, a)
		}
	}
	for range len(p.Alarms) { // composites of composites
		before := len(own)
		for _, a := range p.Alarms {
			if a.Rule != "" && !slices.ContainsFunc(own, func(o remote.Alarm) bool { return o.Name == a.Name }) && slices.ContainsFunc(own, func(o remote.Alarm) bool { return names(a.Rule, o.Name) }) {
				own = append(own, a)
			}
		}
		if len(own) == before {
			break
		}
	}
	slices.SortFunc(own, func(a, b remote.Alarm) int { return strings.Compare(a.Name, b.Name) })
	return own
}

// names reports whether a composite's rule has an alarm in it, by its name or its ARN.
func names(rule, alarm string) bool {
	for _, quote := range []string{`"`, `'`, ``} {
		if strings.Contains(rule, "("+quote+alarm+quote+")") {
			return true
		}
	}
	return strings.Contains(rule, ":alarm:"+alarm+`"`) || strings.Contains(rule, ":alarm:"+alarm+")")
}

// blind reports whether an alarm looks at a metric of a node that is called as the group: AWS publishes none.
func (p Patient) blind(a remote.Alarm) bool {
	group := p.Name()
	return slices.ContainsFunc(a.Metrics(), func(id metric.ID) bool {
		return id.Namespace == metric.ElastiCache && id.Value(metric.Node) == group && !p.has(cluster.NodeID(group))
	})
}

// alarms looks at each alarm of the group.
func (e *exam) alarms() {
	if !e.sees(FromAlarms) {
		return
	}
	own := e.Own()
	var off []string
	for _, a := range own {
		if e.blind(a) {
			e.addBlind(a)
		} else {
			e.nobodyPublishes(a)
		}
		if !a.ActionsEnabled {
			off = append(off, a.Name)
		}
		if len(a.Actions) == 0 && !e.toldByAnother(a, own) {
			e.add(Finding{ID: "alarm-without-actions", Subject: a.Name, What: fmt.Sprintf("Alarm %s has no action for ALARM: when it goes off, nobody is told.", a.Name), Repair: e.listening(a)})
		}
	}
	e.silent(own)
	if len(off) > 0 {
		e.add(Finding{ID: "alarm-actions-disabled", Subject: strings.Join(off, ", "), What: fmt.Sprintf("Actions are disabled for %s, which can go off and tell nobody: %s.", counts(len(off), "alarm"), some(off)),
			Repair: e.Place.aws(append([]string{"cloudwatch", "enable-alarm-actions", "--alarm-names"}, off...)...),
			Fix: &Fix{Does: "enable the actions of " + strings.Join(off, ", "), Call: "cloudwatch:EnableAlarmActions",
				act: func(ctx context.Context, h Hands) error { return h.EnableAlarmActions(ctx, off...) }}})
	}
}

// toldByAnother reports whether a composite alarm that tells somebody has this one in its rule.
func (e *exam) toldByAnother(a remote.Alarm, own []remote.Alarm) bool {
	return slices.ContainsFunc(own, func(c remote.Alarm) bool { return c.Rule != "" && len(c.Actions) > 0 && names(c.Rule, a.Name) })
}

// listening is how an alarm is given somebody to tell. It is made anew with all of its settings: PutMetricAlarm
// replaces them.
func (e *exam) listening(a remote.Alarm) string {
	topic := e.topicOf(e.Own())
	if a.Rule != "" || topic == "" {
		return ""
	}
	a.Actions = []string{topic}
	return e.putAlarm(a)
}

func (e *exam) addBlind(a remote.Alarm) {
	better := e.lagAlarm(a.Actions)
	f := Finding{ID: "alarm-dimension-is-a-group", Subject: a.Name, What: fmt.Sprintf("Alarm %s looks at %s with %s=%s, which is the id of the group and of no node: nobody publishes that metric, so it is %s whatever happens.",
		a.Name, a.Metrics()[0].Name, metric.Node, e.Name(), or(a.State, "INSUFFICIENT_DATA"))}
	if better != nil && isLag(a) {
		f.Repair, f.Fix = e.putAlarm(*better), put(*better)
		if e.watched(isLag, better.Name) {
			f.Repair, f.Fix = e.Place.aws("cloudwatch", "delete-alarms", "--alarm-names", a.Name), nil // the one that works is there
		}
	}
	e.add(f)
}

// nobodyPublishes finds the alarms of nodes that are gone, and of misspelt metrics.
func (e *exam) nobodyPublishes(a remote.Alarm) {
	if !e.sees(FromMetrics) {
		return
	}
	for _, id := range a.Metrics() {
		if slices.ContainsFunc(e.Absent, id.Equal) {
			e.add(Finding{ID: "alarm-metric-is-not-there", Subject: a.Name, What: fmt.Sprintf("Alarm %s looks at %s, of which CloudWatch knows no data: it is %s whatever happens.", a.Name, id, or(a.State, "INSUFFICIENT_DATA")),
				Repair: e.Place.aws("cloudwatch", "delete-alarms", "--alarm-names", a.Name)})
			return
		}
	}
}

// silent finds alarms of a node's lag that say OK, or nothing, from the moment on at which the node is promoted.
func (e *exam) silent(own []remote.Alarm) {
	watched := map[cluster.NodeID]bool{}
	var quiet []remote.Alarm
	for _, a := range own {
		if !isLag(a) || a.Metric.Name == "" || a.Metric.Value(metric.Node) == "" || e.blind(a) {
			continue
		}
		watched[cluster.NodeID(a.Metric.Value(metric.Node))] = true
		if a.Missing != "breaching" {
			quiet = append(quiet, a)
		}
	}
	if len(quiet) == 0 || e.watchedByAll(own) {
		return
	}
	severity, covered := Warning, ""
	if !slices.ContainsFunc(e.nodes(), func(n place) bool { return !watched[n.id] }) {
		severity, covered = Note, " Every node has such an alarm, so those of the others go on."
	}
	for _, a := range quiet {
		node, says := a.Metric.Value(metric.Node), "INSUFFICIENT_DATA"
		switch a.Missing {
		case "notBreaching":
			says = "OK"
		case "ignore":
			says = "what it said before"
		}
		f := Finding{ID: "alarm-silent-after-promotion", Severity: severity, Subject: a.Name, What: fmt.Sprintf(
			"Alarm %s looks at the lag of node %s and treats missing data as %s: a primary has no lag, so it says %s from the failover on that promotes %s.%s", a.Name, node, a.Missing, says, node, covered)}
		if better := e.lagAlarm(a.Actions); better != nil {
			f.Repair = e.putAlarm(*better)
			if severity != Note {
				f.Fix = put(*better)
			}
		}
		e.add(f)
	}
}

// watchedByAll reports whether an alarm looks at the lag of the group as a whole: at our metric of it, or at all nodes.
func (e *exam) watchedByAll(own []remote.Alarm) bool {
	return slices.ContainsFunc(own, func(a remote.Alarm) bool {
		if !isLag(a) || e.blind(a) {
			return false
		}
		ids := a.Metrics()
		if slices.ContainsFunc(ids, func(id metric.ID) bool { return id.Namespace == metric.Understudy && id.Value(metric.Node) == "" }) {
			return true
		}
		return len(ids) > 1 && !slices.ContainsFunc(e.nodes(), func(n place) bool {
			return !slices.ContainsFunc(ids, func(id metric.ID) bool { return id.Value(metric.Node) == string(n.id) })
		})
	})
}

func isLag(a remote.Alarm) bool {
	return slices.ContainsFunc(a.Metrics(), func(id metric.ID) bool { return id.Name == "ReplicationLag" })
}

// topics looks at whom the alarms tell.
func (e *exam) topics() {
	if !e.sees(FromAlarms) || !e.sees(FromTopics) {
		return
	}
	seen := map[string][]string{}
	for _, a := range e.Own() {
		for _, arn := range a.Actions {
			if _, ok := e.Topics[arn]; ok && !slices.Contains(seen[arn], a.Name) {
				seen[arn] = append(seen[arn], a.Name)
			}
		}
	}
	for arn, by := range seen {
		t, name := e.Topics[arn], arn[strings.LastIndex(arn, ":")+1:]
		switch {
		case t.Missing:
			e.add(Finding{ID: "alarm-topic-missing", Subject: arn, What: fmt.Sprintf("Topic %s is not there, and is to be told by %s: %s.", arn, counts(len(by), "alarm"), some(by)),
				Repair: e.Place.aws("sns", "create-topic", "--name", name) + " && " + e.subscribe(arn)})
		case t.Confirmed == 0:
			e.add(Finding{ID: "topic-without-confirmed-subscribers", Subject: arn, What: fmt.Sprintf("Topic %s has no confirmed subscriber, and %d that wait to be: what comes of %s is heard by nobody.", arn, t.Pending, counts(len(by), "alarm")),
				Repair: e.subscribe(arn)})
		}
	}
}

// some are the first of many names.
func some(names []string) string {
	const most = 6
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}

// subscribe names an address that is nobody's: whose it is to be is not known. A local instance sends mail only where
// it was told of a mail server.
func (e *exam) subscribe(arn string) string {
	protocol, at := "email", "you@example.com"
	if e.Local {
		protocol, at = "https", "https://example.com/alarms"
	}
	return e.Place.aws("sns", "subscribe", "--topic-arn", arn, "--protocol", protocol, "--notification-endpoint", at)
}
