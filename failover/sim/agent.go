package sim

import (
	"fmt"
	"time"

	"understudy/cluster"
	"understudy/failover"
)

// node is one machine of the group: its agent, its redis-server, its disk and its clock.
type node struct {
	w       *world
	index   int
	id      cluster.NodeID
	clock   clock
	machine actor // freezes with the whole machine: the fencer
	agent   *agent
	proc    *proc
	procs   []*proc // every run of redis-server
	disk    disk
	notes   notes // kept on disk by the agent

	refuses  time.Duration // until then its disk takes no write
	died     bool          // a process of it, whoever caused that
	lost     bool          // its data set, or the end of it
	unlinked time.Duration // until then its redis-server reaches no primary
	jumpedAt time.Duration // its clock, when
	fencer   int           // how many faults keep the fencer from running

	permitEpoch cluster.Epoch       // the newest permit that its agent gave, for the checks
	permitUntil time.Duration       // by this node's clock
	promised    cluster.Epoch       // not to be followed again, as far as the node knows
	permitRules []cluster.Rule      // what a write under it needs
	failKind    failover.ActionKind // crash at the next action of this kind
	failAfter   bool
	failFor     time.Duration
	owing       int // crashed, and to be started again by so many faults
}

// notes are what an agent must not forget.
type notes struct {
	seen    cluster.Epoch
	revoked cluster.Epoch
	lead    cluster.Lead
}

func newNode(w *world, i int) *node {
	n := &node{w: w, index: i, id: nodeID(i)}
	n.clock = w.sched.clock(i)
	return n
}

func nodeID(i int) cluster.NodeID { return cluster.NodeID(fmt.Sprintf("g-%03d", i+1)) }

// agent is the shell of one Machine, as package agent is: it observes, steps and acts.
type agent struct {
	actor
	w     *world
	n     *node
	alive bool
	m     *failover.Machine
	in    failover.Input
	out   failover.Output
	proc  *proc

	inbox     []func()
	queued    bool
	timerAt   time.Duration // the pending timer, 0: none
	relisting bool
	probing   bool
	probeNo   int
	syncFrom  cluster.Position // when a full sync was seen last
	probeAt   time.Duration
	polling   bool
	pollAt    time.Duration
	lastSent  time.Duration
	fencedAt  time.Duration
	told      view
	asked     []question                                // reports that wait
	version   int                                       // of what others may see
	forced    bool                                      // somebody has missed a version
	listeners []func(s cluster.NodeStatus, version int) // proxies that wait for news
	settling  struct{ online, asked int }
	waiting   map[string]func(failover.Reply) // requests that have not been answered
	last      cluster.Position                // where the log of the run before was seen last
}

// view is what others may see of an agent.
type view struct {
	status cluster.NodeStatus
	report failover.Report
	lead   cluster.Lead
}

// question is another agent's, held until this one has let go of the epoch.
type question struct {
	epoch cluster.Epoch
	until time.Duration // true time
	reply func(failover.Report)
}

func (n *node) startAgent() {
	w := n.w
	a := &agent{w: w, n: n, alive: true}
	a.frozen = n.machine.frozen
	a.m = failover.New(failover.Config{
		Group: "g", Self: w.sched.peer(n.index), Nodes: w.sched.peers(),
		Durability: w.sched.Durability, Profile: w.profile, Mutation: w.sched.Mutation,
		OnLostQuorum: w.sched.lostQuorum(), PreferredZone: w.sched.Home,
	})
	a.in.Peers = map[cluster.NodeID]failover.Report{}
	a.in.Local.Seen, a.in.Local.Revoked, a.in.Local.Kept = n.notes.seen, n.notes.revoked, n.notes.lead
	n.promised = n.notes.revoked
	a.in.ReturnNow = w.sched.Home != ""
	a.waiting = map[string]func(failover.Reply){}
	a.lastSent = -time.Hour
	n.agent = a
	w.tracef("node %d: the agent starts", n.index)
	a.watchLater()
	a.list(a.callTimeout(), func(ok bool) {
		if !ok {
			a.watchLater()
		}
	})
	a.kick()
	for _, p := range w.proxies {
		p.listen(n)
	}
}

// crash ends the agent; its redis-server dies with it.
func (n *node) crash(why string, power bool) {
	a := n.agent
	if a == nil || !a.alive {
		return
	}
	n.w.tracef("node %d: the agent dies: %s", n.index, why)
	a.alive = false
	n.died = true
	if n.w.sched.Adopted && !power && !n.w.wrong(failover.MutationRedisOutlives) {
		return // whoever runs redis-server lets it run; at its permit's deadline the fencer kills it
	}
	if p := a.proc; p != nil {
		if n.w.wrong(failover.MutationRedisOutlives) && !power {
			p.fence(0)
			a.proc = nil
			return
		}
		p.kill("its agent died", power)
	}
	if p := n.proc; p != nil && (power || !n.w.wrong(failover.MutationRedisOutlives)) {
		p.kill("its agent died", power) // one that the agent had not heard of yet
	}
}

func (a *agent) clock() time.Duration { return a.n.clock.at(a.w.now) }

func (a *agent) callTimeout() time.Duration { return a.n.clock.lasting(a.w.profile.TTL / 2) }

// post hands the loop a message.
func (a *agent) post(message func()) {
	if a.alive {
		a.inbox = append(a.inbox, message)
		a.kick()
	}
}

func (a *agent) kick() {
	if !a.queued && a.alive {
		a.queued = true
		a.w.at(&a.actor, a.w.now, a.loop)
	}
}

// loop is one turn: take what is there, observe, step, act.
func (a *agent) loop() {
	a.queued = false
	if !a.alive {
		return
	}
	messages := a.inbox
	a.inbox = nil
	for i, m := range messages {
		m()
		if a.in.Request != nil {
			a.inbox = append(a.inbox, messages[i+1:]...)
			break
		}
	}
	a.observe()
	a.step()
	if len(a.inbox) > 0 {
		a.kick()
	}
	a.rearm()
}

// rearm wakes the loop when it is needed next.
func (a *agent) rearm() {
	if !a.alive {
		return
	}
	next := min(a.out.WakeAt, a.lastSent+a.w.profile.Renew)
	if !a.probing && a.proc != nil {
		next = min(next, a.probeAt)
	}
	if a.out.Status.Leads && !a.polling {
		next = min(next, a.pollAt)
	}
	at := max(a.n.clock.when(next), a.w.now+10*us)
	if a.timerAt > a.w.now && a.timerAt <= at {
		return
	}
	a.timerAt = at
	a.w.at(&a.actor, at, func() {
		if a.timerAt == at {
			a.timerAt = 0
			a.kick()
		}
	})
}

func (a *agent) observe() {
	now := a.clock()
	if a.proc != nil && !a.probing && now >= a.probeAt {
		a.probe()
	}
	if a.out.Status.Leads && !a.polling && now >= a.pollAt {
		a.polling, a.pollAt = true, now+250*ms
		a.askPeers(0, a.w.profile.Window, "", func() { a.polling = false })
	}
}

// probe looks at redis-server. One that does not answer ends after as long as a hang may last.
func (a *agent) probe() {
	a.probing = true
	a.probeNo++
	n, p, sent := a.probeNo, a.proc, a.clock()
	a.w.at(&p.actor, a.w.now+a.w.between(100*us, 400*us), func() {
		if !p.alive || !a.alive || a.probeNo != n {
			return
		}
		answer := p.info()
		a.w.at(&a.actor, a.w.now, func() { a.post(func() { a.probed(n, p, sent, answer) }) })
	})
	if p.frozen > a.w.now {
		a.probeTimeout()
	}
}

// probeTimeout ends the probe that is under way, if nothing else does.
func (a *agent) probeTimeout() {
	n := a.probeNo
	hang := a.w.profile.Probe * time.Duration(a.w.profile.Misses)
	a.w.at(&a.actor, a.w.now+a.n.clock.lasting(hang), func() {
		if a.probing && a.probeNo == n {
			a.probing = false
			a.probeNo++
			a.probeAt = a.clock()
			a.kick()
		}
	})
}

// info is what a server says of itself.
type info struct {
	loading, busy bool
	role          cluster.Role
	position      cluster.Position
	prev          cluster.Position
	linkUp        bool
	syncing       bool
	following     cluster.NodeID
	replicas      []failover.ReplicaAck
	readOnly      string
}

func (p *proc) info() info {
	i := info{
		loading: p.loading > p.w.now, busy: p.busy > p.w.now, role: p.role, prev: p.prev,
		position: cluster.Position{ReplID: p.log.id, Offset: p.off},
		linkUp:   p.master != nil && !p.syncing, syncing: p.syncing,
	}
	if p.n.refuses > p.w.now {
		i.readOnly = "MISCONF"
	}
	if p.following >= 0 {
		i.following = nodeID(p.following)
	}
	for _, c := range p.replicas {
		i.replicas = append(i.replicas, failover.ReplicaAck{Node: c.r.n.id, Online: c.open && c.online, Offset: c.ack})
	}
	return i
}

// probed folds an answer into what the machine knows, as package agent does.
func (a *agent) probed(n int, p *proc, sent time.Duration, i info) {
	if a.probeNo != n {
		return
	}
	a.probing = false
	a.probeAt = max(sent+a.w.profile.Probe, a.clock()+ms)
	if p != a.proc {
		return
	}
	l := &a.in.Local
	switch {
	case i.loading:
		l.OKAt, l.At, l.Loading, l.Busy = sent, sent, true, false
		a.probeAt = a.clock() + 5*ms
		return
	case i.busy:
		l.OKAt, l.Busy = sent, true
		return
	}
	l.OKAt, l.At, l.Busy, l.Loading = sent, sent, false, false
	l.Role, l.Position, l.Prev, l.LinkUp, l.Syncing = i.role, i.position, i.prev, i.linkUp, i.syncing
	if i.syncing {
		a.syncFrom = i.position
	}
	// A full sync that has ended well leaves another position, even if its link was not seen up.
	l.Damaged = (l.Damaged || i.syncing) && !i.linkUp && i.position == a.syncFrom
	l.Following, l.Replicas, l.ReadOnly = i.following, i.replicas, i.readOnly
	if i.linkUp || i.role == cluster.RolePrimary {
		l.Last = cluster.Position{}
	}
	a.settle(i)
	switch {
	case a.out.Status.State == cluster.StateSyncing:
		a.probeAt = min(a.probeAt, a.clock()+20*ms)
	case !a.out.Status.Leads && i.linkUp: // a replica at rest is looked at half as often
		a.probeAt += a.w.profile.Probe
	}
}

// settle asks the replicas of a primary twice where they are, when some are behind as far as it knows: on
// their own they say so once a second. The question lengthens the log, hence not more often.
func (a *agent) settle(i info) {
	online, behind := 0, false
	for _, r := range i.replicas {
		if r.Online {
			online++
			behind = behind || r.Offset < i.position.Offset
		}
	}
	if online != a.settling.online {
		a.settling.online, a.settling.asked = online, 0
	}
	p := a.proc
	if !behind || i.role != cluster.RolePrimary || a.settling.asked == 2 {
		return
	}
	a.settling.asked++
	a.w.at(&p.actor, a.w.now+200*us, func() {
		if p.alive && p.role == cluster.RolePrimary && !p.isPaused() {
			p.append(entry{kind: entryGetAck})
		}
	})
}

// step lets the machine decide and does what it says.
func (a *agent) step() {
	a.in.Now = a.clock()
	a.out = a.m.Step(a.in)
	a.in.Results, a.in.Request = nil, nil
	if a.w.trace != nil {
		for _, e := range a.out.Events {
			a.w.tracef("node %d: %s: %s", a.n.index, e.Name, e.Message)
		}
	}
	for _, e := range a.out.Events {
		if e.Name == "claims_short" {
			a.w.tookShort()
		}
	}
	for _, r := range a.out.Replies {
		if answer := a.waiting[r.ID]; answer != nil {
			delete(a.waiting, r.ID)
			answer(r)
		}
	}
	a.fenceDeadline()
	a.checkPermit()
	for _, action := range a.out.Actions {
		if !a.alive {
			return
		}
		a.act(action)
	}
	if a.alive {
		a.publish()
	}
}

func (a *agent) fenceDeadline() {
	if a.proc == nil || a.out.FenceAt == a.fencedAt {
		return
	}
	if a.out.FenceAt != 0 && a.fencedAt != 0 && a.out.FenceAt-a.fencedAt < a.w.profile.Renew/2 {
		return
	}
	a.fencedAt = a.out.FenceAt
	if a.fencedAt == 0 {
		a.proc.fence(0)
		return
	}
	a.proc.fence(a.n.clock.when(a.fencedAt))
}

// publish shows the step's outcome to the others.
func (a *agent) publish() {
	next := view{a.out.Status, a.out.Report, a.in.Store.Lead}
	if a.proc != nil {
		next.status.PID, next.status.Addr = 1, string(a.n.id)
	}
	news := changed(&a.told, &next)
	a.told = next
	if news {
		a.version++
	}
	if !news && !a.forced && a.in.Now-a.lastSent < a.w.profile.Renew {
		return
	}
	a.lastSent, a.forced = a.in.Now, false
	a.tell(next.status)
	asked := a.asked
	a.asked = nil
	for _, q := range asked {
		a.question(q)
	}
}

func changed(x, y *view) bool {
	a, b := &x.status, &y.status
	if (a.Permit > 0) != (b.Permit > 0) || len(a.Rules) != len(b.Rules) || x.lead.State != y.lead.State || x.lead.Epoch != y.lead.Epoch {
		return true
	}
	for i := range a.Rules {
		if !a.Rules[i].Equal(b.Rules[i]) {
			return true
		}
	}
	return x.report.Revoked != y.report.Revoked || x.report.Fit != y.report.Fit || a.Leads != b.Leads || a.Epoch != b.Epoch ||
		a.Pausing != b.Pausing || a.Role != b.Role || a.State != b.State || a.PID != b.PID || a.Kept != b.Kept || a.Electable != b.Electable
}

// question answers another agent when there is something to say, or when its time is over.
func (a *agent) question(q question) {
	v := &a.told
	if v.report.Revoked >= q.epoch || !v.report.Fit || v.lead.Epoch > q.epoch || a.w.now >= q.until {
		q.reply(v.report)
		return
	}
	a.asked = append(a.asked, q)
}

// askPeers asks all others but one; their reports are in when done is called.
func (a *agent) askPeers(epoch cluster.Epoch, bound time.Duration, except cluster.NodeID, done func()) {
	open, ended := 0, false
	for _, n := range a.w.nodes {
		if n != a.n && n.id != except {
			open++
		}
	}
	end := func() {
		if !ended {
			ended = true
			a.post(done)
		}
	}
	for _, n := range a.w.nodes {
		if n != a.n && n.id != except {
			a.askPeer(n, epoch, bound*4/5, func(r failover.Report) {
				a.post(func() {
					if old, ok := a.in.Peers[r.Node]; !ok || r.At >= old.At {
						a.in.Peers[r.Node] = r
					}
				})
				if open--; open == 0 {
					end()
				}
			})
		}
	}
	a.w.at(&a.actor, a.w.now+a.n.clock.lasting(bound), end)
}

// askPeer asks one node for its report; a dead one never answers.
func (a *agent) askPeer(n *node, epoch cluster.Epoch, wait time.Duration, reply func(failover.Report)) {
	sent := a.clock()
	a.w.send(a.n.index, n.index, func() {
		b := n.agent
		if b == nil || !b.alive {
			return
		}
		a.w.at(&b.actor, a.w.now, func() {
			if !b.alive {
				return
			}
			until := a.w.now + n.clock.lasting(wait)
			b.question(question{epoch, until, func(r failover.Report) {
				a.w.send(n.index, a.n.index, func() {
					a.w.at(&a.actor, a.w.now, func() { r.At = sent; reply(r) })
				})
			}})
			a.w.at(&b.actor, until, func() { b.lastChance() })
		})
	})
}

// lastChance answers the questions whose time is over.
func (a *agent) lastChance() {
	asked := a.asked
	a.asked = nil
	for _, q := range asked {
		a.question(q)
	}
}
