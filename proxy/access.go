package proxy

import (
	"math"
	"slices"
	"time"

	"understudy/command"
	"understudy/failover"
	"understudy/resp"
)

// A primary lets the proxy in as the user of its epoch, which demotion deletes; a replica as one that
// only reads. Sessions that name no user of their own are carried out as that user. What a server says
// of it is therefore news of the epoch, and never the client's affair.

// deniedFor is the pause after a server refused the epoch's user: what the agents say of it is old, or
// is ahead of the server, and newer words end the pause.
const deniedFor = 10 * time.Millisecond

// refuse deals with a server that does not know the user whom its agent named. The login was not waited
// for, so what followed it may have run as the server's default user, if that may do anything: nothing of
// that is given to a client. What the server refused is sent anew.
func (l *loop) refuse(b *backend) {
	l.log.Debug("a redis-server refuses the user that its agent named", "node", b.key.node, "user", b.access.User)
	if b.key.node == l.writer.Node {
		l.coolTill = l.now + deniedFor
	} else {
		l.reads = slices.DeleteFunc(l.reads, func(r failover.Reader) bool { return r.Node == b.key.node })
	}
	l.wakeAt(l.now + deniedFor)
	if b.onReply != nil {
		l.drop(&b.conn, errDenied)
		return
	}
	l.spend(b)
}

// spend has a connection come to its end: nothing more is written, and of what was written before the
// replies say what is to be sent anew.
func (l *loop) spend(b *backend) {
	l.endBatch(b)
	b.spent, b.blocked = true, true
	if b.allHeard() {
		l.drop(&b.conn, errDenied)
		return
	}
	l.retire(b)
}

// allHeard reports whether nothing that was written waits for its reply.
func (b *backend) allHeard() bool { return b.inflight.n == 0 || b.inflight.at(0).after0 > b.written }

// overheard takes a reply of a connection that is spent.
func (l *loop) overheard(b *backend, reply []byte) {
	x := b.inflight.at(0)
	if x.group != nil && x.group.skip > 0 {
		x.group.skip--
		return
	}
	b.inflight.pop()
	refused := l.notRun(x, reply)
	switch {
	case x.ours():
	case b.client != nil:
		if refused {
			x.after0 = unwritten
		}
		b.heard = append(b.heard, x)
	case x.group == nil:
		l.orphan(x, !refused)
	default:
		for _, m := range x.group.members {
			if refused {
				l.again(m)
			} else {
				l.wonder(m, false)
			}
		}
		l.free(x)
	}
	if b.allHeard() {
		l.drop(&b.conn, errDenied)
	}
}

// unwritten is the place of a frame of which it is certain that it was not executed.
const unwritten = math.MaxUint64

// notRun reports whether the reply says that nothing was executed.
func (l *loop) notRun(x *request, reply []byte) bool {
	switch string(resp.ErrorCode(reply)) {
	case "NOAUTH", "EXECABORT":
		return true
	case "":
		return false
	}
	return x.group == nil && !x.ours() && l.rejected(x, reply)
}

// anonymous reports whether the session names no user of its own.
func (s *session) anonymous() bool { return s.user == "" && s.pass == "" }

// leaveOld retires the connections that were opened as somebody else than their nodes ask for now, or
// to where a node was before.
func (l *loop) leaveOld() {
	for key, b := range l.lanes {
		if l.outdated(b) {
			l.retire(l.lanes[key])
		}
	}
	for c := range l.clients {
		if c.ded != nil && l.outdated(c.ded) {
			l.retire(c.ded)
		}
	}
	for _, b := range []*backend{l.commits.b, l.bracket.b, l.tracker.b} {
		if b != nil && l.outdated(b) {
			l.drop(&b.conn, errPeerClosed)
		}
	}
}

// outdated reports whether a connection would be made otherwise now. While nobody leads none to the primary
// is: replies are still on their way.
func (l *loop) outdated(b *backend) bool {
	s, _ := l.gate.Node(b.key.node)
	switch {
	case b.closed || b.retireAt != 0 || b.key.node == l.writer.Node && !s.Leads:
		return false
	case s.Addr != "" && s.Addr != b.addr:
		return true
	default:
		return b.key.user == "" && b.key.pass == "" && s.Access.User != "" && s.Access != b.access
	}
}

// whoami is answered here: the name of the epoch's user says nothing to a client.
var whoami = command.Lookup([][]byte{[]byte("ACL"), []byte("WHOAMI")})

func (l *loop) whoAmI(c *client) bool {
	if c.onDed > 0 {
		return false // AUTH may be among what comes before it
	}
	l.local(c, resp.AppendBulk(nil, []byte(defaultUser(c.user))))
	return true
}
