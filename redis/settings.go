package redis

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/gomodule/redigo/redis"
)

// Settings are what an operator or a client may set at a server, and what has to outlive it: users, and some of
// the configuration.
type Settings struct {
	// Users are lines of ACL LIST without the word "user", by the user's name: "on #HASH ~* &* +@all".
	// Passwords are in it as hashes only.
	Users map[string]string `json:"users,omitempty"`
	// Config are parameters of CONFIG SET.
	Config map[string]string `json:"config,omitempty"`
}

// Equal reports whether both say the same.
func (s Settings) Equal(o Settings) bool {
	return maps.Equal(s.Users, o.Users) && maps.Equal(s.Config, o.Config)
}

// kept are the parameters of CONFIG that may differ from what a server was started with and are the same on all
// nodes: limits, encodings, what is logged. None of them decides who is primary, where data is or who gets in.
var kept = []string{
	"maxmemory", "maxmemory-policy", "maxmemory-samples", "maxmemory-eviction-tenacity", "maxmemory-clients",
	"timeout", "tcp-keepalive", "client-query-buffer-limit", "proto-max-bulk-len", "tracking-table-max-keys",
	"slowlog-log-slower-than", "slowlog-max-len", "latency-monitor-threshold", "latency-tracking", "acllog-max-len", "loglevel",
	"notify-keyspace-events", "busy-reply-threshold", "hz", "dynamic-hz", "activerehashing", "active-expire-effort",
	"hash-max-listpack-entries", "hash-max-listpack-value", "list-max-listpack-size", "list-compress-depth",
	"set-max-intset-entries", "set-max-listpack-entries", "set-max-listpack-value", "zset-max-listpack-entries", "zset-max-listpack-value",
	"hll-sparse-max-bytes", "stream-node-max-bytes", "stream-node-max-entries", "lfu-log-factor", "lfu-decay-time",
	"lazyfree-lazy-eviction", "lazyfree-lazy-expire", "lazyfree-lazy-server-del", "lazyfree-lazy-user-del", "lazyfree-lazy-user-flush",
	"activedefrag", "active-defrag-ignore-bytes", "active-defrag-threshold-lower", "active-defrag-threshold-upper",
	"active-defrag-cycle-min", "active-defrag-cycle-max", "active-defrag-max-scan-fields", "jemalloc-bg-thread",
	"auto-aof-rewrite-percentage", "auto-aof-rewrite-min-size",
}

// Live reports whether a server takes a parameter while it runs, and its agent has it outlive the server.
func Live(name string) bool { return slices.Contains(kept, name) }

// Unquoted is a value as CONFIG GET shows it, where a line of redis.conf has it in quotes: "" is empty.
func Unquoted(value string) string {
	if value == `""` {
		return ""
	}
	return value
}

// ours reports whether a user is Understudy's, or the one that everybody is who does not log in: they are what
// each server needs, and are not spread.
func ours(user string) bool {
	return user == "default" || user == SecretUser || user == ReaderUser || strings.HasPrefix(user, epochUser)
}

// Settings asks for all users but ours, and for all parameters that are kept, changed or not.
func (c *Control) Settings(ctx context.Context) (Settings, error) {
	args := []any{"GET"}
	for _, name := range kept {
		args = append(args, name)
	}
	replies, err := c.batch(ctx, []any{"ACL", "LIST"}, append([]any{"CONFIG"}, args...))
	if err != nil {
		return Settings{}, err
	}
	lines, err := redis.Strings(replies[0], nil)
	if err != nil {
		return Settings{}, fmt.Errorf("ACL LIST: %w", err)
	}
	s := Settings{Users: map[string]string{}}
	for _, line := range lines {
		name, rules, ok := strings.Cut(strings.TrimPrefix(line, "user "), " ")
		if ok && !ours(name) {
			s.Users[name] = rules
		}
	}
	if s.Config, err = redis.StringMap(replies[1], nil); err != nil {
		return Settings{}, fmt.Errorf("CONFIG GET: %w", err)
	}
	return s, nil
}

// ErrNotAll: the server has refused some of what it was given, and has the rest.
var ErrNotAll = errors.New("redis-server has not taken all of it")

// Apply gives the server these users and parameters, and takes the users in gone away. Errors: ErrNotAll, with what was
// refused; after any other it is open how much was done.
func (c *Control) Apply(ctx context.Context, s Settings, gone []string) error {
	var refused, broken error
	do := func(what string, command string, args ...any) {
		if broken != nil {
			return
		}
		_, err := c.do(ctx, command, args...)
		switch _, said := errors.AsType[redis.Error](err); {
		case err == nil:
		case said:
			refused = errors.Join(refused, fmt.Errorf("%s: %w", what, err))
		default:
			broken = fmt.Errorf("%s: %w", what, err)
		}
	}
	for _, name := range gone {
		if !ours(name) {
			do("user "+name, "ACL", "DELUSER", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.Users)) {
		if ours(name) {
			continue
		}
		args := []any{"SETUSER", name, "reset"}
		for rule := range strings.FieldsSeq(s.Users[name]) { // redis-server puts the words of a selector together again
			args = append(args, rule)
		}
		do("user "+name, "ACL", args...)
	}
	for _, name := range slices.Sorted(maps.Keys(s.Config)) {
		if slices.Contains(kept, name) {
			do(name, "CONFIG", "SET", name, s.Config[name])
		}
	}
	if broken == nil && refused != nil {
		return fmt.Errorf("%w: %w", ErrNotAll, refused)
	}
	return broken
}
