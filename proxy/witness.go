package proxy

import (
	"bytes"
	"crypto/rand"
	"strconv"
	"time"

	"understudy/cluster"
	"understudy/resp"
)

// witness listens on one node for the numbers of the batches that it applies.
type witness struct {
	l       *loop
	b       *backend
	ready   bool
	since   uint64            // batches with a higher number were sent while it listened
	readyAt time.Duration     // when it began to
	applied map[uint64]uint64 // by connection: the newest batch that the node has applied
	asking  bool              // a PING is under way
	asked   uint64            // it will settle the doubts up to this one, as loop.settled counts
}

// doubt is a request of which it is open whether the log that lives on has it.
type doubt struct {
	r       *request
	replied bool // r.reply is its reply
	since   time.Duration
}

// doubtFor bounds how long a new primary's witness may take. Its PING is answered within a
// millisecond, by a machine that has time: an answer that comes late is still better than none.
const doubtFor = time.Second

func newChannel() string { return channelPrefix + rand.Text()[:channelRandom] }

// watchNodes keeps a witness on every node that is up, while batches are made.
func (l *loop) watchNodes() {
	if l.demand.Least == 0 {
		return
	}
	for i := range l.reads {
		l.witnessOn(l.reads[i].Node)
	}
	if l.now < l.acking {
		l.witnessOn(l.writer.Node)
	}
}

func (l *loop) witnessOn(node cluster.NodeID) {
	if w := l.witnesses[node]; w != nil && !w.b.closed {
		return
	}
	w := &witness{l: l, applied: map[uint64]uint64{}}
	b, err := l.open(laneKey{node: node}, &backend{onReply: w.reply, onLost: w.lost})
	if err != nil {
		return // its agent speaks again soon
	}
	b.raw(resp.AppendCommand(nil, "SUBSCRIBE", l.channel))
	w.b = b
	l.witnesses[node] = w
}

func (w *witness) reply(l *loop, _ *backend, reply []byte) {
	switch {
	case pushKind(reply) == "message":
		w.note(reply)
	case pushKind(reply) == "subscribe":
		w.ready, w.since, w.readyAt = true, l.batches, l.now
	case reply[0] == '*' && w.asking: // pong
		w.asking = false
		if w.asked > l.settled { // else they were given up meanwhile
			l.settleDoubts(int(w.asked-l.settled), w)
		}
	case reply[0] == '-':
		l.drop(&w.b.conn, errPeerClosed)
	}
}

// note reads a batch's mark out of a message: its last line.
func (w *witness) note(reply []byte) {
	text := bytes.TrimSuffix(reply, crlf)
	text = text[bytes.LastIndexByte(text, '\n')+1:]
	conn, number, ok := bytes.Cut(text, []byte(" "))
	id, err := strconv.ParseUint(string(conn), 10, 64)
	n, err2 := strconv.ParseUint(string(number), 10, 64)
	if ok && err == nil && err2 == nil {
		w.applied[id] = max(w.applied[id], n)
		w.sweep()
	}
}

// appliedKept bounds how many connections a witness remembers beyond those that are open: one that carries blocking
// commands comes and goes with its client.
const appliedKept = 4096

// sweep forgets the connections that are gone and of which nothing is in doubt any more.
func (w *witness) sweep() {
	l := w.l
	if len(w.applied) <= 2*l.backends+appliedKept || len(l.doubts) > 0 {
		return
	}
	kept := make(map[uint64]uint64, len(l.conns))
	keep := func(id uint64) {
		if n, ok := w.applied[id]; ok {
			kept[id] = n
		}
	}
	for _, c := range l.conns {
		if c == nil {
			continue
		}
		if b, ok := c.owner.(*backend); ok {
			keep(b.id)
		}
	}
	for i := range l.commits.answered.n {
		keep(l.commits.answered.at(i).conn)
	}
	w.applied = kept
}

func (w *witness) lost(l *loop, _ error) {
	w.ready, w.asking = false, false
}

// wonder keeps a request until the new primary's witness can say what became of it.
func (l *loop) wonder(r *request, replied bool) {
	l.doubts = append(l.doubts, doubt{r, replied, l.now})
}

// askWitness starts to settle the doubts, once there is a primary that may ack.
func (l *loop) askWitness() {
	if len(l.doubts) == 0 || l.now >= l.acking {
		return
	}
	w := l.witnesses[l.writer.Node]
	listening := w != nil && w.ready
	oldest := l.doubts[0]
	if oldest.r.epoch == l.writer.Epoch && !listening && l.now-oldest.since < l.opts.Hold {
		// All connections broke and no agent has said why yet: a new epoch is on its way.
		l.wakeAt(oldest.since + l.opts.Hold)
		return
	}
	if !listening || l.now-max(oldest.since, l.ledSince) > doubtFor {
		l.settleDoubts(len(l.doubts), nil)
		return
	}
	l.wakeAt(l.now + doubtFor)
	if !w.asking {
		// A message that the node sent before it answers a PING is read before the answer.
		w.asking, w.asked = true, l.settled+uint64(len(l.doubts))
		w.b.raw(ping)
		l.touch(&w.b.conn)
	}
}

// settleDoubts decides the oldest n doubts by what the witness saw; nil: nobody saw anything.
func (l *loop) settleDoubts(n int, w *witness) {
	doubts := l.doubts[:n]
	l.doubts = append([]doubt(nil), l.doubts[n:]...)
	l.settled += uint64(n)
	s, _ := l.gate.Node(l.writer.Node)
	for _, d := range doubts {
		r := d.r
		known := w != nil && w.heard(d) && (r.epoch == l.writer.Epoch || s.Fork.Parent != "" && s.Fork.Parent == r.replid)
		switch {
		case r.culprit && !(known && w.applied[r.conn] >= r.batch):
			l.unknown(r, endlessScript)
		case known && w.applied[r.conn] < r.batch:
			l.count.resolved++
			l.again(r)
		case known && d.replied:
			l.count.resolved++
			r.epoch, r.replid, r.offset = l.writer.Epoch, l.writer.ReplID, 0
			l.commits.answered.push(r)
		case !r.write || r.idem:
			l.again(r)
		case known:
			l.unknown(r, "executed, and its reply was lost with the primary")
		default:
			l.unknown(r, "nobody watched the new primary's log")
		}
	}
}

// heard reports whether the witness listened when the request was carried out, if it was. A blocking command may
// have been sent long before that.
func (w *witness) heard(d doubt) bool {
	return d.r.batch > w.since || d.r.block && w.readyAt < d.since
}
