package main

import (
	"github.com/spf13/cobra"

	"understudy/dashboard"
)

func newFailover() *cobra.Command {
	var f finder
	var group, zone string
	cmd := &cobra.Command{
		Use:   "failover [--group GROUP] [--primary-az ZONE]",
		Short: "Force a failover by really killing the primary",
		Long: `Sends SIGKILL to the primary's redis-server and waits until another node accepts writes.
Refused when the primary is not in the zone named, or when no other node can take over.`,
		Example: "  understudy failover\n  understudy failover --group main",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.operate(cmd, "/api/failover", dashboard.FailoverRequest{Group: group, Zone: zone})
		},
	}
	f.register(cmd)
	cmd.Flags().StringVar(&group, "group", "", "refuse when the instance runs another group")
	cmd.Flags().StringVar(&zone, "primary-az", "", "refuse when the primary is not in this zone")
	return cmd
}
