package redis

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// FencerArg is the hidden first argument under which this executable is the fencer: its main calls
// FencerMain and nothing else.
const FencerArg = "fencer"

// BootTime is a reading of CLOCK_BOOTTIME: it goes on while the machine is suspended, as the clocks
// of the other machines do. Two processes of one machine read the same.
func BootTime() time.Duration {
	var t unix.Timespec
	// unix.ClockGettime would tell the scheduler, for each request of a proxy, of a call that cannot wait.
	if _, _, errno := unix.RawSyscall(unix.SYS_CLOCK_GETTIME, unix.CLOCK_BOOTTIME, uintptr(unsafe.Pointer(&t)), 0); errno != 0 {
		panic(fmt.Sprintf("redis: CLOCK_BOOTTIME: %v", errno)) // every Linux since 2.6.39 has it
	}
	return time.Duration(t.Nano())
}

// Fencer is a process of its own that kills redis-servers when this one no longer can: each at its
// deadline when nobody has moved that, and all of them when this process is gone. It catches what
// PDEATHSIG does not: a process that is stopped or starved while its permit runs out, and a server that
// hangs or refuses to end.
//
//	this process ── pipe: guard, until, release ──> fencer ── pidfd: SIGKILL at the deadline ──> redis-server
//	             ── end of file ──────────────────> SIGTERM to all; SIGKILL at the deadline, or after 1 s
type Fencer struct {
	log  *slog.Logger
	path string
	work sync.WaitGroup // the one goroutine that waits for the process

	mu      sync.Mutex
	stdin   *os.File
	cmd     *exec.Cmd
	guarded map[int]*guarded
	closing bool
	err     error // why there is no fencer any more
}

// guarded is what the fencer was told of one redis-server, to be told again to its successor.
type guarded struct {
	start   string        // the process's start time: a reused pid has another
	until   time.Duration // BootTime; 0: no deadline
	adopted bool
}

// FencerOptions say how to start a Fencer; the zero value works.
type FencerOptions struct {
	// Path is the executable that calls FencerMain for FencerArg; default: this one.
	Path   string
	Logger *slog.Logger
}

// StartFencer starts the process. Stop ends it.
func StartFencer(o FencerOptions) (*Fencer, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Path == "" {
		o.Path = "/proc/self/exe" // os.Executable names a file that may have been replaced since
	}
	f := &Fencer{log: o.Logger.With("component", "fencer"), path: o.Path, guarded: map[int]*guarded{}}
	if err := f.spawn(); err != nil {
		return nil, err
	}
	f.work.Go(f.watch)
	return f, nil
}

// spawn starts the process and tells it what is guarded. mu is held, or f is not shared yet.
func (f *Fencer) spawn() error {
	r, w, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("start the fencer: %w", err)
	}
	defer r.Close()
	cmd := exec.Command(f.path, FencerArg)
	cmd.Args[0] = "understudy"
	cmd.Env = append(os.Environ(), "GOMAXPROCS=1")
	cmd.Stdin, cmd.Stderr = r, os.Stderr
	// Its own process group: it must outlive the servers when a terminal ends us all.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return errors.Join(fmt.Errorf("start the fencer: %w", err), w.Close())
	}
	f.cmd, f.stdin = cmd, w
	for pid, g := range f.guarded {
		if err := f.send(pid, g); err != nil {
			return err
		}
	}
	return nil
}

// maxQuickEnds is how often in a row the fencer may end within a second of its start before it is
// given up: then it does not end by accident.
const maxQuickEnds = 3

// watch starts the process again when it ended and should not have.
func (f *Fencer) watch() {
	for quick := 0; ; {
		f.mu.Lock()
		cmd, began := f.cmd, time.Now()
		f.mu.Unlock()
		err := cmd.Wait()
		f.mu.Lock()
		if f.closing {
			f.mu.Unlock()
			return
		}
		f.log.Error("the fencer ended; it is started again", "error", fmt.Sprint(err))
		err = f.stdin.Close()
		if quick++; time.Since(began) > time.Second {
			quick = 0
		}
		if quick > maxQuickEnds {
			err = errors.New("it ends as soon as it is started: does its main call FencerMain?")
		} else if err == nil {
			err = f.spawn()
		}
		if err != nil {
			f.err = fmt.Errorf("there is no fencer: %w", err)
			f.log.Error("the fencer is gone; PDEATHSIG alone guards the servers", "error", err)
			f.mu.Unlock()
			return
		}
		f.mu.Unlock()
	}
}

// Guard puts a child of this process under the fencer's watch, without a deadline yet.
func (f *Fencer) Guard(pid int) error { return f.guard(pid, false) }

// GuardAdopted does the same for a server that outlives this process: when that is gone, it is killed at its
// deadline if it has one, and left alone if not.
func (f *Fencer) GuardAdopted(pid int) error { return f.guard(pid, true) }

func (f *Fencer) guard(pid int, adopted bool) error {
	start, err := startTime(pid)
	if err != nil {
		return fmt.Errorf("guard %d: %w", pid, err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.guarded[pid] = &guarded{start: start, adopted: adopted}
	return f.send(pid, f.guarded[pid])
}

// Until sets the deadline to d from now: then the process is killed unless Until is called again or
// it is released. 0 takes the deadline back. It does not wait for the fencer.
func (f *Fencer) Until(pid int, d time.Duration) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	g := f.guarded[pid]
	if g == nil {
		return fmt.Errorf("fence %d: it is not guarded", pid)
	}
	g.until = 0
	if d != 0 {
		g.until = BootTime() + d
	}
	return f.write(fmt.Sprintf("until %d %d\n", pid, g.until))
}

// Guards reports whether the process is under watch, as far as this end knows.
func (f *Fencer) Guards(pid int) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err == nil && f.guarded[pid] != nil
}

// Release takes a process, usually one that has ended, out of the watch.
func (f *Fencer) Release(pid int) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.guarded[pid] == nil {
		return nil
	}
	delete(f.guarded, pid)
	return f.write(fmt.Sprintf("release %d\n", pid))
}

// PID is the fencer's process id.
func (f *Fencer) PID() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.cmd.Process.Pid
}

// Stop ends the fencer, which ends what is still guarded first, and waits for it until ctx ends.
func (f *Fencer) Stop(ctx context.Context) error {
	f.mu.Lock()
	first := !f.closing
	f.closing = true
	var err error
	if first && f.err == nil {
		err = f.stdin.Close()
	}
	f.mu.Unlock()
	done := make(chan struct{})
	go func() { f.work.Wait(); close(done) }()
	select {
	case <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("the fencer has not ended: %w", ctx.Err())
	}
}

// send tells the fencer all about one process. mu is held.
func (f *Fencer) send(pid int, g *guarded) error {
	line := fmt.Sprintf("guard %d %s\n", pid, g.start)
	if g.adopted {
		line = fmt.Sprintf("adopt %d %s\n", pid, g.start)
	}
	if g.until != 0 {
		line += fmt.Sprintf("until %d %d\n", pid, g.until)
	}
	return f.write(line)
}

// writeWithin bounds a message to the fencer, whose pipe holds a thousand of them: a fencer that is
// stopped must not stop us.
const writeWithin = 20 * time.Millisecond

func (f *Fencer) write(line string) error {
	if f.err != nil {
		return f.err
	}
	if err := f.stdin.SetWriteDeadline(time.Now().Add(writeWithin)); err != nil {
		return fmt.Errorf("tell the fencer: %w", err)
	}
	if _, err := io.WriteString(f.stdin, line); err != nil {
		return fmt.Errorf("tell the fencer: %w", err)
	}
	return nil
}

// startTime is when a process started, in clock ticks since boot: field 22 of /proc/PID/stat.
func startTime(pid int) (string, error) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return "", err
	}
	// The second field is the command's name in parentheses and may hold anything.
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	if len(fields) < 20 {
		return "", fmt.Errorf("/proc/%d/stat has no start time", pid)
	}
	return fields[19], nil
}

// At the end of this process, redis-servers that were told SIGTERM have endWithin before SIGKILL: one that
// ends in order has its file synced, whatever appendfsync its operator has chosen. A server sees SIGTERM
// within 100 ms, and refuses it while it writes its first append-only file after a full sync: hence again,
// every endAgain.
const (
	endWithin = time.Second
	endAgain  = 100 * time.Millisecond
)

// FencerMain is the fencer's life: it obeys the lines of stdin, kills at the deadlines, and when
// stdin ends it ends all that is guarded. It returns the exit code of the process.
func FencerMain(stdin io.Reader) int {
	// What ends the others must not end this one before them.
	signal.Ignore(syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGPIPE)
	w := watchman{fds: map[int]*watched{}}
	timer, err := newTimer()
	if err != nil {
		fmt.Fprintln(os.Stderr, "fencer:", err)
		return 1
	}
	lines, fired := make(chan string), make(chan struct{})
	go func() {
		defer close(lines)
		for s := bufio.NewScanner(stdin); s.Scan(); {
			lines <- s.Text()
		}
	}()
	go func() {
		for timer.wait() {
			fired <- struct{}{}
		}
	}()
	for w.ending == 0 || len(w.fds) > 0 {
		select {
		case line, ok := <-lines:
			if !ok {
				lines, w.ending = nil, BootTime()+endWithin
			} else if err := w.obey(line); err != nil {
				fmt.Fprintln(os.Stderr, "fencer:", err)
			}
		case <-fired:
		}
		timer.set(w.look(BootTime()))
	}
	return 0
}

// watchman is the fencer's state.
type watchman struct {
	fds    map[int]*watched
	ending time.Duration // all that is guarded is being ended, and is dead by then; 0: not yet
}

// watched is one process that the fencer can kill. The pidfd names the process itself: its number
// may have been given to another one.
type watched struct {
	pidfd   int
	until   time.Duration // 0: no deadline
	adopted bool          // it outlives our parent
}

// obey carries out one line: "guard PID START", "adopt PID START", "until PID NANOSECONDS" or "release PID".
func (w *watchman) obey(line string) error {
	var verb, arg string
	var pid int
	if n, err := fmt.Sscan(line, &verb, &pid, &arg); n < 2 {
		return fmt.Errorf("line %q: %w", line, err)
	}
	x := w.fds[pid]
	switch verb {
	case "guard", "adopt":
		return w.guard(pid, arg, verb == "adopt")
	case "until":
		at, err := strconv.ParseInt(arg, 10, 64)
		if err != nil {
			return fmt.Errorf("line %q: %w", line, err)
		}
		if x != nil {
			x.until = time.Duration(at)
		}
	case "release":
		if x != nil {
			w.forget(pid)
		}
	default:
		return fmt.Errorf("line %q: unknown verb", line)
	}
	return nil
}

// guard opens the process, and only then makes sure that it is the one that was meant.
func (w *watchman) guard(pid int, start string, adopted bool) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil // ended meanwhile
	}
	if err != nil {
		return fmt.Errorf("guard %d: %w", pid, err)
	}
	if now, err := startTime(pid); err != nil || now != start {
		return unix.Close(fd) // ended meanwhile; the number is somebody else's
	}
	if old := w.fds[pid]; old != nil {
		_ = unix.Close(old.pidfd)
	}
	w.fds[pid] = &watched{pidfd: fd, adopted: adopted}
	return nil
}

// look does what is due, and returns when to look again, 0 for never. The end of this process moves no
// deadline on: a server whose permit runs out meanwhile is killed then.
func (w *watchman) look(now time.Duration) time.Duration {
	next := time.Duration(0)
	if w.ending != 0 {
		next = now + endAgain
	}
	for pid, x := range w.fds {
		until := x.until
		if w.ending != 0 && x.adopted && until == 0 {
			w.forget(pid) // it has no permit, and is not ours to end
			continue
		}
		if w.ending != 0 && !x.adopted && (until == 0 || until > w.ending) {
			until = w.ending
		}
		switch {
		case until != 0 && until <= now:
			x.signal(unix.SIGKILL)
			w.forget(pid)
			continue
		case w.ending != 0 && x.ended():
			w.forget(pid)
			continue
		case w.ending != 0 && !x.adopted:
			x.signal(unix.SIGTERM)
		}
		if until != 0 && (next == 0 || until < next) {
			next = until
		}
	}
	return next
}

func (w *watchman) forget(pid int) {
	_ = unix.Close(w.fds[pid].pidfd)
	delete(w.fds, pid)
}

// ended reports whether the process has ended, reaped or not.
func (x *watched) ended() bool {
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(x.pidfd), Events: unix.POLLIN}}, 0)
	return n > 0 && err == nil
}

func (x *watched) signal(sig unix.Signal) {
	if err := unix.PidfdSendSignal(x.pidfd, sig, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		fmt.Fprintf(os.Stderr, "fencer: %v: %v\n", sig, err)
	}
}

// alarm is a timer on CLOCK_BOOTTIME: Go's own timers stand still while the machine is suspended.
type alarm struct{ file *os.File }

func newTimer() (alarm, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_BOOTTIME, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return alarm{}, fmt.Errorf("timer: %w", err)
	}
	return alarm{os.NewFile(uintptr(fd), "timer")}, nil
}

// set makes wait return at the given BootTime; 0 sets nothing.
func (a alarm) set(at time.Duration) {
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(at))}
	c, err := a.file.SyscallConn()
	if err == nil {
		err = c.Control(func(fd uintptr) { err = unix.TimerfdSettime(int(fd), unix.TFD_TIMER_ABSTIME, &spec, nil) })
	}
	if err != nil {
		panic(fmt.Sprintf("fencer: set the timer to %v: %v", at, err))
	}
}

// wait reports whether the timer fired.
func (a alarm) wait() bool {
	var count [8]byte
	_, err := a.file.Read(count[:])
	return err == nil
}
