// Command bench measures Understudy beside its peers on one machine, in one run: how long writers
// wait when the primary crashes, hangs or is changed on purpose, against Redis Sentinel; what the
// proxy costs, against a direct connection; and what an idle group costs.
//
// It starts everything itself, on free loopback ports in a temporary directory, takes turns so that
// what else the machine does meets all of them alike, stops by itself, and leaves nothing behind.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9/logging"
	"golang.org/x/sys/unix"
)

// settings are the flags.
type settings struct {
	understudy, json string
	rounds, writers  int
	within           time.Duration
}

func main() {
	// `go run` may be ended without passing the signal on: then this process ends in order, too.
	_ = unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGTERM), 0, 0, 0)
	var s settings
	flag.StringVar(&s.understudy, "understudy", "", "path of the program to measure; empty: build it from ./cmd/understudy")
	flag.StringVar(&s.json, "json", "", "file that the figures are written to")
	flag.IntVar(&s.rounds, "rounds", 5, "how often each thing is measured")
	flag.IntVar(&s.writers, "writers", 4, "writers during the failovers; each writes as fast as it is answered")
	flag.DurationVar(&s.within, "within", 230*time.Second, "the time that all may take; what is not measured by then is reported as missing")
	flag.Parse()
	if flag.NArg() > 0 || s.rounds < 1 || s.writers < 1 {
		fmt.Fprintln(os.Stderr, "bench: no arguments, at least one round and one writer; see -help")
		os.Exit(2)
	}
	logging.Disable() // the client library would print every connection that a fault cuts
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, s, os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// run measures within a temporary directory and prints what it found, also when it was cut short.
func run(ctx context.Context, s settings, stdout, progress io.Writer) (err error) {
	dir, err := os.MkdirTemp("", "understudy-bench-")
	if err != nil {
		return fmt.Errorf("a temporary directory: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	b, err := prepare(ctx, s, dir, progress)
	if err != nil {
		return err
	}
	// Building is not measuring: the time counts from here.
	limited, cancel := context.WithTimeout(ctx, s.within)
	defer cancel()
	err = b.measure(limited)
	b.report.Machine.finish()
	b.report.print(stdout)
	if s.json != "" {
		err = errors.Join(err, b.report.write(s.json))
	}
	if err == nil && ctx.Err() != nil {
		err = errors.New("interrupted: what is printed is not complete")
	}
	return err
}

// bench is one run.
type bench struct {
	settings
	dir      string
	tools    tools
	progress io.Writer
	report   report
}

// tools are the programs that a run needs.
type tools struct{ understudy, server, sentinel, benchmark string }

func prepare(ctx context.Context, s settings, dir string, progress io.Writer) (*bench, error) {
	b := &bench{settings: s, dir: dir, progress: progress, tools: tools{understudy: s.understudy}}
	var err error
	for name, path := range map[string]*string{"server": &b.tools.server, "sentinel": &b.tools.sentinel, "benchmark": &b.tools.benchmark} {
		if *path, err = exec.LookPath("redis-" + name); err != nil {
			return nil, fmt.Errorf("redis-%s is missing: apt-get install redis-server redis-sentinel redis-tools", name)
		}
	}
	if b.tools.understudy == "" {
		b.tools.understudy = filepath.Join(dir, "understudy")
		b.say("building understudy")
		build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", b.tools.understudy, "understudy/cmd/understudy")
		if out, err := build.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("build understudy: %w\n%s", err, out)
		}
	}
	b.report.Machine, err = thisMachine(ctx, b.tools.server)
	b.report.Rounds, b.report.Writers = s.rounds, s.writers
	return b, err
}

// measure runs the three parts. The idle cost comes first, while nothing else of ours runs.
func (b *bench) measure(ctx context.Context) (err error) {
	began := time.Now()
	defer func() { b.report.Seconds = time.Since(began).Seconds() }()
	syncGroup, err := b.startGroup(ctx, "sync")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, syncGroup.stop()) }()
	if b.report.Idle, err = b.measureIdle(ctx, syncGroup); err != nil {
		return unlessOver(ctx, err)
	}
	if err := b.measureFailovers(ctx, syncGroup); err != nil {
		return unlessOver(ctx, err)
	}
	asyncGroup, err := b.startGroup(ctx, "async")
	if err != nil {
		return unlessOver(ctx, err)
	}
	defer func() { err = errors.Join(err, asyncGroup.stop()) }()
	return unlessOver(ctx, b.measureThroughput(ctx, syncGroup, asyncGroup))
}

// unlessOver is nil when the time is over: the report shows what is missing.
func unlessOver(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

func (b *bench) say(format string, args ...any) { fmt.Fprintf(b.progress, format+"\n", args...) }

func (r *report) write(path string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err == nil {
		err = os.WriteFile(path, append(text, '\n'), 0o644)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
