package alarm

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"understudy/metric"
)

// reason says in CloudWatch's words why the state is what it is. Recorded ones:
//
//	Threshold Crossed: 1 datapoint [21.5 (01/02/26 15:04:00)] was greater than the threshold (21.0).
//	Threshold Crossed: 2 out of the last 3 datapoints [1.0 (…), 2.0 (…)] were greater than the threshold (0.0) (minimum 2 datapoints for OK -> ALARM transition).
//	Threshold Crossed: no datapoints were received for 2 periods and 2 missing datapoints were treated as [Breaching].
//	Insufficient Data: 1 datapoint was unknown.
func (x examined) reason(r Rule, before, state State) string {
	if state == InsufficientData {
		return "Insufficient Data: " + counted(r.Periods, "datapoint", "was", "were") + " unknown."
	}
	filled := ""
	if x.missing > 0 && r.treatment() != Missing {
		filled = fmt.Sprintf(" and %s treated as [%s]", counted(x.missing, "missing datapoint", "was", "were"), treated[r.treatment()])
	}
	if len(x.used) == 0 {
		return fmt.Sprintf("Threshold Crossed: no datapoints were received for %s%s.", plural(r.Periods, "period"), filled)
	}
	shown, not := x.used, "not "
	if state == Alarm {
		shown, not = x.breaching, ""
		if len(shown) == 0 { // only what is missing breaches
			shown, not = x.used, "not "
		}
	} else if calm := x.calm(); len(calm) > 0 {
		shown = calm
	}
	count, verb := plural(len(shown), "datapoint"), "were"
	if len(shown) == 1 {
		verb = "was"
	}
	transition := ""
	if r.need() < r.Periods {
		count = fmt.Sprintf("%d out of the last %d datapoints", len(shown), r.Periods)
		if before != state {
			transition = fmt.Sprintf(" (minimum %s for %s -> %s transition)", plural(r.atLeast(state), "datapoint"), before, state)
		}
	}
	return fmt.Sprintf("Threshold Crossed: %s [%s] %s %s%s the threshold (%s)%s%s.",
		count, listed(shown), verb, not, words[r.Comparison], Double(r.Threshold), filled, transition)
}

// atLeast is how many points make the state.
func (r Rule) atLeast(state State) int {
	if state == Alarm {
		return r.need()
	}
	return r.Periods - r.need() + 1
}

func (x examined) calm() []metric.Point {
	var calm []metric.Point
	for _, p := range x.used {
		if !holds(x.breaching, p) {
			calm = append(calm, p)
		}
	}
	return calm
}

func holds(points []metric.Point, p metric.Point) bool {
	for _, other := range points {
		if other.At.Equal(p.At) {
			return true
		}
	}
	return false
}

func listed(points []metric.Point) string {
	var all []string
	for _, p := range points {
		all = append(all, fmt.Sprintf("%s (%s)", Double(p.Value), p.At.UTC().Format("01/02/06 15:04:05")))
	}
	return strings.Join(all, ", ")
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return strconv.Itoa(n) + " " + what + "s"
}

func counted(n int, what, one, many string) string {
	if n == 1 {
		return plural(n, what) + " " + one
	}
	return plural(n, what) + " " + many
}

// Double writes a number as Java does, and with it CloudWatch: 21.0, 1.0E-4, 1.2345678E7.
func Double(v float64) string {
	abs := math.Abs(v)
	if v == 0 || abs >= 1e-3 && abs < 1e7 {
		return fraction(strconv.FormatFloat(v, 'f', -1, 64))
	}
	digits, exponent, _ := strings.Cut(strconv.FormatFloat(v, 'E', -1, 64), "E")
	n, err := strconv.Atoi(exponent)
	if err != nil {
		return digits // NaN and infinities have none, and are in no metric
	}
	return fraction(digits) + "E" + strconv.Itoa(n)
}

func fraction(s string) string {
	if strings.Contains(s, ".") {
		return s
	}
	return s + ".0"
}

// stamp is how times stand in the JSON of reasons and history.
const stamp = "2006-01-02T15:04:05.000-0700"

// Stamp writes a time as CloudWatch's JSON texts have it.
func Stamp(t time.Time) string { return t.UTC().Format(stamp) }

// data is StateReasonData.
func (x examined) data(r Rule, now time.Time) string {
	type datapoint struct {
		Timestamp   string   `json:"timestamp"`
		SampleCount *float64 `json:"sampleCount,omitempty"`
		Value       *float64 `json:"value,omitempty"`
		Threshold   *float64 `json:"threshold,omitempty"`
	}
	recent, evaluated := []float64{}, []datapoint{}
	for i, p := range x.used {
		recent = append(recent, p.Value)
		newest := &x.used[len(x.used)-1-i]
		d := datapoint{Timestamp: Stamp(newest.At), Value: &newest.Value}
		if len(r.Queries) == 0 {
			d.SampleCount = &newest.Count
		}
		evaluated = append(evaluated, d)
	}
	body := struct {
		Version   string      `json:"version"`
		QueryDate string      `json:"queryDate"`
		StartDate string      `json:"startDate,omitempty"`
		Unit      string      `json:"unit,omitempty"`
		Statistic string      `json:"statistic,omitempty"`
		Period    int         `json:"period"`
		Recent    []float64   `json:"recentDatapoints"`
		Threshold float64     `json:"threshold"`
		Evaluated []datapoint `json:"evaluatedDatapoints,omitempty"`
	}{Version: "1.0", QueryDate: Stamp(now), Unit: r.Unit, Statistic: r.Stat, Period: int(r.Period.Seconds()), Recent: recent, Threshold: r.Threshold, Evaluated: evaluated}
	if len(x.used) > 0 {
		body.StartDate = Stamp(x.used[0].At)
	}
	text, err := json.Marshal(body)
	if err != nil {
		panic(fmt.Sprintf("alarm: %v in %+v", err, body)) // numbers of metrics are finite
	}
	return string(text)
}
