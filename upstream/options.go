package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"understudy/cluster"
)

// Options say what to watch, and whom to tell. Exactly one of Static, Sentinel and ElastiCache is set.
type Options struct {
	Group string // the name that statuses and events carry

	Static      *Static
	Sentinel    *Sentinel
	ElastiCache *ElastiCache

	// User and Password are as whom the nodes are asked. Password alone is for a server with one password
	// for all (requirepass, ElastiCache's AUTH token). The user needs PING and INFO.
	User, Password string
	// PasswordNow is asked for the password before each connection, where it may change; nil: it is Password. It
	// is also that of Access, then.
	PasswordNow func() string
	// TLS is for the connections to the nodes; nil: plain. Without a ServerName a node's certificate has to
	// be for the host by which its source names it.
	TLS *tls.Config
	// Access is handed on to proxies in every status: as whom they log in for clients that name no user.
	Access cluster.Access

	// Interval is how often each node is asked, a tenth more or less. 100 ms costs a node two commands in one
	// packet, ten times a second.
	Interval time.Duration
	// Lease is how long an answer "master" permits writes, from before the question was sent. Three
	// intervals, because one late answer is no failover.
	Lease time.Duration
	// Dispute is how long writes are held, at most, because a replica was promoted while the primary still
	// says that it is one: whoever promotes goes on to demote the other within that time.
	Dispute time.Duration
	// Patience is how long a master must wait for which nothing speaks: no replica follows it, no source
	// names it, and its log does not continue the last primary's.
	Patience time.Duration

	// Lookup resolves a host name into addresses; nil: the system's resolver.
	Lookup func(ctx context.Context, host string) ([]string, error)

	Clock func() time.Duration // the clock of which OnStatus's times are readings; required
	Seed  uint64               // of the jitter; 0: any
	// OnStatus takes what is said of a node, and when it was asked. It must not block.
	OnStatus func(at time.Duration, s cluster.NodeStatus)
	OnEvent  func(cluster.Event) // must not block

	Logger  *slog.Logger
	Metrics prometheus.Registerer
}

// Static is a group that is known by its addresses, HOST:PORT.
type Static struct {
	// Primary is who is believed at the start, when more than one says that it is. Later the nodes decide.
	Primary  string
	Replicas []string
	Zones    map[string]string // by address
}

// Sentinel is a group that Redis Sentinel watches.
type Sentinel struct {
	Name  string   // of the master, as the sentinels call it
	Addrs []string // of the sentinels, HOST:PORT
	// User, Password and TLS are for the connections to the sentinels; PasswordNow is as that of the nodes.
	User, Password string
	PasswordNow    func() string
	TLS            *tls.Config
	// Poll is how often each sentinel is asked which nodes there are. Changes are heard of by subscription.
	Poll  time.Duration
	Zones map[string]string // of the nodes, by address
}

// ElastiCache is a replication group of AWS: either ReplicationGroup is set, and the API says which nodes
// exist, or Primary and the other names are, and DNS does.
type ElastiCache struct {
	ReplicationGroup string
	Region           string
	// Endpoint is the URL of the API; "" for the region's own.
	Endpoint string
	// AccessKey, SecretKey and SessionToken are for the API; empty: the SDK's chain (environment, files,
	// the machine's role).
	AccessKey, SecretKey, SessionToken string
	// Poll is how often the API is asked. AWS limits calls per account: 15 s are 4 a minute.
	Poll time.Duration

	// Primary and Reader are the group's endpoints and Nodes those of its nodes, NAME:PORT.
	Primary, Reader string
	Nodes           []string
	Zones           map[string]string // of the nodes, by NAME:PORT
}

// The defaults, and the bounds that keep a wrong number from becoming an attack on the nodes.
const (
	defaultInterval = 100 * time.Millisecond
	minInterval     = 10 * time.Millisecond
	defaultLeases   = 3
	defaultDispute  = time.Second
	defaultPatience = 10 * time.Second
	defaultPoll     = time.Second      // of a sentinel
	defaultAPIPoll  = 15 * time.Second // of the ElastiCache API
	minAPIPoll      = 100 * time.Millisecond

	// maxNodes bounds the connections: ElastiCache has at most 6 nodes in such a group.
	maxNodes = 32
	// maxSentinels bounds the connections to sentinels, two each; more than seven are never needed.
	maxSentinels = 16
)

func (o *Options) complete() error {
	if o.Group == "" {
		return errors.New("upstream: Group is needed: it names the group in statuses and events")
	}
	if o.Clock == nil {
		return errors.New("upstream: Clock is needed: the one of which the proxy's times are readings")
	}
	if o.OnStatus == nil {
		return errors.New("upstream: OnStatus is needed: who is to learn who the primary is?")
	}
	if o.User != "" && o.Password == "" {
		return errors.New("upstream: Password is needed with User")
	}
	if err := o.completeTimes(); err != nil {
		return err
	}
	if o.Lookup == nil {
		o.Lookup = net.DefaultResolver.LookupHost
	}
	if o.OnEvent == nil {
		o.OnEvent = func(cluster.Event) {}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Seed == 0 {
		o.Seed = rand.Uint64()
	}
	return o.completeSource()
}

func (o *Options) completeTimes() error {
	if o.Interval == 0 {
		o.Interval = defaultInterval
	}
	if o.Lease == 0 {
		o.Lease = defaultLeases * o.Interval
	}
	if o.Dispute == 0 {
		o.Dispute = defaultDispute
	}
	if o.Patience == 0 {
		o.Patience = defaultPatience
	}
	switch {
	case o.Interval < minInterval:
		return fmt.Errorf("upstream: Interval %v: at least %v, or the nodes are asked more than they serve", o.Interval, minInterval)
	case o.Lease < 2*o.Interval:
		return fmt.Errorf("upstream: Lease %v: at least twice the Interval of %v, or every late answer stops the writes", o.Lease, o.Interval)
	case o.Dispute < o.Interval:
		return fmt.Errorf("upstream: Dispute %v: at least the Interval of %v, or nobody is asked again before it ends", o.Dispute, o.Interval)
	case o.Patience < o.Dispute:
		return fmt.Errorf("upstream: Patience %v: at least Dispute (%v), which is for masters with more to say for themselves", o.Patience, o.Dispute)
	}
	return nil
}

func (o *Options) completeSource() error {
	n := 0
	for _, set := range []bool{o.Static != nil, o.Sentinel != nil, o.ElastiCache != nil} {
		if set {
			n++
		}
	}
	if n != 1 {
		return fmt.Errorf("upstream: %d of Static, Sentinel and ElastiCache are set: exactly one says where the nodes are", n)
	}
	switch {
	case o.Static != nil:
		return o.Static.check()
	case o.Sentinel != nil:
		s := *o.Sentinel // the caller's stays as it is
		o.Sentinel = &s
		return s.complete()
	default:
		e := *o.ElastiCache
		o.ElastiCache = &e
		return o.ElastiCache.complete()
	}
}

func (s *Static) check() error {
	if s.Primary == "" {
		return errors.New("upstream: Static.Primary is needed: HOST:PORT")
	}
	return checkAddrs("Static.Primary and Replicas", append([]string{s.Primary}, s.Replicas...), maxNodes)
}

func (s *Sentinel) complete() error {
	if s.Name == "" {
		return errors.New("upstream: Sentinel.Name is needed: what the sentinels call the master, as in `sentinel monitor NAME …`")
	}
	if len(s.Addrs) == 0 {
		return errors.New("upstream: Sentinel.Addrs is needed: HOST:PORT of each sentinel")
	}
	if s.User != "" && s.Password == "" {
		return errors.New("upstream: Sentinel.Password is needed with Sentinel.User")
	}
	if s.Poll == 0 {
		s.Poll = defaultPoll
	}
	if s.Poll < minAPIPoll {
		return fmt.Errorf("upstream: Sentinel.Poll %v: at least %v", s.Poll, minAPIPoll)
	}
	return checkAddrs("Sentinel.Addrs", s.Addrs, maxSentinels)
}

func (e *ElastiCache) complete() error {
	byName := e.Primary != "" || e.Reader != "" || len(e.Nodes) > 0
	switch {
	case e.ReplicationGroup == "" && !byName:
		return errors.New("upstream: ElastiCache.ReplicationGroup or ElastiCache.Primary is needed: the group's id for the API, or its primary endpoint for DNS")
	case e.ReplicationGroup != "" && byName:
		return errors.New("upstream: ElastiCache.ReplicationGroup and endpoint names are both set: either the API says which nodes there are, or DNS does")
	case e.ReplicationGroup != "" && e.Region == "":
		return errors.New("upstream: ElastiCache.Region is needed with ReplicationGroup")
	case (e.AccessKey == "") != (e.SecretKey == ""):
		return errors.New("upstream: ElastiCache.AccessKey and ElastiCache.SecretKey go together")
	}
	if e.Poll == 0 {
		e.Poll = defaultAPIPoll
	}
	if e.Poll < minAPIPoll {
		return fmt.Errorf("upstream: ElastiCache.Poll %v: at least %v", e.Poll, minAPIPoll)
	}
	if !byName {
		return nil
	}
	if e.Primary == "" {
		return errors.New("upstream: ElastiCache.Primary is needed with Reader or Nodes: NAME:PORT of the primary endpoint")
	}
	all := append([]string{e.Primary}, e.Nodes...)
	if e.Reader != "" {
		all = append(all, e.Reader)
	}
	return checkAddrs("ElastiCache.Primary, Reader and Nodes", all, maxNodes)
}

// checkAddrs wants each address once, as HOST:PORT.
func checkAddrs(field string, addrs []string, most int) error {
	if len(addrs) > most {
		return fmt.Errorf("upstream: %s: %d addresses, at most %d", field, len(addrs), most)
	}
	seen := map[string]bool{}
	for _, a := range addrs {
		if host, port, err := net.SplitHostPort(a); err != nil || host == "" || port == "" {
			return fmt.Errorf("upstream: %s: %q is not HOST:PORT", field, a)
		}
		if seen[a] {
			return fmt.Errorf("upstream: %s: %s is there twice", field, a)
		}
		seen[a] = true
	}
	return nil
}

// current is a password as it is now.
func current(password string, now func() string) string {
	if now != nil {
		return now()
	}
	return password
}

// access is what proxies are told now.
func (o *Options) access() cluster.Access {
	a := o.Access
	if a.Password != "" {
		a.Password = current(a.Password, o.PasswordNow)
	}
	return a
}
