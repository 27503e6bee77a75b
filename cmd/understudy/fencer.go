package main

import (
	"github.com/spf13/cobra"

	"understudy/redis"
)

// newFencer stands for the process that main becomes before any command is parsed; by hand it only
// says what it is.
func newFencer() *cobra.Command {
	return &cobra.Command{
		Use: redis.FencerArg, Short: "Kill redis-servers whose agent no longer can (started by up)", Hidden: true,
		RunE: func(*cobra.Command, []string) error {
			return usagef("the fencer is started by `understudy up` and takes no argument")
		},
	}
}
