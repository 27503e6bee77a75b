package agent

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"time"

	"understudy/cluster"
	"understudy/failover"
	"understudy/redis"
)

// server is one run of a redis-server: our child, or one that somebody else started and that was adopted.
type server interface {
	PID() int // 0: on another machine
	Addr() string
	Exited() <-chan struct{} // closed when it has ended
	Reason() string          // why
	InOrder() bool           // it has ended by itself, and all that it had is on disk
	// Kill makes sure that it has ended. An adopted one that cannot be signalled is an error.
	Kill() error
	// Terminate asks it to end in order, and waits.
	Terminate(ctx context.Context) error
}

var (
	_ server = (*redis.Server)(nil)
	_ server = (*redis.Adopted)(nil)
)

// begin starts redis-server as a replica of nobody, or takes over the one that is there as such.
func (a *Agent) begin(ctx, life context.Context) error {
	begin := a.start
	if a.opts.Adopt != nil {
		begin = a.adopt
	}
	m, err := begin(ctx)
	if err != nil {
		return err
	}
	a.inbox <- m // never lost: a server that nobody knows would never be stopped
	a.goDo(func() {
		select {
		case <-m.server.Exited():
			a.tell(life, exitMsg{m.server})
		case <-life.Done():
		}
	})
	return nil
}

// start spawns a redis-server of our own.
func (a *Agent) start(context.Context) (startedMsg, error) {
	port, err := a.disk.port(a.opts.Host, a.port)
	if err != nil {
		return startedMsg{}, err
	}
	set, err := a.disk.dataset()
	if err != nil {
		return startedMsg{}, fmt.Errorf("the data set that redis-server is to read: %w", err)
	}
	w, err := a.runs.begin(a.disk.dataFiles(), set)
	if err != nil {
		return startedMsg{}, err
	}
	o := redis.ServerOptions{
		Binary: a.opts.Binary, Dir: a.disk.redisDir(), Host: a.opts.Host, Port: port, Socket: a.socket(),
		ReplicaOf: a.hole.Addr(), Secret: a.opts.Secret, Config: a.opts.Config, Guarded: a.opts.Fencer != nil, Logger: a.log,
	}
	var certs []byte
	if t := a.opts.TLS; t != nil {
		o.TLS, certs = &t.Files, t.InForce()
	}
	s, err := redis.Start(o)
	if err != nil {
		return startedMsg{}, err
	}
	a.guard(func(f *redis.Fencer) error { return f.Guard(s.PID()) })
	m := startedMsg{server: s, worth: w, loads: &loads{set: set, cut: s.Cut}, certs: certs}
	if a.opts.Secret != "" {
		m.reader = cluster.Access{User: redis.ReaderUser, Password: redis.ReaderPassword(a.opts.Secret)}
	}
	return m, nil
}

// adopt takes a server over that somebody else has started. What its data set is worth after a restart is
// not known: nobody has looked at its disk.
func (a *Agent) adopt(ctx context.Context) (startedMsg, error) {
	if _, err := a.runs.begin("", nil); err != nil {
		return startedMsg{}, err
	}
	o := *a.opts.Adopt
	o.BlackHole, o.Logger = a.hole.Addr(), a.log
	s, err := redis.Adopt(ctx, o)
	if err != nil {
		return startedMsg{}, err
	}
	if s.Killable() {
		a.guard(func(f *redis.Fencer) error { return f.GuardAdopted(s.PID()) })
	}
	return startedMsg{server: s, boot: s.RunID(), reader: s.Reader()}, nil
}

// started takes up a new run of redis-server.
func (a *Agent) started(m startedMsg) {
	a.server, a.fencedAt, a.inOrder = m.server, 0, false
	a.boots++
	_, port, _ := net.SplitHostPort(m.server.Addr())
	a.port, _ = strconv.Atoi(port)
	if m.worth.last == (cluster.Position{}) {
		m.worth.last = a.end.last // it has crashed under our eyes
	}
	a.end = logEnd{exact: m.worth.exact, last: m.worth.last}
	a.access, a.reader, a.backstop = cluster.Access{}, m.reader, backstop{}
	old := a.in.Local
	a.in.Local = failover.Local{
		Process: failover.ProcessRunning, Seen: old.Seen, Revoked: old.Revoked, Kept: old.Kept,
		Intact: m.worth.intact, Short: m.worth.short, Role: cluster.RoleReplica,
		Boot: m.boot,
	}
	if m.boot == "" {
		a.in.Local.Boot = fmt.Sprintf("%d-%d-%d", time.Now().UnixNano(), m.server.PID(), a.boots)
	}
	a.in.Local.Last = a.end.lastKnown()
	a.loads, a.probeAt = m.loads, 0
	a.certificates.with, a.certificates.lookAt = m.certs, a.opts.Clock()+lookAtCertificates
}

// loads is what a server that was just started is to read, until a look shows that it has read it.
type loads struct {
	set dataset
	cut func(file string) (int64, bool) // redis.Server.Cut
}

// proved compares what the server has read with what it was started on, and notes the outcome, on disk when it
// returns. It says why another data set was read; "" when it was that one.
func (a *Agent) proved(l *loads) string {
	now, err := a.disk.dataset()
	why := ""
	if err != nil {
		why = err.Error()
	} else {
		why = l.set.changed(now, l.cut)
	}
	note := a.runs.loaded
	if why != "" {
		note = a.runs.replaced
	}
	if err := note(); err != nil {
		a.log.Warn("the next start will take the data set for less than it is worth", "error", err)
	}
	return why
}

// readAnother takes it that the server has not read the data set that it was started on: nobody may rely on
// what was noted of that.
func (a *Agent) readAnother(why string) {
	a.log.Error("the data set was deleted or replaced while redis-server started: it does not count as this node's", "change", why)
	l := &a.in.Local
	l.Intact, l.Short = false, false
	a.end = logEnd{moved: a.end.moved}
	l.Last = cluster.Position{}
}

// exited takes the end of it.
func (a *Agent) exited(m exitMsg) {
	if m.server != a.server {
		return
	}
	a.guard(func(f *redis.Fencer) error { return f.Release(m.server.PID()) })
	a.server, a.inOrder = nil, m.server.InOrder()
	a.access = cluster.Access{}
	l := &a.in.Local
	if s, ok := m.server.(*redis.Adopted); ok {
		a.goDo(s.Close)
	}
	l.Process, l.Exit, l.Role, l.LinkUp = failover.ProcessNone, m.server.Reason(), cluster.RoleReplica, false
}

// logEnd is where the log of the data set ended that this run of redis-server was started on. Redis forgets
// it: it reads an append-only file under a new replication id.
type logEnd struct {
	exact cluster.Position // the run before was stopped in order, and nothing has changed since
	last  cluster.Position // where the log was seen last, in this run or in those before
	moved bool             // this run has followed or led: what it says of itself is true again
}

// lastKnown is failover.Local.Last.
func (e logEnd) lastKnown() cluster.Position {
	if e.moved || e.exact != (cluster.Position{}) {
		return cluster.Position{}
	}
	return e.last
}

// known replaces a position that redis-server gives under a name that it has just made up.
func (e logEnd) known(pos, prev cluster.Position) (cluster.Position, cluster.Position) {
	if e.moved || e.exact == (cluster.Position{}) {
		return pos, prev
	}
	return e.exact, cluster.Position{}
}
