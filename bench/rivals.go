package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
)

// Each of these starts a proxy before the redis-server at addr and says where it listens. They are set up
// as their manuals begin: what is set beside the addresses is what a load of 1,000 connections needs.

// startUnderstudy starts `understudy proxy` before a primary, and replicas when there are any.
func startUnderstudy(_ context.Context, b *bench, dir, addr string) (string, *process, error) {
	at, p, err := b.startFront(dir, addr)
	return at.primary, p, err
}

// front is where `understudy proxy` listens.
type front struct{ primary, split string }

func (b *bench) startFront(dir, primary string, replicas ...string) (front, *process, error) {
	ports, err := freePorts(4)
	if err != nil {
		return front{}, nil, err
	}
	text := fmt.Sprintf("group: bench\nlisten: {primary: %q, reader: %q, split: %q, http: %q}\nupstream:\n  static: {primary: %q, replicas: [%s]}\n",
		loopback(ports[0]), loopback(ports[1]), loopback(ports[2]), loopback(ports[3]), primary, strings.Join(replicas, ", "))
	dir = filepath.Join(dir, viaUnderstudy)
	if err := writeFile(dir, "proxy.yaml", text); err != nil {
		return front{}, nil, err
	}
	p, err := start(dir, viaUnderstudy, b.tools.understudy, "proxy", "--config", filepath.Join(dir, "proxy.yaml"))
	return front{loopback(ports[0]), loopback(ports[2])}, p, err
}

func startTwemproxy(_ context.Context, _ *bench, dir, addr string) (string, *process, error) {
	path, err := peerTool("nutcracker")
	if err != nil {
		return "", nil, err
	}
	ports, err := freePorts(2)
	if err != nil {
		return "", nil, err
	}
	dir = filepath.Join(dir, viaTwemproxy)
	text := fmt.Sprintf("bench:\n  listen: %s\n  redis: true\n  hash: fnv1a_64\n  distribution: ketama\n  auto_eject_hosts: false\n  servers:\n   - %s:1\n", loopback(ports[0]), addr)
	if err := writeFile(dir, "nutcracker.yml", text); err != nil {
		return "", nil, err
	}
	p, err := start(dir, viaTwemproxy, path, "-c", filepath.Join(dir, "nutcracker.yml"), "-o", filepath.Join(dir, "own.log"),
		"-p", filepath.Join(dir, "pid"), "-a", "127.0.0.1", "-s", fmt.Sprint(ports[1]))
	return loopback(ports[0]), p, err
}

func startHAProxy(_ context.Context, _ *bench, dir, addr string) (string, *process, error) {
	path, err := peerTool("haproxy")
	if err != nil {
		return "", nil, err
	}
	ports, err := freePorts(1)
	if err != nil {
		return "", nil, err
	}
	dir = filepath.Join(dir, viaHAProxy)
	text := fmt.Sprintf("global\n  maxconn 4000\ndefaults\n  mode tcp\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\nlisten bench\n  bind %s\n  server redis %s\n", loopback(ports[0]), addr)
	if err := writeFile(dir, "haproxy.cfg", text); err != nil {
		return "", nil, err
	}
	p, err := start(dir, viaHAProxy, path, "-db", "-f", filepath.Join(dir, "haproxy.cfg"))
	return loopback(ports[0]), p, err
}

// peerTool finds a peer's program. Both live where a user's PATH need not lead.
func peerTool(name string) (string, error) {
	for _, candidate := range []string{name, "/usr/sbin/" + name} {
		if path, err := exec.LookPath(candidate); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s is missing: apt-get install nutcracker haproxy", name)
}

// builds says which builds of the peers were measured.
func builds(ctx context.Context) ([]peerBuild, error) {
	var all []peerBuild
	var errs []error
	for _, peer := range []struct{ name, tool, flag string }{{viaTwemproxy, "nutcracker", "-V"}, {viaHAProxy, "haproxy", "-v"}} {
		path, err := peerTool(peer.tool)
		if err != nil {
			return nil, err
		}
		out, err := exec.CommandContext(ctx, path, peer.flag).CombinedOutput()
		line, _, _ := bytes.Cut(out, []byte("\n"))
		if err != nil {
			errs = append(errs, fmt.Errorf("%s %s: %w", peer.tool, peer.flag, err))
		}
		text, _, _ := strings.Cut(strings.TrimSpace(string(line)), " - ")
		all = append(all, peerBuild{peer.name, text})
	}
	return all, errors.Join(errs...)
}

// stageSplit starts a primary with two replicas and `understudy proxy` before them.
func (b *bench) stageSplit(ctx context.Context) (*stage, error) {
	s := newStage()
	dir := filepath.Join(b.dir, "split")
	primary, server, err := s.redis(ctx, dir, "primary")
	var replicas []string
	for i := 0; i < 2 && err == nil; i++ {
		var addr string
		addr, _, err = s.redis(ctx, dir, fmt.Sprintf("replica-%d", i+1), primary)
		replicas = append(replicas, addr)
	}
	var at front
	var p *process
	if err == nil {
		if at, p, err = b.startFront(dir, primary, replicas...); p != nil {
			s.ends = append(s.ends, p)
		}
	}
	if err == nil {
		err = errors.Join(inSync(ctx, primary, len(replicas)), answers(ctx, at.primary, p), answers(ctx, at.split, p))
	}
	if err != nil {
		return nil, errors.Join(err, s.end())
	}
	s.add(laneDirect, primary, 0, server)
	s.add(lanePrimary, at.primary, p.pid(), server)
	s.add(laneSplit, at.split, p.pid(), server)
	return s, nil
}

const lanePrimary, laneSplit = "primary endpoint", "split endpoint"

// inSync waits until a primary has as many replicas that follow it.
func inSync(ctx context.Context, addr string, replicas int) error {
	c := direct(addr)
	defer c.Close()
	return await(ctx, "replicas of "+addr, readyWithin, func() error {
		text, err := c.Info(ctx, "replication").Result()
		if n := strings.Count(text, "state=online"); err == nil && n < replicas {
			err = fmt.Errorf("%d of %d are online", n, replicas)
		}
		return err
	})
}

// measureSplit loads the split endpoint and the primary endpoint of one proxy with 90 % reads.
func (b *bench) measureSplit(ctx context.Context, p *proxies) (err error) {
	s, err := b.stageSplit(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.end()) }()
	m := mix{connections: 50, pipeline: 1, valueSize: valueSize, keys: keySpace, writes: splitWrites, runs: 2 * mixFor}
	return b.compete(ctx, p, s, []string{laneDirect, lanePrimary, laneSplit}, &proxyRun{Case: caseSplit, Load: "90 % reads"}, m.run)
}

// measureSync loads a group in async durability and one in sync; both run all the time.
func (b *bench) measureSync(ctx context.Context, p *proxies) (err error) {
	s := newStage()
	for _, lane := range []string{laneAsync, laneSync} {
		g, err := b.startGroup(ctx, lane)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, g.stop()) }()
		s.add(lane, g.endpoints.Primary, g.process.pid(), 0) // which server is the primary may change
	}
	c := proxyCases[0]
	direct, err := b.benchmark(ctx, s.addrs[laneAsync], c, "set", 20_000)
	if err != nil {
		return err
	}
	requests := max(1000, int(direct.Rate*runFor.Seconds()))
	for _, command := range []string{"SET", "GET"} {
		err := b.compete(ctx, p, s, []string{laneAsync, laneSync}, &proxyRun{Case: caseSync, Load: command}, func(ctx context.Context, addr string) (mixed, error) {
			f, err := b.benchmark(ctx, addr, c, strings.ToLower(command), requests)
			return mixed{f, requests}, err
		})
		if err != nil {
			return err
		}
	}
	m := mix{connections: 50, pipeline: 1, valueSize: valueSize, keys: keySpace, writes: memtierWrites, runs: mixFor}
	return b.compete(ctx, p, s, []string{laneAsync, laneSync}, &proxyRun{Case: caseSync, Load: "mix 1:10"}, m.run)
}
