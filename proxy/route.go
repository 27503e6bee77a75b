package proxy

import (
	"bytes"

	"understudy/cluster"
	"understudy/failover"
	"understudy/resp"
)

// route sends a request where its endpoint says, or holds it.
func (l *loop) route(r *request) {
	c := r.c
	queued := len(l.replays) > 0 || l.held.n > 0
	why := routeQueued
	// A read behind a write of its own client that is still held must not overtake it.
	if c.kind != primary && !r.write && (!queued || c.head == r) {
		sent := false
		if sent, why = l.routeToReplica(r); sent {
			return
		}
	}
	if !l.mayWrite() || l.mustWait(r, queued) {
		l.hold(r)
		return
	}
	if c.kind != primary && r.reads() {
		l.count.leadReads++
		l.count.routes[why]++
	}
	b := c.lane
	if b == nil || b.closed || b.retireAt != 0 || b.key.node != l.writer.Node || b.key != c.laneKey(l.writer.Node) {
		var err error
		if b, err = l.lane(c.laneKey(l.writer.Node)); err != nil {
			l.cool()
			l.hold(r)
			return
		}
		c.lane = b
	}
	l.send(b, r)
}

// mayWrite reports whether a request may be sent to the primary now: invariant 2, checked per
// request.
func (l *loop) mayWrite() bool {
	return l.writable && l.now < l.writer.Until && l.now >= l.coolTill && len(l.doubts) == 0
}

// mustWait reports whether a request waits although there is a primary: behind those that wait
// already, unless it is their turn; or, while too few replicas are there to ack a write, as a write, or
// behind one of its own client.
func (l *loop) mustWait(r *request, queued bool) bool {
	if l.writer.Hold == "" {
		return queued && !l.draining
	}
	if r.write {
		return true
	}
	for x := r.c.head; x != r; x = x.after {
		if x.waits {
			return true
		}
	}
	return false
}

// send forwards a request to the primary under its epoch.
func (l *loop) send(b *backend, r *request) {
	r.epoch, r.replid, r.offset, r.reader, r.waits = l.writer.Epoch, l.writer.ReplID, 0, false, false
	r.asOf, r.stale = 0, false
	if r.order == 0 {
		l.orders++
		r.order = l.orders
	}
	if r.write {
		l.mark(r)
	}
	if r.heldAt != 0 {
		l.metrics.holdSeconds.Observe((l.now - r.heldAt).Seconds())
	}
	r.conn = b.id
	l.put(b, r)
}

// routeToReplica sends a read to a replica that has every write it must see; false, and why, when there is
// none.
func (l *loop) routeToReplica(r *request) (sent bool, why routeReason) {
	c := r.c
	if c.kind == split && !r.reads() {
		return false, routeNone // neither read nor write: about the connection or the server, which is the primary
	}
	node, why := l.replicaFor(c, r)
	if node == "" {
		return false, why
	}
	if l.opts.MaxStaleness > 0 {
		r.asOf, _ = l.asOf(node)
	}
	if !l.toReplica(r, node) {
		return false, routeNone
	}
	r.stale = false
	l.count.routes[why]++
	return true, why
}

// toReplica hands a read to a replica's connection; false when there is none to be had.
func (l *loop) toReplica(r *request, node cluster.NodeID) bool {
	c := r.c
	b := c.replicaLane
	if b == nil || b.closed || b.retireAt != 0 || b.key != c.laneKey(node) {
		var err error
		if b, err = l.lane(c.laneKey(node)); err != nil {
			return false
		}
		c.replicaLane = b
	}
	r.reader, r.waits, r.batch, r.from, c.readAt = true, false, 0, node, l.now
	l.count.replicaReads++
	l.put(b, r)
	return true
}

// routeReason is why a read of the reader or the split endpoint went where it did.
type routeReason uint8

const (
	routeSameZone  routeReason = iota // to a replica of the proxy's zone
	routeOtherZone                    // to a replica of another one, or the proxy has no zone
	routeStale                        // to a replica, by the policy stale, because there is no primary
	routeNone                         // to the primary: no replica is there
	routeBehind                       // the replicas lack the key's newest write
	routeOwn                          // the client's own replica does, and another one may lack what it has read
	routeTooOld                       // the replicas' data may be older than max_staleness
	routeLag                          // the replicas are more than max_lag_bytes behind
	routeQueued                       // requests wait, and it must not overtake its client's
	routeReasons
)

// routeLabels are how the metric calls them: where to, and why.
var routeLabels = [routeReasons][2]string{
	routeSameZone: {"replica", "same zone"}, routeOtherZone: {"replica", "other zone"}, routeStale: {"replica", "no primary"},
	routeNone: {"primary", "no replica"}, routeBehind: {"primary", "key behind"}, routeOwn: {"primary", "own replica behind"},
	routeTooOld: {"primary", "too old"}, routeLag: {"primary", "too far behind"}, routeQueued: {"primary", "order"},
}

// replicaFor chooses a replica: the client's own one as long as it may serve, so that what a client
// reads does not go back in time; else one of its zone, else any, in turn. "" and why when there is none.
func (l *loop) replicaFor(c *client, r *request) (node cluster.NodeID, why routeReason) {
	need := uint64(0)
	if c.kind == split {
		need = l.keys.newest(r)
	}
	var first, local cluster.NodeID
	own := false
	why = routeNone
	l.turns++
	for i := range l.reads {
		x := &l.reads[(uint64(i)+l.turns)%uint64(len(l.reads))]
		if no := l.unfit(x, c, need); no != routeSameZone {
			why = max(why, no)
			continue
		}
		own = own || x.Node == c.replica
		if first == "" {
			first = x.Node
		}
		if x.Zone == l.opts.Zone && (local == "" || x.Node == c.replica) {
			local = x.Node
		}
	}
	switch {
	case own && (local == "" || !l.mayReturn(c, local)):
		return c.replica, l.zoneOf(local == c.replica)
	case !own && c.kind == split && c.replica != "" && l.isReader(c.replica):
		return "", max(why, routeOwn) // it will be there again in a moment: ask the primary meanwhile
	case local != "":
		c.replica = local
	default:
		c.replica = first
	}
	if c.replica == "" {
		return "", why
	}
	return c.replica, l.zoneOf(local != "")
}

// unfit says why a replica may not answer a read; routeSameZone: it may.
func (l *loop) unfit(x *failover.Reader, c *client, need uint64) routeReason {
	switch {
	case l.shunned(x.Node):
		return routeNone
	case c.kind == split && l.tracker.passed[x.Node] < need:
		return routeBehind
	case l.opts.MaxLagBytes > 0 && x.LagBytes > l.opts.MaxLagBytes:
		return routeLag
	}
	if l.opts.MaxStaleness > 0 {
		if at, known := l.asOf(x.Node); !known || l.now-at > l.opts.MaxStaleness {
			return routeTooOld
		}
	}
	return routeSameZone
}

// mayReturn reports whether a client that reads in another zone may go back to a replica of its own: when
// that has everything from before the client's last read, what it reads does not go back in time.
func (l *loop) mayReturn(c *client, local cluster.NodeID) bool {
	at, known := l.asOf(local)
	return local != c.replica && known && at >= c.readAt
}

func (l *loop) zoneOf(same bool) routeReason {
	if same {
		return routeSameZone
	}
	return routeOtherZone
}

// answered takes a server's reply to a request that is in no queue any more.
func (l *loop) answered(r *request, reply []byte) {
	if len(reply) > 0 && reply[0] == '-' && (l.rejected(r, reply) || l.unloaded(r, reply)) {
		l.again(r)
		return
	}
	if len(reply) > 0 && reply[0] == '-' && leaks(r, reply) {
		l.count.leaked++
	}
	if r.edit != nil && reply[0] != '-' && !r.c.gone && !l.void(r) {
		reply = r.edit(l, r.c, reply)
	}
	switch {
	case r.reader && l.tooOld(r):
		l.again(r)
	case r.reader:
		l.noteAge(r)
		l.deliver(r, reply)
	case l.void(r):
		l.again(r)
	case l.now >= l.acking || r.epoch != l.writer.Epoch:
		l.keys.wrote(r)
		l.commits.add(r, reply)
	case r.write || l.demand.Least > 0 && l.isRead(r) && (l.committed(r) || l.unproved || l.keys.dirty(r)):
		l.keys.wrote(r)
		if l.demand.Least == 0 {
			l.deliver(r, reply)
			return
		}
		l.commits.add(r, reply)
	default:
		l.deliver(r, reply)
	}
}

// void reports whether an answer counts for nothing: it was read without a permit, and may be a former
// primary's.
func (l *loop) void(r *request) bool {
	return !r.reader && !r.write && (l.now >= l.acking || r.epoch != l.writer.Epoch)
}

func (l *loop) isRead(r *request) bool {
	return r.tx == txEnd || r.tx == txNone && r.reads()
}

// committed reports whether a read is to wait for a commit whatever it shows.
func (l *loop) committed(r *request) bool {
	return l.opts.Reads == ReadsCommitted && r.c.kind == primary
}

// leaks reports whether a reply tells a client of a failover although the hold is there to hide it.
func leaks(r *request, reply []byte) bool {
	switch string(resp.ErrorCode(reply)) {
	case "READONLY":
		return !r.reader // a replica that refuses a write says nothing of a failover
	case "UNBLOCKED":
		return !bytes.Contains(reply, []byte(byUnblock))
	case "LOADING", "MASTERDOWN", "NOREPLICAS":
		return true
	default:
		return false
	}
}

// rejected reports whether the server refused the request without executing it, because it is not,
// or not yet, the primary.
func (l *loop) rejected(r *request, reply []byte) bool {
	if r.tx == txEnd && bytes.HasPrefix(reply, []byte("-EXECABORT")) {
		return !r.reader && (bytes.Contains(reply, []byte("READONLY")) || bytes.Contains(reply, []byte("NOREPLICAS")) ||
			bytes.Contains(reply, []byte("LOADING")) || bytes.Contains(reply, []byte("MASTERDOWN")))
	}
	switch string(resp.ErrorCode(reply)) {
	case "READONLY":
		return !r.reader
	case "NOREPLICAS":
		// A script may have written before it met too few replicas.
		return r.reader || r.info == nil || !r.info.Script()
	case "NOAUTH":
		return l.secured && r.c.anonymous() // the epoch's user was deleted under us
	case "UNBLOCKED":
		return !bytes.Contains(reply, []byte(byUnblock))
	case "LOADING", "MASTERDOWN":
		if r.reader {
			r.c.replica = "" // try another
		}
		return true
	default:
		return false
	}
}
