package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"understudy/cluster"
	"understudy/dashboard"
	"understudy/failover"
	"understudy/rpc"
)

// directory knows from the store what a group is and where its nodes' agents answer. What it has learned
// once it keeps: a store that is away, or empty, takes nobody's address away.
type directory struct {
	group string
	store cluster.Store
	log   *slog.Logger
	news  chan struct{} // has room for one: the spec has changed
	file  string        // keeps what is known for the next start; "": none does

	mu       sync.Mutex
	read     bool // the store has answered
	spec     *cluster.Spec
	machines map[string]cluster.Machine
	kept     []byte    // what the file says, but for when it was written
	away     time.Time // since when the store does not answer; zero: it does
}

// The bounds of the directory's calls and pauses.
const (
	lookWithin = 2 * time.Second
	lookAgain  = 500 * time.Millisecond // after a failure, and when a watch broke
	// probeEvery is how often the store is asked whether it is there: a watch says nothing while it is not.
	probeEvery = 5 * time.Second
)

func newDirectory(group string, store cluster.Store, file string, log *slog.Logger) *directory {
	d := &directory{group: group, store: store, file: file, log: log, news: make(chan struct{}, 1), machines: map[string]cluster.Machine{}}
	d.recall()
	return d
}

// run follows the store until ctx ends.
func (d *directory) run(ctx context.Context) error {
	var work sync.WaitGroup
	work.Go(func() { d.watch(ctx, cluster.SpecKey(d.group)) })
	work.Go(func() { d.watch(ctx, cluster.MachinesPrefix) })
	work.Go(func() { d.probe(ctx) })
	work.Wait()
	return nil
}

// probe notes since when the store is away.
func (d *directory) probe(ctx context.Context) {
	for ; ctx.Err() == nil; rest(ctx, probeEvery) {
		bound, cancel := context.WithTimeout(ctx, lookWithin)
		_, _, err := d.store.List(bound, cluster.SpecKey(d.group))
		cancel()
		d.mu.Lock()
		switch {
		case err == nil:
			d.away = time.Time{}
		case d.away.IsZero() && ctx.Err() == nil:
			d.away = time.Now()
		}
		d.mu.Unlock()
	}
}

// troubles say that the store is away; none: it is not, as far as is known.
func (d *directory) troubles() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.away.IsZero() {
		return nil
	}
	return []string{fmt.Sprintf("the store is unreachable from this proxy since %s: what was known of the group stays in force", d.away.UTC().Format(time.RFC3339))}
}

// watch reads the keys below a prefix, and every change of them.
func (d *directory) watch(ctx context.Context, prefix string) {
	for failing := false; ctx.Err() == nil; rest(ctx, lookAgain) {
		bound, cancel := context.WithTimeout(ctx, lookWithin)
		entries, revision, err := d.store.List(bound, prefix)
		cancel()
		if err != nil {
			if ctx.Err() == nil && !failing {
				d.log.Warn("the store does not answer: what was known of the group stays in force", "prefix", prefix, "error", err)
			}
			failing = true
			continue
		}
		if failing {
			d.log.Info("the store answers again", "prefix", prefix)
		}
		failing = false
		d.take(entries)
		for changes := range d.store.Watch(ctx, prefix, revision) {
			d.take(changes)
		}
	}
}

// take learns from records. One that makes no sense is said, and the one before stays in force.
func (d *directory) take(entries []cluster.Entry) {
	d.mu.Lock()
	defer d.mu.Unlock()
	defer d.keep()
	d.read = true
	for _, e := range entries {
		if e.Value == nil {
			continue
		}
		var err error
		if name, ok := strings.CutPrefix(e.Key, cluster.MachinesPrefix); ok {
			var m cluster.Machine
			if err = json.Unmarshal(e.Value, &m); err == nil {
				err = rpc.Valid(m.RPC)
			}
			if err == nil {
				d.machines[name] = m
			}
		} else if e.Key == cluster.SpecKey(d.group) {
			err = d.takeSpec(e.Value)
		}
		if err != nil {
			d.log.Error("a record in the store makes no sense", "key", e.Key, "error", err)
		}
	}
}

// takeSpec learns what the group is. The caller holds mu.
func (d *directory) takeSpec(text []byte) error {
	var s cluster.Spec
	if err := json.Unmarshal(text, &s); err != nil {
		return err
	}
	if len(s.Nodes) == 0 {
		return fmt.Errorf("group %s has no nodes", d.group)
	}
	d.spec = &s
	select {
	case d.news <- struct{}{}:
	default:
	}
	return nil
}

// now is the group as it is known; nil when it is not.
func (d *directory) now() *cluster.Spec {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.spec
}

// where is the rpc address of a node's agent; "" when that is not known.
func (d *directory) where(id cluster.NodeID) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.spec == nil {
		return ""
	}
	place, _ := d.spec.Place(id)
	return d.machines[place.Machine].RPC
}

// missing says why the group is not known.
func (d *directory) missing() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.read {
		return fmt.Sprintf("the store has no group %q: name it in an agent's configuration, or look for a slip in this proxy's", d.group)
	}
	return "the store does not answer yet: a majority of its members must run"
}

// sayMissing is how often the log says what a start waits for.
const sayMissing = 5 * time.Second

// follow hears what the group's nodes say, whichever these are, until ctx ends.
func (f *front) follow(ctx context.Context) error {
	say := time.NewTicker(sayMissing)
	defer say.Stop()
	var shown *cluster.Spec
	end := func() {}
	defer func() { end() }()
	for {
		select {
		case <-f.known.news:
			next := f.known.now()
			if shown != nil && sameSpec(*shown, *next) {
				continue
			}
			stop, err := f.show(ctx, *next)
			if err != nil {
				f.log.Error("the group cannot be followed as the store has it now", "error", err)
				continue
			}
			end()
			shown, end = next, stop
		case <-say.C:
			if shown == nil {
				f.log.Info("not ready yet", "reason", f.known.missing())
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// show makes the group's page and follows its nodes, until the func that it returns is called.
func (f *front) show(ctx context.Context, spec cluster.Spec) (stop func(), err error) {
	p, err := failover.ProfileByName(spec.Profile)
	if err != nil {
		return nil, err
	}
	if f.config.Hold < p.TTL {
		f.log.Warn("hold is shorter than T of the group's profile: a failover that is on its way can show as an error", "hold", f.config.Hold, "profile", p.Name, "ttl", p.TTL)
	}
	client := f.newClient(p)
	nodes, machines := map[cluster.NodeID]dashboard.Node{}, map[cluster.NodeID]string{}
	var followed []*remote
	for _, n := range spec.Nodes {
		r := &remote{id: n.ID, client: client, where: f.known.where}
		r.word.Store(&failover.Knowledge{})
		nodes[n.ID], machines[n.ID] = r, n.Machine
		followed = append(followed, r)
	}
	registry, forget := f.metrics.Add("group " + f.config.Group)
	page, err := dashboard.New(dashboard.Options{
		Group: spec.Name, Durability: spec.Durability, Profile: p, OnLostQuorum: spec.OnLostQuorum, PreferredZone: spec.PreferredZone,
		Peers: peersOf(spec), Nodes: nodes, Machines: machines, Endpoints: f.endpoints(), Clock: f.clock, Kill: killThrough(nodes),
		Metrics: dashboard.Both{Registerer: registry, Gatherer: f.metrics}, Logger: f.plain, Mode: f.mode(),
		Troubles: func() []string { return slices.Concat(f.proxy.Troubles(), f.known.troubles()) },
	})
	if err != nil {
		forget()
		return nil, err
	}
	f.shown.Store(page)
	handler := page.Handler()
	f.page.Store(&handler)
	ctx, cancel := context.WithCancel(ctx)
	var work sync.WaitGroup
	for _, r := range followed {
		work.Go(func() { f.hear(ctx, r, page) })
	}
	return func() {
		cancel()
		work.Wait()
		client.Close()
		forget()
	}, nil
}

// storeTroubles say what is wrong with the store, as this proxy and the agents see it.
func (f *front) storeTroubles() []string {
	all := f.known.troubles()
	if page := f.shown.Load(); page != nil {
		all = append(all, page.StoreTroubles()...)
	}
	return all
}

// newClient makes what asks the agents. Between regions an answer takes longer.
func (f *front) newClient(p failover.Profile) *rpc.Client {
	o := rpc.ClientOptions{}
	if p.Name == "wide" {
		o.HedgeAfter = 300 * time.Millisecond
	}
	if f.certs != nil {
		o.TLS = func(host string) *tls.Config { return f.certs.Client(host) }
	}
	return rpc.NewClient(o)
}

// hear follows one node. Its permit counts from before the question was sent.
func (f *front) hear(ctx context.Context, r *remote, page *dashboard.Dashboard) {
	var at reach
	rpc.Follow(ctx, rpc.Following{Client: r.client, To: r.to, Clock: f.clock, OnError: func(err error) {
		f.log.Debug("no word from a node", "node", string(r.id), "error", err)
	}}, func(sentAt time.Duration, w rpc.Word) {
		k := w.Knowledge(sentAt)
		r.word.Store(&k)
		f.proxy.Learn(sentAt, at.of(ctx, w.Status))
		page.Learn(sentAt, w.Status)
		for _, e := range w.Events {
			page.Record(e)
		}
		if w.Status.Leads && w.Status.Permit > 0 {
			f.sayLed()
		}
	})
}

// reach is how a node's redis-server is reached from here.
type reach struct {
	addr, socket string // as its agent says
	use          string // the address with an IP in it
	local        bool
	lookedAt     time.Time
}

// resolveAgain is how long the address of a host's name is used before it is asked for anew.
const resolveAgain = 30 * time.Second

// of returns the status with what can be used of the node's addresses: a socket only when the node runs
// on this machine, because another machine may have the same path; and an IP in place of a name, because
// the proxy's loop cannot wait for one.
func (p *reach) of(ctx context.Context, s cluster.NodeStatus) cluster.NodeStatus {
	if p.addr != s.Addr || p.socket != s.Socket || time.Since(p.lookedAt) > resolveAgain {
		if p.addr != s.Addr {
			p.use = s.Addr
		}
		p.addr, p.socket, p.lookedAt = s.Addr, s.Socket, time.Now()
		if use, err := withIP(ctx, s.Addr); err == nil {
			p.use = use
		}
		p.local = isOurs(p.use)
	}
	s.Addr = p.use
	if !p.local {
		s.Socket = ""
	}
	return s
}

// resolveWithin bounds the question for a host's address: meanwhile the node is not heard.
const resolveWithin = 200 * time.Millisecond

// withIP puts an IP address in place of the host's name.
func withIP(ctx context.Context, addr string) (string, error) {
	if _, err := netip.ParseAddrPort(addr); err == nil || addr == "" {
		return addr, nil
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, resolveWithin)
	defer cancel()
	ips, err := net.DefaultResolver.LookupHost(ctx, host)
	if err != nil {
		return "", err
	}
	return net.JoinHostPort(ips[0], port), nil
}

// isOurs reports whether an address is one of this machine's.
func isOurs(addr string) bool {
	at, err := netip.ParseAddrPort(addr)
	if err != nil {
		return false
	}
	if at.Addr().IsLoopback() {
		return true
	}
	all, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	for _, a := range all {
		if n, ok := a.(*net.IPNet); ok && n.IP.Equal(net.IP(at.Addr().AsSlice())) {
			return true
		}
	}
	return false
}
