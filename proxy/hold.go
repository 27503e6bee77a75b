package proxy

import (
	"slices"
	"time"
)

// coolFor is the pause after a connection to the primary broke or could not be made: the agent's
// word that it is gone arrives within a millisecond.
const coolFor = time.Millisecond

// cool holds requests back for a moment, so that a primary that refuses is not asked in a loop.
func (l *loop) cool() {
	l.doubt()
	l.coolTill = max(l.coolTill, l.now+l.pause())
	l.wakeAt(l.coolTill)
}

// doubt has somebody look whether the primary is the one that it was.
func (l *loop) doubt() {
	if l.opts.OnDoubt != nil {
		l.opts.OnDoubt()
	}
}

// wakeWhenCool makes a turn begin when requests may be sent again after cool.
func (l *loop) wakeWhenCool() {
	if l.coolTill > l.now {
		l.wakeAt(l.coolTill)
	}
}

// hold keeps a request until there is a primary, at most for Options.Hold, or does what its policy says.
func (l *loop) hold(r *request) {
	if l.byPolicy(r) {
		return
	}
	if r.heldAt == 0 {
		r.heldAt = l.now
		l.count.held++
	}
	r.waits = true
	if r.policy != nil {
		l.policies.due = min(l.policies.due, r.heldAt+l.holdOf(r))
		l.wakeAt(l.policies.due)
	}
	l.sifting = l.sifting || l.writer.Hold != "" && !r.write && !l.mayWrite()
	if l.draining {
		// It was its turn: it stays in front of those behind it.
		if r.order == 0 {
			l.orders++
			r.order = l.orders
		}
		l.replays = append(l.replays, r)
		return
	}
	l.heldSize += len(r.frame)
	l.held.push(r)
	l.wakeAt(r.heldAt + l.opts.Hold)
	l.boundHold()
}

// boundHold answers the oldest requests with an error while too many wait. Those that were sent before, and
// those of clients with a connection of their own, count; but these are what was there already when the
// primary was lost, or wait in front of others of their client.
func (l *loop) boundHold() {
	for l.held.n > 0 {
		switch {
		case l.heldRequests() > l.opts.HoldRequests:
			l.turnAway(l.unhold(), l.holdFull(), boundRequests)
		case l.heldSize+l.replaySize+l.redoSize > l.opts.HoldBytes:
			l.turnAway(l.unhold(), l.holdFull(), boundBytes)
		default:
			return
		}
	}
}

// refusal is what a request had come to when it got an error in place of a primary.
type refusal uint8

const (
	boundTime     refusal = iota // it waited as long as it may
	boundRequests                // too many waited
	boundBytes                   // of too many bytes
	boundFailFast                // none: its policy is to fail
	bounds
)

// boundLabels are how the metric calls them.
var boundLabels = [bounds]string{boundTime: "time", boundRequests: "requests", boundBytes: "bytes", boundFailFast: "fail fast"}

// holdFull says why the oldest request has to go.
func (l *loop) holdFull() string {
	closed := l.closedFor()
	if closed == 0 && l.writer.Hold != "" {
		return errNoQuorum(l.now - l.scarce)
	}
	return errHoldFull(closed)
}

func (l *loop) unhold() *request {
	r := l.held.pop()
	l.heldSize -= len(r.frame)
	return r
}

// again puts a request that was not executed, or may be executed twice, in front of those that were
// never sent.
func (l *loop) again(r *request) {
	if r.source != nil {
		l.disown(r)
	}
	if l.writable && r.epoch == l.writer.Epoch && !r.reader {
		l.cool() // refused by the very primary that we would ask again
	}
	if r.reader {
		l.shun(r.from)
	}
	if r.ded {
		l.redoDedicated(r)
		return
	}
	l.unsend(r)
	if l.byPolicy(r) {
		return
	}
	if r.policy != nil {
		l.policies.due = min(l.policies.due, r.heldAt+l.holdOf(r))
	}
	l.replays = append(l.replays, r)
	l.sifting = l.writer.Hold != ""
	l.wakeWhenCool()
}

// unsend makes a request one that waits to be sent anew.
func (l *loop) unsend(r *request) {
	l.unmark(r)
	r.seq, r.waits, r.resent = 0, true, true
	if r.heldAt == 0 {
		r.heldAt = l.now
		l.count.held++
	}
	l.count.replayed++
}

// orphan decides about a request whose connection is gone. executed says whether the server may
// have got it whole.
func (l *loop) orphan(r *request, executed bool) {
	if r.ours() {
		return
	}
	if executed && r.culprit {
		l.unknown(r, endlessScript)
		return
	}
	if !executed || !r.write || r.idem || r.reader || r.block {
		l.again(r)
		return
	}
	l.unknown(r, "sent alone, and not answered")
}

// unknown answers a write whose outcome cannot be known, for the reason given.
func (l *loop) unknown(r *request, why string) {
	l.count.unknown++
	name := "unknown"
	if r.info != nil {
		name = r.info.Name
	}
	l.log.Warn("a write in flight was lost with its primary", "command", name, "epoch", r.epoch, "reason", why)
	l.deliver(r, []byte(errUnknown))
}

// giveUp answers a request that waited too long; it was not executed under the present primary.
func (l *loop) giveUp(r *request, text string) { l.turnAway(r, text, boundTime) }

// turnAway answers a request with an error in place of a primary. Only what came to a bound has leaked.
func (l *loop) turnAway(r *request, text string, b refusal) {
	l.count.refused[b]++
	if b != boundFailFast {
		l.count.timedOut++
		l.count.leaked++
	}
	l.policies.scan = true // a read behind it may go
	if r.marker != nil && r.order != 0 {
		// The client's repetition would have a marker of its own, and run again.
		l.unknown(r, "sent with a marker, and no primary came to say whether that is there")
		return
	}
	l.deliver(r, []byte(text))
}

// drain sends what was held, in the order in which it was sent first or arrived.
func (l *loop) drain() {
	if len(l.replays) == 0 && l.held.n == 0 && len(l.homeless) == 0 {
		return
	}
	if !l.mayWrite() {
		l.drainReads()
		l.rehome() // clients of the reader endpoint need no primary
		l.wakeWhenCool()
		return
	}
	l.draining = true
	defer func() { l.draining = false }()
	l.rehome()
	if l.writer.Hold != "" {
		l.sift()
		return
	}
	replays := l.replays
	l.replays = nil
	slices.SortStableFunc(replays, func(a, b *request) int {
		switch {
		case a.order < b.order:
			return -1
		case a.order > b.order:
			return 1
		}
		return 0
	})
	for i, r := range replays {
		if !l.mayWrite() {
			l.replays = append(l.replays, replays[i:]...)
			return
		}
		l.reroute(r)
	}
	for n := l.held.n; n > 0 && l.mayWrite(); n-- {
		l.reroute(l.unhold())
	}
}

// siftEvery bounds how often all that waits is looked through.
const siftEvery = 5 * time.Millisecond

// sift sends the reads that may go on while writes wait for a replica that could hold a copy of them.
func (l *loop) sift() {
	if !l.sifting {
		return
	}
	if l.now < l.siftAt {
		l.wakeAt(l.siftAt)
		return
	}
	l.sifting, l.siftAt = false, l.now+siftEvery
	replays := l.replays
	l.replays = nil
	for _, r := range replays {
		l.siftOne(r, func() { l.replays = append(l.replays, r) })
	}
	for range l.held.n {
		r := l.held.pop()
		l.heldSize -= len(r.frame)
		l.siftOne(r, func() {
			l.heldSize += len(r.frame)
			l.held.push(r)
		})
	}
}

func (l *loop) siftOne(r *request, keep func()) {
	if !r.c.gone && l.mustWait(r, true) {
		keep()
		return
	}
	l.reroute(r)
}

// drainReads lets reads of the reader and split endpoints go that a replica refused.
func (l *loop) drainReads() {
	kept := l.replays[:0]
	for _, r := range l.replays {
		if r.c.gone {
			l.free(r)
			continue
		}
		if r.c.kind != primary && !r.write {
			if sent, _ := l.routeToReplica(r); sent {
				continue
			}
		}
		kept = append(kept, r)
	}
	clear(l.replays[len(kept):])
	l.replays = kept
}

func (l *loop) reroute(r *request) {
	if r.c.gone {
		l.unmark(r)
		l.free(r)
		return
	}
	l.route(r)
}

// expire answers what has waited too long.
func (l *loop) expire() {
	_, shut := l.gate.Closed(l.now)
	since := l.closedFor()
	l.enforce(shut)
	for l.held.n > 0 && l.now-l.held.at(0).heldAt >= l.opts.Hold {
		l.expired(l.unhold(), since)
	}
	if l.held.n > 0 {
		l.wakeAt(l.held.at(0).heldAt + l.opts.Hold)
	}
	l.expireReplays(since)
	l.expireSent(shut, since)
	if !shut && l.writer.Hold != "" {
		l.commits.expire()
	}
}

// closedFor is how long there has been no primary; 0: there is one.
func (l *loop) closedFor() time.Duration {
	closed, shut := l.gate.Closed(l.now)
	if !shut {
		return 0
	}
	return l.now - closed
}

// expired answers a request that has waited as long as it may. A read that only waited behind a write of
// its client goes on instead.
func (l *loop) expired(r *request, since time.Duration) {
	if l.writer.Hold != "" && !r.write && !r.c.gone && l.mayWrite() && !l.mustWait(r, false) {
		r.heldAt = l.now
		l.route(r)
		return
	}
	l.giveUp(r, l.whyHeld(r, since))
	l.sifting = l.writer.Hold != ""
}

// expiredAlone answers a request of a client with a connection of its own that may not wait any longer.
func (l *loop) expiredAlone(r *request, since time.Duration) {
	if p := l.policyOf(r); p != nil && p.OnUnavailable == Fail {
		if why := l.unserved(r); why != "" {
			l.turnAway(r, why, boundFailFast)
			return
		}
	}
	l.giveUp(r, l.whyHeld(r, since))
}

// whyHeld says why a request has waited in vain.
func (l *loop) whyHeld(r *request, since time.Duration) string {
	if since == 0 && l.writer.Hold != "" && r.write {
		return errNoQuorum(l.now - l.scarce)
	}
	return errNoPrimary(since, l.now-r.heldAt)
}

func (l *loop) expireReplays(since time.Duration) {
	var over []*request
	kept := l.replays[:0]
	l.replaySize = 0
	for _, r := range l.replays {
		l.replaySize += len(r.frame)
		if l.now-r.heldAt >= l.opts.Hold {
			over = append(over, r)
			continue
		}
		l.wakeAt(r.heldAt + l.opts.Hold)
		kept = append(kept, r)
	}
	clear(l.replays[len(kept):])
	l.replays = kept
	for _, r := range over {
		l.expired(r, since)
	}
	l.expireHomeless(since)
}

// expireSent gives up what was sent to a primary that has lost its permit and says nothing: its
// connections are closed, which gives every request back.
func (l *loop) expireSent(shut bool, since time.Duration) {
	if !shut {
		return
	}
	if since < l.opts.Hold {
		l.wakeAt(l.now + l.opts.Hold - since)
		return
	}
	for key, b := range l.lanes {
		if key.node == l.writer.Node && b.inflight.n > 0 {
			l.drop(&b.conn, errPeerClosed)
		}
	}
	for c := range l.clients {
		if c.ded != nil && c.kind != reader && c.ded.inflight.n > 0 && !c.ded.idleBlock() {
			l.drop(&c.ded.conn, errPeerClosed)
		}
	}
	l.settleDoubts(len(l.doubts), nil)
	l.commits.giveUp(since)
}
