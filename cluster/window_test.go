package cluster

import (
	"strings"
	"testing"
	"time"
)

func TestAWindowContainsItsTimes(t *testing.T) {
	at := func(s string) time.Time {
		t.Helper()
		when, err := time.Parse(time.RFC3339, s)
		if err != nil {
			t.Fatal(err)
		}
		return when
	}
	for _, c := range []struct {
		window, when string // 2026-01-04 is a Sunday
		in           bool
	}{
		{"sun:03:00-sun:04:00", "2026-01-04T03:00:00Z", true},
		{"sun:03:00-sun:04:00", "2026-01-04T03:59:59Z", true},
		{"sun:03:00-sun:04:00", "2026-01-04T04:00:00Z", false},
		{"sun:03:00-sun:04:00", "2026-01-04T02:59:59Z", false},
		{"sun:03:00-sun:04:00", "2026-01-05T03:30:00Z", false},
		{"sun:03:00-sun:04:00", "2026-01-04T05:30:00+02:00", true},
		{"SUN:03:00-Sun:04:00", "2026-01-04T03:30:00Z", true},
		{"sat:23:30-sun:00:30", "2026-01-03T23:45:00Z", true},
		{"sat:23:30-sun:00:30", "2026-01-04T00:29:00Z", true},
		{"sat:23:30-sun:00:30", "2026-01-04T00:30:00Z", false},
		{"sat:23:30-sun:00:30", "2026-01-03T23:29:00Z", false},
		{"fri:22:00-mon:06:00", "2026-01-04T12:00:00Z", true},
		{"fri:22:00-mon:06:00", "2026-01-07T12:00:00Z", false},
		{"sun:03:00-sun:02:00", "2026-01-04T02:30:00Z", false},
		{"sun:03:00-sun:02:00", "2026-01-08T02:30:00Z", true},
	} {
		w, err := ParseWindow(c.window)
		if err != nil {
			t.Fatal(err)
		}
		if got := w.Contains(at(c.when)); got != c.in {
			t.Errorf("%s contains %s: %v", c.window, c.when, got)
		}
		if !strings.EqualFold(w.String(), c.window) {
			t.Errorf("%s is written %s", c.window, w)
		}
	}
}

func TestAWindowThatMakesNoSenseIsRefused(t *testing.T) {
	for text, want := range map[string]string{
		"":                                "not ddd:hh:mm-ddd:hh:mm",
		"always":                          "not ddd:hh:mm-ddd:hh:mm",
		"sun:03:00":                       "not ddd:hh:mm-ddd:hh:mm",
		"son:03:00-sun:04:00":             `"son" is no day`,
		"sun:3:00-sun:04:00":              `hour "3"`,
		"sun:24:00-sun:04:00":             `hour "24"`,
		"sun:03:60-sun:04:00":             `minute "60"`,
		"sun:03:00-sun:04:-1":             "the end",
		"sun:03:00-sun:03:29":             "29 minutes long, and at least 30",
		"sun:03:00-sun:03:00":             "0 minutes long",
		"sun:03:00-sun:04:00-mon:05:00":   "the end",
		"sun:03:00:00-sun:04:00":          "is not ddd:hh:mm",
		"sun:+3:00-sun:04:00":             `hour "+3"`,
		"sun:03:00-sun:04:00 mon:05:0006": "the end",
	} {
		if _, err := ParseWindow(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

// FuzzWindow: what is accepted is written as it was read, is long enough, and contains its beginning and not
// its end.
func FuzzWindow(f *testing.F) {
	f.Add("sun:03:00-sun:04:00")
	f.Add("sat:23:30-sun:00:30")
	f.Add("mon:00:00-sun:23:59")
	f.Add("x-y")
	f.Fuzz(func(t *testing.T, text string) {
		w, err := ParseWindow(text)
		if err != nil {
			return
		}
		again, err := ParseWindow(w.String())
		if err != nil || again != w || !strings.EqualFold(text, w.String()) {
			t.Fatalf("%q is %v, written %s, read again %v, %v", text, w, w, again, err)
		}
		sunday := time.Date(2026, 1, 4, 0, 0, 0, 0, time.UTC)
		at := func(minutes int) time.Time { return sunday.Add(time.Duration(minutes) * time.Minute) }
		if w.minutes() < minWindow || !w.Contains(at(w.from)) || w.Contains(at(w.to)) || !w.Contains(at(w.to-1)) {
			t.Fatalf("%s: %d minutes, contains its beginning %v, its end %v", w, w.minutes(), w.Contains(at(w.from)), w.Contains(at(w.to)))
		}
	})
}
