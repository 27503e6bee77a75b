package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// A process that takes another one's place is given its listening sockets, and then its clients, one by one
// as each comes to rest: everything answered and written, and nothing on a server that only the old process
// could bring to its end. Its socket goes over with what its session consists of, so that the client sees
// nothing. What has arrived in the kernel and was not read yet goes with the socket.
//
//	old: ── stops accepting ── client at rest ─> Handed + socket ──┐        until Leaving.Within is over
//	new: ── accepts ───────────────────────────────── Adopt <──────┘        or no client is left

// Handed is a client's session on its way between two processes. It holds the client's password.
type Handed struct {
	Endpoint   string         `json:"endpoint"`
	ID         uint64         `json:"id"`
	From       netip.AddrPort `json:"from"`
	DB         int            `json:"db,omitempty"`
	User       string         `json:"user,omitempty"`
	Password   string         `json:"password,omitempty"`
	Proto      int            `json:"proto"`
	Name       string         `json:"name,omitempty"`
	Library    [2]string      `json:"library"` // its name and version, by CLIENT SETINFO
	Open       bool           `json:"open,omitempty"`
	Silent     bool           `json:"silent,omitempty"`
	Unfinished []byte         `json:"unfinished,omitempty"` // of its next request; at most MostUnfinished bytes
}

// MostUnfinished bounds the part of a request that is handed over with its client, in bytes: a message over
// a unix socket holds about 200 KiB. Whose is longer is read to its end first.
const MostUnfinished = 64 << 10

// restEvery is how often all clients are looked at for one that has come to rest.
const restEvery = time.Millisecond

// Leaving says how a Proxy leaves its clients.
type Leaving struct {
	// Stopped is told once that no connection is accepted any more, and the number of the last client.
	Stopped func(lastID uint64) error
	// Give hands one client over. The socket is closed afterwards; after an error the client stays.
	Give func(fd int, h Handed) error
	// Within is how long clients may take to come to rest: subscribers, transactions, blocked ones and those
	// with TLS never may, and are cut then.
	Within time.Duration
}

// departure is the loop's side of Leave.
type departure struct {
	ready  chan departed         // clients at rest
	next   time.Duration         // when all clients are looked at again
	empty  bool                  // ready was told that nobody is left
	sealed map[*client]stillness // clients with TLS
}

type departed struct {
	fd     int
	handed Handed
	none   bool // nobody is left
}

// Listeners returns the listening sockets by the names that Options.Listeners has. They are copies, for
// another process; the caller closes them.
func (p *Proxy) Listeners() (map[string]*os.File, error) {
	all := map[string]*os.File{}
	for name, l := range p.named {
		f, err := l.File()
		if err != nil {
			for _, f := range all {
				err = errors.Join(err, f.Close())
			}
			return nil, fmt.Errorf("copy the listening socket of the %s endpoint: %w", name, err)
		}
		all[name] = f
	}
	return all, nil
}

// Open lets clients in, after Options.Shut. Their numbers begin after the one given.
func (p *Proxy) Open(lastID uint64) {
	l := p.loop
	l.call(func() {
		l.ids = max(l.ids, lastID)
		l.openDoors()
	})
}

// Adopt takes a client over from another process, with its socket. Whatever happens the socket is the
// Proxy's. Any goroutine may call it; the client may find that it was cut when too many are there.
func (p *Proxy) Adopt(fd int, h Handed) {
	l := p.loop
	l.call(func() { l.adopt(fd, h) })
}

// Leave hands every client over, and returns when none is left, or after an error. After one the proxy
// serves those that it still has, and accepts again. It is called once at a time, while Run runs.
func (p *Proxy) Leave(ctx context.Context, o Leaving) error {
	l := p.loop
	d := &departure{ready: make(chan departed, maxEvents), sealed: map[*client]stillness{}}
	last := make(chan uint64, 1)
	l.call(func() {
		l.closeDoors()
		last <- l.ids
	})
	var err error
	select {
	case id := <-last:
		err = o.Stopped(id)
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	if err == nil {
		l.call(func() { l.departure = d })
		err = p.give(ctx, d, o)
	}
	if err != nil {
		l.call(func() { l.stay(d) })
	}
	return err
}

// give takes the clients that the loop lets go, until none is left.
func (p *Proxy) give(ctx context.Context, d *departure, o Leaving) error {
	over := time.NewTimer(o.Within)
	defer over.Stop()
	for {
		select {
		case x := <-d.ready:
			if x.none {
				return nil
			}
			if err := o.Give(x.fd, x.handed); err != nil {
				p.Adopt(x.fd, x.handed)
				return fmt.Errorf("hand a client over: %w", err)
			}
			_ = unix.Close(x.fd)
		case <-over.C:
			p.loop.call(p.loop.cutRest)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (l *loop) openDoors() {
	for fd := range l.doors {
		if err := l.poll.add(fd, epollIn); err != nil && !errors.Is(err, unix.EEXIST) {
			l.log.Error("an endpoint takes no clients", "error", err)
		}
	}
}

func (l *loop) closeDoors() {
	for fd := range l.doors {
		_ = l.poll.remove(fd) // it is not there when the endpoint was never opened
	}
}

// depart lets clients go that are at rest, and stops reading from the others, so that they come to it.
func (l *loop) depart() {
	d := l.departure
	if d == nil || l.now < d.next {
		return
	}
	d.next = l.now + restEvery
	for c := range l.clients {
		if len(d.ready) == cap(d.ready) {
			break
		}
		switch {
		case c.rests():
			d.ready <- departed{fd: c.fd, handed: c.handed()}
			l.detach(c)
		case c.tls != nil && d.quiet(l, c):
			l.drop(&c.conn, errPeerClosed)
		case !c.mute && c.movable():
			c.mute = true
			l.rearm(&c.conn)
		}
	}
	if len(l.clients) == 0 && !d.empty && len(d.ready) < cap(d.ready) {
		d.empty = true
		d.ready <- departed{none: true}
	}
	if !d.empty {
		l.wakeAt(d.next)
	}
}

// stillness is since when a client was given nothing.
type stillness struct {
	written uint64
	since   time.Duration
}

// stillFor is how long a client with TLS must have been idle to be cut: nobody but this process can go on
// with its connection, and it makes a new one before its next request.
const stillFor = 500 * time.Millisecond

// quiet reports whether a client with TLS is idle.
func (d *departure) quiet(l *loop, c *client) bool {
	s, ok := d.sealed[c]
	if !ok || s.written != c.written || c.waiting > 0 {
		s = stillness{c.written, l.now}
		d.sealed[c] = s
	}
	return l.now-s.since >= stillFor && !c.tied() && len(c.in) == 0
}

// movable reports whether the client could be handed over once its requests are answered.
func (c *client) movable() bool {
	return c.tls == nil && !c.greeting && c.up == nil && !c.prefaced && !c.quitting && !c.tied() && !c.skip && len(c.in) <= MostUnfinished
}

// rests reports whether nothing of the client is under way.
func (c *client) rests() bool {
	return !c.closed && c.movable() && c.waiting == 0 && c.onDed == 0 && len(c.redo) == 0 && !c.stalled &&
		c.sent == len(c.out) && !c.blocked
}

func (c *client) handed() Handed {
	return Handed{Endpoint: c.kind.String(), ID: c.id, From: c.from, DB: c.db, User: c.user, Password: c.pass, Proto: c.proto,
		Name: c.name, Library: c.lib, Open: c.open, Silent: c.silent, Unfinished: append([]byte(nil), c.in...)}
}

// detach forgets a client without closing its socket.
func (l *loop) detach(c *client) {
	_ = l.poll.remove(c.fd)
	l.conns[c.fd] = nil
	c.closed = true
	c.lost(l, errPeerClosed)
	c.in, c.out = nil, nil
}

// adopt serves a client that another process began to serve.
func (l *loop) adopt(fd int, h Handed) {
	kind, ok := endpointNamed(h.Endpoint)
	err := error(nil)
	switch {
	case !ok:
		err = errors.Join(fmt.Errorf("no endpoint is called %q", h.Endpoint), unix.Close(fd))
	case len(l.clients) >= l.opts.MaxClients:
		l.refuseClient(fd)
		return
	default:
		err = unix.SetNonblock(fd, true)
	}
	c := &client{conn: conn{fd: fd}, kind: kind, id: h.ID, from: h.From, since: l.now, active: l.now,
		session: session{db: h.DB, user: h.User, pass: h.Password, proto: h.Proto, name: h.Name, lib: h.Library, open: h.Open, silent: h.Silent}}
	c.owner = c
	if err == nil {
		err = l.attach(&c.conn)
	}
	if err != nil {
		l.log.Warn("a client could not be taken over", "error", err)
		return
	}
	l.ids = max(l.ids, h.ID)
	l.clients[c] = struct{}{}
	if kind == split {
		l.splits++
		l.keys.raiseBarrier() // what it wrote through the other process this one has not numbered
	}
	if len(h.Unfinished) > 0 {
		c.in = append(c.in, h.Unfinished...)
		c.feed(l)
	}
}

// stay goes on with the clients that were not handed over.
func (l *loop) stay(d *departure) {
	l.departure = nil
	l.openDoors()
	for {
		select {
		case x := <-d.ready:
			if !x.none {
				l.adopt(x.fd, x.handed)
			}
			continue
		default:
		}
		break
	}
	for c := range l.clients {
		if c.mute && !c.stalled {
			c.mute = false
			l.rearm(&c.conn)
		}
	}
}

// cutRest ends the connections of those that did not come to rest in time.
func (l *loop) cutRest() {
	if n := len(l.clients); n > 0 {
		l.log.Info("clients are cut: they did not come to rest in time", "clients", n)
	}
	for c := range l.clients {
		if !c.rests() {
			l.drop(&c.conn, errPeerClosed)
		}
	}
	if l.departure != nil {
		l.departure.next = 0
	}
}

func endpointNamed(name string) (endpoint, bool) {
	for _, e := range []endpoint{primary, reader, split} {
		if e.String() == name {
			return e, true
		}
	}
	return 0, false
}

// listener is the socket for an endpoint that another process handed over, or a new one.
func (o *Options) listener(name, addr string) (*net.TCPListener, int, error) {
	if l := o.Listeners[name]; l != nil {
		fd, err := ownDescriptor(l)
		return l, fd, err
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, 0, err
	}
	tcp := l.(*net.TCPListener)
	fd, err := ownDescriptor(tcp)
	return tcp, fd, err
}
