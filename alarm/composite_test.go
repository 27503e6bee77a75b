package alarm

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func TestExpressions(t *testing.T) {
	states := map[string]State{"a": Alarm, "b": OK, "c": InsufficientData, "x y": Alarm}
	state := func(name string) State { return states[name] }
	for text, want := range map[string]bool{
		`ALARM(a)`:                         true,
		`ALARM("a") AND ALARM(b)`:          false,
		`ALARM(a) OR ALARM(b) AND FALSE`:   true, // AND binds closer
		`(ALARM(a) OR ALARM(b)) AND FALSE`: false,
		`NOT ALARM(b)`:                     true,
		`NOT NOT OK(b)`:                    true,
		`not (ok('b') and TRUE)`:           false,
		`INSUFFICIENT_DATA(c)`:             true,
		"ALARM(\"x y\")\n AND\tTRUE":       true,
		`ALARM(arn:aws:cloudwatch:us-east-1:123456789012:alarm:a)`: true,
		`OK(unknown)`: false,
	} {
		e, err := Parse(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got := e.Holds(state); got != want {
			t.Errorf("%s is %t", text, got)
		}
	}
	e, err := Parse(`ALARM(a) AND (OK(b) OR ALARM("a"))`)
	if err != nil || !slices.Equal(e.Children(), []string{"a", "b"}) {
		t.Errorf("children %v, %v", e.Children(), err)
	}
}

func TestBrokenExpressionsSayWhere(t *testing.T) {
	for text, want := range map[string]string{
		"":                  "ends where",
		"ALARM":             `"("`,
		"ALARM(a":           `")"`,
		"ALARM()":           "an alarm's name",
		`ALARM("a)`:         "quotes",
		"ALARM(a) ALARM(b)": "at character 10",
		"ALARM(a) AND":      "ends where",
		"ALARMED(a)":        "at character 1",
		strings.Repeat("(", 200) + "TRUE" + strings.Repeat(")", 200): "deeply",
		strings.Repeat("NOT ", 5000) + "TRUE":                        "characters",
	} {
		if _, err := Parse(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40s: %v, want a word about %s", text, err, want)
		}
	}
	many := "TRUE"
	for i := range 101 {
		many += " OR ALARM(a" + strings.Repeat("i", i) + ")"
	}
	if _, err := Parse(many); err == nil || !strings.Contains(err.Error(), "101 alarms") {
		t.Errorf("101 children: %v", err)
	}
}

func TestCycles(t *testing.T) {
	children := map[string][]string{"a": {"b", "c"}, "b": {"c"}, "c": {"d"}, "d": {"b"}, "e": {"e"}}
	of := func(name string) []string { return children[name] }
	if c := Cycle("a", of); c != nil {
		t.Errorf("a is in a cycle: %v", c)
	}
	if c := Cycle("b", of); !slices.Equal(c, []string{"b", "c", "d", "b"}) {
		t.Errorf("cycle of b: %v", c)
	}
	if c := Cycle("e", of); !slices.Equal(c, []string{"e", "e"}) {
		t.Errorf("cycle of e: %v", c)
	}
}

func TestSuppression(t *testing.T) {
	s := Suppressor{Alarm: "maintenance", Wait: 20 * time.Second, Extension: 10 * time.Second}
	type step struct {
		at         int // seconds
		state      State
		suppressed bool
		by         SuppressedBy
		acts       bool
	}
	for name, steps := range map[string][]step{
		"the suppressor does not come": {{0, Alarm, false, ByWait, false}, {19, Alarm, false, ByWait, false}, {20, Alarm, false, ByNothing, true}, {30, Alarm, false, ByNothing, false}},
		"it comes in time":             {{0, Alarm, false, ByWait, false}, {10, Alarm, true, ByAlarm, false}, {60, Alarm, true, ByAlarm, false}, {61, Alarm, false, ByExtension, false}, {71, Alarm, false, ByNothing, true}},
		"undone while it is there":     {{0, Alarm, true, ByAlarm, false}, {5, OK, true, ByAlarm, false}, {6, OK, false, ByExtension, false}, {16, OK, false, ByNothing, false}},
		"it comes back":                {{0, Alarm, true, ByAlarm, false}, {6, Alarm, false, ByExtension, false}, {8, Alarm, true, ByAlarm, false}, {9, Alarm, false, ByExtension, false}, {19, Alarm, false, ByNothing, true}},
		"undone while it waits":        {{0, Alarm, false, ByWait, false}, {5, OK, false, ByWait, false}, {20, OK, false, ByNothing, false}},
		"calm":                         {{0, OK, true, ByNothing, false}, {5, OK, false, ByNothing, false}},
	} {
		x := Suppression{Told: OK}
		for i, step := range steps {
			var act bool
			x, act = s.Step(x, step.state, step.suppressed, noon.Add(time.Duration(step.at)*time.Second))
			if x.By != step.by || act != step.acts {
				t.Errorf("%s, step %d: suppressed by %q, acts %t; want %q, %t", name, i+1, x.By, act, step.by, step.acts)
			}
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{`ALARM(a) AND NOT (OK("b") OR FALSE)`, "INSUFFICIENT_DATA('x')", "((", `ALARM("`, "NOT"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		e, err := Parse(text)
		if err != nil {
			return
		}
		e.Holds(func(string) State { return Alarm })
		again, err := Parse(e.String())
		if err != nil || !slices.Equal(again.Children(), e.Children()) {
			t.Errorf("%q reads otherwise the second time: %v", text, err)
		}
	})
}
