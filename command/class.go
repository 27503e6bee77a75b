package command

import "fmt"

// Class says how a proxy has to carry a command.
type Class uint8

const (
	// Shared commands leave nothing behind on the connection and may travel on
	// one that many clients share.
	Shared Class = iota
	// Session commands change the state of the client's connection; the proxy
	// keeps that state and restores it.
	Session
	// Blocking commands hold their connection up when Blocks says so; they are
	// Shared when it does not (ClassOf).
	Blocking
	// PubSub commands turn the connection into a subscriber.
	PubSub
	// Transaction commands need one backend connection from WATCH or MULTI on.
	Transaction
	// Dedicated commands need a backend connection that serves this client only
	// from then on, for what they set there or because they must not wait
	// behind another client's command.
	Dedicated
	// Refused commands would pull the group out of Understudy's hands.
	Refused
)

func (c Class) String() string {
	switch c {
	case Shared:
		return "shared"
	case Session:
		return "session"
	case Blocking:
		return "blocking"
	case PubSub:
		return "pubsub"
	case Transaction:
		return "transaction"
	case Dedicated:
		return "dedicated"
	case Refused:
		return "refused"
	}
	return fmt.Sprintf("Class(%d)", uint8(c))
}

// ClassOf is Class, with Shared for a Blocking command whose arguments do not
// let it block.
func (i *Info) ClassOf(args [][]byte) Class {
	if i.Class == Blocking && !i.Blocks(args) {
		return Shared
	}
	return i.Class
}

func classify(i *Info) Class { return classes[i.Name] }

// classes names every command that is not Shared, with the reason where the
// class alone does not give it.
var classes = map[string]Class{
	"auth": Session, "hello": Session, "select": Session, "reset": Session, "quit": Session,
	"client|setname": Session, "client|getname": Session, "client|setinfo": Session,
	// The number by which the client knows itself has to outlive a failover.
	"client|id": Session,
	// They are about the clients of the proxy, of which no server knows.
	"client|info": Session, "client|list": Session, "client|kill": Session, "client|unblock": Session,
	// Which replies the client wants; the proxy needs them all.
	"client|reply": Session,

	// Answered by the proxy itself.
	"understudy": Session, "understudy|help": Session, "understudy|policies": Session, "understudy|status": Session,

	"blpop": Blocking, "brpop": Blocking, "blmove": Blocking, "blmpop": Blocking, "brpoplpush": Blocking,
	"bzpopmin": Blocking, "bzpopmax": Blocking, "bzmpop": Blocking,
	"xread": Blocking, "xreadgroup": Blocking, "wait": Blocking, "waitaof": Blocking,

	"subscribe": PubSub, "unsubscribe": PubSub, "psubscribe": PubSub, "punsubscribe": PubSub,
	"ssubscribe": PubSub, "sunsubscribe": PubSub,

	"multi": Transaction, "exec": Transaction, "discard": Transaction, "watch": Transaction, "unwatch": Transaction,

	"monitor": Dedicated, "script|debug": Dedicated,
	"client|tracking": Dedicated, "client|caching": Dedicated,
	"client|no-evict": Dedicated, "client|no-touch": Dedicated, "client|capa": Dedicated,
	"client|import-source": Dedicated,
	// These tell about the connection itself, so it must be the client's own.
	"client|trackinginfo": Dedicated, "client|getredir": Dedicated,
	// A subcommand that we do not know may set anything on the connection.
	"client": Dedicated,
	// The server reads them while a script runs, but not when they stand behind
	// that script on the same connection.
	"script|kill": Dedicated, "function|kill": Dedicated,

	"replicaof": Refused, "slaveof": Refused, "failover": Refused, "debug": Refused, "shutdown": Refused,
	"sync": Refused, "psync": Refused, "replconf": Refused,
	// A pause is part of a switchover: ending it early would let writes in that
	// the new primary never sees.
	"client|pause": Refused, "client|unpause": Refused,
	// It deletes the users that are not in a file: agents and proxies are among them.
	"acl|load": Refused,
	// A module on one node of the group breaks the replication to the others.
	"module|load": Refused, "module|loadex": Refused, "module|unload": Refused,
	// CLUSTER, except what only looks.
	"cluster": Refused, "cluster|addslots": Refused, "cluster|addslotsrange": Refused, "cluster|bumpepoch": Refused,
	"cluster|delslots": Refused, "cluster|delslotsrange": Refused, "cluster|failover": Refused,
	"cluster|flushslots": Refused, "cluster|forget": Refused, "cluster|meet": Refused, "cluster|replicate": Refused,
	"cluster|reset": Refused, "cluster|saveconfig": Refused, "cluster|set-config-epoch": Refused,
	"cluster|setslot": Refused,
}
