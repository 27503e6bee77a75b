package atomicfile

import (
	"os"
	"path/filepath"
	"testing"
)

func TestAFileIsReplacedWholeOrNotAtAll(t *testing.T) {
	for name, put := range map[string]func(string, []byte, os.FileMode) error{"Write": Write, "WriteSync": WriteSync} {
		dir := t.TempDir()
		path := filepath.Join(dir, "f.json")
		for _, text := range []string{"old and longer", "new"} {
			if err := put(path, []byte(text), 0o640); err != nil {
				t.Fatal(err)
			}
			if got, err := os.ReadFile(path); string(got) != text {
				t.Errorf("%s: %q, %v; want %q", name, got, err, text)
			}
		}
		if st, err := os.Stat(path); err != nil || st.Mode() != 0o640 {
			t.Errorf("%s: %v, %v", name, st.Mode(), err)
		}
		// A folder in the place of the file cannot be replaced: it stays, and nothing else is left.
		taken := filepath.Join(dir, "taken")
		if err := os.MkdirAll(filepath.Join(taken, "x"), 0o700); err != nil {
			t.Fatal(err)
		}
		if put(taken, []byte("new"), 0o600) == nil {
			t.Errorf("%s: a folder was replaced", name)
		}
		if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) != 2 {
			t.Errorf("%s: there is %q", name, left)
		}
		if put(filepath.Join(dir, "none", "f"), nil, 0o600) == nil {
			t.Errorf("%s: a file in a folder that is not there", name)
		}
	}
}
