package command

import "strings"

// refusedSettings are the settings that Understudy chooses for the servers of
// a group. A "*" at the end makes an entry a prefix.
var refusedSettings = []string{
	"appendonly", "appendfsync", "save", "dir", "dbfilename", // what survives a crash
	"replicaof", "slaveof", "masterauth", "masteruser", "repl-*", "replica-*", "slave-*",
	"min-replicas-*", "min-slaves-*", // the backstop fence
	"port", "tls-*", "bind", "bind-source-addr", "unixsocket", "unixsocketperm", "protected-mode", // where we reach it
	"requirepass", "timeout", // would lock us out, or end connections of ours that are idle
	"maxclients", "client-output-buffer-limit", // would cut the proxy or the replicas
	"proto-max-bulk-len", "client-query-buffer-limit", // less would cut the proxy, more is refused by it
	"cluster-*", "shutdown-*", "enable-debug-command", "enable-protected-configs",
}

// RefusedConfig reports whether a CONFIG SET touches a setting that is
// Understudy's and not among those allowed, by their names in lower case, and
// the name of the first such one.
func RefusedConfig(args [][]byte, allowed map[string]bool) (name string, refused bool) {
	if len(args) < 3 || !is(args[0], "config") || !is(args[1], "set") {
		return "", false
	}
	for i := 2; i < len(args); i += 2 {
		name := strings.ToLower(string(args[i]))
		for _, setting := range refusedSettings {
			prefix, isPrefix := strings.CutSuffix(setting, "*")
			if allowed[name] {
				break
			}
			if name == setting || isPrefix && strings.HasPrefix(name, prefix) {
				return name, true
			}
		}
	}
	return "", false
}
