package proxy

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"understudy/command"
	"understudy/resp"
)

// CLIENT LIST, INFO, KILL and UNBLOCK are about the clients of this proxy, by the numbers and addresses that they
// have here. A server knows connections of proxies instead, which carry many clients: nobody is shown them, or
// may end one. Whether a client's user has the right is for the server to say: it is asked the same of nobody.

// nobody is a number that no client of any server ever has.
const nobody = "9223372036854775807"

// errKilled: another client said CLIENT KILL.
var errKilled = errors.New("killed by CLIENT KILL")

// byUnblock stands in the error of a client that another one has unblocked.
const byUnblock = "via CLIENT UNBLOCK"

// aboutClients is CLIENT LIST, KILL or UNBLOCK.
func (l *loop) aboutClients(c *client, info *command.Info, args [][]byte, frame []byte) bool {
	_, word, _ := strings.Cut(info.Name, "|")
	probe := []string{"CLIENT", word, "ID", nobody}
	var e edit
	text := ""
	switch word {
	case "list":
		var f filter
		f, text = listed(args)
		e = func(l *loop, c *client, _ []byte) []byte { return l.listClients(c, f) }
	case "kill":
		var f filter
		f, text = killed(args)
		e = func(l *loop, c *client, _ []byte) []byte { return l.killClients(c, f) }
	default:
		probe = []string{"CLIENT", word, nobody}
		var id uint64
		var failing bool
		id, failing, text = unblocked(args)
		e = func(l *loop, _ *client, _ []byte) []byte { return l.unblock(id, failing) }
	}
	if text != "" {
		l.decline(c, text)
		return true
	}
	asked := resp.AppendCommand(nil, probe...)
	var s resp.CommandScanner
	_, words, err := s.Scan(asked, nil)
	if err != nil {
		return l.ordinary(c, info, args, frame)
	}
	return l.ordinaryEdited(c, info, words, asked, e)
}

// filter says which clients are meant. Empty fields mean any.
type filter struct {
	ids    []uint64
	kind   string
	user   []byte
	addr   string
	laddr  string
	skipMe bool
	old    bool // CLIENT KILL ADDR, which answers otherwise
	misses bool // what is asked for is none of ours: replicas, or a primary
}

const errSyntax = "-ERR syntax error\r\n"

// listed reads CLIENT LIST; text is the error for the client, if any.
func listed(args [][]byte) (f filter, text string) {
	switch {
	case len(args) == 2:
		return f, ""
	case len(args) == 4 && strings.EqualFold(string(args[2]), "TYPE"):
		return f, f.ofType(args[3])
	case len(args) >= 4 && strings.EqualFold(string(args[2]), "ID"):
		for _, a := range args[3:] {
			id, err := strconv.ParseUint(string(a), 10, 64)
			if err != nil {
				return f, errSyntax
			}
			f.ids = append(f.ids, id)
		}
		return f, ""
	default:
		return f, errSyntax
	}
}

func (f *filter) ofType(word []byte) (text string) {
	switch f.kind = strings.ToLower(string(word)); f.kind {
	case "normal", "pubsub":
	case "master", "primary", "replica", "slave":
		f.misses = true
	default:
		return errSyntax
	}
	return ""
}

// killed reads CLIENT KILL.
func killed(args [][]byte) (f filter, text string) {
	if len(args) == 3 {
		return filter{addr: string(args[2]), old: true}, ""
	}
	if len(args) < 4 || len(args)%2 == 1 {
		return f, errSyntax
	}
	f.skipMe = true
	for i := 2; i < len(args); i += 2 {
		value := string(args[i+1])
		switch strings.ToLower(string(args[i])) {
		case "id":
			id, err := strconv.ParseUint(value, 10, 64)
			if err != nil || id == 0 {
				return f, errSyntax
			}
			f.ids = append(f.ids, id)
		case "type":
			if text := f.ofType(args[i+1]); text != "" {
				return f, text
			}
		case "user":
			f.user = bytes.Clone(args[i+1])
		case "addr":
			f.addr = value
		case "laddr":
			f.laddr = value
		case "skipme":
			switch strings.ToLower(value) {
			case "yes":
				f.skipMe = true
			case "no":
				f.skipMe = false
			default:
				return f, errSyntax
			}
		default:
			return f, errSyntax
		}
	}
	return f, ""
}

// unblocked reads CLIENT UNBLOCK.
func unblocked(args [][]byte) (id uint64, failing bool, text string) {
	if len(args) != 3 && len(args) != 4 {
		return 0, false, errSyntax
	}
	id, err := strconv.ParseUint(string(args[2]), 10, 63)
	if err != nil {
		return 0, false, errSyntax
	}
	if len(args) == 4 {
		switch strings.ToUpper(string(args[3])) {
		case "ERROR":
			failing = true
		case "TIMEOUT":
		default:
			return 0, false, errSyntax
		}
	}
	return id, failing, ""
}

func (f *filter) means(c *client) bool {
	return !f.misses && (len(f.ids) == 0 || slices.Contains(f.ids, c.id)) &&
		(f.kind == "" || (f.kind == "pubsub") == (len(c.subs) > 0)) &&
		(f.user == nil || string(f.user) == defaultUser(c.user)) &&
		(f.addr == "" || f.addr == c.from.String()) && (f.laddr == "" || f.laddr == c.local().String())
}

// meant are the clients that a filter means, in the order in which they came.
func (l *loop) meant(f *filter) []*client {
	var all []*client
	for c := range l.clients {
		if f.means(c) {
			all = append(all, c)
		}
	}
	slices.SortFunc(all, func(a, b *client) int { return cmp.Compare(a.id, b.id) })
	return all
}

func (l *loop) listClients(to *client, f filter) []byte {
	var lines []byte
	for _, c := range l.meant(&f) {
		lines = append(lines, l.describe(c)...)
	}
	return appendText(nil, to.proto, lines)
}

// killClients ends the connections that the filter means, the asker's own after the answer.
func (l *loop) killClients(by *client, f filter) []byte {
	n := int64(0)
	for _, c := range l.meant(&f) {
		switch {
		case c != by:
			l.drop(&c.conn, errKilled)
		case f.skipMe:
			continue
		default:
			l.quit(c)
		}
		n++
	}
	switch {
	case !f.old:
		return resp.AppendInt(nil, n)
	case n == 0:
		return []byte("-ERR No such client\r\n")
	default:
		return []byte(replyOK)
	}
}

// unblock has the primary end what a client waits for there: 1 when the client is blocked, else 0.
func (l *loop) unblock(id uint64, failing bool) []byte {
	reason := "TIMEOUT"
	if failing {
		reason = "ERROR"
	}
	for c := range l.clients {
		b := c.ded
		if c.id != id || b == nil || b.closed || b.number == 0 || b.key.node != l.writer.Node || !b.idleBlock() {
			continue
		}
		l.bracket.ask(resp.AppendCommand(nil, "CLIENT", "UNBLOCK", strconv.FormatInt(b.number, 10), reason), nil)
		return resp.AppendInt(nil, 1)
	}
	return resp.AppendInt(nil, 0)
}

// askNumber asks the server for its number of a connection, for unblock.
func (b *backend) askNumber() {
	if b.number != 0 {
		return
	}
	b.raw(resp.AppendCommand(nil, "CLIENT", "ID"))
	b.inflight.push(&request{note: func(reply []byte) {
		if v, _, err := resp.Parse(reply); err == nil && v.Kind == ':' {
			b.number = v.Int
		}
	}})
}

// local is the client's address on this side.
func (c *client) local() netip.AddrPort {
	sa, err := unix.Getsockname(c.fd)
	if err != nil {
		return netip.AddrPort{}
	}
	return addrPort(sa)
}

// describe is the client's line in CLIENT LIST, with the fields of redis-server 7.2 that mean something here.
func (l *loop) describe(c *client) []byte {
	kinds := map[string]int{}
	for k := range c.subs {
		kind, _, _ := strings.Cut(k, " ")
		kinds[kind]++
	}
	queued := -1
	if c.multi {
		queued = c.tx.queued
	}
	name, events := "NULL", "r"
	if c.cmd != nil {
		name = c.cmd.Name
	}
	if c.blocked {
		events = "rw"
	}
	return fmt.Appendf(nil, "id=%d addr=%s laddr=%s fd=%d name=%s age=%d idle=%d flags=%s db=%d sub=%d psub=%d ssub=%d multi=%d"+
		" qbuf=%d obl=%d events=%s cmd=%s user=%s redir=-1 resp=%d lib-name=%s lib-ver=%s\n",
		c.id, c.from, c.local(), c.fd, c.name, int((l.now - c.since).Seconds()), int((l.now - c.active).Seconds()), c.flags(), c.db,
		kinds["subscribe"], kinds["psubscribe"], kinds["ssubscribe"], queued, len(c.in), len(c.out)-c.sent, events, name,
		defaultUser(c.user), c.proto, c.lib[0], c.lib[1])
}

// flags are those of CLIENT LIST.
func (c *client) flags() string {
	var f []byte
	add := func(is bool, flag byte) {
		if is {
			f = append(f, flag)
		}
	}
	add(c.monitors, 'O')
	add(len(c.subs) > 0, 'P')
	add(c.multi, 'x')
	add(c.ded != nil && c.ded.idleBlock(), 'b')
	add(c.tracks(), 't')
	add(c.watchLost, 'd')
	add(c.quitting, 'c')
	if len(f) == 0 {
		return "N"
	}
	return string(f)
}

// appendText writes a text as redis-server does that is for people: RESP3 has a type for it.
func appendText(dst []byte, proto int, text []byte) []byte {
	if proto == 2 {
		return resp.AppendBulk(dst, text)
	}
	dst = fmt.Appendf(dst, "=%d\r\ntxt:", len(text)+4)
	return append(append(dst, text...), crlf...)
}
