package proxy

import (
	"fmt"
	"slices"
	"strings"

	"understudy/command"
	"understudy/resp"
)

// A command that is not in the table, a module's or a newer server's, is asked of the server once for each
// primary (COMMAND INFO). Until that has answered it is taken at its worst: a write of every key, on a
// connection of its own.

// mostStrangers bounds what is remembered of such commands; then all are asked again. A mistyped command is
// one too.
const mostStrangers = 1000

// longestStranger bounds a command's name; what is longer is left to the server to refuse.
const longestStranger = 64

// stranger carries a command that the table does not have.
func (l *loop) stranger(c *client, args [][]byte, frame []byte) bool {
	if len(args[0]) > longestStranger {
		return l.ordinary(c, nil, args, frame)
	}
	name := strings.ToLower(string(args[0]))
	info, known := l.strangers[name]
	switch {
	case !known:
		l.inquire(name)
		return l.exclusive(c, nil, args, frame)
	case info != nil && info.Class != command.Shared:
		return l.exclusive(c, info, args, frame)
	default:
		return l.ordinary(c, info, args, frame)
	}
}

// inquire asks the primary of a command.
func (l *loop) inquire(name string) {
	l.bracket.query(resp.AppendCommand(nil, "COMMAND", "INFO", name), func(v resp.Value) {
		if len(l.strangers) >= mostStrangers {
			clear(l.strangers)
		}
		if v.Kind != '-' && len(v.Elems) == 1 {
			l.strangers[name] = described(name, v.Elems[0])
			l.log.Debug("a command that is not in the table", "command", name, "known_to_server", l.strangers[name] != nil)
		}
	})
}

// described reads one element of COMMAND INFO's answer; nil: the server does not know the command either.
func described(name string, v resp.Value) *command.Info {
	if len(v.Elems) < 6 {
		return nil
	}
	d := command.Described{Name: name, Arity: int(v.Elems[1].Int), FirstKey: int(v.Elems[3].Int), LastKey: int(v.Elems[4].Int), Step: int(v.Elems[5].Int)}
	for _, flag := range v.Elems[2].Elems {
		d.Flags = append(d.Flags, string(flag.Str))
	}
	d.Container = len(v.Elems) > 9 && len(v.Elems[9].Elems) > 0
	return command.Learn(d)
}

// CheckAllowed says which name in Options.Allow is none that can be allowed.
func CheckAllowed(names []string) error {
	_, err := allowList(names)
	return err
}

// allowList makes the names of Options.Allow those that package command uses. Settings of CONFIG SET stand
// in it as they are.
func allowList(names []string) (map[string]bool, error) {
	allowed := map[string]bool{}
	for _, name := range names {
		words := strings.Fields(strings.ToLower(strings.ReplaceAll(name, "|", " ")))
		if len(words) == 3 && words[0] == "config" && words[1] == "set" {
			allowed[words[2]] = true
			continue
		}
		var args [][]byte
		for _, w := range words {
			args = append(args, []byte(w))
		}
		info := command.Lookup(args)
		if info == nil || info.Class != command.Refused && !slices.Contains(mayAllow, info.Name) || info.Name != strings.Join(words, "|") {
			return nil, fmt.Errorf("%q is none of the refused commands, and not CONFIG SET with a setting", name)
		}
		allowed[info.Name] = true
	}
	return allowed, nil
}
