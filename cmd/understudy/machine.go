package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"understudy/agent"
	"understudy/certs"
	"understudy/cluster"
	"understudy/dashboard"
	"understudy/etcd"
	"understudy/failover"
	"understudy/host"
	"understudy/redis"
	"understudy/rpc"
)

type logger = *slog.Logger

// stopMachineWithin bounds the end of a machine in order: its primaries hand over, and the store's
// member its lead.
const stopMachineWithin = 15 * time.Second

// machine is everything that `understudy agent` runs.
type machine struct {
	config machineConfig
	log    logger
	clock  func() time.Duration
	certs  *certs.Files // nil: no TLS

	binary  redis.Binary
	sockets string // directory of the unix sockets
	http    net.Listener
	door    *openDoor    // of http
	answers net.Listener // rpc
	rpc     *rpc.Server
	client  *rpc.Client
	fencer  *redis.Fencer
	store   *etcd.Store
	member  *etcd.Embedded // nil: this machine has no member of the store
	host    *host.Host
	metrics *dashboard.Registries
	groups  *groups
}

// prepareMachine checks and takes all that can be refused, and starts nothing: its errors are one line
// for whoever typed the command.
func prepareMachine(ctx context.Context, a *app, c machineConfig, log logger) (*machine, error) {
	m := &machine{config: c, log: log, clock: newClock(), metrics: dashboard.NewRegistries(newRegistry())}
	m.rpc = rpc.NewServer(rpc.ServerOptions{Logger: log, Metrics: m.metrics.Own()})
	var err error
	if c.TLS.empty() {
		if !loopback(c.Listen) {
			log.Warn("INSECURE: no TLS between the machines: whoever reaches these ports controls the groups and reads their data", "component", "agent", "listen", c.Listen)
		}
		m.client = rpc.NewClient(rpc.ClientOptions{HedgeAfter: c.hedgeAfter(), Metrics: m.metrics.Own()})
	} else {
		if m.certs, err = certs.Open(certs.Paths(c.TLS), log); err != nil {
			return nil, err
		}
		m.client = rpc.NewClient(rpc.ClientOptions{HedgeAfter: c.hedgeAfter(), Metrics: m.metrics.Own(), TLS: m.certs.Client})
	}
	a.onStop("connections to other agents", func(context.Context) error { m.client.Close(); return nil })
	if m.door, err = c.door().open(m.metrics.Own(), log); err != nil {
		return nil, err
	}
	if m.binary, err = redis.FindServer(ctx, c.Server); err != nil {
		return nil, err
	}
	unlock, err := lockData(c.Data)
	if err != nil {
		return nil, err
	}
	a.onStop("data directory", func(context.Context) error { return unlock() })
	if m.sockets, err = socketDir(c.Data); err != nil {
		return nil, err
	}
	a.onStop("sockets", func(context.Context) error { return os.RemoveAll(m.sockets) })
	return m, m.listen(ctx, a)
}

// hedgeAfter is above a round trip: between regions when any group spans them.
func (c *machineConfig) hedgeAfter() time.Duration {
	for _, g := range c.Groups {
		if g.Profile == "wide" {
			return 300 * time.Millisecond
		}
	}
	return 0
}

// address is where other agents and proxies reach this machine's agents.
func (m *machine) address() string { return rpc.TCP(m.config.Listen, m.config.PortBase) }

// listen takes every address before anything is started.
func (m *machine) listen(ctx context.Context, a *app) error {
	var serverTLS *tls.Config
	if m.certs != nil {
		serverTLS = m.certs.Server()
	}
	var err error
	if m.answers, err = rpc.Listen(ctx, m.address(), serverTLS); err != nil {
		return fmt.Errorf("listen and port_base: %w", err)
	}
	a.onStop("rpc listener", func(context.Context) error { return ignoreClosed(m.answers.Close()) })
	if m.http, err = (&net.ListenConfig{}).Listen(ctx, "tcp", m.config.HTTP); err != nil {
		return fmt.Errorf("http: %w", err)
	}
	a.onStop("http listener", func(context.Context) error { return ignoreClosed(m.http.Close()) })
	return nil
}

// start starts the parts, each before those that need it.
func (m *machine) start(ctx context.Context, a *app) error {
	var err error
	if m.fencer, err = redis.StartFencer(redis.FencerOptions{Logger: m.log}); err != nil {
		return err
	}
	a.onStop("fencer", m.fencer.Stop)
	if err := m.checkFences(ctx); err != nil {
		return err
	}
	if err := m.openStore(ctx, a); err != nil {
		return err
	}
	m.groups = newGroups(m)
	c := m.config
	m.host, err = host.New(host.Options{
		Machine: cluster.Machine{Name: c.Machine, Zone: c.Zone, Host: c.Listen, RPC: m.address(), HTTP: m.http.Addr().String(), Slots: c.Slots},
		Store:   m.store, Groups: c.specs(), Dir: filepath.Join(c.Data, "host"), PortBase: c.PortBase + 2, ReplaceAfter: c.Replace,
		Start: m.newNode, OnSpecs: m.groups.specs, OnEvent: m.groups.record, Clock: m.clock, Logger: m.log, Metrics: m.metrics.Own(),
	})
	if err != nil {
		return err
	}
	a.run("rpc", part{"rpc", func(ctx context.Context) error { return m.rpc.Serve(ctx, m.answers) }})
	a.run("status", part{"status", m.groups.run})
	a.run("nodes", part{"nodes", m.host.Run})
	a.run("http", part{"http", func(ctx context.Context) error { return m.groups.serve(ctx, m.http) }})
	if m.member != nil {
		a.run("store lead", part{"store lead", func(ctx context.Context) error { m.watchLead(ctx, m.member); return nil }})
	}
	return nil
}

// checkFences measures how long fencing takes here and refuses profiles that allow for less.
func (m *machine) checkFences(ctx context.Context) error {
	if len(m.config.Groups) == 0 {
		return nil
	}
	took, err := measureFence(ctx, m.fencer)
	if err != nil {
		return err
	}
	for _, g := range m.config.Groups {
		p, err := failover.ProfileByName(g.Profile)
		if err == nil {
			err = checkFence(p, took, m.log)
		}
		if err != nil {
			return coded{exitUsage, fmt.Errorf("groups: %s: %w", g.Name, err)}
		}
	}
	return nil
}

// openStore starts this machine's member, or reaches for those that there are.
func (m *machine) openStore(ctx context.Context, a *app) error {
	s := m.config.Store
	_, member := s.Embed[m.config.Machine]
	if member {
		return m.startMember(ctx, a)
	}
	endpoints := slices.Clone(s.Endpoints)
	for _, x := range m.config.membership(nil).Members {
		endpoints = append(endpoints, x.Client)
	}
	var err error
	if m.store, err = dialStore(storeAccess{endpoints, s.User, s.PasswordFile, s.TLS}, m.certs, m.log); err != nil {
		return err
	}
	a.onStop("store", func(context.Context) error { return m.store.Close() })
	return nil
}

// startMember starts the embedded member; it serves once a majority runs.
func (m *machine) startMember(ctx context.Context, a *app) error {
	var files *etcd.TLS
	if m.certs != nil {
		files = &etcd.TLS{CA: m.config.TLS.CA, Cert: m.config.TLS.Cert, Key: m.config.TLS.Key, Client: m.certs.Client}
	}
	e, err := etcd.StartEmbedded(ctx, etcd.EmbedOptions{Dir: filepath.Join(m.config.Data, "store"), Logger: m.log, Membership: m.config.membership(files)})
	if err != nil {
		return err
	}
	m.store, m.member = e.Store(), e
	a.onStop("store", e.Stop)
	a.run("store watch", part{"store", func(ctx context.Context) error { return m.watchMember(ctx, e) }})
	return nil
}

// lookAtAuthorities is how often the file of authorities is compared with the one that the member of the
// store started with.
const lookAtAuthorities = 2 * time.Second

// watchMember returns when the member ends. It restarts it when other authorities are trusted: etcd reads
// certificates for each connection, and authorities only when it starts. Members do so one after the
// other, so that a majority is always there.
func (m *machine) watchMember(ctx context.Context, e *etcd.Embedded) error {
	look := time.NewTicker(lookAtAuthorities)
	defer look.Stop()
	var with []byte
	if m.certs != nil {
		with = m.certs.Authorities()
	}
	for {
		select {
		case <-e.Ended():
			return errors.New("the store's member ended: see the log above")
		case <-ctx.Done():
			return nil
		case <-look.C:
		}
		if m.certs == nil || bytes.Equal(with, m.certs.Authorities()) {
			continue
		}
		with = m.certs.Authorities()
		turn := time.Duration(slices.Index(slices.Sorted(maps.Keys(m.config.Store.Embed)), m.config.Machine)) * memberTurn
		m.log.Info("other authorities are trusted: the store's member is started anew", "component", "agent", "in", turn)
		rest(ctx, turn)
		if ctx.Err() != nil {
			return nil
		}
		// Not ctx: a restart that is broken off would leave no member to stop.
		if err := e.Restart(context.WithoutCancel(ctx)); err != nil {
			return err
		}
	}
}

// memberTurn is longer than a member's restart takes (0.1 s), and the look before it may be late.
const memberTurn = 5 * time.Second

// rest waits a while, or for ctx's end.
func rest(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// newNode makes a node that is placed here.
func (m *machine) newNode(a host.Assignment) (host.Node, error) {
	p, err := failover.ProfileByName(a.Spec.Profile)
	if err != nil {
		return nil, err
	}
	back, err := returnNow(a.Spec.ReturnWindow)
	if err != nil {
		return nil, err
	}
	o := agent.Options{
		Group: a.Spec.Name, Nodes: peersOf(a.Spec), Durability: a.Spec.Durability, Profile: p,
		OnLostQuorum: a.Spec.OnLostQuorum, PreferredZone: a.Spec.PreferredZone, ReturnNow: back,
		Dir: filepath.Join(m.config.Data, "nodes", string(a.Place.ID)), Binary: m.binary, Host: m.config.Listen, Port: a.Port,
		Socket: filepath.Join(m.sockets, strconv.Itoa(a.Port)+".r"), Secret: a.Secret,
		Store: a.Store, RPC: m.rpc, Client: m.client, Peers: m.host.Where, Fencer: m.fencer, Clock: m.clock, Logger: m.log,
	}
	if o.TLS, err = m.nodeTLS(a.Spec); err != nil {
		return nil, err
	}
	for _, n := range o.Nodes {
		if n.Node == a.Place.ID {
			o.Self = n
		}
	}
	if o.Adopt, err = m.adoption(a.Place.ID); err != nil {
		return nil, err
	}
	registry, forget := m.metrics.Add(string(a.Place.ID))
	o.Metrics = registry
	x, err := agent.New(o)
	if err != nil {
		forget()
		return nil, err
	}
	return &node{x, m.log, forget}, nil
}

// nodeTLS is how a group's redis-servers speak TLS; nil: they do not.
func (m *machine) nodeTLS(s cluster.Spec) (*agent.TLSOptions, error) {
	switch {
	case !s.NodeTLS && !loopback(m.config.Listen):
		m.log.Warn("the redis-servers of this group speak with one another, and with proxies, in the clear", "component", "agent", "group", s.Name)
		return nil, nil
	case !s.NodeTLS:
		return nil, nil
	case m.certs == nil:
		return nil, fmt.Errorf("group %s: its redis-servers speak TLS with one another, and this machine has no certificate: set tls", s.Name)
	}
	return &agent.TLSOptions{Files: redis.TLSFiles(m.config.TLS), Client: m.certs.Client,
		InForce: func() []byte { return append(m.certs.Authorities(), m.certs.Leaf().Raw...) }}, nil
}

// adoption says which server a node takes over; nil: it runs its own.
func (m *machine) adoption(id cluster.NodeID) (*redis.AdoptOptions, error) {
	a, ok := m.config.Adopt[string(id)]
	if !ok {
		return nil, nil
	}
	o := &redis.AdoptOptions{Addr: a.Addr, Socket: a.Socket, User: a.User, Logger: m.log}
	var err error
	if o.Password, err = readPassword(a.PasswordFile); err != nil {
		return nil, fmt.Errorf("adopt: %s: %w", id, err)
	}
	return o, nil
}

// node is an agent whose metrics end with it, and that hands over before it stops.
type node struct {
	*agent.Agent
	log    logger
	forget func()
}

// handOverWithin bounds a handover at the end: a successor may be stopping, too.
const handOverWithin = 3 * time.Second

// Run implements host.Node. A primary hands over before it ends, which costs clients nothing; where
// nobody can take over it is fenced and released, as ever.
func (n *node) Run(ctx context.Context) error {
	defer n.forget()
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	done := make(chan error, 1)
	go func() { done <- n.Agent.Run(life) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	if s := n.Status(); s.Leads {
		bound, cancel := context.WithTimeout(life, handOverWithin)
		reply, err := n.Request(bound, failover.Request{ID: fmt.Sprintf("leave-%d", s.Epoch), Kind: failover.RequestSwitchover})
		cancel()
		if err != nil || !reply.OK {
			n.log.Warn("no handover before the end", "node", string(s.Node), "reason", reply.Message, "error", err)
		}
	}
	end()
	return <-done
}

// peersOf are a spec's nodes as the machine takes them.
func peersOf(s cluster.Spec) []failover.Peer {
	var peers []failover.Peer
	for _, n := range s.Nodes {
		peers = append(peers, failover.Peer{Node: n.ID, Zone: n.Zone, Priority: n.Priority})
	}
	return peers
}

// returnNow says whether a time lies in the window; nil for none.
func returnNow(text string) (func(time.Time) bool, error) {
	if text == "" {
		return nil, nil
	}
	w, err := cluster.ParseWindow(text)
	if err != nil {
		return nil, fmt.Errorf("return_window: %w", err)
	}
	return w.Contains, nil
}

// notifyReady tells systemd, when it waits for that (Type=notify), that this process serves.
func notifyReady() error {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return nil
	}
	if strings.HasPrefix(path, "@") { // an abstract socket
		path = "\x00" + path[1:]
	}
	c, err := net.Dial("unixgram", path)
	if err != nil {
		return err
	}
	// Its main process may have changed: see `understudy proxy --take-over`.
	_, err = fmt.Fprintf(c, "READY=1\nMAINPID=%d", os.Getpid())
	return errors.Join(err, c.Close())
}
