// Package proxy keeps clients connected to the primary across failovers.
//
// It speaks RESP on endpoints that never move, forwards commands without building values, holds
// requests while there is no primary, and gives replies of writes only once they are safe.
package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	"understudy/cluster"
)

// Proxy serves a group's endpoints.
type Proxy struct {
	loop  *loop
	named map[string]*net.TCPListener // by the endpoint's name; not changed after New
	addrs Addrs
}

// Addrs are the addresses on which a Proxy listens, HOST:PORT; "" where it does not.
type Addrs struct {
	Primary, Reader, Split          string
	PrimaryTLS, ReaderTLS, SplitTLS string
}

// New listens on the endpoints. A connection that arrives before Run waits in the kernel. The error
// names the endpoint and the address that could not be taken.
func New(opts Options) (*Proxy, error) {
	if err := opts.complete(); err != nil {
		return nil, err
	}
	opts.Logger = opts.Logger.With("component", "proxy")
	l, err := newLoop(opts, newMetrics(&opts))
	if err != nil {
		return nil, err
	}
	p := &Proxy{loop: l, named: map[string]*net.TCPListener{}}
	for _, e := range []struct {
		name string
		addr string
		kind endpoint
		tls  *tls.Config
		out  *string
	}{
		{"primary", opts.Primary, primary, nil, &p.addrs.Primary},
		{"reader", opts.Reader, reader, nil, &p.addrs.Reader},
		{"split", opts.Split, split, nil, &p.addrs.Split},
		{"primary TLS", opts.PrimaryTLS, primary, opts.TLS, &p.addrs.PrimaryTLS},
		{"reader TLS", opts.ReaderTLS, reader, opts.TLS, &p.addrs.ReaderTLS},
		{"split TLS", opts.SplitTLS, split, opts.TLS, &p.addrs.SplitTLS},
	} {
		if e.addr == "" {
			continue
		}
		listener, fd, err := opts.listener(e.name, e.addr)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("listen on the %s endpoint: %w", e.name, err), p.Close())
		}
		p.named[e.name] = listener
		l.doors[fd] = door{fd: fd, kind: e.kind, tls: e.tls}
		*e.out = listener.Addr().String()
	}
	if !opts.Shut {
		l.openDoors()
	}
	return p, nil
}

// Addrs returns where the endpoints listen.
func (p *Proxy) Addrs() Addrs { return p.addrs }

// Learn tells the proxy what an agent says of its node. at is a reading of Options.Clock from when
// the status was made, or from before it was asked for: its permit counts from then. Any goroutine
// may call it; it does not block.
func (p *Proxy) Learn(at time.Duration, s cluster.NodeStatus) { p.loop.learn(at, s) }

// Run serves until ctx ends; then every connection is closed and the endpoints are free again.
func (p *Proxy) Run(ctx context.Context) error {
	err := p.loop.run(ctx)
	return errors.Join(err, p.Close())
}

// Close frees the endpoints of a Proxy that does not run.
func (p *Proxy) Close() error {
	p.loop.shut()
	var errs []error
	for _, l := range p.named {
		if err := l.Close(); !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
