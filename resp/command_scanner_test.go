package resp

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

func words(args [][]byte) string {
	parts := make([]string, len(args))
	for i, arg := range args {
		parts[i] = string(arg)
	}
	return strings.Join(parts, "|")
}

func TestCommandScannerFindsCommands(t *testing.T) {
	for _, test := range []struct{ in, want string }{
		{"*1\r\n$4\r\nPING\r\n", "PING"},
		{"*2\r\n$3\r\nGET\r\n$0\r\n\r\n", "GET|"},
		{"*2\r\n$4\r\nECHO\r\n$4\r\n\r\n\r\n\r\n", "ECHO|\r\n\r\n"},
		{"*2\r\n$3\r\nGET\r\n$1\r\nkxx", "GET|k"}, // redis does not check the CRLF of a bulk
		{"PING\r\n", "PING"},
		{"PING\n", "PING"},
		{"  set  k\tv \r\n", "set|k|v"},
		{"set \"a b\" 'c d'\r\n", "set|a b|c d"},
		{`set "\x41\n\t\q\"" 'it\'s \n'` + "\r\n", "set|A\n\tq\"|it's \\n"},
		{`set "" ''` + "\n", "set||"},
		{`set a"b c"` + "\n", "set|ab c"},
		{`set "\x4"` + "\n", "set|x4"},
		{"\r\n", ""},
		{"\n", ""},
		{"   \r\n", ""},
		{"*0\r\n", ""},
		{"*-1\r\n", ""},
	} {
		var s CommandScanner
		n, args, err := s.Scan([]byte(test.in+"rest"), nil)
		if err != nil || n != len(test.in) || words(args) != test.want {
			t.Errorf("Scan(%q) = %d, %q, %v; want %d, %q", test.in, n, words(args), err, len(test.in), test.want)
		}
	}
}

// The texts are what redis-server 7.0 answers to these bytes, except that it
// takes more than MaxArgs words and waits for ever behind a NUL.
func TestCommandScannerRefusesWithTheWordsOfRedis(t *testing.T) {
	for _, test := range []struct{ in, want string }{
		{"*x\r\n", "Protocol error: invalid multibulk length"},
		{"*\r\n", "Protocol error: invalid multibulk length"},
		{"*01\r\n", "Protocol error: invalid multibulk length"},
		{"*1048577\r\n", "Protocol error: invalid multibulk length"},
		{"*99999999999999999999\r\n", "Protocol error: invalid multibulk length"},
		{"*1\r\nxPING\r\n", "Protocol error: expected '$', got 'x'"},
		{"*1\r\n$-1\r\n", "Protocol error: invalid bulk length"},
		{"*1\r\n$4x\r\n", "Protocol error: invalid bulk length"},
		{"*1\r\n$536870913\r\n", "Protocol error: invalid bulk length"},
		{strings.Repeat("a", MaxInlineBytes+1), "Protocol error: too big inline request"},
		{"set \"a\r\n", "Protocol error: unbalanced quotes in request"},
		{"set 'a\r\n", "Protocol error: unbalanced quotes in request"},
		{"set \"a\"b\r\n", "Protocol error: unbalanced quotes in request"},
		{"echo 'a\\\\'\r\n", "Protocol error: unbalanced quotes in request"},
		{"echo \"a\\\r\n", "Protocol error: unbalanced quotes in request"},
		{"echo a\x00b\r\n", "Protocol error: a NUL byte in an inline request"},
		{"*-0\r\n", "Protocol error: invalid multibulk length"},
		{"*1\r\n\xff\r\n", "Protocol error: expected '$', got '\xff'"},
	} {
		var s CommandScanner
		n, args, err := s.Scan([]byte(test.in), nil)
		var protocol ProtocolError
		if n != 0 || len(args) != 0 || !errors.As(err, &protocol) || err.Error() != test.want {
			t.Errorf("Scan(%.40q) = %d, %q, %v; want error %q", test.in, n, words(args), err, test.want)
		}
	}
}

func TestCommandScannerSaysWhatABigBulkStillNeeds(t *testing.T) {
	var s CommandScanner
	if n, _, err := s.Scan([]byte("*1\r\n$1000\r\nabc"), nil); n != 0 || err != nil || s.Need() != 999 {
		t.Fatalf("n %d, err %v, need %d; want need 999", n, err, s.Need())
	}
	if n, _, err := s.Scan([]byte("*1\r\n$1000\r\nabc"+strings.Repeat("x", 999)), nil); n == 0 || err != nil || s.Need() != 0 {
		t.Fatalf("n %d, err %v, need %d; want a command and need 0", n, err, s.Need())
	}
}

// A command of many words that arrives byte by byte must not be read again
// from its start each time: the quadratic way takes minutes here.
func TestCommandScannerRemembersItsProgress(t *testing.T) {
	arg := []byte("x")
	args := make([][]byte, 20_000)
	for i := range args {
		args[i] = arg
	}
	in := AppendCommandBytes(nil, args...)
	var s CommandScanner
	for i := range in {
		n, out, err := s.Scan(in[:i+1], nil)
		if err != nil || (n > 0) != (i == len(in)-1) {
			t.Fatalf("at byte %d of %d: n %d, err %v", i, len(in), n, err)
		}
		if n > 0 && len(out) != len(args) {
			t.Fatalf("%d words, want %d", len(out), len(args))
		}
	}
	if cap(s.words) > keptWords {
		t.Errorf("keeps %d spans after a large command, want at most %d", cap(s.words), keptWords)
	}
}

// scanCommands gives the commands in in when it arrives as pieces of the given
// size, each with the buffer moved, and the error that ends them.
func scanCommands(t *testing.T, in []byte, piece int) (frames []string, err error) {
	t.Helper()
	var s CommandScanner
	var args [][]byte
	start, end := 0, 0
	for {
		buf := bytes.Clone(in[start:end])
		n, out, err := s.Scan(buf, args)
		args = out
		if n < 0 || n > len(buf) {
			t.Fatalf("Scan(%q) used %d of %d bytes", buf, n, len(buf))
		}
		switch {
		case err != nil:
			return frames, err
		case n > 0:
			frames = append(frames, words(out))
			start += n
		case end == len(in):
			return frames, nil
		default:
			if need := s.Need(); need > 0 && n == 0 && end+need <= len(in) {
				if m, _, _ := s.Scan(in[start:end+need-1], nil); m > 0 {
					t.Fatalf("Need said %d bytes, but fewer were enough for %q", need, in[start:end+need-1])
				}
			}
			end = min(end+piece, len(in))
		}
	}
}

func FuzzCommandScanner(f *testing.F) {
	for _, seed := range []string{
		"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n*1\r\n$4\r\nPING\r\n",
		"*0\r\n\r\nset \"a\\x41\" 'b\\''\r\nPING\n",
		"*1\r\n$-1\r\n", "*1\r\nPING", "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$10\r\n01234",
		"set \"a\"b\r\n", "a\x00b\r\n",
	} {
		f.Add([]byte(seed), byte(1))
	}
	f.Fuzz(func(t *testing.T, in []byte, piece byte) {
		whole, wholeErr := scanCommands(t, in, len(in)+1)
		pieces, piecesErr := scanCommands(t, in, int(piece)+1)
		if joined(whole) != joined(pieces) || (wholeErr == nil) != (piecesErr == nil) ||
			wholeErr != nil && wholeErr.Error() != piecesErr.Error() {
			t.Fatalf("in one piece %q, %v; in pieces of %d %q, %v", whole, wholeErr, int(piece)+1, pieces, piecesErr)
		}
	})
}

func joined(frames []string) string { return strings.Join(frames, "\x00|") }

func BenchmarkCommandScanner(b *testing.B) {
	value := strings.Repeat("v", 100)
	for _, bench := range []struct {
		name string
		in   []byte
	}{
		{"get", AppendCommand(nil, "GET", "session:12345")},
		{"set", AppendCommand(nil, "SET", "session:12345", value, "EX", "60")},
		{"inline", []byte("GET session:12345\r\n")},
	} {
		b.Run(bench.name, func(b *testing.B) {
			var s CommandScanner
			var args [][]byte
			b.ReportAllocs()
			for b.Loop() {
				var n int
				var err error
				if n, args, err = s.Scan(bench.in, args); n != len(bench.in) || err != nil {
					b.Fatal(n, err)
				}
			}
		})
	}
}
