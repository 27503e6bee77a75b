package main

import (
	"github.com/spf13/cobra"

	"understudy/cluster"
	"understudy/dashboard"
)

func newSwitchover() *cobra.Command {
	var f operator
	var to, zone string
	cmd := &cobra.Command{
		Use:   "switchover [--to NODE | --zone ZONE] [--dry-run]",
		Short: "Make another node the primary, without an error or a lost write",
		Long: `Hands the lead over in order: new writes are held, the successor gets every byte, the
old primary is demoted first, then the successor is promoted and the writes go on.
Without --to or --zone the node that is the furthest takes over. One that cannot is refused
with its reason, exit 4.`,
		Example: "  understudy switchover\n  understudy switchover --zone us-east-1b --dry-run\n  understudy switchover --to main-002 --request-id ticket-4711",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if to != "" && zone != "" {
				return usagef("--to and --zone: name one of them")
			}
			o, err := f.ask(cmd, "/api/switchover", dashboard.SwitchoverRequest{To: cluster.NodeID(to), Zone: zone, Asked: f.asked})
			if err != nil {
				return err
			}
			return f.conclude(cmd, o)
		},
	}
	f.register(cmd)
	cmd.Flags().StringVar(&to, "to", "", "node that is to become the primary, e.g. main-002")
	cmd.Flags().StringVar(&zone, "zone", "", "zone in which the new primary is to be")
	return cmd
}
