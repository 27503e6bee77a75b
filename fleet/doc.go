// Package fleet runs the replication groups of one process, each with its agents, its proxy and its page, and
// changes them while they serve: groups come and go, and so do their nodes.
//
// The desired state of each group is a cluster.Spec in the store; what was begun before a crash is there again
// after it. Whoever wants more of a group than a Spec says (addresses that a flag names, passwords) defines it
// anew at each start.
package fleet
