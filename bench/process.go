package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// process is a child of this one. It dies with it, whatever happens.
type process struct {
	cmd    *exec.Cmd
	log    string // file with all that it printed
	exited chan struct{}
}

// start runs a program whose output goes to a file in dir.
func start(dir, name, path string, args ...string) (*process, error) {
	p := &process{cmd: exec.Command(path, args...), log: filepath.Join(dir, name+".log"), exited: make(chan struct{})}
	out, err := os.OpenFile(p.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	defer out.Close()
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = dir, out, out
	// A process group of its own: Ctrl-C reaches this process only, which stops the others in order.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		_ = p.cmd.Wait() // how it ended is in its log
		close(p.exited)
	}()
	return p, nil
}

// writeFile writes a file of a directory that it makes.
func writeFile(dir, name, text string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644)
}

func (p *process) pid() int { return p.cmd.Process.Pid }

func (p *process) running() bool {
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

// end asks the process to end, and kills it when it has not within the given time.
func (p *process) end(sig os.Signal, within time.Duration) error {
	if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("end pid %d: %w", p.pid(), err)
	}
	select {
	case <-p.exited:
		return nil
	case <-time.After(within):
	}
	err := fmt.Errorf("pid %d had not ended %v after %v and was killed; its log ends with: %s", p.pid(), within, sig, p.lastWords())
	_ = p.cmd.Process.Kill()
	<-p.exited
	return err
}

// lastWords is the end of what it printed.
func (p *process) lastWords() string {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-400):])
}

// await asks until done says yes. The error says what was waited for and why it was not there.
func await(ctx context.Context, what string, within time.Duration, done func() error) error {
	return awaitEach(ctx, 20*time.Millisecond, what, within, done)
}

// awaitEach is await that asks as often as it is told.
func awaitEach(ctx context.Context, every time.Duration, what string, within time.Duration, done func() error) error {
	bound, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		err := done()
		if err == nil {
			return nil
		}
		select {
		case <-bound.Done():
			return fmt.Errorf("%s: not within %v: %w", what, within, err)
		case <-tick.C:
		}
	}
}

// freePorts returns n loopback ports that nobody listens on; all are held until the last is found,
// so that they differ.
func freePorts(n int) ([]int, error) {
	ports := make([]int, n)
	for i := range ports {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, fmt.Errorf("a free port: %w", err)
		}
		defer l.Close()
		ports[i] = l.Addr().(*net.TCPAddr).Port
	}
	return ports, nil
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
