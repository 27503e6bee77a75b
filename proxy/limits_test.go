package proxy

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"understudy/resp"
)

// notes is a log that tests read.
type notes struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (n *notes) Write(p []byte) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.text.Write(p)
}

func (n *notes) String() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.text.String()
}

// served starts a proxy before one real primary.
func served(t testing.TB, change func(*Options)) (*group, *node) {
	t.Helper()
	n := startNode(t, "g-001")
	n.promote(t)
	g := startProxy(t, change)
	g.lead(n, 1, nil)
	return g, n
}

// raw is a connection without a client library: what a test writes is what is sent.
func raw(t testing.TB, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	must(t, err)
	t.Cleanup(func() { _ = c.Close() })
	must(t, c.SetDeadline(time.Now().Add(30*time.Second)))
	return c
}

// say writes a command and returns what is answered, at most one line of it.
func say(t testing.TB, c net.Conn, args ...string) string {
	t.Helper()
	_, err := c.Write(resp.AppendCommand(nil, args...))
	must(t, err)
	return line(t, c)
}

func line(t testing.TB, c net.Conn) string {
	t.Helper()
	var got []byte
	for b := make([]byte, 1); !bytes.HasSuffix(got, crlf); got = append(got, b[0]) {
		if _, err := c.Read(b); err != nil {
			t.Fatalf("after %q: %v", got, err)
		}
	}
	return string(got)
}

func TestProxyRefusesTheClientThatIsOneTooMany(t *testing.T) {
	g, _ := served(t, func(o *Options) { o.MaxClients = 2 })
	a, b := raw(t, g.proxy.Addrs().Primary), raw(t, g.proxy.Addrs().Split)
	if x, y := say(t, a, "PING"), say(t, b, "PING"); x != "+PONG\r\n" || y != x {
		t.Fatalf("%q, %q", x, y)
	}
	c := raw(t, g.proxy.Addrs().Reader)
	if all, err := io.ReadAll(c); string(all) != "-ERR max number of clients reached\r\n" || err != nil {
		t.Errorf("the third client is told %q, %v", all, err)
	}
	if n := g.metric("understudy_proxy_rejected_clients_total"); n != 1 {
		t.Errorf("%v refusals are counted", n)
	}
	b.Close()
	eventually(t, "another client is let in", func() bool {
		d, err := net.Dial("tcp", g.proxy.Addrs().Primary)
		must(t, err)
		defer d.Close()
		must(t, d.SetDeadline(time.Now().Add(5*time.Second)))
		_, err = d.Write([]byte("PING\r\n"))
		got, _ := bufio.NewReader(d).ReadString('\n')
		return err == nil && got == "+PONG\r\n"
	})
	if got := say(t, a, "PING"); got != "+PONG\r\n" {
		t.Errorf("the first client is told %q", got)
	}
}

// stuck opens a connection that sends commands and reads nothing of their replies.
func stuck(t *testing.T, addr string, replies int, args ...string) net.Conn {
	t.Helper()
	c := raw(t, addr)
	must(t, c.(*net.TCPConn).SetReadBuffer(128<<10))
	_, err := c.Write(bytes.Repeat(resp.AppendCommand(nil, args...), replies))
	must(t, err)
	return c
}

func TestProxyCutsTheClientThatDoesNotRead(t *testing.T) {
	for _, tc := range []struct {
		reason string
		change func(*Options)
	}{
		{"output limit", func(o *Options) { o.OutputLimit = 1 << 20 }},
		{"soft output limit", func(o *Options) { o.OutputSoft, o.OutputSoftFor = 256<<10, 200*time.Millisecond }},
		{"memory of all clients", func(o *Options) { o.ClientMemory = 4 << 20 }},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			var log notes
			g, _ := served(t, func(o *Options) {
				tc.change(o)
				o.Logger = slog.New(slog.NewTextHandler(&log, nil))
			})
			good := raw(t, g.proxy.Addrs().Primary)
			secret := strings.Repeat("hunter2.", 16<<10)
			if got := say(t, good, "SET", "k", secret); got != "+OK\r\n" {
				t.Fatalf("SET: %q", got)
			}
			bad := stuck(t, g.proxy.Addrs().Primary, 200, "GET", "k")
			eventually(t, "the client is cut", func() bool { return g.metric("understudy_proxy_cut_clients_total") == 1 })
			if got := say(t, good, "PING"); got != "+PONG\r\n" {
				t.Errorf("another client is told %q", got)
			}
			if n, err := io.Copy(io.Discard, bad); n >= 200*int64(len(secret)) {
				t.Errorf("it got all of its %d bytes, %v", n, err)
			}
			text := log.String()
			if !strings.Contains(text, `reason="`+tc.reason+`"`) || !strings.Contains(text, "addr=127.0.0.1:") || strings.Contains(text, "hunter2") {
				t.Errorf("the log says %s", text)
			}
		})
	}
}

func TestProxyGivesOneBigReplyToASlowReader(t *testing.T) {
	g, n := served(t, func(o *Options) { o.OutputLimit = 1 << 20 })
	value := strings.Repeat("0123456789abcdef", 2<<20)
	must(t, n.client.Set(ctx, "big", value, 0).Err())
	c := stuck(t, g.proxy.Addrs().Primary, 1, "GET", "big")
	eventually(t, "some of it waits", func() bool { return g.metric("understudy_proxy_output_bytes") > 0 })
	if waits := g.metric("understudy_proxy_output_bytes"); waits > 1<<20 {
		t.Errorf("%v bytes of it wait in the proxy", waits)
	}
	all := make([]byte, len("$33554432\r\n")+len(value)+2)
	if _, err := io.ReadFull(c, all); err != nil || string(all[len(all)-len(value)-2:len(all)-2]) != value {
		t.Errorf("the value arrives wrong, or not: %v", err)
	}
	if got := say(t, c, "PING"); got != "+PONG\r\n" {
		t.Errorf("then PING: %q", got)
	}
}

func TestProxyServesOthersWhileRequestsTrickleIn(t *testing.T) {
	g, _ := served(t, nil)
	const clients = 100
	frame := resp.AppendCommand(nil, "SET", "k", "value")
	var slow []net.Conn
	for range clients {
		slow = append(slow, raw(t, g.proxy.Addrs().Primary))
	}
	good := raw(t, g.proxy.Addrs().Primary)
	worst := time.Duration(0)
	for i := range frame {
		for _, c := range slow {
			_, err := c.Write(frame[i : i+1])
			must(t, err)
		}
		from := time.Now()
		if got := say(t, good, "PING"); got != "+PONG\r\n" {
			t.Fatalf("PING: %q", got)
		}
		worst = max(worst, time.Since(from))
	}
	for i, c := range slow {
		if got := line(t, c); got != "+OK\r\n" {
			t.Fatalf("client %d is told %q", i, got)
		}
	}
	t.Logf("slowest PING beside %d half frames: %v", clients, worst)
	if worst > time.Second {
		t.Errorf("others waited %v", worst)
	}
}

func TestProxyCutsARequestWithoutEnd(t *testing.T) {
	g, _ := served(t, func(o *Options) { o.InputLimit = 1 << 20 })
	good, bad := raw(t, g.proxy.Addrs().Primary), raw(t, g.proxy.Addrs().Primary)
	_, err := bad.Write([]byte("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$500000000\r\n"))
	must(t, err)
	for err == nil { // until the proxy closes it
		_, err = bad.Write(make([]byte, 256<<10))
	}
	if nerr, ok := err.(net.Error); ok && nerr.Timeout() {
		t.Fatalf("it is not cut: %v", err)
	}
	eventually(t, "it is counted", func() bool { return g.metric("understudy_proxy_cut_clients_total") == 1 })
	if got := say(t, good, "SET", "k", strings.Repeat("x", 900<<10)); got != "+OK\r\n" {
		t.Errorf("a request below the limit: %q", got)
	}
}

// The child holds the other ends, so that the test's own heap is the proxy's and its descriptors suffice.
const idleChild = "UNDERSTUDY_IDLE_CONNECTIONS"

func TestMain(m *testing.M) {
	if spec := os.Getenv(idleChild); spec != "" {
		if err := holdConnections(spec); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// holdConnections opens as many connections as it is told, uses each once, says so and waits for the end
// of its input.
func holdConnections(spec string) error {
	words := strings.Fields(spec)
	at, network, size := words[0], words[2], words[3]
	n, err := strconv.Atoi(words[1])
	bytes, err2 := strconv.Atoi(size)
	if err != nil || err2 != nil {
		return errors.Join(err, err2)
	}
	command := resp.AppendCommand(nil, "SET", "k", strings.Repeat("x", bytes))
	answer := make([]byte, len(replyOK))
	var held []net.Conn
	for range n {
		var c net.Conn
		var err error
		if network == "tls" {
			c, err = tls.Dial("tcp", at, &tls.Config{InsecureSkipVerify: true, // memory is the matter here
				DynamicRecordSizingDisabled: true}) // long records, as OpenSSL sends
		} else {
			c, err = net.Dial("tcp", at)
		}
		if err != nil {
			return err
		}
		held = append(held, c)
		if _, err := c.Write(command); err != nil {
			return err
		}
		if _, err := io.ReadFull(c, answer); err != nil {
			return err
		}
	}
	fmt.Println("ready")
	_, err = io.Copy(io.Discard, os.Stdin)
	runtime.KeepAlive(held)
	return err
}

func heldBytes() uint64 {
	runtime.GC()
	runtime.GC() // the first one only ends what the pools keep
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc + m.StackInuse
}

func residentBytes(t *testing.T) int {
	text, err := os.ReadFile("/proc/self/statm")
	must(t, err)
	pages, err := strconv.Atoi(strings.Fields(string(text))[1])
	must(t, err)
	return pages * os.Getpagesize()
}

// wantConnections is how many connections the machine's limit of open files allows, at most 10,000.
func wantConnections(t *testing.T) int {
	const want = 10_000
	var r unix.Rlimit
	must(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &r))
	if r.Cur < want+2*descriptorsBeside {
		raised := unix.Rlimit{Cur: want + 2*descriptorsBeside, Max: max(r.Max, want+2*descriptorsBeside)}
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &raised); err != nil {
			n := int(r.Cur) - 2*descriptorsBeside
			t.Logf("SCALED DOWN: %d connections instead of %d, because only %d files may be open: %v", n, want, r.Cur, err)
			return n
		}
	}
	return want
}

func TestTenThousandIdleConnectionsTakeLittleMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes some seconds")
	}
	g, _ := served(t, nil)
	idleMemory(t, g, "tcp 20000", wantConnections(t), 8<<10)
}

// What crypto/tls keeps of a connection is not ours to give back: its buffer is as long as the longest
// record that came.
func TestIdleTLSConnectionsTakeALongRecordAndLittleMore(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes some seconds")
	}
	_, paths := identity(t)
	g, _ := served(t, withTLS(opened(t, paths)))
	idleMemory(t, g, "tls 100", 1000, 10<<10)
	idleMemory(t, g, "tls 20000", 1000, 32<<10)
}

// idleMemory opens n connections from another process, each of which sets one value, and holds what each
// costs against a bound in bytes. load is the network and the value's size.
func idleMemory(t *testing.T, g *group, load string, n int, bound float64) {
	t.Helper()
	addr := g.proxy.Addrs().Primary
	if strings.HasPrefix(load, "tls") {
		addr = g.proxy.Addrs().PrimaryTLS
	}
	before, resident := heldBytes(), residentBytes(t)
	child := exec.CommandContext(t.Context(), os.Args[0])
	child.Env = append(os.Environ(), idleChild+"="+addr+" "+strconv.Itoa(n)+" "+load)
	in, err := child.StdinPipe()
	must(t, err)
	out, err := child.StdoutPipe()
	must(t, err)
	must(t, child.Start())
	defer func() {
		in.Close()
		must(t, child.Wait())
	}()
	if word, err := bufio.NewReader(out).ReadString('\n'); word != "ready\n" {
		t.Fatalf("the clients say %q, %v", word, err)
	}
	eventually(t, "all clients are counted", func() bool { return g.metric("understudy_proxy_clients") == float64(n) })
	each := func() float64 { return (float64(heldBytes()) - float64(before)) / float64(n) }
	used := each()
	for end := time.Now().Add(60 * time.Second); used > bound && time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		used = each()
	}
	t.Logf("%s: %d idle connections: %.0f bytes each on heap and stacks, %.0f resident", load, n, used, float64(residentBytes(t)-resident)/float64(n))
	if used > bound {
		t.Errorf("an idle connection takes %.0f bytes, more than %.0f", used, bound)
	}
}

// The kernel says that somebody waits for as long as he does: without a descriptor in reserve the loop would
// spin, and nobody would be told.
func TestProxyTellsAClientThatNoFileIsLeftForIt(t *testing.T) {
	var log notes
	g, _ := served(t, func(o *Options) { o.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
	good := raw(t, g.proxy.Addrs().Primary)
	if got := say(t, good, "PING"); got != "+PONG\r\n" {
		t.Fatalf("PING: %q", got)
	}
	var old unix.Rlimit
	must(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &old))
	free, err := unix.Dup(0) // the lowest that is free
	must(t, err)
	must(t, unix.Close(free))
	must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(free) + 1, Max: old.Max}))
	t.Cleanup(func() { must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &old)) })
	c := raw(t, g.proxy.Addrs().Primary) // takes it
	if all, err := io.ReadAll(c); string(all) != errMaxClients || err != nil {
		t.Errorf("the client is told %q, %v", all, err)
	}
	must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &old))
	if n := g.metric("understudy_proxy_rejected_clients_total"); n != 1 {
		t.Errorf("%v refusals are counted", n)
	}
	if !strings.Contains(log.String(), "no file descriptor is left") {
		t.Errorf("the log says %s", log.String())
	}
	for _, x := range []net.Conn{good, raw(t, g.proxy.Addrs().Primary)} {
		if got := say(t, x, "PING"); got != "+PONG\r\n" {
			t.Errorf("then PING: %q", got)
		}
	}
}
