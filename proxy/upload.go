package proxy

import (
	"strings"

	"understudy/command"
	"understudy/resp"
)

// A request with a big word is passed on as it arrives, over a connection of its client's own: nobody waits
// behind it, and it is never whole in here.
//
//	client ── no faster than the server takes it ──> server: until the last byte is there nothing is carried out
//
// As much of it as keptBody is kept all the same, so that it can be sent anew like any other. What is longer
// cannot: when its connection is lost its client is told so. While there is no primary its client is not read
// from. When it is answered before its end, what is still to come of it is read and thrown away.
type upload struct {
	r     *request // nil: it has its answer
	to    *backend // gets what arrives; nil: nobody yet
	size  int      // bytes of it so far
	write bool     // it is one, between MULTI and EXEC too
	ended bool     // it has arrived, and its last part waits: see endUpload
	tail  []byte   // that part
}

const (
	// streamFrom is the length of a word from which on its command is passed on as it arrives. To copy as much
	// takes a tenth of a millisecond; a connection of its own costs about the same.
	streamFrom = 1 << 20
	// keptBody is how much of such a request is kept so that it can be sent anew, keptBodies how much of all of
	// them together.
	keptBody   = 16 << 20
	keptBodies = 256 << 20
	// passAhead is how much may wait to be written on one side before the other is not read from.
	passAhead = 256 << 10
	// passAtOnce is how much of what is passed on is read in one turn: little enough that others wait for tens
	// of microseconds, and enough that a turn costs less than the copying.
	passAtOnce = 64 << 10
)

// choke stops reading from a connection until unchoke.
func (l *loop) choke(c *conn) {
	if !c.choked {
		c.choked = true
		l.rearm(c)
	}
}

// unchoke goes on reading, with what has arrived before first.
func (l *loop) unchoke(c *conn) {
	if c.choked && !c.closed {
		c.choked = false
		l.rearm(c)
		l.loosened = append(l.loosened, c)
	}
}

// loosen gives the owners of connections that were choked what had arrived.
func (l *loop) loosen() {
	all := l.loosened
	l.loosened = nil
	for _, c := range all {
		if !c.closed && !c.choked && len(c.in) > 0 {
			c.feed(l)
		}
	}
}

// upload begins to pass on the command at the start of buf, whose end has not arrived. begun is false when it
// is read to its end as any other; ok, when it may begin now.
func (l *loop) upload(c *client, buf []byte) (begun, ok bool) {
	args, count, bulk := c.scan.Begun(buf, l.args[:0])
	l.args = args
	if bulk < streamFrom && len(buf) < keptBody || l.locked(c) {
		return false, true
	}
	info := l.streamed(args)
	switch {
	case info == nil:
		return false, true
	case c.waiting > c.onDed || c.ending:
		return false, false
	case c.kind == reader && info.Flags&command.Write != 0:
		c.up = &upload{}
		l.decline(c, errReader)
		return true, true
	}
	r := l.newRequest(c, info, nil)
	r.ded, r.up, r.arrived = true, true, l.now
	c.onDed++
	l.classifyBegun(r, args, count)
	c.up, c.slices = &upload{r: r, write: r.write}, true
	if c.multi {
		c.tx.queue(r) // its bytes come later
	}
	if bulk > wholeReply {
		l.big.note(info, args)
	}
	l.show(c, args)
	// Who waits to be rehomed is told everything again first, see restore.
	if len(c.redo) > 0 || c.away || !l.sendDedicated(c, r) {
		l.await(c, r)
	}
	return true, true
}

// streamed is the command whose first words are args, if its like is passed on as it arrives; nil: it is kept
// whole. That are those about the session and the server, which have no use for so long a word, and those of
// which no table and no server has said yet what they are.
func (l *loop) streamed(args [][]byte) *command.Info {
	if len(args) == 0 {
		return nil
	}
	info := command.Lookup(args)
	if info == nil && len(args[0]) <= longestStranger {
		info = l.strangers[strings.ToLower(string(args[0]))]
	}
	if info == nil || info.Class != command.Shared || info.Flags&(command.Container|command.Admin) != 0 || strings.Contains(info.Name, "|") {
		return nil
	}
	return info
}

// classifyBegun is classify for a command of which only the first words are known: behind them may be any key.
func (l *loop) classifyBegun(r *request, args [][]byte, count int) {
	l.classify(r, args)
	info := r.info
	r.arity = info.Arity >= 0 && count == info.Arity || info.Arity < 0 && count >= -info.Arity
	// All that is not known when the last word has begun is what that says.
	r.idem = r.write && len(args)+1 == count && info.Idempotent(append(args, nil))
	r.body = nil
	if info.FirstKey == 0 || info.FirstKey != info.LastKey || info.FirstKey >= len(args) || info.Flags&command.Movable != 0 {
		r.wide = info.Flags&command.PubSubFlag == 0
	}
}

// pour hands a connection what is kept of a request that is passed on as it arrives; the rest follows.
func (l *loop) pour(b *backend, r *request) {
	u := r.c.up
	if u.ended { // and all of it is kept
		l.uploaded(r)
		if r.write {
			l.mark(r)
		}
		l.put(b, r)
		return
	}
	l.endBatch(b)
	b.raw(r.frame)
	r.after0, r.batch, r.sentAt = unwritten, 0, l.now
	b.inflight.push(r)
	u.to = b
	l.touch(&b.conn)
	l.unchoke(&r.c.conn)
}

// flows reports whether what arrives may go where it began to go.
func (u *upload) flows(c *client) bool {
	b := u.to
	return b != nil && b == c.ded && !b.closed && b.retireAt == 0 && !b.spent
}

// pass takes more of a request that is passed on as it arrives; ok is false when what is left of buf has to
// wait.
func (l *loop) pass(c *client, buf []byte) (used int, ok bool) {
	u := c.up
	if u.ended || u.r != nil && !u.flows(c) {
		l.choke(&c.conn)
		return 0, false
	}
	n, done, err := c.scan.Skip(buf)
	if u.size += n; u.size > l.opts.InputLimit {
		l.cut(c, errInput)
		return n, false
	}
	if err != nil {
		l.malformed(c, err)
		return len(buf), false
	}
	switch part := buf[:n]; {
	case u.r == nil && done:
		c.up, c.slices = nil, false
	case u.r == nil:
	case done:
		l.keep(u.r, part)
		u.ended, u.tail = true, append([]byte(nil), part...)
		l.endUpload(c)
		ok = c.up == nil
		return n, ok
	default:
		l.keep(u.r, part)
		u.to.raw(part)
		l.touch(&u.to.conn)
		if len(u.to.out)-u.to.sent > passAhead {
			u.to.giver = &c.conn
			l.choke(&c.conn)
			return n, false
		}
		return n, n > 0
	}
	return n, n > 0
}

// keep remembers a part of a request, or forgets all of it when it is too much to be sent anew.
func (l *loop) keep(r *request, part []byte) {
	if r.shed {
		return
	}
	r.frame = append(r.frame, part...)
	r.keeps += len(part)
	l.kept += len(part)
	if len(r.frame) > keptBody || l.kept > keptBodies {
		l.kept -= r.keeps
		r.frame, r.keeps, r.shed = nil, 0, true
	}
}

// endUpload sends the last part of a request, if that may be done now. If not it waits for the end of a short
// pause, and for the next primary.
func (l *loop) endUpload(c *client) {
	u := c.up
	r, b := u.r, u.to
	switch {
	case !u.flows(c): // dedicatedLost has it, or will
		return
	case r.reader:
	case r.epoch != l.writer.Epoch || b.key.node != l.writer.Node || r.heldAt != 0 && l.now-r.heldAt >= l.opts.Hold:
		// Nobody may be told what the server would answer. It has not got the end, so it carries out nothing.
		l.drop(&b.conn, errPeerClosed)
		return
	case !l.mayWrite() || u.write && r.tx == txNone && l.writer.Hold != "":
		if r.heldAt == 0 {
			r.heldAt = l.now
			l.count.held++
		}
		l.wakeAt(max(l.coolTill, l.now+coolFor))
		l.unended = append(l.unended, c)
		return
	}
	tail := u.tail
	l.uploaded(r)
	if r.write {
		l.mark(r)
	}
	b.raw(tail)
	r.after0, r.sentAt = b.stream, l.now
	l.touch(&b.conn)
}

// endUploads sends the ends that had to wait.
func (l *loop) endUploads() {
	all := l.unended
	l.unended = nil
	for _, c := range all {
		if !c.closed && c.up != nil && c.up.r != nil && c.up.ended {
			l.endUpload(c)
		}
	}
}

// uploaded makes a request that has wholly arrived one as any other. If all of it was kept, all is known of it now.
func (l *loop) uploaded(r *request) {
	c := r.c
	u := c.up
	r.write = u.write
	if !r.shed {
		var s resp.CommandScanner
		if _, args, err := s.Scan(r.frame, nil); err == nil && len(args) > 0 {
			l.classify(r, args)
		}
	}
	if r.tx == txQueued {
		r.write = false
		c.tx.complete(r)
	}
	r.up = false
	l.leaveUpload(c)
}

// leaveUpload lets the client go on with its next command.
func (l *loop) leaveUpload(c *client) {
	c.up, c.slices = nil, false
	l.unchoke(&c.conn)
}

// answeredEarly is called when a request gets its answer before it has wholly arrived.
func (l *loop) answeredEarly(r *request) {
	r.up = false
	c := r.c
	if c.up == nil || c.up.r != r {
		return
	}
	if r.tx == txQueued {
		c.tx.forget()
	}
	if c.up.ended {
		l.leaveUpload(c)
		return
	}
	c.up.r, c.up.to = nil, nil
	l.unchoke(&c.conn)
}

// refusedEarly takes a server's answer to a request that it has not got the end of: on that connection nothing
// more can be said.
func (l *loop) refusedEarly(b *backend, r *request, reply []byte) {
	l.deliver(r, reply)
	if !b.closed {
		l.drop(&b.conn, errPeerClosed)
	}
}

// malformed ends a client whose command turned out to be none after a part of it was passed on.
func (l *loop) malformed(c *client, err error) {
	reply := resp.AppendError(nil, "ERR "+err.Error())
	if r := c.up.r; r != nil {
		q := &c.up.to.inflight
		q.replace(q.n-1, swallow) // its connection ends with the client, and the server never sees the end
		l.deliver(r, reply)
	} else {
		l.local(c, reply)
	}
	c.up = nil
	l.quit(c)
}

// tooLong answers a request whose connection was lost, and of which too little was kept to send it anew. It was
// not carried out, or doing so again changes nothing.
func (l *loop) tooLong(r *request) {
	if r.tx == txQueued {
		r.c.tx.broken = true
	}
	l.count.timedOut++
	l.count.leaked++
	l.deliver(r, []byte(errTooLong))
}

// complete replaces what the log of the transaction has of a request by all of it. What was not kept cannot be
// queued again: with its connection the transaction is lost.
func (t *transaction) complete(r *request) {
	t.hashes, t.wide = append(t.hashes, r.hashes...), t.wide || r.wide
	if r.shed {
		t.log = t.log[:len(t.log)-1]
		t.unkept = true
		return
	}
	t.log[len(t.log)-1] = append([]byte(nil), r.frame...)
}

// forget takes the request that was queued last out of the log: it was refused.
func (t *transaction) forget() {
	t.log = t.log[:len(t.log)-1]
	t.queued--
	t.broken = true
}
