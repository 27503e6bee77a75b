package command

// ours are the commands of Understudy's own proxy. No server knows them.
var ours = []Info{
	{Name: "understudy", Arity: -1, Flags: Container | Loading | Stale | Fast},
	{Name: "understudy|help", Arity: 2, Flags: Loading | Stale | Fast},
	{Name: "understudy|policies", Arity: 2, Flags: Loading | Stale | Fast},
	{Name: "understudy|status", Arity: 2, Flags: Loading | Stale | Fast},
}
