package dashboard

import (
	"net/http"

	"understudy/cluster"
	"understudy/failover"
)

// Explain says why the group is as it is, and what would happen next.
func (d *Dashboard) Explain() failover.Explanation {
	q := failover.Question{
		Config: failover.Config{Group: d.opts.Group, Nodes: d.opts.Peers, Durability: d.opts.Durability, Profile: d.opts.Profile,
			OnLostQuorum: d.opts.OnLostQuorum, PreferredZone: d.opts.PreferredZone},
		Now: d.opts.Clock(), Known: map[cluster.NodeID]failover.Knowledge{},
	}
	for id, n := range d.opts.Nodes {
		if k := n.Knows(); k.At > 0 {
			q.Known[id] = k
		}
	}
	return failover.Explain(q)
}

func (d *Dashboard) serveExplain(w http.ResponseWriter, _ *http.Request) {
	d.answer(w, http.StatusOK, d.Explain())
}
