package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"understudy/cluster"
)

// statusFlags say how `understudy status` shows what it finds.
type statusFlags struct {
	finder
	json, watch, check, explain bool
}

func newStatus() *cobra.Command {
	var f statusFlags
	cmd := &cobra.Command{
		Use:   "status [--json] [--watch] [--check | --explain]",
		Short: "Show how the group is, and why",
		Long: `Shows the group's nodes, its endpoints and its newest change of primary.

With --explain it says why: who would win an election now and by which part of the rule
(fit, log, disk, priority, zone, id), what would be lost, why no failover has happened or
what one waits for, what keeps a node from being chosen, what the voter rule asks for, how
the store is doing, and what fences each node.`,
		Example: "  understudy status\n  understudy status --json\n  understudy status --explain\n  understudy status --check && echo all is well",
		Args:    noArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	f.register(cmd)
	cmd.Flags().BoolVar(&f.json, "json", false, "print JSON, for programs")
	cmd.Flags().BoolVar(&f.watch, "watch", false, "show it again every second until interrupted")
	cmd.Flags().BoolVar(&f.explain, "explain", false, "say why the group is as it is, and who would win an election now")
	cmd.Flags().BoolVar(&f.check, "check", false, "exit 1 unless the group is available")
	return cmd
}

func (f *statusFlags) run(cmd *cobra.Command) error {
	if f.check && f.explain {
		return usagef("--check and --explain: name one of them")
	}
	if f.watch {
		return f.watchStatus(cmd)
	}
	if f.explain {
		return f.showExplanation(cmd.Context(), cmd.OutOrStdout())
	}
	s, err := f.show(cmd.Context(), cmd.OutOrStdout())
	if err != nil {
		return err
	}
	if f.check && s.State != cluster.GroupAvailable {
		return coded{exitNo, fmt.Errorf("group %s is %s, not available", s.Group, s.State)}
	}
	return nil
}

func (f *statusFlags) show(ctx context.Context, w io.Writer) (cluster.Status, error) {
	var answer struct {
		cluster.Status
		Message string `json:"message"` // in place of a status: why there is none
	}
	code, err := f.call(ctx, http.MethodGet, "/api/status", nil, &answer)
	s := answer.Status
	if err != nil {
		return s, err
	}
	if code != http.StatusOK || s.Group == "" {
		return s, coded{exitUnreachable, fmt.Errorf("the instance answers %d to /api/status; %s", code, orDash(answer.Message))}
	}
	if !f.json {
		return s, printStatus(w, s)
	}
	return s, f.encode(w, s)
}

// encode writes JSON: over several lines, but for a stream of them.
func (f *statusFlags) encode(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	if !f.watch {
		enc.SetIndent("", "  ")
	}
	return enc.Encode(v)
}

// watchStatus shows the status every second; on a terminal each one replaces the one before. An
// instance that goes away is waited for: that is when somebody watches.
func (f *statusFlags) watchStatus(cmd *cobra.Command) error {
	ctx, out := cmd.Context(), cmd.OutOrStdout()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		var b bytes.Buffer
		if terminal(out) {
			b.WriteString("\x1b[H\x1b[2J")
		}
		var err error
		if f.explain {
			err = f.showExplanation(ctx, &b)
		} else {
			_, err = f.show(ctx, &b)
		}
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			fmt.Fprintln(&b, err)
		}
		if _, err := out.Write(b.Bytes()); err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// terminal reports whether w is one: colour and progress are for people only.
func terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS) // /dev/null is a character device too
	return err == nil && os.Getenv("TERM") != "dumb"
}

func printStatus(w io.Writer, s cluster.Status) error {
	fmt.Fprintf(w, "group %s  %s  epoch %d  durability %s  profile %s\n", s.Group, s.State, s.Epoch, s.Durability, s.Profile)
	if s.Mode != "" {
		fmt.Fprintf(w, "mode %s: the endpoints forward and report, and hide nothing\n", s.Mode)
	}
	if s.Reason != "" {
		fmt.Fprintf(w, "since %s: %s\n", s.Since.Format(time.RFC3339), s.Reason)
	}
	fmt.Fprintln(w)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	machines := slices.ContainsFunc(s.Nodes, func(n cluster.StatusNode) bool { return n.Machine != "" })
	column := func(machine string) string {
		if !machines {
			return ""
		}
		return "\t" + orDash(machine)
	}
	fmt.Fprintf(t, "NODE\tZONE%s\tROLE\tSTATE\tADDR\tPID\tOFFSET\tLAG\tCAN TAKE OVER\n", column("MACHINE"))
	for _, n := range s.Nodes {
		fmt.Fprintf(t, "%s\t%s%s\t%s\t%s\t%s\t%d\t%d\t%s\t%s\n", n.ID, n.Zone, column(n.Machine), n.Role, n.State, orDash(n.Addr), n.PID, n.Offset, lag(n), takeOver(n))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	e := s.Endpoints
	fmt.Fprintf(w, "\nprimary %s  reader %s  split %s  http %s\n", e.Primary, e.Reader, e.Split, e.HTTP)
	if c := s.LastFailover; c != nil {
		fmt.Fprintf(w, "last %s: %s -> %s in %.1f ms at %s, %s lost (%s)\n  %s\n",
			c.Kind, c.From, c.To, c.DurationMs, c.Started.Format(time.RFC3339), lostBytes(c.LostBytes), c.Cause, phases(c.PhasesMs))
	}
	for _, n := range s.Nodes {
		printLost(w, n.Lost)
	}
	return nil
}

func lostBytes(n int64) string {
	if n < 0 {
		return "an unknown number of bytes"
	}
	return fmt.Sprintf("%d bytes", n)
}

// printLost lists data sets that were put aside.
func printLost(w io.Writer, lost []cluster.Divergence) {
	for _, d := range lost {
		beyond := fmt.Sprintf("%d bytes of log", d.Bytes)
		if d.Bytes < 0 {
			beyond = "an unknown part of the log"
		}
		fmt.Fprintf(w, "put aside by %s at %s: %s of epoch %d that the group does not have, in a data set of %d keys, %d bytes\n  %s\n",
			d.Node, d.Time.Format(time.RFC3339), beyond, d.Epoch, d.Keys, d.Size, d.Path)
	}
}

// phases lists them in the order in which they happen; those that are not known here follow by name.
func phases(ms map[string]float64) string {
	order := []string{"detect", "fence", "pause", "elect", "promote", "route"}
	var names []string
	for name := range ms {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int {
		x, y := slices.Index(order, a), slices.Index(order, b)
		if x == y {
			return strings.Compare(a, b)
		}
		if x < 0 || y < 0 {
			return y - x
		}
		return x - y
	})
	for i, name := range names {
		names[i] = fmt.Sprintf("%s %.1f ms", name, ms[name])
	}
	return strings.Join(names, ", ")
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func lag(n cluster.StatusNode) string {
	if n.Role == cluster.RolePrimary {
		return "-"
	}
	return fmt.Sprintf("%d B, %.0f ms", n.LagBytes, n.LagMs)
}

func takeOver(n cluster.StatusNode) string {
	switch {
	case n.Role == cluster.RolePrimary:
		return "leads"
	case n.Electable:
		return "yes"
	default:
		return "no: " + n.Reason
	}
}
