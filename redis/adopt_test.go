package redis

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gomodule/redigo/redis"

	"understudy/cluster"
)

// stranger is a redis-server that somebody else runs: with a configuration file of their own, as a primary.
type stranger struct {
	t          *testing.T
	conf, addr string
	port       int
	cmd        *exec.Cmd
}

const strangersPassword = `pa"ss`

func newStranger(t *testing.T) *stranger {
	t.Helper()
	s := &stranger{t: t, port: freePort()}
	dir := shortDir(t)
	s.conf, s.addr = filepath.Join(dir, "redis.conf"), net.JoinHostPort("127.0.0.1", fmt.Sprint(s.port))
	text := fmt.Sprintf("port %d\nbind 127.0.0.1\ndir %s\nappendonly yes\nrequirepass %q\nlogfile %s/log\n", s.port, dir, strangersPassword, dir)
	must(t, os.WriteFile(s.conf, []byte(text), 0o600))
	s.start()
	t.Cleanup(func() { s.kill() })
	return s
}

func (s *stranger) start() {
	s.t.Helper()
	s.cmd = exec.Command(needServer(s.t).Path, s.conf)
	must(s.t, s.cmd.Start())
}

func (s *stranger) kill() {
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
}

func (s *stranger) options() AdoptOptions {
	return AdoptOptions{Addr: s.addr, Password: strangersPassword, BlackHole: "127.0.0.1:1"}
}

func (s *stranger) adopt(o AdoptOptions) *Adopted {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 5*time.Second)
	defer cancel()
	a, err := Adopt(ctx, o)
	must(s.t, err)
	s.t.Cleanup(a.Close)
	return a
}

func (s *stranger) control() *Control {
	s.t.Helper()
	c, err := s.options().Login().Dial(s.t.Context())
	must(s.t, err)
	s.t.Cleanup(func() { _ = c.Close() })
	return c
}

// endsWithin waits for the end of a run.
func endsWithin(t *testing.T, a *Adopted, d time.Duration) {
	t.Helper()
	select {
	case <-a.Exited():
	case <-time.After(d):
		t.Fatalf("its end is not seen within %v", d)
	}
}

func TestAdoptedPrimaryIsDemotedAndItsFileIsLeftAlone(t *testing.T) {
	s := newStranger(t)
	before, err := os.ReadFile(s.conf)
	must(t, err)
	a := s.adopt(s.options())
	if a.PID() != s.cmd.Process.Pid || !a.Killable() || a.Addr() != s.addr || len(a.RunID()) != 40 {
		t.Errorf("adopted: pid %d, killable %v, addr %s, run %q", a.PID(), a.Killable(), a.Addr(), a.RunID())
	}
	c := s.control()
	r, err := c.Replication(t.Context())
	if err != nil || r.Role != cluster.RoleReplica || r.MasterAddr != "127.0.0.1:1" {
		t.Errorf("after the adoption: %+v, %v", r, err)
	}
	reader := a.Reader()
	rc, err := redis.Dial("tcp", s.addr, redis.DialUsername(reader.User), redis.DialPassword(reader.Password))
	must(t, err)
	defer rc.Close()
	if _, err := rc.Do("GET", "k"); err != nil {
		t.Errorf("a proxy's read: %v", err)
	}
	if _, err := rc.Do("SET", "k", "v"); err == nil || !strings.HasPrefix(err.Error(), "NOPERM") {
		t.Errorf("a proxy's write: %v", err)
	}

	_, err = c.PromoteFor(t.Context(), cluster.Access{User: EpochUser(5), Password: "p"})
	must(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	must(t, a.Terminate(ctx)) // it is left running, demoted
	if r, err := s.control().Replication(t.Context()); err != nil || r.Role != cluster.RoleReplica {
		t.Errorf("after the end of the agent: %+v, %v", r, err)
	}
	if after, err := os.ReadFile(s.conf); err != nil || !bytes.Equal(before, after) {
		t.Errorf("its redis.conf was written: %s", after)
	}
}

func TestEndOfAnAdoptedServerIsSeen(t *testing.T) {
	s := newStranger(t)
	for _, elsewhere := range []bool{false, true} {
		o := s.options()
		o.elsewhere = elsewhere
		a := s.adopt(o)
		if (a.PID() == 0) != elsewhere {
			t.Errorf("elsewhere: %v, pid %d", elsewhere, a.PID())
		}
		must(t, s.control().Ping(t.Context()), a.control(t).Dismiss(t.Context())) // a connection that ends is not the server's end
		select {
		case <-a.Exited():
			t.Fatalf("it runs, and is taken for dead: %s", a.Reason())
		case <-time.After(300 * time.Millisecond):
		}
		began := time.Now()
		s.kill()
		endsWithin(t, a, 5*time.Second)
		t.Logf("elsewhere: %v; seen after %v: %s", elsewhere, time.Since(began), a.Reason())
		s.start()
		if again := s.adopt(o); again.RunID() == a.RunID() {
			t.Error("two runs have one name")
		}
	}
}

func (a *Adopted) control(t *testing.T) *Control {
	t.Helper()
	c, err := a.opts.Login().Dial(t.Context())
	must(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestAdoptedServerThatMayBeKilledIs(t *testing.T) {
	s := newStranger(t)
	a := s.adopt(s.options())
	must(t, syscall.Kill(a.PID(), syscall.SIGSTOP))
	reaped := make(chan struct{})
	go func() { _ = s.cmd.Wait(); close(reaped) }()
	must(t, a.Kill())
	<-reaped
	endsWithin(t, a, time.Second)
}

func TestAdoptedServerElsewhereIsFencedOverItsConnection(t *testing.T) {
	s := newStranger(t)
	o := s.options()
	o.elsewhere = true
	a := s.adopt(o)
	c := s.control()
	access := cluster.Access{User: EpochUser(5), Password: "p"}
	_, err := c.PromoteFor(t.Context(), access)
	must(t, err)
	client, err := redis.Dial("tcp", s.addr, redis.DialUsername(access.User), redis.DialPassword(access.Password))
	must(t, err)
	defer client.Close()
	if _, err := client.Do("SET", "k", "v"); err != nil {
		t.Fatal(err)
	}
	must(t, a.Kill())
	endsWithin(t, a, time.Second)
	if !isDead(client) {
		t.Error("the epoch's client goes on")
	}
	if r, err := s.control().Replication(t.Context()); err != nil || r.Role != cluster.RoleReplica {
		t.Errorf("fenced: %+v, %v", r, err)
	}
	again := s.adopt(o) // the same run goes on under the agent's next start
	if again.RunID() != a.RunID() {
		t.Error("it was not restarted, and has another name")
	}
	must(t, syscall.Kill(s.cmd.Process.Pid, syscall.SIGSTOP))
	if err := again.Kill(); !errors.Is(err, ErrCannotKill) {
		t.Errorf("a server that does not answer: %v", err)
	}
	must(t, syscall.Kill(s.cmd.Process.Pid, syscall.SIGCONT))
}

func TestAdoptSaysWhoMustDoWhat(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := Adopt(ctx, AdoptOptions{Addr: "127.0.0.1:1", BlackHole: "127.0.0.1:1"}); err == nil || !strings.Contains(err.Error(), "whoever runs it must start it") {
		t.Errorf("nobody listens: %v", err)
	}
	s := newStranger(t)
	s.adopt(s.options())
	o := s.options()
	o.Password = "wrong"
	ctx, cancel = context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := Adopt(ctx, o); err == nil || !strings.Contains(err.Error(), "WRONGPASS") {
		t.Errorf("a wrong password: %v", err)
	}
}

func TestFencerKillsAnAdoptedServerAtItsDeadlineOnly(t *testing.T) {
	f := startFencer(t)
	promoted, promotedEnded := sleeper(t)
	idle, idleEnded := sleeper(t)
	must(t, f.GuardAdopted(promoted), f.GuardAdopted(idle), f.Until(promoted, 400*time.Millisecond))
	must(t, f.Until(idle, time.Hour), f.Until(idle, 0))
	began := time.Now()
	stopFencer(t, f)
	if took := (<-promotedEnded).Sub(began); took < 300*time.Millisecond {
		t.Errorf("ended after %v, before its deadline", took)
	}
	select {
	case <-idleEnded:
		t.Error("a server without a permit was ended with its agent")
	default:
	}
}
