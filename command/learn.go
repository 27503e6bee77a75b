package command

// Described is what a server's COMMAND INFO says of a command. Flags are its words.
type Described struct {
	Name                    string
	Arity                   int
	Flags                   []string
	FirstKey, LastKey, Step int
	Container               bool // has subcommands
}

// flagWords are the words of COMMAND that decide how a proxy carries a command.
var flagWords = map[string]Flags{
	"write": Write, "readonly": ReadOnly, "denyoom": DenyOOM, "admin": Admin, "pubsub": PubSubFlag, "noscript": NoScript,
	"blocking": BlockingFlag, "loading": Loading, "stale": Stale, "fast": Fast, "no_multi": NoMulti, "movablekeys": Movable,
}

// Learn makes an Info of what a server says of a command that the table does not have: a module's, or a
// newer server's. What the server does not tell is taken at its worst. A command that neither reads nor
// writes by its flags, or has subcommands, counts as a write of every key; one that blocks has a connection
// of its own, without a timeout that is known; one about subscriptions is Dedicated. Nothing that is learned
// is idempotent but reads.
func Learn(d Described) *Info {
	i := &Info{Name: d.Name, Arity: d.Arity, FirstKey: d.FirstKey, LastKey: d.LastKey, Step: max(d.Step, 1)}
	for _, word := range d.Flags {
		i.Flags |= flagWords[word]
	}
	if i.Flags&(ReadOnly|Write) == 0 || d.Container {
		i.Flags = i.Flags&^ReadOnly | Write
		i.FirstKey = 0
	}
	if i.Flags&Movable != 0 {
		i.FirstKey = 0 // the three numbers are not all
	}
	switch {
	case i.Flags&BlockingFlag != 0:
		i.Class = Blocking
	case i.Flags&PubSubFlag != 0:
		i.Class = Dedicated
	}
	return i
}
