package proxy

import (
	"errors"

	"golang.org/x/sys/unix"
)

// owner reacts to what happens on a connection.
type owner interface {
	// received takes the bytes that arrived; it returns how many it used. What is left comes again,
	// with more behind it.
	received(l *loop, buf []byte) int
	// lost is called once, when the connection is gone.
	lost(l *loop, err error)
	// need says how many more bytes the owner waits for at least; 0 when it cannot tell.
	need() int
}

// conn is one non-blocking socket with what was not yet read by its owner and not yet written.
type conn struct {
	fd      int
	owner   owner
	in      []byte // the start of a frame whose end has not arrived
	out     []byte
	sent    int    // bytes of out that are written already
	upto    int    // of out, what may be written before the other side has agreed to the login; 0: all
	written uint64 // bytes written in the connection's whole life
	queued  bool   // in the loop's flush list
	blocked bool   // the socket takes no more: wait for EPOLLOUT
	used    bool   // since the last sweep
	seen    int    // bytes of out that weigh has seen
	biggest int    // the longest reply in out, in bytes
	mute    bool   // not reading: its client has to wait
	choked  bool   // not reading: who is given what it brings is behind, see choke
	slices  bool   // what it brings is passed on: read little at once
	giver   *conn  // choked until all of out is written
	last    bool   // close it once everything is written
	closed  bool
	shared  bool // carries what several clients send

	greeting bool    // a goroutine does the handshake: the loop only waits
	tls      *secure // nil: plain
}

// keepBuffer is the size up to which an empty buffer is kept for the next use; keepShared is that of a connection
// to a server, of which there are few and which carry what many clients send. An idle one's is given back: see
// sweep.
const (
	keepBuffer = 64 << 10
	keepShared = 1 << 20
)

// errPeerClosed: the other side closed the connection.
var errPeerClosed = errors.New("connection closed")

// errUnkept: what a client has set on its connection cannot be set on another one.
var errUnkept = errors.New("what the client has set, or is subscribed to, could not be restored")

// errDenied: the server does not know the user whom the proxy is to be.
var errDenied = errors.New("the login was refused")

func (c *conn) events() uint32 {
	var e uint32
	if !c.mute && !c.choked {
		e = unix.EPOLLIN
	}
	if c.blocked {
		e |= unix.EPOLLOUT
	}
	return e
}

// read takes what has arrived and hands it to the owner.
func (l *loop) read(c *conn) {
	if c.tls != nil {
		l.readSecure(c)
		return
	}
	buf := l.space(c)
	n, err := readNow(c.fd, buf)
	c.used = true
	if n <= 0 {
		l.readFailed(c, err)
		return
	}
	l.took(c, buf, n)
}

// space is where the next bytes go: behind what is buffered, if anything is.
func (l *loop) space(c *conn) []byte {
	if len(c.in) > 0 {
		return c.room()
	}
	if c.slices {
		return l.scratch[:passAtOnce]
	}
	return l.scratch
}

func (l *loop) readFailed(c *conn, err error) {
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
		return
	}
	if err == nil {
		err = errPeerClosed
	}
	l.drop(c, err)
}

// took hands the owner n bytes more, which are in what space returned.
func (l *loop) took(c *conn, buf []byte, n int) {
	if len(c.in) == 0 {
		used := c.owner.received(l, buf[:n])
		if !c.closed && used < n {
			c.in = append(c.in[:0], buf[used:n]...)
		}
		return
	}
	c.in = c.in[:len(c.in)+n]
	if c.feed(l); !c.closed {
		l.overfed(c)
	}
}

// feed gives the owner what is buffered.
func (c *conn) feed(l *loop) {
	used := c.owner.received(l, c.in)
	if c.closed || used == 0 {
		return
	}
	if used == len(c.in) {
		c.in = c.trim(c.in)
		return
	}
	c.in = c.in[:copy(c.in, c.in[used:])]
}

// room returns free space behind what is buffered: as much as the owner still needs, so that a big
// value is copied once.
func (c *conn) room() []byte {
	// What a client says that it will send is not yet a reason to make room for all of it.
	want := min(max(c.owner.need(), 16<<10), 1<<20)
	if cap(c.in)-len(c.in) < want {
		grown := make([]byte, len(c.in), max(2*cap(c.in), len(c.in)+want))
		copy(grown, c.in)
		c.in = grown
	}
	return c.in[len(c.in):cap(c.in)]
}

func (c *conn) trim(b []byte) []byte {
	keep := keepBuffer
	if c.shared {
		keep = keepShared
	}
	if cap(b) > keep {
		return nil
	}
	return b[:0]
}

// touch puts the connection on the list of those to be written at the end of the turn.
func (l *loop) touch(c *conn) {
	if !c.queued && !c.closed {
		c.queued = true
		l.flushing = append(l.flushing, c)
	}
}

// flush writes as much as the socket takes.
func (l *loop) flush(c *conn) {
	c.queued, c.used = false, true
	if c.closed || c.greeting {
		return
	}
	if c.blocked {
		l.full(c)
		return
	}
	end := len(c.out)
	if c.upto > 0 {
		end = c.upto
	}
	for c.unwritten(end) {
		n, err := c.write(end)
		c.sent += n
		c.written += uint64(n)
		if err != nil {
			if errors.Is(err, unix.EINTR) {
				continue
			}
			if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.ENOTCONN) {
				c.blocked = true
				l.rearm(c)
				l.full(c)
				return
			}
			l.unwritable(c, err)
			return
		}
	}
	if end < len(c.out) {
		return
	}
	c.out, c.sent, c.seen, c.biggest = c.trim(c.out), 0, 0, 0
	if c.giver != nil {
		l.unchoke(c.giver)
		c.giver = nil
	}
	if c.last {
		l.drop(c, errPeerClosed)
	}
}

// unwritable ends a connection that takes no more. A server that was killed has left its last replies: they are
// read first, because who got none would have to be told that nobody knows.
func (l *loop) unwritable(c *conn, err error) {
	_, server := c.owner.(*backend)
	if !server || c.tls != nil || !errors.Is(err, unix.EPIPE) && !errors.Is(err, unix.ECONNRESET) {
		l.drop(c, err)
		return
	}
	c.blocked = true // epoll has something to say of this connection, which ends with its end
}

func (l *loop) rearm(c *conn) {
	if c.closed || c.greeting {
		return
	}
	if err := l.poll.change(c.fd, c.events()); err != nil {
		l.drop(c, err)
	}
}

// attachSecure adds a socket on which a handshake has to be done first.
func (l *loop) attachSecure(c *conn, g greeting) error {
	if err := l.greet(c, g); err != nil {
		return errors.Join(err, unix.Close(c.fd))
	}
	l.place(c)
	return nil
}

// attach adds a socket to the loop.
func (l *loop) attach(c *conn) error {
	if err := l.poll.add(c.fd, c.events()); err != nil {
		return errors.Join(err, unix.Close(c.fd))
	}
	l.place(c)
	return nil
}

// place lets the loop know whose a descriptor is.
func (l *loop) place(c *conn) {
	for c.fd >= len(l.conns) {
		l.conns = append(l.conns, make([]*conn, 256)...)
	}
	l.conns[c.fd] = c
}

// drop ends a connection and tells its owner.
func (l *loop) drop(c *conn, err error) {
	if c.closed {
		return
	}
	c.closed = true
	l.conns[c.fd] = nil
	if c.tls != nil {
		c.tls.farewell(c.fd)
	}
	_ = unix.Close(c.fd) // which also takes it out of epoll
	c.owner.lost(l, err)
	c.in, c.out = nil, nil
}
