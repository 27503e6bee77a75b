package proxy

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"strings"

	"understudy/command"
	"understudy/resp"
)

// A proxy with a password lets nobody do anything before AUTH, as redis-server with requirepass. The
// password is the default user's, whose commands are carried out as the user of the epoch; any other user
// is one of the servers', which check him.

// lockedInput is what a client that has not logged in may send of one request: redis-server's bound for
// the longest word of one.
const lockedInput = 16 << 10

// digests are what passwords are compared by: equally long, whatever was sent.
type digests [][sha256.Size]byte

func digestsOf(passwords []string) (d digests) {
	for _, p := range passwords {
		d = append(d, sha256.Sum256([]byte(p)))
	}
	return d
}

// know reports whether a password is one of them, in a time that does not tell how near it was.
func (d digests) know(password []byte) bool {
	given, found := sha256.Sum256(password), 0
	for i := range d {
		found |= subtle.ConstantTimeCompare(given[:], d[i][:])
	}
	return found == 1
}

// locked reports whether the client has to log in before anything else.
func (l *loop) locked(c *client) bool { return len(l.passwords) > 0 && !c.open && c.user == "" }

// atTheDoor carries out what has to do with logging in, and refuses what may not be done before. done says
// that there is nothing left to do; else what is left is args and frame.
func (l *loop) atTheDoor(c *client, info *command.Info, args [][]byte, frame []byte) (left [][]byte, rest []byte, done, ok bool) {
	name := ""
	if info != nil {
		name = info.Name
	}
	auth := name == "auth" && len(args) >= 2 && len(args) <= 3
	switch {
	case !l.locked(c) && !auth && name != "hello":
		return args, frame, false, true
	case c.onDed > 0:
		return nil, nil, true, false // a login may be under way
	case name == "auth" && auth && (len(args) == 2 || isDefault(args[1])):
		l.logIn(c, args[len(args)-1])
		return nil, nil, true, true
	case name == "hello":
		return l.greetHello(c, args, frame)
	case name == "auth" || name == "quit" || name == "reset" || info == nil && command.CrossProtocol(args):
		return args, frame, false, true
	default:
		l.local(c, []byte(errNoAuth))
		return nil, nil, true, true
	}
}

func isDefault(user []byte) bool { return string(user) == "default" }

// logIn is AUTH of the default user.
func (l *loop) logIn(c *client, password []byte) {
	switch {
	case c.multi:
		l.local(c, []byte(errInMulti))
	case !l.admits(c, password):
		l.local(c, []byte(errWrongPass))
	default:
		l.local(c, []byte(replyOK))
	}
}

// admits makes the client the default user when the password is right.
func (l *loop) admits(c *client, password []byte) bool {
	if !l.passwords.know(password) {
		l.failedLogin(c)
		return false
	}
	if !c.anonymous() && !c.tied() {
		l.leaveDedicated(c)
	}
	c.open, c.user, c.pass = true, "", ""
	c.lane, c.replicaLane = nil, nil
	return true
}

func (l *loop) failedLogin(c *client) {
	l.metrics.logins.Inc()
	l.sayRarely("a login failed", "client", c.id, "addr", c.from)
}

// greetHello takes the default user's login out of HELLO, which goes on to the server without it.
func (l *loop) greetHello(c *client, args [][]byte, frame []byte) (left [][]byte, rest []byte, done, ok bool) {
	at := helloAuth(args)
	switch {
	case at == 0 && l.locked(c):
		l.local(c, []byte(errHelloNoAuth))
		return nil, nil, true, true
	case at == 0 || !isDefault(args[at+1]):
		return args, frame, false, true
	case c.multi:
		l.local(c, []byte(errInMulti))
		return nil, nil, true, true
	case !bytes.Equal(args[1], []byte("2")) && !bytes.Equal(args[1], []byte("3")):
		// The server refuses it, and is not told the password.
	case !l.admits(c, args[at+2]):
		l.local(c, []byte(errWrongPass))
		return nil, nil, true, true
	}
	left = append(append(left, args[:at]...), args[at+3:]...)
	rest = resp.AppendCommandBytes(nil, left...)
	return left, rest, false, true
}

// helloAuth is where AUTH stands in a HELLO, with a user and a password behind it; 0: nowhere.
func helloAuth(args [][]byte) int {
	for i := 2; i < len(args); i++ {
		switch {
		case strings.EqualFold(string(args[i]), "AUTH") && i+2 < len(args):
			return i
		case strings.EqualFold(string(args[i]), "SETNAME"):
			i++
		}
	}
	return 0
}

// noteLogin counts what a server says of a user of its own.
func (l *loop) noteLogin(c *client, reply []byte) {
	if bytes.HasPrefix(reply, []byte("-WRONGPASS")) {
		l.failedLogin(c)
	}
}
