package proxy

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"understudy/cluster"
	"understudy/redis"
)

const secret = "the group's"

// startSecured starts a node that lets nobody in but those who know the secret, and proxies that read.
func startSecured(t *testing.T, id cluster.NodeID) *node {
	n := launchNode(t, id, secret)
	n.status.Access = cluster.Access{User: redis.ReaderUser, Password: redis.ReaderPassword(secret)}
	return n
}

// control is the connection of the node's agent.
func (n *node) control(t *testing.T) *redis.Control {
	t.Helper()
	c, err := n.server.Login().Dial(ctx)
	must(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// userOf is the user of an epoch.
func userOf(epoch cluster.Epoch) cluster.Access {
	return cluster.Access{User: redis.EpochUser(epoch), Password: strings.Repeat("p", int(epoch))}
}

// promoteFor makes n the primary of an epoch, as its agent does, and tells the proxies.
func (g *group) promoteFor(n *node, epoch cluster.Epoch, voters ...cluster.NodeID) {
	g.t.Helper()
	t := g.t.(*testing.T)
	_, err := n.control(t).PromoteFor(ctx, userOf(epoch))
	must(t, err)
	f := n.fork(t, epoch)
	g.lead(n, epoch, func(s *cluster.NodeStatus) {
		syncRule(voters...)(s)
		s.Fork, s.Access = f, userOf(epoch)
	})
}

func TestSessionsRunAsTheEpochsUser(t *testing.T) {
	a, b := startSecured(t, "g-001"), startSecured(t, "g-002")
	g := startProxy(t, nil)
	g.promoteFor(a, 1, "g-002")
	b.replicaOf(t, a)
	g.say(b.status)
	for _, proto := range []int{2, 3} {
		c := dialRedis(t, g.proxy.Addrs().Primary, proto)
		must(t, c.Set(ctx, "k", "v", 0).Err())
		must(t, c.Incr(ctx, "n").Err())
		if who := c.Do(ctx, "ACL", "WHOAMI").Val(); who != "default" {
			t.Errorf("RESP%d: a client that has not logged in is %v", proto, who)
		}
		if _, err := c.TxPipelined(ctx, func(p goredis.Pipeliner) error { return p.Set(ctx, "t", "1", 0).Err() }); err != nil {
			t.Errorf("RESP%d: EXEC: %v", proto, err)
		}
		r := dialRedis(t, g.proxy.Addrs().Reader, proto)
		if v, err := r.Get(ctx, "k").Result(); v != "v" || calls(t, b, "get") == "" {
			t.Errorf("RESP%d: the replica gives %q, %v", proto, v, err)
		}
		in3 := goredis.NewClient(&goredis.Options{Addr: g.proxy.Addrs().Primary, DB: 3, Protocol: proto, MaxRetries: -1})
		defer in3.Close()
		must(t, in3.Set(ctx, "in3", "x", 0).Err())
		if n := in3.DBSize(ctx).Val(); n != 1 {
			t.Errorf("RESP%d: database 3 has %d keys", proto, n)
		}
	}
	must(t, a.client.Do(ctx, "ACL", "SETUSER", "app", "on", ">mine", "~*", "+@all").Err())
	own := goredis.NewClient(&goredis.Options{Addr: g.proxy.Addrs().Primary, Username: "app", Password: "mine", Protocol: 2, MaxRetries: -1})
	defer own.Close()
	must(t, own.Incr(ctx, "n").Err())
	if who := own.Do(ctx, "ACL", "WHOAMI").Val(); who != "app" {
		t.Errorf("a client that logged in as app is %v", who)
	}
}

// Clients of a primary that hands over lose their connections, because its epoch's user is deleted.
func TestEndOfTheEpochsUserIsNoErrorToClients(t *testing.T) {
	a, b := startSecured(t, "g-001"), startSecured(t, "g-002")
	g := startProxy(t, nil)
	g.promoteFor(a, 1, "g-002")
	b.replicaOf(t, a)
	g.say(b.status)
	load := startIncrements(t, g.proxy.Addrs().Primary, 16)
	nodes := []*node{a, b}
	for epoch := cluster.Epoch(2); epoch < 8; epoch++ {
		load.flow(1000)
		from, to := nodes[epoch%2], nodes[(epoch+1)%2]
		old, next := from.control(t), to.control(t)
		g.say(paused(g.said[from.id]))
		must(t, old.PauseWrites(ctx, 10*time.Second))
		eventually(t, "the successor has every byte", func() bool {
			x, err := old.Replication(ctx)
			y, err2 := next.Replication(ctx)
			return err == nil && err2 == nil && x.Position.Offset == y.Position.Offset
		})
		must(t, old.Demote(ctx, "127.0.0.1:1"))
		must(t, old.Dismiss(ctx))
		g.fence(from)
		g.promoteFor(to, epoch, from.id)
		from.replicaOf(t, to)
		g.say(from.status)
	}
	load.end()
	if n, err := nodes[0].client.Get(ctx, "n").Int64(); err != nil || n != load.acked.Load() || load.unknown.Load() > 0 {
		t.Errorf("%d increments acked, %d unknown, the counter says %d, %v", load.acked.Load(), load.unknown.Load(), n, err)
	}
}

func paused(s cluster.NodeStatus) cluster.NodeStatus {
	s.Pausing = true
	return s
}

// What an agent said of its epoch's user is older than what the server knows, or the other way round.
func TestRefusalOfTheEpochsUserIsOldNews(t *testing.T) {
	for name, n := range map[string]*node{"strangers may nothing": startSecured(t, "g-001"), "strangers may all": startNode(t, "g-001")} {
		t.Run(name, func(t *testing.T) {
			g := startProxy(t, nil)
			_, err := n.control(t).PromoteFor(ctx, userOf(2))
			must(t, err)
			g.lead(n, 1, func(s *cluster.NodeStatus) { s.Access = userOf(1) })
			one := dialRedis(t, g.proxy.Addrs().Primary, 2)
			done := make(chan error, 4)
			go func() { done <- one.Set(ctx, "k", "v", 0).Err() }()
			go func() { done <- one.Get(ctx, "missing").Err() }()
			go func() {
				_, err := one.TxPipelined(ctx, func(p goredis.Pipeliner) error { p.Set(ctx, "t", "1", 0); return nil })
				done <- err
			}()
			go func() { done <- one.BLPop(ctx, time.Second, "empty").Err() }()
			select {
			case err := <-done:
				t.Fatalf("a reply of a server that refused the login was given to a client: %v", err)
			case <-time.After(200 * time.Millisecond):
			}
			g.lead(n, 2, func(s *cluster.NodeStatus) { s.Access = userOf(2) })
			for range 4 {
				if err := <-done; err != nil && !errors.Is(err, goredis.Nil) {
					t.Errorf("a client saw %v", err)
				}
			}
		})
	}
}

// increments is a load of INCR n.
type increments struct {
	t              *testing.T
	acked, unknown atomic.Int64
	clients        sync.WaitGroup
	stop           context.CancelFunc
}

func startIncrements(t *testing.T, addr string, clients int) *increments {
	load := &increments{t: t}
	running, stop := context.WithCancel(ctx)
	load.stop = stop
	t.Cleanup(load.end)
	for range clients {
		c := dialRedis(t, addr, 2)
		load.clients.Go(func() {
			for running.Err() == nil {
				switch err := c.Incr(ctx, "n").Err(); {
				case err == nil:
					load.acked.Add(1)
				case strings.HasPrefix(err.Error(), "UNKNOWN"):
					load.unknown.Add(1)
				default:
					t.Errorf("a client saw %v", err)
					return
				}
			}
		})
	}
	return load
}

// flow waits until n more are acked.
func (l *increments) flow(n int64) {
	l.t.Helper()
	before := l.acked.Load()
	eventually(l.t, "increments flow", func() bool { return l.acked.Load() >= before+n })
}

func (l *increments) end() {
	l.stop()
	l.clients.Wait()
}
