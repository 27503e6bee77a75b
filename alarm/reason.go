package alarm

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"understudy/metric"
)

// mostListed is how many points a reason names in its sentence; of more it names the newest in a sentence of their own.
const mostListed = 4

// mostRecent is how many it names then.
const mostRecent = 5

// reason says in CloudWatch's words why the state is what it is: reason_test.go has the recorded ones. Points are named
// newest first, with days before months. An alarm that says how many points it needs (M) is told how many there were
// and how many a change takes, whatever the state was before.
func (x examined) reason(r Rule, state State) string {
	if state == InsufficientData {
		return "Insufficient Data: " + counted(r.Periods, "datapoint", "was", "were") + " unknown."
	}
	filled := ""
	if x.missing > 0 && r.treatment() != Missing {
		filled = fmt.Sprintf(" and %s treated as [%s]", counted(x.missing, "missing datapoint", "was", "were"), treated[r.treatment()])
	}
	shown, not := x.shown(state)
	if len(shown) == 0 { // what is missing made the state
		received := "no datapoints were"
		if n := len(x.used); n > 0 {
			received = counted(n, "datapoint", "was", "were")
		}
		return fmt.Sprintf("Threshold Crossed: %s received for %s%s.", received, plural(r.Periods, "period"), filled)
	}
	verb, count := "were", plural(len(shown), "datapoint")
	if len(shown) == 1 {
		verb = "was"
	}
	transition := ""
	if r.Datapoints > 0 {
		count = fmt.Sprintf("%d out of the last %d datapoints", len(shown), r.Periods)
		transition = fmt.Sprintf(" (minimum %s for ALARM -> OK transition)", plural(r.Periods-r.need()+1, "datapoint"))
		if state == Alarm {
			transition = fmt.Sprintf(" (minimum %s for OK -> ALARM transition)", plural(r.need(), "datapoint"))
		}
	}
	crossed := fmt.Sprintf("%s %s%s the threshold (%s)%s", verb, not, words[r.Comparison], Double(r.Threshold), filled)
	if len(shown) <= mostListed {
		return fmt.Sprintf("Threshold Crossed: %s [%s] %s%s.", count, listed(shown), crossed, transition)
	}
	did := "crossed"
	if not != "" {
		did = "did not cross"
	}
	return fmt.Sprintf("Threshold Crossed: %s %s. The most recent datapoints which %s the threshold: [%s]%s.",
		count, crossed, did, listed(shown[len(shown)-mostRecent:]), transition)
}

// shown are the points that speak for the state, oldest first, and "not " when these are those that do not breach.
func (x examined) shown(state State) (points []metric.Point, not string) {
	if state == Alarm {
		return x.breaching, ""
	}
	return x.calm, "not "
}

func listed(points []metric.Point) string {
	var all []string
	for _, p := range slices.Backward(points) {
		all = append(all, fmt.Sprintf("%s (%s)", Double(p.Value), p.At.UTC().Format("02/01/06 15:04:05")))
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

// number is a number in CloudWatch's JSON, where 10 is 10.0.
type number float64

// MarshalJSON writes it as Java does.
func (n number) MarshalJSON() ([]byte, error) { return []byte(Double(float64(n))), nil }

type datapoint struct {
	Timestamp   string  `json:"timestamp"`
	SampleCount *number `json:"sampleCount,omitempty"` // none of metric math's
	Value       *number `json:"value,omitempty"`       // none of a point that is missing
}

// longestData is AWS's bound on StateReasonData, in characters; what does not fit are the oldest points.
const longestData = 4000

// data is StateReasonData, with as many of the newest points as fit.
func (x examined) data(r Rule, now time.Time) string {
	evaluated := x.evaluated(r)
	const shortest = len(`{"timestamp":"2006-01-02T15:04:05.000-0700"}`)
	most := min(len(evaluated), longestData/shortest)
	if all := x.text(r, now, evaluated[:most]); len(all) <= longestData {
		return all
	}
	tooMany := sort.Search(most, func(n int) bool { return len(x.text(r, now, evaluated[:n])) > longestData })
	return x.text(r, now, evaluated[:max(0, tooMany-1)])
}

// text is StateReasonData. recentDatapoints are oldest first, evaluatedDatapoints newest first.
func (x examined) text(r Rule, now time.Time, evaluated []datapoint) string {
	body := struct {
		Version   string      `json:"version"`
		QueryDate string      `json:"queryDate"`
		StartDate string      `json:"startDate,omitempty"`
		Unit      string      `json:"unit,omitempty"`
		Statistic string      `json:"statistic,omitempty"`
		Period    int         `json:"period"`
		Recent    []number    `json:"recentDatapoints"`
		Threshold number      `json:"threshold"`
		Evaluated []datapoint `json:"evaluatedDatapoints,omitempty"`
	}{Version: "1.0", QueryDate: Stamp(now), Unit: r.Unit, Statistic: r.Stat, Period: int(r.Period.Seconds()),
		Recent: []number{}, Threshold: number(r.Threshold), Evaluated: evaluated}
	if len(r.Queries) > 0 {
		body.Statistic, body.Unit = "", ""
	}
	recent := 0
	for _, d := range evaluated {
		if d.Value != nil {
			recent++
		}
	}
	for _, p := range x.used[len(x.used)-recent:] {
		body.Recent = append(body.Recent, number(p.Value))
	}
	if len(x.used) > 0 {
		body.StartDate = Stamp(x.used[0].At)
	}
	text, err := json.Marshal(body)
	if err != nil {
		panic(fmt.Sprintf("alarm: %v in %+v", err, body)) // slots lets finite numbers in only
	}
	return string(text)
}

// evaluated are the points that were used and, up to N in all, the newest periods that have none.
func (x examined) evaluated(r Rule) []datapoint {
	type dated struct {
		at time.Time
		d  datapoint
	}
	var all []dated
	for _, p := range x.used {
		d := datapoint{Timestamp: Stamp(p.At), Value: (*number)(&p.Value)}
		if len(r.Queries) == 0 {
			d.SampleCount = (*number)(&p.Count)
		}
		all = append(all, dated{p.At, d})
	}
	for _, at := range x.gaps[:min(len(x.gaps), x.missing)] {
		all = append(all, dated{at, datapoint{Timestamp: Stamp(at)}})
	}
	slices.SortFunc(all, func(a, b dated) int { return b.at.Compare(a.at) })
	points := make([]datapoint, 0, len(all))
	for _, one := range all {
		points = append(points, one.d)
	}
	return points
}
