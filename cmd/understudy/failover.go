package main

import (
	"github.com/spf13/cobra"

	"understudy/dashboard"
)

// failoverFlags say what `understudy failover` is to do.
type failoverFlags struct {
	operator
	request dashboard.FailoverRequest
	yes     bool
}

func newFailover() *cobra.Command {
	var f failoverFlags
	cmd := &cobra.Command{
		Use:   "failover [--group GROUP] [--primary-az ZONE] [--dry-run] [--accept-data-loss]",
		Short: "Force a failover by really killing the primary",
		Long: `Sends SIGKILL to the primary's redis-server and waits until another node accepts writes.
Refused when the primary is not in the zone named, or when no other node can take over.

A group that has no primary, because no log that is left surely has every acked write, waits
for an operator. The refusal then says how much would be lost at least. With
--accept-data-loss the node with the best log that is left leads; what the others have
beyond it is put aside, not thrown away.`,
		Example: "  understudy failover --dry-run\n  understudy failover\n  understudy failover --group main --request-id ticket-4711\n  understudy failover --accept-data-loss --yes",
		Args:    noArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	f.register(cmd)
	cmd.Flags().StringVar(&f.request.Group, "group", "", "refuse when the instance runs another group")
	cmd.Flags().StringVar(&f.request.Zone, "primary-az", "", "refuse when the primary is not in this zone")
	cmd.Flags().BoolVar(&f.request.AcceptLoss, "accept-data-loss", false, "have a group without a primary go on with what is left")
	cmd.Flags().BoolVar(&f.yes, "yes", false, "do not ask whether the loss is meant")
	return cmd
}

func (f *failoverFlags) run(cmd *cobra.Command) error {
	const path = "/api/failover"
	f.request.Asked = f.asked
	switch {
	case f.yes && !f.request.AcceptLoss:
		return usagef("--yes: nothing is asked without --accept-data-loss")
	case f.request.AcceptLoss && f.request.Zone != "":
		return usagef("--primary-az and --accept-data-loss: the loss is accepted for a group that has no primary")
	}
	if f.request.AcceptLoss && !f.yes && !f.asked.DryRun {
		planned := f.request
		planned.DryRun = true
		o, err := f.ask(cmd, path, planned)
		if err != nil {
			return err
		}
		if !o.OK || o.Plan == nil {
			return f.conclude(cmd, o)
		}
		if err := confirm(cmd, *o.Plan, o.Group); err != nil {
			return err
		}
	}
	o, err := f.ask(cmd, path, f.request)
	if err != nil {
		return err
	}
	return f.conclude(cmd, o)
}
