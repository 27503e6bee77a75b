package proxy

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"understudy/cluster"
	"understudy/resp"
)

// big is a value of n bytes in which every place is told from its neighbours.
func big(n int, seed string) string {
	block := []byte(strings.Repeat(seed+"0123456789abcdefghijklmnopqrstuvwxyz.", 3000))
	return string(bytes.Repeat(block, n/len(block)+1)[:n])
}

// talk is a client that sends what it likes and reads replies one by one.
type talk struct {
	t testing.TB
	net.Conn
	r *bufio.Reader
}

func talkTo(t testing.TB, addr string) *talk {
	t.Helper()
	c := raw(t, addr)
	must(t, c.SetDeadline(time.Now().Add(2*time.Minute))) // with -race on a machine that is busy, tens of MiB take half a minute
	return &talk{t, c, bufio.NewReaderSize(c, 64<<10)}
}

// send writes commands while the replies may already come.
func (k *talk) send(commands ...[]string) {
	k.t.Helper()
	var all []byte
	for _, words := range commands {
		all = resp.AppendCommand(all, words...)
	}
	go func() { _, _ = k.Write(all) }()
}

// reply reads one reply: a line, or what a bulk has in it; "[a b]" for an array.
func (k *talk) reply() string {
	k.t.Helper()
	text, err := k.r.ReadString('\n')
	if err != nil {
		k.t.Fatalf("after %q: %v", text, err)
	}
	text = strings.TrimSuffix(text, "\r\n")
	switch text[0] {
	case '$':
		n, err := strconv.Atoi(text[1:])
		must(k.t, err)
		if n < 0 {
			return "nil"
		}
		value := make([]byte, n+2)
		_, err = io.ReadFull(k.r, value)
		must(k.t, err)
		return string(value[:n])
	case '*':
		n, err := strconv.Atoi(text[1:])
		must(k.t, err)
		var all []string
		for range n {
			all = append(all, k.reply())
		}
		return "[" + strings.Join(all, " ") + "]"
	}
	return text
}

func (k *talk) want(want string) {
	k.t.Helper()
	if got := k.reply(); got != want {
		k.t.Fatalf("the reply is %.80q of %d bytes, want %.80q of %d", got, len(got), want, len(want))
	}
}

func TestBigValuesPassInPipelinesInOrder(t *testing.T) {
	g, n := served(t, nil)
	must(t, n.client.Set(ctx, "known", big(5<<20, "k"), 0).Err())
	for _, addr := range []string{g.proxy.Addrs().Primary, g.proxy.Addrs().Split} {
		k := talkTo(t, addr)
		x, y := big(6<<20, "x"), big(wholeReply+keptBody, "y")
		k.send([]string{"SET", "a", x}, []string{"INCR", "n"}, []string{"GET", "a"}, []string{"SET", "b", y, "EX", "100"}, []string{"GET", "n"},
			[]string{"MGET", "a", "n", "b"}, []string{"GET", "known"}, []string{"DEL", "n"}, []string{"MSET", "c", x, "d", y}, []string{"STRLEN", "d"},
			[]string{"APPEND", "c", x}, []string{"PING"})
		k.want("+OK")
		k.want(":1")
		k.want(x)
		k.want("+OK")
		k.want("1")
		k.want("[" + x + " 1 " + y + "]")
		k.want(big(5<<20, "k"))
		k.want(":1")
		k.want("+OK")
		k.want(":" + strconv.Itoa(len(y)))
		k.want(":" + strconv.Itoa(2*len(x)))
		k.want("+PONG")
		must(t, n.client.Del(ctx, "a", "b", "c", "d").Err())
	}
}

func TestBigValuesPassInTransactions(t *testing.T) {
	g, _ := served(t, nil)
	k := talkTo(t, g.proxy.Addrs().Primary)
	x, y := big(2<<20, "x"), big(keptBody+5, "y")
	k.send([]string{"WATCH", "a"}, []string{"MULTI"}, []string{"SET", "a", x}, []string{"INCR", "n"}, []string{"SET", "b", y}, []string{"GET", "b"},
		[]string{"EXEC"}, []string{"GET", "a"}, []string{"MULTI"}, []string{"SET", "a", y}, []string{"DISCARD"}, []string{"STRLEN", "a"})
	for _, want := range []string{"+OK", "+OK", "+QUEUED", "+QUEUED", "+QUEUED", "+QUEUED", "[+OK :1 +OK " + y + "]", x, "+OK", "+QUEUED", "+OK", ":" + strconv.Itoa(len(x))} {
		k.want(want)
	}
}

// In sync the reply of a big write, and a big reply that may show one, wait for the commit.
func TestBigValuesWaitForTheCommit(t *testing.T) {
	a, b := startNode(t, "g-001"), startNode(t, "g-002")
	a.promote(t)
	b.replicaOf(t, a)
	g := startProxy(t, nil)
	g.say(b.status)
	g.leadSync(a, 1, "g-002")
	g.awaitWitness(b)
	k := talkTo(t, g.proxy.Addrs().Primary)
	x := big(6<<20, "x")
	k.send([]string{"SET", "a", x}, []string{"GET", "a"}, []string{"GETDEL", "a"}, []string{"RPUSH", "l", x}, []string{"LPOP", "l"}, []string{"EXISTS", "a", "l"})
	for _, want := range []string{"+OK", x, x, ":1", x, ":0"} {
		k.want(want)
	}
	k.send([]string{"SET", "a", x})
	k.want("+OK")
	if v, err := b.client.Get(ctx, "a").Result(); err != nil || v != x {
		t.Errorf("the replica has %d bytes of an acked value, %v", len(v), err)
	}
}

// Whoever reads a big value, or does not, holds nobody up: what else was sent over the shared connection is
// answered, and what comes later too.
func TestABigReplyHoldsNobodyUp(t *testing.T) {
	g, n := served(t, nil)
	value := big(64<<20, "v")
	must(t, n.client.Set(ctx, "big", value, 0).Err())
	must(t, n.client.Set(ctx, "small", "s", 0).Err())
	addr := g.proxy.Addrs().Primary
	others := []*talk{talkTo(t, addr), talkTo(t, addr), talkTo(t, addr)}
	for round := range 3 { // the first time the key is not known
		if round == 1 {
			g.do(func(l *loop) { clear(l.big.keys) })
		}
		slow := talkTo(t, addr)
		must(t, slow.Conn.(*net.TCPConn).SetReadBuffer(64<<10))
		g.do(func(l *loop) {}) // they all arrive in the turns behind
		slow.send([]string{"GET", "big"})
		for i, o := range others {
			o.send([]string{"INCR", "n"}, []string{"GET", "small"}, []string{"SET", "k" + strconv.Itoa(i), "x"})
		}
		for _, o := range others {
			if got := o.reply(); got[0] != ':' {
				t.Fatalf("INCR: %q", got)
			}
			o.want("s")
			o.want("+OK")
		}
		for range 100 {
			others[0].send([]string{"GET", "small"})
			others[0].want("s")
		}
		if waits := g.metric("understudy_proxy_output_bytes"); waits > 4*passAhead {
			t.Errorf("%v bytes wait in the proxy for one that does not read", waits)
		}
		slow.want(value)
		slow.send([]string{"PING"})
		slow.want("+PONG")
	}
}

// do runs f in the loop and waits for it.
func (g *group) do(f func(l *loop)) {
	done := make(chan struct{})
	g.proxy.loop.call(func() { f(g.proxy.loop); close(done) })
	<-done
}

// half sends the first half of a SET of n bytes, and returns what is left of it.
func half(t *testing.T, k *talk, n int) []byte {
	t.Helper()
	frame := resp.AppendCommand(nil, "SET", "half", big(n, "h"))
	_, err := k.Write(frame[:n/2])
	must(t, err)
	return frame[n/2:]
}

func (g *group) passes(at int) {
	g.t.Helper()
	eventually(g.t, "the first part is passed on", func() bool {
		size := 0
		g.do(func(l *loop) {
			for c := range l.clients {
				if c.up != nil {
					size = max(size, c.up.size)
				}
			}
		})
		return size >= at
	})
}

func TestALostConnectionUnderABigRequest(t *testing.T) {
	for _, tc := range []struct {
		size int
		want string
	}{{8 << 20, "+OK"}, {2*keptBody + 100, "-TRYAGAIN"}} {
		t.Run(fmt.Sprint(tc.size>>20, " MiB"), func(t *testing.T) {
			g, n := served(t, nil)
			k := talkTo(t, g.proxy.Addrs().Primary)
			rest := half(t, k, tc.size)
			g.passes(tc.size/2 - 100)
			must(t, n.client.ClientKillByFilter(ctx, "TYPE", "normal", "SKIPME", "yes").Err())
			_, err := k.Write(rest)
			must(t, err)
			if got := k.reply(); !strings.HasPrefix(got, tc.want) {
				t.Errorf("SET: %q, want %q", got, tc.want)
			}
			stored, _ := n.client.StrLen(ctx, "half").Result()
			if want := int64(tc.size); tc.want == "+OK" && stored != want || tc.want != "+OK" && stored != 0 {
				t.Errorf("%d bytes are stored", stored)
			}
			k.send([]string{"PING"}, []string{"SET", "half", big(2<<20, "i")})
			k.want("+PONG")
			k.want("+OK")
			g.do(func(l *loop) {
				if l.kept != 0 {
					t.Errorf("%d bytes are still kept", l.kept)
				}
			})
		})
	}
}

func TestABigRequestWaitsForAPrimary(t *testing.T) {
	n := startNode(t, "g-001")
	g := startProxy(t, nil)
	g.say(n.status)
	k := talkTo(t, g.proxy.Addrs().Primary)
	value := big(30<<20, "v")
	k.send([]string{"SET", "a", value}, []string{"STRLEN", "a"})
	eventually(t, "it is held", func() bool { return g.metric("understudy_proxy_held_requests_total") == 1 })
	g.do(func(l *loop) {
		for c := range l.clients {
			if len(c.in) > 1<<20 {
				t.Errorf("%d bytes of it are in the proxy", len(c.in))
			}
		}
	})
	n.promote(t)
	g.lead(n, 1, nil)
	k.want("+OK")
	k.want(":" + strconv.Itoa(len(value)))
}

func TestABigRequestIsGivenUpAtTheBoundOfTheHold(t *testing.T) {
	n := startNode(t, "g-001")
	g := startProxy(t, func(o *Options) { o.Hold = 100 * time.Millisecond })
	g.say(n.status)
	k := talkTo(t, g.proxy.Addrs().Primary)
	k.send([]string{"SET", "a", big(30<<20, "v")}, []string{"PING"})
	if got := k.reply(); !strings.HasPrefix(got, "-TRYAGAIN no primary") {
		t.Errorf("SET: %.80q", got)
	}
	n.promote(t)
	g.lead(n, 1, nil)
	if got := k.reply(); got != "+PONG" && !strings.HasPrefix(got, "-TRYAGAIN") {
		t.Errorf("PING: %.80q", got)
	}
}

// The end of a request is not sent to a primary that is none any more: nothing of it is carried out there.
func TestABigRequestEndsUnderThePermitItBeganUnder(t *testing.T) {
	for _, size := range []int{8 << 20, 2*keptBody + 100} {
		t.Run(fmt.Sprint(size>>20, " MiB"), func(t *testing.T) {
			a, b := startNode(t, "g-001"), startNode(t, "g-002")
			a.promote(t)
			b.promote(t)
			g := startProxy(t, nil)
			g.say(b.status)
			g.lead(a, 1, nil)
			k := talkTo(t, g.proxy.Addrs().Primary)
			rest := half(t, k, size)
			g.passes(size/2 - 100)
			g.fence(a)
			g.lead(b, 2, nil)
			_, err := k.Write(rest)
			must(t, err)
			got := k.reply()
			if n := a.client.Exists(ctx, "half").Val(); n != 0 {
				t.Error("the former primary has it")
			}
			n := b.client.StrLen(ctx, "half").Val()
			if size < keptBody && (got != "+OK" || n != int64(size)) || size > keptBody && (!strings.HasPrefix(got, "-TRYAGAIN") || n != 0) {
				t.Errorf("SET: %.60q, and the new primary has %d bytes", got, n)
			}
		})
	}
}

func TestALostConnectionUnderABigReplyCutsItsReaderOnly(t *testing.T) {
	g, n := served(t, nil)
	must(t, n.client.Set(ctx, "big", big(64<<20, "v"), 0).Err())
	addr := g.proxy.Addrs().Primary
	other := talkTo(t, addr)
	other.send([]string{"MULTI"}, []string{"INCR", "n"})
	other.want("+OK")
	other.want("+QUEUED")
	slow := talkTo(t, addr)
	must(t, slow.Conn.(*net.TCPConn).SetReadBuffer(64<<10))
	slow.send([]string{"GET", "big"})
	eventually(t, "it flows", func() bool {
		flows := false
		g.do(func(l *loop) {
			for _, b := range l.conns {
				if b != nil && b.slices && b.choked {
					flows = true
				}
			}
		})
		return flows
	})
	must(t, n.client.ClientKillByFilter(ctx, "TYPE", "normal", "SKIPME", "yes").Err())
	if n, err := io.Copy(io.Discard, slow.r); n >= 64<<20 {
		t.Errorf("it got %d bytes, %v", n, err)
	}
	other.send([]string{"EXEC"}, []string{"PING"})
	other.want("[:1]")
	other.want("+PONG")
	if n := g.metric("understudy_proxy_cut_clients_total"); n != 1 {
		t.Errorf("%v clients were cut", n)
	}
}

func TestWhatIsNoCommandBehindABigWordEndsItsSenderOnly(t *testing.T) {
	g, n := served(t, nil)
	addr := g.proxy.Addrs().Primary
	other := talkTo(t, addr)
	k := talkTo(t, addr)
	frame := []byte("*4\r\n$3\r\nSET\r\n$1\r\nk\r\n$2000000\r\n" + big(2_000_000, "v") + "\r\nx")
	_, err := k.Write(frame)
	must(t, err)
	k.want("-ERR Protocol error: expected '$', got 'x'")
	if _, err := k.r.ReadByte(); err != io.EOF {
		t.Errorf("then %v", err)
	}
	other.send([]string{"EXISTS", "k"})
	other.want(":0")
	_ = n
}

func TestABigWriteOnTheReaderEndpointIsRefusedAndTheSessionGoesOn(t *testing.T) {
	g, n := served(t, nil)
	r := startNode(t, "g-002")
	r.replicaOf(t, n)
	s := r.status
	s.Position = cluster.Position{}
	g.say(s)
	k := talkTo(t, g.proxy.Addrs().Reader)
	k.send([]string{"SET", "k", big(20<<20, "v")}, []string{"PING"}, []string{"EXISTS", "k"})
	k.want(strings.TrimSuffix(errReader, "\r\n"))
	k.want("+PONG")
	k.want(":0")
}
