package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"understudy/cluster"
	"understudy/dashboard"
	"understudy/failover"
	"understudy/upstream"
)

// watched is a group that somebody else fails over, as this proxy sees it. Its watcher calls one func at a
// time, so that only what other goroutines read needs a lock.
type watched struct {
	f       *front
	watcher *upstream.Watcher
	profile failover.Profile
	page    *dashboard.Dashboard // nil until a node was heard of
	forget  func()               // takes the page's metrics away
	nodes   map[cluster.NodeID]*witnessed
	events  []cluster.Event // the newest, for the next page
	last    atomic.Pointer[cluster.Lead]
}

// witnessed is one of its nodes: it takes no orders.
type witnessed struct {
	of   *watched
	word atomic.Pointer[failover.Knowledge]
}

var _ dashboard.Node = (*witnessed)(nil)

// keptEvents is how many events a page that is made anew begins with.
const keptEvents = 256

// newWatched checks the configuration against its files, and starts nothing.
func newWatched(f *front) (*watched, error) {
	u := f.config.Upstream
	o, err := u.options(f.plain)
	if err != nil {
		return nil, err
	}
	w := &watched{f: f, nodes: map[cluster.NodeID]*witnessed{}, forget: func() {}, profile: u.profile(f.config.Hold)}
	w.last.Store(&cluster.Lead{})
	o.Group, o.Clock, o.OnStatus, o.OnEvent = f.config.Group, f.clock, w.hear, w.record
	o.Logger, o.Metrics = f.bare, f.metrics.Own()
	w.watcher, err = upstream.New(o)
	return w, err
}

// profile gives the group's page the times by which it judges: nobody renews anything here.
func (u *upstreamConfig) profile(hold time.Duration) failover.Profile {
	return failover.Profile{
		Name: "upstream",
		// A node that takes no connection is silent for up to a second, and counts as down after six of these.
		Renew: max(u.Interval, 400*time.Millisecond),
		// For three of these after the last permit the page says that a failover is under way: as long as
		// requests are held.
		TTL: hold / 3,
	}
}

// run watches until ctx ends.
func (w *watched) run(ctx context.Context) error {
	defer func() { w.forget() }()
	return w.watcher.Run(ctx)
}

// hear takes what the watcher says of a node.
func (w *watched) hear(at time.Duration, s cluster.NodeStatus) {
	w.f.proxy.Learn(at, s)
	n := w.nodes[s.Node]
	if n == nil {
		n = &witnessed{of: w}
		w.nodes[s.Node] = n
	}
	fresh := n.word.Load() == nil
	n.word.Store(&failover.Knowledge{At: at, Status: s})
	if fresh {
		w.show()
	}
	if w.page != nil {
		w.page.Learn(at, s)
	}
	if s.Leads && s.Permit > 0 {
		w.f.sayLed()
	}
}

// record takes an event of the watcher's.
func (w *watched) record(e cluster.Event) {
	switch e.Name {
	case "node_removed":
		if w.nodes[e.Node] != nil {
			delete(w.nodes, e.Node)
			w.show()
		}
	case "primary_found", "primary_changed":
		w.led(e)
	}
	if w.events = append(w.events, e); len(w.events) > keptEvents {
		w.events = w.events[1:]
	}
	if w.page != nil {
		w.page.Record(e)
	}
}

// led notes a new primary in the words of the record that agents keep in a store.
func (w *watched) led(e cluster.Event) {
	l := cluster.Lead{Epoch: e.Epoch, Holder: e.Node, Kind: cluster.KindFailover, Cause: e.Message, From: w.last.Load().Holder}
	if e.Name == "primary_found" {
		l.Kind = cluster.KindStart
	}
	w.last.Store(&l)
}

// show makes the group's page for the nodes that there are now.
func (w *watched) show() {
	if len(w.nodes) == 0 {
		return
	}
	c := w.f.config
	o := dashboard.Options{
		Group: c.Group, Durability: cluster.DurabilityAsync, Profile: w.profile, Nodes: map[cluster.NodeID]dashboard.Node{},
		Endpoints: w.f.endpoints(), Clock: w.f.clock, Operator: c.Upstream.operator(), Logger: w.f.plain, Mode: w.f.mode(),
		Troubles: w.f.proxy.Troubles,
	}
	for id, n := range w.nodes {
		o.Nodes[id] = n
		o.Peers = append(o.Peers, failover.Peer{Node: id, Zone: n.Knows().Status.Zone})
	}
	slices.SortFunc(o.Peers, func(a, b failover.Peer) int { return strings.Compare(string(a.Node), string(b.Node)) })
	w.forget()
	registry, forget := w.f.metrics.Add("group " + c.Group)
	w.forget, o.Metrics = forget, dashboard.Both{Registerer: registry, Gatherer: w.f.metrics}
	page, err := dashboard.New(o)
	if err != nil {
		w.f.log.Error("the group's page cannot be made", "error", err)
		return
	}
	for _, e := range w.events {
		page.Record(e)
	}
	for _, n := range w.nodes {
		if k := n.word.Load(); k != nil {
			page.Learn(k.At, k.Status)
		}
	}
	w.page = page
	handler := page.Handler()
	w.f.page.Store(&handler)
}

// doubt has every node asked at once: the proxy was refused, or lost its connection.
func (w *watched) doubt() { w.watcher.Doubt() }

// missing says why there is no page yet.
func (w *watched) missing() string {
	return "no node of the upstream is known yet: its sentinels, the API, or the names in the configuration do not answer"
}

// serverTLS says how to speak TLS with a node; nil: plain.
func (w *watched) serverTLS(base *tls.Config) func(cluster.NodeID, string) *tls.Config {
	if base == nil {
		return nil
	}
	return func(node cluster.NodeID, addr string) *tls.Config {
		c := base.Clone()
		if c.ServerName == "" {
			if c.ServerName = w.watcher.ServerName(node); c.ServerName == "" {
				c.ServerName, _, _ = net.SplitHostPort(addr)
			}
		}
		return c
	}
}

// Knows implements dashboard.Node.
func (n *witnessed) Knows() failover.Knowledge {
	k := n.word.Load()
	if k == nil {
		return failover.Knowledge{}
	}
	known := *k
	known.Store.Lead = *n.of.last.Load()
	return known
}

// Request implements dashboard.Node; a page with an operator never calls it.
func (n *witnessed) Request(context.Context, failover.Request) (failover.Reply, error) {
	return failover.Reply{}, fmt.Errorf("%s: %w", n.of.f.config.Upstream.operator(), cluster.ErrRefused)
}
