package proxy

import (
	"crypto/tls"
	"strconv"
	"time"

	"understudy/cluster"
	"understudy/resp"
)

// laneKey names a connection that clients may share: same node, same session state.
type laneKey struct {
	node       cluster.NodeID
	db         int
	user, pass string
	proto      int
	apart      uint64 // id of a connection that nobody shares any more: see download; 0: shared
}

// backend is one connection to a redis-server. Its replies come in the order of its requests.
type backend struct {
	conn
	key       laneKey
	scan      resp.ReplyScanner
	access    cluster.Access // the user as whom the proxy logged in for sessions that name none
	addr      string         // of the server
	marker    *request       // stands in the queue for the number behind a blocking command; see follow
	markless  bool           // its user may not publish
	spent     bool           // it refused something, and only the replies under way are still taken: see overheard
	heard     []*request     // what they answered, on a client's own connection
	login     int            // replies to AUTH, HELLO and SELECT that must be good before anything else is sent
	setup     int            // replies to our own commands that are still to come
	forgets   bool           // when the setup is done its client is told to empty its cache
	setupErr  []byte         // the first of them that was an error
	id        uint64         // of the connection, among all that this proxy ever made
	number    int64          // by which the server knows it; 0: not asked
	batch     *batch         // open in this turn
	batchFrom time.Duration  // no batches before
	lingers   int            // requests that linger; 0: it is in no list of those that do
	lingerTo  time.Duration  // until when they may
	lingerAt  uint64         // of stream: what is behind it lingers
	stream    uint64         // bytes handed to the connection in its whole life
	inflight  fifo
	connectBy time.Duration // when the connection must have been made
	retireAt  time.Duration // no new requests; closed then, or when the last reply has come

	scripts map[string]struct{} // SHA-1 of those that this connection has loaded, or found loaded

	down *download // the reply that is passed on as it arrives; nil: none

	client  *client                                 // whose it is alone; nil: shared, or the proxy's own
	onReply func(l *loop, b *backend, reply []byte) // of the proxy's own connections
	onLost  func(l *loop, err error)
}

// swallow stands in a backend's queue for a request whose reply nobody waits for.
var swallow = &request{}

// open dials a node and sends the commands that bring the connection into the session's state.
func (l *loop) open(key laneKey, b *backend) (*backend, error) {
	s, ok := l.gate.Node(key.node)
	if !ok {
		return nil, errPeerClosed
	}
	fd, local, err := dial(s.Socket, s.Addr)
	if err != nil {
		l.unreached(key.node)
		return nil, err
	}
	b.fd, b.owner, b.key, b.addr = fd, b, key, s.Addr
	b.connectBy = l.now + connectFor
	var secure *tls.Config
	if l.opts.ServerTLS != nil && !local {
		secure = l.opts.ServerTLS(key.node, s.Addr)
	}
	if secure != nil {
		b.connectBy += connectFor // the handshake takes as many round trips again, and the server's time
		err = l.attachSecure(&b.conn, greeting{config: secure, within: 2 * connectFor})
	} else {
		err = l.attach(&b.conn)
	}
	if err != nil {
		return nil, err
	}
	l.backends++
	l.opened++
	l.metrics.opened.WithLabelValues(string(key.node)).Inc()
	b.id = l.opened
	if key.user == "" && key.pass == "" {
		b.access = s.Access
	}
	l.connecting = append(l.connecting, b)
	b.introduce()
	l.touch(&b.conn)
	return b, nil
}

// unreached counts a failure to reach the primary.
func (l *loop) unreached(node cluster.NodeID) {
	if node == l.writer.Node {
		l.failures++
	}
}

// introduce begins the connection with what the session's state needs. A refused epoch's user is old
// news, see refuse: nothing waits for the answer. Any other login is waited for, because what came
// behind it would run with other rights, or on another database.
func (b *backend) introduce() {
	key, user, pass := b.key, b.key.user, b.key.pass
	if b.access.User != "" {
		user, pass = b.access.User, b.access.Password
	}
	switch {
	case key.proto == 3 && pass != "":
		b.prepare("HELLO", "3", "AUTH", defaultUser(user), pass)
	case key.proto == 3:
		b.prepare("HELLO", "3")
	case user != "":
		b.prepare("AUTH", user, pass)
	case pass != "":
		b.prepare("AUTH", pass)
	}
	if key.db != 0 {
		b.prepare("SELECT", strconv.Itoa(key.db))
	}
	b.login = b.setup
	if b.access.User == "" || key.db != 0 {
		b.upto = len(b.out)
	}
}

// loggedIn takes the answer to one of the commands that bring the session's state about. Until all
// are good nothing of a client is sent: it would be carried out with another user's rights, or on
// another database.
func (b *backend) loggedIn(l *loop, reply []byte) {
	if reply[0] == '-' && b.setupErr == nil {
		b.setupErr = append([]byte(nil), reply...)
	}
	if b.login--; b.login > 0 {
		return
	}
	switch {
	case b.setupErr == nil:
		b.upto = 0
		l.touch(&b.conn)
	case b.access.User != "":
		l.refuse(b)
	default:
		b.refuseAll(l)
	}
}

// refuseAll gives everybody who waits for the connection the server's refusal of the login.
func (b *backend) refuseAll(l *loop) {
	l.endBatch(b)
	for _, r := range b.inflight.take() {
		switch {
		case r.ours():
		case r.group != nil:
			for _, m := range r.group.members {
				l.count.leaked++
				l.deliver(m, b.setupErr)
			}
			l.free(r)
		default:
			if r.tx == txEnd {
				r.c.endTx()
			}
			l.count.leaked++ // the session had logged in, on another server
			l.deliver(r, b.setupErr)
		}
	}
	if c := b.client; c != nil && !c.gone {
		l.unseat(c, b.setupErr)
	}
	l.drop(&b.conn, errPeerClosed)
}

func defaultUser(user string) string {
	if user == "" {
		return "default"
	}
	return user
}

// prepare sends a command of our own whose reply only matters when it is an error.
func (b *backend) prepare(args ...string) {
	n := len(b.out)
	b.out = resp.AppendCommand(b.out, args...)
	b.stream += uint64(len(b.out) - n)
	b.setup++
}

// lane returns the shared connection for the key, opening it when there is none.
func (l *loop) lane(key laneKey) (*backend, error) {
	if b := l.lanes[key]; b != nil && !b.closed && b.retireAt == 0 {
		return b, nil
	}
	b, err := l.open(key, &backend{})
	if err != nil {
		return nil, err
	}
	b.shared = true
	l.lanes[key] = b
	return b, nil
}

func (b *backend) need() int { return b.scan.Need() }

// received splits what arrived into replies.
func (b *backend) received(l *loop, buf []byte) int {
	if b.key.node == l.writer.Node {
		l.failures = 0
	}
	l.now = l.clock() // permits are checked against a time after the replies were made
	used := 0
	for used < len(buf) && !b.closed {
		if b.down != nil {
			n, ok := l.passReply(b, buf[used:])
			if used += n; !ok {
				break
			}
			continue
		}
		n, err := b.scan.Scan(buf[used:])
		if err != nil {
			l.drop(&b.conn, err)
			return used
		}
		if n == 0 {
			if len(buf)-used+b.scan.Need() > wholeReply && l.download(b, buf[used:]) {
				continue
			}
			break
		}
		b.reply(l, buf[used:used+n])
		used += n
	}
	if b.inflight.n == 0 && b.down == nil && !b.closed {
		switch {
		case b.retireAt != 0:
			l.drop(&b.conn, errPeerClosed)
		case b.key.apart != 0:
			l.leaveApart(b)
		}
	}
	return used
}

func (b *backend) reply(l *loop, reply []byte) {
	switch {
	case b.setup > 0 && !resp.IsPush(reply):
		b.setup--
		if b.login > 0 {
			b.loggedIn(l, reply)
		} else if reply[0] == '-' && b.client != nil && len(b.client.sticky) > 0 && !b.client.gone {
			l.count.leaked++
			l.drop(&b.client.conn, errUnkept)
		}
		if b.setup == 0 && b.forgets && !b.closed && !b.client.gone {
			l.forget(b)
		}
	case b.onReply != nil:
		b.onReply(l, b, reply)
	case b.client != nil && l.pushed(b, reply):
	case resp.IsPush(reply):
	case b.inflight.n == 0:
		l.drop(&b.conn, errPeerClosed) // a reply to nothing: never guess whose it is
	case b.spent:
		l.overheard(b, reply)
	case b.inflight.at(0).group != nil:
		l.executed(b, b.inflight.at(0), reply)
	default:
		r := b.inflight.pop()
		if r.ours() {
			if r.note != nil {
				r.note(reply)
			}
			return
		}
		if r.up {
			l.refusedEarly(b, r, reply)
			return
		}
		if r.ded && len(l.big.keys) > 0 && len(reply) < wholeReply/2 && reply[0] != '-' {
			l.big.forget(r)
		}
		if r.ded && !l.rejected(r, reply) && !l.void(r) {
			reply = l.concluded(r.c, r, reply)
		}
		l.answered(r, reply)
	}
}

// lost gives every request that was under way back.
func (b *backend) lost(l *loop, err error) {
	l.backends--
	if b.written == 0 {
		l.unreached(b.key.node)
	}
	if l.lanes[b.key] == b {
		delete(l.lanes, b.key)
	}
	if b.onLost != nil {
		b.onLost(l, err)
		return
	}
	l.halved(b)
	l.endBatch(b)
	l.accuse(b)
	requests := b.inflight.take()
	if b.client != nil {
		if b.key.node == l.writer.Node && len(requests) > 0 {
			l.doubt()
		}
		l.dedicatedLost(b.client, b, append(b.heard, requests...))
		return
	}
	if b.key.node == l.writer.Node && b.retireAt == 0 {
		l.cool()
	}
	for _, r := range requests {
		// A frame of which the last byte was not written cannot have been executed.
		executed := r.after0 <= b.written
		if r.group == nil {
			l.orphan(r, executed)
			continue
		}
		for _, m := range r.group.members {
			if executed {
				l.wonder(m, false)
			} else {
				l.again(m)
			}
		}
		l.free(r)
	}
}

// retire lets a connection to a node that is no longer the right one come to its end.
func (l *loop) retire(b *backend) {
	if b.retireAt != 0 || b.closed {
		return
	}
	l.takeBack(b)
	if b.inflight.n == 0 && b.down == nil {
		l.drop(&b.conn, errPeerClosed)
		return
	}
	b.retireAt = l.now + retireFor
	l.retiring = append(l.retiring, b)
	if l.lanes[b.key] == b {
		delete(l.lanes, b.key)
	}
}

// retireFor is how long a former primary may take to reject what it was sent. A demoted one rejects
// before the epoch moves, a dead one closes the connection: only a node behind a cut stays silent.
const retireFor = 50 * time.Millisecond

// reap closes the retiring connections whose time is over.
func (l *loop) reap() {
	kept := l.retiring[:0]
	for _, b := range l.retiring {
		switch {
		case b.closed:
		case l.now >= b.retireAt && b.down != nil && b.down.flows: // its client would have to be cut
			b.retireAt = l.now + retireFor
			kept = append(kept, b)
			l.wakeAt(b.retireAt)
		case l.now >= b.retireAt:
			l.drop(&b.conn, errPeerClosed)
		default:
			kept = append(kept, b)
			l.wakeAt(b.retireAt)
		}
	}
	clear(l.retiring[len(kept):])
	l.retiring = kept
}
