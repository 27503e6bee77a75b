package proxy

import (
	"time"

	"golang.org/x/sys/unix"
)

// A client that says nothing is asked by the kernel whether it is there, in redis-server's times (tcp-keepalive):
// what is between, a load balancer or a NAT, forgets a connection that is idle for longer (AWS: 350 s), and the
// client's next command fails. One that is gone without a word gives its place back.
const (
	clientProbe      = 5 * time.Minute
	clientProbeAgain = 100 * time.Second
	clientProbes     = 3
)

// keepAlive sets that on a client's socket. Without it the client is served all the same.
func keepAlive(fd int) {
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, int(clientProbe.Seconds()))
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, int(clientProbeAgain.Seconds()))
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPCNT, clientProbes)
}
