package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"understudy/cluster"
)

// soak is what many changes of primary in a row have come to.
type soak struct {
	Legs     []leg    `json:"legs"`
	Runs     int      `json:"runs"` // processes that took part: growth is looked for within each
	Growth   []growth `json:"growth"`
	Reasons  []string `json:"reasons"` // why it failed
	Complete bool     `json:"complete"`

	stalls *stalls
}

// leg is some changes of primary under load, judged together.
type leg struct {
	Run    int      `json:"run"`
	Events []change `json:"events"`

	Acked      int      `json:"acked"`
	Lost       int      `json:"lost"`
	Duplicated int      `json:"duplicated"`
	Phantoms   int      `json:"phantoms"`
	Stale      int      `json:"stale_reads"`
	Errors     int      `json:"errors"`
	Unknown    int      `json:"unknown"`
	Examples   []string `json:"examples,omitempty"`
	Sample     sample   `json:"sample"`
	Failed     string   `json:"failed,omitempty"`
}

// change is one change of primary.
type change struct {
	Kind  string  `json:"kind"` // "switchover" or "crash"
	GapMs float64 `json:"gap_ms"`
	// BackMs is the time until every node was ready again.
	BackMs float64 `json:"redundancy_ms"`
	// Full and Partial are the resyncs that it caused. After a crash one full resync is the way back of
	// the server that was killed: the name of its log is gone with its memory.
	Full    int `json:"full_syncs"`
	Partial int `json:"partial_syncs"`
	// Unasked are the changes of primary that came on top: false alarms, or a switchover that failed.
	Unasked int    `json:"unasked_epochs"`
	Failed  string `json:"failed,omitempty"` // a switchover that was refused or given up; the group goes on
	// Phases are the group's own record of it.
	Phases map[string]float64 `json:"phases_ms,omitempty"`

	from, to time.Duration
}

// legChanges is how many changes are judged together: their histories fit into some megabytes.
const legChanges = 26

// livedFor is how long a server has run before it is killed.
const livedFor = 2500 * time.Millisecond

// slow is how many times the goal a gap may be before the report tells what waited in it.
const slow = 3

// goalBackMs is within what full redundancy has to be back on a small data set.
const goalBackMs = 5000

// measureSoak changes the primary again and again, until as often as was asked for, or the time is over.
func (b *bench) measureSoak(ctx context.Context) (err error) {
	s := &soak{}
	b.report.Soak = s
	if b.resume != "" {
		if err := s.load(b.resume); err != nil {
			return err
		}
	}
	s.Runs++
	g, err := b.startGroup(ctx, "sync")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, g.stop()) }()
	if s.stalls, err = watchStalls(b.dir); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.stalls.end()) }()
	for ctx.Err() == nil && s.more(b.settings) {
		l, err := b.soakLeg(ctx, g, s)
		if err != nil && ctx.Err() == nil {
			l.Failed = errors.Join(err, g.lost()).Error()
		}
		if err == nil || ctx.Err() == nil {
			s.Legs = append(s.Legs, l)
		}
		b.show(s)
		if b.json != "" {
			err = errors.Join(err, b.report.write(b.json))
		}
		if err != nil {
			break
		}
	}
	b.endLine()
	s.conclude(b.settings)
	if len(s.Reasons) > 0 {
		return errors.New(strings.Join(s.Reasons, "; "))
	}
	return nil
}

// load goes on where an earlier run has written to.
func (s *soak) load(path string) error {
	r, err := readReport(path)
	if err == nil && r.Soak == nil {
		err = fmt.Errorf("%s has no soak in it", path)
	}
	if err != nil {
		return fmt.Errorf("resume: %w", err)
	}
	*s = *r.Soak
	s.Reasons, s.Growth = nil, nil
	return nil
}

func (s *soak) counts() (switchovers, crashes int) {
	for _, l := range s.Legs {
		for _, c := range l.Events {
			if c.Kind == "crash" {
				crashes++
			} else {
				switchovers++
			}
		}
	}
	return switchovers, crashes
}

func (s *soak) more(want settings) bool {
	switchovers, crashes := s.counts()
	return switchovers < want.switchovers || crashes < want.crashes
}

// next mixes both kinds evenly.
func next(switchovers, crashes int, want settings) string {
	if crashes < want.crashes && crashes*want.switchovers <= switchovers*want.crashes {
		return "crash"
	}
	return "switchover"
}

// soakLeg is one leg: load, changes, judgement, and a sample when all is quiet.
func (b *bench) soakLeg(ctx context.Context, g *group, s *soak) (leg, error) {
	l := leg{Run: s.Runs}
	cs := startClients(ctx, g.endpoints.Primary, len(s.Legs))
	failed := b.soakChanges(ctx, g, cs, s, &l)
	if err := cs.end(); err != nil {
		return l, errors.Join(failed, err)
	}
	l.gaps(cs, s.stalls)
	if failed != nil {
		return l, failed
	}
	v, errs, unknown, err := cs.judge(ctx, g.endpoints.Primary)
	if err != nil {
		return l, err
	}
	l.Acked, l.Lost, l.Duplicated, l.Phantoms, l.Stale = v.Acked, v.Lost, v.Duplicated, v.Phantoms, v.StaleReads
	l.Errors, l.Unknown = len(errs), unknown
	l.Examples = append(append(append(l.Examples, v.LostExamples...), v.Examples...), errs[:min(len(errs), 5)]...)
	c := direct(g.endpoints.Primary)
	defer c.Close()
	if err := c.FlushAll(ctx).Err(); err != nil {
		return l, fmt.Errorf("empty the data set: %w", err)
	}
	if l.Sample, err = g.sampleOf(ctx); err != nil {
		return l, err
	}
	switchovers, crashes := s.counts()
	l.Sample.Changes = switchovers + crashes + len(l.Events)
	return l, nil
}

// gaps fills in how long the clients waited at each change.
func (l *leg) gaps(cs *clients, machine *stalls) {
	acks := acksOf(cs.ops())
	for i := range l.Events {
		e := &l.Events[i]
		var from time.Duration
		from, e.GapMs = longestGap(acks, e.from, e.to)
		if e.GapMs > slow*gapGoals[e.Kind] {
			at := cs.began.Add(from)
			l.Examples = append(l.Examples, fmt.Sprintf("%s: a gap of %.1f ms, %.0f ms after it, at %s; phases %v; stalls of the machine: %s; what waited: %s",
				e.Kind, e.GapMs, ms(from-e.from), at.UTC().Format("15:04:05.000"), e.Phases, machine.within(at, at.Add(time.Duration(e.GapMs*1e6))), cs.during(from, e.GapMs)))
		}
	}
}

func (b *bench) soakChanges(ctx context.Context, g *group, cs *clients, s *soak, l *leg) error {
	switchovers, crashes := s.counts()
	for range min(legChanges, b.switchovers+b.crashes-switchovers-crashes) {
		kind := next(switchovers, crashes, b.settings)
		if kind == "crash" {
			if err := g.settled(ctx); err != nil {
				return err
			}
		}
		c, err := g.change(ctx, cs, kind)
		if err != nil {
			return fmt.Errorf("%s: %w", kind, err)
		}
		l.Events = append(l.Events, c)
		if kind == "crash" {
			crashes++
		} else {
			switchovers++
		}
		b.progressLine("%d of %d switchovers, %d of %d crashes", switchovers, b.switchovers, crashes, b.crashes)
	}
	return nil
}

// change changes the primary once and waits until the group is whole again. A switchover that was given
// up is no error: it is told.
func (g *group) change(ctx context.Context, cs *clients, kind string) (change, error) {
	c := change{Kind: kind}
	before, err := g.syncs(ctx)
	if err == nil {
		err = g.flowing(ctx, cs)
	}
	if err != nil {
		return c, err
	}
	s, err := g.status(ctx)
	if err != nil {
		return c, err
	}
	victim, err := primaryOf(s)
	if err != nil {
		return c, err
	}
	c.from = cs.now()
	if err := inject(ctx, g, victim, kind); err != nil {
		if kind == "crash" {
			return c, err
		}
		c.Failed = strings.TrimSpace(err.Error())
	}
	err = await(ctx, "a newer epoch", changeWithin, func() error {
		now, err := g.status(ctx)
		if err == nil && now.Epoch == s.Epoch && c.Failed == "" {
			err = errors.New("it is still the old one")
		}
		return err
	})
	if err == nil {
		err = g.whole(ctx)
	}
	c.BackMs = ms(cs.now() - c.from)
	if now, err := g.status(ctx); err == nil {
		if now.LastFailover != nil {
			c.Phases = now.LastFailover.PhasesMs
		}
		c.Unasked = max(0, int(now.Epoch-s.Epoch)-1)
	}
	if err == nil {
		err = g.flowing(ctx, cs)
	}
	c.to = cs.now()
	if err != nil {
		return c, err
	}
	after, err := g.syncs(ctx)
	c.Full, c.Partial = after.since(before)
	return c, err
}

// settled waits until the primary's server has lived for a while: one that dies within two seconds of
// its start is started again with a delay, so that it does not spin, and that is not what is measured.
func (g *group) settled(ctx context.Context) error {
	return await(ctx, "a primary that has lived for a while", changeWithin, func() error {
		p, err := g.primary(ctx)
		if err != nil {
			return err
		}
		age, err := ageOf(p.pid)
		if err == nil && age < livedFor {
			err = fmt.Errorf("it has run for %v", age)
		}
		return err
	})
}

// flowing waits for some more acked writes.
func (g *group) flowing(ctx context.Context, cs *clients) error {
	const some = 50
	want := cs.acked.Load() + some
	return await(ctx, "acked writes", changeWithin, func() error {
		if have := cs.acked.Load(); have < want {
			return errors.Join(fmt.Errorf("%d of %d are missing", want-have, some), g.lost())
		}
		return nil
	})
}

// whole waits until every node is ready.
func (g *group) whole(ctx context.Context) error {
	return await(ctx, "a group that is whole", readyWithin, func() error {
		s, err := g.status(ctx)
		if err != nil {
			return errors.Join(err, g.lost())
		}
		if s.State != cluster.GroupAvailable {
			return fmt.Errorf("it is %s", s.State)
		}
		for _, n := range s.Nodes {
			if n.ID != s.Primary && !n.Electable {
				return fmt.Errorf("%s cannot take over: %s", n.ID, n.Reason)
			}
		}
		return nil
	})
}

// syncs are how many resyncs each redis-server has served, by pid.
type syncs map[int]struct{ full, partial int }

func (g *group) syncs(ctx context.Context) (syncs, error) {
	s, err := g.status(ctx)
	if err != nil {
		return nil, err
	}
	out := syncs{}
	for _, n := range s.Nodes {
		c := direct(n.Addr)
		info, err := c.InfoMap(ctx, "stats").Result()
		_ = c.Close()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", n.ID, err)
		}
		var one struct{ full, partial int }
		_, err = fmt.Sscan(info["Stats"]["sync_full"]+" "+info["Stats"]["sync_partial_ok"], &one.full, &one.partial)
		if err != nil {
			return nil, fmt.Errorf("%s: sync_full and sync_partial_ok: %w", n.ID, err)
		}
		out[n.PID] = one
	}
	return out, nil
}

// since counts what came on top. A server that was started meanwhile began at zero.
func (s syncs) since(before syncs) (full, partial int) {
	for pid, now := range s {
		full += now.full - before[pid].full
		partial += now.partial - before[pid].partial
	}
	return full, partial
}

// conclude says what of the promises was not kept.
func (s *soak) conclude(want settings) {
	s.Complete = !s.more(want)
	fail := func(format string, args ...any) { s.Reasons = append(s.Reasons, fmt.Sprintf(format, args...)) }
	sum := s.sum()
	for _, c := range []struct {
		n    int
		what string
	}{{sum.Lost, "acked writes lost"}, {sum.Duplicated, "writes doubled"}, {sum.Phantoms, "refused writes carried out"}, {sum.Stale, "stale reads"}, {sum.Errors, "errors at clients"}} {
		if c.n > 0 {
			fail("%d %s", c.n, c.what)
		}
	}
	full, failed := 0, 0
	for _, e := range sum.Events {
		switch {
		case e.Failed != "":
			failed++
		case e.Kind == "switchover" && e.Unasked == 0:
			full += e.Full
		}
	}
	if full > 0 {
		fail("%d full syncs on switchover", full)
	}
	if failed > 0 {
		fail("%d switchovers failed", failed)
	}
	for run := 1; run <= s.Runs; run++ {
		var samples []sample
		for _, l := range s.Legs {
			if l.Failed != "" {
				continue
			}
			if l.Run == run {
				samples = append(samples, l.Sample)
			}
		}
		g := growths(samples)
		if g != nil {
			s.Growth = g // of the newest run that was long enough
		}
		for _, one := range g {
			if one.bad() {
				fail("%s grew by %.1f %s in a run (allowed: %.1f)", one.Name, one.Over, one.Unit, one.Allowed)
			}
		}
	}
	for i, l := range s.Legs {
		if l.Failed != "" {
			fail("leg %d: %s", i+1, l.Failed)
		}
	}
}

// sum is all legs in one.
func (s *soak) sum() leg {
	var sum leg
	for _, l := range s.Legs {
		sum.Events = append(sum.Events, l.Events...)
		sum.Acked, sum.Lost, sum.Duplicated = sum.Acked+l.Acked, sum.Lost+l.Lost, sum.Duplicated+l.Duplicated
		sum.Phantoms, sum.Stale = sum.Phantoms+l.Phantoms, sum.Stale+l.Stale
		sum.Errors, sum.Unknown = sum.Errors+l.Errors, sum.Unknown+l.Unknown
		sum.Examples = append(sum.Examples, l.Examples...)
	}
	return sum
}

func (r *report) printSoak(w io.Writer) {
	s := r.Soak
	if s == nil || len(s.Legs) == 0 {
		fmt.Fprintln(w, "\nSOAK: not measured")
		return
	}
	sum := s.sum()
	switchovers, crashes := s.counts()
	fmt.Fprintf(w, "\nSOAK: %d switchovers and %d crashes in a row, in %d legs and %d runs, with clients at a steady pace\n", switchovers, crashes, len(s.Legs), s.Runs)
	if !s.Complete {
		fmt.Fprintln(w, "NOT COMPLETE: the time was over, or it failed; go on with -resume")
	}
	fmt.Fprintf(w, "%d acked writes: %d lost, %d doubled, %d refused and carried out; %d stale reads; %d errors; %d outcomes unknown\n",
		sum.Acked, sum.Lost, sum.Duplicated, sum.Phantoms, sum.Stale, sum.Errors, sum.Unknown)
	unasked := 0
	t := table(w)
	fmt.Fprintln(t, "change\tn\tgap ms: p50\tp99\tmax\tgoal (p99)\tall nodes ready again, ms: p50\tp99\tgoal\tfull resyncs\tpartial resyncs")
	for _, kind := range []string{"switchover", "crash"} {
		var some []change
		for _, e := range sum.Events {
			if e.Kind == kind {
				some = append(some, e)
				unasked += e.Unasked
			}
			if e.Kind == kind && e.Failed != "" {
				sum.Examples = append(sum.Examples, "switchover failed: "+e.Failed)
			}
		}
		gap := each(some, func(c change) float64 { return c.GapMs })
		back := each(some, func(c change) float64 { return c.BackMs })
		full, partial := 0, 0
		for _, c := range some {
			full, partial = full+c.Full, partial+c.Partial
		}
		fmt.Fprintf(t, "%s\t%d\t%.1f\t%.1f\t%.1f\t%.0f: %s\t%.0f\t%.0f\t%d: %s\t%d\t%d\n", kind, len(some), quantile(gap, 0.5), quantile(gap, 0.99), quantile(gap, 1),
			gapGoals[kind], met(quantile(gap, 0.99), gapGoals[kind]), quantile(back, 0.5), quantile(back, 0.99), goalBackMs, met(quantile(back, 0.99), goalBackMs), full, partial)
	}
	_ = t.Flush()
	fmt.Fprintln(w, `In a switchover the old primary lives: its resync is one of the partial ones. After a crash one full resync is the
way back of the killed server, whose log lost its name with its memory; the other replica's is partial.`)
	fmt.Fprintf(w, "%d changes of primary came unasked: false alarms of a starved machine, or the end of a failed switchover\n", unasked)
	s.printGrowth(w)
	for _, reason := range s.Reasons {
		fmt.Fprintln(w, "FAILED:", reason)
	}
	for _, example := range sum.Examples[:min(10, len(sum.Examples))] {
		fmt.Fprintln(w, "  ", example)
	}
}

func (s *soak) printGrowth(w io.Writer) {
	if s.Growth == nil {
		fmt.Fprintf(w, "growth: not measured, fewer than %d legs in a run\n", minSamples*5/4)
		return
	}
	t := table(w)
	fmt.Fprintln(t, "growth within a run\tmedian\tper 100 changes\tover the run\tallowed\t")
	for _, g := range s.Growth {
		verdict := "none"
		if g.bad() {
			verdict = "GROWS"
		}
		fmt.Fprintf(t, "%s\t%.1f %s\t%+.2f\t%+.2f\t%.1f\t%s\n", g.Name, g.Median, g.Unit, 100*g.PerChange, g.Over, g.Allowed, verdict)
	}
	_ = t.Flush()
	fmt.Fprintln(w, "the line through the samples after each leg, the first fifth left out: the median of the slopes between all pairs")
}

// show tells how far it is.
func (b *bench) show(s *soak) {
	if len(s.Legs) == 0 {
		return
	}
	switchovers, crashes := s.counts()
	sum := s.sum()
	last := s.Legs[len(s.Legs)-1]
	b.endLine()
	b.say("soak: %d of %d switchovers, %d of %d crashes; %d acked, %d lost, %d errors, %d unknown; %.0f MB, %.0f files, %.0f goroutines %s",
		switchovers, b.switchovers, crashes, b.crashes, sum.Acked, sum.Lost, sum.Errors, sum.Unknown, last.Sample.ResidentMB, last.Sample.Files, last.Sample.Goroutines, last.Failed)
}

// progressLine is rewritten in place on a terminal, and left out elsewhere.
func (b *bench) progressLine(format string, args ...any) {
	if b.onTerminal() {
		fmt.Fprintf(b.progress, "\r\x1b[K"+format, args...)
	}
}

func (b *bench) endLine() {
	if b.onTerminal() {
		fmt.Fprint(b.progress, "\r\x1b[K")
	}
}

func (b *bench) onTerminal() bool {
	f, ok := b.progress.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}
