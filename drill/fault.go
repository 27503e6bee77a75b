package drill

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sys/unix"

	"understudy/cluster"
	rediserver "understudy/redis"
)

// Fault is one thing that can go wrong.
type Fault interface {
	Name() string
	// RTO is the threshold when none is given.
	RTO() time.Duration
	// ChangesPrimary says whether the group must have a new primary afterwards.
	ChangesPrimary() bool
	// Victim names the node that the fault is about, given the group before it.
	Victim(cluster.Status) (cluster.StatusNode, error)
	// Inject breaks it. undo, never nil, takes back what can be taken back and may be called
	// after the group has already healed. Errors: cluster.ErrRefused when it is not safe.
	Inject(context.Context, Target) (undo func() error, err error)
}

// Target is what a Fault works on.
type Target struct {
	Victim cluster.StatusNode
	// Mark is called right before the fault takes effect: times count from there.
	Mark func()
	api  instance
}

// later are faults of the interface that need parts which are not built yet.
var later = map[string]string{
	"cut-zone":      "it needs zones that can be cut off",
	"kill-agent":    "it needs agents in processes of their own",
	"stop-store":    "it needs a store in a process of its own",
	"restart-empty": "it needs a hold on the node's data directory",
	"slow-primary":  "it needs a link that can be slowed",
}

var faults = []Fault{
	signalFault{name: "kill-primary", signal: unix.SIGKILL, role: cluster.RolePrimary, rto: 500 * time.Millisecond},
	// A frozen process is found by silence: 300 ms in the fast profile, then it has to be killed.
	signalFault{name: "hang-primary", signal: unix.SIGSTOP, role: cluster.RolePrimary, rto: 800 * time.Millisecond},
	switchoverFault{},
	signalFault{name: "kill-replica", signal: unix.SIGKILL, role: cluster.RoleReplica, rto: 500 * time.Millisecond},
	apiFault{},
}

// Faults lists the names of the faults that can be injected.
func Faults() []string {
	names := make([]string, len(faults))
	for i, f := range faults {
		names[i] = f.Name()
	}
	return names
}

// FaultNamed finds a fault. Errors: ErrUsage, which lists the valid names.
func FaultNamed(name string) (Fault, error) {
	for _, f := range faults {
		if f.Name() == name {
			return f, nil
		}
	}
	if why, ok := later[name]; ok {
		return nil, fmt.Errorf("%w: fault %s is not there yet (%s); there are %s", ErrUsage, name, why, strings.Join(Faults(), ", "))
	}
	return nil, fmt.Errorf("%w: unknown fault %q; there are %s", ErrUsage, name, strings.Join(Faults(), ", "))
}

// switchoverFault is no accident: a planned change must not be seen at all.
type switchoverFault struct{}

func (switchoverFault) Name() string         { return "switchover" }
func (switchoverFault) RTO() time.Duration   { return 500 * time.Millisecond }
func (switchoverFault) ChangesPrimary() bool { return true }
func (switchoverFault) Victim(s cluster.Status) (cluster.StatusNode, error) {
	return nodeOfRole(s, cluster.RolePrimary)
}

func (switchoverFault) Inject(ctx context.Context, t Target) (func() error, error) {
	t.Mark()
	_, err := t.api.switchover(ctx)
	return func() error { return nil }, err
}

// signalFault sends a signal to a node's redis-server.
type signalFault struct {
	name   string
	signal unix.Signal
	role   cluster.Role
	rto    time.Duration
}

func (f signalFault) Name() string         { return f.name }
func (f signalFault) RTO() time.Duration   { return f.rto }
func (f signalFault) ChangesPrimary() bool { return f.role == cluster.RolePrimary }
func (f signalFault) Victim(s cluster.Status) (cluster.StatusNode, error) {
	return nodeOfRole(s, f.role)
}

// Check proves the victim before any load is put on the group.
func (f signalFault) Check(ctx context.Context, n cluster.StatusNode) error {
	p, err := openServer(ctx, n)
	if err == nil {
		unix.Close(p)
	}
	return err
}

func (f signalFault) Inject(ctx context.Context, t Target) (func() error, error) {
	none := func() error { return nil }
	p, err := openServer(ctx, t.Victim)
	if err != nil {
		return none, err
	}
	t.Mark()
	if err := unix.PidfdSendSignal(p, f.signal, nil, 0); err != nil {
		unix.Close(p)
		return none, fmt.Errorf("%s: signal pid %d of %s: %w", f.name, t.Victim.PID, t.Victim.ID, err)
	}
	return func() error {
		defer unix.Close(p)
		if f.signal != unix.SIGSTOP {
			return nil
		}
		// The handle, unlike a pid, can never reach another process.
		if err := unix.PidfdSendSignal(p, unix.SIGCONT, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("%s: continue pid %d of %s: %w", f.name, t.Victim.PID, t.Victim.ID, err)
		}
		return nil
	}, nil
}

// openServer returns a handle of the process behind a node, once it is proven to be the node's
// redis-server: the address is on this machine, the process is called like a server, and the server
// that answers at the address says that it has this pid. A wrong pid would kill somebody else's work.
// Errors: cluster.ErrRefused.
func openServer(ctx context.Context, n cluster.StatusNode) (int, error) {
	refuse := func(format string, args ...any) error {
		return fmt.Errorf("%w to signal the redis-server of %s: %s", cluster.ErrRefused, n.ID, fmt.Sprintf(format, args...))
	}
	if n.PID <= 1 {
		return 0, refuse("the status shows pid %d; wait until the node runs", n.PID)
	}
	if !local(n.Addr) {
		return 0, refuse("its address %s is not on this machine; run the drill there", n.Addr)
	}
	p, err := unix.PidfdOpen(n.PID, 0)
	if err != nil {
		return 0, refuse("pid %d: %v", n.PID, err)
	}
	// From here on the handle stands for one process, whatever becomes of the number.
	comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", n.PID))
	name := strings.TrimSpace(string(comm))
	if err != nil || !slices.ContainsFunc([]string{"redis-server", "valkey-server"}, func(s string) bool { return strings.HasPrefix(name, s) }) {
		unix.Close(p)
		return 0, refuse("pid %d is %q and no redis-server or valkey-server", n.PID, name)
	}
	said, err := processID(ctx, n.Addr)
	if err != nil || said != n.PID {
		unix.Close(p)
		return 0, refuse("the server at %s says it is pid %d (%v), the status says %d", n.Addr, said, err, n.PID)
	}
	return p, nil
}

func processID(ctx context.Context, addr string) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	c := newClient(addr)
	defer c.Close()
	info, err := c.Info(ctx, "server").Result()
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(rediserver.InfoFields(info)["process_id"])
}

// local reports whether the address can be listened on by this machine.
func local(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	if ip == nil || ip.IsLoopback() {
		return ip != nil
	}
	own, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	return slices.ContainsFunc(own, func(a net.Addr) bool {
		n, ok := a.(*net.IPNet)
		return ok && n.IP.Equal(ip)
	})
}

func nodeOfRole(s cluster.Status, role cluster.Role) (cluster.StatusNode, error) {
	for _, n := range s.Nodes {
		if role == cluster.RolePrimary && n.ID == s.Primary || role == cluster.RoleReplica && n.ID != s.Primary && n.State == cluster.StateReady {
			return n, nil
		}
	}
	return cluster.StatusNode{}, fmt.Errorf("%w: group %s has no %s to break; look at `understudy status`", cluster.ErrRefused, s.Group, role)
}

// newClient is the client library as a careful application sets it up, but with its retries off:
// with them on, the library would hide errors from the figures.
func newClient(addr string) *redis.Client { return redis.NewClient(clientOptions(addr)) }
