package monitor

import (
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	redigo "github.com/gomodule/redigo/redis"

	"understudy/cluster"
	"understudy/metric"
	"understudy/redis"
)

// server is a real redis-server under watch.
type server struct {
	t    *testing.T
	id   cluster.NodeID
	dir  string
	port int
	args []string
	pass string
	cmd  *exec.Cmd
	conn redigo.Conn
}

func startServer(t *testing.T, id cluster.NodeID) *server {
	t.Helper()
	return startLocked(t, id, "")
}

// startLocked starts one that asks for a password, and has a unix socket.
func startLocked(t *testing.T, id cluster.NodeID, pass string) *server {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &server{t: t, id: id, dir: t.TempDir(), port: l.Addr().(*net.TCPAddr).Port, pass: pass}
	if pass != "" {
		s.args = []string{"--requirepass", pass, "--masterauth", pass, "--unixsocket", s.socket()}
	}
	_ = l.Close()
	s.start()
	t.Cleanup(s.kill)
	return s
}

func (s *server) start() {
	s.t.Helper()
	binary, err := redis.FindServer(s.t.Context(), "")
	if err != nil {
		s.t.Skip(err)
	}
	args := append([]string{"--port", strconv.Itoa(s.port), "--bind", "127.0.0.1", "--dir", s.dir, "--save", "", "--repl-diskless-sync-delay", "0"}, s.args...)
	s.cmd = exec.Command(binary.Path, args...)
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.until("it answers", func() bool {
		s.conn, err = redigo.Dial("tcp", s.addr(), redigo.DialPassword(s.pass))
		return err == nil
	})
}

func (s *server) kill() {
	_ = s.conn.Close()
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
}

func (s *server) addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)) }

func (s *server) socket() string { return filepath.Join(s.dir, "s") }

func (s *server) do(command string, args ...any) string {
	s.t.Helper()
	reply, err := s.conn.Do(command, args...)
	if err != nil {
		s.t.Fatalf("%s at %s: %v", command, s.id, err)
	}
	if b, ok := reply.([]byte); ok {
		return string(b)
	}
	return fmt.Sprint(reply)
}

func (s *server) signal(sig syscall.Signal) {
	s.t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		s.t.Fatal(err)
	}
}

func (s *server) follow(of *server) {
	s.t.Helper()
	s.do("REPLICAOF", "127.0.0.1", of.port)
	s.until("it follows", func() bool { return strings.Contains(s.do("INFO", "replication"), "master_link_status:up") })
}

// until waits for a condition.
func (s *server) until(what string, holds func() bool) {
	s.t.Helper()
	for end := time.Now().Add(20 * time.Second); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			s.t.Fatalf("%s: not after 20s: %s", s.id, what)
		}
	}
}

func (s *server) status() cluster.StatusNode {
	return cluster.StatusNode{ID: s.id, Addr: s.addr(), PID: s.cmd.Process.Pid, LagMs: 7}
}

// watched is a group of servers that a Collector looks at, at the times that the test says.
type watched struct {
	*testing.T
	c     *Collector
	at    time.Time
	group Group
	nodes []*server
	data  []metric.Datum // of the last look
}

// watch has the Collector look at servers, the first as their primary; its first look is at the start of a minute.
func watchServers(t *testing.T, nodes ...*server) *watched {
	c, err := New(Options{Groups: func() []Group { return nil }, Writer: discard{}})
	if err != nil {
		t.Fatal(err)
	}
	w := &watched{T: t, c: c, at: time.Now().Truncate(time.Minute).Add(phase), nodes: nodes}
	w.group.Status = cluster.Status{Group: "main", Epoch: 1, Primary: nodes[0].id}
	c.ended = minuteEnd(w.at)
	c.opts.Groups = func() []Group {
		w.group.Status.Nodes = nil
		for _, n := range w.nodes {
			w.group.Status.Nodes = append(w.group.Status.Nodes, n.status())
		}
		return []Group{w.group}
	}
	t.Cleanup(c.stop)
	return w
}

// look is a second later, and returns what is published by "node name", "group name", and "aws node name".
func (w *watched) look() map[string][]float64 {
	w.at = w.at.Add(every)
	got := map[string][]float64{}
	w.data = w.c.collect(w.Context(), w.at)
	for _, d := range w.data {
		of := map[string]string{}
		for _, x := range d.ID.Dimensions {
			of[x.Name] = x.Value
		}
		switch {
		case of["CacheNodeId"] != "":
			continue // the same again
		case d.ID.Namespace == metric.ElastiCache:
			got["aws "+of["CacheClusterId"]+" "+d.ID.Name] = d.Values
		case of["CacheClusterId"] != "":
			got[of["CacheClusterId"]+" "+d.ID.Name] = d.Values
		default:
			got["group "+d.ID.Name] = append(got["group "+d.ID.Name], d.Values...)
		}
	}
	return got
}

// minute looks at the end of the minute.
func (w *watched) minute() map[string][]float64 {
	w.at = minuteEnd(w.at).Add(time.Minute - every - phase)
	return w.look()
}
