package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// network is three zones, each a network namespace, that a bridge in a namespace of its own joins. A cut
// is silent, as a real one is: the bridge drops what comes from the zone and what is for it.
//
//	zone a: eth0 10.98.0.1 ── p1 ┐
//	zone b: eth0 10.98.0.2 ── p2 ┼ bridge
//	zone c: eth0 10.98.0.3 ── p3 ┘
type network struct {
	prefix string // of the namespaces' names
	zones  []*zone
}

// zone is one failure domain.
type zone struct {
	name, ip string

	ns, port string
	network  *network
	fd       int // the namespace, for sockets of this process
}

// netnsPrefix begins the names of all namespaces of benchmarks; the process that made them follows.
const netnsPrefix = "understudy-bench-"

// zonesImpossible says why this machine cannot make zones, "" when it can.
func zonesImpossible() string {
	if os.Getuid() != 0 {
		return "this is not root"
	}
	for _, tool := range []string{"ip", "bridge"} {
		if _, err := exec.LookPath(tool); err != nil {
			return tool + " is missing (apt-get install iproute2)"
		}
	}
	// Containers may be root and still forbid it.
	n, err := newNetwork("probe")
	if n != nil {
		defer func() { _ = n.remove() }()
	}
	if err == nil {
		err = n.zones[0].cut(true)
	}
	if err != nil {
		return err.Error()
	}
	return ""
}

// newNetwork makes the namespaces. On an error what was made is still to be removed.
func newNetwork(name string) (*network, error) {
	sweepNetworks()
	n := &network{prefix: fmt.Sprintf("%s%d-%s-", netnsPrefix, os.Getpid(), name)}
	if err := command("ip", "netns", "add", n.bridge()); err != nil {
		return n, err
	}
	lines := []string{"link add br0 type bridge", "link set br0 up"}
	for i, name := range []string{"a", "b", "c"} {
		z := &zone{name: name, ip: fmt.Sprintf("10.98.0.%d", i+1), ns: n.prefix + name, port: fmt.Sprintf("p%d", i+1), network: n, fd: -1}
		n.zones = append(n.zones, z)
		if err := command("ip", "netns", "add", z.ns); err != nil {
			return n, err
		}
		lines = append(lines, fmt.Sprintf("link add %s type veth peer name eth0 netns %s", z.port, z.ns), fmt.Sprintf("link set %s master br0 up", z.port))
	}
	if err := batch(n.bridge(), lines); err != nil {
		return n, err
	}
	for i, z := range n.zones {
		lines := []string{"link set lo up", "link set eth0 address " + mac(i) + " up", "addr add " + z.ip + "/24 dev eth0"}
		for j, other := range n.zones { // a cut is to hit what is sent, not the search for addresses
			if j != i {
				lines = append(lines, fmt.Sprintf("neigh replace %s lladdr %s dev eth0 nud permanent", other.ip, mac(j)))
			}
		}
		if err := batch(z.ns, lines); err != nil {
			return n, err
		}
		var err error
		if z.fd, err = unix.Open("/run/netns/"+z.ns, unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
			return n, fmt.Errorf("open the namespace of zone %s: %w", z.name, err)
		}
	}
	return n, nil
}

func mac(i int) string            { return fmt.Sprintf("02:00:00:00:01:%02x", i+1) }
func (n *network) bridge() string { return n.prefix + "bridge" }

// remove ends what still runs in the namespaces and takes them away.
func (n *network) remove() error {
	var errs []error
	for _, z := range n.zones {
		if z.fd >= 0 {
			errs = append(errs, unix.Close(z.fd))
		}
	}
	return errors.Join(append(errs, removeNamespaces(n.prefix))...)
}

func removeNamespaces(prefix string) error {
	names, err := filepath.Glob("/run/netns/" + prefix + "*")
	for _, path := range names {
		ns := filepath.Base(path)
		out, _ := exec.Command("ip", "netns", "pids", ns).Output() // it fails only when the namespace has just gone
		for _, word := range strings.Fields(string(out)) {
			if pid, err := strconv.Atoi(word); err == nil && pid != os.Getpid() {
				_ = syscall.Kill(pid, syscall.SIGKILL) // only a run of ours can have started it there
			}
		}
		err = errors.Join(err, command("ip", "netns", "del", ns))
	}
	return err
}

// sweepNetworks removes what runs that are over could not remove themselves.
func sweepNetworks() {
	names, _ := filepath.Glob("/run/netns/" + netnsPrefix + "*")
	for _, path := range names {
		word, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(path), netnsPrefix), "-")
		if pid, err := strconv.Atoi(word); err == nil && errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			_ = removeNamespaces(filepath.Base(path)) // the next run tries again
		}
	}
}

func command(name string, args ...string) error {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// batch runs commands of ip in a namespace with one process.
func batch(ns string, lines []string) error {
	cmd := exec.Command("ip", "-n", ns, "-batch", "-")
	cmd.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("ip -n %s: %w: %s", ns, err, strings.TrimSpace(string(out)))
	}
	return nil
}

// cut isolates the zone in both directions, or ends that.
func (z *zone) cut(off bool) error {
	state := "3" // forwarding
	if off {
		state = "0" // disabled: the port lets nothing pass, and its carrier stays up
	}
	return command("bridge", "-n", z.network.bridge(), "link", "set", "dev", z.port, "state", state)
}

// start runs a program inside the zone.
func (z *zone) start(dir, name, path string, args ...string) (*process, error) {
	return start(dir, name, "/usr/bin/env", append([]string{"ip", "netns", "exec", z.ns, path}, args...)...)
}

// dial connects from inside the zone; addr is IP:PORT.
func (z *zone) dial(ctx context.Context, network, addr string) (conn net.Conn, err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	home, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("this thread's namespace: %w", err)
	}
	defer unix.Close(home)
	if err := unix.Setns(z.fd, unix.CLONE_NEWNET); err != nil {
		return nil, fmt.Errorf("enter zone %s: %w", z.name, err)
	}
	conn, err = (&net.Dialer{}).DialContext(ctx, network, addr)
	// The thread goes home and lives on. Were it to end with its goroutine, the kernel would take it for
	// the end of a parent, and kill every process that this very thread has started.
	if back := unix.Setns(home, unix.CLONE_NEWNET); back != nil {
		panic(fmt.Sprintf("a thread does not come back from zone %s: %v", z.name, back))
	}
	return conn, err
}
