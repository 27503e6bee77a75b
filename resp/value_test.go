package resp

import (
	"reflect"
	"testing"
)

func TestParseBuildsValues(t *testing.T) {
	role := "*3\r\n$6\r\nmaster\r\n:42\r\n*1\r\n*3\r\n$9\r\n127.0.0.1\r\n$4\r\n6379\r\n$2\r\n42\r\n"
	bulk := func(s string) Value { return Value{Kind: '$', Str: []byte(s)} }
	for _, test := range []struct {
		in   string
		want Value
	}{
		{role, Value{Kind: '*', Elems: []Value{bulk("master"), {Kind: ':', Str: []byte("42"), Int: 42},
			{Kind: '*', Elems: []Value{{Kind: '*', Elems: []Value{bulk("127.0.0.1"), bulk("6379"), bulk("42")}}}}}}},
		{"$-1\r\n", Value{Kind: '_'}},
		{"*-1\r\n", Value{Kind: '_'}},
		{"_\r\n", Value{Kind: '_'}},
		{"#t\r\n", Value{Kind: '#', Str: []byte("t"), Int: 1}},
		{",1.5\r\n", Value{Kind: ',', Str: []byte("1.5")}},
		{"=8\r\ntxt:abcd\r\n", Value{Kind: '=', Str: []byte("abcd")}},
		{"$?\r\n;2\r\nab\r\n;1\r\nc\r\n;0\r\n", bulk("abc")},
		{"|1\r\n+ttl\r\n:1\r\n+OK\r\n", Value{Kind: '+', Str: []byte("OK")}},
		{"%1\r\n+a\r\n+b\r\n", Value{Kind: '%', Elems: []Value{{Kind: '+', Str: []byte("a")}, {Kind: '+', Str: []byte("b")}}}},
	} {
		got, n, err := Parse([]byte(test.in + "+rest\r\n"))
		if err != nil || n != len(test.in) || !reflect.DeepEqual(got, test.want) {
			t.Errorf("Parse(%q) = %+v, %d, %v; want %+v, %d", test.in, got, n, err, test.want, len(test.in))
		}
		for cut := range len(test.in) {
			if _, n, err := Parse([]byte(test.in[:cut])); n != 0 || err != nil {
				t.Errorf("Parse(%q), a part, = %d, %v; want 0", test.in[:cut], n, err)
			}
		}
	}
}

func TestParseAgreesWithScanOnEveryType(t *testing.T) {
	for _, in := range wholeReplies {
		if _, n, err := Parse([]byte(in + "+rest\r\n")); n != len(in) || err != nil {
			t.Errorf("Parse(%q) = %d, %v; want %d", in, n, err, len(in))
		}
	}
}

func TestErrorCodeLooksThroughWrappers(t *testing.T) {
	for _, test := range []struct{ in, want string }{
		{"-READONLY You can't write against a read only replica.\r\n", "READONLY"},
		{"-ERR unknown command\r\n", "ERR"},
		{"-NOAUTH\r\n", "NOAUTH"},
		{"!21\r\nSYNTAX invalid syntax\r\n", "SYNTAX"},
		{"-ERR Error running script (call to f_0): @user_script:1: @user_script: 1: -READONLY You can't write against a read only replica.\r\n", "READONLY"},
		{"-ERR Error running script (call to f_0): @user_script:1: user_script:1: attempt to index nil: -x\r\n", "ERR"},
		{"-ERR unknown command 'x', with args beginning with: ': -READONLY You'\r\n", "ERR"},
		{"-EXECABORT Transaction discarded because of: READONLY You can't write against a read only replica.\r\n", "READONLY"},
		{"-EXECABORT Transaction discarded because of previous errors.\r\n", "EXECABORT"},
	} {
		if got := string(ErrorCode([]byte(test.in))); got != test.want {
			t.Errorf("ErrorCode(%q) = %q, want %q", test.in, got, test.want)
		}
	}
	for _, in := range []string{"", "+OK\r\n", "$3\r\n-ER\r\n", "*1\r\n-ERR x\r\n"} {
		if got := ErrorCode([]byte(in)); got != nil {
			t.Errorf("ErrorCode(%q) = %q, want nil", in, got)
		}
	}
}

func TestIsPushSeesPushesBehindAttributes(t *testing.T) {
	for in, want := range map[string]bool{
		">1\r\n+a\r\n": true, "|1\r\n+a\r\n+b\r\n>1\r\n+a\r\n": true,
		"+OK\r\n": false, "|1\r\n+a\r\n+b\r\n*1\r\n+a\r\n": false, "": false,
	} {
		if got := IsPush([]byte(in)); got != want {
			t.Errorf("IsPush(%q) = %v, want %v", in, got, want)
		}
	}
}

func TestAppendedFramesAreFoundAgain(t *testing.T) {
	command := AppendCommand(nil, "SET", "k", "a\r\nb")
	if twin := AppendCommandBytes(nil, []byte("SET"), []byte("k"), []byte("a\r\nb")); string(twin) != string(command) {
		t.Errorf("AppendCommandBytes gives %q, AppendCommand %q", twin, command)
	}
	var s CommandScanner
	if n, args, err := s.Scan(command, nil); n != len(command) || err != nil || words(args) != "SET|k|a\r\nb" {
		t.Errorf("Scan(%q) = %d, %q, %v", command, n, words(args), err)
	}
	reply := AppendArray(nil, 6)
	reply = AppendError(reply, "ERR two\r\nlines")
	reply = AppendSimple(reply, "OK")
	reply = AppendBulk(reply, []byte("a\r\n"))
	reply = AppendInt(reply, -7)
	reply = AppendNull(reply, 2)
	reply = AppendNull(reply, 3)
	want := Value{Kind: '*', Elems: []Value{{Kind: '-', Str: []byte("ERR two  lines")}, {Kind: '+', Str: []byte("OK")},
		{Kind: '$', Str: []byte("a\r\n")}, {Kind: ':', Str: []byte("-7"), Int: -7}, {Kind: '_'}, {Kind: '_'}}}
	if got, n, err := Parse(reply); err != nil || n != len(reply) || !reflect.DeepEqual(got, want) {
		t.Errorf("Parse(%q) = %+v, %d, %v; want %+v", reply, got, n, err, want)
	}
}
