package alarm

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"understudy/metric"
)

// recorded is an alarm as AWS described it, or sent it by SNS: https://docs.aws.amazon.com has two of them, the others
// stand in public repositories.
type recorded struct {
	name   string
	rule   Rule
	newest string    // when the newest period begins
	values []float64 // a minute or rule.Period apart, the newest last; missing ones are NaN
	reason string
}

func (c recorded) points(t *testing.T) ([]metric.Point, time.Time) {
	at, err := time.Parse(time.DateTime, c.newest)
	if err != nil {
		t.Fatal(err)
	}
	var points []metric.Point
	for i, v := range c.values {
		points = append(points, metric.Point{At: at.Add(-time.Duration(len(c.values)-1-i) * c.rule.Period), Value: v, Count: 1})
	}
	return points, at.Add(c.rule.Period)
}

var recordings = []recorded{
	{"one point, no M", Rule{Stat: "Sum", Period: time.Minute, Periods: 1, Threshold: 1, Comparison: GreaterOrEqual},
		"2025-02-02 12:05:00", []float64{1},
		"Threshold Crossed: 1 datapoint [1.0 (02/02/25 12:05:00)] was greater than or equal to the threshold (1.0)."},
	{"three points, no M", Rule{Stat: "Sum", Period: 45 * time.Minute, Periods: 3, Threshold: 1, Comparison: GreaterOrEqual},
		"2022-05-13 13:14:00", []float64{1, 5, 4},
		"Threshold Crossed: 3 datapoints [4.0 (13/05/22 13:14:00), 5.0 (13/05/22 12:29:00), 1.0 (13/05/22 11:44:00)] were greater than or equal to the threshold (1.0)."},
	{"two that do not breach", Rule{Stat: "Sum", Period: time.Minute, Periods: 2, Threshold: 42, Comparison: Greater},
		"2023-01-09 14:02:00", []float64{1, 0},
		"Threshold Crossed: 2 datapoints [0.0 (09/01/23 14:02:00), 1.0 (09/01/23 14:01:00)] were not greater than the threshold (42.0)."},
	{"five points, no M", Rule{Stat: "Average", Period: time.Minute, Periods: 5, Threshold: 80, Comparison: GreaterOrEqual},
		"2025-09-03 06:24:00", []float64{84.92614979303418, 84.9314310950818, 84.93257920422259, 84.9368272080435, 84.93923823723915},
		"Threshold Crossed: 5 datapoints were greater than or equal to the threshold (80.0). The most recent datapoints which crossed the threshold: [84.93923823723915 (03/09/25 06:24:00), 84.9368272080435 (03/09/25 06:23:00), 84.93257920422259 (03/09/25 06:22:00), 84.9314310950818 (03/09/25 06:21:00), 84.92614979303418 (03/09/25 06:20:00)]."},
	{"M of N", Rule{Stat: "Average", Period: time.Minute, Periods: 2, Datapoints: 2, Threshold: 1, Comparison: Greater},
		"2021-09-27 01:36:00", []float64{1.7514244573552422, 5.535714886726143},
		"Threshold Crossed: 2 out of the last 2 datapoints [5.535714886726143 (27/09/21 01:36:00), 1.7514244573552422 (27/09/21 01:35:00)] were greater than the threshold (1.0) (minimum 2 datapoints for OK -> ALARM transition)."},
	{"M of N, not breaching", Rule{Stat: "Average", Period: time.Minute, Periods: 2, Datapoints: 2, Threshold: 1, Comparison: GreaterOrEqual},
		"2023-06-02 12:28:00", []float64{1, 0},
		"Threshold Crossed: 1 out of the last 2 datapoints [0.0 (02/06/23 12:28:00)] was not greater than or equal to the threshold (1.0) (minimum 1 datapoint for ALARM -> OK transition)."},
	{"five of five", Rule{Stat: "Average", Period: time.Minute, Periods: 5, Datapoints: 5, Threshold: 65, Comparison: Less},
		"2020-04-29 23:32:00", []float64{0, 0, 0, 0, 0},
		"Threshold Crossed: 5 out of the last 5 datapoints were less than the threshold (65.0). The most recent datapoints which crossed the threshold: [0.0 (29/04/20 23:32:00), 0.0 (29/04/20 23:31:00), 0.0 (29/04/20 23:30:00), 0.0 (29/04/20 23:29:00), 0.0 (29/04/20 23:28:00)] (minimum 5 datapoints for OK -> ALARM transition)."},
	{"missing ones filled", Rule{Stat: "Sum", Period: time.Minute, Periods: 20, Datapoints: 1, Threshold: 1, Comparison: GreaterOrEqual, Treatment: NotBreaching},
		"2024-03-16 12:15:00", []float64{613},
		"Threshold Crossed: 1 out of the last 20 datapoints [613.0 (16/03/24 12:15:00)] was greater than or equal to the threshold (1.0) and 19 missing datapoints were treated as [NonBreaching] (minimum 1 datapoint for OK -> ALARM transition)."},
	{"recovered beside missing ones", Rule{Stat: "Sum", Period: time.Minute, Periods: 3, Threshold: 1, Comparison: Less, Treatment: Breaching},
		"2026-08-26 16:16:00", []float64{1},
		"Threshold Crossed: 1 datapoint [1.0 (26/08/26 16:16:00)] was not less than the threshold (1.0) and 2 missing datapoints were treated as [Breaching]."},
	{"one missing", Rule{Stat: "Sum", Period: 5 * time.Minute, Periods: 1, Threshold: 10, Comparison: Greater, Treatment: NotBreaching},
		"2026-01-13 01:50:00", nil,
		"Threshold Crossed: no datapoints were received for 1 period and 1 missing datapoint was treated as [NonBreaching]."},
	{"all missing", Rule{Stat: "Sum", Period: time.Minute, Periods: 2, Threshold: 10, Comparison: Greater, Treatment: Breaching},
		"2026-01-13 01:50:00", nil,
		"Threshold Crossed: no datapoints were received for 2 periods and 2 missing datapoints were treated as [Breaching]."},
	{"missing ones outweigh one that breaches", Rule{Stat: "Minimum", Period: time.Minute, Periods: 4, Threshold: 1, Comparison: Less, Treatment: NotBreaching},
		"2019-12-18 10:00:00", []float64{0}, // of the alarm N and the treatment are recorded only
		"Threshold Crossed: 1 datapoint was received for 4 periods and 3 missing datapoints were treated as [NonBreaching]."},
	{"missing ones outweigh one that does not", Rule{Stat: "Sum", Period: time.Minute, Periods: 3, Datapoints: 2, Threshold: 0, Comparison: Greater, Treatment: Breaching},
		"2026-09-05 10:00:00", []float64{0},
		"Threshold Crossed: 1 datapoint was received for 3 periods and 2 missing datapoints were treated as [Breaching]."},
	{"unknown", Rule{Stat: "Maximum", Period: 5 * time.Minute, Periods: 5, Threshold: 10, Comparison: Greater},
		"2021-10-14 14:49:00", nil,
		"Insufficient Data: 5 datapoints were unknown."},
}

func TestReasonsAreAsAWSWroteThem(t *testing.T) {
	for _, c := range recordings {
		points, now := c.points(t)
		if got := Evaluate(c.rule, OK, points, now).Reason; got != c.reason {
			t.Errorf("%s:\ngot  %s\nwant %s", c.name, got, c.reason)
		}
	}
}

// Recorded of an alarm on AWS/DynamoDB, 2023-01-09, and on AWS/Billing, 2021-10-14; the first with the older point
// among those that were evaluated, as records have it since.
func TestReasonDataIsAsAWSWroteIt(t *testing.T) {
	for _, c := range []struct {
		of    recorded
		later time.Duration // after the newest period
		want  string
	}{
		{recordings[2], 25*time.Second + 504*time.Millisecond,
			`{"version":"1.0","queryDate":"2023-01-09T14:03:25.504+0000","startDate":"2023-01-09T14:01:00.000+0000","statistic":"Sum","period":60,"recentDatapoints":[1.0,0.0],"threshold":42.0,"evaluatedDatapoints":[{"timestamp":"2023-01-09T14:02:00.000+0000","sampleCount":1.0,"value":0.0},{"timestamp":"2023-01-09T14:01:00.000+0000","sampleCount":1.0,"value":1.0}]}`},
		{recordings[len(recordings)-1], 54*time.Second + 786*time.Millisecond,
			`{"version":"1.0","queryDate":"2021-10-14T14:54:54.786+0000","statistic":"Maximum","period":300,"recentDatapoints":[],"threshold":10.0,"evaluatedDatapoints":[{"timestamp":"2021-10-14T14:49:00.000+0000"},{"timestamp":"2021-10-14T14:44:00.000+0000"},{"timestamp":"2021-10-14T14:39:00.000+0000"},{"timestamp":"2021-10-14T14:34:00.000+0000"},{"timestamp":"2021-10-14T14:29:00.000+0000"}]}`},
	} {
		points, now := c.of.points(t)
		if got := Evaluate(c.of.rule, Alarm, points, now.Add(c.later)).Data; got != c.want {
			t.Errorf("%s:\ngot  %s\nwant %s", c.of.name, got, c.want)
		}
	}
}

// A number that is none comes from division by zero in somebody's own data; it is as good as no point.
func TestNumbersThatAreNoneAreMissing(t *testing.T) {
	r := ruleOf(1, 1, "")
	zero := 0.0
	for _, v := range []float64{1 / zero, -1 / zero, zero / zero} {
		d := Evaluate(r, OK, []metric.Point{{At: noon.Add(-time.Minute), Value: v, Count: 1}}, noon)
		if d.State != InsufficientData || !json.Valid([]byte(d.Data)) || strings.Contains(d.Data, "value") {
			t.Errorf("%v: %s, %s", v, d.State, d.Data)
		}
	}
}
