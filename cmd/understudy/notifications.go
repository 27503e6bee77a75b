package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"understudy/notify"
)

func newNotifications() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "notifications",
		Short: "See what waits for delivery and what was given up, and send it again",
		Long: `A message of a topic waits until every subscription has it. A delivery that fails is tried
again; one that is given up becomes a dead letter, of which the newest 1,000 are kept.
Topics and subscriptions themselves are made with "understudy aws sns …".`,
		Example: "  understudy notifications list\n  understudy notifications resend 01793076552301234567-4f0c-1\n  understudy notifications drop 01793076552301234567-4f0c-1",
	}
	cmd.AddCommand(newNotificationsList(),
		newDeadLetter("resend", "Deliver a dead letter anew, with all of its attempts", http.MethodPost, "/resend"),
		newDeadLetter("drop", "Forget a dead letter", http.MethodDelete, ""))
	demandSubcommand(cmd)
	return cmd
}

func newNotificationsList() *cobra.Command {
	var f finder
	var asJSON bool
	cmd := &cobra.Command{
		Use: "list", Short: "List deliveries that wait, and dead letters", Example: "  understudy notifications list\n  understudy notifications list --json", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var s notify.State
			code, err := f.call(cmd.Context(), http.MethodGet, notify.APIPath, nil, &s)
			if err != nil {
				return err
			}
			if code != http.StatusOK {
				return noNotifications(code)
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), s)
			}
			return printNotifications(cmd.OutOrStdout(), s)
		},
	}
	f.register(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the answer as JSON, for programs")
	return cmd
}

func noNotifications(code int) error {
	return coded{exitUnreachable, fmt.Errorf("the instance has no notifications to tell of (HTTP %d): it is of another version, or no `understudy up`", code)}
}

func printNotifications(out io.Writer, s notify.State) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "%d wait\n", len(s.Queued))
	for _, q := range s.Queued {
		next := "now"
		if !q.Next.IsZero() {
			next = q.Next.Local().Format(time.DateTime)
		}
		fmt.Fprintf(w, "  %s\t%s\t%d attempts\tnext %s\t%s\n", q.MessageID, q.Subscription, q.Attempts, next, q.Error)
	}
	fmt.Fprintf(w, "%d were given up\n", len(s.Dead))
	for _, d := range s.Dead {
		fmt.Fprintf(w, "  %s\t%s\t%s\t%d attempts\t%s\n", d.ID, d.At.Local().Format(time.DateTime), d.Subscription, d.Attempts, d.Error)
	}
	return w.Flush()
}

// newDeadLetter is a command that does something with one dead letter.
func newDeadLetter(verb, short, method, do string) *cobra.Command {
	var f finder
	cmd := &cobra.Command{
		Use: verb + " ID", Short: short, Example: "  understudy notifications " + verb + " 01793076552301234567-4f0c-1",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usagef("`%s` takes the id of one dead letter, as `understudy notifications list` shows it", cmd.CommandPath())
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			var o notify.Outcome
			code, err := f.call(cmd.Context(), method, notify.APIPath+"/"+url.PathEscape(args[0])+do, nil, &o)
			switch {
			case err != nil:
				return err
			case o.Message == "":
				return noNotifications(code)
			case !o.OK:
				return coded{exitNo, errors.New(o.Message)}
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), o.Message)
			return err
		},
	}
	f.register(cmd)
	return cmd
}
