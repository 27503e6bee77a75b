package certs

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func authority(t *testing.T, name string) string {
	t.Helper()
	dir := t.TempDir()
	if err := Init(dir, name, false); err != nil {
		t.Fatal(err)
	}
	return dir
}

func issue(t *testing.T, dir, name string, hosts ...string) Paths {
	t.Helper()
	if err := Issue(dir, Request{Name: name, Hosts: hosts, Force: true}); err != nil {
		t.Fatal(err)
	}
	return Paths{CA: filepath.Join(dir, AuthorityCert), Cert: filepath.Join(dir, name+".pem"), Key: filepath.Join(dir, name+".key")}
}

func open(t *testing.T, p Paths) *Files {
	t.Helper()
	f, err := Open(p, nil)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// look has f look at its files at the next connection.
func look(f *Files) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.looked = time.Time{}
}

// shake has two sides shake hands over TCP; the client goes by the name host. The errors are the
// server's and the client's.
func shake(t *testing.T, server, client *tls.Config) (atServer, atClient error) {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", server)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	done := make(chan error, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			done <- err
			return
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		if err := c.(*tls.Conn).Handshake(); err != nil {
			done <- err
			return
		}
		_, err = c.Write([]byte("x"))
		done <- err
	}()
	raw, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	_ = raw.SetDeadline(time.Now().Add(10 * time.Second))
	c := tls.Client(raw, client)
	if atClient = c.Handshake(); atClient == nil {
		_, atClient = io.ReadFull(c, make([]byte, 1)) // in TLS 1.3 the client hears of a refusal here
	}
	if atClient != nil {
		_ = raw.Close()
	}
	return <-done, atClient
}

func TestMachinesOfOneAuthorityTrustOneAnother(t *testing.T) {
	dir := authority(t, "ours")
	one, two := open(t, issue(t, dir, "m1", "127.0.0.1", "m1.example")), open(t, issue(t, dir, "m2", "127.0.0.2"))
	for _, host := range []string{"127.0.0.1", "m1.example"} {
		if s, c := shake(t, one.Server(), two.Client(host)); s != nil || c != nil {
			t.Errorf("%s: %v, %v", host, s, c)
		}
	}
	if _, c := shake(t, one.Server(), two.Client("127.0.0.2")); c == nil {
		t.Error("a client took m1 for another machine")
	}
}

func TestStrangersAreRefusedOnBothSides(t *testing.T) {
	ours, theirs := open(t, issue(t, authority(t, "ours"), "m1", "127.0.0.1")), open(t, issue(t, authority(t, "theirs"), "m1", "127.0.0.1"))
	if s, c := shake(t, ours.Server(), theirs.Client("127.0.0.1")); s == nil || c == nil {
		t.Errorf("a stranger asks: %v, %v", s, c)
	}
	if _, c := shake(t, theirs.Server(), ours.Client("127.0.0.1")); c == nil {
		t.Error("a stranger was asked")
	}
	// A client that trusts us and shows nothing.
	bare := ours.Client("127.0.0.1")
	bare.Certificates = nil
	if s, _ := shake(t, ours.Server(), bare); s == nil {
		t.Error("a client without a certificate was let in")
	}
	old := ours.Client("127.0.0.1")
	old.MinVersion, old.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	if s, _ := shake(t, ours.Server(), old); s == nil {
		t.Error("TLS 1.2 was let in")
	}
}

// The whole rotation: both authorities are trusted for a while, certificates change, the old authority
// goes. The configurations are those made at the start.
func TestAnAuthorityIsReplacedWithoutARestart(t *testing.T) {
	oldDir, newDir := authority(t, "old"), authority(t, "new")
	live := t.TempDir()
	paths := Paths{CA: filepath.Join(live, "ca.pem"), Cert: filepath.Join(live, "m1.pem"), Key: filepath.Join(live, "m1.key")}
	from := issue(t, oldDir, "m1", "127.0.0.1")
	put(t, paths.CA, from.CA)
	put(t, paths.Cert, from.Cert)
	put(t, paths.Key, from.Key)
	m1 := open(t, paths)
	server := m1.Server()
	old, fresh := open(t, issue(t, oldDir, "m2", "127.0.0.1")), open(t, issue(t, newDir, "m3", "127.0.0.1"))

	if s, _ := shake(t, server, fresh.Client("127.0.0.1")); s == nil {
		t.Fatal("the new authority is trusted before it is named")
	}
	put(t, paths.CA, filepath.Join(oldDir, AuthorityCert), filepath.Join(newDir, AuthorityCert))
	look(m1)
	if s, c := shake(t, server, old.Client("127.0.0.1")); s != nil || c != nil {
		t.Fatalf("with both authorities, one of the old: %v, %v", s, c)
	}
	if s, _ := shake(t, server, fresh.Client("127.0.0.1")); s != nil && !strings.Contains(s.Error(), "remote error") {
		t.Fatalf("with both authorities, one of the new is refused: %v", s)
	}
	to := issue(t, newDir, "m1", "127.0.0.1")
	put(t, paths.Key, to.Key)
	put(t, paths.Cert, to.Cert)
	look(m1)
	if s, c := shake(t, server, fresh.Client("127.0.0.1")); s != nil || c != nil {
		t.Fatalf("with the new certificate: %v, %v", s, c)
	}
	put(t, paths.CA, filepath.Join(newDir, AuthorityCert))
	look(m1)
	if s, _ := shake(t, server, old.Client("127.0.0.1")); s == nil {
		t.Fatal("the old authority is trusted after it is gone")
	}
}

func put(t *testing.T, to string, from ...string) {
	t.Helper()
	var all []byte
	for _, path := range from {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, text...)
	}
	if err := os.WriteFile(to, all, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestABrokenNewFileKeepsTheOldInForceAndIsSaidOnce(t *testing.T) {
	dir := authority(t, "ours")
	var said bytes.Buffer
	f, err := Open(issue(t, dir, "m1", "127.0.0.1"), slog.New(slog.NewTextHandler(&said, nil)))
	if err != nil {
		t.Fatal(err)
	}
	before := f.Leaf().SerialNumber
	for _, broken := range []string{"", "no certificate", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"} {
		said.Reset()
		if err := os.WriteFile(f.paths.Cert, []byte(broken), 0o644); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			look(f)
			if s, c := shake(t, f.Server(), f.Client("127.0.0.1")); s != nil || c != nil {
				t.Fatalf("%q: %v, %v", broken, s, c)
			}
		}
		if n := strings.Count(said.String(), "of no use"); n != 1 {
			t.Errorf("%q: said %d times: %s", broken, n, said.String())
		}
	}
	// A key of another certificate: a rotation that is half done.
	if err := os.Remove(f.paths.Cert); err != nil {
		t.Fatal(err)
	}
	issue(t, dir, "m1", "127.0.0.1")
	look(f)
	if f.Leaf().SerialNumber.Cmp(before) == 0 {
		t.Error("the files are good again and were not read")
	}
}

func TestKeysAreForTheirOwnerOnlyAndNothingIsReplacedUnasked(t *testing.T) {
	dir := authority(t, "ours")
	p := issue(t, dir, "m1", "127.0.0.1")
	for _, path := range []string{p.Key, filepath.Join(dir, AuthorityKey)} {
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}
	if err := Init(dir, "again", false); !errors.Is(err, ErrExists) || !strings.Contains(err.Error(), "--force") {
		t.Errorf("init again: %v", err)
	}
	if err := Issue(dir, Request{Name: "m1", Hosts: []string{"127.0.0.1"}}); !errors.Is(err, ErrExists) {
		t.Errorf("issue again: %v", err)
	}
	left, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(left) != 4 {
		t.Errorf("files in the directory: %v, %v", left, err)
	}
}

func TestWhatIsIssuedIsForServersAndClientsAndAYear(t *testing.T) {
	dir := authority(t, "ours")
	certs, err := Read(issue(t, dir, "m1", "10.0.0.11", "m1.example").Cert)
	if err != nil {
		t.Fatal(err)
	}
	c := certs[0]
	if c.IsCA || len(c.IPAddresses) != 1 || len(c.DNSNames) != 1 || c.Subject.CommonName != "m1" {
		t.Errorf("issued: %+v", c)
	}
	if left := time.Until(c.NotAfter); left < 364*24*time.Hour || left > 366*24*time.Hour {
		t.Errorf("it lasts %v", left)
	}
	for _, use := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
		pool := x509.NewCertPool()
		ca, err := Read(filepath.Join(dir, AuthorityCert))
		if err != nil {
			t.Fatal(err)
		}
		pool.AddCert(ca[0])
		if _, err := c.Verify(x509.VerifyOptions{Roots: pool, KeyUsages: []x509.ExtKeyUsage{use}}); err != nil {
			t.Errorf("use %v: %v", use, err)
		}
	}
	for _, r := range []Request{{Name: "../x", Hosts: []string{"h"}}, {Name: "ca", Hosts: []string{"h"}}, {Name: "m2"}, {Name: "m2", Hosts: []string{"a b"}}} {
		if err := Issue(dir, r); err == nil {
			t.Errorf("%+v was issued", r)
		}
	}
	if err := Issue(t.TempDir(), Request{Name: "m1", Hosts: []string{"h"}}); err == nil || !strings.Contains(err.Error(), "certs init") {
		t.Errorf("without an authority: %v", err)
	}
}

func TestAnEndpointServesApplicationsWithoutACertificateUnlessItAsks(t *testing.T) {
	ours := authority(t, "ours")
	f := open(t, issue(t, ours, "front", "127.0.0.1"))
	with := f.Client("127.0.0.1")
	without := with.Clone()
	without.Certificates = nil
	old := without.Clone()
	old.MinVersion, old.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	for _, c := range []*tls.Config{with, without, old} {
		if at, err := shake(t, f.Endpoint(false), c); at != nil || err != nil {
			t.Errorf("not asked: %v, %v", at, err)
		}
	}
	if at, err := shake(t, f.Endpoint(true), with); at != nil || err != nil {
		t.Errorf("asked and shown: %v, %v", at, err)
	}
	for _, c := range []*tls.Config{without, old} {
		if at, _ := shake(t, f.Endpoint(true), c); at == nil {
			t.Error("a client without a certificate is let in")
		}
	}
}
