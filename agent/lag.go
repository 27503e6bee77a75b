package agent

import (
	"time"

	"understudy/cluster"
)

// maxMarks bounds what a replica remembers of its primary's progress: ten seconds of renewals. Past
// that only the newest is replaced, so that the age of the oldest missing byte stays known.
const maxMarks = 64

// lag measures how far a replica is behind: against where the lead record says the primary was, so
// that it grows also when the link to the primary is dead and nobody says anything.
type lag struct {
	marks []mark // places of the primary that this node has not been seen to have, oldest first
}

// mark is a place where the primary was known to be at a time.
type mark struct {
	at  time.Duration
	pos cluster.Position
}

// primaryAt notes where the primary is.
func (l *lag) primaryAt(at time.Duration, pos cluster.Position) {
	if n := len(l.marks); n > 0 && l.marks[n-1].pos.ReplID != pos.ReplID {
		l.marks = l.marks[:0] // another log: the offsets of the old one say nothing any more
	}
	if n := len(l.marks); n > 0 && (n == maxMarks || l.marks[n-1].pos == pos) {
		if n == maxMarks {
			l.marks[n-1] = mark{at, pos}
		}
		return
	}
	l.marks = append(l.marks, mark{at, pos})
}

// behind returns how many bytes the node is behind, and how long it has lacked the oldest of them,
// by a look at it that was begun at the given time.
func (l *lag) behind(at time.Duration, pos cluster.Position) (int64, time.Duration) {
	for len(l.marks) > 1 && has(pos, l.marks[0].pos) {
		l.marks = l.marks[1:]
	}
	bytes, age := int64(0), time.Duration(0)
	for _, m := range l.marks {
		if m.at > at || has(pos, m.pos) {
			continue // the look is older than the mark: it says nothing about it
		}
		if age == 0 {
			age = max(at-m.at, 1)
		}
		if m.pos.ReplID == pos.ReplID {
			bytes = m.pos.Offset - pos.Offset
		}
	}
	return bytes, age
}

func has(pos, mark cluster.Position) bool {
	return pos.ReplID == mark.ReplID && pos.Offset >= mark.Offset
}
