package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"understudy/cluster"
	rediserver "understudy/redis"
)

// size is what changes of primary and the way back cost with a data set of some size. Times are in ms
// and count from the fault, unless they say otherwise.
type size struct {
	GB       float64 `json:"gb"` // of values: what a node holds is a bit more
	Keys     int64   `json:"keys"`
	MemoryMB float64 `json:"memory_mb"` // used_memory of a node
	FillMBs  float64 `json:"fill_mb_per_second"`

	SwitchoverMs float64 `json:"switchover_gap_ms"` // the longer of two
	CrashMs      float64 `json:"crash_gap_ms"`
	ExitMs       float64 `json:"exit_ms"` // until the agent saw that the killed server was gone: the kernel takes its memory apart first
	Lost         int     `json:"lost"`

	// The way back of the killed server.
	LoadMs  float64 `json:"load_ms"`  // how long it read its own data set
	AsideMs float64 `json:"aside_ms"` // from its end until writes that only it had were put aside; 0: there was nothing to put aside
	SyncMs  float64 `json:"sync_ms"`  // from its end, or that of putting aside, until it was a replica that is ready
	BackMs  float64 `json:"redundancy_ms"`

	SaveMs float64 `json:"save_ms"` // a BGSAVE by itself: what putting aside and a full sync begin with
	ForkMs float64 `json:"fork_ms"` // how long the fork for it stopped the server
}

const (
	sizeValue    = 1000 // bytes
	sizePipeline = 500
	sizeFillers  = 4
	// sizeWithin bounds each wait with a large data set.
	sizeWithin = 2 * time.Minute
)

// measureSizes lets one group grow, and measures at each size.
func (b *bench) measureSizes(ctx context.Context) (err error) {
	g, err := b.startGroup(ctx, "sync")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, g.stop()) }()
	have := int64(0)
	for _, gb := range b.sizes {
		b.say("filling up to %v GB", gb)
		s := size{GB: gb, Keys: int64(gb * 1e9 / sizeValue)}
		began := time.Now()
		if err := fill(ctx, g.endpoints.Primary, have, s.Keys); err != nil {
			return fmt.Errorf("fill: %w", err)
		}
		s.FillMBs = float64(s.Keys-have) * sizeValue / 1e6 / time.Since(began).Seconds()
		have = s.Keys
		if err := g.measureSize(ctx, b, &s); err != nil {
			return fmt.Errorf("%v GB: %w", gb, err)
		}
		b.report.Sizes = append(b.report.Sizes, s)
		b.say("%v GB: switchover %.1f ms, crash %.1f ms, redundancy back after %.1f s", gb, s.SwitchoverMs, s.CrashMs, s.BackMs/1000)
	}
	return nil
}

// fill writes the keys from one number up to another, in pipelines.
func fill(ctx context.Context, addr string, from, to int64) error {
	c := redis.NewClient(&redis.Options{Addr: addr, MaxRetries: -1, ReadTimeout: time.Minute, WriteTimeout: time.Minute, MaintNotificationsConfig: noHints})
	defer c.Close()
	value := strings.Repeat("x", sizeValue)
	done := make(chan error, sizeFillers)
	for i := range int64(sizeFillers) {
		go func() {
			for at := from + i*sizePipeline; at < to; at += sizeFillers * sizePipeline {
				pipe := c.Pipeline()
				for n := at; n < min(at+sizePipeline, to); n++ {
					pipe.Set(ctx, "fill:"+strconv.FormatInt(n, 10), value, 0)
				}
				if _, err := pipe.Exec(ctx); err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	var errs []error
	for range sizeFillers {
		errs = append(errs, <-done)
	}
	return errors.Join(errs...)
}

func (g *group) measureSize(ctx context.Context, b *bench, s *size) error {
	if err := g.quiet(ctx); err != nil {
		return err
	}
	for range 2 {
		e := event{Fault: "switchover"}
		if err := g.sized(ctx, b, &e); err != nil {
			return err
		}
		s.SwitchoverMs, s.Lost = max(s.SwitchoverMs, e.GapMs), s.Lost+e.Lost
		if err := g.quiet(ctx); err != nil {
			return err
		}
	}
	if err := g.saves(ctx, s); err != nil {
		return err
	}
	e := event{Fault: "crash"}
	if err := g.returns(ctx, b, &e, s); err != nil {
		return err
	}
	s.CrashMs, s.ExitMs, s.Lost = e.GapMs, e.Steps["detect"], s.Lost+e.Lost
	return g.quiet(ctx)
}

// sized is one change of primary under load.
func (g *group) sized(ctx context.Context, b *bench, e *event) error {
	victim, err := g.primary(ctx)
	if err != nil {
		return err
	}
	return b.endure(ctx, g, victim, e)
}

// quiet waits until all nodes are ready, and none forks a child or rewrites its log.
func (g *group) quiet(ctx context.Context) error {
	return await(ctx, "a group that is whole and quiet", sizeWithin, func() error {
		s, err := g.status(ctx)
		if err != nil {
			return errors.Join(err, g.lost())
		}
		if s.State != cluster.GroupAvailable {
			return fmt.Errorf("it is %s", s.State)
		}
		for _, n := range s.Nodes {
			info, err := infoOf(ctx, n.Addr, "persistence")
			if err != nil {
				return err
			}
			if info["rdb_bgsave_in_progress"] != "0" || info["aof_rewrite_in_progress"] != "0" || info["aof_rewrite_scheduled"] != "0" {
				return fmt.Errorf("%s writes its data set", n.ID)
			}
		}
		return nil
	})
}

// infoOf reads a section of INFO from a node itself.
func infoOf(ctx context.Context, addr, section string) (map[string]string, error) {
	c := direct(addr)
	defer c.Close()
	text, err := c.Info(ctx, section).Result()
	if err != nil {
		return nil, fmt.Errorf("INFO %s of %s: %w", section, addr, err)
	}
	return rediserver.InfoFields(text), nil
}

// saves times a BGSAVE on a replica.
func (g *group) saves(ctx context.Context, s *size) error {
	st, err := g.status(ctx)
	if err != nil {
		return err
	}
	addr := ""
	for _, n := range st.Nodes {
		if n.ID != st.Primary {
			addr = n.Addr
		}
	}
	c := direct(addr)
	defer c.Close()
	memory, err := infoOf(ctx, addr, "memory")
	if err != nil {
		return err
	}
	began := time.Now()
	if err := c.BgSave(ctx).Err(); err != nil {
		return fmt.Errorf("BGSAVE: %w", err)
	}
	err = await(ctx, "the end of BGSAVE", sizeWithin, func() error {
		info, err := infoOf(ctx, addr, "persistence")
		if err == nil && info["rdb_bgsave_in_progress"] != "0" {
			err = errors.New("it goes on")
		}
		return err
	})
	if err != nil {
		return err
	}
	s.SaveMs = ms(time.Since(began))
	stats, err := infoOf(ctx, addr, "stats")
	if err != nil {
		return err
	}
	fork, _ := strconv.ParseFloat(stats["latest_fork_usec"], 64)
	used, _ := strconv.ParseFloat(memory["used_memory"], 64)
	s.ForkMs, s.MemoryMB = fork/1000, used/(1<<20)
	return nil
}

// returns kills the primary under load and follows its server's way back.
func (g *group) returns(ctx context.Context, b *bench, e *event, s *size) error {
	victim, err := g.primary(ctx)
	if err != nil {
		return err
	}
	limited, cancel := context.WithTimeout(ctx, sizeWithin)
	defer cancel()
	way := make(chan wayBack, 1)
	go func() { way <- g.wayBack(limited, victim) }()
	failed := b.endure(ctx, g, victim, e)
	if failed != nil {
		cancel()
	}
	w := <-way
	if failed == nil && w.ready.IsZero() {
		failed = fmt.Errorf("%s did not come back within %v", victim.node, sizeWithin)
	}
	if failed != nil {
		return failed
	}
	s.LoadMs = ms(w.loaded.Sub(w.started))
	s.SyncMs = ms(w.ready.Sub(w.loaded))
	s.BackMs = ms(w.ready.Sub(w.gone))
	for _, seen := range g.timeline.take(w.gone) {
		if seen.Name == "data_put_aside" && seen.Node == victim.node {
			s.AsideMs = ms(seen.Time.Sub(w.loaded))
			s.SyncMs = ms(w.ready.Sub(seen.Time))
		}
	}
	return nil
}

// wayBack is when a server that ends was seen gone, started again, done with its own data set, and ready.
type wayBack struct{ gone, started, loaded, ready time.Time }

// wayBack watches a node from before its server ends until that is a replica again.
func (g *group) wayBack(ctx context.Context, victim server) wayBack {
	var w wayBack
	for first(ctx, 5*time.Millisecond) {
		s, err := g.status(ctx)
		if err != nil {
			continue
		}
		for _, n := range s.Nodes {
			if n.ID == victim.node && w.look(ctx, n, victim) {
				return w
			}
		}
	}
	return w
}

// look takes in one view of the node; true: it is back.
func (w *wayBack) look(ctx context.Context, n cluster.StatusNode, victim server) bool {
	now := time.Now()
	switch {
	case n.PID == victim.pid:
		return false
	case w.gone.IsZero():
		w.gone = now
	}
	if n.PID == 0 {
		return false
	}
	if w.started.IsZero() {
		w.started, w.loaded = now, now
	}
	// A server that takes over the primary's data set loads, too.
	persistence, err := infoOf(ctx, n.Addr, "persistence")
	if err == nil && persistence["loading"] == "1" {
		if replication, err := infoOf(ctx, n.Addr, "replication"); err == nil && replication["master_sync_in_progress"] == "0" {
			w.loaded = time.Now()
		}
		return false
	}
	if n.State == cluster.StateReady && n.Electable {
		w.ready = now
		return true
	}
	return false
}

// first is false when ctx has ended, and true after a moment.
func first(ctx context.Context, d time.Duration) bool { return pause(ctx, d) == nil }

// hugeGB is the size that the figures are carried on to.
const hugeGB = 20

func (r *report) printSizes(w io.Writer) {
	fmt.Fprintln(w, "\nSIZES: changes of primary and the way back of a killed server, by size of the data set")
	if len(r.Sizes) == 0 {
		fmt.Fprintln(w, "not measured")
		return
	}
	columns := []struct {
		name   string
		digits int
		of     func(size) float64
	}{
		{"switchover: gap, ms", 1, func(s size) float64 { return s.SwitchoverMs }},
		{"crash: gap, ms", 1, func(s size) float64 { return s.CrashMs }},
		{"  of it until the agent sees the exit", 1, func(s size) float64 { return s.ExitMs }},
		{"way back of the killed server: reads its own log, s", 2, func(s size) float64 { return s.LoadMs / 1000 }},
		{"  puts aside what only it had, s", 2, func(s size) float64 { return s.AsideMs / 1000 }},
		{"  full sync, s", 2, func(s size) float64 { return s.SyncMs / 1000 }},
		{"  from its end until all nodes are ready, s", 2, func(s size) float64 { return s.BackMs / 1000 }},
		{"a BGSAVE on a replica, s", 2, func(s size) float64 { return s.SaveMs / 1000 }},
		{"  its fork, in which the server stands still, ms", 1, func(s size) float64 { return s.ForkMs }},
		{"memory of a node, MB", 0, func(s size) float64 { return s.MemoryMB }},
	}
	x := each(r.Sizes, func(s size) float64 { return s.GB })
	t := table(w)
	fmt.Fprint(t, "GB of values")
	for _, gb := range x {
		fmt.Fprintf(t, "\t%v", gb)
	}
	carried := len(x) > 2
	if carried {
		fmt.Fprintf(t, "\teach GB adds\t%d, EXTRAPOLATED", hugeGB)
	}
	fmt.Fprintln(t)
	for _, c := range columns {
		y := each(r.Sizes, c.of)
		fmt.Fprint(t, c.name)
		for _, v := range y {
			fmt.Fprintf(t, "\t%.*f", c.digits, v)
		}
		if carried {
			fmt.Fprintf(t, "\t%s", carryOn(x, y, c.digits))
		}
		fmt.Fprintln(t)
	}
	_ = t.Flush()
	lost := 0
	for _, s := range r.Sizes {
		lost += s.Lost
	}
	fmt.Fprintf(w, "acked writes lost: %d. Values of %d bytes; filled at %.0f MB/s. The last column carries a straight line on that was fitted\nto the sizes before it: it was not measured.\n",
		lost, sizeValue, spreadOf(each(r.Sizes, func(s size) float64 { return s.FillMBs })).Median)
}

// carryOn is what the line through some sizes says of each further GB and of a huge data set.
func carryOn(x, y []float64, digits int) string {
	perGB, base := line(x, y)
	if perGB <= 0 {
		return "does not grow\t"
	}
	return fmt.Sprintf("%.*f\t%.*f", digits, perGB, digits, base+hugeGB*perGB)
}

// line is the straight line through some points: the median slope, and the median of what is left.
func line(x, y []float64) (perUnit, base float64) {
	perUnit = slope(x, y)
	var rest []float64
	for i := range x {
		rest = append(rest, y[i]-perUnit*x[i])
	}
	return perUnit, spreadOf(rest).Median
}
