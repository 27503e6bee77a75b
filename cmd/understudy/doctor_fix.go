package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	cloud "understudy/aws/remote"
	"understudy/backup"
	"understudy/doctor"
)

// mended is one fix, and what became of it.
type mended struct {
	ID    string      `json:"id"` // of the finding
	Fix   *doctor.Fix `json:"fix"`
	Done  bool        `json:"done"`
	Error string      `json:"error,omitempty"`
}

// mend shows the safe fixes, has them allowed, applies them, and examines the group again.
func (f *doctorFlags) mend(p doctor.Patient, found []doctor.Finding, examine func(context.Context) (doctor.Patient, error)) error {
	out := f.cmd.OutOrStdout()
	fixes := safe(found)
	if !f.json {
		if err := printFindings(out, p, found); err != nil {
			return err
		}
		printFixes(out, fixes)
	}
	if len(fixes) == 0 || !f.allowed(out) {
		var err error
		if f.json {
			r := newReport(p, found)
			r.Fixes = fixes
			err = printJSON(out, r)
		}
		return errors.Join(err, verdict(found))
	}
	failed := f.apply(fixes)
	p, err := examine(f.cmd.Context())
	if err != nil {
		return err
	}
	left := doctor.Examine(p)
	if f.json {
		r := newReport(p, left)
		r.Fixes = fixes
		err = printJSON(out, r)
	} else {
		fmt.Fprint(out, "\nafterwards\n")
		err = printFindings(out, p, left)
	}
	if failed > 0 {
		return errors.Join(err, coded{exitNo, fmt.Errorf("%d of %d fixes failed", failed, len(fixes))})
	}
	return errors.Join(err, verdict(left))
}

// safe are the fixes of findings, each once: several findings may want the same.
func safe(found []doctor.Finding) []mended {
	fixes := []mended{}
	for _, x := range found {
		if x.Safe && !slices.ContainsFunc(fixes, func(m mended) bool { return m.Fix.Does == x.Fix.Does }) {
			fixes = append(fixes, mended{ID: x.ID, Fix: x.Fix})
		}
	}
	return fixes
}

func printFixes(w io.Writer, fixes []mended) {
	if len(fixes) == 0 {
		fmt.Fprint(w, "\nnothing of this is mended by --fix: the commands above are\n")
		return
	}
	fmt.Fprint(w, "\n--fix would\n")
	for i, m := range fixes {
		fmt.Fprintf(w, "  %d. %s (%s)\n", i+1, m.Fix.Does, m.Fix.Call)
	}
}

// allowed asks, where somebody is there to answer.
func (f *doctorFlags) allowed(w io.Writer) bool {
	if f.yes {
		return true
	}
	stdin, ok := f.cmd.InOrStdin().(io.Writer) // a file, when it is the process's own
	if f.json || !ok || !terminal(stdin) {
		if !f.json {
			fmt.Fprint(w, "\nnothing was done: add --yes\n")
		}
		return false
	}
	fmt.Fprint(w, "\ndo it? (y/N) ")
	answer, _ := bufio.NewReader(f.cmd.InOrStdin()).ReadString('\n')
	answer = strings.ToLower(strings.TrimSpace(answer))
	if answer != "y" && answer != "yes" {
		fmt.Fprint(w, "nothing was done\n")
		return false
	}
	return true
}

// apply carries the fixes out, one after the other; one that fails does not keep the others back.
func (f *doctorFlags) apply(fixes []mended) (failed int) {
	out := f.cmd.OutOrStdout()
	if f.json {
		out = f.cmd.ErrOrStderr()
	}
	fmt.Fprintln(out)
	for i := range fixes {
		m := &fixes[i]
		if err := m.Fix.Apply(f.cmd.Context(), (*hands)(f)); err != nil {
			m.Error = err.Error()
			failed++
			fmt.Fprintf(out, "FAILED  %s: %v\n", m.Fix.Does, err)
			continue
		}
		m.Done = true
		fmt.Fprintf(out, "done    %s\n", m.Fix.Does)
	}
	return failed
}

// hands mend through the API, and where there is none through the instance's own.
type hands doctorFlags

var _ doctor.Hands = (*hands)(nil)

// ChangeGroup waits until the group is as it is to be: until then it takes no other change.
func (h *hands) ChangeGroup(ctx context.Context, group string, c cloud.Change) error {
	if err := h.cloud.ChangeGroup(ctx, group, c); err != nil {
		return err
	}
	return h.settle(ctx, group)
}

// settleWithin bounds the wait for a group that is being changed; AWS takes minutes.
const settleWithin = 15 * time.Minute

func (h *hands) settle(ctx context.Context, group string) error {
	ctx, cancel := context.WithTimeout(ctx, settleWithin)
	defer cancel()
	tick := time.NewTicker(h.wait)
	defer tick.Stop()
	for {
		g, err := h.cloud.Group(ctx, group)
		if err == nil && g.State == cloud.Available {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("group %s is %s, and not available after %v: %w", group, orDash(g.State), settleWithin, errors.Join(err, ctx.Err()))
		case <-tick.C:
		}
	}
}

// EnableAlarmActions implements doctor.Hands.
func (h *hands) EnableAlarmActions(ctx context.Context, names ...string) error {
	return h.cloud.EnableAlarmActions(ctx, names...)
}

// PutAlarm implements doctor.Hands.
func (h *hands) PutAlarm(ctx context.Context, a cloud.Alarm) error { return h.cloud.PutAlarm(ctx, a) }

// BackUp implements doctor.Hands.
func (h *hands) BackUp(ctx context.Context, of, name string) error {
	if !h.local {
		if err := h.cloud.TakeSnapshot(ctx, of, name); err != nil {
			return err
		}
		return h.settleSnapshot(ctx, name)
	}
	k := keeper{finder: h.finder}
	o, err := k.ask(h.cmd, http.MethodPost, "/api/backups", func(id string) any { return backup.Ask{Group: of, RequestID: id} })
	if err == nil && !o.OK {
		err = errors.New(o.Message)
	}
	return err
}

// settleSnapshot waits until a snapshot is whole.
func (h *hands) settleSnapshot(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, settleWithin)
	defer cancel()
	tick := time.NewTicker(h.wait)
	defer tick.Stop()
	group := strings.TrimPrefix(h.target, "elasticache://")
	for {
		all, err := h.cloud.Snapshots(ctx, group)
		i := slices.IndexFunc(all, func(s cloud.Snapshot) bool { return s.Name == name })
		switch {
		case i >= 0 && all[i].State == cloud.Available:
			return h.settle(ctx, group)
		case i >= 0 && all[i].State == "failed":
			return fmt.Errorf("snapshot %s failed: see the group's events", name)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("snapshot %s is not whole after %v: %w", name, settleWithin, errors.Join(err, ctx.Err()))
		case <-tick.C:
		}
	}
}
