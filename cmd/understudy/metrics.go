package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"
	"github.com/aws/smithy-go"
	"github.com/spf13/cobra"

	"understudy/metric"
)

func newMetrics() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "metrics",
		Short: "See the metrics that the instance keeps, as CloudWatch would show them",
		Long: `Nodes have AWS's metrics, namespace AWS/ElastiCache, by the minute for 15 days. What AWS has
no metric for is in namespace Understudy: by the second for a day, and by the minute for 15.
Your own metrics, published with PutMetricData, are in theirs: name it with --namespace.
Alarms are made with "understudy aws cloudwatch put-metric-alarm".`,
		Example: "  understudy metrics list\n  understudy metrics get ReplicationLag --stat Maximum\n  understudy metrics get PrimaryPresent --period 1s --since 1m",
	}
	cmd.AddCommand(newMetricsList(), newMetricsGet())
	demandSubcommand(cmd)
	return cmd
}

// selection says which metrics of a name, or of all names, are meant.
type selection struct {
	namespace   string
	dimensions  []string
	node, group string
}

func (s *selection) register(cmd *cobra.Command) {
	cmd.Flags().StringVar(&s.namespace, "namespace", "", "namespace of the metrics (default: "+metric.ElastiCache+", then "+metric.Understudy+")")
	cmd.Flags().StringArrayVar(&s.dimensions, "dimension", nil, "NAME=VALUE that a metric must have; may be given several times")
	cmd.Flags().StringVar(&s.node, "node", "", "short for --dimension "+metric.Node+"=…")
	cmd.Flags().StringVar(&s.group, "group", "", "short for --dimension "+metric.Group+"=…")
}

// namespaces are where metrics are looked for, in this order.
func (s *selection) namespaces() []string {
	if s.namespace != "" {
		return []string{s.namespace}
	}
	return []string{metric.ElastiCache, metric.Understudy}
}

// filters are the dimensions that were asked for.
func (s *selection) filters() ([]types.DimensionFilter, error) {
	var all []types.DimensionFilter
	add := func(name, value string) {
		all = append(all, types.DimensionFilter{Name: &name, Value: &value})
	}
	for _, text := range s.dimensions {
		name, value, ok := strings.Cut(text, "=")
		if !ok || name == "" || value == "" {
			return nil, usagef("--dimension %q is not NAME=VALUE", text)
		}
		add(name, value)
	}
	if s.node != "" {
		add(metric.Node, s.node)
	}
	if s.group != "" {
		add(metric.Group, s.group)
	}
	return all, nil
}

// watcher asks the CloudWatch of a running instance.
type watcher struct {
	at     reachable
	client *cloudwatch.Client
}

// watcher finds the instance. Keys and region are those of AWS's own clients; an instance without keys needs none.
func (f *finder) watcher(ctx context.Context) (*watcher, error) {
	a, err := f.findFront()
	if err != nil {
		return nil, err
	}
	settings, err := awsconfig.LoadDefaultConfig(ctx, awsconfig.WithEC2IMDSClientEnableState(imds.ClientDisabled))
	if err != nil {
		return nil, usagef("AWS's configuration: %w", err)
	}
	keys := settings.Credentials
	if _, err := keys.Retrieve(ctx); err != nil {
		keys = aws.AnonymousCredentials{}
	}
	return &watcher{at: a, client: cloudwatch.New(cloudwatch.Options{
		BaseEndpoint: aws.String(a.url("")), Region: cmp.Or(settings.Region, "us-east-1"), Credentials: keys,
		HTTPClient: &http.Client{Timeout: longestAWSCall, Transport: a.transport()}, RetryMaxAttempts: 1,
	})}, nil
}

// unknownError is the SDK's code for an answer that is no error of AWS's.
const unknownError = "UnknownError"

// explain gives an error of the client its exit code, and says what can be done.
func (w *watcher) explain(err error) error {
	var refused smithy.APIError
	var broken *url.Error
	switch {
	case errors.As(err, &refused) && refused.ErrorCode() != unknownError:
		text := refused.ErrorCode() + ": " + strings.TrimSpace(refused.ErrorMessage())
		switch refused.ErrorCode() {
		case "InvalidAction":
			return coded{exitNo, fmt.Errorf("%s keeps no metrics: it was started with --metrics=false, or is no `understudy up`", w.at.at)}
		case "MissingAuthenticationToken", "InvalidClientTokenId", "SignatureDoesNotMatch", "AccessDenied":
			return coded{exitRefused, fmt.Errorf("%s asks for a key of its own (%s): set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION as its --aws-keys-file and --aws-region say", w.at.at, text)}
		}
		return coded{exitNo, errors.New(text)}
	case errors.As(err, &broken):
		return w.at.unreachable(broken)
	}
	return coded{exitUnreachable, fmt.Errorf("%s answers, and not as CloudWatch does: %w; is it an `understudy up`?", w.at.at, err)}
}

// list returns the metrics of a namespace, sorted. name "" is any.
func (w *watcher) list(ctx context.Context, namespace, name string, with []types.DimensionFilter) ([]types.Metric, error) {
	in := &cloudwatch.ListMetricsInput{Namespace: &namespace, Dimensions: with}
	if name != "" {
		in.MetricName = &name
	}
	var all []types.Metric
	for p := cloudwatch.NewListMetricsPaginator(w.client, in); p.HasMorePages(); {
		page, err := p.NextPage(ctx)
		if err != nil {
			return nil, w.explain(err)
		}
		all = append(all, page.Metrics...)
	}
	return all, nil
}

// once leaves out the metrics that AWS publishes a second time, for the one part that a node of Redis has.
func once(all []types.Metric, with []types.DimensionFilter) []types.Metric {
	if slices.ContainsFunc(with, func(f types.DimensionFilter) bool { return *f.Name == metric.Part }) {
		return all
	}
	return slices.DeleteFunc(all, func(m types.Metric) bool { return value(m, metric.Part) != "" && value(m, metric.Node) != "" })
}

func value(m types.Metric, dimension string) string {
	for _, d := range m.Dimensions {
		if *d.Name == dimension {
			return *d.Value
		}
	}
	return ""
}

// whose says what a metric is of: a node's id, a group's, else its dimensions.
func whose(m types.Metric) string {
	var other []string
	for _, d := range m.Dimensions {
		switch *d.Name {
		case metric.Node, metric.Group, metric.Part:
		default:
			other = append(other, *d.Name+"="+*d.Value)
		}
	}
	if of := cmp.Or(value(m, metric.Node), value(m, metric.Group)); of != "" {
		other = slices.Insert(other, 0, of)
	}
	if len(other) == 0 {
		return "-"
	}
	return strings.Join(other, ",")
}

// labelled are a metric's dimensions, for programs.
func labelled(m types.Metric) map[string]string {
	all := map[string]string{}
	for _, d := range m.Dimensions {
		all[*d.Name] = *d.Value
	}
	return all
}
