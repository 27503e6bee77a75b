package doctor

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"understudy/alarm"
	"understudy/aws/remote"
)

// The ages from which on something is too old.
const (
	backupTooOld = alarm.BackupOverdue
	drillTooOld  = alarm.DrillOverdue
	cloudTooOld  = 30 * 24 * time.Hour // a drill of ElastiCache takes minutes and somebody's evening
	keepBackups  = 7                   // days: the retention that the doctor sets
)

// backups looks at what is left when all nodes are lost.
func (e *exam) backups() {
	if e.sees(FromGroup) && e.Group.SnapshotRetention == 0 {
		days := keepBackups
		e.add(Finding{ID: "snapshot-retention-0", What: fmt.Sprintf("Group %s keeps no daily backups: its retention is 0 days.", e.Name()),
			Repair: e.Place.aws("elasticache", "modify-replication-group", "--replication-group-id", e.Name(), "--snapshot-retention-limit", fmt.Sprint(days), "--apply-immediately"),
			Fix:    change(fmt.Sprintf("keep the daily backups of group %s for %d days", e.Name(), days), e.Name(), remote.Change{SnapshotRetention: &days})})
	}
	if !e.sees(FromBackups) {
		return
	}
	repair, fix := e.backUp()
	var newest *Backup
	for i, b := range e.Backup {
		if b.Damaged != "" {
			e.add(Finding{ID: "backup-damaged", Subject: b.Name, What: fmt.Sprintf("Backup %s of group %s is damaged: %s.", b.Name, e.Name(), strings.TrimRight(b.Damaged, ".")),
				Repair: e.Place.own("backup", "delete", b.Name) + " && " + repair})
		} else if b.Whole {
			newest = &e.Backup[i]
		}
	}
	switch {
	case newest == nil:
		e.add(Finding{ID: "no-backup", What: fmt.Sprintf("There is no backup of group %s: what a person or a program deletes is gone from all nodes.", e.Name()), Repair: repair, Fix: fix})
		return
	case e.At.Sub(newest.Created) > backupTooOld:
		e.add(Finding{ID: "backup-too-old", Subject: newest.Name, What: fmt.Sprintf("The newest backup of group %s is %s old: %s.", e.Name(), age(e.At.Sub(newest.Created)), newest.Name), Repair: repair, Fix: fix})
	}
	if !newest.Read {
		e.add(Finding{ID: "backup-never-verified", Subject: newest.Name, What: fmt.Sprintf("Nobody knows whether backup %s can be read: ElastiCache verifies none.", newest.Name)})
	}
}

// backUp is how a backup is made now.
func (e *exam) backUp() (repair string, fix *Fix) {
	id := e.Name()
	if e.Local {
		return e.Place.own("backup", "create", "--group", id), &Fix{Does: "make a backup of group " + id, Call: "POST /api/backups",
			act: func(ctx context.Context, h Hands) error { return h.BackUp(ctx, id, "") }}
	}
	node, name := e.writer(), "understudy-"+id+"-"+e.At.UTC().Format("20060102-150405")
	return e.Place.aws("elasticache", "create-snapshot", "--cache-cluster-id", node, "--snapshot-name", name), &Fix{Does: "take snapshot " + name + " of node " + node, Call: "elasticache:CreateSnapshot",
		act: func(ctx context.Context, h Hands) error { return h.BackUp(ctx, node, name) }}
}

// writer is the node that writes a snapshot: a replica, where there is one.
func (e *exam) writer() string {
	for _, n := range e.Group.Nodes {
		if !n.Primary {
			return string(n.ID)
		}
	}
	for _, n := range e.Group.Nodes {
		return string(n.ID)
	}
	return e.Name() + "-001"
}

// drills looks at when a failover was tried.
func (e *exam) drills() {
	if !e.sees(FromDrills) || e.count() < 2 {
		return // without a replica there is nothing to try
	}
	repair, tooOld := e.Place.own("drill", "run"), drillTooOld
	if !e.Local {
		tooOld = cloudTooOld
		repair = line(append([]string{"understudy", "drill", "run", "--target", "elasticache://" + e.Name()}, e.Place.Flags...))
	}
	switch d := e.Drill; {
	case d.At.IsZero():
		e.add(Finding{ID: "never-drilled", What: fmt.Sprintf("No drill of group %s is known: that a failover works is a hope.", e.Name()), Repair: repair})
	case d.Failed:
		e.add(Finding{ID: "drill-failed", Subject: d.ID, What: fmt.Sprintf("The newest drill of group %s, %s, failed %s ago.", e.Name(), d.ID, age(e.At.Sub(d.At))), Repair: e.showDrill(d.ID)})
	case e.At.Sub(d.At) > tooOld:
		e.add(Finding{ID: "drill-too-old", Subject: d.ID, What: fmt.Sprintf("The newest drill of group %s was %s ago.", e.Name(), age(e.At.Sub(d.At))), Repair: repair})
	}
}

func (e *exam) showDrill(id string) string {
	return line(append([]string{"understudy", "drill", "show", id}, e.Place.Drills...))
}

// age is a time for people.
func age(d time.Duration) string {
	switch {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%d days", int(d.Hours())/24)
	case d >= 2*time.Hour:
		return fmt.Sprintf("%d hours", int(d.Hours()))
	}
	return fmt.Sprintf("%d minutes", int(d.Minutes()))
}

// memory looks at what happens when it is full.
func (e *exam) memory() {
	if !e.sees(FromSettings) {
		return
	}
	s, lasting := e.Server, ""
	for _, c := range []Class{Queue, Sessions} {
		if e.sees(FromKeys) && e.Keys.holds(c) {
			lasting = string(c)
		}
	}
	cached := e.sees(FromKeys) && e.Keys.holds(Cache)
	switch {
	case s.MaxMemory == 0:
		e.add(Finding{ID: "maxmemory-without-policy", What: fmt.Sprintf("maxmemory of group %s is 0: it grows until the machine has no memory left, and the kernel ends a server.", e.Name()), Repair: e.set("maxmemory", "1gb")})
	case s.Policy == "noeviction" && cached:
		e.add(Finding{ID: "maxmemory-without-policy", What: fmt.Sprintf("maxmemory-policy is noeviction and group %s holds a cache (%s): when it is full, every write is refused.", e.Name(), e.Keys.says(Cache)), Repair: e.set("maxmemory-policy", "volatile-lru")})
	case strings.HasPrefix(s.Policy, "allkeys-") && lasting != "":
		e.add(Finding{ID: "maxmemory-without-policy", Severity: Critical, What: fmt.Sprintf("maxmemory-policy is %s and group %s holds %s (%s): when it is full, they are evicted like a cache.", s.Policy, e.Name(), lasting, e.Keys.says(Class(lasting))), Repair: e.set("maxmemory-policy", "volatile-lru")})
	}
}

// set is how a parameter is changed: ElastiCache's are those of a parameter group, which has a name that is not known.
func (e *exam) set(name, value string) string {
	if !e.Local || len(e.Doors) == 0 {
		return ""
	}
	host, port, err := net.SplitHostPort(e.Doors[0].Addr)
	if err != nil {
		return ""
	}
	words := []string{"redis-cli", "-h", host, "-p", port}
	if e.Doors[0].TLS {
		words = append(words, "--tls")
	}
	return line(append(words, "CONFIG", "SET", name, value))
}

func (k Keys) says(c Class) string {
	s := k.Classes[c]
	return fmt.Sprintf("%d of %d keys looked at, like %s", s.Keys, k.Seen, s.Example)
}

// workloads looks at whether data with different needs live together.
func (e *exam) workloads() {
	if !e.sees(FromKeys) {
		return
	}
	var held []string
	for _, c := range []Class{Sessions, Cache, Queue} {
		if e.Keys.holds(c) {
			held = append(held, fmt.Sprintf("%s (%s)", c, e.Keys.says(c)))
		}
	}
	if len(held) > 1 {
		e.add(Finding{ID: "mixed-workloads", What: fmt.Sprintf("Group %s holds %s: one policy and one memory serve all of them.", e.Name(), strings.Join(held, " and ")),
			Repair: e.second()})
	}
}

// second makes a group for the cache alone.
func (e *exam) second() string {
	name := e.Name() + "-cache"
	words := []string{"elasticache", "create-replication-group", "--replication-group-id", name, "--replication-group-description", "cache of " + e.Name(),
		"--engine", "redis", "--cache-node-type", "cache.t4g.small", "--num-cache-clusters", "2", "--automatic-failover-enabled"}
	if slices.Contains(e.zones(), "") || len(name) > 40 {
		return ""
	}
	return e.Place.aws(words...)
}
