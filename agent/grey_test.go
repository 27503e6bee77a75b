package agent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	redigo "github.com/gomodule/redigo/redis"
	"golang.org/x/sys/unix"

	"understudy/cluster"
)

// spin is a script that keeps redis-server busy for ARGV[1] microseconds, after a write: nothing but SIGKILL
// ends it sooner.
const spin = `redis.call('SET', 'spin', '1')
local t0 = redis.call('TIME')
repeat local t = redis.call('TIME') until (t[1]-t0[1])*1000000 + (t[2]-t0[2]) > tonumber(ARGV[1])
return 'done'`

// goneAt waits in the background for the end of a process.
func goneAt(t *testing.T, pid int) <-chan time.Time {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	at := make(chan time.Time, 1)
	go func() {
		defer unix.Close(fd)
		for {
			n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(patience.Milliseconds()))
			if !errors.Is(err, unix.EINTR) {
				if n > 0 {
					at <- time.Now()
				}
				return
			}
		}
	}()
	return at
}

// eventAt is when a node told of something last.
func (g *group) eventAt(id cluster.NodeID, name string) time.Time {
	g.mu.Lock()
	defer g.mu.Unlock()
	at := time.Time{}
	for _, e := range g.events {
		if e.Node == id && e.Name == name {
			at = e.Time
		}
	}
	return at
}

func TestScriptShorterThanTheBoundCausesNoFailover(t *testing.T) {
	g := startGroup(t, groupOptions{})
	primary := g.waitReady()
	c := g.dial(primary)
	for _, ms := range []int{250, 600} { // one that never says busy for long, and one that would have been a hang
		if reply, err := redigo.String(c.Do("EVAL", spin, 0, ms*1000)); err != nil || reply != "done" {
			t.Fatalf("a script of %d ms: %q, %v", ms, reply, err)
		}
	}
	if now := g.waitReady(); now != primary || g.status(now).Epoch != 1 || g.hasEvent("fencing") {
		t.Errorf("%s leads in epoch %d", now, g.status(now).Epoch)
	}
}

// A server that is busy refuses to be demoted: it is killed, within 50 ms of the decision, whatever keeps it
// busy.
func TestServerThatRefusesToBeFencedIsKilled(t *testing.T) {
	g := startGroup(t, groupOptions{})
	const bound = 50 * time.Millisecond
	const slack = 150 * time.Millisecond // other tests run on this machine
	for _, c := range []struct {
		name string
		hang func(id cluster.NodeID)
	}{
		{"a script", func(id cluster.NodeID) {
			c := g.dial(id)
			if err := errors.Join(c.Send("EVAL", spin, 0, 60_000_000), c.Flush()); err != nil {
				t.Fatal(err)
			}
		}},
		{"a function", func(id cluster.NodeID) {
			c := g.dial(id)
			library := "#!lua name=l\nredis.register_function('spin', function(keys, ARGV)\n" + spin + "\nend)"
			if _, err := c.Do("FUNCTION", "LOAD", "REPLACE", library); err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(c.Send("FCALL", "spin", 0, 60_000_000), c.Flush()); err != nil {
				t.Fatal(err)
			}
		}},
		{"SIGSTOP", func(id cluster.NodeID) { g.signal(id, syscall.SIGSTOP) }},
	} {
		old := g.waitReady()
		gone := goneAt(t, g.status(old).PID)
		began := time.Now()
		c.hang(old)
		primary := g.waitNewPrimary(old)
		select {
		case at := <-gone:
			took := at.Sub(g.eventAt(old, "fencing"))
			t.Logf("%s: fenced after %v, killed %v later, %s leads after %v", c.name, g.eventAt(old, "fencing").Sub(began), took, primary, g.servedAt(primary).Sub(began))
			if took > bound+slack {
				t.Errorf("%s: killed %v after the decision", c.name, took)
			}
		case <-time.After(patience):
			t.Fatalf("%s: the server is still there", c.name)
		}
	}
	g.waitReady()
}

func TestStallOfAFifthOfASecondCausesNoFailover(t *testing.T) {
	g := startGroup(t, groupOptions{})
	primary := g.waitReady()
	for _, n := range append(g.replicas(primary), primary) {
		g.signal(n, syscall.SIGSTOP)
		pause(t.Context(), 200*time.Millisecond) // the stall itself
		g.signal(n, syscall.SIGCONT)
		if now := g.waitReady(); now != primary || g.hasEvent("fencing") {
			t.Fatalf("a stall of %s: %s leads", n, now)
		}
		g.set(primary, "k", "v")
	}
	if e := g.status(primary).Epoch; e != 1 {
		t.Errorf("epoch %d", e)
	}
}

// tmpfs mounts a small disk at the directory.
func tmpfs(t *testing.T, dir string, mib int) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%dm", mib)); err != nil {
		t.Skipf("NOT TESTED: a full disk needs a small one, which only root may mount: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
}

// fill leaves nothing free.
func fill(t *testing.T, dir string) string {
	t.Helper()
	path := filepath.Join(dir, "ballast")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, size := range []int{1 << 20, 4096, 1} {
		for err = nil; err == nil; {
			_, err = f.Write(make([]byte, size))
		}
	}
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
	return path
}

func TestPrimaryWhoseDiskIsFullHandsOver(t *testing.T) {
	g := newGroup(t, groupOptions{})
	disk := func(id cluster.NodeID) string { return filepath.Join(g.dir, string(id), "redis") }
	for _, n := range g.nodes {
		tmpfs(t, disk(n.Node), 32)
		g.start(n.Node)
	}
	old := g.waitReady()
	g.set(old, "k", "v")
	ballast := fill(t, disk(old))
	c, big := g.dial(old), strings.Repeat("x", 1<<13)
	refused := error(nil)
	for i := 0; i < 1000 && refused == nil; i++ {
		_, refused = c.Do("SET", fmt.Sprintf("big%d", i), big)
	}
	t.Logf("refused: %v", refused)
	if refused == nil {
		t.Fatal("no write is refused: this test proves nothing")
	}
	primary := g.waitNewPrimary(old)
	if l := g.lead(); l.Kind != cluster.KindSwitchover || !strings.Contains(l.Cause, "append-only file") {
		t.Errorf("%s leads by %s: %q", primary, l.Kind, l.Cause)
	}
	if got := g.do(primary, "GET", "k"); got != "v" {
		t.Errorf("%s has %q", primary, got)
	}
	g.set(primary, "k", "w")
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	if now := g.waitReady(); now != primary {
		t.Errorf("%s leads", now)
	}
}

// A server without memory refuses writes because the application asked for that limit.
func TestServerWithoutMemoryStaysPrimary(t *testing.T) {
	g := startGroup(t, groupOptions{})
	primary := g.waitReady()
	g.do(primary, "CONFIG", "SET", "maxmemory", "1")
	c := g.dial(primary)
	if _, err := c.Do("SET", "k", "v"); err == nil || !strings.HasPrefix(err.Error(), "OOM") {
		t.Fatalf("a write without memory: %v", err)
	}
	pause(t.Context(), time.Second) // twenty looks
	if now := g.waitReady(); now != primary || g.status(now).Epoch != 1 || g.status(now).Reason != "" {
		t.Errorf("%s leads: %+v", now, g.status(now))
	}
}
