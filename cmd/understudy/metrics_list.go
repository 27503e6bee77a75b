package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"
	"github.com/spf13/cobra"
)

func newMetricsList() *cobra.Command {
	var f finder
	var s selection
	var asJSON bool
	cmd := &cobra.Command{
		Use: "list", Short: "List the metrics that there are, and what they are of",
		Long: `A metric is listed when it has data of the last 14 days. The table says which nodes, groups
or dimensions have one of a name; --json has every metric with all of its dimensions.`,
		Example: "  understudy metrics list\n  understudy metrics list --node main-001\n  understudy metrics list --namespace MyShop --json",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			with, err := s.filters()
			if err != nil {
				return err
			}
			w, err := f.watcher(cmd.Context())
			if err != nil {
				return err
			}
			all := []types.Metric{}
			for _, namespace := range s.namespaces() {
				found, err := w.list(cmd.Context(), namespace, "", with)
				if err != nil {
					return err
				}
				all = append(all, found...)
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), listed(all))
			}
			if len(all) == 0 {
				return coded{exitNo, fmt.Errorf("no metrics in %s with these dimensions; the first come within a minute after a start", strings.Join(s.namespaces(), " and "))}
			}
			return printMetrics(cmd.OutOrStdout(), once(all, with))
		},
	}
	f.register(cmd)
	s.register(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print every metric as JSON, for programs")
	return cmd
}

// listedMetric is one metric for programs.
type listedMetric struct {
	Namespace  string            `json:"namespace"`
	Name       string            `json:"name"`
	Dimensions map[string]string `json:"dimensions"`
}

func listed(all []types.Metric) []listedMetric {
	list := make([]listedMetric, len(all))
	for i, m := range all {
		list[i] = listedMetric{*m.Namespace, *m.MetricName, labelled(m)}
	}
	return list
}

// printMetrics prints a line for each name; all are sorted by namespace and name.
func printMetrics(out io.Writer, all []types.Metric) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	namespace := ""
	for len(all) > 0 {
		first := all[0]
		if *first.Namespace != namespace {
			namespace = *first.Namespace
			fmt.Fprintln(w, namespace)
		}
		same := slices.IndexFunc(all, func(m types.Metric) bool { return *m.Namespace != namespace || *m.MetricName != *first.MetricName })
		if same < 0 {
			same = len(all)
		}
		var of []string
		for _, m := range all[:same] {
			of = append(of, whose(m))
		}
		slices.Sort(of)
		fmt.Fprintf(w, "  %s\t%s\n", *first.MetricName, strings.Join(slices.Compact(of), " "))
		all = all[same:]
	}
	return w.Flush()
}
