package proxy

import (
	"bytes"
	"slices"
	"strings"

	"understudy/command"
	"understudy/resp"
)

// Some commands set something on the client's own connection. What the server has agreed to is set again on
// each later connection; a client whose setting cannot be kept is cut, because it relies on it: its cache
// would never be told what has changed.

// refusedHere reports whether a command cannot be carried over a connection of the client's own, and what the
// client is told.
func (l *loop) refusedHere(c *client, info *command.Info, args [][]byte) (text string, refused bool) {
	switch {
	case info.Class == command.PubSub:
		return errSubInTx, c.multi && len(args) != 2
	case info.Class != command.Dedicated:
		return "", false
	}
	switch info.Name {
	case "client|tracking":
		return errRedirect, slices.ContainsFunc(args[min(len(args), 3):], func(word []byte) bool { return strings.EqualFold(string(word), "REDIRECT") })
	case "client|no-evict", "client|no-touch", "client|caching", "client|trackinginfo", "client|getredir",
		"script|kill", "function|kill":
		return "", false
	default:
		return errRefused(info.Name), !l.allowed[info.Name]
	}
}

// mayAllow are the commands that Options.Allow may name besides those of class Refused.
var mayAllow = []string{"monitor"}

// stick keeps what a server has agreed to set.
func (d *dedicated) stick(name string, frame []byte) {
	var s resp.CommandScanner
	_, args, err := s.Scan(frame, nil)
	switch {
	case err != nil:
	case name == "monitor":
		d.monitors = true
	case len(args) < 3:
	case name == "client|caching":
		d.caching = bytes.Clone(frame)
	case name == "client|tracking", name == "client|no-evict", name == "client|no-touch":
		d.set(setting{name, bytes.Clone(frame)}, args[2:])
	}
}

// set makes a setting the one that counts. Each CLIENT TRACKING with BCAST adds to the prefixes of those before.
func (d *dedicated) set(s setting, words [][]byte) {
	on := strings.EqualFold(string(words[0]), "ON")
	adds := on && slices.ContainsFunc(words, func(w []byte) bool { return strings.EqualFold(string(w), "BCAST") })
	d.sticky = slices.DeleteFunc(d.sticky, func(x setting) bool {
		return x.name == s.name && (!adds || bytes.Equal(x.frame, s.frame))
	})
	if on {
		d.sticky = append(d.sticky, s)
	}
}

func (d *dedicated) tracks() bool {
	for _, x := range d.sticky {
		if x.name == "client|tracking" {
			return true
		}
	}
	return false
}

// forgetAll is what a server pushes when every key that a client has cached may have changed.
const forgetAll = ">2\r\n$10\r\ninvalidate\r\n_\r\n"

// restoreTracking tells a client that keeps a cache to empty it: nobody has watched its keys since the
// connection was lost, and the new server does not know which they are.
func (l *loop) restoreTracking(c *client) {
	if !c.tracks() {
		return
	}
	c.ded.forgets = c.proto == 3
	if c.caching != nil {
		c.ded.raw(c.caching)
		c.ded.inflight.push(swallow)
	}
}

// forget says so once the server has agreed to track: what changes before that is not told.
func (l *loop) forget(b *backend) {
	b.forgets = false
	c := b.client
	c.out = append(c.out, forgetAll...)
	l.touch(&c.conn)
}

// setReply carries out CLIENT REPLY. Between MULTI and EXEC it waits for EXEC, of which the reply is whole:
// redis-server breaks off in the middle of it.
func (l *loop) setReply(c *client, args [][]byte) bool {
	mode := strings.ToUpper(string(args[2]))
	if c.multi {
		return l.standIn(c, replyOn, func(_ *loop, c *client, reply []byte) []byte {
			c.silence(mode)
			return reply
		})
	}
	if c.silence(mode); mode == "ON" {
		l.local(c, []byte(replyOK))
	}
	return true
}

func isReplyMode(word []byte) bool {
	switch strings.ToUpper(string(word)) {
	case "ON", "OFF", "SKIP":
		return true
	default:
		return false
	}
}

// replyOn does nothing on a server's connection.
var replyOn = resp.AppendCommand(nil, "CLIENT", "REPLY", "ON")

// silence says which replies the client gets from here.
func (c *client) silence(mode string) {
	switch mode {
	case "ON":
		c.silent, c.skip = false, false
	case "OFF":
		c.silent, c.skip = true, false
	case "SKIP":
		c.skip = !c.silent
	}
}
