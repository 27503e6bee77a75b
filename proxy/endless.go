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

// accuse marks the scripts that the lost server may have been running: those at the head of the
// connection's queue. What stands behind them was not begun.
func (l *loop) accuse(b *backend) {
	for i := range b.inflight.n {
		x := b.inflight.at(i)
		switch {
		case x.ours(), x.tx == txQueued: // the replies of a pipeline are written at its end
			continue
		case x.after0 > b.written:
			return
		case x.group != nil:
			for _, r := range x.group.members {
				r.accuse(l.now)
			}
		default:
			x.accuse(l.now)
		}
		return
	}
}

func (r *request) accuse(now time.Duration) {
	r.culprit = r.script && now-r.sentAt >= suspectFor
}
