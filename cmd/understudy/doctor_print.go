package main

import (
	"fmt"
	"io"
	"time"

	"understudy/doctor"
)

// report is what `doctor --json` prints.
type report struct {
	Group    string           `json:"group"`
	Target   string           `json:"target"` // local, elasticache
	At       time.Time        `json:"at"`
	Faults   int              `json:"faults"` // findings of warning or above
	Findings []doctor.Finding `json:"findings"`
	Fixes    []mended         `json:"fixes,omitempty"` // of --fix; Findings are those afterwards when one was applied
}

func newReport(p doctor.Patient, found []doctor.Finding) report {
	r := report{Group: p.Name(), Target: "elasticache", At: p.At.UTC(), Faults: doctor.Faults(found), Findings: found}
	if p.Local {
		r.Target = "local"
	}
	if r.Findings == nil {
		r.Findings = []doctor.Finding{}
	}
	return r
}

// printFindings writes them for people, the worst first.
func printFindings(w io.Writer, p doctor.Patient, found []doctor.Finding) error {
	count := map[doctor.Severity]int{}
	for _, x := range found {
		count[x.Severity]++
	}
	where := "of ElastiCache"
	if p.Local {
		where = "of the running instance"
	}
	fmt.Fprintf(w, "group %s %s: ", p.Name(), where)
	if len(found) == 0 {
		_, err := fmt.Fprintln(w, "nothing was found")
		return err
	}
	fmt.Fprintf(w, "critical %d, warnings %d, notes %d\n", count[doctor.Critical], count[doctor.Warning], count[doctor.Note])
	for _, x := range found {
		fmt.Fprintf(w, "\n%-8s  %s\n", x.Severity, x.ID)
		fmt.Fprintf(w, "  %s\n", x.What)
		if x.Severity != doctor.Note {
			fmt.Fprintf(w, "  %s\n", x.Why)
		}
		switch {
		case x.Repair != "" && x.Safe:
			fmt.Fprintf(w, "  repair (--fix does it): %s\n", x.Repair)
		case x.Repair != "":
			fmt.Fprintf(w, "  repair: %s\n", x.Repair)
		}
		if x.Advice != "" {
			fmt.Fprintf(w, "  advice: %s\n", x.Advice)
		}
		fmt.Fprintf(w, "  %s\n", x.Page)
	}
	return nil
}
