package proxy

import (
	"errors"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"understudy/cluster"
	"understudy/redis"
)

// renamed is a server with commands that no table has: some of its own under other names.
func renamed(t *testing.T, id cluster.NodeID, primaryAddr string) *node {
	t.Helper()
	bin, err := redis.FindServer(t.Context(), "")
	must(t, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	dir := t.TempDir()
	s, err := redis.Start(redis.ServerOptions{
		Binary: bin, Dir: dir, Host: "127.0.0.1", Port: port, Socket: filepath.Join(dir, "s"), ReplicaOf: primaryAddr,
		Config: map[string]string{"appendonly": "no", "rename-command": "GETRANGE new.read\nrename-command APPEND new.write\nrename-command BLPOP new.wait"},
	})
	must(t, err)
	t.Cleanup(func() { _ = s.Kill() })
	n := &node{id: id, server: s, client: goredis.NewClient(&goredis.Options{Addr: s.Addr(), MaxRetries: -1, Protocol: 2})}
	t.Cleanup(func() { _ = n.client.Close() })
	eventually(t, string(id)+" answers", func() bool { return n.client.Ping(ctx).Err() == nil })
	n.status = cluster.NodeStatus{Group: "g", Node: id, Zone: "z", Nodes: 3, Addr: s.Addr(), Socket: filepath.Join(dir, "s"),
		Role: cluster.RoleReplica, State: cluster.StateReady}
	return n
}

func TestServerIsAskedOfCommandsThatNoTableHas(t *testing.T) {
	a := renamed(t, "g-001", "127.0.0.1:1")
	a.promote(t)
	b := renamed(t, "g-002", a.server.Addr())
	b.replicaOf(t, a)
	g := startProxy(t, nil)
	g.lead(a, 1, nil)
	g.say(b.status)
	c := dialRedis(t, g.proxy.Addrs().Split, 2)
	if v, err := c.Do(ctx, "new.write", "k", "abc").Int(); v != 3 {
		t.Errorf("a write = %v, %v", v, err)
	}
	eventually(t, "reads go to the replica", func() bool {
		if v, err := c.Do(ctx, "New.Read", "k", 0, 1).Text(); v != "ab" {
			t.Fatalf("a read = %v, %v", v, err)
		}
		return strings.Contains(b.client.Info(ctx, "commandstats").Val(), "cmdstat_getrange:")
	})
	for range 20 {
		if err := c.Do(ctx, "nosuch", "k").Err(); err == nil || !strings.Contains(err.Error(), "unknown command") {
			t.Errorf("a command that the server does not know: %v", err)
		}
	}
	// One that comes again before the answer is there is asked of again: that takes a slow machine.
	if n := a.calls(t, "command|info"); n < 3 || n > 8 {
		t.Errorf("of three commands the server was asked %d times", n)
	}
	if err := c.Set(ctx, "k", "x", 0).Err(); err != nil {
		t.Error(err)
	}
}

// A command that blocks must not be on a connection that others share, the first time as well.
func TestUnknownBlockingCommandHoldsUpNobody(t *testing.T) {
	a := renamed(t, "g-001", "127.0.0.1:1")
	a.promote(t)
	g := startProxy(t, nil)
	g.lead(a, 1, nil)
	other := dialRedis(t, g.proxy.Addrs().Primary, 2)
	for range 2 {
		waits := dialRedis(t, g.proxy.Addrs().Primary, 2)
		got := make(chan error, 1)
		go func() { got <- waits.Do(ctx, "new.wait", "list", 10).Err() }()
		eventually(t, "it is blocked", func() bool { return strings.Contains(a.client.Info(ctx, "clients").Val(), "blocked_clients:1") })
		begun := time.Now()
		must(t, other.Set(ctx, "k", "v", 0).Err())
		if d := time.Since(begun); d > 2*time.Second {
			t.Errorf("another client waited for %v", d)
		}
		must(t, other.RPush(ctx, "list", "x").Err())
		must(t, <-got)
	}
}

func TestAllowedCommandsAreCarried(t *testing.T) {
	a := startNode(t, "g-001")
	a.promote(t)
	g := startProxy(t, func(o *Options) { o.Allow = []string{"client unpause", "DEBUG", "monitor", "CONFIG SET maxclients"} })
	g.lead(a, 1, nil)
	c := dialRedis(t, g.proxy.Addrs().Primary, 2)
	must(t, c.Do(ctx, "CLIENT", "UNPAUSE").Err())
	must(t, c.ConfigSet(ctx, "maxclients", "500").Err())
	for _, refused := range [][]any{{"CLIENT", "PAUSE", "1"}, {"CONFIG", "SET", "maxclients", "500", "appendonly", "no"}, {"CONFIG", "SET", "proto-max-bulk-len", "2mb"}} {
		if err := c.Do(ctx, refused...).Err(); err == nil || !strings.HasPrefix(err.Error(), "ERR understudy:") {
			t.Errorf("%v: %v, want it refused", refused, err)
		}
	}
	if err := c.Do(ctx, "DEBUG", "SLEEP", "0").Err(); err == nil || strings.Contains(err.Error(), "understudy") {
		t.Errorf("DEBUG: %v, want the server's own refusal", err)
	}
	for _, name := range []string{"GET", "nosuch", "CONFIG", "CLIENT NOSUCH", "CLIENT LIST", ""} {
		o := Options{Primary: "127.0.0.1:0", Clock: g.clock, Allow: []string{name}}
		if p, err := New(o); err == nil {
			t.Errorf("Allow %q is taken", name)
			must(t, errors.Join(p.Close()))
		}
	}
}
