package main

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

var update = flag.Bool("update", false, "write docs/cli.md anew")

// cliPage is docs/cli.md: every command's help, one below the other.
func cliPage(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	b.WriteString("# Commands\n\nWritten by `go generate ./cmd/understudy` from what the commands say; changes here are lost.\n\n")
	anchor := func(file string) string {
		return "#" + strings.ReplaceAll(strings.TrimSuffix(file, ".md"), "_", "-")
	}
	root := newRoot()
	root.DisableAutoGenTag = true
	walk(root, func(c *cobra.Command) {
		if err := doc.GenMarkdownCustom(c, &b, anchor); err != nil {
			t.Fatal(err)
		}
	})
	return append(bytes.TrimRight(b.Bytes(), "\n"), '\n')
}

// walk visits the commands that users see, parents first.
func walk(c *cobra.Command, visit func(*cobra.Command)) {
	visit(c)
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() {
			walk(sub, visit)
		}
	}
}

func TestTheCLIPageIsWhatTheCommandsSay(t *testing.T) {
	path := filepath.Join("..", "..", "docs", "cli.md")
	want := cliPage(t)
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(have, want) {
		t.Error("docs/cli.md is stale: run `go generate ./cmd/understudy`")
	}
}

func TestEveryCommandHasAnExampleThatParses(t *testing.T) {
	walk(newRoot(), func(c *cobra.Command) {
		if c.Example == "" {
			t.Errorf("%s has no example", c.CommandPath())
		}
		for line := range strings.SplitSeq(c.Example, "\n") {
			words := strings.Fields(line)
			if len(words) == 0 {
				continue
			}
			if end := index(words, ">", "&&", "|"); end >= 0 {
				words = words[:end]
			}
			if words[0] != "understudy" {
				t.Errorf("%s: the example %q does not begin with the program's name", c.CommandPath(), line)
				continue
			}
			root := newRoot()
			found, rest, err := root.Find(singleDash(words[1:]))
			if err != nil {
				t.Errorf("%s: the example %q: %v", c.CommandPath(), line, err)
				continue
			}
			if err := found.ParseFlags(rest); err != nil {
				t.Errorf("%s: the example %q: %v", c.CommandPath(), line, err)
				continue
			}
			if err := found.ValidateArgs(found.Flags().Args()); err != nil {
				t.Errorf("%s: the example %q: %v", c.CommandPath(), line, err)
			}
		}
	})
}

// index finds the first of the words that is one of these.
func index(words []string, these ...string) int {
	for i, w := range words {
		for _, x := range these {
			if w == x {
				return i
			}
		}
	}
	return -1
}

// namedFile is a path of the source tree as help, errors, comments and pages name it.
var namedFile = regexp.MustCompile(`\b(?:deploy|docs|examples)/[A-Za-z0-9_@/.-]*\.(?:yaml|md|service|socket|json|php|rb|py|js|go)\b`)

// TestEveryFileThatIsNamedExists: an error once named deploy/agent.yaml, which there has never been.
func TestEveryFileThatIsNamedExists(t *testing.T) {
	root, seen := filepath.Join("..", ".."), 0
	look := func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasSuffix(path, "_test.go") || strings.Contains(path, "testdata") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, named := range namedFile.FindAllString(string(text), -1) {
			seen++
			if _, err := os.Stat(filepath.Join(root, named)); err != nil {
				t.Errorf("%s names %s, which is not there", path, named)
			}
		}
		return err
	}
	for _, part := range []string{"cmd", "deploy", "docs", "README.md", "ARCHITECTURE.md"} {
		if err := filepath.WalkDir(filepath.Join(root, part), look); err != nil {
			t.Fatal(err)
		}
	}
	if seen == 0 {
		t.Fatal("no name was found: the pattern is wrong")
	}
}
