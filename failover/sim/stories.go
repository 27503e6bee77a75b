package sim

import (
	"math/rand/v2"
	"time"

	"understudy/cluster"
)

// story is a setting in which one rule of the design is all that stands between a group and a loss. Drawn
// faults come upon it too, but rarely; times are after the story's start, and vary.
type story struct {
	async    bool // without commits only permits keep two primaries apart
	one      bool // proxy: what it knows of its own writes is all there is to know
	many     bool // proxies
	plain    bool // reads do not wait for commits
	wait     bool // they do
	refuse   bool
	clocks   bool // each host has its own, as wrong as it may be
	together bool // they share one clock, so that what is timed meets
	three    bool // nodes
	often    int  // how much more often than the others it is told: much must meet in it
	faults   []Fault
}

const (
	leader   = -1
	second   = -2 // the first of the others
	third    = -3
	theStore = -1 // as the other end of a cut
)

var stories = []story{
	// The permit must count from before the renewal was sent.
	{faults: []Fault{{Kind: FaultStoreSlow, A: leader, For: 3 * time.Second}, {Kind: FaultCutStore, A: leader, At: 500 * ms, For: 2 * time.Second}}},
	{async: true, many: true, clocks: true, faults: []Fault{{Kind: FaultLateAnswers, A: leader, For: 3 * time.Second},
		{Kind: FaultCut, A: leader, B: theStore, At: 700 * ms, For: 2 * time.Second}, {Kind: FaultCutNodes, A: leader, At: 600 * ms, For: 2 * time.Second}}},
	// Nobody is left to fence: the permit alone stands between the old primary and its clients.
	{async: true, many: true, faults: []Fault{{Kind: FaultFreezeGuards, A: leader, For: 3 * time.Second}, {Kind: FaultDeafProxy, For: 3 * time.Second}}},
	// A voter comes back, and is not asked yet by an election.
	{faults: []Fault{{Kind: FaultCutNodes, A: 2, For: 900 * ms}, {Kind: FaultCut, A: leader, B: 1, At: 1100 * ms, For: 600 * ms},
		{Kind: FaultCutNodes, A: 2, At: 1300 * ms, For: 900 * ms}, {Kind: FaultKillRedis, A: leader, At: 1310 * ms}}},
	// Reads on the old primary's connections, by a proxy that has not heard.
	{many: true, async: true, faults: []Fault{{Kind: FaultDeafProxy, For: time.Second}, {Kind: FaultSwitchover, B: -1, At: 50 * ms}}},
	// A write that everybody can see and nobody else has.
	{one: true, plain: true, faults: []Fault{{Kind: FaultCutNodes, A: leader, For: 600 * ms}, {Kind: FaultKillRedis, A: leader, At: 250 * ms}}},
	// Two primaries die one after the other.
	{faults: []Fault{{Kind: FaultKillRedis, A: leader}, {Kind: FaultCutNodes, A: 1, At: 30 * ms, For: 300 * ms},
		{Kind: FaultCutNodes, A: 2, At: 30 * ms, For: 300 * ms}, {Kind: FaultKillRedis, A: leader, At: 150 * ms}}},
	// The voter that has the write is not there, one that lags is.
	{faults: []Fault{{Kind: FaultCut, A: leader, B: third, For: 700 * ms}, {Kind: FaultFreezeHost, A: second, At: 300 * ms, For: 2 * time.Second}, {Kind: FaultKillRedis, A: leader, At: 310 * ms}}},
	{faults: []Fault{{Kind: FaultCut, A: leader, B: second, For: 700 * ms}, {Kind: FaultFreezeHost, A: third, At: 300 * ms, For: 2 * time.Second}, {Kind: FaultKillRedis, A: leader, At: 310 * ms}}},
	// The new log's name does not reach the store.
	{async: true, faults: []Fault{{Kind: FaultStoreSlow, A: leader, For: 4 * time.Second}, {Kind: FaultKillRedis, A: leader, At: 100 * ms}, {Kind: FaultKillRedis, A: leader, At: 1200 * ms}}},
	{often: 2, async: true, together: true, faults: []Fault{{Kind: FaultCrashAgent, A: leader, For: 3 * time.Second}, {Kind: FaultStoreSlow, At: 900 * ms, For: 3 * time.Second},
		{Kind: FaultCut, A: second, B: theStore, At: 1180 * ms, For: 2 * time.Second}, {Kind: FaultCut, A: third, B: theStore, At: 1180 * ms, For: 2 * time.Second},
		{Kind: FaultKillRedis, A: second, At: 1700 * ms}, {Kind: FaultKillRedis, A: third, At: 1700 * ms}}},
	// A switchover to a node that is behind.
	{faults: []Fault{{Kind: FaultSlow, A: leader, For: 1500 * ms}, {Kind: FaultSwitchover, B: -1, At: 400 * ms}}},
	// An old primary with a longer log of its own comes back as the new one dies.
	{faults: []Fault{{Kind: FaultCutNodes, A: leader, For: 1700 * ms}, {Kind: FaultCutStore, A: leader, For: 1700 * ms}, {Kind: FaultKillRedis, A: leader, At: 1600 * ms}}},
	// A switchover's target dies at the worst moment, or the store does not say what became of it.
	{faults: []Fault{{Kind: FaultSwitchover, B: -1}, {Kind: FaultKillRedis, A: leader, At: 10 * ms}}},
	{faults: []Fault{{Kind: FaultStoreForgets, For: time.Second}, {Kind: FaultSwitchover, B: -1, At: 100 * ms}, {Kind: FaultCrashAgent, A: leader, At: 700 * ms}}},
	{faults: []Fault{{Kind: FaultSwitchover, B: -1}, {Kind: FaultFreezeAgent, A: leader, At: 5 * ms, For: 1900 * ms}}},
	// Replicas give a primary up that lives.
	{faults: []Fault{{Kind: FaultCutStore, A: 0, For: 1300 * ms}, {Kind: FaultCutStore, A: 1, For: 1300 * ms}, {Kind: FaultKillRedis, A: leader, At: 1500 * ms}}},
	{faults: []Fault{{Kind: FaultFreezeAgent, A: leader, For: 700 * ms}}},
	// A rule that shrinks while a proxy holds an older one, or a voter has what the others lack.
	{faults: []Fault{{Kind: FaultDeafProxy, For: 700 * ms}, {Kind: FaultCutNodes, A: 1, At: 50 * ms, For: 800 * ms}, {Kind: FaultKillRedis, A: leader, At: 760 * ms}}},
	{three: true, faults: []Fault{{Kind: FaultCut, A: leader, B: third, For: 2500 * ms}, {Kind: FaultCrashAgent, A: second, At: 200 * ms, For: 2500 * ms}, {Kind: FaultKillRedis, A: leader, At: 900 * ms}}},
	// One voter takes another's place while the store cannot be told.
	{three: true, faults: []Fault{{Kind: FaultCutReplica, A: third, For: 2300 * ms}, {Kind: FaultStoreDown, At: 1600 * ms, For: 2 * time.Second},
		{Kind: FaultCutReplica, A: second, At: 2350 * ms, For: 1100 * ms}, {Kind: FaultIsolate, A: third, At: 3380 * ms, For: 2 * time.Second}, {Kind: FaultKillRedis, A: leader, At: 3400 * ms}}},
	// A zone is cut off, with clients inside: no clock is needed for the others to go on, and none helps the inside.
	{often: 1, many: true, wait: true, faults: []Fault{{Kind: FaultCutZone, A: leader, For: 1500 * ms}}},
	{many: true, plain: true, faults: []Fault{{Kind: FaultCutZone, A: leader, For: 1500 * ms}}},
	{async: true, many: true, clocks: true, faults: []Fault{{Kind: FaultCutZone, A: leader, For: 1800 * ms}}},
	{faults: []Fault{{Kind: FaultFreezeZone, A: leader, For: 1200 * ms}}},
	// Only some have lost sight of the primary.
	{three: true, faults: []Fault{{Kind: FaultCutStore, A: leader, For: 900 * ms}, {Kind: FaultCut, A: leader, B: second, For: 900 * ms}}},
	// The store is gone, and not everybody confirms the primary.
	{async: true, faults: []Fault{{Kind: FaultCutStore, A: leader, For: 3 * time.Second}, {Kind: FaultCut, A: leader, B: second, For: 3 * time.Second}}},
	{faults: []Fault{{Kind: FaultStoreMost, For: 2500 * ms}, {Kind: FaultCutNodes, A: second, At: 1200 * ms, For: 600 * ms}}},
	// Its word was the last that they heard when it is cut off.
	{often: 2, async: true, clocks: true, faults: []Fault{{Kind: FaultStoreDown, For: 1500 * ms}, {Kind: FaultLatePeers, A: leader, B: 85, For: 1500 * ms},
		{Kind: FaultFreezeAgent, A: leader, At: 1100 * ms, For: 220 * ms}, {Kind: FaultCutNodes, A: leader, At: 1150 * ms, For: 2500 * ms}, {Kind: FaultCutStore, A: leader, At: 1150 * ms, For: 2500 * ms}}},
	// A node that has given the primary up starts again, and the primary is there.
	{often: 2, three: true, faults: []Fault{{Kind: FaultCutStore, A: leader, For: 2500 * ms}, {Kind: FaultCutNodes, A: leader, For: 450 * ms},
		{Kind: FaultCut, A: second, B: theStore, At: 430 * ms, For: 300 * ms}, {Kind: FaultCrashAgent, A: third, At: 480 * ms, For: 5 * ms}}},
	// A claim is on its way while the primary asks whether it may go on.
	{three: true, many: true, plain: true, faults: []Fault{{Kind: FaultCutStore, A: leader, For: 2500 * ms}, {Kind: FaultCutNodes, A: leader, For: 400 * ms},
		{Kind: FaultLateAnswers, A: second, At: 300 * ms, For: 900 * ms}}},
	// Writes that wait for replicas which do not come, and are seen meanwhile.
	{often: 1, one: true, plain: true, refuse: true, faults: []Fault{{Kind: FaultCutNodes, A: leader, For: 2500 * ms}, {Kind: FaultKillRedis, A: leader, At: 1800 * ms}}},
	// The store forgets the newest epochs, and somebody needs one.
	{faults: []Fault{{Kind: FaultSwitchover, B: -1}, {Kind: FaultStoreRestore, At: 300 * ms, For: 600 * ms}, {Kind: FaultKillRedis, A: leader, At: 350 * ms}}},
	{faults: []Fault{{Kind: FaultKillRedis, A: leader}, {Kind: FaultStoreRestore, At: 400 * ms, For: 700 * ms}, {Kind: FaultFreezeAgent, A: second, At: 300 * ms, For: 1500 * ms}}},
	// The store's leader goes with the primary.
	{faults: []Fault{{Kind: FaultStoreLeader}, {Kind: FaultCutZone, A: leader, At: 20 * ms, For: 1500 * ms}}},
	// The disk is full, or the data is gone, and the server comes back at once.
	{faults: []Fault{{Kind: FaultFullDisk, A: leader, For: 1500 * ms}, {Kind: FaultKillRedis, A: leader, At: 700 * ms}}},
	{faults: []Fault{{Kind: FaultEmptyRedis, A: leader}, {Kind: FaultFreezeAgent, A: second, At: 2 * ms, For: 500 * ms}}},
}

// tellings are the stories' indexes, each as often as it is told.
var tellings = func() []int {
	var all []int
	for i, y := range stories {
		for range 1 + y.often {
			all = append(all, i)
		}
	}
	return all
}()

// longEnough is how much of the last fault of a story must pass before all is healed: an expiry, an election.
const longEnough = 1500 * ms

// drawStory tells one of the stories, some time after the group has found together.
func (s *Schedule) drawStory(r *rand.Rand) {
	y := stories[tellings[r.IntN(len(tellings))]]
	if r.IntN(4) > 0 {
		s.suit(y)
	}
	start := calmBefore + time.Duration(r.Int64N(int64(s.Length-calmBefore)))
	// Mostly what belongs together keeps its order: the whole story is a little faster or slower.
	stretch, loose := 80+r.Int64N(41), r.IntN(3) == 0
	spread := func(d, jitter time.Duration) time.Duration {
		if loose {
			return (d/2 + time.Duration(r.Int64N(int64(d)+1))).Round(us)
		}
		return max(0, d*time.Duration(stretch)/100+time.Duration(r.Int64N(int64(2*jitter)+1))-jitter).Round(us)
	}
	for _, f := range y.faults {
		f.At, f.For = start.Round(us)+spread(f.At, 15*ms), spread(f.For, f.For/10)
		if f.B == 0 {
			f.B = r.IntN(2)
		}
		s.Faults = append(s.Faults, f)
		s.Length = max(s.Length, f.At+100*ms, f.At+min(f.For, longEnough))
	}
}

// suit gives the schedule the setting that the story needs.
func (s *Schedule) suit(y story) {
	if y.async {
		s.Durability = cluster.DurabilityAsync
	}
	if y.one {
		s.Proxies = 1
	}
	if y.many {
		s.Proxies, s.Readers, s.OneClock = 2, true, false
	}
	if y.plain {
		s.Committed, s.Readers = false, true
	}
	if y.wait {
		s.Committed = true
	}
	if y.refuse {
		s.Refuse, s.Hold = true, time.Second
	}
	if y.clocks {
		s.OneClock, s.Extreme = false, true
	}
	if y.together {
		s.OneClock = true
	}
	if y.three {
		s.Nodes = 3
	}
	s.BadClocks = s.BadClocks && !y.clocks && !y.async
}
