package proxy

import (
	"net"
	"testing"

	"golang.org/x/sys/unix"
)

// A network forgets a connection that is idle for some minutes: it must not be.
func TestIdleClientsAreAskedBeforeTheNetworkForgetsThem(t *testing.T) {
	g, _ := served(t, nil)
	c := raw(t, g.proxy.Addrs().Primary)
	say(t, c, "PING")
	own := c.LocalAddr().(*net.TCPAddr)
	found := false
	for fd := range 4096 { // the proxy's end is in this process, too: it is the one whose peer is this client
		peer, err := unix.Getpeername(fd)
		if at, ok := peer.(*unix.SockaddrInet4); err != nil || !ok || at.Port != own.Port {
			continue
		}
		found = true
		on, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE)
		must(t, err)
		idle, err := unix.GetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE)
		must(t, err)
		if on != 1 || idle >= 350 {
			t.Errorf("the kernel asks after %d s of silence (on: %d), and AWS's load balancers forget after 350", idle, on)
		}
	}
	if !found {
		t.Error("the proxy's end of the connection is not found")
	}
}
