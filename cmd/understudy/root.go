package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"understudy/aws/cli"
)

//go:generate go test . -run TestTheCLIPageIsWhatTheCommandsSay -update

// newRoot builds the whole command tree; docs/cli.md is written from it.
func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "understudy",
		Short: "Keep applications running while their Redis fails over",
		Long: `Understudy runs a replication group of real redis-servers across zones, promotes a
replica when the primary dies, hangs or is cut off, and holds the application's
connections meanwhile: any Redis client sees a short pause instead of errors.

Exit codes: 0 fine, 1 the answer is no, 2 usage or configuration, 3 not reachable,
4 refused for safety (the message says what to do).`,
		Example:       "  understudy up\n  understudy status\n  understudy switchover",
		SilenceErrors: true, SilenceUsage: true,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
	}
	root.SetFlagErrorFunc(flagError)
	root.AddCommand(newUp(), newAgent(), newProxy(), newCerts(), newStatus(), newSwitchover(), newFailover(), newTap(), newDrill(), newDoctor(), newBackup(), newNotifications(), newAlarm(), newMetrics(), newAWS(), newSim(), newDemo(), newVersion(), newFencer())
	root.SetHelpCommand(newHelp())
	demandSubcommand(root)
	return root
}

// newHelp is cobra's help, but for a topic that does not exist: that is a usage error here.
func newHelp() *cobra.Command {
	return &cobra.Command{
		Use: "help [COMMAND]", Short: "Show a command's help",
		Example: "  understudy help up",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, rest, err := cmd.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return unknownCommand(c, args[len(args)-max(1, len(rest))])
			}
			c.InitDefaultHelpFlag()
			c.SetOut(cmd.OutOrStdout())
			return c.Help()
		},
	}
}

// demandSubcommand lets a command that only groups others show its help when called alone, and
// refuse a word that is none of its subcommands.
func demandSubcommand(c *cobra.Command) {
	c.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			return unknownCommand(cmd, args[0])
		}
		return nil
	}
	c.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
}

func unknownCommand(c *cobra.Command, name string) error {
	var names []string
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() {
			names = append(names, sub.Name())
		}
	}
	return usagef("unknown command %q for %q%s; see `%s --help`", name, c.CommandPath(), didYouMean(name, names, ""), c.CommandPath())
}

// noArgs refuses words that the command does not take.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usagef("`%s` takes no argument, and got %q; see `%s --help`", cmd.CommandPath(), args[0], cmd.CommandPath())
	}
	return nil
}

func flagError(cmd *cobra.Command, err error) error {
	hint := ""
	var unknown *pflag.NotExistError
	if errors.As(err, &unknown) {
		var names []string
		cmd.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
		hint = didYouMean(unknown.GetSpecifiedName(), names, "--")
	}
	return usagef("%w%s; see `%s --help`", err, hint, cmd.CommandPath())
}

// didYouMean names the nearest of the names, when one is near enough to be a slip.
func didYouMean(got string, names []string, prefix string) string {
	best, distance := "", max(2, len(got)/3)+1
	for _, n := range names {
		d := cli.Edits(got, n)
		if strings.HasPrefix(n, got) && got != "" {
			d = min(d, 1)
		}
		if d < distance {
			best, distance = n, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(": did you mean %q?", prefix+best)
}
