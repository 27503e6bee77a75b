package pack

import (
	"flag"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/alarms.md anew")

func TestThePageShowsThePack(t *testing.T) {
	const page, from, to = "../../docs/alarms.md", "<!-- pack: written by `go generate ./alarm/pack` -->\n", "<!-- end of pack -->"
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := strings.Cut(string(text), from)
	_, tail, ok2 := strings.Cut(rest, to)
	if !ok || !ok2 {
		t.Fatalf("%s has no place for the pack", page)
	}
	want := head + from + Table() + to + tail
	if want == string(text) {
		return
	}
	if !*update {
		t.Fatalf("%s does not show the pack as it is: run `go generate ./alarm/pack`", page)
	}
	if err := os.WriteFile(page, []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
}
