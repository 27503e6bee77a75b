package cloudwatch

import (
	"cmp"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"

	"understudy/metric"
	"understudy/metricmath"
)

// plain is the label of what has none of its own.
const plain = "${LABEL}"

// labelOf is the text that a query gives its series.
func (r *request) labelOf(q types.MetricDataQuery) string {
	return cmp.Or(aws.ToString(q.Label), plain)
}

// within is the label of a list's members: the expression's before theirs, unless it says itself what it shows of them.
func within(label string) string {
	if label == "" || strings.Contains(label, "${") {
		return cmp.Or(label, plain)
	}
	return label + " " + plain
}

// names are what a list's members are called: by their own label, else as CloudWatch does by what tells them apart:
// dimensions' values and the metric's name where they differ.
func (r *request) names(id string, members []metricmath.Series) []string {
	parts := make([][]string, len(members)) // of those without a label: the dimensions, name and value, and the metric
	everywhere, unlabelled := map[string]int{}, 0
	for i, s := range members {
		q := r.find(s.ID)
		if q == nil || q.MetricStat == nil || aws.ToString(q.Label) != "" {
			continue
		}
		m := named("", *q.MetricStat.Metric.MetricName, q.MetricStat.Metric.Dimensions)
		for _, d := range m.Dimensions {
			parts[i] = append(parts[i], d.Name+"\x00"+d.Value)
		}
		parts[i] = append(parts[i], "\x00"+m.Name)
		for _, p := range parts[i] {
			everywhere[p]++
		}
		unlabelled++
	}
	names := make([]string, len(members))
	for i, s := range members {
		var differ []string
		for _, p := range parts[i] {
			if _, value, _ := strings.Cut(p, "\x00"); everywhere[p] < unlabelled {
				differ = append(differ, value)
			}
		}
		q := r.find(s.ID)
		switch {
		case len(differ) > 0:
			names[i] = strings.Join(differ, " ")
		case q == nil:
			names[i] = id
		case q.MetricStat != nil:
			names[i] = r.expand(r.labelOf(*q), *q, *q.MetricStat.Metric.MetricName, s.Points)
		default:
			names[i] = r.expand(r.labelOf(*q), *q, *q.Id, s.Points)
		}
	}
	return names
}

var livePattern = regexp.MustCompile(`\$\{(?:PROP\('([^']*)'\)|([A-Z_]+))\}`)

// expand puts in what a label asks for: of the query, the name that its series has without a label, and its points.
// What CloudWatch does not know either stays as it is. It ends where a label may: a thousand times ${LABEL} is a short
// request, and as many answers as a list has series.
func (r *request) expand(label string, q types.MetricDataQuery, name string, points []metric.Point) string {
	if label == plain {
		return short(name)
	}
	var b strings.Builder
	var of *extremes
	done := 0
	for _, m := range livePattern.FindAllStringSubmatchIndex(label, -1) {
		if b.Len() > longestLabel {
			break
		}
		b.WriteString(label[done:m[0]])
		text := label[m[0]:m[1]]
		done = m[1]
		switch {
		case m[2] >= 0:
			text = r.property(text, label[m[2]:m[3]], q.MetricStat)
		case text == plain:
			text = name
		default:
			if of == nil {
				of = extremesOf(points)
			}
			if v, ok := r.live(label[m[4]:m[5]], of); ok {
				text = v
			}
		}
		b.WriteString(text)
	}
	b.WriteString(label[done:])
	return short(b.String())
}

// short cuts a label.
func short(label string) string {
	if len(label) <= longestLabel {
		return label
	}
	return strings.ToValidUTF8(label[:longestLabel], "")
}

// property is ${PROP('…')} of a metric.
func (r *request) property(text, name string, m *types.MetricStat) string {
	switch name {
	case "AccountId", "AccountLabel":
		return r.call.Account
	case "Region":
		return r.call.Region
	}
	if m == nil {
		return text
	}
	switch name {
	case "Namespace":
		return *m.Metric.Namespace
	case "MetricName":
		return *m.Metric.MetricName
	case "Stat":
		return *m.Stat
	case "Period":
		return strconv.Itoa(int(*m.Period))
	}
	dimension, ok := strings.CutPrefix(name, "Dim.")
	if !ok {
		return text
	}
	for _, d := range m.Metric.Dimensions {
		if *d.Name == dimension {
			return *d.Value
		}
	}
	return ""
}

// none stands for a value that a series without points has not.
const none = "--"

// extremes are what labels tell of points. They are found once for a label, which may ask for them many times.
type extremes struct {
	n                      int
	first, last, low, high metric.Point
	sum                    float64
}

// extremesOf takes points of which the oldest comes first.
func extremesOf(points []metric.Point) *extremes {
	e := &extremes{n: len(points)}
	for i, p := range points {
		if i == 0 {
			e.first, e.low, e.high = p, p, p
		}
		if p.Value < e.low.Value {
			e.low = p
		}
		if p.Value > e.high.Value {
			e.high = p
		}
		e.last = p
		e.sum += p.Value
	}
	return e
}

// live is a value of the points; false: there is none of that name. How CloudWatch prints them it does not say: numbers
// are in full, times in the zone of LabelOptions.
func (r *request) live(name string, e *extremes) (string, bool) {
	if name == "DATAPOINT_COUNT" {
		return strconv.Itoa(e.n), true
	}
	of, relative := strings.CutSuffix(name, "_TIME_RELATIVE")
	of, timed := strings.CutSuffix(of, "_TIME")
	number := func(v float64) (string, bool) { return strconv.FormatFloat(v, 'g', -1, 64), true }
	if e.n == 0 {
		_, known := r.live(name, &extremes{n: 1})
		return none, known
	}
	switch name {
	case "SUM":
		return number(e.sum)
	case "AVG":
		return number(e.sum / float64(e.n))
	case "FIRST_LAST_RANGE":
		return number(e.last.Value - e.first.Value)
	case "MIN_MAX_RANGE":
		return number(e.high.Value - e.low.Value)
	case "FIRST_LAST_TIME_RANGE":
		return e.last.At.Sub(e.first.At).String(), true
	case "MIN_MAX_TIME_RANGE":
		return e.high.At.Sub(e.low.At).Abs().String(), true
	}
	p, ok := map[string]metric.Point{"FIRST": e.first, "LAST": e.last, "MIN": e.low, "MAX": e.high}[of]
	switch {
	case !ok:
		return "", false
	case relative:
		return r.now.Sub(p.At).Abs().Truncate(time.Second).String(), true
	case timed:
		return p.At.In(r.zone).Format(time.RFC3339), true
	}
	return number(p.Value)
}
