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

var _ server = (*redis.Server)(nil)

// start spawns redis-server as a replica of nobody.
func (a *Agent) start(life context.Context) error {
	port, err := a.disk.port(a.opts.Host, a.port)
	if err != nil {
		return err
	}
	w, err := a.runs.begin(a.disk.hasData())
	if err != nil {
		return err
	}
	s, err := redis.Start(redis.ServerOptions{
		Binary: a.opts.Binary, Dir: a.disk.redisDir(), Host: a.opts.Host, Port: port, Socket: a.socket(),
		ReplicaOf: a.hole.Addr(), Secret: a.opts.Secret, Config: a.opts.Config, Guarded: a.opts.Fencer != nil, Logger: a.log,
	})
	if err != nil {
		return err
	}
	a.guard(func(f *redis.Fencer) error { return f.Guard(s.PID()) })
	a.inbox <- startedMsg{server: s, worth: w} // never lost: a server that nobody knows would never be stopped
	a.goDo(func() {
		select {
		case <-s.Exited():
			a.tell(life, exitMsg{s})
		case <-life.Done():
		}
	})
	return nil
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
	a.access, a.backstop = cluster.Access{}, backstop{}
	old := a.in.Local
	a.in.Local = failover.Local{
		Process: failover.ProcessRunning, Seen: old.Seen, Revoked: old.Revoked, Kept: old.Kept,
		Intact: m.worth.intact, Short: m.worth.short, Role: cluster.RoleReplica,
		Boot: fmt.Sprintf("%d-%d-%d", time.Now().UnixNano(), m.server.PID(), a.boots),
	}
	a.in.Local.Last = a.end.lastKnown()
	a.probeAt = 0
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
