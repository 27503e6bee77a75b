package drill

import (
	"encoding/xml"
	"fmt"
	"io"
	"strings"
)

type junitSuite struct {
	XMLName  xml.Name    `xml:"testsuite"`
	Name     string      `xml:"name,attr"`
	Tests    int         `xml:"tests,attr"`
	Failures int         `xml:"failures,attr"`
	Skipped  int         `xml:"skipped,attr"`
	Time     string      `xml:"time,attr"`
	Stamp    string      `xml:"timestamp,attr"`
	Cases    []junitCase `xml:"testcase"`
}

type junitCase struct {
	Class   string        `xml:"classname,attr"`
	Name    string        `xml:"name,attr"`
	Time    string        `xml:"time,attr"`
	Failure *junitMessage `xml:"failure,omitempty"`
	Skipped *junitMessage `xml:"skipped,omitempty"`
	Out     string        `xml:"system-out,omitempty"`
}

type junitMessage struct {
	Message string `xml:"message,attr"`
}

// WriteJUnit writes the drill as one test case: an inconclusive one is skipped, as a test that could
// not be run.
func (r Result) WriteJUnit(w io.Writer) error {
	seconds := fmt.Sprintf("%.3f", r.Parameters.DurationMs/1000)
	c := junitCase{Class: "understudy.drill." + r.Group, Name: r.Fault + " under " + r.Parameters.Workload, Time: seconds}
	s := junitSuite{Name: "understudy drill", Tests: 1, Time: seconds, Stamp: r.Started.UTC().Format("2006-01-02T15:04:05")}
	message := &junitMessage{strings.Join(r.Reasons, "; ")}
	switch r.Verdict {
	case Fail:
		c.Failure, s.Failures = message, 1
	case Inconclusive:
		c.Skipped, s.Skipped = message, 1
	}
	var out strings.Builder
	for _, f := range r.figureList() {
		fmt.Fprintf(&out, "%s %s\n", f.name, formatFigure(f.value))
	}
	c.Out = out.String()
	s.Cases = []junitCase{c}
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	e := xml.NewEncoder(w)
	e.Indent("", "  ")
	if err := e.Encode(s); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\n")
	return err
}

func formatFigure(v *float64) string {
	switch {
	case v == nil:
		return "never"
	case *v == float64(int64(*v)):
		return fmt.Sprintf("%d", int64(*v))
	default:
		return fmt.Sprintf("%.1f", *v)
	}
}
