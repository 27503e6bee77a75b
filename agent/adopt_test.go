package agent

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"understudy/cluster"
	"understudy/redis"
)

// strangers are redis-servers that somebody else runs, as a service manager would: each from a file of its
// own, as a primary, with a password.
type strangers struct {
	g    *group
	conf map[cluster.NodeID]string
	cmd  map[cluster.NodeID]*exec.Cmd
}

func adoptedGroup(t *testing.T) (*group, *strangers) {
	t.Helper()
	g := newGroup(t, groupOptions{})
	s := &strangers{g: g, conf: map[cluster.NodeID]string{}, cmd: map[cluster.NodeID]*exec.Cmd{}}
	g.adopted = map[cluster.NodeID]*redis.AdoptOptions{}
	for _, n := range g.nodes {
		dir := filepath.Join(g.dir, "theirs-"+string(n.Node))
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addr := l.Addr().String()
		_ = l.Close()
		_, port, _ := net.SplitHostPort(addr)
		s.conf[n.Node] = filepath.Join(dir, "redis.conf")
		text := fmt.Sprintf("port %s\nbind 127.0.0.1\ndir %s\nappendonly yes\nrequirepass theirs\nlogfile %s/log\n", port, dir, dir)
		if err := os.WriteFile(s.conf[n.Node], []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		g.adopted[n.Node] = &redis.AdoptOptions{Addr: addr, Password: "theirs"}
		s.start(n.Node)
		t.Cleanup(func() { s.kill(n.Node) })
		g.start(n.Node)
	}
	g.waitReady()
	return g, s
}

func (s *strangers) start(id cluster.NodeID) {
	s.g.t.Helper()
	s.cmd[id] = exec.Command(s.g.binary.Path, s.conf[id])
	if err := s.cmd[id].Start(); err != nil {
		s.g.t.Fatal(err)
	}
}

func (s *strangers) kill(id cluster.NodeID) {
	_ = s.cmd[id].Process.Kill()
	_ = s.cmd[id].Wait()
}

func TestGroupOfAdoptedServersFailsOverAndTakesTheRestartedOneBack(t *testing.T) {
	g, s := adoptedGroup(t)
	files := map[cluster.NodeID][]byte{}
	for id, path := range s.conf {
		files[id], _ = os.ReadFile(path)
	}
	old := g.waitReady()
	g.set(old, "k", "v")
	st := g.status(old)
	if st.PID != s.cmd[old].Process.Pid || !slices.Equal(st.Fences, []string{"permit", "fencer", "epoch_user", "replicas"}) || st.Access.User != "ep-1" {
		t.Errorf("an adopted primary says %+v", st)
	}
	if r := g.status(g.replicas(old)[0]); r.Access.User != redis.ReaderUser || r.Access.Password == "" {
		t.Errorf("an adopted replica lets proxies in as %q", r.Access.User)
	}
	g.switchover(old)
	second := g.waitNewPrimary(old)
	g.waitReady()

	s.kill(second)
	third := g.waitNewPrimary(second)
	if got := g.do(third, "GET", "k"); got != "v" {
		t.Errorf("%s has %q", third, got)
	}
	s.start(second) // as a primary, of its own file
	g.waitReady()
	if got := g.do(second, "ROLE"); !bytes.Contains([]byte(got), []byte("115 108 97 118 101")) { // "slave"
		t.Errorf("the restarted one says it is %s", got)
	}

	g.signal(third, syscall.SIGSTOP) // it hangs: it is killed, although it is not ours
	fourth := g.waitNewPrimary(third)
	if err := s.cmd[third].Wait(); err == nil {
		t.Error("the hung one was not killed")
	}
	s.start(third)
	g.waitReady()
	g.set(fourth, "k", "w")

	g.stopAll()
	for id, cmd := range s.cmd {
		if stopped(cmd.Process.Pid) {
			t.Errorf("%s was stopped with its agent", id)
		}
		if now, err := os.ReadFile(s.conf[id]); err != nil || !bytes.Equal(now, files[id]) {
			t.Errorf("the redis.conf of %s was written", id)
		}
	}
	for _, n := range g.nodes { // the same servers under new agents
		g.start(n.Node)
	}
	primary := g.waitReady()
	if got := g.do(primary, "GET", "k"); got != "w" {
		t.Errorf("%s has %q after the agents came back", primary, got)
	}
}
