package proxy

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"understudy/resp"
)

// neighbour is a client in the middle of something: a transaction, a subscription, a blocked pop. What another
// one sends must not touch it.
type neighbour struct {
	t                            testing.TB
	g                            *group
	tx, subscriber, blocked, one *talk
}

func newNeighbour(t testing.TB, g *group) *neighbour {
	t.Helper()
	addr := g.proxy.Addrs().Primary
	n := &neighbour{t, g, talkTo(t, addr), talkTo(t, addr), talkTo(t, addr), talkTo(t, addr)}
	n.tx.send([]string{"SELECT", "3"}, []string{"MULTI"}, []string{"INCR", "n"})
	n.tx.want("+OK")
	n.tx.want("+OK")
	n.tx.want("+QUEUED")
	n.subscriber.send([]string{"SUBSCRIBE", "c"})
	n.subscriber.want("[subscribe c :1]")
	n.blocked.send([]string{"BLPOP", "q", "0"})
	return n
}

// works ends what the neighbour was in the middle of.
func (n *neighbour) works() {
	n.t.Helper()
	n.tx.send([]string{"EXEC"}, []string{"GET", "n"}, []string{"DEL", "n"})
	n.tx.want("[:1]")
	n.tx.want("1")
	n.tx.want(":1")
	n.one.send([]string{"PUBLISH", "c", "m"}, []string{"RPUSH", "q", "v"}, []string{"PING"})
	n.one.want(":1")
	n.one.want(":1")
	n.one.want("+PONG")
	n.subscriber.want("[message c m]")
	n.blocked.want("[q v]")
}

// ending is what a client gets that sends something and waits for the end; what it had sent that was right is
// answered before.
func ending(t *testing.T, addr, text string) string {
	t.Helper()
	c := raw(t, addr)
	go func() { _, _ = io.Copy(c, strings.NewReader(text)) }()
	all, err := io.ReadAll(c)
	if nerr, ok := err.(net.Error); ok && nerr.Timeout() {
		t.Errorf("%.40q: the connection is not closed", text)
	}
	return string(all)
}

func TestBadInputEndsItsSenderOnly(t *testing.T) {
	g, server := served(t, nil)
	addr := g.proxy.Addrs().Primary
	random := make([]byte, 100<<10)
	chacha := rand.NewChaCha8([32]byte{1})
	_, _ = chacha.Read(random)
	for _, tc := range []struct{ name, in, want string }{
		{"garbage", string(bytes.ReplaceAll(random, []byte("\n"), nil)), "-ERR Protocol error: "},
		{"a negative count is skipped", "*-5\r\n*-1\r\nPING\r\n*x\r\n", "+PONG\r\n-ERR Protocol error: invalid multibulk length\r\n"},
		{"a huge count", "*2147483648\r\n", "-ERR Protocol error: invalid multibulk length\r\n"},
		{"a count beyond any number", "*99999999999999999999999\r\n", "-ERR Protocol error: invalid multibulk length\r\n"},
		{"a negative length", "*2\r\n$3\r\nGET\r\n$-1\r\n", "-ERR Protocol error: invalid bulk length\r\n"},
		{"a huge length", "*2\r\n$3\r\nGET\r\n$536870913\r\n", "-ERR Protocol error: invalid bulk length\r\n"},
		{"a word that is no bulk", "*2\r\n$3\r\nGET\r\n:1\r\n", "-ERR Protocol error: expected '$', got ':'\r\n"},
		{"nested arrays", strings.Repeat("*1\r\n", 100_000), "-ERR Protocol error: expected '$', got '*'\r\n"},
		{"a line without end", strings.Repeat("a", 200<<10), "-ERR Protocol error: too big inline request\r\n"},
		{"quotes without end", "SET k \"v\r\n", "-ERR Protocol error: unbalanced quotes in request\r\n"},
		{"right before wrong", "*1\r\n$4\r\nPING\r\n*1\r\n$4\r\nPONGxxQUIT\r\n", "+PONG\r\n-ERR unknown command"},
		{"HTTP POST in RESP", "*1\r\n$4\r\nPOST\r\n*1\r\n$8\r\nFLUSHALL\r\n", errHTTP},
	} {
		t.Run(tc.name, func(t *testing.T) {
			must(t, server.client.Set(ctx, "kept", "x", 0).Err())
			n := newNeighbour(t, g)
			if got := ending(t, addr, tc.in); !strings.HasPrefix(got, tc.want) {
				t.Errorf("it is told %.100q, want %q", got, tc.want)
			}
			n.works()
			if server.client.Exists(ctx, "kept").Val() != 1 {
				t.Error("the data are gone")
			}
		})
	}
}

// A browser, or a health check, that finds the wrong port is told so in its own language, and what a web page made
// it send behind that is not carried out.
func TestHTTPIsRefusedInItsOwnWords(t *testing.T) {
	g, server := served(t, func(o *Options) { o.Passwords = []string{"secret"} })
	must(t, server.client.Set(ctx, "kept", "x", 0).Err())
	url := "http://" + g.proxy.Addrs().Primary + "/metrics"
	client := http.Client{Timeout: 20 * time.Second}
	defer client.CloseIdleConnections()
	for _, send := range []func() (*http.Response, error){
		func() (*http.Response, error) { return client.Get(url) },
		func() (*http.Response, error) {
			return client.Post(url, "text/plain", strings.NewReader("AUTH secret\r\nFLUSHALL\r\n"))
		},
	} {
		answer, err := send()
		must(t, err)
		body, err := io.ReadAll(answer.Body)
		answer.Body.Close()
		if answer.StatusCode != http.StatusBadRequest || err != nil || string(body) != httpText {
			t.Errorf("%s: %q, %v", answer.Status, body, err)
		}
	}
	if got := ending(t, g.proxy.Addrs().Primary, "Host: x\r\nAUTH secret\r\nFLUSHALL\r\n"); got != httpRefusal {
		t.Errorf("a request's second half: %q", got)
	}
	if server.client.Exists(ctx, "kept").Val() != 1 {
		t.Error("what stood in the body was carried out")
	}
}

func TestWrongLoginsTouchNobodyElse(t *testing.T) {
	g, server := served(t, nil)
	must(t, server.client.Do(ctx, "ACL", "SETUSER", "app", "on", ">right", "~*", "+@all").Err())
	n := newNeighbour(t, g)
	k := talkTo(t, g.proxy.Addrs().Primary)
	for range 5 {
		k.send([]string{"AUTH", "app", "wrong"}, []string{"HELLO", "3", "AUTH", "nobody", "x"}, []string{"AUTH", "a", "b", "c", "d"}, []string{"PING"})
		for _, want := range []string{"-WRONGPASS", "-WRONGPASS", "-ERR", "+PONG"} {
			if got := k.reply(); !strings.HasPrefix(got, want) && !(want == "-WRONGPASS" && strings.HasPrefix(got, "-ERR understudy: too many failed logins")) {
				t.Fatalf("%q, want %s", got, want)
			}
		}
	}
	n.works()
}

// Each way of stopping in the middle of a frame: what had arrived whole was carried out, the rest never.
func TestHalfFramesOfClientsThatLeave(t *testing.T) {
	g, server := served(t, nil)
	n := newNeighbour(t, g)
	frame := resp.AppendCommand(resp.AppendCommand(nil, "INCR", "whole"), "SET", "half", "value")
	whole := len(resp.AppendCommand(nil, "INCR", "whole"))
	sent := 0
	for cut := 1; cut < len(frame); cut += 3 {
		c := raw(t, g.proxy.Addrs().Primary)
		_, err := c.Write(frame[:cut])
		must(t, err)
		if cut >= whole {
			sent++
			line(t, c)
		}
		c.Close()
	}
	if got := server.client.Get(ctx, "whole").Val(); got != fmt.Sprint(sent) || server.client.Exists(ctx, "half").Val() != 0 {
		t.Errorf("%s of %d whole commands were carried out, and half ones: %d", got, sent, server.client.Exists(ctx, "half").Val())
	}
	n.works()
}

// A slow loris sends a byte now and then over many connections: nobody else notices, and the proxy keeps of each
// what it has sent and no more.
func TestManyRequestsThatNeverEnd(t *testing.T) {
	g, _ := served(t, nil)
	n := newNeighbour(t, g)
	var all []net.Conn
	for range 200 {
		c := raw(t, g.proxy.Addrs().Primary)
		_, err := c.Write([]byte("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$500000000\r\n"))
		must(t, err)
		all = append(all, c)
	}
	for range 5 {
		for _, c := range all {
			_, err := c.Write([]byte("x"))
			must(t, err)
		}
		k := talkTo(t, g.proxy.Addrs().Primary)
		k.send([]string{"SET", "k", "short"}, []string{"GET", "k"})
		k.want("+OK")
		k.want("short")
	}
	g.do(func(l *loop) {
		kept := l.kept
		for c := range l.clients {
			kept += c.buffered()
		}
		if kept > 10<<20 {
			t.Errorf("%d bytes are kept of %d requests with a few bytes each", kept, len(all))
		}
	})
	n.works()
}

func TestAClientThatNeverReads(t *testing.T) {
	g, _ := served(t, func(o *Options) { o.OutputLimit = 1 << 20 })
	n := newNeighbour(t, g)
	n.one.send([]string{"SET", "k", strings.Repeat("v", 100<<10)})
	n.one.want("+OK")
	stuck(t, g.proxy.Addrs().Primary, 200, "GET", "k")
	eventually(t, "it is cut", func() bool { return g.metric("understudy_proxy_cut_clients_total") == 1 })
	n.works()
}

// However the stream is cut on its way, the same commands are carried out, and each gets its reply in order.
func TestAnyCutsOfTheStreamGiveTheSameReplies(t *testing.T) {
	g, _ := served(t, nil)
	seed := uint64(time.Now().UnixNano())
	rng := rand.New(rand.NewPCG(seed, 0))
	words := []string{"", "k", "v\r\n", "\x00\xff", "*1\r\n$4\r\nPING\r\n", strings.Repeat("long", 500), "7"}
	word := func() string { return words[rng.IntN(len(words))] }
	var stream []byte
	var want []string
	for i := range 400 {
		switch text := word(); rng.IntN(5) {
		case 0:
			stream = resp.AppendCommand(stream, "ECHO", text)
			want = append(want, text)
		case 1:
			stream = append(stream, fmt.Sprintf("ECHO %d\r\n\r\n", i)...)
			want = append(want, fmt.Sprint(i))
		case 2:
			stream = resp.AppendCommand(stream, "SET", "cut", text)
			stream = resp.AppendCommand(stream, "GET", "cut")
			want = append(want, "+OK", text)
		case 3:
			stream = append(resp.AppendCommand(append(stream, "*0\r\n*-1\r\n"...), "MULTI"), resp.AppendCommand(resp.AppendCommand(nil, "ECHO", text), "EXEC")...)
			want = append(want, "+OK", "+QUEUED", "["+text+"]")
		case 4:
			stream = resp.AppendCommand(stream, "NOSUCH", text)
			want = append(want, "-ERR unknown command")
		}
	}
	value := big(streamFrom+1000, "b")
	stream = resp.AppendCommand(resp.AppendCommand(stream, "SET", "cut", value), "GET", "cut")
	want = append(want, "+OK", value)
	for round := range 5 {
		k := talkTo(t, g.proxy.Addrs().Primary)
		cuts := rand.New(rand.NewPCG(seed, uint64(round)))
		go func() {
			for rest := stream; len(rest) > 0; {
				n := 1 + cuts.IntN(40<<(round*3))
				n = min(n, len(rest))
				if len(rest) < streamFrom { // within the big one small pieces only take time
					n = min(len(rest), max(n, 4<<10))
				}
				if _, err := k.Write(rest[:n]); err != nil {
					return
				}
				rest = rest[n:]
			}
		}()
		for i, w := range want {
			if got := k.reply(); got != w && !(w[:min(1, len(w))] == "-" && strings.HasPrefix(got, w)) {
				t.Fatalf("seed %d, round %d: reply %d is %.60q, want %.60q", seed, round, i, got, w)
			}
		}
	}
}
