// Package drill proves a failover: it puts an application's load on a live group, breaks the group on
// purpose, and reports what the clients saw, what was lost and how long it took, with a verdict.
package drill

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"

	"understudy/aws/remote"
	"understudy/cluster"
)

// statusPeriod is how often the group's own status is read: the resolution of redundancy_ms.
const statusPeriod = 20 * time.Millisecond

// remoteStatusPeriod is how often somebody else's nodes are asked: as a proxy before them does.
const remoteStatusPeriod = 100 * time.Millisecond

// Run runs one drill and returns what it found; a drill that ends with another verdict than pass is no
// error. Nothing is broken unless the group is available (or Options.Force is set) and the fault's
// victim is proven to be what it should be; somebody else's group has to be confirmed, and all of its guards to hold
// (see Look). When ctx ends early, what can be undone is undone.
//
// Errors: ErrUsage, ErrUnreachable, cluster.ErrRefused.
func Run(ctx context.Context, o Options) (Result, error) {
	fault, err := o.complete()
	if err != nil {
		return Result{}, fmt.Errorf("drill: %w", err)
	}
	quietClients()
	r := newRun(o, fault)
	if err := r.open(ctx); err != nil {
		return Result{}, fmt.Errorf("drill %s: %w", fault.Name(), err)
	}
	defer r.api.close()
	result, err := r.run(ctx)
	if err != nil {
		return result, fmt.Errorf("drill %s: %w", fault.Name(), err)
	}
	return result, nil
}

// quietClients keeps the client library from writing each broken connection to stderr: they are what
// a drill is made of, and they are in its figures.
var quietClients = sync.OnceFunc(logging.Disable)

// run is one drill under way.
type run struct {
	o       Options
	fault   Fault
	api     instance
	started time.Time // when the clock of the operations began
	lanes   []*lane
	stock   map[string][]entry // the catalogue's writes, by lane

	// Of somebody else's group only; cloud is nil but for ElastiCache.
	servers *servers
	cloud   *cloud
	budget  budget
	plan    Plan
	aborted string       // why the run ended early
	movedAt atomic.Int64 // ns of the run's clock: the endpoint's name led elsewhere

	before   cluster.Status  // when the drill began
	calm     map[string]bool // alarms that there were before the fault, and whether they were not in ALARM; nil: not known
	victim   cluster.StatusNode
	latest   atomic.Pointer[cluster.Status]
	loadFrom time.Duration // set before any other goroutine of the run starts
	faultAt  atomic.Int64  // ns of the run's clock; 0: not yet
	whole    chan struct{}
	phase    atomic.Value // Phase

	mu      sync.Mutex
	wholeAt time.Duration // when all nodes were ready again
	marks   []mark
}

// mark is a line of the timeline by the run's clock.
type mark struct {
	at         time.Duration
	who, event string
}

func newRun(o Options, fault Fault) *run {
	r := &run{o: o, fault: fault, started: time.Now(), whole: make(chan struct{}), stock: map[string][]entry{}}
	r.phase.Store(PhasePreparing)
	return r
}

func (r *run) clock() time.Duration { return time.Since(r.started) }

func (r *run) mark(at time.Duration, who, format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.marks = append(r.marks, mark{at, who, fmt.Sprintf(format, args...)})
}

func (r *run) run(ctx context.Context) (Result, error) {
	if err := r.prepare(ctx); err != nil {
		return Result{}, err
	}
	// From here on keys are on the group, whatever happens.
	defer r.clean(context.WithoutCancel(ctx))
	if err := r.stockUp(ctx); err != nil {
		return Result{}, err
	}
	r.loadFrom = r.clock()
	watch, stopWatching := context.WithCancel(ctx)
	var watchers sync.WaitGroup
	watchers.Go(func() { r.watchStatus(watch) })
	watchers.Go(func() { r.watchEvents(watch) })
	watchers.Go(func() { r.sample(watch) })
	if r.cloud != nil {
		watchers.Go(func() { r.watchName(watch) })
	}
	defer watchers.Wait()
	defer stopWatching()

	injected, err := r.load(ctx)
	if err != nil {
		return Result{}, err
	}
	if injected == nil {
		r.phase.Store(PhaseRecovering)
		r.awaitWhole(ctx)
		if r.cloud != nil && r.fault.Name() == "failover-api" {
			r.cloud.awaitStory(ctx, 2*r.o.Poll+storyWait)
		}
	}
	r.phase.Store(PhaseChecking)
	result, err := r.conclude(ctx, injected)
	r.phase.Store(PhaseDone)
	return result, err
}

// storyWait is how long the last event of a failover is waited for, besides two polls of the API.
const storyWait = 5 * time.Second

// prepare looks before anything is touched.
func (r *run) prepare(ctx context.Context) error {
	if r.o.place.remote() {
		return r.prepareRemote(ctx)
	}
	s, err := r.api.status(ctx)
	if err != nil {
		return err
	}
	r.before = s
	r.latest.Store(&s)
	if s.State != cluster.GroupAvailable && !r.o.Force {
		return fmt.Errorf("%w: group %s is %s, and a drill would make it worse; wait until `understudy status --check` says available, or force it", cluster.ErrRefused, s.Group, s.State)
	}
	if s.Endpoints.Primary == "" {
		return fmt.Errorf("%w: the status of group %s shows no primary endpoint", ErrUnreachable, s.Group)
	}
	if r.victim, err = r.fault.Victim(s); err != nil {
		return err
	}
	if c, ok := r.fault.(checker); ok {
		if err := c.Check(ctx, r.victim); err != nil {
			return err
		}
	}
	addrs, err := r.o.Login.endpoints(s.Endpoints)
	if err != nil {
		return err
	}
	r.lanes = r.buildLanes(s, addrs)
	return r.o.Login.check(ctx, addrs[wherePrimary])
}

// checker is a Fault that can tell beforehand whether it may be injected.
type checker interface {
	// Check errors: cluster.ErrRefused.
	Check(context.Context, cluster.StatusNode) error
}

const (
	aboutRemote     = "Its clients know the group's own endpoints only, and do what an application does: after an error they look the name up and connect again. They use go-redis with its retries off, 1 s to connect and 3 s for an answer. Every key has a TTL."
	aboutSentinel   = "Its clients ask the sentinels where the primary is, as go-redis does for Sentinel, with its retries off, 1 s to connect and 3 s for an answer. Every key has a TTL."
	aboutUnderstudy = "Its clients know the group's endpoints only (primary, reader, split), which never move. They use go-redis with its retries off, 1 s to connect and 3 s for an answer, and keep their connections."
	aboutDirect     = "Its clients do what an application does today: they connect to the address of the node that was the primary when they started, for reads and for writes, and after an error they connect to that same address again. They use go-redis with its retries off, 1 s to connect and 3 s for an answer, at a third of the rate. When the old primary comes back it is a replica: it answers reads again, and refuses writes with READONLY."
)

// prefix is that of every key of the run.
func (r *run) prefix() string { return fmt.Sprintf("drill:%x:", r.started.UnixNano()) }

// remoteLanes are the group's own endpoints, and a proxy of it beside them.
func (r *run) remoteLanes(addrs map[string]string) []*lane {
	own := &lane{
		name: r.o.place.kind, about: aboutRemote, prefix: r.prefix() + "o:", workload: mixes[r.o.Workload], clock: r.clock,
		writers: r.o.Writers, readers: r.o.Readers, rate: r.o.Rate, seed: r.o.Seed, addrs: addrs, login: r.o.Login, expires: true,
	}
	if p := r.o.place; p.kind == targetSentinel {
		own.about = aboutSentinel
		own.opens = func(where string) *redis.Client { return r.o.Login.sentinel(p, where == whereReader) }
	}
	lanes := []*lane{own}
	if r.o.Through != "" {
		lanes = append(lanes, &lane{
			name: LaneUnderstudy, about: aboutUnderstudy, prefix: r.prefix() + "u:", workload: mixes[r.o.Workload], clock: r.clock,
			writers: max(2, r.o.Writers/2), readers: (r.o.Readers + 1) / 2, rate: max(1, r.o.Rate/2), seed: r.o.Seed + 1,
			addrs: map[string]string{wherePrimary: r.o.Through, whereReader: r.o.Through, whereSplit: r.o.Through}, login: Login{User: r.o.Login.User, Password: r.o.Login.Password}, expires: true,
		})
	}
	for _, l := range lanes {
		l.sessions = make([]atomic.Uint64, l.writers)
	}
	return lanes
}

// buildLanes makes the lanes; addrs are the group's endpoints.
func (r *run) buildLanes(s cluster.Status, addrs map[string]string) []*lane {
	id := r.prefix()
	understudy := &lane{
		name: LaneUnderstudy, about: aboutUnderstudy, prefix: id + "u:", workload: mixes[r.o.Workload], clock: r.clock,
		writers: r.o.Writers, readers: r.o.Readers, rate: r.o.Rate, seed: r.o.Seed,
		addrs: addrs, login: r.o.Login,
	}
	lanes := []*lane{understudy}
	for range r.o.Compare { // validated: only direct
		primary, _ := s.Node(s.Primary)
		lanes = append(lanes, &lane{
			name: LaneDirect, about: aboutDirect, prefix: id + "d:", workload: mixes[r.o.Workload], clock: r.clock,
			writers: max(2, r.o.Writers/directShare), readers: (r.o.Readers + directShare - 1) / directShare,
			rate: max(1, r.o.Rate/directShare), seed: r.o.Seed + 1,
			addrs: map[string]string{whereDirect: primary.Addr},
		})
	}
	for _, l := range lanes {
		l.sessions = make([]atomic.Uint64, l.writers)
	}
	return lanes
}

func (r *run) stockUp(ctx context.Context) error {
	for _, l := range r.lanes {
		c := l.connect(wherePrimary)
		stock, err := populate(ctx, c, l)
		_ = c.Close()
		if err != nil {
			return err
		}
		r.stock[l.name] = stock
	}
	return nil
}

// load runs all lanes for the whole duration and injects the fault on its way. injected is why the
// fault could not be injected, or nil. The error is ctx's, or that the fault was refused.
func (r *run) load(ctx context.Context) (injected, err error) {
	r.phase.Store(PhaseLoad)
	for _, l := range r.lanes {
		l.start(r.o.Duration)
	}
	undo := func() error { return nil }
	defer func() {
		for _, l := range r.lanes {
			l.end()
		}
		if err := undo(); err != nil {
			r.o.Logger.Warn("fault could not be undone", "error", err)
		}
	}()
	if err := wait(ctx, r.o.At); err != nil {
		return nil, err
	}
	if r.o.place.remote() {
		injected = r.mayBreak(ctx)
	}
	if injected == nil {
		undo, injected = r.inject(ctx)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if injected != nil {
		r.o.Logger.Error("fault not injected", "error", injected)
		return injected, nil
	}
	r.phase.Store(PhaseFault)
	return nil, r.outlast(ctx, r.o.Duration-(r.clock()-r.loadFrom))
}

func (r *run) inject(ctx context.Context) (func() error, error) {
	none := func() error { return nil }
	// The primary may have changed since the drill began.
	s, err := r.api.status(ctx)
	if err != nil {
		return none, err
	}
	victim, err := r.fault.Victim(s)
	if err != nil {
		return none, err
	}
	r.before, r.victim = s, victim
	r.noteAlarms(ctx)
	return r.fault.Inject(ctx, Target{Victim: victim, api: r.api, Mark: func() {
		at := r.clock()
		r.faultAt.Store(int64(at))
		r.mark(at, "drill", "fault %s injected into %s (%s)", r.fault.Name(), victim.ID, victim.Zone)
	}})
}

// wait returns when d is over, or with ctx's error.
func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// awaitWhole waits, bounded, until all nodes are ready again.
func (r *run) awaitWhole(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, r.o.Patience)
	defer cancel()
	select {
	case <-r.whole:
	case <-ctx.Done():
	}
}

// watchStatus keeps latest fresh and notes when the group is whole again.
func (r *run) watchStatus(ctx context.Context) {
	period := statusPeriod
	if r.o.place.remote() {
		period = remoteStatusPeriod
	}
	tick := time.NewTicker(period)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		s, err := r.api.status(ctx)
		if err != nil {
			continue // what clients see counts; the next tick asks again
		}
		r.latest.Store(&s)
		r.noteWhole(s)
	}
}

func (r *run) noteWhole(s cluster.Status) {
	if r.faultAt.Load() == 0 || !whole(s) {
		return
	}
	victim, _ := s.Node(r.victim.ID)
	if r.fault.ChangesPrimary() && s.Epoch <= r.before.Epoch || !r.fault.ChangesPrimary() && victim.PID == r.victim.PID {
		return // the group has not noticed yet
	}
	if r.servers != nil && !r.servers.listedSince(r.started.Add(time.Duration(r.faultAt.Load()))) {
		return // what the directory says is from before the fault
	}
	r.mu.Lock()
	first := r.wholeAt == 0
	if first {
		r.wholeAt = r.clock()
	}
	r.mu.Unlock()
	if first {
		close(r.whole)
	}
}

// watchEvents puts the group's own events into the timeline.
func (r *run) watchEvents(ctx context.Context) {
	err := r.api.events(ctx, func(e cluster.Event) {
		if e.Time.Before(r.started) {
			return // the stream begins with what happened before
		}
		who, text := string(e.Node), e.Name
		if who == "" {
			who = e.Group
		}
		if e.Message != "" {
			text += ": " + e.Message
		}
		r.mark(e.Time.Sub(r.started), who, "%s", text)
	})
	if err != nil && ctx.Err() == nil {
		r.o.Logger.Warn("events of the group are missing from the timeline", "error", err)
	}
}

// clean removes the drill's keys from the group.
func (r *run) clean(ctx context.Context) {
	c := r.lanes[0].connect(wherePrimary)
	defer c.Close()
	for _, l := range r.lanes {
		if err := clean(ctx, c, append(r.stock[l.name], l.entries()...)); err != nil {
			r.o.Logger.Warn("keys of the drill are left", "prefix", l.prefix, "error", err)
		}
	}
}

// conclude reads what survived, and judges.
func (r *run) conclude(ctx context.Context, injected error) (Result, error) {
	c := r.lanes[0].connect(wherePrimary)
	defer c.Close()
	faultAt := time.Duration(r.faultAt.Load())
	if faultAt == 0 {
		faultAt = r.clock() // everything was before it
	}
	recorded := map[string][]entry{}
	result := r.describe()
	for _, l := range r.lanes {
		entries := append(r.stock[l.name], l.entries()...)
		recorded[l.name] = entries
		surviving, err := readData(ctx, c, entries)
		if err != nil {
			return result, fmt.Errorf("read what survived of lane %s: %w", l.name, err)
		}
		f := figuresOf(entries, r.loadFrom, faultAt, surviving)
		result.Lanes = append(result.Lanes, Lane{l.name, l.about, f})
		result.plot.add(l.name, entries, r.loadFrom, r.o.Duration)
		r.markLane(l.name, entries, f, faultAt)
	}
	result.Figures = result.Lanes[0].Figures
	if s, err := r.api.status(ctx); err == nil {
		r.latest.Store(&s)
	}
	result.Alarms = r.readAlarms(ctx, *r.latest.Load())
	for _, a := range result.Alarms {
		if a.FiredMs != nil {
			r.mark(faultAt+time.Duration(*a.FiredMs*float64(time.Millisecond)), "alarm", "%s goes into ALARM", a.Name)
		}
	}
	result.Audit = auditNodes(ctx, *r.latest.Load(), recorded[r.lanes[0].name], r.openNode)
	r.outcome(&result, recorded[r.lanes[0].name], injected)
	r.keepSafe(&result)
	if r.o.Dir == "" {
		return result, nil
	}
	return result, result.save(r.o.Dir, recorded)
}

// openNode opens a connection to a node, past the endpoints.
func (r *run) openNode(addr string) *redis.Client {
	if r.o.place.remote() {
		return r.nodeLogin(addr).client(addr)
	}
	return newClient(addr)
}

// keepSafe adds what is to be known of a drill on somebody else's group.
func (r *run) keepSafe(result *Result) {
	if !r.o.place.remote() {
		return
	}
	result.Safety = &Safety{Plan: r.plan, Calls: []remote.Call{}, Aborted: r.aborted}
	if r.cloud != nil {
		result.Safety.Calls, result.Safety.ClockAheadMs = r.cloud.calls.all(), ms(r.cloud.calls.clockAhead())
	}
	if r.aborted != "" && result.Verdict == Fail {
		result.Reasons = append([]string{"aborted: " + r.aborted}, result.Reasons...)
	}
	if f := r.latest.Load().LastFailover; f != nil && f.Epoch > r.before.Epoch {
		faultAt := time.Duration(r.faultAt.Load())
		result.PhasesMs["promote"] = ms(f.Started.Sub(r.started) - faultAt)
		if moved := time.Duration(r.movedAt.Load()); moved > faultAt {
			result.PhasesMs["endpoint"] = ms(moved - faultAt)
		}
	}
}

// describe fills in what is known without any operation.
func (r *run) describe() Result {
	return Result{
		Schema: 1, ID: newID(r.started, r.fault.Name()), Fault: r.fault.Name(), Target: r.o.Target, Seed: r.o.Seed,
		Started: r.started, PhasesMs: map[string]float64{}, Alarms: []Alarm{},
		Thresholds: Thresholds{RTOMs: ms(r.o.RTO), RPOWrites: r.o.RPO, MaxErrors: r.o.MaxErrors},
		Parameters: Parameters{
			Workload: r.o.Workload, DurationMs: ms(r.o.Duration), AtMs: ms(r.o.At),
			Writers: r.o.Writers, Readers: r.o.Readers, Rate: r.o.Rate, Command: r.o.command(),
		},
		Group: r.before.Group, Durability: r.before.Durability, Profile: r.before.Profile,
		From: r.before.Primary, Nodes: len(r.before.Nodes),
	}
}

// outcome adds the group's side of the story, and the verdict.
func (r *run) outcome(result *Result, judged []entry, injected error) {
	s := *r.latest.Load()
	result.To, result.NodesReady = s.Primary, s.Ready()
	faultAt := time.Duration(r.faultAt.Load())
	changed := s.Epoch > r.before.Epoch
	if f := s.LastFailover; changed && f != nil && f.Epoch > r.before.Epoch {
		result.PhasesMs = f.PhasesMs
		if result.PhasesMs == nil {
			result.PhasesMs = map[string]float64{}
		}
	}
	r.mu.Lock()
	wholeAt := r.wholeAt
	r.mu.Unlock()
	if wholeAt > 0 {
		result.RedundancyMs = msPtr(wholeAt - faultAt)
		r.mark(wholeAt, "drill", "all %d nodes are ready again", result.NodesReady)
	}
	o := observation{
		faultHappened: injected == nil && faultAt > 0, changed: changed, mustChange: r.fault.ChangesPrimary(),
		recorded: loadOnly(judged, r.loadFrom), faultAt: faultAt, loadFrom: r.loadFrom, rate: r.o.Rate,
		figures: result.Figures, thresholds: result.Thresholds, audit: result.Audit,
		redundant: wholeAt > 0, patience: r.o.Patience, silent: silent(result.Alarms),
	}
	if injected != nil {
		o.whyNot = injected.Error()
	}
	result.Verdict, result.Reasons = judge(o)
	zero := r.loadFrom
	if o.faultHappened {
		zero = faultAt
	}
	result.FaultAtMs = ms(faultAt - r.loadFrom)
	result.Timeline = r.timeline(zero)
}

// loadOnly leaves out what was written before the load began.
func loadOnly(entries []entry, from time.Duration) []entry {
	var load []entry
	for _, e := range entries {
		if e.Invoked >= from {
			load = append(load, e)
		}
	}
	return load
}
