package rpc

import (
	"net"
	"sync"
)

// maxConns bounds a listener's connections. Peers are few: agents, and proxies that follow them with
// one poll a node.
const maxConns = 2048

// limited closes connections beyond as many as free holds: a peer that opens them without end must not
// take this process's file descriptors.
type limited struct {
	net.Listener
	free chan struct{}
}

func (l *limited) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		select {
		case l.free <- struct{}{}:
			return &counted{Conn: c, back: sync.OnceFunc(func() { <-l.free })}, nil
		default:
			_ = c.Close()
		}
	}
}

// counted gives its place back when it is closed.
type counted struct {
	net.Conn
	back func()
}

func (c *counted) Close() error {
	defer c.back()
	return c.Conn.Close()
}
