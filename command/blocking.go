package command

import "time"

// Blocks reports whether the command with these arguments may hold up its
// connection. Inside MULTI and scripts nothing blocks.
func (i *Info) Blocks(args [][]byte) bool {
	if i.Class != Blocking {
		return false
	}
	if i.Name == "xread" || i.Name == "xreadgroup" {
		return readOptions(args).block > 0
	}
	return true
}

// Timeout finds the argument that says how long a blocking command waits:
// args[index] is a number of units (with decimals where unit is a second),
// and 0 there means for ever. ok is false when the command does not block.
func (i *Info) Timeout(args [][]byte) (index int, unit time.Duration, ok bool) {
	if i.Class != Blocking || !i.fits(args) {
		return 0, 0, false
	}
	switch i.Name {
	case "blpop", "brpop", "blmove", "brpoplpush", "bzpopmin", "bzpopmax":
		return len(args) - 1, time.Second, true
	case "blmpop", "bzmpop":
		return 1, time.Second, true
	case "wait", "waitaof":
		return len(args) - 1, time.Millisecond, true
	case "xread", "xreadgroup":
		index = readOptions(args).block
		return index, time.Millisecond, index > 0
	}
	return 0, 0, false
}

// readPlaces are indexes into the words of an XREAD or XREADGROUP, 0 for none.
type readPlaces struct {
	block   int // the milliseconds behind BLOCK
	streams int // the first stream
}

// readOptions reads the options of XREAD and XREADGROUP in the server's own
// way, so that a stream or a group named "block" is not taken for the option.
func readOptions(args [][]byte) (places readPlaces) {
	for i := 1; i < len(args); i++ {
		switch word := args[i]; {
		case is(word, "block") && i+1 < len(args):
			i++
			places.block = i
		case is(word, "count"):
			i++
		case is(word, "group"):
			i += 2
		case is(word, "noack"):
		case is(word, "streams"):
			if i+1 < len(args) {
				places.streams = i + 1
			}
			return places
		default:
			return places
		}
	}
	return places
}
