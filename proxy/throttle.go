package proxy

import (
	"fmt"
	"net/netip"
	"sync"
	"time"
)

// throttle bounds how fast passwords can be tried from one address: so many failed logins in a while, and
// then one whenever its share of that while has passed. What is over is refused without a look at the
// password, right or wrong: otherwise the refusal would tell. Who is logged in notices nothing.
type throttle struct {
	failures int           // 0: no bound
	each     time.Duration // after which one more may fail

	mu   sync.Mutex
	full map[netip.Prefix]time.Duration // when everything that failed from there is paid for
}

// mostThrottled bounds the table: 4,096 addresses are some 300 KiB. In a flood from more than that, those go
// first that are soonest paid for.
const mostThrottled = 4096

// The bound on failed logins where Options say nothing: a person's slips and a deployment with an old password
// pass; guessing gets 28,800 tries a day.
const (
	DefaultLoginFailures = 20
	DefaultLoginWithin   = time.Minute
)

func newThrottle(failures int, within time.Duration) *throttle {
	if failures == 0 {
		failures = DefaultLoginFailures
	}
	if within <= 0 {
		within = DefaultLoginWithin
	}
	if failures < 0 {
		return &throttle{}
	}
	return &throttle{failures: failures, each: within / time.Duration(failures), full: map[netip.Prefix]time.Duration{}}
}

// source is what counts as one address: of IPv6 the network that one site gets.
func source(addr netip.Addr) netip.Prefix {
	addr = addr.Unmap()
	bits := addr.BitLen()
	if addr.Is6() {
		bits = 64
	}
	p, _ := addr.Prefix(bits) // the zero one for an address that is none
	return p
}

// wait is how long nobody from addr may try to log in; 0: now.
func (t *throttle) wait(now time.Duration, addr netip.Addr) time.Duration {
	if t.failures == 0 {
		return 0
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return max(0, t.full[source(addr)]-now-time.Duration(t.failures-1)*t.each)
}

// failed counts a failed login.
func (t *throttle) failed(now time.Duration, addr netip.Addr) {
	if t.failures == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	from := source(addr)
	if _, ok := t.full[from]; !ok && len(t.full) >= mostThrottled {
		t.makeRoom(now)
	}
	t.full[from] = max(t.full[from], now) + t.each
}

// makeRoom forgets those that are paid for, and the one that is soonest.
func (t *throttle) makeRoom(now time.Duration) {
	var soonest netip.Prefix
	for from, full := range t.full {
		if full <= now {
			delete(t.full, from)
		} else if at, ok := t.full[soonest]; !ok || full < at {
			soonest = from
		}
	}
	if len(t.full) >= mostThrottled {
		delete(t.full, soonest)
	}
}

func errTooManyLogins(wait time.Duration) string {
	seconds := max(1, int((wait+time.Second-1)/time.Second))
	return fmt.Sprintf("-ERR understudy: too many failed logins from this address; try again in %d s\r\n", seconds)
}

// errLateLogin is the answer to AUTH on a connection that waits for keys or channels as somebody else.
const errLateLogin = "-ERR understudy: log in before WATCH, SUBSCRIBE or MONITOR\r\n"
