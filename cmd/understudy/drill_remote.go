package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"understudy/drill"
)

// registerRemote adds what a target needs that is somebody else's group.
func (f *drillFlags) registerRemote(fs *pflag.FlagSet) {
	fs.StringVar(&f.Confirm, "confirm", "", "the name of a group that is not local, again: really run the drill on it")
	fs.StringVar(&f.AWS.Region, "region", "", "region of elasticache:// (default: as AWS's own clients find it)")
	fs.StringVar(&f.AWS.Endpoint, "endpoint-url", "", "URL to ask instead of AWS (default: AWS_ENDPOINT_URL, else AWS)")
	fs.StringVar(&f.Through, "through", "", "address of an understudy proxy before the same group: a lane through it beside the group's own endpoints")
	fs.IntVar(&f.Budget, "budget", 0, "drills that a group takes in 24 hours (default 2)")
	fs.StringVar(&f.BudgetFile, "budget-file", "", "where they are counted (default: with the user's state, understudy/drill-budget.json)")
	fs.DurationVar(&f.MaxLag, "max-lag", 0, "lag of a replica at which a group is not broken (default 1s)")
	fs.DurationVar(&f.AbortAfter, "abort-after", 0, "stop the load when no write was acked for so long after the fault (default 5m)")
	fs.DurationVar(&f.Patience, "patience", 0, "how long all nodes are waited for after the load (default 20s; 15m where the target is not local)")
	fs.DurationVar(&f.Poll, "poll", 0, "how often the ElastiCache API is asked (default 5s)")
}

// look prints what the drill would do, and does nothing.
func (f *drillFlags) look(cmd *cobra.Command) error {
	f.Logger = slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	plan, err := drill.Look(cmd.Context(), f.Options)
	if err != nil {
		return drillError(cmd.Context(), err)
	}
	out := cmd.OutOrStdout()
	if f.json == "-" {
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		err = e.Encode(plan)
	} else {
		err = printDrillPlan(out, plan)
	}
	if err != nil {
		return err
	}
	if n := len(plan.Refused()); n > 0 {
		return coded{exitRefused, fmt.Errorf("%d of %d guards stand against this drill", n, len(plan.Guards))}
	}
	return nil
}

func printDrillPlan(w io.Writer, p drill.Plan) error {
	fmt.Fprintf(w, "dry run: %s on %s; nothing has been done\n\n", p.Fault, p.Target)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, value string) {
		if value != "" {
			fmt.Fprintf(t, "%s\t%s\n", name, value)
		}
	}
	row("asked as", p.Caller)
	row("region", p.Region)
	row("instead of AWS", p.Endpoint)
	row("endpoint", p.Endpoints.Primary)
	row("reader endpoint", p.Endpoints.Reader)
	for _, n := range p.Nodes {
		row("node", n)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprint(w, "\nguards\n")
	for _, g := range p.Guards {
		mark := "ok     "
		if !g.OK {
			mark = "REFUSED"
		}
		fmt.Fprintf(t, "  %s\t%s\t%s\twanted: %s\n", mark, g.Name, g.Value, g.Want)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprint(w, "\nit would\n")
	for i, d := range p.Does {
		fmt.Fprintf(w, "  %d. %s\n", i+1, d)
	}
	fmt.Fprint(w, "\naborted by\n")
	for _, a := range p.Aborts {
		fmt.Fprintf(w, "  %s\n", a)
	}
	if len(p.Refused()) == 0 {
		fmt.Fprintf(w, "\nto run it, add: --confirm %s\n", p.Confirm)
	}
	return nil
}
