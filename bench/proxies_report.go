package main

import (
	"fmt"
	"io"
	"strings"
)

func (r *report) printProxies(w io.Writer) {
	p := r.Proxies
	if p == nil {
		fmt.Fprintln(w, "\nPROXIES: not measured")
		return
	}
	var peers []string
	for _, b := range p.Peers {
		peers = append(peers, b.Version)
	}
	fmt.Fprintf(w, "\nPROXIES side by side, medians of %d rounds in which all take turns; %s\n", r.Rounds, strings.Join(peers, "; "))
	p.printRatios(w)
	p.printCPU(w)
	p.printOpen(w)
	p.printPair(w, caseSync, laneSync, laneAsync, "SYNC durability beside async, 50 connections, a group of three on this machine", goalSync)
	p.printPair(w, caseSplit, laneSplit, lanePrimary, "SPLIT endpoint beside the primary endpoint, 50 connections, 90 % reads, two replicas", goalSplit)
	p.printSplitCPU(w)
	fmt.Fprint(w, `SET and GET: redis-benchmark. mix: a load of our own, GETs and SETs at random, one SET to ten GETs where nothing
else is said. Direct is a redis-server without replicas and without persistence, which is also what stands behind
each proxy. Ratios are those of figures of the same round. CPU is that of all threads of a process, user and system.
`)
}

func (p *proxies) of(name string) []*proxyRun {
	var some []*proxyRun
	for _, run := range p.Runs {
		if run.Case == name {
			some = append(some, run)
		}
	}
	return some
}

// ratio is a lane's rate by another's in the same round.
func (run *proxyRun) ratio(of, to string) spread {
	var ratios []float64
	for i := range min(len(run.Lanes[of]), len(run.Lanes[to])) {
		ratios = append(ratios, run.Lanes[of][i].Rate/run.Lanes[to][i].Rate)
	}
	return spreadOf(ratios)
}

// median is a lane's median of anything.
func (run *proxyRun) median(lane string, of func(proxyFigure) float64) float64 {
	return spreadOf(each(run.Lanes[lane], of)).Median
}

// closedLoops are the runs of the cases that all rivals carry.
func (p *proxies) closedLoops() []*proxyRun {
	var all []*proxyRun
	for _, c := range proxyCases {
		all = append(all, p.of(c.name)...)
	}
	return all
}

func (p *proxies) printRatios(w io.Writer) {
	runs := p.closedLoops()
	if len(runs) == 0 {
		return
	}
	fmt.Fprintln(w, "\nRequests a second, relative to a direct connection")
	t := table(w)
	fmt.Fprintln(t, "case\tload\tdirect, requests/s\tunderstudy\ttwemproxy\thaproxy\tgoal\tahead of every peer\tp99 ms: direct, understudy, twemproxy, haproxy")
	for _, run := range runs {
		ours := run.ratio(viaUnderstudy, laneDirect)
		best := max(run.ratio(viaTwemproxy, laneDirect).Median, run.ratio(viaHAProxy, laneDirect).Median)
		var tails []string
		for _, lane := range rivals {
			tails = append(tails, fmt.Sprintf("%.2f", run.median(lane, func(f proxyFigure) float64 { return f.P99Ms })))
		}
		fmt.Fprintf(t, "%s\t%s\t%.0f\t%s\t%.2f\t%.2f\t%.2f: %s\t%s\t%s\n", run.Case, run.Load,
			run.median(laneDirect, func(f proxyFigure) float64 { return f.Rate }), ours.format(2),
			run.ratio(viaTwemproxy, laneDirect).Median, run.ratio(viaHAProxy, laneDirect).Median,
			run.Goal, met(run.Goal, ours.Median), map[bool]string{true: "yes", false: "NO"}[ours.Median > best], strings.Join(tails, ", "))
	}
	_ = t.Flush()
}

func (p *proxies) printCPU(w io.Writer) {
	runs := p.closedLoops()
	if len(runs) == 0 {
		return
	}
	fmt.Fprintln(w, "\nCPU seconds per million requests: of the proxy, and of the redis-server behind it")
	t := table(w)
	fmt.Fprintln(t, "case\tload\tdirect\tunderstudy\ttwemproxy\thaproxy\tgoal")
	for _, run := range runs {
		goal := ""
		if run.Case == proxyCases[0].name {
			goal = fmt.Sprintf("%.1f: %s", goalCPU, met(run.median(viaUnderstudy, ofProxy), goalCPU))
		}
		fmt.Fprintf(t, "%s\t%s\t+%.1f", run.Case, run.Load, run.median(laneDirect, ofServer))
		for _, lane := range rivals[1:] {
			fmt.Fprintf(t, "\t%.1f +%.1f", run.median(lane, ofProxy), run.median(lane, ofServer))
		}
		fmt.Fprintf(t, "\t%s\n", goal)
	}
	_ = t.Flush()
}

func ofProxy(f proxyFigure) float64  { return f.ProxyCPU }
func ofServer(f proxyFigure) float64 { return f.ServerCPU }

func (p *proxies) printOpen(w io.Writer) {
	for _, run := range p.of(openCase) {
		fmt.Fprintf(w, "\nLATENCY of an open loop, %s over 50 connections, from when each request was due\n", run.Load)
		t := table(w)
		fmt.Fprintln(t, "\tp50 ms\tp99 ms\tadded to p99, ms\tgoal")
		for _, lane := range rivals {
			added, goal := run.added(lane), ""
			if lane == viaUnderstudy {
				goal = fmt.Sprintf("%.2f: %s", goalAdded, met(added.Median, goalAdded))
			}
			text := added.format(2)
			if lane == laneDirect {
				text = ""
			}
			fmt.Fprintf(t, "%s\t%.2f\t%.2f\t%s\t%s\n", lane, run.median(lane, func(f proxyFigure) float64 { return f.P50Ms }),
				run.median(lane, func(f proxyFigure) float64 { return f.P99Ms }), text, goal)
		}
		_ = t.Flush()
	}
}

// added is by how much a lane's p99 is above the direct one of the same round, in ms.
func (run *proxyRun) added(lane string) spread {
	var all []float64
	for i := range min(len(run.Lanes[lane]), len(run.Lanes[laneDirect])) {
		all = append(all, run.Lanes[lane][i].P99Ms-run.Lanes[laneDirect][i].P99Ms)
	}
	return spreadOf(all)
}

// printPair shows one lane beside another.
func (p *proxies) printPair(w io.Writer, name, of, to, title string, goal float64) {
	runs := p.of(name)
	if len(runs) == 0 {
		return
	}
	fmt.Fprintf(w, "\n%s\n", title)
	t := table(w)
	fmt.Fprintf(t, "load\t%s, requests/s\t%s, requests/s\tratio\tgoal\tp99 ms: %s, %s\n", to, of, to, of)
	for _, run := range runs {
		ratio := run.ratio(of, to)
		if ratio.N == 0 {
			continue // what went wrong is the run's error
		}
		rate := func(f proxyFigure) float64 { return f.Rate }
		tail := func(f proxyFigure) float64 { return f.P99Ms }
		fmt.Fprintf(t, "%s\t%.0f\t%.0f\t%s\t%.2f: %s\t%.2f, %.2f\n", run.Load, run.median(to, rate), run.median(of, rate), ratio.format(2),
			goal, met(goal, ratio.Median), run.median(to, tail), run.median(of, tail))
	}
	_ = t.Flush()
}

func (p *proxies) printSplitCPU(w io.Writer) {
	for _, run := range p.of(caseSplit) {
		var ratios []float64
		for i := range min(len(run.Lanes[laneSplit]), len(run.Lanes[lanePrimary])) {
			ratios = append(ratios, run.Lanes[laneSplit][i].ServerCPU/run.Lanes[lanePrimary][i].ServerCPU)
		}
		ratio := spreadOf(ratios)
		fmt.Fprintf(w, "CPU of the primary per million requests: direct %.1f s, primary endpoint %.1f s, split endpoint %.1f s; split ÷ primary %s, goal at most %.2f: %s\n",
			run.median(laneDirect, ofServer), run.median(lanePrimary, ofServer), run.median(laneSplit, ofServer), ratio.format(2), goalSplitCPU, met(ratio.Median, goalSplitCPU))
	}
}
