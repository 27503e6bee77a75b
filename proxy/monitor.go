package proxy

import (
	"bytes"
	"slices"
	"strings"
)

// MONITOR, where Options.Allow has it: the client's own connection hears what the primary carries out, and the
// next primary after a change. What it says of logins and users is left out, and so are the names of the
// channels on which proxies speak to themselves.

// isMonitored reports whether a reply is one of MONITOR's lines: `+1700000000.123456 [0 127.0.0.1:6379] "GET"`.
func isMonitored(reply []byte) bool {
	at, rest, ok := bytes.Cut(reply[1:], []byte(" ["))
	if !ok || len(rest) == 0 {
		return false
	}
	seconds, micros, ok := bytes.Cut(at, []byte("."))
	return ok && len(seconds) > 0 && len(micros) == 6 && isDigits(seconds) && isDigits(micros)
}

func isDigits(text []byte) bool {
	return !bytes.ContainsFunc(text, func(r rune) bool { return r < '0' || r > '9' })
}

// monitored gives the client one of MONITOR's lines.
func (l *loop) monitored(c *client, line []byte) bool {
	if text := discreet(line); text != nil {
		l.passOn(c, text)
	}
	return true
}

// discreet takes out of one of MONITOR's lines what nobody is to see; nil: it is none of the client's affairs.
func discreet(line []byte) []byte {
	for rest := line; ; {
		i := bytes.Index(rest, []byte(channelPrefix))
		if i < 0 {
			break
		}
		if rest = rest[i:]; isOurChannel(rest) {
			return nil
		}
		rest = rest[len(channelPrefix):]
	}
	// The words begin behind the client's address, which has no quote in it.
	start := bytes.IndexByte(line, '"')
	if start < 0 {
		return line
	}
	name, args, _ := bytes.Cut(line[start+1:], []byte(`"`))
	if !slices.Contains(secretive, strings.ToLower(string(name))) {
		return line
	}
	out := append(bytes.Clone(line[:start]), '"')
	out = append(append(out, name...), '"')
	if len(bytes.TrimSpace(args)) > 0 {
		out = append(out, ` "(redacted)"`...)
	}
	return append(out, crlf...)
}
