package redis

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
)

// TLSFiles name the files with which a server speaks TLS: with the other nodes, and with proxies, which must
// show a certificate of the same authorities.
type TLSFiles struct {
	CA, Cert, Key string
}

// ErrNoTLS is returned for a server that was built without TLS.
var ErrNoTLS = errors.New("it was built without TLS")

// SupportsTLS returns ErrNoTLS for a server that cannot speak it. Nothing is started for it: the server refuses
// a port that is no number, and one without TLS does not know the directive at all.
func (b Binary) SupportsTLS(ctx context.Context) error {
	out, err := exec.CommandContext(ctx, b.Path, "--tls-port", "none").CombinedOutput()
	switch exit := (*exec.ExitError)(nil); {
	case err == nil || !errors.As(err, &exit):
		return fmt.Errorf("ask %s whether it speaks TLS: %v: %q", b.Path, err, out)
	case strings.Contains(string(out), "Bad directive"):
		return fmt.Errorf("%s %s: %w; install one that was built with it (BUILD_TLS=yes), or take TLS between the nodes off (node_tls: false)", b.Path, b.Version, ErrNoTLS)
	}
	return nil
}

// directives are the files in redis.conf, and in CONFIG SET.
func (f TLSFiles) directives() []string {
	return []string{"tls-ca-cert-file", f.CA, "tls-cert-file", f.Cert, "tls-key-file", f.Key}
}

// secure has a server of the given configuration speak nothing but TLS on its port, with replicas and its primary
// too. Sessions are not resumed: they would rest on certificates that may have been replaced.
func (f TLSFiles) secure(conf map[string]string) {
	conf["tls-port"], conf["port"] = conf["port"], "0"
	conf["tls-replication"], conf["tls-auth-clients"], conf["tls-protocols"], conf["tls-session-caching"] = "yes", "yes", "TLSv1.3", "no"
	for d := f.directives(); len(d) > 0; d = d[2:] {
		conf[d[0]] = fmt.Sprintf("%q", d[1])
	}
}

// ReloadTLS has the server read its certificates anew: they count for the next connections. One that cannot
// read them goes on with those that it has.
func (c *Control) ReloadTLS(ctx context.Context, f TLSFiles) error {
	args := []any{"SET"}
	for _, d := range f.directives() {
		args = append(args, d)
	}
	_, err := c.do(ctx, "CONFIG", args...)
	return err
}
