package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"time"

	"understudy/proxy"
)

// proxyConfig is what `understudy proxy` runs with: the endpoints of one group, wherever clients are.
type proxyConfig struct {
	Group        string          `yaml:"group" help:"name of the replication group"`
	Zone         string          `yaml:"zone" help:"failure domain of this machine: replicas of it are read first; empty: no preference"`
	Listen       listenConfig    `yaml:"listen" help:"where clients reach the endpoints, HOST:PORT; empty: not served; port 0: any free one"`
	AllowRemote  bool            `yaml:"allow_remote" help:"listen on other addresses than the loopback, without TLS or a password for clients, or a token for listen.http"`
	HTTPTLS      tlsConfig       `yaml:"http_tls,omitempty" help:"files of the certificate of listen.http, which is https then: ca, cert, key; read anew when they change"`
	HTTPToken    string          `yaml:"http_token_file,omitempty" help:"file with the token that requests to listen.http must show, several lines while it is changed; read anew then"`
	HTTPOpen     bool            `yaml:"http_open_metrics,omitempty" help:"tell /metrics without the token, as /healthz is"`
	Store        endpointConfig  `yaml:"store" help:"the group's store: HOST:PORT of each member, or URLs of an external etcd"`
	TLS          tlsConfig       `yaml:"tls" help:"files of this proxy's certificate, shown to the agents and the store: see understudy certs"`
	Insecure     bool            `yaml:"insecure" help:"no TLS to agents and store on other machines: whoever reaches them controls the groups"`
	Hold         time.Duration   `yaml:"hold" help:"how long a request waits for a primary before it gets a retryable error"`
	HoldRequests int             `yaml:"hold_requests,omitempty" help:"most requests that are held, 100000 by default; past it the oldest gets a retryable error"`
	HoldBytes    int             `yaml:"hold_bytes,omitempty" help:"bytes of them, 256 MiB by default; past it the oldest gets a retryable error"`
	Policies     policyList      `yaml:"policies,omitempty" help:"what requests do while they cannot be served, by prefix of their keys: hold, fail, or stale with max_staleness; the longest prefix counts"`
	MaxStaleness time.Duration   `yaml:"max_staleness,omitempty" help:"how old the data of a replica may be that answers on the reader and the split endpoint; 0s: not bounded"`
	MaxLagBytes  int64           `yaml:"max_lag_bytes,omitempty" help:"how many bytes behind such a replica may be; 0: not bounded"`
	Reads        string          `yaml:"reads" help:"reads on the primary endpoint. permit: at once; committed: after a commit round, linearizable over all proxies"`
	Clients      entrance        `yaml:"clients" help:"how clients enter, and what one may take: TLS addresses and files, password_file and users_file, proxy_protocol networks, limits in bytes, tap"`
	NodeTLS      bool            `yaml:"node_tls" help:"speak TLS with the nodes' redis-servers, with the files of tls, whatever the store says of them; false: where the store says so"`
	Once         []string        `yaml:"once,omitempty" help:"prefixes of keys: a write that must not run twice, and all of whose keys have one, runs exactly once; it costs a script and a marker in the data"`
	Allow        []string        `yaml:"allow,omitempty" help:"commands that would be refused and are carried all the same: CLIENT PAUSE, CONFIG SET maxclients"`
	LogFormat    string          `yaml:"log_format" help:"format of the log on stderr: text or json"`
	RunDir       string          `yaml:"run_dir,omitempty" help:"directory of the socket over which a new process takes over with --take-over; empty: the service manager's, or this user's"`
	Drain        time.Duration   `yaml:"drain" help:"how long transactions, subscriptions and blocked clients may go on then, before they are cut"`
	BusyPoll     time.Duration   `yaml:"busy_poll" help:"how long the proxy looks for the next request before it sleeps, while a single client keeps it busy; 0s: it sleeps at once"`
	Upstream     *upstreamConfig `yaml:"upstream,omitempty" help:"instead of a store: a Redis that an operator, Sentinel or ElastiCache fails over"`
	Observe      bool            `yaml:"observe,omitempty" help:"forward and report without changing anything: no holds, nothing is sent again; metrics say what a hold would have hidden"`
	Topology     string          `yaml:"topology_file,omitempty" help:"file that keeps where the group's agents are, for a start while the store is away; empty: in the service manager's state directory, if there is one"`
	Groups       servedGroups    `yaml:"groups,omitempty" help:"several groups behind this process, by port: each has a name, its addresses, and what differs from the rest of this file"`
}

// listenConfig are the addresses of the endpoints.
type listenConfig struct {
	Primary string `yaml:"primary"`
	Reader  string `yaml:"reader"`
	Split   string `yaml:"split"`
	HTTP    string `yaml:"http"`
}

func (l listenConfig) addrs() []addr {
	return []addr{{"listen.primary", l.Primary}, {"listen.reader", l.Reader}, {"listen.split", l.Split}, {"listen.http", l.HTTP}}
}

// endpointConfig says where an existing store is.
type endpointConfig struct {
	Endpoints    addrList  `yaml:"endpoints"`
	User         string    `yaml:"user,omitempty"`
	PasswordFile string    `yaml:"password_file,omitempty"`
	TLS          tlsConfig `yaml:"tls,omitempty"` // of an external etcd that has an authority of its own
}

func defaultProxyConfig() proxyConfig {
	return proxyConfig{
		Group: "main", Listen: defaultListen(),
		Reads: string(proxy.ReadsPermit), Drain: 30 * time.Second, BusyPoll: proxy.DefaultBusyPoll, Clients: defaultEntrance(), LogFormat: "text",
	}
}

func defaultListen() listenConfig {
	return listenConfig{Primary: "127.0.0.1:7379", Reader: "127.0.0.1:7380", Split: "127.0.0.1:7381", HTTP: "127.0.0.1:7390"}
}

// loadProxyConfig reads and checks the file. Paths in it are meant from where the file lies. Every error
// is exit 2.
func loadProxyConfig(file string) (proxyConfig, error) {
	c := defaultProxyConfig()
	if err := readSettings(file, &c); err != nil {
		return c, err
	}
	dir := filepath.Dir(file)
	if len(c.Groups.nodes) > 0 {
		if err := c.loadGroups(file); err != nil {
			return c, usagef("%s: %w", file, err)
		}
	}
	c.complete(dir)
	if err := c.validateAll(); err != nil {
		return c, usagef("%s: %w", file, err)
	}
	return c, nil
}

// complete fills in what follows from the rest, for each group.
func (c *proxyConfig) complete(dir string) {
	for _, g := range c.groups() {
		paths := []*string{&g.TLS.CA, &g.TLS.Cert, &g.TLS.Key, &g.Store.TLS.CA, &g.Store.TLS.Cert, &g.Store.TLS.Key, &g.Store.PasswordFile,
			&g.RunDir, &g.Topology, &g.HTTPTLS.CA, &g.HTTPTLS.Cert, &g.HTTPTLS.Key, &g.HTTPToken}
		if g.Upstream != nil {
			paths = append(paths, g.Upstream.paths()...)
		}
		g.completeHold()
		g.Clients.in(dir)
		fromDir(dir, paths...)
	}
	if len(c.Groups.all) > 0 {
		fromDir(dir, &c.RunDir, &c.HTTPTLS.CA, &c.HTTPTLS.Cert, &c.HTTPTLS.Key, &c.HTTPToken)
	}
}

// completeHold says how long requests wait where the file does not. Sentinel with usual settings, and AWS,
// take longer than our own agents.
func (c *proxyConfig) completeHold() {
	switch {
	case c.Hold != 0:
	case c.Upstream != nil:
		c.Hold = 30 * time.Second
	default:
		c.Hold = 5 * time.Second
	}
}

// The bounds of hold. What the profile demands is known once the store is read.
const (
	leastHold = 100 * time.Millisecond
	mostHold  = 5 * time.Minute
	// mostBusyPoll: who is woken after that long gains nothing by not having slept.
	mostBusyPoll = time.Millisecond
)

// validate checks each setting and the relations between them; the error names the key.
func (c *proxyConfig) validate() error {
	switch {
	case !groupName.MatchString(c.Group):
		return fmt.Errorf("group %q: 1 to 40 lower-case letters, digits and hyphens, beginning with a letter, are a name", c.Group)
	case strings.ContainsAny(c.Zone, " \t\n,\""):
		return fmt.Errorf("zone %q: is no name of a zone", c.Zone)
	case c.Drain < 0 || c.Drain > time.Hour:
		return fmt.Errorf("drain %v: must be from 0s to 1h", c.Drain)
	case c.BusyPoll < 0 || c.BusyPoll > mostBusyPoll:
		return fmt.Errorf("busy_poll %v: must be from 0s to %v", c.BusyPoll, mostBusyPoll)
	case c.Hold < leastHold || c.Hold > mostHold:
		return fmt.Errorf("hold %v: must be from %v to %v", c.Hold, leastHold, mostHold)
	case c.Reads != string(proxy.ReadsPermit) && c.Reads != string(proxy.ReadsCommitted):
		return fmt.Errorf("reads %q: not one of permit, committed", c.Reads)
	case c.LogFormat != "text" && c.LogFormat != "json":
		return fmt.Errorf("log_format %q: not one of text, json", c.LogFormat)
	}
	if err := c.waits().validate(func(key string) string { return key }, c.Hold); err != nil {
		return err
	}
	if err := c.door().validate(keyName); err != nil {
		return err
	}
	if err := c.validateListen(); err != nil {
		return err
	}
	if err := c.Clients.validate(func(key string) string { return "clients." + key }, c.AllowRemote); err != nil {
		return err
	}
	if err := c.validateObserve(); err != nil {
		return err
	}
	if c.NodeTLS && c.TLS.empty() {
		return errors.New("node_tls: tls must say with which files")
	}
	if c.Upstream != nil {
		return c.validateUpstream()
	}
	return c.validateStore()
}

// validateObserve refuses what a plain forwarder does not do.
func (c *proxyConfig) validateObserve() error {
	switch {
	case !c.Observe:
		return nil
	case c.Clients.PasswordFile != "" || c.Clients.UsersFile != "":
		return errors.New("observe: clients log in at the servers, which do not know password_file and users_file; leave them out")
	case c.Clients.Tap:
		return errors.New("observe: there is no tap; leave clients.tap out")
	case len(c.Once) > 0 || len(c.Allow) > 0 || c.Reads == string(proxy.ReadsCommitted):
		return errors.New("observe: every command goes through as it is; leave once, allow and reads committed out")
	case len(c.Policies) > 0 || c.MaxStaleness != 0 || c.MaxLagBytes != 0:
		return errors.New("observe: nothing is held, and every read goes to the endpoint's node; leave policies, max_staleness and max_lag_bytes out")
	}
	return nil
}

// validateUpstream refuses what has no meaning without agents and a store.
func (c *proxyConfig) validateUpstream() error {
	switch {
	case len(c.Store.Endpoints) > 0 || c.Store.User != "" || c.Store.PasswordFile != "" || !c.Store.TLS.empty():
		return errors.New("upstream: store is set too: a group has agents and a store, or an upstream; say one of them")
	case !c.TLS.empty() || c.Insecure:
		return errors.New("upstream: tls and insecure are about agents and a store, which an upstream does not have; TLS to its nodes is upstream: {tls: {enabled: true}}")
	case c.Reads == string(proxy.ReadsCommitted):
		return errors.New("reads committed: needs a group of Understudy's own in sync: an upstream acks what is on its primary only")
	}
	if c.Topology != "" {
		return errors.New("topology_file: keeps where agents are, which an upstream does not have")
	}
	return c.Upstream.validate()
}

// door is who may come in at the HTTP address.
func (c *proxyConfig) door() door {
	return door{TLS: c.HTTPTLS, TokenFile: c.HTTPToken, OpenMetrics: c.HTTPOpen}
}

func (c *proxyConfig) validateListen() error {
	l := c.Listen
	switch {
	case l.Primary == "" && l.Reader == "" && l.Split == "" && !c.Clients.secure():
		return errors.New("listen: at least one of primary, reader, split must say where")
	case l.HTTP == "":
		return errors.New("listen: http must say where the status is served")
	}
	taken := map[string]string{}
	for _, a := range l.addrs() {
		if a.value == "" {
			continue
		}
		host, n, err := hostPort(a.value)
		isHTTP := a.flag == "listen.http"
		switch {
		case err != nil:
			return fmt.Errorf("%s %q: not HOST:PORT", a.flag, a.value)
		case !loopback(host) && !c.AllowRemote && !isHTTP:
			return fmt.Errorf("%s %s: other machines could reach it, without TLS or a password; use 127.0.0.1, or say allow_remote: true", a.flag, a.value)
		case taken[a.value] != "" && n != 0:
			return fmt.Errorf("%s %s: %s has that address already", a.flag, a.value, taken[a.value])
		}
		if isHTTP {
			if err := c.door().reachable(host, c.AllowRemote, keyName, "allow_remote: true"); err != nil {
				return fmt.Errorf("listen.http %s: %w", a.value, err)
			}
		}
		taken[a.value] = a.flag
	}
	return nil
}

func (c *proxyConfig) validateStore() error {
	s := c.Store
	switch {
	case len(s.Endpoints) == 0:
		return errors.New("store: endpoints are needed, HOST:PORT of each member")
	case (s.User == "") != (s.PasswordFile == ""):
		return errors.New("store: user and password_file are needed together")
	case !c.TLS.empty() && c.Insecure:
		return errors.New("insecure: tls is set too; say one of them")
	}
	for _, t := range []tlsConfig{c.TLS, s.TLS} {
		if !t.empty() && (t.CA == "" || t.Cert == "" || t.Key == "") {
			return errors.New("tls: ca, cert and key are needed together")
		}
	}
	for _, e := range s.Endpoints {
		place := strings.TrimPrefix(strings.TrimPrefix(e, "https://"), "http://")
		host, _, err := net.SplitHostPort(strings.TrimSuffix(place, "/"))
		switch {
		case err != nil || host == "":
			return fmt.Errorf("store: endpoint %q: HOST:PORT or a URL is one", e)
		case c.TLS.empty() && !c.Insecure && !loopback(host):
			return fmt.Errorf("store: endpoint %s is on another machine and tls is not set; make a certificate with `understudy certs`, or say insecure: true", e)
		}
	}
	return nil
}

// print writes the configuration as a file that `--config` reads, each key with what it means.
func (c *proxyConfig) print(w io.Writer) error {
	return printSettings(w, "# Settings of `understudy proxy`.", *c)
}
