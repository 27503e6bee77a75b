package drill

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strconv"
	"sync"
	"testing"
	"time"

	"understudy/cluster"
	rediserver "understudy/redis"
)

// fakeGroup is real redis-servers behind a fake instance: a status page, and one endpoint that cuts
// its connections and moves when the test says so. It has none of the failover that a drill is to
// judge, so a test decides what is lost.
type fakeGroup struct {
	t       *testing.T
	servers []*server
	forward *forwarder
	http    *httptest.Server

	mu           sync.Mutex
	status       cluster.Status
	onSwitchover func() int // answers POST /api/switchover with a status code
	subscribers  []chan cluster.Event
	done         chan struct{}
}

// server is one redis-server of a test.
type server struct {
	addr string
	port int
	cmd  *exec.Cmd
	dead chan struct{}
}

func startServer(t *testing.T, port int, args ...string) *server {
	t.Helper()
	if port == 0 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		port = l.Addr().(*net.TCPAddr).Port
		l.Close()
	}
	s := &server{addr: fmt.Sprintf("127.0.0.1:%d", port), port: port, dead: make(chan struct{})}
	s.cmd = exec.Command("redis-server", append([]string{"--port", strconv.Itoa(port), "--save", "", "--dir", t.TempDir(),
		"--repl-diskless-sync-delay", "0", "--bind", "127.0.0.1"}, args...)...)
	if err := s.cmd.Start(); err != nil {
		t.Skipf("redis-server is needed: %v", err)
	}
	go func() {
		_ = s.cmd.Wait()
		close(s.dead)
	}()
	t.Cleanup(func() {
		_ = s.cmd.Process.Kill()
		<-s.dead
	})
	await(t, "the server answers", func() bool {
		pid, err := processID(context.Background(), s.addr)
		return err == nil && pid == s.cmd.Process.Pid
	})
	return s
}

func await(t *testing.T, what string, is func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !is() {
		if time.Now().After(deadline) {
			t.Fatalf("after 10 s still not: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// startGroup runs a primary and a replica of it.
func startGroup(t *testing.T) *fakeGroup {
	quietClients()
	g := &fakeGroup{t: t, done: make(chan struct{}), onSwitchover: func() int { return http.StatusConflict }}
	primary := startServer(t, 0)
	replica := startServer(t, 0, "--replicaof", "127.0.0.1 "+strconv.Itoa(primary.port))
	g.servers = []*server{primary, replica}
	g.awaitSync(replica)
	g.forward = startForwarder(t, primary.addr)
	g.status = cluster.Status{Group: "main", State: cluster.GroupAvailable, Epoch: 1, Primary: "main-001", Nodes: []cluster.StatusNode{
		{ID: "main-001", Zone: "a", Role: cluster.RolePrimary, State: cluster.StateReady, Addr: primary.addr, PID: primary.cmd.Process.Pid},
		{ID: "main-002", Zone: "b", Role: cluster.RoleReplica, State: cluster.StateReady, Addr: replica.addr, PID: replica.cmd.Process.Pid},
	}}
	g.status.Endpoints.Primary, g.status.Endpoints.Reader, g.status.Endpoints.Split = g.forward.addr(), g.forward.addr(), g.forward.addr()
	g.http = httptest.NewServer(g)
	t.Cleanup(g.http.Close)
	t.Cleanup(func() { close(g.done) }) // first: it ends the event streams that Close waits for
	return g
}

func (g *fakeGroup) awaitSync(s *server) {
	g.t.Helper()
	c := newClient(s.addr)
	defer c.Close()
	await(g.t, "the replica's link is up", func() bool {
		info, err := c.Info(context.Background(), "replication").Result()
		return err == nil && rediserver.InfoFields(info)["master_link_status"] == "up"
	})
}

func (g *fakeGroup) addr() string { return g.http.Listener.Addr().String() }

func (g *fakeGroup) change(fn func(*cluster.Status)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.status
	s.Nodes = append([]cluster.StatusNode(nil), s.Nodes...)
	fn(&s)
	g.status = s
}

func (g *fakeGroup) emit(name string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, c := range g.subscribers {
		c <- cluster.Event{Time: time.Now(), Group: "main", Node: "main-002", Name: name, Message: "as the test wants"}
	}
}

func (g *fakeGroup) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/api/status":
		g.mu.Lock()
		defer g.mu.Unlock()
		_ = json.NewEncoder(w).Encode(g.status)
	case "/api/switchover":
		code := g.onSwitchover()
		w.WriteHeader(code)
		_, _ = io.WriteString(w, `{"message":"said the test"}`)
	case "/api/events":
		events := make(chan cluster.Event, 16)
		g.mu.Lock()
		g.subscribers = append(g.subscribers, events)
		g.mu.Unlock()
		w.WriteHeader(http.StatusOK)
		w.(http.Flusher).Flush()
		for {
			select {
			case <-g.done:
				return
			case <-r.Context().Done():
				return
			case e := <-events:
				b, _ := json.Marshal(e)
				fmt.Fprintf(w, "data: %s\n\n", b)
				w.(http.Flusher).Flush()
			}
		}
	}
}

// promoteWhenDead makes the replica the primary once the first server has died, and the first one,
// started again at its old address, its replica.
func (g *fakeGroup) promoteWhenDead() {
	finished := make(chan struct{})
	g.t.Cleanup(func() { <-finished })
	go func() {
		defer close(finished)
		select {
		case <-g.servers[0].dead:
		case <-g.done:
			return
		}
		ctx := context.Background()
		c := newClient(g.servers[1].addr)
		defer c.Close()
		if err := c.ReplicaOf(ctx, "NO", "ONE").Err(); err != nil {
			g.t.Errorf("promote: %v", err)
			return
		}
		g.forward.move(g.servers[1].addr)
		g.change(func(s *cluster.Status) {
			s.State, s.Epoch, s.Primary = cluster.GroupDegraded, 2, "main-002"
			s.Nodes[0].State, s.Nodes[0].PID = cluster.StateDown, 0
		})
		g.emit("promoted")
		again := startServer(g.t, g.servers[0].port, "--replicaof", "127.0.0.1 "+strconv.Itoa(g.servers[1].port))
		g.awaitSync(again)
		g.change(func(s *cluster.Status) {
			s.State = cluster.GroupAvailable
			s.Nodes[0].State, s.Nodes[0].PID = cluster.StateReady, again.cmd.Process.Pid
		})
	}()
}

// forwarder is an endpoint that passes bytes on, and cuts all connections when it moves.
type forwarder struct {
	listener net.Listener
	mu       sync.Mutex
	to       string
	conns    map[net.Conn]bool
	running  sync.WaitGroup
}

func startForwarder(t *testing.T, to string) *forwarder {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &forwarder{listener: l, to: to, conns: map[net.Conn]bool{}}
	f.running.Go(f.accept)
	t.Cleanup(func() {
		l.Close()
		f.move("")
		f.running.Wait()
	})
	return f
}

func (f *forwarder) addr() string { return f.listener.Addr().String() }

func (f *forwarder) move(to string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.to = to
	for c := range f.conns {
		c.Close()
	}
}

func (f *forwarder) accept() {
	for {
		client, err := f.listener.Accept()
		if err != nil {
			return
		}
		f.mu.Lock()
		to := f.to
		f.mu.Unlock()
		backend, err := net.Dial("tcp", to)
		if err != nil {
			client.Close()
			continue
		}
		f.pass(client, backend)
		f.pass(backend, client)
	}
}

func (f *forwarder) pass(from, to net.Conn) {
	f.mu.Lock()
	f.conns[from] = true
	f.mu.Unlock()
	f.running.Go(func() {
		_, _ = io.Copy(to, from)
		from.Close()
		to.Close()
		f.mu.Lock()
		delete(f.conns, from)
		f.mu.Unlock()
	})
}
