package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// idle is what a group of three costs that nobody uses.
type idle struct {
	Seconds    float64 `json:"seconds"`
	Processes  int     `json:"processes"`   // of Understudy: up and the fencer
	ResidentMB float64 `json:"resident_mb"` // of these
	CPU        spread  `json:"cpu_percent"` // of one core, by windows
	CPUTotal   float64 `json:"cpu_total"`   // of one core, over all windows
	Servers    int     `json:"servers"`     // redis-servers
	ServersMB  float64 `json:"servers_mb"`  //
	ServersCPU float64 `json:"servers_cpu"` // percent of one core, all together
}

// The goals for our own processes.
const (
	goalResidentMB = 150
	goalCPUPercent = 2
)

const (
	idleSettle  = 3 * time.Second // the first moments of a group are not idle
	idleWindow  = 3 * time.Second
	idleWindows = 4
	// tick is the unit of /proc/PID/stat on every Linux that Go runs on: USER_HZ is 100.
	tick = 10 * time.Millisecond
)

// usage is what a process has used so far.
type usage struct {
	cpu       time.Duration
	resident  int64 // bytes
	anonymous int64 // of them: what no file stands behind
}

func (b *bench) measureIdle(ctx context.Context) (err error) {
	g, err := b.startGroup(ctx, "sync")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, g.stop()) }()
	b.report.Idle, err = b.idleCost(ctx, g)
	return err
}

func (b *bench) idleCost(ctx context.Context, g *group) (*idle, error) {
	b.say("measuring an idle group for %v", idleWindow*idleWindows)
	if err := pause(ctx, idleSettle); err != nil {
		return nil, err
	}
	out := &idle{}
	began := time.Now()
	own, servers, err := g.usages()
	if err != nil {
		return nil, err
	}
	first, firstServers, before, at := total(own), total(servers), total(own), began
	var windows []float64
	for range idleWindows {
		if err := pause(ctx, idleWindow); err != nil {
			return nil, err
		}
		if own, servers, err = g.usages(); err != nil {
			return nil, err
		}
		now := time.Now()
		windows = append(windows, percent(total(own).cpu-before.cpu, now.Sub(at)))
		before, at = total(own), now
	}
	took := at.Sub(began)
	last := total(servers)
	out.Seconds, out.Processes, out.Servers = took.Seconds(), len(own), len(servers)
	out.ResidentMB, out.ServersMB = megabytes(before.resident), megabytes(last.resident)
	out.CPU, out.CPUTotal = spreadOf(windows), percent(before.cpu-first.cpu, took)
	out.ServersCPU = percent(last.cpu-firstServers.cpu, took)
	return out, nil
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

func percent(cpu, of time.Duration) float64 { return 100 * cpu.Seconds() / of.Seconds() }
func megabytes(n int64) float64             { return float64(n) / (1 << 20) }

func total(all map[int]usage) usage {
	var sum usage
	for _, u := range all {
		sum.cpu += u.cpu
		sum.resident += u.resident
	}
	return sum
}

// usages returns what the group's processes have used, by pid: Understudy's own, and the
// redis-servers.
func (g *group) usages() (own, servers map[int]usage, err error) {
	exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", g.process.pid()))
	if err != nil {
		return nil, nil, err
	}
	parents, err := parentsOf()
	if err != nil {
		return nil, nil, err
	}
	own, servers = map[int]usage{}, map[int]usage{}
	for pid := range parents {
		if !descends(pid, g.process.pid(), parents) {
			continue
		}
		u, err := usageOf(pid)
		if err != nil {
			continue // it has just ended
		}
		if link, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid)); link == exe {
			own[pid] = u
		} else {
			servers[pid] = u
		}
	}
	return own, servers, nil
}

func descends(pid, from int, parents map[int]int) bool {
	for ; pid > 1; pid = parents[pid] {
		if pid == from {
			return true
		}
	}
	return false
}

func parentsOf() (map[int]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	parents := map[int]int{}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if f, err := statOf(pid); err == nil {
			parents[pid], _ = strconv.Atoi(f[1])
		}
	}
	return parents, nil
}

// statOf returns the fields of /proc/PID/stat behind the name: state, parent, … (proc(5), from 3 on).
func statOf(pid int) ([]string, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil, err
	}
	// The name may hold blanks and brackets.
	f := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	if len(f) < 22 {
		return nil, fmt.Errorf("/proc/%d/stat has %d fields", pid, len(f))
	}
	return f, nil
}

func usageOf(pid int) (usage, error) {
	f, err := statOf(pid)
	if err != nil {
		return usage{}, err
	}
	var n [3]int64 // utime (14), stime (15), rss in pages (24)
	for i, field := range []int{14, 15, 24} {
		if n[i], err = strconv.ParseInt(f[field-3], 10, 64); err != nil {
			return usage{}, fmt.Errorf("/proc/%d/stat: field %d: %w", pid, field, err)
		}
	}
	u := usage{cpu: time.Duration(n[0]+n[1]) * tick, resident: n[2] * int64(os.Getpagesize())}
	u.anonymous, err = anonymousOf(pid)
	return u, err
}

// anonymousOf is the RssAnon of /proc/PID/status, in bytes.
func anonymousOf(pid int) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	_, rest, found := strings.Cut(string(text), "\nRssAnon:")
	var kilobytes int64
	if !found {
		return 0, fmt.Errorf("/proc/%d/status has no RssAnon: the process has ended", pid)
	}
	if _, err := fmt.Sscan(rest, &kilobytes); err != nil {
		return 0, fmt.Errorf("/proc/%d/status: RssAnon: %w", pid, err)
	}
	return kilobytes << 10, nil
}

// ageOf is how long a process has run.
func ageOf(pid int) (time.Duration, error) {
	f, err := statOf(pid)
	if err != nil {
		return 0, err
	}
	started, err := strconv.ParseInt(f[22-3], 10, 64) // in ticks since the system's start
	if err != nil {
		return 0, fmt.Errorf("/proc/%d/stat: field 22: %w", pid, err)
	}
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		return 0, fmt.Errorf("the time since the system's start: %w", err)
	}
	return time.Duration(now.Nano()) - time.Duration(started)*tick, nil
}
