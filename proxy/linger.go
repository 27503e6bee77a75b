package proxy

import (
	"slices"
	"time"
)

// Writes of the split endpoint go to the primary a few at a time. Of its traffic most are reads, which go
// elsewhere, so that a turn rarely has more than one write: each would wake the primary and be sent to every
// replica by itself, and the primary would work as hard as if it had the reads, too. So a write lingers while
// there is other work, and goes when there is none: where few clients are busy it waits for nothing.
const (
	// lingerFor bounds that: a fraction of what a request takes under a load that keeps the loop busy.
	lingerFor = 200 * time.Microsecond
	// lingerMost is how many writes are worth a wake-up by themselves.
	lingerMost = 16
	// lingerPermit is what must be left of the permit: a request that lingers was checked as it arrived.
	lingerPermit = 20 * time.Millisecond
)

// linger has what the connection is to write, from that place of its stream on, wait for more.
func (l *loop) linger(b *backend, from uint64) {
	if b.queued || b.written == 0 || l.writer.Until-l.now < lingerPermit {
		l.touch(&b.conn)
		return
	}
	if b.lingers == 0 {
		b.lingerTo, b.lingerAt = l.now+lingerFor, from
		l.lingering = append(l.lingering, b)
	}
	b.lingers++
}

// boundLinger ends the wait of those who have waited long enough, or whose connection is to be written anyhow.
func (l *loop) boundLinger() {
	kept := l.lingering[:0]
	for _, b := range l.lingering {
		if b.lingers < lingerMost && !b.queued && l.now < b.lingerTo && l.writer.Until-l.now >= lingerPermit {
			kept = append(kept, b)
			continue
		}
		b.lingers = 0
		l.touch(&b.conn)
	}
	clear(l.lingering[len(kept):])
	l.lingering = kept
}

// endLinger writes all that lingers: there is nothing else to do.
func (l *loop) endLinger() {
	if len(l.lingering) == 0 {
		return
	}
	for _, b := range l.lingering {
		b.lingers = 0
		l.touch(&b.conn)
	}
	clear(l.lingering)
	l.lingering = l.lingering[:0]
	l.settle()
}

// takeBack takes back what lingers on a connection that is not the right one any more: nothing of it was written,
// and its node may have another primary above it by now.
func (l *loop) takeBack(b *backend) {
	if b.lingers == 0 || b.queued {
		return
	}
	all := b.inflight.take()
	sent := len(all) - b.lingers
	b.out = b.out[:len(b.out)-int(b.stream-b.lingerAt)]
	b.stream, b.lingers = b.lingerAt, 0
	l.lingering = slices.DeleteFunc(l.lingering, func(x *backend) bool { return x == b })
	for _, r := range all[:sent] {
		b.inflight.push(r)
	}
	for _, r := range all[sent:] {
		l.again(r)
	}
}
