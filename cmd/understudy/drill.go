package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"understudy/cluster"
	"understudy/drill"
)

// defaultDrills is where runs are kept.
const defaultDrills = "./drills"

func newDrill() *cobra.Command {
	cmd := &cobra.Command{
		Use: "drill", Short: "Break a live group on purpose and report what its clients saw",
		Example: "  understudy drill run\n  understudy drill list",
	}
	cmd.AddCommand(newDrillRun(), newDrillList(), newDrillShow(), newDrillCompare())
	demandSubcommand(cmd)
	return cmd
}

// drillFlags are those of `drill run`.
type drillFlags struct {
	finder
	drill.Options
	login             loginFlags
	json, html, junit string
}

func newDrillRun() *cobra.Command {
	var f drillFlags
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Run one drill against a running group",
		Long: `Puts an application's load on the group, injects the fault, goes on, and afterwards checks
every write that was acked against what is there. Exit 0 only when the verdict is pass.
Nothing is broken unless the group is available.

A target that is not local is somebody else's group. Without --confirm nothing is done to it: what would
be done is printed, and every guard with what it found; exit 4 when one stands against it. With
--confirm and the group's name the same guards are looked at again, before the load and before the fault.
See docs/drills-on-aws.md.`,
		Example: "  understudy drill run\n  understudy drill run --fault hang-primary --compare direct\n  understudy drill run --fault switchover --json - --duration 8s\n  understudy drill run --password-file /etc/understudy/password --tls-ca ca.pem\n  understudy drill run --target elasticache://my-group --region us-east-1",
		Args:    noArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	cmd.Flags().SortFlags = false
	f.register(cmd)
	f.login.register(cmd)
	fs := cmd.Flags()
	fs.Lookup("tls-ca").Usage = "authority of the certificates of the instance and of its endpoints: the load goes over TLS then"
	fs.StringVar(&f.Target, "target", "local", "what to break: local, the instance that --data or --http names; elasticache://GROUP; sentinel://HOST:PORT,HOST:PORT/NAME; redis://PRIMARY,REPLICA")
	fs.StringVar(&f.Fault, "fault", "", "what happens: "+strings.Join(drill.Faults(), ", ")+" (default: kill-primary; failover-api of ElastiCache)")
	fs.StringVar(&f.Workload, "workload", "mixed", "the load: "+strings.Join(drill.Workloads(), ", "))
	fs.DurationVar(&f.Duration, "duration", 0, "how long the load runs (default 12s)")
	fs.DurationVar(&f.At, "at", 0, "when the fault is injected, from the start of the load (default 4s, or a third)")
	fs.IntVar(&f.Writers, "writers", 0, "clients that write (default 8)")
	fs.IntVar(&f.Readers, "readers", 0, "clients that only read (default 8; -1: none)")
	fs.IntVar(&f.Rate, "rate", 0, "operations per second at most (default 2400)")
	fs.Uint64Var(&f.Seed, "seed", 0, "seed of the load (default: from the clock, and reported)")
	fs.DurationVar(&f.RTO, "rto", 0, "recovery time that still passes (default: the fault's own)")
	fs.IntVar(&f.RPO, "rpo", 0, "acked writes that may be lost")
	fs.IntVar(&f.MaxErrors, "max-errors", 0, "errors that clients may see")
	fs.StringSliceVar(&f.Compare, "compare", nil, "further lanes beside ours: direct")
	fs.BoolVar(&f.Force, "force", false, "also when the group is not available")
	f.registerRemote(fs)
	fs.StringVar(&f.Dir, "dir", defaultDrills, "where runs are kept, a folder each")
	fs.StringVar(&f.json, "json", "", "write the result to this file as well; - for stdout")
	fs.StringVar(&f.html, "html", "", "write the report to this file as well")
	fs.StringVar(&f.junit, "junit", "", "write a JUnit file as well")
	return cmd
}

func (f *drillFlags) run(cmd *cobra.Command) error {
	var err error
	if f.Login, err = f.login.login(f.ca); err != nil {
		return err
	}
	if f.Target == "local" {
		a, err := f.find()
		if err != nil {
			return err
		}
		f.HTTP, f.Transport = a.url(""), a.transport()
	} else if f.Confirm == "" {
		return f.look(cmd)
	}
	stderr := cmd.ErrOrStderr()
	level := slog.LevelWarn
	if f.Target != "local" { // request ids are there to be kept
		level = slog.LevelInfo
	}
	f.Logger = slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: level}))
	if terminal(stderr) {
		v := newView(stderr, true)
		f.Progress = v.show
	}
	r, err := drill.Run(cmd.Context(), f.Options)
	if err != nil {
		return drillError(cmd.Context(), err)
	}
	if err := f.export(cmd.OutOrStdout(), r); err != nil {
		return err
	}
	if f.json != "-" {
		if err := printResult(cmd.OutOrStdout(), r); err != nil {
			return err
		}
	}
	if r.Verdict != drill.Pass {
		return coded{exitNo, fmt.Errorf("the drill's verdict is %s", r.Verdict)}
	}
	return nil
}

// drillError gives a drill that could not be run its exit code.
func drillError(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return coded{exitNo, errors.New("interrupted: the drill says nothing about the group")}
	case errors.Is(err, drill.ErrUsage):
		return coded{exitUsage, err}
	case errors.Is(err, drill.ErrUnreachable):
		return coded{exitUnreachable, err}
	case errors.Is(err, cluster.ErrRefused):
		return coded{exitRefused, err}
	default:
		return err
	}
}

// export writes the result where the flags say.
func (f *drillFlags) export(stdout io.Writer, r drill.Result) error {
	writeJSON := func(w io.Writer) error {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(r)
	}
	for _, out := range []struct {
		flag, path string
		write      func(io.Writer) error
	}{{"json", f.json, writeJSON}, {"html", f.html, r.WriteHTML}, {"junit", f.junit, r.WriteJUnit}} {
		if out.path == "" {
			continue
		}
		if out.path == "-" {
			if err := out.write(stdout); err != nil {
				return fmt.Errorf("--%s: %w", out.flag, err)
			}
			continue
		}
		file, err := os.Create(out.path)
		if err != nil {
			return usagef("--%s: %w", out.flag, err)
		}
		if err := errors.Join(out.write(file), file.Close()); err != nil {
			return fmt.Errorf("--%s: %w", out.flag, err)
		}
	}
	return nil
}

func newDrillList() *cobra.Command {
	var dir string
	var asJSON bool
	cmd := &cobra.Command{
		Use: "list", Short: "List the drills that were kept, oldest first", Example: "  understudy drill list", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			runs, err := drill.List(dir)
			if err != nil {
				return drillError(cmd.Context(), err)
			}
			if asJSON {
				if runs == nil {
					runs = []drill.Result{}
				}
				return json.NewEncoder(cmd.OutOrStdout()).Encode(runs)
			}
			t := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(t, "ID\tVERDICT\tRTO\tWRITE GAP\tERRORS\tLOST\tACKED")
			for _, r := range runs {
				fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%d\t%d\t%d\n", r.ID, r.Verdict, milliOrNever(r.RTOMs), milli(r.WriteGapMs), r.Errors, r.Lost, r.Acked)
			}
			return t.Flush()
		},
	}
	cmd.Flags().StringVar(&dir, "dir", defaultDrills, "where runs are kept")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON, for programs")
	return cmd
}

func newDrillShow() *cobra.Command {
	var dir string
	var asJSON bool
	cmd := &cobra.Command{
		Use: "show [ID]", Short: "Show one drill that was kept; without an ID the newest", Example: "  understudy drill show latest",
		Args: atMost(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			id := "latest"
			if len(args) > 0 {
				id = args[0]
			}
			r, err := drill.Load(dir, id)
			if err != nil {
				return drillError(cmd.Context(), err)
			}
			if asJSON {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(r)
			}
			return printResult(cmd.OutOrStdout(), r)
		},
	}
	cmd.Flags().StringVar(&dir, "dir", defaultDrills, "where runs are kept")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON, for programs")
	return cmd
}

func newDrillCompare() *cobra.Command {
	var dir string
	var asJSON bool
	cmd := &cobra.Command{
		Use: "compare ID [ID]", Short: "Set the figures of two drills side by side; the second one is the newest when not named",
		Example: "  understudy drill compare 20260102T030405.000Z-kill-primary latest",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("`%s` needs the ID of a drill; `understudy drill list` shows them", cmd.CommandPath())
			}
			return atMost(2)(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			a, err := drill.Load(dir, args[0])
			if err != nil {
				return drillError(cmd.Context(), err)
			}
			b, err := drill.Load(dir, append(args, "latest")[1])
			if err != nil {
				return drillError(cmd.Context(), err)
			}
			if asJSON {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(drill.Compare(a, b))
			}
			return printDifferences(cmd.OutOrStdout(), a, b)
		},
	}
	cmd.Flags().StringVar(&dir, "dir", defaultDrills, "where runs are kept")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON, for programs")
	return cmd
}

func atMost(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) > n {
			return usagef("`%s` takes at most %d, and got %q; see `%s --help`", cmd.CommandPath(), n, args[n], cmd.CommandPath())
		}
		return nil
	}
}

func printDifferences(w io.Writer, a, b drill.Result) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(t, "\t%s\t%s\t\n", a.ID, b.ID)
	text := func(v *float64) string {
		if v == nil {
			return "never"
		}
		return strconv.FormatFloat(*v, 'f', -1, 64)
	}
	for _, d := range drill.Compare(a, b) {
		fmt.Fprintf(t, "%s\t%s\t%s\t\n", d.Name, text(d.A), text(d.B))
	}
	fmt.Fprintf(t, "verdict\t%s\t%s\t\n", a.Verdict, b.Verdict)
	return t.Flush()
}

// printResult prints the lanes side by side, and the verdict.
func printResult(w io.Writer, r drill.Result) error {
	fmt.Fprintf(w, "drill %s of group %s: %s -> %s, seed %d\n\n", r.Fault, r.Group, r.From, r.To, r.Seed)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	row := func(name string, value func(drill.Lane) string) {
		fmt.Fprintf(t, "%s\t", name)
		for _, l := range r.Lanes {
			fmt.Fprintf(t, "%s\t", value(l))
		}
		fmt.Fprintln(t)
	}
	count := func(n func(drill.Lane) int) func(drill.Lane) string {
		return func(l drill.Lane) string { return strconv.Itoa(n(l)) }
	}
	row("", func(l drill.Lane) string { return l.Name })
	row("longest gap between acked writes", func(l drill.Lane) string { return milli(l.WriteGapMs) })
	row("recovered after (RTO)", func(l drill.Lane) string { return milliOrNever(l.RTOMs) })
	row("errors", count(func(l drill.Lane) int { return l.Errors }))
	row("outcome unknown", count(func(l drill.Lane) int { return l.Unknown }))
	row("acked writes", count(func(l drill.Lane) int { return l.Acked }))
	row("lost", count(func(l drill.Lane) int { return l.Lost }))
	row("stale reads", count(func(l drill.Lane) int { return l.StaleReads }))
	row(fmt.Sprintf("recovered to %d nodes after", r.Nodes), func(drill.Lane) string { return milliOrNever(r.RedundancyMs) })
	if err := t.Flush(); err != nil {
		return err
	}
	if len(r.PhasesMs) > 0 {
		fmt.Fprintf(w, "\nphases: %s\n", phases(r.PhasesMs))
	}
	for _, a := range r.Alarms {
		fmt.Fprintf(w, "alarm %s: %s\n", a.Name, a.When())
	}
	fmt.Fprintf(w, "\nverdict: %s\n", r.Verdict)
	for _, reason := range r.Reasons {
		fmt.Fprintf(w, "  %s\n", reason)
	}
	if r.Dir != "" {
		fmt.Fprintf(w, "report: %s\n", r.ReportPath())
	}
	return nil
}

func milli(ms float64) string {
	return time.Duration(ms * float64(time.Millisecond)).Round(100 * time.Microsecond).String()
}

func milliOrNever(ms *float64) string {
	if ms == nil {
		return "never"
	}
	return milli(*ms)
}
