package failover

import "time"

// doubt is what a replica does about a holder that has not renewed for a while: it reads the store again,
// and asks the holder. In sync no write is acked without a quorum of voters, so when that many have let go
// of the holder for good, nothing needs to be waited for, and no clock is needed: invariant 3.
type doubt struct {
	revision int64         // of the record that does not change
	sentAt   time.Duration // of the newest question
	askedAt  time.Duration // of the newest that the store has answered, with that record; 0: none yet
	failed   bool          // the newest was not answered
}

// silence is how long a holder may not renew before it is asked whether it lives. A question costs
// nothing: one renewal that is late by half its time is enough.
func (p Profile) silence() time.Duration { return p.Renew + p.Renew/2 }

// doubts reports whether the holder is silent, and the store has confirmed that it is. What this node
// remembers does not do: it may have slept, or the store's news may not reach it, and then it cannot be
// elected, and would only let go of a healthy primary.
func (m *Machine) doubts() bool {
	d := &m.doubt
	if d.revision != m.revision || m.seenAt > d.askedAt {
		*d = doubt{revision: m.revision, sentAt: d.sentAt}
	}
	if due := m.seenAt + m.cfg.Profile.silence(); m.in.Now < due {
		m.wake(due)
		return false
	}
	again := d.sentAt + m.cfg.Profile.silence()
	if d.failed {
		again = d.sentAt + m.cfg.Profile.Probe
	}
	if _, busy := m.busy(classAsk); busy || d.sentAt >= m.seenAt && m.in.Now < again {
		m.wake(again)
	} else if m.do(Action{Kind: ActAsk, For: m.cfg.Profile.Window}) {
		d.sentAt, d.failed = m.in.Now, false
	}
	return d.askedAt > 0
}

// asked takes the end of the question.
func (d *doubt) asked(r Result) {
	if d.failed = r.Outcome != OutcomeOK; !d.failed {
		d.askedAt = d.sentAt
	}
}

// mayElectEarly reports whether an election may begin although the silent holder's permit may last: it
// did not answer either, and it can ack nothing without the voters that the election needs.
func (m *Machine) mayElectEarly() bool {
	l := m.lead
	needed := len(m.rules()) > 0 && l.Rule.W > 0 || m.cfg.Mutation == MutationEarlyAsync
	return needed && l.Promoted && !m.byHand() && m.healthy() && m.in.Peers[l.Holder].At < m.doubt.askedAt
}
