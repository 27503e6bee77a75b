package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"understudy/dashboard"
)

// operator holds what `failover` and `switchover` have in common.
type operator struct {
	finder
	asked dashboard.Asked
	json  bool
}

func (f *operator) register(cmd *cobra.Command) {
	f.finder.register(cmd)
	cmd.Flags().BoolVar(&f.asked.DryRun, "dry-run", false, "print what would be done, and do nothing; exit 4 when it would be refused")
	cmd.Flags().StringVar(&f.asked.RequestID, "request-id", "", "a name for this request: repeated under it, it is answered again and does nothing")
	cmd.Flags().BoolVar(&f.json, "json", false, "print the answer as JSON, for programs")
}

// ask has a change of primary made, or planned, and returns the answer; a request that makes no sense is
// exit 2.
func (f *operator) ask(cmd *cobra.Command, path string, body any) (dashboard.Outcome, error) {
	var o dashboard.Outcome
	code, err := f.call(cmd.Context(), http.MethodPost, path, body, &o)
	if err == nil && code == http.StatusBadRequest {
		err = coded{exitUsage, errors.New(o.Message)}
	}
	return o, err
}

// conclude prints an answer and turns it into the exit code.
func (f *operator) conclude(cmd *cobra.Command, o dashboard.Outcome) error {
	out := cmd.OutOrStdout()
	if f.json {
		enc := json.NewEncoder(out)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		if err := enc.Encode(o); err != nil {
			return err
		}
	}
	switch {
	case o.Refused:
		return coded{exitRefused, fmt.Errorf("refused: %s", o.Message)}
	case !o.OK:
		return coded{exitNo, errors.New(o.Message)}
	case f.json:
		return nil
	case o.Plan != nil:
		return printPlan(out, *o.Plan)
	}
	_, err := fmt.Fprintf(out, "%s (epoch %d)\n", o.Message, o.Epoch)
	return err
}

func printPlan(w io.Writer, p dashboard.Plan) error {
	for i, s := range p.Steps {
		fmt.Fprintf(w, "%d. %s\n", i+1, s)
	}
	fmt.Fprintf(w, "\nthe next primary   %s: %s\nlost               %s\n", p.To, p.Why, p.Loss)
	expected := "not known: no change of this kind has been seen here"
	if p.ExpectedMs != nil {
		expected = fmt.Sprintf("about %.1f ms without a primary, as the last one (%s)", *p.ExpectedMs, phases(p.PhasesMs))
	}
	_, err := fmt.Fprintf(w, "time               %s\nNothing was changed.\n", expected)
	return err
}

// confirm asks whoever sits at the terminal whether to go on; without one it demands --yes.
func confirm(cmd *cobra.Command, p dashboard.Plan, group string) error {
	in, ok := cmd.InOrStdin().(*os.File)
	if !ok || !terminal(in) {
		return coded{exitRefused, errors.New("refused: nobody is asked here whether that is meant; look at --dry-run, then say --yes")}
	}
	if err := printPlan(cmd.ErrOrStderr(), p); err != nil {
		return err
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "\nWhat is lost cannot be had back. Type the group's name (%s) to go on: ", group)
	line, err := bufio.NewReader(in).ReadString('\n')
	if err != nil && line == "" {
		return coded{exitRefused, errors.New("refused: no answer")}
	}
	if strings.TrimSpace(line) != group {
		return coded{exitRefused, errors.New("refused: that is not the group's name; nothing was changed")}
	}
	return nil
}
