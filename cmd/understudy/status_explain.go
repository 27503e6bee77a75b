package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"text/tabwriter"

	"understudy/failover"
)

func (f *statusFlags) showExplanation(ctx context.Context, w io.Writer) error {
	var e failover.Explanation
	code, err := f.call(ctx, http.MethodGet, "/api/explain", nil, &e)
	if err != nil {
		return err
	}
	if code != http.StatusOK || e.Group == "" {
		return coded{exitUnreachable, fmt.Errorf("the instance answers %d to /api/explain", code)}
	}
	if f.json {
		return f.encode(w, e)
	}
	return printExplanation(w, e)
}

func printExplanation(w io.Writer, e failover.Explanation) error {
	lead := "nobody leads"
	if e.Primary != "" {
		lead = fmt.Sprintf("%s leads, permit %.0f ms", e.Primary, e.PermitMs)
	}
	fmt.Fprintf(w, "group %s  epoch %d  %s\n\n", e.Group, e.Epoch, lead)
	b := e.Election
	fmt.Fprintf(w, "failover     %s\n", e.Failover)
	switch {
	case b.Winner == "":
		fmt.Fprintf(w, "election     nobody%s: %s\n", supposing(e), b.Reason)
	default:
		fmt.Fprintf(w, "election     %s would win%s. By %s\n", b.Winner, supposing(e), b.Reason)
	}
	if b.Loss != "" {
		fmt.Fprintf(w, "lost then    %s\n", b.Loss)
	}
	fmt.Fprintf(w, "voter rule   %s\nstore        %s\n\n", e.Rule.Text, e.Store.Text)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "NODE\tZONE\tSTATE\tCAN TAKE OVER\tFENCES")
	for _, n := range e.Nodes {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", n.ID, n.Zone, n.State, place(n, b), orDash(strings.ReplaceAll(strings.Join(n.Fences, ", "), "_", " ")))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, n := range e.Nodes {
		for _, weaker := range n.Weaker {
			fmt.Fprintf(w, "fences of %s: %s\n", n.ID, weaker)
		}
	}
	if len(e.Lost) > 0 {
		fmt.Fprintln(w)
		printLost(w, e.Lost)
	}
	return nil
}

// supposing says what the election is imagined for.
func supposing(e failover.Explanation) string {
	if e.Election.Without == "" {
		return " now"
	}
	return " if " + string(e.Election.Without) + " were lost now"
}

// place is a node's rank among the candidates, or why it is none.
func place(n failover.NodeInWords, b failover.Ballot) string {
	i := slices.IndexFunc(b.Ranking, func(s failover.Standing) bool { return s.Node == n.ID })
	switch {
	case !n.Electable && n.Reason == "it leads":
		return "it leads"
	case !n.Electable:
		return "no: " + n.Reason
	case i <= 0:
		return "yes, first"
	default:
		return fmt.Sprintf("yes, place %d (behind by %s)", i+1, b.Ranking[i].Decided)
	}
}
