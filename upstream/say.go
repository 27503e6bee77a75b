package upstream

import (
	"fmt"
	"time"

	"understudy/cluster"
)

// sayAll says anew what is known of every node: the epoch, or the number of nodes, has changed.
func (j *judge) sayAll() {
	for _, id := range j.order {
		j.sayOf(j.nodes[id])
	}
}

// sayOf says what is known of a node. Its time is that of the node's newest answer: nothing is permitted
// for longer than that answer permits.
func (j *judge) sayOf(n *node) {
	if n.asked {
		j.said = append(j.said, said{n.answer.at, j.status(n)})
	}
}

// status puts what is known of a node into the agents' words.
func (j *judge) status(n *node) cluster.NodeStatus {
	w := n.answer.word
	s := cluster.NodeStatus{
		Group: j.opts.Group, Node: n.id, Zone: n.zone, Nodes: len(j.nodes), Addr: n.answer.addr,
		Role: w.role, Epoch: j.epoch, Durability: cluster.DurabilityAsync, Position: w.pos, Access: j.opts.access(),
	}
	if s.Role == "" {
		s.Role = cluster.RoleReplica // it has never been heard
	}
	s.State, s.Reason = j.state(n)
	if n.id == j.held.node && s.State == cluster.StateReady && s.Role == cluster.RolePrimary {
		s.Leads, s.Permit, s.Pausing, s.Fork = true, j.opts.Lease, j.pausing(), j.fork
		return s
	}
	if s.Role == cluster.RoleReplica && n.answer.err == nil {
		bytes, age := j.progress.behind(n.answer.at, w.pos)
		if !w.linkUp {
			age = max(age, n.answer.at-j.heard) // what the primary did since nobody knows
		}
		s.LagBytes, s.LagMs = bytes, float64(age)/float64(time.Millisecond)
	}
	return s
}

// state is a node's state, and why it is not ready.
func (j *judge) state(n *node) (cluster.NodeState, string) {
	w := n.answer.word
	switch {
	case n.answer.err != nil:
		return cluster.StateDown, n.answer.err.Error()
	case w.cannot == "LOADING":
		return cluster.StateLoading, "it is loading its data set"
	case w.cannot != "":
		return cluster.StateSyncing, "it answers " + w.cannot
	case w.role == cluster.RolePrimary && j.holds(n):
		return cluster.StateReady, ""
	case w.role == cluster.RolePrimary && j.epoch == 0:
		return cluster.StateSyncing, "it says that it is a primary; not decided yet"
	case w.role == cluster.RolePrimary:
		return cluster.StateSyncing, fmt.Sprintf("it says that it is a primary, and is not taken for the one of this group; %s is, or was", j.held.node)
	case w.syncing:
		return cluster.StateSyncing, "it is in a full sync from " + w.follows
	case j.epoch == 0:
		return cluster.StateSyncing, "no primary has been found yet"
	case w.pos.ReplID != j.held.replid:
		return cluster.StateSyncing, fmt.Sprintf("what it has from %s is not %s's log", w.follows, j.held.node)
	case !w.linkUp && !j.lost:
		return cluster.StateSyncing, "its link to " + w.follows + " is down"
	}
	return cluster.StateReady, ""
}
