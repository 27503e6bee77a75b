package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"

	"understudy/certs"
	"understudy/cluster"
	"understudy/fleet"
	"understudy/proxy"
)

// entry is a group's endpoints, and the end of their metrics.
type entry struct {
	proxy  *proxy.Proxy
	forget func()
}

// listen are the addresses of the flags; "" is where no client without TLS is served.
func (c *config) listen() cluster.Endpoints {
	return cluster.Endpoints{Primary: c.PrimaryAddr, Reader: c.ReaderAddr, Split: c.SplitAddr}
}

// openEntry takes the addresses that clients of a group use. The settings of the flags are every group's, but
// for who gets in: enter says that.
func (g *local) openEntry(group string, at cluster.Endpoints, enter func(*proxy.Options) error) (f entry, err error) {
	registry, forget := g.metrics.Add("proxy " + group)
	o := proxy.Options{
		Group: group, Primary: at.Primary, Reader: at.Reader, Split: at.Split,
		Hold: g.config.Hold, Reads: proxy.Reads(g.config.Reads), BusyPoll: proxy.DefaultBusyPoll, Clock: g.clock, Logger: g.log, Metrics: registry,
	}
	g.config.Waits.apply(&o)
	o.Troubles = func() []string { return g.storeTroubles(group) }
	if err = enter(&o); err == nil {
		f.proxy, err = proxy.New(o)
	}
	if err != nil {
		forget()
		return entry{}, err
	}
	sayTLS(f.proxy.Addrs(), g.log)
	f.forget = forget
	return f, nil
}

// storeTroubles say what is wrong with the store, as a group's agents see it.
func (g *local) storeTroubles(group string) []string {
	x, err := g.fleet.Group(group)
	if err != nil {
		return nil
	}
	return x.StoreTroubles()
}

// reopen makes the endpoints of a group that the store knows.
func (g *local) reopen(spec cluster.Spec) (fleet.Definition, error) {
	f, err := g.openDoor(spec.Name, spec.Listen, g.elasticache.Door(spec.Name))
	return fleet.Definition{Spec: spec, Proxy: f.proxy, EndMetrics: f.forget}, err
}

// endpoints are the addresses that were taken.
func (g *local) endpoints() cluster.Endpoints {
	a := plainOr(g.front.proxy.Addrs())
	return cluster.Endpoints{Primary: a.Primary, Reader: a.Reader, Split: a.Split, HTTP: g.http.Addr().String(),
		PrimaryTLS: a.PrimaryTLS, ReaderTLS: a.ReaderTLS, SplitTLS: a.SplitTLS}
}

// ping makes sure that every endpoint answers a client.
func (g *local) ping(ctx context.Context) error {
	k, err := g.config.Doors.entrance().knock()
	if err != nil {
		return err
	}
	a := g.front.proxy.Addrs()
	for at, secure := range map[string]bool{a.Primary: false, a.Reader: false, a.Split: false, a.PrimaryTLS: true, a.ReaderTLS: true, a.SplitTLS: true} {
		if at == "" {
			continue
		}
		if err := k.ping(ctx, at, secure); err != nil {
			return fmt.Errorf("endpoint %s: %w", at, err)
		}
	}
	return nil
}

// knock is how a client of our own enters an endpoint.
type knock struct {
	tls      *tls.Config
	prefaced bool // this machine's connections begin with a header of the PROXY protocol
}

func (e *entrance) knock() (k knock, err error) {
	networks, err := e.networks()
	if err != nil {
		return k, err
	}
	for _, p := range networks {
		k.prefaced = k.prefaced || p.Overlaps(netip.MustParsePrefix("127.0.0.0/8")) || p.Contains(netip.IPv6Loopback())
	}
	if e.secure() {
		files, err := certs.Open(certs.Paths{CA: e.TLSCA, Cert: e.TLSCert, Key: e.TLSKey}, nil)
		if err != nil {
			return k, err
		}
		k.tls = files.Client("")
		// Our own endpoint, which may have a certificate for another name: whether it answers is the question.
		k.tls.InsecureSkipVerify = true
	}
	return k, nil
}

// ping sends PING; where a password is needed, to be told so is an answer.
func (k knock) ping(ctx context.Context, at string, secure bool) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", at)
	if err != nil {
		return err
	}
	defer conn.Close()
	if k.prefaced {
		if _, err := io.WriteString(conn, "PROXY UNKNOWN\r\n"); err != nil {
			return err
		}
	}
	if secure {
		conn = tls.Client(conn, k.tls)
	}
	return pingOver(ctx, conn)
}

func pingOver(ctx context.Context, conn net.Conn) error {
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return err
		}
	}
	const want, locked = "+PONG\r\n", "-NOAUTH"
	answer := make([]byte, len(want))
	_, err := io.WriteString(conn, "*1\r\n$4\r\nPING\r\n")
	if err == nil {
		_, err = io.ReadFull(conn, answer)
	}
	if err == nil && string(answer) != want && string(answer) != locked {
		err = errors.New("answers PING with " + string(answer))
	}
	return err
}
