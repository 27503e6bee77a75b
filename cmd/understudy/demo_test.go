package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// output collects what a process prints while it runs.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

func TestTheDemoCleansUpWhenItIsInterrupted(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// A short one: unix sockets lie below it.
	tmp, err := os.MkdirTemp("", "u")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(tmp)
	var out output
	c := exec.Command(self, "demo", "--dir", filepath.Join(t.TempDir(), "drills"))
	c.Args[0] = "understudy" // TestMain runs the program under this name
	c.Env = append(os.Environ(), "TMPDIR="+tmp)
	c.Stdout, c.Stderr = &out, &out
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	deadline := time.After(30 * time.Second)
	for !strings.Contains(out.String(), "healthy") {
		select {
		case <-time.After(10 * time.Millisecond):
		case err := <-ended:
			t.Fatalf("the demo ended: %v\n%s", err, out.String())
		case <-deadline:
			_ = c.Process.Kill()
			t.Fatalf("no load within 30 s:\n%s", out.String())
		}
	}
	if err := c.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	select {
	case <-ended:
	case <-time.After(15 * time.Second):
		_ = c.Process.Kill()
		t.Fatalf("the demo goes on after SIGINT:\n%s", out.String())
	}
	if code := c.ProcessState.ExitCode(); code != exitNo || !strings.Contains(out.String(), "interrupted") {
		t.Errorf("exit code %d:\n%s", code, out.String())
	}
	left, err := os.ReadDir(tmp)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range left {
		t.Errorf("%s is left in the temporary directory", f.Name())
	}
	if dirs, _ := filepath.Glob("/proc/[0-9]*/cwd"); len(dirs) > 0 {
		for _, d := range dirs {
			if at, err := os.Readlink(d); err == nil && strings.HasPrefix(at, tmp) {
				t.Errorf("%s works on in %s", filepath.Dir(d), at)
			}
		}
	}
}
