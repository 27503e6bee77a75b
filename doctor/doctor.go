// Package doctor says in plain words what is wrong with a group before a failover shows it: what it found, with the
// figures, why that matters, the command that repairs it, and whether it can be mended without asking twice.
//
//	Read ──> Patient ──> Examine ──> []Finding ──> Apply (the safe ones, when told to) ──> Read again
//
// Examine is a pure function: equal patients have equal findings, in the same order. Reading and mending are apart.
package doctor

import (
	"cmp"
	"context"
	"slices"
	"strings"
)

// Severity says how much a finding matters.
type Severity string

// The severities.
const (
	Critical Severity = "critical" // the next failure loses data or availability, or nobody will be told
	Warning  Severity = "warning"  // it will hurt in a failover
	Note     Severity = "note"     // to know; nothing has to be done
)

func (s Severity) rank() int { return slices.Index([]Severity{Critical, Warning, Note}, s) }

// Finding is one thing that is not as it should be.
type Finding struct {
	ID       string   `json:"id"` // of its page
	Severity Severity `json:"severity"`
	Subject  string   `json:"subject,omitempty"` // the alarm, topic, backup or library; "" of the group
	What     string   `json:"what"`              // one sentence with the figures
	Why      string   `json:"why"`
	Repair   string   `json:"repair,omitempty"` // a command line for a shell; "" when there is none
	Advice   string   `json:"advice,omitempty"` // what to do where no command can
	Page     string   `json:"page"`
	Safe     bool     `json:"safe"` // Fix can be applied: it interrupts nobody and deletes nothing
	Fix      *Fix     `json:"fix,omitempty"`
}

// Fix is what Apply does about a finding.
type Fix struct {
	Does string `json:"does"` // a sentence
	Call string `json:"call"` // the API call, or the request, that does it
	act  func(context.Context, Hands) error
}

// Apply mends what a finding is about. Errors are those of the Hands.
func (f *Fix) Apply(ctx context.Context, h Hands) error { return f.act(ctx, h) }

// Examine finds what is wrong, the worst first.
func Examine(p Patient) []Finding {
	e := &exam{Patient: p}
	for _, look := range []func(*exam){
		(*exam).sources, (*exam).state, (*exam).copies, (*exam).failover, (*exam).doors, (*exam).durability,
		(*exam).alarms, (*exam).topics, (*exam).unwatched, (*exam).backups, (*exam).drills,
		(*exam).clients, (*exam).memory, (*exam).workloads,
	} {
		look(e)
	}
	slices.SortStableFunc(e.found, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.Severity.rank(), b.Severity.rank()), strings.Compare(a.ID, b.ID), strings.Compare(a.Subject, b.Subject))
	})
	return e.found
}

// Faults counts the findings of warning or above.
func Faults(all []Finding) (n int) {
	for _, f := range all {
		if f.Severity != Note {
			n++
		}
	}
	return n
}

// exam is one examination.
type exam struct {
	Patient
	found []Finding
}

// add completes a finding from its page.
func (e *exam) add(f Finding) {
	page, ok := pages[f.ID]
	if !ok {
		panic("finding " + f.ID + " has no page")
	}
	f.Severity, f.Why, f.Page, f.Safe = cmp.Or(f.Severity, page.Severity), page.Why, "docs/doctor.md#"+f.ID, f.Fix != nil
	if f.Repair == "" && f.Advice == "" {
		f.Advice = page.Advice
	}
	e.found = append(e.found, f)
}
