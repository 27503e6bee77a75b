package rpc

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"understudy/cluster"
)

// Unix is the address of a unix socket.
func Unix(path string) string { return "unix:" + path }

// TCP is the address of a TCP port.
func TCP(host string, port int) string { return "tcp:" + net.JoinHostPort(host, strconv.Itoa(port)) }

// maxSocketPath is what fits into the kernel's sun_path with its closing zero.
const maxSocketPath = 107

// parse splits an address into the network and the place that package net takes, and the host.
func parse(addr string) (network, place, host string, err error) {
	network, place, _ = strings.Cut(addr, ":")
	switch network {
	case "unix":
		if place == "" || len(place) > maxSocketPath {
			return "", "", "", fmt.Errorf("rpc address %.200q: the path of a socket has 1 to %d bytes", addr, maxSocketPath)
		}
		return network, place, "", nil
	case "tcp":
		host, port, err := net.SplitHostPort(place)
		if err != nil {
			return "", "", "", fmt.Errorf("rpc address %.200q: %w", addr, err)
		}
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || host == "" || strings.ContainsAny(host, "/ ") {
			return "", "", "", fmt.Errorf("rpc address %.200q: tcp:HOST:PORT is one (%d)", addr, n)
		}
		return network, place, host, nil
	default:
		return "", "", "", fmt.Errorf("rpc address %.200q: neither unix:/PATH nor tcp:HOST:PORT", addr)
	}
}

// Valid reports what is wrong with an address, nil when nothing is.
func Valid(addr string) error {
	_, _, _, err := parse(addr)
	return err
}

// Times of a connection that carries nothing back. A peer that is cut off sends no reset: its kernel's
// word is missing, and these say for how long that is borne.
const (
	unackedWithin = 2 * time.Second // sent and not acknowledged
	idleProbe     = time.Second     // silence before the first probe, and between probes
	idleProbes    = 2               // unanswered probes that end it
)

// bounded sets those times on a TCP socket.
func bounded(_, _ string, c syscall.RawConn) error {
	var failed error
	err := c.Control(func(fd uintptr) {
		failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(unackedWithin.Milliseconds()))
	})
	return errors.Join(err, failed)
}

var keepAlive = net.KeepAliveConfig{Enable: true, Idle: idleProbe, Interval: idleProbe, Count: idleProbes}

// Listen takes addr. Over TCP with a tlsConfig the peers must show a certificate that it accepts; nil
// is plain TCP. A socket file that a process before left is replaced.
func Listen(ctx context.Context, addr string, tlsConfig *tls.Config) (net.Listener, error) {
	network, place, _, err := parse(addr)
	if err != nil {
		return nil, err
	}
	if network == "unix" {
		if err := os.Remove(place); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("rpc on %s: %w", addr, err)
		}
	}
	config := net.ListenConfig{KeepAliveConfig: keepAlive}
	if network == "tcp" {
		config.Control = bounded // accepted sockets inherit it
	}
	l, err := config.Listen(ctx, network, place)
	if err != nil {
		return nil, fmt.Errorf("rpc on %s: %w", addr, err)
	}
	l = &limited{Listener: l, free: make(chan struct{}, maxConns)}
	if network == "tcp" && tlsConfig != nil {
		return tls.NewListener(l, tlsConfig), nil
	}
	return l, nil
}

// AddrOf is a listener's address in this package's spelling.
func AddrOf(l net.Listener) string { return l.Addr().Network() + ":" + l.Addr().String() }

// errNowhere is the error of asking a node that nobody knows the place of.
type errNowhere cluster.NodeID

func (e errNowhere) Error() string {
	return fmt.Sprintf("ask %s: it is not known where its agent answers", string(e))
}
