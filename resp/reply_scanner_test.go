package resp

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
)

var wholeReplies = []string{
	"+OK\r\n", "+\r\n", "+a\rb\nc\r\n", "-ERR no\r\n", ":0\r\n", ":-12\r\n",
	"$0\r\n\r\n", "$3\r\nabc\r\n", "$4\r\n\r\n\r\n\r\n", "$-1\r\n", "*-1\r\n", "*0\r\n",
	"*2\r\n$1\r\na\r\n*1\r\n:1\r\n", "*1\r\n*1\r\n*0\r\n",
	"_\r\n", "#t\r\n", "#f\r\n", ",1.5\r\n", ",inf\r\n", ",-inf\r\n", ",nan\r\n", "(3492890328409238509324850943850943825024385\r\n",
	"!21\r\nSYNTAX invalid syntax\r\n", "=15\r\ntxt:Some string\r\n",
	"%2\r\n+a\r\n:1\r\n+b\r\n*1\r\n_\r\n", "%0\r\n", "~2\r\n+a\r\n+b\r\n",
	">3\r\n+message\r\n$1\r\nc\r\n$1\r\nm\r\n",
	"|1\r\n+ttl\r\n:3600\r\n+OK\r\n", "|1\r\n+a\r\n*1\r\n:1\r\n|0\r\n*2\r\n|1\r\n+k\r\n+v\r\n:1\r\n:2\r\n",
	"$?\r\n;4\r\nHell\r\n;5\r\no wor\r\n;0\r\n", "$?\r\n;0\r\n",
	"*?\r\n:1\r\n*?\r\n.\r\n%?\r\n+a\r\n~?\r\n:2\r\n.\r\n.\r\n.\r\n",
}

func TestReplyScannerFindsEveryType(t *testing.T) {
	for _, in := range wholeReplies {
		var s ReplyScanner
		if n, err := s.Scan([]byte(in + "+rest\r\n")); n != len(in) || err != nil {
			t.Errorf("Scan(%q) = %d, %v; want %d", in, n, err, len(in))
		}
		for cut := range len(in) {
			var s ReplyScanner
			if n, err := s.Scan([]byte(in[:cut])); n != 0 || err != nil {
				t.Errorf("Scan(%q), a part of %q, = %d, %v; want 0", in[:cut], in, n, err)
			}
			if n, err := s.Scan([]byte(in)); n != len(in) || err != nil {
				t.Errorf("Scan(%q) after its first %d bytes = %d, %v; want %d", in, cut, n, err, len(in))
			}
		}
	}
}

func TestReplyScannerRefusesWhatIsNoReply(t *testing.T) {
	for _, in := range []string{
		"x\r\n", "\r\n", "$x\r\n", "$-2\r\n", "$01\r\nx\r\n", "$1\r\nabc", "*-2\r\n", "%-1\r\n", "~-1\r\n", "!-1\r\n", "|?\r\n",
		"$99999999999999999999\r\n", "*9999999999999\r\n", ".\r\n", ";1\r\na\r\n", "*1\r\n.\r\n", "%?\r\n+a\r\n.\r\n",
		"$?\r\n+a\r\n", "$?x\r\n", "*?\r\n.x", "|0\r\n.\r\n", "$?\r\n;-1\r\n",
		strings.Repeat("*1\r\n", MaxDepth+2),
	} {
		var s ReplyScanner
		n, err := s.Scan([]byte(in))
		var protocol ProtocolError
		if n != 0 || !errors.As(err, &protocol) {
			t.Errorf("Scan(%.40q) = %d, %v; want a ProtocolError", in, n, err)
		}
	}
}

func TestReplyScannerTakesTheDeepestReplyAndForgetsIt(t *testing.T) {
	in := []byte(strings.Repeat("*1\r\n", MaxDepth) + ":1\r\n")
	var s ReplyScanner
	if n, err := s.Scan(in); n != len(in) || err != nil {
		t.Fatalf("n %d, err %v; want %d", n, err, len(in))
	}
	if cap(s.stack) > keptDepth {
		t.Errorf("keeps a stack of %d, want at most %d", cap(s.stack), keptDepth)
	}
}

func TestReplyScannerSaysWhatABigBulkStillNeeds(t *testing.T) {
	var s ReplyScanner
	if n, err := s.Scan([]byte("*2\r\n$1000\r\nabc")); n != 0 || err != nil || s.Need() != 999 {
		t.Fatalf("n %d, err %v, need %d; want need 999", n, err, s.Need())
	}
}

// A large reply that arrives byte by byte must not be read again from its
// start each time: the quadratic way takes minutes here.
func TestReplyScannerRemembersItsProgress(t *testing.T) {
	in := AppendArray(nil, 40_000)
	for range 40_000 {
		in = append(in, ":1\r\n"...)
	}
	in = append(in, '+')
	in = append(in, bytes.Repeat([]byte("x"), 100_000)...)
	in = append(in, '\r', '\n')
	var s ReplyScanner
	start, found := 0, 0
	for i := range in {
		n, err := s.Scan(in[start : i+1])
		if err != nil {
			t.Fatal(err)
		}
		if n > 0 {
			found++
			start += n
		}
	}
	if found != 2 || start != len(in) {
		t.Fatalf("%d replies in %d bytes, want 2 in %d", found, start, len(in))
	}
}

// scanReplies gives the lengths of the replies in in when it arrives as pieces
// of the given size, and the error that ends them.
func scanReplies(t *testing.T, in []byte, piece int) (lengths []int, err error) {
	t.Helper()
	var s ReplyScanner
	start, end := 0, 0
	for {
		buf := bytes.Clone(in[start:end])
		n, err := s.Scan(buf)
		if n < 0 || n > len(buf) {
			t.Fatalf("Scan(%q) used %d of %d bytes", buf, n, len(buf))
		}
		switch {
		case err != nil:
			return lengths, err
		case n > 0:
			lengths = append(lengths, n)
			start += n
		case end == len(in):
			return lengths, nil
		default:
			end = min(end+piece, len(in))
		}
	}
}

func FuzzReplyScanner(f *testing.F) {
	for i, seed := range wholeReplies {
		f.Add([]byte(seed+wholeReplies[(i*7+3)%len(wholeReplies)]), byte(i))
	}
	f.Fuzz(func(t *testing.T, in []byte, piece byte) {
		whole, wholeErr := scanReplies(t, in, len(in)+1)
		pieces, piecesErr := scanReplies(t, in, int(piece)+1)
		if fmt.Sprint(whole) != fmt.Sprint(pieces) || (wholeErr == nil) != (piecesErr == nil) {
			t.Fatalf("in one piece %v, %v; in pieces of %d %v, %v", whole, wholeErr, int(piece)+1, pieces, piecesErr)
		}
		rest := in
		for _, n := range whole {
			checkParse(t, rest, n)
			ErrorCode(rest[:n])
			IsPush(rest[:n])
			rest = rest[n:]
		}
		if _, n, err := Parse(rest); wholeErr == nil && len(rest) > 0 && n > 0 {
			t.Fatalf("Scan finds no whole reply in %q, Parse one of %d bytes (%v)", rest, n, err)
		}
	})
}

// checkParse compares a border found by Scan with the one that Parse finds.
// Parse also looks at the texts of scalars, which Scan passes over, and may
// refuse those, but only those.
func checkParse(t *testing.T, buf []byte, n int) {
	t.Helper()
	_, m, err := Parse(buf)
	if err == nil && m != n {
		t.Fatalf("Scan finds a reply of %d bytes in %q, Parse one of %d", n, buf, m)
	}
	if err != nil && !strings.Contains(err.Error(), " reply \"") && !strings.Contains(err.Error(), "verbatim") {
		t.Fatalf("Scan finds a reply of %d bytes in %q, Parse says %v", n, buf, err)
	}
}

func BenchmarkReplyScanner(b *testing.B) {
	for _, bench := range []struct{ name, in string }{
		{"ok", "+OK\r\n"},
		{"int", ":1000\r\n"},
		{"bulk100", "$100\r\n" + strings.Repeat("v", 100) + "\r\n"},
		{"null", "$-1\r\n"},
		{"array10", "*10\r\n" + strings.Repeat("$3\r\nabc\r\n", 10)},
	} {
		b.Run(bench.name, func(b *testing.B) {
			var s ReplyScanner
			in := []byte(bench.in + "+OK\r\n")
			b.ReportAllocs()
			for b.Loop() {
				if n, err := s.Scan(in); n != len(bench.in) || err != nil {
					b.Fatal(n, err)
				}
			}
		})
	}
}
