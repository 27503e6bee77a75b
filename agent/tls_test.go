package agent

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"understudy/certs"
	"understudy/cluster"
	"understudy/redis"
)

// A group whose redis-servers speak TLS with one another fails over, takes certificates of a new authority without a
// restart, and hands over under those.
func TestGroupOverTLSFailsOverAndTakesNewCertificates(t *testing.T) {
	dir := t.TempDir()
	paths := newAuthority(t, dir, "first")
	files, err := certs.Open(paths, nil)
	if err != nil {
		t.Fatal(err)
	}
	g := startGroup(t, groupOptions{secret: "the group's", tls: tlsOf(paths, files)})
	old := g.waitReady()
	g.set(old, "k", "v")
	for _, n := range g.nodes {
		g.speaksOnlyTLS(n.Node, files)
	}

	g.signal(old, syscall.SIGKILL)
	primary := g.waitNewPrimary(old)
	g.waitReady()
	if got := g.do(primary, "GET", "k"); got != "v" {
		t.Errorf("%s has %q", primary, got)
	}

	pids := g.pids()
	stranger, err := certs.Open(copyOf(t, paths), nil)
	if err != nil {
		t.Fatal(err)
	}
	fresh, err := certs.Open(newAuthority(t, dir, "second"), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range g.nodes {
		waitUntil(t, string(n.Node)+" shows the new certificate", func() bool {
			leaf, err := handshake(g.status(n.Node).Addr, fresh)
			return err == nil && bytes.Equal(leaf, fresh.Leaf().Raw)
		})
		if _, err := handshake(g.status(n.Node).Addr, stranger); err == nil {
			t.Errorf("%s lets in who has a certificate of the authority before", n.Node)
		}
	}
	g.switchover(primary)
	next := g.waitNewPrimary(primary)
	g.waitReady() // the replicas have connected anew, to another primary
	g.set(next, "k", "w")
	for id, pid := range g.pids() {
		if pids[id] != pid {
			t.Errorf("redis-server of %s was started anew: %d, %d before", id, pid, pids[id])
		}
	}
}

// newAuthority makes the files of an authority and a node in dir, in place of those that are there.
func newAuthority(t *testing.T, dir, name string) certs.Paths {
	t.Helper()
	err := certs.Init(dir, name, true)
	if err == nil {
		err = certs.Issue(dir, certs.Request{Name: "node", Hosts: []string{"127.0.0.1"}, Force: true})
	}
	if err != nil {
		t.Fatal(err)
	}
	return certs.Paths{CA: filepath.Join(dir, certs.AuthorityCert), Cert: filepath.Join(dir, "node.pem"), Key: filepath.Join(dir, "node.key")}
}

func copyOf(t *testing.T, p certs.Paths) certs.Paths {
	t.Helper()
	dir := t.TempDir()
	for _, path := range []*string{&p.CA, &p.Cert, &p.Key} {
		text, err := os.ReadFile(*path)
		*path = filepath.Join(dir, filepath.Base(*path))
		if err == nil {
			err = os.WriteFile(*path, text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return p
}

func tlsOf(p certs.Paths, f *certs.Files) *TLSOptions {
	return &TLSOptions{Files: redis.TLSFiles(p), Client: f.Client,
		InForce: func() []byte { return append(f.Authorities(), f.Leaf().Raw...) }}
}

func (g *group) pids() map[cluster.NodeID]int {
	pids := map[cluster.NodeID]int{}
	for _, n := range g.nodes {
		pids[n.Node] = g.status(n.Node).PID
	}
	return pids
}

// handshake returns the certificate that a redis-server shows, or why it does not let us in.
func handshake(addr string, f *certs.Files) ([]byte, error) {
	c, err := tls.DialWithDialer(&net.Dialer{Timeout: time.Second}, "tcp", addr, f.Client("127.0.0.1"))
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(2 * time.Second)); err != nil {
		return nil, err
	}
	// With TLS 1.3 the server's refusal comes after the handshake.
	if _, err = c.Write([]byte("PING\r\n")); err == nil {
		_, err = io.ReadFull(c, make([]byte, len("-NOAUTH")))
	}
	return c.ConnectionState().PeerCertificates[0].Raw, err
}

// speaksOnlyTLS makes sure that a node's port takes nothing else, and nobody without a certificate.
func (g *group) speaksOnlyTLS(id cluster.NodeID, f *certs.Files) {
	g.t.Helper()
	addr := g.status(id).Addr
	if _, err := handshake(addr, f); err != nil {
		g.t.Errorf("%s over TLS: %v", id, err)
	}
	c, err := net.Dial("tcp", addr)
	if err != nil {
		g.t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(2 * time.Second))
	_, err = c.Write([]byte("PING\r\n"))
	text, readErr := io.ReadAll(c)
	if err == nil && readErr == nil && bytes.Contains(text, []byte("NOAUTH")) {
		g.t.Errorf("%s answers in the clear: %q", id, text)
	}
	bare := f.Client("127.0.0.1")
	bare.Certificates = nil
	if s, err := tls.Dial("tcp", addr, bare); err == nil {
		_ = s.SetDeadline(time.Now().Add(2 * time.Second))
		_, _ = s.Write([]byte("PING\r\n"))
		if n, err := s.Read(make([]byte, 64)); err == nil {
			g.t.Errorf("%s answers %d bytes to somebody without a certificate", id, n)
		}
		_ = s.Close()
	}
}

func TestAgentSaysWhenItsServerHasNoTLS(t *testing.T) {
	path := filepath.Join(t.TempDir(), "redis-server")
	says := "#!/bin/sh\necho '*** FATAL CONFIG FILE ERROR (Redis 7.0.15) ***'\necho \"Bad directive or wrong number of arguments\"\nexit 1\n"
	if err := os.WriteFile(path, []byte(says), 0o700); err != nil {
		t.Fatal(err)
	}
	without := redis.Binary{Path: path, Version: "7.0.15"}
	o := Options{TLS: &TLSOptions{InForce: func() []byte { return nil }, Client: func(string) *tls.Config { return nil }}, Binary: without}
	if err := o.needTLS(); !errors.Is(err, redis.ErrNoTLS) || !strings.Contains(err.Error(), "BUILD_TLS") {
		t.Errorf("a server without TLS: %v", err)
	}
	o.Binary.Path = path + ".gone"
	if err := o.needTLS(); err == nil || errors.Is(err, redis.ErrNoTLS) {
		t.Errorf("no server: %v", err)
	}
	o.TLS.InForce = nil
	if err := o.needTLS(); err == nil || !strings.Contains(err.Error(), "InForce") {
		t.Errorf("without InForce: %v", err)
	}
}
