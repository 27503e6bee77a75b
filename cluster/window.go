package cluster

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Window is a time that comes every week, in minutes since Sunday 00:00 UTC, the end not included. One whose
// end is before its beginning goes on into the next week.
type Window struct{ from, to int }

const minutesOfWeek = 7 * 24 * 60

// minWindow is AWS's: in less, what is to happen in it may not come to its end.
const minWindow = 30

var weekdays = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

// ParseWindow reads "ddd:hh:mm-ddd:hh:mm", as AWS writes maintenance windows, in UTC.
func ParseWindow(s string) (Window, error) {
	from, to, ok := strings.Cut(s, "-")
	if !ok {
		return Window{}, fmt.Errorf("%q: not ddd:hh:mm-ddd:hh:mm, e.g. sun:03:00-sun:04:00 (UTC)", s)
	}
	var w Window
	var err error
	if w.from, err = parseMinute(from); err != nil {
		return Window{}, fmt.Errorf("%q: the beginning %w", s, err)
	}
	if w.to, err = parseMinute(to); err != nil {
		return Window{}, fmt.Errorf("%q: the end %w", s, err)
	}
	if n := w.minutes(); n < minWindow {
		return Window{}, fmt.Errorf("%q: is %d minutes long, and at least %d are needed", s, n, minWindow)
	}
	return w, nil
}

// parseMinute reads "ddd:hh:mm".
func parseMinute(s string) (int, error) {
	parts := strings.Split(strings.ToLower(s), ":")
	if len(parts) != 3 {
		return 0, fmt.Errorf("%q is not ddd:hh:mm", s)
	}
	day := slices.Index(weekdays, parts[0])
	if day < 0 {
		return 0, fmt.Errorf("%q is no day: %s are", parts[0], strings.Join(weekdays, ", "))
	}
	hour, err := twoDigits(parts[1], 23)
	if err != nil {
		return 0, fmt.Errorf("has the hour %q: %w", parts[1], err)
	}
	minute, err := twoDigits(parts[2], 59)
	if err != nil {
		return 0, fmt.Errorf("has the minute %q: %w", parts[2], err)
	}
	return (day*24+hour)*60 + minute, nil
}

func twoDigits(s string, most int) (int, error) {
	n, err := strconv.ParseUint(s, 10, 8)
	if err != nil || len(s) != 2 || int(n) > most {
		return 0, errors.New("00 to " + strconv.Itoa(most) + ", of two digits, are")
	}
	return int(n), nil
}

// minutes is how long it is.
func (w Window) minutes() int { return (w.to - w.from + minutesOfWeek) % minutesOfWeek }

// Contains reports whether t lies in it.
func (w Window) Contains(t time.Time) bool {
	t = t.UTC()
	minute := (int(t.Weekday())*24+t.Hour())*60 + t.Minute()
	return (minute-w.from+minutesOfWeek)%minutesOfWeek < w.minutes()
}

func (w Window) String() string {
	at := func(m int) string {
		return fmt.Sprintf("%s:%02d:%02d", weekdays[m/(24*60)], m/60%24, m%60)
	}
	return at(w.from) + "-" + at(w.to)
}
