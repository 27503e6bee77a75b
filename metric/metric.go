// Package metric names what is measured, as CloudWatch does: a metric is a namespace, a name and dimensions; what is
// published of it are data; what is asked of it are statistics over periods. It holds words only.
package metric

import (
	"cmp"
	"context"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The namespaces that are ours to write: AWS's words for a node, and what AWS has no metric for.
const (
	ElastiCache = "AWS/ElastiCache"
	Understudy  = "Understudy"
)

// The dimensions by which what is published in them is told apart: a node, the one part that AWS lets a node of Redis
// have, and a group.
const (
	Node  = "CacheClusterId"
	Part  = "CacheNodeId"
	Group = "ReplicationGroupId"
)

// Dimension is one name and value that tell metrics of a name apart.
type Dimension struct{ Name, Value string }

// ID says which metric. Dimensions are sorted by name: see New.
type ID struct {
	Namespace, Name string
	Dimensions      []Dimension
}

// New returns an ID whose dimensions, name and value by turns, are sorted. It panics when a value is missing.
func New(namespace, name string, dimensions ...string) ID {
	if len(dimensions)%2 != 0 {
		panic("metric: a dimension without a value: " + strings.Join(dimensions, " "))
	}
	id := ID{Namespace: namespace, Name: name}
	for i := 0; i < len(dimensions); i += 2 {
		id.Dimensions = append(id.Dimensions, Dimension{dimensions[i], dimensions[i+1]})
	}
	id.Sort()
	return id
}

// Sort puts the dimensions in the order by which two IDs are compared.
func (id *ID) Sort() {
	slices.SortFunc(id.Dimensions, func(a, b Dimension) int { return cmp.Compare(a.Name, b.Name) })
}

// Equal reports whether both are the same metric.
func (id ID) Equal(other ID) bool {
	return id.Namespace == other.Namespace && id.Name == other.Name && slices.Equal(id.Dimensions, other.Dimensions)
}

// Value is a dimension's; "": the metric has none of that name.
func (id ID) Value(name string) string {
	for _, d := range id.Dimensions {
		if d.Name == name {
			return d.Value
		}
	}
	return ""
}

// String is for messages and logs: AWS/ElastiCache/ReplicationLag{CacheClusterId=main-001}.
func (id ID) String() string {
	var b strings.Builder
	b.WriteString(id.Namespace + "/" + id.Name)
	for i, d := range id.Dimensions {
		b.WriteString([]string{"{", ","}[min(i, 1)] + d.Name + "=" + d.Value)
	}
	if len(id.Dimensions) > 0 {
		b.WriteString("}")
	}
	return b.String()
}

// Datum is what was published of a metric at one moment: values, each seen Counts times. A statistic set is a datum
// whose Set is not nil, and has no Values.
type Datum struct {
	ID     ID
	At     time.Time
	Unit   string // CloudWatch's StandardUnit; "" is None
	Values []float64
	Counts []float64 // as long as Values, or nil: each once
	Set    *Set
	High   bool // of a resolution of 1 s; else 60 s
}

// Set is a statistic set: percentiles cannot be told of it, unless all of its values are the same.
type Set struct{ Count, Sum, Min, Max float64 }

// Query asks for one statistic of one metric.
type Query struct {
	ID     ID
	Stat   string        // SampleCount, Sum, Average, Minimum, Maximum, or pNN.NN
	Unit   string        // "": whatever unit the data have
	Period time.Duration // 1, 5, 10, 20, 30 s, or a multiple of 60 s
	Start  time.Time     // the first period begins here: aligned by the caller
	End    time.Time     // periods that begin before End
}

// statPattern is that of CloudWatch's percentiles that are served.
var statPattern = regexp.MustCompile(`^p(\d{1,3}(?:\.\d{1,10})?)$`)

// Percentile tells a percentile from the five plain statistics; stat is one of both, or none.
func Percentile(stat string) bool { return strings.HasPrefix(stat, "p") }

// ParseStat reads a Query's Stat; fraction is a percentile's, 0.99 for p99, and 0 for the five plain statistics.
func ParseStat(stat string) (fraction float64, ok bool) {
	switch stat {
	case "SampleCount", "Sum", "Average", "Minimum", "Maximum":
		return 0, true
	}
	m := statPattern.FindStringSubmatch(stat)
	if m == nil {
		return 0, false
	}
	p, err := strconv.ParseFloat(m[1], 64)
	return p / 100, err == nil && p <= 100
}

// ValidPeriod reports whether d is a Query's Period: 1 and 5 s are CloudWatch's for data of high resolution.
func ValidPeriod(d time.Duration) bool {
	switch d {
	case time.Second, 5 * time.Second, 10 * time.Second, 20 * time.Second, 30 * time.Second:
		return true
	}
	return d > 0 && d%time.Minute == 0
}

// Point is one period of an answer. Periods without data have no point.
type Point struct {
	At    time.Time // where the period begins
	Value float64
	Count float64 // how many samples stand behind it
	Unit  string
}

// OneUnit leaves one point a period, of points in the order of time: where data have several units, that of the unit
// with the most samples, of equals the first. A sum of seconds and milliseconds is none. mixed: some were left out. It
// works in place.
func OneUnit(points []Point) (kept []Point, mixed bool) {
	kept = points[:0]
	for _, p := range points {
		last := len(kept) - 1
		if last < 0 || !kept[last].At.Equal(p.At) {
			kept = append(kept, p)
			continue
		}
		mixed = true
		if p.Count > kept[last].Count {
			kept[last] = p
		}
	}
	return kept, mixed
}

// Filter selects metrics for a list; empty fields select all.
type Filter struct {
	Namespace, Name string
	Dimensions      []Dimension // that each metric has; Value "": any
	Since           time.Time   // that have data after it
}

// Reader answers from what was published.
type Reader interface {
	// Points returns the points in the order of time. A metric that nobody published has none; that is no error.
	Points(ctx context.Context, q Query) ([]Point, error)
	// List returns the metrics that the filter selects, sorted by namespace, name and dimensions.
	List(ctx context.Context, f Filter) ([]ID, error)
}

// Writer takes what is published. The data are kept, and seen by a Reader, when Write returns nil; then none or all
// of them are.
type Writer interface {
	Write(ctx context.Context, data []Datum) error
}
