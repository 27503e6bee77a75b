package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"

	"understudy/certs"
	"understudy/cluster"
	"understudy/proxy"
)

// openEndpoints takes the addresses that clients use.
func (g *group) openEndpoints() error {
	o := proxy.Options{
		Group: g.config.Group, Primary: g.config.PrimaryAddr, Reader: g.config.ReaderAddr, Split: g.config.SplitAddr,
		Hold: g.config.Hold, Reads: proxy.Reads(g.config.Reads), Clock: g.clock, Logger: g.log, Metrics: g.metrics,
	}
	err := g.config.Doors.entrance().apply(&o, g.log)
	if err != nil {
		return err
	}
	if g.proxy, err = proxy.New(o); err == nil {
		sayTLS(g.proxy.Addrs(), g.log)
	}
	return err
}

// tap is what GET /api/tap is answered with; nil: nothing.
func (g *group) tap() http.Handler {
	if !g.config.Doors.Tap {
		return nil
	}
	return g.proxy.TapHandler()
}

// endpoints are the addresses that were taken.
func (g *group) endpoints() cluster.Endpoints {
	a := plainOr(g.proxy.Addrs())
	return cluster.Endpoints{Primary: a.Primary, Reader: a.Reader, Split: a.Split, HTTP: g.http.Addr().String()}
}

// ping makes sure that every endpoint answers a client.
func (g *group) ping(ctx context.Context) error {
	k, err := g.config.Doors.entrance().knock()
	if err != nil {
		return err
	}
	a := g.proxy.Addrs()
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
