package proxy

import (
	"fmt"
	"strings"
	"time"

	"understudy/cluster"
	"understudy/command"
	"understudy/resp"
)

// ourselves answers UNDERSTUDY, the command that no server sees: a client asks the proxy how its group is,
// also while there is no primary.
func (l *loop) ourselves(c *client, info *command.Info, args [][]byte) bool {
	switch {
	case info.Name == "understudy|status" && len(args) == 2:
		l.local(c, appendFacts(nil, c.proto, l.facts(c)))
	case info.Name == "understudy|policies" && len(args) == 2:
		l.local(c, l.appendPolicies(nil, c.proto))
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
	"    replicas, held_requests, held_bytes, endpoint, reads, degraded (1: something is missing), reasons (a list),",
	"    held_for_ms (the oldest), hold_ms, stale_reads (given since the start), max_staleness_ms (0: not bounded).",
	"    A map in RESP3, names and values in RESP2.",
	"POLICIES",
	"    What requests do while they cannot be served, by the prefix of their keys: of each policy prefix,",
	"    on_unavailable (hold, fail, stale), max_hold_ms, max_staleness_ms. The longest prefix counts, and of several",
	"    keys the strictest policy; other requests are held for hold_ms. The settings hold, hold_requests,",
	"    hold_bytes, policies, max_staleness, max_lag_bytes, once and allow stand in the proxy's configuration.",
	"HELP",
	"    Print this help.",
}

// appendPolicies tells the policies, the longest prefix first.
func (l *loop) appendPolicies(dst []byte, proto int) []byte {
	dst = resp.AppendArray(dst, len(l.policies.all))
	for _, p := range l.policies.all {
		hold := p.MaxHold
		if p.OnUnavailable == Fail {
			hold = 0
		}
		dst = appendFacts(dst, proto, []fact{
			{"prefix", p.Prefix}, {"on_unavailable", string(p.OnUnavailable)},
			{"max_hold_ms", hold.Milliseconds()}, {"max_staleness_ms", p.MaxStaleness.Milliseconds()},
		})
	}
	return dst
}

func appendHelp(dst []byte) []byte {
	dst = resp.AppendArray(dst, len(help))
	for _, text := range help {
		dst = resp.AppendSimple(dst, text)
	}
	return dst
}

// fact is one line of the status; value is a string, an int64 or a list of strings.
type fact struct {
	name  string
	value any
}

// appendFacts writes them as a map, in RESP2 as names and values in turn.
func appendFacts(dst []byte, proto int, facts []fact) []byte {
	dst = appendPairs(dst, proto, len(facts))
	for _, f := range facts {
		dst = resp.AppendBulk(dst, []byte(f.name))
		switch v := f.value.(type) {
		case int64:
			dst = resp.AppendInt(dst, v)
		case string:
			dst = resp.AppendBulk(dst, []byte(v))
		case []string:
			dst = resp.AppendArray(dst, len(v))
			for _, text := range v {
				dst = resp.AppendBulk(dst, []byte(text))
			}
		}
	}
	return dst
}

// appendPairs begins a map of n pairs.
func appendPairs(dst []byte, proto, n int) []byte {
	if proto == 3 {
		return fmt.Appendf(dst, "%%%d\r\n", n)
	}
	return resp.AppendArray(dst, 2*n)
}

func (l *loop) facts(c *client) []fact {
	state, from := l.state()
	reasons := l.reasons()
	degraded := int64(0)
	if state != stateAvailable || len(reasons) > 0 {
		degraded = 1
	}
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
		{"held_requests", int64(l.heldRequests())},
		{"held_bytes", int64(l.heldSize + l.replaySize + l.redoSize)},
		{"endpoint", c.kind.String()},
		{"reads", string(l.opts.Reads)},
		{"degraded", degraded},
		{"reasons", reasons},
		{"held_for_ms", l.oldestHeld().Milliseconds()},
		{"hold_ms", l.opts.Hold.Milliseconds()},
		{"stale_reads", int64(l.staleReads)},
		{"max_staleness_ms", l.opts.MaxStaleness.Milliseconds()},
	}
}

// reasons say what the group lacks, as this proxy sees it; none: nothing.
func (l *loop) reasons() []string {
	all := []string{}
	s, _ := l.gate.Node(l.writer.Node)
	closed, shut := l.gate.Closed(l.now)
	switch {
	case shut:
		all = append(all, "no primary since "+wall(l.now-closed))
	case l.writer.Hold != "":
		all = append(all, l.writer.Hold+", and on_lost_quorum is refuse: writes are held")
	case s.Durability == cluster.DurabilitySync && s.Nodes > 1 && l.demand.Least == 0:
		all = append(all, "no replica has to hold a write before it is acked: on_lost_quorum shrink is in force, or none has caught up yet")
	}
	switch {
	case shut:
	case len(l.reads) == 0 && s.Nodes > 1:
		all = append(all, "no replica can be read from")
	case len(l.reads) < s.Nodes-1:
		all = append(all, fmt.Sprintf("%d of %d replicas cannot be read from", s.Nodes-1-len(l.reads), s.Nodes-1))
	}
	all = append(all, l.troubles()...)
	if l.opts.Troubles != nil {
		all = append(all, l.opts.Troubles()...)
	}
	return all
}

// saidFor is how long a read that was stale is worth a word while there is no primary: longer than somebody
// takes to look.
const saidFor = 5 * time.Second

// troubles are those that only this proxy knows.
func (l *loop) troubles() []string {
	if _, shut := l.gate.Closed(l.now); !shut || l.staleReads == 0 || l.now-l.staleAt > saidFor {
		return nil
	}
	return []string{fmt.Sprintf("stale reads are given: the newest was answered with data that may be %v old", l.staleAge.Round(time.Millisecond))}
}

// Troubles name what only this proxy knows to be wrong: stale reads are given. What others know as well,
// that there is no primary, is not among it. Any goroutine may call it; it is at most a second old.
func (p *Proxy) Troubles() []string {
	if all := p.loop.notes.Load(); all != nil {
		return *all
	}
	return nil
}

// The states, as `understudy status` names them.
const (
	stateAvailable   = "available"
	stateDegraded    = "degraded"     // served, and something is missing: see reasons
	stateFailingOver = "failing-over" // no primary, for less than a hold
	stateNoPrimary   = "no-primary"   // for longer
)

// state says how the group is as its endpoints' clients see it, and since when there has been this primary,
// or none.
func (l *loop) state() (name string, from time.Duration) {
	closed, shut := l.gate.Closed(l.now)
	switch {
	case shut && l.now-closed >= l.opts.Hold:
		return stateNoPrimary, closed
	case shut:
		return stateFailingOver, closed
	case len(l.reasons()) > 0:
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
