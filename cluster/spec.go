package cluster

import (
	"fmt"
	"slices"
	"strings"
)

// Spec is the desired state of a group: which nodes it has, where they are to run, and how. It is
// written once from a configuration; after that the store's copy counts, and changes of it are
// operators' and, for a node that is lost for good, the agents'.
type Spec struct {
	Name          string      `json:"name"`
	Nodes         []NodePlace `json:"nodes"` // ordered by id
	Durability    Durability  `json:"durability"`
	Profile       string      `json:"profile"`
	OnLostQuorum  LostQuorum  `json:"on_lost_quorum,omitempty"`
	PreferredZone string      `json:"preferred_zone,omitempty"`
	ReturnWindow  string      `json:"return_window,omitempty"` // e.g. "sun:03:00-sun:04:00", UTC
	// Manual: nobody takes over from a primary that was lost but that primary itself; AWS calls it automatic
	// failover disabled.
	Manual bool `json:"manual,omitempty"`
	// Listen is where clients reach a group whose endpoints belong to it, HOST:PORT each: see package fleet.
	Listen Endpoints `json:"listen,omitzero"`
	// Directives are further settings of redis-server, by their names in its configuration.
	Directives map[string]string `json:"directives,omitempty"`
	// Secret is the key of the store under which the group's secret is kept.
	Secret string `json:"secret,omitempty"`
	// NodeTLS: the redis-servers speak TLS with one another, and with proxies. It stays as the group was made:
	// nodes that do and nodes that do not cannot follow one another.
	NodeTLS bool `json:"node_tls,omitempty"`
}

// NodePlace is one node of a Spec.
type NodePlace struct {
	ID       NodeID `json:"id"`
	Zone     string `json:"zone"`
	Machine  string `json:"machine"` // "" while no machine has room for it
	Priority int    `json:"priority,omitempty"`
	// Pinned: it runs on Machine or nowhere, because its redis-server is there and is not ours to start.
	Pinned bool `json:"pinned,omitempty"`
}

// Machine is a machine's record of itself: renewed by its agent daemon, and timed by each observer on
// the observer's own clock, as a lead is.
type Machine struct {
	Name  string `json:"name"`
	Zone  string `json:"zone"`
	Host  string `json:"host"`  // at which others reach it
	RPC   string `json:"rpc"`   // address of package rpc
	HTTP  string `json:"http"`  // HOST:PORT of its status
	Slots int    `json:"slots"` // how many nodes it may run
	Seq   uint64 `json:"seq"`   // grows with each renewal
	// Has are the nodes whose data is there: after a loss of the store they belong there again.
	Has []NodeID `json:"has,omitempty"`
}

// The prefixes below which groups and machines are kept.
const (
	GroupsPrefix   = "/understudy/groups/"
	MachinesPrefix = "/understudy/machines/"
)

// SpecKey is the key of a group's Spec.
func SpecKey(group string) string { return GroupsPrefix + group + "/spec" }

// SecretKey is the key of a group's secret: never logged, never shown.
func SecretKey(group string) string { return GroupsPrefix + group + "/secret" }

// MachineKey is the key of a machine's record.
func MachineKey(name string) string { return MachinesPrefix + name }

// NodeName is the id of a group's nth node, counted from 1, in ElastiCache's way.
func NodeName(group string, n int) NodeID { return NodeID(fmt.Sprintf("%s-%03d", group, n)) }

// GroupOf is the group that a node belongs to by its name; "" when the name is none of a node.
func GroupOf(node NodeID) string {
	i := strings.LastIndexByte(string(node), '-')
	if i <= 0 || len(node)-i != 4 {
		return ""
	}
	return string(node[:i])
}

// Place is the node's place in the spec; ok is false when it has none.
func (s Spec) Place(id NodeID) (place NodePlace, ok bool) {
	i := slices.IndexFunc(s.Nodes, func(n NodePlace) bool { return n.ID == id })
	if i < 0 {
		return NodePlace{}, false
	}
	return s.Nodes[i], true
}
