package certs

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// Paths name the files of one part of an installation.
type Paths struct {
	CA   string // one authority, or several while they are being changed
	Cert string
	Key  string
}

// Files are certificates that are read anew when their files have changed. Files that do not fit
// together, or cannot be read, are said in the log, and what was read before goes on: a rotation that
// went wrong, or is half done, cuts nobody off.
type Files struct {
	paths Paths
	log   *slog.Logger

	mu     sync.Mutex
	looked time.Time
	stamps [3]stamp
	failed [3]stamp // which files were said to be broken
	now    *loaded
}

// stamp is what a file's change shows in.
type stamp struct {
	size int64
	mod  time.Time
}

// loaded is what the files said when they last made sense together.
type loaded struct {
	pool *x509.CertPool
	cert *tls.Certificate
	ca   []byte
}

// lookEvery bounds how often the files are looked at: a storm of connections reads no files.
const lookEvery = time.Second

// Open reads the files. The error says which of them is wrong.
func Open(p Paths, log *slog.Logger) (*Files, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	f := &Files{paths: p, log: log.With("component", "certs")}
	stamps, err := f.look()
	if err != nil {
		return nil, err
	}
	if f.now, err = load(p); err != nil {
		return nil, err
	}
	f.stamps, f.looked = stamps, time.Now()
	return f, nil
}

func (f *Files) look() (stamps [3]stamp, err error) {
	for i, path := range []string{f.paths.CA, f.paths.Cert, f.paths.Key} {
		info, err := os.Stat(path)
		if err != nil {
			return stamps, fmt.Errorf("certs: %w", err)
		}
		stamps[i] = stamp{info.Size(), info.ModTime()}
	}
	return stamps, nil
}

// load reads the files and makes sure that they fit together.
func load(p Paths) (*loaded, error) {
	text, err := os.ReadFile(p.CA)
	if err != nil {
		return nil, fmt.Errorf("certs: %w", err)
	}
	authorities, err := parse(p.CA, text)
	if err != nil {
		return nil, err
	}
	l := &loaded{pool: x509.NewCertPool(), ca: text}
	for _, c := range authorities {
		l.pool.AddCert(c)
	}
	cert, err := tls.LoadX509KeyPair(p.Cert, p.Key)
	if err != nil {
		return nil, fmt.Errorf("certs: %s and %s: %w", p.Cert, p.Key, err)
	}
	if err := l.verify([]*x509.Certificate{cert.Leaf}, "", x509.ExtKeyUsageServerAuth); err != nil {
		return nil, fmt.Errorf("certs: %s is none that %s vouches for: %w", p.Cert, p.CA, err)
	}
	l.cert = &cert
	return l, nil
}

// current is what counts now.
func (f *Files) current() *loaded {
	f.mu.Lock()
	defer f.mu.Unlock()
	if time.Since(f.looked) < lookEvery {
		return f.now
	}
	f.looked = time.Now()
	stamps, err := f.look()
	if err == nil && stamps == f.stamps {
		return f.now
	}
	var next *loaded
	if err == nil {
		next, err = load(f.paths)
	}
	if err != nil {
		if stamps != f.failed {
			f.log.Error("the new certificates are of no use: the old ones stay in force", "error", err)
		}
		f.failed = stamps
		return f.now
	}
	f.now, f.stamps = next, stamps
	f.log.Info("certificates read anew", "cert", f.paths.Cert, "until", next.cert.Leaf.NotAfter.UTC().Format(time.RFC3339))
	return f.now
}

// verify checks a chain that a peer has shown. host is "" for a client: any certificate of the
// authority is one of ours.
func (l *loaded) verify(chain []*x509.Certificate, host string, use x509.ExtKeyUsage) error {
	if len(chain) == 0 {
		return errors.New("the peer shows no certificate")
	}
	between := x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	_, err := chain[0].Verify(x509.VerifyOptions{Roots: l.pool, Intermediates: between, DNSName: host, KeyUsages: []x509.ExtKeyUsage{use}})
	return err
}

// Server is the configuration of listeners: TLS 1.3, and peers must show a certificate of the
// authority. It follows the files.
func (f *Files) Server() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS13, GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		l := f.current()
		return &tls.Config{
			MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{*l.cert},
			ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: l.pool,
			// A resumed session would rest on what was verified under authorities that may be gone.
			SessionTicketsDisabled: true,
		}, nil
	}}
}

// Endpoint is the configuration of listeners for applications: TLS 1.2 too, which clients of Redis still
// speak. With ask they must show a certificate of the authority. It follows the files. Applications open
// connections by the thousand, so sessions are resumed, but not those that rest on a client's certificate:
// its authority may be gone.
func (f *Files) Endpoint(ask bool) *tls.Config {
	if ask {
		c := f.Server()
		asked := c.GetConfigForClient
		c.MinVersion = tls.VersionTLS12
		c.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			c, err := asked(hello)
			if err == nil {
				c.MinVersion, c.DynamicRecordSizingDisabled = tls.VersionTLS12, true
			}
			return c, err
		}
		return c
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, DynamicRecordSizingDisabled: true,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return f.current().cert, nil }}
}

// Client is the configuration of one connection to host: TLS 1.3, and the peer must show a certificate
// of the authority for that host. Ask for a new one for each connection.
func (f *Files) Client(host string) *tls.Config {
	l := f.current()
	return &tls.Config{MinVersion: tls.VersionTLS13, ServerName: host, RootCAs: l.pool, Certificates: []tls.Certificate{*l.cert}}
}

// Authorities is the text of the CA file in force. Parts that cannot follow it by themselves compare it
// with what they were started with.
func (f *Files) Authorities() []byte { return bytes.Clone(f.current().ca) }

// Leaf is the certificate in force.
func (f *Files) Leaf() *x509.Certificate { return f.current().cert.Leaf }
