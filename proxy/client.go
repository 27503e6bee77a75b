package proxy

import (
	"crypto/tls"
	"errors"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"understudy/cluster"
	"understudy/command"
	"understudy/resp"
)

// endpoint is what a client connected to.
type endpoint uint8

const (
	primary endpoint = iota // writes and reads, all on the primary
	reader                  // reads on replicas; writes are refused
	split                   // writes on the primary, reads on replicas that have the client's writes
)

// door is a listening socket.
type door struct {
	fd   int
	kind endpoint
	tls  *tls.Config // nil: plain
}

// client is one connection of an application, and the state of its session: that outlives every
// connection to a redis-server.
type client struct {
	conn
	kind endpoint
	id   uint64
	scan resp.CommandScanner
	session
	from      netip.AddrPort // where it connects from
	prefaced  bool           // its first bytes say so: see readPreface
	prefaceBy time.Duration  // when they must be there
	overSince time.Duration  // since when more than OutputSoft waits for it; 0: not

	head, tail *request // unanswered, oldest first
	waiting    int      // how many
	onDed      int      // of these, how many are on the dedicated connection

	since, active time.Duration // when it came, and when its last command did
	cmd           *command.Info // which that was; nil: none, or one that the table lacks

	gone     bool // the connection is closed
	stalled  bool // the next command waits until those before it are answered
	quitting bool // close when everything is answered and written

	lane, replicaLane *backend
	replica           cluster.NodeID // the replica that this client reads from
	readAt            time.Duration  // when it last did

	up *upload // the command that is passed on as it arrives; nil: none

	ded       *backend
	dedicated // state of the dedicated connection, kept over its losses
}

// session is what a connection to a redis-server must be told before it may serve the client.
type session struct {
	db         int
	user, pass string
	proto      int // 2 or 3
	name       string
	lib        [2]string // its name and version, by CLIENT SETINFO
	open       bool      // knows one of Options.Passwords, or came when none was needed
	silent     bool      // CLIENT REPLY OFF
	skip       bool      // CLIENT REPLY SKIP: the next command is not answered
}

func (c *client) laneKey(node cluster.NodeID) laneKey {
	return laneKey{node: node, db: c.db, user: c.user, pass: c.pass, proto: c.proto}
}

// acceptAtOnce bounds how many connections one turn accepts, so that those there already go on.
const acceptAtOnce = 64

func (l *loop) accept(d door) {
	for range acceptAtOnce {
		fd, from, err := unix.Accept4(d.fd, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		if errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) {
			l.outOfDescriptors(d)
			return
		}
		if err != nil {
			if !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.ECONNABORTED) {
				l.log.Warn("a connection could not be accepted", "error", err)
			}
			return
		}
		if len(l.clients) >= l.opts.MaxClients {
			l.refuseClient(fd)
			continue
		}
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
		keepAlive(fd)
		l.ids++
		c := &client{conn: conn{fd: fd}, kind: d.kind, id: l.ids, session: session{proto: 2, open: !l.entryKeys.Load().requires()}, from: addrPort(from), since: l.now}
		c.owner = c
		if err := l.admit(c, d); err != nil {
			l.log.Warn("a connection could not be served", "error", err)
			continue
		}
		l.clients[c] = struct{}{}
		l.metrics.accepted.Inc()
		if d.kind == split {
			l.splits++
		}
	}
}

// admit begins to serve a client, or to greet it.
func (l *loop) admit(c *client, d door) error {
	c.prefaced = l.introduces(c.from)
	if d.tls != nil {
		return l.attachSecure(&c.conn, greeting{config: d.tls, server: true, within: handshakeFor, prefaced: c.prefaced})
	}
	if c.prefaced {
		c.prefaceBy = l.now + prefaceFor
		l.prefaces = append(l.prefaces, c)
	}
	return l.attach(&c.conn)
}

// addrPort is a socket's address as a value; the zero one when it has none.
func addrPort(sa unix.Sockaddr) netip.AddrPort {
	switch a := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr).Unmap(), uint16(a.Port))
	default:
		return netip.AddrPort{}
	}
}

func (c *client) need() int { return c.scan.Need() }

// received takes the commands that have arrived, as far as they may begin now.
func (c *client) received(l *loop, buf []byte) int {
	used := 0
	if c.prefaced {
		var ok bool
		if used, ok = c.takePreface(l, buf); !ok {
			return used
		}
	}
	for used < len(buf) && !c.closed && !c.quitting {
		if c.up != nil {
			n, ok := l.pass(c, buf[used:])
			if used += n; !ok {
				break
			}
			continue
		}
		if c.stalled || c.waiting >= pipelineDepth {
			c.stall(l)
			break
		}
		n, args, err := c.scan.Scan(buf[used:], l.args[:0])
		if err != nil {
			l.local(c, resp.AppendError(nil, "ERR "+err.Error()))
			l.quit(c)
			return len(buf)
		}
		if n == 0 {
			begun, ok := l.upload(c, buf[used:])
			if !ok {
				c.stall(l)
			}
			if !begun {
				break
			}
			continue
		}
		l.args = args
		if len(args) > 0 {
			if buf[used] != '*' && command.HTTP(args) {
				l.local(c, []byte(httpRefusal))
				l.quit(c)
				return len(buf)
			}
			if !l.command(c, args, buf[used:used+n]) {
				c.stall(l)
				break
			}
			l.show(c, args)
		}
		used += n
	}
	return used
}

// pipelineDepth is how many commands of one client may be under way; the rest waits in its socket.
const pipelineDepth = 4096

// stall stops reading from the client until its earlier commands are answered.
func (c *client) stall(l *loop) {
	c.stalled = true
	if !c.mute {
		c.mute = true
		l.rearm(&c.conn)
	}
}

// replied lets a client go on that waited for its replies.
func (l *loop) replied(c *client) {
	c.weigh()
	if c.waiting == 0 && (c.stalled || c.quitting) {
		l.resuming = append(l.resuming, c)
	}
}

// resume goes on with what the client had sent already.
func (c *client) resume(l *loop) {
	switch {
	case c.closed:
	case c.quitting:
		c.last = true
		l.touch(&c.conn)
	case c.stalled && c.waiting == 0:
		c.stalled, c.mute = false, false
		l.rearm(&c.conn)
		if len(c.in) > 0 && !c.closed {
			c.feed(l)
		}
	}
}

// quit closes the connection once everything is answered and written.
func (l *loop) quit(c *client) {
	c.quitting = true
	if c.waiting == 0 {
		l.resuming = append(l.resuming, c)
	}
}

// lost forgets a client that is gone. What it sent before is carried out, as by redis-server.
func (c *client) lost(l *loop, _ error) {
	c.gone = true
	delete(l.clients, c)
	if c.kind == split {
		l.splits--
	}
	for r := c.head; r != nil; {
		next := r.after
		if r.done {
			l.free(r)
		}
		r = next
	}
	c.head, c.tail = nil, nil
	if c.ded != nil {
		l.drop(&c.ded.conn, errPeerClosed)
	}
	for _, r := range c.redo {
		l.unmark(r)
		l.free(r)
	}
	c.redo = nil
}

// local answers a command that no server needs to see.
func (l *loop) local(c *client, reply []byte) {
	l.deliver(l.newRequest(c, nil, nil), reply)
}

// command begins one command; false: it has to wait until those before it are answered.
func (l *loop) command(c *client, args [][]byte, frame []byte) bool {
	info := command.Lookup(args)
	c.active, c.cmd = l.now, info
	if l.minds(info) {
		var done, ok bool
		if args, frame, done, ok = l.atTheDoor(c, info, args, frame); done {
			return ok
		}
	}
	if info == nil {
		if command.CrossProtocol(args) {
			l.local(c, []byte(errHTTP))
			l.quit(c)
			return true
		}
		return l.stranger(c, args, frame)
	}
	switch info.Class {
	case command.Refused:
		if !l.allowed[info.Name] {
			l.decline(c, errRefused(info.Name))
			return true
		}
	case command.Session:
		return l.session(c, info, args, frame)
	case command.Dedicated:
		if isStop(info) {
			return l.stopScript(c, info, args, frame)
		}
		return l.exclusive(c, info, args, frame)
	case command.Transaction, command.PubSub:
		return l.exclusive(c, info, args, frame)
	case command.Blocking:
		if info.Blocks(args) {
			return l.exclusive(c, info, args, frame)
		}
	}
	if info.Flags&(command.Admin|command.PubSubFlag) != 0 {
		return l.administer(c, info, args, frame)
	}
	return l.ordinary(c, info, args, frame)
}

// ordinary routes a command that may share a connection, unless the client's state ties it to its
// own.
func (l *loop) ordinary(c *client, info *command.Info, args [][]byte, frame []byte) bool {
	return l.ordinaryEdited(c, info, args, frame, nil)
}

// ordinaryEdited is ordinary for a command of which the answer is edited; nil: it is not.
func (l *loop) ordinaryEdited(c *client, info *command.Info, args [][]byte, frame []byte, e edit) bool {
	if c.tied() {
		return l.exclusiveEdited(c, info, args, frame, e)
	}
	if info == whoami && len(args) == 2 {
		return l.whoAmI(c)
	}
	if c.onDed > 0 {
		return false // order: the commands before it are on another connection
	}
	if len(l.big.keys) > 0 && l.big.fetched(info, args) && (c.kind != reader || info.Flags&command.Write == 0) {
		return l.exclusiveEdited(c, info, args, frame, e)
	}
	if c.kind == reader && info != nil && info.Flags&command.Write != 0 {
		l.local(c, []byte(errReader))
		return true
	}
	r := l.newRequest(c, info, frame)
	l.classify(r, args)
	if e != nil {
		r.edit = e
	}
	l.route(r)
	return true
}
