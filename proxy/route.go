package proxy

import (
	"bytes"

	"understudy/cluster"
	"understudy/command"
	"understudy/resp"
)

// route sends a request where its endpoint says, or holds it.
func (l *loop) route(r *request) {
	c := r.c
	queued := len(l.replays) > 0 || l.held.n > 0
	// A read behind a write of its own client that is still held must not overtake it.
	if c.kind != primary && !r.write && (!queued || c.head == r) && l.routeToReplica(r) {
		return
	}
	if !l.mayWrite() || l.mustWait(r, queued) {
		l.hold(r)
		return
	}
	if r.info != nil && c.kind != primary && r.info.Flags&command.ReadOnly != 0 {
		l.count.leadReads++
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

// routeToReplica sends a read to a replica that has every write it must see; false when there is
// none.
func (l *loop) routeToReplica(r *request) bool {
	c := r.c
	if c.kind == split && (r.info == nil || r.info.Flags&command.ReadOnly == 0) {
		return false // neither read nor write: about the connection or the server, which is the primary
	}
	node, ok := l.replicaFor(c, r)
	if !ok {
		return false
	}
	b := c.replicaLane
	if b == nil || b.closed || b.retireAt != 0 || b.key != c.laneKey(node) {
		var err error
		if b, err = l.lane(c.laneKey(node)); err != nil {
			return false
		}
		c.replicaLane = b
	}
	r.reader, r.waits, r.batch = true, false, 0
	l.count.replicaReads++
	l.put(b, r)
	return true
}

// replicaFor chooses a replica: the client's own one as long as it may serve, so that what a client
// reads does not go back in time; else one of its zone, else any, in turn.
func (l *loop) replicaFor(c *client, r *request) (cluster.NodeID, bool) {
	need := uint64(0)
	if c.kind == split {
		need = l.keys.newest(r)
	}
	var first, local cluster.NodeID
	l.turns++
	for i := range l.reads {
		x := &l.reads[(uint64(i)+l.turns)%uint64(len(l.reads))]
		if c.kind == split && l.tracker.passed[x.Node] < need {
			continue
		}
		if x.Node == c.replica {
			return x.Node, true
		}
		if first == "" {
			first = x.Node
		}
		if local == "" && x.Zone == l.opts.Zone {
			local = x.Node
		}
	}
	if c.kind == split && c.replica != "" && l.isReader(c.replica) {
		return "", false // its own replica will be there again in a moment: ask the primary meanwhile
	}
	if local != "" {
		first = local
	}
	c.replica = first
	return first, first != ""
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
	case r.reader:
		l.deliver(r, reply)
	case l.void(r):
		l.again(r)
	case l.now >= l.acking || r.epoch != l.writer.Epoch:
		if !r.write {
			l.again(r) // read without a permit: it may be a former primary's answer
			return
		}
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
	return r.tx == txEnd || r.tx == txNone && r.info != nil && r.info.Flags&command.ReadOnly != 0
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
