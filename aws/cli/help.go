package cli

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"understudy/aws/wire"
)

func helpServices(w io.Writer) {
	fmt.Fprintf(w, "%s\nServices:\n", usageText)
	for _, s := range services() {
		fmt.Fprintf(w, "  %-14s %d operations; `%s %s help`\n", s.name, len(s.model.Operations), program, s.name)
	}
	names := globalNames()
	slices.Sort(names)
	fmt.Fprintf(w, "\nOptions of every command:\n  --%s\n", strings.Join(names, "\n  --"))
}

func helpOperations(w io.Writer, s service) {
	var names []string
	for _, o := range s.model.Operations {
		names = append(names, kebab(o.Name))
	}
	if s.name == "elasticache" {
		names = append(names, failoverPrimary)
	}
	if len(s.model.Waiters) > 0 {
		names = append(names, "wait")
	}
	slices.Sort(names)
	fmt.Fprintf(w, "Operations of %s, each with help:\n  %s\n", s.name, strings.Join(names, "\n  "))
}

func helpWaiters(w io.Writer, s service, names []string) {
	slices.Sort(names)
	fmt.Fprintf(w, "What %s %s wait waits for; options are those of the operation that it polls:\n  %s\n", program, s.name, strings.Join(names, "\n  "))
}

func helpOptions(w io.Writer, s service, o *wire.Operation) {
	fmt.Fprintf(w, "%s %s %s\n\nOptions:\n", program, s.name, kebab(o.Name))
	c := &command{service: s}
	for _, x := range c.options(o) {
		if x.hidden || x.off {
			continue
		}
		line := "--" + x.name
		if x.member != nil {
			line += " " + kind(x.member.Shape)
		}
		if x.member != nil && x.member.Shape.Type == "boolean" {
			line = "--" + x.name + " | --no-" + x.name
		}
		if x.required {
			line += "  (required)"
		}
		fmt.Fprintln(w, "  "+line)
	}
}

// kind is a shape's type with, for structures in short form, its members.
func kind(s *wire.Shape) string {
	switch s.Type {
	case "list":
		return kind(s.Member.Shape) + " …"
	case "map":
		return "KEY=VALUE,…"
	case "structure":
		var parts []string
		for _, m := range s.Members {
			parts = append(parts, m.Name+"="+m.Shape.Type)
		}
		return strings.Join(parts, ",")
	}
	if len(s.Enum) > 0 {
		return strings.Join(s.Enum, "|")
	}
	return s.Type
}

func helpFailoverPrimary(w io.Writer) {
	fmt.Fprintf(w, `%s elasticache %s

Kills the primary of a group, by TestFailover. Refused when the primary is not in the zone that is named.
AWS has no such operation.

Options:
  --replication-group-id string  (required)
  --primary-availability-zone string
`, program, failoverPrimary)
}
