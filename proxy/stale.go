package proxy

import (
	"slices"
	"strconv"
	"time"

	"understudy/cluster"
	"understudy/resp"
)

// How old is what a replica has? Nobody tells by a clock: the proxy asks the primary where its log ends, and
// notes when it asked. A replica that has acknowledged that place has all that was written before the
// question, through any proxy. From then on its data counts as growing older, until it has acknowledged the
// place of a later question.
//
//	asked at     t1        t2        t3            now
//	log ended at 100       180       300
//	replica has       ......... 200                its data is as of t2: now − t2 old at most
//
// In sync a question counts only if enough voters have acknowledged something that was written after it: a
// primary behind a cut, which another one may have followed already, proves nothing.
type freshness struct {
	marks  []mark // oldest first
	proofs map[cluster.NodeID]proof
	shown  map[cluster.NodeID]bool          // whose age is in the metric
	shuns  map[cluster.NodeID]time.Duration // who refused a read, or broke its connection: until when it gets none
}

// mark is a place where the primary's log ended, at the latest, when it was asked.
type mark struct {
	at     time.Duration
	offset int64
}

// proof says that a node has everything from before a time.
type proof struct {
	asOf   time.Duration
	replid string // of the log that it followed then; "": not known
	pid    int    // of its server
}

const (
	// maxMarks bounds the places that are remembered: with a question four times in the bound of staleness a
	// replica that is further behind than that is of no use.
	maxMarks = 64
	// askAtLeast bounds the pause between questions.
	askAtLeast = time.Second
	// shunFor is how long a replica gets no reads after it refused one.
	shunFor = 20 * time.Millisecond
)

func newFreshness() freshness {
	return freshness{proofs: map[cluster.NodeID]proof{}, shuns: map[cluster.NodeID]time.Duration{}, shown: map[cluster.NodeID]bool{}}
}

// askEvery is how often the primary has to be asked, so that a replica's age is known to a quarter of the
// smallest bound; 0: nobody asks for an age.
func askEvery(o *Options) time.Duration {
	least := o.MaxStaleness
	for _, p := range o.Policies {
		if p.MaxStaleness > 0 && (least == 0 || p.MaxStaleness < least) {
			least = p.MaxStaleness
		}
	}
	return min(least/4, askAtLeast)
}

// learned forgets a proof that a node's new word takes away: its server is another one, or has another log.
// A node that leads, or led, is no replica whose data anything is known of.
func (f *freshness) learned(at time.Duration, s cluster.NodeStatus) {
	p, ok := f.proofs[s.Node]
	if !ok || at < p.asOf {
		return
	}
	other := p.replid != "" && s.Position.ReplID != "" && s.Position.ReplID != p.replid
	if s.Leads || s.Role != cluster.RoleReplica || s.PID != p.pid || other ||
		s.State != cluster.StateReady && s.State != cluster.StateSyncing {
		delete(f.proofs, s.Node)
	}
}

// noteMark adds the place that a question has told. When there are too many every second one goes.
func (f *freshness) noteMark(m mark) {
	if len(f.marks) == maxMarks {
		kept := f.marks[:0]
		for i := 1; i < maxMarks; i += 2 {
			kept = append(kept, f.marks[i])
		}
		f.marks = kept
	}
	f.marks = append(f.marks, m)
}

// newest is the newest mark for which ok holds; ok holds for all before one for which it does.
func (f *freshness) newest(ok func(mark) bool) (mark, bool) {
	for i := range slices.Backward(f.marks) {
		if ok(f.marks[i]) {
			return f.marks[i], true
		}
	}
	return mark{}, false
}

// prove takes what ROLE says of the replicas.
func (l *loop) prove(role resp.Value) {
	f := &l.fresh
	if l.now >= l.acking || len(role.Elems) != 3 {
		return
	}
	surely := mark{offset: 1<<63 - 1, at: l.now}
	if l.demand.Least > 0 {
		var ok bool
		if surely, ok = f.newest(func(m mark) bool { return l.demand.Satisfied(l.writer.Node, l.having(role, m.offset)) }); !ok {
			return
		}
	}
	for node, acked := range l.acknowledged(role) {
		m, ok := f.newest(func(m mark) bool { return m.offset <= acked && m.at <= surely.at })
		if s, there := l.gate.Node(node); ok && there && !s.Leads && m.at > f.proofs[node].asOf {
			f.proofs[node] = proof{asOf: m.at, replid: l.writer.ReplID, pid: s.PID}
		}
	}
}

// acknowledged is how far each replica is, by ROLE's word.
func (l *loop) acknowledged(role resp.Value) map[cluster.NodeID]int64 {
	all := map[cluster.NodeID]int64{}
	for _, e := range role.Elems[2].Elems {
		if len(e.Elems) != 3 {
			continue
		}
		at, err := strconv.ParseInt(string(e.Elems[2].Str), 10, 64)
		if id, ok := l.gate.At(string(e.Elems[0].Str) + ":" + string(e.Elems[1].Str)); ok && err == nil {
			all[id] = at
		}
	}
	return all
}

// asOf is a time from before which a node has everything; false: nothing is known, or it is not to be asked.
func (l *loop) asOf(node cluster.NodeID) (time.Duration, bool) {
	p, ok := l.fresh.proofs[node]
	return p.asOf, ok
}

// shun has a replica get no reads for a moment.
func (l *loop) shun(node cluster.NodeID) {
	if node == "" {
		return
	}
	l.fresh.shuns[node] = l.now + shunFor
	l.policies.scan = true
	l.wakeAt(l.now + shunFor)
}

func (l *loop) shunned(node cluster.NodeID) bool {
	until, ok := l.fresh.shuns[node]
	if ok && l.now >= until {
		delete(l.fresh.shuns, node)
		return false
	}
	return ok
}

// sendStale has a replica answer a read while there is no primary; false: none may.
func (l *loop) sendStale(r *request, p *Policy) bool {
	if _, shut := l.gate.Closed(l.now); !shut || l.gate.HandingOver(l.now) || r.write || r.ded || r.c.gone || !r.reads() {
		return false
	}
	for x := r.c.head; x != nil && x != r; x = x.after {
		if x.write && !x.done {
			return false // it would not see its own client's write
		}
	}
	node, asOf, ok := l.staleSource(r.c, p.MaxStaleness)
	if !ok || !l.toReplica(r, node) {
		return false
	}
	r.c.replica = node
	r.asOf, r.stale = asOf, true
	l.count.routes[routeStale]++
	return true
}

// staleSource chooses a replica whose data is not older than bound: the client's own one, so that what it
// reads does not go back in time; else the newest of its zone, else the newest.
func (l *loop) staleSource(c *client, bound time.Duration) (node cluster.NodeID, asOf time.Duration, ok bool) {
	local := false
	for _, x := range l.standbys {
		at, known := l.asOf(x.Node)
		if !known || l.now-at > bound || l.shunned(x.Node) || l.now-l.heard[x.Node] > silence {
			continue
		}
		if x.Node == c.replica {
			return x.Node, at, true
		}
		here := l.opts.Zone != "" && x.Zone == l.opts.Zone
		if !ok || here && !local || here == local && at > asOf {
			node, asOf, ok, local = x.Node, at, true, here
		}
	}
	return node, asOf, ok
}

// tooOld reports whether a replica's answer came so late that its data may be older than is allowed.
func (l *loop) tooOld(r *request) bool {
	switch {
	case r.asOf == 0:
		return false
	case r.stale:
		return r.policy != nil && l.now-r.asOf > r.policy.MaxStaleness
	default:
		return l.opts.MaxStaleness > 0 && l.now-r.asOf > l.opts.MaxStaleness
	}
}

// noteAge counts a stale read that is about to be given.
func (l *loop) noteAge(r *request) {
	if !r.stale {
		return
	}
	l.staleReads++
	l.count.stale++
	l.staleAt, l.staleAge = l.now, l.now-r.asOf
	l.metrics.staleness.Observe(l.staleAge.Seconds())
}
