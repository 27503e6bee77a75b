package proxy

import (
	"fmt"
	"strings"
	"time"

	"understudy/command"
	"understudy/resp"
)

// ourselves answers UNDERSTUDY, the command that no server sees: a client asks the proxy how its group is,
// also while there is no primary.
func (l *loop) ourselves(c *client, info *command.Info, args [][]byte) bool {
	switch {
	case info.Name == "understudy|status" && len(args) == 2:
		l.local(c, l.appendStatus(nil, c))
	case info.Name == "understudy|help" && len(args) == 2:
		l.local(c, appendHelp(nil))
	default:
		l.local(c, []byte("-ERR unknown subcommand or wrong number of arguments for 'understudy'. Try UNDERSTUDY HELP.\r\n"))
	}
	return true
}

// help is what UNDERSTUDY HELP says, in the form of redis-server's own help.
var help = []string{
	"UNDERSTUDY <subcommand>. Subcommands are:",
	"STATUS",
	"    How the group behind this endpoint is: group, state (available, degraded, failing-over, no-primary),",
	"    epoch, primary, since (when this primary, or the time without one, began; RFC 3339), for_ms,",
	"    replicas, held_requests, held_bytes, endpoint, reads. A map in RESP3, names and values in RESP2.",
	"HELP",
	"    Print this help.",
}

func appendHelp(dst []byte) []byte {
	dst = resp.AppendArray(dst, len(help))
	for _, text := range help {
		dst = resp.AppendSimple(dst, text)
	}
	return dst
}

// fact is one line of the status; value is a string or an int64.
type fact struct {
	name  string
	value any
}

func (l *loop) appendStatus(dst []byte, c *client) []byte {
	facts := l.facts(c)
	if c.proto == 3 {
		dst = fmt.Appendf(dst, "%%%d\r\n", len(facts))
	} else {
		dst = resp.AppendArray(dst, 2*len(facts))
	}
	for _, f := range facts {
		dst = resp.AppendBulk(dst, []byte(f.name))
		switch v := f.value.(type) {
		case int64:
			dst = resp.AppendInt(dst, v)
		case string:
			dst = resp.AppendBulk(dst, []byte(v))
		}
	}
	return dst
}

func (l *loop) facts(c *client) []fact {
	state, from := l.state()
	primary := string(l.writer.Node)
	if state == stateFailingOver || state == stateNoPrimary {
		primary = ""
	}
	return []fact{
		{"group", l.opts.Group},
		{"state", state},
		{"epoch", int64(l.writer.Epoch)},
		{"primary", primary},
		{"since", wall(l.now - from)},
		{"for_ms", (l.now - from).Milliseconds()},
		{"replicas", int64(len(l.reads))},
		{"held_requests", int64(l.held.n + len(l.replays))},
		{"held_bytes", int64(l.heldSize)},
		{"endpoint", c.kind.String()},
		{"reads", string(l.opts.Reads)},
	}
}

// The states, as `understudy status` names them.
const (
	stateAvailable   = "available"
	stateDegraded    = "degraded"     // served, with fewer replicas than the group has, or with writes held
	stateFailingOver = "failing-over" // no primary, for less than a hold
	stateNoPrimary   = "no-primary"   // for longer
)

// state says how the group is as its endpoints' clients see it, and since when there has been this primary,
// or none.
func (l *loop) state() (name string, from time.Duration) {
	closed, shut := l.gate.Closed(l.now)
	s, _ := l.gate.Node(l.writer.Node)
	switch {
	case shut && l.now-closed >= l.opts.Hold:
		return stateNoPrimary, closed
	case shut:
		return stateFailingOver, closed
	case l.writer.Hold != "" || len(l.reads) < s.Nodes-1:
		return stateDegraded, l.ledSince
	default:
		return stateAvailable, l.ledSince
	}
}

// wall is the time of day that was so long ago, RFC 3339 in UTC.
func wall(ago time.Duration) string {
	return time.Now().Add(-ago).UTC().Format("2006-01-02T15:04:05.000Z")
}

func (e endpoint) String() string {
	switch e {
	case primary:
		return "primary"
	case reader:
		return "reader"
	case split:
		return "split"
	}
	return fmt.Sprintf("endpoint(%d)", uint8(e))
}

// isOurs reports whether a command is the proxy's own.
func isOurs(info *command.Info) bool { return strings.HasPrefix(info.Name, "understudy") }
