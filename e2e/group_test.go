package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// patience bounds every wait for something that takes a fraction of a second on an idle machine.
const patience = 20 * time.Second

// program is the binary under test: built once a run, with the crashes that a test can arm, or the one
// that UNDERSTUDY_PROGRAM names.
var program = os.Getenv("UNDERSTUDY_PROGRAM")

func TestMain(m *testing.M) {
	// The process is where its first thread is: that one must never enter a zone for a test's socket.
	runtime.LockOSThread()
	dir, err := os.MkdirTemp("", "understudy-e2e-")
	if err == nil && program == "" {
		program = filepath.Join(dir, "understudy")
		build := exec.Command("go", "build", "-tags", "failpoint", "-o", program, "understudy/cmd/understudy")
		build.Stderr = os.Stderr
		err = build.Run()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "build the program under test:", err)
		os.Exit(1)
	}
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// Status is what INTERFACE promises of `understudy status --json`, written down here a second time
// so that a renamed field fails a test.
type Status struct {
	Group, State, Durability, Profile, Primary string

	Epoch     uint64
	Nodes     []Node
	Endpoints Endpoints
	Last      *Change `json:"last_failover"`
}

// Endpoints are the addresses that clients use.
type Endpoints struct{ Primary, Reader, Split, HTTP string }

// Node is one node of a Status.
type Node struct {
	ID, Zone, Role, State, Addr, Reason string

	PID       int `json:"pid"`
	AgentPID  int `json:"agent_pid"`
	Electable bool
}

// Change is the newest change of primary.
type Change struct {
	Epoch                 uint64
	Kind, Cause, From, To string
	Started               time.Time
	DurationMs            float64            `json:"duration_ms"`
	Phases                map[string]float64 `json:"phases_ms"`
	LostBytes             int64              `json:"lost_bytes"`
}

// node finds a node by its id.
func (s Status) node(id string) Node {
	for _, n := range s.Nodes {
		if n.ID == id {
			return n
		}
	}
	return Node{}
}

// replicas are the nodes that do not lead.
func (s Status) replicas() []Node {
	var out []Node
	for _, n := range s.Nodes {
		if n.ID != s.Primary {
			out = append(out, n)
		}
	}
	return out
}

// Group is an `understudy up` that a test runs.
type Group struct {
	t *testing.T
	Endpoints
	Data  string
	PID   int
	Ready time.Duration // from the start of the process to its ready line

	up *up
}

// StartGroup runs a group on free ports and an empty directory until the test ends, and then
// demands that it ends in order and leaves no process behind. args are further flags of `up`.
func StartGroup(t *testing.T, args ...string) *Group {
	t.Helper()
	return StartGroupOn(t, filepath.Join(t.TempDir(), "data"), args...)
}

// StartGroupOn is StartGroup on a directory that may have data.
func StartGroupOn(t *testing.T, data string, args ...string) *Group {
	t.Helper()
	u := startUp(t, data, args...)
	g := &Group{t: t, Data: data, PID: u.cmd.Process.Pid, up: u}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("log of understudy up, process %d:\n%s", g.PID, u.log())
		}
	})
	t.Cleanup(func() { g.Stop() })
	select {
	case line, ok := <-u.line:
		if !ok {
			t.Fatalf("understudy up ended before it was ready:\n%s", u.log())
		}
		g.Ready = time.Since(u.started)
		g.Endpoints = parseReady(t, line)
	case <-time.After(patience):
		t.Fatalf("understudy up was not ready after %v", patience)
	}
	return g
}

// parseReady reads the line that `up` prints.
func parseReady(t *testing.T, line string) Endpoints {
	t.Helper()
	words := strings.Fields(line)
	if len(words) == 0 || words[0] != "ready" {
		t.Fatalf("the first line is %q, not the ready line", line)
	}
	at := map[string]string{}
	for _, w := range words[1:] {
		name, value, _ := strings.Cut(w, "=")
		at[name] = value
	}
	e := Endpoints{Primary: at["primary"], Reader: at["reader"], Split: at["split"], HTTP: at["http"]}
	if e.Primary == "" || e.Reader == "" || e.Split == "" || e.HTTP == "" {
		t.Fatalf("the ready line lacks an endpoint: %q", line)
	}
	return e
}

// up is a process of the program: `understudy up`, mostly.
type up struct {
	cmd     *exec.Cmd
	started time.Time
	line    chan string   // its first line of output; closed when there is none
	ended   chan struct{} // closed when it has been waited for

	mu     sync.Mutex
	stderr bytes.Buffer
}

// Write takes its log.
func (u *up) Write(p []byte) (int, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.stderr.Write(p)
}

func (u *up) log() string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.stderr.String()
}

// freePorts are flags that put every endpoint on any free port.
var freePorts = []string{
	"--primary-addr", "127.0.0.1:0", "--reader-addr", "127.0.0.1:0",
	"--split-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0",
}

// startUp starts `understudy up`, and kills it at the latest when the test ends.
func startUp(t *testing.T, data string, args ...string) *up {
	t.Helper()
	return startProgram(t, exec.Command(program, append(append([]string{"up", "--data", data}, freePorts...), args...)...))
}

// startProgram starts a process that prints a line when it is ready, and kills it at the latest when the
// test ends.
func startProgram(t *testing.T, cmd *exec.Cmd) *up {
	t.Helper()
	u := &up{cmd: cmd, line: make(chan string, 1), ended: make(chan struct{})}
	u.cmd.Stderr = u
	// Ctrl-C on the test run must not reach it before the test has looked at it.
	u.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := u.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	u.started = time.Now()
	if err := u.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(u.ended)
		var all bytes.Buffer
		told := false
		p := make([]byte, 4096)
		for {
			n, err := out.Read(p)
			all.Write(p[:n])
			if text, _, whole := strings.Cut(all.String(), "\n"); whole && !told {
				told = true
				u.line <- text
			}
			if err != nil {
				break
			}
		}
		close(u.line)
		_ = u.cmd.Wait() // how it ended is in ProcessState
	}()
	t.Cleanup(func() {
		_ = u.cmd.Process.Kill() // it has ended already when all went well
		<-u.ended
	})
	return u
}

// running reports whether the process has not been waited for.
func (u *up) running() bool {
	select {
	case <-u.ended:
		return false
	default:
		return true
	}
}

// Stop ends the group as Ctrl-C does, and demands exit 0 within 5 s and that no process of it is
// left. It returns how long that took; on a group that has ended it does nothing.
func (g *Group) Stop() time.Duration {
	g.t.Helper()
	if !g.up.running() {
		return 0
	}
	family := g.processes()
	begin := time.Now()
	if err := g.up.cmd.Process.Signal(os.Interrupt); err != nil {
		g.t.Errorf("interrupt understudy up: %v", err)
	}
	select {
	case <-g.up.ended:
	case <-time.After(patience):
		g.t.Fatalf("understudy up has not stopped %v after Ctrl-C", patience)
	}
	took := time.Since(begin)
	if took > 5*time.Second {
		g.t.Errorf("Ctrl-C took %v, more than 5 s", took)
	}
	if code := g.up.cmd.ProcessState.ExitCode(); code != 0 {
		g.t.Errorf("understudy up ended with %v after Ctrl-C", g.up.cmd.ProcessState)
	}
	g.demandGone(family, 0)
	return took
}

// Kill ends `understudy up` as the kernel's out-of-memory killer does, and demands that its whole
// family goes with it.
func (g *Group) Kill() {
	g.t.Helper()
	family := g.processes()
	if err := g.up.cmd.Process.Kill(); err != nil {
		g.t.Fatal(err)
	}
	<-g.up.ended
	g.demandGone(family, 2*time.Second)
}

// Status asks over HTTP.
func (g *Group) Status() Status {
	g.t.Helper()
	s, err := g.status()
	if err != nil {
		g.t.Fatal(err)
	}
	return s
}

func (g *Group) status() (Status, error) {
	var s Status
	body, code, err := g.get("/api/status")
	if err != nil {
		return s, err
	}
	if code != http.StatusOK {
		return s, fmt.Errorf("/api/status answers %d: %s", code, body)
	}
	return s, json.Unmarshal(body, &s)
}

// get fetches a path of the HTTP endpoint.
func (g *Group) get(path string) (body []byte, code int, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+g.HTTP+path, nil)
	if err != nil {
		return nil, 0, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, 0, err
	}
	defer resp.Body.Close()
	var b bytes.Buffer
	_, err = b.ReadFrom(resp.Body)
	return b.Bytes(), resp.StatusCode, err
}

// cli runs a subcommand against the group.
func (g *Group) cli(args ...string) (stdout string, code int) {
	g.t.Helper()
	out, text, code := run(g.t, append(args, "--data", g.Data)...)
	if code != 0 {
		g.t.Logf("understudy %s: exit %d: %s", strings.Join(args, " "), code, text)
	}
	return out, code
}

// run runs the program to its end.
func run(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var out, text bytes.Buffer
	c := exec.CommandContext(ctx, program, args...)
	c.Stdout, c.Stderr = &out, &text
	err := c.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) || ctx.Err() != nil {
		t.Fatalf("understudy %s: %v %v", strings.Join(args, " "), err, ctx.Err())
	}
	return out.String(), text.String(), c.ProcessState.ExitCode()
}

// signalPrimary sends a signal to the primary's redis-server and returns the group as it was.
func (g *Group) signalPrimary(sig syscall.Signal) Status {
	g.t.Helper()
	s := g.Status()
	n := s.node(s.Primary)
	if n.PID == 0 {
		g.t.Fatalf("there is no primary to signal: %+v", s)
	}
	if err := syscall.Kill(n.PID, sig); err != nil {
		g.t.Fatalf("signal %s (pid %d): %v", n.ID, n.PID, err)
	}
	return s
}

// KillPrimary kills the primary's redis-server and returns the group as it was before.
func (g *Group) KillPrimary() Status { g.t.Helper(); return g.signalPrimary(syscall.SIGKILL) }

// HangPrimary stops the primary's redis-server, so that it lives and says nothing.
func (g *Group) HangPrimary() Status { g.t.Helper(); return g.signalPrimary(syscall.SIGSTOP) }

// WaitForPrimary waits for a primary of a newer epoch than before's.
func (g *Group) WaitForPrimary(before Status) Status {
	g.t.Helper()
	return g.wait("a new primary", func(s Status) bool { return s.Primary != "" && s.Epoch > before.Epoch })
}

// WaitAvailable waits until every node is ready.
func (g *Group) WaitAvailable() Status {
	g.t.Helper()
	return g.wait("the state available", func(s Status) bool { return s.State == "available" })
}

func (g *Group) wait(what string, ok func(Status) bool) Status {
	g.t.Helper()
	var last Status
	eventually(g.t, what, func() error {
		s, err := g.status()
		if err != nil {
			return err
		}
		if last = s; !ok(s) {
			return fmt.Errorf("the status is %+v", s)
		}
		return nil
	})
	return last
}

// eventually waits until ok returns nil, at most for patience.
func eventually(t *testing.T, what string, ok func() error) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.Now().Add(patience)
	for {
		err := ok()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("waited %v for %s: %v", patience, what, err)
		}
		<-tick.C
	}
}

// client is go-redis with one connection and without retries: what goes wrong shows.
func client(t *testing.T, addr string) *redis.Client {
	t.Helper()
	return place{addr: addr}.client(t)
}

func (p place) client(t *testing.T) *redis.Client {
	t.Helper()
	o := redis.Options{Addr: p.addr, MaxRetries: -1, PoolSize: 1, DialerRetries: 1, ReadTimeout: 10 * time.Second}
	if p.zone != nil {
		o.Dialer = p.zone.Dial
	}
	c := redis.NewClient(&o)
	t.Cleanup(func() { _ = c.Close() })
	return c
}
