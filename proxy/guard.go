package proxy

import (
	"bytes"
	"slices"
	"strings"

	"understudy/command"
	"understudy/resp"
)

// What a server has for the proxy's sake is neither shown to clients nor theirs to change: the users as whom
// agents and proxies log in, and the channels on which proxies speak to themselves.

// administer carries a command of the server's administration, or about channels.
func (l *loop) administer(c *client, info *command.Info, args [][]byte, frame []byte) bool {
	if name, refused := l.guards(info, args); refused {
		l.decline(c, errRefused(name))
		return true
	}
	var e edit
	switch info.Name {
	case "pubsub|channels":
		e = withoutOurs
	case "acl|list", "acl|users":
		e = withoutOurUsers
	}
	return l.ordinaryEdited(c, info, args, frame, e)
}

// guards reports whether the words of a command are about something that the proxy rests on.
func (l *loop) guards(info *command.Info, args [][]byte) (name string, refused bool) {
	switch info.Name {
	case "config|set":
		if name, refused := command.RefusedConfig(args, l.allowed); refused {
			return "config|set " + name, true
		}
	case "acl|setuser", "acl|deluser", "acl|getuser":
		if i := slices.IndexFunc(args[min(2, len(args)):], isOurUser); i >= 0 && (i == 0 || info.Name == "acl|deluser") {
			return info.Name + " " + string(args[2+i]), !l.allowed[info.Name]
		}
	}
	return "", false
}

// ourUsers are those that agents and proxies are on a server; of an epoch's the name begins so. The default user
// is among them: where nothing else is set up, proxies log in as nobody else.
var ourUsers = []string{"default", "understudy", "reader"}

const epochUsers = "ep-"

func isOurUser(name []byte) bool {
	return slices.Contains(ourUsers, string(name)) || bytes.HasPrefix(name, []byte(epochUsers))
}

// withoutOurUsers takes the users of agents and proxies out of the answer to ACL LIST or ACL USERS.
func withoutOurUsers(_ *loop, _ *client, reply []byte) []byte {
	var kept [][]byte
	for _, e := range elements(reply) {
		v, _, err := resp.Parse(e)
		name := v.Str
		if line, ok := bytes.CutPrefix(name, []byte("user ")); ok {
			name, _, _ = bytes.Cut(line, []byte(" "))
		}
		if err != nil || string(name) == "default" || !isOurUser(name) {
			kept = append(kept, e)
		}
	}
	return append(resp.AppendArray(nil, len(kept)), bytes.Join(kept, nil)...)
}

// stopScript carries SCRIPT KILL and FUNCTION KILL: a server that runs a script takes a login and this, and not
// SELECT, which a connection of the client's own might begin with.
func (l *loop) stopScript(c *client, info *command.Info, args [][]byte, frame []byte) bool {
	if c.tied() || !l.mayWrite() || c.kind == reader {
		return l.exclusive(c, info, args, frame)
	}
	if c.waiting > 0 {
		return false
	}
	r := l.newRequest(c, info, frame)
	key := c.laneKey(l.writer.Node)
	key.db = 0
	answered := false
	answer := func(reply []byte) {
		if !answered {
			answered = true
			l.deliver(r, reply)
		}
	}
	b, err := l.open(key, &backend{
		onReply: func(l *loop, b *backend, reply []byte) {
			answer(reply)
			l.drop(&b.conn, errPeerClosed)
		},
		onLost: func(l *loop, _ error) { answer([]byte(errNoPrimary(0, 0))) },
	})
	if err != nil {
		answer([]byte(errNoPrimary(0, 0)))
		return true
	}
	b.raw(frame)
	return true
}

// isStop reports whether a command ends a script that runs.
func isStop(info *command.Info) bool {
	return strings.HasSuffix(info.Name, "|kill") && info.Name != "client|kill"
}
