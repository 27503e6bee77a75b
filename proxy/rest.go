package proxy

import (
	"time"

	"golang.org/x/sys/unix"
)

// resting decides whether the loop sleeps at once when nothing is ready, or looks again for a moment. To be woken
// takes longer than redis-server needs for a request: with one client that waits for each answer, the time is
// that of four wake-ups, two of them the proxy's. So when one thing at a time happens, and the next one is
// expected sooner than BusyPoll, the loop looks again and again that long. With more clients it would take the time
// of the very processes that it waits for.
type resting struct {
	spin time.Duration // Options.BusyPoll; 0: never
	gap  time.Duration // how long nothing was ready, lately
	load int           // how much was ready at once, lately, times 16
}

// took notes how much was ready.
func (w *resting) took(n int) { w.load += n - w.load>>4 }

// alone reports whether one thing at a time happens: fewer than three in two turns.
func (w *resting) alone() bool { return w.load < 24 }

// sleep waits until something is ready, at the latest after ms milliseconds.
func (w *resting) sleep(p *poller, ms int) ([]unix.EpollEvent, error) {
	if w.spin == 0 || !w.alone() {
		return p.wait(ms)
	}
	began := time.Now()
	if w.gap < w.spin {
		for time.Since(began) < w.spin {
			if events, err := p.ready(); len(events) > 0 || err != nil {
				w.rested(time.Since(began))
				return events, err
			}
		}
	}
	events, err := p.wait(ms)
	w.rested(time.Since(began))
	return events, err
}

// rested notes how long nothing was ready. One long rest ends the looking for eight turns.
func (w *resting) rested(d time.Duration) { w.gap += (min(d, 16*w.spin) - w.gap) / 8 }
