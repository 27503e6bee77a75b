package redis

import (
	"context"
	"errors"
	"fmt"
	"net"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gomodule/redigo/redis"

	"understudy/cluster"
)

func TestReplicationIsReadFromInfo(t *testing.T) {
	for _, c := range []struct {
		name, info string
		want       Replication
	}{
		{"primary with two replicas",
			"# Replication\r\nrole:master\r\nconnected_slaves:2\r\nslave0:ip=127.0.0.1,port=7001,state=online,offset=42,lag=0\r\n" +
				"slave1:ip=::1,port=7002,state=wait_bgsave,offset=0,lag=0\r\nmaster_failover_state:no-failover\r\nmaster_replid:aa\r\n" +
				"master_replid2:bb\r\nmaster_repl_offset:50\r\nsecond_repl_offset:31\r\nrepl_backlog_active:1\r\n# Persistence\r\nloading:0\r\n",
			Replication{Role: cluster.RolePrimary, Position: cluster.Position{ReplID: "aa", Offset: 50}, Prev: cluster.Position{ReplID: "bb", Offset: 30},
				Backlog: true, Replicas: []ReplicaInfo{{"127.0.0.1:7001", "online", 42}, {"[::1]:7002", "wait_bgsave", 0}}}},
		{"replica whose link is up",
			"role:slave\r\nmaster_host:127.0.0.1\r\nmaster_port:7000\r\nmaster_link_status:up\r\nmaster_last_io_seconds_ago:3\r\n" +
				"master_sync_in_progress:0\r\nslave_read_repl_offset:99\r\nslave_repl_offset:90\r\nmaster_replid:aa\r\n" +
				"master_replid2:0000\r\nmaster_repl_offset:90\r\nsecond_repl_offset:-1\r\nrepl_backlog_active:1\r\nslave0:bad\r\nslaves:x\r\n",
			Replication{Role: cluster.RoleReplica, Position: cluster.Position{ReplID: "aa", Offset: 90}, LinkUp: true, LastIO: 3 * time.Second,
				MasterAddr: "127.0.0.1:7000", Backlog: true, Replicas: []ReplicaInfo{{Addr: ":"}}}},
		{"replica that has never been linked, loading",
			"role:slave\r\nmaster_host:127.0.0.1\r\nmaster_port:1\r\nmaster_link_status:down\r\nmaster_last_io_seconds_ago:-1\r\n" +
				"master_sync_in_progress:1\r\nmaster_replid:cc\r\nmaster_repl_offset:0\r\nsecond_repl_offset:-1\r\nloading:1\r\n",
			Replication{Role: cluster.RoleReplica, Position: cluster.Position{ReplID: "cc"}, LastIO: -time.Second, SyncInProgress: true,
				MasterAddr: "127.0.0.1:1", Loading: true}},
	} {
		got, err := ParseReplication(c.info)
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s:\ngot  %+v, %v\nwant %+v", c.name, got, err, c.want)
		}
	}
	for _, info := range []string{"", "role:sentinel\r\n", "role:master\r\n", "role:master\r\nmaster_repl_offset:x\r\n"} {
		if got, err := ParseReplication(info); err == nil {
			t.Errorf("%q is read as %+v", info, got)
		}
	}
}

func FuzzReplication(f *testing.F) {
	f.Add("role:master\r\nmaster_replid:aa\r\nmaster_repl_offset:50\r\nslave0:ip=127.0.0.1,port=7001,state=online,offset=42,lag=0\r\n")
	f.Add("role:slave\r\nmaster_host:h\r\nmaster_port:1\r\nslave_repl_offset:9\r\nmaster_repl_offset:8\r\nsecond_repl_offset:5\r\n")
	f.Add("role:slave\nslave:=,=\n:::\nslave99999999999999999999:offset=99999999999999999999")
	f.Fuzz(func(t *testing.T, info string) {
		r, err := ParseReplication(info)
		if err == nil && r.Role != cluster.RolePrimary && r.Role != cluster.RoleReplica {
			t.Errorf("read without a role: %+v", r)
		}
		if err == nil && strings.Count(info, "slave") < len(r.Replicas) {
			t.Errorf("%d replicas out of nowhere", len(r.Replicas))
		}
	})
}

// pair is a primary and its replica, linked.
func pair(t *testing.T) (ps, rs *Server, primary, replica *Control) {
	t.Helper()
	ps, primary = run(t)
	rs, replica = run(t)
	_, err := primary.Promote(t.Context())
	must(t, err, replica.Follow(t.Context(), ps.Addr()))
	waitFor(t, "the replica's link is up", func() bool {
		r, err := replica.Replication(t.Context())
		return err == nil && r.LinkUp
	})
	waitFor(t, "the primary sees the replica", func() bool {
		r, err := primary.Replication(t.Context())
		return err == nil && len(r.Replicas) == 1 && r.Replicas[0].State == "online"
	})
	return ps, rs, primary, replica
}

func dial(t *testing.T, s *Server) redis.Conn {
	t.Helper()
	c, err := redis.Dial("unix", s.opts.Socket, redis.DialReadTimeout(5*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// The first replica of a server without a backlog makes it take a new replication id. Whoever was
// told of the old one would never recognise the log.
func TestPromotedServerKeepsItsReplicationID(t *testing.T) {
	ps, primary := run(t)
	before, err := primary.Promote(t.Context())
	must(t, err)
	if before.Role != cluster.RolePrimary || !before.Backlog || len(before.Replicas) > 0 {
		t.Fatalf("promoted: %+v", before)
	}
	_, replica := run(t)
	must(t, replica.Follow(t.Context(), ps.Addr()))
	waitFor(t, "the replica's link is up", func() bool {
		r, err := replica.Replication(t.Context())
		return err == nil && r.LinkUp && r.Position.ReplID == before.Position.ReplID
	})
	after, err := primary.Replication(t.Context())
	if err != nil || after.Position.ReplID != before.Position.ReplID {
		t.Fatalf("the log was %v, and with a replica it is %v (%v)", before.Position, after.Position, err)
	}
}

func TestPromotedReplicaGoesOnWithTheLog(t *testing.T) {
	ps, _, primary, replica := pair(t)
	if _, err := dial(t, ps).Do("SET", "k", "v"); err != nil {
		t.Fatal(err)
	}
	before, err := primary.Replication(t.Context())
	must(t, err, primary.Settle(t.Context(), 1, time.Second))
	old, err := primary.Replication(t.Context())
	must(t, err)
	// The question itself is in the log, after what it asks for.
	if len(old.Replicas) != 1 || old.Replicas[0].Offset < before.Position.Offset {
		t.Fatalf("settled, and the replica is at %+v, the primary was at %v", old.Replicas, before.Position)
	}
	waitFor(t, "the replica has the whole log", func() bool {
		r, err := replica.Replication(t.Context())
		return err == nil && r.Position == old.Position
	})
	now, err := replica.Promote(t.Context())
	must(t, err)
	if now.Role != cluster.RolePrimary || now.Prev != old.Position || now.Position.ReplID == old.Position.ReplID {
		t.Errorf("promoted at %v after %v; the old log ended at %v", now.Position, now.Prev, old.Position)
	}
}

// Writes that are held by a pause when the server is demoted were not executed.
func TestPausedWritesAreRejectedAfterADemotion(t *testing.T) {
	ps, rs, primary, replica := pair(t)
	must(t, primary.PauseWrites(t.Context(), 10*time.Second))
	client, answered := dial(t, ps), make(chan error, 1)
	go func() {
		_, err := client.Do("SET", "k", "v")
		answered <- err
	}()
	waitFor(t, "the write is held", func() bool {
		text, err := redis.String(primary.do(t.Context(), "INFO", "clients"))
		return err == nil && strings.Contains(text, "blocked_clients:1")
	})
	if _, err := dial(t, ps).Do("GET", "k"); err != nil {
		t.Errorf("a read during the pause: %v", err)
	}
	_, err := replica.Promote(t.Context())
	must(t, err, primary.Follow(t.Context(), rs.Addr()), primary.ResumeWrites(t.Context()))
	if err := <-answered; err == nil || !strings.HasPrefix(err.Error(), "READONLY") {
		t.Errorf("the held write: %v, want READONLY", err)
	}
	if v, err := dial(t, rs).Do("EXISTS", "k"); err != nil || v != int64(0) {
		t.Errorf("the held write was executed: %v, %v", v, err)
	}
}

func TestResumedWritesAreExecuted(t *testing.T) {
	ps, primary := run(t)
	_, err := primary.Promote(t.Context())
	must(t, err, primary.PauseWrites(t.Context(), 10*time.Second), primary.ResumeWrites(t.Context()))
	if _, err := dial(t, ps).Do("SET", "k", "v"); err != nil {
		t.Error(err)
	}
	reply, err := primary.do(t.Context(), "CONFIG", "GET", "repl-ping-replica-period")
	if err != nil || string(reply.([]any)[1].([]byte)) != pingPeriod {
		t.Errorf("the keepalive is %s (%v) after the pause", reply, err)
	}
}

// The commit connection's rule: after any command, WAIT covers every write answered before it.
func TestPingAndWaitOnAFreshConnectionCoverEarlierWrites(t *testing.T) {
	ps, rs, _, _ := pair(t)
	must(t, syscall.Kill(rs.PID(), syscall.SIGSTOP))
	t.Cleanup(func() { _ = syscall.Kill(rs.PID(), syscall.SIGCONT) })
	if _, err := dial(t, ps).Do("SET", "k", "v"); err != nil {
		t.Fatal(err)
	}
	commit := dial(t, ps)
	if n, err := redis.Int(commit.Do("WAIT", 1, 50)); err != nil || n != 1 {
		t.Errorf("WAIT on a connection that has run nothing: %d, %v; it used to return at once", n, err)
	}
	if _, err := commit.Do("PING"); err != nil {
		t.Fatal(err)
	}
	if n, err := redis.Int(commit.Do("WAIT", 1, 50)); err != nil || n != 0 {
		t.Fatalf("PING and WAIT with a stopped replica: %d, %v, want 0", n, err)
	}
	must(t, syscall.Kill(rs.PID(), syscall.SIGCONT))
	if n, err := redis.Int(commit.Do("WAIT", 1, 2000)); err != nil || n != 1 {
		t.Fatalf("WAIT once the replica goes on: %d, %v, want 1", n, err)
	}
}

func TestCallOnAHungServerEndsAtItsDeadline(t *testing.T) {
	s, c := run(t)
	must(t, syscall.Kill(s.PID(), syscall.SIGSTOP))
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	began := time.Now()
	if _, err := c.Replication(ctx); !isTimeout(err) {
		t.Errorf("a hung server: %v", err)
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("it took %v, the deadline was 100 ms", took)
	}
	must(t, syscall.Kill(s.PID(), syscall.SIGCONT))
	// An answer that comes late must not be taken for the next command's.
	if err := c.Ping(t.Context()); err == nil {
		t.Error("the connection is used on after a timeout")
	}
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout()
}

func TestEndedContextSparesTheConnection(t *testing.T) {
	_, c := run(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Ping(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("ping: %v", err)
	}
	must(t, c.Ping(t.Context()))
}

func TestBusyServerIsToldApartFromADeadOne(t *testing.T) {
	s, c := run(t)
	_, err := c.Promote(t.Context())
	must(t, err)
	_, err = c.do(t.Context(), "CONFIG", "SET", "busy-reply-threshold", 10)
	must(t, err)
	client := dial(t, s)
	must(t, client.Send("EVAL", "while true do end", 0), client.Flush())
	waitFor(t, "the server says that it is busy", func() bool { return errors.Is(c.Ping(t.Context()), ErrBusy) })
	_, err = c.Replication(t.Context())
	if !errors.Is(err, ErrBusy) {
		t.Errorf("INFO: %v", err)
	}
	if _, err := c.do(t.Context(), "SCRIPT", "KILL"); err != nil {
		t.Fatal(fmt.Errorf("script kill: %w", err))
	}
}
