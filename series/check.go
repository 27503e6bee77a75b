package series

import (
	"errors"
	"fmt"
	"math"
	"time"
	"unicode/utf8"

	"understudy/metric"
)

// What is refused, with CloudWatch's limits. Refused names the datum and wraps one of these.
var (
	ErrNotANumber = errors.New("NaN and Inf cannot be kept")
	ErrRange      = errors.New("a value is outside of -2^360 to 2^360")
	ErrPast       = errors.New("the time is more than two weeks ago")
	ErrFuture     = errors.New("the time is more than two hours from now")
	ErrDimensions = errors.New("a metric has at most 30 dimensions, each with a name of its own and a value")
	ErrName       = errors.New("a namespace and a name of 1 to 255 bytes of UTF-8 are needed")
	ErrUnit       = errors.New("that is none of CloudWatch's units")
	ErrValues     = errors.New("a datum has either 1 to 150 values, each with a count above 0, or a statistic set that can be")
	ErrFull       = errors.New("there is no room for more values of the metric in this second (1,000) or minute (59,999): publish values with counts")
	ErrQuery      = errors.New("the question cannot be answered")
)

// Refused is a datum that cannot be kept.
type Refused struct {
	Index int // in what was given to Write
	ID    metric.ID
	Err   error
}

func (r *Refused) Error() string { return fmt.Sprintf("metric %d, %s: %v", r.Index+1, r.ID, r.Err) }
func (r *Refused) Unwrap() error { return r.Err }

// CloudWatch's limits: https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_MetricDatum.html
const (
	mostPast       = 14 * 24 * time.Hour
	mostFuture     = 2 * time.Hour
	mostDimensions = 30
	mostValues     = 150
	longestName    = 255
	longestValue   = 1024
)

// units are CloudWatch's StandardUnit.
var units = map[string]bool{
	"": true, "None": true, "Count": true, "Count/Second": true, "Percent": true,
	"Seconds": true, "Microseconds": true, "Milliseconds": true,
	"Bytes": true, "Kilobytes": true, "Megabytes": true, "Gigabytes": true, "Terabytes": true,
	"Bits": true, "Kilobits": true, "Megabits": true, "Gigabits": true, "Terabits": true,
	"Bytes/Second": true, "Kilobytes/Second": true, "Megabytes/Second": true, "Gigabytes/Second": true, "Terabytes/Second": true,
	"Bits/Second": true, "Kilobits/Second": true, "Megabits/Second": true, "Gigabits/Second": true, "Terabits/Second": true,
}

// check says why a datum cannot be kept.
func check(d metric.Datum, now time.Time) error {
	switch {
	case d.At.Before(now.Add(-mostPast)):
		return ErrPast
	case d.At.After(now.Add(mostFuture)):
		return ErrFuture
	case !units[d.Unit]:
		return ErrUnit
	}
	if err := checkID(d.ID); err != nil {
		return err
	}
	if d.Set != nil {
		return checkSet(*d.Set, len(d.Values))
	}
	if len(d.Values) == 0 || len(d.Values) > mostValues || d.Counts != nil && len(d.Counts) != len(d.Values) {
		return ErrValues
	}
	for i, v := range d.Values {
		if err := checkNumber(v); err != nil {
			return err
		}
		if d.Counts == nil {
			continue
		}
		if err := checkNumber(d.Counts[i]); err != nil {
			return err
		}
		if d.Counts[i] <= 0 {
			return ErrValues
		}
	}
	return nil
}

func checkID(id metric.ID) error {
	fits := func(s string, most int) bool { return s != "" && len(s) <= most && utf8.ValidString(s) }
	if !fits(id.Namespace, longestName) || !fits(id.Name, longestName) {
		return ErrName
	}
	if len(id.Dimensions) > mostDimensions {
		return ErrDimensions
	}
	seen := map[string]bool{}
	for _, d := range id.Dimensions {
		if seen[d.Name] || !fits(d.Name, longestName) || !fits(d.Value, longestValue) {
			return ErrDimensions
		}
		seen[d.Name] = true
	}
	return nil
}

func checkSet(s metric.Set, values int) error {
	for _, v := range []float64{s.Count, s.Sum, s.Min, s.Max} {
		if err := checkNumber(v); err != nil {
			return err
		}
	}
	if values > 0 || s.Count <= 0 || s.Min > s.Max {
		return ErrValues
	}
	return nil
}

var largest = math.Ldexp(1, 360)

func checkNumber(v float64) error {
	switch {
	case math.IsNaN(v) || math.IsInf(v, 0):
		return ErrNotANumber
	case math.Abs(v) > largest:
		return ErrRange
	}
	return nil
}
