package cloudwatch

import (
	"errors"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"
	"github.com/aws/smithy-go"

	"understudy/aws/wire"
	"understudy/series"
)

// newFront is the service over real series, and the SDK's client, which speaks CBOR to it.
func newFront(t *testing.T) (*cloudwatch.Client, string) {
	t.Helper()
	kept, err := series.Open(series.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = kept.Close() })
	s, err := New(Options{Reader: kept, Writer: kept})
	if err != nil {
		t.Fatal(err)
	}
	server, err := wire.NewServer(wire.ServerOptions{Services: []*wire.Service{s.Wire()}, Region: "us-east-1", Account: "123456789012"})
	if err != nil {
		t.Fatal(err)
	}
	h := httptest.NewServer(server)
	t.Cleanup(h.Close)
	return cloudwatch.New(cloudwatch.Options{BaseEndpoint: &h.URL, Region: "us-east-1", Credentials: aws.AnonymousCredentials{}}), h.URL
}

func TestWhatIsPublishedIsFoundInTwoProtocols(t *testing.T) {
	c, at := newFront(t)
	start := time.Now().UTC().Truncate(time.Minute).Add(-10 * time.Minute)
	put := func(d types.MetricDatum) {
		t.Helper()
		d.MetricName, d.Timestamp = aws.String("Orders"), aws.Time(start.Add(5*time.Second))
		d.Dimensions = []types.Dimension{{Name: aws.String("shop"), Value: aws.String("a")}}
		if _, err := c.PutMetricData(t.Context(), &cloudwatch.PutMetricDataInput{Namespace: aws.String("Mine"), MetricData: []types.MetricDatum{d}}); err != nil {
			t.Fatal(err)
		}
	}
	put(types.MetricDatum{Value: aws.Float64(2), Unit: types.StandardUnitCount})
	put(types.MetricDatum{Values: []float64{4, 6}, Counts: []float64{1, 2}, Unit: types.StandardUnitCount})
	list, err := c.ListMetrics(t.Context(), &cloudwatch.ListMetricsInput{Namespace: aws.String("Mine"), Dimensions: []types.DimensionFilter{{Name: aws.String("shop")}}, RecentlyActive: types.RecentlyActivePt3h})
	if err != nil || len(list.Metrics) != 1 || *list.Metrics[0].MetricName != "Orders" || *list.Metrics[0].Dimensions[0].Value != "a" {
		t.Fatal(list, err)
	}
	ask := &cloudwatch.GetMetricStatisticsInput{Namespace: aws.String("Mine"), MetricName: aws.String("Orders"), Dimensions: list.Metrics[0].Dimensions,
		StartTime: aws.Time(start.Add(7 * time.Second)), EndTime: aws.Time(start.Add(5 * time.Minute)), Period: aws.Int32(300),
		Statistics: []types.Statistic{types.StatisticSum, types.StatisticSampleCount, types.StatisticMaximum}, ExtendedStatistics: []string{"p50"}}
	out, err := c.GetMetricStatistics(t.Context(), ask)
	if err != nil || len(out.Datapoints) != 1 {
		t.Fatal(out, err)
	}
	d := out.Datapoints[0]
	if *d.Sum != 18 || *d.SampleCount != 4 || *d.Maximum != 6 || d.Average != nil || d.ExtendedStatistics["p50"] < 3.9 || d.ExtendedStatistics["p50"] > 6.1 || d.Unit != types.StandardUnitCount || !d.Timestamp.Equal(start) {
		t.Errorf("%+v", d)
	}
	w, err := http.PostForm(at, url.Values{"Action": {"ListMetrics"}, "Version": {"2010-08-01"}, "Namespace": {"Mine"}})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Body.Close()
	var b strings.Builder
	if _, err := io.Copy(&b, w.Body); err != nil || w.StatusCode != 200 || !strings.Contains(b.String(), "<MetricName>Orders</MetricName>") {
		t.Errorf("%d %s", w.StatusCode, b.String())
	}
}

func TestRefusals(t *testing.T) {
	c, _ := newFront(t)
	datum := func(change func(*types.MetricDatum)) *cloudwatch.PutMetricDataInput {
		d := types.MetricDatum{MetricName: aws.String("m"), Value: aws.Float64(1)}
		change(&d)
		return &cloudwatch.PutMetricDataInput{Namespace: aws.String("Mine"), MetricData: []types.MetricDatum{d}}
	}
	of := func(namespace string) *cloudwatch.PutMetricDataInput {
		in := datum(func(*types.MetricDatum) {})
		in.Namespace = &namespace
		return in
	}
	const value, combination, missing = "InvalidParameterValue", "InvalidParameterCombination", "MissingParameter"
	for name, p := range map[string]struct {
		in   *cloudwatch.PutMetricDataInput
		code string
	}{
		"AWS's namespace":  {of("AWS/ElastiCache"), value},
		"our namespace":    {of("Understudy"), value},
		"no data":          {&cloudwatch.PutMetricDataInput{Namespace: aws.String("Mine")}, missing},
		"no value":         {datum(func(d *types.MetricDatum) { d.Value = nil }), missing},
		"NaN":              {datum(func(d *types.MetricDatum) { d.Value = aws.Float64(math.NaN()) }), value},
		"Inf":              {datum(func(d *types.MetricDatum) { d.Value = aws.Float64(math.Inf(1)) }), value},
		"far past":         {datum(func(d *types.MetricDatum) { d.Timestamp = aws.Time(time.Now().Add(-15 * 24 * time.Hour)) }), value},
		"far future":       {datum(func(d *types.MetricDatum) { d.Timestamp = aws.Time(time.Now().Add(3 * time.Hour)) }), value},
		"resolution 30":    {datum(func(d *types.MetricDatum) { d.StorageResolution = aws.Int32(30) }), value},
		"value and values": {datum(func(d *types.MetricDatum) { d.Values = []float64{1} }), combination},
		"counts too many":  {datum(func(d *types.MetricDatum) { d.Value, d.Values, d.Counts = nil, []float64{1}, []float64{1, 2} }), value},
	} {
		_, err := c.PutMetricData(t.Context(), p.in)
		refused(t, name, err, p.code)
	}
	now := time.Now()
	for name, p := range map[string]struct {
		start  time.Duration
		period int32
		stat   string
		code   string
	}{
		"period 45":    {-time.Hour, 45, "p50", value},
		"too many":     {-48 * time.Hour, 60, "p50", combination},
		"backwards":    {time.Hour, 60, "p50", combination},
		"no statistic": {-time.Hour, 60, "", combination},
		"p101":         {-time.Hour, 60, "p101", value},
	} {
		in := &cloudwatch.GetMetricStatisticsInput{Namespace: aws.String("Mine"), MetricName: aws.String("m"), StartTime: aws.Time(now.Add(p.start)), EndTime: &now, Period: &p.period}
		if p.stat != "" {
			in.ExtendedStatistics = []string{p.stat}
		}
		_, err := c.GetMetricStatistics(t.Context(), in)
		refused(t, name, err, p.code)
	}
	_, err := c.ListMetrics(t.Context(), &cloudwatch.ListMetricsInput{NextToken: aws.String("%%")})
	refused(t, "token", err, "InvalidNextToken")
}

func refused(t *testing.T, what string, err error, code string) {
	t.Helper()
	var e smithy.APIError
	if !errors.As(err, &e) || e.ErrorCode() != code {
		t.Errorf("%s: %v, want %s", what, err, code)
	}
}
