package proxy

import (
	"time"

	"understudy/cluster"
	"understudy/command"
)

// request is one command of a client, from its arrival until its reply is in the client's buffer.
// It is in its client's queue all that time, and in at most one of: a backend's queue (sent), the
// commit queue (answered), the hold queue (waiting for a primary).
type request struct {
	c     *client
	after *request // the next of the same client
	frame []byte   // the command's bytes, kept until no replay can be needed
	info  *command.Info

	write   bool // may change data
	wide    bool // touches keys that cannot be told: every key
	idem    bool // may be sent twice
	block   bool // may wait on the server
	reader  bool // was sent to a replica
	stale   bool // and that because there is no primary: see sendStale
	judged  bool // policy is known
	ded     bool // goes over its client's own connection
	keeps   int  // bytes of frame that count in loop.kept
	up      bool // its end has not arrived: see upload
	shed    bool // its bytes were not kept: it cannot be sent anew
	sub     bool // answered by confirmations, not by a reply
	opens   bool // the MULTI that began the transaction
	null    bool // EXEC that must fail: DISCARD is sent in its place
	tx      txPart
	arity   bool // has as many words as the command takes
	script  bool // runs a script, which may never end
	culprit bool // was running, or may have been, when its server fell silent: see accuse
	marked  bool // counted in the table of pending writes
	waits   bool // for a primary: it was not sent, or is to be sent anew
	quiet   bool // its client does not want the reply
	done    bool // reply is final and waits for the replies before it

	hashes []uint32 // of its keys
	few    [2]uint32
	source *backend // of its reply, which is passed on as it arrives; nil: it comes whole
	seq    uint64   // number of a write in this loop; 0 when not a write
	order  uint64   // of its first sending; 0: not sent yet
	reply  []byte
	edit   edit // of a good reply; nil: as it is
	// confirms are the confirmations still to come of a command about subscriptions; 0: not known yet.
	confirms int
	note     func(reply []byte) // of a request of our own: who wants to know; nil: nobody
	lastIDs  map[string][]byte  // XREAD: what "$" was, by stream
	after0   uint64             // position in the backend's byte stream behind the frame

	batch    uint64  // number of the batch it was sent in; 0: alone
	resent   bool    // went back to be sent again: more copies than one may be on their way
	marker   []byte  // the key that tells whether it ran: see once; nil: none
	body     *script // of an EVALSHA that is kept here and may have to be spelled out
	noScript bool    // the server has been found not to have it

	conn  uint64 // id of the connection it was sent on
	group *batch // set in the stand-in of a whole batch

	epoch   cluster.Epoch // under which it was sent
	replid  string
	offset  int64          // where in that log its effects end at the latest; 0: not known
	policy  *Policy        // see policyOf; nil: none
	from    cluster.NodeID // the replica that it was sent to
	asOf    time.Duration  // which has everything from before; 0: not asked
	heldAt  time.Duration
	ackFrom time.Duration // since when its reply waits to be safe
	arrived time.Duration // blocking commands: when their timeout began
	sentAt  time.Duration // when it was handed to its connection
}

// txPart is what a request is in a transaction.
type txPart uint8

const (
	txNone   txPart = iota
	txQueued        // MULTI, or a command between MULTI and EXEC
	txWatch         // WATCH
	txEnd           // EXEC, DISCARD, UNWATCH
)

// ours reports whether it is a request of the proxy's own on a connection that carries a client's.
func (r *request) ours() bool { return r.c == nil && r.group == nil }

// fifo is a queue of requests.
type fifo struct {
	buf     []*request
	head, n int
}

func (q *fifo) push(r *request) {
	if q.n == len(q.buf) {
		q.grow()
	}
	q.buf[(q.head+q.n)&(len(q.buf)-1)] = r
	q.n++
}

func (q *fifo) grow() {
	next := make([]*request, max(16, 2*len(q.buf)))
	for i := range q.n {
		next[i] = q.at(i)
	}
	q.buf, q.head = next, 0
}

func (q *fifo) at(i int) *request { return q.buf[(q.head+i)&(len(q.buf)-1)] }

func (q *fifo) pop() *request {
	r := q.buf[q.head]
	q.buf[q.head] = nil
	q.head = (q.head + 1) & (len(q.buf) - 1)
	q.n--
	return r
}

// take empties the queue and returns what was in it, oldest first.
func (q *fifo) take() []*request {
	all := make([]*request, 0, q.n)
	for q.n > 0 {
		all = append(all, q.pop())
	}
	return all
}

// newRequest takes a request from the pool.
func (l *loop) newRequest(c *client, info *command.Info, frame []byte) *request {
	r := l.spare()
	r.c, r.info = c, info
	r.frame = l.slabs.copy(r.frame, frame)
	if c.tail == nil {
		c.head = r
	} else {
		c.tail.after = r
	}
	c.tail = r
	c.waiting++
	r.quiet, c.skip = c.silent || c.skip, false
	l.count.requests++
	return r
}

func (l *loop) spare() *request {
	n := len(l.pool)
	if n == 0 {
		return &request{}
	}
	r := l.pool[n-1]
	l.pool = l.pool[:n-1]
	return r
}

// poolSize bounds how many idle requests are kept.
const poolSize = 4096

func (l *loop) free(r *request) {
	if r.source != nil {
		l.disown(r)
	}
	if r.keeps > 0 {
		l.kept -= r.keeps
	}
	frame, reply := l.slabs.keep(r.frame), trimSmall(r.reply)
	*r = request{frame: frame, reply: reply}
	if len(l.pool) < poolSize {
		l.pool = append(l.pool, r)
	}
}

func trimSmall(b []byte) []byte {
	if cap(b) > smallSlab {
		return nil
	}
	return b[:0]
}

// deliver gives the client a request's final reply, in the order of its requests.
func (l *loop) deliver(r *request, reply []byte) {
	l.unmark(r)
	if r.up {
		l.answeredEarly(r)
	}
	if r.source != nil && len(reply) > 0 { // something else than what arrives
		l.disown(r)
	}
	c := r.c
	if c.gone {
		l.free(r)
		return
	}
	if r.marker != nil {
		l.answeredMarker(r)
	}
	if r.quiet {
		reply = nil
	}
	if c.head != r {
		r.reply, r.done = append(r.reply[:0], reply...), true
		return
	}
	if r.source != nil {
		l.flow(r)
		return
	}
	c.out = append(c.out, reply...)
	l.popHead(c)
	l.give(c)
}

func (l *loop) popHead(c *client) {
	r := c.head
	c.head = r.after
	if c.head == nil {
		c.tail = nil
	}
	c.waiting--
	l.count.replies++
	if r.ded {
		c.onDed--
		l.settleDedicated(c, r)
	}
	l.free(r)
}
