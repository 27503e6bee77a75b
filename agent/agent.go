package agent

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"understudy/cluster"
	"understudy/failover"
	"understudy/redis"
)

// Agent runs one node.
type Agent struct {
	opts    Options
	log     *slog.Logger
	machine *failover.Machine
	metrics *metrics
	hole    *redis.BlackHole
	disk    disk
	runs    *runs
	lost    *lost
	port    int

	inbox       chan any      // everything that the loop reacts to
	looks       chan look     // the loop's questions how redis-server is
	settingsDue chan struct{} // has room for one: users and settings are to be looked at
	watchAgain  chan struct{} // the watch of the lead is of no use any more
	work        sync.WaitGroup

	// Owned by the loop.
	in           failover.Input
	out          failover.Output
	server       server
	end          logEnd
	loads        *loads         // nil: what redis-server has read is known
	access       cluster.Access // of the clients of this node's epoch, while it is promoted
	reader       cluster.Access // of its clients while it is a replica
	backstop     backstop
	certificates certificates
	noting       bool             // that the data set is whole is on its way to the disk
	syncFrom     cluster.Position // where a full sync was last seen to begin
	lookedAt     time.Duration    // when the log's end was last kept
	inOrder      bool             // the last server has ended, in order
	boots        int
	probing      bool
	probeAt      time.Duration
	pulse        pulse
	settling     settling
	leadsSince   time.Duration
	changedAt    time.Duration // when redis-server was last changed by us
	pollAt       time.Duration
	polling      bool
	waiting      map[string][]chan failover.Reply
	configured   []chan struct{} // who waits for new settings to be taken
	lastSent     time.Duration
	fencedAt     time.Duration
	lag          lag

	promotions atomic.Int64 // of this node's servers that were begun, so far
	changeMu   sync.Mutex   // held while redis-server is being changed by commands

	opened atomic.Int64 // connections to its servers, so far

	dumpMu sync.Mutex // held while redis-server writes its data set for somebody

	peers     peers
	controlMu sync.Mutex
	shared    *redis.Control

	timeline timeline

	others atomic.Pointer[[]failover.Peer] // every node of the group as it is now, this one included
	noted  atomic.Pointer[chan struct{}]   // closed when the newest promotion's note is written
	view   atomic.Pointer[view]
	viewMu sync.Mutex
	newer  chan struct{} // closed and replaced when view changes
}

// view is what other goroutines may see of the loop's state.
type view struct {
	version uint64        // grows each time that others are told
	at      time.Duration // when the status was made
	status  cluster.NodeStatus
	report  failover.Report
	lead    cluster.Lead
	store   failover.StoreView
	server  server
}

// The messages of the inbox.
type (
	resultMsg struct {
		failover.Result
		action failover.Action
		access cluster.Access // what a promotion made
	}
	storeMsg struct {
		failover.StoreView
		sent time.Duration // when this was asked of the store as a whole; 0: it is news of a change
	}
	reportsMsg struct {
		reports []failover.Report
		poll    bool
	}
	requestMsg struct {
		request failover.Request
		answer  chan failover.Reply
	}
	settingsMsg struct {
		settings failover.Settings
		taken    chan struct{} // closed when the machine has stepped with them
	}
	startedMsg struct {
		server server
		worth  worth
		boot   string // names the run; "": one is made up
		loads  *loads // nil: nobody has looked at its disk
		certs  []byte // TLSOptions.InForce from before its start
		reader cluster.Access
	}
	exitMsg struct{ server server }
)

// New prepares an Agent. Errors name the option or the file that is wrong.
func New(opts Options) (*Agent, error) {
	if err := opts.complete(); err != nil {
		return nil, err
	}
	if err := opts.needTLS(); err != nil {
		return nil, fmt.Errorf("agent %s: %w", opts.Self.Node, err)
	}
	d, err := openDisk(opts.Dir)
	if err != nil {
		return nil, err
	}
	lost, err := openLost(opts)
	if err != nil {
		return nil, fmt.Errorf("agent %s: %w", opts.Self.Node, err)
	}
	hole, err := redis.NewBlackHole()
	if err != nil {
		return nil, fmt.Errorf("agent %s: reserve a port: %w", opts.Self.Node, err)
	}
	a := &Agent{
		opts: opts, disk: d, runs: openRuns(opts.Dir, opts.BootIDFile), lost: lost, hole: hole, port: opts.Port,
		log:     opts.Logger.With("component", "agent", "node", string(opts.Self.Node)),
		metrics: newMetrics(opts.Metrics, opts.Group, opts.Self.Node),
		machine: failover.New(failover.Config{
			Group: opts.Group, Self: opts.Self, Nodes: opts.Nodes,
			Durability: opts.Durability, Profile: opts.Profile,
			OnLostQuorum: opts.OnLostQuorum, PreferredZone: opts.PreferredZone, Manual: opts.Manual,
		}),
		inbox: make(chan any, 256), looks: make(chan look, 1), watchAgain: make(chan struct{}, 1), settingsDue: make(chan struct{}, 1), newer: make(chan struct{}),
		waiting: map[string][]chan failover.Reply{},
		peers:   peers{addrs: map[string]cluster.NodeID{}},
	}
	a.others.Store(&opts.Nodes)
	a.in.Peers = map[cluster.NodeID]failover.Report{}
	l := &a.in.Local
	l.Seen, l.Revoked, l.Kept = d.kept.Epoch, d.kept.Revoked, d.kept.Lead
	// The first version is of the time: a poll that goes on after a restart must see a change.
	a.view.Store(&view{version: uint64(time.Now().UnixNano()), status: cluster.NodeStatus{Group: opts.Group, Node: opts.Self.Node, Zone: opts.Self.Zone,
		State: cluster.StateDown, Role: cluster.RoleReplica, Durability: opts.Durability}})
	return a, nil
}

// Status is what this node last said of itself; its Permit counts from when that was.
func (a *Agent) Status() cluster.NodeStatus { return a.view.Load().status }

// Lead is the newest record that this node knows.
func (a *Agent) Lead() cluster.Lead { return a.view.Load().lead }

func (a *Agent) ask(ctx context.Context, r failover.Request) (failover.Reply, error) {
	answer := make(chan failover.Reply, 1)
	if !a.tell(ctx, requestMsg{r, answer}) {
		return failover.Reply{}, fmt.Errorf("%s: %w", a.opts.Self.Node, ctx.Err())
	}
	select {
	case reply := <-answer:
		return reply, nil
	case <-ctx.Done():
		return failover.Reply{}, fmt.Errorf("%s has not answered the request: %w", a.opts.Self.Node, ctx.Err())
	}
}

// Configure changes the group's settings while the agent runs: it returns when this node goes by them, or ctx's
// error. failover.Settings says in which order nodes come and go.
func (a *Agent) Configure(ctx context.Context, s failover.Settings) error {
	taken := make(chan struct{})
	if !a.tell(ctx, settingsMsg{s, taken}) {
		return fmt.Errorf("%s: change its settings: %w", a.opts.Self.Node, ctx.Err())
	}
	select {
	case <-taken:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%s has not taken its new settings: %w", a.opts.Self.Node, ctx.Err())
	}
}

// nodes are all of the group's, this one included.
func (a *Agent) nodes() []failover.Peer { return *a.others.Load() }

// tell hands a message to the loop.
func (a *Agent) tell(ctx context.Context, msg any) bool {
	select {
	case a.inbox <- msg:
		return true
	case <-ctx.Done():
		return false
	}
}

// Run runs the node until ctx ends; then it fences, releases the lead, stops redis-server and
// returns when nothing of it is left.
func (a *Agent) Run(ctx context.Context) error {
	defer a.hole.Close()
	// The work outlives ctx: the lead is released and redis-server stopped after it has ended.
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	stopRPC := a.opts.RPC.Register(a.opts.Self.Node, a)
	a.goDo(func() { a.watch(life) })
	a.goDo(func() { a.lookWhenTold(life) })
	a.goDo(func() { a.keepSettings(life) })

	a.loop(life, ctx.Done(), nil)
	stopped := make(chan struct{})
	a.goDo(func() {
		defer close(stopped)
		bound, cancel := context.WithTimeout(life, a.opts.Profile.TTL+time.Second)
		defer cancel()
		a.leave(bound)
	})
	a.loop(life, nil, stopped)
	end()
	a.dropControl() // a look under way ends with its connection
	stopRPC()
	a.drain()
	return a.stopServer()
}

// leave asks the machine to let go, and waits until the record says so.
func (a *Agent) leave(ctx context.Context) {
	if _, err := a.ask(ctx, failover.Request{ID: "stop", Kind: failover.RequestStop}); err != nil {
		return
	}
	self := a.opts.Self.Node
	for ctx.Err() == nil {
		newer := a.changed()
		l := a.Lead()
		if l.Holder != self || l.State == cluster.LeadReleased {
			return
		}
		select {
		case <-newer:
		case <-ctx.Done():
		}
	}
}

// drain lets the workers end that still want to tell the loop something.
func (a *Agent) drain() {
	done := make(chan struct{})
	go func() { a.work.Wait(); close(done) }()
	for {
		select {
		case msg := <-a.inbox:
			if s, ok := msg.(startedMsg); ok {
				a.server, a.inOrder = s.server, false
			}
		case <-done:
			return
		}
	}
}

// stopServer ends redis-server, and notes it when that was in order.
func (a *Agent) stopServer() error {
	at := cluster.Position{}
	if a.server != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		defer a.guard(func(f *redis.Fencer) error { return f.Release(a.server.PID()) })
		at = a.lastPosition(ctx)
		if err := a.server.Terminate(ctx); err != nil {
			a.log.Warn("redis-server did not stop in time", "error", err)
			return a.server.Kill()
		}
		a.inOrder = a.server.InOrder()
	}
	if !a.inOrder {
		return nil
	}
	return a.runs.stopped(at, a.disk.dataFiles())
}

// lastPosition has redis-server follow nobody, so that its log ends, and returns where. It is empty when
// that cannot be told, or when the data set is not whole.
func (a *Agent) lastPosition(ctx context.Context) cluster.Position {
	ctx, cancel := context.WithTimeout(ctx, a.callTimeout()/2)
	defer cancel()
	c, err := a.login().Dial(ctx)
	if err != nil {
		return cluster.Position{}
	}
	defer c.Close()
	r, err := c.Replication(ctx)
	whole := !a.in.Local.Damaged && !r.SyncInProgress && !r.Loading
	if err == nil {
		err = c.Follow(ctx, a.hole.Addr())
	}
	if err == nil {
		r, err = c.Replication(ctx)
	}
	if err != nil || !whole {
		return cluster.Position{}
	}
	at, _ := a.end.known(r.Position, r.Prev)
	return at
}

// goDo runs work whose end Run waits for.
func (a *Agent) goDo(f func()) {
	a.work.Add(1)
	go func() { defer a.work.Done(); f() }()
}

// loop observes, steps and acts until one of the channels is closed.
func (a *Agent) loop(ctx context.Context, stop, stopped <-chan struct{}) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		a.observe(ctx)
		a.step(ctx)
		now := a.opts.Clock()
		due := max(now, a.nextWake()) // what was due before, this step has made so: nobody was late for it
		timer.Reset(due - now)
		select {
		case msg := <-a.inbox:
			a.take(ctx, msg)
			a.takeMore(ctx)
		case <-timer.C:
		case <-stop:
			return
		case <-stopped:
			return
		}
		a.excuse(a.opts.Clock() - due)
	}
}

// excuse leaves out of account, for the question whether redis-server hangs, the time that this
// process was not given the processor: on a starved machine a server that was not asked, or whose
// answer was not read, is not hung. The permit knows no such excuse.
func (a *Agent) excuse(late time.Duration) {
	if l := &a.in.Local; late > a.opts.Profile.Probe/2 && l.OKAt > 0 {
		l.OKAt = min(l.OKAt+late, a.opts.Clock())
	}
}

// takeMore takes what else is there, so that one step sees it all.
func (a *Agent) takeMore(ctx context.Context) {
	for a.in.Request == nil { // one request a step
		select {
		case msg := <-a.inbox:
			a.take(ctx, msg)
		default:
			return
		}
	}
}

// nextWake is when the loop is to step if nothing happens before. What is due at about the same time is done
// together: a look may be a little late, what the machine asked for may not.
func (a *Agent) nextWake() time.Duration {
	at := a.lastSent + a.opts.Profile.Renew
	if !a.probing && a.server != nil {
		at = min(at, a.probeAt)
	}
	if a.probing && a.server != nil {
		at = min(at, a.pulse.at+a.opts.Profile.Probe)
	}
	if a.out.Status.Leads && !a.polling {
		at = min(at, a.pollAt)
	}
	if wake := a.out.WakeAt; wake < at+a.opts.Profile.Probe/coalesce {
		at = wake
	}
	return at
}

// coalesce is the part of the time between two looks by which one may be late.
const coalesce = 20

// take folds a message into the next step's input.
func (a *Agent) take(ctx context.Context, msg any) {
	switch m := msg.(type) {
	case resultMsg:
		a.ended(m)
	case storeMsg:
		a.sawStore(m.StoreView, m.sent)
	case reportsMsg:
		for _, r := range m.reports {
			if old, ok := a.in.Peers[r.Node]; !ok || r.At >= old.At {
				a.in.Peers[r.Node] = r
			}
		}
		a.polling = a.polling && !m.poll
	case requestMsg:
		a.in.Request = &m.request
		a.waiting[m.request.ID] = append(a.waiting[m.request.ID], m.answer)
	case settingsMsg:
		a.others.Store(&m.settings.Nodes)
		a.in.Settings = &m.settings
		a.configured = append(a.configured, m.taken)
	case startedMsg:
		a.started(m)
	case exitMsg:
		a.exited(m)
	case reloadedMsg:
		a.reloaded(m)
	case backstopMsg:
		a.backstopChanged(m)
	case notedMsg:
		a.noting = false
	case probeMsg:
		a.probed(ctx, m)
	case settledMsg:
		a.settling.busy, a.probeAt = false, 0
	default:
		panic(fmt.Sprintf("agent: unknown message %T", msg))
	}
}

// ended folds in the end of an action.
func (a *Agent) ended(m resultMsg) {
	a.in.Results = append(a.in.Results, m.Result)
	switch m.Kind {
	case failover.ActSwap:
		if m.Outcome == failover.OutcomeOK {
			a.sawStore(failover.StoreView{Known: true, Lead: m.action.Lead, Revision: m.Revision, SeenAt: a.opts.Clock()}, 0)
		}
	case failover.ActPersist:
		if m.Outcome == failover.OutcomeOK {
			l := &a.in.Local
			l.Seen, l.Revoked, l.Kept = max(l.Seen, m.action.Epoch), max(l.Revoked, m.action.Revoked), m.action.Lead
		}
	case failover.ActAsk, failover.ActPledge:
	default:
		a.changedServer(m)
		// redis-server was changed: what an older probe says is void, and the machine waits for a
		// newer one.
		a.probeAt, a.changedAt = 0, a.opts.Clock()
	}
}

// changedServer takes the end of a change that was made to redis-server.
func (a *Agent) changedServer(m resultMsg) {
	if m.Outcome != failover.OutcomeOK {
		return
	}
	switch m.Kind {
	case failover.ActFollow:
		a.end.moved = true
	case failover.ActPromote:
		a.end.moved = true
		a.access, a.backstop = m.access, backstop{}
	case failover.ActRevoke:
		a.access = cluster.Access{}
	}
	a.in.Local.Last = a.end.lastKnown()
}

func (a *Agent) sawStore(v failover.StoreView, sent time.Duration) {
	old := a.in.Store
	// The store answers in order: less than what was known before the question, or another record under the
	// same revision, means that it was restored from a backup, or has lost its data.
	other := v.Lead.Epoch != old.Lead.Epoch || v.Lead.Seq != old.Lead.Seq || v.Lead.Holder != old.Lead.Holder
	back := old.Known && sent > old.SeenAt && (v.Revision < old.Revision || v.Revision == old.Revision && other)
	if back {
		a.rewatch() // a watch goes on where the store has not been yet, and would tell nothing
	}
	if !old.Known || v.Revision > old.Revision || back {
		a.in.Store = v
		a.lag.primaryAt(v.SeenAt, v.Lead.Position)
	}
}

// rewatch has the watch of the lead begin anew.
func (a *Agent) rewatch() {
	select {
	case a.watchAgain <- struct{}{}:
	default:
	}
}

// step lets the machine decide and carries out what it says.
func (a *Agent) step(ctx context.Context) {
	a.in.Now = a.opts.Clock()
	a.in.ReturnNow = a.opts.ReturnNow != nil && a.opts.ReturnNow(time.Now())
	led := a.out.Status.Leads
	a.out = a.machine.Step(a.in)
	if a.out.Status.Leads && !led {
		a.leadsSince, a.probeAt = a.in.Now, 0
		defer a.settingsNow()
	}
	a.in.Results, a.in.Request, a.in.Settings = nil, nil, nil
	for _, taken := range a.configured {
		close(taken)
	}
	a.configured = nil
	a.publish() // first: a permit that ended must be known before anything else takes its time
	a.fenceDeadline()
	a.keepBackstop(ctx)
	for _, action := range a.out.Actions {
		a.act(ctx, action)
	}
	for _, e := range a.out.Events {
		e.Time = time.Now()
		a.log.Info(e.Name, "epoch", e.Epoch, "detail", e.Message)
		a.metrics.event(e)
		a.timeline.add(e)
		a.opts.OnEvent(e)
	}
	for _, r := range a.out.Replies {
		for _, answer := range a.waiting[r.ID] {
			answer <- r
		}
		delete(a.waiting, r.ID)
	}
}

// publish shows the step's outcome to everybody else.
func (a *Agent) publish() {
	s := a.out.Status
	s.AgentPID = os.Getpid()
	s.Lost = a.lost.all()
	if a.server != nil {
		s.PID, s.Addr, s.Socket = a.server.PID(), a.server.Addr(), a.socket()
		s.Access, s.Fences = a.accessFor(s.Leads), a.fences()
	}
	if !s.Leads && a.server != nil {
		bytes, age := a.lag.behind(a.in.Local.At, a.in.Local.Position)
		s.LagBytes, s.LagMs = bytes, age.Seconds()*1000
	}
	old := a.view.Load()
	next := &view{version: old.version, at: a.in.Now, status: s, report: a.out.Report, lead: a.in.Store.Lead, store: a.in.Store, server: a.server}
	// What is nearly due goes with what has woken the loop anyway.
	news := changed(old, next) || a.in.Now-a.lastSent >= a.opts.Profile.Renew*9/10
	if news {
		next.version++
	}
	a.view.Store(next)
	if news {
		a.lastSent = a.in.Now
		a.metrics.status(s)
		a.opts.OnStatus(a.in.Now, s)
		a.viewMu.Lock()
		close(a.newer)
		a.newer = make(chan struct{})
		a.viewMu.Unlock()
	}
}

// changed reports whether others must be told at once. Offsets move all the time: they wait for the
// regular message, but for a permit that ended.
func changed(old, next *view) bool {
	x, y := old.status, next.status
	if (x.Permit > 0) != (y.Permit > 0) || len(x.Rules) != len(y.Rules) || old.lead.State != next.lead.State {
		return true
	}
	for i := range x.Rules {
		if !x.Rules[i].Equal(y.Rules[i]) {
			return true
		}
	}
	if old.report.Revoked != next.report.Revoked || old.report.Fit != next.report.Fit {
		return true
	}
	return !sameStatus(x, y)
}

func sameStatus(x, y cluster.NodeStatus) bool {
	return x.Leads == y.Leads && x.Epoch == y.Epoch && x.Pausing == y.Pausing && x.Role == y.Role &&
		x.State == y.State && x.Electable == y.Electable && x.Reason == y.Reason && x.PID == y.PID &&
		x.Access == y.Access && x.NoQuorum == y.NoQuorum && x.Alone == y.Alone && slices.Equal(x.Fences, y.Fences) && len(x.Lost) == len(y.Lost) &&
		x.Kept == y.Kept && x.Addr == y.Addr && x.Socket == y.Socket && x.Fork == y.Fork
}

// changed returns a channel that is closed at the next published change.
func (a *Agent) changed() <-chan struct{} {
	a.viewMu.Lock()
	defer a.viewMu.Unlock()
	return a.newer
}
