package metricmath

import (
	"regexp"
	"slices"
	"strings"
	"time"

	"understudy/metric"
)

// Bounds of a request.
const (
	mostLines     = 500       // metrics and expressions of GetMetricData, and series of a list
	mostWork      = 5_000_000 // points that a program may make in a run, by a rough count: 56 bytes each; ours
	longestChains = 100       // expressions of expressions of expressions; ours
)

// Line is one entry of a request: a metric, whose points are given when the program runs, or an expression.
type Line struct {
	ID         string
	Expression string // "": a metric
	Period     time.Duration
}

// Program is a request whose lines were understood and fit together.
type Program struct {
	lines    []Line
	compiled map[string]*Expression
	order    []string // of the expressions: each after those that it uses
	kinds    map[string]Kind
	widths   map[string]int // how many series a list has, at most; 1 of others
	metrics  int
	fills    bool // some expression makes points where there are none
}

var validID = regexp.MustCompile(`^[a-z][a-zA-Z0-9_]{0,254}$`)

// Compile reads the expressions of a request, and finds ids that are none, twice or unknown, cycles, and values that
// do not fit together. The error is what PutMetricAlarm and GetMetricData say, with the code ValidationError.
func Compile(lines []Line) (*Program, error) {
	if len(lines) > mostLines {
		return nil, fault("The request has %d metrics and expressions; %d are allowed", len(lines), mostLines)
	}
	p := &Program{lines: lines, compiled: map[string]*Expression{}, kinds: map[string]Kind{}, widths: map[string]int{}}
	for _, l := range lines {
		if !validID.MatchString(l.ID) {
			return nil, fault("The value '%s' for parameter Id is not matching the expected pattern ^[a-z][a-zA-Z0-9_]*$", l.ID)
		}
		if p.kinds[l.ID] != "" || p.compiled[l.ID] != nil {
			return nil, fault("The id '%s' is used more than once", l.ID)
		}
		if l.Expression == "" {
			p.kinds[l.ID], p.widths[l.ID] = One, 1
			p.metrics++
			continue
		}
		e, err := Parse(l.Expression)
		if err != nil {
			return nil, in(l.ID, err)
		}
		p.compiled[l.ID] = e
		p.fills = p.fills || e.root.fills()
	}
	for _, l := range lines {
		if err := p.sort(l.ID, nil); err != nil {
			return nil, err
		}
	}
	return p, nil
}

func in(id string, err error) error { return fault("Error in expression '%s': %w", id, err) }

// sort puts an expression into the order after what it uses; path is how it was come to.
func (p *Program) sort(id string, path []string) error {
	if p.kinds[id] != "" {
		return nil
	}
	for i, earlier := range path {
		if earlier == id {
			return in(path[i], fault("The expressions depend on one another in a circle: %s", strings.Join(append(path[i:], id), ", ")))
		}
	}
	if len(path) == longestChains {
		return in(path[0], fault("It depends on more than %d expressions in a row", longestChains))
	}
	path = append(path[:len(path):len(path)], id)
	e := p.compiled[id]
	for _, used := range e.ids {
		if p.compiled[used] == nil && p.kinds[used] == "" {
			return in(id, fault("Undefined id '%s'", used))
		}
		if err := p.sort(used, path); err != nil {
			return err
		}
	}
	kind, err := e.Kind(func(id string) (Kind, bool) { k, there := p.kinds[id]; return k, there })
	if err != nil {
		return in(id, err)
	}
	own, widest := p.width(e.root)
	if widest > mostLines {
		return in(id, fault("A list has %d time series; %d are allowed", widest, mostLines))
	}
	p.kinds[id], p.widths[id] = kind, max(1, own)
	p.order = append(p.order, id)
	return nil
}

// Kind is the kind of a line's value; "" of an id that there is not. An alarm's has to be One.
func (p *Program) Kind(id string) Kind { return p.kinds[id] }

// CheckAlarm reports why the line cannot be what an alarm compares: it must be one series.
func (p *Program) CheckAlarm(id string) error {
	switch p.kinds[id] {
	case One:
		return nil
	case Many:
		return in(id, fault("The expression returns a list of time series; an alarm needs a single time series"))
	case Scalar:
		return in(id, fault("The expression returns a single number; an alarm needs a time series"))
	}
	return fault("Undefined id '%s'", id)
}

// Run computes every line from the points of the metrics by id, for the periods from start up to end. A metric without
// points is an empty series. Periods of an expression are those of the series in it. The error is a bound.
func (p *Program) Run(points map[string][]metric.Point, start, end time.Time) (map[string]Value, error) {
	s := Scope{Start: start, End: end, Values: map[string]Value{}}
	longest := 0 // points of a series, filled ones too
	for _, l := range p.lines {
		if l.Expression != "" {
			continue
		}
		series := Series{ID: l.ID, Period: l.Period, Points: points[l.ID]}
		s.Metrics = append(s.Metrics, series)
		s.Values[l.ID] = one(series)
		longest = max(longest, len(series.Points))
		if l.Period > 0 && p.fills {
			longest = max(longest, int(min(end.Sub(start)/l.Period, mostPoints)))
		}
	}
	work := 0.0
	for _, id := range p.order {
		e := p.compiled[id]
		if work += float64(e.root.parts()) * float64(max(1, p.widths[id])) * float64(longest); work > mostWork {
			return nil, in(id, fault("It takes too much work: shorten it, or the time that is asked for"))
		}
		v := e.Eval(s)
		if v.Kind == One {
			v.Series[0].ID = id
		}
		s.Values[id] = v
	}
	return s.Values, nil
}

func (n node) fills() bool {
	return n.op == "call" && n.name == "FILL" || slices.ContainsFunc(n.args, node.fills)
}

// parts counts the nodes of an expression.
func (n node) parts() int {
	all := 1
	for _, a := range n.args {
		all += a.parts()
	}
	return all
}

// width is how many series the longest list in an expression has: lists of lists of lists grow without bound.
func (p *Program) width(n node) (own, widest int) {
	switch {
	case n.op == "id":
		own = p.widths[n.name]
	case n.op == "call" && n.name == "METRICS":
		own = p.metrics
	}
	for _, a := range n.args {
		w, most := p.width(a)
		widest = max(widest, most)
		if n.op == "array" {
			own += w
		} else {
			own = max(own, w)
		}
	}
	return own, max(own, widest)
}
