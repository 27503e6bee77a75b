package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"understudy/alarm"
	"understudy/alarm/watch"
	"understudy/notify"
)

func newAlarm() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "alarm",
		Short: "See alarms and their history, and test that one arrives",
		Long: `Each group gets a pack of alarms, which tell the topic understudy-alarms (--alarms,
--alarm-topic of "understudy up"). More are made, changed and deleted with "understudy aws
cloudwatch put-metric-alarm …" or any client of CloudWatch.`,
		Example: "  understudy alarm list\n  understudy alarm history understudy-main-no-primary\n  understudy alarm test understudy-main-no-primary",
	}
	cmd.AddCommand(newAlarmList(), newAlarmHistory(), newAlarmTest())
	demandSubcommand(cmd)
	return cmd
}

func newAlarmList() *cobra.Command {
	var f finder
	var asJSON bool
	var state string
	cmd := &cobra.Command{
		Use: "list", Short: "List alarms: those in ALARM first",
		Example: "  understudy alarm list\n  understudy alarm list --state ALARM --json", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			want := alarm.State(strings.ToUpper(state))
			if want != "" && want != alarm.OK && want != alarm.Alarm && want != alarm.InsufficientData {
				return usagef("--state %q: it is OK, ALARM or INSUFFICIENT_DATA", state)
			}
			var all watch.Listed
			if err := askAlarms(cmd.Context(), f, http.MethodGet, watch.APIPath, &all); err != nil {
				return err
			}
			all.Alarms = chosen(all.Alarms, want)
			if asJSON {
				return printJSON(cmd.OutOrStdout(), all)
			}
			return printAlarms(cmd.OutOrStdout(), all.Alarms)
		},
	}
	f.register(cmd)
	cmd.Flags().StringVar(&state, "state", "", "only those in this state: OK, ALARM or INSUFFICIENT_DATA")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the answer as JSON, for programs")
	return cmd
}

// chosen are the alarms in a state ("": any), those in ALARM first.
func chosen(all []watch.Shown, want alarm.State) []watch.Shown {
	list := []watch.Shown{}
	for _, s := range []alarm.State{alarm.Alarm, alarm.InsufficientData, alarm.OK} {
		for _, a := range all {
			if a.State == s && (want == "" || want == s) {
				list = append(list, a)
			}
		}
	}
	return list
}

func printAlarms(out io.Writer, all []watch.Shown) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, a := range all {
		note := ""
		switch {
		case a.Muted:
			note = "actions disabled"
		case len(a.Actions) == 0:
			note = "tells nobody"
		case a.Evaluation != "":
			note = a.Evaluation
		}
		fmt.Fprintf(w, "%s\t%s\tsince %s\t%s\t%s\n", a.State, a.Name, a.Since.Local().Format(time.DateTime), a.Rule, note)
	}
	if err := w.Flush(); err != nil || len(all) > 0 {
		return err
	}
	_, err := fmt.Fprintln(out, "there are none")
	return err
}

func newAlarmHistory() *cobra.Command {
	var f finder
	var asJSON bool
	var last int
	cmd := &cobra.Command{
		Use: "history [NAME]", Short: "Show what happened to an alarm, or to all, newest first",
		Example: "  understudy alarm history\n  understudy alarm history understudy-main-failover --last 5",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usagef("`%s` takes the name of one alarm, and got %q", cmd.CommandPath(), args)
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if last < 1 {
				return usagef("--last %d: it is 1 or more", last)
			}
			path := watch.APIPath + "/history"
			if len(args) == 1 {
				path += "?" + url.Values{"alarm": {args[0]}}.Encode()
			}
			var told watch.Told
			if err := askAlarms(cmd.Context(), f, http.MethodGet, path, &told); err != nil {
				return err
			}
			told.Entries = told.Entries[:min(last, len(told.Entries))]
			if asJSON {
				return printJSON(cmd.OutOrStdout(), told)
			}
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			for _, e := range told.Entries {
				fmt.Fprintf(w, "%s\t%s\t%s\n", e.At.Local().Format("2006-01-02 15:04:05.000"), e.Alarm, e.Summary)
			}
			return w.Flush()
		},
	}
	f.register(cmd)
	cmd.Flags().IntVar(&last, "last", 50, "how many entries")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the answer as JSON, with each entry's data, for programs")
	return cmd
}

// arriveWithin is how long a test waits for its messages to be delivered.
const arriveWithin = 10 * time.Second

func newAlarmTest() *cobra.Command {
	var f finder
	cmd := &cobra.Command{
		Use: "test NAME", Short: "Send what an alarm's subscribers would get, and wait until it is delivered",
		Long: `Has the topics of the alarm's ALARM actions told as if it had gone into ALARM; the reason says
that it is a test. The alarm's state and history stay as they are. Exit code 0: every
confirmed subscription has it; 1: not, and why.`,
		Example: "  understudy alarm test understudy-main-no-primary",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usagef("`%s` takes the name of one alarm, as `understudy alarm list` shows it", cmd.CommandPath())
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			var o watch.TestOutcome
			path := watch.APIPath + "/test?" + url.Values{"alarm": {args[0]}}.Encode()
			if err := askAlarms(cmd.Context(), f, http.MethodPost, path, &o); err != nil {
				return err
			}
			if !o.OK {
				return coded{exitNo, errors.New(o.Message)}
			}
			if err := heard(o.Messages); err != nil {
				return err
			}
			return f.awaitDelivery(cmd.Context(), cmd.OutOrStdout(), o.Messages)
		},
	}
	f.register(cmd)
	return cmd
}

// heard refuses a test that nobody hears of.
func heard(messages []watch.Tested) error {
	for _, m := range messages {
		if m.Subscribers > 0 {
			return nil
		}
	}
	return coded{exitNo, fmt.Errorf("nobody hears of it: %[1]s has no confirmed subscription; `understudy aws sns subscribe --topic-arn %[1]s --protocol http --notification-endpoint http://…` makes one", messages[0].Topic)}
}

// askAlarms asks the instance about alarms.
func askAlarms(ctx context.Context, f finder, method, path string, to any) error {
	var answer struct {
		Unknown bool   `json:"unknown"`
		Message string `json:"message"`
	}
	var raw json.RawMessage
	code, err := f.call(ctx, method, path, nil, &raw)
	if err != nil {
		return err
	}
	if code != http.StatusOK {
		if json.Unmarshal(raw, &answer) == nil && answer.Unknown {
			return coded{exitNo, fmt.Errorf("%s: `understudy alarm list` names those that there are", answer.Message)}
		}
		return coded{exitUnreachable, fmt.Errorf("the instance has no alarms to tell of (HTTP %d): it runs with --metrics=false, is of another version, or no `understudy up`", code)}
	}
	return json.Unmarshal(raw, to)
}

// awaitDelivery waits until the messages have left the queue, and says who did not get them.
func (f *finder) awaitDelivery(ctx context.Context, out io.Writer, messages []watch.Tested) error {
	started := time.Now()
	deadline := time.After(arriveWithin)
	ids := map[string]string{} // topics
	for _, m := range messages {
		ids[m.ID] = m.Topic
	}
	t := time.NewTicker(50 * time.Millisecond)
	defer t.Stop()
	for {
		var s notify.State
		if code, err := f.call(ctx, http.MethodGet, notify.APIPath, nil, &s); err != nil {
			return err
		} else if code != http.StatusOK {
			return noNotifications(code)
		}
		waiting, dead := undelivered(s, ids)
		switch {
		case len(dead) > 0:
			return coded{exitNo, errors.New("given up: " + strings.Join(dead, "; "))}
		case len(waiting) == 0:
			_, err := fmt.Fprintf(out, "%d topics were told; every confirmed subscription had it after %v\n", len(ids), time.Since(started).Round(time.Millisecond))
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-deadline:
			return coded{exitNo, fmt.Errorf("not delivered within %v, and tried again: %s", arriveWithin, strings.Join(waiting, "; "))}
		case <-t.C:
		}
	}
}

// undelivered says which subscriptions do not have the messages, and why.
func undelivered(s notify.State, ids map[string]string) (waiting, dead []string) {
	for _, q := range s.Queued {
		if _, ours := ids[q.MessageID]; ours {
			waiting = append(waiting, strings.TrimSpace(q.Subscription+" "+q.Error))
		}
	}
	for _, d := range s.Dead {
		if _, ours := ids[d.MessageID]; ours {
			dead = append(dead, d.Subscription+" "+d.Error)
		}
	}
	return waiting, dead
}
