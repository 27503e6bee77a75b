package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/spf13/pflag"

	"understudy/metric"
	"understudy/monitor"
	"understudy/remotewrite"
	"understudy/series"
)

// monitorConfig says whether and how much is kept of what nodes and groups are like.
type monitorConfig struct {
	On   bool          `yaml:"metrics"`
	Keep time.Duration `yaml:"metrics-keep"`
	Size int           `yaml:"metrics-size"`
	// Drills is where drills are kept: DrillAge.
	Drills      string `yaml:"drills"`
	RemoteWrite string `yaml:"metrics-remote-write"`
}

func defaultMonitor() monitorConfig {
	return monitorConfig{On: true, Keep: series.KeepStandard, Size: 1024, Drills: defaultDrills}
}

// flags binds every setting to a flag.
func (c *monitorConfig) flags(fs *pflag.FlagSet) {
	fs.BoolVar(&c.On, "metrics", c.On, "look at every node and group once a second, and keep it below --data")
	fs.DurationVar(&c.Keep, "metrics-keep", c.Keep, "how long it is kept by the minute, 1h to 360h; by the second: a day at most")
	fs.IntVar(&c.Size, "metrics-size", c.Size, "MiB on disk for it, 64 or more; the oldest goes first")
	fs.StringVar(&c.RemoteWrite, "metrics-remote-write", c.RemoteWrite, "also send it to a receiver of Prometheus' remote write, http(s)://[USER:PASSWORD@]HOST:PORT/api/v1/write; empty: to nobody")
	fs.StringVar(&c.Drills, "drills", c.Drills, "where drill run keeps its runs: the age of the last one that passed is among the metrics")
}

func (c *monitorConfig) validate() error {
	if c.Keep < time.Hour || c.Keep > series.KeepStandard {
		return fmt.Errorf("--metrics-keep %v: it is 1h to %v", c.Keep, series.KeepStandard)
	}
	if c.Size < series.MinSize>>20 {
		return fmt.Errorf("--metrics-size %d: it is %d or more", c.Size, series.MinSize>>20)
	}
	if c.RemoteWrite == "" {
		return nil
	}
	if !c.On {
		return errors.New("--metrics-remote-write: nothing is collected with --metrics=false")
	}
	if _, err := remotewrite.CheckURL(c.RemoteWrite); err != nil {
		return fmt.Errorf("--metrics-remote-write: %w", err)
	}
	return nil
}

// openMetrics opens what was kept. Groups run without it, too: that it cannot be opened is told, and no more.
func (g *local) openMetrics(a *app) {
	c := g.config.Monitor
	if !c.On {
		return
	}
	s, err := series.Open(series.Options{Dir: filepath.Join(g.config.Data, "metrics"), Keep: c.Keep, Size: int64(c.Size) << 20, Logger: g.log, Metrics: g.metrics.Own()})
	if err != nil {
		g.log.Error("no metrics are kept", "component", "monitor", "error", err)
		return
	}
	g.series = s
	a.onStop("metrics", func(context.Context) error { return s.Close() })
}

// metricWriter is where parts publish; nil: nowhere.
func (g *local) metricWriter() metric.Writer {
	if g.series == nil {
		return nil
	}
	return g.series
}

// startMonitor collects from all groups of the fleet, those included that are made later.
func (g *local) startMonitor(a *app) error {
	if g.series == nil {
		return nil
	}
	g.ages.drills.Dir = g.config.Monitor.Drills
	o := monitor.Options{Groups: g.monitored, Writer: g.series, Logger: g.log, Metrics: g.metrics.Own()}
	parts := []part{{"series", g.series.Run}}
	if url := g.config.Monitor.RemoteWrite; url != "" {
		sender, err := remotewrite.New(remotewrite.Options{URL: url, Logger: g.log, Metrics: g.metrics.Own()})
		if err != nil {
			return err
		}
		o.Writer = both{g.series, sender}
		parts = append(parts, part{"remote write", sender.Run})
	}
	m, err := monitor.New(o)
	if err != nil {
		return err
	}
	a.run("monitor", append(parts, part{"monitor", m.Run})...)
	return nil
}

// both keeps data and sends them, whether or not they could be kept.
type both struct{ keep, send metric.Writer }

func (b both) Write(ctx context.Context, data []metric.Datum) error {
	return errors.Join(b.keep.Write(ctx, data), b.send.Write(ctx, data))
}

// monitored are the fleet's groups as they are now.
func (g *local) monitored() (all []monitor.Group) {
	now := time.Now()
	for _, x := range g.fleet.Groups() {
		f, s := x.Figures(), x.Status()
		m := monitor.Group{Status: s, Reach: x.Login, Opened: x.Opened,
			Proxied: true, Held: f.Held, Leaked: f.Leaked, Clients: f.Clients, Accepted: f.Accepted,
			Drill: g.ages.drills.Newest(x.Name(), now), Certificate: g.certificate(s, now)}
		for _, b := range g.backups.archive.List(x.Name()) {
			if b.Whole() && b.Created.After(m.Backup) {
				m.Backup = b.Created
			}
		}
		all = append(all, m)
	}
	return all
}
