package failover

import (
	"fmt"
	"time"

	"understudy/cluster"
)

// A holder that cannot renew in the store asks every other node for a pledge. Each that gives one counts
// it as having seen the record change at that moment, so no node starts an election before T+δ from then:
// the permit goes on as from a renewal. One that does not answer, or has let go, ends that: it may be the
// one that the store has, or will have, a new epoch for. (Patroni calls it failsafe mode.)

// pledging is a holder's part in it.
type pledging struct {
	sentAt time.Duration
	nextAt time.Duration
	active bool // the permit rests on pledges
}

// askPledges asks when the store has been silent for two renewals.
func (m *Machine) askPledges() {
	d, p := &m.leading, &m.leading.pledging
	due := max(d.okAt+2*m.cfg.Profile.Renew, p.nextAt)
	if m.in.Now < due {
		m.wake(due)
		return
	}
	// An answer that comes after the permit's end is of no use, and the next question must still fit.
	if m.do(Action{Kind: ActPledge, Epoch: m.lead.Epoch, Node: m.cfg.Self.Node, For: m.cfg.Profile.Window}) {
		p.sentAt, p.nextAt = m.in.Now, m.in.Now+m.cfg.Profile.Renew
	}
}

// pledged takes the answers of all.
func (m *Machine) pledged(r Result) {
	p := &m.leading.pledging
	if r.Outcome != OutcomeOK || m.mode != modeLead {
		return
	}
	from := p.sentAt
	if m.cfg.Mutation == MutationPledgeFromReply {
		from = m.in.Now
	}
	m.writeUntil = max(m.writeUntil, from+m.cfg.Profile.TTL-m.cfg.Profile.Delta)
	if !p.active {
		p.active = true
		m.event("failsafe", "the store does not answer; every node confirms this primary, which goes on")
	}
}

// pledge is the other nodes' part.
func (m *Machine) pledge(r Request) {
	answer := Reply{ID: r.ID, OK: true, Lead: m.lead}
	if why := m.refusePledge(r); why != "" {
		answer = Reply{ID: r.ID, Refused: true, Message: why, Lead: m.lead}
	} else if m.lead.Epoch == r.Epoch && m.cfg.Mutation != MutationPledgeUncounted {
		m.seenAt = max(m.seenAt, m.in.Now)
	}
	m.out.Replies = append(m.out.Replies, answer) // not remembered: each counts for its own moment
}

func (m *Machine) refusePledge(r Request) string {
	l := m.lead
	switch {
	case r.Epoch < max(l.Epoch, m.in.Local.Seen):
		return fmt.Sprintf("%s has seen epoch %d", m.cfg.Self.Node, max(l.Epoch, m.in.Local.Seen))
	case r.Epoch == l.Epoch && (l.Holder != r.Node || l.State != cluster.LeadHeld):
		return fmt.Sprintf("epoch %d is of %s, %s", l.Epoch, l.Holder, l.State)
	case max(m.revoked, m.keeping.promise, m.in.Local.Revoked) >= r.Epoch:
		return fmt.Sprintf("%s has let go of epoch %d", m.cfg.Self.Node, r.Epoch)
	case m.mode != modeFollow:
		return fmt.Sprintf("%s is busy with a change of primary", m.cfg.Self.Node)
	}
	return ""
}
