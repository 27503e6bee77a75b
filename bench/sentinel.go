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
	zones    []*zone // one server and one sentinel in each; none: all on the loopback address
	outside  *zone   // where the clients are
	cut      *zone   // the primary's
	isolated bool    // it is cut off
	tools    tools
	dir      string
	nodes    map[string]*process // by address
	watch    []*process
	addrs    []string
	clients  []*redis.SentinelClient
}

// nodeConfig is the persistence and replication of Understudy's own nodes. Without the last line a
// replica would wait five seconds for others before it syncs.
const nodeConfig = `bind %s
protected-mode no
port %d
dir %s
appendonly yes
repl-backlog-size 64mb
repl-diskless-sync-delay 0
`

// sentinelConfig: down-after one second is as short as Sentinel's documentation goes; the timeout
// only has to be longer than a failover takes, and lets the next round begin soon.
const sentinelConfig = `bind %s
protected-mode no
port %d
dir %s
sentinel monitor ` + masterName + ` %s %d 2
sentinel down-after-milliseconds ` + masterName + ` 1000
sentinel failover-timeout ` + masterName + ` 3000
sentinel parallel-syncs ` + masterName + ` 1
`

func (b *bench) startSentinels(ctx context.Context, zones ...*zone) (*sentinels, error) {
	b.say("starting Redis Sentinel: three servers, three sentinels")
	s := &sentinels{tools: b.tools, zones: zones, dir: filepath.Join(b.dir, fmt.Sprintf("sentinel-%d", len(zones))), nodes: map[string]*process{}}
	if len(zones) > 0 {
		s.cut, s.outside = zones[0], zones[1]
	}
	ports, err := freePorts(6)
	if err != nil {
		return nil, err
	}
	for i, port := range ports {
		text := fmt.Sprintf(nodeConfig, s.host(i), port, s.home(port))
		switch {
		case i >= 3:
			text = fmt.Sprintf(sentinelConfig, s.host(i), port, s.home(port), s.host(0), ports[0])
		case i > 0:
			text += fmt.Sprintf("replicaof %s %d\n", s.host(0), ports[0])
		}
		if err = s.launch(i, port, text); err != nil {
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

// host is the address of the i-th process: the servers come first, then the sentinels.
func (s *sentinels) host(i int) string {
	if len(s.zones) == 0 {
		return "127.0.0.1"
	}
	return s.zones[i%3].ip
}

// dialer connects from where the clients are; nil: from here.
func (s *sentinels) dialer() func(context.Context, string, string) (net.Conn, error) {
	if len(s.zones) == 0 {
		return nil
	}
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		return s.outside.dial(ctx, network, addr)
	}
}

// direct is a client of one server, without retries.
func (s *sentinels) direct(addr string) *redis.Client {
	return redis.NewClient(&redis.Options{Addr: addr, Dialer: s.dialer(), MaxRetries: -1, DialerRetries: 1, MaintNotificationsConfig: noHints})
}

func (s *sentinels) survivor(now server) *redis.Client { return s.direct(now.addr) }

// launch writes a process's configuration and starts it.
func (s *sentinels) launch(i, port int, config string) error {
	if err := writeFile(s.home(port), "redis.conf", config); err != nil {
		return err
	}
	addr := net.JoinHostPort(s.host(i), strconv.Itoa(port))
	if i < 3 {
		return s.run(addr)
	}
	p, err := s.start(s.host(i), s.home(port), "sentinel", s.tools.sentinel, "redis.conf")
	if err != nil {
		return err
	}
	s.watch = append(s.watch, p)
	s.addrs = append(s.addrs, addr)
	s.clients = append(s.clients, redis.NewSentinelClient(&redis.Options{
		Addr: addr, Dialer: s.dialer(), MaxRetries: -1, DialTimeout: time.Second, DialerRetries: 1, MaintNotificationsConfig: noHints}))
	return nil
}

// start starts a program in the zone of an address.
func (s *sentinels) start(host, dir, name, path string, args ...string) (*process, error) {
	for _, z := range s.zones {
		if z.ip == host {
			return z.start(dir, name, path, args...)
		}
	}
	return start(dir, name, path, args...)
}

// run starts a redis-server on the configuration that it has, which the sentinels may have changed.
func (s *sentinels) run(addr string, args ...string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return err
	}
	p, err := s.start(host, filepath.Join(s.dir, port), "redis", s.tools.server, append([]string{"redis.conf"}, args...)...)
	if err != nil {
		return err
	}
	s.nodes[addr] = p
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
	return redis.NewFailoverClient(&redis.FailoverOptions{MasterName: masterName, SentinelAddrs: s.addrs, Dialer: s.dialer()})
}

// primary is the one that all sentinels name, but for the one in a zone that may be cut off.
func (s *sentinels) primary(ctx context.Context) (server, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	named := ""
	for i, c := range s.clients {
		if s.isolated && s.zones[i] == s.cut {
			continue
		}
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
		s.choose(now)
		for addr := range s.nodes {
			if addr == now.addr {
				continue
			}
			if err := s.follows(ctx, addr, now.addr); err != nil {
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

// choose puts the clients of the next event into a zone without the primary.
func (s *sentinels) choose(now server) {
	for _, z := range s.zones {
		if strings.HasPrefix(now.addr, z.ip+":") {
			s.cut = z
		} else {
			s.outside = z
		}
	}
}

// cutOff isolates the primary's zone.
func (s *sentinels) cutOff() error {
	s.isolated = true
	return s.cut.cut(true)
}

func (s *sentinels) follows(ctx context.Context, addr, primary string) error {
	c := s.direct(addr)
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
	if s.isolated {
		if err := s.cut.cut(false); err != nil {
			return err
		}
		s.isolated = false
	}
	var now server
	err := await(ctx, "sentinels that agree", readyWithin, func() (err error) { now, err = s.primary(ctx); return err })
	if err != nil {
		return err
	}
	host, port, err := net.SplitHostPort(now.addr)
	if err != nil {
		return err
	}
	p := s.nodes[victim.addr]
	if p.running() {
		// The pid is our own child's, which has not been waited for.
		if err := p.cmd.Process.Signal(syscall.SIGCONT); err != nil {
			return fmt.Errorf("continue %s: %w", victim.addr, err)
		}
		if now.addr == victim.addr {
			return nil
		}
		c := s.direct(victim.addr)
		defer c.Close()
		return c.ReplicaOf(ctx, host, port).Err()
	}
	if now.addr == victim.addr {
		return s.run(victim.addr)
	}
	return s.run(victim.addr, "--replicaof", host+" "+port)
}

// attribute has nothing to say: Sentinel tells no times of its steps.
func (s *sentinels) attribute(context.Context, *load, *event) error { return nil }
