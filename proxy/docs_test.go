package proxy

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// errorLiteral is a whole error reply as it stands in the code: a dash, a code in capitals, words.
var errorLiteral = regexp.MustCompile(`^-[A-Z]+ `)

// errorPrefixes are all errors that the package's code can say, each up to its first variable part.
func errorPrefixes(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("*.go")
	must(t, err)
	var found []string
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		must(t, err)
		ast.Inspect(f, func(n ast.Node) bool {
			lit, ok := n.(*ast.BasicLit)
			if !ok || lit.Kind != token.STRING {
				return true
			}
			text, err := strconv.Unquote(lit.Value)
			must(t, err)
			if errorLiteral.MatchString(text) {
				fixed, _, _ := strings.Cut(text, "%")
				found = append(found, strings.TrimRight(fixed, " \r\n"))
			}
			return true
		})
	}
	if len(found) < 8 {
		t.Fatalf("only %d errors were found in the code: %q", len(found), found)
	}
	return found
}

// Each error's own section begins with the words that a client can look for.
func TestEveryErrorIsDocumented(t *testing.T) {
	page, err := os.ReadFile("../docs/errors.md")
	must(t, err)
	var headings []string
	for _, m := range regexp.MustCompile("(?m)^### `(.*)`$").FindAllStringSubmatch(string(page), -1) {
		headings = append(headings, m[1])
	}
	said := append(errorPrefixes(t), "-ERR Protocol error:") // package resp's own word for all its errors
	for _, e := range said {
		first, _, _ := strings.Cut(e, ": it was sent") // the rest of UNKNOWN is an explanation
		if !slices.ContainsFunc(headings, func(h string) bool { return strings.HasPrefix(h, first) }) {
			t.Errorf("docs/errors.md has no section for %q", e)
		}
	}
	for _, h := range headings {
		if !slices.ContainsFunc(said, func(e string) bool { return strings.HasPrefix(e, h) || strings.HasPrefix(h, e) }) {
			t.Errorf("docs/errors.md has a section for %q, which no code says", h)
		}
	}
}

// The reasons in the log are how an operator learns why an outcome is unknown.
func TestEveryReasonOfAnUnknownOutcomeIsDocumented(t *testing.T) {
	page, err := os.ReadFile("../docs/errors.md")
	must(t, err)
	files, err := filepath.Glob("*.go")
	must(t, err)
	reasons := regexp.MustCompile(`\.unknown\([a-z]+, "([^"]+)"\)`)
	n := 0
	if !strings.Contains(string(page), "| `"+endlessScript+"` |") {
		t.Errorf("docs/errors.md does not explain %q", endlessScript)
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		must(t, err)
		for _, m := range reasons.FindAllStringSubmatch(string(text), -1) {
			n++
			if !strings.Contains(string(page), fmt.Sprintf("| `%s` |", m[1])) {
				t.Errorf("docs/errors.md does not explain %q", m[1])
			}
		}
	}
	if n < 4 {
		t.Fatalf("only %d reasons were found in the code", n)
	}
}
