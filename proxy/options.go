package proxy

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"understudy/cluster"
)

// Options say where a Proxy listens, and how long and how much it may hold.
type Options struct {
	Group string
	Zone  string // replicas of this zone are read first; "" for no preference

	// Listen addresses, HOST:PORT; port 0 takes any free one. An empty one is not served.
	Primary, Reader, Split string
	// Listeners are sockets that another process handed over, by the endpoint's name: primary, reader, split,
	// primary TLS, reader TLS, split TLS. They are used in place of the address; nil: all are opened.
	Listeners map[string]*net.TCPListener
	// Shut: no client is let in before Open.
	Shut bool
	// The same endpoints for clients that speak TLS, and what is shown to them: TLS is needed with them.
	PrimaryTLS, ReaderTLS, SplitTLS string
	TLS                             *tls.Config
	// ServerTLS says how to speak TLS with the redis-server of a node at an address, IP:PORT; nil, and where
	// it returns nil: plain.
	// Over a unix socket there is none.
	ServerTLS func(node cluster.NodeID, addr string) *tls.Config

	Logins // without one, who connects is let in
	// ProxyProtocol are the networks whose connections begin with a header of the PROXY protocol.
	ProxyProtocol []netip.Prefix

	// Reads says what a read on the primary endpoint waits for; "" is ReadsPermit.
	Reads Reads

	// Allow names commands that would be refused and are carried all the same, such as "CLIENT PAUSE" or
	// "CONFIG SET maxclients". What they do to the group is the operator's affair.
	Allow []string

	// Once names prefixes of keys: a write that must not run twice, and all of whose keys have one, is sent
	// with a marker so that it does not. See DESIGN.md for what that costs and what it does not cover.
	Once []string

	// Policies say what a class of data does while it cannot be served; without one it is held.
	Policies []Policy
	// MaxStaleness bounds how old the data of a replica may be that answers on the reader and the split
	// endpoint, also by writes through other proxies: past it another replica is read, or the primary. It
	// costs the primary a question four times in that time, and at least every second. 0: it is not bounded,
	// and not asked for.
	MaxStaleness time.Duration
	// MaxLagBytes bounds how far such a replica may be behind the primary's log, by its agent's word, which
	// is as old as the agents' pause between two words; 0: it is not bounded.
	MaxLagBytes int64
	// Troubles name what else is wrong with the group, for UNDERSTUDY STATUS: the store is away. It is
	// called from the loop and must not block; nil: nothing is known.
	Troubles func() []string

	// Hold bounds how long a request waits for a primary. The default of 5 s is several times the
	// longest failover of the fast profile, and shorter than most clients' patience.
	Hold time.Duration
	// HoldRequests and HoldBytes bound how much waits; past them the oldest gets an error.
	HoldRequests int
	HoldBytes    int

	// MaxClients bounds the connections of all endpoints together, as redis-server's maxclients.
	MaxClients int
	// OutputLimit bounds the bytes that wait for one client to read them, beside its biggest reply; past it
	// the client is cut. So it is past OutputSoft for as long as OutputSoftFor: the default of 64 MiB for
	// 60 s is twice what redis-server lets a subscriber have.
	OutputLimit   int
	OutputSoft    int
	OutputSoftFor time.Duration
	// InputLimit bounds the bytes of one client that are not whole requests yet, as redis-server's
	// client-query-buffer-limit; past it the client is cut.
	InputLimit int
	// ClientMemory bounds the buffers of all clients together, as redis-server's maxmemory-clients: past it
	// the client with the biggest is cut.
	ClientMemory int

	// BusyPoll is how long the loop looks for the next request before it sleeps, while a single client keeps it
	// busy: see resting. 0, and a machine with one processor: it sleeps at once.
	BusyPoll time.Duration

	// OnDoubt is called, from the loop, when the primary refused what it was sent or a connection to it broke
	// or could not be made: who tells by Learn may look again. It must not block; nil: nobody looks.
	OnDoubt func()

	Clock   func() time.Duration // the clock that Learn's times are readings of; required
	Logger  *slog.Logger
	Metrics prometheus.Registerer
}

// What New takes where Options say nothing.
const (
	DefaultHoldRequests  = 100_000
	DefaultHoldBytes     = 256 << 20
	DefaultMaxClients    = 10_000
	DefaultOutputLimit   = 256 << 20
	DefaultOutputSoft    = 64 << 20
	DefaultOutputSoftFor = time.Minute
	DefaultInputLimit    = 1 << 30
	DefaultClientMemory  = 2 << 30
	// DefaultBusyPoll is what the commands set: about what it takes to be woken and for redis-server to answer.
	DefaultBusyPoll = 50 * time.Microsecond
)

// Reads says what a read on the primary endpoint waits for.
type Reads string

// The two kinds of reads on the primary endpoint.
const (
	// ReadsPermit: a primary with a permit answered, and the key has no write of this proxy's that is not
	// safe. It may show what another proxy's client has not been acked yet, and beside a primary that is
	// cut off it may be as old as the permit.
	ReadsPermit Reads = "permit"
	// ReadsCommitted: and a commit round that began after the read is done, so that reads are
	// linearizable, over all proxies and inside a cut. In sync only.
	ReadsCommitted Reads = "committed"
)

func (o *Options) complete() error {
	switch o.Reads {
	case "":
		o.Reads = ReadsPermit
	case ReadsPermit, ReadsCommitted:
	default:
		return fmt.Errorf("proxy: Reads %q: not one of permit, committed", o.Reads)
	}
	if o.Clock == nil {
		return errors.New("proxy: Clock is needed")
	}
	if _, err := o.keys(); err != nil {
		return err
	}
	secure := o.PrimaryTLS != "" || o.ReaderTLS != "" || o.SplitTLS != ""
	switch {
	case o.Primary == "" && o.Reader == "" && o.Split == "" && !secure:
		return errors.New("proxy: at least one of Primary, Reader, Split must say where to listen")
	case secure && o.TLS == nil:
		return errors.New("proxy: TLS is needed with PrimaryTLS, ReaderTLS, SplitTLS")
	}
	if o.Hold == 0 {
		o.Hold = 5 * time.Second
	}
	if o.HoldRequests == 0 {
		o.HoldRequests = DefaultHoldRequests
	}
	if o.HoldBytes == 0 {
		o.HoldBytes = DefaultHoldBytes
	}
	if err := o.checkReads(); err != nil {
		return err
	}
	if o.MaxClients == 0 {
		o.MaxClients = DefaultMaxClients
	}
	if o.OutputLimit == 0 {
		o.OutputLimit = DefaultOutputLimit
	}
	if o.OutputSoft == 0 {
		o.OutputSoft = min(DefaultOutputSoft, o.OutputLimit)
	}
	if o.OutputSoftFor == 0 {
		o.OutputSoftFor = DefaultOutputSoftFor
	}
	if o.InputLimit == 0 {
		o.InputLimit = DefaultInputLimit
	}
	if o.ClientMemory == 0 {
		o.ClientMemory = DefaultClientMemory
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return nil
}

// checkReads checks what bounds the age of what is read, and the policies.
func (o *Options) checkReads() error {
	if err := CheckPolicies(o.Policies, o.Hold); err != nil {
		return fmt.Errorf("proxy: Policies: %w", err)
	}
	if o.MaxStaleness != 0 {
		if err := CheckStaleness(o.MaxStaleness); err != nil {
			return fmt.Errorf("proxy: MaxStaleness: %w", err)
		}
	}
	if o.MaxLagBytes < 0 {
		return fmt.Errorf("proxy: MaxLagBytes %d: is below zero", o.MaxLagBytes)
	}
	return nil
}
