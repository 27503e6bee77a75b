package command

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// line splits a test's command at blanks; ” is an empty word.
func line(text string) [][]byte {
	var args [][]byte
	for _, word := range strings.Fields(text) {
		if word == "''" {
			word = ""
		}
		args = append(args, []byte(word))
	}
	return args
}

func TestLookupFindsEveryCommandInAnyCase(t *testing.T) {
	for _, want := range slices.Concat(table, later, ours) {
		words := strings.ReplaceAll(want.Name, "|", " ")
		for _, text := range []string{words, strings.ToUpper(words), strings.ToUpper(words[:1]) + words[1:]} {
			if got := Lookup(line(text)); got == nil || got.Name != want.Name {
				t.Errorf("Lookup(%q) = %v, want %s", text, got, want.Name)
			}
		}
	}
}

func TestLookupResolvesSubcommands(t *testing.T) {
	for _, test := range []struct{ in, want string }{
		{"CLIENT", "client"}, {"CLIENT SETNAME x", "client|setname"}, {"client nosuch", "client"},
		{"CLIENT SETINFO lib-name x", "client|setinfo"},
		{"GET SETNAME", "get"}, {"config SET a b", "config|set"},
		{"nosuch", ""}, {"client|setname", ""}, {"client|setname x", ""}, {"ge", ""}, {"getx", ""}, {"g\x05t k", ""},
		{"c\x4cient", "client"}, {"[et k", ""}, {strings.Repeat("x", 1000), ""}, {"client " + strings.Repeat("x", 1000), "client"},
	} {
		got := ""
		if i := Lookup(line(test.in)); i != nil {
			got = i.Name
		}
		if got != test.want {
			t.Errorf("Lookup(%.40q) = %q, want %q", test.in, got, test.want)
		}
	}
	if i := Lookup(nil); i != nil {
		t.Errorf("Lookup of nothing = %s, want nil", i.Name)
	}
}

// A long run of taken slots would make Lookup slow for some commands.
func TestIndexHasShortRuns(t *testing.T) {
	const longest = 6
	run := 0
	for _, i := range index {
		if run++; i == nil {
			run = 0
		}
		if run > longest {
			t.Fatalf("a run of more than %d slots up to %s: change the hash", longest, i.Name)
		}
	}
}

func TestLookupDoesNotAllocate(t *testing.T) {
	for _, text := range []string{"GET k", "CLIENT SETNAME x", "nosuch"} {
		args := line(text)
		if n := testing.AllocsPerRun(100, func() { Lookup(args) }); n != 0 {
			t.Errorf("Lookup(%s) allocates %v times", text, n)
		}
	}
}

func TestClassesAreOfCommandsThatExist(t *testing.T) {
	for name := range classes {
		if Lookup(line(strings.ReplaceAll(name, "|", " "))).Name != name {
			t.Errorf("classes names %s, which is no command", name)
		}
	}
	for _, test := range []struct {
		in   string
		want Class
	}{
		{"GET k", Shared}, {"PUBLISH c m", Shared}, {"CONFIG SET a b", Shared}, {"CLUSTER INFO", Shared}, {"CLUSTER SLOTS", Shared},
		{"HELLO 3", Session}, {"CLIENT ID", Session}, {"CLIENT SETINFO LIB-NAME x", Session}, {"SUBSCRIBE c", PubSub}, {"WATCH k", Transaction},
		{"MONITOR", Dedicated}, {"CLIENT NEWTHING", Dedicated}, {"SCRIPT KILL", Dedicated},
		{"SHUTDOWN", Refused}, {"CLUSTER NEWTHING", Refused}, {"CLUSTER RESET", Refused}, {"CLIENT UNPAUSE", Refused},
		{"BLPOP k 0", Blocking}, {"WAIT 1 0", Blocking}, {"WAITAOF 1 1 0", Blocking},
		{"XREAD STREAMS s 0", Shared}, {"XREAD BLOCK 5 STREAMS s 0", Blocking},
	} {
		args := line(test.in)
		if got := Lookup(args).ClassOf(args); got != test.want {
			t.Errorf("class of %s is %v, want %v", test.in, got, test.want)
		}
	}
	for c := Shared; c <= Refused; c++ {
		if strings.HasPrefix(c.String(), "Class(") {
			t.Errorf("class %d has no name", c)
		}
	}
}

func TestTimeoutIsFoundInEveryBlockingCommand(t *testing.T) {
	for _, test := range []struct{ in, want string }{
		{"BLPOP a b 1.5", "3 1s true"}, {"BRPOP a 1", "2 1s true"}, {"BZPOPMIN a 1", "2 1s true"}, {"BZPOPMAX a b 1", "3 1s true"},
		{"BLMOVE a b LEFT RIGHT 2", "5 1s true"}, {"BRPOPLPUSH a b 2", "3 1s true"},
		{"BLMPOP 3 1 a LEFT", "1 1s true"}, {"BZMPOP 3 1 a MIN COUNT 2", "1 1s true"},
		{"WAIT 1 100", "2 1ms true"}, {"WAITAOF 1 1 100", "3 1ms true"},
		{"XREAD COUNT 2 BLOCK 100 STREAMS block 0", "4 1ms true"},
		{"XREADGROUP GROUP block c BLOCK 7 NOACK STREAMS s >", "5 1ms true"},
		{"XREADGROUP GROUP block c STREAMS s >", "0 1ms false"},
		{"XREAD STREAMS block 0", "0 1ms false"},
		{"XREAD COUNT block STREAMS s 0", "0 1ms false"},
		{"BLPOP a", "0 0s false"}, {"GET a", "0 0s false"}, {"WAIT 1", "0 0s false"},
	} {
		args := line(test.in)
		i := Lookup(args)
		index, unit, ok := i.Timeout(args)
		if got := fmt.Sprintf("%d %v %v", index, unit, ok); got != test.want {
			t.Errorf("Timeout of %s is %s, want %s", test.in, got, test.want)
		}
		if ok && !i.Blocks(args) {
			t.Errorf("%s has a timeout and does not block", test.in)
		}
	}
}

func TestConfigOfTheGroupIsRefused(t *testing.T) {
	for _, test := range []struct{ in, want string }{
		{"CONFIG SET appendonly no", "appendonly"}, {"config set Save ''", "save"},
		{"CONFIG SET maxmemory 1 MIN-REPLICAS-TO-WRITE 0", "min-replicas-to-write"},
		{"CONFIG SET slave-read-only no", "slave-read-only"}, {"CONFIG SET repl-timeout 1", "repl-timeout"},
		{"CONFIG SET proto-max-bulk-len 1mb", "proto-max-bulk-len"}, {"CONFIG SET client-query-buffer-limit 1mb", "client-query-buffer-limit"},
		{"CONFIG SET maxmemory 1", ""}, {"CONFIG SET notify-keyspace-events dir", ""}, {"CONFIG GET dir", ""},
		{"CONFIG SET saver 1", ""}, {"CONFIG SET dir", "dir"}, {"SET dir x", ""},
	} {
		if name, refused := RefusedConfig(line(test.in), nil); name != test.want || refused != (test.want != "") {
			t.Errorf("RefusedConfig(%s) = %q, %v; want %q", test.in, name, refused, test.want)
		}
	}
}

func TestAllowedSettingDoesNotLetOthersThrough(t *testing.T) {
	allowed := map[string]bool{"maxclients": true}
	if name, refused := RefusedConfig(line("CONFIG SET MaxClients 5 maxmemory 1"), allowed); refused {
		t.Errorf("%s is refused although it is allowed", name)
	}
	if name, refused := RefusedConfig(line("CONFIG SET maxclients 5 dir /tmp"), allowed); name != "dir" || !refused {
		t.Errorf("dir behind an allowed setting: %q, %v", name, refused)
	}
}

func TestScriptsAreThoseThatMayWrite(t *testing.T) {
	for text, want := range map[string]bool{
		"EVAL x 0": true, "EVALSHA x 0": true, "FCALL f 0": true,
		"EVAL_RO x 0": false, "FCALL_RO f 0": false, "SCRIPT LOAD x": false, "GET k": false,
	} {
		if got := Lookup(line(text)).Script(); got != want {
			t.Errorf("Script of %s is %v, want %v", text, got, want)
		}
	}
}

func TestCrossProtocolSeesRequestsOfABrowser(t *testing.T) {
	for text, want := range map[string]bool{
		"POST / HTTP/1.1": true, "Host: localhost:7379": true, "GET / HTTP/1.1": false, "SET post x": false, "": false,
	} {
		if got := CrossProtocol(line(text)); got != want {
			t.Errorf("CrossProtocol(%s) is %v, want %v", text, got, want)
		}
	}
	for text, want := range map[string]bool{
		"POST / HTTP/1.1": true, "Host: localhost:7379": true, "GET / HTTP/1.1": true, "OPTIONS * http/1.0": true, "GET HTTP/1.1": false,
		"SET k HTTP": false, "SET k v": false, "": false,
	} {
		if got := HTTP(line(text)); got != want {
			t.Errorf("HTTP(%s) is %v, want %v", text, got, want)
		}
	}
}

func BenchmarkLookup(b *testing.B) {
	for _, text := range []string{"GET k", "SET k v", "HINCRBYFLOAT k f 1", "CLIENT SETNAME x", "nosuch"} {
		b.Run(strings.Fields(text)[0], func(b *testing.B) {
			args := line(text)
			b.ReportAllocs()
			for b.Loop() {
				Lookup(args)
			}
		})
	}
}
