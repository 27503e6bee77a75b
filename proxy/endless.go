package proxy

import "time"

// A script that never ends makes its primary hang, and is in flight when that primary is ended. Sent anew,
// because the new primary's log shows that it never ran to its end, it would take the next primary down
// too, and so on round the group.

// suspectFor is how long a script must have been in flight when its server was lost, to be suspected of
// that: less than the fast profile takes to find a primary hung (300 ms), more than the scripts of a healthy
// server wait.
const suspectFor = 200 * time.Millisecond

// endlessScript is the reason given in the log.
const endlessScript = "a script that was running when its server fell silent"

// serverReads is how much redis-server reads from a connection at a time (PROTO_IOBUF_LEN). It writes the replies
// of all that it has read when it has carried out the last of it.
const serverReads = 16 << 10

// accuse marks the scripts that the lost server may have been running. Without a reply is also what it had
// done before, because it reads many commands at a time: so all are suspects that may have come in one read with
// the oldest. What stands behind them was not begun.
func (l *loop) accuse(b *backend) {
	upto := uint64(0)
	for i := range b.inflight.n {
		x := b.inflight.at(i)
		switch {
		case x.ours():
			continue
		case x.after0 > b.written, upto > 0 && x.after0 > upto:
			return
		case upto == 0:
			upto = x.after0 + serverReads
		}
		if x.group == nil {
			x.accuse(l.now)
			continue
		}
		for _, r := range x.group.members {
			r.accuse(l.now)
		}
	}
}

func (r *request) accuse(now time.Duration) {
	r.culprit = r.script && now-r.sentAt >= suspectFor
}
