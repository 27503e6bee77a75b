package proxy

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"understudy/command"
	"understudy/resp"
)

// A proxy with a password lets nobody do anything before AUTH, as redis-server with requirepass. The
// password is the default user's, whose commands are carried out as the user of the epoch. Further users that
// the proxy knows may be others at the servers; who is none of these is one of the servers', which check him.

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

// Logins say who may log in at a proxy itself, besides the servers' own users, whose logins go to a server.
type Logins struct {
	// Passwords are those of the default user of the endpoints, any of them; none: it has none.
	Passwords []string
	// Users are others whom the proxy knows. With one, or with a password, nobody does anything before AUTH.
	Users []User
	// Optional: whoever does not log in is let in all the same, while clients are being given a password.
	Optional bool
	// LoginFailures is how many failed logins one address may make within LoginWithin; further ones are refused
	// without a look at them. 0: 20 in a minute; negative: no bound.
	LoginFailures int
	LoginWithin   time.Duration
}

// User is a user of the endpoints, and who he is at the servers.
type User struct {
	Name      string
	Passwords []string // any of them
	// ServerUser and ServerPassword are as whom his commands are carried out; both empty: as a client's that
	// names no user.
	ServerUser, ServerPassword string
}

// keys are whom the loop lets in; not changed once it is made.
type keys struct {
	passwords digests
	users     map[string]knownUser
	optional  bool
}

type knownUser struct {
	digests
	user, pass string
}

func (o Logins) keys() (*keys, error) {
	k := &keys{passwords: digestsOf(o.Passwords), users: map[string]knownUser{}, optional: o.Optional}
	if slices.Contains(o.Passwords, "") {
		return nil, errors.New("proxy: Passwords: an empty one lets everybody in; leave it out")
	}
	for _, u := range o.Users {
		switch {
		case u.Name == "" || isDefault([]byte(u.Name)):
			return nil, errors.New("proxy: Users: a name other than default is needed; the default user has Passwords")
		case len(u.Passwords) == 0 || slices.Contains(u.Passwords, ""):
			return nil, fmt.Errorf("proxy: Users: %s needs a password, and none that is empty", u.Name)
		case u.ServerUser == "" && u.ServerPassword != "":
			return nil, fmt.Errorf("proxy: Users: %s: ServerUser is needed with ServerPassword", u.Name)
		}
		k.users[u.Name] = knownUser{digestsOf(u.Passwords), u.ServerUser, u.ServerPassword}
	}
	return k, nil
}

// guards reports whether there is somebody whose login the proxy decides about.
func (k *keys) guards() bool { return len(k.passwords) > 0 || len(k.users) > 0 }

// requires reports whether nobody does anything before AUTH.
func (k *keys) requires() bool { return k.guards() && !k.optional }

// SetLogins puts other passwords and users in place of those of Options. Who is logged in stays so, and so does
// who came in when no login was needed, as at redis-server.
func (p *Proxy) SetLogins(o Logins) error {
	k, err := o.keys()
	if err != nil {
		return err
	}
	p.loop.entryKeys.Store(k)
	return nil
}

// locked reports whether the client has to log in before anything else.
func (l *loop) locked(c *client) bool {
	return l.entryKeys.Load().requires() && !c.open && c.user == ""
}

// minds reports whether a command of a client is looked at for a login.
func (l *loop) minds(info *command.Info) bool {
	return l.entryKeys.Load().guards() || info != nil && info.Class == command.Session
}

// atTheDoor carries out what has to do with logging in, and refuses what may not be done before. done says
// that there is nothing left to do; else what is left is args and frame.
func (l *loop) atTheDoor(c *client, info *command.Info, args [][]byte, frame []byte) (left [][]byte, rest []byte, done, ok bool) {
	name := ""
	if info != nil {
		name = info.Name
	}
	auth := name == "auth" && len(args) >= 2 && len(args) <= 3
	hello := name == "hello"
	switch {
	case !l.locked(c) && !auth && !hello:
		return args, frame, false, true
	case c.onDed > 0 && (l.locked(c) || auth || helloAuth(args) > 0):
		return nil, nil, true, false // a login may be under way
	case auth || hello && helloAuth(args) > 0:
		if wait := l.throttle.wait(l.now, c.from.Addr()); wait > 0 {
			l.metrics.throttled.Inc()
			l.local(c, []byte(errTooManyLogins(wait)))
			return nil, nil, true, true
		}
	}
	switch {
	case auth && l.isOurs(args[1:len(args)-1]):
		l.logIn(c, args[1:])
		return nil, nil, true, true
	case hello:
		return l.greetHello(c, args, frame)
	case name == "auth" || name == "quit" || name == "reset" || info == nil && command.CrossProtocol(args):
		return args, frame, false, true
	default:
		l.local(c, []byte(errNoAuth))
		return nil, nil, true, true
	}
}

// isOurs reports whether a user, [] for the default one, is one whose login the proxy decides about.
func (l *loop) isOurs(user [][]byte) bool {
	k := l.entryKeys.Load()
	if len(user) == 0 || isDefault(user[0]) {
		return k.guards()
	}
	_, ok := k.users[string(user[0])]
	return ok
}

func isDefault(user []byte) bool { return string(user) == "default" }

// logIn is AUTH of a user whom the proxy knows; words are the user, if named, and the password.
func (l *loop) logIn(c *client, words [][]byte) {
	l.local(c, []byte(l.admits(c, words)))
}

// admits makes the client that user when the password is right. It returns the reply to that.
func (l *loop) admits(c *client, words [][]byte) string {
	k := l.entryKeys.Load()
	user := knownUser{digests: k.passwords}
	if len(words) > 1 && !isDefault(words[0]) {
		user = k.users[string(words[0])]
	}
	switch {
	case c.multi:
		return errInMulti
	case !user.know(words[len(words)-1]):
		l.failedLogin(c)
		return errWrongPass
	case c.tied() && (user.user != c.user || user.pass != c.pass):
		return errLateLogin // what ties it is another user's, on a server
	case !c.tied() && c.ded != nil:
		l.leaveDedicated(c)
	}
	c.open, c.user, c.pass = true, user.user, user.pass
	c.lane, c.replicaLane = nil, nil
	return replyOK
}

func (l *loop) failedLogin(c *client) {
	l.metrics.logins.Inc()
	l.throttle.failed(l.now, c.from.Addr())
	l.sayRarely("a login failed", "client", c.id, "addr", c.from)
}

// greetHello takes the login of a user whom the proxy knows out of HELLO, which goes on to the server without
// it.
func (l *loop) greetHello(c *client, args [][]byte, frame []byte) (left [][]byte, rest []byte, done, ok bool) {
	at := helloAuth(args)
	switch {
	case at == 0 && l.locked(c):
		l.local(c, []byte(errHelloNoAuth))
		return nil, nil, true, true
	case at == 0 || !l.isOurs(args[at+1:at+2]):
		return args, frame, false, true
	case c.multi:
		l.local(c, []byte(errInMulti))
		return nil, nil, true, true
	case !bytes.Equal(args[1], []byte("2")) && !bytes.Equal(args[1], []byte("3")):
		// The server refuses it, and is not told the password.
	default:
		if refusal := l.admits(c, args[at+1:at+3]); refusal != replyOK {
			l.local(c, []byte(refusal))
			return nil, nil, true, true
		}
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
