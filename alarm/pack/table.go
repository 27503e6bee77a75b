package pack

import (
	"fmt"
	"strings"
)

//go:generate go test . -run TestThePageShowsThePack -update

// Table is the pack as docs/alarms.md shows it, in Markdown.
func Table() string {
	var b strings.Builder
	b.WriteString("| alarm | urgent | when | what it means |\n|---|---|---|---|\n")
	for _, k := range kinds {
		urgent, only := "", ""
		if k.urgent {
			urgent = "yes"
		}
		if k.copies {
			only = " Not for groups of one node."
		}
		rule := strings.Replace(k.rule.String(), "Understudy/", "", 1)
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s%s |\n", k.name, urgent, strings.ReplaceAll(rule, "{}", ""), k.why, only)
	}
	return b.String()
}
