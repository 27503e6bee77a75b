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

// AWS's page, "Suppressing composite alarm actions", has six examples in which the WaitPeriod is 2 and the
// ExtensionPeriod 3 units long.
func TestSuppressionFollowsAWSsExamples(t *testing.T) {
	s := Suppressor{Alarm: "maintenance", Wait: 2 * time.Minute, Extension: 3 * time.Minute}
	type step struct {
		at         int // minutes
		state      State
		suppressed bool
		by         SuppressedBy
		acts       bool
	}
	for name, steps := range map[string][]step{
		"1: the suppressor does not come":     {{2, Alarm, false, ByWait, false}, {3, Alarm, false, ByWait, false}, {4, Alarm, false, ByNothing, true}, {5, Alarm, false, ByNothing, false}},
		"2: it comes in time":                 {{2, Alarm, false, ByWait, false}, {3, Alarm, true, ByAlarm, false}, {9, Alarm, true, ByAlarm, false}},
		"3: undone while it waits":            {{2, Alarm, false, ByWait, false}, {3, OK, false, ByWait, false}, {4, OK, false, ByWait, false}, {5, OK, false, ByNothing, true}},
		"4: it is there":                      {{1, OK, true, ByAlarm, false}, {2, Alarm, true, ByAlarm, false}, {9, Alarm, true, ByAlarm, false}},
		"5: it goes":                          {{2, Alarm, false, ByWait, false}, {3, Alarm, true, ByAlarm, false}, {6, Alarm, false, ByExtension, false}, {8, Alarm, false, ByExtension, false}, {9, Alarm, false, ByNothing, true}},
		"6: undone after it went":             {{2, Alarm, false, ByWait, false}, {3, Alarm, true, ByAlarm, false}, {6, Alarm, false, ByExtension, false}, {7, OK, false, ByWait, false}, {8, OK, false, ByWait, false}, {9, OK, false, ByNothing, true}},
		"it comes back":                       {{2, Alarm, true, ByAlarm, false}, {3, Alarm, false, ByExtension, false}, {4, Alarm, true, ByAlarm, false}, {5, Alarm, false, ByExtension, false}, {8, Alarm, false, ByNothing, true}},
		"nothing happened while it was there": {{2, OK, true, ByAlarm, false}, {3, OK, false, ByExtension, false}, {6, OK, false, ByNothing, false}},
		"nothing happens":                     {{2, OK, false, ByNothing, false}, {9, OK, false, ByNothing, false}},
	} {
		x := Suppression{Seen: OK}
		for i, step := range steps {
			var act bool
			x, act = s.Step(x, step.state, step.suppressed, noon.Add(time.Duration(step.at)*time.Minute))
			if x.By != step.by || act != step.acts {
				t.Errorf("%s, step %d: suppressed by %q, acts %t; want %q, %t", name, i+1, x.By, act, step.by, step.acts)
			}
		}
	}
}

// Without periods a change is told at once, and what a suppressor kept back as soon as it goes.
func TestSuppressionWithoutPeriods(t *testing.T) {
	s := Suppressor{Alarm: "maintenance"}
	x, act := s.Step(Suppression{Seen: InsufficientData}, Alarm, false, noon)
	if !act || x != (Suppression{Seen: Alarm}) {
		t.Errorf("a change: %+v, acts %t", x, act)
	}
	x, act = s.Step(x, OK, true, noon)
	if act || x.By.Reason() != "Actions suppressed by Alarm" {
		t.Errorf("kept back: %+v, acts %t", x, act)
	}
	if x, act = s.Step(x, OK, false, noon); !act || x.By != ByNothing {
		t.Errorf("told afterwards: %+v, acts %t", x, act)
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
