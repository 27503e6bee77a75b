package cloudwatch

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"
)

// pages returns the names in the order of the pages, and the sizes of these.
func (r *ringing) pages(t *testing.T, in cloudwatch.DescribeAlarmsInput, between func(last string)) (all []string, sizes string) {
	t.Helper()
	for {
		out := r.describe(t, &in)
		part := []string{}
		for _, a := range out.MetricAlarms {
			part = append(part, *a.AlarmName)
		}
		for _, a := range out.CompositeAlarms {
			part = append(part, *a.AlarmName)
		}
		slices.Sort(part)
		all = append(all, part...)
		sizes += fmt.Sprint(len(part), " ")
		if in.NextToken = out.NextToken; in.NextToken == nil {
			return all, sizes
		}
		if between != nil {
			between(all[len(all)-1])
		}
	}
}

// 250 alarms of both types in pages: each once, in the order of names over both lists, also when some go in between.
func TestAlarmsInPages(t *testing.T) {
	r := newRinging(t)
	want := map[types.AlarmType]int{}
	for i := range 250 {
		name := fmt.Sprintf("alarm-%03d", i)
		if i%5 == 4 {
			r.mustCompose(t, composed(name, "FALSE"))
			want[types.AlarmTypeCompositeAlarm]++
			continue
		}
		in := still(name)
		in.OKActions = []string{fmt.Sprintf("%s-%d", topic, i%10)}
		r.mustPut(t, in)
		want[types.AlarmTypeMetricAlarm]++
	}
	for _, c := range []struct {
		in    cloudwatch.DescribeAlarmsInput
		n     int
		sizes string
	}{
		{cloudwatch.DescribeAlarmsInput{AlarmTypes: both}, 250, "50 50 50 50 50 "},
		{cloudwatch.DescribeAlarmsInput{AlarmTypes: both, MaxRecords: aws.Int32(100)}, 250, "100 100 50 "},
		{cloudwatch.DescribeAlarmsInput{MaxRecords: aws.Int32(100)}, want[types.AlarmTypeMetricAlarm], "100 100 "},
		{cloudwatch.DescribeAlarmsInput{AlarmTypes: both[:1]}, want[types.AlarmTypeCompositeAlarm], "50 "},
		{cloudwatch.DescribeAlarmsInput{AlarmTypes: both, AlarmNamePrefix: aws.String("alarm-1"), MaxRecords: aws.Int32(60)}, 100, "60 40 "},
		{cloudwatch.DescribeAlarmsInput{AlarmTypes: both, StateValue: types.StateValueOk}, want[types.AlarmTypeCompositeAlarm], "50 "},
		{cloudwatch.DescribeAlarmsInput{AlarmTypes: both, StateValue: types.StateValueAlarm}, 0, "0 "},
		{cloudwatch.DescribeAlarmsInput{ActionPrefix: aws.String(topic + "-1")}, 25, "25 "},
		{cloudwatch.DescribeAlarmsInput{AlarmNames: []string{"alarm-003", "alarm-001", "none", "alarm-001", "alarm-004"}, MaxRecords: aws.Int32(1)}, 2, "1 1 "},
	} {
		all, sizes := r.pages(t, c.in, nil)
		if len(all) != c.n || sizes != c.sizes || !slices.IsSorted(all) || len(slices.Compact(slices.Clone(all))) != len(all) {
			t.Errorf("%+v: %d in pages of %s, want %d in %s", c.in, len(all), sizes, c.n, c.sizes)
		}
	}
	all, _ := r.pages(t, cloudwatch.DescribeAlarmsInput{AlarmTypes: both}, func(last string) {
		var n int
		if _, err := fmt.Sscanf(last, "alarm-%d", &n); err != nil {
			t.Fatal(err)
		}
		gone := []string{last, fmt.Sprintf("alarm-%03d", n+1)} // the last of this page, the first of the next
		if _, err := r.DeleteAlarms(t.Context(), &cloudwatch.DeleteAlarmsInput{AlarmNames: gone}); err != nil {
			t.Fatal(err)
		}
	})
	if len(all) != 246 || !slices.IsSorted(all) || len(slices.Compact(slices.Clone(all))) != 246 {
		t.Errorf("%d alarms, want 246: those that went are missing, and no others", len(all))
	}
}

// history asks for all pages, of five entries each.
func (r *ringing) history(t *testing.T, in cloudwatch.DescribeAlarmHistoryInput) (all []types.AlarmHistoryItem) {
	t.Helper()
	in.MaxRecords = aws.Int32(5)
	p := cloudwatch.NewDescribeAlarmHistoryPaginator(r, &in)
	for p.HasMorePages() {
		out, err := p.NextPage(t.Context())
		if err != nil || len(out.AlarmHistoryItems) > 5 {
			t.Fatal(out, err)
		}
		all = append(all, out.AlarmHistoryItems...)
	}
	return all
}

func said(items []types.AlarmHistoryItem) string {
	var all []string
	for _, i := range items {
		all = append(all, *i.AlarmName+": "+*i.HistorySummary)
	}
	return strings.Join(all, "\n")
}

func TestHistoryOfAlarms(t *testing.T) {
	r := newRinging(t)
	r.mustPut(t, still("a"))
	r.mustPut(t, still("other"))
	r.mustCompose(t, composed("both", "ALARM(a)"))
	for range 4 {
		r.mustSet(t, "a", types.StateValueAlarm)
		r.mustSet(t, "a", types.StateValueOk)
	}
	for _, name := range []string{"both", "a"} {
		if _, err := r.DeleteAlarms(t.Context(), &cloudwatch.DeleteAlarmsInput{AlarmNames: []string{name}}); err != nil {
			t.Fatal(err)
		}
	}
	of := cloudwatch.DescribeAlarmHistoryInput{AlarmName: aws.String("a")}
	all := r.history(t, of)
	var want []string
	want = append(want, `a: Alarm "a" deleted`)
	for range 3 {
		want = append(want, "a: Alarm updated from ALARM to OK", "a: Alarm updated from OK to ALARM")
	}
	want = append(want, "a: Alarm updated from ALARM to OK", "a: Alarm updated from INSUFFICIENT_DATA to ALARM", `a: Alarm "a" created`)
	if got := said(all); got != strings.Join(want, "\n") {
		t.Errorf("%s\nwant\n%s", got, strings.Join(want, "\n"))
	}
	of.ScanBy = types.ScanByTimestampAscending
	oldest := r.history(t, of)
	slices.Reverse(oldest)
	if said(oldest) != said(all) {
		t.Errorf("ascending: %s", said(oldest))
	}
	for _, c := range []struct {
		change func(*cloudwatch.DescribeAlarmHistoryInput)
		n      int
	}{
		{func(in *cloudwatch.DescribeAlarmHistoryInput) { in.HistoryItemType = types.HistoryItemTypeStateUpdate }, 8},
		{func(in *cloudwatch.DescribeAlarmHistoryInput) {
			in.HistoryItemType = types.HistoryItemTypeConfigurationUpdate
		}, 2},
		{func(in *cloudwatch.DescribeAlarmHistoryInput) { in.HistoryItemType = types.HistoryItemTypeAction }, 0},
		{func(in *cloudwatch.DescribeAlarmHistoryInput) { in.StartDate = all[2].Timestamp }, 3},
		{func(in *cloudwatch.DescribeAlarmHistoryInput) { in.EndDate = all[2].Timestamp }, 8},
		{func(in *cloudwatch.DescribeAlarmHistoryInput) { in.EndDate = aws.Time(time.Now().Add(-time.Hour)) }, 0},
		{func(in *cloudwatch.DescribeAlarmHistoryInput) { in.AlarmName = nil }, 11}, // and that the other was made
		{func(in *cloudwatch.DescribeAlarmHistoryInput) { in.AlarmName = aws.String("both") }, 0},
		{func(in *cloudwatch.DescribeAlarmHistoryInput) {
			in.AlarmName, in.AlarmTypes = aws.String("both"), both[:1]
		}, 11},
		{func(in *cloudwatch.DescribeAlarmHistoryInput) { in.AlarmContributorId = aws.String("c") }, 0},
		{func(in *cloudwatch.DescribeAlarmHistoryInput) { in.AlarmName = aws.String("none") }, 0},
	} {
		in := cloudwatch.DescribeAlarmHistoryInput{AlarmName: aws.String("a")}
		c.change(&in)
		if got := r.history(t, in); len(got) != c.n {
			t.Errorf("%+v: %d entries, want %d\n%s", in, len(got), c.n, said(got))
		}
	}
	if i := all[0]; i.AlarmType != types.AlarmTypeMetricAlarm || !strings.Contains(*i.HistoryData, `"type":"Delete"`) {
		t.Errorf("%+v", i)
	}
}

func TestAlarmsOfAMetric(t *testing.T) {
	r := newRinging(t)
	r.mustPut(t, lag("average"))
	in := lag("percentile")
	in.Statistic, in.ExtendedStatistic, in.Period, in.Unit = "", aws.String("p99"), aws.Int32(60), types.StandardUnitSeconds
	r.mustPut(t, in)
	in = lag("elsewhere")
	in.Dimensions = nil
	r.mustPut(t, in)
	in = lag("computed")
	onMath(in, "m1+m2")
	r.mustPut(t, in)
	for want, change := range map[string]func(*cloudwatch.DescribeAlarmsForMetricInput){
		"average percentile": func(*cloudwatch.DescribeAlarmsForMetricInput) {},
		"elsewhere":          func(in *cloudwatch.DescribeAlarmsForMetricInput) { in.Dimensions = nil },
		"average":            func(in *cloudwatch.DescribeAlarmsForMetricInput) { in.Statistic = types.StatisticAverage },
		"percentile":         func(in *cloudwatch.DescribeAlarmsForMetricInput) { in.ExtendedStatistic = aws.String("p99") },
		"percentile ":        func(in *cloudwatch.DescribeAlarmsForMetricInput) { in.Period = aws.Int32(60) },
		"percentile  ":       func(in *cloudwatch.DescribeAlarmsForMetricInput) { in.Unit = types.StandardUnitSeconds },
		"":                   func(in *cloudwatch.DescribeAlarmsForMetricInput) { in.Statistic = types.StatisticMaximum },
		" ":                  func(in *cloudwatch.DescribeAlarmsForMetricInput) { in.MetricName = aws.String("m") },
	} {
		ask := &cloudwatch.DescribeAlarmsForMetricInput{Namespace: aws.String("AWS/ElastiCache"), MetricName: aws.String("ReplicationLag"), Dimensions: lag("").Dimensions}
		change(ask)
		out, err := r.DescribeAlarmsForMetric(t.Context(), ask)
		if err != nil {
			t.Fatal(err)
		}
		if got := names(&cloudwatch.DescribeAlarmsOutput{MetricAlarms: out.MetricAlarms}); got != strings.TrimSpace(want) {
			t.Errorf("%q, want %q", got, strings.TrimSpace(want))
		}
	}
}
