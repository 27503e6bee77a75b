package main

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// shape is one way of loading a server with redis-benchmark.
type shape struct {
	Connections int `json:"connections"`
	Pipeline    int `json:"pipeline"`
}

func (s shape) String() string {
	if s.Pipeline > 1 {
		return fmt.Sprintf("%d, pipelined %d", s.Connections, s.Pipeline)
	}
	return strconv.Itoa(s.Connections)
}

var shapes = []shape{{1, 1}, {50, 1}, {500, 1}, {50, 16}}

// The lanes of a round: straight to the primary's redis-server, and through the proxy.
const (
	laneDirect = "direct"
	laneAsync  = "async"
	laneSync   = "sync"
)

var lanes = []string{laneDirect, laneAsync, laneSync}

const (
	keySpace = 10_000
	// runFor is about how long one measurement lasts: five rounds of all have to fit into a minute.
	runFor = 350 * time.Millisecond
	// runWithin bounds one run of redis-benchmark.
	runWithin = 20 * time.Second
	firstRun  = 1500 // requests for finding out how many make runFor
)

// figure is one measurement of redis-benchmark.
type figure struct {
	Rate  float64 `json:"requests_per_second"`
	P50Ms float64 `json:"p50_ms"`
	P99Ms float64 `json:"p99_ms"`
}

// contest is one command under one shape: the lanes side by side, round by round.
type contest struct {
	Shape   shape               `json:"shape"`
	Command string              `json:"command"`
	Lanes   map[string][]figure `json:"lanes"` // by round
}

// measureThroughput takes turns between the lanes, so that each figure has its partner a moment
// apart. Both groups run all the time; the direct lane is the primary of the async group.
func (b *bench) measureThroughput(ctx context.Context) (err error) {
	syncGroup, err := b.startGroup(ctx, "sync")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, syncGroup.stop()) }()
	asyncGroup, err := b.startGroup(ctx, "async")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, asyncGroup.stop()) }()
	return b.contests(ctx, syncGroup, asyncGroup)
}

func (b *bench) contests(ctx context.Context, syncGroup, asyncGroup *group) error {
	addrs := map[string]string{laneAsync: asyncGroup.endpoints.Primary, laneSync: syncGroup.endpoints.Primary}
	if err := syncGroup.ready(ctx); err != nil {
		return err
	}
	p, err := asyncGroup.primary(ctx)
	if err != nil {
		return err
	}
	addrs[laneDirect] = p.addr
	for _, addr := range addrs { // so that every GET finds a value
		if _, err := b.load(ctx, addr, shape{50, 16}, 10*keySpace); err != nil {
			return err
		}
	}
	sizes := map[shape]map[string]int{}
	for _, s := range shapes {
		sizes[s] = map[string]int{}
		for _, lane := range lanes {
			got, err := b.load(ctx, addrs[lane], s, firstRun*min(5, s.Connections)*s.Pipeline)
			if err != nil {
				return err
			}
			slower := min(got["GET"].Rate, got["SET"].Rate)
			sizes[s][lane] = max(1000, int(slower*runFor.Seconds()))
		}
		for _, command := range []string{"GET", "SET"} {
			b.report.Contests = append(b.report.Contests, &contest{Shape: s, Command: command, Lanes: map[string][]figure{}})
		}
	}
	for round := range b.rounds {
		b.say("throughput, round %d of %d", round+1, b.rounds)
		for _, s := range shapes {
			if err := b.throughputRound(ctx, s, addrs, sizes[s], round); err != nil {
				return err
			}
		}
	}
	return nil
}

// throughputRound measures all lanes once. Every other round goes backwards, so that none always
// comes first.
func (b *bench) throughputRound(ctx context.Context, s shape, addrs map[string]string, sizes map[string]int, round int) error {
	got := map[string]map[string]figure{}
	for i := range lanes {
		if round%2 == 1 {
			i = len(lanes) - 1 - i
		}
		var err error
		if got[lanes[i]], err = b.load(ctx, addrs[lanes[i]], s, sizes[lanes[i]]); err != nil {
			return err
		}
	}
	for _, c := range b.report.Contests {
		if c.Shape != s {
			continue
		}
		for _, lane := range lanes {
			c.Lanes[lane] = append(c.Lanes[lane], got[lane][c.Command])
		}
	}
	return nil
}

// load runs redis-benchmark for SET and GET and returns a figure for each.
func (b *bench) load(ctx context.Context, addr string, s shape, requests int) (map[string]figure, error) {
	return b.redisBenchmark(ctx, addr, "-c", strconv.Itoa(s.Connections), "-P", strconv.Itoa(s.Pipeline), "-n", strconv.Itoa(requests),
		"-d", strconv.Itoa(valueSize), "-r", strconv.Itoa(keySpace), "-t", "set,get")
}

// redisBenchmark runs redis-benchmark and returns its figures by command.
func (b *bench) redisBenchmark(ctx context.Context, addr string, args ...string) (map[string]figure, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, runWithin)
	defer cancel()
	cmd := exec.CommandContext(ctx, b.tools.benchmark, append([]string{"-h", host, "-p", port, "--csv"}, args...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("redis-benchmark on %s with %v: %w %s", addr, args, err, strings.TrimSpace(stderr.String()))
	}
	return parseBenchmark(out, args[len(args)-1])
}

// parseBenchmark reads the --csv output of redis-benchmark 7: a head, then a line for each of the commands,
// which are given as on its command line.
func parseBenchmark(out []byte, commands string) (map[string]figure, error) {
	r := csv.NewReader(bytes.NewReader(out))
	r.FieldsPerRecord = -1 // warnings come in between
	lines, err := r.ReadAll()
	if err != nil {
		return nil, fmt.Errorf("redis-benchmark printed no CSV: %w", err)
	}
	var head []string
	got := map[string]figure{}
	for _, line := range lines {
		if line[0] == "test" {
			head = line
			continue
		}
		if len(line) != len(head) {
			continue
		}
		var f figure
		for i, name := range head {
			into := map[string]*float64{"rps": &f.Rate, "p50_latency_ms": &f.P50Ms, "p99_latency_ms": &f.P99Ms}[name]
			if into == nil {
				continue
			}
			if *into, err = strconv.ParseFloat(line[i], 64); err != nil {
				return nil, fmt.Errorf("redis-benchmark: %s: %w", name, err)
			}
		}
		got[line[0]] = f
	}
	for command := range strings.SplitSeq(strings.ToUpper(commands), ",") {
		if got[command].Rate == 0 {
			return nil, fmt.Errorf("redis-benchmark gave no figures for %s: %s", command, out)
		}
	}
	return got, nil
}
