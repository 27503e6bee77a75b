package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/gomodule/redigo/redis"
)

func listenAnywhere(t *testing.T) *net.TCPListener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l.(*net.TCPListener)
}

// activate starts a proxy as systemd does, with listening sockets from descriptor 3 on.
func activate(t *testing.T, file string, names string, sockets ...*net.TCPListener) (*exec.Cmd, io.Reader, *strings.Builder) {
	t.Helper()
	// The number of the process that is to take them is known inside of it only.
	cmd := exec.Command("sh", "-c", `LISTEN_PID=$$ exec understudy proxy --config "$0"`, file)
	cmd.Env = append(os.Environ(), fmt.Sprintf("LISTEN_FDS=%d", len(sockets)), "LISTEN_FDNAMES="+names)
	for _, l := range sockets {
		f, err := l.File()
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		cmd.ExtraFiles = append(cmd.ExtraFiles, f)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	log := &strings.Builder{}
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, out, log
}

func TestAProxyServesOnTheSocketsOfItsServiceManager(t *testing.T) {
	server := listenAnywhere(t)
	port := server.Addr().(*net.TCPAddr).Port
	_ = server.Close() // redis-server listens there
	r := exec.Command("redis-server", "--bind", "127.0.0.1", "--port", fmt.Sprint(port), "--save", "", "--dir", t.TempDir())
	if err := r.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Process.Kill(); _ = r.Wait() }()
	primary, web := listenAnywhere(t), listenAnywhere(t)
	file := proxyFile(t, fmt.Sprintf("group: main\nrun_dir: run\nlisten: {primary: %q, reader: \"127.0.0.1:0\", split: \"\", http: %q}\nupstream: {static: {primary: \"127.0.0.1:%d\"}}\n",
		primary.Addr(), web.Addr(), port))
	cmd, out, log := activate(t, file, "any:http", primary, web)
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("%v: %s", err, log)
	}
	if !strings.Contains(line, "primary="+primary.Addr().String()) || !strings.Contains(line, "http="+web.Addr().String()) {
		t.Error(line)
	}
	c, err := redis.Dial("tcp", primary.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Do("SET", "k", "v"); err != nil {
		t.Error(err)
	}
	_ = c.Close()
	_ = cmd.Process.Signal(syscall.SIGTERM)
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v: %s", err, log)
	}
}

func TestASocketThatIsForNoEndpointIsRefused(t *testing.T) {
	file := proxyFile(t, "run_dir: run\nlisten: {primary: \"127.0.0.1:0\", reader: \"\", split: \"\", http: \"127.0.0.1:0\"}\nupstream: {static: {primary: \"127.0.0.1:1\"}}\n")
	cmd, out, log := activate(t, file, "x", listenAnywhere(t))
	_, _ = io.Copy(io.Discard, out)
	if err := cmd.Wait(); err == nil || cmd.ProcessState.ExitCode() != exitUsage || !strings.Contains(log.String(), "no endpoint of the configuration has that address") {
		t.Errorf("%v: %s", err, log)
	}
}

func TestASocketIsTakenByItsAddressOrItsName(t *testing.T) {
	l := listenAnywhere(t)
	_, port, _ := net.SplitHostPort(l.Addr().String())
	for _, x := range []struct {
		name, endpoint, addr string
		taken                bool
	}{
		{"understudy.socket", "main/primary", l.Addr().String(), true},
		{"understudy.socket", "main/primary", "127.0.0.1:0", false},
		{"main/primary", "main/primary", "127.0.0.1:0", true},
		{"", "main/primary", "127.0.0.2:" + port, false},
		{"", "main/primary", "localhost:" + port, true},
		{"", "main/primary", "", false},
	} {
		s := &sockets{all: []givenSocket{{x.name, l}}}
		if got := s.take(x.endpoint, x.addr) != nil; got != x.taken || (s.leftOver() == nil) != x.taken {
			t.Errorf("%+v: taken %v, left over %v", x, got, s.leftOver())
		}
	}
}

// TestTheUnitsAreGoodUnits asks systemd itself, where it is installed.
func TestTheUnitsAreGoodUnits(t *testing.T) {
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Skip("SKIPPED: systemd-analyze is not installed, nobody has checked the units in deploy/systemd")
	}
	units, err := filepath.Glob(filepath.Join("..", "..", "deploy", "systemd", "*"))
	if err != nil || len(units) < 4 {
		t.Fatalf("%d units, %v", len(units), err)
	}
	dir := t.TempDir()
	args := []string{"verify", "--man=no", "--recursive-errors=no"}
	for _, unit := range units {
		text, err := os.ReadFile(unit)
		if err != nil {
			t.Fatal(err)
		}
		// The program need not be installed on this machine.
		text = bytes.ReplaceAll(text, []byte("/usr/local/bin/understudy"), []byte("/bin/true"))
		to := filepath.Join(dir, strings.Replace(filepath.Base(unit), "@.", "@jobs.", 1))
		if err := os.WriteFile(to, text, 0o644); err != nil {
			t.Fatal(err)
		}
		args = append(args, to)
	}
	out, err := exec.Command("systemd-analyze", args...).CombinedOutput()
	if err != nil || len(bytes.TrimSpace(out)) > 0 {
		t.Errorf("systemd-analyze: %v\n%s", err, out)
	}
}
