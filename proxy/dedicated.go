package proxy

import (
	"bytes"
	"strconv"
	"strings"
	"time"

	"understudy/command"
	"understudy/resp"
)

// dedicated is the state of a client that needs a connection of its own: everything that is needed
// to build the same connection again on another node.
type dedicated struct {
	multi     bool     // between MULTI and EXEC
	watching  bool     // WATCH holds
	watchLost bool     // a WATCH could not be kept: EXEC answers nil
	ending    bool     // EXEC, DISCARD or UNWATCH is under way
	txBroken  bool     // a queued command was given up: EXEC must fail
	txLog     [][]byte // WATCH, MULTI and what was queued, in order
	txWrite   bool
	txWide    bool
	txOnce    bool // something in it must not be executed twice
	txScript  bool // something in it is a script
	txHashes  []uint32

	subs      map[string]bool // kind and channel -> confirmed
	expects   int             // confirmations that the client waits for
	leaving   int             // of these, of UNSUBSCRIBE
	swallowed int             // confirmations that nobody waits for

	sticky  []setting  // CLIENT TRACKING and the like
	caching []byte     // CLIENT CACHING, until the command that it is about is answered
	redo    []*request // wait for a connection, in order
	away    bool       // in the loop's list of homeless clients
}

// tied reports whether every command of the client must go to its own connection.
func (d *dedicated) tied() bool {
	return d.multi || d.watching || d.ending || len(d.subs) > 0 || d.expects > 0 || len(d.sticky) > 0
}

// setting is a command that set something on the connection, to be sent again on another one.
type setting struct {
	name  string
	frame []byte
}

// idleBlock reports whether the connection only waits for something to happen on the server.
func (b *backend) idleBlock() bool { return b.inflight.n == 1 && b.inflight.at(0).block }

// exclusive sends a command over the client's own connection; false: it has to wait until those
// before it are answered.
func (l *loop) exclusive(c *client, info *command.Info, args [][]byte, frame []byte) bool {
	if c.waiting > c.onDed || c.ending {
		return false
	}
	if info != nil && info.Class == command.Dedicated {
		if name, refused := refusedHere(info, args); refused {
			l.local(c, []byte(errRefused(name)))
			return true
		}
	}
	r := l.newRequest(c, info, frame)
	r.ded, r.block = true, info != nil && info.Class == command.Blocking && info.Blocks(args)
	r.arrived = l.now
	c.onDed++
	l.classify(r, args)
	if c.multi && r.body != nil {
		l.spellOut(r)
	}
	if !l.begin(c, r, args) {
		return true
	}
	// Who waits to be rehomed is told everything again first, see restore.
	if len(c.redo) > 0 || c.away || !l.sendDedicated(c, r) {
		l.await(c, r)
	}
	return true
}

// begin notes what the command does to the session; false: it has been answered already.
func (l *loop) begin(c *client, r *request, args [][]byte) bool {
	name := ""
	if r.info != nil {
		name = r.info.Name
	}
	switch name {
	case "exec", "discard":
		if name == "exec" && c.txBroken {
			c.endTx()
			l.deliver(r, []byte("-EXECABORT Transaction discarded because of previous errors.\r\n"))
			return false
		}
		c.ending = c.multi || c.watching
		r.tx = txEnd
		if name == "exec" && c.multi {
			r.write, r.wide, r.idem = c.txWrite, c.txWide, !c.txOnce && !c.watching
			r.script = c.txScript
			r.hashes = append(r.few[:0], c.txHashes...)
		}
	case "unwatch":
		if !c.multi {
			c.ending, r.tx = true, txEnd
		}
	case "multi":
		c.multi = true
		c.enqueue(r)
	case "watch":
		c.watching = true
		c.enqueue(r)
	default:
		switch {
		case c.multi:
			c.queue(r)
		case r.info != nil && r.info.Class == command.PubSub:
			c.subscribe(name, args)
			r.sub = true
		}
	}
	return true
}

// enqueue logs a command that has to be sent again when the connection is lost before EXEC.
func (d *dedicated) enqueue(r *request) {
	r.tx = txQueued
	r.write = false // it is executed by EXEC
	d.txLog = append(d.txLog, append([]byte(nil), r.frame...))
}

// queue adds what a queued command will do to what EXEC does.
func (d *dedicated) queue(r *request) {
	if r.write {
		d.txWrite = true
		d.txOnce = d.txOnce || !r.idem
	}
	d.txWide = d.txWide || r.wide
	d.txScript = d.txScript || r.script
	d.txHashes = append(d.txHashes, r.hashes...)
	d.enqueue(r)
}

func (d *dedicated) endTx() {
	d.multi, d.watching, d.watchLost, d.ending, d.txBroken = false, false, false, false, false
	d.txLog, d.txWrite, d.txWide, d.txOnce, d.txScript, d.txHashes = nil, false, false, false, false, nil
}

// subscribe predicts the subscriptions that the command leaves, and counts its confirmations.
func (d *dedicated) subscribe(name string, args [][]byte) {
	if d.subs == nil {
		d.subs = map[string]bool{}
	}
	kind := strings.Replace(name, "unsubscribe", "subscribe", 1)
	if kind == name {
		for _, a := range args[1:] {
			if k := kind + " " + string(a); !d.subs[k] {
				d.subs[k] = false
			}
		}
		d.expects += len(args) - 1
		return
	}
	n := len(args) - 1
	for _, a := range args[1:] {
		delete(d.subs, kind+" "+string(a))
	}
	if n == 0 {
		for k := range d.subs {
			if strings.HasPrefix(k, kind+" ") {
				delete(d.subs, k)
				n++
			}
		}
		n = max(n, 1)
	}
	d.expects += n
	d.leaving += n
}

// sendDedicated sends over the client's own connection; false when there is none to send on now.
func (l *loop) sendDedicated(c *client, r *request) bool {
	if c.ded == nil && !l.openDedicated(c) {
		return false
	}
	b := c.ded
	if b.closed || b.retireAt != 0 {
		return false
	}
	if c.kind == reader {
		r.reader = true
	} else {
		if !l.mayWrite() || b.key.node != l.writer.Node || r.write && l.writer.Hold != "" {
			return false
		}
		r.epoch, r.replid, r.offset = l.writer.Epoch, l.writer.ReplID, 0
		if r.order == 0 {
			l.orders++
			r.order = l.orders
		}
		if r.write {
			l.mark(r)
		}
	}
	r.waits = false
	if r.heldAt != 0 && r.block {
		l.rewriteTimeout(r)
	}
	if r.tx == txEnd && c.watchLost && r.info.Name == "exec" {
		r.null = true
		b.raw(resp.AppendCommand(nil, "DISCARD"))
		r.after0 = b.stream
		b.inflight.push(r)
		l.touch(&b.conn)
		return true
	}
	if r.sub {
		b.raw(r.frame)
		l.touch(&b.conn)
		l.deliver(r, nil) // its answers come as confirmations
		return true
	}
	if r.info != nil && (r.info.Name == "wait" || r.info.Name == "waitaof") {
		// On a connection that has run nothing yet WAIT returns at once; after any command it covers
		// all that was answered before, the client's writes on other connections among it.
		b.raw(ping)
		b.inflight.push(swallow)
	}
	l.put(b, r)
	return true
}

func (b *backend) raw(frame []byte) {
	b.out = append(b.out, frame...)
	b.stream += uint64(len(frame))
}

// openDedicated connects, and tells the server all that the client's session consists of.
func (l *loop) openDedicated(c *client) bool {
	node := l.writer.Node
	if c.kind == reader {
		n, ok := l.replicaFor(c, nil)
		if !ok {
			if !l.mayWrite() {
				return false
			}
			n = l.writer.Node
		}
		node = n
	} else if !l.mayWrite() {
		return false
	}
	b, err := l.open(c.laneKey(node), &backend{client: c})
	if err != nil {
		l.cool()
		return false
	}
	if c.name != "" {
		b.prepare("CLIENT", "SETNAME", c.name)
	}
	for _, s := range c.sticky {
		b.raw(s.frame)
		b.setup++
	}
	c.ded = b
	return true
}

// restore brings a new connection to where the lost one was.
func (l *loop) restore(c *client) {
	b := c.ded
	for k := range c.subs {
		kind, channel, _ := strings.Cut(k, " ")
		b.raw(resp.AppendCommand(nil, kind, channel))
		if c.subs[k] {
			c.swallowed++
		}
	}
	l.restoreTracking(c)
	pending := 0
	for _, r := range c.redo {
		if r.tx == txQueued {
			pending++
		}
	}
	for _, frame := range c.txLog[:len(c.txLog)-pending] {
		b.raw(frame)
		b.inflight.push(swallow)
	}
	l.touch(&b.conn)
}

// await keeps a command until the client has a connection again.
func (l *loop) await(c *client, r *request) {
	if r.heldAt == 0 {
		r.heldAt = l.now
		l.count.held++
	}
	c.redo = append(c.redo, r)
	l.goHome(c)
}

func (l *loop) goHome(c *client) {
	l.wakeAt(max(l.coolTill, l.now+coolFor))
	if !c.away {
		c.away = true
		l.homeless = append(l.homeless, c)
	}
}

// rehome gives clients that lost their connection a new one.
func (l *loop) rehome() {
	homeless := l.homeless
	l.homeless = nil
	for _, c := range homeless {
		c.away = false
		if c.gone || c.ded != nil && (c.ded.retireAt != 0 || c.ded.closed) {
			if !c.gone {
				l.goHome(c)
			}
			continue
		}
		if c.ded == nil {
			if !l.openDedicated(c) {
				l.goHome(c)
				continue
			}
			l.restore(c)
		}
		redo := c.redo
		c.redo = nil
		for i, r := range redo {
			if !l.sendDedicated(c, r) {
				c.redo = append(c.redo, redo[i:]...)
				l.goHome(c)
				break
			}
		}
	}
}

// dedicatedLost sorts out what was under way on a client's own connection.
func (l *loop) dedicatedLost(c *client, b *backend, requests []*request) {
	if c.ded == b {
		c.ded = nil
	}
	if c.gone {
		for _, r := range requests {
			if r != swallow {
				l.unmark(r)
				l.free(r)
			}
		}
		return
	}
	var again []*request
	for _, r := range requests {
		switch {
		case r == swallow:
		case r.culprit && r.after0 <= b.written:
			if r.tx == txEnd {
				again = l.endUnknown(c, again)
			}
			l.unknown(r, endlessScript)
		case r.write && !r.idem && !r.block && !r.reader && r.after0 <= b.written:
			if r.tx == txEnd {
				again = l.endUnknown(c, again)
			}
			l.unknown(r, "sent on a connection of its own, and not answered")
		default:
			l.unsend(r)
			again = append(again, r)
		}
	}
	c.redo = append(again, c.redo...)
	c.watchLost = c.watchLost || c.watching
	c.swallowed = 0
	if c.leaving > 0 {
		l.count.leaked++
		l.drop(&c.conn, errPeerClosed) // which of its subscriptions ended cannot be told
		return
	}
	if len(c.redo) > 0 || c.tied() {
		l.goHome(c)
	}
}

// endUnknown ends a transaction of which it is not known whether EXEC ran: what came before EXEC and was
// not answered yet is not sent anew. It gets the answer that it must have had, because clients expect the
// outcome in EXEC's. It returns the other requests.
func (l *loop) endUnknown(c *client, requests []*request) (others []*request) {
	c.endTx()
	for _, r := range requests {
		switch {
		case r.tx != txQueued:
			others = append(others, r)
		case r.info != nil && (r.info.Name == "multi" || r.info.Name == "watch"):
			l.deliver(r, []byte(replyOK))
		default:
			l.deliver(r, []byte("+QUEUED\r\n"))
		}
	}
	return others
}

// redoDedicated sends a rejected command, and all behind it, over a new connection.
func (l *loop) redoDedicated(r *request) {
	c := r.c
	if c.gone {
		l.unmark(r)
		l.free(r)
		return
	}
	b := c.ded
	if b == nil || b.closed {
		l.unsend(r)
		c.redo = append(c.redo, r)
		l.goHome(c)
		return
	}
	r.after0 = unwritten
	b.heard = append(b.heard, r)
	l.spend(b) // and with its end all behind it is sent anew: see dedicatedLost
}

// concluded notes what a reply changes in the session, and returns what the client is to be told.
func (l *loop) concluded(c *client, r *request, reply []byte) []byte {
	switch {
	case r.tx == txEnd:
		c.endTx()
		if r.null {
			reply = resp.AppendNull(nil, c.proto)
			if c.proto == 2 {
				reply = []byte("*-1\r\n")
			}
			r.write = false
		}
	case r.tx == txQueued && reply[0] == '-' && r.info != nil:
		switch r.info.Name {
		case "multi": // nested: the transaction goes on without it
			c.txLog = c.txLog[:len(c.txLog)-1]
		case "watch":
			c.txLog = c.txLog[:len(c.txLog)-1]
			c.watching = len(c.txLog) > 0 && c.watching && !c.multi
		}
	case r.info != nil && r.info.Class == command.Session:
		l.noteLogin(c, reply)
		c.adopt(r, reply)
	case r.info != nil && r.info.Class == command.Dedicated:
		c.stick(r, reply)
		return reply
	}
	if r.tx != txQueued {
		c.caching = nil
	}
	return reply
}

// leaveDedicated closes the client's own connection when nothing ties the client to it.
func (l *loop) leaveDedicated(c *client) {
	c.dedicated = dedicated{away: c.away}
	if b := c.ded; b != nil {
		c.ded = nil
		l.drop(&b.conn, errPeerClosed)
	}
}

// settleDedicated is called when the last reply of a client's own connection has been given.
func (l *loop) settleDedicated(c *client, r *request) {
	if c.ded != nil && !c.tied() && c.onDed == 0 && !r.block {
		b := c.ded
		c.ded = nil
		l.drop(&b.conn, errPeerClosed)
	}
}

// pushed passes on what a server says without having been asked; false when reply is an ordinary
// reply.
func (l *loop) pushed(b *backend, reply []byte) bool {
	c := b.client
	kind := pushKind(reply)
	if reply[0] != '>' && (c.proto == 3 || kind == "") {
		return false
	}
	if strings.HasSuffix(kind, "subscribe") && !l.confirmed(c, kind, reply) {
		return true
	}
	c.out = append(c.out, reply...)
	l.touch(&c.conn)
	l.replied(c)
	return true
}

// confirmed counts the confirmation of a subscription; false when the client does not wait for it.
func (l *loop) confirmed(c *client, kind string, reply []byte) bool {
	v, _, err := resp.Parse(reply)
	if err == nil && len(v.Elems) == 3 {
		if k := kind + " " + string(v.Elems[1].Str); c.subs != nil {
			if seen, ok := c.subs[k]; ok {
				if seen && c.swallowed > 0 {
					c.swallowed--
					return false
				}
				c.subs[k] = true
			}
		}
	}
	c.expects = max(0, c.expects-1)
	if strings.Contains(kind, "unsubscribe") {
		c.leaving = max(0, c.leaving-1)
	}
	if c.stalled && c.expects == 0 && c.waiting == 0 {
		l.resuming = append(l.resuming, c)
	}
	return true
}

// pushKind returns the first word of a pub/sub message or confirmation; "" for anything else.
func pushKind(reply []byte) string {
	if reply[0] != '*' && reply[0] != '>' {
		return ""
	}
	_, rest, _ := bytes.Cut(reply, crlf)
	if len(rest) == 0 || rest[0] != '$' {
		return ""
	}
	_, rest, _ = bytes.Cut(rest, crlf)
	word, _, _ := bytes.Cut(rest, crlf)
	switch w := string(word); w {
	case "message", "pmessage", "smessage", "subscribe", "psubscribe", "ssubscribe",
		"unsubscribe", "punsubscribe", "sunsubscribe":
		return w
	}
	return ""
}

var crlf = []byte("\r\n")

// rewriteTimeout leaves a blocking command the time that remains of its own timeout.
func (l *loop) rewriteTimeout(r *request) {
	var s resp.CommandScanner
	_, args, err := s.Scan(r.frame, nil)
	if err != nil {
		return
	}
	i, unit, ok := r.info.Timeout(args)
	if !ok {
		return
	}
	total, err := strconv.ParseFloat(string(args[i]), 64)
	if err != nil || total <= 0 {
		return // waits for ever, or is refused by the server
	}
	left := max(time.Duration(total*float64(unit))-(l.now-r.arrived), time.Millisecond)
	next := make([][]byte, len(args))
	copy(next, args)
	if unit == time.Second {
		next[i] = strconv.AppendFloat(nil, left.Seconds(), 'f', 3, 64)
	} else {
		next[i] = strconv.AppendInt(nil, int64(left/unit), 10)
	}
	r.frame = resp.AppendCommandBytes(nil, next...)
	r.arrived = l.now
}

// expireHomeless answers commands of dedicated sessions that waited too long.
func (l *loop) expireHomeless(since time.Duration) {
	for _, c := range l.homeless {
		kept := c.redo[:0]
		for _, r := range c.redo {
			if l.now-r.heldAt < l.opts.Hold {
				l.wakeAt(r.heldAt + l.opts.Hold)
				kept = append(kept, r)
				continue
			}
			switch r.tx {
			case txQueued:
				c.txBroken = true
			case txEnd:
				c.endTx()
			}
			l.giveUp(r, l.whyHeld(r, since))
		}
		clear(c.redo[len(kept):])
		c.redo = kept
	}
}
