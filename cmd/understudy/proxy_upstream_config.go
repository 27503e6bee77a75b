package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"understudy/cluster"
	"understudy/upstream"
)

// upstreamConfig is a Redis that somebody else fails over: exactly one of static, sentinel and elasticache
// says where its nodes are.
type upstreamConfig struct {
	Static      *staticConfig      `yaml:"static,omitempty"`
	Sentinel    *sentinelConfig    `yaml:"sentinel,omitempty"`
	ElastiCache *elastiCacheConfig `yaml:"elasticache,omitempty"`

	User         string            `yaml:"user,omitempty"` // as whom the nodes are asked; the user needs PING and INFO
	PasswordFile string            `yaml:"password_file,omitempty"`
	LendLogin    bool              `yaml:"lend_login,omitempty"` // clients that name no user are served as that user
	TLS          nodeTLSConfig     `yaml:"tls,omitempty"`        // to the nodes
	Zones        map[string]string `yaml:"zones,omitempty"`      // of the nodes, by HOST:PORT
	Interval     time.Duration     `yaml:"interval,omitempty"`
	Lease        time.Duration     `yaml:"lease,omitempty"`
	Dispute      time.Duration     `yaml:"dispute,omitempty"`
	Patience     time.Duration     `yaml:"patience,omitempty"`
}

type staticConfig struct {
	Primary  string   `yaml:"primary"`
	Replicas addrList `yaml:"replicas,omitempty"`
}

type sentinelConfig struct {
	Name         string        `yaml:"name"`
	Addrs        addrList      `yaml:"addrs"`
	User         string        `yaml:"user,omitempty"`
	PasswordFile string        `yaml:"password_file,omitempty"`
	TLS          nodeTLSConfig `yaml:"tls,omitempty"`
	Poll         time.Duration `yaml:"poll,omitempty"`
}

type elastiCacheConfig struct {
	ReplicationGroup string        `yaml:"replication_group,omitempty"`
	Region           string        `yaml:"region,omitempty"`
	Endpoint         string        `yaml:"endpoint,omitempty"`
	Poll             time.Duration `yaml:"poll,omitempty"`
	Primary          string        `yaml:"primary,omitempty"`
	Reader           string        `yaml:"reader,omitempty"`
	Nodes            addrList      `yaml:"nodes,omitempty"`
}

// nodeTLSConfig is TLS to servers that are not ours. Without a ca the system's authorities are trusted;
// without a cert this side shows none.
type nodeTLSConfig struct {
	Enabled    bool   `yaml:"enabled,omitempty"`
	CA         string `yaml:"ca,omitempty"`
	Cert       string `yaml:"cert,omitempty"`
	Key        string `yaml:"key,omitempty"`
	ServerName string `yaml:"server_name,omitempty"`
}

func (t nodeTLSConfig) validate(where string) error {
	switch {
	case !t.Enabled && t != nodeTLSConfig{}:
		return fmt.Errorf("%s: there are files or a name, and enabled is not true", where)
	case (t.Cert == "") != (t.Key == ""):
		return fmt.Errorf("%s: cert and key are needed together", where)
	}
	return nil
}

// config reads the files; nil: no TLS. The certificate is read again for each connection, so that a
// renewed one is shown without a restart.
func (t nodeTLSConfig) config() (*tls.Config, error) {
	if !t.Enabled {
		return nil, nil
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.ServerName}
	if t.CA != "" {
		text, err := os.ReadFile(t.CA)
		if err != nil {
			return nil, err
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("%s: holds no certificate in PEM form", t.CA)
		}
	}
	if t.Cert != "" {
		if _, err := tls.LoadX509KeyPair(t.Cert, t.Key); err != nil {
			return nil, err
		}
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(t.Cert, t.Key)
			return &pair, err
		}
	}
	return c, nil
}

// paths are all the names of files, for loadProxyConfig to complete.
func (u *upstreamConfig) paths() []*string {
	all := []*string{&u.PasswordFile, &u.TLS.CA, &u.TLS.Cert, &u.TLS.Key}
	if s := u.Sentinel; s != nil {
		all = append(all, &s.PasswordFile, &s.TLS.CA, &s.TLS.Cert, &s.TLS.Key)
	}
	return all
}

// validate checks all that can be checked without a file and without the network.
func (u *upstreamConfig) validate() error {
	switch {
	case u.User != "" && u.PasswordFile == "":
		return errors.New("upstream: password_file is needed with user")
	case u.LendLogin && u.PasswordFile == "":
		return errors.New("upstream: lend_login lends the login of password_file, which is not set")
	}
	if err := u.TLS.validate("upstream: tls"); err != nil {
		return err
	}
	if s := u.Sentinel; s != nil {
		if err := s.TLS.validate("upstream: sentinel: tls"); err != nil {
			return err
		}
		if s.User != "" && s.PasswordFile == "" {
			return errors.New("upstream: sentinel: password_file is needed with user")
		}
	}
	const any = "any" // in place of what stands in files
	o := u.plain(any, any)
	o.Group, o.Clock, o.OnStatus = "any", newClock(), func(time.Duration, cluster.NodeStatus) {}
	if _, err := upstream.New(o); err != nil {
		return errors.New(inOurWords.Replace(err.Error()))
	}
	return u.validateZones()
}

// validateZones finds the slip in a zone's address: it would silently prefer nobody. Which nodes a
// sentinel or the API will name is not known here.
func (u *upstreamConfig) validateZones() error {
	if u.Static == nil {
		return nil
	}
	known := append([]string{u.Static.Primary}, u.Static.Replicas...)
	for at := range u.Zones {
		if !slices.Contains(known, at) {
			return fmt.Errorf("upstream: zones: %s is none of the nodes%s", at, didYouMean(at, known, ""))
		}
	}
	return nil
}

// inOurWords spells the fields of package upstream as they stand in the file.
var inOurWords = strings.NewReplacer(
	"Static.Primary and Replicas", "static.primary and replicas", "Static.Primary", "static.primary",
	"Static, Sentinel and ElastiCache", "static, sentinel and elasticache",
	"Sentinel.Name", "sentinel.name", "Sentinel.Addrs", "sentinel.addrs", "Sentinel.Poll", "sentinel.poll",
	"Sentinel.Password", "sentinel.password_file", "Sentinel.User", "sentinel.user",
	"ElastiCache.ReplicationGroup", "elasticache.replication_group", "ElastiCache.Region", "elasticache.region",
	"ElastiCache.Primary, Reader and Nodes", "elasticache.primary, reader and nodes", "ElastiCache.Primary", "elasticache.primary",
	"ElastiCache.Poll", "elasticache.poll", "ReplicationGroup", "replication_group", "Reader or Nodes", "reader or nodes",
	"Interval", "interval", "Lease", "lease", "Dispute", "dispute", "Patience", "patience",
)

// plain is the configuration for package upstream, without TLS; the passwords are of the nodes and of the
// sentinels, and are used where the configuration names a file.
func (u *upstreamConfig) plain(password, sentinelPassword string) upstream.Options {
	o := upstream.Options{Interval: u.Interval, Lease: u.Lease, Dispute: u.Dispute, Patience: u.Patience}
	if u.PasswordFile != "" {
		o.User, o.Password = u.User, password
	}
	if u.LendLogin {
		o.Access = cluster.Access{User: u.User, Password: password}
		if u.User == "" {
			o.Access.User = "default"
		}
	}
	if s := u.Static; s != nil {
		o.Static = &upstream.Static{Primary: s.Primary, Replicas: s.Replicas, Zones: u.Zones}
	}
	if s := u.Sentinel; s != nil {
		o.Sentinel = &upstream.Sentinel{Name: s.Name, Addrs: s.Addrs, Poll: s.Poll, Zones: u.Zones}
		if s.PasswordFile != "" {
			o.Sentinel.User, o.Sentinel.Password = s.User, sentinelPassword
		}
	}
	if e := u.ElastiCache; e != nil {
		o.ElastiCache = &upstream.ElastiCache{ReplicationGroup: e.ReplicationGroup, Region: e.Region, Endpoint: e.Endpoint, Poll: e.Poll,
			Primary: e.Primary, Reader: e.Reader, Nodes: e.Nodes, Zones: u.Zones}
	}
	return o
}

// followPassword reads a file with a password, and again when it has changed; no file: "" and nil.
func followPassword(path string, log logger) (password string, now func() string, err error) {
	if path == "" {
		return "", nil, nil
	}
	s, err := openSecrets(path, func(path string) ([]string, error) {
		p, err := readPassword(path)
		return []string{p}, err
	}, log)
	if err != nil {
		return "", nil, err
	}
	return s.first(), s.first, nil
}

// options reads the files and returns what package upstream is to be made with. Passwords are read anew when
// their files change: connections that are made from then on log in with them.
func (u *upstreamConfig) options(log logger) (upstream.Options, error) {
	password, now, err := followPassword(u.PasswordFile, log)
	if err != nil {
		return upstream.Options{}, fmt.Errorf("upstream: password_file: %w", err)
	}
	ofSentinels, nowOfSentinels := "", (func() string)(nil)
	if u.Sentinel != nil {
		if ofSentinels, nowOfSentinels, err = followPassword(u.Sentinel.PasswordFile, log); err != nil {
			return upstream.Options{}, fmt.Errorf("upstream: sentinel: password_file: %w", err)
		}
	}
	o := u.plain(password, ofSentinels)
	o.PasswordNow = now
	if o.Sentinel != nil {
		o.Sentinel.PasswordNow = nowOfSentinels
	}
	if o.TLS, err = u.TLS.config(); err != nil {
		return o, fmt.Errorf("upstream: tls: %w", err)
	}
	if o.Sentinel != nil {
		if o.Sentinel.TLS, err = u.Sentinel.TLS.config(); err != nil {
			return o, fmt.Errorf("upstream: sentinel: tls: %w", err)
		}
	}
	return o, nil
}

// operator says who fails such a group over, and how it is asked to.
func (u *upstreamConfig) operator() string {
	switch {
	case u.Sentinel != nil:
		return fmt.Sprintf("Redis Sentinel fails this group over, not Understudy: ask a sentinel, SENTINEL FAILOVER %s", u.Sentinel.Name)
	case u.ElastiCache != nil:
		name := u.ElastiCache.ReplicationGroup
		if name == "" {
			name = "GROUP"
		}
		return fmt.Sprintf("AWS fails this group over, not Understudy: ask it, aws elasticache test-failover --replication-group-id %s --node-group-id 0001", name)
	default:
		return "an operator fails this group over, not Understudy: promote a replica yourself (REPLICAOF NO ONE), and have the others follow it"
	}
}
