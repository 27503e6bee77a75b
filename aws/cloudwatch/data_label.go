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
// What CloudWatch does not know either stays as it is.
func (r *request) expand(label string, q types.MetricDataQuery, name string, points []metric.Point) string {
	if label == plain {
		return short(name)
	}
	return short(livePattern.ReplaceAllStringFunc(label, func(text string) string {
		m := livePattern.FindStringSubmatch(text)
		switch {
		case m[1] != "":
			return r.property(text, m[1], q.MetricStat)
		case m[2] == "LABEL":
			return name
		}
		if v, ok := r.live(m[2], points); ok {
			return v
		}
		return text
	}))
}

// short cuts a label: a thousand times ${LABEL} is a short request, and as many answers as a list has series.
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

// live is a value of the points, oldest first. How CloudWatch prints them it does not say: numbers are in full, times
// in the zone of LabelOptions.
func (r *request) live(name string, points []metric.Point) (string, bool) {
	if name == "DATAPOINT_COUNT" {
		return strconv.Itoa(len(points)), true
	}
	of, relative := strings.CutSuffix(name, "_TIME_RELATIVE")
	of, timed := strings.CutSuffix(of, "_TIME")
	number := func(v float64) (string, bool) { return strconv.FormatFloat(v, 'g', -1, 64), true }
	if len(points) == 0 {
		_, known := r.live(name, []metric.Point{{}})
		return none, known
	}
	first, last, low, high, sum := points[0], points[len(points)-1], points[0], points[0], 0.0
	for _, p := range points {
		if p.Value < low.Value {
			low = p
		}
		if p.Value > high.Value {
			high = p
		}
		sum += p.Value
	}
	switch name {
	case "SUM":
		return number(sum)
	case "AVG":
		return number(sum / float64(len(points)))
	case "FIRST_LAST_RANGE":
		return number(last.Value - first.Value)
	case "MIN_MAX_RANGE":
		return number(high.Value - low.Value)
	case "FIRST_LAST_TIME_RANGE":
		return last.At.Sub(first.At).String(), true
	case "MIN_MAX_TIME_RANGE":
		return high.At.Sub(low.At).Abs().String(), true
	}
	p, ok := map[string]metric.Point{"FIRST": first, "LAST": last, "MIN": low, "MAX": high}[of]
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
