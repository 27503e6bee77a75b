package redis

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	redigo "github.com/gomodule/redigo/redis"
)

func contextOf() context.Context { return context.Background() }

func needServer(t testing.TB) Binary {
	t.Helper()
	b, err := FindServer(contextOf(), "")
	if err != nil {
		t.Skip(err)
	}
	return b
}

// shortDir is a directory whose path leaves room for a unix socket's name.
func shortDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "us")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func freePort() int {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func serverOptions(b Binary, dir string) ServerOptions {
	return ServerOptions{Binary: b, Dir: dir, Host: "127.0.0.1", Port: freePort(),
		Socket: filepath.Join(dir, "s"), ReplicaOf: "127.0.0.1:1"}
}

// run starts a server, waits until it answers and connects.
func run(t *testing.T) (*Server, *Control) {
	t.Helper()
	s, err := Start(serverOptions(needServer(t), shortDir(t)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Kill() })
	var c *Control
	waitFor(t, "redis-server answers", func() bool {
		if c, err = Dial(t.Context(), s.opts.Socket); err != nil {
			return false
		}
		if err = c.Ping(t.Context()); err != nil {
			_ = c.Close()
		}
		return err == nil
	})
	t.Cleanup(func() { _ = c.Close() })
	return s, c
}

// pretend writes an executable that answers --version.
func pretend(t *testing.T, says string, code int) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "server")
	script := fmt.Sprintf("#!/bin/sh\necho '%s'\nexit %d\n", says, code)
	if err := os.WriteFile(path, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestFindServerKnowsWhatItFinds(t *testing.T) {
	redis7 := "Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64 build=1"
	for _, c := range []struct {
		name, path, flavor, version, err string
	}{
		{"redis", pretend(t, redis7, 0), "redis", "7.0.15", ""},
		{"valkey 8", pretend(t, "Valkey server v=8.0.1 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64 build=1", 0), "valkey", "8.0.1", ""},
		{"valkey 9 of Debian", pretend(t, "valkey-server server v=9.0.0 sha=0", 0), "valkey", "9.0.0", ""},
		{"too old", pretend(t, "Redis server v=6.2.7 sha=00000000:0", 0), "", "", "7.0 or newer"},
		{"something else", pretend(t, "ls (GNU coreutils) 9.7", 0), "", "", "no redis-server"},
		{"broken", pretend(t, redis7, 3), "", "", "exit status 3"},
		{"missing", filepath.Join(t.TempDir(), "none"), "", "", "not found"},
	} {
		got, err := FindServer(t.Context(), c.path)
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) || !strings.Contains(err.Error(), c.path) {
				t.Errorf("%s: error %v, want %q and the path", c.name, err, c.err)
			}
			continue
		}
		if err != nil || got.Flavor != c.flavor || got.Version != c.version {
			t.Errorf("%s: %+v, %v", c.name, got, err)
		}
	}
}

func TestServerBootsAsAReplicaWithItsConfiguration(t *testing.T) {
	s, c := run(t)
	r, err := c.Replication(t.Context())
	if err != nil || r.Role != "replica" || r.LinkUp || r.MasterAddr != s.opts.ReplicaOf {
		t.Fatalf("it boots as %+v, %v", r, err)
	}
	for name, want := range map[string]string{"appendonly": "yes", "appendfsync": "no", "repl-diskless-sync-delay": "0", "save": ""} {
		reply, err := c.do(t.Context(), "CONFIG", "GET", name)
		if err != nil {
			t.Fatal(err)
		}
		if got := reply.([]any); string(got[1].([]byte)) != want {
			t.Errorf("%s is %s, want %q", name, got[1], want)
		}
	}
	conf, err := os.Stat(filepath.Join(s.opts.Dir, "redis.conf"))
	if err != nil || conf.Mode().Perm() != 0o600 {
		t.Errorf("redis.conf: %v, %v", conf, err)
	}
}

func TestServerNeverBootsAsAPrimary(t *testing.T) {
	o := serverOptions(Binary{}, t.TempDir())
	o.ReplicaOf = ""
	if _, err := Start(o); err == nil {
		t.Fatal("started without ReplicaOf")
	}
}

func TestServerSaysWhyItEnded(t *testing.T) {
	s, _ := run(t)
	must(t, s.Kill())
	<-s.Exited()
	if got := s.Reason(); got != "signal: killed" {
		t.Errorf("after a kill: %q", got)
	}
	must(t, s.Kill()) // again: nothing to do

	s, _ = run(t)
	must(t, syscall.Kill(s.PID(), syscall.SIGSTOP)) // a stopped one ends in order, too
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	must(t, s.Terminate(ctx))
	if got := s.Reason(); got != "exit status 0" {
		t.Errorf("after Terminate: %q", got)
	}

	o := serverOptions(needServer(t), shortDir(t))
	o.Config = map[string]string{"maxmemory": "a lot"}
	s, err := Start(o)
	must(t, err)
	<-s.Exited()
	if got := s.Reason(); !strings.Contains(got, "exit status 1") || !strings.Contains(got, "argument") {
		t.Errorf("after a wrong configuration: %q", got)
	}
}

// The server refuses SIGTERM, and forgets it, while it writes its first append-only file after a full sync.
func TestTerminateIsRepeatedWhileTheFirstFileIsWritten(t *testing.T) {
	primary, p := run(t)
	_, err := p.Promote(t.Context())
	must(t, err)
	_, err = p.do(t.Context(), "EVAL", "for i = 1, 200 do redis.call('SET', i, string.rep('x', 100)) end", "0")
	must(t, err)
	o := serverOptions(needServer(t), shortDir(t))
	// 200 keys of 2 ms each: the rewrite takes 400 ms.
	o.ReplicaOf, o.Config = primary.Addr(), map[string]string{"rdb-key-save-delay": "2000"}
	s, err := Start(o)
	must(t, err)
	t.Cleanup(func() { _ = s.Kill() })
	waitFor(t, "the first file is being written", func() bool {
		c, err := Dial(t.Context(), o.Socket)
		if err != nil {
			return false
		}
		defer c.Close()
		text, err := redigo.String(c.do(t.Context(), "INFO", "replication", "persistence"))
		return err == nil && strings.Contains(text, "master_link_status:up") && strings.Contains(text, "aof_rewrite_in_progress:1")
	})
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	must(t, s.Terminate(ctx))
	if !s.InOrder() {
		t.Errorf("it ended with %s", s.Reason())
	}
	text, err := os.ReadFile(filepath.Join(o.Dir, "redis.log"))
	must(t, err)
	if !strings.Contains(string(text), "can't exit") {
		t.Error("it has not refused: this test proves nothing")
	}
}

// What a server has acknowledged is in its file after SIGTERM also when a replica lags or does not answer.
func TestTerminateDoesNotWaitForReplicas(t *testing.T) {
	s, c := run(t)
	_, err := c.Promote(t.Context())
	must(t, err)
	o := serverOptions(needServer(t), shortDir(t))
	o.ReplicaOf = s.Addr()
	replica, err := Start(o)
	must(t, err)
	t.Cleanup(func() { _ = replica.Kill() })
	waitFor(t, "the replica is online", func() bool {
		r, err := c.Replication(t.Context())
		return err == nil && len(r.Replicas) == 1 && r.Replicas[0].State == "online"
	})
	must(t, syscall.Kill(replica.PID(), syscall.SIGSTOP))
	_, err = c.do(t.Context(), "SET", "the-key", "1")
	must(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	must(t, s.Terminate(ctx))
	files, err := filepath.Glob(filepath.Join(s.opts.Dir, "appendonlydir", "*.incr.aof"))
	must(t, err)
	for _, name := range files {
		text, err := os.ReadFile(name)
		must(t, err)
		if strings.Contains(string(text), "the-key") {
			return
		}
	}
	t.Errorf("the write is in none of %v", files)
}

func TestServerWaitsForTheOneBeforeInItsDirectory(t *testing.T) {
	first, _ := run(t)
	o := first.opts
	o.Port = freePort()
	ended := make(chan error, 1)
	time.AfterFunc(200*time.Millisecond, func() { ended <- first.Kill() })
	second, err := Start(o)
	must(t, err)
	t.Cleanup(func() { _ = second.Kill() })
	if alive(first.PID()) {
		t.Error("two servers ran in one directory")
	}
	must(t, <-ended)
	if _, err := Start(o); err == nil || !strings.Contains(err.Error(), "has not ended") {
		t.Errorf("a third one was started beside the second: %v", err)
	}
}

func TestBlackHoleRefusesAndKeepsItsPort(t *testing.T) {
	b, err := NewBlackHole()
	must(t, err)
	if c, err := net.Dial("tcp", b.Addr()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Fatalf("dial: %v, %v", c, err)
	}
	if l, err := net.Listen("tcp", b.Addr()); err == nil {
		_ = l.Close()
		t.Error("somebody else could take its port")
	}
	must(t, b.Close())
}

// A server that was killed may have left half a command at the end of its newest file.
func TestServerSaysWhatItLeftOfAFileThatEndedInACommand(t *testing.T) {
	s, c := run(t)
	if err := s.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	const name = "appendonly.aof.1.incr.aof"
	path := filepath.Join(s.opts.Dir, "appendonlydir", name)
	whole := "*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n"
	if err := os.WriteFile(path, []byte(whole+"*3\r\n$3\r\nSET\r\n$1\r\nk"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, ok := s.Cut(name); ok {
		t.Error("the run before has cut nothing")
	}
	for _, cuts := range []bool{true, false} {
		s, err := Start(s.opts)
		if err != nil {
			t.Fatal(err)
		}
		waitFor(t, "redis-server answers", func() bool {
			c, err := Dial(t.Context(), s.opts.Socket)
			if err != nil {
				return false
			}
			defer c.Close()
			return c.Ping(t.Context()) == nil
		})
		left, ok := s.Cut(name)
		if ok != cuts || cuts && left != int64(len(whole)) {
			t.Errorf("left %d, %v; want %v, %d", left, ok, cuts, len(whole))
		}
		if st, err := os.Stat(path); err != nil || st.Size() != int64(len(whole)) {
			t.Errorf("%+v, %v", st, err)
		}
		if err := s.Kill(); err != nil {
			t.Fatal(err)
		}
	}
}
