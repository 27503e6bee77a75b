package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"

	"understudy/aws"
	"understudy/aws/elasticache"
	"understudy/aws/sts"
	"understudy/certs"
	"understudy/cluster"
	"understudy/dashboard"
	"understudy/fleet"
	"understudy/proxy"
)

// startAWS makes what answers AWS's clients at the HTTP address, and has it finish what was under way.
func (g *local) startAWS(ctx context.Context, a *app, store cluster.Store) error {
	c := g.config
	if err := g.startSNS(ctx, a, store, g.metricWriter()); err != nil {
		return err
	}
	if err := g.startAlarms(ctx, a, store); err != nil {
		return err
	}
	groups, err := elasticache.New(ctx, elasticache.Options{
		Groups: awsGroups{g}, Store: store, Home: c.Group, Zones: c.Zones, Region: c.AWS.Region,
		Engine:     elasticache.Engine{Name: g.binary.Flavor, Version: g.binary.Version},
		Durability: cluster.Durability(c.Durability), Profile: c.Profile,
		TestFailovers: c.AWS.TestFailovers, NodeMemory: int64(c.AWS.NodeMemory), Memory: machineMemory(),
		Authority: filepath.Join(g.tlsDir(), certs.AuthorityCert), Backups: g.snapshots(), Notify: g.notice, Logger: g.log,
	})
	if err != nil {
		return err
	}
	g.elasticache = groups
	registry, forget := g.metrics.Add("aws")
	a.onStop("aws metrics", func(context.Context) error { forget(); return nil })
	keys, err := c.AWS.keys()
	if err != nil {
		return coded{exitUsage, fmt.Errorf("--aws-keys-file: %w", err)}
	}
	services, err := g.withCloudWatch(groups.Wire(), g.sns.Wire(), sts.New())
	if err != nil {
		return err
	}
	g.aws, err = aws.New(aws.Options{
		Services: services, Region: c.AWS.Region, Account: c.AWS.Account, Keys: keys, Metrics: registry, Logger: g.log,
	})
	return err
}

// awsGroups are the fleet's groups as the ElastiCache front needs them.
type awsGroups struct{ *local }

// Names are those of the groups that run. One that is being restored may still come to nothing.
func (a awsGroups) Names() []string { return slices.DeleteFunc(a.groupNames(), a.fleet.Restoring) }

// Find is the group of that name.
func (a awsGroups) Find(name string) (elasticache.Group, bool) {
	g, err := a.fleet.Group(name)
	if err != nil {
		return nil, false
	}
	return awsGroup{g}, true
}

// Create starts a group on addresses that are free.
func (a awsGroups) Create(ctx context.Context, spec cluster.Spec, door elasticache.Door) (elasticache.Group, error) {
	switch _, there, err := a.fleet.Spec(ctx, spec.Name); {
	case err != nil:
		return nil, err
	case there: // a process before began it; the fleet starts it
		return nil, fmt.Errorf("group %s is being started", spec.Name)
	}
	if err := a.placeEndpoints(ctx, &spec); err != nil {
		return nil, err
	}
	f, err := a.openDoor(spec.Name, spec.Listen, door)
	if err != nil {
		return nil, err
	}
	d := fleet.Definition{Spec: spec, Profile: a.profile, Proxy: f.proxy, EndMetrics: f.forget, Tap: a.config.Doors.Tap}
	// The client may be gone: what is begun goes on.
	g, err := a.fleet.Add(context.WithoutCancel(ctx), d)
	if err != nil {
		return nil, err
	}
	return awsGroup{g}, nil
}

// Remove ends a group for good.
func (a awsGroups) Remove(ctx context.Context, name string) error { return a.fleet.Remove(ctx, name) }

// placeEndpoints chooses the addresses of a new group: the port that it asks for, and the next ones that are free.
func (a awsGroups) placeEndpoints(ctx context.Context, spec *cluster.Spec) error {
	host, next := a.firstPort()
	_, wanted, _ := net.SplitHostPort(spec.Listen.Primary)
	for i, at := range []*string{&spec.Listen.Primary, &spec.Listen.Reader, &spec.Listen.Split} {
		if i == 0 && wanted != "" {
			*at = net.JoinHostPort(host, wanted)
			if _, err := freeAddr(ctx, *at); err != nil {
				return fmt.Errorf("port %s: %w: %w", wanted, elasticache.ErrAddress, err)
			}
			continue
		}
		for ; ; next++ {
			if next > 65535 {
				return fmt.Errorf("%w: no port above those of this process is free", elasticache.ErrAddress)
			}
			addr, err := freeAddr(ctx, net.JoinHostPort(host, strconv.Itoa(next)))
			if err != nil || addr == spec.Listen.Primary || addr == spec.Listen.Reader {
				if next == 0 {
					return err
				}
				continue
			}
			*at = addr
			break
		}
		if next > 0 {
			next++
		}
	}
	return nil
}

// firstPort is where further groups listen: on the host of the group of the flags, behind all of its ports; 0:
// on any port, as that does.
func (a awsGroups) firstPort() (host string, port int) {
	host = "127.0.0.1"
	for i, x := range a.config.addrs() {
		h, p, err := net.SplitHostPort(x.value)
		n, wrong := strconv.Atoi(p)
		if err != nil || wrong != nil || n == 0 {
			continue
		}
		if i == 0 {
			host = h
		}
		port = max(port, n+1)
	}
	return host, port
}

// freeAddr makes sure that an address is free, and says which one it is.
func freeAddr(ctx context.Context, addr string) (string, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// openDoor takes the addresses of a group that the AWS front made.
func (g *local) openDoor(group string, at cluster.Endpoints, door elasticache.Door) (entry, error) {
	return g.openEntry(group, at, func(o *proxy.Options) error {
		o.Logins = proxy.Logins{Passwords: door.Tokens, Optional: door.Optional}
		if !door.TLS {
			return nil
		}
		host, _, err := net.SplitHostPort(at.Primary)
		if err != nil {
			return err
		}
		files, err := g.certificates(host)
		if err != nil {
			return err
		}
		o.PrimaryTLS, o.ReaderTLS, o.SplitTLS, o.TLS = at.Primary, at.Reader, at.Split, files.Endpoint(false)
		o.Primary, o.Reader, o.Split = "", "", ""
		return nil
	})
}

// tlsDir has the authority and the certificate of groups with encryption in transit.
func (g *local) tlsDir() string { return filepath.Join(g.config.Data, "tls") }

// endpointsCert is the name of their certificate.
const endpointsCert = "endpoints"

// certificates are what such groups show, made when the first needs them.
func (g *local) certificates(host string) (*certs.Files, error) {
	dir, name := g.tlsDir(), endpointsCert
	if err := certs.Init(dir, "understudy "+g.config.Group, false); err != nil && !errors.Is(err, certs.ErrExists) {
		return nil, err
	}
	hosts := []string{"localhost", "127.0.0.1"}
	if host != "127.0.0.1" && host != "localhost" && host != "" {
		hosts = append(hosts, host)
	}
	if err := certs.Issue(dir, certs.Request{Name: name, Hosts: hosts}); err != nil && !errors.Is(err, certs.ErrExists) {
		return nil, err
	}
	return certs.Open(certs.Paths{CA: filepath.Join(dir, certs.AuthorityCert), Cert: filepath.Join(dir, name+".pem"), Key: filepath.Join(dir, name+".key")}, g.log)
}

// awsGroup is one group of the fleet.
type awsGroup struct{ *fleet.Group }

// Endpoints are where clients reach it, in the clear or over TLS.
func (g awsGroup) Endpoints() cluster.Endpoints {
	a := plainOr(g.Addrs())
	return cluster.Endpoints{Primary: a.Primary, Reader: a.Reader, Split: a.Split}
}

// Admit changes who may log in.
func (g awsGroup) Admit(door elasticache.Door) error {
	return g.SetLogins(proxy.Logins{Passwords: door.Tokens, Optional: door.Optional})
}

// Switchover has the primary hand over.
func (g awsGroup) Switchover(ctx context.Context, to cluster.NodeID) error {
	return outcome(g.Group.Switchover(ctx, dashboard.SwitchoverRequest{To: to}))
}

// Failover kills the primary, or says whether that could be.
func (g awsGroup) Failover(ctx context.Context, dry bool) error {
	return outcome(g.Group.Failover(ctx, dashboard.FailoverRequest{Asked: dashboard.Asked{DryRun: dry}}))
}

func outcome(o dashboard.Outcome) error {
	switch {
	case o.OK:
		return nil
	case o.Refused, o.Invalid:
		return fmt.Errorf("%w: %s", cluster.ErrRefused, o.Message)
	}
	return errors.New(o.Message)
}

// machineMemory is what this machine has, in bytes; 0: not known.
func machineMemory() int64 {
	var i syscall.Sysinfo_t
	if syscall.Sysinfo(&i) != nil {
		return 0
	}
	return int64(i.Totalram) * int64(i.Unit)
}
