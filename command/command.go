// Package command knows what the proxy must know about each command.
//
// For every command of a Redis server it says whether it writes, where its
// keys are, whether it may share a backend connection with other clients,
// whether it may block and for how long, and whether it may be sent a second
// time when the answer to the first was lost.
//
// What a server can tell is generated from a real one (table.go, go generate);
// what no server tells is decided by hand, one command at a time, in
// class.go, keys.go and idempotent.go.
package command

//go:generate go run ./gen -o table.go

import "strings"

// Info describes one command, or one subcommand such as "client|setname".
type Info struct {
	// Name is in lower case.
	Name string
	// Arity is the number of words with the name (and the subcommand's name);
	// negative: at least that many.
	Arity int
	// FirstKey, LastKey and Step say which words are keys, as in COMMAND:
	// LastKey counts from the end when it is negative; FirstKey is 0 when there
	// are none or they move. Use Keys.
	FirstKey, LastKey, Step int
	Flags                   Flags
	Class                   Class

	keys       keyFinder
	idempotent decision
}

// Flags are what COMMAND says about a command.
type Flags uint32

// The names are those of COMMAND without their underscores.
const (
	Write Flags = 1 << iota
	ReadOnly
	DenyOOM
	Admin
	PubSubFlag // pubsub; PubSub is the class
	NoScript
	BlockingFlag // blocking: may block; see Blocks. Blocking is the class
	Loading      // allowed while the server loads its data
	Stale        // allowed on a replica that lost its primary
	SkipMonitor
	SkipSlowlog
	Asking
	Fast
	NoAuth
	NoMandatoryKeys
	NoMulti
	AllowBusy
	NoAsyncLoading
	Movable   // the arguments say where the keys are
	Random    // the reply may differ from one server to the next (tip nondeterministic_output)
	Container // has subcommands
)

// Has reports whether all of want are set.
func (f Flags) Has(want Flags) bool { return f&want == want }

// maxName bounds the words that Lookup looks at; no command is longer.
const maxName = 32

// slots is a power of two, a few times the number of commands.
const slots = 2048

// index is an open-addressing hash table of all commands and subcommands. It
// is written once, when the program starts.
var index [slots]*Info

func init() {
	for _, table := range [][]Info{table, later, ours} {
		for k := range table {
			register(&table[k])
		}
	}
}

func register(i *Info) {
	i.Class = classify(i)
	i.keys = finders[i.Name]
	i.idempotent = decisions[i.Name]
	name, sub, isSub := strings.Cut(i.Name, "|")
	h := hash(offset, name)
	if isSub {
		h = hash(h*prime, sub)
	}
	for index[h%slots] != nil {
		if index[h%slots].Name == i.Name {
			return // a later server's command that the table has meanwhile
		}
		h++
	}
	index[h%slots] = i
}

// FNV-1a's numbers.
const (
	offset uint32 = 2166136261
	prime  uint32 = 16777619
)

// hash folds case by setting bit 5, which also folds a few other bytes: that
// only makes a collision, which the comparison of the names resolves.
func hash[T string | []byte](h uint32, word T) uint32 {
	for i := range len(word) {
		h = (h ^ uint32(word[i]|0x20)) * prime
	}
	return h ^ h>>15
}

// Lookup finds the Info of a command by its words, case-insensitively. For a
// container such as CLIENT it is that of the subcommand, or of the container
// when the subcommand is missing or unknown. It is nil for an unknown command.
// It does not allocate.
func Lookup(args [][]byte) *Info {
	if len(args) == 0 || len(args[0]) > maxName {
		return nil
	}
	name := args[0]
	h := hash(offset, name)
	for at := h; ; at++ {
		i := index[at%slots]
		if i == nil {
			return nil
		}
		if !equalFold(i.Name, name) {
			continue
		}
		if i.Flags&Container != 0 && len(args) > 1 {
			if sub := lookupSub(h, name, args[1]); sub != nil {
				return sub
			}
		}
		return i
	}
}

func lookupSub(h uint32, name, sub []byte) *Info {
	if len(sub) > maxName {
		return nil
	}
	for at := hash(h*prime, sub); ; at++ {
		i := index[at%slots]
		if i == nil {
			return nil
		}
		if n := len(name); len(i.Name) == n+1+len(sub) && i.Name[n] == '|' &&
			equalFold(i.Name[:n], name) && equalFold(i.Name[n+1:], sub) {
			return i
		}
	}
}

// equalFold compares a name in lower case with a word in any case.
func equalFold(lower string, word []byte) bool {
	if len(lower) != len(word) {
		return false
	}
	for i := range len(lower) {
		c := word[i]
		if c-'A' < 26 {
			c |= 0x20
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

// is compares a word with an option's name in lower case.
func is(word []byte, lower string) bool { return equalFold(lower, word) }

// fits reports whether the number of words is one that the server accepts.
func (i *Info) fits(args [][]byte) bool {
	return len(args) == i.Arity || i.Arity < 0 && len(args) >= -i.Arity
}

// Script reports whether the command runs a script that may write to any key:
// EVAL, EVALSHA and FCALL. Their _RO forms are plain reads.
func (i *Info) Script() bool {
	return i.Name == "eval" || i.Name == "evalsha" || i.Name == "fcall"
}

// RunsScript reports whether the command runs a script or a function, the _RO forms included: it may take
// any time.
func (i *Info) RunsScript() bool {
	switch i.Name {
	case "eval", "evalsha", "fcall", "eval_ro", "evalsha_ro", "fcall_ro":
		return true
	default:
		return false
	}
}

// CrossProtocol reports whether the words are the start of an HTTP request: a
// web page made a browser send them, with Redis commands of its author's in
// the body. redis-server closes the connection without a reply; nothing of what
// follows may be carried out.
func CrossProtocol(args [][]byte) bool {
	return len(args) > 0 && (is(args[0], "post") || is(args[0], "host:"))
}

// HTTP reports whether the words of an inline command are the first line of an
// HTTP request, or one that CrossProtocol knows.
func HTTP(args [][]byte) bool {
	return CrossProtocol(args) || len(args) == 3 && len(args[2]) > len("HTTP/") && is(args[2][:len("HTTP/")], "http/")
}
