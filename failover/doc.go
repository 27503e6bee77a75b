// Package failover decides who may accept writes: Machine for a node, Gate for a proxy.
//
// Both are pure: time, the store's answers and Redis's answers are values that come in; actions
// and the permit's end go out. Equal inputs give equal outputs, so that the simulator replays any
// schedule from a seed.
package failover
