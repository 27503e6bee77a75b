package proxy

import (
	"errors"
	"fmt"
	"net"
	"unsafe"

	"golang.org/x/sys/unix"
)

// poller waits for many file descriptors at once (epoll, level-triggered) and can be woken from any
// goroutine.
type poller struct {
	ep, wake int
	events   []unix.EpollEvent
}

// maxEvents is how many ready connections one turn of the loop takes: enough to batch, few enough
// that no connection waits long for its turn.
const maxEvents = 512

func newPoller() (*poller, error) {
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	wake, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("eventfd: %w", err), unix.Close(ep))
	}
	p := &poller{ep: ep, wake: wake, events: make([]unix.EpollEvent, maxEvents)}
	return p, p.add(wake, unix.EPOLLIN)
}

func (p *poller) add(fd int, events uint32) error {
	return unix.EpollCtl(p.ep, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: events, Fd: int32(fd)})
}

func (p *poller) change(fd int, events uint32) error {
	return unix.EpollCtl(p.ep, unix.EPOLL_CTL_MOD, fd, &unix.EpollEvent{Events: events, Fd: int32(fd)})
}

// ready returns the descriptors that are ready now. The scheduler is not told: see readNow.
func (p *poller) ready() ([]unix.EpollEvent, error) {
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(p.ep), uintptr(unsafe.Pointer(&p.events[0])), uintptr(len(p.events)), 0, 0, 0)
	if errno != 0 && errno != unix.EINTR {
		return nil, fmt.Errorf("epoll: %w", errno)
	}
	if errno != 0 {
		return nil, nil
	}
	return p.events[:n], nil
}

// wait returns the ready descriptors, at the latest after ms milliseconds (-1: no bound).
func (p *poller) wait(ms int) ([]unix.EpollEvent, error) {
	n, err := unix.EpollWait(p.ep, p.events, ms)
	if err != nil && !errors.Is(err, unix.EINTR) {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	return p.events[:max(n, 0)], nil
}

// readNow and writeNow are read and write on a socket that does not block. The scheduler is not told: there
// is nothing to wait for, telling it costs a tenth of a short call, and a call that it sees last 20 µs loses the
// loop its place among the running threads.
func readNow(fd int, b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	n, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), unix.MSG_DONTWAIT, 0, 0)
	if errno != 0 {
		return -1, errno
	}
	return int(n), nil
}

func writeNow(fd int, b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	n, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
	if errno != 0 {
		return -1, errno
	}
	return int(n), nil
}

const epollIn = unix.EPOLLIN

var one = []byte{1, 0, 0, 0, 0, 0, 0, 0}

// poke makes wait return.
func (p *poller) poke() { _, _ = unix.Write(p.wake, one) }

func (p *poller) drain() {
	var b [8]byte
	_, _ = unix.Read(p.wake, b[:])
}

func (p *poller) close() error { return errors.Join(unix.Close(p.wake), unix.Close(p.ep)) }

func (p *poller) remove(fd int) error { return unix.EpollCtl(p.ep, unix.EPOLL_CTL_DEL, fd, nil) }

// ownDescriptor is a listening socket's own non-blocking descriptor beside it. After an error the socket is
// closed.
func ownDescriptor(l *net.TCPListener) (int, error) {
	raw, err := l.SyscallConn()
	if err != nil {
		return 0, errors.Join(err, l.Close())
	}
	fd := -1
	var inner error
	err = raw.Control(func(s uintptr) {
		fd, inner = unix.FcntlInt(s, unix.F_DUPFD_CLOEXEC, 0)
	})
	if err = errors.Join(err, inner); err == nil {
		err = unix.SetNonblock(fd, true)
	}
	if err != nil {
		return 0, errors.Join(err, l.Close())
	}
	return fd, nil
}
