package main

import (
	"bytes"
	"fmt"
	"os"
	"strings"
)

// document writes the page's block of each part that was measured anew. A block begins with
// `<!-- bench NAME -->` and ends with `<!-- end of bench NAME -->`; the rest of the page is a person's.
func (r *report) document(path string, s settings) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("the page for the figures: %w", err)
	}
	page := string(text)
	for _, p := range s.parts {
		if page, err = replaceBlock(page, p.name, r.block(p)); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	if err := os.WriteFile(path, []byte(page), 0o644); err != nil {
		return fmt.Errorf("the page for the figures: %w", err)
	}
	return nil
}

func replaceBlock(page, name, block string) (string, error) {
	begin, end := "<!-- bench "+name+" -->\n", "<!-- end of bench "+name+" -->"
	before, rest, found := strings.Cut(page, begin)
	_, after, ended := strings.Cut(rest, end)
	if !found || !ended {
		return "", fmt.Errorf("there is no block between %q and %q", strings.TrimSpace(begin), end)
	}
	return before + begin + block + end + after, nil
}

// block is what a part has to say, as Markdown: the command, the circumstances, and the figures as they
// are printed.
func (r *report) block(p part) string {
	var b bytes.Buffer
	fmt.Fprintf(&b, "`%s`, %s.\n\n```text\n", undocumented(r.Command), r.Date)
	r.printMachine(&b)
	p.print(r, &b)
	fmt.Fprint(&b, "```\n")
	var trimmed strings.Builder
	for line := range strings.Lines(b.String()) { // tables fill their last column with blanks
		trimmed.WriteString(strings.TrimRight(line, " \n") + "\n")
	}
	return trimmed.String()
}

// undocumented leaves out of the command where this machine keeps its files.
func undocumented(command string) string {
	var words []string
	skip := false
	for word := range strings.FieldsSeq(command) {
		name, _, joined := strings.Cut(strings.TrimLeft(word, "-"), "=")
		private := strings.HasPrefix(word, "-") && (name == "docs" || name == "json" || name == "keep" || name == "understudy")
		if !skip && !private {
			words = append(words, word)
		}
		skip = private && !joined
	}
	return strings.Join(words, " ")
}
