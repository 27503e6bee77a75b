package proxy

import (
	"strconv"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

func itoa(n int64) string { return strconv.FormatInt(n, 10) }

// Clients are shown each other, and can end each other, but never what they share.
func TestClientsKnowEachOtherByTheProxysNumbers(t *testing.T) {
	for _, proto := range []int{2, 3} {
		g, a, _ := pair(t)
		addr := g.proxy.Addrs().Primary
		c := dialRedis(t, addr, proto).Conn()
		defer c.Close()
		must(t, c.ClientSetName(ctx, "asker").Err())
		must(t, c.Do(ctx, "CLIENT", "SETINFO", "lib-name", "mine").Err())
		victim := dialTalker(t, addr)
		victim.say("SUBSCRIBE news")
		victim.hear("*3", "$9", "subscribe", "$4", "news", ":1")
		list := c.ClientList(ctx).Val()
		lines := strings.Split(strings.TrimSpace(list), "\n")
		if len(lines) != 2 || !strings.Contains(lines[0], " name=asker ") || !strings.Contains(lines[0], " lib-name=mine ") ||
			!strings.Contains(lines[0], " resp="+strconv.Itoa(proto)+" ") || !strings.Contains(lines[1], " flags=P ") || strings.Contains(list, "ep-") {
			t.Errorf("RESP%d: CLIENT LIST:\n%s", proto, list)
		}
		if me, err := c.Do(ctx, "CLIENT", "INFO").Text(); err != nil || !strings.HasPrefix(me, "id="+itoa(c.ClientID(ctx).Val())+" ") {
			t.Errorf("CLIENT INFO: %q, %v", me, err)
		}
		if one := c.Do(ctx, "CLIENT", "LIST", "TYPE", "pubsub").String(); strings.Count(one, "id=") != 1 {
			t.Errorf("TYPE pubsub: %s", one)
		}
		lanes := a.client.ClientList(ctx).Val()
		if n, err := c.Do(ctx, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes").Int(); n != 0 || err != nil {
			t.Errorf("KILL of everybody else that is normal: %d, %v", n, err)
		}
		if n, err := c.Do(ctx, "CLIENT", "KILL", "ADDR", victim.LocalAddr().String()).Int(); n != 1 || err != nil {
			t.Errorf("KILL ADDR: %d, %v", n, err)
		}
		if _, err := victim.r.ReadByte(); err == nil {
			t.Error("the victim was not cut")
		}
		if err := c.Do(ctx, "CLIENT", "KILL", "127.0.0.1:1").Err(); err == nil || err.Error() != "ERR No such client" {
			t.Errorf("KILL of nobody: %v", err)
		}
		for line := range strings.Lines(lanes) {
			id, _, _ := strings.Cut(line, " ")
			if strings.Contains(line, "cmd=client|kill") || strings.Contains(line, "sub=1") {
				continue
			}
			if !strings.Contains(a.client.ClientList(ctx).Val(), id+" ") {
				t.Errorf("a connection of the proxy is gone: %s", line)
			}
		}
		if n, err := c.Do(ctx, "CLIENT", "KILL", "ID", itoa(c.ClientID(ctx).Val()), "SKIPME", "no").Int(); n != 1 || err != nil {
			t.Errorf("KILL of itself: %d, %v", n, err)
		}
		if err := c.Ping(ctx).Err(); err == nil {
			t.Error("and it lives")
		}
	}
}

// Who may do that on the server may do it here, and nobody else.
func TestKillNeedsTheServersConsent(t *testing.T) {
	g, a, _ := pair(t)
	must(t, a.client.Do(ctx, "ACL", "SETUSER", "clerk", "on", ">secret", "~*", "+get", "+hello", "+auth").Err())
	addr := g.proxy.Addrs().Primary
	c := goredis.NewClient(&goredis.Options{Addr: addr, Username: "clerk", Password: "secret", MaxRetries: -1, DisableIdentity: true})
	defer c.Close()
	must(t, dialRedis(t, addr, 2).Ping(ctx).Err())
	for _, args := range [][]any{{"CLIENT", "LIST"}, {"CLIENT", "KILL", "TYPE", "normal"}, {"CLIENT", "UNBLOCK", "1"}} {
		if err := c.Do(ctx, args...).Err(); err == nil || !strings.HasPrefix(err.Error(), "NOPERM") {
			t.Errorf("%v: %v, want NOPERM", args, err)
		}
	}
}

func TestBlockedClientIsUnblockedByItsNumber(t *testing.T) {
	g, a, b := pair(t)
	addr := g.proxy.Addrs().Primary
	other := dialRedis(t, addr, 2)
	c := dialTalker(t, addr)
	c.say("CLIENT ID")
	line, err := c.r.ReadString('\n')
	must(t, err)
	id := strings.TrimSpace(line)[1:]
	unblock := func(n *node, how, want string) {
		t.Helper()
		c.say("BLPOP list 0")
		eventually(t, "it is blocked", func() bool { return strings.Contains(n.client.Info(ctx, "clients").Val(), "blocked_clients:1") })
		if v, err := other.Do(ctx, "CLIENT", "UNBLOCK", id, how).Int(); v != 1 || err != nil {
			t.Errorf("UNBLOCK: %d, %v", v, err)
		}
		c.hear(want)
	}
	unblock(a, "TIMEOUT", "*-1")
	g.failOver(a, b)
	unblock(b, "ERROR", "-UNBLOCKED client unblocked via CLIENT UNBLOCK")
	if v, err := other.Do(ctx, "CLIENT", "UNBLOCK", id).Int(); v != 0 || err != nil {
		t.Errorf("UNBLOCK of one that is not blocked: %d, %v", v, err)
	}
}

// The users that agents and proxies are, and what would lock them out, are not a client's to see or to change.
func TestUsersOfTheProxyAreOutOfReach(t *testing.T) {
	g, a, _ := pair(t)
	must(t, a.client.Do(ctx, "ACL", "SETUSER", "ep-7", "on", ">x", "~*", "+@all").Err())
	c := dialRedis(t, g.proxy.Addrs().Primary, 2)
	for _, args := range [][]any{{"ACL", "DELUSER", "ep-7"}, {"ACL", "DELUSER", "alice", "ep-7"}, {"ACL", "SETUSER", "default", "off"}, {"ACL", "GETUSER", "ep-7"},
		{"ACL", "LOAD"}, {"CONFIG", "SET", "requirepass", "x"}, {"CONFIG", "SET", "maxmemory", "0", "timeout", "1"}} {
		if err := c.Do(ctx, args...).Err(); err == nil || !strings.HasPrefix(err.Error(), "ERR understudy: "+args[0].(string)+" "+args[1].(string)) {
			t.Errorf("%v: %v", args, err)
		}
	}
	must(t, c.Do(ctx, "ACL", "SETUSER", "alice", "on").Err())
	for _, word := range []string{"LIST", "USERS"} {
		if text := c.Do(ctx, "ACL", word).String(); strings.Contains(text, "ep-7") || !strings.Contains(text, "alice") || !strings.Contains(text, "default") {
			t.Errorf("ACL %s: %s", word, text)
		}
	}
}

func TestScriptThatRunsIsStopped(t *testing.T) {
	g, _, _ := pair(t)
	addr := g.proxy.Addrs().Primary
	c := dialRedis(t, addr, 2)
	if err := c.Do(ctx, "SCRIPT", "KILL").Err(); err == nil || !strings.HasPrefix(err.Error(), "NOTBUSY") {
		t.Errorf("SCRIPT KILL without a script: %v", err)
	}
	must(t, c.ConfigSet(ctx, "busy-reply-threshold", "10").Err())
	killer := dialTalker(t, addr)
	killer.say("SELECT 3") // which the server would refuse while the script runs
	killer.hear("+OK")
	ended := make(chan error, 1)
	go func() { ended <- dialRedis(t, addr, 2).Eval(ctx, "while true do end", nil).Err() }()
	eventually(t, "the script is stopped", func() bool {
		killer.say("SCRIPT KILL")
		line, err := killer.r.ReadString('\n')
		must(t, err)
		return line == "+OK\r\n"
	})
	select {
	case err := <-ended:
		if err == nil || !strings.Contains(err.Error(), "killed") {
			t.Errorf("the script ended with %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the script runs on")
	}
}
