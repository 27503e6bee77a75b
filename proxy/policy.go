package proxy

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"understudy/resp"
)

// Policy says what requests for a class of data do while they cannot be served. Keys that begin with Prefix
// are that class; of several policies the one with the longest prefix counts, and an empty prefix is every
// key's. A command with several keys takes the strictest policy of them: fail before hold before stale, and
// the shortest times. What names no keys, scripts, and what stands between MULTI and EXEC, is held.
type Policy struct {
	Prefix        string
	OnUnavailable OnUnavailable
	// MaxHold bounds how long such a request is held; 0 is Options.Hold, which is the most. Not with Fail.
	MaxHold time.Duration
	// MaxStaleness bounds how old the data of a replica may be that answers a read; with Stale only, and
	// needed there.
	MaxStaleness time.Duration
}

// OnUnavailable is what a request does while there is no primary to serve it.
type OnUnavailable string

// What a request may do.
const (
	// Hold: it waits, and gets an error at the end.
	Hold OnUnavailable = "hold"
	// Fail: it gets an error that says so at once, also a write that waits for a replica to hold its copy.
	Fail OnUnavailable = "fail"
	// Stale: a read is answered by a replica whose data is known not to be older than MaxStaleness; without
	// such a replica it is held, as a write is.
	Stale OnUnavailable = "stale"
)

// strictness orders what a command with several keys may do.
var strictness = map[OnUnavailable]int{Stale: 0, Hold: 1, Fail: 2}

// The bounds of what may be as old as a setting says. What is asked more often than every few milliseconds
// costs the primary more than it tells.
const (
	LeastStaleness = 100 * time.Millisecond
	MostStaleness  = 24 * time.Hour
)

// CheckPolicies says what is wrong with policies where requests wait for hold at most.
func CheckPolicies(policies []Policy, hold time.Duration) error {
	seen := map[string]bool{}
	for _, p := range policies {
		if err := p.check(hold); err != nil {
			return fmt.Errorf("prefix %q: %w", p.Prefix, err)
		}
		if seen[p.Prefix] {
			return fmt.Errorf("prefix %q: there are two policies for it", p.Prefix)
		}
		seen[p.Prefix] = true
	}
	return nil
}

func (p Policy) check(hold time.Duration) error {
	_, known := strictness[p.OnUnavailable]
	switch {
	case !known:
		return fmt.Errorf("on_unavailable %q: not one of hold, fail, stale", p.OnUnavailable)
	case p.MaxHold < 0 || p.MaxHold > hold:
		return fmt.Errorf("max_hold %v: from 1ms to hold, which is %v", p.MaxHold, hold)
	case p.OnUnavailable == Fail && p.MaxHold != 0:
		return errors.New("max_hold: what fails at once is not held; leave it out")
	case p.OnUnavailable != Stale && p.MaxStaleness != 0:
		return errors.New("max_staleness: is for on_unavailable stale; leave it out")
	case p.OnUnavailable == Stale && p.MaxStaleness == 0:
		return errors.New("max_staleness: is needed with on_unavailable stale")
	case p.OnUnavailable == Stale:
		return CheckStaleness(p.MaxStaleness)
	}
	return nil
}

// CheckStaleness says what is wrong with a bound of how old data may be.
func CheckStaleness(d time.Duration) error {
	if d < LeastStaleness || d > MostStaleness {
		return fmt.Errorf("max_staleness %v: from %v to %v", d, LeastStaleness, MostStaleness)
	}
	return nil
}

// policyBook is the policies, with the longest prefix first.
type policyBook struct {
	all []Policy
	// due is when the first request that waits under a policy has waited as long as that allows; scan has
	// all be looked at in any case, but not before at.
	due, at time.Duration
	scan    bool
	shut    bool // there was no primary when they were last looked at
}

func newPolicyBook(policies []Policy, hold time.Duration) policyBook {
	b := policyBook{all: slices.Clone(policies), due: never}
	for i := range b.all {
		if b.all[i].MaxHold == 0 {
			b.all[i].MaxHold = hold
		}
	}
	slices.SortStableFunc(b.all, func(x, y Policy) int { return len(y.Prefix) - len(x.Prefix) })
	return b
}

// of is the policy of a key; nil: it has none.
func (b *policyBook) of(key []byte) *Policy {
	for i := range b.all {
		if strings.HasPrefix(string(key), b.all[i].Prefix) {
			return &b.all[i]
		}
	}
	return nil
}

// stricter is the stricter of two policies; nil is that of a key that has none.
func stricter(x, y *Policy, hold time.Duration) *Policy {
	if x == y {
		return x
	}
	other := &Policy{OnUnavailable: Hold, MaxHold: hold}
	if x == nil {
		x = other
	}
	if y == nil {
		y = other
	}
	if strictness[x.OnUnavailable] > strictness[y.OnUnavailable] {
		x, y = y, x
	}
	return &Policy{OnUnavailable: y.OnUnavailable, MaxHold: min(x.MaxHold, y.MaxHold), MaxStaleness: min(x.MaxStaleness, y.MaxStaleness)}
}

// policyOf is the policy of a request; nil: it is held for Options.Hold. It is found out when the request
// has to wait for the first time: one that is served costs nothing.
func (l *loop) policyOf(r *request) *Policy {
	if len(l.policies.all) > 0 && !r.judged {
		r.judged, r.policy = true, l.findPolicy(r)
	}
	return r.policy
}

func (l *loop) findPolicy(r *request) *Policy {
	if r.info == nil || r.c == nil || r.wide || r.info.Script() || r.tx != txNone || r.ded && r.c.multi || !r.write && !r.reads() {
		return nil
	}
	var s resp.CommandScanner
	n, args, err := s.Scan(r.frame, nil)
	if err != nil || n == 0 {
		return nil
	}
	var found *Policy
	first := true
	if known := r.info.Keys(args, func(key []byte) {
		p := l.policies.of(key)
		if first {
			found, first = p, false
			return
		}
		found = stricter(found, p, l.opts.Hold)
	}); !known {
		return nil
	}
	return found
}

// holdOf is how long a request may wait.
func (l *loop) holdOf(r *request) time.Duration {
	p := l.policyOf(r)
	switch {
	case p == nil:
		return l.opts.Hold
	case p.OnUnavailable == Fail && l.unserved(r) != "":
		return 0
	case p.OnUnavailable == Fail:
		return l.opts.Hold // for the moment that the primary takes
	}
	return p.MaxHold
}

// unserved is the error for a request that is to fail at once; "": somebody serves it, or will in a moment. A
// switchover is no reason: the next primary is known already.
func (l *loop) unserved(r *request) string {
	closed, shut := l.gate.Closed(l.now)
	switch {
	case shut && !l.gate.HandingOver(l.now):
		return errFailFast(l.now - closed)
	case !shut && l.writer.Hold != "" && r.write:
		return errNoQuorum(l.now - l.scarce)
	}
	return ""
}

// byPolicy does with a request that has to wait what its policy says; false: it is held.
func (l *loop) byPolicy(r *request) bool {
	p := l.policyOf(r)
	if p == nil {
		return false
	}
	switch p.OnUnavailable {
	case Fail:
		why := l.unserved(r)
		if why != "" {
			l.turnAway(r, why, boundFailFast)
		}
		return why != ""
	case Stale:
		return l.sendStale(r, p)
	default:
		return false
	}
}

// enforce looks at the requests that wait under a policy: the hold of some ends before Options.Hold does, and
// what was held while there was a primary does something else when there is none any more.
func (l *loop) enforce(shut bool) {
	b := &l.policies
	if len(b.all) == 0 {
		return
	}
	b.scan = b.scan || shut != b.shut
	if !b.scan && l.now < b.due {
		l.wakeAt(b.due)
		return
	}
	if l.now < b.at {
		l.wakeAt(b.at)
		return
	}
	b.scan, b.shut, b.due, b.at = false, shut, never, l.now+siftEvery
	if shut && !l.gate.HandingOver(l.now) {
		l.recall()
	} else if shut {
		b.due = l.now + siftEvery
	}
	replays := l.replays
	l.replays = nil
	for _, r := range replays {
		if l.enforceOn(r) {
			l.replays = append(l.replays, r)
		}
	}
	for range l.held.n {
		if r := l.unhold(); l.enforceOn(r) {
			l.heldSize += len(r.frame)
			l.held.push(r)
		}
	}
	l.wakeAt(b.due)
}

// enforceOn reports whether the request waits on.
func (l *loop) enforceOn(r *request) bool {
	p := l.policyOf(r)
	if p == nil || r.c.gone {
		return true
	}
	if l.byPolicy(r) {
		return false
	}
	if due := r.heldAt + l.holdOf(r); l.now < due {
		l.policies.due = min(l.policies.due, due)
		return true
	}
	l.expired(r, l.closedFor())
	return false
}

// recall takes back the reads that a primary has been sent which may not answer them any more, and says
// nothing, and those whose answers wait for a commit: what their policy says is better than to wait until its
// connections break. Reads that travel in a batch wait for that.
func (l *loop) recall() {
	for _, r := range l.commits.recall(func(r *request) bool { return !r.ded && r.reads() && l.policyOf(r) != nil }) {
		l.again(r)
	}
	for key, b := range l.lanes {
		if key.node != l.writer.Node {
			continue
		}
		for i := range b.inflight.n {
			r := b.inflight.at(i)
			if r == swallow || r.group != nil || r.write || r.reader || !r.reads() || l.policyOf(r) == nil {
				continue
			}
			b.inflight.replace(i, swallow)
			l.again(r)
		}
	}
}
