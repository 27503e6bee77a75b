package main

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"understudy/backup"
)

func newBackup() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "backup",
		Short: "Keep copies of a group's data, and make groups of them",
		Long: `A backup is the data set of a group as it was at one moment, with everything that was
acked before the command was given. A replica writes it; the primary only when no replica
can. It is there when it is whole, on disk, and has been read in full by the installed
server; until then, and when that fails, there is nothing. Backups lie in the directory
backups below the data directory, and outlive their group.`,
		Example: "  understudy backup create --name before-the-sale\n  understudy backup list\n  understudy backup restore before-the-sale --group looked-at",
	}
	cmd.AddCommand(newBackupCreate(), newBackupList(), newBackupVerify(), newBackupRestore(), newBackupDelete())
	demandSubcommand(cmd)
	return cmd
}

// keeper is what the subcommands have in common.
type keeper struct {
	finder
	requestID string
	json      bool
}

func (k *keeper) register(cmd *cobra.Command) {
	k.finder.register(cmd)
	cmd.Flags().BoolVar(&k.json, "json", false, "print the answer as JSON, for programs")
}

func (k *keeper) registerAsked(cmd *cobra.Command) {
	k.register(cmd)
	cmd.Flags().StringVar(&k.requestID, "request-id", "", "a name for this request: repeated under it, it is answered again and does nothing")
}

// ask has a request carried out. One that takes its time is asked about again under its id until it is done.
func (k *keeper) ask(cmd *cobra.Command, method, path string, body func(requestID string) any) (backup.Outcome, error) {
	id := k.requestID
	if id == "" {
		id = rand.Text()
	}
	for {
		var o backup.Outcome
		code, err := k.call(cmd.Context(), method, path, body(id), &o)
		if err != nil || o.Done {
			return o, err
		}
		if code != http.StatusAccepted {
			return o, coded{exitUnreachable, fmt.Errorf("the instance has no backups to tell of (HTTP %d): it is of another version, or no `understudy up`", code)}
		}
	}
}

// conclude prints an outcome and turns it into the exit code.
func (k *keeper) conclude(cmd *cobra.Command, o backup.Outcome) error {
	if k.json {
		if err := printJSON(cmd.OutOrStdout(), o); err != nil {
			return err
		}
	}
	switch {
	case o.Invalid:
		return coded{exitUsage, errors.New(o.Message)}
	case o.Refused:
		return coded{exitRefused, fmt.Errorf("refused: %s", o.Message)}
	case !o.OK:
		return coded{exitNo, errors.New(o.Message)}
	case k.json:
		return nil
	}
	_, err := fmt.Fprintln(cmd.OutOrStdout(), o.Message)
	return err
}

func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// backupPath is the path of one backup, and what is to be done with it.
func backupPath(id, do string) string { return "/api/backups/" + url.PathEscape(id) + do }

// oneBackup demands the name of one backup.
func oneBackup(cmd *cobra.Command, args []string) error {
	if len(args) != 1 {
		return usagef("`%s` takes the name of one backup, and got %d words; see `%s --help`", cmd.CommandPath(), len(args), cmd.CommandPath())
	}
	if err := backup.CheckName(args[0]); err != nil {
		return coded{exitUsage, err}
	}
	return nil
}

func newBackupCreate() *cobra.Command {
	var k keeper
	var ask backup.Ask
	cmd := &cobra.Command{
		Use:   "create [--group GROUP] [--name NAME]",
		Short: "Make a backup of a group",
		Long: `Has the replica that lags least write the data set, reads it in full, and keeps it. Writes
go on meanwhile: of them, what was acked before the command was given is in the backup.
Refused, exit 4, when the name is taken, or when less than a tenth of the disk would be free.`,
		Example: "  understudy backup create\n  understudy backup create --group main --name before-the-sale --json",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o, err := k.ask(cmd, http.MethodPost, "/api/backups", func(id string) any { ask.RequestID = id; return ask })
			if err != nil {
				return err
			}
			return k.conclude(cmd, o)
		},
	}
	k.registerAsked(cmd)
	cmd.Flags().StringVar(&ask.Group, "group", "", "group of which a backup is made; default: the instance's own")
	cmd.Flags().StringVar(&ask.ID, "name", "", "name of the backup; default: the group's and the time")
	return cmd
}

func newBackupList() *cobra.Command {
	var k keeper
	var group string
	var all bool
	cmd := &cobra.Command{
		Use:     "list [--group GROUP]",
		Short:   "List the backups, oldest first",
		Example: "  understudy backup list\n  understudy backup list --group main --json",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			q := url.Values{}
			if group != "" {
				q.Set("group", group)
			}
			if all {
				q.Set("all", "1")
			}
			var list []backup.Backup
			if _, err := k.call(cmd.Context(), http.MethodGet, "/api/backups?"+q.Encode(), nil, &list); err != nil {
				return err
			}
			if k.json {
				return printJSON(cmd.OutOrStdout(), list)
			}
			return printBackups(cmd.OutOrStdout(), list)
		},
	}
	k.register(cmd)
	cmd.Flags().StringVar(&group, "group", "", "only backups of this group")
	cmd.Flags().BoolVar(&all, "all", false, "also those that are being made, and those of this process that were not made")
	return cmd
}

func printBackups(w io.Writer, list []backup.Backup) error {
	if len(list) == 0 {
		_, err := fmt.Fprintln(w, "There is no backup.")
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "NAME\tGROUP\tSTATE\tKIND\tTAKEN\tFROM\tKEYS\tBYTES")
	for _, b := range list {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%d\t%d\n", b.ID, b.Group, b.State, b.Kind, b.Created.UTC().Format(time.RFC3339), b.Node, b.Keys, b.Bytes)
		if b.Reason != "" {
			fmt.Fprintf(t, "  %s\n", b.Reason)
		}
	}
	return t.Flush()
}

func newBackupVerify() *cobra.Command {
	var k keeper
	cmd := &cobra.Command{
		Use:   "verify NAME",
		Short: "Read a backup again, byte for byte",
		Long: `Compares the file with the SHA-256 that it had when it was made, and has the installed
server read every value. Exit 1 when it is damaged: it is then never restored.`,
		Example: "  understudy backup verify before-the-sale",
		Args:    oneBackup,
		RunE: func(cmd *cobra.Command, args []string) error {
			o, err := k.ask(cmd, http.MethodPost, backupPath(args[0], "/verify"), func(id string) any { return backup.Ask{RequestID: id} })
			if err != nil {
				return err
			}
			return k.conclude(cmd, o)
		},
	}
	k.registerAsked(cmd)
	return cmd
}

func newBackupRestore() *cobra.Command {
	var k keeper
	var ask backup.RestoreAsk
	var zones list
	cmd := &cobra.Command{
		Use:   "restore NAME --group NEW",
		Short: "Make a new group of a backup",
		Long: `Starts a group beside the others, with endpoints of its own on the next free ports: one
node reads the backup and leads, its keys are counted, then the others copy it. The command
ends when every node has the data, or when nothing is left of the new group. A backup is
never restored over a group: the name must be new (exit 4 otherwise).`,
		Example: "  understudy backup restore before-the-sale --group looked-at\n  understudy backup restore before-the-sale --group looked-at --nodes 1 --port 6400",
		Args:    oneBackup,
		RunE: func(cmd *cobra.Command, args []string) error {
			if ask.Group == "" {
				return usagef("--group: the name of the new group is needed")
			}
			ask.Zones = zones
			o, err := k.ask(cmd, http.MethodPost, backupPath(args[0], "/restore"), func(id string) any { ask.RequestID = id; return ask })
			if err != nil {
				return err
			}
			return k.conclude(cmd, o)
		},
	}
	k.registerAsked(cmd)
	cmd.Flags().StringVar(&ask.Group, "group", "", "name of the new group")
	cmd.Flags().IntVar(&ask.Nodes, "nodes", 0, "how many nodes it has, 1 to 6; default: as many as the group had")
	cmd.Flags().Var(&zones, "zones", "zones of its nodes, in turn; default: as the group's")
	cmd.Flags().IntVar(&ask.Port, "port", 0, "port of its primary endpoint; default: the next one that is free")
	return cmd
}

func newBackupDelete() *cobra.Command {
	var k keeper
	cmd := &cobra.Command{
		Use:     "delete NAME",
		Short:   "Delete a backup",
		Long:    `Deletes a backup for good. Refused, exit 4, while it is being made, copied, verified or restored.`,
		Example: "  understudy backup delete before-the-sale",
		Args:    oneBackup,
		RunE: func(cmd *cobra.Command, args []string) error {
			var o backup.Outcome
			if _, err := k.call(cmd.Context(), http.MethodDelete, backupPath(args[0], ""), nil, &o); err != nil {
				return err
			}
			return k.conclude(cmd, o)
		},
	}
	k.register(cmd)
	return cmd
}
