package proxy

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"understudy/certs"
	"understudy/cluster"
	"understudy/redis"
)

// identity makes an authority and a certificate for the loopback, and returns how the files are called.
func identity(t testing.TB) (dir string, paths certs.Paths) {
	t.Helper()
	dir = t.TempDir()
	must(t, certs.Init(dir, "test", false))
	renew(t, dir)
	return dir, certs.Paths{CA: filepath.Join(dir, certs.AuthorityCert), Cert: filepath.Join(dir, "front.pem"), Key: filepath.Join(dir, "front.key")}
}

func renew(t testing.TB, dir string) {
	t.Helper()
	must(t, certs.Issue(dir, certs.Request{Name: "front", Hosts: []string{"127.0.0.1"}, Force: true}))
}

func opened(t testing.TB, p certs.Paths) *certs.Files {
	t.Helper()
	f, err := certs.Open(p, nil)
	must(t, err)
	return f
}

// trusting is a client's side that knows the authority and shows no certificate.
func trusting(t testing.TB, p certs.Paths) *tls.Config {
	t.Helper()
	text, err := os.ReadFile(p.CA)
	must(t, err)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(text)
	return &tls.Config{RootCAs: pool, ServerName: "127.0.0.1"}
}

// withTLS has the primary endpoint served over TLS too.
func withTLS(files *certs.Files) func(*Options) {
	return func(o *Options) { o.PrimaryTLS, o.TLS = "127.0.0.1:0", files.Endpoint(false) }
}

func TestProxyServesTLSAndPlainClientsSideBySide(t *testing.T) {
	_, paths := identity(t)
	g, _ := served(t, withTLS(opened(t, paths)))
	plain := dialRedis(t, g.proxy.Addrs().Primary, 2)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		config := trusting(t, paths)
		config.MaxVersion = version
		c := goredis.NewClient(&goredis.Options{Addr: g.proxy.Addrs().PrimaryTLS, TLSConfig: config, MaxRetries: -1, Protocol: 3, ReadTimeout: 20 * time.Second})
		defer c.Close()
		big := strings.Repeat("0123456789abcdef", 512<<10)
		must(t, c.Set(ctx, "big", big, 0).Err())
		if v := c.Get(ctx, "big").Val(); v != big {
			t.Errorf("TLS %x: %d bytes come back of %d", version, len(v), len(big))
		}
		if v := plain.Get(ctx, "big").Val(); v != big {
			t.Errorf("plain: %d bytes come back of %d", len(v), len(big))
		}
		var work sync.WaitGroup
		for range 8 {
			work.Go(func() {
				for range 20 {
					if _, err := c.Pipelined(ctx, func(p goredis.Pipeliner) error {
						for range 100 {
							p.Incr(ctx, "n")
						}
						return nil
					}); err != nil {
						t.Error(err)
					}
				}
			})
		}
		work.Wait()
		if n := c.Get(ctx, "n").Val(); n != "16000" {
			t.Errorf("TLS %x: n = %s", version, n)
		}
		must(t, c.Del(ctx, "n").Err())
		if v := c.BLPop(ctx, 50*time.Millisecond, "none"); !errors.Is(v.Err(), goredis.Nil) {
			t.Errorf("BLPOP: %v", v)
		}
	}
}

func TestProxyKeepsAClientsTLSConnectionThroughAFailover(t *testing.T) {
	_, paths := identity(t)
	a, b := startNode(t, "g-001"), startNode(t, "g-002")
	a.promote(t)
	b.replicaOf(t, a)
	g := startProxy(t, withTLS(opened(t, paths)))
	g.lead(a, 1, nil)
	c, err := tls.Dial("tcp", g.proxy.Addrs().PrimaryTLS, trusting(t, paths))
	must(t, err)
	defer c.Close()
	if got := say(t, c, "SET", "k", "1"); got != "+OK\r\n" {
		t.Fatalf("SET: %q", got)
	}
	must(t, a.server.Kill())
	g.fence(a)
	b.promote(t)
	time.AfterFunc(50*time.Millisecond, func() { g.lead(b, 2, nil) })
	if got := say(t, c, "SET", "k", "2"); got != "+OK\r\n" {
		t.Errorf("SET through the failover: %q", got)
	}
}

func TestProxyShowsANewCertificateWithoutCuttingAnybody(t *testing.T) {
	dir, paths := identity(t)
	g, _ := served(t, withTLS(opened(t, paths)))
	first, err := tls.Dial("tcp", g.proxy.Addrs().PrimaryTLS, trusting(t, paths))
	must(t, err)
	defer first.Close()
	serial := func(c *tls.Conn) string { return c.ConnectionState().PeerCertificates[0].SerialNumber.String() }
	before := serial(first)
	renew(t, dir)
	eventually(t, "the new certificate is shown", func() bool {
		c, err := tls.Dial("tcp", g.proxy.Addrs().PrimaryTLS, trusting(t, paths))
		must(t, err)
		defer c.Close()
		return serial(c) != before
	})
	if got := say(t, first, "PING"); got != "+PONG\r\n" {
		t.Errorf("the connection from before: %q", got)
	}
}

func TestProxyRefusesWhatIsNoTLSOnATLSPort(t *testing.T) {
	_, paths := identity(t)
	var log notes
	g, _ := served(t, func(o *Options) {
		withTLS(opened(t, paths))(o)
		o.Logger = slog.New(slog.NewTextHandler(&log, nil))
	})
	silent := raw(t, g.proxy.Addrs().PrimaryTLS) // says nothing: it must hold nobody up
	half := raw(t, g.proxy.Addrs().PrimaryTLS)
	_, err := half.Write([]byte{22, 3, 1, 0, 200, 1})
	must(t, err)
	wrong := raw(t, g.proxy.Addrs().PrimaryTLS)
	_, err = wrong.Write([]byte("*1\r\n$4\r\nPING\r\n"))
	must(t, err)
	if _, err := bytes.NewBuffer(nil).ReadFrom(wrong); err != nil && !strings.Contains(err.Error(), "reset") {
		t.Errorf("plain text on the TLS port: %v", err)
	}
	eventually(t, "it is counted", func() bool { return g.metric("understudy_proxy_failed_handshakes_total") == 1 })
	if !strings.Contains(log.String(), "TLS handshake failed") {
		t.Errorf("the log says %s", log.String())
	}
	c, err := tls.Dial("tcp", g.proxy.Addrs().PrimaryTLS, trusting(t, paths))
	must(t, err)
	defer c.Close()
	if got := say(t, c, "PING"); got != "+PONG\r\n" {
		t.Errorf("a client beside them: %q", got)
	}
	_, _ = silent, half // the proxy's end must not wait for them
}

// secureNode is a redis-server that speaks TLS only, and wants to see a certificate.
func secureNode(t testing.TB, id cluster.NodeID, p certs.Paths) *node {
	t.Helper()
	bin, err := redis.FindServer(t.Context(), "")
	must(t, err)
	var ports [2]int
	for i := range ports {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		must(t, err)
		ports[i] = l.Addr().(*net.TCPAddr).Port
		defer l.Close()
		must(t, l.Close())
	}
	dir := t.TempDir()
	at := net.JoinHostPort("127.0.0.1", strconv.Itoa(ports[1]))
	s, err := redis.Start(redis.ServerOptions{
		Binary: bin, Dir: dir, Host: "127.0.0.1", Port: ports[0], Socket: filepath.Join(dir, "s"), ReplicaOf: "127.0.0.1:1",
		Config: map[string]string{"appendonly": "no", "tls-port": strconv.Itoa(ports[1]), "tls-auth-clients": "yes",
			"tls-ca-cert-file": p.CA, "tls-cert-file": p.Cert, "tls-key-file": p.Key},
	})
	must(t, err)
	t.Cleanup(func() { _ = s.Kill() })
	n := &node{id: id, server: s, client: goredis.NewClient(&goredis.Options{Addr: s.Addr(), MaxRetries: -1, Protocol: 2})}
	t.Cleanup(func() { _ = n.client.Close() })
	eventually(t, string(id)+" answers", func() bool { return n.client.Ping(context.Background()).Err() == nil })
	n.status = cluster.NodeStatus{Group: "g", Node: id, Zone: "z", Nodes: 3, Addr: at, Role: cluster.RoleReplica, State: cluster.StateReady}
	return n
}

func TestProxySpeaksTLSWithServersThroughAFailover(t *testing.T) {
	_, paths := identity(t)
	files := opened(t, paths)
	a, b := secureNode(t, "g-001", paths), secureNode(t, "g-002", paths)
	a.promote(t)
	b.replicaOf(t, a)
	g := startProxy(t, func(o *Options) {
		o.ServerTLS = func(cluster.NodeID, string) *tls.Config { return files.Client("127.0.0.1") }
	})
	g.lead(a, 1, nil)
	c := dialRedis(t, g.proxy.Addrs().Primary, 3)
	big := strings.Repeat("0123456789abcdef", 512<<10)
	must(t, c.Set(ctx, "big", big, 0).Err())
	if v := c.Get(ctx, "big").Val(); v != big {
		t.Errorf("%d bytes come back of %d", len(v), len(big))
	}
	popped := make(chan error, 1)
	go func() { popped <- c.BLPop(ctx, 20*time.Second, "list").Err() }()
	eventually(t, "it waits", func() bool { return strings.Contains(a.client.Info(ctx, "clients").Val(), "blocked_clients:1") })
	must(t, a.server.Kill())
	g.fence(a)
	b.promote(t)
	g.lead(b, 2, nil)
	must(t, c.RPush(ctx, "list", "x").Err())
	must(t, <-popped)
}

func TestProxyTrustsNoServerThatItsAuthorityDoesNotKnow(t *testing.T) {
	_, theirs := identity(t)
	_, ours := identity(t)
	a := secureNode(t, "g-001", theirs)
	a.promote(t)
	files := opened(t, ours)
	var log notes
	g := startProxy(t, func(o *Options) {
		o.Hold = 300 * time.Millisecond
		o.ServerTLS = func(cluster.NodeID, string) *tls.Config { return files.Client("127.0.0.1") }
		o.Logger = slog.New(slog.NewTextHandler(&log, nil))
	})
	g.lead(a, 1, nil)
	if got := say(t, raw(t, g.proxy.Addrs().Primary), "SET", "k", "v"); !strings.HasPrefix(got, "-TRYAGAIN") {
		t.Errorf("SET: %q", got)
	}
	if !strings.Contains(log.String(), "TLS with a redis-server failed") {
		t.Errorf("the log says %s", log.String())
	}
	if n := a.client.DBSize(ctx).Val(); n != 0 {
		t.Errorf("it has got %d keys", n)
	}
}
