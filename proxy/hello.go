package proxy

import (
	"strconv"
	"strings"
	"time"

	"understudy/cluster"
	"understudy/resp"
)

// While nobody leads, HELLO is answered here, in the words with which the newest primary answered it: libraries
// begin every connection with it, and without an answer no command gets to what its policy says, nor does
// UNDERSTUDY STATUS. One with a login is not: whether that is right only a server knows.
type greeter struct {
	of    cluster.Epoch  // whose primary was asked
	again time.Duration  // when it is asked again while there is no answer
	words map[int][]byte // the answer, by protocol
}

// greetAgain is the pause before a question that was not answered is asked again.
const greetAgain = time.Second

// askHello has each primary asked once how it answers HELLO.
func (l *loop) askHello() {
	g := &l.hello
	if !l.writable || g.of == l.writer.Epoch && (g.words != nil || l.now < g.again) {
		return
	}
	g.of, g.again = l.writer.Epoch, l.now+greetAgain
	l.bracket.query(resp.AppendCommand(nil, "HELLO"), func(v resp.Value) {
		if v.Kind == '*' && len(v.Elems) > 0 && len(v.Elems)%2 == 0 {
			g.words = map[int][]byte{2: helloAs(2, v), 3: helloAs(3, v)}
		}
	})
}

// helloAs puts what HELLO answers in RESP2, names and values in turn, into the words of a protocol.
func helloAs(proto int, v resp.Value) []byte {
	dst := appendPairs(nil, proto, len(v.Elems)/2)
	for i := 0; i < len(v.Elems); i += 2 {
		dst = resp.AppendBulk(dst, v.Elems[i].Str)
		x := v.Elems[i+1]
		switch string(v.Elems[i].Str) {
		case "proto":
			dst = resp.AppendInt(dst, int64(proto))
		case "modules":
			dst = resp.AppendArray(dst, len(x.Elems))
			for _, m := range x.Elems {
				dst = appendPairs(dst, proto, len(m.Elems)/2)
				for _, e := range m.Elems {
					dst = appendReply(dst, e)
				}
			}
		default:
			dst = appendReply(dst, x)
		}
	}
	return dst
}

// appendReply writes a string, a number, or a list of these.
func appendReply(dst []byte, v resp.Value) []byte {
	switch v.Kind {
	case ':':
		return resp.AppendInt(dst, v.Int)
	case '*':
		dst = resp.AppendArray(dst, len(v.Elems))
		for _, e := range v.Elems {
			dst = appendReply(dst, e)
		}
		return dst
	default:
		return resp.AppendBulk(dst, v.Str)
	}
}

// helloAlone answers HELLO while nobody leads; false: a server has to.
func (l *loop) helloAlone(c *client, args [][]byte) bool {
	if _, shut := l.gate.Closed(l.now); !shut || l.gate.HandingOver(l.now) || len(args) < 2 {
		return false
	}
	proto, _ := strconv.Atoi(string(args[1]))
	reply := l.hello.words[proto]
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
