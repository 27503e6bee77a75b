package e2e

import (
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// relay stands between a client and an endpoint as a load balancer does, and closes what has been idle for
// relayIdle.
type relay struct {
	t      *testing.T
	target string
	l      net.Listener
	cuts   atomic.Int64
	work   sync.WaitGroup

	mu   sync.Mutex
	open map[net.Conn]net.Conn // the client's end, the endpoint's
}

func startRelay(t *testing.T, target string) *relay {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	x := &relay{t: t, target: target, l: l, open: map[net.Conn]net.Conn{}}
	x.work.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return // closed
			}
			x.work.Go(func() { x.carry(client) })
		}
	})
	return x
}

func (x *relay) addr() string { return x.l.Addr().String() }

// carry passes bytes on in both directions until either end closes, or neither has said anything for too long.
func (x *relay) carry(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", x.target)
	if err != nil {
		x.t.Errorf("the relay reaches nobody at %s: %v", x.target, err)
		return
	}
	defer server.Close()
	x.mu.Lock()
	x.open[client] = server
	x.mu.Unlock()
	defer func() {
		x.mu.Lock()
		delete(x.open, client)
		x.mu.Unlock()
	}()
	var once sync.Once
	end := func(cut bool) {
		once.Do(func() {
			if cut {
				x.cuts.Add(1)
			}
			_ = client.Close()
			_ = server.Close()
		})
	}
	idle := time.AfterFunc(relayIdle, func() { end(true) })
	defer idle.Stop()
	pass := func(from, to net.Conn) {
		p := make([]byte, 64<<10)
		for {
			n, err := from.Read(p)
			if n > 0 {
				idle.Reset(relayIdle)
				if _, werr := to.Write(p[:n]); werr != nil {
					err = werr
				}
			}
			if err != nil {
				end(false)
				return
			}
		}
	}
	x.work.Go(func() { pass(server, client) })
	pass(client, server)
}

// close ends all that it carries.
func (x *relay) close() {
	_ = x.l.Close()
	x.mu.Lock()
	for client, server := range x.open {
		_ = client.Close()
		_ = server.Close()
	}
	x.mu.Unlock()
	x.work.Wait()
}
