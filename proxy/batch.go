package proxy

import (
	"bytes"
	"strconv"
	"time"

	"understudy/command"
	"understudy/resp"
)

// A write that must not be executed twice travels in a batch: MULTI, a PUBLISH of the batch's number
// on the proxy's own channel, the writes of this turn, EXEC. Replicas apply a batch whole, and tell
// whoever subscribes on them of the number. After the primary is lost the new one's witness (see
// witness.go) therefore knows of every batch whether it is in the log that lives on:
//
//	number seen        executed: a reply that we have may be given once it is safe
//	number not seen    never executed in this log: it may be sent again
//
// The PUBLISH changes no data. Batches are only made in durability sync.
type batch struct {
	number  uint64
	members []*request
	skip    int    // replies that come before EXEC's
	refused []byte // the first of them that was an error
}

const (
	// batchMembers bounds a batch: EXEC holds up other clients of the server meanwhile.
	batchMembers = 128
	// batchPause is how long a connection goes without batches after the server refused one: the
	// cause, maxmemory for example, rarely goes away at once.
	batchPause = 100 * time.Millisecond
)

// mayBatch reports whether EXEC would take the command as the server takes it alone.
func (r *request) mayBatch() bool {
	return r.info != nil && r.arity && r.info.Flags&command.NoMulti == 0 && r.info.Class == command.Shared
}

// needsBatch reports whether losing the reply would leave a question that only a batch answers.
func (l *loop) needsBatch(b *backend, r *request) bool {
	return r.write && !r.idem && l.demand.Least > 0 && l.now >= b.batchFrom && r.mayBatch()
}

// put hands the request to the connection, within a batch where that is needed.
func (l *loop) put(b *backend, r *request) {
	switch {
	case b.batch != nil && r.mayBatch():
	case r.reader || r.ded || !l.needsBatch(b, r):
		l.endBatch(b)
		l.putAlone(b, r)
		return
	default:
		l.beginBatch(b)
	}
	l.introduceScript(b, r)
	b.raw(r.frame)
	r.batch, r.sentAt = b.batch.number, l.now
	b.batch.members = append(b.batch.members, r)
	if len(b.batch.members) == batchMembers {
		l.endBatch(b)
	}
}

// putAlone hands the request to the connection as it is.
func (l *loop) putAlone(b *backend, r *request) {
	from := b.stream
	l.introduceScript(b, r)
	b.raw(r.frame)
	r.after0, r.batch, r.sentAt = b.stream, 0, l.now
	b.inflight.push(r)
	if r.c.kind == split && r.write {
		l.linger(b, from)
	} else {
		l.touch(&b.conn)
	}
}

func (l *loop) beginBatch(b *backend) {
	b.raw(multiFrame)
	b.batch = &batch{number: l.publishNumber(b)}
	l.batching = append(l.batching, b)
	l.touch(&b.conn)
}

var (
	multiFrame = resp.AppendCommand(nil, "MULTI")
	execFrame  = resp.AppendCommand(nil, "EXEC")
)

// publishNumber has the server publish the next number, and of which connection it is, because only the numbers of
// one connection come in their order.
func (l *loop) publishNumber(b *backend) uint64 {
	l.batches++
	mark := strconv.FormatUint(b.id, 10) + " " + strconv.FormatUint(l.batches, 10)
	b.raw(resp.AppendCommand(l.line[:0], "PUBLISH", l.channel, mark))
	return l.batches
}

// endBatch closes the batch that the connection may have open.
func (l *loop) endBatch(b *backend) {
	if b.batch == nil {
		return
	}
	b.raw(execFrame)
	x := l.spare()
	x.group, x.after0 = b.batch, b.stream
	x.group.skip = 2 + len(x.group.members) // MULTI, PUBLISH and each member answer once before EXEC
	b.inflight.push(x)
	b.batch = nil
}

// endBatches closes every open batch, before the turn's bytes are written.
func (l *loop) endBatches() {
	for _, b := range l.batching {
		l.endBatch(b)
	}
	l.batching = l.batching[:0]
}

// executed takes a reply that belongs to the batch at the head of the connection's queue.
func (l *loop) executed(b *backend, x *request, reply []byte) {
	g := x.group
	if g.skip > 0 {
		g.skip--
		if reply[0] == '-' && g.refused == nil {
			g.refused = append([]byte(nil), reply...)
		}
		return
	}
	b.inflight.pop()
	l.free(x)
	if reply[0] != '*' {
		l.refused(b, g, reply)
		return
	}
	rest := reply[bytes.Index(reply, crlf)+2:]
	var s resp.ReplyScanner
	n, _ := s.Scan(rest) // PUBLISH's number of receivers
	for i, r := range g.members {
		rest = rest[n:]
		var err error
		if n, err = s.Scan(rest); err != nil || n == 0 {
			// Not the answer to this batch: nothing on this connection can be trusted any more.
			for _, r := range g.members[i:] {
				l.orphan(r, true)
			}
			l.drop(&b.conn, errPeerClosed)
			return
		}
		l.answered(r, rest[:n])
	}
}

// refused deals with a batch of which nothing was executed.
func (l *loop) refused(b *backend, g *batch, reply []byte) {
	why := g.refused
	if why == nil {
		why = reply
	}
	if l.rejected(g.members[0], why) {
		for _, r := range g.members {
			l.again(r)
		}
		return
	}
	b.batchFrom = l.now + batchPause
	if string(resp.ErrorCode(why)) == "NOPERM" {
		b.batchFrom = never // the session's user may not publish
	}
	l.endBatch(b) // what goes alone must not go into the batch that this turn has begun
	for _, r := range g.members {
		if b.closed || b.retireAt != 0 || !l.mayWrite() {
			l.again(r)
			continue
		}
		l.putAlone(b, r)
	}
}

const never = time.Duration(1<<63 - 1)
