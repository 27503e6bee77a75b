package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// masterName is what the sentinels call the primary that they watch.
const masterName = "bench"

// sentinels is Redis's own answer: one primary and two replicas, watched by three sentinels.
type sentinels struct {
	tools   tools
	dir     string
	nodes   map[string]*process // by address
	watch   []*process
	addrs   []string
	clients []*redis.SentinelClient
}

// nodeConfig is the persistence and replication of Understudy's own nodes. Without the last line a
// replica would wait five seconds for others before it syncs.
const nodeConfig = `bind 127.0.0.1
port %d
dir %s
appendonly yes
repl-backlog-size 64mb
repl-diskless-sync-delay 0
`

// sentinelConfig: down-after one second is as short as Sentinel's documentation goes; the timeout
// only has to be longer than a failover takes, and lets the next round begin soon.
const sentinelConfig = `bind 127.0.0.1
port %d
dir %s
sentinel monitor ` + masterName + ` 127.0.0.1 %d 2
sentinel down-after-milliseconds ` + masterName + ` 1000
sentinel failover-timeout ` + masterName + ` 3000
sentinel parallel-syncs ` + masterName + ` 1
`

func (b *bench) startSentinels(ctx context.Context) (*sentinels, error) {
	b.say("starting Redis Sentinel: three servers, three sentinels")
	s := &sentinels{tools: b.tools, dir: filepath.Join(b.dir, "sentinel"), nodes: map[string]*process{}}
	ports, err := freePorts(6)
	if err != nil {
		return nil, err
	}
	for i, port := range ports {
		text := fmt.Sprintf(nodeConfig, port, s.home(port))
		switch {
		case i >= 3:
			text = fmt.Sprintf(sentinelConfig, port, s.home(port), ports[0])
		case i > 0:
			text += fmt.Sprintf("replicaof 127.0.0.1 %d\n", ports[0])
		}
		if err = s.launch(port, i >= 3, text); err != nil {
			break
		}
	}
	if err == nil {
		err = s.ready(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, s.stop())
	}
	return s, nil
}

func (s *sentinels) home(port int) string { return filepath.Join(s.dir, strconv.Itoa(port)) }

// launch writes a process's configuration and starts it.
func (s *sentinels) launch(port int, sentinel bool, config string) error {
	home := s.home(port)
	if err := writeFile(home, "redis.conf", config); err != nil {
		return err
	}
	if !sentinel {
		return s.run(port)
	}
	p, err := start(home, "sentinel", s.tools.sentinel, "redis.conf")
	if err != nil {
		return err
	}
	s.watch = append(s.watch, p)
	s.addrs = append(s.addrs, loopback(port))
	s.clients = append(s.clients, redis.NewSentinelClient(&redis.Options{Addr: loopback(port), MaxRetries: -1, MaintNotificationsConfig: noHints}))
	return nil
}

// run starts a redis-server on the configuration that it has, which the sentinels may have changed.
func (s *sentinels) run(port int, args ...string) error {
	p, err := start(s.home(port), "redis", s.tools.server, append([]string{"redis.conf"}, args...)...)
	if err != nil {
		return err
	}
	s.nodes[loopback(port)] = p
	return nil
}

// stop kills all: the data is of no use to anybody.
func (s *sentinels) stop() error {
	var errs []error
	for _, c := range s.clients {
		errs = append(errs, c.Close())
	}
	for _, p := range s.watch {
		errs = append(errs, p.end(syscall.SIGKILL, readyWithin))
	}
	for _, p := range s.nodes {
		errs = append(errs, p.end(syscall.SIGKILL, readyWithin))
	}
	return errors.Join(errs...)
}

func (s *sentinels) name() string { return "sentinel" }

// noHints turns off messages of managed services, which neither peer sends.
var noHints = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}

// client follows the sentinels, with the library's defaults.
func (s *sentinels) client() *redis.Client {
	return redis.NewFailoverClient(&redis.FailoverOptions{MasterName: masterName, SentinelAddrs: s.addrs})
}

// primary is the one that all sentinels name.
func (s *sentinels) primary(ctx context.Context) (server, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	named := ""
	for i, c := range s.clients {
		at, err := c.GetMasterAddrByName(ctx, masterName).Result()
		if err != nil {
			return server{}, fmt.Errorf("sentinel %s: %w", s.addrs[i], err)
		}
		addr := net.JoinHostPort(at[0], at[1])
		if named != "" && named != addr {
			return server{}, fmt.Errorf("sentinels name %s and %s", named, addr)
		}
		named = addr
	}
	p := s.nodes[named]
	if p == nil {
		return server{}, fmt.Errorf("the sentinels name %s, which is none of ours", named)
	}
	return server{addr: named, pid: p.pid()}, nil
}

// ready waits until every sentinel knows the others and two replicas, and both follow the primary.
func (s *sentinels) ready(ctx context.Context) error {
	return await(ctx, "a Sentinel group that is ready", readyWithin, func() error {
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		now, err := s.primary(ctx)
		if err != nil {
			return err
		}
		for i, c := range s.clients {
			if err := knowsAll(ctx, c); err != nil {
				return fmt.Errorf("sentinel %s: %w", s.addrs[i], err)
			}
		}
		for addr := range s.nodes {
			if addr == now.addr {
				continue
			}
			if err := follows(ctx, addr, now.addr); err != nil {
				return fmt.Errorf("replica %s: %w", addr, err)
			}
		}
		return nil
	})
}

func knowsAll(ctx context.Context, c *redis.SentinelClient) error {
	m, err := c.Master(ctx, masterName).Result()
	if err != nil {
		return err
	}
	if m["flags"] != "master" || m["num-other-sentinels"] != "2" || m["num-slaves"] != "2" {
		return fmt.Errorf("primary %s, %s other sentinels, %s replicas", m["flags"], m["num-other-sentinels"], m["num-slaves"])
	}
	replicas, err := c.Replicas(ctx, masterName).Result()
	for _, r := range replicas {
		if r["flags"] != "slave" {
			return fmt.Errorf("replica %s is %s", r["name"], r["flags"])
		}
	}
	return err
}

func follows(ctx context.Context, addr, primary string) error {
	c := direct(addr)
	defer c.Close()
	info, err := c.Info(ctx, "replication").Result()
	if err != nil {
		return err
	}
	_, port, _ := strings.Cut(primary, ":")
	if !strings.Contains(info, "master_link_status:up") || !strings.Contains(info, "master_port:"+port+"\r\n") {
		return errors.New("it does not follow the primary yet")
	}
	return nil
}

// switchover is Sentinel's planned failover; it ends in the background.
func (s *sentinels) switchover(ctx context.Context) error {
	return s.clients[0].Failover(ctx, masterName).Err()
}

// heal makes the former primary a replica. Sentinel would do the same, eight seconds later.
func (s *sentinels) heal(ctx context.Context, victim server) error {
	host, port, err := net.SplitHostPort(victim.addr)
	if err != nil {
		return err
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		return err
	}
	now, err := s.primary(ctx)
	if err != nil {
		return err
	}
	primaryHost, primaryPort, err := net.SplitHostPort(now.addr)
	if err != nil {
		return err
	}
	p := s.nodes[victim.addr]
	if p.running() {
		// The pid is our own child's, which has not been waited for.
		if err := p.cmd.Process.Signal(syscall.SIGCONT); err != nil {
			return fmt.Errorf("continue %s:%s: %w", host, port, err)
		}
		if now.addr == victim.addr {
			return nil
		}
		c := direct(victim.addr)
		defer c.Close()
		return c.ReplicaOf(ctx, primaryHost, primaryPort).Err()
	}
	if now.addr == victim.addr {
		return s.run(number)
	}
	return s.run(number, "--replicaof", primaryHost+" "+primaryPort)
}

// attribute has nothing to say: Sentinel tells no times of its steps.
func (s *sentinels) attribute(context.Context, *load, *event) error { return nil }
