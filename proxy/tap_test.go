package proxy

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"understudy/resp"
)

func TestATapShowsKeysAndNeverValuesOrPasswords(t *testing.T) {
	g, _ := served(t, func(o *Options) { o.Passwords = []string{"hunter2"} })
	tap := g.proxy.Tap()
	defer tap.Close()
	c := raw(t, g.proxy.Addrs().Split)
	bound, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for _, tc := range []struct{ command, want string }{
		{"AUTH hunter2", `"auth" (redacted)`},
		{"HELLO 2 AUTH default hunter2", `"hello" (redacted)`},
		{"SET k hunter2 EX 100", `"set" "k" (7 bytes) (2 bytes) (3 bytes)`},
		{"MSET a hunter2 b hunter2", `"mset" "a" (7 bytes) "b" (7 bytes)`},
		{"EVAL return#'hunter2' 1 k hunter2", `"eval" (16 bytes) (1 bytes) "k" (7 bytes)`},
		{"CONFIG GET hunter2", `"config" "get" (redacted)`},
		{"ACL SETUSER x >hunter2", `"acl" "setuser" (redacted)`},
		{"CLIENT SETNAME hunter2", `"client" "setname" (7 bytes)`},
		{"hunter2 hunter2", `(unknown command, 2 words)`},
		{"DEL " + strings.Repeat("k", 200), `"del" "` + strings.Repeat("k", 128) + `"… (200 bytes)`},
		{"SADD s" + strings.Repeat(" hunter2", 100), `(70 words more)`},
	} {
		_, err := c.Write(resp.AppendCommand(nil, strings.Fields(tc.command)...))
		must(t, err)
		line, dropped, err := tap.Next(bound)
		if err != nil || dropped != 0 {
			t.Fatalf("%s: %d dropped, %v", tc.command, dropped, err)
		}
		if !strings.HasSuffix(line, tc.want) || strings.Contains(line, "hunter2") {
			t.Errorf("%s\nshows %s\nwant  %s", tc.command, line, tc.want)
		}
		if head := fmt.Sprintf(" [0 %s split \"default\"] ", c.LocalAddr()); !strings.Contains(line, head) {
			t.Errorf("%s has no %s", line, head)
		}
	}
}

func TestASlowTapLosesLinesAndHoldsNobodyUp(t *testing.T) {
	g, _ := served(t, nil)
	tap := g.proxy.Tap()
	const sent = tapQueue + 1000
	c := raw(t, g.proxy.Addrs().Primary)
	go func() { _, _ = c.Write([]byte(strings.Repeat("PING\r\n", sent))) }()
	for i := range sent {
		if got := line(t, c); got != "+PONG\r\n" {
			t.Fatalf("PING %d: %q", i, got)
		}
	}
	eventually(t, "the loss is counted", func() bool { return g.metric("understudy_proxy_tap_dropped_total") == 1000 })
	if _, dropped, err := tap.Next(ctx); dropped != 1000 || err != nil {
		t.Errorf("%d are said to be dropped, %v", dropped, err)
	}
	tap.Close()
	if g.proxy.loop.taps.Load() != nil {
		t.Error("the loop goes on making lines for nobody")
	}
	var all []*Tap
	for x := g.proxy.Tap(); x != nil; x = g.proxy.Tap() {
		all = append(all, x)
	}
	if len(all) != tapsAtOnce {
		t.Errorf("%d taps were let in", len(all))
	}
	for _, x := range all {
		x.Close()
	}
}

func TestTheTapIsForThisMachineOrWhoKnowsThePassword(t *testing.T) {
	g, _ := served(t, func(o *Options) { o.Passwords = []string{"hunter2"} })
	for _, tc := range []struct {
		from, host string
		header     [2]string
		want       int
	}{
		{"127.0.0.1:5", "127.0.0.1:7390", [2]string{}, 200},
		{"[::1]:5", "localhost:7390", [2]string{}, 200},
		{"127.0.0.1:5", "evil.example:7390", [2]string{}, 401}, // a page with a name of its own for this machine
		{"127.0.0.1:5", "127.0.0.1:7390", [2]string{"X-Forwarded-For", "192.0.2.7"}, 401},
		{"192.0.2.7:5", "10.0.0.1:7390", [2]string{}, 401},
		{"192.0.2.7:5", "127.0.0.1:7390", [2]string{}, 401},
		{"192.0.2.7:5", "10.0.0.1:7390", [2]string{"Authorization", "Bearer wrong"}, 401},
		{"127.0.0.1:5", "127.0.0.1:7390", [2]string{"Authorization", "Bearer wrong"}, 401},
		{"192.0.2.7:5", "10.0.0.1:7390", [2]string{"Authorization", "Bearer hunter2"}, 200},
	} {
		ended, end := context.WithCancel(ctx)
		end()
		r := httptest.NewRequestWithContext(ended, "GET", "/api/tap", nil)
		r.RemoteAddr, r.Host = tc.from, tc.host
		if tc.header[0] != "" {
			r.Header.Set(tc.header[0], tc.header[1])
		}
		w := httptest.NewRecorder()
		g.proxy.TapHandler().ServeHTTP(w, r)
		if w.Code != tc.want {
			t.Errorf("%+v: %d %s", tc, w.Code, w.Body)
		}
	}
}

func TestTheTapStreamsOverHTTP(t *testing.T) {
	g, _ := served(t, nil)
	web := httptest.NewServer(g.proxy.TapHandler())
	defer web.Close()
	bound, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(bound, "GET", web.URL, nil)
	must(t, err)
	answer, err := http.DefaultClient.Do(r)
	must(t, err)
	defer answer.Body.Close()
	lines := bufio.NewScanner(answer.Body)
	if !lines.Scan() || !strings.HasPrefix(lines.Text(), "# ") {
		t.Fatalf("it begins with %q", lines.Text())
	}
	c := raw(t, g.proxy.Addrs().Primary)
	for i := range 3 {
		say(t, c, "SET", key(i), "v")
		if !lines.Scan() || !strings.HasSuffix(lines.Text(), fmt.Sprintf(`"set" %q (1 bytes)`, key(i))) {
			t.Errorf("it shows %q", lines.Text())
		}
	}
	cancel()
	eventually(t, "the tap is closed with its reader", func() bool { return g.proxy.loop.taps.Load() == nil })
}
