package cloudwatch

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"

	"understudy/aws/wire"
	"understudy/metric"
)

// publish puts values of a metric of namespace Mine, one a step from start.
func publish(t *testing.T, c *cloudwatch.Client, name, shop string, unit types.StandardUnit, start time.Time, step time.Duration, values ...float64) {
	t.Helper()
	var data []types.MetricDatum
	for i, v := range values {
		data = append(data, types.MetricDatum{MetricName: &name, Value: aws.Float64(v), Unit: unit, Timestamp: aws.Time(start.Add(time.Duration(i) * step)),
			Dimensions: []types.Dimension{{Name: aws.String("shop"), Value: &shop}}})
		if step < time.Minute {
			data[i].StorageResolution = aws.Int32(1)
		}
	}
	if _, err := c.PutMetricData(t.Context(), &cloudwatch.PutMetricDataInput{Namespace: aws.String("Mine"), MetricData: data}); err != nil {
		t.Fatal(err)
	}
}

func asked(id, name, shop string, period int32) types.MetricDataQuery {
	return types.MetricDataQuery{Id: &id, MetricStat: &types.MetricStat{Period: &period, Stat: aws.String("Sum"),
		Metric: &types.Metric{Namespace: aws.String("Mine"), MetricName: &name, Dimensions: []types.Dimension{{Name: aws.String("shop"), Value: &shop}}}}}
}

func expression(id, text string) types.MetricDataQuery {
	return types.MetricDataQuery{Id: &id, Expression: &text}
}

func get(t *testing.T, c *cloudwatch.Client, start, end time.Time, queries ...types.MetricDataQuery) []types.MetricDataResult {
	t.Helper()
	out, err := c.GetMetricData(t.Context(), &cloudwatch.GetMetricDataInput{StartTime: &start, EndTime: &end, MetricDataQueries: queries, ScanBy: types.ScanByTimestampAscending})
	if err != nil {
		t.Fatal(err)
	}
	if out.NextToken != nil {
		t.Errorf("a next page: %v", *out.NextToken)
	}
	return out.MetricDataResults
}

// shown is a result in one line: minutes or seconds since start, and values.
func shown(r types.MetricDataResult, start time.Time) string {
	text := fmt.Sprintf("%s %q %s:", *r.Id, *r.Label, r.StatusCode)
	for i, at := range r.Timestamps {
		text += fmt.Sprintf(" %v=%v", at.Sub(start), r.Values[i])
	}
	for _, m := range r.Messages {
		text += " " + *m.Code
	}
	return text
}

func compare(t *testing.T, what string, results []types.MetricDataResult, start time.Time, want ...string) {
	t.Helper()
	var got []string
	for _, r := range results {
		got = append(got, shown(r, start))
	}
	if !slices.Equal(got, want) {
		t.Errorf("%s:\n  %s\nwant\n  %s", what, strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

func past(ago time.Duration) time.Time { return time.Now().UTC().Truncate(time.Minute).Add(-ago) }

func TestMetricDataInThreeProtocols(t *testing.T) {
	c, at := newFront(t)
	start := past(10 * time.Minute)
	publish(t, c, "Orders", "a", types.StandardUnitCount, start, time.Minute, 1, 2, 3)
	out, err := c.GetMetricData(t.Context(), &cloudwatch.GetMetricDataInput{StartTime: aws.Time(start.Add(20 * time.Second)), EndTime: aws.Time(start.Add(time.Hour)),
		MetricDataQueries: []types.MetricDataQuery{asked("m1", "Orders", "a", 60), asked("m2", "Nothing", "a", 60)}})
	if err != nil || out.Messages == nil {
		t.Fatal(out, err)
	}
	compare(t, "newest first", out.MetricDataResults, start, `m1 "Orders" Complete: 2m0s=3 1m0s=2 0s=1`, `m2 "Nothing" Complete:`)

	stamp := func(after time.Duration) string { return start.Add(after).Format(time.RFC3339) }
	form := url.Values{"Action": {"GetMetricData"}, "Version": {"2010-08-01"}, "StartTime": {stamp(0)}, "EndTime": {stamp(time.Hour)}}
	const q = "MetricDataQueries.member.1."
	for name, v := range map[string]string{"Id": "m1", "MetricStat.Period": "60", "MetricStat.Stat": "Average", "MetricStat.Metric.Namespace": "Mine", "MetricStat.Metric.MetricName": "Orders",
		"MetricStat.Metric.Dimensions.member.1.Name": "shop", "MetricStat.Metric.Dimensions.member.1.Value": "a"} {
		form.Set(q+name, v)
	}
	answered := func(r *http.Response, err error, texts ...string) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		body, err := io.ReadAll(r.Body)
		for _, text := range texts {
			if err != nil || r.StatusCode != http.StatusOK || !strings.Contains(string(body), text) {
				t.Errorf("%d %s: no %s (%v)", r.StatusCode, body, text, err)
			}
		}
	}
	r, err := http.PostForm(at, form)
	answered(r, err, "<StatusCode>Complete</StatusCode>", "<Id>m1</Id>", "<Label>Orders</Label>", "<Values><member>3.0</member><member>2.0</member><member>1.0</member></Values>", "<member>"+stamp(2*time.Minute)+"</member>")

	body := fmt.Sprintf(`{"StartTime":%d,"EndTime":%d,"MetricDataQueries":[{"Id":"m1","ReturnData":false,"MetricStat":{"Period":60,"Stat":"Sum","Metric":{"Namespace":"Mine","MetricName":"Orders","Dimensions":[{"Name":"shop","Value":"a"}]}}},{"Id":"e1","Expression":"m1*2","Label":"twice"}]}`,
		start.Unix(), start.Add(time.Hour).Unix())
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, at, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/x-amz-json-1.0")
	request.Header.Set("X-Amz-Target", "GraniteServiceVersion20100801.GetMetricData")
	r, err = http.DefaultClient.Do(request)
	answered(r, err, `"Id":"e1"`, `"Label":"twice"`, `"Values":[6,4,2]`, fmt.Sprintf(`"Timestamps":[%d`, start.Add(2*time.Minute).Unix()))
}

func TestAClientThatPagesGetsEachPointOnce(t *testing.T) {
	c, _ := newFront(t)
	start := past(30 * time.Minute)
	values := []float64{1, 2, 3, 4, 5, 6, 7}
	publish(t, c, "Orders", "a", types.StandardUnitCount, start, time.Minute, values...)
	publish(t, c, "Orders", "b", types.StandardUnitCount, start, time.Minute, values[:3]...)
	queries := []types.MetricDataQuery{asked("m1", "Orders", "a", 60), asked("none", "Nothing", "a", 60), asked("m2", "Orders", "b", 60), expression("e1", "METRICS() * 2")}
	whole := get(t, c, start, start.Add(time.Hour), queries...)
	later := 0
	for _, by := range []types.ScanBy{types.ScanByTimestampAscending, types.ScanByTimestampDescending} {
		for limit := int32(1); limit <= 21; limit++ {
			in := &cloudwatch.GetMetricDataInput{StartTime: &start, EndTime: aws.Time(start.Add(time.Hour)), MetricDataQueries: queries, ScanBy: by, MaxDatapoints: &limit}
			got, last := map[string][]time.Time{}, map[string]types.StatusCode{}
			for p := cloudwatch.NewGetMetricDataPaginator(c, in); p.HasMorePages(); {
				out, err := p.NextPage(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				n := 0
				for _, r := range out.MetricDataResults {
					n += len(r.Values)
					series := *r.Id + " " + *r.Label
					got[series], last[series] = append(got[series], r.Timestamps...), r.StatusCode
				}
				if n > int(limit) {
					t.Errorf("%s by %d: a page of %d", by, limit, n)
				}
				// What is published meanwhile neither hides nor repeats what was there.
				later++
				publish(t, c, "Orders", "b", types.StandardUnitCount, start.Add(20*time.Minute+time.Duration(later%9)*time.Second), time.Minute, 9)
			}
			for _, r := range whole {
				series := *r.Id + " " + *r.Label
				times := got[series]
				if by == types.ScanByTimestampDescending {
					slices.Reverse(times)
				}
				times = slices.DeleteFunc(slices.Clone(times), func(at time.Time) bool { return at.Equal(start.Add(20 * time.Minute)) })
				if !slices.EqualFunc(times, r.Timestamps, time.Time.Equal) || last[series] != types.StatusCodeComplete {
					t.Errorf("%s by %d: %s has %v, %s, want %v", by, limit, series, times, last[series], r.Timestamps)
				}
			}
		}
	}
	first, err := c.GetMetricData(t.Context(), &cloudwatch.GetMetricDataInput{StartTime: &start, EndTime: aws.Time(start.Add(time.Hour)), MetricDataQueries: queries, MaxDatapoints: aws.Int32(2)})
	if err != nil || first.NextToken == nil || first.MetricDataResults[0].StatusCode != types.StatusCodePartialData {
		t.Fatal(first, err)
	}
	_, err = c.GetMetricData(t.Context(), &cloudwatch.GetMetricDataInput{StartTime: &start, EndTime: aws.Time(start.Add(2 * time.Hour)), MetricDataQueries: queries, NextToken: first.NextToken})
	refused(t, "a token of another request", err, "InvalidNextToken")
}

func TestExpressionsReturnASeriesForEachOfTheirs(t *testing.T) {
	c, _ := newFront(t)
	start := past(10 * time.Minute)
	publish(t, c, "Orders", "a", types.StandardUnitCount, start, 2*time.Minute, 1, 2)
	publish(t, c, "Orders", "b", types.StandardUnitCount, start, 2*time.Minute, 10, 20)
	publish(t, c, "Visits", "b", types.StandardUnitCount, start, 2*time.Minute, 100, 200)
	a, b, v := asked("a", "Orders", "a", 60), asked("b", "Orders", "b", 60), asked("v", "Visits", "b", 60)
	for _, q := range []*types.MetricDataQuery{&a, &b, &v} {
		q.ReturnData = aws.Bool(false)
	}
	list := func(text, label string) types.MetricDataQuery {
		q := expression("e1", text)
		if label != "" {
			q.Label = &label
		}
		return q
	}
	end := start.Add(5 * time.Minute)
	check := func(text, label string, want ...string) {
		t.Helper()
		compare(t, text, get(t, c, start, end, a, b, v, list(text, label)), start, want...)
	}
	check("a+b", "", `e1 "e1" Complete: 0s=11 2m0s=22`)
	check("SUM(METRICS())", "all", `e1 "all" Complete: 0s=111 2m0s=222`)
	check("FILL(a, 0)", "", `e1 "e1" Complete: 0s=1 1m0s=0 2m0s=2 3m0s=0 4m0s=0`)
	check("METRICS()", "", `e1 "a Orders" Complete: 0s=1 2m0s=2`, `e1 "b Orders" Complete: 0s=10 2m0s=20`, `e1 "b Visits" Complete: 0s=100 2m0s=200`)
	check("[a, b] / 2", "half", `e1 "half a" Complete: 0s=0.5 2m0s=1`, `e1 "half b" Complete: 0s=5 2m0s=10`)
	check("[v, b]", "", `e1 "Visits" Complete: 0s=100 2m0s=200`, `e1 "Orders" Complete: 0s=10 2m0s=20`)
	check("[a+b]", "", `e1 "e1" Complete: 0s=11 2m0s=22`)
	check(`METRICS("x")`, "")
	check("[a, b]", "${PROP('Dim.shop')}/${PROP('MetricName')} ${MAX}", `e1 "a/Orders 2" Complete: 0s=1 2m0s=2`, `e1 "b/Orders 20" Complete: 0s=10 2m0s=20`)
	a.Label = aws.String("first shop")
	check("[a, b]", "${LABEL}!", `e1 "first shop!" Complete: 0s=1 2m0s=2`, `e1 "Orders!" Complete: 0s=10 2m0s=20`)
	// What has not been yet is not filled.
	end = time.Now().Add(24 * time.Hour)
	if n := len(get(t, c, start, end, a, expression("e1", "FILL(a, 0)"))[0].Values); n < 10 || n > 12 {
		t.Errorf("%d points, want those till now", n)
	}
}

func TestUnitsDoNotMix(t *testing.T) {
	c, _ := newFront(t)
	start := past(10 * time.Minute)
	publish(t, c, "Wait", "a", types.StandardUnitSeconds, start, time.Minute, 1, 2, 3)
	publish(t, c, "Wait", "a", types.StandardUnitMilliseconds, start.Add(time.Minute), 0, 500, 600)
	publish(t, c, "Wait", "a", types.StandardUnitMilliseconds, start.Add(3*time.Minute), time.Minute, 700)
	all, ms, count := asked("all", "Wait", "a", 60), asked("ms", "Wait", "a", 60), asked("count", "Wait", "a", 60)
	ms.MetricStat.Unit, count.MetricStat.Unit = types.StandardUnitMilliseconds, types.StandardUnitCount
	want := []string{`all "Wait" Complete: 0s=1 1m0s=1100 2m0s=3 3m0s=700 MixedUnits`, `ms "Wait" Complete: 1m0s=1100 3m0s=700`, `count "Wait" Complete:`}
	compare(t, "units", get(t, c, start, start.Add(time.Hour), all, ms, count), start, want...)
	compare(t, "units beside an expression", get(t, c, start, start.Add(time.Hour), all, ms, count, expression("e", "all - 1")), start,
		append(want, `e "e" Complete: 0s=0 1m0s=1099 2m0s=2 3m0s=699`)...)
}

func TestStartsAreRoundedDown(t *testing.T) {
	c, _ := newFront(t)
	start := past(10 * time.Minute)
	publish(t, c, "Orders", "a", types.StandardUnitCount, start, 10*time.Second, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1)
	begin := start.Add(27 * time.Second)
	compare(t, "periods", get(t, c, begin, start.Add(75*time.Second), asked("ten", "Orders", "a", 10), asked("minute", "Orders", "a", 60), asked("five", "Orders", "a", 300)), start,
		`ten "Orders" Complete: 20s=1 30s=1 40s=1 50s=1 1m0s=1 1m10s=1`, `minute "Orders" Complete: 0s=6 1m0s=6`, `five "Orders" Complete: 0s=12`)
	compare(t, "filled", get(t, c, begin, start.Add(45*time.Second), asked("m", "Orders", "a", 10), expression("e", "FILL(m, 0)")), start,
		`m "Orders" Complete: 20s=1 30s=1 40s=1`, `e "e" Complete: 20s=1 30s=1 40s=1`)
}

func TestLabelsTell(t *testing.T) {
	c, _ := newFront(t)
	start := past(10 * time.Minute)
	publish(t, c, "Orders", "a", types.StandardUnitCount, start, time.Minute, 4, 1, 7)
	clock := func(after time.Duration) string {
		return start.Add(after).In(time.FixedZone("", 5400)).Format(time.RFC3339)
	}
	for label, want := range map[string]string{
		"":                              "Orders",
		"mine":                          "mine",
		"${LABEL} ${AVG}":               "Orders 4",
		"${MIN}-${MAX} ${SUM}":          "1-7 12",
		"${FIRST}-${LAST}":              "4-7",
		"${DATAPOINT_COUNT}":            "3",
		"${MIN_MAX_RANGE}":              "6",
		"${FIRST_LAST_RANGE}":           "3",
		"${MIN_MAX_TIME_RANGE}":         "1m0s",
		"${FIRST_LAST_TIME_RANGE}":      "2m0s",
		"${MIN_TIME}":                   clock(time.Minute),
		"${PROP('Dim.shop')}":           "a",
		"${PROP('Dim.none')}":           "",
		"${PROP('Namespace')}":          "Mine",
		"${PROP('Stat')}":               "Sum",
		"${PROP('Period')}":             "60",
		"${PROP('Region')}":             "us-east-1",
		"${PROP('AccountId')}":          "123456789012",
		"${NOTHING} ${PROP('Nothing')}": "${NOTHING} ${PROP('Nothing')}",
		"$LABEL {LABEL} ${LABEL":        "$LABEL {LABEL} ${LABEL",
	} {
		q, empty := asked("m", "Orders", "a", 60), asked("n", "Nothing", "a", 60)
		q.Label, empty.Label = &label, aws.String("${MAX} ${NOTHING}")
		out, err := c.GetMetricData(t.Context(), &cloudwatch.GetMetricDataInput{StartTime: &start, EndTime: aws.Time(start.Add(time.Hour)),
			MetricDataQueries: []types.MetricDataQuery{q, empty}, LabelOptions: &types.LabelOptions{Timezone: aws.String("+0130")}})
		if err != nil {
			t.Fatal(err)
		}
		if got := *out.MetricDataResults[0].Label; got != want {
			t.Errorf("%q is %q, want %q", label, got, want)
		}
		if got := *out.MetricDataResults[1].Label; got != "-- ${NOTHING}" {
			t.Errorf("of nothing: %q", got)
		}
	}
}

func TestAnAnswerIsBounded(t *testing.T) {
	c, _ := newFront(t)
	start := past(10 * time.Minute)
	publish(t, c, "Orders", "a", types.StandardUnitCount, start, time.Minute, 1)
	var queries []types.MetricDataQuery
	for i := range 250 {
		list := expression(fmt.Sprint("e", i), "METRICS()")
		list.Label = aws.String(strings.Repeat("${LABEL}", 20))
		queries = append(queries, asked(fmt.Sprint("m", i), "Orders", "ä"+strings.Repeat("ä", i), 60), list)
	}
	in := &cloudwatch.GetMetricDataInput{StartTime: &start, EndTime: aws.Time(start.Add(time.Hour)), MetricDataQueries: queries[:32]}
	out, err := c.GetMetricData(t.Context(), in)
	if err != nil || out.NextToken != nil || len(out.MetricDataResults) != 16+16*16 {
		t.Fatal(len(out.MetricDataResults), err)
	}
	in.MetricDataQueries = queries
	series, pages, cut := 0, 0, 0
	for p := cloudwatch.NewGetMetricDataPaginator(c, in); p.HasMorePages() && pages < 3; pages++ {
		out, err := p.NextPage(t.Context())
		if err != nil || len(out.MetricDataResults) != mostSeries {
			t.Fatal(len(out.MetricDataResults), err)
		}
		for _, r := range out.MetricDataResults {
			if series++; len(*r.Label) > longestLabel || !utf8.ValidString(*r.Label) {
				t.Fatalf("a label of %d bytes", len(*r.Label))
			}
			if len(*r.Label) >= longestLabel-1 {
				cut++
			}
		}
	}
	if cut == 0 {
		t.Error("no label was longer than may be")
	}
}

// plenty has as many points as are asked for, and the same for all.
type plenty []metric.Point

func (p plenty) Points(context.Context, metric.Query) ([]metric.Point, error) { return p, nil }
func (p plenty) List(context.Context, metric.Filter) ([]metric.ID, error)     { return nil, nil }
func (p plenty) Write(context.Context, []metric.Datum) error                  { return nil }

func TestExpressionsOverTooMuchAreRefused(t *testing.T) {
	points := make(plenty, 86_400)
	start := past(24 * time.Hour)
	for i := range points {
		points[i] = metric.Point{At: start.Add(time.Duration(i) * time.Second), Value: 1, Count: 1}
	}
	s, err := New(Options{Reader: points, Writer: points})
	if err != nil {
		t.Fatal(err)
	}
	var queries []types.MetricDataQuery
	for i := range 100 {
		queries = append(queries, asked(fmt.Sprint("m", i), "m", "a", 1))
	}
	ask := func(queries ...types.MetricDataQuery) (*cloudwatch.GetMetricDataOutput, error) {
		return s.getMetricData(wire.WithCall(t.Context(), wire.Call{}), &cloudwatch.GetMetricDataInput{StartTime: &start, EndTime: aws.Time(time.Now()), MetricDataQueries: queries})
	}
	_, err = ask(append(queries, expression("e", "SUM(METRICS())"))...)
	if err == nil || !strings.Contains(err.Error(), "increase Period") {
		t.Error(err)
	}
	// Without an expression a page is all that is held.
	out, err := ask(queries...)
	if err != nil || len(out.MetricDataResults) != 2 || out.NextToken == nil || len(out.MetricDataResults[1].Values) != mostDatapoints-86_400 {
		t.Error(err)
	}
}
