package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"understudy/cluster"
	"understudy/monitor"
	"understudy/series"
)

// collecting is what it costs that every node is looked at once a second and what is seen is kept.
type collecting struct {
	With    []float64 `json:"with"` // requests a second straight to the primary, by pair
	Without []float64 `json:"without"`
	Ratio   spread    `json:"ratio"` // of each pair
	// CPU of a minute of an idle group, seconds: of this process, which collects, and of the three redis-servers; and the
	// same of a minute without.
	OwnCPU     float64 `json:"own_cpu_s"`
	ServersCPU float64 `json:"servers_cpu_s"`
	OwnIdle    float64 `json:"own_idle_cpu_s"`
	Idle       float64 `json:"servers_idle_cpu_s"`
}

const (
	goalCollecting = 0.99 // of the throughput without
	leastPairs     = 10
	collectFor     = 4 * time.Second // several looks
)

// measureCollecting has the collector on and off by turns, on one group that collects nothing itself: both runs of a pair
// meet the same server a moment apart.
func (b *bench) measureCollecting(ctx context.Context) (err error) {
	g, err := b.startGroup(ctx, "async", "--metrics=false")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, g.stop()) }()
	s, err := g.status(ctx)
	if err != nil {
		return err
	}
	c := &collecting{}
	b.report.Collecting = c
	if err := b.collectingPairs(ctx, c, s); err != nil {
		return err
	}
	b.say("a minute of an idle group without, and one with the collector")
	if c.OwnIdle, c.Idle, err = g.minute(ctx); err != nil {
		return err
	}
	stop, err := b.collect(ctx, s)
	if err != nil {
		return err
	}
	c.OwnCPU, c.ServersCPU, err = g.minute(ctx)
	return errors.Join(err, stop())
}

func (b *bench) collectingPairs(ctx context.Context, c *collecting, s cluster.Status) error {
	p, err := primaryOf(s)
	if err != nil {
		return err
	}
	m := mix{connections: 50, pipeline: 1, valueSize: valueSize, keys: keySpace, writes: memtierWrites, runs: collectFor}
	if _, err := m.run(ctx, p.addr); err != nil { // the first one fills the keys
		return err
	}
	pairs := max(leastPairs, b.rounds)
	var ratios []float64
	for i := range pairs {
		b.say("collecting, pair %d of %d", i+1, pairs)
		var rate [2]float64
		for j := range rate {
			with := (i+j)%2 == 1 // neither always comes first
			got, err := b.collectingRun(ctx, m, p.addr, s, with)
			if err != nil {
				return err
			}
			rate[map[bool]int{true: 1}[with]] = got.Rate
		}
		c.Without, c.With = append(c.Without, rate[0]), append(c.With, rate[1])
		ratios = append(ratios, rate[1]/rate[0])
		c.Ratio = spreadOf(ratios)
	}
	return nil
}

func (b *bench) collectingRun(ctx context.Context, m mix, addr string, s cluster.Status, with bool) (got mixed, err error) {
	if with {
		stop, err := b.collect(ctx, s)
		if err != nil {
			return got, err
		}
		defer func() { err = errors.Join(err, stop()) }()
	}
	return m.run(ctx, addr)
}

// collect starts a collector as `up` has it, with its store on the disk.
func (b *bench) collect(ctx context.Context, s cluster.Status) (stop func() error, err error) {
	kept, err := series.Open(series.Options{Dir: filepath.Join(b.dir, "collected")})
	if err != nil {
		return nil, err
	}
	group := monitor.Group{Status: s, Proxied: true}
	c, err := monitor.New(monitor.Options{Groups: func() []monitor.Group { return []monitor.Group{group} }, Writer: kept})
	if err != nil {
		return nil, errors.Join(err, kept.Close())
	}
	running, cancel := context.WithCancel(ctx)
	ended := make(chan error, 2)
	go func() { ended <- c.Run(running) }()
	go func() { ended <- kept.Run(running) }()
	return func() error {
		cancel()
		return errors.Join(<-ended, <-ended, kept.Close())
	}, nil
}

// minute is the CPU in a minute of this process, and of the group's redis-servers.
func (g *group) minute(ctx context.Context) (own, servers float64, err error) {
	_, before, err := g.usages()
	if err != nil {
		return 0, 0, err
	}
	if own, err = minuteOfCPU(ctx); err != nil {
		return 0, 0, err
	}
	_, after, err := g.usages()
	return own, (total(after).cpu - total(before).cpu).Seconds(), err
}

func (r *report) printCollecting(w io.Writer) {
	c := r.Collecting
	if c == nil {
		return
	}
	fmt.Fprintf(w, "\nCOLLECTING: throughput of a primary with the collector by that without, %d pairs of %v\n", c.Ratio.N, collectFor)
	fmt.Fprintf(w, "  50 connections, 1 SET to 10 GETs   %s (goal %.2f: %s); %.0f and %.0f requests/s\n", c.Ratio.format(3), goalCollecting,
		met(goalCollecting, c.Ratio.Median), spreadOf(c.With).Median, spreadOf(c.Without).Median)
	fmt.Fprintf(w, "  CPU of a minute, idle              collector %.2f s (without: %.2f s), three redis-servers %.2f s (%.2f s)\n",
		c.OwnCPU, c.OwnIdle, c.ServersCPU, c.Idle)
}
