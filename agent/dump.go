package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"understudy/cluster"
	"understudy/redis"
)

// dumpLook is how often a replica is asked whether it has caught up before it is dumped.
const dumpLook = 2 * time.Millisecond

// Dump has redis-server write its data set, as it is at one moment after the call, to a file that is not there
// yet, on the agent's machine. A child of the server writes; the server itself stands still for the fork only.
// Before it begins, the node has applied the log up to after, if that names one, or gives up after the time given:
// what was acked before the caller looked at the primary is in the file then. Whoever calls must verify the file.
func (a *Agent) Dump(ctx context.Context, to string, after cluster.Position, within time.Duration) error {
	a.dumpMu.Lock() // each has the server's one RDB file as its result
	defer a.dumpMu.Unlock()
	c, err := a.login().Dial(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	bound, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	rep, err := a.caughtUp(bound, c, after)
	if err != nil {
		return fmt.Errorf("dump %s: %w", a.opts.Self.Node, err)
	}
	need, err := c.DataSize(ctx)
	if err == nil {
		err = roomFor(a.opts.Dir, need)
	}
	if err != nil {
		return fmt.Errorf("dump %s: %w", a.opts.Self.Node, err)
	}
	d, err := c.Dump(ctx)
	if err != nil {
		return fmt.Errorf("dump %s: %w", a.opts.Self.Node, err)
	}
	if err := os.Link(d.Path, to); err != nil { // on another disk, or another user's
		if err := copyFile(d.Path, to); err != nil {
			return fmt.Errorf("dump %s: %w", a.opts.Self.Node, errors.Join(err, os.Remove(to)))
		}
		return nil
	}
	// A replica needs the file no more. A primary may be about to send it to a replica.
	if ours, err := sameFile(d.Path, to); err == nil && ours && rep.Role == cluster.RoleReplica && a.opts.Adopt == nil {
		_ = os.Remove(d.Path)
	}
	return nil
}

func sameFile(a, b string) (bool, error) {
	x, err := os.Stat(a)
	if err != nil {
		return false, err
	}
	y, err := os.Stat(b)
	if err != nil {
		return false, err
	}
	return os.SameFile(x, y), nil
}

// caughtUp waits until the server has applied the log up to after.
func (a *Agent) caughtUp(ctx context.Context, c *redis.Control, after cluster.Position) (redis.Replication, error) {
	for {
		rep, err := c.Replication(ctx)
		switch {
		case err != nil:
			return rep, err
		case rep.Loading || rep.SyncInProgress:
			return rep, errors.New("it is copying or loading the data set")
		case after == (cluster.Position{}), rep.Position.ReplID == after.ReplID && rep.Position.Offset >= after.Offset:
			return rep, nil
		case rep.Position.ReplID != after.ReplID:
			return rep, fmt.Errorf("its log is %v, and the primary's was %v: the primary changes", rep.Position, after)
		}
		pause(ctx, dumpLook)
		if ctx.Err() != nil {
			return rep, fmt.Errorf("it is at %v, and has not reached %v: %w", rep.Position, after, ctx.Err())
		}
	}
}

// Contents counts the keys that redis-server has now.
func (a *Agent) Contents(ctx context.Context) (redis.Contents, error) {
	c, err := a.login().Dial(ctx)
	if err != nil {
		return redis.Contents{}, err
	}
	defer c.Close()
	return c.Contents(ctx)
}

// DataSize is how many bytes the data set takes in memory: an RDB file of it is rarely larger.
func (a *Agent) DataSize(ctx context.Context) (int64, error) {
	c, err := a.login().Dial(ctx)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	return c.DataSize(ctx)
}
