package proxy

import (
	"hash/maphash"
	"strings"

	"understudy/command"
)

// keySlots is the size of the tables that stand for the key space. Two keys in one slot cost an
// unneeded wait, never a wrong answer.
const keySlots = 1 << 14

// keyTable knows which keys have writes that are not safe yet, and which were written so recently
// that a replica may not have them.
type keyTable struct {
	seed    maphash.Seed
	pending []uint32 // by slot: writes sent and not yet safe
	wide    uint32   // such writes whose keys cannot be told
	total   uint32
	last    []uint64 // by slot: number of the newest write
	barrier uint64   // every key counts as written by this write
	seq     uint64   // number of the newest write

	// Writes are answered out of order when several connections carry them: below answered all are.
	answered uint64
	later    map[uint64]struct{}
}

func (k *keyTable) init(seed maphash.Seed) {
	k.seed = seed
	k.pending, k.last = make([]uint32, keySlots), make([]uint64, keySlots)
	k.later = map[uint64]struct{}{}
}

func (k *keyTable) slot(key []byte) uint32 {
	return uint32(maphash.Bytes(k.seed, key)) & (keySlots - 1)
}

// classify fills in what the proxy must know of a command: does it write, and which keys.
func (l *loop) classify(r *request, args [][]byte) {
	info := r.info
	if info == nil {
		r.write, r.wide = true, true // a module's, or a newer server's: assume the worst
		return
	}
	r.arity = info.Arity >= 0 && len(args) == info.Arity || info.Arity < 0 && len(args) >= -info.Arity
	r.script = info.RunsScript()
	if r.script || strings.HasPrefix(info.Name, "script|") {
		l.meetScript(r, args)
	}
	reads := info.Flags&command.ReadOnly != 0
	r.write = info.Flags&command.Write != 0 || info.Script() || info.Name == "publish" || info.Name == "spublish"
	if !reads && !r.write {
		return
	}
	r.idem = r.write && info.Idempotent(args)
	if len(l.opts.Once) > 0 {
		defer func() { l.once(r, args) }()
	}
	if info.FirstKey > 0 && info.FirstKey == info.LastKey && info.FirstKey < len(args) && info.Flags&command.Movable == 0 {
		r.few[0] = l.keys.slot(args[info.FirstKey])
		r.hashes = r.few[:1]
		return
	}
	hashes := r.few[:0]
	known := info.Keys(args, func(key []byte) { hashes = append(hashes, l.keys.slot(key)) })
	r.hashes = hashes
	r.wide = !known || len(hashes) == 0 && info.Flags&command.PubSubFlag == 0 || info.Script()
}

// mark counts a write that is being sent as not yet safe.
func (l *loop) mark(r *request) {
	k := &l.keys
	r.marked = true
	k.total++
	if r.wide {
		k.wide++
	}
	for _, h := range r.hashes {
		k.pending[h]++
	}
	if !r.block {
		k.number(r)
	}
}

// number makes a write the newest one of its keys. A blocking command is numbered when it is
// answered: until then, which may be never, it has written nothing.
func (k *keyTable) number(r *request) {
	k.seq++
	r.seq = k.seq
	if r.wide {
		k.barrier = k.seq
	}
	for _, h := range r.hashes {
		k.last[h] = k.seq
	}
}

// wrote notes that the server has answered a write.
func (k *keyTable) wrote(r *request) {
	if r.block && r.marked && r.seq == 0 {
		k.number(r)
	}
	k.settled(r.seq)
}

// settled notes that the server has answered, or never will: its effects lie below whatever the
// server's offset is from now on.
func (k *keyTable) settled(seq uint64) {
	if seq == 0 || seq <= k.answered {
		return
	}
	if seq != k.answered+1 {
		k.later[seq] = struct{}{}
		return
	}
	k.answered = seq
	for len(k.later) > 0 {
		if _, ok := k.later[k.answered+1]; !ok {
			return
		}
		k.answered++
		delete(k.later, k.answered)
	}
}

// unmark takes a write out of the tables of what is not safe: it is safe, or will be sent anew.
func (l *loop) unmark(r *request) {
	k := &l.keys
	k.settled(r.seq)
	if !r.marked {
		return
	}
	r.marked = false
	k.total--
	if r.wide {
		k.wide--
	}
	for _, h := range r.hashes {
		k.pending[h]--
	}
}

// dirty reports whether a reply may show a write that is not safe yet.
func (k *keyTable) dirty(r *request) bool {
	if k.total == 0 {
		return false
	}
	if k.wide > 0 || r.wide {
		return true
	}
	for _, h := range r.hashes {
		if k.pending[h] > 0 {
			return true
		}
	}
	return false
}

// newest is the number of the newest write that a read of these keys must see.
func (k *keyTable) newest(r *request) uint64 {
	if r.wide {
		return k.seq
	}
	n := k.barrier
	for _, h := range r.hashes {
		n = max(n, k.last[h])
	}
	return n
}

// raiseBarrier makes every key count as written now: after a change of primary no replica has
// proved anything yet.
func (k *keyTable) raiseBarrier() {
	k.seq++
	k.settled(k.seq)
	k.barrier = k.seq
}
