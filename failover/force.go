package failover

import (
	"cmp"
	"fmt"
	"slices"

	"understudy/cluster"
)

// Without a log that surely holds every acked write the group waits. An operator who knows that the rest
// is gone for good may have it go on with the best that is left.

// takeForce notes the operator's wish; the election that is under way answers it.
func (m *Machine) takeForce(r Request) {
	switch m.mode {
	case modeFollow, modeElect:
		m.force = &r
	case modeClaim:
		m.reply(r, Reply{Refused: true, Message: fmt.Sprintf("%s is taking the lead already", m.cfg.Self.Node)})
	default:
		m.reply(r, Reply{Refused: true, Message: fmt.Sprintf("%s leads: nothing needs to be given up", m.cfg.Self.Node)})
	}
}

// refuseForce answers a wish that cannot be met now.
func (m *Machine) refuseForce() {
	if m.force == nil {
		return
	}
	message := ""
	switch l := m.lead; {
	case !m.in.Store.Known:
		message = "the store cannot be read: nobody can take the lead without it"
	case m.mode == modeFollow && l.State == cluster.LeadHeld && m.in.Now < m.expires():
		message = fmt.Sprintf("%s has the lead: nothing needs to be given up", l.Holder)
	case m.mode == modeElect && !m.healthy():
		if _, message = m.fit(); message == "" {
			message = "redis-server has not answered yet"
		}
		message = fmt.Sprintf("%s cannot lead: %s", m.cfg.Self.Node, message)
	default:
		return
	}
	m.reply(*m.force, Reply{Refused: true, Message: message})
	m.force = nil
}

// answerForce is called when an election has found no log that surely is complete.
func (m *Machine) answerForce(winner cluster.NodeID, reason string) {
	if m.force == nil {
		return
	}
	r := *m.force
	if winner != "" {
		m.force = nil
		m.reply(r, Reply{Refused: true, To: winner, Message: fmt.Sprintf("%s is about to take the lead: nothing needs to be given up", winner)})
		return
	}
	if m.election.early && m.in.Now < m.expires() {
		return // the silent holder may still have writes acked by whoever has not let go: the wish waits for T+δ
	}
	best, ok := m.bestLeft(m.reports())
	lost := m.loss(best)
	switch {
	case !ok:
		m.force = nil
		m.reply(r, Reply{Refused: true, Message: "no node that answers could lead: " + reason})
	case best.Node != m.cfg.Self.Node:
		m.force = nil
		m.reply(r, Reply{Refused: true, To: best.Node, Message: fmt.Sprintf("the best log that is left is %s's", best.Node)})
	case !r.AcceptLoss:
		m.force = nil
		m.reply(r, Reply{Refused: true, Message: fmt.Sprintf("%s; %s has the best log that is left: %s. To go on with it and give the rest up, accept the loss", reason, best.Node, describeLoss(lost))})
	default:
		m.event("loss_accepted", fmt.Sprintf("an operator has %s lead although %s", best.Node, describeLoss(lost)))
		m.claimVacant("an operator accepted the loss: "+describeLoss(lost), lost)
	}
}

func describeLoss(bytes int64) string {
	switch {
	case bytes < 0:
		return "it is not known how much of the last primary's log it lacks"
	case bytes == 0:
		return "it lacks nothing that was heard of the last primary's log, but there may have been more"
	}
	return fmt.Sprintf("at least %d bytes of the last primary's log are lost", bytes)
}

// bestLeft is the node with the best log among those that answer, complete or not.
func (m *Machine) bestLeft(reports map[cluster.NodeID]Report) (candidate, bool) {
	var left []candidate
	for _, p := range m.cfg.Nodes {
		r, ok := reports[p.Node]
		if !ok || !r.Fit || r.Revoked < m.election.epoch {
			continue
		}
		c := candidate{Peer: p, report: r, whole: r.Short == m.election.epoch && m.servedLast(p.Node)}
		c.index, c.offset, c.placed = place(m.lead.Lineage, r.Position, r.Prev)
		if !c.placed {
			c.index, c.offset, _ = place(m.lead.Lineage, r.Last, cluster.Position{})
		}
		left = append(left, c)
	}
	slices.SortStableFunc(left, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(boolInt(b.placed), boolInt(a.placed)), m.better(a, b))
	})
	if len(left) == 0 {
		return candidate{}, false
	}
	return left[0], true
}

// loss is how many bytes of the last holder's log, as far as the record knows it, the candidate lacks;
// -1 when the two cannot be compared.
func (m *Machine) loss(c candidate) int64 {
	index, offset, ok := place(m.lead.Lineage, m.lead.Position, cluster.Position{})
	if _, _, known := place(m.lead.Lineage, c.report.Last, cluster.Position{}); !ok || !c.placed && !known {
		return -1
	}
	for i := c.index + 1; i <= index; i++ {
		if m.lead.Lineage[i].Parent == "" {
			return -1 // its offsets began anew
		}
	}
	return max(0, offset-c.offset)
}
