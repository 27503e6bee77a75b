// Package history judges what happened to each client operation: what was acked and is gone, what
// is there twice, what was read too old, and for how long nothing could be written.
//
// It is pure: the simulator, the end-to-end tests and the drills record into a Log, by whatever
// clock they have, and one judge serves them all.
package history

import "time"

// Kind is what an operation does to its key.
type Kind string

// The kinds. Values that are set, pushed or added must be unique within a Log, so that a value
// names the write that it came from.
const (
	Set  Kind = "set"  // the register Key holds Value; an empty Value deletes it
	Get  Kind = "get"  // Result is the register's value, "" when it is absent
	Push Kind = "push" // Value is added to the list Key
	Pop  Kind = "pop"  // Result is the element taken from the list Key, "" when there was none
	Incr Kind = "incr" // the counter Key grows by one; Result is its new value in decimal, or ""
)

// Writes reports whether an operation of this kind changes data.
func (k Kind) Writes() bool { return k != Get }

// Outcome is what the client knows when the operation has ended.
type Outcome string

// The outcomes. A broken connection after a write was sent is Unknown, never Error.
const (
	OK      Outcome = "ok"      // answered: a write is acked
	Error   Outcome = "error"   // refused or never sent: it has certainly not been carried out
	Unknown Outcome = "unknown" // it may have been carried out, once
)

// Op is one operation of one client. Times are readings of one monotonic clock; Returned is 0 when
// the operation never ended (its Outcome is then Unknown).
type Op struct {
	Client   int           `json:"client"`
	ID       uint64        `json:"id"` // unique within the Log
	Kind     Kind          `json:"kind"`
	Key      string        `json:"key"`
	Value    string        `json:"value,omitempty"`
	Invoked  time.Duration `json:"invoked"`
	Returned time.Duration `json:"returned"`
	Outcome  Outcome       `json:"outcome"`
	Result   string        `json:"result,omitempty"`
	Where    string        `json:"where"` // the endpoint: "primary", "reader", "split", "direct"
}

// Latency is how long the client waited; false when the operation never ended.
func (o Op) Latency() (time.Duration, bool) { return o.Returned - o.Invoked, o.Returned > 0 }

// end is when the operation's effect is surely over: never, when its outcome is unknown.
func (o Op) end() time.Duration {
	if o.Outcome == Unknown || o.Returned == 0 {
		return forever
	}
	return o.Returned
}

const forever = time.Duration(1<<63 - 1)

// Log is the operations of one run, in any order. It is not safe for concurrent use: the caller
// locks, or keeps one Log for each client and joins them at the end.
type Log struct {
	Ops []Op `json:"ops"`
}

// Add appends one ended, or given-up, operation.
func (l *Log) Add(o Op) { l.Ops = append(l.Ops, o) }

// Join appends the operations of other logs.
func (l *Log) Join(others ...*Log) {
	for _, o := range others {
		l.Ops = append(l.Ops, o.Ops...)
	}
}

// Data is what is there after the run. Only keys of the Log are looked at.
type Data struct {
	Registers map[string]string
	Lists     map[string][]string
	Counters  map[string]int64
}
