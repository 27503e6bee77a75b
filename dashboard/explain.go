package dashboard

import (
	"net/http"

	"understudy/cluster"
	"understudy/failover"
)

// Explain says why the group is as it is, and what would happen next.
func (d *Dashboard) Explain() failover.Explanation {
	if d.opts.Operator != "" {
		return d.explainOutside()
	}
	g := d.group()
	q := failover.Question{
		Config: failover.Config{Group: d.opts.Group, Nodes: g.peers, Manual: g.manual, Durability: d.opts.Durability, Profile: d.opts.Profile,
			OnLostQuorum: d.opts.OnLostQuorum, PreferredZone: d.opts.PreferredZone},
		Now: d.opts.Clock(), Known: map[cluster.NodeID]failover.Knowledge{},
	}
	for id, n := range g.nodes {
		if k := n.Knows(); k.At > 0 {
			q.Known[id] = k
		}
	}
	return failover.Explain(q)
}

// explainOutside is Explain for a group that somebody else fails over: whom that would choose is not known
// here.
func (d *Dashboard) explainOutside() failover.Explanation {
	s := d.Status()
	e := failover.Explanation{
		Group: s.Group, Epoch: s.Epoch, Primary: s.Primary, PermitMs: s.PermitMs, Failover: d.opts.Operator,
		Election: failover.Ballot{Without: s.Primary, Reason: d.opts.Operator, LostBytes: -1, Loss: "not known here"},
		Rule:     failover.RuleInWords{Text: "no replica has to hold a write before it is acked"},
		Store:    failover.StoreInWords{OK: true, Text: "there is none: the nodes themselves are asked"},
	}
	for _, n := range s.Nodes {
		e.Nodes = append(e.Nodes, failover.NodeInWords{ID: n.ID, Zone: n.Zone, Role: n.Role, State: n.State, Reason: n.Reason, StoreMs: -1})
	}
	return e
}

func (d *Dashboard) serveExplain(w http.ResponseWriter, _ *http.Request) {
	d.answer(w, http.StatusOK, d.Explain())
}
