package failover

import (
	"fmt"
	"time"

	"understudy/cluster"
)

// saving is how far this node has put its data set aside before it gives up writes that the group's log
// does not have.
type saving struct {
	boot    string // the run of redis-server whose data set is dealt with; ""
	tries   int
	retryAt time.Duration
}

// maxSaveTries bounds how long a full disk may keep a node from following: a second copy of what is acked
// now is worth more than a copy of what was given up.
const maxSaveTries = 3

// mustSave reports whether the data set has to be put aside first, and sees to it.
func (m *Machine) mustSave() bool {
	s := &m.save
	if s.boot == m.in.Local.Boot {
		return false
	}
	if m.in.Local.At <= m.redisAt {
		return true // where its log ends is not known yet
	}
	epoch, fork, beyond := m.beyond()
	if !beyond {
		return false
	}
	if m.in.Now < s.retryAt {
		m.wake(s.retryAt)
		return true
	}
	m.do(Action{Kind: ActSave, Epoch: epoch, Position: fork})
	return true
}

// beyond reports whether this node's log has, or after a crash may have, writes past the place where the
// group's log left it, under which epoch they were made, and that place.
func (m *Machine) beyond() (cluster.Epoch, cluster.Position, bool) {
	l := m.in.Local
	log, crashed := l.Position, false
	if indexOf(m.lead.Lineage, log.ReplID) < 0 {
		log, crashed = l.Last, l.Intact || l.Short
	}
	i := indexOf(m.lead.Lineage, log.ReplID)
	if i < 0 || i == len(m.lead.Lineage)-1 {
		return 0, cluster.Position{}, false
	}
	for _, f := range m.lead.Lineage[i+1:] {
		if f.Parent != log.ReplID {
			continue
		}
		// Of a crashed primary only the last look at it is known. What it had beyond that nobody else
		// acked in sync; in async it may have told a client.
		unsure := crashed && m.cfg.Durability == cluster.DurabilityAsync
		return m.lead.Lineage[i].Epoch, cluster.Position{ReplID: log.ReplID, Offset: f.At}, log.Offset > f.At || unsure
	}
	return 0, cluster.Position{}, false
}

// saved takes the end of it.
func (m *Machine) saved(a Action, r Result) {
	s := &m.save
	if r.Outcome == OutcomeOK {
		*s = saving{boot: m.in.Local.Boot}
		m.event("data_put_aside", fmt.Sprintf("writes of epoch %d that the group does not have: %s", a.Epoch, r.Detail))
		return
	}
	s.tries++
	s.retryAt = m.in.Now + m.cfg.Profile.TTL
	if s.tries >= maxSaveTries {
		*s = saving{boot: m.in.Local.Boot}
		m.event("data_given_up", fmt.Sprintf("writes of epoch %d that the group does not have could not be put aside: %s", a.Epoch, r.Detail))
	}
}
