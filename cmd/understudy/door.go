package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"path/filepath"

	"github.com/prometheus/client_golang/prometheus"

	"understudy/certs"
	"understudy/dashboard"
	"understudy/proxy"
)

// door says who may come in at the HTTP address, where a switchover is one request.
type door struct {
	TLS         tlsConfig // files of the certificate that is shown; empty: no TLS
	TokenFile   string    // "": nobody needs a token
	OpenMetrics bool      // /metrics is told without one
}

// leastToken is the least length of a token in bytes: shorter ones can be guessed. 16 hex digits are 64 bits.
const leastToken = 16

// safe reports whether other machines may reach the address: what crosses the network cannot be read, and
// nobody comes in who has not been let.
func (d door) safe() bool { return !d.TLS.empty() && d.TokenFile != "" }

// validate checks the settings; called is how a key is called where it was written.
func (d door) validate(called func(key string) string) error {
	switch t := d.TLS; {
	case !t.empty() && (t.CA == "" || t.Cert == "" || t.Key == ""):
		return fmt.Errorf("%s: ca, cert and key are needed together", called("http_tls"))
	case d.OpenMetrics && d.TokenFile == "":
		return fmt.Errorf("%s: without %s everything is open", called("http_open_metrics"), called("http_token_file"))
	}
	return nil
}

// reachable refuses an address that other machines reach and anybody may use. flag is what allows it all the
// same.
func (d door) reachable(host string, allowed bool, called func(key string) string, flag string) error {
	if loopback(host) || allowed || d.safe() {
		return nil
	}
	return fmt.Errorf("other machines could reach it, without TLS or a token, and switch the primary over: set %s and %s, use 127.0.0.1, or say %s",
		called("http_tls"), called("http_token_file"), flag)
}

// openDoor is a door with its files read.
type openDoor struct {
	tls   *tls.Config // nil: in the clear
	guard *dashboard.Guard
	open  bool // nobody is asked for a token
	log   logger
}

// open reads the files; both are read anew when they change.
func (d door) open(metrics prometheus.Registerer, log logger) (*openDoor, error) {
	o := &openDoor{log: log, open: d.TokenFile == ""}
	if !d.TLS.empty() {
		files, err := certs.Open(certs.Paths(d.TLS), log)
		if err != nil {
			return nil, fmt.Errorf("the HTTP address: %w", err)
		}
		o.tls = files.Endpoint(false)
	}
	g := dashboard.GuardOptions{OpenMetrics: d.OpenMetrics, Admitted: proxy.WithOperator, Metrics: metrics}
	if !o.open {
		tokens, err := openSecrets(d.TokenFile, readTokens, log)
		if err != nil {
			return nil, err
		}
		g.Tokens = tokens.current
	}
	o.guard = dashboard.NewGuard(g)
	return o, nil
}

// readTokens reads a file with a token a line.
func readTokens(path string) ([]string, error) {
	all, err := readSecrets("token", path)
	for _, token := range all {
		if len(token) < leastToken {
			return nil, fmt.Errorf("token file %s: a token of %d bytes can be guessed; at least %d are needed: openssl rand -hex 32", path, len(token), leastToken)
		}
	}
	return all, err
}

// serve answers on l until ctx ends. Those in before have locks of their own, and answer ahead of the guard:
// AWS's clients sign their requests.
func (o *openDoor) serve(ctx context.Context, l net.Listener, pages http.Handler, before ...func(http.Handler) http.Handler) error {
	pages = o.guard.Before(pages)
	for _, b := range before {
		pages = b(pages)
	}
	at := l.Addr().String()
	if host, _, err := net.SplitHostPort(at); err == nil && !loopback(host) && (o.open || o.tls == nil) {
		o.log.Warn("INSECURE: other machines reach the HTTP address: who comes in may switch the primary over", "component", "http", "addr", at, "token", !o.open, "tls", o.tls != nil)
	}
	if o.tls != nil {
		l = tls.NewListener(l, o.tls)
	}
	return dashboard.Serve(ctx, l, pages, o.log)
}

// tells completes what an instance says of its HTTP address, for commands on this machine. They need no flag
// then, if they may read the files.
func (d door) tells(i *instance) {
	i.HTTPS, i.HTTPCA, i.HTTPTokenFile = !d.TLS.empty(), d.TLS.CA, d.TokenFile
	for _, path := range []*string{&i.HTTPCA, &i.HTTPTokenFile} {
		if *path != "" {
			if whole, err := filepath.Abs(*path); err == nil { // else as it is: commands in this directory find it
				*path = whole
			}
		}
	}
}
