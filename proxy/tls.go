package proxy

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// secure is the TLS of one connection. The handshake waits for the other side, so it has a goroutine of
// its own; from then on the loop drives crypto/tls like any other parser of bytes: what has arrived goes
// in, and when that is used up crypto/tls is told that there is nothing more for now.
//
//	socket ── read ──> wire.in ── conn.Read ──> received
//	socket <─ write ── wire.out <─ conn.Write ── conn.out
type secure struct {
	conn *tls.Conn
	wire *wire
	from netip.AddrPort // as the preface says; zero: it says nothing
}

// wire is the network as crypto/tls sees it.
type wire struct {
	net.Conn        // during the handshake
	pre      []byte // was read before the handshake began
	driven   bool   // by the loop, which fills in and takes from out
	in, out  []byte // ciphertext
	sent     int    // bytes of out that are written
}

func (w *wire) Read(p []byte) (int, error) {
	if len(w.pre) > 0 {
		n := copy(p, w.pre)
		w.pre = w.pre[n:]
		return n, nil
	}
	if !w.driven {
		return w.Conn.Read(p)
	}
	if len(w.in) == 0 {
		return 0, errNothingYet
	}
	n := copy(p, w.in)
	w.in = w.in[n:]
	return n, nil
}

func (w *wire) Write(p []byte) (int, error) {
	if !w.driven {
		return w.Conn.Write(p)
	}
	w.out = append(w.out, p...)
	return len(p), nil
}

func (w *wire) SetWriteDeadline(t time.Time) error {
	if w.driven {
		return nil
	}
	return w.Conn.SetWriteDeadline(t)
}

func (w *wire) waits() bool { return w.sent < len(w.out) }

// nothingYet is an error after which crypto/tls can be asked again.
type nothingYet struct{}

func (nothingYet) Error() string   { return "nothing has arrived yet" }
func (nothingYet) Timeout() bool   { return true }
func (nothingYet) Temporary() bool { return true }

var errNothingYet net.Error = nothingYet{}

const (
	// handshakeFor bounds how long a client may take to begin: redis-server has no bound, and so keeps
	// what somebody opens who never says a word.
	handshakeFor = 10 * time.Second
	// sealAtOnce is how much is encrypted before it is written: what a socket takes at once.
	sealAtOnce = 256 << 10
	// cipherSize is how much ciphertext one read takes.
	cipherSize = 64 << 10
	// recordSize is the longest text of a TLS record (RFC 8446, 5.1).
	recordSize = 16 << 10
)

// greeting is what has to be done with a connection before the loop can serve it.
type greeting struct {
	config *tls.Config
	server bool // this side is the server
	within time.Duration
	// prefaced says that the first bytes say who the client is.
	prefaced bool
}

// greet has a goroutine do the handshake. Until it is done nothing is written, and the connection is not
// in epoll.
func (l *loop) greet(c *conn, g greeting) error {
	c.greeting = true
	network, err := ownConn(c.fd)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return errors.Join(net.ErrClosed, network.Close())
	}
	l.greeted[network] = struct{}{}
	l.work.Go(func() {
		s, err := handshake(network, g)
		l.mu.Lock()
		delete(l.greeted, network)
		l.mu.Unlock()
		err = errors.Join(err, network.Close())
		l.call(func() { l.welcome(c, s, err) })
	})
	return nil
}

// ownConn is a connection of Go's runtime on the same socket as fd; closing it leaves fd open.
func ownConn(fd int) (net.Conn, error) {
	twin, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("duplicate a socket: %w", err)
	}
	f := os.NewFile(uintptr(twin), "socket")
	c, err := net.FileConn(f)
	return c, errors.Join(err, f.Close())
}

func handshake(network net.Conn, g greeting) (*secure, error) {
	s := &secure{wire: &wire{Conn: network}}
	if g.prefaced {
		var err error
		if s.from, s.wire.pre, err = awaitPreface(network); err != nil {
			return nil, err
		}
	}
	if err := network.SetDeadline(time.Now().Add(g.within)); err != nil {
		return nil, err
	}
	if g.server {
		s.conn = tls.Server(s.wire, g.config)
	} else {
		s.conn = tls.Client(s.wire, g.config)
	}
	if err := s.conn.Handshake(); err != nil {
		return nil, err
	}
	s.wire.Conn, s.wire.driven = nil, true
	return s, nil
}

// call has the loop run f; any goroutine may call it. After the end f is forgotten.
func (l *loop) call(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return
	}
	l.calls = append(l.calls, f)
	if len(l.calls) == 1 {
		l.poll.poke()
	}
}

// answerCalls runs what other goroutines handed over.
func (l *loop) answerCalls() {
	l.mu.Lock()
	calls := l.calls
	l.calls = nil
	l.mu.Unlock()
	for _, f := range calls {
		f()
	}
}

// welcome begins to serve a connection whose handshake is over.
func (l *loop) welcome(c *conn, s *secure, err error) {
	if c.closed {
		return
	}
	c.greeting = false
	if err == nil {
		c.tls = s
		err = l.poll.add(c.fd, c.events())
	}
	if err != nil {
		l.unwelcome(c, err)
		return
	}
	if cl, ok := c.owner.(*client); ok {
		cl.isFor(s.from)
	}
	l.touch(c)
	l.decrypt(c) // what came together with the end of the handshake
}

func (l *loop) unwelcome(c *conn, err error) {
	switch o := c.owner.(type) {
	case *client:
		if errors.Is(err, errPreface) {
			l.badPreface(o, err)
			return
		}
		l.metrics.handshakes.Inc()
		l.sayRarely("a client's TLS handshake failed", "addr", o.from, "error", err)
	case *backend:
		l.sayRarely("TLS with a redis-server failed: look at its certificate, and at the authority that is configured for it", "node", o.key.node, "addr", o.addr, "error", err)
	}
	l.drop(c, err)
}

// readSecure takes what has arrived and hands the text of it to the owner.
func (l *loop) readSecure(c *conn) {
	n, err := readNow(c.fd, l.cipher)
	c.used = true
	if n <= 0 {
		l.readFailed(c, err)
		return
	}
	c.tls.wire.in = l.cipher[:n]
	l.decrypt(c)
}

// decrypt uses up the ciphertext that has arrived.
func (l *loop) decrypt(c *conn) {
	var err error
	for err == nil && !c.closed {
		buf, n, m := l.space(c), 0, 0
		for err == nil && len(buf)-n >= recordSize {
			m, err = c.tls.conn.Read(buf[n:])
			n += m
		}
		if n > 0 {
			l.took(c, buf, n)
		}
	}
	switch {
	case c.closed:
	case !errors.Is(err, errNothingYet):
		if errors.Is(err, io.EOF) {
			err = errPeerClosed
		}
		l.drop(c, err)
	case c.tls.wire.waits(): // an answer of TLS itself, to a change of keys
		l.touch(c)
	}
}

// write gives the socket more of c.out up to end, and returns how much of that the other side may come
// to see. With TLS that is what was encrypted: it counts as written before the kernel has all of it.
func (c *conn) write(end int) (n int, err error) {
	if c.tls == nil {
		n, err = writeNow(c.fd, c.out[c.sent:end])
		return max(n, 0), err
	}
	w := c.tls.wire
	if !w.waits() {
		w.out, w.sent = w.out[:0], 0
		if n, err = c.tls.conn.Write(c.out[c.sent:min(end, c.sent+sealAtOnce)]); err != nil {
			return n, err
		}
	}
	m, err := writeNow(c.fd, w.out[w.sent:])
	w.sent += max(m, 0)
	return n, err
}

// unwritten reports whether something up to end waits to be written.
func (c *conn) unwritten(end int) bool { return c.sent < end || c.tls != nil && c.tls.wire.waits() }

// farewell tells the other side that this is the end and no cut of somebody between: as far as the
// socket takes it.
func (s *secure) farewell(fd int) {
	if s.wire.waits() || s.conn.CloseWrite() != nil {
		return
	}
	_, _ = unix.Write(fd, s.wire.out)
}
