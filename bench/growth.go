package main

import (
	"bufio"
	"context"
	"fmt"
	"math"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// sample is what the group's processes hold at a quiet moment.
type sample struct {
	Changes     int     `json:"changes"`      // of primary, before it was taken
	ResidentMB  float64 `json:"resident_mb"`  // of Understudy's processes, with what is mapped: the program, the store's file
	OwnMB       float64 `json:"anonymous_mb"` // of it what no file stands behind
	HeapMB      float64 `json:"heap_mb"`      // go_memstats_heap_inuse_bytes of up
	Files       float64 `json:"files"`        // open file descriptors of Understudy's processes
	Goroutines  float64 `json:"goroutines"`   // of up
	ServersMB   float64 `json:"servers_mb"`   // resident memory of the redis-servers
	ServerFiles float64 `json:"server_files"` // their open file descriptors
}

// watched are the quantities that must not grow, and by how much the fitted line may rise over a whole
// run. A leak of one descriptor, goroutine or 20 kB in every fiftieth change of a full soak is above it;
// the noise of a garbage collector, of an allocator and of connections that come and go is below.
var watched = []struct {
	name, unit string
	of         func(sample) float64
	absolute   float64 // in the unit
	relative   float64 // of the median
}{
	{"memory of our own", "MB", func(s sample) float64 { return s.OwnMB }, 8, 0.15},
	// The store's file is mapped. It holds five to ten minutes of records before it takes back its first
	// page: 20 MB at the pace of a soak.
	{"resident memory, with the store's file", "MB", func(s sample) float64 { return s.ResidentMB }, 24, 0.15},
	{"heap in use", "MB", func(s sample) float64 { return s.HeapMB }, 6, 0.15},
	{"file descriptors", "", func(s sample) float64 { return s.Files }, 8, 0},
	{"goroutines", "", func(s sample) float64 { return s.Goroutines }, 8, 0},
	{"memory of redis-servers", "MB", func(s sample) float64 { return s.ServersMB }, 15, 0.15},
	{"descriptors of redis-servers", "", func(s sample) float64 { return s.ServerFiles }, 8, 0},
}

// growth is the line through one quantity's samples.
type growth struct {
	Name      string  `json:"name"`
	Unit      string  `json:"unit,omitempty"`
	Median    float64 `json:"median"`
	PerChange float64 `json:"per_change"`   // the slope
	Over      float64 `json:"over_the_run"` // what it rises by between the first and the last sample
	Allowed   float64 `json:"allowed"`
}

func (g growth) bad() bool { return g.Over > g.Allowed }

// minSamples are needed for a line that means something.
const minSamples = 8

// growths fits a line through each quantity, without the first fifth of the run: caches fill, and a Go
// process takes its memory from the system once.
func growths(all []sample) []growth {
	some := all[len(all)/5:]
	if len(some) < minSamples {
		return nil
	}
	span := float64(some[len(some)-1].Changes - some[0].Changes)
	var out []growth
	for _, w := range watched {
		values := make([]float64, len(some))
		changes := make([]float64, len(some))
		for i, s := range some {
			values[i], changes[i] = w.of(s), float64(s.Changes)
		}
		g := growth{Name: w.name, Unit: w.unit, Median: spreadOf(values).Median, PerChange: slope(changes, values)}
		g.Over, g.Allowed = g.PerChange*span, max(w.absolute, w.relative*g.Median)
		out = append(out, g)
	}
	return out
}

// slope is the median of the slopes between all pairs (Theil and Sen): a single high sample does not
// move it, unlike that of least squares.
func slope(x, y []float64) float64 {
	var all []float64
	for i := range x {
		for j := i + 1; j < len(x); j++ {
			if x[j] > x[i] {
				all = append(all, (y[j]-y[i])/(x[j]-x[i]))
			}
		}
	}
	return spreadOf(all).Median
}

// sampleOf takes a sample of a group.
func (g *group) sampleOf(ctx context.Context) (sample, error) {
	own, servers, err := g.usages()
	if err != nil {
		return sample{}, err
	}
	s := sample{ResidentMB: megabytes(total(own).resident), ServersMB: megabytes(total(servers).resident)}
	for pid, u := range own {
		s.Files += openFiles(pid)
		s.OwnMB += megabytes(u.anonymous)
	}
	for pid := range servers {
		s.ServerFiles += openFiles(pid)
	}
	values, err := g.metrics(ctx, "go_goroutines", "go_memstats_heap_inuse_bytes")
	s.Goroutines, s.HeapMB = values["go_goroutines"], values["go_memstats_heap_inuse_bytes"]/(1<<20)
	return s, err
}

// openFiles is 0 for a process that has just ended.
func openFiles(pid int) float64 {
	entries, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	return float64(len(entries))
}

// metrics reads metrics without labels from GET /metrics.
func (g *group) metrics(ctx context.Context, names ...string) (map[string]float64, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+g.endpoints.HTTP+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	values := map[string]float64{}
	for lines := bufio.NewScanner(res.Body); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), " ")
		if v, err := strconv.ParseFloat(value, 64); err == nil && slices.Contains(names, name) && !math.IsNaN(v) {
			values[name] = v
		}
	}
	if len(values) < len(names) {
		return nil, fmt.Errorf("/metrics has only %v of %v", values, names)
	}
	return values, nil
}
