package proxy

import (
	"strconv"
	"time"

	"understudy/cluster"
	"understudy/failover"
	"understudy/resp"
)

// committer is the group commit of durability sync. Replies of writes wait here until enough
// replicas hold what they wrote; the connections that carry the data never wait.
//
//	answered: [w1 w2 w3 | w4 w5]       round: ROLE, WAIT
//	           covered    next round
//
// A round is ROLE and WAIT on a connection of its own. ROLE tells the primary's offset, and makes
// WAIT cover everything that was answered before it was sent.
type committer struct {
	l        *loop
	b        *backend
	answered fifo
	covered  int  // of answered, by the round under way
	step     step // of that round; stepIdle: there is none
	epoch    cluster.Epoch
	offset   int64 // of the primary when the round began
	retryAt  time.Duration
	tainted  []*request    // stand for writes that were given up, and may still be lost: see taint
	nudgeAt  time.Duration // see nudge
	pushed   bool
}

// step is what a round waits for.
type step uint8

const (
	stepIdle step = iota
	stepFresh
	stepOffset
	stepWait
	stepWho // WAIT's number alone does not tell whether the rules are satisfied
)

// waitFor bounds one WAIT: an answer that too few replicas have the writes is no loss, the next
// round asks again. A server asks its replicas once, when WAIT begins: a replica that arrives later,
// after a change of primary, is only asked by the next WAIT.
const waitFor = 5 * time.Millisecond

// add takes a reply that must not be given before its effects are safe.
func (c *committer) add(r *request, reply []byte) {
	r.reply = append(r.reply[:0], reply...)
	if l := c.l; r.epoch != l.writer.Epoch && l.now < l.acking {
		c.decide(r) // a former primary's last words
		return
	}
	r.ackFrom = c.l.now
	c.answered.push(r)
	c.l.bracket.note(r)
}

// start begins a round when replies wait and the primary may ack.
func (c *committer) start() {
	l := c.l
	if c.step != stepIdle {
		c.nudge()
		return
	}
	if c.answered.n == 0 || l.now >= l.acking {
		return
	}
	if l.now < c.retryAt {
		l.wakeAt(c.retryAt)
		return
	}
	if l.demand.Least == 0 {
		c.covered, c.epoch = c.answered.n, l.writer.Epoch
		c.release()
		return
	}
	if !c.connect() {
		return
	}
	c.covered, c.epoch, c.offset, c.step = c.answered.n, l.writer.Epoch, 0, stepOffset
	l.count.rounds++
	c.nudgeAt, c.pushed = l.now+pushAfter, false
	l.wakeAt(c.nudgeAt)
	if l.opts.Reads == ReadsCommitted {
		// A replica's word of what it has may be from before it was cut off from this primary. Something
		// new has to reach it, or a read could be as old as that word.
		c.step = stepFresh
		c.b.out = resp.AppendCommand(c.b.out, "PUBLISH", l.channel+":fresh", "")
	}
	c.b.out = resp.AppendCommand(c.b.out, "ROLE")
	c.b.out = appendWait(c.b.out, l.demand.Least, waitFor)
	l.touch(&c.b.conn)
}

// pushAfter is how long a round may take before it is helped: above a round trip between zones.
const pushAfter = 2 * time.Millisecond

// nudge helps a round that is late. After a partial resync redis-server leaves Nagle's algorithm on for
// what a replica sends: its acknowledgement stays in its kernel until the primary has sent something more,
// which then nobody does, because all wait for this round. So something is sent. And a server that has
// nothing else to do looks at the timeouts of WAIT ten times a second only.
func (c *committer) nudge() {
	l := c.l
	if l.now < c.nudgeAt {
		l.wakeAt(c.nudgeAt)
		return
	}
	if c.pushed || !l.writable { // a pause holds PUBLISH, and what comes behind it
		l.bracket.ask(ping, nil)
	} else {
		l.bracket.ask(resp.AppendCommand(nil, "PUBLISH", l.channel+":fresh", ""), nil)
	}
	c.pushed = true
	c.nudgeAt = l.now + waitFor - pushAfter + time.Millisecond
	l.wakeAt(c.nudgeAt)
}

var ping = resp.AppendCommand(nil, "PING")

func appendWait(dst []byte, replicas int, d time.Duration) []byte {
	return resp.AppendCommand(dst, "WAIT", strconv.Itoa(replicas), strconv.FormatInt(d.Milliseconds(), 10))
}

// connect makes sure that there is a connection to the present primary.
func (c *committer) connect() bool {
	if c.b != nil && !c.b.closed && c.b.key.node == c.l.writer.Node {
		return true
	}
	b, err := c.l.open(laneKey{node: c.l.writer.Node}, &backend{onReply: c.reply, onLost: c.lost})
	if err != nil {
		c.retryAt = c.l.now + c.l.pause()
		c.l.wakeAt(c.retryAt)
		return false
	}
	c.b = b
	return true
}

// reply takes one of a round's answers.
func (c *committer) reply(l *loop, b *backend, reply []byte) {
	if b != c.b {
		return
	}
	v, _, err := resp.Parse(reply)
	if err != nil || v.Kind == '-' {
		c.fail() // demoted, loading: the gate will tell
		return
	}
	switch c.step {
	case stepFresh:
		c.step = stepOffset
	case stepOffset:
		if len(v.Elems) != 3 || string(v.Elems[0].Str) != "master" {
			c.fail()
			return
		}
		c.offset, c.step = v.Elems[1].Int, stepWait
		c.early(v)
		for i := range c.covered {
			if r := c.answered.at(i); r.epoch == c.epoch && r.offset == 0 {
				r.offset = c.offset
			}
		}
	case stepWait:
		c.waited(v.Int)
	case stepWho:
		c.step = stepIdle
		if l.demand.Satisfied(l.writer.Node, l.having(v, c.offset)) {
			c.release()
			return
		}
		c.covered = 0 // ask again: somebody else answered first
	}
}

// early gives the replies whose place in the log an earlier round has told, when ROLE says that the
// replicas have that place. Each round's own question lengthens the log, so that replicas which answer late
// may never have reached the end of it.
func (c *committer) early(role resp.Value) {
	l := c.l
	if l.now >= l.acking || c.epoch != l.writer.Epoch {
		return
	}
	checked := int64(0)
	for c.covered > 0 {
		r := c.answered.at(0)
		if r.offset == 0 || r.epoch != c.epoch {
			return
		}
		if r.offset > checked && !l.demand.Satisfied(l.writer.Node, l.having(role, r.offset)) {
			return
		}
		checked = max(checked, r.offset)
		l.unproved = false
		c.covered--
		l.deliver(c.answered.pop(), r.reply)
	}
}

// waited takes WAIT's number of replicas that hold the round's writes.
func (c *committer) waited(n int64) {
	l := c.l
	c.step = stepIdle
	switch {
	case c.epoch != l.writer.Epoch:
		c.covered = 0
	case n >= int64(l.demand.Surely):
		c.release()
	case n >= int64(l.demand.Least):
		c.step = stepWho
		c.b.out = resp.AppendCommand(c.b.out, "ROLE")
		l.touch(&c.b.conn)
	default:
		c.covered = 0
	}
}

// having names the replicas that ROLE says have acknowledged the offset.
func (l *loop) having(role resp.Value, offset int64) []cluster.NodeID {
	if len(role.Elems) != 3 {
		return nil
	}
	var nodes []cluster.NodeID
	for _, e := range role.Elems[2].Elems {
		if len(e.Elems) != 3 {
			continue
		}
		ack, err := strconv.ParseInt(string(e.Elems[2].Str), 10, 64)
		if err != nil || ack < offset {
			continue
		}
		if id, ok := l.gate.At(string(e.Elems[0].Str) + ":" + string(e.Elems[1].Str)); ok {
			nodes = append(nodes, id)
		}
	}
	return nodes
}

// release gives the round's replies to their clients, if the permit held when the answer came.
func (c *committer) release() {
	l, n := c.l, c.covered
	c.covered, c.step = 0, stepIdle
	if l.now >= l.acking || c.epoch != l.writer.Epoch {
		return
	}
	l.unproved = false
	c.forgive()
	for range n {
		r := c.answered.pop()
		if r.epoch != c.epoch {
			panic("proxy: a reply of another epoch in a round")
		}
		l.deliver(r, r.reply)
	}
}

// fail ends a round without a result; what it covered waits for the next.
func (c *committer) fail() {
	c.covered, c.step = 0, stepIdle
	c.retryAt = c.l.now + c.l.pause()
	c.l.wakeAt(c.retryAt)
	if c.b != nil && !c.b.closed {
		b := c.b
		c.b = nil
		c.l.drop(&b.conn, errPeerClosed)
	}
}

func (c *committer) lost(*loop, error) {
	if c.b != nil && c.b.closed {
		c.b = nil
		c.fail()
	}
}

// leave drops the connection to a node that is not the primary any more.
func (c *committer) leave() {
	if c.b != nil && c.b.key.node != c.l.writer.Node {
		c.fail()
		c.retryAt = 0
	}
}

// resolve decides about replies that came under an earlier epoch, now that there is a primary.
func (c *committer) resolve() {
	l := c.l
	stale := false
	for i := range c.answered.n {
		stale = stale || c.answered.at(i).epoch != l.writer.Epoch
	}
	if !stale {
		return
	}
	c.covered, c.step = 0, stepIdle
	if c.b != nil {
		c.fail()
		c.retryAt = 0
	}
	for _, r := range c.answered.take() {
		c.decide(r)
	}
}

func (c *committer) decide(r *request) {
	l := c.l
	switch l.gate.Fate(l.now, failover.Receipt{Epoch: r.epoch, ReplID: r.replid, Offset: r.offset}) {
	case failover.FateWait, failover.FateCommit:
		c.answered.push(r)
	case failover.FateKept:
		l.deliver(r, r.reply)
	case failover.FateCarried:
		r.epoch, r.replid, r.offset = l.writer.Epoch, l.writer.ReplID, 0
		c.answered.push(r)
	case failover.FateUnknown:
		switch {
		case r.batch > 0:
			l.wonder(r, true)
		case r.tx == txEnd && !r.write: // what MULTI had queued is forgotten: it cannot be read anew
			l.giveUp(r, errNoPrimary(0, l.now-r.arrived))
		case r.tx != txEnd && (!r.write || r.idem):
			l.again(r)
		default:
			l.unknown(r, "answered, and not known to be in the new primary's log")
		}
	}
}

// giveUp answers what no primary came to confirm, after a time without one.
func (c *committer) giveUp(closed time.Duration) {
	c.abandon()
	for _, r := range c.answered.take() {
		c.taint(r)
		if r.write && !r.idem {
			c.l.count.leaked++
			c.l.unknown(r, "answered, and no primary came to confirm it")
			continue
		}
		c.l.giveUp(r, errNoPrimary(closed, c.l.now-r.ackFrom))
	}
}

// recall takes out the reads for which ok holds: they are to be asked again.
func (c *committer) recall(ok func(*request) bool) (reads []*request) {
	for i := range c.answered.n {
		if r := c.answered.at(i); !r.write && ok(r) {
			reads = append(reads, r)
		}
	}
	if len(reads) == 0 {
		return nil
	}
	c.abandon()
	for _, r := range c.answered.take() {
		if r.write || !ok(r) {
			c.answered.push(r)
		}
	}
	return reads
}

// abandon ends the round under way: its answers must not be taken for the next one's.
func (c *committer) abandon() {
	if c.step != stepIdle {
		c.fail()
	}
}

// expire answers what has waited as long as it may for a replica that could hold a copy.
func (c *committer) expire() {
	l := c.l
	if c.answered.n == 0 {
		return
	}
	if due := c.answered.at(0).ackFrom + l.opts.Hold; l.now < due {
		l.wakeAt(due)
		return
	}
	c.abandon()
	for c.answered.n > 0 && l.now-c.answered.at(0).ackFrom >= l.opts.Hold {
		r := c.answered.pop()
		c.taint(r)
		if r.write && !r.idem {
			l.count.leaked++
			l.unknown(r, "answered, and no replica came to hold a copy")
			continue
		}
		l.giveUp(r, errNoQuorum(l.now-l.scarce))
	}
}

// taint keeps the keys of a write dirty that is given up and not undone: a read must not show it before
// it is safe.
func (c *committer) taint(r *request) {
	if !r.marked {
		return
	}
	r.marked = false
	t := c.l.spare()
	t.marked, t.wide, t.hashes = true, r.wide, append([]uint32(nil), r.hashes...)
	c.tainted = append(c.tainted, t)
}

// forgive ends that: a round has made everything before it safe, or a new epoch has another log.
func (c *committer) forgive() {
	for _, t := range c.tainted {
		c.l.unmark(t)
		c.l.free(t)
	}
	c.tainted = nil
}
