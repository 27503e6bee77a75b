package monitor

import (
	"maps"
	"slices"
	"time"

	"understudy/cluster"
	"understudy/command"
	"understudy/metric"
)

// node are a node's metrics of one look: ours each second, AWS's at the end of a minute.
func (c *Collector) node(w *watch) []metric.Datum {
	l := w.current
	a := l.answer
	if l.silent {
		c.metrics.unanswered.Inc()
	}
	if a == nil {
		if l.full { // what grows from here on is of more than a minute
			w.base, w.slow, w.lags = nil, nil, nil
		}
		return nil
	}
	if !a.same(w.last) {
		w.base, w.slow, w.lags = nil, nil, nil
	}
	w.last = a
	data := ours(l)
	if !a.primary() && a.linked() {
		w.lags = append(w.lags, l.node.LagMs/1000)
	}
	if l.first {
		w.fresh = false
	}
	if !l.full {
		if l.first {
			w.direct.since(l, nil)
			w.base, w.slow = a, l.slow
		}
		return data
	}
	p := points{group: l.group, node: l.node, at: minuteEnd(l.at).Add(-time.Minute)}
	p.state(w)
	p.host(c.host)
	c.newConnections(&p, w)
	if w.base != nil {
		w.current.hits, w.current.misses = p.growth(a, w.base)
		p.families(a, w.base)
		p.latency(w)
	}
	w.base, w.slow, w.lags = a, l.slow, nil
	return append(data, p.data...)
}

// newConnections are those that have come past the proxy and, at a primary, those that have come to the proxy: these
// are known while the primary changes, too. If there was no primary at the end of a minute the next minute has them.
func (c *Collector) newConnections(p *points, w *watch) {
	l, was := w.current, c.groups[w.current.group]
	n, ok := w.direct.since(l, w.base)
	if l.proxied && was != nil {
		n += max(0, l.accepted-was.accepted)
		was.accepted = l.accepted
	}
	if ok || l.proxied {
		p.put(newConnections, n)
	}
}

// ours are the Understudy metrics of a node.
func ours(l look) []metric.Datum {
	if l.answer.primary() {
		return nil
	}
	up := l.answer.linked()
	data := []metric.Datum{l.datum(linkUp, truth(up))}
	if up { // else the lag is not known, and LinkUp tells
		data = append(data, l.datum(nodeLag, lag(l.node)))
	}
	return data
}

// datum is one of this second.
func (l look) datum(f figure, v float64) metric.Datum {
	id := metric.New(metric.Understudy, table[f].name, metric.Group, l.group, metric.Node, string(l.node.ID))
	return metric.Datum{ID: id, At: l.at, Unit: table[f].unit, Values: []float64{v}, High: true}
}

// points are AWS's metrics of a node for the minute that began at at, each under both sets of dimensions.
type points struct {
	group string
	node  cluster.StatusNode
	at    time.Time
	data  []metric.Datum
}

func (p *points) put(f figure, values ...float64) { p.named(f, table[f].name, values, nil) }

// named is put for values with counts, and for a figure that has several names. The nodes of a group publish into one
// metric of the group, too: an alarm on it goes on when the roles swap, and sees nodes that did not exist when it was
// made.
func (p *points) named(f figure, name string, values, counts []float64) {
	row := table[f]
	ids := []metric.ID{
		metric.New(metric.ElastiCache, name, metric.Node, string(p.node.ID)),
		metric.New(metric.ElastiCache, name, metric.Node, string(p.node.ID), metric.Part, "0001"),
	}
	if row.scope == ofNodes {
		ids = append(ids, f.id(p.group))
	}
	for _, id := range ids {
		p.data = append(p.data, metric.Datum{ID: id, At: p.at, Unit: row.unit, Values: values, Counts: counts})
	}
}

// state are what can be read off.
func (p *points) state(w *watch) {
	a := w.current.answer
	field := func(f figure, from string) {
		if v, ok := a.number(from); ok {
			p.put(f, v)
		}
	}
	used, _ := a.number("used_memory")
	if most, _ := a.number("maxmemory"); most > 0 {
		p.put(memoryUsage, 100*used/most)
	}
	field(memoryUsed, "used_memory")
	field(fragmentation, "mem_fragmentation_ratio")
	field(saving, "rdb_bgsave_in_progress")
	if w.current.counted {
		p.put(currConnections, w.current.clients)
	}
	p.put(currItems, a.keyspace("keys"))
	p.put(volatileItems, a.keyspace("expires"))
	if ttl, ok := a.database("db0", "avg_ttl"); ok {
		p.put(averageTTL, ttl)
	}
	p.put(isMaster, truth(a.primary()))
	if !a.primary() {
		p.put(linkHealth, truth(a.linked()))
		if len(w.lags) > 0 {
			p.put(lagSeconds, w.lags...)
		}
	}
}

func (p *points) host(h host) {
	if h.hasCPU {
		p.put(hostCPU, h.cpu)
	}
	if h.mem {
		p.put(freeableMemory, h.free)
		p.put(swapUsage, h.swap)
	}
}

// grown are the counters whose growth in a minute is a metric.
var grown = []struct {
	figure
	field string
}{
	{cacheHits, "keyspace_hits"}, {cacheMisses, "keyspace_misses"},
	{evictions, "evicted_keys"}, {reclaimed, "expired_keys"},
	{bytesIn, "total_net_input_bytes"}, {bytesOut, "total_net_output_bytes"},
	{errorReplies, "total_error_replies"}, {failedLogins, deniedLogins},
}

// growth is of the minute. A counter that went back has no point.
func (p *points) growth(a, base *answer) (hits, misses float64) {
	for _, g := range grown {
		if v, ok := a.delta(base, g.field); ok {
			p.put(g.figure, v)
		}
	}
	hits, ok1 := a.delta(base, "keyspace_hits")
	misses, ok2 := a.delta(base, "keyspace_misses")
	if !ok1 || !ok2 {
		hits, misses = 0, 0
	} else if hits+misses > 0 {
		p.put(hitRate, 100*hits/(hits+misses))
	}
	if a.primary() {
		if v, ok := a.delta(base, "master_repl_offset"); ok {
			p.put(replicationBytes, v)
		}
	}
	system, ok1 := a.delta(base, "used_cpu_sys_main_thread")
	user, ok2 := a.delta(base, "used_cpu_user_main_thread")
	if took := a.at.Sub(base.at).Seconds(); ok1 && ok2 && took > 0 {
		p.put(engineCPU, min(100, 100*(system+user)/took))
	}
	return hits, misses
}

// families are the commands that AWS counts together:
// https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/CacheMetrics.Redis.html
var families = map[string][]string{
	"ClusterBased": {"cluster", "readonly", "readwrite", "asking"},
	"EvalBased":    {"eval", "evalsha", "eval_ro", "evalsha_ro", "fcall", "fcall_ro"},
	"GeoSpatialBased": {"geoadd", "geodist", "geohash", "geopos", "georadius", "georadius_ro", "georadiusbymember", "georadiusbymember_ro",
		"geosearch", "geosearchstore"},
	"HashBased": {"hdel", "hexists", "hget", "hgetall", "hincrby", "hincrbyfloat", "hkeys", "hlen", "hmget", "hmset", "hrandfield", "hscan", "hset",
		"hsetnx", "hstrlen", "hvals"},
	"HyperLogLogBased": {"pfadd", "pfcount", "pfmerge"},
	"KeyBased": {"copy", "del", "dump", "exists", "expire", "expireat", "expiretime", "keys", "move", "object", "persist", "pexpire", "pexpireat",
		"pexpiretime", "pttl", "randomkey", "rename", "renamenx", "restore", "scan", "sort", "sort_ro", "touch", "ttl", "type", "unlink"},
	"ListBased": {"blmove", "blmpop", "blpop", "brpop", "brpoplpush", "lindex", "linsert", "llen", "lmove", "lmpop", "lpop", "lpos", "lpush", "lpushx",
		"lrange", "lrem", "lset", "ltrim", "rpop", "rpoplpush", "rpush", "rpushx"},
	"PubSubBased": {"psubscribe", "publish", "pubsub", "punsubscribe", "spublish", "ssubscribe", "subscribe", "sunsubscribe", "unsubscribe"},
	"SetBased": {"sadd", "scard", "sdiff", "sdiffstore", "sinter", "sintercard", "sinterstore", "sismember", "smembers", "smismember", "smove", "spop",
		"srandmember", "srem", "sscan", "sunion", "sunionstore"},
	"SortedSetBased": {"bzmpop", "bzpopmax", "bzpopmin", "zadd", "zcard", "zcount", "zdiff", "zdiffstore", "zincrby", "zinter", "zintercard", "zinterstore",
		"zlexcount", "zmpop", "zmscore", "zpopmax", "zpopmin", "zrandmember", "zrange", "zrangebylex", "zrangebyscore", "zrangestore", "zrank", "zrem",
		"zremrangebylex", "zremrangebyrank", "zremrangebyscore", "zrevrange", "zrevrangebylex", "zrevrangebyscore", "zrevrank", "zscan", "zscore",
		"zunion", "zunionstore"},
	"StreamBased": {"xack", "xadd", "xautoclaim", "xclaim", "xdel", "xgroup", "xinfo", "xlen", "xpending", "xrange", "xread", "xreadgroup", "xrevrange",
		"xsetid", "xtrim"},
	"StringBased": {"append", "bitcount", "bitfield", "bitfield_ro", "bitop", "bitpos", "decr", "decrby", "get", "getbit", "getdel", "getex", "getrange",
		"getset", "incr", "incrby", "incrbyfloat", "lcs", "mget", "mset", "msetnx", "psetex", "set", "setbit", "setex", "setnx", "setrange", "strlen",
		"substr"},
}

// The families of all commands that read, and of all that write.
const (
	readCommands  = "GetType"
	writeCommands = "SetType"
)

// root is the command of a subcommand, as in xgroup|create.
func root(name string) string {
	for i := range name {
		if name[i] == '|' {
			return name[:i]
		}
	}
	return name
}

// kind reports whether a command reads or writes the data set.
func kind(name string) (reads, writes bool) {
	if i := command.Lookup([][]byte{[]byte(root(name))}); i != nil {
		return i.Flags.Has(command.ReadOnly), i.Flags.Has(command.Write)
	}
	return false, false
}

// families are the commands' counts, and how long one took on average.
func (p *points) families(a, base *answer) {
	of := map[string]calls{}
	add := func(family string, c calls) { of[family] = calls{of[family].calls + c.calls, of[family].usec + c.usec} }
	for name, now := range a.commands {
		was := base.commands[name]
		d := calls{now.calls - was.calls, now.usec - was.usec}
		if d.calls < 0 || d.usec < 0 {
			return // CONFIG RESETSTAT
		}
		for family, commands := range families {
			if slices.Contains(commands, root(name)) {
				add(family, d)
			}
		}
		switch reads, writes := kind(name); {
		case reads:
			add(readCommands, d)
		case writes:
			add(writeCommands, d)
		}
	}
	for _, family := range slices.Sorted(maps.Keys(of)) {
		c := of[family]
		p.named(commandCount, commandCount.of(family), []float64{c.calls}, nil)
		if c.calls > 0 {
			p.named(commandLatency, commandLatency.of(family), []float64{c.usec / c.calls}, nil)
		}
	}
}

// latency are how long reads and writes took: the server's buckets, of a factor of two, so that there are percentiles.
func (p *points) latency(w *watch) {
	if w.slow == nil || w.current.slow == nil {
		return
	}
	for f, counts := range map[figure]func(string) bool{
		readLatency:  func(c string) bool { reads, _ := kind(c); return reads },
		writeLatency: func(c string) bool { _, writes := kind(c); return writes },
	} {
		buckets, ok := w.current.slow.since(w.slow, counts)
		if !ok || len(buckets) == 0 {
			continue
		}
		values := slices.Sorted(maps.Keys(buckets))
		n := make([]float64, len(values))
		for i, v := range values {
			n[i] = buckets[v]
		}
		p.named(f, table[f].name, values, n)
	}
}
