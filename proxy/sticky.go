package proxy

import (
	"bytes"
	"strings"

	"understudy/command"
	"understudy/resp"
)

// Some commands set something on the client's own connection. What the server has agreed to is set again on
// each later connection; a client whose setting cannot be kept is cut, because it relies on it: its cache
// would never be told what has changed.

// refusedHere reports whether a command that needs a connection of its own cannot be carried, and its name.
func refusedHere(info *command.Info, args [][]byte) (name string, refused bool) {
	switch info.Name {
	case "client|tracking":
		for _, word := range args[min(len(args), 3):] {
			if strings.EqualFold(string(word), "REDIRECT") {
				return "client|tracking redirect", true // to a connection that changes with the primary
			}
		}
		return "", false
	case "client|no-evict", "client|no-touch", "client|caching", "client|trackinginfo", "client|getredir":
		return "", false
	default:
		return info.Name, true
	}
}

// stick keeps what the server has agreed to set.
func (d *dedicated) stick(r *request, reply []byte) {
	if reply[0] != '+' {
		return
	}
	var s resp.CommandScanner
	_, args, err := s.Scan(r.frame, nil)
	if err != nil || len(args) < 3 {
		return
	}
	switch name := r.info.Name; name {
	case "client|caching":
		d.caching = bytes.Clone(r.frame)
	case "client|tracking", "client|no-evict", "client|no-touch":
		kept := d.sticky[:0]
		for _, x := range d.sticky {
			if x.name != name {
				kept = append(kept, x)
			}
		}
		d.sticky = kept
		if strings.EqualFold(string(args[2]), "ON") {
			d.sticky = append(d.sticky, setting{name, bytes.Clone(r.frame)})
		}
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

// setReply carries out CLIENT REPLY; ok is false when its words are none of its own.
func (l *loop) setReply(c *client, args [][]byte) (ok bool) {
	if len(args) != 3 {
		return false
	}
	switch strings.ToUpper(string(args[2])) {
	case "ON":
		c.silent, c.skip = false, false
		l.local(c, []byte(replyOK))
	case "OFF":
		c.silent, c.skip = true, false
	case "SKIP":
		c.skip = !c.silent
	default:
		return false
	}
	return true
}
