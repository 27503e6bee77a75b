package command

// later holds commands that servers newer than the one behind table.go have,
// by the documentation of Redis 7.2, 7.4 and 8.0 and of Valkey 8. An entry is
// ignored once the generated table has the command. Without one, Lookup gives
// nil for a command, or the container for a subcommand.
var later = []Info{
	// 7.2
	{Name: "client|setinfo", Arity: 4, Flags: NoScript | Loading | Stale},
	{Name: "client|no-touch", Arity: 3, Flags: NoScript | Loading | Stale},
	{Name: "cluster|myshardid", Arity: 2, Flags: Loading | Stale},
	{Name: "waitaof", Arity: 4, Flags: BlockingFlag},
	{Name: "zrank", Arity: -3, FirstKey: 1, LastKey: 1, Step: 1, Flags: ReadOnly | Fast},
	{Name: "zrevrank", Arity: -3, FirstKey: 1, LastKey: 1, Step: 1, Flags: ReadOnly | Fast},
	// 7.4
	{Name: "hexpire", Arity: -6, FirstKey: 1, LastKey: 1, Step: 1, Flags: Write | DenyOOM | Fast},
	{Name: "hpexpire", Arity: -6, FirstKey: 1, LastKey: 1, Step: 1, Flags: Write | DenyOOM | Fast},
	{Name: "hexpireat", Arity: -6, FirstKey: 1, LastKey: 1, Step: 1, Flags: Write | DenyOOM | Fast},
	{Name: "hpexpireat", Arity: -6, FirstKey: 1, LastKey: 1, Step: 1, Flags: Write | DenyOOM | Fast},
	{Name: "hpersist", Arity: -5, FirstKey: 1, LastKey: 1, Step: 1, Flags: Write | Fast},
	{Name: "httl", Arity: -5, FirstKey: 1, LastKey: 1, Step: 1, Flags: ReadOnly | Fast},
	{Name: "hpttl", Arity: -5, FirstKey: 1, LastKey: 1, Step: 1, Flags: ReadOnly | Fast},
	{Name: "hexpiretime", Arity: -5, FirstKey: 1, LastKey: 1, Step: 1, Flags: ReadOnly | Fast},
	{Name: "hpexpiretime", Arity: -5, FirstKey: 1, LastKey: 1, Step: 1, Flags: ReadOnly | Fast},
	// 8.0
	{Name: "hgetdel", Arity: -5, FirstKey: 1, LastKey: 1, Step: 1, Flags: Write | Fast},
	{Name: "hgetex", Arity: -5, FirstKey: 1, LastKey: 1, Step: 1, Flags: Write | Fast},
	{Name: "hsetex", Arity: -6, FirstKey: 1, LastKey: 1, Step: 1, Flags: Write | DenyOOM | Fast},
	// Valkey 8
	{Name: "client|capa", Arity: -3, Flags: NoScript | Loading | Stale},
	{Name: "client|import-source", Arity: 3, Flags: NoScript | Loading | Stale},
	{Name: "script|show", Arity: 3, Flags: NoScript},
}
