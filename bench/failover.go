package main

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"

	"understudy/cluster"
)

// peer is one way to keep a primary available.
type peer interface {
	name() string
	client() *redis.Client       // as an application would make it
	ready(context.Context) error // waits until the next fault may come
	primary(context.Context) (server, error)
	survivor(now server) *redis.Client // reads what is there after an event
	switchover(context.Context) error
	heal(context.Context, server) error // brings back what the fault took away, as far as the peer does not
	// attribute says where the time of a judged event went, as far as the peer tells.
	attribute(context.Context, *load, *event) error
}

// server is one redis-server.
type server struct {
	addr string
	pid  int
	node cluster.NodeID // "" where nodes have no names
}

// The faults, in the order of a round.
var faults = []string{"crash", "hang", "switchover"}

const (
	warmUp = 500 * time.Millisecond // load before the fault
	// settled is how long writes must go on after the change of primary: Sentinel's clients learn of
	// it late, and what they still send to the old primary belongs to the event.
	settled = time.Second
	// changeWithin is when a change of primary counts as not having happened.
	changeWithin = 15 * time.Second
)

// event is one fault and what came of it.
type event struct {
	Fault string `json:"fault"`
	Peer  string `json:"peer"`
	Round int    `json:"round"`
	judged
	ChangedMs float64            `json:"changed_ms"`          // until the peer named another primary
	Steps     course             `json:"steps_ms,omitempty"`  // of a failover of ours
	Phases    map[string]float64 `json:"phases_ms,omitempty"` // as the group's own record has them
	Failed    string             `json:"failed,omitempty"`
}

// measureFailovers lets both peers meet each fault in turn. Only one of them has load at a time.
func (b *bench) measureFailovers(ctx context.Context) (err error) {
	if b.report.Floor, err = b.measureFloor(ctx); err != nil {
		return err
	}
	g, err := b.startGroup(ctx, "sync")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, g.stop()) }()
	s, err := b.startSentinels(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	for round := range b.rounds {
		peers := []peer{g, s}
		if round%b.peerEvery != 0 {
			peers = peers[:1]
		}
		for _, fault := range faults {
			for _, p := range peers {
				if err := b.meet(ctx, p, event{Fault: fault, Peer: p.name(), Round: round + 1}, &b.report.Events); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// meet lets a peer meet a fault and keeps what came of it. The error says that nothing can go on.
func (b *bench) meet(ctx context.Context, p peer, e event, into *[]event) error {
	err := b.happen(ctx, p, &e)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		e.Failed = err.Error()
	}
	*into = append(*into, e)
	b.say("%s", e.line(b.rounds))
	if g, ok := p.(interface{ lost() error }); ok {
		return g.lost()
	}
	return nil
}

func (e event) line(rounds int) string {
	text := fmt.Sprintf("round %d of %d: %s, %s: gap %.1f ms, %d errors, %d of %d acked writes lost", e.Round, rounds, e.Fault, e.Peer, e.GapMs, e.Errors, e.Lost, e.Acked)
	if e.Failed != "" {
		text += "; FAILED: " + e.Failed
	}
	return text
}

// happen puts load on an empty peer, breaks it, waits until it has recovered, and judges.
func (b *bench) happen(ctx context.Context, p peer, e *event) error {
	if err := p.ready(ctx); err != nil {
		return err
	}
	victim, err := p.primary(ctx)
	if err != nil {
		return err
	}
	client := p.client()
	err = client.FlushAll(ctx).Err()
	if err := errors.Join(err, client.Close()); err != nil {
		return fmt.Errorf("empty the data set: %w", err)
	}
	return b.endure(ctx, p, victim, e)
}

// endure puts load on the peer, breaks it, and judges what came of it.
func (b *bench) endure(ctx context.Context, p peer, victim server, e *event) error {
	client := p.client()
	defer client.Close()
	l := startLoad(ctx, client, b.writers)
	failed := suffer(ctx, p, l, victim, e)
	l.end()
	now, err := p.primary(ctx)
	if err == nil {
		survivor := p.survivor(now)
		e.judged, err = l.judge(ctx, survivor)
		err = errors.Join(err, survivor.Close())
	}
	if err == nil && failed == nil {
		err = p.attribute(ctx, l, e)
	}
	return errors.Join(failed, err, p.heal(ctx, victim))
}

// suffer is the event itself, under load.
func suffer(ctx context.Context, p peer, l *load, victim server, e *event) error {
	err := await(ctx, "writes before the fault", changeWithin, func() error {
		if l.lastAck.Load() < int64(warmUp) {
			return errors.New("none was acked")
		}
		return nil
	})
	if err != nil {
		return err
	}
	l.fault = l.now()
	if err := inject(ctx, p, victim, e.Fault); err != nil {
		return fmt.Errorf("%s: %w", e.Fault, err)
	}
	var changed time.Duration
	err = await(ctx, "another primary", changeWithin, func() error {
		now, err := p.primary(ctx)
		if err == nil && now.addr == victim.addr {
			err = errors.New("it is still the old one")
		}
		changed = l.now()
		return err
	})
	if err != nil {
		return err
	}
	e.ChangedMs = ms(changed - l.fault)
	return await(ctx, "writes afterwards", changeWithin, func() error {
		if l.now()-changed < settled || l.sinceAck() > settled/10 {
			return errors.New("the newest was acked " + l.sinceAck().String() + " ago")
		}
		return nil
	})
}

func inject(ctx context.Context, p peer, victim server, fault string) error {
	switch fault {
	case "cut":
		return p.(interface{ cutOff() error }).cutOff()
	case "crash":
		return hit(ctx, victim, syscall.SIGKILL)
	case "hang":
		return hit(ctx, victim, syscall.SIGSTOP)
	default:
		return p.switchover(ctx)
	}
}

// hit signals a redis-server that says itself that it has the pid: a wrong pid would hit somebody
// else's work.
func hit(ctx context.Context, victim server, sig syscall.Signal) error {
	c := direct(victim.addr)
	defer c.Close()
	info, err := c.InfoMap(ctx, "server").Result()
	if err != nil {
		return err
	}
	if said := info["Server"]["process_id"]; said != fmt.Sprint(victim.pid) {
		return fmt.Errorf("the server at %s says it is pid %s, not %d", victim.addr, said, victim.pid)
	}
	return syscall.Kill(victim.pid, sig)
}
