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
	if info.Name == "client|reply" {
		if c.multi { // it would be carried out by EXEC, on the server's connection
			l.local(c, []byte(errRefused("client|reply")))
			return true
		}
		if l.setReply(c, args) {
			return true
		}
	}
	if c.multi {
		return l.exclusive(c, info, args, frame) // queued, or refused, by the server
	}
	switch info.Name {
	case "quit":
		l.local(c, []byte(replyOK))
		l.quit(c)
		return true
	case "reset":
		return l.resetSession(c)
	case "client|setname":
		return l.setName(c, args)
	case "client|getname":
		l.local(c, resp.AppendBulk(nil, []byte(c.name)))
		return true
	case "client|setinfo":
		l.local(c, []byte(replyOK))
		return true
	case "client|id":
		l.local(c, resp.AppendInt(nil, int64(c.id)))
		return true
	case "auth", "hello", "select":
		return l.exclusive(c, info, args, frame)
	default:
		return l.ordinary(c, info, args, frame)
	}
}

func (l *loop) resetSession(c *client) bool {
	if c.waiting > 0 {
		return false
	}
	l.leaveDedicated(c)
	c.session = session{proto: 2}
	c.lane, c.replicaLane = nil, nil
	l.local(c, []byte("+RESET\r\n"))
	return true
}

func (l *loop) setName(c *client, args [][]byte) bool {
	if len(args) != 3 {
		l.local(c, []byte("-ERR wrong number of arguments for 'client|setname' command\r\n"))
		return true
	}
	if bytes.ContainsFunc(args[2], func(r rune) bool { return r < '!' || r > '~' }) {
		l.local(c, []byte("-ERR Client names cannot contain spaces, newlines or special characters.\r\n"))
		return true
	}
	c.name = string(args[2])
	l.local(c, []byte(replyOK))
	return true
}

// adopt makes the outcome of AUTH, HELLO or SELECT part of the session.
func (c *client) adopt(r *request, reply []byte) {
	if reply[0] == '-' {
		return
	}
	var s resp.CommandScanner
	_, args, err := s.Scan(r.frame, nil)
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
