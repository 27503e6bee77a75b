package metricmath

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"testing"
	"time"

	"understudy/metric"
)

var noon = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)

// row reads the points of five minutes from noon on; - is a missing one.
func row(text string) []metric.Point {
	var points []metric.Point
	for i, word := range strings.Fields(text) {
		if v, err := strconv.ParseFloat(word, 64); err == nil {
			points = append(points, metric.Point{At: noon.Add(time.Duration(i) * time.Minute), Value: v})
		}
	}
	return points
}

// shown writes a value as row reads it; a list with | between its series.
func shown(v Value) string {
	if v.Kind == Scalar {
		return fmt.Sprintf("= %.4g", v.Number)
	}
	var all []string
	for _, s := range v.Series {
		marks := []string{"-", "-", "-", "-", "-"}
		for _, p := range s.Points {
			marks[int(p.At.Sub(noon)/time.Minute)] = fmt.Sprintf("%.4g", p.Value)
		}
		all = append(all, strings.Join(marks, " "))
	}
	return strings.Join(all, " | ")
}

func TestExpressions(t *testing.T) {
	data := map[string][]metric.Point{
		"m1": row("1 2 - 4 5"), "m2": row("10 - 30 40 0"), "errors1": row("60 0 120 0 -9.5"), "none": row("- - - - -"),
	}
	lines := []Line{{ID: "m1", Period: time.Minute}, {ID: "m2", Period: time.Minute}, {ID: "errors1", Period: time.Minute}, {ID: "none", Period: time.Minute}}
	for expression, want := range map[string]string{
		"m1 + m2":                       "11 - - 44 5", // where both have a point
		"m1 * 2 - 1":                    "1 3 - 7 9",
		"10 - m1 / 2":                   "9.5 9 - 8 7.5",
		"m1 / m2":                       "0.1 - - 0.1 -", // 5/0 is no point
		"-m1 ^ 2":                       "-1 -4 - -16 -25",
		"2 ^ 3 ^ 2 + m1 * 0":            "512 512 - 512 512",
		"2 ^ -1 * m1":                   "0.5 1 - 2 2.5",
		"(1 + 2) * m1":                  "3 6 - 12 15",
		"1e3 + m1 * 1.5E-1":             "1000 1000 - 1001 1001",
		"m1 > 1 AND m1 < 5":             "0 1 - 1 0",
		"m1 <= 1 || m1 >= 5":            "1 0 - 0 1",
		"m1 == 4 OR m1 != m1":           "0 0 - 1 0",
		"1 OR 0 AND 0":                  "= 1",
		"IF(m1 > 2, m2, 0)":             "0 0 - 40 0",
		"IF(m1 > 1, m2, 7)":             "7 - - 40 0", // what is chosen has no point
		"IF(m1 > 2, m1)":                "- - - 4 5",
		"IF(1, m1, m2)":                 "1 2 - 4 5",
		"IF(0, m1, 3)":                  "3 3 - 3 3",
		"IF(1 > 2, 3, 4)":               "= 4",
		"FILL(m1, 0)":                   "1 2 0 4 5",
		"FILL(m2, REPEAT)":              "10 10 30 40 0",
		"FILL(m1, LINEAR)":              "1 2 3 4 5",
		"FILL(m1, m2)":                  "1 2 30 4 5",
		"FILL(none, REPEAT)":            "- - - - -",
		"FILL(none, 3)":                 "3 3 3 3 3",
		"FILL([m1, m2], 0)":             "1 2 0 4 5 | 10 0 30 40 0",
		"DIFF(m1)":                      "- 1 - 2 1",
		"RATE(errors1)":                 "- -1 2 -2 -0.1583",
		"RATE(m1)":                      "- 0.01667 - 0.01667 0.01667", // over the two minutes of a gap
		"PERIOD(m1)":                    "= 60",
		"m1 / PERIOD(m1) * 60":          "1 2 - 4 5",
		"SUM(m1)":                       "= 12",
		"AVG(m1)":                       "= 3",
		"MIN(m1)":                       "= 1",
		"MAX(m1) - STDDEV(m1)":          "= 3.419",
		"SUM(none)":                     "= NaN",
		"SUM([m1, m2])":                 "11 2 30 44 5", // where any has a point
		"AVG([m1, m2])":                 "5.5 2 30 22 2.5",
		"MIN([m1, m2])":                 "1 2 30 4 0",
		"MAX([m1, m2])":                 "10 2 30 40 5",
		"STDDEV([m1, m2])":              "4.5 0 0 18 2.5",
		"SUM(METRICS())":                "71 2 150 44 -4.5",
		"SUM(METRICS('errors'))":        "60 0 120 0 -9.5",
		`MAX(METRICS("m"))`:             "10 2 30 40 5",
		`SUM(METRICS("nobody"))`:        "",
		"ABS(errors1)":                  "60 0 120 0 9.5",
		"CEIL(errors1) + FLOOR(-0.5)":   "59 -1 119 -1 -10",
		"FLOOR(errors1)":                "60 0 120 0 -10",
		"METRICS('m') * 2":              "2 4 - 8 10 | 20 - 60 80 0",
		"m1 - [m2, m1]":                 "-9 - - -36 5 | 0 0 - 0 0",
		"[m1, [m2, none]]":              "1 2 - 4 5 | 10 - 30 40 0 | - - - - -",
		"m1 > SUM(none)":                "- - - - -", // than nothing: nobody knows
		"SUM(METRICS('m'))/MAX(m1)*100": "220 40 600 880 100",
	} {
		p, err := Compile(append(lines[:len(lines):len(lines)], Line{ID: "e1", Expression: expression}))
		if err != nil {
			t.Errorf("%s: %v", expression, err)
			continue
		}
		values, err := p.Run(data, noon, noon.Add(5*time.Minute))
		if err != nil {
			t.Errorf("%s: %v", expression, err)
			continue
		}
		got := values["e1"]
		if want == "" {
			want = "- - - - -"
		}
		if shown(got) != want || got.Kind != p.Kind("e1") {
			t.Errorf("%s: %s (%s), want %s (%s)", expression, shown(got), got.Kind, want, p.Kind("e1"))
		}
	}
}

func TestExpressionsOfExpressionsInAnyOrder(t *testing.T) {
	p, err := Compile([]Line{{ID: "e2", Expression: "e1 * 2"}, {ID: "e1", Expression: "m1 + 1"}, {ID: "m1", Period: time.Minute}})
	if err != nil {
		t.Fatal(err)
	}
	values, err := p.Run(map[string][]metric.Point{"m1": row("1 2")}, noon, noon.Add(2*time.Minute))
	if err != nil || shown(values["e2"]) != "4 6 - - -" {
		t.Errorf("%s, %v", shown(values["e2"]), err)
	}
	if s := values["e2"].Series[0]; s.ID != "e2" || s.Period != time.Minute {
		t.Errorf("series %q of %v", s.ID, s.Period)
	}
}

func TestRefusedExpressions(t *testing.T) {
	m := Line{ID: "m1", Period: time.Minute}
	for expression, want := range map[string]string{
		"m1 +":                                   "Error in expression 'e1': Unexpected end of the expression",
		"m1 $ 2":                                 "Error in expression 'e1': Unexpected character '$' at position 4",
		"m1 'x":                                  "Error in expression 'e1': Unexpected character '\\'' at position 4",
		"(m1":                                    "Error in expression 'e1': Unexpected end of the expression",
		"m9 + 1":                                 "Error in expression 'e1': Undefined id 'm9'",
		"ANOMALY_DETECTOR(m1, 2)":                "Error in expression 'e1': Function 'ANOMALY_DETECTOR' not found",
		"SUM(1)":                                 "Error in expression 'e1': Unsupported argument types for function 'SUM': S",
		"SUM()":                                  "Error in expression 'e1': Function 'SUM' takes 1 argument, not 0",
		"IF(m1)":                                 "Error in expression 'e1': Function 'IF' takes 2 to 3 arguments, not 1",
		"METRICS() / METRICS()":                  "Error in expression 'e1': Unsupported operand types for '/': TS[], TS[]",
		"'text'":                                 "Error in expression 'e1': The expression is a string, not a value",
		"REPEAT + 1":                             "Error in expression 'e1': Unsupported operand types for '+': keyword, S",
		"ABS('x')":                               "Error in expression 'e1': Unsupported argument types for function 'ABS': string",
		"[m1, 2]":                                "Error in expression 'e1': Unsupported operand types for 'array': TS, S",
		"FILL(m1, [m1])":                         "Error in expression 'e1': Unsupported argument types for function 'FILL': TS, TS[]",
		"e1 + 1":                                 "Error in expression 'e1': The expressions depend on one another in a circle: e1, e1",
		"1.2.3":                                  "Error in expression 'e1': \"1.2.3\" is not a number",
		strings.Repeat("(", 100):                 "Error in expression 'e1': The expression nests too deeply",
		strings.Repeat("-", 100):                 "Error in expression 'e1': The expression nests too deeply",
		strings.Repeat("m1+", 1000):              "Error in expression 'e1': The expression has 3000 characters; 2048 are allowed",
		"[" + strings.Repeat("m1,", 600) + "m1]": "Error in expression 'e1': A list has 601 time series; 500 are allowed",
	} {
		if _, err := Compile([]Line{m, {ID: "e1", Expression: expression}}); err == nil || err.Error() != want {
			t.Errorf("%.40s: %v, want %s", expression, err, want)
		}
	}
	for _, lines := range [][]Line{{m, m}, {{ID: "M1"}}, {{ID: ""}}, make([]Line, 501)} {
		if _, err := Compile(lines); err == nil {
			t.Errorf("%.60v was taken", lines)
		}
	}
}

// An alarm compares one series: what returns a number or a list is refused when the alarm is made.
func TestAlarmsNeedOneSeries(t *testing.T) {
	for expression, fits := range map[string]bool{"m1 + 1": true, "SUM(m1)": false, "METRICS()": false} {
		p, err := Compile([]Line{{ID: "m1", Period: time.Minute}, {ID: "e1", Expression: expression}})
		if err != nil {
			t.Fatal(err)
		}
		if err := p.CheckAlarm("e1"); (err == nil) != fits {
			t.Errorf("%s: %v", expression, err)
		}
	}
}

// A list of lists doubles with each line; a stranger must not make us count to 2^60.
func TestListsAndWorkAreBounded(t *testing.T) {
	lines := []Line{{ID: "e0", Period: time.Second}}
	for i := range 60 {
		lines = append(lines, Line{ID: fmt.Sprint("e", i+1), Expression: fmt.Sprintf("[e%d,e%d]", i, i)})
	}
	if _, err := Compile(lines); err == nil || !strings.Contains(err.Error(), "time series; 500 are allowed") {
		t.Errorf("%v", err)
	}
	long := "FILL(m1, 0)" + strings.Repeat("+FILL(m1,0)", 180)
	p, err := Compile([]Line{{ID: "m1", Period: time.Second}, {ID: "e1", Expression: long}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Run(nil, noon, noon.Add(365*24*time.Hour)); err == nil {
		t.Error("a year of seconds was filled 181 times")
	}
	// Each line alone is little; what they make is kept until the last.
	lines = []Line{{ID: "m1", Period: time.Second}}
	for i := range 100 {
		lines = append(lines, Line{ID: fmt.Sprint("e", i), Expression: "m1*2"})
	}
	if p, err = Compile(lines); err != nil {
		t.Fatal(err)
	}
	points := make([]metric.Point, 40_000)
	for i := range points {
		points[i].At = noon.Add(time.Duration(i) * time.Second)
	}
	if _, err := p.Run(map[string][]metric.Point{"m1": points}, noon, noon.Add(24*time.Hour)); err == nil {
		t.Error("100 lines of 40,000 points were made")
	}
	// A year in which there are few points, and none are filled in, is little work.
	if _, err := p.Run(map[string][]metric.Point{"m1": points[:100]}, noon, noon.Add(365*24*time.Hour)); err != nil {
		t.Error(err)
	}
}

func FuzzCompile(f *testing.F) {
	for _, seed := range []string{"IF(m1 > 1 AND m2 < 2, FILL(m1, LINEAR), -RATE(m2)) ^ 2", `SUM(METRICS("m")) / PERIOD(m1)`,
		"[m1, m2] * 1.5e-3", "AVG([m1,[m2]])||!", "FILL(m1, m2) == 0 OR STDDEV(m1) >= .5", "((((", "1e", "1e+", "IF(,)", "\"", "é"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := Compile([]Line{{ID: "m1", Period: time.Minute}, {ID: "m2", Period: time.Minute}, {ID: "e1", Expression: text}})
		if err != nil || text == "" {
			return
		}
		values, err := p.Run(map[string][]metric.Point{"m1": row("1 2 - 4 5"), "m2": row("0 - -3 1e300 7")}, noon, noon.Add(5*time.Minute))
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		v := values["e1"]
		if v.Kind != p.Kind("e1") || v.Kind == One && len(v.Series) != 1 {
			t.Fatalf("%q: a %s with %d series, Kind said %s", text, v.Kind, len(v.Series), p.Kind("e1"))
		}
		for _, s := range v.Series {
			for i, point := range s.Points {
				if math.IsNaN(point.Value) || math.IsInf(point.Value, 0) || i > 0 && !s.Points[i-1].At.Before(point.At) {
					t.Fatalf("%q: %v", text, s.Points)
				}
			}
		}
	})
}
