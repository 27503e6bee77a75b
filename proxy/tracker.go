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
}

const (
	// trackEvery is the least time between two questions: a key that is written and read at once is
	// read from the primary, one that is read a little later is not.
	trackEvery = 2 * time.Millisecond
	// trackFor bounds the wait for the slowest replica.
	trackFor = 20 * time.Millisecond
)

// start asks when a write has been answered that some replica has not passed.
func (t *tracker) start() {
	l := t.l
	if l.splits == 0 || t.step != stepIdle || l.now >= l.acking || !t.behind() {
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
	t.b.out = resp.AppendCommand(t.b.out, "ROLE")
	t.b.out = appendWait(t.b.out, len(l.reads), trackFor)
	t.b.out = resp.AppendCommand(t.b.out, "ROLE")
	l.touch(&t.b.conn)
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
	case stepOffset:
		if len(v.Elems) != 3 || string(v.Elems[0].Str) != "master" {
			t.reset()
			return
		}
		t.offset, t.step = v.Elems[1].Int, stepWait
	case stepWait:
		t.step = stepWho
	case stepWho:
		for _, node := range l.having(v, t.offset) {
			t.passed[node] = max(t.passed[node], t.seq)
		}
		t.pause()
	}
}

// reset forgets what was proved under another primary.
func (t *tracker) reset() {
	t.passed = map[cluster.NodeID]uint64{}
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
