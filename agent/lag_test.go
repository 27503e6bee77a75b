package agent

import (
	"testing"
	"time"

	"understudy/cluster"
)

func TestLagIsTheAgeOfTheOldestMissingByte(t *testing.T) {
	at := func(offset int64) cluster.Position { return cluster.Position{ReplID: "a", Offset: offset} }
	var l lag
	want := func(now time.Duration, pos cluster.Position, bytes int64, age time.Duration) {
		t.Helper()
		if b, a := l.behind(now, pos); b != bytes || a != age {
			t.Errorf("at %v with %v: %d bytes, %v; want %d, %v", now, pos, b, a, bytes, age)
		}
	}
	want(0, at(0), 0, 0) // nothing is known yet
	l.primaryAt(100, at(10))
	want(90, at(0), 0, 0) // a look from before the news
	want(100, at(10), 0, 0)
	l.primaryAt(200, at(20))
	l.primaryAt(300, at(30))
	want(310, at(15), 15, 110)
	want(320, at(25), 5, 20)
	want(330, at(40), 0, 0)
	l.primaryAt(400, at(40)) // the primary idles
	l.primaryAt(900, at(40))
	want(950, at(40), 0, 0)
	l.primaryAt(1000, cluster.Position{ReplID: "b", Offset: 41})
	want(1100, at(40), 0, 100) // another log: bytes of the two do not compare
	want(1200, cluster.Position{ReplID: "b", Offset: 41}, 0, 0)
}

func TestLagKeepsItsAgeWhenTheLinkIsDeadForLong(t *testing.T) {
	var l lag
	for i := range time.Duration(10 * maxMarks) {
		l.primaryAt(i+1, cluster.Position{ReplID: "a", Offset: int64(i) + 1})
	}
	now := time.Duration(10 * maxMarks)
	bytes, age := l.behind(now, cluster.Position{ReplID: "a", Offset: 0})
	if bytes != 10*maxMarks || age != now-1 || len(l.marks) > maxMarks {
		t.Errorf("%d bytes, %v, %d marks", bytes, age, len(l.marks))
	}
}
