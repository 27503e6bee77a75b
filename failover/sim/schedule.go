package sim

import (
	"bufio"
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
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
	Members      int // of the store
	Durability   cluster.Durability
	Refuse       bool          // on_lost_quorum
	Home         string        // the zone where the primary belongs; ""
	Adopted      bool          // redis-servers are somebody else's: they live on when their agent dies
	OneClock     bool          // all in one process tree: one clock, statuses are pushed
	Committed    bool          // every read waits for a commit
	Readers      bool          // every second client only reads, and all of the second proxy
	BadClocks    bool          // clocks drift far beyond what δ allows: acked writes must survive all the same
	Extreme      bool          // each clock drifts as far as it may, this way or that
	ShortBacklog bool          // a replica that falls behind needs a full sync
	Hold         time.Duration // how long a proxy keeps a request
	Think        time.Duration
	Length       time.Duration // all faults have begun by then
	Mutation     failover.Mutation
	Faults       []Fault
}

// NewSchedule draws a schedule, swarm-fashion: each has its own few kinds of faults, with weights of its
// own, so that each kind also meets the calm of the others; or a story, on its own or among those.
func NewSchedule(seed uint64, m failover.Mutation) Schedule {
	r := rand.New(rand.NewPCG(seed, 2))
	s := Schedule{
		Seed: seed, Nodes: 3, Proxies: 1 + r.IntN(2), Clients: 2, Members: 3, Durability: cluster.DurabilitySync, Mutation: m,
		OneClock: r.IntN(10) < 3, ShortBacklog: r.IntN(4) == 0, Hold: 3 * time.Second, Think: 80 * ms,
		Length: time.Duration(1000+r.IntN(2000)) * ms, Refuse: r.IntN(4) == 0, Readers: r.IntN(2) == 0, Extreme: r.IntN(2) == 0,
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
	if s.OneClock || r.IntN(3) == 0 {
		s.Members = 1
	}
	if r.IntN(3) == 0 {
		s.Clients, s.Think = 6, 120*ms
	}
	if r.IntN(3) == 0 {
		s.Hold = time.Second
	}
	if r.IntN(8) == 0 {
		s.Home = zoneName(r.IntN(3))
	}
	s.Adopted = rand.New(rand.NewPCG(seed, 4)).IntN(8) == 0
	s.Committed = r.IntN(2) == 0
	if r.IntN(2) == 0 {
		s.drawSwarm(r, 1+r.IntN(7))
	} else {
		s.drawStory(r)
		s.drawSwarm(r, max(0, r.IntN(4)-1))
	}
	slices.SortStableFunc(s.Faults, func(a, b Fault) int { return cmp.Compare(a.At, b.At) })
	return s
}

// drawSwarm adds n faults of a few kinds.
func (s *Schedule) drawSwarm(r *rand.Rand, n int) {
	var kinds []FaultKind
	for _, k := range faultKinds {
		if r.IntN(100) < 25 {
			for range 1 + r.IntN(3) {
				kinds = append(kinds, k)
			}
		}
	}
	if len(kinds) == 0 {
		kinds = faultKinds
	}
	for range n {
		s.Faults = append(s.Faults, s.drawFault(r, kinds))
	}
}

// calmBefore is when most groups have found together, and have a rule.
const calmBefore = 500 * ms

func (s *Schedule) drawFault(r *rand.Rand, kinds []FaultKind) Fault {
	f := Fault{Kind: kinds[r.IntN(len(kinds))], A: -1, B: r.IntN(s.Nodes+s.Proxies+2) - 1}
	calm := calmBefore
	if r.IntN(6) == 0 {
		calm = 100 * ms
	}
	f.At = calm + time.Duration(r.Int64N(int64(s.Length-calm)))
	f.For = 10 * ms << r.IntN(8)
	f.For += time.Duration(r.Int64N(int64(f.For)))
	if r.IntN(2) == 0 {
		f.A = r.IntN(s.Nodes)
	}
	switch f.Kind {
	case FaultCrashAt:
		f.B = r.IntN(40)
	case FaultLatePeers:
		f.B = r.IntN(150)
	}
	f.At, f.For = f.At.Round(us), f.For.Round(us)
	return f
}

// clock of a host: it starts anywhere, and runs fast or slow by less than δ/T.
func (s Schedule) clock(host int) clock {
	if s.OneClock {
		host = 0
	}
	r := rand.New(rand.NewPCG(s.Seed, 1000+uint64(host)))
	drift := int64(maxDrift)
	switch {
	case s.BadClocks:
		drift *= 4
	case slices.ContainsFunc(s.Faults, func(f Fault) bool { return f.Kind == FaultClockJump }):
		drift = jumpingDrift
	}
	c := clock{offset: time.Duration(r.Int64N(int64(time.Hour))), ppm: r.Int64N(2*drift) - drift}
	if s.Extreme {
		c.ppm = drift - 2*drift*r.Int64N(2)
	}
	return c
}

// maxDrift is how far a clock may run from true time, in millionths: δ/T of the fast profile is
// 150,000; beyond it the permits of two nodes may overlap. Where clocks may also jump, δ must cover a
// jump beside the drift.
const (
	maxDrift     = 140_000
	jumpingDrift = 20_000
	jumpBound    = 100 * ms
)

func (s Schedule) lostQuorum() cluster.LostQuorum {
	if s.Refuse {
		return cluster.LostQuorumRefuse
	}
	return cluster.LostQuorumShrink
}

// zones is how many there are: the nodes and the members of the store are dealt out to them in turn.
const zones = 3

func (s Schedule) zoneOf(index int) int { return index % zones }

func zoneName(z int) string { return string(rune('a' + z)) }

// home is the zone of a proxy.
func (s Schedule) home(proxy int) int {
	return rand.New(rand.NewPCG(s.Seed, 3000+uint64(proxy))).IntN(zones)
}

func (s Schedule) peer(i int) failover.Peer {
	r := rand.New(rand.NewPCG(s.Seed, 2000+uint64(i)))
	return failover.Peer{Node: nodeID(i), Zone: zoneName(s.zoneOf(i)), Priority: r.IntN(3)}
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
	b.WriteString("schedule")
	for _, f := range s.head() {
		fmt.Fprintf(&b, " %s=%v", f.name, f.get())
	}
	b.WriteByte('\n')
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

// field is one word of a script's first line.
type field struct {
	name string
	get  func() string
	set  func(text string) error
}

// head are the fields of the first line. A script that lacks one is from before it existed: it means
// what it meant then.
func (s *Schedule) head() []field {
	return []field{
		number("seed", &s.Seed), count("nodes", &s.Nodes), count("proxies", &s.Proxies), count("clients", &s.Clients),
		count("members", &s.Members), word("durability", (*string)(&s.Durability)), flag("refuse", &s.Refuse), word("home", &s.Home),
		flag("adopted", &s.Adopted), flag("oneclock", &s.OneClock), flag("committed", &s.Committed), flag("readers", &s.Readers), flag("badclocks", &s.BadClocks),
		flag("extreme", &s.Extreme), flag("shortbacklog", &s.ShortBacklog), duration("hold", &s.Hold), duration("think", &s.Think),
		duration("length", &s.Length), mutation("mutation", &s.Mutation),
	}
}

func number(name string, v *uint64) field {
	return field{name, func() string { return strconv.FormatUint(*v, 10) }, func(t string) (err error) {
		*v, err = strconv.ParseUint(t, 10, 64)
		return err
	}}
}

func count(name string, v *int) field {
	return field{name, func() string { return strconv.Itoa(*v) }, func(t string) (err error) {
		*v, err = strconv.Atoi(t)
		return err
	}}
}

func word(name string, v *string) field {
	return field{name, func() string { return *v }, func(t string) error {
		*v = t
		return nil
	}}
}

func flag(name string, v *bool) field {
	return field{name, func() string { return strconv.FormatBool(*v) }, func(t string) (err error) {
		*v, err = strconv.ParseBool(t)
		return err
	}}
}

func duration(name string, v *time.Duration) field {
	return field{name, func() string { return v.String() }, func(t string) (err error) {
		*v, err = time.ParseDuration(t)
		return err
	}}
}

func mutation(name string, v *failover.Mutation) field {
	return field{name, func() string { return v.String() }, func(t string) error {
		for _, m := range append(failover.Mutations(), failover.MutationNone) {
			if m.String() == t {
				*v = m
				return nil
			}
		}
		return fmt.Errorf("unknown mutation %q", t)
	}}
}

func (s *Schedule) parseHead(line string) error {
	s.Members, s.Hold = 1, 3*time.Second
	fields := s.head()
	for _, w := range strings.Fields(line)[1:] {
		name, text, _ := strings.Cut(w, "=")
		i := slices.IndexFunc(fields, func(f field) bool { return f.name == name })
		if i < 0 {
			return fmt.Errorf("unknown field %q", name)
		}
		if err := fields[i].set(text); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return s.valid()
}

// valid says what a schedule cannot be played without.
func (s *Schedule) valid() error {
	switch {
	case s.Nodes < 1 || s.Proxies < 1 || s.Clients < 1 || s.Members < 1:
		return fmt.Errorf("nodes, proxies, clients and members must be above zero")
	case s.Think <= 5*ms || s.Length <= 0 || s.Hold <= 0:
		return fmt.Errorf("think must be above 5ms, length and hold above zero")
	}
	return nil
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
