package proxy

import (
	"fmt"
	"strings"
	"time"
)

// The errors that a client can get from the proxy itself; docs/errors.md lists them with advice.
const (
	errUnknown = "-UNKNOWN the outcome of this command is not known: it was sent and the primary was lost before its reply was safe; repeating it is not safe either, read first\r\n"
	errTooLong = "-TRYAGAIN the connection to the primary was lost while this command was passed on, and it is too long to be kept and sent again; it may be repeated\r\n"
	errReader  = "-READONLY You can't write against a read only replica.\r\n"
	// In redis-server's own words.
	errNoAuth      = "-NOAUTH Authentication required.\r\n"
	errHelloNoAuth = "-NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the same time\r\n"
	errWrongPass   = "-WRONGPASS invalid username-password pair or user is disabled.\r\n"
	errHTTP        = "-ERR understudy: this port speaks the Redis protocol and no HTTP\r\n"
	errInMulti     = "-ERR Command not allowed inside a transaction\r\n"
	errExecAbort   = "-EXECABORT Transaction discarded because of previous errors.\r\n"
	errMaxClients  = "-ERR max number of clients reached\r\n"
)

// errNoPrimary is the answer to a request that waited as long as it may: it was not executed, or
// repeating it changes nothing.
func errNoPrimary(closed, waited time.Duration) string {
	if closed == 0 {
		return fmt.Sprintf("-TRYAGAIN the primary did not take this command within %v; it may be repeated\r\n", waited.Round(time.Millisecond))
	}
	return fmt.Sprintf("-TRYAGAIN no primary since %s; this command has waited for %v and may be repeated\r\n", sinceWhen(closed), waited.Round(time.Millisecond))
}

// errFailFast is the answer to a request of which the policy is to fail at once.
func errFailFast(closed time.Duration) string {
	return fmt.Sprintf("-TRYAGAIN no primary since %s; this command is set to fail at once and may be repeated\r\n", sinceWhen(closed))
}

// sinceWhen is a time of day and how long ago that was: "2026-11-30T01:02:03.004Z (12.5s)".
func sinceWhen(ago time.Duration) string {
	return fmt.Sprintf("%s (%v)", wall(ago), ago.Round(time.Millisecond))
}

// errNoQuorum is the answer to a write, or to a read that must not show it, which waited as long as it may
// for a replica that could hold a copy.
func errNoQuorum(lost time.Duration) string {
	return fmt.Sprintf("-TRYAGAIN no replica can hold a copy of a write, for %v now, and the group is set to refuse then; the command may be repeated\r\n", lost.Round(time.Millisecond))
}

// errHoldFull is the answer to the oldest request when too many wait.
func errHoldFull(closed time.Duration) string {
	if closed == 0 {
		return "-TRYAGAIN too many requests are waiting for the primary; the command may be repeated\r\n"
	}
	return fmt.Sprintf("-TRYAGAIN no primary since %s, and too many requests are waiting; the command may be repeated\r\n", sinceWhen(closed))
}

// Refusals that say why, and what to use instead.
const (
	errRedirect = "-ERR understudy: CLIENT TRACKING with REDIRECT is refused: the connection that it names changes with the primary; use RESP3 (HELLO 3), where a connection is told of its own keys\r\n"
	errSubInTx  = "-ERR understudy: a subscription between MULTI and EXEC is refused unless it names one channel: the confirmations of several stand in the middle of EXEC's reply, and no client could read that; use it outside of MULTI\r\n"
)

// errRefused takes a command's name as package command writes it.
func errRefused(name string) string {
	name = strings.ToUpper(strings.ReplaceAll(name, "|", " "))
	return fmt.Sprintf("-ERR understudy: %s is refused: it acts on one server behind this endpoint, or would break the group; use the understudy command, or connect to the node itself\r\n", name)
}
