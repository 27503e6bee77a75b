package proxy

import (
	"slices"
	"strings"
	"testing"
)

func TestFramesAreFoundWhereverTheyAreCut(t *testing.T) {
	text := "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$5\r\nv\r\nxy\r\nPING\r\n+OK\r\n$-1\r\n*-1\r\n*2\r\n*1\r\n:1\r\n$0\r\n\r\n%1\r\n+a\r\n#t\r\n>2\r\n+x\r\n:1\r\n|1\r\n+k\r\n+v\r\n-READONLY no\r\n"
	want := []string{"*3", "PING", "+OK", "$-1", "*-1", "*2", "%1", ">2", "-READONLY no"}
	for _, size := range []int{1, 2, 3, 7, len(text)} {
		var got []string
		f := frames{whole: func(first []byte, words [][]byte) {
			got = append(got, string(first))
			if string(first) == "*3" && (len(words) != 2 || string(words[0]) != "SET" || string(words[1]) != "k") {
				t.Errorf("words %q", words)
			}
		}}
		for piece := range slices.Chunk([]byte(text), size) {
			if !f.feed(piece) {
				t.Fatalf("pieces of %d: given up after %q", size, got)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("pieces of %d: %q", size, got)
		}
	}
	for _, bad := range []string{"$x\r\n", "*-2\r\n", strings.Repeat("*1\r\n", deepest+1)} {
		f := frames{whole: func([]byte, [][]byte) {}}
		if f.feed([]byte(bad)) {
			t.Errorf("%q is taken for RESP", bad)
		}
	}
}

func FuzzFrames(f *testing.F) {
	f.Add([]byte("*2\r\n$1\r\na\r\n:1\r\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		whole, pieces := 0, 0
		a := frames{whole: func([]byte, [][]byte) { whole++ }}
		b := frames{whole: func([]byte, [][]byte) { pieces++ }}
		ok, same := a.feed(text), true
		for i := range text {
			if same = b.feed(text[i : i+1]); !same {
				break
			}
		}
		if ok != same || whole != pieces {
			t.Errorf("at once %d values, %v; byte by byte %d, %v", whole, ok, pieces, same)
		}
	})
}
