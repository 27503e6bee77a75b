package rpc

import (
	"context"
	"time"
)

// Following says whom to follow, and how.
type Following struct {
	Client *Client
	// To says where the node's agent is reached now; an empty Addr is nowhere, for now. It is asked
	// before each poll: a node may move to another machine.
	To func() To
	// Clock is the caller's; the times handed on are its readings.
	Clock func() time.Duration
	// Wait is how long one poll may be held; default 1 s. A holder speaks at least at each renewal, so
	// a longer wait saves nothing.
	Wait time.Duration
	// Within is how much longer than Wait an answer may take; default 1 s.
	Within time.Duration
	// OnError is told why a poll failed, for the log; may be nil.
	OnError func(error)
}

// The pauses after polls that failed: short enough to hear of an agent that is back before a client
// notices, long enough to cost nothing while a machine is gone.
const (
	firstPause = 20 * time.Millisecond
	lastPause  = 500 * time.Millisecond
)

// Follow polls a node until ctx ends and hands every answer on. sentAt is the clock's reading from
// BEFORE the poll was sent, from which the permit in the word counts: it then ends no later than by the
// node's own clock. hear is called from this goroutine, in order.
func Follow(ctx context.Context, f Following, hear func(sentAt time.Duration, w Word)) {
	if f.Wait == 0 {
		f.Wait = time.Second
	}
	if f.Within == 0 {
		f.Within = time.Second
	}
	var after After
	pause := firstPause
	for ctx.Err() == nil {
		sentAt := f.Clock()
		w, err := f.poll(ctx, after)
		if err == nil {
			// A poll is held until there is news, but the first is not: see Node.Word.
			after = After{Version: w.Version, Events: w.EventsTo, Wait: f.Wait}
			pause = firstPause
			hear(sentAt, w)
			continue
		}
		if ctx.Err() != nil {
			return
		}
		if f.OnError != nil {
			f.OnError(err)
		}
		after.Wait = 0 // what was known may be old: hear at once how it is
		rest(ctx, pause)
		pause = min(2*pause, lastPause)
	}
}

func (f Following) poll(ctx context.Context, after After) (Word, error) {
	to := f.To()
	if to.Addr == "" {
		return Word{}, errNowhere(to.Node)
	}
	ctx, cancel := context.WithTimeout(ctx, after.Wait+f.Within)
	defer cancel()
	return f.Client.Word(ctx, to, after)
}

func rest(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
