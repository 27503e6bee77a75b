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
	for name, want := range map[string]string{"appendonly": "yes", "appendfsync": "everysec", "repl-diskless-sync-delay": "0", "save": ""} {
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
