package resp

import (
	"bytes"
	"strings"
	"testing"
)

// skipReplies gives the lengths of the replies in in when it arrives as pieces of the given size, and every reply whose
// end is not in the first piece is skipped from there on.
func skipReplies(t *testing.T, in []byte, piece int) (lengths []int, err error) {
	t.Helper()
	var s ReplyScanner
	start, end, size, skipping := 0, 0, 0, false
	for {
		buf := bytes.Clone(in[start:end])
		n, done := 0, false
		if skipping {
			n, done, err = s.Skip(buf)
		} else {
			n, err = s.Scan(buf)
			done = n > 0
			skipping = !done && len(buf) > 0
		}
		if n < 0 || n > len(buf) || done && n == 0 && size == 0 {
			t.Fatalf("%d of %q, done %v", n, buf, done)
		}
		start, size = start+n, size+n
		switch {
		case err != nil:
			return lengths, err
		case done:
			lengths = append(lengths, size)
			size, skipping = 0, false
		case end == len(in) && !skipping || end == len(in) && n == 0 && size > 0:
			return lengths, nil
		case end == len(in) && n == 0:
			return lengths, nil
		default:
			end = min(end+piece, len(in))
		}
	}
}

// skipCommands is skipReplies for commands; of one that is skipped the words that were whole before are given,
// and its bytes.
func skipCommands(t *testing.T, in []byte, piece int) (frames []string, err error) {
	t.Helper()
	var s CommandScanner
	start, end, from, skipping := 0, 0, 0, false
	for {
		buf := bytes.Clone(in[start:end])
		var n int
		var done bool
		var args [][]byte
		if skipping {
			n, done, err = s.Skip(buf)
		} else {
			from = start
			n, args, err = s.Scan(buf, nil)
			done = n > 0
			if !done && err == nil {
				checkBegun(t, &s, buf)
				_, count, _ := s.Begun(buf, nil)
				skipping = count > 0
			}
		}
		if n < 0 || n > len(buf) {
			t.Fatalf("%d of %q", n, buf)
		}
		_ = args
		start += n
		switch {
		case err != nil:
			return frames, err
		case done:
			frames = append(frames, string(in[from:start]))
			skipping = false
		case end == len(in) && n == 0:
			return frames, nil
		default:
			end = min(end+piece, len(in))
		}
	}
}

func checkBegun(t *testing.T, s *CommandScanner, buf []byte) {
	t.Helper()
	words, count, bulk := s.Begun(buf, nil)
	if count > 0 && len(words) >= count || count == 0 && (len(words) > 0 || bulk > 0) || bulk > MaxBulkBytes {
		t.Fatalf("of %q %d words of %d have begun, and one of %d bytes", buf, len(words), count, bulk)
	}
}

// wholeCommands gives the bytes of each command in in.
func wholeCommands(in []byte) (frames []string, err error) {
	var s CommandScanner
	for {
		n, _, err := s.Scan(in, nil)
		if err != nil || n == 0 {
			return frames, err
		}
		frames = append(frames, string(in[:n]))
		in = in[n:]
	}
}

func FuzzSkip(f *testing.F) {
	for i, seed := range wholeReplies {
		f.Add([]byte(seed+wholeReplies[(i*7+3)%len(wholeReplies)]), byte(i))
	}
	for _, seed := range []string{
		"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n*1\r\n$4\r\nPING\r\n", "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$10\r\n0123456789\r\nPING\r\n",
		"*2\r\n$1\r\na\r\n$-1\r\n", "*2\r\n$1\r\na\r\nx", "*2\r\n$0\r\n\r\n$0\r\n\r\n*0\r\n\r\n",
	} {
		f.Add([]byte(seed), byte(0))
		f.Add([]byte(seed), byte(3))
	}
	f.Fuzz(func(t *testing.T, in []byte, piece byte) {
		whole, wholeErr := wholeCommands(in)
		skipped, skippedErr := skipCommands(t, in, int(piece)+1)
		if joined(whole) != joined(skipped) || (wholeErr == nil) != (skippedErr == nil) || wholeErr != nil && wholeErr.Error() != skippedErr.Error() {
			t.Fatalf("commands: %q, %v; skipped in pieces of %d %q, %v", whole, wholeErr, int(piece)+1, skipped, skippedErr)
		}
		lengths, err := scanReplies(t, in, len(in)+1)
		passed, passedErr := skipReplies(t, in, int(piece)+1)
		for i, n := range passed {
			if err == nil && passedErr == nil && (i >= len(lengths) || lengths[i] != n) {
				t.Fatalf("replies of %v, skipped in pieces of %d %v", lengths, int(piece)+1, passed)
			}
		}
		if err == nil && (passedErr != nil || len(passed) != len(lengths)) {
			t.Fatalf("replies of %v; skipped in pieces of %d %v, %v", lengths, int(piece)+1, passed, passedErr)
		}
	})
}

func TestSkipKeepsNothingOfABigWord(t *testing.T) {
	head := "*4\r\n$3\r\nSET\r\n$1\r\nk\r\n$5000000\r\n"
	var s CommandScanner
	if n, _, err := s.Scan([]byte(head+"abc"), nil); n != 0 || err != nil {
		t.Fatal(n, err)
	}
	args, count, bulk := s.Begun([]byte(head+"abc"), nil)
	if words(args) != "SET|k" || count != 4 || bulk != 5_000_000 {
		t.Fatalf("begun: %q of %d, %d bytes", words(args), count, bulk)
	}
	if n, done, err := s.Skip([]byte(head + "abc")); n != len(head)+3 || done || err != nil {
		t.Fatal(n, done, err)
	}
	piece := []byte(strings.Repeat("x", 100_000))
	for sent := 3; sent < 5_000_000; {
		part := piece[:min(len(piece), 5_000_000-sent)]
		if n, done, err := s.Skip(part); n != len(part) || done || err != nil {
			t.Fatal(n, done, err)
		}
		sent += len(part)
	}
	rest := "\r\n$2\r\nNX\r\nPING\r\n"
	if n, done, err := s.Skip([]byte(rest)); n != len(rest)-6 || !done || err != nil {
		t.Fatal(n, done, err)
	}
	if n, args, err := s.Scan([]byte("PING\r\n"), nil); n != 6 || words(args) != "PING" || err != nil {
		t.Fatal(n, words(args), err)
	}
}
