package failover

import (
	"fmt"
	"time"
)

// Profile holds the timings of a group. The relations between them are checked by Validate.
type Profile struct {
	Name string
	// Renew is the time between two renewals of the lead.
	Renew time.Duration
	// TTL is T: a holder's permit ends TTL-Delta after it SENT its last acknowledged renewal, a
	// challenger waits TTL+Delta after it last SAW the lead change.
	TTL time.Duration
	// Delta covers how far two clocks may drift apart within TTL, and how long fencing may take.
	Delta time.Duration
	// Probe is the time between two PINGs; Misses of them unanswered make a hung server.
	Probe  time.Duration
	Misses int
	// Window bounds how long an election waits for the other nodes' answers.
	Window time.Duration
	// Drain bounds how long a candidate reads what the lost primary had already sent.
	Drain time.Duration
	// ShrinkAfter is how long a voter must be gone before the rule is shrunk: shorter than a
	// client's patience, longer than a replica needs to re-point.
	ShrinkAfter time.Duration
	// StallAfter is how long a connected voter may be behind before it counts as gone. Replicas
	// acknowledge once a second on their own, so it is above that.
	StallAfter time.Duration
}

// Profiles are the named sets of timings: fast for one machine or one metro, standard for zones of
// one region, wide across regions.
var profiles = []Profile{
	{Name: "fast", Renew: 150 * time.Millisecond, TTL: time.Second, Delta: 150 * time.Millisecond,
		Probe: 50 * time.Millisecond, Misses: 6, Window: 100 * time.Millisecond, Drain: 20 * time.Millisecond,
		ShrinkAfter: 500 * time.Millisecond, StallAfter: 2500 * time.Millisecond},
	{Name: "standard", Renew: 500 * time.Millisecond, TTL: 3 * time.Second, Delta: 300 * time.Millisecond,
		Probe: 150 * time.Millisecond, Misses: 6, Window: 250 * time.Millisecond, Drain: 50 * time.Millisecond,
		ShrinkAfter: time.Second, StallAfter: 4 * time.Second},
	{Name: "wide", Renew: 2 * time.Second, TTL: 10 * time.Second, Delta: time.Second,
		Probe: 500 * time.Millisecond, Misses: 6, Window: time.Second, Drain: 200 * time.Millisecond,
		ShrinkAfter: 3 * time.Second, StallAfter: 10 * time.Second},
}

// ProfileByName returns the named profile.
func ProfileByName(name string) (Profile, error) {
	for _, p := range profiles {
		if p.Name == name {
			return p, nil
		}
	}
	return Profile{}, fmt.Errorf("profile %q: not one of fast, standard, wide", name)
}

// Validate checks the relations that safety and availability rest on.
func (p Profile) Validate() error {
	retry := p.Renew / 2
	switch {
	case p.Renew <= 0 || p.TTL <= 0 || p.Delta <= 0 || p.Probe <= 0 || p.Misses <= 0 || p.Window <= 0:
		return fmt.Errorf("profile %s: every time must be above zero", p.Name)
	case p.Renew+2*retry > p.TTL-p.Delta:
		return fmt.Errorf("profile %s: renew + 2 retries (%v) must fit into T - δ (%v)", p.Name, p.Renew+2*retry, p.TTL-p.Delta)
	case p.hang() >= p.TTL:
		return fmt.Errorf("profile %s: probe × misses (%v) must be below T (%v)", p.Name, p.hang(), p.TTL)
	}
	return nil
}

// hang is how long a server may leave PINGs unanswered before it is killed.
func (p Profile) hang() time.Duration { return p.Probe * time.Duration(p.Misses) }
