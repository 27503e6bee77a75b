package redis

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// TestMain lets this executable also be the fencer, and a parent that gets killed.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case FencerArg:
			os.Exit(FencerMain(os.Stdin))
		case "parent":
			if err := parent(os.Args[2], os.Args[3] == "guarded"); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			return
		}
	}
	os.Exit(m.Run())
}

// parent is a program as `understudy up` is one: it starts a redis-server, a fencer and a process that
// only the fencer will end, says which they are, and hangs on.
func parent(dir string, isGuarded bool) error {
	binary, err := FindServer(contextOf(), "")
	if err != nil {
		return err
	}
	o := serverOptions(binary, dir)
	o.Guarded = isGuarded
	s, err := Start(o)
	if err != nil {
		return err
	}
	if err := answers(s); err != nil {
		return err
	}
	f, err := StartFencer(FencerOptions{})
	if err != nil {
		return err
	}
	sleeper := exec.Command("sleep", "60")
	if err := sleeper.Start(); err != nil {
		return err
	}
	// The server is left to PDEATHSIG, the other process to the fencer: each is tested by itself.
	if err := errors.Join(f.Guard(sleeper.Process.Pid), f.Until(sleeper.Process.Pid, time.Second)); err != nil {
		return err
	}
	fmt.Println(s.PID(), sleeper.Process.Pid, f.PID())
	select {
	case <-s.Exited():
		return errors.New("redis-server ended")
	case <-time.After(time.Minute):
		return nil
	}
}

// answers waits until the server's own handling of signals is in place.
func answers(s *Server) error {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for limit := time.After(5 * time.Second); ; {
		c, err := Dial(contextOf(), s.opts.Socket)
		if err == nil {
			err = errors.Join(c.Ping(contextOf()), c.Close())
		}
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-limit:
			return err
		}
	}
}

// family is what a parent said of its children.
type family struct {
	parent                  *exec.Cmd
	dir                     string
	server, sleeper, fencer int
}

func startFamily(t *testing.T, guarded bool) family {
	t.Helper()
	needServer(t)
	f := family{dir: shortDir(t)}
	f.parent = exec.Command("/proc/self/exe", "parent", f.dir, map[bool]string{true: "guarded", false: "alone"}[guarded])
	f.parent.Stderr = os.Stderr
	out, err := f.parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := f.parent.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.parent.Process.Kill(); _ = f.parent.Wait() })
	if _, err := fmt.Fscan(bufio.NewReader(out), &f.server, &f.sleeper, &f.fencer); err != nil {
		t.Fatalf("the parent does not start: %v", err)
	}
	return f
}

// waitGone waits until the process has ended; a zombie that nobody reaps has ended.
func waitGone(t *testing.T, what string, pid int) {
	t.Helper()
	waitFor(t, fmt.Sprintf("%s %d is gone", what, pid), func() bool { return !alive(pid) })
}

func alive(pid int) bool {
	if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		return false
	}
	text, err := os.ReadFile(filepath.Join("/proc", fmt.Sprint(pid), "stat"))
	if err != nil {
		return false
	}
	var id int
	var name, state string
	if _, err := fmt.Sscan(string(text), &id, &name, &state); err != nil {
		return true
	}
	return state != "Z"
}

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for limit := time.After(5 * time.Second); !ok(); {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("not within 5 s: %s", what)
		}
	}
}
