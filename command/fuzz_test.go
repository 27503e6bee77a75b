package command

import (
	"bytes"
	"testing"
)

// FuzzArguments: clients send any words with any command. Whatever they are,
// nothing panics, keys are among the words, and the timeout is one of them.
func FuzzArguments(f *testing.F) {
	for _, example := range keyExamples {
		f.Add(bytes.Join(line(example.in), []byte("\n")))
	}
	for _, seed := range []string{"XREAD\nBLOCK", "XREAD\nSTREAMS", "XREADGROUP\nGROUP\ng\nc\nGROUP\nx\nGROUP", "SET\nk\nv\nEX", "CONFIG\nSET\nsave"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		args := bytes.Split(text, []byte("\n"))
		RefusedConfig(args, nil)
		i := Lookup(args)
		if i == nil {
			return
		}
		i.ClassOf(args)
		i.Idempotent(args)
		i.Keys(args, func(key []byte) {
			if !has(args, key) {
				t.Fatalf("%q is no word of %q", key, args)
			}
		})
		if index, _, ok := i.Timeout(args); ok && (index < 1 || index >= len(args)) {
			t.Fatalf("timeout at %d of %q", index, args)
		}
	})
}
