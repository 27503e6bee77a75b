package proxy

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The PROXY protocol (HAProxy's doc/proxy-protocol.txt, versions 1 and 2): a load balancer before this
// proxy says in the first bytes of a connection who its client is. Only listed networks are believed, and
// they must say it.

const (
	// prefaceFor bounds how long a load balancer may take for a few bytes that it has at hand.
	prefaceFor = 5 * time.Second
	// longestLine is the longest header of version 1, its end included (section 2.1).
	longestLine = 107
	// longestBlock bounds the addresses and extensions of version 2: it could say 64 KiB, and what is
	// known to be sent (a TLS client's names) is a few hundred bytes.
	longestBlock = 4 << 10
)

var (
	prefaceMark = []byte("\r\n\r\n\x00\r\nQUIT\n")
	lineMark    = []byte("PROXY ")
	errPreface  = errors.New("no header of the PROXY protocol, and its network is listed as one that sends it")
)

// readPreface reads the header at the start of buf. n is its length in bytes, 0 when more are needed. from
// is the client's address; the zero one when the header names none.
func readPreface(buf []byte) (n int, from netip.AddrPort, err error) {
	switch {
	case bytes.HasPrefix(buf, lineMark):
		return readLine(buf)
	case bytes.HasPrefix(buf, prefaceMark):
		return readBlock(buf)
	case bytes.HasPrefix(lineMark, buf) || bytes.HasPrefix(prefaceMark, buf):
		return 0, from, nil
	default:
		return 0, from, errPreface
	}
}

// readLine reads version 1: "PROXY TCP4 SOURCE DESTINATION PORT PORT\r\n" or "PROXY UNKNOWN …\r\n".
func readLine(buf []byte) (n int, from netip.AddrPort, err error) {
	end := bytes.Index(buf[:min(len(buf), longestLine)], crlf)
	if end < 0 {
		if len(buf) >= longestLine {
			return 0, from, fmt.Errorf("%w: its line does not end", errPreface)
		}
		return 0, from, nil
	}
	n = end + len(crlf)
	words := strings.Split(string(buf[:end]), " ")
	if words[1] == "UNKNOWN" {
		return n, from, nil
	}
	if len(words) != 6 || words[1] != "TCP4" && words[1] != "TCP6" {
		return 0, from, fmt.Errorf("%w: its line is none of version 1", errPreface)
	}
	ip, err := netip.ParseAddr(words[2])
	port, err2 := strconv.ParseUint(words[4], 10, 16)
	if err != nil || err2 != nil || ip.Zone() != "" || ip.Is4() != (words[1] == "TCP4") {
		return 0, from, fmt.Errorf("%w: its line has no address of a client", errPreface)
	}
	return n, netip.AddrPortFrom(ip, uint16(port)), nil
}

// readBlock reads version 2: 12 bytes that mark it, version and command, family, length, addresses.
func readBlock(buf []byte) (n int, from netip.AddrPort, err error) {
	const head = 16
	if len(buf) < head {
		return 0, from, nil
	}
	size := int(binary.BigEndian.Uint16(buf[14:]))
	version, command, family := buf[12]>>4, buf[12]&15, buf[13]
	switch {
	case version != 2 || command > 1:
		return 0, from, fmt.Errorf("%w: version %d, command %d", errPreface, version, command)
	case size > longestBlock:
		return 0, from, fmt.Errorf("%w: it is %d bytes long", errPreface, size)
	case len(buf) < head+size:
		return 0, from, nil
	case command == 0: // LOCAL: the load balancer itself, to see whether we live
		return head + size, from, nil
	}
	text := buf[head : head+size]
	switch {
	case family>>4 == 1 && size >= 12:
		from = netip.AddrPortFrom(netip.AddrFrom4([4]byte(text)), binary.BigEndian.Uint16(text[8:]))
	case family>>4 == 2 && size >= 36:
		from = netip.AddrPortFrom(netip.AddrFrom16([16]byte(text)).Unmap(), binary.BigEndian.Uint16(text[32:]))
	case family>>4 == 1 || family>>4 == 2:
		return 0, from, fmt.Errorf("%w: too short for its addresses", errPreface)
	}
	return head + size, from, nil
}

// introduces reports whether whoever connects from there says for whom.
func (l *loop) introduces(from netip.AddrPort) bool {
	return slices.ContainsFunc(l.opts.ProxyProtocol, func(p netip.Prefix) bool { return p.Contains(from.Addr()) })
}

// takePreface reads the header of a connection; it returns how many bytes that took, and whether requests
// may follow.
func (c *client) takePreface(l *loop, buf []byte) (n int, ok bool) {
	n, from, err := readPreface(buf)
	if err != nil {
		l.badPreface(c, err)
		return len(buf), false
	}
	if n == 0 {
		return 0, false
	}
	c.isFor(from)
	return n, true
}

func (c *client) isFor(from netip.AddrPort) {
	c.prefaced = false
	if from.IsValid() {
		c.from = from
	}
}

func (l *loop) badPreface(c *client, err error) {
	l.metrics.prefaces.Inc()
	l.sayRarely("a connection was refused", "addr", c.from, "error", err)
	l.drop(&c.conn, err)
}

// expirePrefaces ends the connections that do not say in time for whom they are.
func (l *loop) expirePrefaces() {
	for len(l.prefaces) > 0 {
		c := l.prefaces[0]
		if !c.closed && c.prefaced && l.now < c.prefaceBy {
			l.wakeAt(c.prefaceBy)
			return
		}
		l.prefaces[0] = nil
		l.prefaces = l.prefaces[1:]
		if !c.closed && c.prefaced {
			l.badPreface(c, errPreface)
		}
	}
	l.prefaces = nil
}

// awaitPreface reads the header before a TLS handshake. What came behind it is returned.
func awaitPreface(network net.Conn) (from netip.AddrPort, behind []byte, err error) {
	if err := network.SetDeadline(time.Now().Add(prefaceFor)); err != nil {
		return from, nil, err
	}
	buf := make([]byte, 0, 512)
	for {
		n, from, err := readPreface(buf)
		if err != nil || n > 0 {
			return from, buf[n:], err
		}
		buf = slices.Grow(buf, 256)
		m, err := network.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+m]
		if err != nil && !(m > 0 && errors.Is(err, io.EOF)) {
			return from, nil, fmt.Errorf("%w: %w", errPreface, err)
		}
	}
}
