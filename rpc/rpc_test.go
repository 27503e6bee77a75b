package rpc

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"understudy/cluster"
	"understudy/failover"
)

// patience bounds every wait.
const patience = 20 * time.Second

// actor plays a node.
type actor struct {
	mu      sync.Mutex
	word    Word
	newer   chan struct{}
	asked   []failover.Request
	kills   []Kill
	silence chan struct{} // reports wait until it is closed
}

func newActor(id cluster.NodeID) *actor {
	return &actor{newer: make(chan struct{}), word: Word{Version: 1, Status: cluster.NodeStatus{Node: id}}}
}

func (a *actor) say(change func(*Word)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.word.Version++
	change(&a.word)
	close(a.newer)
	a.newer = make(chan struct{})
}

func (a *actor) Report(ctx context.Context, epoch cluster.Epoch, wait time.Duration) (Answer, error) {
	if a.silence != nil && epoch > 0 {
		select {
		case <-a.silence:
		case <-time.After(wait):
		case <-ctx.Done():
		}
	}
	return Answer{Report: failover.Report{Node: a.word.Status.Node, Seen: epoch}, Addr: "127.0.0.1:1"}, nil
}

func (a *actor) Position(context.Context) (cluster.Position, error) {
	return cluster.Position{}, errors.New("redis-server is away")
}

func (a *actor) Word(ctx context.Context, after After) (Word, error) {
	limit := time.After(after.Wait)
	for {
		a.mu.Lock()
		w, newer := a.word, a.newer
		a.mu.Unlock()
		if w.Version != after.Version {
			return w, nil
		}
		select {
		case <-newer:
		case <-limit:
			return w, nil
		case <-ctx.Done():
			return w, ctx.Err()
		}
	}
}

func (a *actor) Request(_ context.Context, r failover.Request) (failover.Reply, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked = append(a.asked, r)
	return failover.Reply{ID: r.ID, OK: true, Message: "done"}, nil
}

func (a *actor) Kill(_ context.Context, k Kill) (failover.Reply, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.kills = append(a.kills, k)
	return failover.Reply{ID: k.ID, Refused: true, Message: "leads no more"}, nil
}

// serve answers for the actors at addr until the test ends.
func serve(t *testing.T, addr string, config *tls.Config, actors ...*actor) string {
	t.Helper()
	return serveWith(t, NewServer(ServerOptions{}), addr, config, actors...)
}

func serveWith(t *testing.T, s *Server, addr string, config *tls.Config, actors ...*actor) string {
	t.Helper()
	for _, a := range actors {
		s.Register(a.word.Status.Node, a)
	}
	l, err := Listen(t.Context(), addr, config)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return AddrOf(l)
}

func TestQuestionsArriveOverUnixSocketsAndTCP(t *testing.T) {
	for _, addr := range []string{Unix(filepath.Join(t.TempDir(), "s")), TCP("127.0.0.1", 0)} {
		one, two := newActor("main-001"), newActor("main-002")
		at := serve(t, addr, nil, one, two)
		c := NewClient(ClientOptions{})
		defer c.Close()
		to := To{"main-002", at}
		got, err := c.Report(t.Context(), to, 7, time.Millisecond)
		if err != nil || got.Node != "main-002" || got.Seen != 7 || got.Addr != "127.0.0.1:1" {
			t.Errorf("%s: report %+v, %v", addr, got, err)
		}
		r := failover.Request{ID: "1", Kind: failover.RequestPledge, Node: "main-001", Epoch: 9}
		if reply, err := c.Request(t.Context(), to, r); err != nil || !reply.OK || two.asked[0] != r {
			t.Errorf("%s: request %+v, %v; it heard %+v", addr, reply, err, two.asked)
		}
		if reply, err := c.Kill(t.Context(), to, Kill{"2", 9}); err != nil || !reply.Refused || two.kills[0] != (Kill{"2", 9}) {
			t.Errorf("%s: kill %+v, %v; it heard %+v", addr, reply, err, two.kills)
		}
		if _, err := c.Position(t.Context(), to); err == nil || !strings.Contains(err.Error(), "redis-server is away") {
			t.Errorf("%s: the node's own error is %v", addr, err)
		}
		if _, err := c.Report(t.Context(), To{"other-001", at}, 0, 0); err == nil || !strings.Contains(err.Error(), "does not run here") {
			t.Errorf("%s: a node that is not here: %v", addr, err)
		}
	}
}

func TestAStopCannotBeAskedForFromOutside(t *testing.T) {
	at := serve(t, TCP("127.0.0.1", 0), nil, newActor("main-001"))
	_, err := NewClient(ClientOptions{}).Request(t.Context(), To{"main-001", at}, failover.Request{ID: "1", Kind: failover.RequestStop})
	if err == nil || !strings.Contains(err.Error(), "not one that can be sent") {
		t.Fatal(err)
	}
}

func TestAHeldReportIsAnsweredWhenItsNodeLetsGo(t *testing.T) {
	a := newActor("main-001")
	a.silence = make(chan struct{})
	at := serve(t, TCP("127.0.0.1", 0), nil, a)
	c := NewClient(ClientOptions{})
	defer c.Close()
	time.AfterFunc(100*time.Millisecond, func() { close(a.silence) })
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	began := time.Now()
	if _, err := c.Report(ctx, To{"main-001", at}, 3, patience); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took < 90*time.Millisecond || took > patience/2 {
		t.Errorf("held for %v, want 100 ms", took)
	}
}

// relay forwards connections and can be made to drop every packet without a word, as a cut network does.
type relay struct {
	net.Listener
	to    string
	conns atomic.Int64
	dead  atomic.Int64 // so many of the first connections carry nothing any more
}

func newRelay(t *testing.T, to string) *relay {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{Listener: l, to: strings.TrimPrefix(to, "tcp:")}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go r.carry(c, r.conns.Add(1))
		}
	}()
	return r
}

func (r *relay) carry(c net.Conn, number int64) {
	d, err := net.Dial("tcp", r.to)
	if err != nil {
		_ = c.Close()
		return
	}
	copyUntilDropped := func(to, from net.Conn) {
		buf := make([]byte, 4096)
		for {
			n, err := from.Read(buf)
			if number <= r.dead.Load() {
				return // and closes nothing: nobody is told
			}
			if err != nil {
				_ = to.Close()
				return
			}
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
	}
	go copyUntilDropped(d, c)
	copyUntilDropped(c, d)
}

// A kept connection died silently while the peer was cut off. The peer is back: the next question must
// not lose its time to the dead connection.
func TestASilentlyDeadConnectionCostsNoQuestionItsTime(t *testing.T) {
	a := newActor("main-001")
	r := newRelay(t, serve(t, TCP("127.0.0.1", 0), nil, a))
	c := NewClient(ClientOptions{})
	defer c.Close()
	to := To{"main-001", AddrOf(r)}
	if _, err := c.Report(t.Context(), to, 0, 0); err != nil {
		t.Fatal(err)
	}
	r.dead.Store(r.conns.Load())
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	began := time.Now()
	if _, err := c.Report(ctx, to, 0, 0); err != nil {
		t.Fatal(err)
	}
	t.Logf("answered after %v", time.Since(began))
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("the question took %v", took)
	}
}

func TestAPeerThatDropsEverythingCostsTheBoundAndNoMore(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0") // accepts and never answers
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c := NewClient(ClientOptions{})
	defer c.Close()
	for range 3 {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		began := time.Now()
		_, err := c.Report(ctx, To{"main-001", AddrOf(l)}, 1, 80*time.Millisecond)
		cancel()
		if took := time.Since(began); err == nil || took > 2*time.Second {
			t.Errorf("after %v: %v", took, err)
		}
	}
}

func TestAnAnswerWithoutEndIsRefused(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for range 2 * maxAnswer / 1024 {
			if _, err := io.WriteString(w, strings.Repeat(" ", 1024)); err != nil {
				return
			}
		}
	}))
	defer s.Close()
	_, err := NewClient(ClientOptions{}).Word(t.Context(), To{"main-001", "tcp:" + s.Listener.Addr().String()}, After{})
	if err == nil || !strings.Contains(err.Error(), "more than") {
		t.Fatal(err)
	}
}

func TestFollowHandsOnEveryChangeWithTheTimeFromBeforeItAsked(t *testing.T) {
	a := newActor("main-001")
	at := serve(t, TCP("127.0.0.1", 0), nil, a)
	c := NewClient(ClientOptions{})
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	began := time.Now()
	clock := func() time.Duration { return time.Since(began) }
	heard, last := 0, time.Duration(-1)
	Follow(ctx, Following{Client: c, To: func() To { return To{"main-001", at} }, Clock: clock}, func(sentAt time.Duration, w Word) {
		if sentAt > clock() || sentAt < last {
			t.Errorf("sent at %v, after %v, now %v", sentAt, last, clock())
		}
		last = sentAt
		if heard++; int(w.Version) != heard {
			t.Errorf("version %d is the %dth that is heard", w.Version, heard)
		}
		if heard == 20 {
			cancel()
			return
		}
		go a.say(func(w *Word) { w.Status.Epoch++ })
	})
	if heard != 20 {
		t.Fatalf("heard %d words", heard)
	}
}

func TestFollowFindsANodeThatMoved(t *testing.T) {
	old, now := newActor("main-001"), newActor("main-001")
	now.word.Status.PID = 2
	here, there := serve(t, TCP("127.0.0.1", 0), nil, old), serve(t, TCP("127.0.0.1", 0), nil, now)
	var at atomic.Value
	at.Store("")
	c := NewClient(ClientOptions{})
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	failed := 0
	f := Following{Client: c, To: func() To { return To{"main-001", at.Load().(string)} }, Clock: func() time.Duration { return 0 }, Wait: 10 * time.Millisecond,
		OnError: func(error) { failed++; at.CompareAndSwap("", here) }}
	Follow(ctx, f, func(_ time.Duration, w Word) {
		at.Store(there)
		if w.Status.PID == 2 {
			cancel()
		}
	})
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		t.Fatal("it was not found")
	}
	if failed != 1 {
		t.Errorf("%d polls failed, want the one to nowhere", failed)
	}
}

// The pauses grow to a bound, and never stop.
func TestFollowGoesOnWhileNobodyAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		tries := 0
		f := Following{Client: NewClient(ClientOptions{}), To: func() To { tries++; return To{Node: "main-001"} }, Clock: func() time.Duration { return 0 }}
		Follow(ctx, f, func(time.Duration, Word) { t.Error("heard something") })
		if least, most := int(time.Minute/lastPause), int(time.Minute/lastPause)+10; tries < least || tries > most {
			t.Errorf("%d tries in a minute, want %d to %d", tries, least, most)
		}
	})
}

func TestAddressesAreChecked(t *testing.T) {
	for addr, ok := range map[string]bool{
		"unix:/a/b": true, "tcp:10.0.0.1:7400": true, "tcp:[::1]:7400": true, "tcp:host.example:1": true,
		"": false, "unix:": false, "tcp:": false, "tcp:10.0.0.1": false, "tcp::7400": false, "tcp:h:99999": false, "http://h:1": false,
		"unix:" + strings.Repeat("x", 108): false,
	} {
		if err := Valid(addr); (err == nil) != ok {
			t.Errorf("%q: %v", addr, err)
		}
	}
}

func TestQuestionsThatMakeNoSenseAreRefused(t *testing.T) {
	s := NewServer(ServerOptions{})
	s.Register("n", newActor("n"))
	for _, c := range []struct {
		method, target, body string
		code                 int
	}{
		{"GET", "/v1/report?node=n&epoch=x", "", 400},
		{"GET", "/v1/report?node=n&wait=-1s", "", 400},
		{"GET", "/v1/status?node=n&after=-1", "", 400},
		{"GET", "/v1/status?node=nobody", "", 404},
		{"POST", "/v1/request?node=n", `{"id":"1","kind":"stop"}`, 400},
		{"POST", "/v1/request?node=n", `{"kind":"force"}`, 400},
		{"POST", "/v1/request?node=n", `{"id":"1","kind":"force","surprise":1}`, 400},
		{"POST", "/v1/request?node=n", fmt.Sprintf(`{"id":"%s"`, strings.Repeat("x", maxRequest)), 400},
		{"POST", "/v1/kill?node=n", `{"id":"1"}`, 400},
		{"GET", "/v1/kill?node=n", "", 405},
		{"GET", "/v2/status?node=n", "", 404},
	} {
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, httptest.NewRequest(c.method, c.target, strings.NewReader(c.body)))
		if w.Code != c.code {
			t.Errorf("%s %s: %d %s, want %d", c.method, c.target, w.Code, w.Body, c.code)
		}
	}
}

// Whatever comes in, the server answers with one of its codes and does not fall over.
func FuzzQuestion(f *testing.F) {
	f.Add("GET", "report", "node=n&epoch=1&wait=1ms", "")
	f.Add("GET", "status", "node=n&after=1&events=2&wait=1ms", "")
	f.Add("POST", "request", "node=n", `{"id":"1","kind":"switchover","to":"n"}`)
	f.Add("POST", "kill", "node=n", `{"id":"1","epoch":3}`)
	s := NewServer(ServerOptions{})
	s.Register("n", newActor("n"))
	f.Fuzz(func(t *testing.T, method, path, query, body string) {
		if method != http.MethodGet && method != http.MethodPost || strings.ContainsAny(path, " #?%/.\\") {
			return
		}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
		defer cancel()
		r := httptest.NewRequest(method, "http://agent/v1/x", strings.NewReader(body)).WithContext(ctx)
		r.URL.Path, r.URL.RawQuery = "/v1/"+path, query
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, r)
		switch w.Code {
		case 102, 200, 301, 307, 400, 404, 405, 503:
		default:
			t.Fatalf("%s %s?%s: %d %s", method, path, query, w.Code, w.Body)
		}
	})
}
