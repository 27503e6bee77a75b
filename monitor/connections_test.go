package monitor

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	redigo "github.com/gomodule/redigo/redis"

	"understudy/certs"
	"understudy/cluster"
	"understudy/redis"
)

// Clients that stay for a moment only are counted, and neither our own connections nor those of replicas are, new or
// old. The proxy's clients are the primary's, whoever that is.
func TestConnectionsOfClientsAreCountedAndNoOthers(t *testing.T) {
	one, two := startLocked(t, "main-001", "pa ss"), startLocked(t, "main-002", "pa ss")
	w := watchServers(t, one, two)
	logins := map[cluster.NodeID]redis.Login{}
	for _, s := range w.nodes {
		logins[s.id] = redis.Login{Socket: s.socket(), Password: s.pass, Opened: &atomic.Int64{}}
	}
	w.group.Reach = func(id cluster.NodeID) (redis.Login, bool) { l, ok := logins[id]; return l, ok }
	w.group.Opened = func(id cluster.NodeID) float64 { return float64(logins[id].Opened.Load()) }
	two.follow(one)
	w.minute()
	one.do("CLIENT", "KILL", "TYPE", "replica")
	one.until("the replica is back", func() bool { return strings.Contains(one.do("INFO", "stats"), "sync_partial_ok:1") })
	for range 5 {
		c, err := redigo.Dial("tcp", one.addr())
		if err != nil {
			t.Fatal(err)
		}
		_ = c.Close()
	}
	for range 3 {
		c, err := logins[one.id].Dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
	}
	if c, err := redigo.Dial("tcp", two.addr(), redigo.DialPassword("wrong")); err == nil {
		_ = c.Close()
		t.Fatal("a wrong password is right")
	}
	w.group.Proxied, w.group.Clients, w.group.Accepted = true, 40, 100
	first := w.minute()
	same(t, first, "group NewConnections", "[105 1]")
	same(t, first, "aws main-002 AuthenticationFailures", "[1]")
	same(t, first, "aws main-001 AuthenticationFailures", "[0]")
	same(t, first, "group CurrConnections", "[41 1]") // the test's own are clients
	same(t, first, "group LinksDown", "[0]")
	same(t, w.minute(), "group NewConnections", "[0 0]")

	// No primary at the end of a minute, and another one at the end of the next.
	w.group.Status.Primary, w.group.Accepted = "", 107
	same(t, w.minute(), "group NewConnections", "[0 0]")
	two.do("REPLICAOF", "NO", "ONE")
	one.follow(two)
	w.group.Status.Primary, w.group.Accepted = two.id, 110
	same(t, w.minute(), "group NewConnections", "[10]")
	same(t, w.minute(), "group NewConnections", "[0 0]")
}

// Nodes that let in users only, or speak TLS only, are reached as their agents reach them.
func TestNodesWithUsersAndTLSAreReached(t *testing.T) {
	one, two := startServer(t, "main-001"), startServer(t, "main-002")
	dir := t.TempDir()
	if err := certs.Init(dir, "test", false); err != nil {
		t.Fatal(err)
	}
	if err := certs.Issue(dir, certs.Request{Name: "two", Hosts: []string{"127.0.0.1"}}); err != nil {
		t.Fatal(err)
	}
	ca, cert, key := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "two.pem"), filepath.Join(dir, "two.key")
	files, err := certs.Open(certs.Paths{CA: ca, Cert: cert, Key: key}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	one.do("ACL", "SETUSER", "watcher", "on", ">pa ss", "~*", "+@all")
	one.do("ACL", "SETUSER", "default", "off")
	if err := (redis.Binary{Path: two.cmd.Path}).SupportsTLS(t.Context()); err != nil {
		t.Skip(err)
	}
	two.do("CONFIG", "SET", "port", "0") // TLS takes its place
	two.do("CONFIG", "SET", "tls-ca-cert-file", ca, "tls-cert-file", cert, "tls-key-file", key, "tls-port", two.port)
	w := watchServers(t, one, two)
	w.group.Reach = func(id cluster.NodeID) (redis.Login, bool) {
		return map[cluster.NodeID]redis.Login{
			one.id: {Addr: one.addr(), User: "watcher", Password: "pa ss"},
			two.id: {Addr: two.addr(), TLS: files.Client},
		}[id], true
	}
	if got := w.look(); fmt.Sprint(got["group PrimariesCounted"]) != "[2]" {
		t.Errorf("not both answered: %v", got)
	}
}
