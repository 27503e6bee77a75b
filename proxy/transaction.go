package proxy

import (
	"bytes"
	"strconv"

	"understudy/command"
	"understudy/resp"
)

// transaction is what stands between MULTI and EXEC: enough to queue it again on another server, and what
// EXEC will do to the data and to the session.
type transaction struct {
	log     [][]byte // MULTI and what was queued, in order
	queued  int      // how many replies EXEC has
	broken  bool     // something was refused here, or given up: EXEC must fail
	effects []effect
	unkept  bool // of something in it not all bytes are kept: with its connection it is lost

	write, wide bool
	once        bool // something in it must not be executed twice
	script      bool // something in it is a script
	hashes      []uint32
}

// effect is what a queued command does to the session, once EXEC has carried it out.
type effect struct {
	at    int // which of EXEC's replies is its own
	info  *command.Info
	frame []byte
	edit  edit
}

// edit makes what a server has answered, which is no error, what the client is told.
type edit func(l *loop, c *client, reply []byte) []byte

// enqueue logs a command that has to be sent again when the connection is lost before EXEC.
func (t *transaction) enqueue(r *request) {
	r.tx = txQueued
	r.write = false // it is executed by EXEC
	t.log = append(t.log, bytes.Clone(r.frame))
}

// queue adds what a queued command will do to what EXEC does.
func (t *transaction) queue(r *request) {
	if r.write {
		t.write = true
		t.once = t.once || !r.idem
	}
	t.wide = t.wide || r.wide
	t.script = t.script || r.script
	t.hashes = append(t.hashes, r.hashes...)
	if r.changesSession() || r.edit != nil {
		t.effects = append(t.effects, effect{t.queued, r.info, bytes.Clone(r.frame), r.edit})
		r.edit = nil
	}
	t.queued++
	t.enqueue(r)
}

func (r *request) changesSession() bool {
	if r.info == nil {
		return false
	}
	switch r.info.Class {
	case command.Session, command.Dedicated, command.PubSub:
		return true
	default:
		return false
	}
}

// beginExec prepares EXEC; false: it has been answered already.
func (l *loop) beginExec(c *client, r *request) bool {
	if c.tx.broken && c.ded == nil { // no server has any of it
		l.abandonQueued(c)
		c.endTx()
		l.deliver(r, []byte(errExecAbort))
		return false
	}
	c.ending, r.tx = true, txEnd
	t := &c.tx
	r.write, r.wide, r.idem = t.write, t.wide, !t.once && c.watching == 0
	r.script = t.script
	r.hashes = append(r.few[:0], t.hashes...)
	return true
}

// abandonQueued answers what waits to be queued by a server, for a transaction that none will carry out.
func (l *loop) abandonQueued(c *client) {
	redo := c.redo
	c.redo = nil
	for _, r := range redo {
		if r.tx == txQueued {
			l.deliver(r, queuedReply(r))
			continue
		}
		c.redo = append(c.redo, r)
	}
}

// queuedReply is what a server says to a command of a transaction before EXEC.
func queuedReply(r *request) []byte {
	if r.info != nil && r.info.Name == "multi" {
		return []byte(replyOK)
	}
	return []byte("+QUEUED\r\n")
}

func (d *dedicated) endTx() {
	d.multi, d.watching, d.watchLost, d.ending = false, 0, false, false
	d.tx = transaction{}
}

// finishTx notes the answer to EXEC, DISCARD or UNWATCH, and returns what the client is to be told.
func (l *loop) finishTx(c *client, r *request, reply []byte) []byte {
	if r.info.Name != "exec" && reply[0] == '-' { // refused: all is as it was
		c.ending, c.tx.broken = false, c.multi
		return reply
	}
	t := c.tx
	c.endTx()
	switch {
	case r.null && t.broken:
		return []byte(errExecAbort)
	case r.null && c.proto == 2:
		return []byte("*-1\r\n")
	case r.null:
		return resp.AppendNull(nil, c.proto)
	default:
		return l.takeEffect(c, &t, reply)
	}
}

// takeEffect makes what EXEC has carried out part of the session, and its replies those that the client is to
// see.
func (l *loop) takeEffect(c *client, t *transaction, reply []byte) []byte {
	if len(t.effects) == 0 || reply[0] != '*' {
		return reply
	}
	elems := elements(reply)
	if len(elems) != t.queued {
		return reply
	}
	for _, e := range t.effects {
		answer := elems[e.at]
		if answer[0] == '-' {
			continue
		}
		c.changed(e.info, e.frame)
		if e.edit != nil {
			elems[e.at] = e.edit(l, c, answer)
		}
	}
	return append(resp.AppendArray(nil, len(elems)), bytes.Join(elems, nil)...)
}

// changed makes a command that a server has carried out part of the session.
func (c *client) changed(info *command.Info, frame []byte) {
	if info == nil {
		return
	}
	switch info.Class {
	case command.Session:
		c.adopt(frame)
	case command.Dedicated:
		c.stick(info.Name, frame)
	case command.PubSub:
		c.subscribed(info.Name, frame)
	}
}

// elements cuts an array's elements apart; nil when it is none.
func elements(reply []byte) [][]byte {
	header, rest, _ := bytes.Cut(reply, crlf)
	n, err := strconv.Atoi(string(header[1:]))
	if err != nil || n < 0 || n > len(rest) {
		return nil
	}
	all := make([][]byte, 0, n)
	var s resp.ReplyScanner
	for range n {
		size, err := s.Scan(rest)
		if err != nil || size == 0 {
			return nil
		}
		all = append(all, rest[:size])
		rest = rest[size:]
	}
	return all
}

// notMulti is called when a server has refused MULTI: what the client has sent behind it is not queued.
func (c *client) notMulti(r *request) {
	for x := r.after; x != nil && x.tx == txQueued; x = x.after {
		x.tx = txNone
		x.write = x.info == nil || x.info.Flags&command.Write != 0
	}
	c.multi, c.tx = false, transaction{}
}
