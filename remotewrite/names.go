package remotewrite

import (
	"regexp"
	"slices"
	"strings"

	"github.com/prometheus/prometheus/prompb"

	"understudy/metric"
)

// The names are those of Prometheus' cloudwatch_exporter, so that its dashboards and rules work:
// AWS/ElastiCache EngineCPUUtilization's Maximum is aws_elasticache_engine_cpuutilization_maximum{cache_cluster_id="…"}.
// https://github.com/prometheus/cloudwatch_exporter#readme
var (
	hump   = regexp.MustCompile(`([a-z0-9])([A-Z])`)
	unsafe = regexp.MustCompile(`[^a-zA-Z0-9:_]`)
)

func snake(name string) string {
	return strings.ToLower(unsafe.ReplaceAllString(hump.ReplaceAllString(name, "${1}_${2}"), "_"))
}

// prefix is a namespace's; it has no humps.
func prefix(namespace string) string {
	return strings.ToLower(unsafe.ReplaceAllString(namespace, "_"))
}

// statistics are all that can be told of a period whose single values are not sent.
var statistics = []struct {
	name string
	of   func(metric.Set) float64
}{
	{"average", func(s metric.Set) float64 { return s.Sum / s.Count }},
	{"maximum", func(s metric.Set) float64 { return s.Max }},
	{"minimum", func(s metric.Set) float64 { return s.Min }},
	{"sample_count", func(s metric.Set) float64 { return s.Count }},
	{"sum", func(s metric.Set) float64 { return s.Sum }},
}

// series are the statistics of data: one sample each. Data of one metric and moment are one. AWS's second set of
// dimensions of a node, with CacheNodeId, says the same again and is left out, as the exporter's examples do.
func series(data []metric.Datum) (all []prompb.TimeSeries) {
	type moment struct {
		id string
		at int64
	}
	of := map[moment]int{}
	var sets []metric.Set
	var ids []metric.Datum
	for _, d := range data {
		s := tally(d)
		if s.Count == 0 || d.ID.Value(metric.Part) != "" {
			continue
		}
		m := moment{d.ID.String(), d.At.UnixMilli()}
		if i, ok := of[m]; ok {
			sets[i] = sum(sets[i], s)
			continue
		}
		of[m] = len(sets)
		sets, ids = append(sets, s), append(ids, d)
	}
	for i, s := range sets {
		for _, stat := range statistics {
			all = append(all, prompb.TimeSeries{
				Labels:  labels(ids[i].ID, stat.name),
				Samples: []prompb.Sample{{Value: stat.of(s), Timestamp: ids[i].At.UnixMilli()}},
			})
		}
	}
	return all
}

func tally(d metric.Datum) (all metric.Set) {
	if d.Set != nil {
		return *d.Set
	}
	for i, v := range d.Values {
		n := 1.0
		if d.Counts != nil {
			n = d.Counts[i]
		}
		all = sum(all, metric.Set{Count: n, Sum: n * v, Min: v, Max: v})
	}
	return all
}

func sum(a, b metric.Set) metric.Set {
	if a.Count == 0 {
		return b
	}
	return metric.Set{Count: a.Count + b.Count, Sum: a.Sum + b.Sum, Min: min(a.Min, b.Min), Max: max(a.Max, b.Max)}
}

// labels are sorted, as the protocol wants them.
func labels(id metric.ID, statistic string) []prompb.Label {
	job := prefix(id.Namespace)
	all := []prompb.Label{{Name: "__name__", Value: job + "_" + snake(id.Name) + "_" + statistic}, {Name: "job", Value: job}}
	for _, d := range id.Dimensions {
		all = append(all, prompb.Label{Name: snake(d.Name), Value: d.Value})
	}
	slices.SortFunc(all, func(a, b prompb.Label) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// key tells series apart.
func key(labels []prompb.Label) string {
	var b strings.Builder
	for _, l := range labels {
		b.WriteString(l.Name + "\x00" + l.Value + "\x00")
	}
	return b.String()
}
