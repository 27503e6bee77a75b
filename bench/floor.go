package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"

	"understudy/etcd"
)

// floor is what the steps of a failover cost by themselves: medians, in ms.
type floor struct {
	Rounds    int     `json:"rounds"`
	ExitMs    float64 `json:"exit_ms"`    // from SIGKILL until the parent of a redis-server sees its end
	StoreMs   float64 `json:"store_ms"`   // one compare-and-swap in an embedded store, on disk
	RevokeMs  float64 `json:"revoke_ms"`  // REPLICAOF to a port that refuses
	PromoteMs float64 `json:"promote_ms"` // REPLICAOF NO ONE
	FollowMs  float64 `json:"follow_ms"`  // REPLICAOF until the link is up, a partial resync
	AckMs     float64 `json:"ack_ms"`     // SET and WAIT 1
}

const (
	floorRounds = 21
	floorKeys   = 20_000 // about what the failovers' servers hold: ending a process takes longer with more memory
	poll        = 100 * time.Microsecond
)

// of is the floor of one step; 0: there is none.
func (f *floor) of(fault, step string) float64 {
	if f == nil || fault != "crash" {
		return 0
	}
	return map[string]float64{
		"detect": f.ExitMs, "release": f.StoreMs, "elect": f.RevokeMs + f.StoreMs, "promote": f.PromoteMs + f.StoreMs,
		"follow": f.FollowMs, "ack": f.AckMs,
	}[step]
}

func (f *floor) cell(v float64) string {
	if v == 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f", v)
}

// measureFloor does a failover's steps by hand with three servers of its own.
func (b *bench) measureFloor(ctx context.Context) (_ *floor, err error) {
	b.say("measuring the floor: the steps of a failover by hand, %d times", floorRounds)
	h := &byHand{dir: filepath.Join(b.dir, "floor"), server: b.tools.server}
	defer func() { err = errors.Join(err, h.stop()) }()
	if err := h.start(ctx); err != nil {
		return nil, err
	}
	samples := map[string][]float64{}
	for range floorRounds {
		if err := h.failover(ctx, samples); err != nil {
			return nil, fmt.Errorf("a failover by hand: %w", err)
		}
	}
	if samples["store"], err = storeWrites(ctx, filepath.Join(b.dir, "floor-store")); err != nil {
		return nil, err
	}
	median := func(name string) float64 { return spreadOf(samples[name]).Median }
	return &floor{Rounds: floorRounds, ExitMs: median("exit"), StoreMs: median("store"), RevokeMs: median("revoke"),
		PromoteMs: median("promote"), FollowMs: median("follow"), AckMs: median("ack")}, nil
}

// storeWrites times compare-and-swaps in an embedded store.
func storeWrites(ctx context.Context, dir string) (_ []float64, err error) {
	e, err := etcd.StartEmbedded(ctx, etcd.EmbedOptions{Dir: dir, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, e.Stop(context.WithoutCancel(ctx))) }()
	var took []float64
	rev := int64(0)
	value := []byte(strings.Repeat("x", 500)) // a lead record
	for range floorRounds {
		began := time.Now()
		if rev, err = e.Store().Swap(ctx, "/bench", value, rev); err != nil {
			return nil, err
		}
		took = append(took, ms(time.Since(began)))
	}
	return took, nil
}

// byHand is a primary and two replicas without anybody who watches them; nodes[0] is the primary.
type byHand struct {
	dir, server string
	nodes       []*handNode
}

type handNode struct {
	port    int
	process *process
	client  *redis.Client
}

func (n *handNode) replicaOf(ctx context.Context, host string, port int) error {
	return n.client.ReplicaOf(ctx, host, fmt.Sprint(port)).Err()
}

func (h *byHand) start(ctx context.Context) error {
	ports, err := freePorts(3)
	if err != nil {
		return err
	}
	for _, port := range ports {
		n := &handNode{port: port, client: direct(loopback(port))}
		h.nodes = append(h.nodes, n)
		if err := h.launch(n); err != nil {
			return err
		}
	}
	p := h.nodes[0].client
	err = await(ctx, "a redis-server", readyWithin, func() error { return p.Ping(ctx).Err() })
	if err != nil {
		return err
	}
	pipe := p.Pipeline()
	for i := range floorKeys {
		pipe.Set(ctx, fmt.Sprintf("k:%d", i), strings.Repeat("x", valueSize), 0)
	}
	_, err = pipe.Exec(ctx)
	return err
}

func (h *byHand) launch(n *handNode) (err error) {
	home := filepath.Join(h.dir, fmt.Sprint(n.port))
	if err := writeFile(home, "redis.conf", fmt.Sprintf(nodeConfig, "127.0.0.1", n.port, home)); err != nil {
		return err
	}
	args := []string{"redis.conf"}
	if n != h.nodes[0] {
		args = append(args, "--replicaof", fmt.Sprintf("127.0.0.1 %d", h.nodes[0].port))
	}
	n.process, err = start(home, "redis", h.server, args...)
	return err
}

func (h *byHand) stop() error {
	var errs []error
	for _, n := range h.nodes {
		errs = append(errs, n.client.Close())
		if n.process != nil {
			errs = append(errs, n.process.end(syscall.SIGKILL, readyWithin))
		}
	}
	return errors.Join(errs...)
}

// failover kills the primary and goes on with the next node; what was killed comes back as a replica.
func (h *byHand) failover(ctx context.Context, samples map[string][]float64) error {
	if err := await(ctx, "two replicas", readyWithin, func() error { return h.linked(ctx, 2) }); err != nil {
		return err
	}
	old, next, third := h.nodes[0], h.nodes[1], h.nodes[2]
	timed := func(name string, do func() error) error {
		began := time.Now()
		err := do()
		samples[name] = append(samples[name], ms(time.Since(began)))
		return err
	}
	err := timed("exit", func() error { return old.process.end(syscall.SIGKILL, readyWithin) })
	if err == nil {
		err = timed("revoke", func() error { return next.replicaOf(ctx, "127.0.0.1", 1) })
	}
	if err == nil {
		err = third.replicaOf(ctx, "127.0.0.1", 1)
	}
	if err == nil {
		err = timed("promote", func() error { return next.client.ReplicaOf(ctx, "NO", "ONE").Err() })
	}
	h.nodes = []*handNode{next, third, old}
	if err == nil {
		err = timed("follow", func() error {
			if err := third.replicaOf(ctx, "127.0.0.1", next.port); err != nil {
				return err
			}
			return awaitEach(ctx, poll, "a replica", readyWithin, func() error { return h.linked(ctx, 1) })
		})
	}
	if err == nil {
		err = timed("ack", func() error { return acked(ctx, next.client) })
	}
	if err != nil {
		return err
	}
	return h.launch(old)
}

// linked reports whether so many replicas follow the primary.
func (h *byHand) linked(ctx context.Context, n int) error {
	info, err := h.nodes[0].client.Info(ctx, "replication").Result()
	if err == nil && strings.Count(info, "state=online") < n {
		err = errors.New("no replica is online")
	}
	return err
}

// acked writes and waits until a replica has it.
func acked(ctx context.Context, c *redis.Client) error {
	conn := c.Conn()
	defer conn.Close()
	if err := conn.Set(ctx, "acked", "x", 0).Err(); err != nil {
		return err
	}
	n, err := conn.Wait(ctx, 1, time.Second).Result()
	if err == nil && n < 1 {
		err = errors.New("no replica has the write")
	}
	return err
}
