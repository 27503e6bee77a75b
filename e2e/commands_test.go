package e2e

import (
	"bufio"
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gomodule/redigo/redis"
)

// speaker is a client that says and hears lines, on one socket that it never gives up.
type speaker struct {
	t     *testing.T
	conn  net.Conn
	r     *bufio.Reader
	other redis.Conn // another client of the same endpoint
	proto int
	name  string // of its keys, channels and functions
	note  string // what before tells after
}

// say sends an inline command; %k in it stands for a key of its own.
func (s *speaker) say(lines ...string) {
	s.t.Helper()
	for _, line := range lines {
		if _, err := fmt.Fprintf(s.conn, "%s\r\n", strings.ReplaceAll(line, "%k", s.name)); err != nil {
			s.t.Errorf("%s: %v", line, err)
		}
	}
}

// hear reads a line for each that is wanted; %k as above, %> and %0 are how a message and a null begin.
func (s *speaker) hear(want ...string) {
	s.t.Helper()
	push, null := "*", "$-1"
	if s.proto == 3 {
		push, null = ">", "_"
	}
	short := strings.NewReplacer("%k", s.name, "%l", "$"+strconv.Itoa(len(s.name)), "%>", push, "%0", null)
	for i, w := range want {
		if got := s.line(); got != short.Replace(w) {
			s.t.Fatalf("line %d of %d is %q, want %q", i+1, len(want), got, short.Replace(w))
		}
	}
}

func (s *speaker) line() string {
	s.t.Helper()
	line, err := s.r.ReadString('\n')
	if err != nil {
		s.t.Fatal(err)
	}
	return strings.TrimSuffix(line, "\r\n")
}

// both says a line and hears its answer.
func (s *speaker) both(line string, want ...string) {
	s.t.Helper()
	s.say(line)
	s.hear(want...)
}

// do is the other client's; %k as above.
func (s *speaker) do(line string) any {
	s.t.Helper()
	words := strings.Fields(strings.ReplaceAll(line, "%k", s.name))
	args := make([]any, len(words)-1)
	for i, w := range words[1:] {
		args[i] = w
	}
	return do(s.t, s.other, words[0], args...)
}

// heard waits until somebody is subscribed, as PUBSUB tells, and publishes.
func (s *speaker) heard(count, publish string) {
	s.t.Helper()
	eventually(s.t, "a subscriber", func() error {
		if n := fmt.Sprint(s.do(count)); !strings.HasSuffix(n, "1]") && n != "1" {
			return fmt.Errorf("%s: %s", count, n)
		}
		return nil
	})
	s.do(publish)
}

// sessionCommand is what a client does before the primary changes, and what it must see afterwards.
type sessionCommand struct {
	name          string
	before, after func(s *speaker)
	blocks        bool // before leaves the client blocked on the primary
	resp3         bool // only
}

const script = "return redis.call('INCRBY',KEYS[1],ARGV[1])"

func sha(text string) string {
	sum := sha1.Sum([]byte(text))
	return hex.EncodeToString(sum[:])
}

// waits is a command that blocks until another client does something.
func waits(name, line, then string, want2, want3 []string) sessionCommand {
	return sessionCommand{name: name, blocks: true,
		before: func(s *speaker) { s.say(line) },
		after: func(s *speaker) {
			s.do(then)
			if s.proto == 3 {
				s.hear(want3...)
			} else {
				s.hear(want2...)
			}
			s.both("PING", "+PONG")
		}}
}

// sessionCommands are those whose effect lies in the session: each must be found again behind any change.
func sessionCommands() []sessionCommand {
	popped := []string{"*2", "%l", "%k", "$1", "x"}
	all := []sessionCommand{
		waits("BLPOP", "BLPOP %k 0", "RPUSH %k x", popped, popped),
		waits("BRPOP", "BRPOP %k 100", "RPUSH %k x", popped, popped),
		waits("BLMOVE", "BLMOVE %k %k:to LEFT LEFT 0", "RPUSH %k x", []string{"$1", "x"}, []string{"$1", "x"}),
		waits("BRPOPLPUSH", "BRPOPLPUSH %k %k:to 100", "RPUSH %k x", []string{"$1", "x"}, []string{"$1", "x"}),
		waits("BLMPOP", "BLMPOP 0 1 %k LEFT", "RPUSH %k x", []string{"*2", "%l", "%k", "*1", "$1", "x"}, []string{"*2", "%l", "%k", "*1", "$1", "x"}),
		waits("BZPOPMIN", "BZPOPMIN %k 0", "ZADD %k 1 x", []string{"*3", "%l", "%k", "$1", "x", "$1", "1"}, []string{"*3", "%l", "%k", "$1", "x", ",1"}),
		waits("BZPOPMAX", "BZPOPMAX %k 100", "ZADD %k 1 x", []string{"*3", "%l", "%k", "$1", "x", "$1", "1"}, []string{"*3", "%l", "%k", "$1", "x", ",1"}),
		waits("BZMPOP", "BZMPOP 0 1 %k MIN", "ZADD %k 1 x", []string{"*2", "%l", "%k", "*1", "*2", "$1", "x", "$1", "1"}, []string{"*2", "%l", "%k", "*1", "*2", "$1", "x", ",1"}),
		waits("XREAD", "XREAD BLOCK 0 STREAMS %k $", "XADD %k 5-1 f v",
			[]string{"*1", "*2", "%l", "%k", "*1", "*2", "$3", "5-1", "*2", "$1", "f", "$1", "v"}, []string{"%1", "%l", "%k", "*1", "*2", "$3", "5-1", "*2", "$1", "f", "$1", "v"}),
		waits("WAIT", "WAIT 9 1500", "PING", []string{":2"}, []string{":2"}),
	}
	last := &all[len(all)-1] // how many replicas there are then is not its affair
	last.after = func(s *speaker) {
		if line := s.line(); line[0] != ':' {
			s.t.Errorf("WAIT: %q", line)
		}
	}
	group := waits("XREADGROUP", "XREADGROUP GROUP g me BLOCK 0 STREAMS %k >", "XADD %k 5-1 f v",
		[]string{"*1", "*2", "%l", "%k", "*1", "*2", "$3", "5-1", "*2", "$1", "f", "$1", "v"}, []string{"%1", "%l", "%k", "*1", "*2", "$3", "5-1", "*2", "$1", "f", "$1", "v"})
	group.before = func(s *speaker) {
		s.do("XGROUP CREATE %k g $ MKSTREAM")
		s.say("XREADGROUP GROUP g me BLOCK 0 STREAMS %k >")
	}
	all = append(append(all, group), transactions()...)
	return append(append(all, subscriptions()...), connections()...)
}

func transactions() []sessionCommand {
	watch := func(name string, before, after []string, want ...string) sessionCommand {
		return sessionCommand{name: name,
			before: func(s *speaker) {
				for _, line := range before {
					s.say(line)
					s.line()
				}
			},
			after: func(s *speaker) { s.say(after...); s.hear(want...) }}
	}
	nilExec := func(s *speaker) {
		if got := s.line(); got != map[int]string{2: "*-1", 3: "_"}[s.proto] {
			s.t.Fatalf("EXEC answers %q, want nil: nobody can vouch for the watched key", got)
		}
	}
	all := []sessionCommand{
		watch("MULTI", []string{"MULTI", "INCRBY %k 3"}, []string{"INCRBY %k 4", "EXEC"}, "+QUEUED", "*2", ":3", ":7"),
		watch("MULTI with SELECT", []string{"MULTI", "SET %k 1", "SELECT 9", "SET %k 2"}, []string{"EXEC", "GET %k", "SELECT 0", "GET %k"},
			"*3", "+OK", "+OK", "+OK", "$1", "2", "+OK", "$1", "1"),
		watch("MULTI, SELECT and DISCARD", []string{"MULTI", "SELECT 9"}, []string{"DISCARD", "SET %k 1", "SELECT 0", "GET %k"}, "+OK", "+OK", "+OK", "$1", "1"),
		watch("MULTI with what fails", []string{"MULTI", "NOSUCH"}, []string{"SET %k 1", "EXEC", "EXISTS %k"}, "+QUEUED", "-EXECABORT Transaction discarded because of previous errors.", ":0"),
		watch("MULTI with CLIENT REPLY", []string{"MULTI", "CLIENT REPLY OFF"}, []string{"EXEC", "PING", "CLIENT REPLY ON"}, "*1", "+OK", "+OK"),
		watch("UNWATCH", []string{"WATCH %k"}, []string{"UNWATCH", "MULTI", "SET %k 1", "EXEC"}, "+OK", "+OK", "+QUEUED", "*1", "+OK"),
		watch("UNWATCH before", []string{"WATCH %k", "UNWATCH", "MULTI"}, []string{"SET %k 1", "EXEC"}, "+QUEUED", "*1", "+OK"),
		watch("DISCARD", []string{"WATCH %k", "MULTI", "SET %k 1"}, []string{"DISCARD", "MULTI", "SET %k 2", "EXEC"}, "+OK", "+OK", "+QUEUED", "*1", "+OK"),
		watch("EVALSHA in MULTI", []string{"SCRIPT LOAD \"" + script + "\"", "PING", "MULTI", "EVALSHA " + sha(script) + " 1 %k 5"}, []string{"EXEC"}, "*1", ":5"),
	}
	all[len(all)-1].before = func(s *speaker) {
		s.both(`SCRIPT LOAD "`+script+`"`, "$40", sha(script))
		s.both("MULTI", "+OK")
		s.both("EVALSHA "+sha(script)+" 1 %k 5", "+QUEUED")
	}
	for name, before := range map[string][]string{
		"WATCH": {"WATCH %k"}, "WATCH and MULTI": {"WATCH %k", "MULTI"}, "WATCH in another database": {"SELECT 7", "WATCH %k", "SELECT 0"},
		"WATCH and EXEC without MULTI": {"WATCH %k", "EXEC"},
	} {
		c := watch(name, before, nil)
		c.after = func(s *speaker) {
			if name != "WATCH and MULTI" {
				s.both("MULTI", "+OK")
			}
			s.say("SET %k 1", "EXEC")
			s.hear("+QUEUED")
			nilExec(s)
			s.both("EXISTS %k", ":0")
			s.say("WATCH %k", "MULTI", "SET %k 2", "EXEC", "GET %k")
			s.hear("+OK", "+OK", "+QUEUED", "*1", "+OK", "$1", "2")
		}
		all = append(all, c)
	}
	return all
}

func subscriptions() []sessionCommand {
	return []sessionCommand{
		{name: "SUBSCRIBE",
			before: func(s *speaker) { s.both("SUBSCRIBE %k", "%>3", "$9", "subscribe", "%l", "%k", ":1") },
			after: func(s *speaker) {
				s.heard("PUBSUB NUMSUB %k", "PUBLISH %k x")
				s.hear("%>3", "$7", "message", "%l", "%k", "$1", "x")
				s.both("UNSUBSCRIBE", "%>3", "$11", "unsubscribe", "%l", "%k", ":0")
				s.both("GET %k", "%0")
			}},
		{name: "PSUBSCRIBE",
			before: func(s *speaker) {
				s.both("PSUBSCRIBE %k*", "%>3", "$10", "psubscribe", "$"+strconv.Itoa(len(s.name)+1), "%k*", ":1")
				s.both("SUBSCRIBE %k", "%>3", "$9", "subscribe", "%l", "%k", ":2")
			},
			after: func(s *speaker) {
				s.heard("PUBSUB NUMSUB %k", "PUBLISH %k:1 x")
				s.hear("%>4", "$8", "pmessage", "$"+strconv.Itoa(len(s.name)+1), "%k*", "$"+strconv.Itoa(len(s.name)+2), "%k:1", "$1", "x")
				s.both("UNSUBSCRIBE %k", "%>3", "$11", "unsubscribe", "%l", "%k", ":1")
				s.both("RESET", "+RESET")
			}},
		{name: "SSUBSCRIBE",
			before: func(s *speaker) { s.both("SSUBSCRIBE %k", "%>3", "$10", "ssubscribe", "%l", "%k", ":1") },
			after: func(s *speaker) {
				s.heard("PUBSUB SHARDNUMSUB %k", "SPUBLISH %k x")
				s.hear("%>3", "$8", "smessage", "%l", "%k", "$1", "x")
				s.both("SUNSUBSCRIBE %k", "%>3", "$12", "sunsubscribe", "%l", "%k", ":0")
			}},
		{name: "UNSUBSCRIBE",
			before: func(s *speaker) {
				s.both("SUBSCRIBE %k gone", "%>3", "$9", "subscribe", "%l", "%k", ":1", "%>3", "$9", "subscribe", "$4", "gone", ":2")
				s.both("UNSUBSCRIBE gone", "%>3", "$11", "unsubscribe", "$4", "gone", ":1")
			},
			after: func(s *speaker) {
				s.heard("PUBSUB NUMSUB %k", "PUBLISH %k x")
				s.hear("%>3", "$7", "message", "%l", "%k", "$1", "x")
				if n := fmt.Sprint(s.do("PUBSUB NUMSUB gone")); !strings.HasSuffix(n, " 0]") {
					s.t.Errorf("subscribers of what was left: %s", n)
				}
			}},
		{name: "CLIENT TRACKING", resp3: true,
			before: func(s *speaker) {
				s.both("CLIENT TRACKING ON BCAST PREFIX %k:a", "+OK")
				s.both("CLIENT TRACKING ON BCAST PREFIX %k:b NOLOOP", "+OK")
			},
			after: func(s *speaker) {
				s.hear(">2", "$10", "invalidate", "_")
				for _, key := range []string{":a1", ":b1"} {
					s.do("SET %k" + key + " x")
					s.hear(">2", "$10", "invalidate", "*1", "$"+strconv.Itoa(len(s.name)+3), "%k"+key)
				}
				s.both("SET %k:a2 mine", "+OK") // NOLOOP
				s.both("PING", "+PONG")
			}},
	}
}

func connections() []sessionCommand {
	hash := func(s *speaker) {
		s.both("HSET %k f v", ":1")
		s.both("HGETALL %k", map[int]string{2: "*2", 3: "%1"}[s.proto], "$1", "f", "$1", "v")
	}
	nothing := func(*speaker) {}
	skip := func(s *speaker) { // the answer to HELLO
		s.say("PING over")
		for s.line() != "over" {
		}
	}
	return []sessionCommand{
		{name: "HELLO", before: nothing, after: hash},
		{name: "HELLO and back", before: func(s *speaker) {
			s.say(fmt.Sprintf("HELLO %d", 5-s.proto), fmt.Sprintf("HELLO %d AUTH clerk pw SETNAME %%k", s.proto))
			skip(s)
		}, after: func(s *speaker) {
			hash(s)
			s.both("ACL WHOAMI", "$5", "clerk")
			s.both("CLIENT GETNAME", "%l", "%k")
		}},
		{name: "AUTH", before: func(s *speaker) { s.both("AUTH clerk pw", "+OK") }, after: func(s *speaker) { s.both("ACL WHOAMI", "$5", "clerk") }},
		{name: "SELECT", before: func(s *speaker) { s.both("SELECT 5", "+OK"); s.both("SET %k five", "+OK") }, after: func(s *speaker) { s.both("GET %k", "$4", "five") }},
		{name: "SWAPDB", before: func(s *speaker) {
			s.both(fmt.Sprintf("SELECT %d", 10+s.proto), "+OK")
			s.both("SET %k x", "+OK")
			s.both(fmt.Sprintf("SWAPDB %d %d", 10+s.proto, 8+s.proto), "+OK")
		}, after: func(s *speaker) { s.both(fmt.Sprintf("SELECT %d", 8+s.proto), "+OK"); s.both("GET %k", "$1", "x") }},
		{name: "CLIENT SETNAME, SETINFO and ID", before: func(s *speaker) {
			s.both("CLIENT SETNAME %k", "+OK")
			s.both("CLIENT SETINFO lib-name shop", "+OK")
			s.say("CLIENT ID")
			s.note = s.line()
		}, after: func(s *speaker) {
			s.both("CLIENT ID", s.note)
			s.say("CLIENT INFO")
			s.line()
			if line := s.line(); !strings.Contains(line, "id="+s.note[1:]+" ") || !strings.Contains(line, "lib-name=shop") || !strings.Contains(line, "name="+s.name) {
				s.t.Errorf("CLIENT INFO: %s", line)
			}
		}},
		{name: "CLIENT NO-EVICT", before: func(s *speaker) { s.both("CLIENT NO-EVICT ON", "+OK") }, after: func(s *speaker) { s.both("PING", "+PONG") }},
		{name: "CLIENT REPLY", before: func(s *speaker) { s.say("CLIENT REPLY OFF", "SET %k 1") },
			after: func(s *speaker) { s.say("SET %k 2", "CLIENT REPLY ON", "GET %k"); s.hear("+OK", "$1", "2") }},
		{name: "CLIENT KILL", before: nothing, after: func(s *speaker) {
			s.both("CLIENT KILL TYPE pubsub ID 999999", ":0")
			s.both("CLIENT PAUSE 1", "-ERR understudy: CLIENT PAUSE is refused: it acts on one server behind this endpoint, or would break the group; use the understudy command, or connect to the node itself")
		}},
		{name: "SCRIPT LOAD", before: func(s *speaker) { s.both(`SCRIPT LOAD "`+script+`"`, "$40", sha(script)) }, after: func(s *speaker) {
			s.both("SCRIPT EXISTS "+sha(script)+" "+sha("never"), "*2", ":1", ":0")
			s.both("EVALSHA "+sha(script)+" 1 %k 2", ":2")
			s.both("EVALSHA "+sha("never")+" 0", "-NOSCRIPT No matching script. Please use EVAL.")
		}},
		{name: "EVALSHA_RO", before: func(s *speaker) { s.both(`EVAL_RO "return ARGV[1]" 0 x`, "$1", "x") },
			after: func(s *speaker) { s.both("EVALSHA_RO "+sha("return ARGV[1]")+" 0 y", "$1", "y") }},
		{name: "FUNCTION LOAD", before: func(s *speaker) {
			fn := strings.ReplaceAll(s.name, ":", "_")
			body := "#!lua name=" + fn + "\\nredis.register_function('" + fn + "', function(keys, args) return redis.call('INCRBY', keys[1], args[1]) end)"
			s.both(`FUNCTION LOAD "`+body+`"`, "$"+strconv.Itoa(len(fn)), fn)
		}, after: func(s *speaker) { s.both("FCALL "+strings.ReplaceAll(s.name, ":", "_")+" 1 %k 4", ":4") }},
		{name: "RESET", before: func(s *speaker) { s.say("SELECT 4", "MULTI", "RESET"); s.hear("+OK", "+OK", "+RESET") },
			after: func(s *speaker) { s.both("SET %k x", "+OK"); s.do("SET %k:0 y"); s.both("GET %k:0", "$1", "y") }},
		{name: "OBJECT", before: func(s *speaker) { s.both("SET %k 12", "+OK") }, after: func(s *speaker) { s.both("OBJECT ENCODING %k", "$3", "int") }},
		{name: "QUIT", before: nothing, after: func(s *speaker) {
			s.both("QUIT", "+OK")
			if _, err := s.r.ReadByte(); err != io.EOF {
				s.t.Errorf("after QUIT: %v", err)
			}
		}},
	}
}

// Each command of a session, on a connection of its own, over a crash and over a switchover.
// UNDERSTUDY_SESSIONS=async does the same without waiting for replicas.
func TestEverySessionCommandOutlivesThePrimary(t *testing.T) {
	durability := "sync"
	if os.Getenv("UNDERSTUDY_SESSIONS") == "async" {
		durability = "async"
	}
	g := StartGroup(t, "--durability", durability)
	for _, change := range []struct {
		name string
		does func()
	}{
		{"crash", func() { g.crash() }},
		{"switchover", func() {
			if out, code := g.cli("switchover"); code != 0 {
				t.Fatalf("switchover: exit %d: %s", code, out)
			}
		}},
	} {
		s := g.WaitAvailable()
		for _, n := range s.Nodes { // users are not replicated
			do(t, dial(t, n.Addr), "ACL", "SETUSER", "clerk", "on", ">pw", "~*", "&*", "+@all")
		}
		type begun struct {
			sessionCommand
			*speaker
		}
		var all []begun
		blocked := 0
		for i, c := range sessionCommands() {
			for _, proto := range []int{2, 3} {
				if c.resp3 && proto == 2 {
					continue
				}
				x := newSpeaker(t, g.Primary, proto, fmt.Sprintf("%s:%d:%d", change.name, i, proto))
				t.Run(fmt.Sprintf("before a %s/%s/RESP%d", change.name, c.name, proto), func(t *testing.T) {
					x.t = t
					c.before(x)
				})
				if c.blocks {
					blocked++
				}
				all = append(all, begun{c, x})
			}
		}
		eventually(t, "blocked clients", func() error {
			if n := info(t, s.node(s.Primary).Addr, "clients", "blocked_clients"); n < blocked-2 { // WAIT may be over
				return fmt.Errorf("%d of %d are blocked", n, blocked)
			}
			return nil
		})
		change.does()
		for _, x := range all {
			t.Run(fmt.Sprintf("after a %s/%s/RESP%d", change.name, x.sessionCommand.name, x.proto), func(t *testing.T) {
				x.t = t
				x.after(x.speaker)
			})
		}
		for _, x := range all {
			_ = x.conn.Close()
			_ = x.other.Close()
		}
	}
}

func newSpeaker(t *testing.T, addr string, proto int, name string) *speaker {
	t.Helper()
	conn, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(2 * patience)); err != nil {
		t.Fatal(err)
	}
	s := &speaker{t: t, conn: conn, r: bufio.NewReader(conn), other: dial(t, addr), proto: proto, name: name}
	if proto == 3 {
		s.say("HELLO 3", "PING over")
		for s.line() != "over" {
		}
	}
	return s
}
