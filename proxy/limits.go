package proxy

import (
	"errors"
	"log/slog"
	"time"

	"golang.org/x/sys/unix"
)

// The bounds on what one client may make the proxy keep. The clients that are past one are cut, with a
// line in the log that names the bound and no byte of theirs.
var (
	errOutputHard = errors.New("output limit")
	errOutputSoft = errors.New("soft output limit")
	errMemory     = errors.New("memory of all clients")
	errInput      = errors.New("input limit")
	errHalf       = errors.New("half a reply")
)

// waits is how many bytes wait for the other side to read them.
func (c *conn) waits() int {
	n := len(c.out) - c.sent
	if c.tls != nil {
		n += len(c.tls.wire.out) - c.tls.wire.sent
	}
	return n
}

// buffered is what the connection's buffers take, in bytes.
func (c *conn) buffered() int {
	n := cap(c.in) + cap(c.out)
	if c.tls != nil {
		n += cap(c.tls.wire.out)
	}
	return n
}

// full deals with a connection whose socket takes no more. It is not cut for one reply, however big.
func (l *loop) full(c *conn) {
	cl, ok := c.owner.(*client)
	if !ok {
		return
	}
	l.slow[cl] = struct{}{}
	c.compact()
	switch n := c.waits(); {
	case n > l.opts.OutputLimit+c.biggest:
		l.cut(cl, errOutputHard)
	case n <= l.opts.OutputSoft+c.biggest:
		cl.overSince = 0
	case cl.overSince == 0:
		cl.overSince = l.now
	case l.now-cl.overSince >= l.opts.OutputSoftFor:
		l.cut(cl, errOutputSoft)
	}
}

// compact forgets what was written: a client that is always a little behind would keep everything that
// it was ever sent.
func (c *conn) compact() {
	if c.upto == 0 && c.sent > keepBuffer && c.sent > len(c.out)/2 {
		c.out = c.out[:copy(c.out, c.out[c.sent:])]
		c.seen = max(0, c.seen-c.sent)
		c.sent = 0
	}
}

// weigh keeps the size of the biggest reply among those that wait.
func (c *conn) weigh() {
	c.biggest = max(c.biggest, len(c.out)-c.seen)
	c.seen = len(c.out)
}

// cut ends a client that is past a bound.
func (l *loop) cut(c *client, why error) {
	l.metrics.cut.WithLabelValues(why.Error()).Inc()
	l.log.Warn("a client was cut", "reason", why, "client", c.id, "addr", c.from, "output_bytes", c.waits(), "input_bytes", len(c.in))
	l.drop(&c.conn, why)
}

// watchSlow looks after the clients that do not read fast enough.
func (l *loop) watchSlow() {
	total := 0
	for c := range l.slow {
		if c.closed || !c.blocked {
			c.overSince = 0
			delete(l.slow, c)
			continue
		}
		l.full(&c.conn)
		total += c.waits()
	}
	l.metrics.output.Set(float64(total))
	if len(l.slow) > 0 {
		l.wakeAt(l.now + gaugeEvery)
	}
}

// sweepAtOnce is how many connections a sweep looks at: those of 10,000 clients are all looked at within
// a second of traffic, at the cost of some ten microseconds in each tenth of one.
const sweepAtOnce = 1024

// sweep gives back the buffers of connections that have been idle since the last look, and adds up what
// the clients' buffers take.
func (l *loop) sweep() {
	for range min(sweepAtOnce, len(l.conns)) {
		if c := l.conns[l.sweepAt]; c != nil {
			l.look(c)
		}
		if l.sweepAt++; l.sweepAt < len(l.conns) {
			continue
		}
		if l.memory > l.opts.ClientMemory && l.heaviest != nil && !l.heaviest.closed {
			l.cut(l.heaviest, errMemory)
		}
		l.metrics.memory.Set(float64(l.memory))
		l.sweepAt, l.memory, l.heaviest = 0, 0, nil
	}
}

func (l *loop) look(c *conn) {
	if !c.used {
		if len(c.in) == 0 {
			c.in = nil
		}
		if len(c.out) == 0 {
			c.out = nil
		}
		if c.tls != nil && !c.tls.wire.waits() {
			c.tls.wire.out, c.tls.wire.sent = nil, 0
		}
	}
	c.used = false
	cl, ok := c.owner.(*client)
	if !ok {
		return
	}
	l.memory += c.buffered()
	if l.heaviest == nil || c.buffered() > l.heaviest.buffered() {
		l.heaviest = cl
	}
}

// overfed reports whether a client's unfinished request is longer than any may be, and cuts the client.
func (l *loop) overfed(c *conn) bool {
	cl, ok := c.owner.(*client)
	limit := l.opts.InputLimit
	if ok && l.locked(cl) {
		limit = min(limit, lockedInput)
	}
	if !ok || len(c.in) <= limit || cl.stalled {
		return false
	}
	l.cut(cl, errInput)
	return true
}

// refuseClient tells a client that too many are there.
func (l *loop) refuseClient(fd int) {
	l.metrics.rejected.Inc()
	_, _ = unix.Write(fd, []byte(errMaxClients))
	_ = unix.Close(fd)
	l.sayRarely("a client was refused: too many are connected", "clients", len(l.clients), "max_clients", l.opts.MaxClients)
}

// sayRarely logs what clients can bring about as often as they like, at most once a second.
func (l *loop) sayRarely(msg string, args ...any) {
	if at, ok := l.said[msg]; ok && l.now-at < time.Second {
		return
	}
	l.said[msg] = l.now
	l.log.Warn(msg, args...)
}

// reserve keeps a descriptor for the moment when there is none left.
func (l *loop) reserve() {
	fd, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		fd = -1
	}
	l.spareFD = fd
}

// outOfDescriptors refuses one client with the reserve: without it the kernel would say again and again
// that somebody waits, and nobody would be told why.
func (l *loop) outOfDescriptors(d door) {
	l.sayRarely("no file descriptor is left for a client: raise the limit of open files (LimitNOFILE, ulimit -n)", "clients", len(l.clients))
	if l.spareFD < 0 {
		l.reserve()
		return
	}
	_ = unix.Close(l.spareFD)
	l.spareFD = -1
	if fd, _, err := unix.Accept4(d.fd, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC); err == nil {
		l.refuseClient(fd)
	}
	l.reserve()
}

// descriptorsBeside is how many files a proxy needs besides its clients' connections.
const descriptorsBeside = 256

// checkDescriptors says at the start when the machine does not let in as many clients as it should.
func checkDescriptors(maxClients int, log *slog.Logger) {
	var r unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &r); err == nil && r.Cur < uint64(maxClients+descriptorsBeside) {
		log.Warn("fewer clients can be served than are allowed: raise the limit of open files (LimitNOFILE, ulimit -n)",
			"max_clients", maxClients, "open_files", r.Cur)
	}
}
