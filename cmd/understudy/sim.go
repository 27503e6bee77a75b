package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"understudy/failover/sim"
)

func newSim() *cobra.Command {
	var o sim.Options
	var replay string
	cmd := &cobra.Command{
		Use:   "sim [-seed N] [-schedules N]",
		Short: "Play simulated failovers and check that no promise is broken",
		Long: `Plays short lives of a group with faults drawn from a seed, in virtual time, with the real
decision code. Exit 1 when a promise is broken: the seed is printed, and the shrunk schedule
that --replay plays again.`,
		Example: "  understudy sim --schedules 2000\n  understudy sim -seed 7 -schedules 1",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if replay != "" {
				return replaySchedule(cmd.OutOrStdout(), replay)
			}
			if o.Schedules < 1 || o.Workers < 0 || o.Failures < 1 {
				return usagef("--schedules and --failures must be above zero, and --workers not below")
			}
			o.Log = cmd.ErrOrStderr()
			r, err := sim.Run(cmd.Context(), o)
			if err != nil {
				return fmt.Errorf("interrupted after %d schedules, none of which failed", r.Schedules)
			}
			return printSim(cmd.OutOrStdout(), r)
		},
	}
	cmd.Flags().SortFlags = false
	cmd.Flags().Uint64Var(&o.Seed, "seed", 1, "seed of the first schedule; the next one has the next")
	cmd.Flags().IntVar(&o.Schedules, "schedules", 1000, "how many to play")
	cmd.Flags().IntVar(&o.Failures, "failures", 1, "stop after so many that fail")
	cmd.Flags().IntVar(&o.Workers, "workers", 0, "how many to play at once; 0: one a core")
	cmd.Flags().StringVar(&replay, "replay", "", "play the schedule in this file, and print what happens")
	return cmd
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

func printSim(w io.Writer, r sim.Report) error {
	rate := float64(r.Schedules) / max(r.Duration.Seconds(), 1e-9)
	fmt.Fprintf(w, "%d schedules, %d operations, %d acked writes, %d events in %.1f s: %.0f schedules/s\n",
		r.Schedules, r.Operations, r.Acked, r.Steps, r.Duration.Seconds(), rate)
	if len(r.Failures) == 0 {
		_, err := fmt.Fprintln(w, "no promise was broken")
		return err
	}
	for _, f := range r.Failures {
		fmt.Fprintf(w, "\nseed %d: %s\nthe schedule, shrunk; play it again with `understudy sim --replay FILE`:\n\n%s\n", f.Seed, f.What, f.Script)
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
