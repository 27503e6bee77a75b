package e2e

import (
	"context"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A server that runs a script for ever refuses everything, REPLICAOF too: only SIGKILL ends it. The script
// came through the endpoint, and must not be run again on the next primary.
func TestEndlessScriptCostsOnePrimaryAndNotTheNext(t *testing.T) {
	g := StartGroup(t)
	before := g.WaitAvailable()
	l := startLoad(t, g.Primary)
	l.waitAcked(200)
	victim := mustLook(t, before.node(before.Primary).PID)
	from := l.now()
	told := make(chan error, 1)
	go func() {
		told <- client(t, g.Primary).Eval(context.Background(), "redis.call('SET', KEYS[1], 'x') while true do end", []string{"endless"}).Err()
	}()
	g.WaitForPrimary(before)
	l.waitAcked(200)
	err := <-told
	if err == nil || !strings.HasPrefix(err.Error(), "UNKNOWN") {
		t.Errorf("the script's client was told %v, want -UNKNOWN", err)
	}
	waitGone(t, victim)
	j := l.judge(g)
	report(t, "endless scripts", j.gaps([]around{{from, l.now()}}), 1500*time.Millisecond, 6*time.Second) // a busy server has a grace
	if after := g.Status(); after.Epoch != before.Epoch+1 {
		t.Errorf("epoch %d became %d: one change was needed", before.Epoch, after.Epoch)
	}
}

// A fork of a large server, a slow command, a disk that makes it wait: none of these is a reason to change
// the primary while it takes less than probe × misses (300 ms).
func TestShortStallsCostNoEpoch(t *testing.T) {
	g := StartGroup(t)
	before := g.WaitAvailable()
	fill(t, g.Primary, "ballast:", 100_000, 100)
	l := startLoad(t, g.Primary)
	l.waitAcked(200)
	primary := before.node(before.Primary)
	victim := mustLook(t, primary.PID)
	direct := client(t, primary.Addr)
	worst := time.Duration(0)
	for range 8 {
		from := l.now()
		thaw := freeze(t, victim)
		time.Sleep(100 * time.Millisecond) // the stall itself
		thaw()
		if err := direct.BgRewriteAOF(context.Background()).Err(); err != nil && !strings.Contains(err.Error(), "in progress") && !strings.Contains(err.Error(), "scheduled") {
			t.Errorf("BGREWRITEAOF: %v", err)
		}
		l.waitAcked(50)
		worst = max(worst, l.now()-from)
	}
	l.judge(g)
	t.Logf("8 stalls of 100 ms with a fork each: writes went on after at most %v", worst.Round(time.Millisecond))
	if after := g.Status(); after.Epoch != before.Epoch {
		t.Errorf("epoch %d became %d: %+v", before.Epoch, after.Epoch, after.Last)
	}
}

// A primary whose disk is full answers PING, and refuses every write.
func TestPrimaryWithAFullDiskHandsOver(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	disk := smallDisk(t, data, "main-001", 16)
	g := StartGroupOn(t, data)
	before := g.WaitAvailable()
	if before.Primary != "main-001" {
		t.Skipf("NOT TESTED: %s leads from the start, and its disk is large", before.Primary)
	}
	l := startLoad(t, g.Primary)
	l.waitAcked(200)
	from := l.now()
	makeRoom := fillDisk(t, disk)
	after := g.WaitForPrimary(before)
	l.waitAcked(300)
	took := l.now() - from
	if now := g.Status(); now.Primary == "main-001" || now.Epoch != after.Epoch {
		t.Errorf("%s leads under epoch %d, after %s under %d: the group flaps", now.Primary, now.Epoch, after.Primary, after.Epoch)
	}
	makeRoom()
	j := gatherAvailable(t, g, l)
	report(t, "full disks", j.gaps([]around{{from, from + took}}), time.Second, 8*time.Second)
	t.Logf("%d errors were told meanwhile: %v", len(j.told), j.told[:min(1, len(j.told))])
	for _, e := range j.told {
		if !strings.Contains(e, "MISCONF") {
			t.Errorf("a client was told %s", e)
			break
		}
	}
}

// Out of memory is an answer, and another node of the same size has no more: no change of primary helps.
func TestOutOfMemoryIsToldAndCostsNoEpoch(t *testing.T) {
	g := StartGroup(t)
	before := g.WaitAvailable()
	l := startLoad(t, g.Primary)
	l.waitAcked(200)
	primary := before.node(before.Primary)
	configure(t, primary.Addr, "maxmemory", "1")
	err := client(t, g.Primary).Set(context.Background(), "too", "much", 0).Err()
	if err == nil || !strings.HasPrefix(err.Error(), "OOM") {
		t.Errorf("a write without memory: %v, want the server's own answer", err)
	}
	time.Sleep(fastTTL) // the time in which a wrong decision would be taken
	if v, err := client(t, g.Primary).Ping(context.Background()).Result(); err != nil || v != "PONG" {
		t.Errorf("PING without memory: %q, %v", v, err)
	}
	configure(t, primary.Addr, "maxmemory", "0")
	l.waitAcked(200)
	j := gatherAvailable(t, g, l)
	for _, e := range j.told {
		if !strings.Contains(e, "OOM") {
			t.Errorf("a client was told %s", e)
		}
	}
	t.Logf("%d refusals were told", len(j.told))
	if after := g.Status(); after.Epoch != before.Epoch {
		t.Errorf("epoch %d became %d: %+v", before.Epoch, after.Epoch, after.Last)
	}
}

// A server that is stopped in the middle of its fencing still ends: SIGKILL needs no answer.
func TestStoppedPrimaryIsKilledNotAsked(t *testing.T) {
	g := StartGroup(t)
	before := g.WaitAvailable()
	victim := mustLook(t, before.node(before.Primary).PID)
	freeze(t, victim)
	took := waitGone(t, victim)
	t.Logf("ended %v after it stopped; probe × misses is 300 ms", took.Round(time.Millisecond))
	if took > 2*time.Second {
		t.Errorf("%v lived on for %v", victim, took)
	}
	if err := syscall.Kill(victim.pid, syscall.SIGCONT); err == nil && alive(victim) {
		t.Errorf("%v woke up again", victim)
	}
	g.WaitForPrimary(before)
}
