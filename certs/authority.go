// Package certs makes a private certificate authority for the parts of one installation, and TLS
// configurations that follow their files without a restart.
package certs

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"understudy/atomicfile"
)

// The lives of certificates. The authority's outlives machines; an issued one is renewed every year, so
// that renewing stays a thing that people know how to do.
const (
	authorityLife = 10 * 365 * 24 * time.Hour
	issuedLife    = 365 * 24 * time.Hour
	// backdated covers clocks of other machines that are behind.
	backdated = time.Hour
)

// The files of an authority's directory.
const (
	AuthorityCert = "ca.pem"
	AuthorityKey  = "ca.key"
)

// ErrExists: the file is there already, and would have been replaced.
var ErrExists = errors.New("exists already")

// Init makes a new authority in dir, which it creates: ca.pem and ca.key (ECDSA P-256, 10 years). The
// error is ErrExists when there is one and force is not set: everything that the old one has issued
// would be worthless.
func Init(dir, name string, force bool) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("certs: %w", err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("certs: %w", err)
	}
	now := time.Now()
	template, err := template(name, now, now.Add(authorityLife))
	if err != nil {
		return err
	}
	template.IsCA, template.BasicConstraintsValid, template.MaxPathLenZero = true, true, true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return fmt.Errorf("certs: %w", err)
	}
	return writePair(pair{cert: filepath.Join(dir, AuthorityCert), key: filepath.Join(dir, AuthorityKey), der: der, private: key, force: force})
}

func template(name string, from, to time.Time) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("certs: %w", err)
	}
	return &x509.Certificate{
		SerialNumber: serial.Add(serial, big.NewInt(1)), Subject: pkix.Name{CommonName: name, Organization: []string{"understudy"}},
		NotBefore: from.Add(-backdated), NotAfter: to,
	}, nil
}

// Request says which certificate to issue.
type Request struct {
	Name  string   // of the machine: NAME.pem and NAME.key, and the certificate's common name
	Hosts []string // IP addresses and DNS names under which others reach it
	Force bool     // replace files that are there
}

var fileName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)

// Issue makes NAME.pem and NAME.key in the authority's dir, good for servers and clients, one year. The
// error is ErrExists when they are there and Force is not set.
func Issue(dir string, r Request) error {
	switch {
	case !fileName.MatchString(r.Name) || r.Name == "ca":
		return fmt.Errorf("certs: %q is no name for a certificate: letters, digits, dots and hyphens are, but not \"ca\"", r.Name)
	case len(r.Hosts) == 0:
		return errors.New("certs: a certificate needs at least one host, an IP address or a DNS name under which others reach the machine")
	}
	authority, key, err := loadAuthority(dir)
	if err != nil {
		return err
	}
	now := time.Now()
	t, err := template(r.Name, now, earlier(now.Add(issuedLife), authority.NotAfter))
	if err != nil {
		return err
	}
	t.KeyUsage = x509.KeyUsageDigitalSignature
	t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	for _, h := range r.Hosts {
		if ip := net.ParseIP(h); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else if h == "" || strings.ContainsAny(h, " :/") {
			return fmt.Errorf("certs: %q is neither an IP address nor a DNS name", h)
		} else {
			t.DNSNames = append(t.DNSNames, h)
		}
	}
	own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("certs: %w", err)
	}
	der, err := x509.CreateCertificate(rand.Reader, t, authority, &own.PublicKey, key)
	if err != nil {
		return fmt.Errorf("certs: %w", err)
	}
	return writePair(pair{cert: filepath.Join(dir, r.Name+".pem"), key: filepath.Join(dir, r.Name+".key"), der: der, private: own, force: r.Force})
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func loadAuthority(dir string) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	path := filepath.Join(dir, AuthorityCert)
	certs, err := Read(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil, fmt.Errorf("certs: no authority in %s: make one with `understudy certs init --dir %s`", dir, dir)
	}
	if err != nil {
		return nil, nil, err
	}
	text, err := os.ReadFile(filepath.Join(dir, AuthorityKey))
	if err != nil {
		return nil, nil, fmt.Errorf("certs: the authority's key: %w", err)
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, nil, fmt.Errorf("certs: %s holds no key", filepath.Join(dir, AuthorityKey))
	}
	key, err := x509.ParseECPrivateKey(block.Bytes)
	if err != nil {
		return nil, nil, fmt.Errorf("certs: %s: %w", filepath.Join(dir, AuthorityKey), err)
	}
	for _, c := range certs { // a bundle in a rotation holds the old authority too
		if key.PublicKey.Equal(c.PublicKey) {
			return c, key, nil
		}
	}
	return nil, nil, fmt.Errorf("certs: %s is not the key of %s", filepath.Join(dir, AuthorityKey), path)
}

// Read returns the certificates of a PEM file, at least one.
func Read(path string) ([]*x509.Certificate, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("certs: %w", err)
	}
	return parse(path, text)
}

func parse(path string, text []byte) ([]*x509.Certificate, error) {
	var all []*x509.Certificate
	for {
		block, rest := pem.Decode(text)
		if block == nil {
			break
		}
		text = rest
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certs: %s: %w", path, err)
		}
		all = append(all, c)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("certs: %s holds no certificate", path)
	}
	return all, nil
}

// pair is a certificate and its key on their way to disk.
type pair struct {
	cert, key string // paths
	der       []byte
	private   *ecdsa.PrivateKey
	force     bool
}

// writePair writes the key first: a certificate without its key is of no use, and followers wait for
// both to match.
func writePair(p pair) error {
	if !p.force {
		for _, path := range []string{p.cert, p.key} {
			if _, err := os.Lstat(path); err == nil {
				return fmt.Errorf("certs: %s %w; say --force to replace it", path, ErrExists)
			}
		}
	}
	der, err := x509.MarshalECPrivateKey(p.private)
	if err != nil {
		return fmt.Errorf("certs: %w", err)
	}
	if err := write(p.key, 0o600, "EC PRIVATE KEY", der); err != nil {
		return err
	}
	return write(p.cert, 0o644, "CERTIFICATE", p.der)
}

// write puts a file there whole or not at all.
func write(path string, mode os.FileMode, kind string, der []byte) error {
	if err := atomicfile.WriteSync(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), mode); err != nil {
		return fmt.Errorf("certs: write %s: %w", path, err)
	}
	return nil
}
