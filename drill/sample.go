package drill

import (
	"context"
	"time"

	"understudy/cluster"
)

// samplePeriod is how often Options.Progress is called.
const samplePeriod = 100 * time.Millisecond

// Phase says what a drill is doing.
type Phase string

// The phases of a drill.
const (
	PhasePreparing  Phase = "preparing"
	PhaseLoad       Phase = "load"       // before the fault
	PhaseFault      Phase = "fault"      // the load goes on after it
	PhaseRecovering Phase = "recovering" // the load has ended, a node is missing
	PhaseChecking   Phase = "checking"   // what was acked against what is there
	PhaseDone       Phase = "done"
)

// Sample is a drill under way.
type Sample struct {
	At         time.Duration // since the load began
	Duration   time.Duration // of the load
	Phase      Phase
	Fault      string
	SinceFault time.Duration  // 0 before it
	Status     cluster.Status // the newest
	Lanes      []LaneSample
}

// LaneSample is what a lane's clients have seen so far.
type LaneSample struct {
	Name            string
	WritesPerSecond float64 // acked, since the last sample
	ReadsPerSecond  float64
	P99             time.Duration // since the last sample, BRPOP left out; 0 when nothing ended
	Acked, Reads    int64
	Errors, Unknown int64
	Gap             time.Duration // since the newest acked write
	LongestGap      time.Duration // so far, the present one included
}

// sample calls Progress until ctx ends, and a last time then.
func (r *run) sample(ctx context.Context) {
	tick := time.NewTicker(samplePeriod)
	defer tick.Stop()
	before := map[string]laneReading{}
	at := r.clock()
	for {
		ended := false
		select {
		case <-ctx.Done():
			ended = true
		case <-tick.C:
		}
		now := r.clock()
		r.o.Progress(r.takeSample(before, now, now-at))
		at = now
		if ended {
			return
		}
	}
}

// laneReading is a gauge at one moment.
type laneReading struct {
	writes, reads int64
	latency       [latencyBuckets]uint32
}

func (r *run) takeSample(before map[string]laneReading, now, passed time.Duration) Sample {
	s := Sample{At: max(0, now-r.loadFrom), Duration: r.o.Duration, Phase: r.phase.Load().(Phase), Fault: r.fault.Name(), Status: *r.latest.Load()}
	if f := time.Duration(r.faultAt.Load()); f > 0 {
		s.SinceFault = now - f
	}
	running := s.Phase == PhaseLoad || s.Phase == PhaseFault
	for _, l := range r.lanes {
		was, is := before[l.name], l.gauge.read()
		before[l.name] = is
		p := LaneSample{Name: l.name, Acked: is.writes, Reads: is.reads, Errors: l.gauge.errors.Load(), Unknown: l.gauge.unknown.Load()}
		if seconds := passed.Seconds(); seconds > 0 {
			p.WritesPerSecond = float64(is.writes-was.writes) / seconds
			p.ReadsPerSecond = float64(is.reads-was.reads) / seconds
		}
		p.P99 = is.p99(was)
		p.LongestGap = time.Duration(l.gauge.longest.Load())
		if last := time.Duration(l.gauge.lastWrite.Load()); last > 0 && running {
			p.Gap = max(0, now-last)
			p.LongestGap = max(p.LongestGap, p.Gap)
		}
		s.Lanes = append(s.Lanes, p)
	}
	return s
}

func (g *gauge) read() laneReading {
	r := laneReading{writes: g.writes.Load(), reads: g.reads.Load()}
	for i := range g.latency {
		r.latency[i] = g.latency[i].Load()
	}
	return r
}

// p99 is the 99th percentile of what came since before, as the top of its bucket.
func (r laneReading) p99(before laneReading) time.Duration {
	total := uint32(0)
	for i := range r.latency {
		total += r.latency[i] - before.latency[i]
	}
	if total == 0 {
		return 0
	}
	above := total / 100
	for i := len(r.latency) - 1; i >= 0; i-- {
		n := r.latency[i] - before.latency[i]
		if n > above {
			return bucketTop(i)
		}
		above -= n
	}
	return 0
}
