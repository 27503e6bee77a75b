package drill

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"understudy/aws/remote"
)

// Errors of Run besides cluster.ErrRefused, compared with errors.Is.
var (
	// ErrUsage: an option has a value that Run cannot work with; the message names it.
	ErrUsage = errors.New("usage")
	// ErrUnreachable: the instance's HTTP address does not answer.
	ErrUnreachable = errors.New("the instance cannot be reached")
)

// Bounds and defaults of a run.
const (
	defaultDuration = 12 * time.Second
	defaultAt       = 4 * time.Second
	defaultWorkers  = 8    // each of writers and readers
	defaultRate     = 2400 // ops/s of the understudy lane: a third of one core on both sides together
	maxRate         = 50_000
	maxWorkers      = 256
	maxDuration     = 10 * time.Minute
	// minBefore is how much load is needed before the fault, to know what normal is.
	minBefore = time.Second
	// minAfter is Settled and as much again: with less, no recovery could be seen.
	minAfter = 2 * time.Second
	// directShare is the direct lane's part of the rate and of the workers: it shares the
	// machine with the lane that is judged.
	directShare     = 3
	defaultPatience = 20 * time.Second
	// maxRecordedOps bounds ops.ndjson.gz.
	maxRecordedOps = 300_000
)

// The lanes that can run beside the one that is judged.
const (
	LaneUnderstudy = "understudy"
	LaneDirect     = "direct"
)

// Options say what to break, under which load, and what is still good.
type Options struct {
	HTTP string // HOST:PORT of the instance, or a URL
	// Transport sends requests to HTTP, with what the instance asks for; nil: nothing.
	Transport http.RoundTripper
	Login     Login // at the endpoints

	// Target is what to break: local (default), the instance at HTTP; elasticache://GROUP; sentinel://H:P,H:P/NAME;
	// redis://PRIMARY,REPLICA…. All but local are somebody else's groups, and have these:
	Target     string
	Confirm    string         // the group's name again: without it nothing is run
	AWS        remote.Options // where the API is; Called is the drill's own
	Through    string         // HOST:PORT of a proxy of the group: a lane beside the group's own endpoints
	Budget     int            // drills in 24 hours; default 2
	BudgetFile string         // where they are counted; default: with the user's state
	MaxLag     time.Duration  // of a replica; default 1 s
	AbortAfter time.Duration  // the load stops when no write was acked for so long; default 5 min
	Poll       time.Duration  // how often the API is asked; default 5 s
	place      place          // Target, taken apart

	Fault    string // one of Faults; default kill-primary
	Workload string // one of Workloads; default mixed
	Duration time.Duration
	At       time.Duration // when the fault is injected, from the start of the load
	Writers  int           // clients that write, default 8
	Readers  int           // clients that only read, default 8; negative: none
	Rate     int           // ops/s at most over all clients of the understudy lane; what is taken from the queue comes on top
	Seed     uint64        // 0: taken from the clock, and reported

	RTO       time.Duration // 0: the fault's default
	RPO       int           // acked writes that may be lost
	MaxErrors int           // errors that clients may see

	Compare []string // further lanes: "direct"
	Force   bool     // also on a group that is not available
	Dir     string   // where runs are kept, one folder each; "" keeps nothing

	Logger *slog.Logger
	// Patience bounds the wait for all nodes after the load has ended; default 20 s.
	Patience time.Duration
	// Progress is called every 100 ms from one goroutine, and must return soon.
	Progress func(Sample)
}

func (o *Options) complete() (Fault, error) {
	var err error
	if o.place, err = parseTarget(o.Target); err != nil {
		return nil, err
	}
	if o.place.remote() {
		o.remoteDefaults()
	}
	o.defaults()
	fault, err := FaultNamed(o.Fault)
	if err != nil {
		return nil, err
	}
	if there := o.place.faults(); !slices.Contains(there, o.Fault) {
		return nil, fmt.Errorf("%w: fault %s cannot be injected into a target %s; there are %s", ErrUsage, o.Fault, o.place.kind, strings.Join(there, ", "))
	}
	if _, ok := mixes[o.Workload]; !ok {
		return nil, fmt.Errorf("%w: unknown workload %q; there are %s", ErrUsage, o.Workload, strings.Join(Workloads(), ", "))
	}
	if o.RTO == 0 {
		o.RTO = fault.RTO()
	}
	return fault, o.validate()
}

func (o *Options) defaults() {
	set := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	set(&o.Writers, defaultWorkers)
	set(&o.Readers, defaultWorkers)
	set(&o.Rate, defaultRate)
	o.Readers = max(o.Readers, 0)
	if o.Fault == "" {
		o.Fault = "kill-primary"
	}
	if o.Workload == "" {
		o.Workload = "mixed"
	}
	if o.Duration == 0 {
		o.Duration = defaultDuration
	}
	if o.At == 0 {
		o.At = min(defaultAt, o.Duration/3)
	}
	if o.Seed == 0 {
		o.Seed = uint64(time.Now().UnixNano())
	}
	if o.Target == "" {
		o.Target = targetLocal
	}
	if o.BudgetFile == "" {
		o.BudgetFile = defaultBudgetFile(o.Dir)
	}
	if o.Patience == 0 {
		o.Patience = defaultPatience
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Progress == nil {
		o.Progress = func(Sample) {}
	}
}

func (o *Options) validate() error {
	switch {
	case o.HTTP == "" && !o.place.remote():
		return fmt.Errorf("%w: the HTTP address of the instance is needed", ErrUsage)
	case o.Writers < 1 || o.Writers > maxWorkers || o.Readers > maxWorkers:
		return fmt.Errorf("%w: writers must be 1 to %d and readers at most %d", ErrUsage, maxWorkers, maxWorkers)
	case o.Rate < 100 || o.Rate > maxRate:
		return fmt.Errorf("%w: rate %d is not between 100 and %d ops/s", ErrUsage, o.Rate, maxRate)
	case o.At < minBefore:
		return fmt.Errorf("%w: the fault at %v leaves less than %v to measure what normal is", ErrUsage, o.At, minBefore)
	case o.Duration < o.At+minAfter || o.Duration > maxDuration:
		return fmt.Errorf("%w: a duration of %v with the fault at %v; it must be at least %v, and at most %v",
			ErrUsage, o.Duration, o.At, o.At+minAfter, maxDuration)
	case o.RTO < 0 || o.RPO < 0 || o.MaxErrors < 0:
		return fmt.Errorf("%w: a threshold is negative", ErrUsage)
	case o.place.remote():
		return o.validateRemote()
	case o.Confirm != "" || o.Through != "":
		return fmt.Errorf("%w: only a target that is somebody else's is confirmed, or has a proxy beside it", ErrUsage)
	}
	for i, lane := range o.Compare {
		switch {
		case lane == "sentinel":
			return fmt.Errorf("%w: the sentinel lane is not there yet; --compare direct is", ErrUsage)
		case lane != LaneDirect:
			return fmt.Errorf("%w: unknown lane %q to compare with; there is %s", ErrUsage, lane, LaneDirect)
		case slices.Contains(o.Compare[:i], lane):
			return fmt.Errorf("%w: lane %s is named twice", ErrUsage, lane)
		}
	}
	return nil
}

func (o *Options) validateRemote() error {
	switch {
	case o.Force:
		return fmt.Errorf("%w: somebody else's group is never forced", ErrUsage)
	case len(o.Compare) > 0:
		return fmt.Errorf("%w: lanes to compare with are for a local group; name a proxy of this one to see both ways", ErrUsage)
	case o.Budget < 1 || o.Budget > mostBudget:
		return fmt.Errorf("%w: a budget of %d drills a day; 1 to %d, as many failovers as AWS allows", ErrUsage, o.Budget, mostBudget)
	case o.MaxLag < 0 || o.AbortAfter < time.Second:
		return fmt.Errorf("%w: the greatest lag is negative, or a load would be aborted within a second", ErrUsage)
	case o.Poll < leastPoll:
		return fmt.Errorf("%w: the API would be asked every %v; at least %v", ErrUsage, o.Poll, leastPoll)
	}
	if o.Through != "" {
		if host, port, err := net.SplitHostPort(o.Through); err != nil || host == "" || port == "" {
			return fmt.Errorf("%w: the proxy's address %q is not HOST:PORT", ErrUsage, o.Through)
		}
	}
	return nil
}

// mostBudget is AWS's own limit of TestFailover in 24 hours.
const mostBudget = 15

// command is the command line that runs the same drill again.
func (o Options) command() string {
	c := fmt.Sprintf("understudy drill run --fault %s --workload %s --duration %v --at %v --writers %d --readers %d --rate %d --seed %d --rto %v --rpo %d --max-errors %d",
		o.Fault, o.Workload, o.Duration, o.At, o.Writers, o.Readers, o.Rate, o.Seed, o.RTO, o.RPO, o.MaxErrors)
	if o.place.remote() {
		c += fmt.Sprintf(" --target %s --budget %d --max-lag %v --abort-after %v", o.Target, o.Budget, o.MaxLag, o.AbortAfter)
	}
	if o.Through != "" {
		c += " --through " + o.Through
	}
	if o.Login.User != "" {
		c += " --user " + o.Login.User
	}
	if len(o.Compare) > 0 {
		c += " --compare " + strings.Join(o.Compare, ",")
	}
	return c
}
