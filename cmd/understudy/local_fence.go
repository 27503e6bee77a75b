package main

import (
	"context"
	"fmt"
	"log/slog"
	"os/exec"
	"slices"
	"time"

	"understudy/failover"
	"understudy/redis"
)

// fenceRounds is how often fencing is measured: one of them finds the machine not busy with something else.
const fenceRounds = 3

// fenceWithin bounds one round.
const fenceWithin = 5 * time.Second

// measureFence returns how long it takes from telling the fencer that a process is due until that process
// is dead and reaped, the rounds in order of their length. The process holds next to no memory; a
// redis-server with many gigabytes takes longer to be torn down, but answers nobody from the signal on.
func measureFence(ctx context.Context, f *redis.Fencer) ([]time.Duration, error) {
	var took []time.Duration
	for range fenceRounds {
		d, err := fenceOne(ctx, f)
		if err != nil {
			return nil, fmt.Errorf("measure how long fencing takes: %w", err)
		}
		took = append(took, d)
	}
	slices.Sort(took)
	return took, nil
}

func fenceOne(ctx context.Context, f *redis.Fencer) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, fenceWithin)
	defer cancel()
	// Another fencer, with nothing to do: it waits for its standard input, and ends with it.
	cmd := exec.CommandContext(ctx, "/proc/self/exe", redis.FencerArg)
	cmd.Args[0] = "understudy"
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return 0, err
	}
	defer stdin.Close()
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	pid := cmd.Process.Pid
	err = f.Guard(pid)
	begin := time.Now()
	if err == nil {
		err = f.Until(pid, time.Nanosecond)
	}
	if err != nil {
		cancel()
	}
	_ = cmd.Wait() // it was killed: that is its error
	took := time.Since(begin)
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return 0, err
	}
	return took, f.Release(pid)
}

// checkFence compares δ with what was measured: a server must be dead δ after its permit has ended, when
// another may begin. Where the best round takes longer that is refused; where the worst takes half of it, said.
func checkFence(p failover.Profile, took []time.Duration, log *slog.Logger) error {
	best, worst := took[0], took[len(took)-1]
	if p.Delta < best {
		return fmt.Errorf("profile %s: δ (%v) must be above the time that fencing takes here (%v measured): the old primary might still run when the next begins; say --timing delta=%v or more, and a ttl that suits it",
			p.Name, p.Delta, best.Round(100*time.Microsecond), (2*worst).Round(time.Millisecond)+time.Millisecond)
	}
	if p.Delta < 2*worst {
		log.Warn("fencing is slow on this machine", "component", "up", "measured", worst, "delta", p.Delta, "advice", "a delta of twice the measured time leaves room")
	}
	return nil
}
