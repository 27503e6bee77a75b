package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"

	"understudy/cluster"
	"understudy/proxy"
)

// openEndpoints takes the addresses that clients use.
func (g *group) openEndpoints() error {
	var err error
	g.proxy, err = proxy.New(proxy.Options{
		Group: g.config.Group, Primary: g.config.PrimaryAddr, Reader: g.config.ReaderAddr, Split: g.config.SplitAddr,
		Hold: g.config.Hold, Reads: proxy.Reads(g.config.Reads), Clock: g.clock, Logger: g.log, Metrics: g.metrics,
	})
	return err
}

// endpoints are the addresses that were taken.
func (g *group) endpoints() cluster.Endpoints {
	a := g.proxy.Addrs()
	return cluster.Endpoints{Primary: a.Primary, Reader: a.Reader, Split: a.Split, HTTP: g.http.Addr().String()}
}

// ping makes sure that every endpoint answers a client.
func (g *group) ping(ctx context.Context) error {
	e := g.endpoints()
	for _, at := range []string{e.Primary, e.Reader, e.Split} {
		if err := pingOne(ctx, at); err != nil {
			return fmt.Errorf("endpoint %s: %w", at, err)
		}
	}
	return nil
}

func pingOne(ctx context.Context, at string) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", at)
	if err != nil {
		return err
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return err
		}
	}
	const want = "+PONG\r\n"
	answer := make([]byte, len(want))
	_, err = io.WriteString(conn, "*1\r\n$4\r\nPING\r\n")
	if err == nil {
		_, err = io.ReadFull(conn, answer)
	}
	if err == nil && string(answer) != want {
		err = errors.New("answers PING with " + string(answer))
	}
	return err
}
