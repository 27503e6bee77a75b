package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"understudy/resp"
)

// The proxies that are measured beside each other, all before one redis-server without replicas and
// without persistence.
const (
	viaUnderstudy = "understudy"
	viaTwemproxy  = "twemproxy"
	viaHAProxy    = "haproxy"
)

var rivals = []string{laneDirect, viaUnderstudy, viaTwemproxy, viaHAProxy}

// proxyCase is one load that all rivals carry in turn.
type proxyCase struct {
	name                  string
	connections, pipeline int
	valueSize             int
	keys                  int
	goal                  float64 // the least ratio of Understudy to a direct connection
}

// The cases and goals of the issue that asked for this.
var proxyCases = []proxyCase{
	{"50 connections", 50, 1, 100, keySpace, 1.20},
	{"50, pipelined 16", 50, 16, 100, keySpace, 0.90},
	{"1 connection", 1, 1, 100, keySpace, 0.75},
	{"1000 connections", 1000, 1, 100, keySpace, 1.15},
	{"50, 16 KiB values", 50, 1, 16 << 10, 500, 0.80},
}

const (
	caseSync  = "sync"
	caseSplit = "split"
	caseOpen  = "open"
	// goalCPU is the most that Understudy may use in the first case, in CPU seconds per million requests.
	goalCPU = 6.3
	// goalSync is the least ratio of sync to async durability, with 50 connections.
	goalSync = 0.80
	// The split endpoint beside the primary endpoint: the least rate, and the most of the primary's CPU.
	goalSplit, goalSplitCPU = 1.0, 0.5
	// openRate is that of the open loop, in requests a second, and goalAdded what the proxy may add to p99, in ms.
	openRate, goalAdded = 20_000, 0.1
	// memtierWrites is memtier_benchmark's usual share of SETs, 1:10; splitWrites is that of the split case.
	memtierWrites = 1.0 / 11
	splitWrites   = 0.1
	// mixFor is how long one load of our own lasts.
	mixFor = 400 * time.Millisecond
	// openFor is how long an open loop lasts: 20,000 requests, so that p99 is the 200th slowest.
	openFor = time.Second
)

// openCase is the open loop's name in the report.
const openCase = "open loop"

// caseNames are what -cases takes.
func caseNames() []string {
	var names []string
	for _, c := range proxyCases {
		names = append(names, c.short())
	}
	return append(names, caseSync, caseSplit, caseOpen)
}

// short names a case on the command line: connections, pipeline, size.
func (c proxyCase) short() string {
	switch {
	case c.pipeline > 1:
		return fmt.Sprintf("%dx%d", c.connections, c.pipeline)
	case c.valueSize > valueSize:
		return fmt.Sprintf("%dKiB", c.valueSize>>10)
	default:
		return strconv.Itoa(c.connections)
	}
}

// proxies is what was measured, by case and load.
type proxies struct {
	Rivals []string    `json:"rivals"`
	Runs   []*proxyRun `json:"runs"`
	Peers  []peerBuild `json:"peers"`
}

// peerBuild says which build of a peer was measured.
type peerBuild struct {
	Name    string `json:"name"`
	Version string `json:"version"`
}

// proxyRun is one load on some lanes, side by side, round by round.
type proxyRun struct {
	Case  string                   `json:"case"`
	Load  string                   `json:"load"`
	Goal  float64                  `json:"goal,omitempty"`
	Lanes map[string][]proxyFigure `json:"lanes"` // by round
}

// proxyFigure is a figure with what the processes used for it, in CPU seconds per million requests.
type proxyFigure struct {
	figure
	ProxyCPU  float64 `json:"proxy_cpu_seconds_per_million"`
	ServerCPU float64 `json:"server_cpu_seconds_per_million"` // of the redis-server that is the primary
}

// stage is what a load can be put on: by lane, an address, and whose CPU counts.
type stage struct {
	addrs  map[string]string
	proxy  map[string]int // pid
	server map[string]int // pid
	ends   []*process
}

func (s *stage) end() error {
	var errs []error
	for _, p := range slices.Backward(s.ends) {
		errs = append(errs, p.end(syscall.SIGTERM, 5*time.Second))
	}
	return errors.Join(errs...)
}

func (s *stage) add(lane, addr string, proxy, server int) {
	s.addrs[lane], s.proxy[lane], s.server[lane] = addr, proxy, server
}

func newStage() *stage {
	return &stage{addrs: map[string]string{}, proxy: map[string]int{}, server: map[string]int{}}
}

func (b *bench) measureProxies(ctx context.Context) error {
	p := &proxies{Rivals: rivals}
	b.report.Proxies = p
	var errs []error
	if slices.ContainsFunc(caseNames(), func(name string) bool { return name != caseSync && name != caseSplit && b.wants(name) }) {
		errs = append(errs, b.measureRivals(ctx, p))
	}
	if b.wants(caseSplit) {
		errs = append(errs, b.measureSplit(ctx, p))
	}
	if b.wants(caseSync) {
		errs = append(errs, b.measureSync(ctx, p))
	}
	return errors.Join(errs...)
}

func (b *bench) wants(name string) bool { return len(b.cases) == 0 || slices.Contains(b.cases, name) }

// measureRivals takes turns between the proxies, case by case, so that each figure has its partner a
// moment apart.
func (b *bench) measureRivals(ctx context.Context, p *proxies) (err error) {
	s, err := b.stageRivals(ctx, p)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.end()) }()
	for _, c := range proxyCases {
		if !b.wants(c.short()) {
			continue
		}
		if err := b.measureCase(ctx, p, s, c); err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
	}
	if !b.wants(caseOpen) {
		return nil
	}
	m := mix{connections: 50, pipeline: 1, valueSize: valueSize, keys: keySpace, writes: memtierWrites, rate: openRate, runs: openFor}
	return b.compete(ctx, p, s, rivals, &proxyRun{Case: openCase, Load: fmt.Sprintf("%d a second", openRate)}, m.run)
}

// measureCase has redis-benchmark load the rivals with SETs and GETs, then a load of our own.
func (b *bench) measureCase(ctx context.Context, p *proxies, s *stage, c proxyCase) error {
	direct, err := b.benchmark(ctx, s.addrs[laneDirect], c, "set", c.keys*10)
	if err != nil {
		return err
	}
	requests := max(1000, int(direct.Rate*runFor.Seconds()))
	for _, command := range []string{"SET", "GET"} {
		run := &proxyRun{Case: c.name, Load: command, Goal: c.goal}
		err := b.compete(ctx, p, s, rivals, run, func(ctx context.Context, addr string) (mixed, error) {
			f, err := b.benchmark(ctx, addr, c, strings.ToLower(command), requests)
			return mixed{f, requests}, err
		})
		if err != nil {
			return err
		}
	}
	m := mix{connections: c.connections, pipeline: c.pipeline, valueSize: c.valueSize, keys: c.keys, writes: memtierWrites, runs: mixFor}
	return b.compete(ctx, p, s, rivals, &proxyRun{Case: c.name, Load: "mix 1:10", Goal: c.goal}, m.run)
}

// compete measures the lanes in turn, round by round. Every other round goes backwards, so that none
// always comes first.
func (b *bench) compete(ctx context.Context, p *proxies, s *stage, lanes []string, run *proxyRun, load func(context.Context, string) (mixed, error)) error {
	b.say("%s, %s: %d rounds", run.Case, run.Load, b.rounds)
	run.Lanes = map[string][]proxyFigure{}
	p.Runs = append(p.Runs, run)
	for round := range b.rounds {
		for i := range lanes {
			if round%2 == 1 {
				i = len(lanes) - 1 - i
			}
			f, err := s.measured(ctx, lanes[i], load)
			if err != nil {
				return fmt.Errorf("%s: %w", lanes[i], err)
			}
			run.Lanes[lanes[i]] = append(run.Lanes[lanes[i]], f)
		}
	}
	return nil
}

// measured puts a load on one lane.
func (s *stage) measured(ctx context.Context, lane string, load func(context.Context, string) (mixed, error)) (proxyFigure, error) {
	proxyBefore, serverBefore, err := s.used(lane)
	if err != nil {
		return proxyFigure{}, err
	}
	got, err := load(ctx, s.addrs[lane])
	if err != nil {
		return proxyFigure{}, err
	}
	proxyAfter, serverAfter, err := s.used(lane)
	million := float64(got.Requests) / 1e6
	return proxyFigure{
		figure: got.figure, ProxyCPU: (proxyAfter - proxyBefore).Seconds() / million, ServerCPU: (serverAfter - serverBefore).Seconds() / million,
	}, err
}

// used is the CPU time of a lane's proxy (0 when there is none) and redis-server.
func (s *stage) used(lane string) (proxy, server time.Duration, err error) {
	if pid := s.proxy[lane]; pid != 0 {
		if proxy, err = cpuOf(pid); err != nil {
			return 0, 0, err
		}
	}
	if pid := s.server[lane]; pid != 0 {
		server, err = cpuOf(pid)
	}
	return proxy, server, err
}

// cpuOf is the CPU time of a process's threads, to the nanosecond: the clock of clock_getcpuclockid(3).
func cpuOf(pid int) (time.Duration, error) {
	const scheduled = 2 // CPUCLOCK_SCHED
	var t unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|scheduled), &t); err != nil {
		return 0, fmt.Errorf("the CPU time of pid %d: %w", pid, err)
	}
	return time.Duration(t.Nano()), nil
}

// benchmark runs redis-benchmark with one command.
func (b *bench) benchmark(ctx context.Context, addr string, c proxyCase, command string, requests int) (figure, error) {
	got, err := b.redisBenchmark(ctx, addr, "-c", strconv.Itoa(c.connections), "-P", strconv.Itoa(c.pipeline), "-n", strconv.Itoa(requests),
		"-d", strconv.Itoa(c.valueSize), "-r", strconv.Itoa(c.keys), "-t", command)
	return got[strings.ToUpper(command)], err
}

// stageRivals starts a redis-server and everything that is to stand before it.
func (b *bench) stageRivals(ctx context.Context, p *proxies) (*stage, error) {
	s := newStage()
	dir := filepath.Join(b.dir, "rivals")
	addr, server, err := s.redis(ctx, dir, "direct")
	if err != nil {
		return nil, errors.Join(err, s.end())
	}
	s.add(laneDirect, addr, 0, server)
	for _, start := range []func(context.Context, *bench, string, string) (string, *process, error){startUnderstudy, startTwemproxy, startHAProxy} {
		at, process, err := start(ctx, b, dir, addr)
		if process != nil {
			s.ends = append(s.ends, process)
		}
		if err == nil {
			err = answers(ctx, at, process)
		}
		if err != nil {
			return nil, errors.Join(err, s.end())
		}
		s.add(rivals[len(s.addrs)], at, process.pid(), server)
	}
	if p.Peers, err = builds(ctx); err != nil {
		return nil, errors.Join(err, s.end())
	}
	return s, nil
}

// redis starts a redis-server that keeps nothing on disk, as a replica when it is told of whom.
func (s *stage) redis(ctx context.Context, dir, name string, of ...string) (addr string, pid int, err error) {
	path, err := exec.LookPath("redis-server")
	if err != nil {
		return "", 0, err
	}
	ports, err := freePorts(1)
	if err != nil {
		return "", 0, err
	}
	dir = filepath.Join(dir, name)
	if err := writeFile(dir, "redis.conf", fmt.Sprintf("bind 127.0.0.1\nport %d\nsave \"\"\nappendonly no\nmaxclients 20000\nrepl-diskless-sync-delay 0\n", ports[0])); err != nil {
		return "", 0, err
	}
	args := []string{filepath.Join(dir, "redis.conf")}
	if len(of) > 0 {
		host, port, _ := strings.Cut(of[0], ":")
		args = append(args, "--replicaof", host, port)
	}
	p, err := start(dir, name, path, args...)
	if err != nil {
		return "", 0, err
	}
	s.ends = append(s.ends, p)
	addr = loopback(ports[0])
	return addr, p.pid(), answers(ctx, addr, p)
}

// answers waits until a server takes connections and answers. Not every proxy knows what client libraries
// begin with, so this is no library.
func answers(ctx context.Context, addr string, p *process) error {
	return await(ctx, filepath.Base(p.cmd.Path)+" on "+addr, readyWithin, func() error {
		if !p.running() {
			return fmt.Errorf("it has ended; its log ends with: %s", p.lastWords())
		}
		c, err := net.DialTimeout("tcp", addr, time.Second)
		if err != nil {
			return err
		}
		defer c.Close()
		reply := make([]byte, 64)
		_ = c.SetDeadline(time.Now().Add(time.Second))
		if _, err = c.Write(resp.AppendCommand(nil, "GET", "any")); err != nil {
			return err
		}
		n, err := c.Read(reply)
		if err == nil && reply[0] == '-' {
			err = errors.New(strings.TrimSpace(string(reply[:n])))
		}
		return err
	})
}
