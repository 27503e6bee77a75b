package proxy

import (
	"testing"
	"time"
)

func TestWritesLingerOnlyWhileThereIsOtherWork(t *testing.T) {
	newLane := func(l *loop) *backend {
		b := &backend{}
		b.written = 1 // its connection is made
		l.writer.Until = l.now + time.Second
		return b
	}
	flushed := func(l *loop) bool { return len(l.flushing) == 1 }

	l := &loop{}
	b := newLane(l)
	l.linger(b, 0)
	l.boundLinger()
	if flushed(l) || len(l.lingering) != 1 {
		t.Fatal("a write did not linger")
	}
	l.now += lingerFor
	l.boundLinger()
	if !flushed(l) || len(l.lingering) != 0 || b.lingers != 0 {
		t.Error("a write lingers for longer than it may")
	}

	l = &loop{}
	b = newLane(l)
	for range lingerMost {
		l.linger(b, 0)
	}
	l.boundLinger()
	if !flushed(l) {
		t.Error("enough writes for a wake-up linger")
	}

	l = &loop{}
	b = newLane(l)
	l.linger(b, 0)
	l.touch(&b.conn)
	l.boundLinger()
	if !flushed(l) || len(l.lingering) != 0 {
		t.Error("a write lingers although its connection is written")
	}

	l = &loop{}
	b = newLane(l)
	l.writer.Until = l.now + lingerPermit/2
	l.linger(b, 0)
	if !flushed(l) {
		t.Error("a write lingers although the permit is about to end")
	}

	l = &loop{}
	b = newLane(l)
	b.closed = true // there is no socket in this test
	l.linger(b, 0)
	l.endLinger()
	if len(l.lingering) != 0 || b.lingers != 0 {
		t.Error("a write lingers although there is nothing else to do")
	}
}

func TestWhatLingersIsTakenBackFromAFormerPrimary(t *testing.T) {
	l := &loop{}
	l.writer.Until = l.now + time.Second
	b := &backend{}
	b.written, b.stream = 1, 1
	sent := &request{c: &client{}, frame: []byte("sent"), after0: 5}
	b.raw(sent.frame)
	b.inflight.push(sent)
	var waiting []*request
	for range 2 {
		r := &request{c: &client{kind: split}, write: true, frame: []byte("lingers")}
		l.putAlone(b, r)
		waiting = append(waiting, r)
	}
	l.retire(b)
	if string(b.out) != "sent" || b.stream != 5 || b.inflight.n != 1 || b.inflight.at(0) != sent {
		t.Errorf("%q is written, %d bytes of the stream, %d under way; want what was there before", b.out, b.stream, b.inflight.n)
	}
	if len(l.replays) != 2 || l.replays[0] != waiting[0] || l.replays[1] != waiting[1] {
		t.Errorf("%d requests are to be sent anew, want both, in their order", len(l.replays))
	}
	if len(l.lingering) != 0 || b.lingers != 0 {
		t.Error("they linger on")
	}
}

func TestLoopLooksAgainOnlyWhenOneThingAtATimeHappensSoon(t *testing.T) {
	p, err := newPoller()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = p.close() }()
	w := resting{spin: 50 * time.Microsecond}
	for range 100 {
		w.took(1)
	}
	if !w.alone() {
		t.Error("one at a time is not seen as such")
	}
	for range 20 {
		w.rested(10 * time.Microsecond)
	}
	if w.gap >= w.spin {
		t.Errorf("after short rests a gap of %v is expected", w.gap)
	}
	w.rested(time.Second)
	if w.gap < w.spin {
		t.Errorf("after a long rest a gap of %v is expected", w.gap)
	}
	for range 100 {
		w.took(8)
	}
	if w.alone() {
		t.Error("eight at a time are taken for one")
	}
	p.poke()
	if events, err := w.sleep(p, 1000); len(events) != 1 || err != nil {
		t.Errorf("%d events, %v; want the poke", len(events), err)
	}
	for range 200 {
		w.took(1)
	}
	w.gap = 0
	if events, err := w.sleep(p, 1000); len(events) != 1 || err != nil {
		t.Errorf("%d events, %v; want the poke while it looks", len(events), err)
	}
}
