package redis

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
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

// Login says where a server is reached, and as whom.
type Login struct {
	Socket string // its unix socket; "": Addr
	Addr   string // HOST:PORT
	// User and Password are empty where the server lets everybody in; User alone is where it has one
	// password for all (requirepass).
	User, Password string
	// TLS says how to speak it with a host, at Addr; nil: in the clear.
	TLS func(host string) *tls.Config
	// Opened counts the connections that were made; nil: nobody asks.
	Opened *atomic.Int64
}

// Dial connects, and logs in if there is a password.
func (l Login) Dial(ctx context.Context) (*Control, error) {
	c, err := l.Open(ctx)
	if err != nil {
		return nil, err
	}
	return &Control{login: l, conn: c}, nil
}

// Open is Dial for who has commands of their own.
func (l Login) Open(ctx context.Context, how ...redis.DialOption) (redis.Conn, error) {
	network, place := "unix", l.Socket
	if place == "" {
		network, place = "tcp", l.Addr
	}
	how = append(how, redis.DialUsername(l.User), redis.DialPassword(l.Password), redis.DialContextFunc(l.connect))
	if l.Socket == "" && l.TLS != nil {
		host, _, err := net.SplitHostPort(l.Addr)
		if err != nil {
			return nil, fmt.Errorf("connect to redis-server at %q: %w", place, err)
		}
		how = append(how, redis.DialUseTLS(true), redis.DialTLSConfig(l.TLS(host)))
	}
	c, err := redis.DialContext(ctx, network, place, how...)
	if err != nil {
		return nil, fmt.Errorf("connect to redis-server at %s: %w", place, known(err))
	}
	return c, nil
}

// connect counts a connection when it is made: redis-server does, whether it lets us in or not.
func (l Login) connect(ctx context.Context, network, addr string) (net.Conn, error) {
	c, err := (&net.Dialer{}).DialContext(ctx, network, addr)
	if err == nil && l.Opened != nil {
		l.Opened.Add(1)
	}
	return c, err
}

// Control is one connection to a server. Calls may come from several goroutines; they are served one
// after the other. After an error that is not ErrLoading or ErrBusy it is dead.
type Control struct {
	login Login
	mu    sync.Mutex
	conn  redis.Conn
}

// Dial connects to a server that lets everybody in.
func Dial(ctx context.Context, socket string) (*Control, error) {
	return Login{Socket: socket}.Dial(ctx)
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
	return nil, fmt.Errorf("%s: %w", command, known(err))
}

// known turns the errors that show a server alive into ours.
func known(err error) error {
	switch text := err.Error(); {
	case strings.HasPrefix(text, "LOADING"):
		return ErrLoading
	case strings.HasPrefix(text, "BUSY"):
		return ErrBusy
	}
	return err
}

// batch sends all commands in one packet, so that nobody's command comes between them and the last costs
// no more than the first. It returns the replies, and the first error, after all were answered.
func (c *Control) batch(ctx context.Context, commands ...[]any) ([]any, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("%v: %w", commands[0][0], err)
	}
	stop := context.AfterFunc(ctx, func() { _ = c.conn.Close() })
	defer stop()
	for _, x := range commands {
		if err := c.conn.Send(x[0].(string), x[1:]...); err != nil {
			return nil, fmt.Errorf("%v: %w", x[0], err)
		}
	}
	if err := c.conn.Flush(); err != nil {
		return nil, fmt.Errorf("%v: %w", commands[0][0], err)
	}
	replies, first := make([]any, len(commands)), error(nil)
	for i, x := range commands {
		reply, err := c.conn.Receive()
		if err != nil && ctx.Err() != nil {
			err = ctx.Err()
		}
		if replies[i] = reply; err != nil && first == nil {
			first = fmt.Errorf("%v: %w", x[0], known(err))
		}
		if c.conn.Err() != nil {
			// The connection is dead: nothing more will come. Time may have ended it between two replies, of which
			// the first was fine.
			if first == nil && i < len(commands)-1 {
				first = fmt.Errorf("%v: %w", commands[i+1][0], cmp.Or(ctx.Err(), known(c.conn.Err())))
			}
			break
		}
	}
	return replies, first
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

	AppendOnly bool // every write is put into an append-only file
	// Rewriting is true while an append-only file is being written, or is still to be: after a full sync
	// the file on disk is the old data set's until then.
	Rewriting bool
	// ReadOnly says why the server refuses every write although it answers: it cannot write to its disk.
	ReadOnly string
	// SaveFailed is true when the last RDB could not be written. Whether writes are refused for that
	// depends on settings that INFO does not tell: see Control.Replication.
	SaveFailed bool
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
	r, err := ParseReplication(text)
	if err == nil && r.SaveFailed && r.ReadOnly == "" {
		r.ReadOnly, err = c.refusesUnsaved(ctx)
	}
	return r, err
}

// ReplicationWithin is Replication for whoever asks many times a second for ever: a context and its timer
// cost as much as the question. Close ends it, too.
func (c *Control) ReplicationWithin(d time.Duration) (Replication, error) {
	text, err := c.infoWithin(d)
	if err != nil {
		return Replication{}, fmt.Errorf("INFO: %w", known(err))
	}
	r, err := ParseReplication(text)
	if err == nil && r.SaveFailed && r.ReadOnly == "" {
		ctx, cancel := context.WithTimeout(context.Background(), d)
		defer cancel()
		r.ReadOnly, err = c.refusesUnsaved(ctx)
	}
	return r, err
}

func (c *Control) infoWithin(d time.Duration) (string, error) {
	until := time.Now().Add(d)
	c.mu.Lock()
	defer c.mu.Unlock()
	left := time.Until(until)
	if left <= 0 { // while it waited for its turn: the connection is still good
		return "", context.DeadlineExceeded
	}
	return redis.String(redis.DoWithTimeout(c.conn, left, "INFO", "replication", "persistence"))
}

// refusesUnsaved says whether the server refuses writes because its last RDB failed: only if RDBs are made
// on a schedule, and it was not told to go on.
func (c *Control) refusesUnsaved(ctx context.Context) (string, error) {
	set, err := redis.StringMap(c.do(ctx, "CONFIG", "GET", "save", "stop-writes-on-bgsave-error"))
	if err != nil {
		return "", err
	}
	if set["save"] == "" || set["stop-writes-on-bgsave-error"] != "yes" {
		return "", nil
	}
	return "its last RDB could not be written (rdb_last_bgsave_status:err, stop-writes-on-bgsave-error yes)", nil
}

// ParseReplication reads the section "replication" of INFO, and of "persistence" what it holds.
func ParseReplication(text string) (Replication, error) {
	f := map[string]string{}
	var r Replication
	for line := range strings.Lines(text) { // not InfoFields(text): the replicas keep their order
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
	r.Rewriting = f["aof_rewrite_in_progress"] == "1" || f["aof_rewrite_scheduled"] == "1"
	r.AppendOnly = f["aof_enabled"] == "1"
	if r.AppendOnly && f["aof_last_write_status"] == "err" {
		r.ReadOnly = "it cannot write to its append-only file (aof_last_write_status:err)"
	}
	r.SaveFailed = f["rdb_last_bgsave_status"] == "err"
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
	return c.PromoteFor(ctx, cluster.Access{})
}

// PromoteFor is Promote with a user for the clients of the epoch, and none for those of any other. The
// server accepts its first writes without a replica: see RequireReplicas. All goes in one packet: a
// failover waits for it.
func (c *Control) PromoteFor(ctx context.Context, as cluster.Access) (Replication, error) {
	commands := [][]any{{"CONFIG", "SET", "min-replicas-to-write", 0}}
	if as.User != "" {
		commands = append(commands, append([]any{"ACL", "SETUSER", as.User, "reset", "on", ">" + as.Password}, epochRules...))
	}
	commands = append(commands, []any{"REPLICAOF", "NO", "ONE"}, []any{"ACL", "USERS"}, []any{"INFO", "replication", "persistence"})
	replies, err := c.batch(ctx, commands...)
	if err != nil {
		return Replication{}, err
	}
	text, err := redis.String(replies[len(replies)-1], nil)
	if err != nil {
		return Replication{}, err
	}
	if err := c.deleteUsers(ctx, replies[len(replies)-2], as.User); err != nil {
		return Replication{}, err
	}
	r, err := ParseReplication(text)
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
	replica := c.login
	replica.Opened = nil // the server counts its PSYNC
	as, err := replica.Dial(ctx)
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

// The users of epochs are named so. What they may do is all that a client may, but for what decides who is
// primary.
const epochUser = "ep-"

var epochRules = []any{"~*", "&*", "+@all", "-replicaof", "-slaveof", "-failover", "-shutdown", "-psync", "-sync", "-acl|setuser", "-acl|deluser", "-acl|load"}

// EpochUser is the name of the user of an epoch.
func EpochUser(e cluster.Epoch) string { return epochUser + strconv.FormatUint(uint64(e), 10) }

// deleteUsers deletes the users of all epochs but keep, which ends their connections. users is the answer to
// ACL USERS.
func (c *Control) deleteUsers(ctx context.Context, users any, keep string) error {
	names, err := redis.Strings(users, nil)
	if err != nil {
		return err
	}
	command := []any{"DELUSER"}
	for _, u := range names {
		if strings.HasPrefix(u, epochUser) && u != keep {
			command = append(command, u)
		}
	}
	if len(command) == 1 {
		return nil
	}
	_, err = c.do(ctx, "ACL", command...)
	return err
}

// Demote makes a primary a replica of nobody, at addr, where nothing answers. Its replicas are cut off in
// the same moment, so that nothing that it took since reaches them. Held writes are let go, and get
// -READONLY. When it returns without error the server cannot accept a write; ErrBusy means that it runs a
// script, and that only SIGKILL helps. Its clients are still connected: see Dismiss.
func (c *Control) Demote(ctx context.Context, addr string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("demote to follow %q: %w", addr, err)
	}
	if _, err := c.batch(ctx, []any{"CLIENT", "KILL", "TYPE", "replica"}, []any{"REPLICAOF", host, port}); err != nil {
		return err
	}
	return c.ResumeWrites(ctx)
}

// Dismiss deletes the users of all epochs and ends every client's connection but this one: what they
// would read from a server that was demoted is old. Called after Demote, it comes two answers after
// the held writes were let go: their refusals are on their way. A connection that ends sooner leaves its
// client in doubt whether its write was carried out.
func (c *Control) Dismiss(ctx context.Context) error {
	users, err := c.do(ctx, "ACL", "USERS")
	if err == nil {
		err = c.deleteUsers(ctx, users, "")
	}
	if err != nil {
		return err
	}
	_, err = c.batch(ctx, []any{"CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"}, []any{"CLIENT", "KILL", "TYPE", "pubsub", "SKIPME", "yes"})
	return err
}

// replicaLag is how old a replica's last word may be for RequireReplicas, in seconds. It is a backstop
// only: whoever fences cuts the replicas off, and then none counts.
const replicaLag = 10

// RequireReplicas has the server refuse writes while fewer than n replicas are connected.
func (c *Control) RequireReplicas(ctx context.Context, n int) error {
	_, err := c.do(ctx, "CONFIG", "SET", "min-replicas-to-write", n, "min-replicas-max-lag", replicaLag)
	return err
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
