package e2e

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// traffic is what several clients do over and over, at their pace, until it is ended.
type traffic struct {
	stop    context.CancelFunc
	running sync.WaitGroup
	done    atomic.Int64 // rounds without an error

	mu     sync.Mutex
	errors []string
}

// startTraffic runs each round again and again, all of them side by side.
func startTraffic(t *testing.T, rounds ...func(round int) error) *traffic {
	ctx, cancel := context.WithCancel(context.Background())
	x := &traffic{stop: cancel}
	for _, round := range rounds {
		x.running.Go(func() {
			pace := time.NewTicker(loadPace)
			defer pace.Stop()
			for n := 0; ; n++ {
				select {
				case <-ctx.Done():
					return
				case <-pace.C:
				}
				if err := round(n); err != nil {
					x.mu.Lock()
					x.errors = append(x.errors, time.Now().UTC().Format("15:04:05.000 ")+err.Error())
					x.mu.Unlock()
					continue
				}
				x.done.Add(1)
			}
		})
	}
	t.Cleanup(func() { cancel(); x.running.Wait() })
	return x
}

// waitRounds waits for n more rounds.
func (x *traffic) waitRounds(t *testing.T, n int64) {
	t.Helper()
	want := x.done.Load() + n
	eventually(t, fmt.Sprintf("%d more rounds", n), func() error {
		if have := x.done.Load(); have < want {
			return fmt.Errorf("%d are missing", want-have)
		}
		return nil
	})
}

// demandNoErrors ends the traffic and fails the test when a client saw an error.
func (x *traffic) demandNoErrors(t *testing.T) {
	t.Helper()
	x.stop()
	x.running.Wait()
	t.Logf("%d rounds, %d errors", x.done.Load(), len(x.errors))
	if len(x.errors) > 0 {
		t.Errorf("clients saw %d errors: %s", len(x.errors), strings.Join(x.errors[:min(5, len(x.errors))], "\n"))
	}
}

func TestReaderEndpointOutlivesAReplicaAndThePrimary(t *testing.T) {
	ctx := context.Background()
	g := StartGroup(t)
	g.WaitAvailable()
	const products = 20
	writer, reader := client(t, g.Primary), client(t, g.Reader)
	for i := range products {
		if err := writer.Set(ctx, "product:"+strconv.Itoa(i), 0, 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	// A reader may be a moment behind. Once every node has the products, none may be missing any more.
	for _, n := range g.Status().Nodes {
		node := client(t, n.Addr)
		eventually(t, "the products on "+n.ID, func() error {
			if have, err := node.DBSize(ctx).Result(); have < products || err != nil {
				return fmt.Errorf("%d are there, %v", have, err)
			}
			return nil
		})
	}
	var versions [products]int // what this reader has seen of each
	x := startTraffic(t,
		func(n int) error {
			return wrap("write", writer.Set(ctx, "product:"+strconv.Itoa(n%products), n, 0).Err())
		},
		func(n int) error {
			v, err := reader.Get(ctx, "product:"+strconv.Itoa(n%products)).Int()
			versions[n%products] = v
			return wrap("read", err)
		},
		func(n int) error { // a web server that opens a connection for each request
			c := redis.NewClient(&redis.Options{Addr: g.Reader, MaxRetries: -1, PoolSize: 1, DialerRetries: 1})
			defer c.Close()
			return wrap("read on a new connection", c.Get(ctx, "product:"+strconv.Itoa(n%products)).Err())
		})
	x.waitRounds(t, 100)
	replica := g.Status().replicas()[0]
	if err := syscall.Kill(replica.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	x.waitRounds(t, 100)
	g.wait("the replica's return", func(s Status) bool {
		n := s.node(replica.ID)
		return s.State == "available" && n.PID != replica.PID
	})
	g.crash()
	x.waitRounds(t, 100)
	g.WaitAvailable()
	x.demandNoErrors(t)
	newest := 0
	for _, v := range versions {
		newest = max(newest, v)
	}
	if newest < products {
		t.Errorf("the newest version that was read is %d: the reader never saw a write of this run", newest)
	}
}

func TestReaderEndpointRefusesWrites(t *testing.T) {
	g := StartGroup(t)
	err := client(t, g.Reader).Set(context.Background(), "k", "v", 0).Err()
	if err == nil || !strings.HasPrefix(err.Error(), "READONLY") {
		t.Errorf("SET on the reader endpoint: %v, want READONLY", err)
	}
}

func TestSplitEndpointShowsAClientItsWritesOnNewConnectionsThroughACrash(t *testing.T) {
	ctx := context.Background()
	g := StartGroup(t)
	g.WaitAvailable()
	visitor := func(id int) func(int) error {
		return func(n int) error {
			key := fmt.Sprintf("session:%d", id)
			open := func() *redis.Client {
				return redis.NewClient(&redis.Options{Addr: g.Split, MaxRetries: -1, PoolSize: 1, DialerRetries: 1})
			}
			one := open()
			err := one.Set(ctx, key, n, 0).Err()
			_ = one.Close()
			if err != nil {
				return wrap("write", err)
			}
			two := open()
			defer two.Close()
			if v, err := two.Get(ctx, key).Int(); v != n || err != nil {
				return fmt.Errorf("wrote %d and read %d, %w", n, v, err)
			}
			return nil
		}
	}
	x := startTraffic(t, visitor(0), visitor(1), visitor(2))
	for range 2 {
		g.WaitAvailable()
		x.waitRounds(t, 100)
		g.crash()
		x.waitRounds(t, 100)
	}
	x.demandNoErrors(t)
	if n := metric(t, g, "understudy_proxy_replica_reads_total"); n == 0 {
		t.Error("no read of the split endpoint was answered by a replica")
	}
}

func wrap(what string, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}
