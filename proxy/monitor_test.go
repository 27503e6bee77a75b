package proxy

import (
	"strings"
	"testing"
)

func TestMonitorGoesOnOnTheNextPrimary(t *testing.T) {
	for _, proto := range []int{2, 3} {
		a, b := startNode(t, "g-001"), startNode(t, "g-002")
		a.promote(t)
		b.replicaOf(t, a)
		g := startProxy(t, func(o *Options) { o.Allow = []string{"MONITOR"} })
		g.say(b.status)
		g.leadSync(a, 1, "g-002")
		g.awaitWitness(b)
		addr := g.proxy.Addrs().Primary
		c, other := dialTalker(t, addr), dialRedis(t, addr, 2)
		if proto == 3 {
			c.hello3()
		}
		var seen strings.Builder
		sees := func(words string) {
			t.Helper()
			for {
				line, err := c.r.ReadString('\n')
				must(t, err)
				seen.WriteString(line)
				if strings.HasSuffix(line, words+"\r\n") {
					return
				}
			}
		}
		c.say("MONITOR")
		c.hear("+OK")
		must(t, other.Incr(ctx, "n").Err())
		sees(`"incr" "n"`)
		must(t, a.client.Do(ctx, "ACL", "SETUSER", "ep-1", "on", ">topsecret").Err())
		must(t, other.Do(ctx, "AUTH", "ep-1", "topsecret").Err())
		g.failOver(a, b)
		eventually(t, "the new primary has the monitor", func() bool { return strings.Contains(b.client.ClientList(ctx).Val(), "flags=O") })
		must(t, dialRedis(t, addr, 2).Set(ctx, "after", "x", 0).Err())
		sees(`"set" "after" "x"`)
		if text := seen.String(); strings.Contains(text, "topsecret") || strings.Contains(text, "ep-1") || strings.Contains(text, g.proxy.loop.channel) {
			t.Errorf("MONITOR shows what is the proxy's own:\n%s", text)
		}
		c.say("RESET")
		sees("+RESET")
		c.say("PING")
		c.hear("+PONG")
	}
}

func TestMonitorIsRefusedUnlessAllowed(t *testing.T) {
	g, _, _ := pair(t)
	if err := dialRedis(t, g.proxy.Addrs().Primary, 2).Do(ctx, "MONITOR").Err(); err == nil || !strings.HasPrefix(err.Error(), "ERR understudy: MONITOR is refused") {
		t.Errorf("%v", err)
	}
}

func TestMonitorsLinesAreDiscreet(t *testing.T) {
	const at = `+1700000000.123456 [0 127.0.0.1:6379] `
	for line, want := range map[string]string{
		at + `"get" "a \"auth\" b"`:                                    at + `"get" "a \"auth\" b"`,
		at + `"AUTH" "alice" "x"`:                                      at + `"AUTH" "(redacted)"`,
		at + `"acl" "setuser" "u" ">pw"`:                               at + `"acl" "(redacted)"`,
		at + `"PUBLISH" "understudy:ABCDEFGHIJ23" "1 2"`:               "",
		at + `"PUBLISH" "understudy:x" "understudy:ABCDEFGHIJ23:once"`: "",
		at + `"PUBLISH" "understudy:x" "1"`:                            at + `"PUBLISH" "understudy:x" "1"`,
	} {
		if !isMonitored([]byte(line + "\r\n")) {
			t.Errorf("%s is not taken for a line of MONITOR", line)
		}
		if got := string(discreet([]byte(line + "\r\n"))); strings.TrimSpace(got) != want {
			t.Errorf("%s is shown as %q", line, got)
		}
	}
	for _, reply := range []string{"+OK\r\n", "+PONG\r\n", "+1.5 [x]\r\n", "+a.123456 [\r\n"} {
		if isMonitored([]byte(reply)) {
			t.Errorf("%q is taken for a line of MONITOR", reply)
		}
	}
}
