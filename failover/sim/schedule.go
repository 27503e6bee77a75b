package sim

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"understudy/cluster"
	"understudy/failover"
)

// Schedule is one run: who is there, and what goes wrong when. All that it does not say comes from
// Seed.
type Schedule struct {
	Seed         uint64
	Nodes        int
	Proxies      int
	Clients      int // of each proxy
	Durability   cluster.Durability
	OneClock     bool // all in one process tree: one clock, statuses are pushed
	Committed    bool // every read waits for a commit
	BadClocks    bool // clocks drift far beyond what δ allows: acked writes must survive all the same
	ShortBacklog bool // a replica that falls behind needs a full sync
	Think        time.Duration
	Length       time.Duration // all faults have begun by then
	Mutation     failover.Mutation
	Faults       []Fault
}

// NewSchedule draws a schedule: a random few of the kinds of faults, so that each kind also meets
// the calm of the others.
func NewSchedule(seed uint64, m failover.Mutation) Schedule {
	r := rand.New(rand.NewPCG(seed, 2))
	s := Schedule{
		Seed: seed, Nodes: 3, Proxies: 1 + r.IntN(2), Clients: 2, Durability: cluster.DurabilitySync, Mutation: m,
		OneClock: r.IntN(10) < 3, ShortBacklog: r.IntN(4) == 0, Think: 80 * ms,
		Length: time.Duration(2000+r.IntN(2000)) * ms,
	}
	switch r.IntN(10) {
	case 0:
		s.Nodes = 2
	case 1:
		s.Nodes = 5
	case 2:
		s.Durability = cluster.DurabilityAsync
	case 3:
		s.BadClocks = !s.OneClock
	}
	if r.IntN(3) == 0 {
		s.Clients, s.Think = 6, 120*ms
	}
	s.Committed = s.Proxies > 1 || r.IntN(2) == 0
	var kinds []FaultKind
	for _, k := range faultKinds {
		if r.IntN(100) < 35 {
			kinds = append(kinds, k)
		}
	}
	if len(kinds) == 0 {
		kinds = faultKinds
	}
	for range 1 + r.IntN(7) {
		s.Faults = append(s.Faults, drawFault(r, s, kinds))
	}
	if r.IntN(2) == 0 {
		s.Faults = s.Faults[:r.IntN(2)]
		if r.IntN(5) == 0 {
			// Without commits only permits keep two primaries apart.
			s.Durability, s.Proxies, s.Committed = cluster.DurabilityAsync, 2, true
		}
		s.Faults = append(s.Faults, drawStory(r, s)...)
	}
	slices.SortStableFunc(s.Faults, func(a, b Fault) int { return int(min(1, max(-1, a.At-b.At))) })
	return s
}

func drawFault(r *rand.Rand, s Schedule, kinds []FaultKind) Fault {
	f := Fault{Kind: kinds[r.IntN(len(kinds))], A: -1, B: r.IntN(s.Nodes+s.Proxies+2) - 1}
	calm := 1500 * ms // until then most groups have found together, and have a rule
	if r.IntN(6) == 0 {
		calm = 100 * ms
	}
	f.At = calm + time.Duration(r.Int64N(int64(s.Length-calm)))
	f.For = 10 * ms << r.IntN(8)
	f.For += time.Duration(r.Int64N(int64(f.For)))
	if r.IntN(2) == 0 {
		f.A = r.IntN(s.Nodes)
	}
	if f.Kind == FaultCrashAt {
		f.B = r.IntN(40)
	}
	f.At, f.For = f.At.Round(us), f.For.Round(us)
	return f
}

// stories are faults that belong together: each is the setting in which one rule of the design is all
// that stands between a group and a loss. Times are after the story's start; a spread makes them vary.
var stories = [][]Fault{
	// The permit must count from before the renewal was sent.
	{{Kind: FaultStoreSlow, A: -1, For: 3 * time.Second}, {Kind: FaultCutStore, A: -1, At: 500 * ms, For: 2 * time.Second}},
	{{Kind: FaultLateAnswers, A: -1, For: 3 * time.Second}, {Kind: FaultCut, A: -1, B: -1, At: 700 * ms, For: 2 * time.Second}},
	// Nobody is left to fence: the permit alone stands between the old primary and its clients.
	{{Kind: FaultFreezeGuards, A: -1, For: 3 * time.Second}, {Kind: FaultDeafProxy, A: -1, For: 3 * time.Second}},
	// A voter comes back, and is not asked yet by an election.
	{{Kind: FaultCutNodes, A: 2, For: 900 * ms}, {Kind: FaultCut, A: -1, B: 1, At: 1100 * ms, For: 600 * ms}, {Kind: FaultCutNodes, A: 2, At: 1300 * ms, For: 900 * ms}, {Kind: FaultKillRedis, A: -1, At: 1310 * ms}},
	// Reads on the old primary's connections, by a proxy that has not heard.
	{{Kind: FaultDeafProxy, A: -1, For: time.Second}, {Kind: FaultSwitchover, A: -1, B: -1, At: 50 * ms}},
	// A write that everybody can see and nobody else has.
	{{Kind: FaultCutNodes, A: -1, For: 600 * ms}, {Kind: FaultKillRedis, A: -1, At: 250 * ms}},
	// Two primaries die one after the other.
	{{Kind: FaultKillRedis, A: -1}, {Kind: FaultCutNodes, A: 1, At: 30 * ms, For: 300 * ms}, {Kind: FaultCutNodes, A: 2, At: 30 * ms, For: 300 * ms}, {Kind: FaultKillRedis, A: -1, At: 150 * ms}},
	// The voter that has the write is not there, one that lags is.
	{{Kind: FaultCut, A: 0, B: 2, For: 700 * ms}, {Kind: FaultFreezeHost, A: 1, At: 300 * ms, For: 2 * time.Second}, {Kind: FaultKillRedis, A: 0, At: 310 * ms}},
	{{Kind: FaultCut, A: 1, B: 0, For: 700 * ms}, {Kind: FaultFreezeHost, A: 2, At: 300 * ms, For: 2 * time.Second}, {Kind: FaultKillRedis, A: 1, At: 310 * ms}},
	// The new log's name does not reach the store.
	{{Kind: FaultStoreSlow, A: -1, For: 4 * time.Second}, {Kind: FaultKillRedis, A: -1, At: 100 * ms}, {Kind: FaultKillRedis, A: -1, At: 1200 * ms}},
	// A switchover to a node that is behind.
	{{Kind: FaultSlow, A: -1, For: 1500 * ms}, {Kind: FaultSwitchover, A: -1, B: -1, At: 400 * ms}},
	// An old primary with a longer log of its own comes back as the new one dies.
	{{Kind: FaultCutNodes, A: -1, For: 1700 * ms}, {Kind: FaultCutStore, A: -1, For: 1700 * ms}, {Kind: FaultKillRedis, A: -1, At: 1600 * ms}},
	// A switchover's target dies at the worst moment, or the store does not say what became of it.
	{{Kind: FaultSwitchover, A: -1, B: -1}, {Kind: FaultKillRedis, A: -1, At: 10 * ms}},
	{{Kind: FaultStoreForgets, A: -1, For: time.Second}, {Kind: FaultSwitchover, A: -1, B: -1, At: 100 * ms}, {Kind: FaultCrashAgent, A: -1, At: 700 * ms}},
	{{Kind: FaultSwitchover, A: -1, B: -1}, {Kind: FaultFreezeAgent, A: -1, At: 5 * ms, For: 1900 * ms}},
	// Replicas give a primary up that lives.
	{{Kind: FaultCutStore, A: 0, For: 1300 * ms}, {Kind: FaultCutStore, A: 1, For: 1300 * ms}, {Kind: FaultKillRedis, A: -1, At: 1500 * ms}},
	// A rule that shrinks while a proxy holds an older one.
	{{Kind: FaultDeafProxy, A: -1, For: 700 * ms}, {Kind: FaultCutNodes, A: 1, At: 50 * ms, For: 800 * ms}, {Kind: FaultKillRedis, A: -1, At: 760 * ms}},
}

func drawStory(r *rand.Rand, s Schedule) []Fault {
	start := 1500*ms + time.Duration(r.Int64N(int64(s.Length-1500*ms)))
	var faults []Fault
	for _, f := range stories[r.IntN(len(stories))] {
		spread := func(d time.Duration) time.Duration {
			return (d/2 + time.Duration(r.Int64N(int64(d)+1))).Round(us)
		}
		f.At, f.For = start.Round(us)+spread(f.At), spread(f.For)
		if f.B == 0 {
			f.B = r.IntN(2)
		}
		faults = append(faults, f)
	}
	return faults
}

// clock of a host: it starts anywhere, and runs fast or slow by less than δ/T.
func (s Schedule) clock(host int) clock {
	if s.OneClock {
		host = 0
	}
	r := rand.New(rand.NewPCG(s.Seed, 1000+uint64(host)))
	drift := int64(maxDrift)
	if s.BadClocks {
		drift *= 4
	}
	return clock{offset: time.Duration(r.Int64N(int64(time.Hour))), ppm: r.Int64N(2*drift) - drift}
}

// maxDrift is how far a clock may run from true time, in millionths: δ/T of the fast profile is
// 150,000; beyond it the permits of two nodes may overlap.
const maxDrift = 140_000

func (s Schedule) peer(i int) failover.Peer {
	r := rand.New(rand.NewPCG(s.Seed, 2000+uint64(i)))
	return failover.Peer{Node: nodeID(i), Zone: string(rune('a' + i%3)), Priority: r.IntN(3)}
}

func (s Schedule) peers() []failover.Peer {
	var all []failover.Peer
	for i := range s.Nodes {
		all = append(all, s.peer(i))
	}
	return all
}

// String is the schedule as a script, which Parse reads.
func (s Schedule) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "schedule seed=%d nodes=%d proxies=%d clients=%d durability=%s oneclock=%v committed=%v badclocks=%v shortbacklog=%v think=%v length=%v mutation=%v\n",
		s.Seed, s.Nodes, s.Proxies, s.Clients, s.Durability, s.OneClock, s.Committed, s.BadClocks, s.ShortBacklog, s.Think, s.Length, s.Mutation)
	for _, f := range s.Faults {
		fmt.Fprintf(&b, "%v %s a=%d b=%d for=%v\n", f.At, f.Kind, f.A, f.B, f.For)
	}
	return b.String()
}

// Parse reads a script; lines that begin with # are comments.
func Parse(text string) (Schedule, error) {
	var s Schedule
	sc := bufio.NewScanner(strings.NewReader(text))
	for sc.Scan() {
		line := strings.TrimSpace(sc.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		var err error
		if strings.HasPrefix(line, "schedule ") {
			err = s.parseHead(line)
		} else {
			var f Fault
			f, err = parseFault(line)
			s.Faults = append(s.Faults, f)
		}
		if err != nil {
			return s, fmt.Errorf("script line %q: %w", line, err)
		}
	}
	if s.Nodes == 0 {
		return s, fmt.Errorf("script: the line that begins with \"schedule\" is missing")
	}
	return s, sc.Err()
}

func (s *Schedule) parseHead(line string) error {
	var durability, think, length, mutation string
	_, err := fmt.Sscanf(line, "schedule seed=%d nodes=%d proxies=%d clients=%d durability=%s oneclock=%t committed=%t badclocks=%t shortbacklog=%t think=%s length=%s mutation=%s",
		&s.Seed, &s.Nodes, &s.Proxies, &s.Clients, &durability, &s.OneClock, &s.Committed, &s.BadClocks, &s.ShortBacklog, &think, &length, &mutation)
	if err != nil {
		return err
	}
	s.Durability = cluster.Durability(durability)
	if s.Think, err = time.ParseDuration(think); err != nil {
		return err
	}
	if s.Length, err = time.ParseDuration(length); err != nil {
		return err
	}
	if mutation == failover.MutationNone.String() {
		return nil
	}
	for _, m := range failover.Mutations() {
		if m.String() == mutation {
			s.Mutation = m
			return nil
		}
	}
	return fmt.Errorf("unknown mutation %q", mutation)
}

func parseFault(line string) (Fault, error) {
	var f Fault
	var at, kind, lasts string
	if _, err := fmt.Sscanf(line, "%s %s a=%d b=%d for=%s", &at, &kind, &f.A, &f.B, &lasts); err != nil {
		return f, err
	}
	f.Kind = FaultKind(kind)
	if !slices.Contains(faultKinds, f.Kind) {
		return f, fmt.Errorf("unknown fault %q", kind)
	}
	var err error
	if f.At, err = time.ParseDuration(at); err != nil {
		return f, err
	}
	f.For, err = time.ParseDuration(lasts)
	return f, err
}
