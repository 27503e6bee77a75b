package alarm

import (
	"math"
	"time"

	"understudy/metric"
)

// extraPoints is how many points more than N are looked at for those that are missing: the evaluation range. AWS
// publishes no formula; its documentation has one example, 5 points for N = 3.
const extraPoints = 2

// Decision is what an evaluation came to.
type Decision struct {
	State      State
	Changed    bool
	Reason     string          // in CloudWatch's words
	Data       string          // StateReasonData: JSON
	Evaluation EvaluationState // Complete, or what was wrong: set by who reads the points
}

// Cadence is how often the rule is evaluated: once a minute; of periods below that every 10 s, and of those below
// 10 s, which are ours, as often as there is a point; once an hour when it looks back for more than a day.
func (r Rule) Cadence() time.Duration {
	switch {
	case time.Duration(r.Periods)*r.Period > 24*time.Hour:
		return time.Hour
	case r.Period >= time.Minute:
		return time.Minute
	default:
		return min(r.Period, 10*time.Second)
	}
}

// Due reports whether the rule has to be evaluated at now, when it was evaluated at last the last time.
func (r Rule) Due(last, now time.Time) bool {
	every := r.Cadence()
	return now.Truncate(every).After(last.Truncate(every))
}

// Range is what the points are wanted of: whole periods that end by now, on the cadence's grid. The window slides: a
// period of five minutes is looked at every minute.
func (r Rule) Range(now time.Time) (start, end time.Time) {
	end = now.Truncate(r.Cadence())
	if r.Cadence() > r.Period {
		end = now.Truncate(r.Period)
	}
	return end.Add(-time.Duration(r.Periods+extraPoints) * r.Period), end
}

// slot is a period of the range.
type slot struct {
	there     bool
	breaching bool
	point     metric.Point
}

// Evaluate decides the state at now. Points lie on the grid that begins where Range does; others are not counted.
func Evaluate(r Rule, before State, points []metric.Point, now time.Time) Decision {
	slots := r.slots(points, now)
	x := examine(r, slots)
	start, _ := r.Range(now)
	for i := len(slots) - 1; i >= 0; i-- {
		if !slots[i].there {
			x.gaps = append(x.gaps, start.Add(time.Duration(i)*r.Period))
		}
	}
	state := x.state(r, before)
	if r.tooFew(x.used) {
		state = before
	}
	d := Decision{State: state, Changed: state != before}
	d.Reason = x.reason(r, state)
	d.Data = x.data(r, now)
	return d
}

func (r Rule) slots(points []metric.Point, now time.Time) []slot {
	start, _ := r.Range(now)
	slots := make([]slot, r.Periods+extraPoints)
	for _, p := range points {
		since := p.At.Sub(start)
		i := int(since / r.Period)
		if since < 0 || since%r.Period != 0 || i >= len(slots) || math.IsNaN(p.Value) || math.IsInf(p.Value, 0) {
			continue
		}
		slots[i] = slot{there: true, breaching: r.Breaches(p.Value), point: p}
	}
	return slots
}

// examined is what an evaluation rests on.
type examined struct {
	used      []metric.Point // real points, oldest first
	breaching []metric.Point // of them
	calm      []metric.Point // the others
	missing   int            // periods for which nothing stood in: the shortfall
	steadfast bool           // see oldBreach
	gaps      []time.Time    // periods without a point, newest first
}

// examine picks the points that count: the newest N real ones of the range, however far apart. With nothing missing in
// the newest N periods these are theirs. With fewer than N in the range all of them count, and the shortfall is filled.
func examine(r Rule, slots []slot) examined {
	newest := slots[len(slots)-r.Periods:]
	var real []slot
	for _, s := range slots {
		if s.there {
			real = append(real, s)
		}
	}
	if len(real) > r.Periods {
		real = real[len(real)-r.Periods:]
	}
	x := examined{missing: r.Periods - len(real), steadfast: oldBreach(newest, r.need())}
	for _, s := range real {
		x.used = append(x.used, s.point)
		if s.breaching {
			x.breaching = append(x.breaching, s.point)
		} else {
			x.calm = append(x.calm, s.point)
		}
	}
	return x
}

// oldBreach reports whether the oldest breaching point of the newest N is M periods old or more, and everything
// after it breaches or is missing: the alarm need not wait for points that may never come.
func oldBreach(newest []slot, m int) bool {
	for i, s := range newest {
		switch {
		case !s.there:
		case !s.breaching:
			return false
		default:
			for _, later := range newest[i:] {
				if later.there && !later.breaching {
					return false
				}
			}
			return len(newest)-i >= m
		}
	}
	return false
}

func (x examined) state(r Rule, before State) State {
	m, n, calm := r.need(), len(x.breaching), len(x.calm)
	switch {
	case n >= m:
		return Alarm
	case x.missing == 0:
		return OK
	}
	switch r.treatment() {
	case Breaching:
		if n+x.missing >= m {
			return Alarm
		}
		return OK
	case NotBreaching:
		return OK
	case Ignore:
		if calm > 0 {
			return OK
		}
		return before
	default:
		switch {
		case len(x.used) == 0:
			return InsufficientData
		case calm > 0:
			return OK
		case x.steadfast:
			return Alarm
		}
		return before // too early to tell: the next point may not breach
	}
}

// tooFew reports whether a percentile stands on so few samples that the state has to stay: below 10/(1-p) of them,
// or 10/p for the lower half.
func (r Rule) tooFew(used []metric.Point) bool {
	p, ok := metric.ParseStat(r.Stat)
	if r.FewSamples != IgnoreFew || !ok || p == 0 || p == 1 {
		return false
	}
	least := 10 / p
	if p >= 0.5 {
		least = 10 / (1 - p)
	}
	const rounding = 1e-9 // 1-0.99 is a little more than a hundredth
	for _, point := range used {
		if point.Count < least*(1-rounding) {
			return true
		}
	}
	return false
}
