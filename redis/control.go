package redis

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gomodule/redigo/redis"

	"understudy/cluster"
)

// Errors of a server that lives and cannot do what it was asked.
var (
	ErrLoading = errors.New("redis-server is loading its data set")
	ErrBusy    = errors.New("redis-server is busy with a script")
)

// pingPeriod is the idle keepalive that a primary writes into its log, in seconds. During a
// switchover it is raised: a PING after the pause would fork the old primary's log from the new.
const (
	pingPeriod       = "1"
	pingPeriodPaused = "3600"
)

// Control is one connection over the server's unix socket. Calls may come from several goroutines;
// they are served one after the other. After an error that is not ErrLoading or ErrBusy it is dead.
type Control struct {
	socket string
	mu     sync.Mutex
	conn   redis.Conn
}

// Dial connects.
func Dial(ctx context.Context, socket string) (*Control, error) {
	c, err := redis.DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, fmt.Errorf("connect to redis-server: %w", err)
	}
	return &Control{socket: socket, conn: c}, nil
}

// Close ends the connection.
func (c *Control) Close() error { return c.conn.Close() }

func (c *Control) do(ctx context.Context, command string, args ...any) (any, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := ctx.Err(); err != nil { // while it waited for its turn: the connection is still good
		return nil, fmt.Errorf("%s: %w", command, err)
	}
	timeout := time.Duration(0) // none
	if deadline, ok := ctx.Deadline(); ok {
		timeout = max(time.Until(deadline), 1)
	}
	// DoContext would start a goroutine for each call; this runs sixty times a second for ever.
	stop := context.AfterFunc(ctx, func() { _ = c.conn.Close() })
	reply, err := redis.DoWithTimeout(c.conn, timeout, command, args...)
	stop()
	if err == nil {
		return reply, nil
	}
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	switch text := err.Error(); {
	case strings.HasPrefix(text, "LOADING"):
		err = ErrLoading
	case strings.HasPrefix(text, "BUSY"):
		err = ErrBusy
	}
	return nil, fmt.Errorf("%s: %w", command, err)
}

// Ping reports whether the server answers.
func (c *Control) Ping(ctx context.Context) error {
	_, err := c.do(ctx, "PING")
	return err
}

// Replication is what INFO says of a server's part in replication.
type Replication struct {
	Role           cluster.Role
	Position       cluster.Position // a replica's: what it has applied
	Prev           cluster.Position // the log before, up to its last offset; empty when none
	LinkUp         bool
	SyncInProgress bool
	LastIO         time.Duration // since the replica last heard from its primary; < 0: never
	MasterAddr     string
	Replicas       []ReplicaInfo
	Loading        bool
	Backlog        bool // the log is kept for partial resyncs
}

// ReplicaInfo is a primary's view of one replica.
type ReplicaInfo struct {
	Addr   string
	State  string // "online" once it has the data set
	Offset int64  // acknowledged
}

// Replication asks for the server's part in replication. A server that loads its data set answers
// with ErrLoading or with Loading set.
func (c *Control) Replication(ctx context.Context) (Replication, error) {
	text, err := redis.String(c.do(ctx, "INFO", "replication", "persistence"))
	if err != nil {
		return Replication{}, err
	}
	return parseReplication(text)
}

// parseReplication reads the section's lines.
func parseReplication(text string) (Replication, error) {
	f := map[string]string{}
	var r Replication
	for line := range strings.Lines(text) {
		k, v, ok := strings.Cut(strings.TrimSpace(line), ":")
		if !ok {
			continue
		}
		f[k] = v
		if n, isReplica := strings.CutPrefix(k, "slave"); isReplica && n != "" && strings.Trim(n, "0123456789") == "" {
			r.Replicas = append(r.Replicas, parseReplica(v))
		}
	}
	switch f["role"] {
	case "master":
		r.Role = cluster.RolePrimary
	case "slave":
		r.Role = cluster.RoleReplica
		r.MasterAddr = net.JoinHostPort(f["master_host"], f["master_port"])
	default:
		return r, fmt.Errorf("INFO replication: role %q", f["role"])
	}
	offset := f["master_repl_offset"]
	if r.Role == cluster.RoleReplica && f["slave_repl_offset"] != "" {
		offset = f["slave_repl_offset"]
	}
	n, err := strconv.ParseInt(offset, 10, 64)
	if err != nil {
		return r, fmt.Errorf("INFO replication: offset %q", offset)
	}
	r.Position = cluster.Position{ReplID: f["master_replid"], Offset: n}
	if second, err := strconv.ParseInt(f["second_repl_offset"], 10, 64); err == nil && second > 0 {
		r.Prev = cluster.Position{ReplID: f["master_replid2"], Offset: second - 1}
	}
	r.Loading = f["loading"] == "1"
	r.Backlog = f["repl_backlog_active"] == "1"
	r.LinkUp = f["master_link_status"] == "up"
	r.SyncInProgress = f["master_sync_in_progress"] == "1"
	seconds, _ := strconv.Atoi(f["master_last_io_seconds_ago"])
	r.LastIO = time.Duration(seconds) * time.Second
	return r, nil
}

func parseReplica(v string) ReplicaInfo {
	var ip, port string
	var r ReplicaInfo
	for field := range strings.SplitSeq(v, ",") {
		k, x, _ := strings.Cut(field, "=")
		switch k {
		case "ip":
			ip = x
		case "port":
			port = x
		case "state":
			r.State = x
		case "offset":
			r.Offset, _ = strconv.ParseInt(x, 10, 64)
		}
	}
	r.Addr = net.JoinHostPort(ip, port)
	return r
}

// Follow makes the server a replica of HOST:PORT.
func (c *Control) Follow(ctx context.Context, addr string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("follow %q: %w", addr, err)
	}
	_, err = c.do(ctx, "REPLICAOF", host, port)
	return err
}

// Promote makes the server a primary and returns what it says of itself afterwards. Its replication
// id is final then: replicas that attach later do not change it.
func (c *Control) Promote(ctx context.Context) (Replication, error) {
	if _, err := c.do(ctx, "REPLICAOF", "NO", "ONE"); err != nil {
		return Replication{}, err
	}
	r, err := c.Replication(ctx)
	if err == nil && r.Role == cluster.RolePrimary && !r.Backlog {
		r, err = c.startBacklog(ctx)
	}
	if err == nil && r.Role != cluster.RolePrimary {
		err = fmt.Errorf("promote: the server still says that it is a %s", r.Role)
	}
	return r, err
}

// startBacklog makes a primary that has had no replica since it started keep its log. The first
// replica would make it so, and take a new replication id for it: then nobody who was told of the
// log would know its name. So we play that replica for a moment, before anybody is told.
func (c *Control) startBacklog(ctx context.Context) (Replication, error) {
	as, err := Dial(ctx, c.socket)
	if err != nil {
		return Replication{}, fmt.Errorf("start the backlog: %w", err)
	}
	defer as.Close() // before it is sent anything
	if _, err = as.do(ctx, "REPLCONF", "capa", "eof", "capa", "psync2"); err == nil {
		err = errors.Join(as.conn.Send("PSYNC", "?", "-1"), as.conn.Flush())
	}
	if err != nil {
		return Replication{}, fmt.Errorf("start the backlog: %w", err)
	}
	for {
		r, err := c.Replication(ctx)
		if err != nil || r.Backlog {
			r.Replicas = nil // that was us
			return r, err
		}
		t := time.NewTimer(200 * time.Microsecond)
		select {
		case <-t.C:
		case <-ctx.Done():
			return r, fmt.Errorf("start the backlog: %w", ctx.Err())
		}
	}
}

// Settle asks the n replicas to acknowledge what they have at once, instead of with their next word
// of the second, and waits for that at most d.
func (c *Control) Settle(ctx context.Context, n int, d time.Duration) error {
	// WAIT waits for this connection's own last offset, which any command sets to the newest.
	if _, err := c.do(ctx, "PING"); err != nil {
		return err
	}
	_, err := c.do(ctx, "WAIT", n, d.Milliseconds())
	return err
}

// PauseWrites holds every client's writes, at most for d, and stops the keepalive in the log.
func (c *Control) PauseWrites(ctx context.Context, d time.Duration) error {
	if _, err := c.do(ctx, "CONFIG", "SET", "repl-ping-replica-period", pingPeriodPaused); err != nil {
		return err
	}
	_, err := c.do(ctx, "CLIENT", "PAUSE", d.Milliseconds(), "WRITE")
	return err
}

// ResumeWrites ends PauseWrites.
func (c *Control) ResumeWrites(ctx context.Context) error {
	if _, err := c.do(ctx, "CLIENT", "UNPAUSE"); err != nil {
		return err
	}
	_, err := c.do(ctx, "CONFIG", "SET", "repl-ping-replica-period", pingPeriod)
	return err
}
