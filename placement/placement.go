// Package placement says which machine runs which node of a group: spread over zones, then over
// machines, and on another machine when one is lost for good.
//
// It is pure: it looks at records and at how long each machine has been silent, and answers with a new
// desired state. Whoever asks writes that to the store by compare-and-swap.
package placement

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"understudy/cluster"
)

// Machine is a machine as its observer knows it.
type Machine struct {
	cluster.Machine
	// Silent is how long its record has not changed, by the observer's clock.
	Silent time.Duration
	// Used is how many nodes of any group are placed there.
	Used int
}

// Input is all that a placement may know.
type Input struct {
	Spec     cluster.Spec
	Machines []Machine // every machine that has a record, and those that a node is placed on
	// Alive is how long a machine may be silent and still be given a node.
	Alive time.Duration
	// ReplaceAfter is how long a machine must be silent before its nodes are given to others.
	ReplaceAfter time.Duration
	// Serving says that the group has a primary whose permit is being renewed, and on which node. Without
	// one nothing is taken from a machine: the log that the group waits for may be on it.
	Serving cluster.NodeID
	// Crowd lets two nodes of the group share a machine when a node has not been placed yet and there is
	// no other. The observer sets it once it has waited for more machines to appear.
	Crowd bool
}

// Move is one node that gets a machine.
type Move struct {
	Node cluster.NodeID
	From string // "" when it had none
	To   string
}

func (m Move) String() string {
	switch m.From {
	case m.To:
		return fmt.Sprintf("%s belongs on %s", m.Node, m.To)
	case "":
		return fmt.Sprintf("%s is placed on %s", m.Node, m.To)
	}
	return fmt.Sprintf("%s moves from %s, which has been silent for too long, to %s", m.Node, m.From, m.To)
}

// Place returns the spec with every node placed that can be, and what changed. At most one node is taken
// from a machine that is lost: the next one when that one is where it belongs.
func Place(in Input) (cluster.Spec, []Move) {
	p := plan{Input: in}
	p.Spec.Nodes = slices.Clone(in.Spec.Nodes)
	p.Machines = slices.Clone(in.Machines)
	for i, n := range p.Spec.Nodes {
		switch {
		case n.Pinned && n.Zone == "" && p.known(n.Machine):
			p.give(i, n.Machine) // only its zone was not known
		case n.Machine == "":
			p.give(i, p.first(n))
		}
	}
	for i, n := range p.Spec.Nodes {
		if n.Machine != "" && p.lost(n) {
			if to := p.replacement(n); to != "" {
				p.give(i, to)
				break
			}
		}
	}
	return p.Spec, p.moves
}

// plan is a placement under way.
type plan struct {
	Input
	moves []Move
}

func (p *plan) give(i int, to string) {
	if to == "" {
		return
	}
	n := &p.Spec.Nodes[i]
	p.moves = append(p.moves, Move{n.ID, n.Machine, to})
	for j := range p.Machines {
		switch m := &p.Machines[j]; m.Name {
		case to:
			m.Used++
			n.Zone = m.Zone
		case n.Machine:
			m.Used--
		}
	}
	n.Machine = to
}

// first chooses the machine of a node that has none yet; "" when it has to wait. Where its data is, it
// belongs: the store has lost all then. A machine with the data of another node waits for that one.
func (p *plan) first(n cluster.NodePlace) string {
	if at := p.best(func(m Machine) bool { return slices.Contains(m.Has, n.ID) }); at != "" {
		return at
	}
	return p.best(func(m Machine) bool {
		return (n.Zone == "" || m.Zone == n.Zone) && (p.Crowd || p.onMachine(m.Name) == 0 && !p.expects(m))
	})
}

// expects reports whether the machine has the data of a node of the group that is not placed yet.
func (p *plan) expects(m Machine) bool {
	return slices.ContainsFunc(p.Spec.Nodes, func(n cluster.NodePlace) bool { return n.Machine == "" && slices.Contains(m.Has, n.ID) })
}

// lost reports whether the node's machine has been silent for so long that it is given up.
func (p *plan) lost(n cluster.NodePlace) bool {
	if n.Pinned || p.Serving == "" || p.Serving == n.ID || p.ReplaceAfter <= 0 {
		return false
	}
	i := slices.IndexFunc(p.Machines, func(m Machine) bool { return m.Name == n.Machine })
	return i >= 0 && p.Machines[i].Silent >= p.ReplaceAfter
}

// known reports whether a machine has told its zone.
func (p *plan) known(name string) bool {
	return slices.ContainsFunc(p.Machines, func(m Machine) bool { return m.Name == name && m.Zone != "" })
}

// replacement chooses another machine of the node's zone. One that has a node of the group already is
// none: with both on it, the next loss would be of two nodes.
func (p *plan) replacement(n cluster.NodePlace) string {
	return p.best(func(m Machine) bool { return m.Zone == n.Zone && m.Name != n.Machine && p.onMachine(m.Name) == 0 })
}

// best is the machine that spreads most: the fewest nodes of the group in its zone, then on it, then the
// fewest of all groups, then by name.
func (p *plan) best(fits func(Machine) bool) string {
	var fit []Machine
	for _, m := range p.Machines {
		if m.Silent < p.Alive && m.Used < m.Slots && fits(m) {
			fit = append(fit, m)
		}
	}
	if len(fit) == 0 {
		return ""
	}
	return slices.MinFunc(fit, func(a, b Machine) int {
		return cmp.Or(cmp.Compare(p.inZone(a.Zone), p.inZone(b.Zone)), cmp.Compare(p.onMachine(a.Name), p.onMachine(b.Name)),
			cmp.Compare(a.Used, b.Used), cmp.Compare(a.Name, b.Name))
	}).Name
}

func (p *plan) inZone(zone string) int {
	return p.count(func(n cluster.NodePlace) bool { return n.Zone == zone && n.Machine != "" })
}

func (p *plan) onMachine(name string) int {
	return p.count(func(n cluster.NodePlace) bool { return n.Machine == name })
}

func (p *plan) count(which func(cluster.NodePlace) bool) int {
	n := 0
	for _, x := range p.Spec.Nodes {
		if which(x) {
			n++
		}
	}
	return n
}
