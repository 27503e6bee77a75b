package upstream

import (
	"time"

	"understudy/cluster"
)

// maxMarks bounds what is remembered of the primary's progress. When it is full every second mark goes: the
// age of the oldest missing byte stays known, less exactly the older it is.
const maxMarks = 64

// progress is where the primary was, and when: the measure of how far a replica is behind.
type progress struct {
	replid string
	marks  []mark // oldest first
}

type mark struct {
	at     time.Duration
	offset int64
}

// primaryAt notes where the primary was when it was asked.
func (p *progress) primaryAt(at time.Duration, pos cluster.Position) {
	if p.replid != pos.ReplID {
		p.replid, p.marks = pos.ReplID, p.marks[:0] // the old log's offsets say nothing of the new one
	}
	switch n := len(p.marks); {
	case n > 0 && p.marks[n-1].offset == pos.Offset:
	case n == maxMarks:
		kept := p.marks[:0]
		for i := 1; i < n; i += 2 {
			kept = append(kept, p.marks[i])
		}
		p.marks = append(kept, mark{at, pos.Offset})
	default:
		p.marks = append(p.marks, mark{at, pos.Offset})
	}
}

// behind returns how many bytes a replica lacked when it was asked, and for how long it had lacked the
// oldest of them. A mark that is younger than the question says nothing about the answer.
func (p *progress) behind(at time.Duration, pos cluster.Position) (int64, time.Duration) {
	bytes, age := int64(0), time.Duration(0)
	for _, m := range p.marks {
		if p.replid != pos.ReplID || m.at > at || m.offset <= pos.Offset {
			continue
		}
		if age == 0 {
			age = max(at-m.at, 1)
		}
		bytes = m.offset - pos.Offset
	}
	return bytes, age
}

// last is the newest offset that the primary was seen at.
func (p *progress) last() int64 {
	if len(p.marks) == 0 {
		return 0
	}
	return p.marks[len(p.marks)-1].offset
}
