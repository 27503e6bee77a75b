package command

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"understudy/command/source"
)

// startServer starts a real redis-server for the test.
func startServer(t *testing.T) *source.Server {
	t.Helper()
	server, err := source.Start("redis-server")
	if errors.Is(err, source.ErrMissing) && os.Getenv("CI") == "" {
		t.Skipf("NOT COMPARED WITH A REAL SERVER: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	})
	return server
}

func TestTableIsWhatTheServerSays(t *testing.T) {
	server := startServer(t)
	version, err := server.Version()
	if err != nil {
		t.Fatal(err)
	}
	commands, err := server.Commands()
	if err != nil {
		t.Fatal(err)
	}
	if len(commands) < 240 {
		t.Fatalf("%s gives only %d commands", version, len(commands))
	}
	if version != tableVersion {
		compareOtherVersion(t, version, commands)
		return
	}
	if len(commands) != len(table) {
		t.Errorf("the server has %d commands, the table %d: run go generate ./command", len(commands), len(table))
	}
	for k, c := range commands[:min(len(commands), len(table))] {
		i := table[k]
		if i.Name != c.Name || i.Arity != c.Arity || i.FirstKey != c.FirstKey || i.LastKey != c.LastKey || i.Step != c.Step {
			t.Errorf("the server has %+v, the table %+v: run go generate ./command", c, i)
		}
		for flag, name := range flagsToCompare {
			if i.Flags.Has(flag) != slices.Contains(c.Flags, name) {
				t.Errorf("%s: the server has flags %v, the table %b: run go generate ./command", c.Name, c.Flags, i.Flags)
			}
		}
	}
}

// flagsToCompare are those that the proxy's decisions rest on.
var flagsToCompare = map[Flags]string{
	Write: "write", ReadOnly: "readonly", Admin: "admin", PubSubFlag: "pubsub", BlockingFlag: "blocking",
	Loading: "loading", Stale: "stale", Movable: "movablekeys", Container: "container", NoMulti: "no_multi",
}

// spaced is a command's name as clients send it.
func spaced(name string) string { return strings.ReplaceAll(name, "|", " ") }

// compareOtherVersion: what a command does to the data must be the same in
// every version; commands that the table does not have are told.
func compareOtherVersion(t *testing.T, version string, commands []source.Command) {
	t.Logf("the table is of %s, the server is %s", tableVersion, version)
	for _, c := range commands {
		i := Lookup(line(strings.ReplaceAll(c.Name, "|", " ")))
		if i == nil || i.Name != c.Name {
			t.Logf("no entry for %s", c.Name)
			continue
		}
		if i.Flags.Has(Write) != slices.Contains(c.Flags, "write") {
			t.Errorf("%s: the server has flags %v, the table %b", c.Name, c.Flags, i.Flags)
		}
	}
}

// keyExamples are commands, and whether Keys knows all their keys.
var keyExamples = []struct {
	in    string
	known bool
}{
	{"GET a", true}, {"MGET a b c", true}, {"MSET a 1 b 2", true}, {"DEL a b", true}, {"SET a b EX 5", true},
	{"RENAME a b", true}, {"LMOVE a b LEFT RIGHT", true}, {"BLMOVE a b LEFT RIGHT 0", true}, {"BRPOPLPUSH a b 0", true},
	{"BLPOP a b 0", true}, {"BZPOPMIN a b 0", true}, {"LCS a b", true}, {"BITOP AND a b c", true}, {"PFMERGE a b c", true},
	{"SINTERSTORE a b c", true}, {"SMOVE a b m", true}, {"GEOSEARCHSTORE a b FROMMEMBER m BYRADIUS 1 km", true},
	{"ZRANGESTORE a b 0 -1", true}, {"XADD s * f v", true}, {"WATCH a b", true}, {"EXISTS a b", true},
	{"EVAL x 2 a b c", true}, {"EVAL x 0", true}, {"EVALSHA x 1 a", true}, {"EVAL_RO x 1 a b", true}, {"EVALSHA_RO x 1 a", true},
	{"FCALL f 1 a b", true}, {"FCALL_RO f 2 a b", true},
	{"ZUNION 2 a b WEIGHTS 1 2", true}, {"ZINTER 1 a", true}, {"ZDIFF 2 a b WITHSCORES", true},
	{"ZUNIONSTORE d 2 a b AGGREGATE MAX", true}, {"ZINTERSTORE d 1 a", true}, {"ZDIFFSTORE d 2 a b", true},
	{"ZINTERCARD 2 a b LIMIT 1", true}, {"SINTERCARD 2 a b", true},
	{"LMPOP 2 a b LEFT", true}, {"BLMPOP 0 2 a b LEFT COUNT 2", true}, {"ZMPOP 1 a MIN", true}, {"BZMPOP 0 2 a b MAX", true},
	{"XREAD STREAMS a b 0 0", true}, {"XREAD COUNT 2 BLOCK 0 STREAMS a $", true}, {"XREAD STREAMS streams 0", true},
	{"XREADGROUP GROUP g c COUNT 1 NOACK STREAMS a b > >", true}, {"XREADGROUP GROUP streams c STREAMS a >", true},
	{"SORT a", true}, {"SORT a LIMIT 0 1 ALPHA STORE b", true}, {"SORT a BY nosort STORE b DESC", true},
	{"SORT a BY w_* GET # GET d_* STORE b", false}, {"SORT_RO a GET d_*", false}, {"SORT_RO a GET #", true},
	{"GEORADIUS a 1 2 3 km", true}, {"GEORADIUS a 1 2 3 km COUNT 2 STORE b", true}, {"GEORADIUS a 1 2 3 km STORE b STOREDIST c", true},
	{"GEORADIUSBYMEMBER a m 3 km STOREDIST b", true}, {"GEORADIUSBYMEMBER a store 3 km ASC", true},
	{"MIGRATE h 1 a 0 10", true}, {"MIGRATE h 1 '' 0 10 COPY AUTH keys KEYS a b", true}, {"MIGRATE h 1 '' 0 10 AUTH2 keys keys KEYS a", true},
	{"OBJECT ENCODING a", true}, {"MEMORY USAGE a SAMPLES 5", true}, {"XINFO STREAM a FULL", true},
	{"XGROUP CREATE a g $", true}, {"XGROUP CREATECONSUMER a g c", true}, {"COPY a b REPLACE", true},
	{"COPY a b DB 1", false}, {"MOVE a 1", false}, {"PFDEBUG ENCODING a", true}, {"GETEX a EX 5", true}, {"HSCAN a 0", true},
}

func TestKeysAreThoseOfCommandGetkeys(t *testing.T) {
	server := startServer(t)
	for _, example := range keyExamples {
		args := line(example.in)
		var got []string
		known := Lookup(args).Keys(args, func(key []byte) { got = append(got, string(key)) })
		if known != example.known {
			t.Errorf("Keys of %s: known is %v, want %v", example.in, known, example.known)
		}
		words := []string{"COMMAND", "GETKEYS"}
		for _, arg := range args {
			words = append(words, string(arg))
		}
		reply, err := server.Ask(words...)
		if err != nil && err.Error() != "ERR The command has no key arguments" {
			t.Errorf("COMMAND GETKEYS %s: %v", example.in, err)
			continue
		}
		var want []string
		list, _ := reply.([]any)
		for _, key := range list {
			want = append(want, key.(string))
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("Keys of %s are %q, the server says %q", example.in, got, want)
		}
	}
}

// Every command whose keys COMMAND calls movable has an example.
func TestKeyExamplesCoverAllMovableCommands(t *testing.T) {
	covered := map[string]bool{}
	for _, example := range keyExamples {
		covered[Lookup(line(example.in)).Name] = true
	}
	for _, i := range table {
		if i.Flags.Has(Movable) && !covered[i.Name] {
			t.Errorf("no key example for %s, whose keys move", i.Name)
		}
	}
}

func TestKeysOfTheWholeDatabaseAreNotKnown(t *testing.T) {
	for text, want := range map[string]bool{
		"FLUSHALL": false, "FLUSHDB ASYNC": false, "SWAPDB 0 1": false, "KEYS *": false, "SCAN 0": false, "DBSIZE": false, "RANDOMKEY": false,
		"GET": false, "EVAL x y": false, "EVAL x -1": false, "EVAL x 2 a": false, "ZUNION 99999999999999999999 a": false, "XREAD STREAMS a b 0": false, "XREAD COUNT 1 a 0": false,
		"PING": true, "PUBLISH c m": true, "SSUBSCRIBE c": true, "SPUBLISH c m": true, "CONFIG SET a b": true, "FUNCTION LOAD x": true, "CLIENT SETNAME x": true,
	} {
		args := line(text)
		called := false
		if known := Lookup(args).Keys(args, func([]byte) { called = true }); known != want || called {
			t.Errorf("Keys of %s: known %v, called %v; want %v and no call", text, known, called, want)
		}
	}
}

// ask sends a command in the notation of line and gives its reply as text.
func ask(t *testing.T, server *source.Server, text string) string {
	t.Helper()
	return askWords(t, server, line(text))
}

// askWords sends a command and gives its reply as text, "-…" for an error.
func askWords(t *testing.T, server *source.Server, args [][]byte) string {
	t.Helper()
	var words []string
	for _, arg := range args {
		words = append(words, string(arg))
	}
	reply, err := server.Ask(words...)
	if err == nil {
		return fmt.Sprintf("%v", reply)
	}
	var said source.Reply
	if !errors.As(err, &said) {
		t.Fatalf("%s: %v", words, err)
	}
	return "-" + said.Error()
}
