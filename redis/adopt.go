package redis

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/gomodule/redigo/redis"
	"golang.org/x/sys/unix"

	"understudy/cluster"
)

// ErrCannotKill is returned for an adopted server that cannot be signalled from here: it runs on another
// machine, or as another user. What can be done over its own connection was done.
var ErrCannotKill = errors.New("it cannot be killed from here")

// AdoptOptions say which server to take over.
type AdoptOptions struct {
	// Addr is the HOST:PORT at which the other nodes and the proxies reach it.
	Addr string
	// Socket is its unix socket, if it is on this machine and has one; "": it is reached at Addr.
	Socket string
	// User and Password let us in; empty where it lets everybody in. The user must be allowed everything,
	// and be the same on all nodes of a group: replicas log in with it, too.
	User, Password string
	// TLS: the group's nodes speak it with one another, and so must this one; it says how to do so with a
	// host. Its files are in the server's own configuration. nil: in the clear.
	TLS func(host string) *tls.Config
	// BlackHole is where a server follows nobody: HOST:PORT.
	BlackHole string
	Logger    *slog.Logger

	elsewhere bool // tests: as if it were on another machine
}

// Adopted is one run of a redis-server that somebody else started, and that somebody else stops. Its
// configuration file is never written.
type Adopted struct {
	opts     AdoptOptions
	log      *slog.Logger
	runID    string
	pid      int // 0: not on this machine
	pidfd    int // -1: none
	killable bool
	reader   cluster.Access

	held   chan struct{} // watchConnection's: closed when its connection has ended
	exited chan struct{}
	closed chan struct{} // nobody is interested any more
	work   sync.WaitGroup
	end    sync.Once
	stop   sync.Once
	mu     sync.Mutex
	reason string
}

// adoptEvery is the time between two attempts to reach a server that does not answer.
const adoptEvery = 50 * time.Millisecond

// Adopt waits until the server answers, and takes it over: one that is a primary is demoted before this
// returns, because nobody has allowed that. Close ends the watch over it, and leaves it as it is.
func Adopt(ctx context.Context, o AdoptOptions) (*Adopted, error) {
	if _, _, err := net.SplitHostPort(o.Addr); err != nil {
		return nil, fmt.Errorf("adopt: Addr %q: %w", o.Addr, err)
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	a := &Adopted{opts: o, log: o.Logger.With("component", "redis", "addr", o.Addr), pidfd: -1, exited: make(chan struct{}), closed: make(chan struct{})}
	c, info, err := a.reach(ctx)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if a.runID = info["run_id"]; a.runID == "" {
		return nil, fmt.Errorf("adopt %s: INFO server names no run_id", o.Addr)
	}
	if err := a.prepare(ctx, c); err != nil {
		return nil, fmt.Errorf("adopt %s: %w", o.Addr, err)
	}
	if !o.elsewhere {
		a.findProcess(info)
	}
	if a.pidfd >= 0 {
		a.work.Go(a.watchProcess)
	} else {
		a.work.Go(a.watchConnection)
	}
	return a, nil
}

// Login is how its agent speaks to it.
func (o AdoptOptions) Login() Login {
	return Login{Socket: o.Socket, Addr: o.Addr, User: o.User, Password: o.Password, TLS: o.TLS}
}

// reach connects, again and again until ctx ends.
func (a *Adopted) reach(ctx context.Context) (*Control, map[string]string, error) {
	tick := time.NewTicker(adoptEvery)
	defer tick.Stop()
	var why error
	for {
		c, err := a.opts.Login().Dial(ctx)
		if err == nil {
			var text string
			if text, err = redis.String(c.do(ctx, "INFO", "server")); err == nil {
				return c, InfoFields(text), nil
			}
			_ = c.Close()
		}
		if cut := net.Error(nil); why == nil || !errors.As(err, &cut) || !cut.Timeout() { // what the end of ctx has cut short says nothing
			why = err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, nil, fmt.Errorf("redis-server at %s does not let us in: %w; whoever runs it must start it, or correct the password", a.opts.Addr, why)
		}
	}
}

// prepare makes a replica of nobody of it, and sets what a failover needs to be quick. Nothing is written
// to its configuration file.
func (a *Adopted) prepare(ctx context.Context, c *Control) error {
	r, err := c.Replication(ctx)
	for err == nil && r.Loading { // INFO answers while it loads, and little else does
		if err = wait(ctx, adoptEvery); err == nil {
			r, err = c.Replication(ctx)
		}
	}
	if err != nil {
		return err
	}
	if err := c.ResumeWrites(ctx); err != nil { // Kill may have paused them
		return err
	}
	if r.Role == cluster.RolePrimary {
		a.log.Warn("the adopted server was a primary and is demoted; if it starts as one, put `replicaof 127.0.0.1 1` into its redis.conf: a primary that restarts without its data empties its replicas")
		if err := errors.Join(c.Demote(ctx, a.opts.BlackHole), c.Dismiss(ctx)); err != nil {
			return err
		}
	}
	if a.opts.TLS != nil {
		set, err := redis.StringMap(c.do(ctx, "CONFIG", "GET", "tls-replication"))
		if err != nil {
			return err
		}
		if set["tls-replication"] != "yes" {
			return errors.New("the nodes of its group speak TLS with one another: set tls-port, tls-replication yes and the files of a certificate in its redis.conf")
		}
	}
	set := []any{"SET", "replica-read-only", "yes", "repl-diskless-sync-delay", "0", "repl-timeout", "10", "repl-ping-replica-period", pingPeriod,
		"repl-backlog-size", "64mb", "repl-backlog-ttl", "0", "client-output-buffer-limit", "replica 1gb 0 0", "min-replicas-to-write", "0"}
	if a.opts.Password != "" {
		set = append(set, "masterauth", a.opts.Password, "masteruser", a.opts.User)
		a.reader = cluster.Access{User: ReaderUser, Password: rand.Text()}
		user := []any{"SETUSER", ReaderUser, "reset", "on", ">" + a.reader.Password, "~*", "&*"}
		for rule := range strings.FieldsSeq(readerRules) {
			user = append(user, rule)
		}
		if _, err := c.do(ctx, "ACL", user...); err != nil {
			return err
		}
	}
	_, err = c.do(ctx, "CONFIG", set...)
	return err
}

func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// findProcess opens the server's process if it is on this machine.
func (a *Adopted) findProcess(info map[string]string) {
	pid := a.socketPeer()
	if pid == 0 && isLocal(a.opts.Addr) {
		if n, err := strconv.Atoi(info["process_id"]); err == nil && isServer(n, info["tcp_port"]) {
			pid = n
		}
	}
	if pid == 0 {
		return // on another machine, or in a container whose numbers are not ours
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		a.log.Warn("the adopted server's process cannot be watched", "pid", pid, "error", err)
		return
	}
	a.pid, a.pidfd = pid, fd
	a.killable = unix.PidfdSendSignal(fd, 0, nil, 0) == nil
	// The number may have been given away between the answer and the opening: it must still answer as it did.
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if id, err := a.currentRun(ctx); err != nil || id != a.runID {
		_ = unix.Close(fd)
		a.pid, a.pidfd, a.killable = 0, -1, false
	}
}

// socketPeer is who listens at the unix socket; 0 when there is none.
func (a *Adopted) socketPeer() int {
	if a.opts.Socket == "" {
		return 0
	}
	c, err := net.Dial("unix", a.opts.Socket)
	if err != nil {
		return 0
	}
	defer c.Close()
	raw, err := c.(*net.UnixConn).SyscallConn()
	if err != nil {
		return 0
	}
	pid := 0
	_ = raw.Control(func(fd uintptr) {
		if cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			pid = int(cred.Pid)
		}
	})
	return pid
}

// isLocal reports whether the address is one of this machine's.
func isLocal(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	if ip == nil {
		return host == "localhost"
	}
	if ip.IsLoopback() {
		return true
	}
	have, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	for _, x := range have {
		if n, ok := x.(*net.IPNet); ok && n.IP.Equal(ip) {
			return true
		}
	}
	return false
}

// isServer reports whether the process is a server at the port: they say so in their titles.
func isServer(pid int, port string) bool {
	title, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	text := strings.ReplaceAll(string(title), "\x00", " ")
	return err == nil && (strings.Contains(text, "redis") || strings.Contains(text, "valkey")) && strings.Contains(text, ":"+port)
}

func (a *Adopted) currentRun(ctx context.Context) (string, error) {
	c, err := a.opts.Login().Dial(ctx)
	if err != nil {
		return "", err
	}
	defer c.Close()
	text, err := redis.String(c.do(ctx, "INFO", "server"))
	return InfoFields(text)["run_id"], err
}

// watchEvery bounds how long a watch goes on after Close.
const watchEvery = 100 * time.Millisecond

// watchProcess sees the end of the process when it happens.
func (a *Adopted) watchProcess() {
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(a.pidfd), Events: unix.POLLIN}}, int(watchEvery.Milliseconds()))
		switch {
		case n > 0 && err == nil:
			a.ended("its process has ended")
			return
		case err != nil && !errors.Is(err, unix.EINTR):
			a.log.Error("the adopted server's process is not watched any more", "error", err)
			return
		}
		select {
		case <-a.closed:
			return
		default:
		}
	}
}

// askEvery is how often a server that is watched over a connection is asked which run it is: a machine that
// vanishes ends no connection.
const askEvery = time.Second

// watchConnection sees the end of a server on another machine as the end of a connection to it, and asks
// whether that was it.
func (a *Adopted) watchConnection() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	a.work.Go(func() { <-a.closed; cancel() })
	tick := time.NewTicker(askEvery)
	defer tick.Stop()
	for {
		broken := a.hold(ctx)
		select {
		case <-broken:
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		bound, done := context.WithTimeout(ctx, askEvery)
		id, err := a.currentRun(bound)
		done()
		switch {
		case err == nil && id != a.runID:
			a.ended("it was started again")
			return
		case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, fs.ErrNotExist):
			a.ended("nobody listens at its address any more")
			return
		case err != nil && wait(ctx, watchEvery) != nil:
			return
		}
	}
}

// hold keeps a connection open, unless it does already; the channel is closed when it has ended.
func (a *Adopted) hold(ctx context.Context) <-chan struct{} {
	if a.held != nil {
		select {
		case <-a.held:
		default:
			return a.held
		}
	}
	c, err := a.opts.Login().Dial(ctx)
	if err != nil {
		return nil // the ticker goes on
	}
	a.held = make(chan struct{})
	held := a.held
	a.work.Go(func() {
		defer close(held)
		stop := context.AfterFunc(ctx, func() { _ = c.Close() })
		defer stop()
		_, _ = redis.ReceiveWithTimeout(c.conn, 0) // nothing was asked: it returns when the connection ends
		_ = c.Close()
	})
	return held
}

func (a *Adopted) ended(reason string) {
	a.end.Do(func() {
		a.mu.Lock()
		a.reason = reason
		a.mu.Unlock()
		close(a.exited)
	})
}

// RunID names this run of the server; the server itself chose it.
func (a *Adopted) RunID() string { return a.runID }

// Reader is what proxies say to it while it is a replica.
func (a *Adopted) Reader() cluster.Access { return a.reader }

// Killable reports whether it can be signalled from here.
func (a *Adopted) Killable() bool { return a.killable }

// PID is its process id; 0 when it is not on this machine.
func (a *Adopted) PID() int { return a.pid }

// Addr is the HOST:PORT at which others reach it.
func (a *Adopted) Addr() string { return a.opts.Addr }

// Exited is closed when it has ended, or when Kill has fenced what it could not kill.
func (a *Adopted) Exited() <-chan struct{} { return a.exited }

// Reason says why.
func (a *Adopted) Reason() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return "adopted redis-server: " + a.reason
}

// InOrder is false: how an adopted server ended, and what of its data is on disk, is not known here.
func (a *Adopted) InOrder() bool { return false }

// Kill ends the server with SIGKILL; whoever runs it may start it again, which is another run. One that
// cannot be signalled is demoted instead, its clients and replicas are cut off and its writes paused: that
// is the end of this run, too. If it does not answer either, the error is ErrCannotKill.
func (a *Adopted) Kill() error {
	if a.killable {
		if err := unix.PidfdSendSignal(a.pidfd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("kill redis-server %d: %w", a.pid, err)
		}
		select {
		case <-a.exited:
			return nil
		case <-time.After(10 * time.Second):
			return fmt.Errorf("redis-server %d is not gone 10 s after SIGKILL: is its disk stuck?", a.pid)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), disarmWithin)
	defer cancel()
	if err := a.disarm(ctx, true); err != nil {
		return fmt.Errorf("redis-server at %s: %w, and it does not let itself be demoted: %v", a.opts.Addr, ErrCannotKill, err)
	}
	a.ended("it cannot be killed from here and was demoted instead")
	return nil
}

// disarmWithin bounds the attempt to fence a server over its own connection: less than any permit.
const disarmWithin = 400 * time.Millisecond

// disarmed is how long its writes stay paused, should it be made a primary by somebody else.
const disarmed = 10 * time.Second

func (a *Adopted) disarm(ctx context.Context, pause bool) error {
	c, err := a.opts.Login().Dial(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.Demote(ctx, a.opts.BlackHole); err != nil {
		return err
	}
	if pause {
		if _, err := c.do(ctx, "CLIENT", "PAUSE", disarmed.Milliseconds(), "WRITE"); err != nil {
			return err
		}
	}
	return c.Dismiss(ctx)
}

// Terminate leaves the server running, as a replica of nobody without clients: it is not ours to stop.
func (a *Adopted) Terminate(ctx context.Context) error {
	defer a.Close()
	return a.disarm(ctx, false)
}

// Close ends the watch and waits for it. The server is left as it is.
func (a *Adopted) Close() {
	a.stop.Do(func() {
		close(a.closed)
		a.work.Wait()
		if a.pidfd >= 0 {
			_ = unix.Close(a.pidfd)
		}
	})
}
