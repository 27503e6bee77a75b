// Package elasticache carries out the operations of ElastiCache over real replication groups.
package elasticache

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"understudy/aws/wire"
	"understudy/cluster"
	"understudy/shelf"
)

// Options say over what. Groups, Store, Zones and Engine are needed.
type Options struct {
	Groups Groups
	Store  cluster.Store
	// Home is the group that this process runs whatever happens here: it cannot be deleted. "": none.
	Home   string
	Zones  []string // in which nodes can be placed, in the order in which they are used
	Region string   // "us-east-1"
	Engine Engine
	// Durability and Profile are those of groups that are made.
	Durability cluster.Durability
	Profile    string
	// TestFailovers is how many calls of TestFailover a rolling day may see, over all groups; 0: any number.
	// AWS allows 15.
	TestFailovers int
	// NodeMemory bounds what one node may use for data, in bytes, whatever its type says; 0: its type alone does.
	NodeMemory int64
	// Memory is what the machine has, in bytes; 0: not known.
	Memory int64
	// Authority is the path of the certificate that vouches for endpoints with encryption in transit.
	Authority string
	Backups   *Backups     // what snapshots are kept in; nil: there are none
	Snapshots Snapshots    // made of Backups, where that is not nil
	Notify    func(Notice) // may take a write to the store; nil: nobody is told
	Now       func() time.Time
	Logger    *slog.Logger
}

// Engine is the server that is installed.
type Engine struct {
	Name    string // "redis" or "valkey"
	Version string // "7.0.15"
}

// prefix is where all records of this package are kept.
const prefix = "/understudy/aws/elasticache/"

// Service is ElastiCache.
type Service struct {
	opts Options
	log  *slog.Logger

	groups     *shelf.Shelf[record]
	tokens     *shelf.Shelf[tokens]
	parameters *shelf.Shelf[parameterGroup]
	subnets    *shelf.Shelf[subnetGroup]
	events     *events

	mu      sync.Mutex
	ctx     context.Context // of Run; nil before and after
	making  map[string]bool // groups that are being written down
	running map[string]bool // groups whose task a goroutine carries out
	watched map[string]context.CancelFunc
	news    chan struct{} // closed, and made anew, when a record has changed
	work    sync.WaitGroup
}

// New reads what there is and starts nothing; see Run. The error names the option that is missing.
func New(ctx context.Context, o Options) (*Service, error) {
	if o.Groups == nil || o.Store == nil || len(o.Zones) == 0 || o.Engine.Name == "" || o.Engine.Version == "" {
		return nil, errors.New("elasticache: Groups, Store, Zones and Engine are needed")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Notify == nil {
		o.Notify = func(Notice) {}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Durability == "" {
		o.Durability = cluster.DurabilitySync
	}
	if o.Profile == "" {
		o.Profile = "fast"
	}
	s := &Service{
		opts: o, log: o.Logger.With("component", "elasticache"),
		groups: shelf.New[record](o.Store, prefix+"groups/"), tokens: shelf.New[tokens](o.Store, prefix+"tokens/"),
		parameters: shelf.New[parameterGroup](o.Store, prefix+"parameters/"), subnets: shelf.New[subnetGroup](o.Store, prefix+"subnets/"),
		events: newEvents(o.Store, o.Now), making: map[string]bool{}, running: map[string]bool{}, watched: map[string]context.CancelFunc{}, news: make(chan struct{}),
	}
	for _, load := range []func(context.Context) error{s.groups.Load, s.tokens.Load, s.parameters.Load, s.subnets.Load, s.events.load} {
		if err := load(ctx); err != nil {
			return nil, fmt.Errorf("elasticache: %w", err)
		}
	}
	s.openSnapshots()
	return s, nil
}

// Wire is what aws.New takes: the operations.
func (s *Service) Wire() *wire.Service {
	w := wire.NewService(wire.ElastiCache())
	wire.Handle(w, s.createReplicationGroup)
	wire.Handle(w, s.describeReplicationGroups)
	wire.Handle(w, s.modifyReplicationGroup)
	wire.Handle(w, s.deleteReplicationGroup)
	wire.Handle(w, s.testFailover)
	wire.Handle(w, s.increaseReplicaCount)
	wire.Handle(w, s.decreaseReplicaCount)
	wire.Handle(w, s.describeCacheClusters)
	wire.Handle(w, s.modifyCacheCluster)
	wire.Handle(w, s.rebootCacheCluster)
	wire.Handle(w, s.describeEvents)
	wire.Handle(w, s.describeCacheEngineVersions)
	wire.Handle(w, s.listAllowedNodeTypeModifications)
	wire.Handle(w, s.createCacheParameterGroup)
	wire.Handle(w, s.describeCacheParameterGroups)
	wire.Handle(w, s.describeCacheParameters)
	wire.Handle(w, s.describeEngineDefaultParameters)
	wire.Handle(w, s.modifyCacheParameterGroup)
	wire.Handle(w, s.resetCacheParameterGroup)
	wire.Handle(w, s.deleteCacheParameterGroup)
	wire.Handle(w, s.createCacheSubnetGroup)
	wire.Handle(w, s.describeCacheSubnetGroups)
	wire.Handle(w, s.modifyCacheSubnetGroup)
	wire.Handle(w, s.deleteCacheSubnetGroup)
	wire.Handle(w, s.listTagsForResource)
	wire.Handle(w, s.addTagsToResource)
	wire.Handle(w, s.removeTagsFromResource)
	s.serveSnapshots(w)
	return w
}

// sweepEvery is how often pending changes are looked at, old events forgotten, and groups that were made
// elsewhere taken up.
const sweepEvery = 20 * time.Second

// Run finishes what a process before left under way, and carries out what operations ask for, until ctx ends;
// what is under way then goes on at the next start.
func (s *Service) Run(ctx context.Context) error {
	s.mu.Lock()
	s.ctx = ctx
	s.mu.Unlock()
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		s.sweep(ctx)
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
	s.mu.Lock()
	s.ctx = nil
	s.mu.Unlock()
	s.work.Wait()
	return nil
}

// sweep does what nobody asks for.
func (s *Service) sweep(ctx context.Context) {
	if err := s.adopt(ctx); err != nil {
		s.log.Warn("groups are not taken up: it is tried again", "error", err)
	}
	s.events.prune(ctx)
	s.forgetTokens(ctx)
	s.takeDaily()
	for _, r := range s.groups.All() {
		s.follow(r.ID)
		if r.Task != nil {
			s.carryOut(r.ID)
		} else if r.Pending.NodeType != "" && s.inWindow(r) {
			s.applyPending(ctx, r.ID)
		}
	}
}

// Door is who gets in at a group's endpoints: whoever opens them at a start asks here.
func (s *Service) Door(group string) Door {
	r, _ := s.groups.Get(group)
	t, _ := s.tokens.Get(group)
	return Door{TLS: r.TLS, Tokens: t.Tokens, Optional: t.Optional}
}

// tokens are a group's passwords: any of them is good.
type tokens struct {
	Tokens   []string `json:"tokens"`
	Optional bool     `json:"optional,omitempty"`
}

// forgetTokens takes away the tokens of groups that a crash kept from being: they are written first.
func (s *Service) forgetTokens(ctx context.Context) {
	for _, name := range s.tokens.Names() {
		s.mu.Lock()
		making := s.making[name]
		s.mu.Unlock()
		if _, ok := s.groups.Get(name); !ok && !making {
			if err := s.tokens.Remove(ctx, name); err != nil {
				s.log.Warn("a token that nobody needs is kept: it is tried again", "group", name, "error", err)
			}
		}
	}
}

// told wakes those who wait for a change of a record.
func (s *Service) told() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.news)
	s.news = make(chan struct{})
}

// until waits until ok holds, which is asked after each change of a record.
func (s *Service) until(ctx context.Context, ok func() bool) error {
	for {
		s.mu.Lock()
		news := s.news
		s.mu.Unlock()
		if ok() {
			return nil
		}
		select {
		case <-news:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// change is shelf.change of a group, and tells those who wait.
func (s *Service) change(ctx context.Context, group string, f func(*record) error) (record, error) {
	r, err := s.groups.Change(ctx, group, f)
	if err == nil {
		s.told()
	}
	return r, err
}
