package upstream

import (
	"context"
	"strings"
	"testing"
	"time"

	"understudy/cluster"
)

func TestStaticGroupIsFailedOverByHand(t *testing.T) {
	a, b, c := trio(t, nil)
	v := watch(t, Options{Static: staticOf(a, b, c)})
	v.waitForWriter(a)
	waitFor(t, "both replicas serve reads", func() bool { return v.readers() == 2 })
	must(t, a.client.Set(t.Context(), "k", "v", 0).Err())

	// The order of an operator who does it in the worst one: promote first.
	b.promote()
	waitFor(t, "writes are held while two are primaries", func() bool { return v.writer() == "" })
	a.follow(b)
	c.follow(b)
	v.waitForWriter(b)
	if e := v.epoch(); e != 2 {
		t.Errorf("epoch %d after the first change of primary", e)
	}
	s := v.status(b)
	if s.Fork.Parent == "" || s.Fork.ReplID == "" || s.Fork.Parent == s.Fork.ReplID || s.Fork.At <= 0 {
		t.Errorf("the new log's place is not told: %+v", s.Fork)
	}
	waitFor(t, "the old primary and the other replica serve reads", func() bool { return v.readers() == 2 })
	if v.said("primary_changed") != 1 || v.said("second_primary") > 1 {
		t.Errorf("%d changes, %d disputes", v.said("primary_changed"), v.said("second_primary"))
	}
}

func TestPrimaryThatIsKilledIsLostAtOnceAndReadsGoOn(t *testing.T) {
	a, b, c := trio(t, nil)
	v := watch(t, Options{Static: staticOf(a, b, c), Interval: 50 * time.Millisecond, Lease: 10 * time.Second})
	v.waitForWriter(a)
	waitFor(t, "replicas serve reads", func() bool { return v.readers() == 2 })
	must(t, a.Kill())
	killed := time.Now()
	waitFor(t, "writes are held", func() bool { return v.writer() == "" })
	if d := time.Since(killed); d > 5*time.Second {
		t.Errorf("the permit of a dead primary went on for %v: it ran out instead of ending", d)
	}
	waitFor(t, "the dead node is down", func() bool { return v.status(a).State == cluster.StateDown })
	waitFor(t, "the replicas' links are down", func() bool {
		text, err := b.client.Info(context.Background(), "replication").Result()
		return err == nil && strings.Contains(text, "master_link_status:down")
	})
	waitFor(t, "reads go on, with their age", func() bool { return v.readers() == 2 && v.status(b).LagMs > 100 })
	b.promote()
	v.waitForWriter(b)
	waitFor(t, "the replica of a dead primary is behind the times", func() bool { return v.readers() == 0 })
	c.following(b)
	waitFor(t, "the replica serves again", func() bool { return v.readers() == 1 })

	// The dead one comes back as what it was: a primary, without data.
	a.opts.Config["replicaof"] = "no one"
	a.start()
	waitFor(t, "the second primary is ignored", func() bool { return v.said("second_primary_ignored") == 1 })
	if w := v.writer(); w != b.Addr() {
		t.Errorf("writes go to %q", w)
	}
	if s := v.status(a); s.Leads || s.State == cluster.StateReady || s.Reason == "" {
		t.Errorf("the second primary: %+v", s)
	}
	if v.epoch() != 2 {
		t.Errorf("epoch %d", v.epoch())
	}
}

func TestPrimaryThatRestartsIsANewEpoch(t *testing.T) {
	a := startServer(t, "127.0.0.1", 0, map[string]string{"replicaof": "no one"})
	v := watch(t, Options{Static: staticOf(a)})
	v.waitForWriter(a)
	must(t, a.Kill())
	a.start()
	waitFor(t, "the restarted primary serves under a new epoch", func() bool { return v.writer() == a.Addr() && v.epoch() == 2 })
}

func TestFirstReplicaRenamesTheLogWithoutANewEpoch(t *testing.T) {
	a := startServer(t, "127.0.0.1", 0, map[string]string{"replicaof": "no one"})
	b := startServer(t, "127.0.0.1", 0, nil)
	v := watch(t, Options{Static: staticOf(a, b)})
	v.waitForWriter(a)
	before := v.status(a).Fork.ReplID
	b.following(a)
	waitFor(t, "the replica serves reads", func() bool { return v.readers() == 1 })
	if after := v.status(a).Fork.ReplID; after == before {
		t.Skipf("this server keeps its replication id %s when the first replica comes", before)
	}
	if v.epoch() != 1 {
		t.Errorf("epoch %d: the same process with the same data", v.epoch())
	}
}

func TestRoguePrimaryIsIgnoredAfterADispute(t *testing.T) {
	a, b, c := trio(t, nil)
	v := watch(t, Options{Static: staticOf(a, b, c), Dispute: 300 * time.Millisecond})
	v.waitForWriter(a)
	waitFor(t, "both replicas serve reads", func() bool { return v.readers() == 2 })
	b.promote() // and nobody goes on
	waitFor(t, "the dispute is over", func() bool { return v.said("second_primary_ignored") == 1 })
	v.waitForWriter(a)
	if v.epoch() != 1 || v.said("second_primary") != 1 {
		t.Errorf("epoch %d, %d disputes", v.epoch(), v.said("second_primary"))
	}
	waitFor(t, "it is no reader either", func() bool { return v.readers() == 1 })

	c.following(b) // the operator meant it
	a.follow(b)
	v.waitForWriter(b)
}

func TestPasswordAndWrongPassword(t *testing.T) {
	secret := map[string]string{"requirepass": "s3cret-word", "masterauth": "s3cret-word"}
	a := startServer(t, "127.0.0.1", 0, secret).promote()
	v := watch(t, Options{Static: staticOf(a), Password: "s3cret-word", Access: cluster.Access{User: "default", Password: "s3cret-word"}})
	v.waitForWriter(a)
	if got := v.status(a).Access; got.Password != "s3cret-word" {
		t.Errorf("proxies are handed %+v", got)
	}
	wrong := watch(t, Options{Static: staticOf(a), Password: "wr0ng-word"})
	waitFor(t, "the refusal is told", func() bool { return strings.Contains(wrong.status(a).Reason, "WRONGPASS") })
	none := watch(t, Options{Static: staticOf(a)})
	waitFor(t, "the missing password is told", func() bool { return strings.Contains(none.status(a).Reason, "NOAUTH") })
	for _, o := range []*observer{v, wrong, none} {
		o.mu.Lock()
		for _, e := range o.events {
			if strings.Contains(e.Message, "-word") {
				t.Errorf("an event shows a password: %s", e.Message)
			}
		}
		o.mu.Unlock()
	}
}

func TestFrozenPrimaryLosesItsPermitAndGetsItBack(t *testing.T) {
	a, b, c := trio(t, nil)
	v := watch(t, Options{Static: staticOf(a, b, c)})
	v.waitForWriter(a)
	stopServer(t, a)
	waitFor(t, "writes are held", func() bool { return v.writer() == "" })
	continueServer(t, a)
	v.waitForWriter(a)
	if v.epoch() != 1 {
		t.Errorf("epoch %d: it was the primary all the time", v.epoch())
	}
}

func TestDoubtAsksAtOnce(t *testing.T) {
	a, b, c := trio(t, nil)
	v := watch(t, Options{Static: staticOf(a, b, c), Interval: 5 * time.Second, Lease: 15 * time.Second, Dispute: 5 * time.Second})
	v.waitForWriter(a)
	waitFor(t, "all are known", func() bool { return v.readers() == 2 })
	begin := time.Now()
	must(t, a.client.ReplicaOf(t.Context(), "127.0.0.1", "1").Err())
	b.promote()
	for v.writer() != b.Addr() {
		v.Doubt() // as a proxy does with every refusal
		if time.Since(begin) > 4*time.Second {
			t.Fatal("doubt did not have the nodes asked before their interval was over")
		}
		time.Sleep(time.Millisecond)
	}
}
