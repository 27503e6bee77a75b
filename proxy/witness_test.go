package proxy

import (
	"log/slog"
	"testing"
	"time"

	"understudy/command"
)

// A machine that is short of time answers the witness's PING after the doubts were given up. The
// late answer took as many doubts as it was asked for, from a queue that had none.
func TestLateWordOfWitnessSettlesOnlyWhatItWasAskedFor(t *testing.T) {
	l, err := newLoop(Options{Hold: time.Second, HoldRequests: 10, HoldBytes: 1 << 20, OutputLimit: 1 << 20, Logger: slog.New(slog.DiscardHandler), Clock: func() time.Duration { return 0 }}, newMetrics(&Options{}))
	if err != nil {
		t.Fatal(err)
	}
	defer l.shut()
	w := &witness{l: l, ready: true, applied: map[uint64]uint64{}}
	doubt := func() *request {
		r := l.newRequest(&client{conn: conn{closed: true}}, command.Lookup([][]byte{[]byte("INCR")}), nil)
		r.write = true
		l.wonder(r, false)
		return r
	}
	doubt()
	doubt()
	w.asking, w.asked = true, l.settled+2
	l.settleDoubts(len(l.doubts), nil) // nobody answers in time
	later := doubt()
	w.reply(l, nil, []byte("*2\r\n$4\r\npong\r\n$0\r\n\r\n"))
	if len(l.doubts) != 1 || l.doubts[0].r != later {
		t.Fatalf("%d doubts are left, want the one that came after the question", len(l.doubts))
	}
	if l.count.unknown != 2 {
		t.Fatalf("%d outcomes are unknown, want 2", l.count.unknown)
	}
}
