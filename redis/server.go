// Package redis runs one redis-server process and speaks to it over its unix socket.
package redis

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Binary is an installed server.
type Binary struct {
	Path    string
	Flavor  string // "redis" or "valkey"
	Version string
}

var versionLine = regexp.MustCompile(`(?i)(redis|valkey)\S* server v=([0-9]+)\.([0-9.]+)`)

// FindServer locates redis-server 7.0 or newer, or valkey-server when that is what is installed. An
// empty path searches PATH and the usual folders. The error names what to install.
func FindServer(ctx context.Context, path string) (Binary, error) {
	names := []string{path}
	if path == "" {
		names = []string{"redis-server", "/usr/bin/redis-server", "/usr/local/bin/redis-server", "valkey-server", "/usr/bin/valkey-server"}
	}
	for _, name := range names {
		found, err := exec.LookPath(name)
		if err != nil {
			continue
		}
		return identify(ctx, found)
	}
	if path != "" {
		return Binary{}, fmt.Errorf("redis-server %s: not found or not executable", path)
	}
	return Binary{}, errors.New("redis-server not found: install redis-server 7.0 or newer (apt install redis-server) or name it with --redis-server")
}

func identify(ctx context.Context, path string) (Binary, error) {
	out, err := exec.CommandContext(ctx, path, "--version").Output()
	if err != nil {
		return Binary{}, fmt.Errorf("%s --version: %w", path, err)
	}
	m := versionLine.FindStringSubmatch(string(out))
	if m == nil {
		return Binary{}, fmt.Errorf("%s is no redis-server: --version says %q", path, strings.TrimSpace(string(out)))
	}
	major, _ := strconv.Atoi(m[2])
	if major < 7 {
		return Binary{}, fmt.Errorf("%s is version %s.%s: 7.0 or newer is needed", path, m[2], m[3])
	}
	return Binary{Path: path, Flavor: strings.ToLower(m[1]), Version: m[2] + "." + m[3]}, nil
}

// ServerOptions say how to start a server.
type ServerOptions struct {
	Binary    Binary
	Dir       string // its working directory: data set, configuration, log
	Host      string
	Port      int
	Socket    string // unix socket for its agent
	ReplicaOf string // HOST:PORT; required: a server never boots as a primary
	// Secret protects a server that other machines reach. Its default user is off then; agents and replicas
	// get in as SecretUser with the secret, proxies as ReaderUser, and to a primary as the user of its
	// epoch. Empty: everybody gets in, which is for a loopback address only.
	Secret string
	Config map[string]string // further directives; they win over ours
	// TLS: the server speaks nothing else on Port; nil: everything is in the clear. Its unix socket always is.
	TLS *TLSFiles
	// Guarded: a Fencer ends it when this process is gone. Then the kernel's own signal for that is
	// SIGTERM, which lets the server write what it has acknowledged; without a fencer it is SIGKILL,
	// because a server that hangs or refuses SIGTERM would outlive us.
	Guarded bool
	Logger  *slog.Logger
}

// Server is one run of a redis-server.
type Server struct {
	opts   ServerOptions
	cmd    *exec.Cmd
	exited chan struct{}
	logAt  int64 // where its part of the log begins
	mu     sync.Mutex
	err    error
}

// spawner starts every child from one thread that lives as long as this process: PDEATHSIG fires
// when the THREAD that forked ends, and Go ends idle threads.
var spawner = sync.OnceValue(func() chan func() {
	work := make(chan func())
	go func() {
		runtime.LockOSThread()
		for f := range work {
			f()
		}
	}()
	return work
})

func startChild(cmd *exec.Cmd) error {
	done := make(chan error)
	spawner() <- func() { done <- cmd.Start() }
	return <-done
}

// maxLog bounds the log that is kept from run to run.
const maxLog = 8 << 20

// Start spawns the server; it is ended with this process, even when that is killed. It waits at most
// lockWithin for an earlier one in the same directory to end.
func Start(opts ServerOptions) (*Server, error) {
	if opts.ReplicaOf == "" {
		return nil, errors.New("redis: ReplicaOf is needed: a server never boots as a primary")
	}
	conf, err := writeConfig(opts)
	if err != nil {
		return nil, fmt.Errorf("start redis-server: %w", err)
	}
	logPath := filepath.Join(opts.Dir, "redis.log")
	if st, err := os.Stat(logPath); err == nil && st.Size() > maxLog {
		if err := os.Rename(logPath, logPath+".old"); err != nil {
			return nil, fmt.Errorf("start redis-server: %w", err)
		}
	}
	log, err := os.OpenFile(logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("start redis-server: %w", err)
	}
	defer log.Close()
	logAt, err := log.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, fmt.Errorf("start redis-server: %w", err)
	}
	lock, err := lockDir(opts.Dir)
	if err != nil {
		return nil, fmt.Errorf("start redis-server: %w", err)
	}
	defer lock.Close() // the server has inherited it
	if err := removeTemps(opts.Dir); err != nil {
		return nil, fmt.Errorf("start redis-server: %w", err)
	}
	cmd := exec.Command(opts.Binary.Path, conf)
	cmd.Dir, cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = opts.Dir, log, log, []*os.File{lock}
	// Its own process group: a Ctrl-C on the terminal is for us, who stop it in order.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if opts.Guarded {
		cmd.SysProcAttr.Pdeathsig = syscall.SIGTERM
	}
	if err := startChild(cmd); err != nil {
		return nil, fmt.Errorf("start redis-server: %w", err)
	}
	s := &Server{opts: opts, cmd: cmd, exited: make(chan struct{}), logAt: logAt}
	go func() {
		err := cmd.Wait()
		s.mu.Lock()
		s.err = err
		s.mu.Unlock()
		close(s.exited)
	}()
	if _, theirs := opts.Config["appendfsync"]; !theirs {
		go newFlusher(opts.Dir, opts.Logger).run(s.exited)
	}
	return s, nil
}

// lockWithin bounds the wait for the server before, which may still be writing its data set after its
// parent died: the fencer gives it endWithin.
const lockWithin = 2 * endWithin

// lockDir waits until no server runs in dir. The lock is on the open file that the server inherits, so
// that the kernel gives it back when the server, and a child that rewrites its file, has ended: two
// servers would write into each other's append-only files.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for limit := time.After(lockWithin); ; {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", f.Name(), err), f.Close())
		}
		select {
		case <-tick.C:
		case <-limit:
			return nil, errors.Join(fmt.Errorf("the server before has not ended within %v: it, or its child, still runs in %s", lockWithin, dir), f.Close())
		}
	}
}

// removeTemps deletes what a server, or a child of it, was writing when it was killed: each is as large as the data
// set, and nobody else ever deletes it. The directory is locked: nobody writes one now.
func removeTemps(dir string) error {
	for _, pattern := range []string{"temp-*.rdb", "temp-rewriteaof-*.aof"} {
		left, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			return err
		}
		for _, path := range left {
			if err := os.Remove(path); err != nil {
				return err
			}
		}
	}
	return nil
}

// writeConfig writes redis.conf. Where the numbers come from: the measurements in ARCHITECTURE.md.
func writeConfig(o ServerOptions) (string, error) {
	host, port, err := net.SplitHostPort(o.ReplicaOf)
	if err != nil {
		return "", fmt.Errorf("replica of %q: %w", o.ReplicaOf, err)
	}
	conf := map[string]string{
		"bind": o.Host, "port": strconv.Itoa(o.Port), "unixsocket": o.Socket, "unixsocketperm": "700",
		"dir": o.Dir, "daemonize": "no", "pidfile": `""`, "protected-mode": "no", "tcp-backlog": "4096",
		"replicaof": host + " " + port, "replica-read-only": "yes", "replica-serve-stale-data": "yes",
		"appendonly": "yes", "appendfsync": "no", "save": `""`, "aof-use-rdb-preamble": "yes",
		// Through a file: after a diskless sync a primary that has not reaped its child yet overlooks the
		// replica's first acknowledgement, and sends it nothing until the next, a second later.
		"repl-diskless-sync": "no", "repl-diskless-sync-delay": "0",
		"repl-timeout": "10", "repl-ping-replica-period": "1", "repl-backlog-size": "64mb", "repl-backlog-ttl": "0",
		"client-output-buffer-limit": "replica 1gb 0 0", "maxclients": "20000", "latency-tracking": "yes",
		"enable-debug-command": "no", "loglevel": "notice", "logfile": `""`,
		// SIGTERM comes when nobody waits for the replicas any more: the default would give those that
		// lag ten seconds, within which the fencer kills.
		"shutdown-timeout": "0",
	}
	if ip := net.ParseIP(o.Host); ip != nil && !ip.IsUnspecified() {
		conf["replica-announce-ip"] = o.Host // behind address translation, or with several addresses, too
	}
	if o.TLS != nil {
		o.TLS.secure(conf)
	}
	maps.Copy(conf, o.Config)
	var b strings.Builder
	b.WriteString("# Written at each start; changes here are lost.\n")
	for _, k := range slices.Sorted(maps.Keys(conf)) {
		fmt.Fprintf(&b, "%s %s\n", k, conf[k])
	}
	if o.Secret != "" {
		fmt.Fprintf(&b, "masteruser %s\nmasterauth %q\n", SecretUser, o.Secret)
		// Nobody gets in as the default user, and it may do everything: redis-server reads its own file as that
		// user, and would leave out every transaction.
		fmt.Fprintf(&b, "user default off ~* &* +@all\nuser %s on #%s ~* &* +@all\n", SecretUser, hashed(o.Secret))
		fmt.Fprintf(&b, "user %s on #%s ~* &* %s\n", ReaderUser, hashed(ReaderPassword(o.Secret)), readerRules)
	}
	path := filepath.Join(o.Dir, "redis.conf")
	return path, os.WriteFile(path, []byte(b.String()), 0o600)
}

// The standing users of a server with a Secret.
const (
	SecretUser = "understudy" // agents and replicas, with the secret
	ReaderUser = "reader"     // proxies, with ReaderPassword
)

// readerRules leave a proxy all that it may do on a replica. It may not write, and so the connection is of
// no use should the replica be promoted: a primary's clients are users of its epoch.
const readerRules = "+@all -@write -@admin +role +client|list"

// ReaderPassword is what proxies say to replicas. It follows from the secret, and the secret does not
// follow from it: a proxy never has what would let it write.
func ReaderPassword(secret string) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(ReaderUser))
	return hex.EncodeToString(mac.Sum(nil))
}

// hashed is a password as an ACL line holds it.
func hashed(password string) string {
	sum := sha256.Sum256([]byte(password))
	return hex.EncodeToString(sum[:])
}

// Login is how its agent speaks to the server.
func (s *Server) Login() Login {
	l := Login{Socket: s.opts.Socket}
	if s.opts.Secret != "" {
		l.User, l.Password = SecretUser, s.opts.Secret
	}
	return l
}

// PID is the process id of the server.
func (s *Server) PID() int { return s.cmd.Process.Pid }

// Addr is the HOST:PORT at which it listens.
func (s *Server) Addr() string { return net.JoinHostPort(s.opts.Host, strconv.Itoa(s.opts.Port)) }

// Exited is closed when the process has ended and been reaped.
func (s *Server) Exited() <-chan struct{} { return s.exited }

// Reason says why it ended: the exit status, and the last line of its log when it ended by itself.
func (s *Server) Reason() string {
	s.mu.Lock()
	err := s.err
	s.mu.Unlock()
	if err == nil {
		return "exit status 0"
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		if w, ok := exit.Sys().(syscall.WaitStatus); ok && w.Signaled() {
			return "signal: " + w.Signal().String()
		}
	}
	return fmt.Sprintf("%v: %s", err, s.lastLine())
}

func (s *Server) lastLine() string {
	f, err := os.Open(filepath.Join(s.opts.Dir, "redis.log"))
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	if end, err := f.Seek(0, io.SeekEnd); err == nil {
		_, _ = f.Seek(max(0, end-4096), io.SeekStart)
	}
	text, _ := io.ReadAll(f)
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return lines[len(lines)-1]
}

// cutLine is what a server says of a file that ended in the middle of a command.
var cutLine = regexp.MustCompile(`Truncating the AOF (\S+) at offset (\d+)`)

// Cut says how many bytes this run has left of an append-only file that ended in the middle of a command, as
// one that is killed may leave it; ok is false when it has not cut that file.
func (s *Server) Cut(name string) (left int64, ok bool) {
	f, err := os.Open(filepath.Join(s.opts.Dir, "redis.log"))
	if err != nil {
		return 0, false
	}
	defer f.Close()
	text, _ := io.ReadAll(io.NewSectionReader(f, s.logAt, maxLog))
	for _, m := range cutLine.FindAllSubmatch(text, -1) {
		if filepath.Base(string(m[1])) == name {
			left, err = strconv.ParseInt(string(m[2]), 10, 64)
			ok = err == nil
		}
	}
	return left, ok
}

// Kill ends the server with SIGKILL and waits until it is reaped.
func (s *Server) Kill() error {
	if err := s.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill redis-server %d: %w", s.PID(), err)
	}
	select {
	case <-s.exited:
		return nil
	case <-time.After(10 * time.Second):
		return fmt.Errorf("redis-server %d is not gone 10 s after SIGKILL: is its disk stuck?", s.PID())
	}
}

// InOrder reports whether the server has ended by itself with status 0: all that it had is on disk.
func (s *Server) InOrder() bool {
	select {
	case <-s.exited:
		return s.cmd.ProcessState.Success()
	default:
		return false
	}
}

// Terminate asks the server to end in order and waits for it until ctx ends. It asks again and again:
// a server that writes its first append-only file after a full sync refuses, and forgets it.
func (s *Server) Terminate(ctx context.Context) error {
	again := time.NewTicker(50 * time.Millisecond) // the server looks for signals every 100 ms
	defer again.Stop()
	for {
		// A stopped process must run to see SIGTERM.
		_ = s.cmd.Process.Signal(syscall.SIGCONT)
		if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return fmt.Errorf("stop redis-server %d: %w", s.PID(), err)
		}
		select {
		case <-s.exited:
			return nil
		case <-ctx.Done():
			return fmt.Errorf("redis-server %d has not stopped: %w", s.PID(), ctx.Err())
		case <-again.C:
		}
	}
}

// BlackHole is a port that refuses every connection and that nobody else can take: a replica
// pointed at it follows nobody and keeps what it needs for a partial resync.
type BlackHole struct {
	fd   int
	addr string
}

// NewBlackHole reserves a port on the loopback.
func NewBlackHole() (*BlackHole, error) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	err = syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
	var name syscall.Sockaddr
	if err == nil {
		name, err = syscall.Getsockname(fd)
	}
	if err != nil {
		return nil, errors.Join(err, syscall.Close(fd))
	}
	port := name.(*syscall.SockaddrInet4).Port
	return &BlackHole{fd: fd, addr: net.JoinHostPort("127.0.0.1", strconv.Itoa(port))}, nil
}

// Addr is the HOST:PORT that refuses.
func (b *BlackHole) Addr() string { return b.addr }

// Close frees the port.
func (b *BlackHole) Close() error { return syscall.Close(b.fd) }
