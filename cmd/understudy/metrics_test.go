package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	awsfront "understudy/aws"
	"understudy/aws/cloudwatch"
	cloud "understudy/aws/remote"
	"understudy/aws/wire"
	"understudy/metric"
	"understudy/series"
)

// newWatchedFront is a front with CloudWatch over series of its own, asked with those keys; none: it is open.
func newWatchedFront(t *testing.T, keys ...awsfront.Key) (*series.Series, string) {
	t.Helper()
	kept, err := series.Open(series.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = kept.Close() })
	s, err := cloudwatch.New(cloudwatch.Options{Reader: kept, Writer: kept})
	if err != nil {
		t.Fatal(err)
	}
	front, err := awsfront.New(awsfront.Options{Services: []*wire.Service{s.Wire()}, Region: "us-east-1", Account: "123456789012", Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	at := httptest.NewServer(front)
	t.Cleanup(at.Close)
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_REGION", "AWS_ENDPOINT_URL"} {
		t.Setenv(name, "")
	}
	t.Setenv("AWS_CONFIG_FILE", "/dev/null")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
	return kept, at.URL
}

// said runs a command line in this process.
func said(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	root := newRoot()
	root.SetOut(&out)
	root.SetErr(&out)
	root.SetArgs(args)
	err := root.ExecuteContext(t.Context())
	return out.String(), err
}

func lagged(node string, at time.Time, v float64, extra ...string) metric.Datum {
	return metric.Datum{ID: metric.New(metric.ElastiCache, "ReplicationLag", append([]string{"CacheClusterId", node}, extra...)...), At: at, Unit: "Seconds", Values: []float64{v}}
}

func TestMetricsStandSideBySide(t *testing.T) {
	kept, at := newWatchedFront(t)
	start := time.Now().Truncate(time.Minute).Add(-10 * time.Minute)
	var data []metric.Datum
	for i, v := range []float64{0, 0.0625, 12345.6789} {
		when := start.Add(time.Duration(i) * time.Minute)
		data = append(data, lagged("main-002", when, v), lagged("main-002", when, v, "CacheNodeId", "0001"))
	}
	data = append(data, lagged("main-003", start.Add(time.Minute), 7))
	if err := kept.Write(t.Context(), data); err != nil {
		t.Fatal(err)
	}
	got, err := said(t, "metrics", "get", "ReplicationLag", "--http", at, "--stat", "Maximum")
	clock := func(i int) string { return start.Add(time.Duration(i) * time.Minute).Format(time.DateTime) }
	want := fmt.Sprintf("AWS/ElastiCache ReplicationLag, Maximum of 60 s, Seconds\n"+
		"                 time   main-002  main-003\n  %s          0         -\n  %s     0.0625         7\n  %s  12345.679         -\n", clock(0), clock(1), clock(2))
	if err != nil || got != want {
		t.Errorf("%v\n%s\nwant\n%s", err, got, want)
	}
	for flags, want := range map[string]string{"--dimension CacheNodeId=0001": "main-002", "--node main-003": "main-003"} {
		got, err := said(t, append(strings.Fields("metrics get ReplicationLag --http "+at), strings.Fields(flags)...)...)
		if header := strings.Split(got, "\n")[1]; err != nil || strings.Join(strings.Fields(header), " ") != "time "+want {
			t.Errorf("%s: %v %q", flags, err, header)
		}
	}
	got, err = said(t, "metrics", "list", "--http", at)
	if err != nil || got != "AWS/ElastiCache\n  ReplicationLag  main-002 main-003\n" {
		t.Errorf("%v %q", err, got)
	}
}

func TestAnInstanceWithKeysWantsThem(t *testing.T) {
	_, at := newWatchedFront(t, awsfront.Key{ID: "AKIAOURS", Secret: "secretsecretsecret"})
	exits := func(what string, code int, text string) {
		t.Helper()
		_, err := said(t, "metrics", "list", "--http", at)
		var c coded
		if !errors.As(err, &c) || c.code != code || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v, want exit %d", what, err, code)
		}
	}
	exits("no key", exitRefused, "asks for a key of its own (MissingAuthenticationToken")
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIAOURS")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "wrong")
	exits("a wrong key", exitRefused, "SignatureDoesNotMatch")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secretsecretsecret")
	exits("the right key", exitNo, "no metrics in AWS/ElastiCache and Understudy")
}

func TestWhatIsNoFrontIsNotReachable(t *testing.T) {
	newWatchedFront(t)
	other := httptest.NewServer(http.NotFoundHandler())
	defer other.Close()
	_, err := said(t, "metrics", "get", "ReplicationLag", "--http", other.URL)
	var c coded
	if !errors.As(err, &c) || c.code != exitUnreachable || !strings.Contains(err.Error(), "not as CloudWatch does") {
		t.Error(err)
	}
}

// A drill and the doctor read a group's metrics through AWS's own client: our front answers it like AWS.
func TestTheClientForAWSReadsPointsOfOurs(t *testing.T) {
	kept, at := newWatchedFront(t)
	start := time.Now().Truncate(time.Minute).Add(-10 * time.Minute)
	if err := kept.Write(t.Context(), []metric.Datum{lagged("main-002", start, 1.5), lagged("main-002", start, 3), lagged("main-002", start.Add(2*time.Minute), 0.25)}); err != nil {
		t.Fatal(err)
	}
	c, err := cloud.New(t.Context(), cloud.Options{Region: "us-east-1", Endpoint: at, AccessKey: "any", SecretKey: "any"})
	if err != nil {
		t.Fatal(err)
	}
	ask := func(ctx context.Context, q metric.Query) string {
		t.Helper()
		points, err := c.Points(ctx, q)
		if err != nil {
			return err.Error()
		}
		text := ""
		for _, p := range points {
			text += fmt.Sprintf("%v=%v ", p.At.Sub(start), p.Value)
		}
		return text
	}
	q := metric.Query{ID: metric.New(metric.ElastiCache, "ReplicationLag", "CacheClusterId", "main-002"), Stat: "Maximum", Period: time.Minute, Start: start.Add(20 * time.Second), End: time.Now()}
	if got := ask(t.Context(), q); got != "0s=3 2m0s=0.25 " {
		t.Errorf("%q", got)
	}
	q.ID = metric.New(metric.ElastiCache, "ReplicationLag", "CacheClusterId", "main-001")
	if got := ask(t.Context(), q); got != "" {
		t.Errorf("of a primary: %q", got)
	}
	q.Stat = "Median"
	if got := ask(t.Context(), q); !strings.Contains(got, "MetricDataQueries.member.1.MetricStat.Stat is not a valid statistic") {
		t.Errorf("%q", got)
	}
}
