package proxy

import (
	"bytes"
	"strconv"
	"strings"

	"understudy/command"
	"understudy/resp"
)

const replyOK = "+OK\r\n"

// session carries out a command that changes the state of the client's connection. What the client
// gets told by a redis-server becomes state that every later connection is given.
func (l *loop) session(c *client, info *command.Info, args [][]byte, frame []byte) bool {
	if isOurs(info) {
		return l.ourselves(c, info, args)
	}
	if c.ending {
		return false // EXEC may change what is asked for
	}
	switch info.Name {
	case "client|reply":
		if len(args) == 3 && isReplyMode(args[2]) {
			return l.setReply(c, args)
		}
		return l.ordinary(c, info, args, frame)
	case "client|list", "client|kill", "client|unblock":
		return l.aboutClients(c, info, args, frame)
	case "quit":
		l.local(c, []byte(replyOK))
		l.quit(c)
		return true
	case "reset":
		return l.resetSession(c)
	}
	if c.multi {
		return l.queueSession(c, info, args, frame)
	}
	switch info.Name {
	case "client|setname", "client|getname", "client|setinfo", "client|id", "client|info":
		l.local(c, l.aboutItself(c, info, args))
		return true
	case "auth", "hello", "select":
		if info.Name == "hello" && l.helloAlone(c, args) {
			return true
		}
		return l.exclusiveEdited(c, info, args, frame, editOf(info))
	default:
		return l.ordinary(c, info, args, frame)
	}
}

// queueSession has a server queue a command about the session, of which EXEC gives the answer. What no server
// can answer, or only for its own connection, is represented there by something that changes nothing.
func (l *loop) queueSession(c *client, info *command.Info, args [][]byte, frame []byte) bool {
	switch info.Name {
	case "client|setname", "client|getname", "client|setinfo", "client|id", "client|info":
		before := c.session
		reply := l.aboutItself(c, info, args)
		if c.session = before; reply[0] == '-' { // that it would be refused is known now, and spoils the transaction
			l.decline(c, string(reply))
			return true
		}
		words := make([][]byte, len(args)) // they are gone when EXEC comes
		for i := range args {
			words[i] = bytes.Clone(args[i])
		}
		return l.standIn(c, getName, func(l *loop, c *client, _ []byte) []byte { return l.aboutItself(c, info, words) })
	default:
		return l.exclusiveEdited(c, info, args, frame, editOf(info))
	}
}

var getName = resp.AppendCommand(nil, "CLIENT", "GETNAME")

// standIn queues a command in a transaction for one that the proxy answers itself when EXEC comes.
func (l *loop) standIn(c *client, frame []byte, e edit) bool {
	var s resp.CommandScanner
	_, args, err := s.Scan(frame, nil)
	if err != nil {
		panic("proxy: a command of our own cannot be read: " + err.Error())
	}
	return l.exclusiveEdited(c, command.Lookup(args), args, frame, e)
}

// aboutItself answers what a client asks, or says, about its own connection.
func (l *loop) aboutItself(c *client, info *command.Info, args [][]byte) []byte {
	if info.Arity != len(args) {
		return wrongArity(info)
	}
	switch info.Name {
	case "client|setname":
		if !isPlain(args[2]) {
			return []byte("-ERR Client names cannot contain spaces, newlines or special characters.\r\n")
		}
		c.name = string(args[2])
		return []byte(replyOK)
	case "client|getname":
		if c.name == "" {
			return nullBulk(c.proto)
		}
		return resp.AppendBulk(nil, []byte(c.name))
	case "client|setinfo":
		return c.setInfo(args[2], args[3])
	case "client|id":
		return resp.AppendInt(nil, int64(c.id))
	default:
		return appendText(nil, c.proto, l.describe(c))
	}
}

// setInfo is CLIENT SETINFO, in the words of redis-server 7.2.
func (c *client) setInfo(what, value []byte) []byte {
	i := -1
	switch strings.ToLower(string(what)) {
	case "lib-name":
		i = 0
	case "lib-ver":
		i = 1
	default:
		return resp.AppendError(nil, "ERR Unrecognized option '"+string(what)+"'")
	}
	if !isPlain(value) {
		return resp.AppendError(nil, "ERR "+strings.ToLower(string(what))+" cannot contain spaces, newlines or special characters.")
	}
	c.lib[i] = string(value)
	return []byte(replyOK)
}

// isPlain reports whether a text has none of the characters that would spoil a line of CLIENT LIST.
func isPlain(text []byte) bool {
	return !bytes.ContainsFunc(text, func(r rune) bool { return r < '!' || r > '~' })
}

func wrongArity(info *command.Info) []byte {
	return resp.AppendError(nil, "ERR wrong number of arguments for '"+info.Name+"' command")
}

func nullBulk(proto int) []byte {
	if proto == 2 {
		return []byte("$-1\r\n")
	}
	return resp.AppendNull(nil, proto)
}

// editOf is what has to be changed in a server's answer; nil: nothing.
func editOf(info *command.Info) edit {
	switch info.Name {
	case "hello":
		return ownID
	default:
		return nil
	}
}

// ownID gives the answer to HELLO the number by which the client is known here.
func ownID(_ *loop, c *client, reply []byte) []byte {
	const field = "$2\r\nid\r\n:"
	head, tail, ok := bytes.Cut(reply, []byte(field))
	if !ok {
		return reply
	}
	_, tail, _ = bytes.Cut(tail, crlf)
	out := append(bytes.Clone(head), field...)
	out = strconv.AppendUint(out, c.id, 10)
	return append(append(out, crlf...), tail...)
}

func (l *loop) resetSession(c *client) bool {
	if c.waiting > 0 {
		return false
	}
	l.leaveDedicated(c)
	c.session = session{proto: 2, open: !l.entryKeys.Load().requires()}
	c.lane, c.replicaLane = nil, nil
	l.local(c, []byte("+RESET\r\n"))
	return true
}

// adopt makes AUTH, HELLO or SELECT, which a server has carried out, part of the session.
func (c *client) adopt(frame []byte) {
	var s resp.CommandScanner
	_, args, err := s.Scan(frame, nil)
	if err != nil || len(args) == 0 {
		return
	}
	switch strings.ToLower(string(args[0])) {
	case "select":
		if n, err := strconv.Atoi(string(args[1])); err == nil {
			c.db = n
		}
	case "auth":
		c.user, c.pass = credentials(args[1:])
	case "hello":
		c.adoptHello(args[1:])
	default:
		return
	}
	c.lane, c.replicaLane = nil, nil
}

func credentials(args [][]byte) (user, pass string) {
	if len(args) == 1 {
		return "", string(args[0])
	}
	return string(args[0]), string(args[1])
}

func (c *client) adoptHello(args [][]byte) {
	if len(args) == 0 {
		return
	}
	c.proto, _ = strconv.Atoi(string(args[0]))
	for i := 1; i < len(args); i++ {
		switch {
		case strings.EqualFold(string(args[i]), "AUTH") && i+2 < len(args):
			c.user, c.pass = credentials(args[i+1 : i+3])
			i += 2
		case strings.EqualFold(string(args[i]), "SETNAME") && i+1 < len(args):
			c.name = string(args[i+1])
			i++
		}
	}
}
