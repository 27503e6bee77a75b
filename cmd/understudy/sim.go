package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"understudy/failover"
	"understudy/failover/sim"
)

// simFlags are what `sim` is asked for.
type simFlags struct {
	options sim.Options
	replay  string
	wrong   string
	out     string // directory for the scripts of what failed
}

func newSim() *cobra.Command {
	var f simFlags
	cmd := &cobra.Command{
		Use:   "sim [-seed N] [-schedules N]",
		Short: "Play simulated failovers and check that no promise is broken",
		Long: `Plays short lives of a group with faults drawn from a seed, in virtual time, with the real
decision code. Exit 1 when a promise is broken: the seed is printed, and the schedule, made as
short as it still fails, is written to a file that --replay plays again.

--wrong puts a rule in that is known to be wrong, to see that it is caught: the names are in
failover/DESIGN.md.`,
		Example: "  understudy sim --schedules 2000\n  understudy sim -seed 7 -schedules 1",
		Args:    noArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	cmd.Flags().SortFlags = false
	o := &f.options
	cmd.Flags().Uint64Var(&o.Seed, "seed", 1, "seed of the first schedule; the next one has the next")
	cmd.Flags().IntVar(&o.Schedules, "schedules", 1000, "how many to play")
	cmd.Flags().IntVar(&o.Failures, "failures", 1, "stop after so many that fail")
	cmd.Flags().IntVar(&o.Workers, "workers", 0, "how many to play at once; 0: one a core")
	cmd.Flags().StringVar(&f.replay, "replay", "", "play the schedule in this file, and print what happens")
	cmd.Flags().StringVar(&f.out, "out", ".", "directory for the schedules that failed")
	cmd.Flags().StringVar(&f.wrong, "wrong", "", "play with this known-wrong rule")
	return cmd
}

// simGCPercent: each schedule is small and short, and collecting it would take a third of the time.
const simGCPercent = 1000

func (f *simFlags) run(cmd *cobra.Command) error {
	if f.replay != "" {
		return replaySchedule(cmd.OutOrStdout(), f.replay)
	}
	o := &f.options
	if o.Schedules < 1 || o.Workers < 0 || o.Failures < 1 {
		return usagef("--schedules and --failures must be above zero, and --workers not below")
	}
	if f.wrong != "" {
		m, err := wrongRule(f.wrong)
		if err != nil {
			return err
		}
		o.Mutation = m
	}
	debug.SetGCPercent(simGCPercent)
	stderr := cmd.ErrOrStderr()
	o.Log = stderr
	if terminal(stderr) {
		bar := &simBar{out: stderr, total: o.Schedules}
		o.Progress, o.Log = bar.show, bar
	}
	r, err := sim.Run(cmd.Context(), *o)
	if err != nil {
		return fmt.Errorf("interrupted after %d schedules, none of which failed", r.Schedules)
	}
	return f.print(cmd.OutOrStdout(), r)
}

// wrongRule finds a rule by its name.
func wrongRule(name string) (failover.Mutation, error) {
	var names []string
	for _, m := range failover.Mutations() {
		if m.String() == name {
			return m, nil
		}
		names = append(names, m.String())
	}
	return 0, usagef("--wrong %q: not one of %s", name, strings.Join(names, ", "))
}

// simBar shows on a terminal how far the simulator is, on one line that is written over.
type simBar struct {
	out   io.Writer
	total int
	last  time.Duration
}

// simBarEvery keeps the bar from costing more than it shows.
const simBarEvery = 100 * time.Millisecond

func (b *simBar) show(r sim.Report) {
	if r.Duration-b.last < simBarEvery && r.Schedules < b.total {
		return
	}
	b.last = r.Duration
	fmt.Fprint(b.out, "\r\x1b[K", simProgress(r, b.total))
	if r.Schedules == b.total {
		fmt.Fprintln(b.out)
	}
}

// Write puts a line above the bar.
func (b *simBar) Write(line []byte) (int, error) {
	if _, err := io.WriteString(b.out, "\r\x1b[K"); err != nil {
		return 0, err
	}
	return b.out.Write(line)
}

// simProgress is the line: a bar of 30 places, what was played, and how long the rest will take.
func simProgress(r sim.Report, total int) string {
	const places = 30
	done := places * r.Schedules / total
	rate := float64(r.Schedules) / max(r.Duration.Seconds(), 1e-9)
	left := time.Duration(float64(total-r.Schedules) / max(rate, 1e-9) * float64(time.Second)).Round(time.Second)
	return fmt.Sprintf("[%s%s] %d of %d schedules, %.0f/s, %d failed, %v left",
		strings.Repeat("#", done), strings.Repeat(".", places-done), r.Schedules, total, rate, len(r.Failures), left)
}

// singleDash lets the simulator's flags be written with one hyphen, as they are for most simulators
// and for go test: -seed is --seed there, and no row of five short flags.
func singleDash(args []string) []string {
	if len(args) == 0 || args[0] != "sim" {
		return args
	}
	words := []string{args[0]}
	for _, a := range args[1:] {
		if strings.HasPrefix(a, "-") && !strings.HasPrefix(a, "--") && len(a) > 2 && a[1] > '9' {
			a = "-" + a
		}
		words = append(words, a)
	}
	return words
}

func (f *simFlags) print(w io.Writer, r sim.Report) error {
	rate := float64(r.Schedules) / max(r.Duration.Seconds(), 1e-9)
	fmt.Fprintf(w, "%d schedules, %d operations, %d acked, %d events in %.1f s: %.0f schedules/s; the longest heal took %.1f s of virtual time\n",
		r.Schedules, r.Operations, r.Acked, r.Steps, r.Duration.Seconds(), rate, r.Heal.Seconds())
	if len(r.Failures) == 0 {
		_, err := fmt.Fprintln(w, "no promise was broken")
		return err
	}
	for _, x := range r.Failures {
		path := filepath.Join(f.out, fmt.Sprintf("understudy-sim-%d.txt", x.Seed))
		if err := os.WriteFile(path, []byte(x.Script), 0o600); err != nil {
			return fmt.Errorf("keep the schedule of seed %d: %w; it was:\n%s", x.Seed, err, x.Script)
		}
		fmt.Fprintf(w, "\nseed %d: %s\nthe schedule, shrunk; it is kept, play it again with: understudy sim --replay %s\n\n%s\n", x.Seed, x.What, path, x.Script)
	}
	return coded{exitNo, fmt.Errorf("%d of %d schedules broke a promise; again with: understudy sim --seed %d --schedules 1", len(r.Failures), r.Schedules, r.Failures[0].Seed)}
}

func replaySchedule(w io.Writer, path string) error {
	script, err := os.ReadFile(path)
	if err != nil {
		return usagef("--replay: %w", err)
	}
	if _, err := sim.Parse(string(script)); err != nil {
		return usagef("--replay %s: %w", path, err)
	}
	trace, broken := sim.Replay(string(script))
	if _, err := io.WriteString(w, trace); err != nil {
		return err
	}
	if broken != nil {
		return coded{exitNo, broken}
	}
	_, err = fmt.Fprintln(w, "no promise was broken")
	return err
}
