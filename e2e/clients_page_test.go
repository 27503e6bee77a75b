package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// matrix is a run of real clients, as docs/clients.md shows it.
type matrix struct {
	began time.Time
	load  string // before it
	rows  []row
}

type row struct {
	client  realClient
	missing string
	saw     map[string]clientSaw
}

func loadAverage(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("/proc/loadavg")
	must(t, err)
	return strings.Join(strings.Fields(string(text))[:3], " ")
}

// writeBlock writes a generated block of a page anew: the text between `<!-- NAME -->` and `<!-- end of NAME -->`.
func writeBlock(path, name, block string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	begin, end := "<!-- "+name+" -->\n", "<!-- end of "+name+" -->"
	before, rest, found := strings.Cut(string(text), begin)
	_, after, ended := strings.Cut(rest, end)
	if !found || !ended {
		return fmt.Errorf("%s has no block between %q and %q", path, strings.TrimSpace(begin), end)
	}
	return os.WriteFile(path, []byte(before+begin+block+end+after), 0o644)
}

// circumstances say when and on what a run was made.
func circumstances(began time.Time, load string) string {
	server, _ := exec.Command("redis-server", "--version").Output() // it has served the whole run
	version := "redis-server"
	for word := range strings.FieldsSeq(string(server)) {
		if v, ok := strings.CutPrefix(word, "v="); ok {
			version += " " + v
		}
	}
	return fmt.Sprintf("%s; %s, %s, %d cores, load average %s before, %.0f s.", began.UTC().Format("2006-01-02"), version, runtime.Version(), runtime.NumCPU(), load, time.Since(began).Seconds())
}

// line is a row as the page has it.
func (r row) line() string {
	return fmt.Sprintf("| %s | %s |%s\n", r.title(), r.client.uses, r.cells())
}

// write puts the matrix into a page: all of it, or, of a run of some clients, their rows.
func (m *matrix) write(path string, whole bool) error {
	if whole {
		return writeBlock(path, "matrix", m.block())
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	lines := strings.SplitAfter(string(text), "\n")
	for _, r := range m.rows {
		i := slices.IndexFunc(lines, func(line string) bool { return strings.HasPrefix(line, "| **"+r.client.name+"**") })
		if i < 0 {
			return fmt.Errorf("%s has no row of %s: run all clients first", path, r.client.name)
		}
		lines[i] = r.line()
	}
	return os.WriteFile(path, []byte(strings.Join(lines, "")), 0o644)
}

func (m *matrix) block() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\n| client | does |", circumstances(m.began, m.load))
	for _, l := range legs {
		fmt.Fprintf(&b, " %s |", l.name)
	}
	fmt.Fprint(&b, "\n|---|---|"+strings.Repeat("---|", len(legs))+"\n")
	for _, r := range m.rows {
		b.WriteString(r.line())
	}
	return b.String()
}

// title is the client's name, with the versions that the program itself found.
func (r row) title() string {
	for _, l := range legs {
		if s := r.saw[l.name]; s.Version != "" {
			return "**" + r.client.name + "**: " + s.Version
		}
	}
	return "**" + r.client.name + "**"
}

func (r row) cells() string {
	var b strings.Builder
	for _, l := range legs {
		saw, ran := r.saw[l.name]
		switch {
		case r.missing != "":
			b.WriteString(" NOT TESTED: not installed, " + r.client.needs + " |")
		case !ran:
			b.WriteString(" NOT TESTED: the run ended before |")
		case saw.broken != "":
			b.WriteString(" **FAILED**: no result |")
		default:
			b.WriteString(" " + saw.cell() + " |")
		}
	}
	return b.String()
}

// cell is what a leg showed: errors, then what is not zero, then the longest pause.
func (s clientSaw) cell() string {
	text := fmt.Sprintf("%d errors, %d lost", s.Failed, s.Lost)
	if s.Unknown > 0 {
		text += fmt.Sprintf(", %d unknown", s.Unknown)
	}
	if s.Doubled > 0 {
		text += fmt.Sprintf(", %d doubled", s.Doubled)
	}
	text += fmt.Sprintf(" of %d; %.0f ms", s.Ops, s.LongestMs)
	if s.Note != "" {
		text += " (" + s.Note + ")"
	}
	if !s.fine() {
		return "**FAILED**: " + text
	}
	return text
}

// The page shows what the matrix has: a client that is added, and not run, is missed here.
func TestClientsPageHasEveryClient(t *testing.T) {
	page, err := os.ReadFile("../docs/clients.md")
	must(t, err)
	rows := map[string]int{}
	for line := range strings.Lines(string(page)) {
		if name, _, ok := strings.Cut(strings.TrimPrefix(line, "| **"), "**"); ok && strings.HasPrefix(line, "| **") {
			rows[name] = strings.Count(line, " | ") + 1
		}
	}
	for _, c := range realClients("", "") {
		if rows[c.name] != len(legs)+2 {
			t.Errorf("%s has %d columns in docs/clients.md, want %d: run make clients", c.name, rows[c.name], len(legs)+2)
		}
	}
}
