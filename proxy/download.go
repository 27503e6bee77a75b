package proxy

import (
	"hash/maphash"

	"understudy/command"
	"understudy/resp"
)

// A long reply is passed on as it arrives, and its server is not read from faster than the client reads. On a
// connection that others share that would hold them up, so the connection becomes one apart:
//
//	shared ── GET a │ GET b │ INCR c │ ...   GET a's reply is long
//	           │       │        └ stays, and is answered when a's reply has been read, at full speed
//	           │       └ reads that no other command of their client follows go over a new shared connection
//	           └ is asked again over a connection of its client's own, if others stay behind it; else passed on
//
// and what comes later goes over a new shared one. The keys of long values are remembered: commands that
// fetch them have a connection of their client's own from the start.
type download struct {
	r       *request // nil: the rest is thrown away
	size    int
	flows   bool // its client is given what arrives
	patient bool // nobody waits behind it: no faster than its client reads
}

// wholeReply is how long a reply may be that is read to its end before its client is given it. Up to here a
// read whose connection breaks is sent anew; a client that was given the half of a reply can only be cut.
const wholeReply = 4 << 20

// download begins to pass on the reply at the start of buf, whose end has not arrived; false: it is read to its
// end as any other.
func (l *loop) download(b *backend, buf []byte) bool {
	if b.setup > 0 || b.onReply != nil || b.spent || b.inflight.n == 0 || buf[0] == '-' || resp.IsPush(buf) ||
		b.client != nil && len(b.client.subs) > 0 {
		return false
	}
	r := b.inflight.at(0)
	if !r.ours() && !r.passable() || r.note != nil {
		return false
	}
	b.inflight.pop()
	d := &download{}
	b.down, b.slices = d, true
	if b.client == nil {
		l.setApart(b)
	}
	if r.ours() {
		return true
	}
	d.r, d.patient = r, b.alone(r.c)
	l.big.noteRequest(r)
	switch {
	case r.c.gone || r.quiet:
		d.r = nil
		l.deliver(r, nil)
		return true
	case !d.patient && r.c.tail == r && !r.write && r.reads() && !l.void(r):
		d.r = nil
		l.askApart(r)
		return true
	}
	r.source = b
	if r.ded && !l.void(r) {
		l.concluded(r.c, r, buf[:1])
	}
	l.answered(r, nil)
	return true
}

// passable reports whether the request's reply may be given piece by piece: nothing in it has to be looked at.
func (r *request) passable() bool {
	return r.group == nil && r.marker == nil && r.edit == nil && !r.up && !r.sub && !r.null && !r.block && !r.changesSession() &&
		(r.tx == txNone || r.tx == txEnd && len(r.c.tx.effects) == 0)
}

// setApart takes a shared connection out of use. What could be answered elsewhere goes there.
func (l *loop) setApart(b *backend) {
	l.endBatch(b)
	if l.lanes[b.key] == b {
		delete(l.lanes, b.key)
	}
	b.key.apart = b.id
	l.lanes[b.key] = b // it is still to be left when its node is
	for i := range b.inflight.n {
		x := b.inflight.at(i)
		if !x.ours() && x.group == nil && !x.write && x.reads() && x.marker == nil && x.c.head == x && x.c.tail == x && !x.c.gone {
			b.inflight.replace(i, swallow)
			l.route(x)
		}
	}
}

// alone reports whether nobody but the client waits for what the connection is still to answer.
func (b *backend) alone(c *client) bool {
	for i := range b.inflight.n {
		if x := b.inflight.at(i); !x.ours() && x.c != c {
			return false
		}
	}
	return true
}

// askApart sends a read again, over a connection of its client's own.
func (l *loop) askApart(r *request) {
	c := r.c
	r.ded, r.reader, r.batch = true, false, 0
	c.onDed++
	if len(c.redo) > 0 || c.away || !l.sendDedicated(c, r) {
		l.await(c, r)
	}
}

// flow gives a client the reply that it is the turn of, from what has arrived on.
func (l *loop) flow(r *request) {
	b := r.source
	r.done = true
	b.down.flows = true
	l.unchoke(&b.conn)
}

// passReply takes more of a reply that is passed on as it arrives; ok is false when what is left of buf has to
// wait.
func (l *loop) passReply(b *backend, buf []byte) (used int, ok bool) {
	d := b.down
	if d.r != nil && !d.flows {
		l.choke(&b.conn)
		return 0, false
	}
	n, done, err := b.scan.Skip(buf)
	if err != nil {
		l.drop(&b.conn, err)
		return n, false
	}
	if d.r != nil {
		c := d.r.c
		c.out = append(c.out, buf[:n]...)
		d.size += n
		c.biggest = max(c.biggest, d.size) // it is not cut for this one, however big
		l.touch(&c.conn)
		if !done && d.patient && c.waits() > passAhead {
			c.giver = &b.conn
			l.choke(&b.conn)
			return n, false
		}
	}
	if done {
		l.passedOn(b)
	}
	return n, n > 0
}

// passedOn is the end of a reply that was passed on.
func (l *loop) passedOn(b *backend) {
	r := b.down.r
	b.down, b.slices = nil, false
	if r == nil {
		return
	}
	r.source = nil
	c := r.c
	l.popHead(c)
	l.give(c)
}

// give gives the client the replies whose turn it is.
func (l *loop) give(c *client) {
	for c.head != nil && c.head.done {
		r := c.head
		c.out = append(c.out, r.reply...)
		if r.source != nil {
			l.flow(r)
			break
		}
		l.popHead(c)
	}
	l.touch(&c.conn)
	l.replied(c)
}

// disown has the rest of a reply thrown away that its request has no use for any more.
func (l *loop) disown(r *request) {
	b := r.source
	r.source = nil
	if b.closed || b.down == nil || b.down.r != r {
		return
	}
	b.down.r = nil
	if b.client == nil && b.inflight.n == 0 {
		l.leaveApart(b) // nobody waits behind it
		return
	}
	l.unchoke(&b.conn)
}

// leaveApart closes a connection that was set apart: that is no word about its server.
func (l *loop) leaveApart(b *backend) {
	b.retireAt = l.now
	l.drop(&b.conn, errPeerClosed)
}

// halved is called when the connection of a reply is lost that was being passed on.
func (l *loop) halved(b *backend) {
	d := b.down
	b.down = nil
	if d == nil || d.r == nil {
		return
	}
	r := d.r
	r.source = nil
	switch {
	case d.flows:
		l.count.leaked++
		l.cut(r.c, errHalf)
	case r.write || r.tx == txEnd:
		r.reply = append(r.reply[:0], errUnknown...) // it waits in a queue, and gets this in its turn
	default:
		r.reply = append(r.reply[:0], errTooLong...)
	}
}

// mostBig bounds how many keys of long values are remembered; then all are forgotten.
const mostBig = 1000

// bigKeys are the keys whose values were long, by their hashes.
type bigKeys struct {
	seed maphash.Seed
	keys map[uint64]struct{}
}

// fetches are the commands whose replies may be long because a value is.
var fetches = map[string]bool{
	"get": true, "mget": true, "getex": true, "getdel": true, "getset": true, "getrange": true, "substr": true, "dump": true,
	"lindex": true, "lrange": true, "lpop": true, "rpop": true, "hget": true, "hmget": true, "hgetall": true, "hvals": true,
	"smembers": true, "zrange": true, "sort": true, "sort_ro": true, "xrange": true, "xrevrange": true,
}

// note remembers the key of a command with one.
func (k *bigKeys) note(info *command.Info, args [][]byte) {
	if info.FirstKey == 0 || info.FirstKey != info.LastKey || info.FirstKey >= len(args) {
		return
	}
	if len(k.keys) >= mostBig {
		clear(k.keys)
	}
	k.keys[maphash.Bytes(k.seed, args[info.FirstKey])] = struct{}{}
}

// noteRequest remembers the key of a request whose reply is long.
func (k *bigKeys) noteRequest(r *request) {
	if r.info == nil || !fetches[r.info.Name] {
		return
	}
	var s resp.CommandScanner
	if _, args, err := s.Scan(r.frame, nil); err == nil && len(args) > 0 {
		k.note(r.info, args)
	}
}

// fetched reports whether a command fetches a value that was long.
func (k *bigKeys) fetched(info *command.Info, args [][]byte) bool {
	if info == nil || !fetches[info.Name] {
		return false
	}
	found := false
	info.Keys(args, func(key []byte) {
		if !found {
			_, found = k.keys[maphash.Bytes(k.seed, key)]
		}
	})
	return found
}

// forget drops the keys of a request whose reply was not long.
func (k *bigKeys) forget(r *request) {
	if r.info == nil || !fetches[r.info.Name] {
		return
	}
	var s resp.CommandScanner
	if _, args, err := s.Scan(r.frame, nil); err == nil && len(args) > 0 {
		r.info.Keys(args, func(key []byte) { delete(k.keys, maphash.Bytes(k.seed, key)) })
	}
}

// reads reports whether the server calls the command one that only reads.
func (r *request) reads() bool { return r.info != nil && r.info.Flags&command.ReadOnly != 0 }

// replace puts another request into a place of the queue.
func (q *fifo) replace(i int, r *request) { q.buf[(q.head+i)&(len(q.buf)-1)] = r }
