package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"

	"golang.org/x/sys/unix"
)

// report is everything that a run found.
type report struct {
	Command  string     `json:"command"`
	Date     string     `json:"date"`
	Machine  machine    `json:"machine"`
	Rounds   int        `json:"rounds"`
	Writers  int        `json:"writers"`
	Seconds  float64    `json:"seconds"`
	Events   []event    `json:"events"`
	Floor    *floor     `json:"floor"`
	Contests []*contest `json:"throughput"`
	Proxies  *proxies   `json:"proxies,omitempty"`
	Idle     *idle      `json:"idle"`
	Soak     *soak      `json:"soak,omitempty"`
	Sizes    []size     `json:"sizes,omitempty"`
	Alarms   *alarms    `json:"false_alarms,omitempty"`
	Cuts     *cuts      `json:"zones,omitempty"`
	Losses   []loss     `json:"async_losses,omitempty"`
	Told     *told      `json:"told,omitempty"`
	Watching *watching  `json:"watching,omitempty"`

	Collecting *collecting `json:"collecting,omitempty"`
}

// machine is what the figures hold for.
type machine struct {
	Cores      int    `json:"cores"`
	CPU        string `json:"cpu"`
	Kernel     string `json:"kernel"`
	Redis      string `json:"redis"`
	Go         string `json:"go"`
	LoadBefore string `json:"load_before"` // 1, 5 and 15 minutes
	LoadAfter  string `json:"load_after"`
}

func thisMachine(ctx context.Context, redisServer string) (machine, error) {
	m := machine{Cores: runtime.NumCPU(), Go: runtime.Version(), CPU: cpuModel(), LoadBefore: loadAverage()}
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return m, fmt.Errorf("uname: %w", err)
	}
	m.Kernel = unix.ByteSliceToString(u.Release[:])
	out, err := exec.CommandContext(ctx, redisServer, "--version").Output()
	if err != nil {
		return m, fmt.Errorf("%s --version: %w", redisServer, err)
	}
	for word := range strings.FieldsSeq(string(out)) {
		if v, ok := strings.CutPrefix(word, "v="); ok {
			m.Redis = v
		}
	}
	return m, nil
}

func (m *machine) finish() { m.LoadAfter = loadAverage() }

func cpuModel() string {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return "unknown CPU"
	}
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}

func loadAverage() string {
	text, err := os.ReadFile("/proc/loadavg")
	f := strings.Fields(string(text))
	if err != nil || len(f) < 3 {
		return "unknown"
	}
	return strings.Join(f[:3], " ")
}

// spread is a median with its extremes.
type spread struct {
	N      int     `json:"n"`
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
}

func spreadOf(values []float64) spread {
	if len(values) == 0 {
		return spread{}
	}
	v := slices.Sorted(slices.Values(values))
	n := len(v)
	return spread{N: n, Median: (v[(n-1)/2] + v[n/2]) / 2, Min: v[0], Max: v[n-1]}
}

func (s spread) format(digits int) string {
	if s.N == 0 {
		return "not measured"
	}
	return fmt.Sprintf("%.*f (%.*f–%.*f)", digits, s.Median, digits, s.Min, digits, s.Max)
}

// print shows the parts that were asked for.
func (r *report) print(w io.Writer, parts []part) {
	fmt.Fprintln(w)
	r.printMachine(w)
	for _, p := range parts {
		p.print(r, w)
	}
}

func (r *report) printMachine(w io.Writer) {
	m := r.Machine
	fmt.Fprintf(w, "%d cores (%s), Linux %s, Redis %s, %s, load average %s before and %s after; %.0f s\n", m.Cores, m.CPU, m.Kernel, m.Redis, m.Go, m.LoadBefore, m.LoadAfter, r.Seconds)
}

func table(w io.Writer) *tabwriter.Writer { return tabwriter.NewWriter(w, 0, 0, 3, ' ', 0) }

// gapGoals are the goals for the longest gap between acked writes at p99, in ms.
var gapGoals = map[string]float64{"crash": 50, "hang": 500, "switchover": 10}

func (r *report) printFailovers(w io.Writer) {
	fmt.Fprintf(w, "\nFAILOVER: %d writers, closed loop, go-redis with its default retries; %d rounds, in which all take turns\n", r.Writers, r.Rounds)
	t := table(w)
	fmt.Fprintln(t, "fault\tpeer\tlongest gap between acked writes, ms: p50\tp99\tmax\tgoal (p99)\tbefore the fault: p50\tp99\terrors\tunknown\tlost\tof acked writes\tn")
	for _, fault := range faults {
		for _, peer := range []string{"understudy", "sentinel"} {
			r.printPeer(t, fault, peer)
		}
		fmt.Fprintf(t, "\tsentinel ÷ understudy, by round\t%s\t\t\t\t\t\t\t\t\t\t\n", spreadOf(ratios(r.Events, fault, "understudy", "sentinel")).format(1))
	}
	_ = t.Flush()
	fmt.Fprintln(w, `Understudy: durability sync, profile fast. Sentinel: down-after 1000 ms, three sentinels, and a client that
follows them; its switchover is SENTINEL FAILOVER, during which the old primary goes on acking what is then lost.
The gap begins within half a second of the fault. Before the fault: the longest one in the half second before it,
which is what the machine does by itself.
Errors: operations that failed in spite of the client's retries; unknown: those of them that were neither refused
nor unable to connect. Lost: acked, and absent from the new primary's data. Counts are for all events together.
p99 is by nearest rank: of fewer than 100 events it is the largest.`)
	for _, e := range r.Events {
		if e.Failed != "" {
			fmt.Fprintf(w, "NOT COUNTED: %s of %s, round %d: %s\n", e.Fault, e.Peer, e.Round, e.Failed)
		}
	}
	r.printWaterfall(w, "crash")
	r.printWaterfall(w, "hang")
	r.printWaterfall(w, "switchover")
	explainSteps(w, r.Floor)
	printPhases(w, faults, func(fault string) []event { return r.eventsOf(fault, "understudy") })
}

func (r *report) printPeer(w io.Writer, fault, peer string) {
	some := r.eventsOf(fault, peer)
	if len(some) == 0 {
		fmt.Fprintf(w, "%s\t%s\tnot measured\t\t\t\t\t\t\t\t\t\t0\n", fault, peer)
		return
	}
	gap := each(some, func(e event) float64 { return e.GapMs })
	quiet := each(some, func(e event) float64 { return e.QuietMs })
	goal := ""
	if peer == "understudy" {
		goal = fmt.Sprintf("%.0f: %s", gapGoals[fault], met(quantile(gap, 0.99), gapGoals[fault]))
	}
	sum := sumOf(some)
	fmt.Fprintf(w, "%s\t%s\t%.1f\t%.1f\t%.1f\t%s\t%.1f\t%.1f\t%d\t%d\t%d\t%d\t%d\n", fault, peer,
		quantile(gap, 0.5), quantile(gap, 0.99), quantile(gap, 1), goal,
		quantile(quiet, 0.5), quantile(quiet, 0.99), sum.Errors, sum.Unknown, sum.Lost, sum.Acked, len(some))
}

// sumOf adds the counts of some events up.
func sumOf(some []event) judged {
	sum := judged{}
	for _, e := range some {
		sum.Errors, sum.Unknown, sum.Lost, sum.Acked = sum.Errors+e.Errors, sum.Unknown+e.Unknown, sum.Lost+e.Lost, sum.Acked+e.Acked
	}
	return sum
}

// printPhases shows the phases that the group itself keeps with each change of primary. A row is named
// by what its events have in common.
func printPhases(w io.Writer, rows []string, events func(row string) []event) {
	fmt.Fprintln(w, "\nPHASES, as the group's own history has them (phases_ms), p50 and p99 in ms")
	t := table(w)
	fmt.Fprintln(t, "\tn\tdetect\tfence\tpause\telect\tpromote\troute")
	for _, row := range rows {
		some := events(row)
		fmt.Fprintf(t, "%s\t%d", row, len(some))
		for _, phase := range []string{"detect", "fence", "pause", "elect", "promote", "route"} {
			var values []float64
			for _, e := range some {
				if v, ok := e.Phases[phase]; ok {
					values = append(values, v)
				}
			}
			if len(values) == 0 {
				fmt.Fprint(t, "\t-")
				continue
			}
			fmt.Fprintf(t, "\t%.1f, %.1f", quantile(values, 0.5), quantile(values, 0.99))
		}
		fmt.Fprintln(t)
	}
	_ = t.Flush()
}

func each[T any](all []T, of func(T) float64) []float64 {
	values := make([]float64, len(all))
	for i, x := range all {
		values[i] = of(x)
	}
	return values
}

func (r *report) eventsOf(fault, peer string) []event { return pick(r.Events, fault, peer) }

// pick returns the events that happened as they should.
func pick(all []event, fault, peer string) []event {
	var some []event
	for _, e := range all {
		if e.Fault == fault && e.Peer == peer && e.Failed == "" {
			some = append(some, e)
		}
	}
	return some
}

// ratios are the gaps of one peer by those of another in the same round.
func ratios(all []event, fault, of, to string) []float64 {
	var out []float64
	for _, ours := range pick(all, fault, of) {
		for _, theirs := range pick(all, fault, to) {
			if ours.Round == theirs.Round {
				out = append(out, theirs.GapMs/ours.GapMs)
			}
		}
	}
	return out
}

func (r *report) printThroughput(w io.Writer) {
	fmt.Fprintf(w, "\nPROXY, relative to a direct connection: redis-benchmark, %d-byte values\n", valueSize)
	t := table(w)
	fmt.Fprintln(t, "connections\tcommand\tdirect, requests/s\tasync ÷ direct\tsync ÷ direct\tsync ÷ async\tp50 ms direct, async, sync\tp99 ms direct, async, sync\tn")
	for _, c := range r.Contests {
		fmt.Fprintf(t, "%v\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%d\n", c.Shape, c.Command,
			spreadOf(each(c.Lanes[laneDirect], func(f figure) float64 { return f.Rate })).format(0),
			c.ratio(laneAsync, laneDirect).format(2), c.ratio(laneSync, laneDirect).format(2), c.ratio(laneSync, laneAsync).format(2),
			c.latencies(func(f figure) float64 { return f.P50Ms }), c.latencies(func(f figure) float64 { return f.P99Ms }), len(c.Lanes[laneDirect]))
	}
	if len(r.Contests) == 0 {
		fmt.Fprintln(t, "not measured: the time was over")
	}
	_ = t.Flush()
	fmt.Fprintln(w, `Direct is the port of the primary's own redis-server, which replicates and appends to its log as in the other
lanes. What sync adds is in sync ÷ async: the answer to a SET waits until a second node has it.`)
}

func (c *contest) ratio(of, to string) spread {
	var ratios []float64
	for i := range min(len(c.Lanes[of]), len(c.Lanes[to])) {
		ratios = append(ratios, c.Lanes[of][i].Rate/c.Lanes[to][i].Rate)
	}
	return spreadOf(ratios)
}

func (c *contest) latencies(of func(figure) float64) string {
	words := make([]string, len(lanes))
	for i, lane := range lanes {
		words[i] = fmt.Sprintf("%.2f", spreadOf(each(c.Lanes[lane], of)).Median)
	}
	return strings.Join(words, ", ")
}

func (r *report) printIdle(w io.Writer) {
	fmt.Fprintln(w, "\nIDLE: a group of three nodes that nobody uses")
	i := r.Idle
	if i == nil {
		fmt.Fprintln(w, "not measured")
		return
	}
	fmt.Fprintf(w, "Understudy, %d processes: %.0f MB resident (goal: at most %d: %s), %.2f %% of a core over %.0f s (goal: at most %d: %s; windows %s)\n",
		i.Processes, i.ResidentMB, goalResidentMB, met(i.ResidentMB, goalResidentMB), i.CPUTotal, i.Seconds, goalCPUPercent, met(i.CPUTotal, goalCPUPercent), i.CPU.format(2))
	fmt.Fprintf(w, "redis-server, %d processes: %.0f MB resident, %.2f %% of a core\n", i.Servers, i.ServersMB, i.ServersCPU)
}

func met[T cmp.Ordered](value, goal T) string {
	if value <= goal {
		return "met"
	}
	return "MISSED"
}
