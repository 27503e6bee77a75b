package watch

import (
	"container/heap"
	"hash/fnv"
	"time"
)

// plan says which alarm is to be looked at next: a heap of times.
type plan struct {
	visits []*visit
	byName map[string]*visit
}

type visit struct {
	name string
	at   time.Time
	i    int // its place in the heap
}

func newPlan() *plan { return &plan{byName: map[string]*visit{}} }

// at plans a look, in place of the one that was planned.
func (p *plan) at(name string, at time.Time) {
	if v := p.byName[name]; v != nil {
		v.at = at
		heap.Fix(p, v.i)
		return
	}
	v := &visit{name: name, at: at}
	p.byName[name] = v
	heap.Push(p, v)
}

func (p *plan) drop(name string) {
	if v := p.byName[name]; v != nil {
		heap.Remove(p, v.i)
		delete(p.byName, name)
	}
}

// longestWait is how long the plan waits when there is nothing: a clock that was set is noticed then.
const longestWait = time.Minute

// wait is how long there is nothing to do.
func (p *plan) wait(now time.Time) time.Duration {
	if len(p.visits) == 0 {
		return longestWait
	}
	return min(longestWait, max(0, p.visits[0].at.Sub(now)))
}

// due takes the alarm whose time has come first; false: there is none.
func (p *plan) due(now time.Time) (string, bool) {
	if len(p.visits) == 0 || p.visits[0].at.After(now) {
		return "", false
	}
	name := p.visits[0].name
	p.drop(name)
	return name, true
}

// settled is how long after the end of a period its points are taken for written. What is collected each second is
// written in the second's middle, and what is collected each minute a second after the minute's end at the latest.
const (
	settledSecond = 50 * time.Millisecond
	settledMinute = 2 * time.Second
)

// spread is over how much of a minute alarms of a minute's cadence are evaluated: 10,000 at once would keep the others
// waiting.
const spread = 8 * time.Second

// next is when an alarm that was looked at is due again.
func next(a Alarm, now time.Time) time.Time {
	every := a.Rule.Cadence()
	offset := settledSecond
	if every >= time.Minute {
		offset = settledMinute + phase(a.Name)
	} else if a.Rule.Period >= 10*time.Second {
		offset = settledMinute
	}
	return now.Add(-offset).Truncate(every).Add(every + offset)
}

// phase is the alarm's own part of spread.
func phase(name string) time.Duration {
	h := fnv.New32a()
	_, _ = h.Write([]byte(name))
	return time.Duration(h.Sum32()) % spread
}

// Len, Less, Swap, Push and Pop are heap.Interface's.
func (p *plan) Len() int           { return len(p.visits) }
func (p *plan) Less(i, j int) bool { return p.visits[i].at.Before(p.visits[j].at) }

// Swap is heap.Interface's.
func (p *plan) Swap(i, j int) {
	p.visits[i], p.visits[j] = p.visits[j], p.visits[i]
	p.visits[i].i, p.visits[j].i = i, j
}

// Push is heap.Interface's.
func (p *plan) Push(x any) {
	v := x.(*visit)
	v.i = len(p.visits)
	p.visits = append(p.visits, v)
}

// Pop is heap.Interface's.
func (p *plan) Pop() any {
	v := p.visits[len(p.visits)-1]
	p.visits = p.visits[:len(p.visits)-1]
	return v
}
