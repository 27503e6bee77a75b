package upstream

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"understudy/certs"
	"understudy/cluster"
)

// authority issues a certificate for the hosts, and returns its files and what trusts it.
func authority(t *testing.T, hosts ...string) (dir string, trust *tls.Config) {
	t.Helper()
	dir = t.TempDir()
	must(t, certs.Init(dir, "test", false), certs.Issue(dir, certs.Request{Name: "node", Hosts: hosts}))
	pem, err := os.ReadFile(filepath.Join(dir, certs.AuthorityCert))
	must(t, err)
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		t.Fatal("the authority's certificate cannot be read")
	}
	return dir, &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
}

func TestNodesAreAskedOverTLSForTheirEndpointsName(t *testing.T) {
	dir, trust := authority(t, "*.shop.test")
	port := fmt.Sprint(freePort(t, "127.0.0.2"))
	a := startServer(t, "127.0.0.2", 0, map[string]string{"requirepass": "t0ken-word", "tls-port": port, "tls-auth-clients": "no", "tls-cert-file": filepath.Join(dir, "node.pem"),
		"tls-key-file": filepath.Join(dir, "node.key"), "tls-ca-cert-file": filepath.Join(dir, certs.AuthorityCert)}).promote()
	dns := &names{at: map[string][]string{"master.shop.test": {"127.0.0.2"}, "master.else.test": {"127.0.0.2"}}}
	id := cluster.NodeID("127.0.0.2:" + port)
	v := watch(t, Options{Lookup: dns.lookup, TLS: trust, Password: "t0ken-word", ElastiCache: &ElastiCache{Primary: "master.shop.test:" + port}})
	waitFor(t, "the primary is found over TLS", func() bool { return v.writer() == string(id) })
	other := watch(t, Options{Lookup: dns.lookup, TLS: trust, Password: "t0ken-word", ElastiCache: &ElastiCache{Primary: "master.else.test:" + port}})
	waitFor(t, "a certificate for another name is refused", func() bool { return strings.Contains(other.of(id).Reason, "certificate is valid for") })
	plain := watch(t, Options{Lookup: dns.lookup, Password: "t0ken-word", ElastiCache: &ElastiCache{Primary: "master.shop.test:" + port}})
	waitFor(t, "without TLS it does not answer", func() bool { return plain.of(id).State == cluster.StateDown })
	if w := plain.writer() + other.writer(); w != "" {
		t.Errorf("writes go to %q", w)
	}
	must(t, a.Kill())
	waitFor(t, "its end is seen", func() bool { return v.writer() == "" })
}
