package proxy

import (
	"bytes"
	"crypto/rand"
	"strconv"
	"time"

	"understudy/command"
	"understudy/resp"
)

// A write that must not run twice can be given a marker: a key of its own, written by the same script. The
// script looks for the marker first, and if it is there gives the reply that it keeps instead of running the
// command again. So the request may be sent as often as needed, to whichever primary has the log: the
// marker is in that log exactly if the write is. This is for keys with a prefix of Options.Once only: it
// costs a script for each write, and markers in the data.
//
// The marker comes before the write, so that what refuses writes (-OOM, -READONLY, -NOREPLICAS) refuses
// both.
const onceScript = `local kept = redis.call('GET', KEYS[1])
if kept then
  return cmsgpack.unpack(kept)
end
redis.call('SET', KEYS[1], '', 'PX', ARGV[1])
local reply = redis.pcall(unpack(ARGV, 3))
if type(reply) == 'table' and reply.err then
  redis.call('DEL', KEYS[1])
  return reply
end
redis.call('SET', KEYS[1], cmsgpack.pack(reply), 'PX', ARGV[1])
for i = 2, tonumber(ARGV[2]) do
  redis.call('DEL', KEYS[i])
end
return reply`

const (
	// onceWords bounds the words of a command with a marker: Lua's stack takes 8,000.
	onceWords = 1000
	// onceDone bounds the markers of answered requests that the next one deletes, and how many wait for that;
	// others are left to expire.
	onceDone    = 16
	onceWaiting = 4096
	// onceSpare is what a marker lives longer than the request may wait: twice the hold, because a request
	// that was sent again begins to wait anew.
	onceSpare = time.Minute
)

// newMarkerName returns what the markers of one proxy begin with. Clients see it in SCAN, so it says nothing of the
// channel on which the proxy speaks to itself: who knew that could have it believe in writes that are lost.
func newMarkerName() string { return channelPrefix + "once:" + rand.Text()[:channelRandom] + ":" }

// once gives the request a marker if its keys ask for that.
func (l *loop) once(r *request, args [][]byte) {
	if !r.write || r.idem || r.wide || !r.arity || len(args) > onceWords || r.c.multi || r.c.kind == reader ||
		r.info.Class != command.Shared || r.info.Flags&command.NoScript != 0 || !l.wantsOnce(r.info, args) {
		return
	}
	l.policyOf(r) // while the command still stands in the frame
	db := r.c.db
	l.markers++
	r.marker = strconv.AppendUint([]byte(l.markerName), l.markers, 10)
	done := l.answeredOnce[db]
	n := min(len(done), onceDone)
	l.scripts.keep([]byte(onceScript))
	r.body = l.scripts.findBody(onceScript)
	words := make([][]byte, 0, 8+n+len(args))
	words = append(words, []byte("EVALSHA"), []byte(r.body.sha), strconv.AppendInt(nil, int64(n+1), 10), r.marker)
	words = append(words, done[:n]...)
	l.answeredOnce[db] = done[n:]
	life := 2*l.opts.Hold + onceSpare
	words = append(words, strconv.AppendInt(nil, life.Milliseconds(), 10), strconv.AppendInt(nil, int64(n+1), 10))
	words = append(words, args...)
	r.frame = resp.AppendCommandBytes(nil, words...)
	r.idem = true
	l.count.once++
}

// wantsOnce reports whether all keys of a command begin with one of the prefixes.
func (l *loop) wantsOnce(info *command.Info, args [][]byte) bool {
	all := true
	n := 0
	known := info.Keys(args, func(key []byte) {
		n++
		all = all && l.hasOncePrefix(key)
	})
	return known && all && n > 0
}

func (l *loop) hasOncePrefix(key []byte) bool {
	for _, p := range l.opts.Once {
		if bytes.HasPrefix(key, []byte(p)) {
			return true
		}
	}
	return false
}

// answeredMarker remembers the marker of a request that was answered, for the next one to delete. Of a request
// that was sent more than once a copy may still come, so its marker stays until it expires.
func (l *loop) answeredMarker(r *request) {
	done := l.answeredOnce[r.c.db]
	if len(done) < onceWaiting && !r.resent {
		l.answeredOnce[r.c.db] = append(done, r.marker)
	}
	r.marker = nil
}
