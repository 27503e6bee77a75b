package proxy

import (
	"time"

	"understudy/cluster"
	"understudy/resp"
)

// tracker finds out which writes each replica has, for the split endpoint: a key is read from a
// replica only when that has the key's newest write. It asks on a connection of its own:
// ROLE (the offset below which all writes up to a number lie), WAIT (so that replicas report what
// they have), ROLE (what they have).
type tracker struct {
	l      *loop
	b      *backend
	step   step
	seq    uint64 // writes up to this one lie below offset
	offset int64
	passed map[cluster.NodeID]uint64 // by replica: it has the writes up to this one
	nextAt time.Duration

	every   time.Duration // how often it asks how old the replicas' data is; 0: nobody wants to know
	ageAt   time.Duration // when that is due
	aging   bool          // this question is about it too
	askedAt time.Duration
}

const (
	// trackEvery is the least time between two questions: a key that is written and read at once is
	// read from the primary, one that is read a little later is not. Each question costs the primary as much as
	// some fifty reads, so that it is not asked all the time.
	trackEvery = 20 * time.Millisecond
	// trackFor bounds the wait for the slowest replica.
	trackFor = 20 * time.Millisecond
)

// start asks when a write has been answered that some replica has not passed, and now and then how old the
// replicas' data is: see freshness.
func (t *tracker) start() {
	l := t.l
	if t.step != stepIdle || l.now >= l.acking || len(l.reads) == 0 {
		return
	}
	due := t.age()
	if !due && (l.splits == 0 || !t.behind()) {
		return
	}
	if l.now < t.nextAt {
		l.wakeAt(t.nextAt)
		return
	}
	if t.b == nil || t.b.closed || t.b.key.node != l.writer.Node {
		b, err := l.open(laneKey{node: l.writer.Node}, &backend{onReply: t.reply, onLost: t.lost})
		if err != nil {
			t.pause()
			return
		}
		t.b = b
	}
	t.step, t.seq = stepOffset, l.keys.answered
	if t.aging, t.askedAt = due, l.now; due {
		t.ageAt = l.now + t.pace()
		l.wakeAt(t.ageAt)
		t.publish()
	}
	t.b.out = resp.AppendCommand(t.b.out, "ROLE")
	t.b.out = appendWait(t.b.out, len(l.reads), trackFor)
	t.b.out = resp.AppendCommand(t.b.out, "ROLE")
	l.touch(&t.b.conn)
}

// age reports whether it is time to ask how old the replicas' data is.
func (t *tracker) age() bool {
	l := t.l
	if t.pace() == 0 || !l.writable { // a pause would hold the question
		return false
	}
	if l.now < t.ageAt {
		l.wakeAt(t.ageAt)
		return false
	}
	return true
}

// pace is how often the replicas' age is asked for. Where some are of the proxy's zone and some are not, it is
// asked for so that clients can come back: see mayReturn.
func (t *tracker) pace() time.Duration {
	if t.every > 0 || t.l.opts.Zone == "" {
		return t.every
	}
	here := 0
	for _, r := range t.l.reads {
		if r.Zone == t.l.opts.Zone {
			here++
		}
	}
	if here > 0 && here < len(t.l.reads) {
		return askAtLeast
	}
	return 0
}

// publish has the primary write something that replicas have to acknowledge: what they have acknowledged
// already can be from before they left it. In async nobody leaves a primary that holds a permit.
func (t *tracker) publish() {
	if t.l.demand.Least > 0 {
		t.b.out = resp.AppendCommand(t.b.out, "PUBLISH", t.l.channel+":fresh", "")
		t.step = stepFresh
	}
}

func (t *tracker) behind() bool {
	for _, r := range t.l.reads {
		if t.passed[r.Node] < t.l.keys.answered {
			return true
		}
	}
	return false
}

func (t *tracker) pause() {
	t.step, t.nextAt = stepIdle, t.l.now+trackEvery
	t.l.wakeAt(t.nextAt)
}

func (t *tracker) reply(l *loop, b *backend, reply []byte) {
	v, _, err := resp.Parse(reply)
	if b != t.b || err != nil || v.Kind == '-' {
		t.reset()
		return
	}
	switch t.step {
	case stepFresh:
		t.step = stepOffset
	case stepOffset:
		if len(v.Elems) != 3 || string(v.Elems[0].Str) != "master" {
			t.reset()
			return
		}
		t.offset, t.step = v.Elems[1].Int, stepWait
		if t.aging {
			l.fresh.noteMark(mark{t.askedAt, t.offset})
		}
	case stepWait:
		t.step = stepWho
	case stepWho:
		for _, node := range l.having(v, t.offset) {
			t.passed[node] = max(t.passed[node], t.seq)
		}
		l.prove(v)
		t.pause()
	}
}

// reset forgets what was proved under another primary.
func (t *tracker) reset() {
	t.passed = map[cluster.NodeID]uint64{}
	t.l.fresh.marks, t.ageAt = nil, 0
	b := t.b
	t.b = nil
	t.pause()
	if b != nil && !b.closed {
		t.l.drop(&b.conn, errPeerClosed)
	}
}

func (t *tracker) lost(*loop, error) {
	if t.b != nil && t.b.closed {
		t.b = nil
		t.pause()
	}
}
