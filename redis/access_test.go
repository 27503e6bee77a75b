package redis

import (
	"strings"
	"testing"
	"time"

	"github.com/gomodule/redigo/redis"

	"understudy/cluster"
)

// as connects as somebody.
func as(t *testing.T, s *Server, user, password string) redis.Conn {
	t.Helper()
	c, err := redis.Dial("unix", s.opts.Socket, redis.DialUsername(user), redis.DialPassword(password), redis.DialReadTimeout(5*time.Second))
	if err != nil {
		t.Fatalf("log in as %s: %v", user, err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// secured starts a server with a secret.
func secured(t *testing.T, secret string) (*Server, *Control) {
	t.Helper()
	o := serverOptions(needServer(t), shortDir(t))
	o.Secret = secret
	s, err := Start(o)
	must(t, err)
	t.Cleanup(func() { _ = s.Kill() })
	var c *Control
	waitFor(t, "redis-server answers", func() bool {
		c, err = s.Login().Dial(t.Context())
		return err == nil
	})
	t.Cleanup(func() { _ = c.Close() })
	return s, c
}

func isDead(c redis.Conn) bool {
	_, err := c.Do("PING")
	return err != nil && c.Err() != nil
}

func TestDemotionEndsTheEpochsClientsAfterTheirRefusals(t *testing.T) {
	ps, _, primary, replica := pair(t)
	_, err := primary.PromoteFor(t.Context(), cluster.Access{User: EpochUser(6), Password: "old"})
	must(t, err)
	_, err = primary.PromoteFor(t.Context(), cluster.Access{User: EpochUser(7), Password: "secret"})
	must(t, err)
	if _, err := redis.Dial("unix", ps.opts.Socket, redis.DialUsername(EpochUser(6)), redis.DialPassword("old")); err == nil {
		t.Error("the user of an earlier epoch gets in")
	}
	client, other, listener := as(t, ps, EpochUser(7), "secret"), dial(t, ps), dial(t, ps)
	if _, err := client.Do("SET", "k", "v"); err != nil {
		t.Fatal(err)
	}
	for _, command := range [][]any{{"NO", "ONE"}, {"127.0.0.1", "1"}} {
		if _, err := client.Do("REPLICAOF", command...); err == nil {
			t.Error("a client decides who is primary")
		}
	}
	must(t, listener.Send("SUBSCRIBE", "x"), listener.Flush())
	_, err = listener.Receive()
	must(t, err, primary.PauseWrites(t.Context(), 10*time.Second), client.Send("SET", "k", "late"), client.Flush())
	waitFor(t, "the write is held", func() bool {
		text, err := redis.String(primary.do(t.Context(), "CLIENT", "LIST"))
		return err == nil && strings.Contains(text, "cmd=set")
	})

	must(t, primary.Demote(t.Context(), "127.0.0.1:1"))
	if _, err := client.Receive(); err == nil || !strings.HasPrefix(err.Error(), "READONLY") {
		t.Errorf("the held write got %v", err)
	}
	must(t, primary.Dismiss(t.Context()))
	for name, c := range map[string]redis.Conn{"the epoch's client": client, "another client": other, "a subscriber": listener} {
		if !isDead(c) {
			t.Errorf("%s is still connected to a server whose data is old", name)
		}
	}
	if r, err := primary.Replication(t.Context()); err != nil || r.Role != cluster.RoleReplica || len(r.Replicas) > 0 {
		t.Errorf("demoted: %+v, %v", r, err)
	}
	if users, err := redis.Strings(primary.do(t.Context(), "ACL", "USERS")); err != nil || len(users) != 1 {
		t.Errorf("users %v, %v", users, err)
	}
	waitFor(t, "the replica has lost its link", func() bool {
		r, err := replica.Replication(t.Context())
		return err == nil && !r.LinkUp && r.MasterAddr == ps.Addr()
	})
}

func TestReplicasAreABackstopThatAFreshPrimaryDoesWithout(t *testing.T) {
	ps, _, primary, replica := pair(t)
	must(t, primary.RequireReplicas(t.Context(), 1))
	c := dial(t, ps)
	if _, err := c.Do("SET", "k", "v"); err != nil {
		t.Fatal(err)
	}
	must(t, replica.Follow(t.Context(), "127.0.0.1:1"))
	waitFor(t, "the primary has lost its replica", func() bool {
		r, err := primary.Replication(t.Context())
		return err == nil && len(r.Replicas) == 0
	})
	if _, err := c.Do("SET", "k", "w"); err == nil || !strings.HasPrefix(err.Error(), "NOREPLICAS") {
		t.Errorf("without a replica the write got %v", err)
	}
	_, err := primary.Promote(t.Context())
	must(t, err)
	if _, err := c.Do("SET", "k", "w"); err != nil {
		t.Errorf("the first write of a fresh primary: %v", err)
	}
}

func TestSecretKeepsEverybodyElseOut(t *testing.T) {
	secret := `a "secret" with \ and #`
	ps, primary := secured(t, secret)
	rs, replica := secured(t, secret)
	anybody := dial(t, ps)
	if _, err := anybody.Do("PING"); err == nil || !strings.HasPrefix(err.Error(), "NOAUTH") {
		t.Errorf("a stranger's PING: %v", err)
	}
	must(t, anybody.Close())
	access := cluster.Access{User: EpochUser(3), Password: "p"}
	_, err := primary.PromoteFor(t.Context(), access)
	must(t, err, replica.Follow(t.Context(), ps.Addr()))
	waitFor(t, "the replica's link is up", func() bool {
		r, err := replica.Replication(t.Context())
		return err == nil && r.LinkUp
	})
	client := as(t, ps, access.User, access.Password)
	if _, err := client.Do("SET", "k", "v"); err != nil {
		t.Error(err)
	}
	reader := as(t, rs, ReaderUser, ReaderPassword(secret))
	waitFor(t, "the replica has the write", func() bool { v, _ := redis.String(reader.Do("GET", "k")); return v == "v" })
	for _, command := range []string{"INFO", "ROLE", "PING", "DBSIZE"} {
		if _, err := reader.Do(command); err != nil {
			t.Errorf("a proxy's %s on a replica: %v", command, err)
		}
	}
	_, err = replica.PromoteFor(t.Context(), cluster.Access{User: EpochUser(4), Password: "p"})
	must(t, err)
	if _, err := reader.Do("SET", "k", "w"); err == nil || !strings.HasPrefix(err.Error(), "NOPERM") {
		t.Errorf("a proxy without the epoch's password writes: %v", err)
	}
	must(t, primary.Demote(t.Context(), "127.0.0.1:1"), primary.Dismiss(t.Context()))
	if !isDead(client) {
		t.Error("the epoch's client is still connected")
	}
	if err := primary.Ping(t.Context()); err != nil {
		t.Error(err)
	}
}

// redis-server reads its append-only file as the default user, and checks what that may do for transactions
// only: those were left out, and with them most of what the proxy's batches had written.
func TestServerWithASecretReadsItsTransactionsBack(t *testing.T) {
	s, c := secured(t, "hush")
	_, err := c.Promote(t.Context())
	must(t, err)
	client := as(t, s, SecretUser, "hush")
	for _, command := range []string{"MULTI", "SET k v", "SET l w", "EXEC"} { // one write alone is no transaction in the file
		words := strings.Fields(command)
		if _, err := client.Do(words[0], redis.Args{}.AddFlat(words[1:])...); err != nil {
			t.Fatal(err)
		}
	}
	must(t, s.Terminate(t.Context()))
	again, err := Start(s.opts)
	must(t, err)
	t.Cleanup(func() { _ = again.Kill() })
	var reader redis.Conn
	waitFor(t, "redis-server answers again", func() bool {
		if reader, err = redis.Dial("unix", s.opts.Socket, redis.DialUsername(SecretUser), redis.DialPassword("hush")); err != nil {
			return false
		}
		if _, err = reader.Do("PING"); err != nil { // it reads its file
			_ = reader.Close()
		}
		return err == nil
	})
	t.Cleanup(func() { _ = reader.Close() })
	if v, err := redis.String(reader.Do("GET", "k")); err != nil || v != "v" {
		t.Errorf("GET after a restart: %q, %v", v, err)
	}
}
