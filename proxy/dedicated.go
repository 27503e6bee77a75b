package proxy

import (
	"bytes"
	"cmp"
	"slices"
	"strconv"
	"time"

	"understudy/command"
	"understudy/resp"
)

// dedicated is the state of a client that needs a connection of its own: everything that is needed
// to build the same connection again on another node.
type dedicated struct {
	multi     bool // between MULTI and EXEC
	tx        transaction
	watching  int  // WATCH commands that hold, or are under way
	watchLost bool // a WATCH could not be kept: EXEC answers nil
	ending    bool // EXEC, DISCARD or UNWATCH is under way

	subs     map[string]struct{} // kind and channel
	monitors bool                // MONITOR

	sticky  []setting  // CLIENT TRACKING and the like
	caching []byte     // CLIENT CACHING, until the command that it is about is answered
	redo    []*request // wait for a connection, in order
	away    bool       // in the loop's list of homeless clients
	untold  bool       // the connection has not been told of the transaction yet
}

// tied reports whether every command of the client must go to its own connection.
func (d *dedicated) tied() bool {
	return d.multi || d.watching > 0 || d.ending || d.listens()
}

// listens reports whether the connection has been asked for something that outlives the commands on it.
func (d *dedicated) listens() bool { return len(d.subs) > 0 || len(d.sticky) > 0 || d.monitors }

// setting is a command that set something on the connection, to be sent again on another one.
type setting struct {
	name  string
	frame []byte
}

// idleBlock reports whether the connection only waits for something to happen on the server.
func (b *backend) idleBlock() bool {
	if b.inflight.n == 0 || !b.inflight.at(0).block {
		return false
	}
	for i := 1; i < b.inflight.n; i++ {
		if !b.inflight.at(i).ours() {
			return false
		}
	}
	return true
}

// exclusive sends a command over the client's own connection; false: it has to wait until those
// before it are answered.
func (l *loop) exclusive(c *client, info *command.Info, args [][]byte, frame []byte) bool {
	return l.exclusiveEdited(c, info, args, frame, nil)
}

// exclusiveEdited is exclusive for a command of which the answer is edited; nil: it is not.
func (l *loop) exclusiveEdited(c *client, info *command.Info, args [][]byte, frame []byte, e edit) bool {
	if c.waiting > c.onDed || c.ending {
		return false
	}
	if info != nil {
		if text, refused := l.refusedHere(c, info, args); refused {
			l.decline(c, text)
			return true
		}
	}
	r := l.newRequest(c, info, frame)
	r.ded, r.block = true, info != nil && info.Class == command.Blocking && info.Blocks(args) && !c.multi
	r.arrived = l.now
	c.onDed++
	l.classify(r, args)
	if e != nil {
		r.edit = e
	}
	if c.multi && r.body != nil {
		l.spellOut(r)
	}
	if !l.begin(c, r) {
		return true
	}
	// Who waits to be rehomed is told everything again first, see restore.
	if len(c.redo) > 0 || c.away || !l.sendDedicated(c, r) {
		l.await(c, r)
	}
	return true
}

// decline answers a command with an error of the proxy's own. Between MULTI and EXEC it spoils the transaction,
// as one that a server refuses to queue.
func (l *loop) decline(c *client, text string) {
	if c.multi {
		c.tx.broken = true
	}
	l.local(c, []byte(text))
}

// begin notes what the command does to the session; false: it has been answered already.
func (l *loop) begin(c *client, r *request) bool {
	name := ""
	if r.info != nil {
		name = r.info.Name
	}
	switch {
	case name == "exec" && c.multi:
		return l.beginExec(c, r)
	case name == "discard" && c.multi, name == "unwatch" && !c.multi && c.watching > 0:
		c.ending, r.tx = true, txEnd
	case name == "multi": // a nested one is refused, and the transaction goes on
		r.opens, c.multi = !c.multi, true
		c.tx.enqueue(r)
	case name == "watch" && !c.multi:
		c.watching++
		r.tx = txWatch
	case name == "watch": // refused, and spoils nothing
		c.tx.enqueue(r)
	case c.multi:
		c.tx.queue(r)
	case r.info != nil && r.info.Class == command.PubSub:
		r.sub, r.quiet = true, false // CLIENT REPLY does not silence what is subscribed to
	}
	return true
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
	if r.tx == txEnd && r.info.Name == "exec" && (c.watchLost || c.tx.broken) {
		r.null, r.write = true, false
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
		if r.write && !r.up {
			l.mark(r)
		}
	}
	r.waits = false
	if r.heldAt != 0 && r.block {
		l.rewriteTimeout(r)
		l.rewriteLastIDs(r)
	}
	if r.null {
		b.raw(resp.AppendCommand(nil, "DISCARD"))
		r.after0 = b.stream
		b.inflight.push(r)
		l.touch(&b.conn)
		return true
	}
	if r.block {
		l.beforeBlocking(b, r)
	}
	if r.up {
		l.pour(b, r)
		return true
	}
	l.put(b, r)
	l.follow(b, r)
	return true
}

// beforeBlocking asks what has to be known, or be so, when a blocking command is carried out.
func (l *loop) beforeBlocking(b *backend, r *request) {
	b.askNumber()
	l.mayMark(b, r)
	switch r.info.Name {
	case "wait", "waitaof":
		// On a connection that has run nothing yet WAIT returns at once; after any command it covers
		// all that was answered before, the client's writes on other connections among it.
		b.raw(ping)
		b.inflight.push(swallow)
	case "xread":
		l.askLastIDs(b, r)
	}
}

func (b *backend) raw(frame []byte) {
	b.out = append(b.out, frame...)
	b.stream += uint64(len(frame))
}

// openDedicated connects, and tells the server all that the client's session consists of.
func (l *loop) openDedicated(c *client) bool {
	node := l.writer.Node
	if c.kind == reader {
		n, _ := l.replicaFor(c, nil)
		if n == "" {
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

// restore brings a new connection to where the lost one was, and sends what waits for it. What is not part
// of a transaction came before it.
func (l *loop) restore(c *client) {
	b := c.ded
	l.subscribeAgain(c, b)
	l.restoreTracking(c)
	if c.monitors {
		b.raw(resp.AppendCommand(nil, "MONITOR"))
		b.inflight.push(&request{note: l.demandKept(c)})
	}
	l.touch(&b.conn)
	redo := c.redo
	c.redo, c.untold = nil, true
	slices.SortStableFunc(redo, inSendingOrder)
	l.sendAgain(c, redo)
}

// inSendingOrder compares by when requests were sent first; those that never were come last.
func inSendingOrder(a, b *request) int {
	return cmp.Compare(a.order-1, b.order-1) // 0 becomes the greatest
}

// sendAgain sends what waits over the client's connection, and the transaction before what belongs to it.
func (l *loop) sendAgain(c *client, redo []*request) {
	for i, r := range redo {
		if r.tx == txQueued || r.tx == txEnd {
			c.tellTransaction(redo[i:])
		}
		if !l.sendDedicated(c, r) {
			c.redo = append(c.redo, redo[i:]...)
			l.goHome(c)
			return
		}
	}
	c.tellTransaction(nil)
}

// tellTransaction has a new connection queue what the lost one had queued. What is in rest comes by itself.
func (c *client) tellTransaction(rest []*request) {
	if !c.untold {
		return
	}
	c.untold = false
	pending := 0
	for _, r := range rest {
		if r.tx == txQueued {
			pending++
		}
	}
	for _, frame := range c.tx.log[:len(c.tx.log)-pending] {
		c.ded.raw(frame)
		c.ded.inflight.push(swallow)
	}
}

// await keeps a command until the client has a connection again.
func (l *loop) await(c *client, r *request) {
	if r.heldAt == 0 {
		r.heldAt = l.now
		l.count.held++
	}
	c.redo = append(c.redo, r)
	l.redoCount++
	l.redoSize += len(r.frame)
	l.boundHold()
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
			continue
		}
		redo := c.redo
		c.redo = nil
		l.sendAgain(c, redo)
	}
}

// dedicatedLost sorts out what was under way on a client's own connection.
func (l *loop) dedicatedLost(c *client, b *backend, requests []*request) {
	if c.ded == b {
		c.ded = nil
	}
	if c.gone {
		for _, r := range requests {
			if !r.ours() {
				l.unmark(r)
				l.free(r)
			}
		}
		return
	}
	c.tx.broken = c.tx.broken || c.tx.unkept
	var again []*request
	for _, r := range requests {
		switch {
		case r.ours():
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
		case r.block && r.batch > 0 && r.after0 <= b.written && !b.markless:
			l.wonder(r, false)
		case r.shed:
			l.tooLong(r)
		default:
			l.unsend(r)
			r.reply, r.confirms = r.reply[:0], 0
			again = append(again, r)
		}
	}
	c.redo = append(again, c.redo...)
	c.watchLost = c.watchLost || c.watching > 0
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
		switch r.tx {
		case txQueued:
			l.deliver(r, queuedReply(r))
		case txWatch:
			l.deliver(r, []byte(replyOK))
		default:
			others = append(others, r)
		}
	}
	return others
}

// unseat ends what a session rests on, because a server has refused its login with the error given: what waited
// gets that. Nothing watches its keys any more, and no server has what was queued.
func (l *loop) unseat(c *client, refusal []byte) {
	redo := c.redo
	c.redo, c.ending = nil, false
	for _, r := range redo {
		l.deliver(r, refusal)
	}
	c.tx.broken, c.watchLost = c.multi, c.watching > 0
	if c.listens() {
		l.drop(&c.conn, errUnkept)
	}
}

// redoDedicated sends a rejected command, and all behind it, over a new connection.
func (l *loop) redoDedicated(r *request) {
	c := r.c
	if c.gone {
		l.unmark(r)
		l.free(r)
		return
	}
	if r.shed {
		l.tooLong(r)
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
	refused := reply[0] == '-'
	switch {
	case r.tx == txEnd:
		reply = l.finishTx(c, r, reply)
	case r.tx == txWatch && refused:
		c.watching = max(0, c.watching-1)
		c.watchLost = c.watchLost && c.watching > 0
	case r.tx == txQueued && refused && r.opens:
		c.notMulti(r)
	case r.tx == txNone && r.changesSession():
		l.noteLogin(c, reply)
		if !refused {
			c.changed(r.info, r.frame)
		}
		if r.info.Class == command.Dedicated {
			return reply
		}
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

// askLastIDs asks what "$" means to an XREAD, the first time that it is sent: the newest entry of a stream when
// the client asked. When it is sent again that may have become another one, and the client would miss all in
// between.
func (l *loop) askLastIDs(b *backend, r *request) {
	var s resp.CommandScanner
	_, args, err := s.Scan(r.frame, nil)
	n := 0
	if err != nil || r.lastIDs != nil || !r.info.Keys(args, func([]byte) { n++ }) {
		return
	}
	r.lastIDs = map[string][]byte{}
	for i, id := range args[len(args)-n:] {
		if string(id) != "$" {
			continue
		}
		stream, ids := string(args[len(args)-2*n+i]), r.lastIDs
		b.raw(resp.AppendCommand(nil, "XREVRANGE", stream, "+", "-", "COUNT", "1"))
		b.inflight.push(&request{note: func(reply []byte) {
			v, _, err := resp.Parse(reply)
			switch {
			case err != nil || v.Kind != '*': // "$" stays what it is
			case len(v.Elems) == 0:
				ids[stream] = []byte("0-0")
			case len(v.Elems[0].Elems) > 0:
				ids[stream] = bytes.Clone(v.Elems[0].Elems[0].Str)
			}
		}})
	}
}

// rewriteLastIDs puts what askLastIDs has found in the place of "$".
func (l *loop) rewriteLastIDs(r *request) {
	var s resp.CommandScanner
	_, args, err := s.Scan(r.frame, nil)
	n := 0
	if err != nil || len(r.lastIDs) == 0 || !r.info.Keys(args, func([]byte) { n++ }) {
		return
	}
	next := slices.Clone(args)
	for i := len(args) - n; i < len(args); i++ {
		if id := r.lastIDs[string(args[i-n])]; id != nil && string(args[i]) == "$" {
			next[i] = id
		}
	}
	r.frame = resp.AppendCommandBytes(nil, next...)
}

// expireHomeless answers commands of dedicated sessions that waited too long. A transaction of which a command
// is given up is given up whole: sent without it, or behind the errors that its commands got, it would run.
func (l *loop) expireHomeless(since time.Duration) {
	l.redoCount, l.redoSize = 0, 0
	for _, c := range l.homeless {
		kept := c.redo[:0]
		for _, r := range c.redo {
			due := r.heldAt + l.holdOf(r)
			if broken := c.tx.broken && r.tx != txNone; l.now < due && !broken {
				l.wakeAt(due)
				kept = append(kept, r)
				l.redoCount++
				l.redoSize += len(r.frame)
				continue
			}
			switch r.tx {
			case txQueued:
				c.tx.broken = true
			case txWatch:
				c.watching = max(0, c.watching-1)
			case txEnd:
				c.endTx()
			}
			l.expiredAlone(r, since)
		}
		clear(c.redo[len(kept):])
		c.redo = kept
	}
}
