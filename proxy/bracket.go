package proxy

import (
	"understudy/resp"
)

// bracket keeps a connection to the primary beside the committer's, which WAIT blocks most of the
// time. It finds out at once where in the log the effects of a write end that travelled alone: when
// the primary dies before the commit, that offset tells whether the log that lives on has the write.
type bracket struct {
	l     *loop
	b     *backend
	fresh []stamp // answered since the last question
	asked []inquiry
}

// inquiry is one that is under way: whose writes' place it tells, or who wants the answer.
type inquiry struct {
	stamps []stamp
	then   func(resp.Value)
}

// stamp names a request; its order tells whether it is still the same one.
type stamp struct {
	r     *request
	order uint64
}

// note remembers a write that was answered.
func (k *bracket) note(r *request) {
	if r.batch == 0 && r.write && !r.idem {
		k.fresh = append(k.fresh, stamp{r, r.order})
	}
}

// start asks for the offset below which the effects of all noted writes lie.
func (k *bracket) start() {
	if len(k.fresh) == 0 || k.l.now >= k.l.acking {
		return
	}
	fresh := k.fresh
	k.fresh = nil
	k.ask(resp.AppendCommand(nil, "ROLE"), fresh)
}

// ask sends a command to the present primary; nothing happens when there is no connection.
func (k *bracket) ask(frame []byte, stamps []stamp) { k.put(frame, inquiry{stamps: stamps}) }

// query is ask with somebody who wants the answer. It may never come.
func (k *bracket) query(frame []byte, then func(resp.Value)) { k.put(frame, inquiry{then: then}) }

func (k *bracket) put(frame []byte, q inquiry) {
	l := k.l
	if k.b == nil || k.b.closed || k.b.key.node != l.writer.Node {
		k.leave()
		b, err := l.open(laneKey{node: l.writer.Node}, &backend{onReply: k.reply, onLost: func(*loop, error) {}})
		if err != nil {
			return
		}
		k.b = b
	}
	k.asked = append(k.asked, q)
	k.b.raw(frame)
	l.touch(&k.b.conn)
}

// leave ends the connection to a node that is not the primary any more.
func (k *bracket) leave() {
	b := k.b
	k.b, k.asked = nil, nil
	if b != nil && !b.closed {
		k.l.drop(&b.conn, errPeerClosed)
	}
}

func (k *bracket) reply(l *loop, b *backend, reply []byte) {
	if b != k.b || len(k.asked) == 0 {
		return
	}
	q := k.asked[0]
	k.asked = k.asked[1:]
	if q.stamps == nil && q.then == nil {
		return
	}
	v, _, err := resp.Parse(reply)
	if q.then != nil {
		if err == nil {
			q.then(v)
		}
		return
	}
	if err != nil || len(v.Elems) != 3 || string(v.Elems[0].Str) != "master" {
		return
	}
	for _, s := range q.stamps {
		if s.r.order == s.order && s.r.offset == 0 && s.r.epoch == l.writer.Epoch {
			s.r.offset = v.Elems[1].Int
		}
	}
}
