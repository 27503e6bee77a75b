package main

import (
	"cmp"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"understudy/certs"
	"understudy/proxy"
)

// entrance says how clients enter the endpoints, and what one of them may take. In proxy.yaml it is the
// block `clients`; `understudy up` has a flag for each, see doors.
type entrance struct {
	PrimaryTLSAddr string        `yaml:"primary_tls_addr,omitempty"`
	ReaderTLSAddr  string        `yaml:"reader_tls_addr,omitempty"`
	SplitTLSAddr   string        `yaml:"split_tls_addr,omitempty"`
	TLSCA          string        `yaml:"tls_ca,omitempty"`
	TLSCert        string        `yaml:"tls_cert,omitempty"`
	TLSKey         string        `yaml:"tls_key,omitempty"`
	TLSAuthClients bool          `yaml:"tls_auth_clients,omitempty"`
	PasswordFile   string        `yaml:"password_file,omitempty"`
	UsersFile      string        `yaml:"users_file,omitempty"`
	LoginFailures  int           `yaml:"login_failures,omitempty"`
	LoginWithin    time.Duration `yaml:"login_within,omitempty"`
	ProxyProtocol  list          `yaml:"proxy_protocol,omitempty"`
	MaxClients     int           `yaml:"max_clients,omitempty"`
	OutputLimit    int           `yaml:"output_limit,omitempty"`
	OutputSoft     int           `yaml:"output_soft_limit,omitempty"`
	OutputSoftFor  time.Duration `yaml:"output_soft_for,omitempty"`
	InputLimit     int           `yaml:"input_limit,omitempty"`
	ClientMemory   int           `yaml:"client_memory,omitempty"`
	Tap            bool          `yaml:"tap,omitempty"`
}

// tlsAddrs are the addresses for clients that speak TLS, as the proxy's file calls them.
func (e *entrance) tlsAddrs() []addr {
	return []addr{{"primary_tls_addr", e.PrimaryTLSAddr}, {"reader_tls_addr", e.ReaderTLSAddr}, {"split_tls_addr", e.SplitTLSAddr}}
}

func (e *entrance) secure() bool {
	return e.PrimaryTLSAddr != "" || e.ReaderTLSAddr != "" || e.SplitTLSAddr != ""
}

// guarded reports whether only those come in who show a password or a certificate.
func (e *entrance) guarded() bool {
	return e.PasswordFile != "" || e.UsersFile != "" || e.TLSAuthClients
}

// leastLimit is the least that a bound in bytes may be: a client's usual pipeline.
const leastLimit = 64 << 10

// validate checks the settings; called is how a key is called where it was written. remote allows
// addresses that other machines reach without a password.
func (e *entrance) validate(called func(key string) string, remote bool) error {
	if err := e.validateTLS(called, remote); err != nil {
		return err
	}
	if _, err := e.networks(); err != nil {
		return fmt.Errorf("%s: %w", called("proxy_protocol"), err)
	}
	if e.MaxClients < 0 || e.MaxClients > 1_000_000 {
		return fmt.Errorf("%s %d: from 1 to 1000000, or 0 for the default", called("max_clients"), e.MaxClients)
	}
	for _, x := range []struct {
		key   string
		bytes int
	}{{"output_limit", e.OutputLimit}, {"output_soft_limit", e.OutputSoft}, {"input_limit", e.InputLimit}, {"client_memory", e.ClientMemory}} {
		if x.bytes != 0 && x.bytes < leastLimit {
			return fmt.Errorf("%s %d: at least %d bytes, or 0 for the default", called(x.key), x.bytes, leastLimit)
		}
	}
	switch {
	case e.OutputSoft != 0 && e.OutputLimit != 0 && e.OutputSoft > e.OutputLimit:
		return fmt.Errorf("%s %d: is above %s", called("output_soft_limit"), e.OutputSoft, called("output_limit"))
	case e.LoginFailures < -1 || e.LoginFailures > 1000:
		return fmt.Errorf("%s %d: from 1 to 1000, -1 for no bound, or 0 for the default", called("login_failures"), e.LoginFailures)
	case e.LoginWithin != 0 && e.LoginWithin < time.Second || e.LoginWithin > 24*time.Hour:
		return fmt.Errorf("%s %v: from 1s to 24h", called("login_within"), e.LoginWithin)
	case e.OutputSoftFor < 0:
		return fmt.Errorf("%s %v: a time is needed", called("output_soft_for"), e.OutputSoftFor)
	}
	return nil
}

func (e *entrance) validateTLS(called func(key string) string, remote bool) error {
	files := 0
	for _, path := range []string{e.TLSCA, e.TLSCert, e.TLSKey} {
		if path != "" {
			files++
		}
	}
	switch {
	case files != 0 && files != 3:
		return fmt.Errorf("%s, %s and %s are needed together", called("tls_ca"), called("tls_cert"), called("tls_key"))
	case e.secure() && files == 0:
		return fmt.Errorf("%s, %s and %s are needed for a TLS address; `understudy certs` makes them", called("tls_ca"), called("tls_cert"), called("tls_key"))
	case !e.secure() && (files != 0 || e.TLSAuthClients):
		return fmt.Errorf("%s: no TLS address is set: say %s, %s or %s", called("tls_cert"), called("primary_tls_addr"), called("reader_tls_addr"), called("split_tls_addr"))
	}
	for _, a := range e.tlsAddrs() {
		if a.value == "" {
			continue
		}
		host, _, err := hostPort(a.value)
		switch {
		case err != nil:
			return fmt.Errorf("%s %q: not HOST:PORT", called(a.flag), a.value)
		case !loopback(host) && !e.guarded() && !remote:
			return fmt.Errorf("%s %s: other machines could reach it without a password: set %s, or %s", called(a.flag), a.value, called("password_file"), called("tls_auth_clients"))
		}
	}
	return nil
}

// networks are those whose connections begin with a header of the PROXY protocol. A single address is a
// network of one.
func (e *entrance) networks() (all []netip.Prefix, err error) {
	for _, text := range e.ProxyProtocol {
		if text == "" {
			continue
		}
		ip, err := netip.ParseAddr(text)
		p := netip.PrefixFrom(ip, ip.BitLen())
		if err != nil {
			p, err = netip.ParsePrefix(text)
		}
		if err != nil {
			return nil, fmt.Errorf("%q is no network: 10.0.0.0/8 is one, or an address", text)
		}
		all = append(all, p)
	}
	return all, nil
}

// in takes the paths as meant from dir.
func (e *entrance) in(dir string) {
	fromDir(dir, &e.TLSCA, &e.TLSCert, &e.TLSKey, &e.PasswordFile, &e.UsersFile)
}

// apply reads the files and completes a proxy's options.
func (e *entrance) apply(o *proxy.Options, log *slog.Logger) error {
	o.PrimaryTLS, o.ReaderTLS, o.SplitTLS = e.PrimaryTLSAddr, e.ReaderTLSAddr, e.SplitTLSAddr
	o.MaxClients, o.OutputLimit, o.OutputSoft, o.OutputSoftFor = e.MaxClients, e.OutputLimit, e.OutputSoft, e.OutputSoftFor
	o.InputLimit, o.ClientMemory = e.InputLimit, e.ClientMemory
	if e.secure() {
		files, err := certs.Open(certs.Paths{CA: e.TLSCA, Cert: e.TLSCert, Key: e.TLSKey}, log)
		if err != nil {
			return err
		}
		o.TLS = files.Endpoint(e.TLSAuthClients)
	}
	var err error
	if o.ProxyProtocol, err = e.networks(); err != nil {
		return err
	}
	if o.Logins, err = e.logins(); err != nil {
		return err
	}
	o.LoginFailures, o.LoginWithin = e.LoginFailures, e.LoginWithin
	return nil
}

// readPasswords reads a file with a password a line: several while one is being changed.
func readPasswords(path string) (all []string, err error) { return readSecrets("password", path) }

// doors is entrance as `understudy up` spells it: the keys are the flags' names.
type doors struct {
	PrimaryTLSAddr string        `yaml:"primary-tls-addr"`
	ReaderTLSAddr  string        `yaml:"reader-tls-addr"`
	SplitTLSAddr   string        `yaml:"split-tls-addr"`
	TLSCA          string        `yaml:"tls-ca"`
	TLSCert        string        `yaml:"tls-cert"`
	TLSKey         string        `yaml:"tls-key"`
	TLSAuthClients bool          `yaml:"tls-auth-clients"`
	PasswordFile   string        `yaml:"password-file"`
	UsersFile      string        `yaml:"users-file"`
	LoginFailures  int           `yaml:"login-failures"`
	LoginWithin    time.Duration `yaml:"login-within"`
	ProxyProtocol  list          `yaml:"proxy-protocol"`
	MaxClients     int           `yaml:"max-clients"`
	OutputLimit    int           `yaml:"output-limit"`
	OutputSoft     int           `yaml:"output-soft-limit"`
	OutputSoftFor  time.Duration `yaml:"output-soft-for"`
	InputLimit     int           `yaml:"input-limit"`
	ClientMemory   int           `yaml:"client-memory"`
	Tap            bool          `yaml:"tap"`
}

func (d *doors) entrance() *entrance { return (*entrance)(d) }

// flagName is how `up` calls a key of the block `clients`.
func flagName(key string) string { return "--" + strings.ReplaceAll(key, "_", "-") }

// flags binds every setting to a flag.
func (d *doors) flags(fs *pflag.FlagSet) {
	fs.StringVar(&d.PrimaryTLSAddr, "primary-tls-addr", d.PrimaryTLSAddr, "where clients reach the primary over TLS; empty: nowhere")
	fs.StringVar(&d.ReaderTLSAddr, "reader-tls-addr", d.ReaderTLSAddr, "where clients reach the replicas over TLS")
	fs.StringVar(&d.SplitTLSAddr, "split-tls-addr", d.SplitTLSAddr, "where clients reach the split endpoint over TLS")
	fs.StringVar(&d.TLSCA, "tls-ca", d.TLSCA, "authority of the certificate that clients are shown; read anew when it changes, as the next two")
	fs.StringVar(&d.TLSCert, "tls-cert", d.TLSCert, "certificate that clients are shown")
	fs.StringVar(&d.TLSKey, "tls-key", d.TLSKey, "its key")
	fs.BoolVar(&d.TLSAuthClients, "tls-auth-clients", d.TLSAuthClients, "clients that speak TLS must show a certificate of the authority")
	fs.StringVar(&d.PasswordFile, "password-file", d.PasswordFile, "file with the endpoints' password, several lines while it is changed; read anew then; empty: clients need none")
	fs.StringVar(&d.UsersFile, "users-file", d.UsersFile, "file with users of the endpoints, a line each: NAME PASSWORD, and as whom the servers know him: USER PASSWORD")
	fs.IntVar(&d.LoginFailures, "login-failures", d.LoginFailures, "failed logins of one address within --login-within; further ones are refused unseen; -1: no bound")
	fs.DurationVar(&d.LoginWithin, "login-within", d.LoginWithin, "see --login-failures")
	fs.Var(&d.ProxyProtocol, "proxy-protocol", "networks of load balancers that send the PROXY protocol's header, e.g. 10.0.0.0/24")
	fs.IntVar(&d.MaxClients, "max-clients", d.MaxClients, "most connections of clients")
	fs.IntVar(&d.OutputLimit, "output-limit", d.OutputLimit, "bytes that may wait for one client to read them, beside its biggest reply")
	fs.IntVar(&d.OutputSoft, "output-soft-limit", d.OutputSoft, "bytes that may wait for longer than --output-soft-for")
	fs.DurationVar(&d.OutputSoftFor, "output-soft-for", d.OutputSoftFor, "how long more than --output-soft-limit may wait")
	fs.IntVar(&d.InputLimit, "input-limit", d.InputLimit, "bytes of one client's unfinished request")
	fs.IntVar(&d.ClientMemory, "client-memory", d.ClientMemory, "bytes of all clients' buffers; past it the client with the most is cut")
	fs.BoolVar(&d.Tap, "tap", d.Tap, "serve GET /api/tap, which shows commands with keys and without values: see understudy tap")
}

func defaultEntrance() entrance {
	return entrance{
		ProxyProtocol: list{}, MaxClients: proxy.DefaultMaxClients, OutputLimit: proxy.DefaultOutputLimit, OutputSoft: proxy.DefaultOutputSoft,
		OutputSoftFor: proxy.DefaultOutputSoftFor, LoginFailures: proxy.DefaultLoginFailures, LoginWithin: proxy.DefaultLoginWithin, InputLimit: proxy.DefaultInputLimit, ClientMemory: proxy.DefaultClientMemory,
	}
}

// plainOr is each endpoint's plain address, and its TLS address where it has no other.
func plainOr(a proxy.Addrs) proxy.Addrs {
	a.Primary, a.Reader, a.Split = cmp.Or(a.Primary, a.PrimaryTLS), cmp.Or(a.Reader, a.ReaderTLS), cmp.Or(a.Split, a.SplitTLS)
	return a
}

// sayTLS tells where clients that speak TLS come in: other lines name one address for each endpoint.
func sayTLS(a proxy.Addrs, log *slog.Logger) {
	if a.PrimaryTLS != "" || a.ReaderTLS != "" || a.SplitTLS != "" {
		log.Info("endpoints for clients that speak TLS", "component", "proxy", "primary", a.PrimaryTLS, "reader", a.ReaderTLS, "split", a.SplitTLS)
	}
}
