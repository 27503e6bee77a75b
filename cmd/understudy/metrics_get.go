package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"
	"github.com/spf13/cobra"

	"understudy/metric"
)

// getMetric is `metrics get`.
type getMetric struct {
	finder
	selection
	name          string
	stat          string
	period, since time.Duration
	json          bool
}

func newMetricsGet() *cobra.Command {
	var g getMetric
	cmd := &cobra.Command{
		Use: "get NAME", Short: "Show what a metric was lately, of each node or group that has it",
		Long: `Asks for a statistic over periods: Average, Sum, Minimum, Maximum, SampleCount, or a
percentile (p99). Periods that have no data have no line. Periods below a minute are of what
is kept by the second: metrics of namespace Understudy, for a day.

Exit 1 when there is no such metric, or no point of it in that time.`,
		Example: "  understudy metrics get ReplicationLag --stat Maximum\n  understudy metrics get EngineCPUUtilization --node main-001 --since 15m\n  understudy metrics get PrimaryPresent --group main --period 1s --since 2m --stat Minimum --json",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usagef("`%s` takes the name of one metric, as `understudy metrics list` shows it", cmd.CommandPath())
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			g.name = args[0]
			return g.run(cmd.Context(), cmd.OutOrStdout())
		},
	}
	g.finder.register(cmd)
	g.selection.register(cmd)
	cmd.Flags().StringVar(&g.stat, "stat", "Average", "statistic: Average, Sum, Minimum, Maximum, SampleCount, pNN")
	cmd.Flags().DurationVar(&g.period, "period", time.Minute, "length of a period: 1s, 5s, 10s, 20s, 30s, or whole minutes")
	cmd.Flags().DurationVar(&g.since, "since", time.Hour, "how far back")
	cmd.Flags().BoolVar(&g.json, "json", false, "print the points as JSON, for programs")
	return cmd
}

func (g *getMetric) check() error {
	if _, ok := metric.ParseStat(g.stat); !ok {
		return usagef("--stat %q is no statistic%s", g.stat, didYouMean(g.stat, []string{"Average", "Sum", "Minimum", "Maximum", "SampleCount", "p99"}, ""))
	}
	if !metric.ValidPeriod(g.period) {
		return usagef("--period %v is not 1s, 5s, 10s, 20s, 30s or whole minutes", g.period)
	}
	if g.since < time.Second {
		return usagef("--since %v is less than a second", g.since)
	}
	return nil
}

func (g *getMetric) run(ctx context.Context, out io.Writer) error {
	if err := g.check(); err != nil {
		return err
	}
	w, err := g.watcher(ctx)
	if err != nil {
		return err
	}
	found, err := g.find(ctx, w)
	if err != nil {
		return err
	}
	now := time.Now()
	all, err := g.points(ctx, w, found, now)
	if err != nil {
		return err
	}
	answer := metricPoints{Namespace: *found[0].Namespace, Name: g.name, Stat: g.stat, Period: g.period.Seconds(), Series: all}
	if answer.Unit, err = g.unit(ctx, w, found[0], now); err != nil {
		return err
	}
	empty := !slices.ContainsFunc(all, func(s metricSeries) bool { return len(s.Points) > 0 })
	switch {
	case g.json:
		err = printJSON(out, answer)
	case !empty:
		err = answer.print(out)
	}
	if err == nil && empty {
		hint := ""
		if g.period < time.Minute {
			hint = "; it may be kept by the minute: try --period 1m"
		}
		return coded{exitNo, fmt.Errorf("no point of %s in the last %v%s", g.name, g.since, hint)}
	}
	return err
}

// find returns the metrics of the name in the first namespace that has any.
func (g *getMetric) find(ctx context.Context, w *watcher) ([]types.Metric, error) {
	with, err := g.filters()
	if err != nil {
		return nil, err
	}
	for _, namespace := range g.namespaces() {
		found, err := w.list(ctx, namespace, g.name, with)
		if err != nil {
			return nil, err
		}
		if found = once(found, with); len(found) > 0 {
			return found, nil
		}
	}
	return nil, g.unknown(ctx, w)
}

// unknown says what there is instead.
func (g *getMetric) unknown(ctx context.Context, w *watcher) error {
	var names, of []string
	for _, namespace := range g.namespaces() {
		all, err := w.list(ctx, namespace, "", nil)
		if err != nil {
			return err
		}
		for _, m := range once(all, nil) {
			names = append(names, *m.MetricName)
			if *m.MetricName == g.name {
				of = append(of, whose(m))
			}
		}
	}
	if len(of) > 0 {
		slices.Sort(of)
		return coded{exitNo, fmt.Errorf("%s has no such dimension: there is one of %s", g.name, strings.Join(slices.Compact(of), ", "))}
	}
	slices.Sort(names)
	return coded{exitNo, fmt.Errorf("no metric %q in %s%s; see `understudy metrics list`", g.name, strings.Join(g.namespaces(), " or "), didYouMean(g.name, slices.Compact(names), ""))}
}

// mostMetrics is how many GetMetricData takes.
const mostMetrics = 500

// points asks for all metrics at once, oldest points first.
func (g *getMetric) points(ctx context.Context, w *watcher, of []types.Metric, now time.Time) ([]metricSeries, error) {
	if len(of) > mostMetrics {
		return nil, usagef("%d metrics are called %s: choose with --dimension, --node or --group", len(of), g.name)
	}
	in := &cloudwatch.GetMetricDataInput{StartTime: aws.Time(now.Add(-g.since)), EndTime: &now, ScanBy: types.ScanByTimestampAscending}
	all := make([]metricSeries, len(of))
	at := map[string]*metricSeries{}
	for i, m := range of {
		id := fmt.Sprintf("m%d", i)
		all[i] = metricSeries{Dimensions: labelled(m), Points: []metricPoint{}, of: whose(m)}
		at[id] = &all[i]
		in.MetricDataQueries = append(in.MetricDataQueries, types.MetricDataQuery{Id: &id,
			MetricStat: &types.MetricStat{Metric: &m, Stat: &g.stat, Period: aws.Int32(int32(g.period / time.Second))}})
	}
	for p := cloudwatch.NewGetMetricDataPaginator(w.client, in); p.HasMorePages(); {
		page, err := p.NextPage(ctx)
		if err != nil {
			return nil, w.explain(err)
		}
		for _, r := range page.MetricDataResults {
			s := at[aws.ToString(r.Id)]
			if s == nil || len(r.Timestamps) != len(r.Values) {
				return nil, coded{exitUnreachable, fmt.Errorf("%s answers, and not as CloudWatch does: points that were not asked for", w.at.at)}
			}
			for i, t := range r.Timestamps {
				s.Points = append(s.Points, metricPoint{At: t.UTC(), Value: r.Values[i]})
			}
		}
	}
	return all, nil
}

// unit asks for one period that spans all: GetMetricData tells no units. "" is none.
func (g *getMetric) unit(ctx context.Context, w *watcher, m types.Metric, now time.Time) (string, error) {
	minutes := math.Ceil(g.since.Minutes()) + 1
	out, err := w.client.GetMetricStatistics(ctx, &cloudwatch.GetMetricStatisticsInput{
		Namespace: m.Namespace, MetricName: m.MetricName, Dimensions: m.Dimensions, StartTime: aws.Time(now.Add(-g.since)), EndTime: &now,
		Period: aws.Int32(int32(minutes) * 60), Statistics: []types.Statistic{types.StatisticSampleCount},
	})
	if err != nil {
		return "", w.explain(err)
	}
	for _, d := range out.Datapoints {
		if d.Unit != types.StandardUnitNone {
			return string(d.Unit), nil
		}
	}
	return "", nil
}

// metricPoints is the answer.
type metricPoints struct {
	Namespace string         `json:"namespace"`
	Name      string         `json:"name"`
	Stat      string         `json:"stat"`
	Period    float64        `json:"period_seconds"`
	Unit      string         `json:"unit,omitempty"`
	Series    []metricSeries `json:"series"`
}

type metricSeries struct {
	Dimensions map[string]string `json:"dimensions"`
	Points     []metricPoint     `json:"points"`
	of         string
}

type metricPoint struct {
	At    time.Time `json:"at"` // where the period begins
	Value float64   `json:"value"`
}

// columns is how many metrics stand side by side: as many as a wide terminal shows.
const columns = 8

// print shows tables of times and metrics.
func (m metricPoints) print(out io.Writer) error {
	unit := ""
	if m.Unit != "" {
		unit = ", " + m.Unit
	}
	fmt.Fprintf(out, "%s %s, %s of %v s%s\n", m.Namespace, m.Name, m.Stat, m.Period, unit)
	for some := range slices.Chunk(m.Series, columns) {
		w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
		rows := map[int64][]string{}
		fmt.Fprint(w, "time\t")
		for i, s := range some {
			fmt.Fprintf(w, "%s\t", s.of)
			for _, p := range s.Points {
				row := rows[p.At.Unix()]
				if row == nil {
					row = slices.Repeat([]string{"-"}, len(some))
					rows[p.At.Unix()] = row
				}
				row[i] = readable(p.Value)
			}
		}
		fmt.Fprintln(w)
		for _, at := range slices.Sorted(maps.Keys(rows)) {
			fmt.Fprintf(w, "%s\t%s\t\n", time.Unix(at, 0).Format(time.DateTime), strings.Join(rows[at], "\t"))
		}
		if err := w.Flush(); err != nil {
			return err
		}
	}
	return nil
}

// readable is a value with what a person reads of it: whole numbers in full, others to four digits or three decimals.
func readable(v float64) string {
	switch {
	case v == math.Trunc(v) && math.Abs(v) < 1e15:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case math.Abs(v) >= 10 && math.Abs(v) < 1e15:
		return strconv.FormatFloat(v, 'f', 3, 64)
	}
	return strconv.FormatFloat(v, 'g', 4, 64)
}
