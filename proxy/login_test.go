package proxy

import (
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

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

func TestUsersOfTheProxyAreOthersAtTheServers(t *testing.T) {
	var log notes
	g, n := served(t, func(o *Options) {
		o.Users = []User{{Name: "web", Passwords: []string{"web-secret"}, ServerUser: "app", ServerPassword: "app-secret"}, {Name: "ops", Passwords: []string{"ops-secret"}}}
		o.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	must(t, n.client.Do(ctx, "ACL", "SETUSER", "app", "on", ">app-secret", "~app:*", "+@all").Err())
	c := raw(t, g.proxy.Addrs().Primary)
	for _, words := range [][]string{{"GET", "k"}, {"AUTH", "web-secret"}, {"AUTH", "default", "web-secret"}, {"AUTH", "web", "app-secret"}, {"AUTH", "web", "ops-secret"}} {
		if got := say(t, c, words...); !strings.HasPrefix(got, "-NOAUTH") && !strings.HasPrefix(got, "-WRONGPASS") {
			t.Errorf("%v: %q", words, got)
		}
	}
	for _, login := range [][]string{{"AUTH", "web", "web-secret"}, {"HELLO", "2", "AUTH", "web", "web-secret"}} {
		c := raw(t, g.proxy.Addrs().Primary)
		if got := say(t, c, login...); strings.HasPrefix(got, "-") {
			t.Fatalf("%v: %q", login, got)
		}
		if login[0] == "HELLO" {
			c = raw(t, g.proxy.Addrs().Primary) // its reply has many lines
			say(t, c, "AUTH", "web", "web-secret")
		}
		if got := say(t, c, "SET", "app:1", "v"); got != "+OK\r\n" {
			t.Errorf("SET: %q", got)
		}
		if got := say(t, c, "SET", "other", "v"); !strings.HasPrefix(got, "-NOPERM") {
			t.Errorf("SET of another's key: %q", got)
		}
		if got := say(t, c, "AUTH", "ops", "ops-secret"); got != "+OK\r\n" {
			t.Errorf("AUTH as another: %q", got)
		}
		if got := say(t, c, "SET", "other", "v"); got != "+OK\r\n" {
			t.Errorf("SET as a user of the proxy only: %q", got)
		}
	}
	tied := raw(t, g.proxy.Addrs().Primary)
	say(t, tied, "AUTH", "ops", "ops-secret")
	say(t, tied, "WATCH", "other")
	if got := say(t, tied, "AUTH", "web", "web-secret"); got != errLateLogin {
		t.Errorf("AUTH behind WATCH: %q", got)
	}
	if text := log.String(); strings.Contains(text, "secret") {
		t.Errorf("the log says %s", text)
	}
}

func TestPasswordsChangeWhileClientsAreIn(t *testing.T) {
	g, _ := served(t, func(o *Options) { o.Passwords = []string{"first"} })
	in, late := raw(t, g.proxy.Addrs().Primary), raw(t, g.proxy.Addrs().Primary)
	say(t, in, "AUTH", "first")
	must(t, g.proxy.SetLogins(Logins{Passwords: []string{"second"}}))
	if got := say(t, in, "SET", "k", "v"); got != "+OK\r\n" {
		t.Errorf("who is in: %q", got)
	}
	if got := say(t, late, "AUTH", "first"); got != errWrongPass {
		t.Errorf("the password that was: %q", got)
	}
	if got := say(t, late, "AUTH", "second"); got != "+OK\r\n" {
		t.Errorf("the password that is: %q", got)
	}
}

func TestAPasswordComesAndGoesWhileClientsAreIn(t *testing.T) {
	g, _ := served(t, func(o *Options) {})
	dial := func() net.Conn { return raw(t, g.proxy.Addrs().Primary) }
	in, fresh := dial(), dial()
	say(t, in, "SET", "k", "v")
	say(t, fresh, "RESET")
	must(t, g.proxy.SetLogins(Logins{Passwords: []string{"first"}, Optional: true}))
	if got := say(t, dial(), "SET", "k", "v"); got != "+OK\r\n" {
		t.Errorf("without a login while it is optional: %q", got)
	}
	if got := say(t, dial(), "AUTH", "wrong"); got != errWrongPass {
		t.Errorf("a wrong password while it is optional: %q", got)
	}
	if got := say(t, dial(), "AUTH", "first"); got != "+OK\r\n" {
		t.Errorf("the password while it is optional: %q", got)
	}
	must(t, g.proxy.SetLogins(Logins{Passwords: []string{"first"}}))
	for name, c := range map[string]net.Conn{"who is in": in, "who is in, after RESET": fresh} {
		if got := say(t, c, "SET", "k", "v"); got != "+OK\r\n" {
			t.Errorf("%s: %q", name, got)
		}
	}
	if got := say(t, dial(), "SET", "k", "v"); got != errNoAuth {
		t.Errorf("without a login: %q", got)
	}
	must(t, g.proxy.SetLogins(Logins{}))
	if got := say(t, dial(), "SET", "k", "v"); got != "+OK\r\n" {
		t.Errorf("after the password has gone: %q", got)
	}
}

func TestPasswordsCannotBeTriedFast(t *testing.T) {
	g, n := served(t, func(o *Options) {
		o.Passwords = []string{"front"}
		o.LoginFailures, o.LoginWithin = 3, time.Hour
	})
	must(t, n.client.Do(ctx, "ACL", "SETUSER", "app", "on", ">secret", "~app:*", "+@all").Err())
	in := raw(t, g.proxy.Addrs().Primary)
	say(t, in, "AUTH", "front")
	c := raw(t, g.proxy.Addrs().Primary)
	for _, words := range [][]string{{"AUTH", "a"}, {"AUTH", "app", "b"}, {"HELLO", "3", "AUTH", "default", "c"}} {
		if got := say(t, c, words...); !strings.HasPrefix(got, "-WRONGPASS") {
			t.Errorf("%v: %q", words, got)
		}
	}
	// From another connection, with the right password, and for a server's user.
	c = raw(t, g.proxy.Addrs().Primary)
	for _, words := range [][]string{{"AUTH", "front"}, {"AUTH", "app", "secret"}, {"HELLO", "3", "AUTH", "default", "front"}} {
		if got := say(t, c, words...); !strings.HasPrefix(got, "-ERR understudy: too many failed logins") {
			t.Errorf("%v after three failures: %q", words, got)
		}
	}
	if n := g.metric("understudy_proxy_throttled_logins_total"); n != 3 {
		t.Errorf("%v throttled logins are counted, of 3", n)
	}
	if got := say(t, in, "SET", "k", "v"); got != "+OK\r\n" {
		t.Errorf("who is in: %q", got)
	}
}

func TestThrottleForgetsAndIsBounded(t *testing.T) {
	x := newThrottle(2, 10*time.Second)
	at := netip.MustParseAddr("10.0.0.1")
	x.failed(0, at)
	if got := x.wait(0, at); got != 0 {
		t.Errorf("after one failure: %v", got)
	}
	x.failed(0, at)
	if got := x.wait(0, at); got != 5*time.Second {
		t.Errorf("after two failures: %v", got)
	}
	if got := x.wait(5*time.Second, at); got != 0 {
		t.Errorf("after its share of the time: %v", got)
	}
	if got := x.wait(0, netip.MustParseAddr("10.0.0.2")); got != 0 {
		t.Errorf("another address: %v", got)
	}
	x.failed(0, netip.MustParseAddr("2001:db8::1"))
	x.failed(0, netip.MustParseAddr("2001:db8::2"))
	if x.wait(0, netip.MustParseAddr("2001:db8::3")) == 0 {
		t.Error("a network of IPv6 has as many tries as it has addresses")
	}
	for i := range 2 * mostThrottled {
		x.failed(0, netip.AddrFrom4([4]byte{11, byte(i >> 16), byte(i >> 8), byte(i)}))
	}
	if len(x.full) > mostThrottled {
		t.Errorf("%d addresses are kept", len(x.full))
	}
	if x.wait(0, at) == 0 {
		t.Error("who has failed twice is forgotten before those that have once")
	}
	if newThrottle(-1, 0).wait(0, at) != 0 {
		t.Error("there is a bound where none is wanted")
	}
}
