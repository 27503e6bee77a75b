package proxy

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Times of a connection to a redis-server that carries nothing back. A machine that is cut off sends no
// reset: without these its connections would hang for minutes.
const (
	// connectFor bounds a connect: longer than a round trip around the world, shorter than the second
	// after which the kernel asks again, so that a lost first packet costs half of that.
	connectFor = 500 * time.Millisecond
	// unackedFor is how long what was sent may stay unacknowledged: some retransmissions, so that a
	// network which loses a packet in three does not break connections.
	unackedFor = 2 * time.Second
	// idleProbe is how long a connection is silent before the kernel asks whether the other side is there.
	idleProbe  = time.Second
	idleProbes = 2
	// lastCool bounds the pause between attempts to reach a primary that cannot be reached.
	lastCool = 32 * time.Millisecond
)

// errConnect: the other side did not take the connection in time.
var errConnect = errors.New("no answer to a connect")

// dial starts a connection to a redis-server: over its unix socket when that is on this machine, else
// over TCP. It does not wait: the connection is usable once it has become writable. addr holds an IP
// address, because a name would have to be asked for. local says that it is the unix socket.
func dial(socket, addr string) (fd int, local bool, err error) {
	if socket != "" {
		if _, err := os.Stat(socket); err == nil {
			fd, err = dialUnix(socket)
			return fd, true, err
		}
	}
	at, err := netip.ParseAddrPort(addr)
	if err != nil {
		return -1, false, fmt.Errorf("address of a redis-server: %w", err)
	}
	ip := at.Addr().Unmap()
	family, to := unix.AF_INET6, unix.Sockaddr(&unix.SockaddrInet6{Port: int(at.Port()), Addr: ip.As16()})
	if ip.Is4() {
		family, to = unix.AF_INET, &unix.SockaddrInet4{Port: int(at.Port()), Addr: ip.As4()}
	}
	fd, err = unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, false, err
	}
	if err := bound(fd); err != nil {
		return -1, false, errors.Join(err, unix.Close(fd))
	}
	fd, err = connect(fd, to)
	return fd, false, err
}

// bound sets the times above on a TCP socket.
func bound(fd int) error {
	for _, o := range []struct{ level, name, value int }{
		{unix.IPPROTO_TCP, unix.TCP_NODELAY, 1},
		{unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(unackedFor.Milliseconds())},
		{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
		{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, int(idleProbe.Seconds())},
		{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, int(idleProbe.Seconds())},
		{unix.IPPROTO_TCP, unix.TCP_KEEPCNT, idleProbes},
	} {
		if err := unix.SetsockoptInt(fd, o.level, o.name, o.value); err != nil {
			return fmt.Errorf("option %d of a socket: %w", o.name, err)
		}
	}
	return nil
}

func dialUnix(socket string) (int, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	return connect(fd, &unix.SockaddrUnix{Name: socket})
}

func connect(fd int, to unix.Sockaddr) (int, error) {
	if err := unix.Connect(fd, to); err != nil && !errors.Is(err, unix.EINPROGRESS) {
		return -1, errors.Join(err, unix.Close(fd))
	}
	return fd, nil
}

// giveUpConnects closes the connections that nobody took in time; what they were to carry is sent anew.
func (l *loop) giveUpConnects() {
	kept := l.connecting[:0]
	for _, b := range l.connecting {
		switch {
		case b.closed || b.written > 0:
		case l.now >= b.connectBy:
			l.drop(&b.conn, errConnect)
		default:
			kept = append(kept, b)
			l.wakeAt(b.connectBy)
		}
	}
	clear(l.connecting[len(kept):])
	l.connecting = kept
}

// pause is how long to wait before the primary is tried again, after as many failures to reach it.
func (l *loop) pause() time.Duration { return min(coolFor<<min(l.failures, 5), lastCool) }
