package drill

import (
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"
)

// The kinds of targets.
const (
	targetLocal       = "local"
	targetElastiCache = "elasticache"
	targetSentinel    = "sentinel"
	targetRedis       = "redis"
)

// place is a target, taken apart.
type place struct {
	kind string
	name string   // of the group at ElastiCache, of the master at Sentinel; of Redis the primary's address
	at   []string // the sentinels; or the primary and its replicas
}

// parseTarget reads local, elasticache://GROUP, sentinel://H:P,H:P/NAME or redis://PRIMARY,REPLICA…. Errors: ErrUsage.
func parseTarget(s string) (place, error) {
	if s == "" || s == targetLocal {
		return place{kind: targetLocal}, nil
	}
	wrong := func(why string) (place, error) {
		return place{}, fmt.Errorf("%w: target %q: %s; there are local, elasticache://GROUP, sentinel://HOST:PORT,HOST:PORT/NAME and redis://PRIMARY,REPLICA", ErrUsage, s, why)
	}
	kind, rest, ok := strings.Cut(s, "://")
	p := place{kind: kind}
	switch {
	case !ok:
		return wrong("it is unknown")
	case kind == targetElastiCache:
		if p.name = rest; rest == "" || rest != url.PathEscape(rest) {
			return wrong("the group's id is needed behind it")
		}
		return p, nil
	case kind == targetSentinel:
		rest, p.name, _ = strings.Cut(rest, "/")
		if p.name == "" {
			return wrong("what the sentinels call the master is needed behind a /")
		}
	case kind != targetRedis:
		return wrong("it is unknown")
	}
	for i, a := range strings.Split(rest, ",") {
		if host, port, err := net.SplitHostPort(a); err != nil || host == "" || port == "" {
			return wrong(fmt.Sprintf("%q is not HOST:PORT", a))
		}
		if slices.Contains(p.at, a) {
			return wrong(a + " is there twice")
		}
		if p.at = append(p.at, a); i == 0 && kind == targetRedis {
			p.name = a
		}
	}
	return p, nil
}

// remote reports whether the group is somebody else's: all guards stand before it.
func (p place) remote() bool { return p.kind != targetLocal }

// faults are those that can be injected into the target.
func (p place) faults() []string {
	switch p.kind {
	case targetElastiCache:
		return []string{"failover-api", "switchover"}
	case targetRedis:
		return slices.DeleteFunc(Faults(), func(f string) bool { return f == "switchover" || f == "failover-api" })
	}
	return slices.DeleteFunc(Faults(), func(f string) bool { return f == "failover-api" })
}

// What a run on somebody else's group is by default: canaries and not a load, and time for AWS, which takes a
// minute to fail over and several to replace a node.
const (
	remoteRate     = 200 // ops/s
	remoteWorkers  = 4
	remoteDuration = 2 * time.Minute
	remoteAt       = 15 * time.Second
	remoteRTO      = 60 * time.Second
	remotePatience = 15 * time.Minute
)

// remoteDefaults fills in what is not given.
func (o *Options) remoteDefaults() {
	for v, d := range map[*int]int{&o.Rate: remoteRate, &o.Writers: remoteWorkers, &o.Readers: remoteWorkers, &o.Budget: defaultBudget} {
		if *v == 0 {
			*v = d
		}
	}
	for v, d := range map[*time.Duration]time.Duration{&o.Duration: remoteDuration, &o.RTO: remoteRTO, &o.Patience: remotePatience,
		&o.MaxLag: defaultMaxLag, &o.AbortAfter: defaultAbortAfter, &o.Poll: defaultPoll} {
		if *v == 0 {
			*v = d
		}
	}
	if o.At == 0 {
		o.At = min(remoteAt, o.Duration/3)
	}
	if o.Fault == "" {
		o.Fault = o.place.faults()[0]
	}
}
