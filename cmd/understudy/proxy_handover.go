package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"understudy/proxy"
)

// A new `understudy proxy --take-over` takes the place of the one that runs with the same configuration
// file. Each process listens on a unix socket that only its user can reach; over it go
//
//	new ── take_over: GROUP ─────────────> old
//	new <── listeners, with their sockets ── old
//	new ── go: it knows the primary ─────> old
//	new <── last_id: accepts no more ────── old     the new one lets clients in from here on
//	new <── client, with its socket ─────── old     for each, as it comes to rest
//	new <── done ────────────────────────── old     and ends
//
// When the connection breaks before done, the old one goes on.
type message struct {
	TakeOver  string        `json:"take_over,omitempty"`
	Listeners []string      `json:"listeners,omitempty"`
	Go        bool          `json:"go,omitempty"`
	LastID    *uint64       `json:"last_id,omitempty"`
	Client    *proxy.Handed `json:"client,omitempty"`
	Done      bool          `json:"done,omitempty"`
	Error     string        `json:"error,omitempty"`
}

const (
	// messageWithin bounds one message: the other process is on this machine.
	messageWithin = 5 * time.Second
	// prepareWithin is how long a new process may take until it knows the primary.
	prepareWithin = time.Minute
	// mostMessage bounds a message: a client's unfinished request in base64, and the rest.
	mostMessage = 2*proxy.MostUnfinished + 16<<10
	// mostSockets bounds the sockets of one message: six endpoints and HTTP.
	mostSockets = 8
)

// errHandedOver ends a process whose place another one has taken.
var errHandedOver = errors.New("another process has taken over")

// link is a connection between the two processes.
type link struct{ *net.UnixConn }

// send sends one message; files stay the caller's.
func (l link) send(m message, files ...int) error {
	text, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if err := l.SetWriteDeadline(time.Now().Add(messageWithin)); err != nil {
		return err
	}
	var rights []byte
	if len(files) > 0 {
		rights = unix.UnixRights(files...)
	}
	_, _, err = l.WriteMsgUnix(text, rights, nil)
	return err
}

// receive waits for the next message; the files with it are the caller's. io.EOF: the other side is gone.
func (l link) receive(within time.Duration) (m message, files []int, err error) {
	if err := l.SetReadDeadline(time.Now().Add(within)); err != nil {
		return m, nil, err
	}
	return l.next()
}

// next is receive, for as long as it takes.
func (l link) next() (m message, files []int, err error) {
	text, rights := make([]byte, mostMessage), make([]byte, unix.CmsgSpace(4*mostSockets))
	n, rn, flags, _, err := l.ReadMsgUnix(text, rights)
	if err != nil {
		return m, nil, err
	}
	if files, err = filesOf(rights[:rn]); err != nil {
		return m, nil, err
	}
	switch {
	case n == 0:
		err = io.EOF
	case flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0:
		err = errors.New("a message is longer than it may be")
	default:
		err = json.Unmarshal(text[:n], &m)
	}
	if err == nil && m.Error != "" {
		err = errors.New(m.Error)
	}
	if err != nil {
		closeAll(files)
		return m, nil, err
	}
	return m, files, nil
}

func filesOf(rights []byte) (files []int, err error) {
	if len(rights) == 0 {
		return nil, nil
	}
	parts, err := unix.ParseSocketControlMessage(rights)
	if err != nil {
		return nil, err
	}
	for i := range parts {
		some, err := unix.ParseUnixRights(&parts[i])
		if err != nil {
			return nil, err
		}
		files = append(files, some...)
	}
	return files, nil
}

func orUnexpected(err error) error {
	if err == nil {
		return errors.New("it says something else than is expected now; is it of another version?")
	}
	return err
}

func closeAll(files []int) {
	for _, fd := range files {
		_ = unix.Close(fd)
	}
}

// beside is what the name of a socket ends with that is not yet the one to ask.
const beside = ".new"

// handoverPath is where the process that runs with a configuration file is reached: in a directory that
// only this user can enter.
func handoverPath(dir, file string) (string, error) {
	whole, err := filepath.Abs(file)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256([]byte(whole))
	name := fmt.Sprintf("proxy-%x", sum[:6])
	dirs := []string{dir}
	if dir == "" {
		dirs = runDirs()
	}
	var errs error
	for _, dir := range dirs {
		path := filepath.Join(dir, name)
		err := ownDir(dir)
		switch {
		case len(path)+len(beside) > maxSocket:
			err = fmt.Errorf("%s is too long for a unix socket", dir)
		case err == nil:
			return path, nil
		}
		errs = errors.Join(errs, err)
	}
	return "", fmt.Errorf("run_dir: %w", errs)
}

// runDirs are where the socket may be: in the directory that the service manager made for this service, or
// in one of this user's.
func runDirs() (dirs []string) {
	if dir := os.Getenv("RUNTIME_DIRECTORY"); dir != "" {
		return []string{dir}
	}
	for _, base := range []string{os.Getenv("XDG_RUNTIME_DIR"), os.TempDir(), "/tmp"} {
		if filepath.IsAbs(base) {
			dirs = append(dirs, filepath.Join(base, fmt.Sprintf("understudy-proxy-%d", os.Getuid())))
		}
	}
	return dirs
}

// ownDir makes a directory, or checks that nobody else can have put something into it.
func ownDir(dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	i, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	s, ok := i.Sys().(*syscall.Stat_t)
	if !i.IsDir() || !ok || int(s.Uid) != os.Getuid() || i.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("%s must be a directory of this user's that nobody else can enter: chmod 700, or name another one", dir)
	}
	return nil
}

// successors waits for a process that takes this one's place.
type successors struct {
	f    *front
	path string // of the socket over which it asks
	file string // of the configuration
}

// startOnRequest starts a process that takes this one's place whenever SIGHUP asks for it, from the
// program's file as it is then: a new version, or the same one with a changed configuration. A service
// manager's reload is that.
func (s *successors) startOnRequest(ctx context.Context) error {
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGHUP)
	defer signal.Stop(asked)
	for {
		select {
		case <-asked:
		case <-ctx.Done():
			return nil
		}
		if err := s.start(); err != nil {
			s.f.log.Error("no other process can be started: this one goes on", "error", err)
		}
	}
}

// start does not wait for the process: it outlives this one.
func (s *successors) start() error {
	program, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(program, "proxy", "--config", s.file, "--take-over")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Start(); err != nil {
		return err
	}
	s.f.log.Info("another process was started that is to take over", "pid", cmd.Process.Pid)
	go func() {
		if err := cmd.Wait(); err != nil { // the end of this process ends this too
			s.f.log.Error("the process that was to take over has ended: this one goes on", "error", err)
		}
	}()
	return nil
}

// run serves until ctx ends; it returns errHandedOver when everything was handed over.
func (s *successors) run(ctx context.Context) error {
	l, err := listenAt(s.path)
	if err != nil {
		s.f.log.Warn("no other process can take over from this one", "error", err)
		<-ctx.Done()
		return nil
	}
	defer l.release()
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	for {
		c, err := l.AcceptUnix()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("wait for a process that takes over: %w", err)
		}
		err = s.handOver(ctx, link{c})
		_ = c.Close()
		if err == nil {
			return errHandedOver
		}
		if ctx.Err() == nil {
			s.f.log.Warn("another process has not taken over: this one goes on", "error", err)
		}
	}
}

// address is a socket's file, which another process may have replaced.
type address struct {
	*net.UnixListener
	path string
	made os.FileInfo
}

// listenAt listens at a path in place of whoever does: the newest process is the one to ask.
func listenAt(path string) (*address, error) {
	next := path + beside
	if err := os.Remove(next); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: next, Net: "unixpacket"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	err = os.Chmod(next, 0o600)
	var made os.FileInfo
	if err == nil {
		made, err = os.Lstat(next)
	}
	if err == nil {
		err = os.Rename(next, path)
	}
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return &address{l, path, made}, nil
}

// release removes the file, unless it is another process's by now.
func (a *address) release() {
	_ = a.Close()
	if i, err := os.Lstat(a.path); err == nil && os.SameFile(i, a.made) {
		_ = os.Remove(a.path)
	}
}

// handOver gives a new process everything; nil: it has it all, and this one may end.
func (s *successors) handOver(ctx context.Context, c link) error {
	if err := samePerson(c); err != nil {
		return err
	}
	ask, files, err := c.receive(messageWithin)
	closeAll(files)
	if err != nil {
		return err
	}
	if ask.TakeOver != s.f.config.Group {
		err := fmt.Errorf("this process serves group %s, not %s", s.f.config.Group, ask.TakeOver)
		return errors.Join(err, c.send(message{Error: err.Error()}))
	}
	if err := s.sendListeners(c); err != nil {
		return err
	}
	ready, files, err := c.receive(prepareWithin)
	closeAll(files)
	if err != nil || !ready.Go {
		return fmt.Errorf("the new process did not get ready: %w", orUnexpected(err))
	}
	s.f.log.Info("another process takes over", "clients_have", s.f.config.Drain)
	s.f.door.shut()
	if err := s.giveClients(ctx, c); err != nil {
		s.f.door.open()
		return err
	}
	return c.send(message{Done: true})
}

// samePerson refuses everybody but this user, and root.
func samePerson(c link) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var who *unix.Ucred
	var inner error
	err = raw.Control(func(fd uintptr) { who, inner = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err = errors.Join(err, inner); err != nil {
		return err
	}
	if int(who.Uid) != os.Getuid() && who.Uid != 0 {
		return fmt.Errorf("user %d may not take over from a process of user %d", who.Uid, os.Getuid())
	}
	return nil
}

func (s *successors) sendListeners(c link) error {
	all, err := s.f.proxy.Listeners()
	if err != nil {
		return err
	}
	h, err := s.f.door.File()
	if err == nil {
		all["http"] = h
	}
	var m message
	var fds []int
	for name, f := range all {
		m.Listeners = append(m.Listeners, name)
		fds = append(fds, int(f.Fd()))
	}
	if err == nil {
		err = c.send(m, fds...)
	}
	for _, f := range all {
		err = errors.Join(err, f.Close())
	}
	return err
}

// giveClients hands the clients over, until none is left or the new process is gone.
func (s *successors) giveClients(ctx context.Context, c link) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if err := c.SetReadDeadline(time.Time{}); err != nil {
		return err
	}
	var listening sync.WaitGroup
	defer listening.Wait()
	defer func() { _ = c.SetReadDeadline(time.Now()) }() // ends the next
	listening.Go(func() {
		_, files, err := c.next() // it has nothing to say any more
		closeAll(files)
		cancel(fmt.Errorf("the new process is gone: %w", orUnexpected(err)))
	})
	return s.f.proxy.Leave(ctx, proxy.Leaving{
		Within:  s.f.config.Drain,
		Stopped: func(lastID uint64) error { return c.send(message{LastID: &lastID}) },
		Give:    func(fd int, h proxy.Handed) error { return c.send(message{Client: &h}, fd) },
	})
}

// inherited is what a process got from the one before.
type inherited struct {
	link
	path      string
	listeners map[string]*net.TCPListener
}

// inherit asks the process at a path for its listening sockets; nil when there is none.
func inherit(path, group string) (*inherited, error) {
	c, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: path, Net: "unixpacket"})
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("--take-over: %w", err)
	}
	in := &inherited{link{c}, path, map[string]*net.TCPListener{}}
	err = in.send(message{TakeOver: group})
	var m message
	var files []int
	if err == nil {
		m, files, err = in.receive(messageWithin)
	}
	if err == nil && len(m.Listeners) != len(files) {
		err = fmt.Errorf("%d names for %d sockets", len(m.Listeners), len(files))
	}
	for i, fd := range files {
		if err != nil {
			_ = unix.Close(fd)
			continue
		}
		f := os.NewFile(uintptr(fd), m.Listeners[i])
		var l net.Listener
		if l, err = net.FileListener(f); err == nil {
			in.listeners[m.Listeners[i]] = l.(*net.TCPListener)
		}
		_ = f.Close()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("--take-over: the process at %s: %w", path, err), in.close())
	}
	return in, nil
}

func (in *inherited) close() error {
	err := in.Close()
	for _, l := range in.listeners {
		err = errors.Join(err, ignoreClosed(l.Close()))
	}
	return err
}

// take returns the socket of an endpoint if it is the one of an address, else nil. What nobody takes is
// closed.
func (in *inherited) take(name, addr string) *net.TCPListener {
	if in == nil || addr == "" || in.listeners[name] == nil {
		return nil
	}
	l := in.listeners[name]
	host, port, err := net.SplitHostPort(addr)
	at, ours, err2 := net.SplitHostPort(l.Addr().String())
	a, b := net.ParseIP(host), net.ParseIP(at)
	if err != nil || err2 != nil || port != "0" && port != ours || a != nil && b != nil && !a.Equal(b) {
		return nil
	}
	delete(in.listeners, name)
	return l
}

// takeOver has the process before stop, and lets clients in.
func (in *inherited) takeOver(f *front) error {
	err := in.send(message{Go: true})
	var m message
	if err == nil {
		m, _, err = in.receive(messageWithin)
	}
	switch {
	case err == nil && m.LastID != nil:
		f.proxy.Open(*m.LastID)
	case in.gone():
		f.log.Warn("the process before this one has crashed", "error", err)
		f.proxy.Open(0)
	default:
		return fmt.Errorf("--take-over: the process before goes on: %w", orUnexpected(err))
	}
	f.door.open()
	return nil
}

// gone reports whether nobody answers at the path any more.
func (in *inherited) gone() bool {
	c, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: in.path, Net: "unixpacket"})
	if err == nil {
		_ = c.Close()
	}
	return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, os.ErrNotExist)
}

// adopt takes the clients over, one by one, and then only waits for ctx to end.
func (in *inherited) adopt(ctx context.Context, f *front) error {
	stop := context.AfterFunc(ctx, func() { _ = in.Close() })
	defer stop()
	if err := in.SetReadDeadline(time.Time{}); err != nil && ctx.Err() == nil {
		return err
	}
	clients := 0
	for {
		m, files, err := in.next()
		if ctx.Err() != nil {
			closeAll(files)
			return nil
		}
		if err != nil {
			f.log.Warn("the process before this one ended early", "clients", clients, "error", err)
			break
		}
		if m.Done {
			f.log.Info("taken over", "clients", clients)
			break
		}
		if m.Client != nil && len(files) == 1 {
			clients++
			f.proxy.Adopt(files[0], *m.Client)
			continue
		}
		closeAll(files)
	}
	<-ctx.Done()
	return nil
}

// gate is a listening socket that can be shut for a while: another process accepts then.
type gate struct {
	*net.TCPListener
	mu     sync.Mutex
	opened chan struct{} // closed while it is open
	closed chan struct{} // closed at the end
	end    func()
}

func newGate(l *net.TCPListener) *gate {
	g := &gate{TCPListener: l, opened: make(chan struct{}), closed: make(chan struct{})}
	g.end = sync.OnceFunc(func() { close(g.closed) })
	close(g.opened)
	return g
}

// Accept implements net.Listener.
func (g *gate) Accept() (net.Conn, error) {
	for {
		g.mu.Lock()
		opened := g.opened
		g.mu.Unlock()
		select {
		case <-opened:
		case <-g.closed:
			return nil, net.ErrClosed
		}
		c, err := g.TCPListener.Accept()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			continue // it was shut
		}
		return c, err
	}
}

// Close implements net.Listener.
func (g *gate) Close() error {
	g.end()
	return g.TCPListener.Close()
}

func (g *gate) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.opened = make(chan struct{})
	_ = g.SetDeadline(time.Unix(1, 0)) // fails when it is closed
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	_ = g.SetDeadline(time.Time{})
	select {
	case <-g.opened:
	default:
		close(g.opened)
	}
}
