// Command bench measures Understudy beside its peers on one machine, in one run: how long writers
// wait when the primary crashes, hangs or is changed on purpose, against Redis Sentinel, and where that
// time goes; what the proxy costs, against a direct connection; and what an idle group costs. Asked for
// by name, it also wears a group down with a thousand changes of primary, lets it grow, and starves it.
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
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9/logging"
	"golang.org/x/sys/unix"
)

// settings are the flags, and the parts that were asked for.
type settings struct {
	understudy, json, keep, docs, from string
	rounds, peerEvery, writers         int
	within                             time.Duration
	switchovers, crashes               int    // of a soak
	resume                             string // file of an earlier run that a soak goes on from
	sizes                              sizes
	alarmsFor                          time.Duration
	cases                              words // of proxies; none: all
	parts                              []part
	command                            string // as it was typed, for the docs
}

// part is one thing that can be measured.
type part struct {
	name, about string
	standard    bool          // measured when no part is named
	within      time.Duration // the time that it may take, by default
	measure     func(*bench, context.Context) error
	print       func(*report, io.Writer)
}

// allParts are in the order in which they are measured: the idle cost comes first, while nothing else
// of ours runs.
func allParts() []part {
	return []part{
		{"idle", "what a group costs that nobody uses", true, 30 * time.Second, (*bench).measureIdle, (*report).printIdle},
		{"failover", "crash, hang and switchover beside Redis Sentinel, and where the time goes", true, 130 * time.Second, (*bench).measureFailovers, (*report).printFailovers},
		{"throughput", "what the proxy costs beside a direct connection", true, 70 * time.Second, (*bench).measureThroughput, (*report).printThroughput},
		{"proxies", "the proxy beside twemproxy, HAProxy and a direct connection", false, 6 * time.Minute, (*bench).measureProxies, (*report).printProxies},
		{"loss", "what crashes of an async primary lose, beside what the group says", false, 3 * time.Minute, (*bench).measureLoss, (*report).printLoss},
		{"soak", "switchovers and crashes in a row under load: losses, resyncs, growth", false, time.Hour, (*bench).measureSoak, (*report).printSoak},
		{"sizes", "changes of primary and full syncs with data sets of up to 1 GB", false, 5 * time.Minute, (*bench).measureSizes, (*report).printSizes},
		{"zones", "the primary's zone cut off, clients outside, beside Redis Sentinel; needs root", false, 5 * time.Minute, (*bench).measureZones, (*report).printZones},
		{"alarms", "a healthy group on a starved machine: changes of primary that nothing calls for", false, 11 * time.Minute, (*bench).measureAlarms, (*report).printAlarms},
		{"told", "how soon a subscriber hears of a crash, under an alarm of a second", false, 5 * time.Minute, (*bench).measureTold, (*report).printTold},
		{"collecting", "what it costs that every node is looked at once a second", false, 6 * time.Minute, (*bench).measureCollecting, (*report).printCollecting},
		{"watching", "what 10,000 alarms cost", false, 7 * time.Minute, (*bench).measureWatching, (*report).printWatching},
	}
}

func main() {
	// `go run` may be ended without passing the signal on: then this process ends in order, too.
	_ = unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGTERM), 0, 0, 0)
	s, err := parse(os.Args[1:])
	if err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(os.Stderr, "bench:", err)
		}
		os.Exit(2)
	}
	logging.Disable() // the client library would print every connection that a fault cuts
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err = run(ctx, s, os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// parse reads the command line: flags, then names of parts.
func parse(args []string) (settings, error) {
	s := settings{command: strings.Join(append([]string{"go run ./bench"}, args...), " "), sizes: sizes{0.01, 0.25, 0.5, 1}}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.StringVar(&s.understudy, "understudy", "", "path of the program to measure; empty: build it from ./cmd/understudy")
	flags.StringVar(&s.json, "json", "", "file that the figures are written to")
	flags.StringVar(&s.docs, "docs", "", "page whose generated blocks are written anew with what was measured (docs/failover-times.md)")
	flags.StringVar(&s.from, "from", "", "measure nothing: print, and write into the page, what an earlier run wrote to this file with -json")
	flags.StringVar(&s.keep, "keep", "", "existing directory in which the logs and the data of all processes are left; empty: they are removed")
	flags.IntVar(&s.rounds, "rounds", 5, "how often each thing is measured")
	flags.IntVar(&s.peerEvery, "peer-every", 1, "Redis Sentinel takes part in every so many rounds: it is slow")
	flags.IntVar(&s.writers, "writers", 4, "writers during the failovers; each writes as fast as it is answered")
	flags.DurationVar(&s.within, "within", 0, "the time that all may take; what is not measured by then is reported as missing; 0: the sum of what the parts take by default")
	flags.IntVar(&s.switchovers, "switchovers", 1000, "soak: how many")
	flags.IntVar(&s.crashes, "crashes", 300, "soak: how many")
	flags.StringVar(&s.resume, "resume", "", "soak: go on from the figures that an earlier run wrote to this file with -json")
	flags.Var(&s.sizes, "sizes", "sizes: GB of values, separated by commas, growing")
	flags.DurationVar(&s.alarmsFor, "false-alarms", 10*time.Minute, "alarms: how long the cores are kept busy")
	flags.Var(&s.cases, "cases", "proxies: only these, separated by commas: "+strings.Join(caseNames(), ", ")+"; empty: all")
	flags.Usage = func() { explain(flags) }
	if err := flags.Parse(args); err != nil {
		return s, err
	}
	if s.rounds < 1 || s.writers < 1 || s.peerEvery < 1 {
		return s, errors.New("at least one round and one writer, and a peer in every first round or more; see -help")
	}
	return s, s.choose(flags.Args())
}

func explain(flags *flag.FlagSet) {
	w := flags.Output()
	fmt.Fprintln(w, "usage: bench [flags] [part…]")
	for _, p := range allParts() {
		mark := ""
		if p.standard {
			mark = "; by default"
		}
		fmt.Fprintf(w, "  %-12s %s (%v%s)\n", p.name, p.about, p.within, mark)
	}
	flags.PrintDefaults()
}

// choose takes the named parts, or the standard ones.
func (s *settings) choose(names []string) error {
	var sum time.Duration
	for _, p := range allParts() {
		if len(names) == 0 && p.standard || slices.Contains(names, p.name) {
			if p.name == "alarms" {
				p.within = s.alarmsFor + alarmLeg
			}
			s.parts = append(s.parts, p)
			sum += p.within
		}
	}
	for _, name := range names {
		if !slices.ContainsFunc(s.parts, func(p part) bool { return p.name == name }) {
			return fmt.Errorf("there is no part %q; see -help", name)
		}
	}
	if s.within == 0 {
		s.within = sum
	}
	return nil
}

// sizes is a flag.
type sizes []float64

func (s *sizes) String() string {
	words := make([]string, len(*s))
	for i, v := range *s {
		words[i] = strconv.FormatFloat(v, 'g', -1, 64)
	}
	return strings.Join(words, ",")
}

func (s *sizes) Set(text string) error {
	*s = nil
	for word := range strings.SplitSeq(text, ",") {
		v, err := strconv.ParseFloat(word, 64)
		if err != nil || v <= 0 || len(*s) > 0 && v <= (*s)[len(*s)-1] {
			return fmt.Errorf("%q is no size in GB that is larger than the one before it", word)
		}
		*s = append(*s, v)
	}
	return nil
}

// words is a flag: some of caseNames.
type words []string

func (w *words) String() string { return strings.Join(*w, ",") }

func (w *words) Set(text string) error {
	*w = nil
	for word := range strings.SplitSeq(text, ",") {
		if !slices.Contains(caseNames(), word) {
			return fmt.Errorf("there is no case %q, but: %s", word, strings.Join(caseNames(), ", "))
		}
		*w = append(*w, word)
	}
	return nil
}

// run measures within a temporary directory and prints what it found, also when it was cut short.
func run(ctx context.Context, s settings, stdout, progress io.Writer) (err error) {
	if s.from != "" {
		return again(s, stdout)
	}
	dir, err := os.MkdirTemp(s.keep, "understudy-bench-")
	if err != nil {
		return fmt.Errorf("a temporary directory: %w", err)
	}
	if s.keep == "" {
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	}
	b, err := prepare(ctx, s, dir, progress)
	if err != nil {
		return err
	}
	// Building is not measuring: the time counts from here.
	limited, cancel := context.WithTimeout(ctx, s.within)
	defer cancel()
	err = b.measure(limited)
	b.report.Machine.finish()
	b.report.print(stdout, s.parts)
	if s.json != "" {
		err = errors.Join(err, b.report.write(s.json))
	}
	if ctx.Err() != nil {
		return errors.Join(err, errors.New("interrupted: what is printed is not complete"))
	}
	if s.docs != "" {
		err = errors.Join(err, b.report.document(s.docs, s))
	}
	return err
}

// again shows what an earlier run has measured.
func again(s settings, stdout io.Writer) error {
	r, err := readReport(s.from)
	if err != nil {
		return err
	}
	r.print(stdout, s.parts)
	if s.docs != "" {
		return r.document(s.docs, s)
	}
	return nil
}

// bench is one run.
type bench struct {
	settings
	dir      string
	tools    tools
	progress io.Writer
	report   report
	groups   int // started so far: each has a directory of its own
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
	b.report.Date = time.Now().UTC().Format("2006-01-02")
	b.report.Command, b.report.Rounds, b.report.Writers = s.command, s.rounds, s.writers
	return b, err
}

// measure runs the parts, one after the other. A part that failed does not keep the next from being
// measured.
func (b *bench) measure(ctx context.Context) error {
	began := time.Now()
	defer func() { b.report.Seconds = time.Since(began).Seconds() }()
	var errs []error
	for _, p := range b.parts {
		if ctx.Err() != nil {
			break
		}
		if err := p.measure(b, ctx); err != nil && ctx.Err() == nil {
			errs = append(errs, fmt.Errorf("%s: %w", p.name, err))
		}
	}
	return errors.Join(errs...)
}

func (b *bench) say(format string, args ...any) { fmt.Fprintf(b.progress, format+"\n", args...) }

func readReport(path string) (*report, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("figures of an earlier run: %w", err)
	}
	r := &report{}
	if err := json.Unmarshal(text, r); err != nil {
		return nil, fmt.Errorf("figures of an earlier run: %s: %w", path, err)
	}
	return r, nil
}

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
