package failover

import "understudy/cluster"

// keeping is what this node's disk is to hold, so that a restart of its agent forgets nothing that
// others rely on.
type keeping struct {
	promise  cluster.Epoch // never to be followed again; on disk before anybody is told
	revoked  cluster.Epoch // on disk
	epoch    cluster.Epoch // the newest record on disk, and whether it was of a promoted holder
	promoted bool
	known    bool // the three above were taken from what the agent read at its start
}

// keep puts news on the disk: a new epoch, its lineage, a promise.
func (m *Machine) keep() {
	k, l := &m.keeping, m.in.Local
	if !k.known {
		k.known, k.revoked, k.promise = true, l.Revoked, l.Revoked
		k.epoch, k.promoted = l.Kept.Epoch, l.Kept.Promoted
	}
	record := m.lead.Epoch > max(k.epoch, l.Seen) || m.lead.Epoch == k.epoch && m.lead.Promoted && !k.promoted
	if !record && k.promise <= k.revoked {
		return
	}
	m.do(Action{Kind: ActPersist, Epoch: max(m.lead.Epoch, l.Seen), Revoked: k.promise, Lead: m.lead})
}

// kept takes the disk's answer. What failed is tried again with the next step.
func (m *Machine) kept(a Action, r Result) {
	if r.Outcome != OutcomeOK {
		m.event("not_kept", "this node's disk does not take the epoch: "+r.Detail)
		return
	}
	k := &m.keeping
	k.epoch, k.promoted = a.Lead.Epoch, a.Lead.Promoted
	k.revoked = max(k.revoked, a.Revoked)
}
