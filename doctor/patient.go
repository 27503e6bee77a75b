package doctor

import (
	"slices"
	"strings"
	"time"

	"understudy/aws/remote"
	"understudy/cluster"
	"understudy/metric"
)

// Patient is all that was read of a group, at one moment. What could not be read is in Unread: no conclusion is
// drawn from its absence.
type Patient struct {
	At     time.Time
	Local  bool // a group of a running `understudy up`; else ElastiCache's
	Place  Place
	Group  remote.Group
	Status *cluster.Status // nil: not a local group

	Alarms []remote.Alarm   // of the region
	Absent []metric.ID      // metrics of the group's alarms that nobody publishes
	Topics map[string]Topic // that the group's alarms name, by ARN
	Backup []Backup         // oldest first
	Server Server           // of the primary
	Users  []Client         // connections of clients, without replicas and without ours
	Keys   Keys             // a sample
	Hold   time.Duration    // how long a proxy holds a request; 0: there is none, or it is not known
	Drill  Drill            // the newest
	Doors  []Door
	Unread map[Source]string // what was not looked at, and why
}

// Door is an address at which clients or operators come in.
type Door struct {
	Name, Addr string
	TLS, Auth  bool // it speaks TLS; it asks for a password or a token
}

// Source is something that is read.
type Source string

// The sources.
const (
	FromGroup    Source = "group"    // ElastiCache's DescribeReplicationGroups
	FromStatus   Source = "status"   // the instance's page
	FromAlarms   Source = "alarms"   // CloudWatch's DescribeAlarms
	FromMetrics  Source = "metrics"  // CloudWatch's ListMetrics
	FromTopics   Source = "topics"   // SNS
	FromBackups  Source = "backups"  // DescribeSnapshots, or the instance's backups
	FromSettings Source = "settings" // INFO and CONFIG GET
	FromClients  Source = "clients"  // CLIENT LIST
	FromKeys     Source = "keys"     // SCAN
	FromProxy    Source = "proxy"    // /metrics of the instance
	FromDrills   Source = "drills"   // the folder of records, DescribeEvents
)

// sees reports whether a source was read.
func (p Patient) sees(s Source) bool { _, not := p.Unread[s]; return !not }

// Name is the group's id.
func (p Patient) Name() string {
	if p.Group.ID == "" && p.Status != nil {
		return p.Status.Group
	}
	return p.Group.ID
}

// place is a node and its zone.
type place struct {
	id   cluster.NodeID
	zone string
}

// nodes are those of the group, by the API's word or the instance's.
func (p Patient) nodes() (all []place) {
	if p.Status != nil {
		for _, n := range p.Status.Nodes {
			all = append(all, place{n.ID, n.Zone})
		}
		return all
	}
	for _, n := range p.Group.Nodes {
		all = append(all, place{n.ID, n.Zone})
	}
	return all
}

// has reports whether a node is of the group.
func (p Patient) has(id cluster.NodeID) bool {
	return slices.ContainsFunc(p.nodes(), func(n place) bool { return n.id == id })
}

// Place is how commands reach the group.
type Place struct {
	Own   []string // flags of `understudy`: --data DIR
	Front []string // those of `understudy aws`
	Flags []string // flags of the AWS CLI: --region, --endpoint-url
	Local bool
	// Drills are the flags of `understudy drill list`: --dir DIR.
	Drills []string
}

// aws is a command line for the group's API.
func (p Place) aws(words ...string) string {
	if p.Local {
		return line(append(append([]string{"understudy", "aws"}, p.Front...), words...))
	}
	return line(append(append([]string{"aws"}, p.Flags...), words...))
}

// own is a command line of this program.
func (p Place) own(words ...string) string {
	return line(append(append([]string{"understudy"}, words...), p.Own...))
}

// line quotes words for a shell.
func line(words []string) string {
	quoted := slices.Clone(words)
	for i, w := range quoted {
		if w == "" || strings.ContainsAny(w, " \t\n\"'`$&|;<>()[]{}*?!#~\\") {
			quoted[i] = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
		}
	}
	return strings.Join(quoted, " ")
}

// Topic is one of SNS's.
type Topic struct {
	Missing            bool
	Confirmed, Pending int
}

// Backup is one of the group, as far as it is told.
type Backup struct {
	Name      string
	Whole     bool
	Damaged   string // why; "" when nobody found it damaged
	Automatic bool
	Created   time.Time
	Read      bool // all of it was read once, by a server
}

// Server is what the primary's redis-server says of itself.
type Server struct {
	Version   string
	MaxMemory int64  // bytes; 0: no bound
	Policy    string // maxmemory-policy
	Timeout   int    // seconds after which idle clients are closed; 0: never
	Keys      int64  // in all databases
	Expires   int64  // of them, with a time to live
}

// Client is one connection.
type Client struct {
	Library, Version string // by CLIENT SETINFO; "" when it did not say
	Name             string // by CLIENT SETNAME
	Addr             string
	Idle             time.Duration
}

// Keys are what a bounded sample of the keys looks like.
type Keys struct {
	Seen    int
	All     bool // the sample is everything
	Classes map[Class]Share
}

// Drill is a failover that was tried.
type Drill struct {
	At     time.Time // zero: none is known
	ID     string    // of its record; "" when only AWS's events tell
	Failed bool
}

// Class is a kind of data.
type Class string

// The classes.
const (
	Sessions Class = "sessions"
	Cache    Class = "cache"
	Queue    Class = "queue"
)

// Share is how much of a sample is of a class.
type Share struct {
	Keys    int
	Expires int // of them, with a time to live
	Example string
}

// holds reports whether the sample has enough of a class to say so: two keys are no workload, nor is one in a thousand.
func (k Keys) holds(c Class) bool {
	n := k.Classes[c].Keys
	return n >= 1 && (c == Queue || n >= 3) && n*1000 >= k.Seen
}
