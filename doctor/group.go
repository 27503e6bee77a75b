package doctor

import (
	"context"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"

	"understudy/aws/remote"
	"understudy/cluster"
)

// sources says what was not looked at: no finding about it means nothing.
func (e *exam) sources() {
	for _, s := range slices.Sorted(maps.Keys(e.Unread)) {
		covers := about[s].covers
		if s == FromGroup && e.Status != nil {
			covers = "automatic failover, Multi-AZ and retention" // the status tells the rest
		}
		e.add(Finding{ID: "source-not-read", Subject: string(s), Advice: e.toRead(e.Unread[s]),
			What: fmt.Sprintf("The %s could not be read, so nothing is said of %s: %s.", about[s].name, covers, strings.TrimRight(e.Unread[s], "."))})
	}
}

// toRead is what helps against an error; "": what the page says.
func (e *exam) toRead(why string) string {
	has := func(words ...string) bool {
		return slices.ContainsFunc(words, func(w string) bool { return strings.Contains(why, w) })
	}
	switch {
	case has(noFront, "an agent or a proxy"):
		return "Ask an `understudy up`: agents and proxies have no such front."
	case has("InvalidAction"):
		return "What was asked does not serve this: a local instance does with --metrics, in this version."
	case has("NOAUTH", "WRONGPASS"):
		return "Name the endpoints' password with --password-file, or REDISCLI_AUTH, and the user with --user."
	case e.Local && has("InvalidClientTokenId", "SignatureDoesNotMatch", "MissingAuthenticationToken"):
		return "Give a key of the instance's --aws-keys-file in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
	}
	return ""
}

// about says what each source is called, and what is found in it.
var about = map[Source]struct{ name, covers string }{
	FromGroup:    {"group's description", "zones, automatic failover, Multi-AZ, encryption and retention"},
	FromStatus:   {"instance's status", "the nodes' states and durability"},
	FromAlarms:   {"alarms", "who is told of a failover"},
	FromMetrics:  {"list of metrics", "alarms on metrics that nobody publishes"},
	FromTopics:   {"topics", "whether anybody is behind the alarms"},
	FromBackups:  {"backups", "what is left when all nodes are lost"},
	FromSettings: {"server's settings", "maxmemory and its policy"},
	FromClients:  {"list of clients", "retries, dead sockets and timeouts"},
	FromKeys:     {"sample of keys", "mixed workloads and what would be evicted"},
	FromProxy:    {"proxy's settings", "timeouts shorter than the hold"},
	FromDrills:   {"records of drills", "when a failover was tried last"},
}

// state says when the group does not serve.
func (e *exam) state() {
	if s := e.Status; s != nil && s.State != cluster.GroupAvailable {
		why := s.Reason
		if why == "" {
			why = strings.Join(s.Troubles, "; ")
		}
		severity := Warning // it serves, with less than it should have
		if s.Primary == "" || s.Held != "" {
			severity = Critical
		}
		e.add(Finding{ID: "group-not-available", Severity: severity, What: fmt.Sprintf("Group %s is %s: %s.", s.Group, s.State, or(why, "no reason is given")), Repair: e.Place.own("status", "--explain")})
		return
	}
	if g := e.Group; e.sees(FromGroup) && g.State != remote.Available {
		e.add(Finding{ID: "group-not-available", Severity: Warning, What: fmt.Sprintf("ElastiCache says that group %s is %s.", g.ID, g.State),
			Repair: e.Place.aws("elasticache", "wait", "replication-group-available", "--replication-group-id", g.ID)})
	}
}

// count is how many nodes the group has, those included that have no endpoint yet.
func (e *exam) count() int { return max(len(e.nodes()), e.Group.Listed) }

func (e *exam) zones() []string {
	seen := map[string]bool{}
	for _, n := range e.nodes() {
		if n.zone != "" { // else nobody knows
			seen[n.zone] = true
		}
	}
	return slices.Sorted(maps.Keys(seen))
}

// copies looks at how many nodes there are, and where.
func (e *exam) copies() {
	if !e.sees(FromGroup) && e.Status == nil {
		return
	}
	n, zones := e.count(), e.zones()
	if n == 1 {
		f := Finding{ID: "no-replica", What: fmt.Sprintf("Group %s has 1 node and no replica: when it is lost, the group is down and its data are gone.", e.Name())}
		if e.sees(FromGroup) { // else there is nobody to say it to: agents and proxies have no such front
			f.Repair = e.Place.aws("elasticache", "increase-replica-count", "--replication-group-id", e.Name(), "--new-replica-count", "2", "--apply-immediately")
		}
		e.add(f)
	}
	if len(zones) == 1 && n > 1 {
		e.add(Finding{ID: "single-zone", What: fmt.Sprintf("All %d nodes of group %s are in zone %s: one power cut takes all of them.", n, e.Name(), zones[0]), Repair: e.spread(n)})
	} else if len(zones) == 1 {
		e.add(Finding{ID: "single-zone", What: fmt.Sprintf("Group %s is in zone %s and nowhere else: one power cut takes it.", e.Name(), zones[0]), Repair: e.spread(2)})
	}
	if e.Status != nil && e.sees(FromGroup) && n > 1 {
		machines := map[string]bool{}
		for _, x := range e.Status.Nodes {
			machines[x.Machine] = true
		}
		if len(machines) == 1 {
			e.add(Finding{ID: "one-machine", What: fmt.Sprintf("All %d nodes of group %s run on this machine: its zones are names.", n, e.Name())})
		}
	}
}

// spread is how a group comes into several zones: a further node goes where there are fewest. Of a local group the
// zones are a setting of `up`.
func (e *exam) spread(n int) string {
	if e.Local {
		return "" // see the page
	}
	return e.Place.aws("elasticache", "increase-replica-count", "--replication-group-id", e.Name(), "--new-replica-count", strconv.Itoa(n), "--apply-immediately")
}

// failover looks at whether anybody takes over by himself.
func (e *exam) failover() {
	if !e.sees(FromGroup) {
		return
	}
	g, n, on := e.Group, e.count(), true
	modify := func(words ...string) string {
		return e.Place.aws(append([]string{"elasticache", "modify-replication-group", "--replication-group-id", g.ID, "--apply-immediately"}, words...)...)
	}
	if g.AutomaticFailover == "disabled" {
		f := Finding{ID: "automatic-failover-off", What: fmt.Sprintf("Automatic failover of group %s is off: when the primary is lost, its %d replicas wait for a person.", g.ID, n-1),
			Repair: modify("--automatic-failover-enabled")}
		if n > 1 {
			f.Fix = change("turn automatic failover of group "+g.ID+" on", g.ID, remote.Change{AutomaticFailover: &on})
		} else {
			f.What = fmt.Sprintf("Automatic failover of group %s is off, and there is nobody to fail over to.", g.ID)
			f.Repair = e.Place.aws("elasticache", "increase-replica-count", "--replication-group-id", g.ID, "--new-replica-count", "2", "--apply-immediately") + " && " +
				e.Place.aws("elasticache", "wait", "replication-group-available", "--replication-group-id", g.ID) + " && " + modify("--automatic-failover-enabled")
		}
		e.add(f)
	}
	if g.MultiAZ == "disabled" {
		f := Finding{ID: "multi-az-off", What: fmt.Sprintf("Multi-AZ of group %s is off: a new primary may be chosen in the zone that fails.", g.ID), Repair: modify("--automatic-failover-enabled", "--multi-az-enabled")}
		if n > 1 && len(e.zones()) > 1 {
			f.Fix = change("turn Multi-AZ of group "+g.ID+" on", g.ID, remote.Change{AutomaticFailover: &on, MultiAZ: &on})
		} else {
			f.What = fmt.Sprintf("Multi-AZ of group %s is off, and with %s it cannot be on.", g.ID, counted(n, len(e.zones())))
			f.Repair = ""
		}
		e.add(f)
	}
}

func counted(nodes, zones int) string { return counts(nodes, "node") + " in " + counts(zones, "zone") }

// change is a fix by ModifyReplicationGroup.
func change(does, group string, c remote.Change) *Fix {
	return &Fix{Does: does, Call: "elasticache:ModifyReplicationGroup", act: func(ctx context.Context, h Hands) error { return h.ChangeGroup(ctx, group, c) }}
}

// doors looks at who can come in.
func (e *exam) doors() {
	for _, d := range e.Doors {
		host, _, err := net.SplitHostPort(d.Addr)
		if err != nil || loopback(host) {
			continue
		}
		if !d.TLS {
			e.add(Finding{ID: "tls-off", Subject: d.Name, What: fmt.Sprintf("The %s %s is reached by other machines and speaks in the clear.", d.Name, d.Addr)})
		}
		if !d.Auth {
			e.add(Finding{ID: "auth-off", Subject: d.Name, What: fmt.Sprintf("The %s %s is reached by other machines and asks nobody who he is.", d.Name, d.Addr)})
		}
	}
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// durability says what an acked write is worth.
func (e *exam) durability() {
	if s := e.Status; s != nil && s.Durability == cluster.DurabilityAsync {
		e.add(Finding{ID: "durability-async", What: fmt.Sprintf("Group %s acks a write when the primary has it: a failover loses what the replicas have not got yet.", s.Group)})
	}
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}
