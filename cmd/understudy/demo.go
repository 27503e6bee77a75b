package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"understudy/drill"
)

func newDemo() *cobra.Command {
	var dir, ca string
	var l loginFlags
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Start a group, kill its primary under load, and show what clients see",
		Long: `Runs "understudy up" on free ports in a temporary directory, puts an application's load on
it and the same load on a direct connection beside it, kills the primary, prints both side
by side, and removes everything but the report. Exit 0 only when the verdict is pass.
With --password-file the endpoints ask for that password, with --tls-ca, --tls-cert and
--tls-key for TLS, and the load comes in by them.`,
		Example: "  understudy demo\n  understudy demo --password-file /etc/understudy/password",
		Args:    noArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return demo(cmd, dir, l, ca) },
	}
	cmd.Flags().StringVar(&dir, "dir", defaultDrills, "where the report is kept")
	cmd.Flags().StringVar(&l.passwordFile, "password-file", "", "file with the password that the endpoints ask for")
	cmd.Flags().StringVar(&ca, "tls-ca", "", "authority of the endpoints' certificate, which must be good for 127.0.0.1")
	cmd.Flags().StringVar(&l.cert, "tls-cert", "", "certificate of the endpoints")
	cmd.Flags().StringVar(&l.key, "tls-key", "", "its key")
	return cmd
}

func demo(cmd *cobra.Command, reports string, l loginFlags, ca string) (err error) {
	out := cmd.OutOrStdout()
	login, guarded, err := l.demo(ca)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "understudy-demo-")
	if err != nil {
		return usagef("a temporary directory: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	fmt.Fprintln(out, "starting a group of three redis-servers in three zones …")
	ctx, cancel := context.WithCancelCause(cmd.Context())
	defer cancel(nil)
	child, err := startUp(ctx, dir, guarded...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, child.stop()) }()
	go func() {
		<-child.ended
		cancel(errors.New("understudy up ended by itself"))
	}()
	e, err := child.awaitReady(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "ready: clients reach the primary at %s, replicas at %s, both at %s\n\n", e.Primary, e.Reader, e.Split)

	v := newView(out, terminal(out))
	r, err := drill.Run(ctx, drill.Options{
		HTTP: e.HTTP, Login: login, Fault: "kill-primary", Compare: []string{drill.LaneDirect}, Dir: reports, Progress: v.show,
	})
	if err != nil {
		if cmd.Context().Err() == nil && ctx.Err() != nil {
			return child.failed(context.Cause(ctx))
		}
		return drillError(cmd.Context(), err)
	}
	fmt.Fprintln(out)
	if err := printResult(out, r); err != nil {
		return err
	}
	if r.Verdict != drill.Pass {
		return coded{exitNo, fmt.Errorf("the demo's verdict is %s", r.Verdict)}
	}
	return nil
}

// upProcess is an `understudy up` that this process runs and ends.
type upProcess struct {
	dir    string
	cmd    *exec.Cmd
	stdout *bufio.Reader
	ended  chan struct{}
	line   chan string // the first line of stdout; closed when there is none
}

// startUp starts `understudy up` on free ports with its data and log in dir, and with further flags.
func startUp(ctx context.Context, dir string, flags ...string) (*upProcess, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	log, err := os.Create(filepath.Join(dir, "up.log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	const any = "127.0.0.1:0"
	c := exec.Command(self, "up", "--data", filepath.Join(dir, "data"),
		"--primary-addr", any, "--reader-addr", any, "--split-addr", any, "--http-addr", any)
	c.Args = append(c.Args, flags...)
	c.Args[0] = "understudy"
	c.Stderr = log
	// Its own process group: a Ctrl-C on the terminal is for us, who end it in order. When we are
	// killed it ends in order, too.
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	pipe, err := c.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start understudy up: %w", err)
	}
	p := &upProcess{dir: dir, cmd: c, stdout: bufio.NewReader(pipe), ended: make(chan struct{}), line: make(chan string, 1)}
	started := make(chan error)
	go func() {
		// Pdeathsig fires when the thread that forked ends, so that one stays until the child has.
		runtime.LockOSThread()
		defer close(p.ended)
		err := ctx.Err()
		if err == nil {
			err = c.Start()
		}
		started <- err
		if err != nil {
			return
		}
		if line, err := p.stdout.ReadString('\n'); err == nil {
			p.line <- line
		}
		close(p.line)
		_, _ = io.Copy(io.Discard, p.stdout)
		_ = c.Wait() // how it ended is in its log
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start understudy up: %w", err)
	}
	return p, nil
}

// startWithin bounds the start of a group on an empty directory: ten times what it takes.
const startWithin = 20 * time.Second

// awaitReady returns the endpoints that `up` prints.
func (p *upProcess) awaitReady(ctx context.Context) (instance, error) {
	limit := time.NewTimer(startWithin)
	defer limit.Stop()
	var i instance
	select {
	case line, ok := <-p.line:
		if !ok {
			return i, p.failed(errors.New("it ended before it was ready"))
		}
		for word := range strings.FieldsSeq(line) {
			switch name, value, _ := strings.Cut(word, "="); name {
			case "primary":
				i.Primary = value
			case "reader":
				i.Reader = value
			case "split":
				i.Split = value
			case "http":
				i.HTTP = value
			}
		}
		return i, nil
	case <-limit.C:
		return i, p.failed(fmt.Errorf("it was not ready within %v", startWithin))
	case <-ctx.Done():
		return i, coded{exitNo, errors.New("interrupted")}
	}
}

// failed adds the end of the child's log to what went wrong.
func (p *upProcess) failed(err error) error {
	text, readErr := os.ReadFile(filepath.Join(p.dir, "up.log"))
	if readErr != nil {
		return fmt.Errorf("understudy up: %w", err)
	}
	const shown = 2000
	text = bytes.TrimSpace(text[max(0, len(text)-shown):])
	code := exitNo
	if bytes.HasPrefix(text, []byte("understudy: ")) {
		code = exitUsage // one line: it refused to start
	}
	return coded{code, fmt.Errorf("understudy up: %w: %s", err, text)}
}

// stop ends the child in order, and by force when it does not end.
func (p *upProcess) stop() error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // gone already: then ended is closed
	limit := time.NewTimer(stopWithin + time.Second)
	defer limit.Stop()
	select {
	case <-p.ended:
		return nil
	case <-limit.C:
	}
	_ = p.cmd.Process.Kill()
	<-p.ended
	return errors.New("understudy up did not stop in time and was killed")
}
