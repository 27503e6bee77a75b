package upstream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"understudy/cluster"
)

// endpoints is a source that has names only: a group's primary endpoint, its reader endpoint, and its nodes'.
// The first two lead now to one node and now to another: each address to which they ever led is watched as a
// node, until it is silent for forgetAfter. Where the primary endpoint leads is only said, not believed:
// DNS follows a failover by up to a minute.
type endpoints struct {
	opts  ElastiCache
	again chan struct{}
	seen  map[string]time.Duration // IP:PORT: when an endpoint last led there
}

// forgetAfter is how long an address stays to which no endpoint leads any more: longer than any failover, in
// which the reader endpoint leads to one replica at a time.
const forgetAfter = 10 * time.Minute

func newEndpoints(o ElastiCache) *endpoints {
	return &endpoints{opts: o, again: make(chan struct{}, 1), seen: map[string]time.Duration{}}
}

func (e *endpoints) poke() {
	select {
	case e.again <- struct{}{}:
	default:
	}
}

func (e *endpoints) run(ctx context.Context, w *Watcher) {
	failing := false
	for {
		r, err := e.list(ctx, w)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			w.metrics.sourceFailures.Inc()
		}
		switch {
		case err != nil && !failing:
			w.tell(ctx, trouble{"source_failed", fmt.Sprintf("DNS does not say where the endpoints lead; the last list stands: %v", err)})
		case err == nil && failing:
			w.tell(ctx, trouble{"source_answers", "DNS answers again"})
		}
		failing = err != nil
		if len(r.members) > 0 {
			w.tell(ctx, r)
		}
		gap := namesEvery
		if w.hurried.Load() {
			gap /= hurry
		}
		if pause(ctx, namesEvery/closest, nil) != nil || pause(ctx, gap, e.again) != nil {
			return
		}
	}
}

// list looks all names up. A name without an address is left out, and said in the error.
func (e *endpoints) list(ctx context.Context, w *Watcher) (roster, error) {
	ctx, cancel := context.WithTimeout(ctx, namesEvery)
	defer cancel()
	var r roster
	var errs []error
	owned := map[string]int{} // IP:PORT: whose of r.members
	for _, name := range e.opts.Nodes {
		ips, err := lookUp(ctx, w, name)
		errs = append(errs, err)
		for _, ip := range ips {
			owned[ip] = len(r.members)
		}
		r.members = append(r.members, member{id: cluster.NodeID(name), addr: name, zone: e.opts.Zones[name]})
	}
	now := w.opts.Clock()
	primaries, err := lookUp(ctx, w, e.opts.Primary)
	errs = append(errs, err)
	var readers []string
	if e.opts.Reader != "" {
		readers, err = lookUp(ctx, w, e.opts.Reader)
		errs = append(errs, err)
	}
	for _, at := range append(slices.Clone(primaries), readers...) {
		e.seen[at] = now
	}
	server, _, _ := net.SplitHostPort(e.opts.Primary) // one certificate is for all names of a group
	for _, at := range e.watched(now) {
		named := slices.Contains(primaries, at)
		if i, ok := owned[at]; ok {
			r.members[i].named = r.members[i].named || named
			continue
		}
		r.members = append(r.members, member{id: cluster.NodeID(at), addr: at, server: server, named: named})
	}
	return r, errors.Join(errs...)
}

// watched are the addresses to which the endpoints led lately, in order.
func (e *endpoints) watched(now time.Duration) []string {
	var all []string
	for at, since := range e.seen {
		if now-since > forgetAfter {
			delete(e.seen, at)
			continue
		}
		all = append(all, at)
	}
	slices.Sort(all)
	return all
}

// lookUp resolves NAME:PORT into IP:PORT.
func lookUp(ctx context.Context, w *Watcher, name string) ([]string, error) {
	host, port, err := net.SplitHostPort(name)
	if err != nil {
		return nil, err
	}
	if net.ParseIP(host) != nil {
		return []string{name}, nil
	}
	ips, err := w.opts.Lookup(ctx, host)
	if err != nil {
		return nil, err
	}
	at := make([]string, 0, len(ips))
	for _, ip := range ips {
		at = append(at, net.JoinHostPort(ip, port))
	}
	return at, nil
}
