package doctor

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/doctor.md anew")

func TestThePageIsWhatTheDoctorSays(t *testing.T) {
	path := filepath.Join("..", "docs", "doctor.md")
	want := []byte(Page())
	if *update {
		if err := os.WriteFile(path, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(have, want) {
		t.Error("docs/doctor.md is stale: run `go generate ./doctor`")
	}
}

// A page of a finding that is never made, or the other way round, would be a promise.
func TestEveryPageIsOfAFindingThatIsMade(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	var code strings.Builder
	for _, f := range files {
		if strings.HasSuffix(f, "_test.go") || f == "pages.go" {
			continue
		}
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		code.Write(text)
	}
	for _, id := range IDs() {
		if !strings.Contains(code.String(), `"`+id+`"`) {
			t.Errorf("%s has a page, and the code never finds it", id)
		}
		if p := pages[id]; p.Title == "" || p.Severity.rank() < 0 || p.Why == "" || p.Text == "" {
			t.Errorf("%s: title, severity, why and text are needed", id)
		}
		if text, ok := Explain(id); !ok || !strings.HasPrefix(text, "## "+id+"\n") {
			t.Errorf("%s is not explained: %q", id, text)
		}
	}
	if _, ok := Explain("no-such-thing"); ok {
		t.Error("something that is never found is explained")
	}
}

func TestEveryFactHasItsSource(t *testing.T) {
	for _, f := range facts {
		if !strings.HasPrefix(f.source, "https://") || f.says == "" || f.set == "" || f.library != strings.ToLower(f.library) {
			t.Errorf("%+v", f)
		}
		if _, ok := pages[string(f.trouble)]; !ok {
			t.Errorf("%s: trouble %s has no page", f.library, f.trouble)
		}
	}
}
