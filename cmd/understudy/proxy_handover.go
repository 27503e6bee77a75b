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
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"understudy/proxy"
)

// A new `understudy proxy --take-over` takes the place of the one that runs with the same configuration
// file. Each process listens on a unix socket that only its user can reach; over it go
//
//	new ── take_over: GROUPS ────────────> old
//	new <── listeners, with their sockets ── old     of the groups that both have, and HTTP
//	new ── go: it knows the primary ─────> old
//	new <── last_id: accepts no more ────── old     for each group; the new one lets its clients in from here on
//	new <── client, with its socket ─────── old     for each, as it comes to rest
//	new <── done ────────────────────────── old     and ends
//
// When the connection breaks before done, the old one goes on.
type message struct {
	TakeOver  []string      `json:"take_over,omitempty"`
	Groups    []string      `json:"groups,omitempty"`    // that both have
	Listeners []string      `json:"listeners,omitempty"` // GROUP/NAME, or http
	Group     string        `json:"group,omitempty"`     // of last_id and client
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
	// mostSockets bounds the sockets of one message, as the kernel does (SCM_MAX_FD): six endpoints a group
	// and HTTP.
	mostSockets = 253
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
	h    *house
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
			s.h.log.Error("no other process can be started: this one goes on", "error", err)
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
	s.h.log.Info("another process was started that is to take over", "pid", cmd.Process.Pid)
	go func() {
		if err := cmd.Wait(); err != nil { // the end of this process ends this too
			s.h.log.Error("the process that was to take over has ended: this one goes on", "error", err)
		}
	}()
	return nil
}

// run serves until ctx ends; it returns errHandedOver when everything was handed over.
func (s *successors) run(ctx context.Context) error {
	l, err := listenAt(s.path)
	if err != nil {
		s.h.log.Warn("no other process can take over from this one", "error", err)
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
			s.h.log.Warn("another process has not taken over: this one goes on", "error", err)
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
	shared := s.h.shared(ask.TakeOver)
	if len(shared) == 0 {
		err := fmt.Errorf("this process serves group %s, not %s", strings.Join(s.h.config.names(), ", "), strings.Join(ask.TakeOver, ", "))
		return errors.Join(err, c.send(message{Error: err.Error()}))
	}
	if err := s.sendListeners(c, shared); err != nil {
		return err
	}
	ready, files, err := c.receive(prepareWithin)
	closeAll(files)
	if err != nil || !ready.Go {
		return fmt.Errorf("the new process did not get ready: %w", orUnexpected(err))
	}
	s.h.log.Info("another process takes over", "clients_have", s.h.config.Drain)
	if len(shared) < len(s.h.fronts) {
		s.h.log.Warn("groups are not taken over: their clients are cut when this process ends", "taken_over", len(shared), "served", len(s.h.fronts))
	}
	s.h.door.shut()
	if err := s.giveClients(ctx, c, shared); err != nil {
		s.h.door.open()
		return err
	}
	return c.send(message{Done: true})
}

// shared are the fronts of the groups that are named.
func (h *house) shared(names []string) (all []*front) {
	for _, f := range h.fronts {
		if slices.Contains(names, f.config.Group) {
			all = append(all, f)
		}
	}
	return all
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

func (s *successors) sendListeners(c link, shared []*front) error {
	all := map[string]*os.File{}
	var m message
	h, err := s.h.door.File()
	if err == nil {
		all["http"] = h
	}
	for _, f := range shared {
		m.Groups = append(m.Groups, f.config.Group)
		own, e := f.proxy.Listeners()
		err = errors.Join(err, e)
		for name, file := range own {
			all[f.config.Group+"/"+name] = file
		}
	}
	var fds []int
	for name, f := range all {
		m.Listeners = append(m.Listeners, name)
		fds = append(fds, int(f.Fd()))
	}
	if err == nil && len(fds) > mostSockets {
		err = fmt.Errorf("%d sockets are more than can be handed over at once (%d)", len(fds), mostSockets)
	}
	if err == nil {
		err = c.send(m, fds...)
	}
	for _, f := range all {
		err = errors.Join(err, f.Close())
	}
	return err
}

// giveClients hands the clients of the groups over, until none is left or the new process is gone. After an
// error every group is served here again.
func (s *successors) giveClients(ctx context.Context, c link, shared []*front) error {
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
	errs := make([]error, len(shared))
	var leaving sync.WaitGroup
	for i, f := range shared {
		leaving.Go(func() {
			if errs[i] = f.giveClients(ctx, c, s.h.config.Drain); errs[i] != nil {
				cancel(errs[i]) // all or none
			}
		})
	}
	leaving.Wait()
	err := errors.Join(errs...)
	if err == nil {
		return nil
	}
	for i, f := range shared {
		if errs[i] == nil {
			f.proxy.Stay()
		}
	}
	return err
}

func (f *front) giveClients(ctx context.Context, c link, within time.Duration) error {
	return f.proxy.Leave(ctx, proxy.Leaving{
		Within:  within,
		Stopped: func(lastID uint64) error { return c.send(message{Group: f.config.Group, LastID: &lastID}) },
		Give: func(fd int, h proxy.Handed) error {
			return c.send(message{Group: f.config.Group, Client: &h}, fd)
		},
	})
}

// inherited is what a process got from the one before.
type inherited struct {
	link
	path      string
	groups    []string // that both processes have
	listeners map[string]*net.TCPListener
	clients   int // that were taken over
}

// inherit asks the process at a path for its listening sockets; nil when there is none.
func inherit(path string, groups []string) (*inherited, error) {
	c, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: path, Net: "unixpacket"})
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("--take-over: %w", err)
	}
	in := &inherited{link: link{c}, path: path, listeners: map[string]*net.TCPListener{}}
	err = in.send(message{TakeOver: groups})
	var m message
	var files []int
	if err == nil {
		m, files, err = in.receive(messageWithin)
	}
	if err == nil && len(m.Listeners) != len(files) {
		err = fmt.Errorf("%d names for %d sockets", len(m.Listeners), len(files))
	}
	in.groups = m.Groups
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
	if !listensAt(l, addr) {
		return nil
	}
	delete(in.listeners, name)
	return l
}

// has reports whether a group's clients come from the process before.
func (in *inherited) has(group string) bool { return in != nil && slices.Contains(in.groups, group) }

// takeOver has the process before stop, and lets clients in.
func (in *inherited) takeOver(h *house) error {
	err := in.send(message{Go: true})
	waiting := h.shared(in.groups)
	for err == nil && len(waiting) > 0 {
		var m message
		var files []int
		if m, files, err = in.receive(messageWithin); err != nil {
			break
		}
		if in.adoptOne(h, m, files) {
			continue
		}
		at := slices.IndexFunc(waiting, func(f *front) bool { return m.LastID != nil && f.config.Group == m.Group })
		if at < 0 {
			err = orUnexpected(nil)
			break
		}
		waiting[at].proxy.Open(*m.LastID)
		waiting = slices.Delete(waiting, at, at+1)
	}
	if err != nil && !in.gone() {
		return fmt.Errorf("--take-over: the process before goes on: %w", err)
	}
	if err != nil {
		h.log.Warn("the process before this one has crashed", "error", err)
		for _, f := range waiting {
			f.proxy.Open(0)
		}
	}
	h.door.open()
	return nil
}

// adoptOne takes the client of a message over; false: the message has none.
func (in *inherited) adoptOne(h *house, m message, files []int) bool {
	if m.Client == nil || len(files) != 1 {
		closeAll(files)
		return false
	}
	fronts := h.shared([]string{m.Group})
	if len(fronts) == 0 {
		closeAll(files)
		return false
	}
	in.clients++
	fronts[0].proxy.Adopt(files[0], *m.Client)
	return true
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
func (in *inherited) adopt(ctx context.Context, h *house) error {
	stop := context.AfterFunc(ctx, func() { _ = in.Close() })
	defer stop()
	if err := in.SetReadDeadline(time.Time{}); err != nil && ctx.Err() == nil {
		return err
	}
	for {
		m, files, err := in.next()
		if ctx.Err() != nil {
			closeAll(files)
			return nil
		}
		if err != nil {
			h.log.Warn("the process before this one ended early", "clients", in.clients, "error", err)
			break
		}
		if m.Done {
			h.log.Info("taken over", "clients", in.clients)
			break
		}
		in.adoptOne(h, m, files)
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
