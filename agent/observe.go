package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"understudy/cluster"
	"understudy/failover"
	"understudy/redis"
)

// pollEvery is how often a primary asks the others how they are: often enough for the status page,
// rarely enough to cost nothing.
const pollEvery = 500 * time.Millisecond

// settleEvery is the time between the two questions for an acknowledgement: see settle.
const settleEvery = 20 * time.Millisecond

// settling is the state of asking the replicas where they are.
type settling struct {
	busy   bool
	at     time.Duration // not before
	asked  int
	online int // how many were asked
}

// settledMsg is the end of one such question.
type settledMsg struct{}

// probeMsg is the end of one probe.
type probeMsg struct {
	server server
	sent   time.Duration
	rep    redis.Replication
	err    error
	read   *loads // what the server was to read, and has; nil: it has not, or that was known
	other  string // why that was another data set
}

// look is a question how a server is, and whether it has read what it was started on.
type look struct {
	server server
	loads  *loads // nil: that is known
}

// observe starts the looks that are due.
func (a *Agent) observe(ctx context.Context) {
	now := a.opts.Clock()
	if a.server != nil && !a.probing && now >= a.probeAt {
		a.probing, a.pulse = true, pulse{at: now}
		a.looks <- look{a.server, a.loads} // it holds one, and one is under way at a time
	}
	if a.probing && a.server != nil && now >= a.pulse.at+a.opts.Profile.Probe {
		a.feelPulse(now)
	}
	a.keepCertificates(ctx, now)
	if now >= a.lost.readAt {
		a.lost.readAt = now + lostEvery
		a.goDo(func() {
			if err := a.lost.read(); err != nil {
				a.log.Warn("what was put aside cannot be listed", "error", err)
			}
		})
	}
	if a.out.Status.Leads && !a.polling && now >= a.pollAt {
		a.polling, a.pollAt = true, a.onGrid(now+pollEvery)
		a.goDo(func() {
			a.tell(ctx, reportsMsg{reports: a.askPeers(ctx, 0, a.opts.Profile.Window, ""), poll: true})
		})
	}
}

// lookWhenTold asks redis-server how it is, each time that the loop says so: a goroutine for each of sixty
// looks a second would spend more on its stack than on the question.
func (a *Agent) lookWhenTold(ctx context.Context) {
	for {
		select {
		case l := <-a.looks:
			m := a.look(ctx, l.server)
			if l.loads != nil && m.err == nil && !m.rep.Loading {
				m.read, m.other = l.loads, a.proved(l.loads)
			}
			a.tell(ctx, m)
		case <-ctx.Done():
			return
		}
	}
}

// pulse is what was seen of a server's process while a look at it has no answer.
type pulse struct {
	at    time.Duration // of the newest reading, or when the look began
	count time.Duration // redis.Pulse; 0: not read yet
}

// pulseShare: a server is busy that ran, or waited for a processor, for a fifth of the time. It would be all
// of it, but the kernel counts a wait when it is over, and one that hangs does nothing at all.
const pulseShare = 5

// feelPulse tells a server that is busy with one long command from one that hangs, while a look has no
// answer. Redis says -BUSY after five seconds only, and of scripts only; a server that is stopped, or waits for
// its disk, says nothing either. But a busy one takes all the processor that it gets. How long it
// may go on so is the machine's to decide.
func (a *Agent) feelPulse(now time.Duration) {
	if redis.Exiting(a.server.PID()) {
		// It would look busy while the kernel takes a large data set apart, and is as good as gone.
		a.exited(exitMsg{a.server})
		a.in.Local.Exit = "it was ended, and its memory is being given back"
		return
	}
	count, err := redis.Pulse(a.server.PID())
	if err != nil {
		count = 0 // it runs elsewhere, or the kernel does not tell: it hangs
	}
	before := a.pulse
	a.pulse = pulse{at: now, count: count}
	if before.count > 0 && (count-before.count)*pulseShare > now-before.at {
		a.in.Local.OKAt, a.in.Local.Busy = now, true
	}
}

// look asks once. It may take as long as a hang is allowed to last: a server that stalls for less is not
// taken for dead.
func (a *Agent) look(ctx context.Context, server server) probeMsg {
	within := a.opts.Profile.Probe * time.Duration(a.opts.Profile.Misses)
	m := probeMsg{server: server, sent: a.opts.Clock()}
	c := a.controlNow()
	if c == nil {
		bound, cancel := context.WithTimeout(ctx, within)
		defer cancel()
		if c, m.err = a.control(bound); m.err != nil {
			return m
		}
	}
	if m.rep, m.err = c.ReplicationWithin(within); m.err != nil {
		a.dropControl()
	}
	return m
}

// probed folds a probe's answer into what the machine knows of its server.
func (a *Agent) probed(ctx context.Context, m probeMsg) {
	a.probing = false
	every := a.opts.Profile.Probe
	if !a.out.Status.Leads {
		every *= 2 // nobody waits for a replica that hangs
	}
	a.probeAt = max(a.onGrid(m.sent+every), a.opts.Clock()+time.Millisecond)
	if m.sent <= a.changedAt {
		a.probeAt = 0
	}
	l := &a.in.Local
	if m.server != a.server || a.server == nil {
		return
	}
	okAt := max(l.OKAt, m.sent) // its pulse may have shown it alive since this was asked
	switch {
	case errors.Is(m.err, redis.ErrLoading):
		l.OKAt, l.At, l.Loading, l.Busy = okAt, m.sent, true, false
		return
	case errors.Is(m.err, redis.ErrBusy):
		l.OKAt, l.Busy = okAt, true
		return
	case m.err != nil:
		if l.OKAt == 0 {
			a.probeAt = a.opts.Clock() + 2*time.Millisecond // it is just starting: look again soon
		}
		return
	}
	r := m.rep
	if a.loads == m.read {
		a.loads = nil
	}
	if l.OKAt == 0 || l.Loading {
		a.settingsNow() // it is up, and has only what it was started with
	}
	if m.other != "" {
		a.readAnother(m.other)
	}
	l.OKAt, l.At, l.Busy, l.Loading = okAt, m.sent, false, r.Loading
	a.end.moved = a.end.moved || r.Role == cluster.RolePrimary || r.LinkUp || r.SyncInProgress
	l.Role, l.LinkUp, l.Syncing, l.ReadOnly = r.Role, r.LinkUp, r.SyncInProgress, r.ReadOnly
	l.Position, l.Prev = a.end.known(r.Position, r.Prev)
	if r.SyncInProgress {
		a.syncFrom = r.Position
	}
	// A full sync that has ended well leaves another position, even if its link was not seen up.
	l.Damaged = (l.Damaged || r.SyncInProgress) && !r.LinkUp && r.Position == a.syncFrom
	a.noteLook(ctx, m)
	l.Following = a.nodeAt(r.MasterAddr)
	l.Replicas = l.Replicas[:0:0]
	for _, x := range r.Replicas {
		if id := a.nodeAt(x.Addr); id != "" {
			l.Replicas = append(l.Replicas, failover.ReplicaAck{Node: id, Online: x.State == "online", Offset: x.Offset})
		}
	}
	a.settle(ctx)
	if a.inTransit() {
		a.probeAt = min(a.probeAt, a.opts.Clock()+5*time.Millisecond)
	}
}

// onGrid moves a time to the nearest beat of this process, so that the looks of all its agents fall
// together: a processor that is woken once for three of them sleeps better than one that is woken three times.
func (a *Agent) onGrid(at time.Duration) time.Duration { return at.Round(a.opts.Profile.Probe) }

// notedMsg is the end of noting that the data set is whole.
type notedMsg struct{}

// lookEvery is how often the end of the log is kept for a restart after a crash. It is a lower bound: a
// newer one is worth little, and each costs a write.
const lookEvery = time.Second

// noteLook keeps for the next run what a look has shown of this one.
func (a *Agent) noteLook(ctx context.Context, m probeMsg) {
	l, now := &a.in.Local, a.opts.Clock()
	if m.rep.Role == cluster.RolePrimary && a.out.Status.Leads && m.rep.AppendOnly && !m.rep.Rewriting && m.sent > a.changedAt && !a.noting && !a.runs.whole.Load() {
		a.noting = true
		changes := a.runs.changes.Load()
		a.goDo(func() {
			if err := a.runs.led(changes); err != nil {
				a.log.Warn("a restart will not know that its data set is whole", "error", err)
				pause(ctx, a.opts.Profile.TTL) // the disk is asked again, not hammered
			}
			a.tell(ctx, notedMsg{})
		})
	}
	if l.Last = a.end.lastKnown(); !a.end.moved || l.Damaged || l.Position == a.end.last {
		return
	}
	a.end.last = l.Position
	if now < a.lookedAt+lookEvery {
		return
	}
	a.lookedAt = now
	at := l.Position
	a.goDo(func() {
		if err := a.runs.looked(at); err != nil {
			a.log.Debug("where the log is was not kept", "error", err)
		}
	})
}

// inTransit reports whether the next news is near, and worth a closer look: a replica on its way to
// its primary, or a primary whose replicas are on their way. Replicas that do not come are not
// waited for like that.
func (a *Agent) inTransit() bool {
	l := &a.in.Local
	if !a.out.Status.Leads {
		return !l.Loading && a.out.Status.State == cluster.StateSyncing
	}
	online := 0
	for _, r := range l.Replicas {
		if r.Online {
			online++
		}
	}
	return online < len(a.nodes())-1 && a.opts.Clock()-a.leadsSince < a.opts.Profile.TTL
}

// settle has the replicas say where they are when a primary's probe shows them behind. They speak up
// once a second on their own; a rule that waits for a replica to have caught up, or a switchover,
// would be that much later. The question is itself a few bytes of the log that nobody acknowledges:
// the second one covers the first, and then it is left to the replicas again.
func (a *Agent) settle(ctx context.Context) {
	l, now := &a.in.Local, a.opts.Clock()
	online, behind := 0, false
	for _, r := range l.Replicas {
		if r.Online {
			online++
			behind = behind || r.Offset < l.Position.Offset
		}
	}
	s := &a.settling
	if online != s.online {
		s.online, s.asked, s.at = online, 0, 0
	}
	if l.Role != cluster.RolePrimary || !behind || s.busy || now < s.at {
		return
	}
	s.busy, s.at = true, now+settleEvery
	if s.asked++; s.asked%2 == 0 {
		s.at = now + time.Second
	}
	a.goDo(func() {
		bound, cancel := context.WithTimeout(ctx, a.callTimeout())
		defer cancel()
		if err := a.settleNow(bound, online); err != nil {
			a.log.Debug("the replicas were not asked where they are", "error", err)
		}
		a.tell(ctx, settledMsg{})
	})
}

func (a *Agent) settleNow(ctx context.Context, replicas int) error {
	// A connection of its own: WAIT blocks it.
	c, err := a.login().Dial(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	return c.Settle(ctx, replicas, a.opts.Profile.Probe)
}

// watch keeps the newest lead coming.
func (a *Agent) watch(ctx context.Context) {
	for ctx.Err() == nil {
		bound, cancel := context.WithTimeout(ctx, a.callTimeout())
		revision, err := a.readLead(bound, ctx)
		cancel()
		if err != nil {
			a.log.Warn("the store does not answer", "error", err)
			pause(ctx, a.opts.Profile.Renew)
			continue
		}
		a.watchFrom(ctx, revision)
	}
}

// watchFrom hands on what changes after the revision, until the watch breaks or is of no use.
func (a *Agent) watchFrom(ctx context.Context, revision int64) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	changes := a.opts.Store.Watch(ctx, cluster.LeadKey(a.opts.Group), revision)
	for {
		select {
		case entries, ok := <-changes:
			if !ok {
				return
			}
			for _, e := range entries {
				a.sawLead(ctx, e, 0)
			}
		case <-a.watchAgain:
			cancel()
			for range changes { // until the store has closed it
			}
			return
		}
	}
}

// readLead reads the record and hands it to the loop; it returns the store's revision.
func (a *Agent) readLead(ctx, life context.Context) (int64, error) {
	key, sent := cluster.LeadKey(a.opts.Group), a.opts.Clock()
	entries, revision, err := a.opts.Store.List(ctx, key)
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", key, err)
	}
	found := false
	for _, e := range entries {
		if e.Key == key {
			found = true
			a.sawLead(life, e, sent)
		}
	}
	if !found {
		a.tell(life, storeMsg{failover.StoreView{Known: true}, sent})
	}
	return revision, nil
}

func (a *Agent) sawLead(ctx context.Context, e cluster.Entry, sent time.Duration) {
	m := storeMsg{failover.StoreView{Known: true, Revision: e.Revision, SeenAt: a.opts.Clock()}, sent}
	if e.Key != cluster.LeadKey(a.opts.Group) {
		return
	}
	if err := json.Unmarshal(e.Value, &m.Lead); err != nil {
		a.log.Error("the lead record cannot be read; nothing is changed until it can", "error", err)
		return
	}
	a.tell(ctx, m)
}
