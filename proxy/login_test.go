package proxy

import (
	"log/slog"
	"strings"
	"testing"

	goredis "github.com/redis/go-redis/v9"

	"understudy/resp"
)

const noAuth = "-NOAUTH Authentication required.\r\n"

func TestProxyLetsNobodyDoAnythingBeforeTheLogin(t *testing.T) {
	var log notes
	g, n := served(t, func(o *Options) {
		o.Passwords = []string{"old-secret", "new-secret"}
		o.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	must(t, n.client.Do(ctx, "ACL", "SETUSER", "app", "on", ">secret", "~app:*", "+@all").Err())
	c := raw(t, g.proxy.Addrs().Primary)
	for _, command := range []string{"GET k", "SET k v", "MULTI", "SUBSCRIBE c", "BLPOP l 0", "EVAL x 0", "NOSUCH", "CLIENT ID", "SELECT 1", "CONFIG SET a b", "SHUTDOWN", "MONITOR"} {
		if got := say(t, c, strings.Fields(command)...); got != noAuth {
			t.Errorf("%s before AUTH: %q", command, got)
		}
	}
	if got := say(t, c, "HELLO", "3"); !strings.HasPrefix(got, "-NOAUTH HELLO must be called") {
		t.Errorf("HELLO before AUTH: %q", got)
	}
	for _, words := range [][]string{{"AUTH", "wrong"}, {"AUTH", "default", "wrong"}, {"AUTH", "app", "wrong"}, {"AUTH", ""}, {"HELLO", "3", "AUTH", "default", "wrong"}} {
		if got := say(t, c, words...); !strings.HasPrefix(got, "-WRONGPASS") {
			t.Errorf("%v: %q", words, got)
		}
		if got := say(t, c, "GET", "k"); got != noAuth {
			t.Errorf("GET after %v: %q", words, got)
		}
	}
	if n := g.metric("understudy_proxy_failed_logins_total"); n != 5 {
		t.Errorf("%v failed logins are counted, of 5", n)
	}
	for _, words := range [][]string{{"AUTH", "old-secret"}, {"AUTH", "default", "new-secret"}} {
		if got := say(t, c, words...); got != "+OK\r\n" {
			t.Errorf("%v: %q", words, got)
		}
		if got := say(t, c, "SET", "k", "v"); got != "+OK\r\n" {
			t.Errorf("SET after %v: %q", words, got)
		}
		if got := say(t, c, "RESET"); got != "+RESET\r\n" {
			t.Errorf("RESET: %q", got)
		}
		if got := say(t, c, "GET", "k"); got != noAuth {
			t.Errorf("GET after RESET: %q", got)
		}
	}
	if text := log.String(); strings.Contains(text, "secret") || !strings.Contains(text, "a login failed") {
		t.Errorf("the log says %s", text)
	}
}

func TestAnACLUserOfTheServersEntersWithoutTheProxysPassword(t *testing.T) {
	g, n := served(t, func(o *Options) { o.Passwords = []string{"front"} })
	must(t, n.client.Do(ctx, "ACL", "SETUSER", "app", "on", ">secret", "~app:*", "+@all").Err())
	c := raw(t, g.proxy.Addrs().Primary)
	// In one write: what follows AUTH waits for the server's word, and runs with the user's rights.
	burst := resp.AppendCommand(nil, "AUTH", "app", "secret")
	burst = resp.AppendCommand(burst, "SET", "app:1", "v")
	burst = resp.AppendCommand(burst, "SET", "other", "v")
	_, err := c.Write(burst)
	must(t, err)
	if got := line(t, c) + line(t, c); got != "+OK\r\n+OK\r\n" {
		t.Errorf("AUTH and SET: %q", got)
	}
	if got := line(t, c); !strings.HasPrefix(got, "-NOPERM") {
		t.Errorf("SET of another's key: %q", got)
	}
	if got := say(t, c, "AUTH", "front"); got != "+OK\r\n" {
		t.Errorf("AUTH: %q", got)
	}
	if got := say(t, c, "SET", "other", "v"); got != "+OK\r\n" {
		t.Errorf("SET as the default user: %q", got)
	}
	wrong := raw(t, g.proxy.Addrs().Primary)
	_, err = wrong.Write(append(resp.AppendCommand(nil, "AUTH", "app", "wrong"), resp.AppendCommand(nil, "GET", "app:1")...))
	must(t, err)
	if got := line(t, wrong); !strings.HasPrefix(got, "-WRONGPASS") {
		t.Errorf("a wrong password: %q", got)
	}
	if got := line(t, wrong); got != noAuth {
		t.Errorf("GET behind it: %q", got)
	}
}

func TestProxyTakesTheLoginOfClientLibraries(t *testing.T) {
	g, _ := served(t, func(o *Options) { o.Passwords = []string{"front"} })
	for _, proto := range []int{2, 3} {
		for _, user := range []string{"", "default"} {
			c := goredis.NewClient(&goredis.Options{Addr: g.proxy.Addrs().Primary, Username: user, Password: "front", DB: 2,
				ClientName: "worker", Protocol: proto, MaxRetries: -1})
			defer c.Close()
			must(t, c.Set(ctx, "k", proto, 0).Err())
			if v := c.Do(ctx, "ACL", "WHOAMI").Val(); v != "default" {
				t.Errorf("RESP%d, user %q: WHOAMI = %v", proto, user, v)
			}
			if v := c.ClientGetName(ctx).Val(); v != "worker" {
				t.Errorf("RESP%d, user %q: CLIENT GETNAME = %q", proto, user, v)
			}
		}
	}
}

func TestProxyReadsLittleOfWhoHasNotLoggedIn(t *testing.T) {
	g, _ := served(t, func(o *Options) { o.Passwords = []string{"front"} })
	bad := raw(t, g.proxy.Addrs().Primary)
	_, err := bad.Write([]byte("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$500000000\r\n"))
	must(t, err)
	for n := 0; err == nil && n < 64<<20; n += 64 << 10 {
		_, err = bad.Write(make([]byte, 64<<10))
	}
	eventually(t, "it is cut", func() bool { return g.metric("understudy_proxy_cut_clients_total") == 1 })
	if got := g.metric("understudy_proxy_client_buffer_bytes"); got > 1<<20 {
		t.Errorf("%v bytes are kept", got)
	}
}
