package command

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// Whatever the server has, with as few words as it takes and with some more: its keys are those that the
// server finds. What moves has examples of its own.
func TestKeysOfEveryCommandAreThoseOfTheServer(t *testing.T) {
	server := startServer(t)
	commands, err := server.Commands()
	if err != nil {
		t.Fatal(err)
	}
	compared := 0
	for _, c := range commands {
		name := strings.Split(c.Name, "|")
		i := Lookup(line(strings.Join(name, " ")))
		if i == nil || i.Name != c.Name {
			t.Errorf("%s is not in the table", c.Name)
			continue
		}
		if i.Flags&(Movable|Container) != 0 {
			continue
		}
		sizes := []int{i.Arity}
		if i.Arity < 0 {
			sizes = []int{-i.Arity, -i.Arity + 2, -i.Arity + 6}
		}
		for _, size := range sizes {
			// One word is no question to COMMAND GETKEYS; of a PFMERGE without sources it does not find the key.
			if size == 1 || c.Name == "pfmerge" && size == 2 {
				continue
			}
			words := slices.Clone(name)
			for k := len(words); k < size; k++ {
				words = append(words, fmt.Sprint("w", k))
			}
			var got []string
			i.Keys(line(strings.Join(words, " ")), func(key []byte) { got = append(got, string(key)) })
			reply, err := server.Ask(append([]string{"COMMAND", "GETKEYS"}, words...)...)
			var want []string
			switch {
			case i.Flags&PubSubFlag != 0: // COMMAND gives shard channels as keys; they are none
			case err == nil:
				list, _ := reply.([]any)
				for _, key := range list {
					want = append(want, key.(string))
				}
				compared++
			case err.Error() != "ERR The command has no key arguments" && err.Error() != "ERR Invalid arguments specified for command":
				t.Errorf("COMMAND GETKEYS %s: %v", words, err)
				continue
			}
			slices.Sort(got)
			slices.Sort(want)
			if !slices.Equal(got, want) {
				t.Errorf("Keys of %s are %q, the server says %q", words, got, want)
			}
		}
	}
	if compared < 150 {
		t.Errorf("only %d commands with keys were compared", compared)
	}
}

// Each command of the server is carried in a way that somebody has chosen: what changes or holds up the
// connection, or the server for all, is not Shared by oversight.
func TestEveryCommandHasAClass(t *testing.T) {
	server := startServer(t)
	commands, err := server.Commands()
	if err != nil {
		t.Fatal(err)
	}
	count := map[Class]int{}
	for _, c := range commands {
		i := Lookup(line(strings.ReplaceAll(c.Name, "|", " ")))
		if i == nil || i.Name != c.Name {
			t.Errorf("%s is not in the table", c.Name)
			continue
		}
		count[i.Class]++
		subscription := slices.Contains(c.Flags, "pubsub") && strings.HasSuffix(c.Name, "subscribe")
		switch {
		case slices.Contains(c.Flags, "blocking") && i.Class != Blocking:
			t.Errorf("%s blocks, and is %s", c.Name, i.Class)
		case subscription != (i.Class == PubSub):
			t.Errorf("%s is %s", c.Name, i.Class)
		case slices.Contains(c.Flags, "no_multi") && i.Class == Shared && !slices.Contains(sharedOutsideMulti, c.Name):
			t.Errorf("%s is not allowed between MULTI and EXEC, and is shared", c.Name)
		case slices.Contains(c.Flags, "admin") && i.Class == Shared && !slices.Contains(sharedAdmin, i.Name):
			t.Errorf("%s is an administrator's, and nobody has said that it may be shared", c.Name)
		}
	}
	t.Logf("classes of %d commands: %v", len(commands), count)
}

// sharedOutsideMulti may not be queued and leave nothing on the connection all the same.
var sharedOutsideMulti = []string{"save"}

// sharedAdmin are commands of an administrator that leave nothing on the connection and do not take the group
// away. Those of ACL that touch the proxy's own users, and settings of CONFIG that are the group's, are refused
// by their words.
var sharedAdmin = []string{
	"acl|deluser", "acl|dryrun", "acl|getuser", "acl|list", "acl|load", "acl|log", "acl|save", "acl|setuser", "acl|users",
	"bgrewriteaof", "bgsave", "client|kill", "client|list", "client|unblock",
	"cluster|count-failure-reports", "cluster|replicas", "cluster|slaves", "config|get", "config|resetstat", "config|rewrite",
	"config|set", "latency|doctor", "latency|graph", "latency|histogram", "latency|history", "latency|latest", "latency|reset",
	"module|list", "pfdebug", "pfselftest", "save", "slowlog|get", "slowlog|len", "slowlog|reset",
}
