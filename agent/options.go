// Package agent runs beside one redis-server: it observes, lets failover.Machine decide, and acts.
package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"understudy/cluster"
	"understudy/failover"
	"understudy/redis"
	"understudy/rpc"
)

// maxSocketPath is what fits into the kernel's sun_path with its closing zero.
const maxSocketPath = 107

// Options say which node an Agent runs, and what it reaches.
type Options struct {
	Group      string
	Self       failover.Peer
	Nodes      []failover.Peer // all of the group, Self included, ordered by id
	Durability cluster.Durability
	Profile    failover.Profile
	// OnLostQuorum is what a sync primary without a replica does; "" is cluster.LostQuorumShrink.
	OnLostQuorum cluster.LostQuorum
	// PreferredZone is where the primary belongs; "": nowhere in particular.
	PreferredZone string
	// Manual: see failover.Settings. It and Nodes are changed with Configure.
	Manual bool
	// ReturnNow says whether the primary may be moved back to PreferredZone at a time; nil: never.
	ReturnNow func(time.Time) bool

	Dir    string // of this node: the data set and the highest epoch seen live below it
	Binary redis.Binary
	Host   string            // where redis-server listens; default 127.0.0.1
	Port   int               // 0: any free one, kept for the next start
	Config map[string]string // further redis-server directives
	// Secret lets agents and replicas in, and keeps everybody else out: see redis.ServerOptions. It is for
	// a Host that other machines reach; the same for all nodes of a group.
	Secret string
	// TLS has redis-server speak it; nil: it speaks in the clear, which is for a loopback address, or a network
	// on which nobody listens. The same for all nodes of a group.
	TLS *TLSOptions
	// Adopt names a redis-server that somebody else starts and stops; nil: the agent runs its own.
	Adopt *redis.AdoptOptions
	// LostKeep and LostBytes bound what is put aside of writes that the group gave up: how many data sets,
	// default 5, and how large together, default 10 GiB. The oldest go first.
	LostKeep  int
	LostBytes int64

	Store cluster.Store
	// RPC answers the other agents and the proxies; this agent registers with it while it runs.
	RPC *rpc.Server
	// Client asks the other agents; default: one without TLS.
	Client *rpc.Client
	// Peers says where another node's agent is reached now, an address of package rpc; "" is nowhere.
	// It must not block.
	Peers func(cluster.NodeID) string
	// Socket is redis-server's unix socket; default Dir/redis.sock. A unix address holds 107 bytes
	// only: a deep Dir needs one elsewhere.
	Socket string
	// Fencer ends redis-server when this process no longer can; nil: PDEATHSIG is the only one.
	Fencer *redis.Fencer

	// BootIDFile names the current start of the operating system; default: the kernel's.
	BootIDFile string

	// Clock is one monotonic reading for all parts of this process.
	Clock   func() time.Duration
	Logger  *slog.Logger
	Metrics prometheus.Registerer
	// OnStatus is told of every change, and at least every Profile.Renew; at is when the status was
	// made. It must not block.
	OnStatus func(at time.Duration, s cluster.NodeStatus)
	OnEvent  func(cluster.Event)
}

// needTLS makes sure that TLS is there if it is wanted.
func (o *Options) needTLS() error {
	switch t := o.TLS; {
	case t == nil:
		return nil
	case t.InForce == nil || t.Client == nil:
		return errors.New("TLS: InForce and Client are needed")
	case o.Adopt != nil: // it has proved it when it is taken over
		o.Adopt.TLS = t.Client
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return o.Binary.SupportsTLS(ctx)
}

func (o *Options) complete() error {
	switch {
	case o.Group == "" || o.Self.Node == "" || len(o.Nodes) == 0:
		return errors.New("agent: Group, Self and Nodes are needed")
	case o.Dir == "" || o.RPC == nil || o.Peers == nil:
		return errors.New("agent: Dir, RPC and Peers are needed")
	case o.Store == nil || o.Clock == nil:
		return errors.New("agent: Store and Clock are needed")
	}
	if err := o.Profile.Validate(); err != nil {
		return fmt.Errorf("agent: %w", err)
	}
	switch {
	case o.Adopt != nil:
		o.Socket = o.Adopt.Socket
	case o.Socket == "":
		o.Socket = filepath.Join(o.Dir, "redis.sock")
	}
	if len(o.Socket) > maxSocketPath {
		return fmt.Errorf("agent: socket %s: longer than the %d bytes that the system allows; choose a shorter directory", o.Socket, maxSocketPath)
	}
	if o.Client == nil {
		o.Client = rpc.NewClient(rpc.ClientOptions{})
	}
	if o.BootIDFile == "" {
		o.BootIDFile = bootIDFile
	}
	if o.LostKeep == 0 {
		o.LostKeep = 5
	}
	if o.LostBytes == 0 {
		o.LostBytes = 10 << 30
	}
	if o.Host == "" {
		o.Host = "127.0.0.1"
	}
	if o.Durability == "" {
		o.Durability = cluster.DurabilitySync
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.OnStatus == nil {
		o.OnStatus = func(time.Duration, cluster.NodeStatus) {}
	}
	if o.OnEvent == nil {
		o.OnEvent = func(cluster.Event) {}
	}
	return nil
}
