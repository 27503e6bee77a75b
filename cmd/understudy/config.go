package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/spf13/pflag"

	"understudy/cluster"
	"understudy/failover"
	"understudy/proxy"
)

// config is what `understudy up` runs with. The yaml keys are the flags' names; each is also
// UNDERSTUDY_… in the environment.
type config struct {
	Data          string        `yaml:"data"`
	Group         string        `yaml:"group"`
	Nodes         int           `yaml:"nodes"`
	Zones         list          `yaml:"zones"`
	Durability    string        `yaml:"durability"`
	Profile       string        `yaml:"profile"`
	Timing        timing        `yaml:"timing,omitempty"`
	OnLostQuorum  string        `yaml:"on-lost-quorum"`
	PreferredZone string        `yaml:"preferred-zone"`
	ReturnWindow  string        `yaml:"return-window"`
	PrimaryAddr   string        `yaml:"primary-addr"`
	ReaderAddr    string        `yaml:"reader-addr"`
	SplitAddr     string        `yaml:"split-addr"`
	HTTPAddr      string        `yaml:"http-addr"`
	HTTPTLSCA     string        `yaml:"http-tls-ca"`
	HTTPTLSCert   string        `yaml:"http-tls-cert"`
	HTTPTLSKey    string        `yaml:"http-tls-key"`
	HTTPTokenFile string        `yaml:"http-token-file"`
	HTTPMetrics   bool          `yaml:"http-open-metrics"`
	AllowRemote   bool          `yaml:"allow-remote"`
	Hold          time.Duration `yaml:"hold"`
	Waits         waits         `yaml:",inline"`
	Reads         string        `yaml:"reads"`
	Doors         doors         `yaml:",inline"`
	AWS           awsConfig     `yaml:",inline"`
	Notify        notifyConfig  `yaml:",inline"`
	Monitor       monitorConfig `yaml:",inline"`
	Alarms        alarmConfig   `yaml:",inline"`
	RedisServer   string        `yaml:"redis-server"`
	LogFormat     string        `yaml:"log-format"`
}

// defaultData is where `up` keeps its data, and where the other commands look for it.
const defaultData = "./understudy-data"

func defaultConfig() config {
	return config{
		Data: defaultData, Group: "main", Nodes: 3, Zones: list{"us-east-1a", "us-east-1b", "us-east-1c"},
		Durability: string(cluster.DurabilitySync), Profile: "fast", OnLostQuorum: string(cluster.LostQuorumShrink),
		PrimaryAddr: "127.0.0.1:7379", ReaderAddr: "127.0.0.1:7380", SplitAddr: "127.0.0.1:7381", HTTPAddr: "127.0.0.1:7390",
		Hold: 5 * time.Second, Waits: defaultWaits(), Reads: string(proxy.ReadsPermit), Doors: doors(defaultEntrance()), AWS: defaultAWS(), Notify: defaultNotify(), Monitor: defaultMonitor(), Alarms: defaultAlarms(), LogFormat: "text",
	}
}

// flags binds every setting to a flag, in the order of --print-config.
func (c *config) flags() *pflag.FlagSet {
	fs := pflag.NewFlagSet("up", pflag.ContinueOnError)
	fs.SortFlags = false
	fs.StringVar(&c.Data, "data", c.Data, "directory that keeps everything: data sets, store, lock")
	fs.StringVar(&c.Group, "group", c.Group, "name of the replication group; nodes are called GROUP-001, …")
	fs.IntVar(&c.Nodes, "nodes", c.Nodes, "how many redis-servers: 1 to 6")
	fs.Var(&c.Zones, "zones", "zones that the nodes are spread over, separated by commas")
	fs.StringVar(&c.Durability, "durability", c.Durability, "sync: a write is acked when it is on two nodes; async: on the primary")
	fs.StringVar(&c.Profile, "profile", c.Profile, "timings: fast (one machine or metro), standard (one region), wide (across regions)")
	fs.Var(&c.Timing, "timing", "single times in place of the profile's, e.g. renew=150ms,ttl=1s,delta=150ms,probe=50ms,misses=6,window=100ms")
	fs.StringVar(&c.OnLostQuorum, "on-lost-quorum", c.OnLostQuorum, "when sync has no replica left. shrink: write on with one copy; refuse: writes wait, then get an error")
	fs.StringVar(&c.PreferredZone, "preferred-zone", c.PreferredZone, "zone to which the primary returns inside --return-window; empty: it stays where it is")
	fs.StringVar(&c.ReturnWindow, "return-window", c.ReturnWindow, "when it may return, every week, UTC, as ddd:hh:mm-ddd:hh:mm, at least 30 minutes")
	fs.StringVar(&c.PrimaryAddr, "primary-addr", c.PrimaryAddr, "where clients reach the primary; port 0: any free one")
	fs.StringVar(&c.ReaderAddr, "reader-addr", c.ReaderAddr, "where clients reach the replicas")
	fs.StringVar(&c.SplitAddr, "split-addr", c.SplitAddr, "where reads go to replicas and writes to the primary")
	fs.StringVar(&c.HTTPAddr, "http-addr", c.HTTPAddr, "where /healthz, /metrics and /api are served")
	fs.StringVar(&c.HTTPTLSCA, "http-tls-ca", c.HTTPTLSCA, "authority of the certificate of the HTTP address, which is https then; read anew when it changes, as the next two")
	fs.StringVar(&c.HTTPTLSCert, "http-tls-cert", c.HTTPTLSCert, "certificate of the HTTP address")
	fs.StringVar(&c.HTTPTLSKey, "http-tls-key", c.HTTPTLSKey, "its key")
	fs.StringVar(&c.HTTPTokenFile, "http-token-file", c.HTTPTokenFile, "file with the token that requests to the HTTP address must show, several lines while it is changed; read anew then; empty: none")
	fs.BoolVar(&c.HTTPMetrics, "http-open-metrics", c.HTTPMetrics, "tell /metrics without the token, as /healthz is")
	fs.BoolVar(&c.AllowRemote, "allow-remote", c.AllowRemote, "listen on other addresses than the loopback, without TLS, a password or a token")
	fs.DurationVar(&c.Hold, "hold", c.Hold, "how long a request waits for a primary before it gets a retryable error")
	c.Waits.flags(fs)
	fs.StringVar(&c.Reads, "reads", c.Reads, "reads on the primary endpoint. permit: at once; committed: after a commit round, linearizable over all proxies")
	c.Doors.flags(fs)
	c.AWS.flags(fs)
	c.Notify.flags(fs)
	c.Monitor.flags(fs)
	c.Alarms.flags(fs)
	fs.StringVar(&c.RedisServer, "redis-server", c.RedisServer, "path of redis-server or valkey-server, 7.0 or newer; empty: found in PATH")
	fs.StringVar(&c.LogFormat, "log-format", c.LogFormat, "format of the log on stderr: text or json")
	return fs
}

// list is a setting of several words.
type list []string

func (l *list) String() string { return strings.Join(*l, ",") }
func (l *list) Type() string   { return "list" }

func (l *list) Set(s string) error {
	*l = nil
	for word := range strings.SplitSeq(s, ",") {
		*l = append(*l, strings.TrimSpace(word))
	}
	return nil
}

// envName is a flag's name in the environment.
func envName(flag string) string {
	return "UNDERSTUDY_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// loadConfig puts defaults, the file, the environment and the flags that were given on top of one
// another, and checks the outcome. Every error is exit 2.
func loadConfig(file string, given *pflag.FlagSet) (config, error) {
	c := defaultConfig()
	if file != "" {
		text, err := os.ReadFile(file)
		if err != nil {
			return c, usagef("--config: %w", err)
		}
		if err := c.decode(text); err != nil {
			return c, usagef("%s: %w", file, err)
		}
	}
	fs := c.flags()
	var err error
	fs.VisitAll(func(f *pflag.Flag) {
		name, value := "--"+f.Name, ""
		if g := given.Lookup(f.Name); g != nil && g.Changed {
			value = g.Value.String()
		} else if env, ok := os.LookupEnv(envName(f.Name)); ok {
			name, value = envName(f.Name), env
		} else {
			return
		}
		if e := fs.Set(f.Name, value); e != nil && err == nil {
			err = usagef("%s=%s: %w", name, value, errors.Unwrap(e))
		}
	})
	if err != nil {
		return c, err
	}
	if err := c.validate(); err != nil {
		return c, coded{exitUsage, err}
	}
	return c, nil
}

// decode reads the file's text into c.
func (c *config) decode(text []byte) error {
	return decodeKnown(text, c, func() (known []string) {
		c.flags().VisitAll(func(f *pflag.Flag) { known = append(known, f.Name) })
		return append(known, timingNames()...)
	})
}

var groupName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,39}$`)

// timings is the profile with the changes that are configured.
func (c *config) timings() (failover.Profile, error) {
	p, err := failover.ProfileByName(c.Profile)
	if err != nil {
		return p, fmt.Errorf("--profile: %w", err)
	}
	p = c.Timing.apply(p)
	if err := p.Validate(); err != nil {
		return p, fmt.Errorf("--timing: %w", err)
	}
	if err := validateTiming(p); err != nil {
		return p, fmt.Errorf("--timing: %w", err)
	}
	return p, nil
}

// validate checks each setting and the relations between them; the error names the flag.
func (c *config) validate() error {
	p, err := c.timings()
	if err != nil {
		return err
	}
	switch {
	case c.Data == "":
		return errors.New("--data: a directory is needed")
	case !groupName.MatchString(c.Group) || strings.HasSuffix(c.Group, "-") || strings.Contains(c.Group, "--"):
		return fmt.Errorf("--group %q: 1 to 40 lower-case letters, digits and single hyphens, beginning with a letter, are a name", c.Group)
	case c.Nodes < 1 || c.Nodes > 6:
		return fmt.Errorf("--nodes %d: a group has 1 to 6 nodes", c.Nodes)
	case c.Durability != string(cluster.DurabilitySync) && c.Durability != string(cluster.DurabilityAsync):
		return fmt.Errorf("--durability %q: not one of sync, async", c.Durability)
	case c.OnLostQuorum != string(cluster.LostQuorumShrink) && c.OnLostQuorum != string(cluster.LostQuorumRefuse):
		return fmt.Errorf("--on-lost-quorum %q: not one of shrink, refuse", c.OnLostQuorum)
	case c.Reads != string(proxy.ReadsPermit) && c.Reads != string(proxy.ReadsCommitted):
		return fmt.Errorf("--reads %q: not one of permit, committed", c.Reads)
	case c.LogFormat != "text" && c.LogFormat != "json":
		return fmt.Errorf("--log-format %q: not one of text, json", c.LogFormat)
	case c.Hold < p.TTL:
		return fmt.Errorf("--hold %v: must be at least T of the profile %s (%v), or a failover that is on its way shows as an error", c.Hold, p.Name, p.TTL)
	case c.Hold > 5*time.Minute:
		return fmt.Errorf("--hold %v: at most 5m: no client waits longer", c.Hold)
	}
	if err := c.validateZones(); err != nil {
		return err
	}
	if err := c.validateReturn(); err != nil {
		return err
	}
	if err := c.Waits.validate(flagName, c.Hold); err != nil {
		return err
	}
	if err := c.door().validate(httpFlagName); err != nil {
		return err
	}
	if err := c.Doors.entrance().validate(flagName, c.AllowRemote); err != nil {
		return err
	}
	if err := c.AWS.validate(); err != nil {
		return err
	}
	if err := c.Notify.validate(); err != nil {
		return err
	}
	if err := c.Monitor.validate(); err != nil {
		return err
	}
	if err := c.Alarms.validate(); err != nil {
		return err
	}
	return c.validateAddrs()
}

func (c *config) validateZones() error {
	if len(c.Zones) == 0 {
		return errors.New("--zones: at least one is needed")
	}
	seen := map[string]bool{}
	for _, z := range c.Zones {
		if z == "" || strings.ContainsAny(z, " \t\n,\"") {
			return fmt.Errorf("--zones: %q is no name of a zone", z)
		}
		if seen[z] {
			return fmt.Errorf("--zones: %s is named twice", z)
		}
		seen[z] = true
	}
	return nil
}

// validateReturn checks where the primary belongs, and when it may be moved there.
func (c *config) validateReturn() error {
	used := c.Zones[:min(len(c.Zones), c.Nodes)] // the others have no node
	switch {
	case c.PreferredZone == "" && c.ReturnWindow == "":
		return nil
	case c.PreferredZone == "":
		return fmt.Errorf("--return-window %s: says when the primary returns, and --preferred-zone must say where to", c.ReturnWindow)
	case !slices.Contains(used, c.PreferredZone):
		return fmt.Errorf("--preferred-zone %q: no node is there; the zones with nodes are %s", c.PreferredZone, strings.Join(used, ", "))
	case c.ReturnWindow == "":
		return fmt.Errorf("--preferred-zone %s: --return-window must say when the primary may be moved there, e.g. sun:03:00-sun:04:00 (UTC)", c.PreferredZone)
	}
	if _, err := cluster.ParseWindow(c.ReturnWindow); err != nil {
		return fmt.Errorf("--return-window %w", err)
	}
	return nil
}

// off stands for an endpoint that is not served without TLS.
const off = "off"

// addr is an address that clients use, and the flag that names it.
type addr struct{ flag, value string }

func (c *config) addrs() []addr {
	all := []addr{{"primary-addr", c.PrimaryAddr}, {"reader-addr", c.ReaderAddr}, {"split-addr", c.SplitAddr}, {"http-addr", c.HTTPAddr}}
	for i, secure := range c.Doors.entrance().tlsAddrs() {
		if secure.value == "" {
			continue
		}
		all = append(all, addr{strings.TrimPrefix(flagName(secure.flag), "--"), secure.value})
		if all[i].value == "" {
			all[i].value = off // clients come over TLS only
		}
	}
	return slices.DeleteFunc(all, func(a addr) bool { return a.value == off })
}

func (c *config) validateAddrs() error {
	taken := map[string]string{}
	for _, a := range c.addrs() {
		host, port, err := net.SplitHostPort(a.value)
		if err != nil {
			return fmt.Errorf("--%s %q: not HOST:PORT", a.flag, a.value)
		}
		if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
			return fmt.Errorf("--%s %q: the port must be a number from 0 to 65535", a.flag, a.value)
		}
		if a.flag == "http-addr" {
			if err := c.door().reachable(host, c.AllowRemote, httpFlagName, "--allow-remote"); err != nil {
				return fmt.Errorf("--http-addr %s: %w", a.value, err)
			}
		} else if !loopback(host) && !c.AllowRemote && !strings.HasSuffix(a.flag, "-tls-addr") {
			return fmt.Errorf("--%s %s: other machines could reach it, without TLS or a password; use 127.0.0.1, or say --allow-remote", a.flag, a.value)
		}
		if other := taken[a.value]; other != "" && port != "0" {
			return fmt.Errorf("--%s %s: --%s has that address already", a.flag, a.value, other)
		}
		taken[a.value] = a.flag
	}
	return nil
}

// door is who may come in at the HTTP address.
func (c *config) door() door {
	return door{TLS: tlsConfig{c.HTTPTLSCA, c.HTTPTLSCert, c.HTTPTLSKey}, TokenFile: c.HTTPTokenFile, OpenMetrics: c.HTTPMetrics}
}

// httpFlagName is how `up` calls a key of the door.
func httpFlagName(key string) string {
	if key == "http_tls" {
		return "--http-tls-ca, --http-tls-cert, --http-tls-key"
	}
	return flagName(key)
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// print writes the configuration as a file that `--config` reads, each key with what it means.
func (c *config) print(w io.Writer) error {
	var b bytes.Buffer
	b.WriteString("# Settings of `understudy up`. Flags win over the environment, and that over this file.\n")
	values, err := yaml.Marshal(c)
	if err != nil {
		return fmt.Errorf("print the configuration: %w", err)
	}
	var items yaml.MapSlice
	if err := yaml.Unmarshal(values, &items); err != nil {
		return fmt.Errorf("print the configuration: %w", err)
	}
	fs := c.flags()
	for _, item := range items {
		name := fmt.Sprint(item.Key)
		text, err := yaml.MarshalWithOptions(yaml.MapSlice{item}, yaml.Flow(false), yaml.IndentSequence(true))
		if err != nil {
			return fmt.Errorf("print the configuration: %w", err)
		}
		fmt.Fprintf(&b, "\n# %s (--%s, %s)\n%s", fs.Lookup(name).Usage, name, envName(name), text)
	}
	_, err = w.Write(b.Bytes())
	return err
}
