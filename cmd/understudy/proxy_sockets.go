package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// sockets are listening ones that a service manager opened for this process, and that nobody has taken yet.
type sockets struct{ all []givenSocket }

// givenSocket has the name that the service manager gave it: FileDescriptorName=, or its unit's.
type givenSocket struct {
	name string
	*net.TCPListener
}

// firstGiven is the descriptor of the first such socket (sd_listen_fds(3)).
const firstGiven = 3

// activated returns the sockets of systemd's socket activation. The environment that speaks of them is
// taken away: a process that is to take over gets its sockets from this one.
func activated() (*sockets, error) {
	pid, count, names := os.Getenv("LISTEN_PID"), os.Getenv("LISTEN_FDS"), os.Getenv("LISTEN_FDNAMES")
	for _, name := range []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"} {
		if err := os.Unsetenv(name); err != nil {
			return nil, err
		}
	}
	s := &sockets{}
	if pid != strconv.Itoa(os.Getpid()) {
		return s, nil // they are another process's
	}
	n, err := strconv.Atoi(count)
	if err != nil || n < 0 || n > 1000 {
		return nil, fmt.Errorf("LISTEN_FDS=%s: is no number of sockets", count)
	}
	called := strings.Split(names, ":")
	for i := range n {
		name := ""
		if i < len(called) {
			name = called[i]
		}
		unix.CloseOnExec(firstGiven + i)
		f := os.NewFile(uintptr(firstGiven+i), name)
		l, err := net.FileListener(f)
		err = errors.Join(err, f.Close())
		tcp, ok := l.(*net.TCPListener)
		if err == nil && !ok {
			err = errors.Join(errors.New("endpoints listen on TCP"), l.Close())
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("socket %q of the service manager: %w", name, err), s.close())
		}
		s.all = append(s.all, givenSocket{name, tcp})
	}
	return s, nil
}

// take returns the socket that is for an endpoint, GROUP/NAME or "http", at an address; nil: there is none.
func (s *sockets) take(endpoint, addr string) *net.TCPListener {
	for i, x := range s.all {
		_, port, _ := net.SplitHostPort(addr)
		if addr == "" || !listensAt(x.TCPListener, addr) || port == "0" && x.name != endpoint {
			continue
		}
		s.all = append(s.all[:i], s.all[i+1:]...)
		return x.TCPListener
	}
	return nil
}

// leftOver is an error when a socket is for no endpoint: whoever connects there would wait for ever.
func (s *sockets) leftOver() error {
	for _, x := range s.all {
		return fmt.Errorf("the service manager passes the socket %q at %s: no endpoint of the configuration has that address", x.name, x.Addr())
	}
	return nil
}

// close ends those that nobody has taken.
func (s *sockets) close() (err error) {
	for _, x := range s.all {
		err = errors.Join(err, ignoreClosed(x.Close()))
	}
	s.all = nil
	return err
}

// listensAt reports whether a socket is one for an address: the same port, or any for 0, and the same host.
// A name, and the unspecified address of either family, is taken for any of its kind.
func listensAt(l *net.TCPListener, addr string) bool {
	host, port, err := net.SplitHostPort(addr)
	at, ours, err2 := net.SplitHostPort(l.Addr().String())
	if err != nil || err2 != nil || port != "0" && port != ours {
		return false
	}
	a, b := net.ParseIP(host), net.ParseIP(at)
	return a == nil || b == nil || a.Equal(b) || a.IsUnspecified() && b.IsUnspecified()
}
