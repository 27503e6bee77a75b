package command

import "strconv"

// keyFinder calls each with every key among the words of a command, whose
// number fits. It reports whether these are all the keys that it can touch.
type keyFinder func(args [][]byte, each func(key []byte)) (known bool)

// Keys calls each with every key that the command reads or writes. known is
// false when there may be others, so that a caller who must not miss one has
// to assume any: the command works on the whole database (FLUSHALL, KEYS), on
// another one (MOVE), on keys named by data (SORT … BY), or its arguments
// cannot be understood. What a script touches beyond the keys that it declares
// is not counted: ask Script.
func (i *Info) Keys(args [][]byte, each func(key []byte)) (known bool) {
	if !i.fits(args) {
		return false
	}
	if i.keys != nil {
		return i.keys(args, each)
	}
	if i.Flags&PubSubFlag != 0 {
		return true // COMMAND gives shard channels as keys; they are none
	}
	if i.FirstKey == 0 {
		return i.Flags&(Write|ReadOnly|Movable) == 0
	}
	last := i.LastKey
	if last < 0 {
		last += len(args)
	}
	if last >= len(args) {
		return false
	}
	for k := i.FirstKey; k <= last; k += i.Step {
		each(args[k])
	}
	return true
}

// finders holds the commands whose keys the table's three numbers do not give.
var finders = map[string]keyFinder{
	"eval": counted(2), "eval_ro": counted(2), "evalsha": counted(2), "evalsha_ro": counted(2),
	"fcall": counted(2), "fcall_ro": counted(2),
	"zunion": counted(1), "zinter": counted(1), "zdiff": counted(1),
	"zintercard": counted(1), "sintercard": counted(1), "lmpop": counted(1), "zmpop": counted(1),
	"blmpop": counted(2), "bzmpop": counted(2),
	"zunionstore": counted(2, 1), "zinterstore": counted(2, 1), "zdiffstore": counted(2, 1),
	"xread": streamKeys, "xreadgroup": streamKeys,
	"sort": sortKeys, "sort_ro": sortKeys,
	"georadius": geoKeys, "georadiusbymember": geoKeys,
	"migrate": migrateKeys,
	"copy":    copyKeys,
	"move":    moveKeys,
	// They write, but not to keys.
	"function|delete": noKeys, "function|flush": noKeys, "function|load": noKeys, "function|restore": noKeys,
	"lolwut": noKeys,
}

// counted finds keys behind their number, which is the word at index at; the
// words at the indexes before are keys too.
func counted(at int, before ...int) keyFinder {
	return func(args [][]byte, each func(key []byte)) bool {
		n, err := strconv.Atoi(string(args[at]))
		if err != nil || n < 0 || n > len(args)-at-1 {
			return false
		}
		for _, k := range before {
			each(args[k])
		}
		for _, key := range args[at+1 : at+1+n] {
			each(key)
		}
		return true
	}
}

// streamKeys: the first half of what follows STREAMS.
func streamKeys(args [][]byte, each func(key []byte)) bool {
	first := readOptions(args).streams
	if first == 0 || (len(args)-first)%2 != 0 {
		return false
	}
	for _, key := range args[first : first+(len(args)-first)/2] {
		each(key)
	}
	return true
}

// sortPlan is what the options of a SORT say.
type sortPlan struct {
	store    []byte // the key behind STORE, nil without
	patterns bool   // BY or GET name further keys by the elements
	ok       bool
}

func readSort(args [][]byte) (plan sortPlan) {
	for i := 2; i < len(args); i++ {
		left := len(args) - i - 1
		switch word := args[i]; {
		case is(word, "asc"), is(word, "desc"), is(word, "alpha"):
		case is(word, "limit") && left >= 2:
			i += 2
		case is(word, "store") && left >= 1:
			i++
			plan.store = args[i]
		case is(word, "by") && left >= 1:
			i++
			plan.patterns = plan.patterns || contains(args[i], '*')
		case is(word, "get") && left >= 1:
			i++
			plan.patterns = plan.patterns || string(args[i]) != "#"
		default:
			return plan
		}
	}
	plan.ok = true
	return plan
}

func sortKeys(args [][]byte, each func(key []byte)) bool {
	plan := readSort(args)
	each(args[1])
	if plan.store != nil {
		each(plan.store)
	}
	return plan.ok && !plan.patterns
}

// geoStores calls each with every key behind STORE or STOREDIST in a GEORADIUS
// or GEORADIUSBYMEMBER. The server takes these words as options wherever they
// stand behind the fixed arguments, and writes to the last one.
func geoStores(args [][]byte, each func(key []byte)) {
	first := 5
	if is(args[0], "georadius") {
		first = 6
	}
	for i := first; i+1 < len(args); i++ {
		if is(args[i], "store") || is(args[i], "storedist") {
			i++
			each(args[i])
		}
	}
}

func geoKeys(args [][]byte, each func(key []byte)) bool {
	each(args[1])
	geoStores(args, each)
	return true
}

// migrateKeys: the third argument, or, when that is empty, all behind KEYS,
// which is not looked for in a password.
func migrateKeys(args [][]byte, each func(key []byte)) bool {
	keys := args[3:4]
	for i := 6; i < len(args) && len(args[3]) == 0; i++ {
		if is(args[i], "auth") {
			i++
		} else if is(args[i], "auth2") {
			i += 2
		} else if is(args[i], "keys") {
			keys = args[i+1:]
			break
		}
	}
	for _, key := range keys {
		each(key)
	}
	return true
}

// copyKeys: with DB the second key is one of another database.
func copyKeys(args [][]byte, each func(key []byte)) bool {
	each(args[1])
	each(args[2])
	for _, option := range args[3:] {
		if !is(option, "replace") {
			return false
		}
	}
	return true
}

func moveKeys(args [][]byte, each func(key []byte)) bool {
	each(args[1])
	return false
}

func noKeys([][]byte, func(key []byte)) bool { return true }

func contains(word []byte, c byte) bool {
	for _, b := range word {
		if b == c {
			return true
		}
	}
	return false
}
