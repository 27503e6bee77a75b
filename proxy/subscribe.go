package proxy

import (
	"bytes"
	"strings"

	"understudy/resp"
)

// A command about subscriptions is answered by one confirmation for each channel. It stays under way until all
// have come, and counts from then: when its connection is lost before, it is sent anew, behind the subscriptions
// that there were before it, and the numbers in its confirmations are what they would have been.

// confirmations is how many confirmations the command has. All before it are answered.
func (c *client) confirmations(r *request) int {
	var s resp.CommandScanner
	_, args, err := s.Scan(r.frame, nil)
	if err != nil {
		return 1
	}
	if len(args) > 1 {
		return len(args) - 1
	}
	kind, n := subscription(r.info.Name)+" ", 0
	for k := range c.subs {
		if strings.HasPrefix(k, kind) {
			n++
		}
	}
	return max(n, 1) // of none there is a confirmation too
}

// subscription is the command that makes a subscription of the kind that the named one makes or ends.
func subscription(name string) string { return strings.Replace(name, "unsubscribe", "subscribe", 1) }

// subscribed makes a command that was carried out part of the session.
func (d *dedicated) subscribed(name string, frame []byte) {
	var s resp.CommandScanner
	_, args, err := s.Scan(frame, nil)
	if err != nil || len(args) == 0 {
		return
	}
	if d.subs == nil {
		d.subs = map[string]struct{}{}
	}
	kind := subscription(name)
	for _, a := range args[1:] {
		if k := kind + " " + string(a); kind == name {
			d.subs[k] = struct{}{}
		} else {
			delete(d.subs, k)
		}
	}
	if len(args) > 1 || kind == name {
		return
	}
	for k := range d.subs {
		if strings.HasPrefix(k, kind+" ") {
			delete(d.subs, k)
		}
	}
}

// subscribeAgain tells a new connection what the client is subscribed to.
func (l *loop) subscribeAgain(c *client, b *backend) {
	for k := range c.subs {
		kind, channel, _ := strings.Cut(k, " ")
		b.raw(resp.AppendCommand(nil, kind, channel))
		b.inflight.push(&request{sub: true, confirms: 1, note: l.demandKept(c)})
	}
}

// demandKept cuts a client when the server refuses what its session rests on: it would wait for ever for what
// does not come.
func (l *loop) demandKept(c *client) func(reply []byte) {
	return func(reply []byte) {
		if reply[0] == '-' && !c.gone {
			l.count.leaked++
			l.drop(&c.conn, errUnkept)
		}
	}
}

// pushed passes on what a server says without having been asked; false when reply is an ordinary reply.
func (l *loop) pushed(b *backend, reply []byte) bool {
	c := b.client
	switch reply[0] {
	case '+':
		return c.monitors && isMonitored(reply) && l.monitored(c, reply)
	case '>':
	case '*':
		if c.proto == 3 {
			return false
		}
	default:
		return false
	}
	kind := pushKind(reply)
	confirms := strings.HasSuffix(kind, "subscribe")
	switch {
	case confirms && b.inflight.n > 0 && b.inflight.at(0).sub:
		l.confirmed(b, reply)
		return true
	case reply[0] == '*' && (kind == "" || confirms || len(c.subs) == 0):
		return false // RESP2: an array that only looks like a message
	case isOwnChannel(reply):
		return true
	}
	l.passOn(c, reply)
	return true
}

// passOn gives the client what a server has said by itself: behind the confirmations that came before.
func (l *loop) passOn(c *client, text []byte) {
	var last *request
	for r := c.head; r != nil; r = r.after {
		if r.done && r.sub {
			last = r
		}
	}
	if last != nil {
		last.reply = append(last.reply, text...)
		return
	}
	c.out = append(c.out, text...)
	l.touch(&c.conn)
	l.replied(c)
}

// confirmed takes one confirmation of the command that is the next to be answered.
func (l *loop) confirmed(b *backend, reply []byte) {
	c, r := b.client, b.inflight.at(0)
	if r.ours() {
		b.inflight.pop()
		return
	}
	if r.confirms == 0 {
		r.confirms = c.confirmations(r)
	}
	r.reply = append(r.reply, reply...)
	if r.confirms--; r.confirms > 0 {
		return
	}
	b.inflight.pop()
	if b.spent { // it is sent anew, with all that was not answered before it
		b.heard = append(b.heard, r)
		if b.allHeard() {
			l.drop(&b.conn, errDenied)
		}
		return
	}
	c.subscribed(r.info.Name, r.frame)
	l.deliver(r, r.reply)
}

// pushKind returns the first word of a pub/sub message or confirmation; "" for anything else.
func pushKind(reply []byte) string {
	if reply[0] != '*' && reply[0] != '>' {
		return ""
	}
	_, rest, _ := bytes.Cut(reply, crlf)
	if len(rest) == 0 || rest[0] != '$' {
		return ""
	}
	_, rest, _ = bytes.Cut(rest, crlf)
	word, _, _ := bytes.Cut(rest, crlf)
	switch w := string(word); w {
	case "message", "pmessage", "smessage", "subscribe", "psubscribe", "ssubscribe",
		"unsubscribe", "punsubscribe", "sunsubscribe":
		return w
	}
	return ""
}

var crlf = []byte("\r\n")

// isOwnChannel reports whether a message is one that a proxy has sent to itself: who subscribes to a pattern
// has not asked for those, and must not learn the channel's name.
func isOwnChannel(reply []byte) bool {
	if pushKind(reply) != "pmessage" {
		return false
	}
	v, _, err := resp.Parse(reply)
	return err == nil && len(v.Elems) == 4 && isOurChannel(v.Elems[2].Str)
}

// channelPrefix and channelRandom are what the name of a proxy's own channel consists of; see newChannel.
const (
	channelPrefix = "understudy:"
	channelRandom = 12
)

// isOurChannel reports whether a name begins with that of a channel on which a proxy speaks to itself.
func isOurChannel(name []byte) bool {
	tail, ok := bytes.CutPrefix(name, []byte(channelPrefix))
	if !ok || len(tail) < channelRandom {
		return false
	}
	return !bytes.ContainsFunc(tail[:channelRandom], func(r rune) bool { return (r < 'A' || r > 'Z') && (r < '2' || r > '7') })
}

// withoutOurs takes the proxies' own channels out of the answer to PUBSUB CHANNELS.
func withoutOurs(_ *loop, _ *client, reply []byte) []byte {
	kind := reply[0]
	if kind != '*' && kind != '~' {
		return reply
	}
	var kept [][]byte
	for _, e := range elements(reply) {
		if v, _, err := resp.Parse(e); err != nil || !isOurChannel(v.Str) {
			kept = append(kept, e)
		}
	}
	return append(resp.AppendArray(nil, len(kept)), bytes.Join(kept, nil)...)
}
