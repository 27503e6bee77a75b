package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"runtime"
	"strconv"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"understudy/resp"
)

// mix is a load of GETs and SETs at random, as memtier_benchmark makes it: one thread for all connections,
// so that the load leaves the other core to what is measured.
type mix struct {
	connections, pipeline int
	valueSize             int
	keys                  int
	writes                float64 // share of SETs
	// rate is that of an open loop, in requests a second: they are sent when it is their time, whether the
	// earlier ones are answered or not, and latency counts from that time. 0: a closed loop, in which each
	// connection has pipeline requests under way.
	rate float64
	runs time.Duration // from when the last connection was made
}

// mixed is what it measured.
type mixed struct {
	figure
	Requests int `json:"requests"`
}

// mixer is a load that runs.
type mixer struct {
	mix
	epoll     int
	random    *rand.Rand
	value     []byte
	lines     []*mixLine
	latencies []float64 // of all that were answered, in ms
	began     time.Time
	due       time.Duration // open loop: when the next request is to be sent
	sent      int
	answered  int
	scratch   []byte
}

// mixLine is one of its connections.
type mixLine struct {
	fd    int
	in    []byte // the start of a reply
	out   []byte // not written yet
	full  bool   // the socket takes no more
	since []time.Duration
	scan  resp.ReplyScanner
}

const (
	// answerWithin is how long an open loop waits for the last answers; longer ones are an error.
	answerWithin = 2 * time.Second
	// idleWithin is how long nothing may be answered.
	idleWithin = 5 * time.Second
)

// run loads a server. Any answer that is an error, and any connection that ends, is one here.
func (m mix) run(ctx context.Context, addr string) (mixed, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	x := &mixer{mix: m, random: rand.New(rand.NewPCG(1, 2)), scratch: make([]byte, 256<<10),
		value: make([]byte, m.valueSize), latencies: make([]float64, 0, 1<<20)}
	for i := range x.value {
		x.value[i] = 'v'
	}
	defer x.close()
	if err := x.connect(addr); err != nil {
		return mixed{}, fmt.Errorf("load on %s: %w", addr, err)
	}
	// Timers of the kernel are late by up to 50 µs, unless they are asked not to be.
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0)
	defer func() { _ = unix.Prctl(unix.PR_SET_TIMERSLACK, 0, 0, 0, 0) }()
	if err := x.drive(ctx); err != nil {
		return mixed{}, fmt.Errorf("load on %s: %w", addr, err)
	}
	took := min(time.Since(x.began), m.runs)
	return mixed{figure{
		Rate: float64(x.answered) / took.Seconds(), P50Ms: quantile(x.latencies, 0.5), P99Ms: quantile(x.latencies, 0.99),
	}, x.answered}, nil
}

func (x *mixer) connect(addr string) error {
	to, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil {
		return err
	}
	if x.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return err
	}
	for i := range x.connections {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		x.lines = append(x.lines, &mixLine{fd: fd})
		err = unix.Connect(fd, &unix.SockaddrInet4{Port: to.Port, Addr: [4]byte(to.IP.To4())})
		if err = errors.Join(err, unix.SetNonblock(fd, true), unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1),
			unix.EpollCtl(x.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(i)})); err != nil {
			return err
		}
	}
	return nil
}

func (x *mixer) close() {
	for _, l := range x.lines {
		_ = unix.Close(l.fd)
	}
	_ = unix.Close(x.epoll)
}

func (x *mixer) now() time.Duration { return time.Since(x.began) }

// drive sends and receives until the time is over.
func (x *mixer) drive(ctx context.Context) error {
	events := make([]unix.EpollEvent, 512)
	x.began = time.Now()
	heard := time.Duration(0)
	if x.rate == 0 {
		for _, l := range x.lines {
			if err := x.fill(l); err != nil {
				return err
			}
		}
	}
	for ctx.Err() == nil {
		now := x.now()
		if err := x.sendDue(now); err != nil {
			return err
		}
		switch over := now >= x.runs; {
		case over && (x.rate == 0 || x.answered == x.sent):
			return nil
		case over && now >= x.runs+answerWithin:
			return fmt.Errorf("%d of %d requests were not answered within %v", x.sent-x.answered, x.sent, answerWithin)
		case x.sent > x.answered && now-heard > idleWithin:
			return fmt.Errorf("nothing was answered for %v", idleWithin)
		}
		n, err := epollWait(x.epoll, events, x.patience())
		if err != nil {
			return err
		}
		if n > 0 {
			heard = x.now()
		}
		for _, e := range events[:n] {
			if err := x.ready(x.lines[e.Fd], e); err != nil {
				return err
			}
		}
	}
	return ctx.Err()
}

// patience is how long the next wait may last.
func (x *mixer) patience() time.Duration {
	if x.rate == 0 || x.due >= x.runs {
		return 10 * time.Millisecond
	}
	return max(0, x.due-x.now())
}

// sendDue sends what an open loop is to have sent by now, one connection after the other.
func (x *mixer) sendDue(now time.Duration) error {
	if x.rate == 0 {
		return nil
	}
	for x.due <= now && x.due < x.runs {
		l := x.lines[x.sent%len(x.lines)]
		x.request(l, x.due)
		x.due = time.Duration(float64(x.sent) / x.rate * float64(time.Second))
		if err := x.flush(l); err != nil {
			return err
		}
	}
	return nil
}

// fill puts as many requests under way as a closed loop has.
func (x *mixer) fill(l *mixLine) error {
	now := x.now()
	for len(l.since) < x.pipeline && now < x.runs {
		x.request(l, now)
	}
	return x.flush(l)
}

// request adds one to what is to be written; latency counts from since.
func (x *mixer) request(l *mixLine, since time.Duration) {
	key := "key:" + strconv.Itoa(1_000_000+x.random.IntN(x.keys))
	if x.random.Float64() < x.writes {
		l.out = resp.AppendCommandBytes(l.out, set, []byte(key), x.value)
	} else {
		l.out = resp.AppendCommandBytes(l.out, get, []byte(key))
	}
	l.since = append(l.since, since)
	x.sent++
}

var set, get = []byte("SET"), []byte("GET")

func (x *mixer) flush(l *mixLine) error {
	for len(l.out) > 0 && !l.full {
		n, err := unix.Write(l.fd, l.out)
		if n > 0 {
			l.out = l.out[:copy(l.out, l.out[n:])]
		}
		if errors.Is(err, unix.EAGAIN) {
			l.full = true
			return x.arm(l, unix.EPOLLIN|unix.EPOLLOUT)
		}
		if err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
	}
	return nil
}

func (x *mixer) arm(l *mixLine, events uint32) error {
	for i, other := range x.lines {
		if other == l {
			return unix.EpollCtl(x.epoll, unix.EPOLL_CTL_MOD, l.fd, &unix.EpollEvent{Events: events, Fd: int32(i)})
		}
	}
	return nil
}

func (x *mixer) ready(l *mixLine, e unix.EpollEvent) error {
	if e.Events&unix.EPOLLOUT != 0 && l.full {
		l.full = false
		if err := errors.Join(x.arm(l, unix.EPOLLIN), x.flush(l)); err != nil {
			return err
		}
	}
	if e.Events&(unix.EPOLLIN|unix.EPOLLHUP|unix.EPOLLERR) == 0 {
		return nil
	}
	n, err := unix.Read(l.fd, x.scratch)
	switch {
	case errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR):
		return nil
	case err != nil:
		return err
	case n == 0:
		return errors.New("a connection was closed")
	}
	buf := x.scratch[:n]
	if len(l.in) > 0 {
		l.in = append(l.in, buf...)
		buf = l.in
	}
	used, err := x.take(l, buf)
	if err != nil {
		return err
	}
	l.in = append(l.in[:0], buf[used:]...)
	if x.rate == 0 && len(l.since) < x.pipeline {
		return x.fill(l)
	}
	return nil
}

// take counts the replies in buf, and returns how many bytes they are.
func (x *mixer) take(l *mixLine, buf []byte) (used int, err error) {
	now := x.now()
	done := 0
	for used < len(buf) {
		n, err := l.scan.Scan(buf[used:])
		if err != nil {
			return used, err
		}
		if n == 0 {
			break
		}
		if buf[used] == '-' || done == len(l.since) {
			return used, fmt.Errorf("an unwanted answer: %.100q", buf[used:used+n])
		}
		x.latencies = append(x.latencies, ms(now-l.since[done]))
		done++
		used += n
	}
	l.since = l.since[:copy(l.since, l.since[done:])]
	x.answered += done
	return used, nil
}

// epollWait is epoll_pwait2(2), which waits to the nanosecond; Linux 5.11.
func epollWait(epoll int, events []unix.EpollEvent, d time.Duration) (int, error) {
	at := unix.NsecToTimespec(int64(d))
	n, _, errno := unix.Syscall6(unix.SYS_EPOLL_PWAIT2, uintptr(epoll), uintptr(unsafe.Pointer(&events[0])), uintptr(len(events)),
		uintptr(unsafe.Pointer(&at)), 0, 0)
	if errno != 0 && errno != unix.EINTR {
		return 0, fmt.Errorf("epoll_pwait2: %w", errno)
	}
	if errno != 0 {
		return 0, nil
	}
	return int(n), nil
}
