package proxy

import (
	"bytes"
	"strconv"
	"strings"
)

// While nobody leads, HELLO is answered here, in the words that a server last answered it with: libraries begin
// every connection with it, and without an answer no command gets to what its policy says, nor does UNDERSTUDY
// STATUS. One with a login is not: whether that is right only a server knows.

// noteHello keeps a server's good answer to HELLO.
func (l *loop) noteHello(reply []byte) { l.hellos[protoOf(reply)] = bytes.Clone(reply) }

// protoOf is the protocol in which HELLO was answered: a map is RESP3's.
func protoOf(reply []byte) int {
	if reply[0] == '%' {
		return 3
	}
	return 2
}

// helloAlone answers HELLO while nobody leads; false: a server has to.
func (l *loop) helloAlone(c *client, args [][]byte) bool {
	if _, shut := l.gate.Closed(l.now); !shut || l.gate.HandingOver(l.now) || len(args) < 2 {
		return false
	}
	proto, _ := strconv.Atoi(string(args[1]))
	reply := l.hellos[proto]
	if reply == nil || c.waiting > 0 || c.tied() || !c.anonymous() {
		return false
	}
	switch {
	case len(args) == 2:
	case len(args) == 4 && strings.EqualFold(string(args[2]), "SETNAME") && isPlain(args[3]):
	default:
		return false
	}
	c.adoptHello(args[1:])
	c.lane, c.replicaLane = nil, nil
	l.local(c, ownID(l, c, reply))
	return true
}
