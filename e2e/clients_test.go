package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// Real clients, unmodified, through what happens to a group and to their sockets: `make clients`. The programs
// are in clients/, a folder a language; each uses its library as applications do, counts its own errors and
// checks its own results.

var (
	clientsWanted = flag.String("clients", "", `run real clients through the matrix: "all", or names separated by commas`)
	clientsPage   = flag.String("docs", "", "page that the matrix, or the result of the suites, is written to; paths are from this folder")
)

// realClient is a library, or an application built on one, with the program that uses it.
type realClient struct {
	name, uses string
	run        []string
	needs      string   // where it comes from
	probe      []string // succeeds when it is there
}

// pythonOfClients is the interpreter that has the libraries.
func pythonOfClients() string {
	if exec.Command("python3", "-c", "import redis, rq, celery").Run() == nil {
		return "python3"
	}
	return "/usr/bin/python3" // the one that apt's libraries are for
}

// realClients are all of them; python is an interpreter, goClients the program of clients/go.
func realClients(python, goClients string) []realClient {
	in := func(name, uses, needs string, probe []string, run ...string) realClient {
		return realClient{name: name, uses: uses, run: run, needs: needs, probe: probe}
	}
	php := func(class string) []string {
		return []string{"php", "-r", "@include 'Predis/autoload.php'; @include 'Illuminate/Queue/autoload.php'; exit(class_exists('" + class + "') ? 0 : 1);"}
	}
	py := func(module string) []string { return []string{python, "-c", "import " + module} }
	node := func(module string) []string {
		return []string{"node", "-e", "require('./clients/node/node_modules/" + module + "')"}
	}
	const npm = "npm ci --prefix e2e/clients/node"
	const plain = "values, counter, queue with BRPOP, transaction, pipeline; primary, split, reader"
	const pubsub = plain + "; pub/sub"
	return []realClient{
		in("phpredis connect", plain, "apt: php-redis", php("Redis"), "php", "clients/php/plain.php", "connect"),
		in("phpredis pconnect", plain, "apt: php-redis", php("Redis"), "php", "clients/php/plain.php", "pconnect"),
		in("phpredis sessions", "PHP's session handler with locking, four requests of one visitor at a time", "apt: php-redis", php("Redis"), "php", "clients/php/session.php"),
		in("Predis", plain, "apt: php-nrk-predis", php(`Predis\Client`), "php", "clients/php/plain.php", "predis"),
		in("Laravel with phpredis", "cache (split endpoint), locks, queue with its worker", "apt: php-illuminate-queue php-illuminate-cache php-illuminate-redis", php(`Illuminate\Queue\Worker`), "php", "clients/php/laravel.php", "phpredis"),
		in("Laravel with Predis", "the same", "apt: php-illuminate-queue php-illuminate-cache php-illuminate-redis php-nrk-predis", php(`Illuminate\Queue\Worker`), "php", "clients/php/laravel.php", "predis"),
		in("redis-py", pubsub+"; a script", "apt: python3-redis", py("redis"), python, "-B", "clients/python/redis_py.py"),
		in("rq", "queue with its worker", "apt: python3-rq", py("rq"), python, "-B", "clients/python/rq_app.py"),
		in("celery", "broker and results, prefork worker", "apt: python3-celery", py("celery"), python, "-B", "clients/python/celery_app.py"),
		in("redis-rb", pubsub, "apt: ruby-redis", []string{"ruby", "-e", `require "redis"`}, "ruby", "clients/ruby/redis_rb.rb"),
		in("Sidekiq", "queue and scheduled jobs with its worker", "apt: ruby-sidekiq", []string{"ruby", "-e", `require "sidekiq"`}, "ruby", "clients/ruby/sidekiq_app.rb"),
		in("ioredis", pubsub, npm, node("ioredis"), "node", "clients/node/plain.js", "ioredis"),
		in("node-redis", pubsub, npm, node("redis"), "node", "clients/node/plain.js", "redis"),
		in("BullMQ", "queue and delayed jobs with its worker", npm, node("bullmq"), "node", "clients/node/bullmq.js"),
		in("go-redis", pubsub, "Go module proxy", []string{goClients}, goClients, "go-redis"),
		in("rueidis", pubsub+"; cache with CLIENT TRACKING", "Go module proxy", []string{goClients}, goClients, "rueidis"),
		in("asynq", "queue and later tasks with its worker", "Go module proxy", []string{goClients}, goClients, "asynq"),
		in("redigo", pubsub, "Go module proxy", []string{goClients}, goClients, "redigo"),
		in("redis-cli", "values, counter; one that lives on, one a command, SUBSCRIBE; primary, split, reader", "apt: redis-tools", []string{"redis-cli", "--version"}, "bash", "clients/shell/redis_cli.sh"),
	}
}

// missing says why a client cannot run; "": it can. A Go program without arguments says how it is used, with
// exit 2.
func (c realClient) missing() string {
	out, err := exec.Command(c.probe[0], c.probe[1:]...).CombinedOutput()
	var exit *exec.ExitError
	if err == nil || errors.As(err, &exit) && exit.ExitCode() == 2 && len(c.probe) == 1 {
		return ""
	}
	return fmt.Sprintf("%s is not installed (%s): %v %s", c.name, c.needs, err, out)
}

// leg is one thing that a client goes through.
type leg struct {
	name  string
	does  func(*Group, *running)
	rest  time.Duration // between two rounds of the client
	relay bool          // its sockets go through something that closes those that are idle
}

// Between two rounds a client rests for longer than the relay lets a socket be idle, so that each round finds
// its sockets closed. That is longer than the 2 s for which queue workers wait in BRPOP, as it is in networks
// (AWS: 350 s).
const (
	relayIdle = 2500 * time.Millisecond
	idleRest  = 3500 * time.Millisecond
	busyRest  = 5 * time.Millisecond
)

var legs = []leg{
	{name: "crash", rest: busyRest, does: func(g *Group, _ *running) { g.crash() }},
	{name: "hang", rest: busyRest, does: func(g *Group, _ *running) { g.WaitForPrimary(g.HangPrimary()) }},
	{name: "switchover", rest: busyRest, does: func(g *Group, _ *running) {
		before := g.Status()
		if out, code := g.cli("switchover"); code != 0 {
			g.t.Errorf("switchover: exit %d: %s", code, out)
		}
		g.WaitForPrimary(before)
	}},
	{name: "idle sockets cut", rest: idleRest, relay: true, does: func(_ *Group, r *running) { r.awaitCuts() }},
}

// clientSaw is what a program prints at its end, and what the group says of the same time.
type clientSaw struct {
	Version, Note          string
	Ops, Failed            int
	Errors                 []string
	Unknown, Lost, Doubled int
	LongestMs              float64 `json:"longest_ms"`

	leaked float64 // errors of a failover that the proxy let through, whoever they met
	broken string  // why there is no result
}

// mostUnknown is how many outcomes of one change may be unknown: one for each socket on which a command that must
// not run twice was under way alone. Sidekiq with its producer has five such.
const mostUnknown = 5

func (s clientSaw) fine() bool {
	return s.broken == "" && s.Failed == 0 && s.Lost == 0 && s.Doubled == 0 && s.Ops > 0 && s.leaked == 0 && s.Unknown <= mostUnknown
}

func (s clientSaw) String() string {
	if s.broken != "" {
		return s.broken
	}
	return fmt.Sprintf("%s: %d operations, %d errors, %d unknown, %d lost, %d doubled, the longest took %.0f ms (%s)",
		s.Version, s.Ops, s.Failed, s.Unknown, s.Lost, s.Doubled, s.LongestMs, s.Note)
}

// TestRealClients is the matrix: each client, each leg.
func TestRealClients(t *testing.T) {
	if *clientsWanted == "" {
		t.Skip("make clients runs it; TestUnmodifiedClientsNoticeNothingOfACrash is its short form")
	}
	goClients := filepath.Join(t.TempDir(), "clients")
	build := exec.Command("go", "build", "-o", goClients, ".")
	build.Dir = "clients/go"
	if out, err := build.CombinedOutput(); err != nil {
		t.Errorf("NOT TESTED: the Go clients: %v\n%s", err, out)
	}
	m := &matrix{began: time.Now(), load: loadAverage(t)}
	for _, c := range realClients(pythonOfClients(), goClients) {
		if *clientsWanted != "all" && !slices.Contains(strings.Split(*clientsWanted, ","), c.name) {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			row := row{client: c, saw: map[string]clientSaw{}}
			defer func() { m.rows = append(m.rows, row) }()
			if row.missing = c.missing(); row.missing != "" {
				t.Fatal("NOT TESTED: " + row.missing)
			}
			g := StartGroup(t)
			for _, l := range legs {
				g.WaitAvailable()
				saw := c.through(g, l)
				row.saw[l.name] = saw
				t.Logf("%s, %s: %v", c.name, l.name, saw)
				if !saw.fine() {
					t.Errorf("%s, %s: %v, %.0f errors leaked:\n\t%s", c.name, l.name, saw, saw.leaked, strings.Join(saw.Errors, "\n\t"))
				}
			}
		})
	}
	if *clientsPage != "" {
		must(t, m.write(*clientsPage, *clientsWanted == "all"))
	}
}

// running is a client's program, and what is between it and the group.
type running struct {
	t      *testing.T
	rounds atomic.Int64
	relays []*relay
	ended  chan struct{}
	last   string // its last line that is not of a round; read after ended
	err    error
}

// through runs the program from before a leg's event to a while after it.
func (c realClient) through(g *Group, l leg) (saw clientSaw) {
	t := g.t
	dir := t.TempDir()
	r := &running{t: t, ended: make(chan struct{})}
	leaked := metric(t, g, "understudy_proxy_leaked_errors_total")
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, c.run[0], c.run[1:]...)
	stop := filepath.Join(dir, "stop")
	cmd.Env = append(os.Environ(), "CLIENT_DIR="+dir, "CLIENT_STOP="+stop, "CLIENT_KEY=c:"+strings.ReplaceAll(l.name, " ", "-"),
		fmt.Sprintf("CLIENT_PAUSE_MS=%d", l.rest.Milliseconds()), "CLIENT_HOST=127.0.0.1")
	for name, addr := range map[string]string{"PRIMARY": g.Primary, "READER": g.Reader, "SPLIT": g.Split} {
		_, port, err := net.SplitHostPort(r.way(l, addr))
		must(t, err)
		cmd.Env = append(cmd.Env, "CLIENT_"+name+"_PORT="+port)
	}
	defer func() {
		for _, x := range r.relays {
			x.close()
		}
	}()
	stderr := &strings.Builder{}
	cmd.Stderr = stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // its workers end with it, whatever happens
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	must(t, r.start(cmd))
	defer func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }() // nothing is left when all went well
	if r.more(20, l) {
		l.does(g, r)
		r.more(50, l)
	}
	must(t, os.WriteFile(stop, nil, 0o600))
	<-r.ended
	if err := json.Unmarshal([]byte(r.last), &saw); err != nil || r.err != nil {
		saw.broken = fmt.Sprintf("ended with %v, printed %q, and said: %s", r.err, r.last, tail(stderr.String(), 1500))
	}
	if l.relay && r.cuts() == 0 {
		saw.Note = strings.TrimPrefix(saw.Note+"; no socket was idle: it sends PING by itself", "; ")
	}
	saw.leaked = metric(t, g, "understudy_proxy_leaked_errors_total") - leaked
	if !saw.fine() {
		t.Logf("%s said: %s", c.name, tail(stderr.String(), 3000))
	}
	return saw
}

func tail(text string, most int) string { return text[max(0, len(text)-most):] }

// way is the address at which the client finds an endpoint.
func (r *running) way(l leg, addr string) string {
	if !l.relay {
		return addr
	}
	x := startRelay(r.t, addr)
	r.relays = append(r.relays, x)
	return x.addr()
}

func (r *running) start(cmd *exec.Cmd) error {
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	go func() {
		defer close(r.ended)
		lines := bufio.NewScanner(out)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			if lines.Text() == "round" {
				r.rounds.Add(1)
			} else {
				r.last = lines.Text()
			}
		}
		r.err = cmd.Wait()
	}()
	return nil
}

// more waits until the client has finished more rounds: so many, or, when it rests between them, two. False: it
// has ended instead.
func (r *running) more(n int64, l leg) bool {
	if l.rest > busyRest {
		n = 2
	}
	want := r.rounds.Load() + n
	return r.await(fmt.Sprintf("%d more rounds", n), func() bool { return r.rounds.Load() >= want })
}

// awaitCuts waits until sockets were cut, at most for three rounds: some libraries send PING by themselves, and
// no socket of theirs is ever idle.
func (r *running) awaitCuts() {
	most := r.rounds.Load() + 3
	r.await("a cut", func() bool { return r.cuts() > 0 || r.rounds.Load() >= most })
}

func (r *running) cuts() (n int64) {
	for _, x := range r.relays {
		n += x.cuts.Load()
	}
	return n
}

// clientPatience is how long a program may take for its next rounds: starting one with its workers takes seconds.
const clientPatience = time.Minute

func (r *running) await(what string, ok func() bool) bool {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.Now().Add(clientPatience)
	for !ok() {
		select {
		case <-r.ended:
			return false
		case <-tick.C:
		}
		if time.Now().After(deadline) {
			r.t.Errorf("not within %v: %s", clientPatience, what)
			return false
		}
	}
	return true
}
