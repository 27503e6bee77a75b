package command

import (
	"bytes"
	"slices"
	"strconv"
)

// decision says for the words of a command, whose number fits, whether it is
// idempotent.
type decision func(args [][]byte) bool

// Idempotent reports whether executing the command a second time, right after
// the first, leaves the same data and gives the same reply, so that a proxy
// which sent it and lost the reply may send it again. What other clients do
// between the two executions is not looked at.
//
// Reads are idempotent. A write is only where the list below says so.
func (i *Info) Idempotent(args [][]byte) bool {
	if !i.fits(args) {
		return false
	}
	if i.idempotent != nil {
		return i.idempotent(args)
	}
	return i.Flags&ReadOnly != 0
}

// minTTLSeconds is the shortest time to live for which a command whose reply
// tells whether the key exists is repeated: it must outlive the longest time
// that a proxy holds a request, or the repetition finds the key expired and
// gives another reply than the execution that counted.
const minTTLSeconds = 60

func always([][]byte) bool { return true }
func never([][]byte) bool  { return false }

// decisions has every command that writes, and those without keys that may be
// repeated. A command that neither reads only nor stands here is not
// idempotent; a write that does not stand here fails a test.
var decisions = map[string]decision{
	// Overwrite with the same value and reply OK, whatever was there.
	"set": setTwice, "setex": always, "psetex": always, "mset": always, "hmset": always, "lset": always,
	"flushall": always, "flushdb": always,
	// The same bytes at the same place; the reply is the length after it.
	"setrange": always,
	// The reply is the old value or bit, which the first execution changed.
	"getset": never, "getdel": never, "setbit": never, "bitfield": never,
	// The second finds the key that the first made.
	"setnx": never, "msetnx": never, "hsetnx": never,
	// Each execution adds once more.
	"append": never, "incr": never, "incrby": never, "incrbyfloat": never, "decr": never, "decrby": never,
	"hincrby": never, "hincrbyfloat": never, "zincrby": never,
	"lpush": never, "lpushx": never, "rpush": never, "rpushx": never, "linsert": never, "xadd": never,
	// Each execution takes away once more.
	"lpop": never, "rpop": never, "lmpop": never, "spop": never, "zpopmin": never, "zpopmax": never, "zmpop": never,
	"blpop": never, "brpop": never, "blmpop": never, "bzpopmin": never, "bzpopmax": never, "bzmpop": never,
	"lmove": never, "blmove": never, "rpoplpush": never, "brpoplpush": never,
	// The data would be the same, but the reply counts what changed.
	"del": never, "unlink": never, "persist": never, "hset": never, "hdel": never,
	"sadd": never, "srem": never, "smove": never, "zadd": never, "zrem": never, "geoadd": never, "pfadd": never,
	"lrem": never, "zremrangebylex": never, "zremrangebyrank": never, "zremrangebyscore": never,
	"xdel": never, "xtrim": never, "xack": never,
	// Keeps a window: the same again where the window is tied to one end.
	"ltrim": trimTwice,
	// The source is gone after the first.
	"rename": never, "renamenx": never, "move": never, "migrate": never,
	// Undoes itself.
	"swapdb": never,
	// Times to live: set again from the second execution on, for the same reply.
	"expire": expireTwice(1), "pexpire": expireTwice(1000), "expireat": expireAtTwice, "pexpireat": expireAtTwice,
	"getex": getexTwice,
	// Computed from other keys into one that is not among them.
	"sdiffstore": storeTwice(1, 2), "sinterstore": storeTwice(1, 2), "sunionstore": storeTwice(1, 2),
	"zdiffstore": storeCountedTwice, "zinterstore": storeCountedTwice, "zunionstore": storeCountedTwice,
	"bitop": storeTwice(2, 3), "zrangestore": storePairTwice, "geosearchstore": storePairTwice,
	"georadius": geoTwice, "georadiusbymember": geoTwice, "sort": sortTwice,
	"copy": copyTwice, "restore": restoreTwice, "restore-asking": never,
	// A union with itself; the destination counts as a source and may.
	"pfmerge": always,
	// Unknown effects.
	"eval": never, "evalsha": never, "fcall": never, "pfdebug": never,
	// Streams: what a group delivers or who claims it depends on the last time;
	// CREATE and the consumers tell whether they were there. The two SETIDs
	// write a position and reply OK.
	"xreadgroup": never, "xclaim": never, "xautoclaim": never,
	"xgroup|create": never, "xgroup|destroy": never, "xgroup|createconsumer": never, "xgroup|delconsumer": never,
	"xgroup|setid": always, "xsetid": always,
	// Libraries: the second LOAD or RESTORE finds the first one's unless it may
	// replace, the second DELETE finds nothing.
	"function|flush": always, "function|load": functionLoadTwice, "function|restore": functionRestoreTwice,
	"function|delete": never,
	// Hash fields with times to live reply per field what happened to it.
	"hexpire": never, "hpexpire": never, "hexpireat": never, "hpexpireat": never, "hpersist": never,
	"hgetdel": never, "hgetex": never, "hsetex": never,

	// Not marked as reads by the server, but they only look.
	"ping": always, "echo": always, "time": always, "role": always, "info": always, "lastsave": always,
	"command": always, "command|count": always, "command|docs": always, "command|getkeys": always,
	"command|getkeysandflags": always, "command|info": always, "command|list": always,
	"config|get": always, "client|list": always,
	"acl|cat": always, "acl|dryrun": always, "acl|genpass": always, "acl|getuser": always, "acl|list": always,
	"acl|users": always, "acl|whoami": always,
	"function|list": always, "function|dump": always, "function|stats": always,
	"latency|doctor": always, "latency|graph": always, "latency|histogram": always, "latency|history": always,
	"latency|latest": always,
	"memory|doctor":  always, "memory|malloc-stats": always, "memory|stats": always, "module|list": always,
	"pubsub|channels": always, "pubsub|numpat": always, "pubsub|numsub": always, "pubsub|shardchannels": always,
	"pubsub|shardnumsub": always, "script|exists": always, "slowlog|get": always, "slowlog|len": always,
	// Settings and caches: set to the same again, reply OK (LOAD: the digest).
	"config|set": always, "config|resetstat": always, "config|rewrite": always, "script|load": always,
	"script|flush": always, "slowlog|reset": always, "memory|purge": always, "save": always,
}

// setTwice: NX and GET tell what was there before. XX finds the key as the
// first execution did, unless it has expired meanwhile.
func setTwice(args [][]byte) bool {
	xx, short := false, false
	for i := 3; i < len(args); i++ {
		switch word := args[i]; {
		case is(word, "xx"):
			xx = true
		case is(word, "keepttl"):
		case (is(word, "ex") || is(word, "px")) && i+1 < len(args):
			scale := int64(1)
			if is(word, "px") {
				scale = 1000
			}
			i++
			short = !atLeast(args[i], minTTLSeconds*scale)
		case (is(word, "exat") || is(word, "pxat")) && i+1 < len(args):
			i++
			short = true // for all that can be told without a clock
		default: // NX, GET, and what later servers add
			return false
		}
	}
	return !xx || !short
}

// trimTwice: LTRIM k 0 n and LTRIM k -n -1 keep the same elements again; any
// other window moves on.
func trimTwice(args [][]byte) bool {
	start, err1 := strconv.ParseInt(string(args[2]), 10, 64)
	stop, err2 := strconv.ParseInt(string(args[3]), 10, 64)
	if err1 != nil || err2 != nil {
		return false
	}
	return start == 0 && stop >= -1 || start < 0 && stop == -1
}

// expireTwice: a time to live that is not positive deletes the key, and NX,
// XX, GT and LT compare with what the first execution set.
func expireTwice(scale int64) decision {
	return func(args [][]byte) bool { return len(args) == 3 && atLeast(args[2], minTTLSeconds*scale) }
}

// expireAtTwice cannot see whether the time has come, which would make the
// second reply 0; it refuses the times that are only used to delete.
func expireAtTwice(args [][]byte) bool { return len(args) == 3 && atLeast(args[2], 2) }

// getexTwice: the value is the same both times, as long as the key lives on.
func getexTwice(args [][]byte) bool {
	switch len(args) {
	case 2:
		return true
	case 3:
		return is(args[2], "persist")
	case 4:
		return is(args[2], "ex") && atLeast(args[3], minTTLSeconds) ||
			is(args[2], "px") && atLeast(args[3], minTTLSeconds*1000)
	}
	return false
}

// storeTwice: the destination is the word at index store, all words from the
// index sources on are read.
func storeTwice(store, sources int) decision {
	return func(args [][]byte) bool { return !has(args[sources:], args[store]) }
}

// storePairTwice: destination, source, options.
func storePairTwice(args [][]byte) bool { return !bytes.Equal(args[1], args[2]) }

// storeCountedTwice: destination, number of sources, sources, options.
func storeCountedTwice(args [][]byte) bool {
	n, err := strconv.Atoi(string(args[2]))
	if err != nil || n < 1 || n > len(args)-3 {
		return false
	}
	return !has(args[3:3+n], args[1])
}

// geoTwice: without STORE it only reads.
func geoTwice(args [][]byte) bool {
	apart := true
	geoStores(args, func(store []byte) { apart = apart && !bytes.Equal(store, args[1]) })
	return apart
}

// sortTwice: patterns may name the destination itself.
func sortTwice(args [][]byte) bool {
	plan := readSort(args)
	return plan.ok && (plan.store == nil || !plan.patterns && !bytes.Equal(plan.store, args[1]))
}

// copyTwice: without REPLACE the second execution finds the copy.
func copyTwice(args [][]byte) bool {
	return !bytes.Equal(args[1], args[2]) && hasOption(args[3:], "replace")
}

func restoreTwice(args [][]byte) bool { return hasOption(args[4:], "replace") }

func functionLoadTwice(args [][]byte) bool { return len(args) == 4 && is(args[2], "replace") }

func functionRestoreTwice(args [][]byte) bool {
	return len(args) == 4 && (is(args[3], "replace") || is(args[3], "flush"))
}

func has(words [][]byte, word []byte) bool {
	return slices.ContainsFunc(words, func(w []byte) bool { return bytes.Equal(w, word) })
}

func hasOption(words [][]byte, lower string) bool {
	return slices.ContainsFunc(words, func(w []byte) bool { return is(w, lower) })
}

func atLeast(number []byte, least int64) bool {
	n, err := strconv.ParseInt(string(number), 10, 64)
	return err == nil && n >= least
}
