package proxy

import (
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"understudy/resp"
)

// block is a header of version 2.
func block(command, family byte, text string) string {
	b := append([]byte(nil), prefaceMark...)
	b = append(b, 2<<4|command, family)
	b = binary.BigEndian.AppendUint16(b, uint16(len(text)))
	return string(b) + text
}

var (
	ipv4 = "\xc0\x00\x02\x07\x7f\x00\x00\x01\x15\xb3\x1c\xd3" // 192.0.2.7:5555 to 127.0.0.1:7379
	ipv6 = "\x20\x01\x0d\xb8" + strings.Repeat("\x00", 11) + "\x09" + strings.Repeat("\x00", 16) + "\x15\xb3\x1c\xd3"
)

var prefaces = []struct {
	text string
	from string // "": none; "bad": an error
}{
	{"PROXY TCP4 192.0.2.7 127.0.0.1 5555 7379\r\n", "192.0.2.7:5555"},
	{"PROXY TCP6 2001:db8::9 ::1 5555 7379\r\n", "[2001:db8::9]:5555"},
	{"PROXY UNKNOWN\r\n", ""},
	{"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", ""},
	{block(1, 0x11, ipv4), "192.0.2.7:5555"},
	{block(1, 0x11, ipv4+"\x04\x00\x01x"), "192.0.2.7:5555"}, // with an extension
	{block(1, 0x21, ipv6), "[2001:db8::9]:5555"},
	{block(0, 0, ""), ""},
	{block(1, 0x31, strings.Repeat("u", 216)), ""}, // unix sockets
	{block(1, 0x11, "short"), "bad"},
	{block(3, 0x11, ipv4), "bad"},
	{block(1, 0x11, strings.Repeat("x", longestBlock+1)), "bad"},
	{"PROXY TCP4 2001:db8::9 ::1 5555 7379\r\n", "bad"},
	{"PROXY TCP4 192.0.2.7 127.0.0.1 99999 7379\r\n", "bad"},
	{"PROXY TCP4\r\n", "bad"},
	{"PROXY \r\n", "bad"},
	{"PROXY TCP4 " + strings.Repeat("1", 200) + "\r\n", "bad"},
	{"*1\r\n$4\r\nPING\r\n", "bad"},
}

func TestHeadersOfTheProxyProtocolAreReadWhole(t *testing.T) {
	for _, p := range prefaces {
		n, from, err := readPreface([]byte(p.text + "rest"))
		switch {
		case p.from == "bad":
			if !errors.Is(err, errPreface) {
				t.Errorf("%q: %d, %v, %v", p.text, n, from, err)
			}
			continue
		case err != nil || n != len(p.text):
			t.Errorf("%q: %d bytes of %d, %v", p.text, n, len(p.text), err)
		}
		if got := from.String(); p.from != "" && got != p.from || p.from == "" && from.IsValid() {
			t.Errorf("%q: from %s, want %s", p.text, got, p.from)
		}
		for i := range len(p.text) {
			if n, _, err := readPreface([]byte(p.text[:i])); n != 0 || err != nil {
				t.Errorf("the first %d bytes of %q: %d, %v", i, p.text, n, err)
			}
		}
	}
}

func FuzzPreface(f *testing.F) {
	for _, p := range prefaces {
		f.Add([]byte(p.text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		n, from, err := readPreface(text)
		if n < 0 || n > len(text) || n > 16+longestBlock || err != nil && n != 0 {
			t.Fatalf("%d of %d bytes, %v", n, len(text), err)
		}
		if n == 0 && err == nil && len(text) > 16+longestBlock {
			t.Fatal("more is waited for than any header has")
		}
		// What arrives in two parts is read as what arrives in one.
		for i := range min(n, 32) {
			if m, _, err := readPreface(text[:i]); m != 0 || err != nil {
				t.Fatalf("%d of the first %d bytes, %v", m, i, err)
			}
		}
		if m, again, err2 := readPreface(text[:n]); n > 0 && (m != n || again != from || err2 != nil) {
			t.Fatalf("%d, %v, %v without what follows; %d, %v with it", m, again, err2, n, from)
		}
	})
}

// behindBalancer has headers demanded of whoever connects from this machine.
func behindBalancer(o *Options) {
	o.ProxyProtocol = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
}

func TestProxyKnowsTheClientBehindALoadBalancer(t *testing.T) {
	_, paths := identity(t)
	var log notes
	g, _ := served(t, func(o *Options) {
		behindBalancer(o)
		withTLS(opened(t, paths))(o)
		o.Passwords = []string{"front"}
		o.Logger = slog.New(slog.NewTextHandler(&log, nil))
	})
	ping := string(resp.AppendCommand(nil, "AUTH", "wrong"))
	for _, header := range []string{"PROXY TCP4 192.0.2.7 127.0.0.1 5555 7379\r\n", block(1, 0x11, ipv4)} {
		c := raw(t, g.proxy.Addrs().Primary)
		for _, part := range []string{header[:9], header[9:] + ping} {
			_, err := c.Write([]byte(part))
			must(t, err)
		}
		if got := line(t, c); !strings.HasPrefix(got, "-WRONGPASS") {
			t.Errorf("after %q: %q", header, got)
		}
		outer := raw(t, g.proxy.Addrs().PrimaryTLS)
		_, err := outer.Write([]byte(header))
		must(t, err)
		inner := tls.Client(outer, trusting(t, paths))
		if got := say(t, inner, "AUTH", "front"); got != "+OK\r\n" {
			t.Errorf("TLS after %q: %q", header, got)
		}
	}
	eventually(t, "the log names the client", func() bool { return strings.Contains(log.String(), "addr=192.0.2.7:5555") })
}

func TestProxyRefusesAConnectionThatDoesNotSayForWhomItIs(t *testing.T) {
	g, _ := served(t, behindBalancer)
	c := raw(t, g.proxy.Addrs().Primary)
	_, err := c.Write(resp.AppendCommand(nil, "PING"))
	must(t, err)
	if all, err := io.ReadAll(c); len(all) > 0 || err != nil && !strings.Contains(err.Error(), "reset") {
		t.Errorf("it is told %q, %v", all, err)
	}
	silent := raw(t, g.proxy.Addrs().Primary)
	if all, err := io.ReadAll(silent); len(all) > 0 || err != nil {
		t.Errorf("one that says nothing is told %q, %v", all, err)
	}
	if n := g.metric("understudy_proxy_refused_prefaces_total"); n != 2 {
		t.Errorf("%v are counted, of 2", n)
	}
}

func TestProxyBelievesOnlyListedNetworks(t *testing.T) {
	g, _ := served(t, func(o *Options) { o.ProxyProtocol = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")} })
	if got := say(t, raw(t, g.proxy.Addrs().Primary), "PING"); got != "+PONG\r\n" {
		t.Errorf("another network's client: %q", got)
	}
	c, err := net.Dial("tcp", g.proxy.Addrs().Primary)
	must(t, err)
	defer c.Close()
	must(t, c.SetDeadline(time.Now().Add(10*time.Second)))
	_, err = c.Write([]byte("PROXY TCP4 192.0.2.7 127.0.0.1 5555 7379\r\n"))
	must(t, err)
	if got := line(t, c); !strings.HasPrefix(got, "-ERR unknown command") {
		t.Errorf("its header is answered with %q", got)
	}
}
