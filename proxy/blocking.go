package proxy

import "understudy/resp"

// A command that blocks and writes, BRPOP for one, cannot travel in a batch: between MULTI and EXEC nothing blocks.
// It is followed by the PUBLISH of a number instead:
//
//	BRPOP queue 0 · PUBLISH number
//
// redis-server carries out what stands behind a blocked command when that has ended, and before it writes the reply
// or anything to its replicas. So a replica learns of the number with what was popped: if the new primary has
// seen it, the command was carried out; if not, it may be sent again and takes nothing twice. The two are not one
// transaction: a log that was cut between them, within one write to the replica's socket, would have the pop and
// not the number.

// mayMark finds out whether the session's user may publish, ahead of the first command that depends on it.
func (l *loop) mayMark(b *backend, r *request) {
	if b.marker != nil || !l.wantsMark(r) {
		return
	}
	b.marker = &request{note: func(reply []byte) { b.markless = b.markless || reply[0] == '-' }}
	b.raw(resp.AppendCommand(l.line[:0], "PUBLISH", l.channel, ""))
	b.inflight.push(&request{note: func(reply []byte) {
		if reply[0] == '-' {
			b.markless, r.batch = true, 0 // r stands behind this in the queue
		}
	}})
}

// follow sends a number behind the blocking command that was just sent.
func (l *loop) follow(b *backend, r *request) {
	if !r.block || b.markless || !l.wantsMark(r) {
		return
	}
	r.conn, r.batch = b.id, l.publishNumber(b)
	b.inflight.push(b.marker)
}

func (l *loop) wantsMark(r *request) bool {
	return r.write && !r.idem && !r.reader && l.demand.Least > 0
}
