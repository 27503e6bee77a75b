package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"understudy/cluster"
	"understudy/etcd"
	"understudy/failover"
)

// machineConfig is what `understudy agent` runs with: the agents of one machine.
type machineConfig struct {
	Machine   string        `yaml:"machine" help:"name of this machine, unique in the installation"`
	Zone      string        `yaml:"zone" help:"failure domain of this machine"`
	Data      string        `yaml:"data" help:"directory that keeps everything of this machine: data sets, store, lock"`
	Listen    string        `yaml:"listen" help:"address at which the other machines reach this one"`
	PortBase  int           `yaml:"port_base" help:"first port: the agents' own; the next one is the status's, then one for each redis-server"`
	HTTP      string        `yaml:"http" help:"where the status is served; empty: the port after port_base, on listen when that is a loopback address, else on 127.0.0.1"`
	OpenHTTP  bool          `yaml:"open_http" help:"let http be another address than the loopback without http_tls and http_token_file: it takes switchovers from whoever reaches it"`
	HTTPTLS   tlsConfig     `yaml:"http_tls,omitempty" help:"files of the certificate of http, which is https then: ca, cert, key; read anew when they change"`
	HTTPToken string        `yaml:"http_token_file,omitempty" help:"file with the token that requests to http must show, several lines while it is changed; read anew then"`
	HTTPOpen  bool          `yaml:"http_open_metrics,omitempty" help:"tell /metrics without the token, as /healthz is"`
	Store     storeConfig   `yaml:"store" help:"the store: a member embedded in each agent (1, 3 or 5 machines), or endpoints of an etcd"`
	TLS       tlsConfig     `yaml:"tls" help:"files of this machine's certificate: see understudy certs"`
	Insecure  bool          `yaml:"insecure" help:"no TLS between the machines: whoever reaches their ports controls the groups"`
	Groups    []groupConfig `yaml:"groups" help:"desired state, written once if the store has no group of that name"`
	Adopt     adoptions     `yaml:"adopt" help:"redis-servers of this machine that something else starts and stops, by the id of the node"`
	Slots     int           `yaml:"slots" help:"how many nodes this machine may run"`
	Replace   time.Duration `yaml:"replace_after" help:"how long a machine must be silent before its nodes go to another one of its zone"`
	Server    string        `yaml:"redis_server" help:"path of redis-server or valkey-server, 7.0 or newer; empty: found in PATH"`
	LogFormat string        `yaml:"log_format" help:"format of the log on stderr: text or json"`
}

// adoptions are the servers that this machine's nodes take over.
type adoptions map[string]adoptConfig

// adoptConfig is one of them.
type adoptConfig struct {
	Addr         string `yaml:"addr"`             // HOST:PORT at which the other nodes and the proxies reach it
	Socket       string `yaml:"socket,omitempty"` // its unix socket, if it has one
	User         string `yaml:"user,omitempty"`
	PasswordFile string `yaml:"password_file,omitempty"`
}

// storeConfig says where the store is.
type storeConfig struct {
	Embed     map[string]memberConfig `yaml:"embed,omitempty"`
	Heartbeat time.Duration           `yaml:"heartbeat,omitempty"`
	Election  time.Duration           `yaml:"election,omitempty"`

	Endpoints    addrList  `yaml:"endpoints,omitempty"`
	User         string    `yaml:"user,omitempty"`
	PasswordFile string    `yaml:"password_file,omitempty"`
	TLS          tlsConfig `yaml:"tls,omitempty"` // of an external etcd that has an authority of its own
}

// memberConfig is a member's address for the other members, and for clients: the port below when it
// is not said.
type memberConfig struct{ Peer, Client string }

// UnmarshalYAML reads "HOST:PORT" or {peer: HOST:PORT, client: HOST:PORT}.
func (m *memberConfig) UnmarshalYAML(unmarshal func(any) error) error {
	if err := unmarshal(&m.Peer); err != nil {
		var both struct{ Peer, Client string }
		if err := unmarshal(&both); err != nil {
			return errors.New("a member is HOST:PORT, or {peer: HOST:PORT, client: HOST:PORT}")
		}
		m.Peer, m.Client = both.Peer, both.Client
	}
	if m.Client != "" {
		return nil
	}
	host, port, err := net.SplitHostPort(m.Peer)
	n, _ := strconv.Atoi(port)
	if err != nil || n < 2 || n > 65535 {
		return fmt.Errorf("member %q: not HOST:PORT", m.Peer)
	}
	m.Client = net.JoinHostPort(host, strconv.Itoa(n-1))
	return nil
}

// MarshalYAML writes both addresses.
func (m memberConfig) MarshalYAML() (any, error) {
	return map[string]string{"peer": m.Peer, "client": m.Client}, nil
}

// tlsConfig names the files of a certificate.
type tlsConfig struct {
	CA   string `yaml:"ca,omitempty"`
	Cert string `yaml:"cert,omitempty"`
	Key  string `yaml:"key,omitempty"`
}

func (t tlsConfig) empty() bool { return t == tlsConfig{} }

// groupConfig is a group as it is to be.
type groupConfig struct {
	Name          string         `yaml:"name"`
	Nodes         int            `yaml:"nodes"`
	Zones         []string       `yaml:"zones,omitempty"` // of the nodes, in turn; none: where the machines are
	Durability    string         `yaml:"durability"`
	Profile       string         `yaml:"profile"`
	OnLostQuorum  string         `yaml:"on_lost_quorum,omitempty"`
	PreferredZone string         `yaml:"preferred_zone,omitempty"`
	ReturnWindow  string         `yaml:"return_window,omitempty"`
	Priority      map[string]int `yaml:"priority,omitempty"` // of nodes, by id; higher is preferred
	// NodeTLS has the redis-servers speak TLS with one another and with proxies; nil: where other machines reach
	// this one and tls is set.
	NodeTLS *bool `yaml:"node_tls,omitempty"`
	// Machines pins nodes, by id, to machines: those whose redis-server is adopted there.
	Machines map[string]string `yaml:"machines,omitempty"`
}

func defaultMachineConfig() machineConfig {
	return machineConfig{Data: "/var/lib/understudy", PortBase: 7400, Slots: 16, Replace: 5 * time.Minute, LogFormat: "text"}
}

// loadMachineConfig reads and checks the file. Paths in it are meant from where the file lies. Every
// error is exit 2.
func loadMachineConfig(file string) (machineConfig, error) {
	c := defaultMachineConfig()
	if err := readSettings(file, &c); err != nil {
		return c, err
	}
	dir, err := filepath.Abs(filepath.Dir(file))
	if err != nil {
		return c, usagef("--config: %w", err)
	}
	fromDir(dir, &c.Data, &c.TLS.CA, &c.TLS.Cert, &c.TLS.Key, &c.Store.TLS.CA, &c.Store.TLS.Cert, &c.Store.TLS.Key, &c.Store.PasswordFile,
		&c.HTTPTLS.CA, &c.HTTPTLS.Cert, &c.HTTPTLS.Key, &c.HTTPToken)
	for id, a := range c.Adopt {
		fromDir(dir, &a.PasswordFile)
		c.Adopt[id] = a
	}
	c.complete()
	if err := c.validate(); err != nil {
		return c, usagef("%s: %w", file, err)
	}
	return c, nil
}

// complete fills in what follows from the rest.
func (c *machineConfig) complete() {
	if c.HTTP == "" {
		host := "127.0.0.1"
		if loopback(c.Listen) {
			host = c.Listen
		}
		c.HTTP = net.JoinHostPort(host, strconv.Itoa(c.PortBase+1))
	}
	for i := range c.Groups {
		g := &c.Groups[i]
		g.Nodes = orElse(g.Nodes, 3)
		g.Durability = orElse(g.Durability, string(cluster.DurabilitySync))
		g.Profile = orElse(g.Profile, "fast")
		g.OnLostQuorum = orElse(g.OnLostQuorum, string(cluster.LostQuorumShrink))
		if g.NodeTLS == nil {
			safe := !loopback(c.Listen) && !c.TLS.empty()
			g.NodeTLS = &safe
		}
	}
	if len(c.Store.Embed) > 0 && c.Store.Heartbeat == 0 && c.Store.Election == 0 {
		c.Store.Heartbeat, c.Store.Election = 50*time.Millisecond, 500*time.Millisecond
		for _, g := range c.Groups {
			if g.Profile == "wide" { // a heartbeat must be longer than a round trip between regions
				c.Store.Heartbeat, c.Store.Election = 200*time.Millisecond, 2*time.Second
			}
		}
	}
}

func orElse[T comparable](v, other T) T {
	var zero T
	if v == zero {
		return other
	}
	return v
}

// validate checks each setting and the relations between them; the error names the key.
func (c *machineConfig) validate() error {
	host, port, err := net.SplitHostPort(c.HTTP)
	switch {
	case !groupName.MatchString(c.Machine):
		return fmt.Errorf("machine %q: 1 to 40 lower-case letters, digits and hyphens, beginning with a letter, are a name", c.Machine)
	case c.Zone == "" || strings.ContainsAny(c.Zone, " \t\n,\""):
		return fmt.Errorf("zone %q: a name without spaces, commas and quotes is needed", c.Zone)
	case c.Data == "":
		return errors.New("data: a directory is needed")
	case c.Listen == "" || c.Listen == "0.0.0.0" || c.Listen == "::" || strings.Contains(c.Listen, "/"):
		return fmt.Errorf("listen %q: the address at which the other machines reach this one is needed", c.Listen)
	case c.PortBase < 1 || c.PortBase+1+c.Slots > 65535:
		return fmt.Errorf("port_base %d: the ports from there on must be from 1 to 65535", c.PortBase)
	case c.Slots < 1 || c.Slots > 200:
		return fmt.Errorf("slots %d: a machine runs 1 to 200 nodes", c.Slots)
	case c.LogFormat != "text" && c.LogFormat != "json":
		return fmt.Errorf("log_format %q: not one of text, json", c.LogFormat)
	case err != nil || port == "":
		return fmt.Errorf("http %q: not HOST:PORT", c.HTTP)
	}
	if err := c.door().validate(keyName); err != nil {
		return err
	}
	if err := c.door().reachable(host, c.OpenHTTP, keyName, "open_http: true"); err != nil {
		return fmt.Errorf("http %s: %w", c.HTTP, err)
	}
	if err := c.validateTLS(); err != nil {
		return err
	}
	if err := c.validateGroups(); err != nil {
		return err
	}
	if err := c.validateAdoptions(); err != nil {
		return err
	}
	return c.validateStore()
}

// door is who may come in at the HTTP address.
func (c *machineConfig) door() door {
	return door{TLS: c.HTTPTLS, TokenFile: c.HTTPToken, OpenMetrics: c.HTTPOpen}
}

// keyName is how a key is called where it stands at the top of its file.
func keyName(key string) string { return key }

// validateAdoptions makes sure that a node whose server is here is pinned here: elsewhere it would start
// without its data.
func (c *machineConfig) validateAdoptions() error {
	for _, id := range slices.Sorted(maps.Keys(c.Adopt)) {
		name := "adopt: " + id
		i := slices.IndexFunc(c.Groups, func(g groupConfig) bool { return g.Name == cluster.GroupOf(cluster.NodeID(id)) })
		if i < 0 {
			return fmt.Errorf("%s: no group of this file has that node; nodes are called GROUP-001, …", name)
		}
		if at := c.Groups[i].Machines[id]; at != c.Machine {
			return fmt.Errorf("%s: groups: %s: machines must say %s: %s, in the files of all machines", name, c.Groups[i].Name, id, c.Machine)
		}
		if _, _, err := net.SplitHostPort(c.Adopt[id].Addr); err != nil {
			return fmt.Errorf("%s: addr: %w", name, err)
		}
	}
	for _, g := range c.Groups {
		for id, at := range g.Machines {
			if _, ok := c.Adopt[id]; at == c.Machine && !ok {
				return fmt.Errorf("groups: %s: machines: %s is pinned to this machine, and adopt does not say where its redis-server is", g.Name, id)
			}
		}
	}
	return nil
}

func (c *machineConfig) validateTLS() error {
	t := c.TLS
	switch {
	case t.empty() && !c.Insecure && !loopback(c.Listen):
		return fmt.Errorf("listen %s: other machines can reach it and tls is not set; make certificates with `understudy certs`, or say insecure: true", c.Listen)
	case t.empty():
		return nil
	case c.Insecure:
		return errors.New("insecure: tls is set too; say one of them")
	case t.CA == "" || t.Cert == "" || t.Key == "":
		return errors.New("tls: ca, cert and key are needed together")
	}
	return nil
}

func (c *machineConfig) validateGroups() error {
	seen := map[string]bool{}
	for _, g := range c.Groups {
		name := "groups: " + g.Name
		p, err := failover.ProfileByName(g.Profile)
		switch {
		case !groupName.MatchString(g.Name) || strings.HasSuffix(g.Name, "-") || strings.Contains(g.Name, "--"):
			return fmt.Errorf("groups: name %q: 1 to 40 lower-case letters, digits and single hyphens, beginning with a letter, are a name", g.Name)
		case seen[g.Name]:
			return fmt.Errorf("%s: named twice", name)
		case err != nil:
			return fmt.Errorf("%s: %w", name, err)
		case g.Nodes < 1 || g.Nodes > 6:
			return fmt.Errorf("%s: nodes %d: a group has 1 to 6 nodes", name, g.Nodes)
		case g.Durability != string(cluster.DurabilitySync) && g.Durability != string(cluster.DurabilityAsync):
			return fmt.Errorf("%s: durability %q: not one of sync, async", name, g.Durability)
		case *g.NodeTLS && c.TLS.empty():
			return fmt.Errorf("%s: node_tls: tls must say with which files", name)
		case g.OnLostQuorum != string(cluster.LostQuorumShrink) && g.OnLostQuorum != string(cluster.LostQuorumRefuse):
			return fmt.Errorf("%s: on_lost_quorum %q: not one of shrink, refuse", name, g.OnLostQuorum)
		}
		seen[g.Name] = true
		if _, err := returnNow(g.ReturnWindow); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if err := p.Validate(); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if err := c.validateTimes(name, p); err != nil {
			return err
		}
	}
	return nil
}

// validateTimes checks a group's profile against the machine's own times.
func (c *machineConfig) validateTimes(name string, p failover.Profile) error {
	if e := c.Store.Election; 2*e > p.TTL {
		return fmt.Errorf("%s: 2 × store.election (2 × %v = %v) must be at most T of the profile %s (%v): so long may the store be without a leader, and no failover can happen without it",
			name, e, 2*e, p.Name, p.TTL)
	}
	if least := max(30*time.Second, 6*(p.TTL+p.Delta)); c.Replace < least {
		return fmt.Errorf("%s: replace_after %v must be at least %v with the profile %s (30s, and 6 × (T + δ) = 6 × (%v + %v)): a slow failover is no lost machine",
			name, c.Replace, least, p.Name, p.TTL, p.Delta)
	}
	return nil
}

func (c *machineConfig) validateStore() error {
	s := c.Store
	switch {
	case len(s.Embed) == 0 && len(s.Endpoints) == 0:
		return errors.New("store: embed (a member in each agent) or endpoints (of an etcd) are needed")
	case len(s.Embed) > 0 && len(s.Endpoints) > 0 && s.Embed[c.Machine].Peer != "":
		return errors.New("store: embed and endpoints are both set; say one of them")
	case s.Heartbeat > 0 && s.Election < 5*s.Heartbeat:
		return fmt.Errorf("store: election %v must be at least 5 × heartbeat (5 × %v)", s.Election, s.Heartbeat)
	case (s.User == "") != (s.PasswordFile == ""):
		return errors.New("store: user and password_file are needed together")
	}
	if len(s.Embed) == 0 {
		return nil
	}
	m := c.membership(nil)
	if _, ok := s.Embed[c.Machine]; !ok {
		for m.Name = range m.Members { // this machine is none of the members: it uses theirs
			break
		}
	}
	return m.Validate()
}

// membership is the embedded member as the store takes it.
func (c *machineConfig) membership(t *etcd.TLS) *etcd.Membership {
	m := &etcd.Membership{Name: c.Machine, Members: map[string]etcd.Member{}, TLS: t, Heartbeat: c.Store.Heartbeat, Election: c.Store.Election}
	for name, x := range c.Store.Embed {
		m.Members[name] = etcd.Member{Peer: x.Peer, Client: x.Client}
	}
	return m
}

// specs are the groups as the store keeps them. Nodes without a zone get that of their machine.
func (c *machineConfig) specs() []cluster.Spec {
	var all []cluster.Spec
	for _, g := range c.Groups {
		s := cluster.Spec{Name: g.Name, Durability: cluster.Durability(g.Durability), Profile: g.Profile,
			OnLostQuorum: cluster.LostQuorum(g.OnLostQuorum), PreferredZone: g.PreferredZone, ReturnWindow: g.ReturnWindow, NodeTLS: *g.NodeTLS}
		for i := range g.Nodes {
			n := cluster.NodePlace{ID: cluster.NodeName(g.Name, i+1)}
			n.Priority = g.Priority[string(n.ID)]
			if at := g.Machines[string(n.ID)]; at != "" {
				n.Machine, n.Pinned = at, true
			}
			if len(g.Zones) > 0 {
				n.Zone = g.Zones[i%len(g.Zones)]
			}
			s.Nodes = append(s.Nodes, n)
		}
		all = append(all, s)
	}
	return all
}

// print writes the configuration as a file that `--config` reads, each key with what it means.
func (c *machineConfig) print(w io.Writer) error {
	return printSettings(w, "# Settings of `understudy agent`, one file a machine.", *c)
}
