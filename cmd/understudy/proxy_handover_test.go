package main

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestWhoTakesOverIsReachedInAPrivateDirectoryOnly(t *testing.T) {
	dir, err := os.MkdirTemp("", "run-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	a, err := handoverPath(filepath.Join(dir, "a"), "/etc/a.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if i, err := os.Stat(filepath.Dir(a)); err != nil || i.Mode().Perm() != 0o700 {
		t.Errorf("the directory that was made: %v, %v", i, err)
	}
	if b, err := handoverPath(filepath.Join(dir, "a"), "/etc/b.yaml"); err != nil || a == b {
		t.Errorf("another file's process is at %s, as the first, %v", b, err)
	}
	if err := os.Mkdir(filepath.Join(dir, "open"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := handoverPath(filepath.Join(dir, "open"), "/etc/a.yaml"); err == nil || !strings.Contains(err.Error(), "nobody else can enter") {
		t.Errorf("a directory that others can enter: %v", err)
	}
	if err := os.Symlink(filepath.Dir(a), filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if _, err := handoverPath(filepath.Join(dir, "link"), "/etc/a.yaml"); err == nil {
		t.Error("a link to a directory is taken for one")
	}
	if in, err := inherit(a, []string{"main"}); in != nil || err != nil {
		t.Errorf("nobody is there: %v, %v", in, err)
	}
}

func TestAShutGateLeavesConnectionsToTheOtherProcess(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := newGate(l.(*net.TCPListener))
	accepted := make(chan error, 1)
	accept := func() {
		c, err := g.Accept()
		if err == nil {
			err = c.Close()
		}
		accepted <- err
	}
	go accept()
	g.shut()
	c, err := net.Dial("tcp", l.Addr().String()) // waits in the kernel's queue
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	select {
	case err := <-accepted:
		t.Fatalf("a connection is accepted, %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	g.open()
	if err := <-accepted; err != nil {
		t.Error(err)
	}
	g.shut()
	go accept()
	if err := g.Close(); err != nil {
		t.Error(err)
	}
	if err := <-accepted; err == nil {
		t.Error("a closed gate accepts")
	}
}

func TestATakeOverTakesOnlyTheSocketsOfItsOwnAddresses(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	at := l.Addr().String()
	_, port, _ := net.SplitHostPort(at)
	for addr, want := range map[string]bool{at: true, "127.0.0.1:0": true, "localhost:" + port: true, "127.0.0.2:" + port: false, "127.0.0.1:1": false, "": false} {
		in := &inherited{listeners: map[string]*net.TCPListener{"primary": l.(*net.TCPListener)}}
		if got := in.take("primary", addr) != nil; got != want {
			t.Errorf("%q in place of %s: %v", addr, at, got)
		}
		if in.take("reader", addr) != nil {
			t.Error("the socket of another endpoint is taken")
		}
	}
	var none *inherited
	if none.take("primary", at) != nil {
		t.Error("a socket comes from nobody")
	}
}
