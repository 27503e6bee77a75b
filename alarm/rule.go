// Package alarm decides what state an alarm is in, as CloudWatch does: from a rule, the state before, the points of a
// metric and a time. It is pure: it asks nobody, keeps nothing, and knows no clock. DESIGN.md has the rules and where
// they come from.
package alarm

import (
	"fmt"
	"math"
	"slices"
	"time"

	"understudy/metric"
)

// State is an alarm's state, in CloudWatch's words.
type State string

// The states.
const (
	OK               State = "OK"
	Alarm            State = "ALARM"
	InsufficientData State = "INSUFFICIENT_DATA"
)

// Initial is the reason of a new alarm's state.
const Initial = "Unchecked: Initial alarm creation"

// Comparison is a ComparisonOperator.
type Comparison string

// The comparisons with a threshold; those with bands are anomaly detection, which is not served.
const (
	GreaterOrEqual Comparison = "GreaterThanOrEqualToThreshold"
	Greater        Comparison = "GreaterThanThreshold"
	Less           Comparison = "LessThanThreshold"
	LessOrEqual    Comparison = "LessThanOrEqualToThreshold"
)

// Comparisons are all of them, in the order of CloudWatch's model.
var Comparisons = []Comparison{GreaterOrEqual, Greater, Less, LessOrEqual}

// words say how a point that breaches stands to the threshold.
var words = map[Comparison]string{
	GreaterOrEqual: "greater than or equal to", Greater: "greater than",
	Less: "less than", LessOrEqual: "less than or equal to",
}

// Treatment says what stands for a missing point.
type Treatment string

// The treatments; "" is Missing.
const (
	Missing      Treatment = "missing"
	Ignore       Treatment = "ignore"
	Breaching    Treatment = "breaching"
	NotBreaching Treatment = "notBreaching"
)

// treated are the words of reasons.
var treated = map[Treatment]string{Missing: "Missing", Ignore: "Ignored", Breaching: "Breaching", NotBreaching: "NonBreaching"}

// Few says what happens while a percentile stands on too few samples to mean much.
type Few string

// The ways with few samples; "" is EvaluateFew.
const (
	EvaluateFew Few = "evaluate"
	IgnoreFew   Few = "ignore" // the state stays
)

// Rule is when an alarm is to be in ALARM.
type Rule struct {
	// Metric and Stat say what is compared, or Math does, a metric math expression over Queries.
	Metric  metric.ID     `json:"metric,omitzero"`
	Stat    string        `json:"stat,omitempty"` // SampleCount, Average, Sum, Minimum, Maximum, pNN.NN
	Unit    string        `json:"unit,omitempty"`
	Queries []Query       `json:"queries,omitempty"` // exactly one returns data
	Period  time.Duration `json:"period"`            // of a point

	Periods    int        `json:"periods"`              // N: how many points are looked at
	Datapoints int        `json:"datapoints,omitempty"` // M: how many of them must breach; 0: all
	Threshold  float64    `json:"threshold"`
	Comparison Comparison `json:"comparison"`
	Treatment  Treatment  `json:"treatment,omitempty"`
	FewSamples Few        `json:"few_samples,omitempty"`
}

// Query is one line of a metric math alarm: a metric, or an expression over the others' ids.
type Query struct {
	ID         string        `json:"id"`
	Label      string        `json:"label,omitempty"`
	Expression string        `json:"expression,omitempty"`
	Metric     metric.ID     `json:"metric,omitzero"`
	Stat       string        `json:"stat,omitempty"`
	Unit       string        `json:"unit,omitempty"`
	Period     time.Duration `json:"period,omitempty"`
	Returns    bool          `json:"returns,omitempty"`
	Account    string        `json:"account,omitempty"` // as it was given: there is one account
}

// need is M.
func (r Rule) need() int {
	if r.Datapoints == 0 {
		return r.Periods
	}
	return r.Datapoints
}

func (r Rule) treatment() Treatment {
	if r.Treatment == "" {
		return Missing
	}
	return r.Treatment
}

// Breaches reports whether a value is on the wrong side of the threshold.
func (r Rule) Breaches(v float64) bool {
	switch r.Comparison {
	case GreaterOrEqual:
		return v >= r.Threshold
	case Greater:
		return v > r.Threshold
	case Less:
		return v < r.Threshold
	case LessOrEqual:
		return v <= r.Threshold
	}
	panic(fmt.Sprintf("alarm: comparison %q", r.Comparison))
}

// longest is how far back an alarm may look: CloudWatch's limits, by the period.
func longest(period time.Duration) time.Duration {
	if period >= time.Hour {
		return 7 * 24 * time.Hour
	}
	return 24 * time.Hour
}

// longestPeriod is CloudWatch's. Its shortest is 10 s; 1 and 5 s are ours: what is collected each second may be looked at
// each second.
const longestPeriod = 7 * 24 * time.Hour

// mostPeriods bounds what an evaluation costs: a day of AWS's shortest periods, 10 s. Only ours, of 1 and 5 s, could be
// more.
const mostPeriods = 8640

// Invalid says in AWS's words, which are sentences, why a rule is none.
type Invalid string

func (i Invalid) Error() string { return string(i) }

func invalid(format string, args ...any) error { return Invalid(fmt.Sprintf(format, args...)) }

// Validate reports the first thing that makes the rule none, in the words of PutMetricAlarm: an Invalid.
func (r Rule) Validate() error {
	switch {
	case !metric.ValidPeriod(r.Period) || r.Period > longestPeriod:
		return invalid("Period must be 1, 5, 10, 20, 30 or a multiple of 60 seconds, not %v", r.Period.Seconds())
	case r.Periods < 1:
		return invalid("EvaluationPeriods must be at least 1")
	case r.Datapoints < 0 || r.Datapoints > r.Periods:
		return invalid("DatapointsToAlarm must be at least 1 and not more than EvaluationPeriods (%d)", r.Periods)
	case r.Periods > int(longest(r.Period)/r.Period): // a product of what a stranger sent would overflow
		return invalid("Metrics cannot be checked across more than %s", across(r.Period))
	case r.Periods > mostPeriods:
		return invalid("EvaluationPeriods must be at most %d", mostPeriods)
	case !slices.Contains(Comparisons, r.Comparison):
		return invalid("ComparisonOperator %q is not supported", r.Comparison)
	case math.IsNaN(r.Threshold) || math.IsInf(r.Threshold, 0):
		return invalid("Threshold must be a number")
	case treated[r.treatment()] == "":
		return invalid("Value '%s' for TreatMissingData must be one of [breaching, notBreaching, ignore, missing]", r.Treatment)
	case r.FewSamples != "" && r.FewSamples != EvaluateFew && r.FewSamples != IgnoreFew:
		return invalid("Value '%s' for EvaluateLowSampleCountPercentile must be one of [evaluate, ignore]", r.FewSamples)
	}
	return r.validMetric()
}

func (r Rule) validMetric() error {
	if len(r.Queries) == 0 {
		if _, ok := metric.ParseStat(r.Stat); !ok {
			return invalid("Statistic %q is none of SampleCount, Average, Sum, Minimum, Maximum and pNN.NN", r.Stat)
		}
		return nil
	}
	returning, metrics := 0, 0
	for _, q := range r.Queries {
		if q.Returns {
			returning++
		}
		if q.Expression == "" {
			metrics++
			if _, ok := metric.ParseStat(q.Stat); !ok {
				return invalid("Statistic %q of query %s is none of SampleCount, Average, Sum, Minimum, Maximum and pNN.NN", q.Stat, q.ID)
			}
			if q.Period != r.Period {
				return invalid("The period of query %s is not the alarm's: all must be the same", q.ID)
			}
		}
	}
	switch {
	case returning != 1:
		return invalid("Exactly one element of the metrics list should return data.")
	case metrics > 10:
		return invalid("An alarm based on metric math may have up to 10 metrics, not %d", metrics)
	}
	return nil
}

// across is the end of AWS's sentence about what is longest.
func across(period time.Duration) string {
	if period >= time.Hour {
		return "a week (EvaluationPeriods * Period must be <= 604800) for alarms using period >= 3600"
	}
	return "a day (EvaluationPeriods * Period must be <= 86400) for alarms using period < 3600"
}

// signs are for people.
var signs = map[Comparison]string{GreaterOrEqual: ">=", Greater: ">", Less: "<", LessOrEqual: "<="}

// String is the rule for people: Maximum of Mine/m{shop=a} > 10, 3 of 5 × 1 min.
func (r Rule) String() string {
	what := r.Stat + " of " + r.Metric.String()
	for _, q := range r.Queries {
		if q.Returns && q.Expression != "" {
			what = q.Expression
		} else if q.Returns {
			what = q.Stat + " of " + q.Metric.String()
		}
	}
	period := fmt.Sprintf("%d s", r.Period/time.Second)
	if r.Period%time.Minute == 0 {
		period = fmt.Sprintf("%d min", r.Period/time.Minute)
	}
	return fmt.Sprintf("%s %s %v, %d of %d × %s", what, signs[r.Comparison], r.Threshold, r.need(), r.Periods, period)
}
