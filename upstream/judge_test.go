package upstream

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"understudy/cluster"
	"understudy/failover"
)

// court is a judge with a clock of its own, and nodes that say what the test has them say.
type court struct {
	*judge
	t   *testing.T
	now time.Duration
	all []said
}

const ms = time.Millisecond

func newCourt(t *testing.T, atStart bool, ids ...cluster.NodeID) *court {
	o := Options{Group: "g", Static: &Static{Primary: "h:1"}, Clock: func() time.Duration { return 0 }, OnStatus: func(time.Duration, cluster.NodeStatus) {}}
	must(t, o.complete())
	c := &court{judge: newJudge(o), t: t, now: time.Hour}
	c.members(atStart, ids[0], ids...)
	return c
}

// members lists nodes, of which one is named.
func (c *court) members(atStart bool, named cluster.NodeID, ids ...cluster.NodeID) {
	r := roster{atStart: atStart}
	for _, id := range ids {
		r.members = append(r.members, member{id: id, addr: string(id) + ":1", named: id == named})
	}
	c.list(c.now, r)
	c.take()
}

func (c *court) take() {
	c.all = append(c.all, c.said...)
	c.said = c.said[:0]
}

// primaryWord is what a master says: its log, the one before and where that ended, and how many follow it.
func primaryWord(run, replid string, offset int64, prev string, at int64, replicas int) word {
	return word{role: cluster.RolePrimary, run: run, pos: cluster.Position{ReplID: replid, Offset: offset}, prev: cluster.Position{ReplID: prev, Offset: at}, replicas: replicas}
}

func replicaWord(run, replid string, offset int64) word {
	return word{role: cluster.RoleReplica, run: run, pos: cluster.Position{ReplID: replid, Offset: offset}, linkUp: true, follows: "x:1"}
}

// says has a node answer, now.
func (c *court) says(id cluster.NodeID, w word) {
	c.hear(c.now, answer{node: id, at: c.now, addr: string(id) + ":1", word: w})
	c.take()
}

// fails has a question to a node fail, now.
func (c *court) fails(id cluster.NodeID) {
	c.hear(c.now, answer{node: id, at: c.now, err: fmt.Errorf("connection refused")})
	c.take()
}

func (c *court) pass(d time.Duration) {
	c.now += d
	c.tick(c.now)
	c.take()
}

// leader is who leads, by what was said last of each: "" when nobody may be written to.
func (c *court) leader() cluster.NodeID {
	newest := map[cluster.NodeID]said{}
	for _, s := range c.all {
		newest[s.status.Node] = s
	}
	for id, s := range newest {
		if s.status.Leads && s.status.Epoch == c.epoch && !s.status.Pausing && c.now < s.at+s.status.Permit {
			return id
		}
	}
	return ""
}

func (c *court) expect(leader cluster.NodeID, epoch cluster.Epoch) {
	c.t.Helper()
	if got := c.leader(); got != leader || c.epoch != epoch {
		for _, e := range c.events {
			c.t.Log(e.Name, e.Message)
		}
		c.t.Fatalf("%q leads in epoch %d, want %q in %d", got, c.epoch, leader, epoch)
	}
}

// steady is a group whose primary a was found, with b and c as replicas.
func steady(t *testing.T, atStart bool) *court {
	c := newCourt(t, atStart, "a", "b", "c")
	c.group()
	c.expect("a", 1)
	return c
}

func (c *court) group() {
	c.says("a", primaryWord("ra", "X", 100, "", 0, 2))
	c.says("b", replicaWord("rb", "X", 100))
	c.says("c", replicaWord("rc", "X", 90))
}

func TestFirstPrimaryWaitsForEveryNode(t *testing.T) {
	c := newCourt(t, true, "a", "b")
	c.says("a", primaryWord("ra", "X", 5, "", 0, 0)) // an old one that came back is the first to answer
	c.expect("", 0)
	c.says("b", primaryWord("rb", "Y", 50, "X", 40, 1))
	c.expect("b", 1)
	if s := c.status(c.nodes["a"]); s.Leads || s.State == cluster.StateReady || !strings.Contains(s.Reason, "b is") {
		t.Errorf("the other one: %+v", s)
	}
}

func TestFirstPrimaryDoesNotWaitForASilentNodeForEver(t *testing.T) {
	c := newCourt(t, true, "a", "b")
	c.says("a", primaryWord("ra", "X", 5, "", 0, 0))
	for range 11 { // b's connection hangs
		c.pass(100 * ms)
		c.says("a", primaryWord("ra", "X", 5, "", 0, 0))
	}
	c.expect("a", 1)
}

func TestOfTwoAtTheStart(t *testing.T) {
	old, promoted := primaryWord("ra", "X", 500, "", 0, 0), primaryWord("rb", "Y", 50, "X", 40, 0)
	with := func(w word, replicas int) word { w.replicas = replicas; return w }
	for name, x := range map[string]struct {
		a, b  word
		named cluster.NodeID
		want  cluster.NodeID
	}{
		"the one that replicas follow":               {old, with(promoted, 1), "a", "b"},
		"the one that is named":                      {old, promoted, "a", "a"},
		"the one whose log continues the other's":    {old, promoted, "", "b"},
		"offsets of different logs are not compared": {with(old, 0), with(primaryWord("rb", "Z", 5, "", 0, 0), 0), "", "a"},
	} {
		c := newCourt(t, false, "a", "b")
		c.members(false, x.named, "a", "b")
		for range 12 {
			c.says("a", x.a)
			c.says("b", x.b)
			c.pass(100 * ms)
		}
		c.says("a", x.a)
		c.says("b", x.b)
		if c.leader() != x.want {
			t.Errorf("%s: %q leads, want %q", name, c.leader(), x.want)
		}
	}
}

func TestPermitCountsFromBeforeTheQuestion(t *testing.T) {
	c := steady(t, true)
	c.now += 200 * ms // an answer to a question of 200 ms ago
	c.hear(c.now, answer{node: "a", at: c.now - 200*ms, addr: "a:1", word: primaryWord("ra", "X", 110, "", 0, 2)})
	c.take()
	c.expect("a", 1)
	c.pass(100 * ms)
	c.expect("", 1)
	if !c.lost || c.present(c.now) {
		t.Error("the loss of the primary was not noticed when its permit ended")
	}
	c.says("a", primaryWord("ra", "X", 120, "", 0, 2))
	c.expect("a", 1)
}

func TestPromotedReplicaSucceedsADeadPrimaryAtOnce(t *testing.T) {
	c := steady(t, false) // and the source goes on naming a
	c.fails("a")
	c.expect("", 1)
	c.says("b", primaryWord("rb", "Y", 101, "X", 100, 0))
	c.expect("b", 2)
	want := cluster.Fork{Epoch: 2, ReplID: "Y", Parent: "X", At: 100}
	if diff := cmp.Diff(want, c.status(c.nodes["b"]).Fork); diff != "" {
		t.Error(diff)
	}
}

func TestLostBytesAreTold(t *testing.T) {
	c := steady(t, true)
	c.says("a", primaryWord("ra", "X", 250, "", 0, 2))
	c.fails("a")
	c.says("b", primaryWord("rb", "Y", 101, "X", 100, 0))
	last := c.events[len(c.events)-1]
	if last.Name != "primary_changed" || !strings.Contains(last.Message, "at least 150 bytes") {
		t.Errorf("%s: %s", last.Name, last.Message)
	}
}

func TestPromotionBesideALivePrimaryIsHeldThenDecided(t *testing.T) {
	b := primaryWord("rb", "Y", 101, "X", 100, 0)
	for name, x := range map[string]struct {
		atStart bool
		a, b    word
		named   cluster.NodeID
		want    cluster.NodeID
	}{
		"replicas stay":                  {true, primaryWord("ra", "X", 100, "", 0, 1), b, "", "a"},
		"replicas stay, the other named": {false, primaryWord("ra", "X", 100, "", 0, 1), b, "b", "b"},
		"nobody follows either":          {true, primaryWord("ra", "X", 100, "", 0, 0), b, "", "b"},
		"nobody, the old one named":      {false, primaryWord("ra", "X", 100, "", 0, 0), b, "a", "a"},
		"replicas move":                  {false, primaryWord("ra", "X", 100, "", 0, 0), primaryWord("rb", "Y", 101, "X", 100, 1), "a", "b"},
		"the old one is demoted":         {true, replicaWord("ra", "X", 100), b, "", "b"},
	} {
		c := steady(t, x.atStart)
		c.says("b", b)
		if c.leader() != "" {
			t.Errorf("%s: writes are not held", name)
		}
		if x.named != "" {
			c.members(x.atStart, x.named, "a", "b", "c")
		}
		for range 11 {
			c.pass(100 * ms)
			c.says("a", x.a)
			c.says("b", x.b)
		}
		if c.leader() != x.want {
			t.Errorf("%s: %q leads, want %q", name, c.leader(), x.want)
		}
		if want := map[cluster.NodeID]cluster.Epoch{"a": 1, "b": 2}[x.want]; c.epoch != want {
			t.Errorf("%s: epoch %d", name, c.epoch)
		}
	}
}

func TestOldPrimaryThatIsStillNamedDoesNotComeBack(t *testing.T) {
	c := steady(t, false)
	c.fails("a")
	c.says("b", primaryWord("rb", "Y", 101, "X", 100, 0))
	c.expect("b", 2)
	back := primaryWord("ra2", "Z", 60, "X", 60, 1) // from its file, and a replica has not moved yet
	for range 20 {
		c.says("a", back)
		c.says("b", primaryWord("rb", "Y", 101, "X", 100, 0))
		c.expect("b", 2)
		c.pass(100 * ms)
	}
	c.fails("b") // for a moment
	back.replicas = 0
	c.says("a", back)
	c.expect("", 2)
	c.says("b", primaryWord("rb", "Y", 101, "X", 100, 0))
	c.expect("b", 2)
}

func TestMasterThatNothingSpeaksForWaits(t *testing.T) {
	c := steady(t, true)
	c.fails("a")
	stranger := primaryWord("rb2", "Q", 7, "", 0, 0) // b was started again, empty, as a master
	c.says("b", stranger)
	c.expect("", 1)
	for range 98 {
		c.pass(100 * ms)
		c.says("b", stranger)
	}
	c.expect("", 1)
	for range 3 {
		c.pass(100 * ms)
		c.says("b", stranger)
	}
	c.expect("b", 2)
}

func TestMasterOfAMinorityIsNeverTaken(t *testing.T) {
	c := steady(t, false)
	c.list(c.now, roster{members: []member{{id: "a", addr: "a:1", named: true}, {id: "b", addr: "b:1"}, {id: "c", addr: "c:1"}, {id: "x", addr: "x:1", doubtful: true}}})
	c.fails("a")
	for range 150 {
		c.says("x", primaryWord("rx", "Q", 7, "", 0, 3))
		c.pass(100 * ms)
	}
	c.expect("", 1)
}

func TestWrongPrimaryIsLeftWhenTheMajorityComes(t *testing.T) {
	c := newCourt(t, false, "x", "y") // a sentinel that lies was the only one
	c.says("x", primaryWord("rx", "Q", 7, "", 0, 1))
	c.says("y", replicaWord("ry", "Q", 7))
	c.expect("x", 1)
	c.list(c.now, roster{members: []member{{id: "a", addr: "a:1", named: true}, {id: "b", addr: "b:1"}, {id: "x", addr: "x:1", doubtful: true}}})
	for range 102 {
		c.says("x", primaryWord("rx", "Q", 7, "", 0, 1))
		c.says("a", primaryWord("ra", "X", 100, "", 0, 1))
		c.pass(100 * ms)
	}
	c.says("a", primaryWord("ra", "X", 100, "", 0, 1))
	c.expect("a", 2)
}

func TestSameProcessUnderTwoAddressesIsNoSecondPrimary(t *testing.T) {
	c := newCourt(t, true, "a", "alias")
	c.says("a", primaryWord("ra", "X", 5, "", 0, 1))
	c.says("alias", primaryWord("ra", "X", 5, "", 0, 1))
	for range 3 {
		c.says("a", primaryWord("ra", "X", 6, "", 0, 1))
		c.says("alias", primaryWord("ra", "X", 6, "", 0, 1))
		c.pass(50 * ms)
	}
	c.expect("a", 1)
	for _, e := range c.events {
		if strings.HasPrefix(e.Name, "second") {
			t.Errorf("%s: %s", e.Name, e.Message)
		}
	}
}

func TestPrimaryThatServesIsKeptThoughNobodyListsIt(t *testing.T) {
	c := steady(t, false)
	c.members(false, "b", "b", "c")
	c.says("a", primaryWord("ra", "X", 101, "", 0, 2))
	c.expect("a", 1)
	c.fails("a")
	c.members(false, "b", "b", "c")
	if c.nodes["a"] != nil {
		t.Error("a node that nobody lists and that does not serve is still watched")
	}
}

func TestHandoverIsHeldAndBounded(t *testing.T) {
	c := steady(t, false)
	c.handOver(c.now, handover{"b"})
	c.take()
	c.expect("", 1)
	c.says("a", primaryWord("ra", "X", 101, "", 0, 2))
	c.expect("", 1)
	for range 11 { // nothing comes of it
		c.pass(100 * ms)
		c.says("a", primaryWord("ra", "X", 101, "", 0, 2))
	}
	c.expect("a", 1)
	c.says("b", replicaWord("rb", "X", 101))
	c.handOver(c.now, handover{"b"})
	c.says("b", primaryWord("rb", "Y", 102, "X", 101, 0)) // it does
	c.expect("b", 2)
}

func TestLoadingPrimaryIsNotWrittenTo(t *testing.T) {
	c := steady(t, true)
	w := primaryWord("ra2", "Z", 1, "", 0, 0)
	w.cannot = "LOADING"
	c.says("a", w)
	c.expect("", 1)
	if s := c.status(c.nodes["a"]); s.State != cluster.StateLoading {
		t.Errorf("%+v", s)
	}
	w.cannot = ""
	c.says("a", w)
	c.expect("a", 2)
}

func TestReplicaServesOnlyThePrimarysLog(t *testing.T) {
	c := steady(t, true)
	for name, x := range map[string]struct {
		w    word
		want cluster.NodeState
	}{
		"level":            {replicaWord("rb", "X", 100), cluster.StateReady},
		"another's log":    {replicaWord("rb", "Q", 100), cluster.StateSyncing},
		"link down":        {word{role: cluster.RoleReplica, run: "rb", pos: cluster.Position{ReplID: "X", Offset: 100}}, cluster.StateSyncing},
		"in a full sync":   {word{role: cluster.RoleReplica, run: "rb", pos: cluster.Position{ReplID: "X"}, linkUp: true, syncing: true}, cluster.StateSyncing},
		"refuses commands": {word{role: cluster.RoleReplica, run: "rb", pos: cluster.Position{ReplID: "X"}, linkUp: true, cannot: "MASTERDOWN"}, cluster.StateSyncing},
	} {
		c.says("b", x.w)
		if s := c.status(c.nodes["b"]); s.State != x.want || (s.Reason == "") != (x.want == cluster.StateReady) {
			t.Errorf("%s: %s, %q", name, s.State, s.Reason)
		}
	}
}

func TestLagIsMeasuredAgainstWhereThePrimaryWas(t *testing.T) {
	c := steady(t, true)
	for i := range int64(200) { // more than is remembered of the primary
		c.pass(100 * ms)
		c.says("a", primaryWord("ra", "X", 100+10*(i+1), "", 0, 2))
	}
	c.says("b", replicaWord("rb", "X", 2100))
	c.says("c", replicaWord("rc", "X", 1100)) // where the primary was 10 s ago
	if s := c.status(c.nodes["b"]); s.LagBytes != 0 || s.LagMs != 0 {
		t.Errorf("level: %d bytes, %v ms", s.LagBytes, s.LagMs)
	}
	if s := c.status(c.nodes["c"]); s.LagBytes != 1000 || s.LagMs < 8000 || s.LagMs > 10000 {
		t.Errorf("behind: %d bytes, %v ms", s.LagBytes, s.LagMs)
	}
}

func TestProxyIsNeverToldThatALostWriteIsKept(t *testing.T) {
	c := steady(t, true)
	c.fails("a")
	c.says("b", primaryWord("rb", "Y", 101, "X", 100, 0))
	gate := failover.NewGate()
	for _, s := range c.all {
		gate.Learn(s.at, s.status)
	}
	for name, x := range map[string]struct {
		receipt failover.Receipt
		want    failover.Fate
	}{
		"before the fork":               {failover.Receipt{Epoch: 1, ReplID: "X", Offset: 100}, failover.FateCarried},
		"past the fork":                 {failover.Receipt{Epoch: 1, ReplID: "X", Offset: 101}, failover.FateUnknown},
		"nobody knows where":            {failover.Receipt{Epoch: 1, ReplID: "X"}, failover.FateUnknown},
		"in a log that nobody heard of": {failover.Receipt{Epoch: 1, ReplID: "Q", Offset: 1}, failover.FateUnknown},
		"under the new primary":         {failover.Receipt{Epoch: 2, ReplID: "Y"}, failover.FateCommit},
	} {
		if got := gate.Fate(c.now, x.receipt); got != x.want {
			t.Errorf("%s: fate %d, want %d", name, got, x.want)
		}
	}

	// The new one is started again, from a file: only what its log forked from is in it.
	c.fails("b")
	c.says("b", primaryWord("rb2", "Z", 90, "Y", 90, 0))
	c.expect("b", 3)
	for _, s := range c.all {
		gate.Learn(s.at, s.status)
	}
	if got := gate.Fate(c.now, failover.Receipt{Epoch: 2, ReplID: "Y", Offset: 95}); got != failover.FateUnknown {
		t.Errorf("a write that the restart lost has fate %d", got)
	}
	if got := gate.Fate(c.now, failover.Receipt{Epoch: 2, ReplID: "Y", Offset: 90}); got != failover.FateCarried {
		t.Errorf("a write that the file has has fate %d", got)
	}
}

// TestAnythingNodesMaySay has nodes say anything at all, then heals the group: whatever was said, there is one
// primary an epoch, epochs grow, nothing is permitted for longer than an answer permits, and in the end the
// healed group's primary is the one.
func TestAnythingNodesMaySay(t *testing.T) {
	for seed := range uint64(2000) {
		rng := rand.New(rand.NewPCG(seed, 1))
		ids := []cluster.NodeID{"a", "b", "c", "d"}
		c := newCourt(t, rng.IntN(2) == 0, ids...)
		for range 60 {
			c.anything(rng, ids)
		}
		c.healed(rng, ids, 150)
		if c.leader() != "b" {
			t.Errorf("seed %d: %q leads the healed group in epoch %d, not b", seed, c.leader(), c.epoch)
		}
		c.checkSaid(fmt.Sprintf("seed %d", seed))
		if t.Failed() {
			for _, e := range c.events {
				t.Log(e.Epoch, e.Name, e.Message)
			}
			return
		}
	}
}

// anything is one thing that may be said, or happen.
func (c *court) anything(rng *rand.Rand, ids []cluster.NodeID) {
	id := ids[rng.IntN(len(ids))]
	replid := func() string { return string("UVWXYZ"[rng.IntN(6)]) }
	run := fmt.Sprintf("r%s%d", id, rng.IntN(2))
	switch rng.IntN(10) {
	case 0:
		c.fails(id)
	case 1:
		c.pass(time.Duration(rng.IntN(1500)) * ms)
	case 2:
		r := roster{}
		for _, m := range ids {
			if rng.IntN(5) > 0 {
				r.members = append(r.members, member{id: m, addr: string(m) + ":1", named: rng.IntN(3) == 0, doubtful: rng.IntN(6) == 0})
			}
		}
		c.list(c.now, r)
		c.take()
	case 3:
		c.handOver(c.now, handover{[]cluster.NodeID{"", id}[rng.IntN(2)]})
		c.take()
	case 4, 5, 6:
		w := primaryWord(run, replid(), rng.Int64N(100), "", 0, rng.IntN(3))
		if rng.IntN(2) == 0 {
			w.prev = cluster.Position{ReplID: replid(), Offset: rng.Int64N(100)}
		}
		c.says(id, w)
	default:
		w := replicaWord(run, replid(), rng.Int64N(100))
		w.linkUp = rng.IntN(4) > 0
		c.says(id, w)
	}
	c.pass(time.Duration(rng.IntN(120)) * ms)
}

// healed has b be the primary whom all others follow, whom every source names.
func (c *court) healed(rng *rand.Rand, ids []cluster.NodeID, rounds int) {
	c.members(false, "b", ids...)
	for i := range rounds {
		for _, id := range ids {
			if id == "b" {
				c.says(id, primaryWord("final", "F", int64(200+i), "X", 199, 3))
			} else {
				c.says(id, replicaWord("final"+string(id), "F", int64(200+i)))
			}
			c.pass(time.Duration(rng.IntN(40)) * ms)
		}
	}
}

// checkSaid looks at all that was ever said.
func (c *court) checkSaid(name string) {
	leaders, newest := map[cluster.Epoch]cluster.NodeID{}, map[cluster.NodeID]said{}
	for _, s := range c.all {
		x := s.status
		if was, ok := newest[x.Node]; ok && (s.at < was.at || x.Epoch < was.status.Epoch) {
			c.t.Errorf("%s: what is said of %s goes back: %v in epoch %d, then %v in %d", name, x.Node, was.at, was.status.Epoch, s.at, x.Epoch)
		}
		newest[x.Node] = s
		if x.Permit > c.opts.Lease || x.Permit > 0 && !x.Leads {
			c.t.Errorf("%s: a permit of %v for %+v", name, x.Permit, x)
		}
		if !x.Leads {
			continue
		}
		if was := leaders[x.Epoch]; was != "" && was != x.Node {
			c.t.Errorf("%s: %s and %s lead in epoch %d", name, was, x.Node, x.Epoch)
		}
		leaders[x.Epoch] = x.Node
	}
}

func TestDeposedPrimaryIsNoNewDispute(t *testing.T) {
	c := steady(t, false)
	c.fails("a")
	b := primaryWord("rb", "Y", 101, "X", 100, 1)
	c.says("b", b)
	c.says("c", replicaWord("rc", "Y", 101))
	c.expect("b", 2)
	c.says("c", primaryWord("rc", "Z", 102, "Y", 101, 0))
	c.members(false, "c", "a", "b", "c")
	c.says("c", primaryWord("rc", "Z", 102, "Y", 101, 0))
	c.expect("c", 3)
	c.says("b", b) // it has not been told yet
	c.expect("c", 3)
}

func TestProcessThatTookItsLogsNameFromAFileIsAnother(t *testing.T) {
	c := steady(t, true)
	c.says("a", primaryWord("ra2", "X", 90, "", 0, 0))
	c.expect("a", 2)
}
