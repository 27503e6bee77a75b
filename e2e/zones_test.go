package e2e

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
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Zones are network namespaces that a bridge in a namespace of its own joins. A cut is silent, as that
// of a real network: what is sent arrives nowhere, and nobody is told.
//
//	zone a: eth0 10.99.0.1 ── p1 ┐
//	zone b: eth0 10.99.0.2 ── p2 ┼ bridge; each port drops what its filters say, in and out
//	zone c: eth0 10.99.0.3 ── p3 ┘
//
// The root namespace has no part in it: the test opens its own sockets inside a zone.
type Zones struct {
	t      *testing.T
	prefix string // of the namespaces' names
	all    []*Zone
}

// Zone is one failure domain.
type Zone struct {
	Name string
	IP   string

	zones *Zones
	ns    string // name of the namespace
	port  string // of the bridge
	fd    int    // the namespace, for sockets of the test
	leave rules  // what happens to what leaves the zone
	enter rules
}

// netnsPrefix begins the names of all namespaces of end-to-end tests; then come the number and the start
// time of the process that made them, by which a later run knows what an earlier one left.
const netnsPrefix = "understudy-e2e-"

var netnsCount int

// StartZones makes a network of the named zones until the test ends. Where that is not possible the test
// is skipped and says what was not tested.
func StartZones(t *testing.T, names ...string) *Zones {
	t.Helper()
	if why := zonesImpossible(); why != "" {
		t.Skipf("NOT TESTED: %s needs network namespaces as zones: %s. Run as root: go test ./e2e/ -run '^%s$' -v", t.Name(), why, t.Name())
	}
	sweepNetns(t)
	self, _, _ := look(os.Getpid())
	netnsCount++
	n := &Zones{t: t, prefix: fmt.Sprintf("%s%d-%s-%d-", netnsPrefix, self.pid, self.started, netnsCount)}
	t.Cleanup(func() { removeNetns(t, n.prefix) })
	bridge := []string{"link add br0 type bridge", "link set br0 up"}
	n.command("ip", "netns", "add", n.bridge())
	for i, name := range names {
		z := &Zone{Name: name, IP: fmt.Sprintf("10.99.0.%d", i+1), zones: n, ns: n.prefix + name, port: fmt.Sprintf("p%d", i+1)}
		n.all = append(n.all, z)
		n.command("ip", "netns", "add", z.ns)
		bridge = append(bridge,
			fmt.Sprintf("link add %s type veth peer name eth0 netns %s", z.port, z.ns),
			fmt.Sprintf("link set %s master br0 up", z.port))
	}
	n.batch("ip", n.bridge(), bridge...)
	for i, z := range n.all {
		// Every zone knows the others' addresses: a cut or a loss is to hit the payload, not ARP.
		setup := []string{"link set lo up", "link set eth0 address " + mac(i) + " up", "addr add " + z.IP + "/24 dev eth0"}
		for j, other := range n.all {
			if j != i {
				setup = append(setup, fmt.Sprintf("neigh replace %s lladdr %s dev eth0 nud permanent", other.IP, mac(j)))
			}
		}
		n.batch("ip", z.ns, setup...)
		n.batch("tc", n.bridge(), "qdisc add dev "+z.port+" clsact")
		fd, err := unix.Open("/run/netns/"+z.ns, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatalf("open the namespace of zone %s: %v", z.Name, err)
		}
		z.fd = fd
		t.Cleanup(func() { _ = unix.Close(fd) })
	}
	return n
}

// mac is the ethernet address of the zone with that index: the filters tell zones by its last four bytes.
func mac(i int) string { return fmt.Sprintf("02:00:00:00:00:%02x", i+1) }

// zonesImpossible says why this machine cannot make zones, "" when it can: looked up once.
var zonesImpossible = sync.OnceValue(func() string {
	if os.Getuid() != 0 {
		return "this is not root"
	}
	for _, tool := range []string{"ip", "tc"} {
		if _, err := exec.LookPath(tool); err != nil {
			return tool + " is missing (apt install iproute2)"
		}
	}
	// Containers may be root and still forbid both of these.
	name := fmt.Sprintf("%s%d-probe", netnsPrefix, os.Getpid())
	defer func() { _ = exec.Command("ip", "netns", "del", name).Run() }()
	for _, words := range []string{
		"ip netns add " + name, "ip -n " + name + " link add v0 type veth peer name v1",
		"tc -n " + name + " qdisc add dev v0 clsact",
	} {
		if out, err := exec.Command("sh", "-c", words).CombinedOutput(); err != nil {
			return fmt.Sprintf("%q fails: %s", words, strings.TrimSpace(string(out)))
		}
	}
	filter := strings.Fields("-n " + name + " filter add dev v0 ingress protocol all bpf da bytecode")
	if out, err := exec.Command("tc", append(filter, rules{loss: 30}.bytecode())...).CombinedOutput(); err != nil {
		return fmt.Sprintf("the kernel has no cls_bpf: %s", strings.TrimSpace(string(out)))
	}
	return ""
})

// sweepNetns removes the namespaces of runs that are over and could not do it themselves.
func sweepNetns(t *testing.T) {
	t.Helper()
	names, err := filepath.Glob("/run/netns/" + netnsPrefix + "*")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range names {
		words := strings.Split(strings.TrimPrefix(filepath.Base(path), netnsPrefix), "-")
		pid, err := strconv.Atoi(words[0])
		if err != nil {
			continue
		}
		now, _, runs := look(pid)
		if made := len(words) > 2 && words[1] == now.started; runs && (made || len(words) == 2) {
			continue // of a run that goes on; a probe has no start time in its name
		}
		removeNetns(t, filepath.Base(path))
	}
}

// removeNetns ends what runs in the namespaces whose names begin with prefix, and removes them. Only the
// processes that this test or a run before started can be in there.
func removeNetns(t *testing.T, prefix string) {
	t.Helper()
	names, err := filepath.Glob("/run/netns/" + prefix + "*")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range names {
		ns := filepath.Base(path)
		for _, pid := range netnsPIDs(ns) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		if out, err := exec.Command("ip", "netns", "del", ns).CombinedOutput(); err != nil {
			t.Errorf("remove the namespace %s: %v: %s", ns, err, out)
		}
	}
}

// netnsPIDs are the processes in a namespace.
func netnsPIDs(ns string) []int {
	out, _ := exec.Command("ip", "netns", "pids", ns).Output() // fails only when there is no such namespace
	var pids []int
	for _, word := range strings.Fields(string(out)) {
		if pid, err := strconv.Atoi(word); err == nil && pid != os.Getpid() {
			pids = append(pids, pid)
		}
	}
	return pids
}

func (n *Zones) bridge() string { return n.prefix + "bridge" }

func (n *Zones) command(name string, args ...string) {
	n.t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		n.t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
	}
}

// batch runs commands of ip or tc in a namespace with one process: they follow one another within
// microseconds.
func (n *Zones) batch(tool, ns string, lines ...string) {
	n.t.Helper()
	cmd := exec.Command(tool, "-n", ns, "-batch", "-")
	cmd.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		n.t.Fatalf("%s -n %s: %v: %s\n%s", tool, ns, err, out, strings.Join(lines, "\n"))
	}
}

// Zone is the zone of that name.
func (n *Zones) Zone(name string) *Zone {
	n.t.Helper()
	for _, z := range n.all {
		if z.Name == name {
			return z
		}
	}
	n.t.Fatalf("there is no zone %s", name)
	return nil
}

// rules are what a port does to frames that go one way.
type rules struct {
	all   bool           // drop everything
	to    map[*Zone]bool // drop what is for these zones
	ports []int          // drop what comes from these ports, or is for them
	loss  int            // drop so many in a hundred
}

// Opcodes of classic BPF, and the answers of a filter to tc: bpf(2), tc-bpf(8).
const (
	loadWord    = "32 0 0 %d"
	loadHalf    = "40 0 0 %d"
	skipIfGE    = "53 %d 0 %d"
	dropIfEqual = "21 0 1 %d,6 0 0 2"
	drop        = "6 0 0 2"
	pass        = "6 0 0 4294967295"

	destination = 2  // offset of the last four bytes of the destination's address
	sourcePort  = 34 // of TCP over IPv4 without options
	destPort    = 36
	random      = 0xfffff038 // the extension that loads a random number
)

// bytecode is the rules as tc reads a filter: the number of instructions, then each of them.
func (r rules) bytecode() string {
	var code []string
	switch {
	case r.all:
		code = append(code, drop)
	default:
		code = append(code, fmt.Sprintf(loadWord, destination))
		for z := range r.to {
			number, _ := strconv.Atoi(z.port[1:])
			code = append(code, fmt.Sprintf(dropIfEqual, number))
		}
		for _, port := range r.ports {
			for _, at := range []int{sourcePort, destPort} {
				code = append(code, fmt.Sprintf(loadHalf, at), fmt.Sprintf(dropIfEqual, port))
			}
		}
		if r.loss > 0 {
			code = append(code, fmt.Sprintf(loadWord, uint32(random)), fmt.Sprintf(skipIfGE, 1, uint64(r.loss)<<32/100), drop)
		}
	}
	text := strings.Join(append(code, pass), ",")
	return fmt.Sprintf("%d,%s", strings.Count(text, ",")+1, text)
}

// apply puts the rules of the zones into the kernel, at one moment for all of them.
func (n *Zones) apply(zones ...*Zone) {
	n.t.Helper()
	var lines []string
	for _, z := range zones {
		for way, r := range map[string]rules{"ingress": z.leave, "egress": z.enter} {
			lines = append(lines, fmt.Sprintf("filter replace dev %s %s prio 1 handle 1 protocol all bpf da bytecode \"%s\"", z.port, way, r.bytecode()))
		}
	}
	n.batch("tc", n.bridge(), lines...)
}

// Cut isolates the zone in both directions.
func (n *Zones) Cut(z *Zone) {
	n.t.Helper()
	z.leave, z.enter = rules{all: true}, rules{all: true}
	n.apply(z)
}

// CutOneWay drops what from sends to to; what to sends to from arrives.
func (n *Zones) CutOneWay(from, to *Zone) {
	n.t.Helper()
	if from.leave.to == nil {
		from.leave.to = map[*Zone]bool{}
	}
	from.leave.to[to] = true
	n.apply(from)
}

// Lose drops so many in a hundred of the frames that leave the zone.
func (n *Zones) Lose(z *Zone, percent int) {
	n.t.Helper()
	z.leave.loss = percent
	n.apply(z)
}

// CutPorts drops what zones send to one another from these ports, and to them: a service is gone, and
// everything else goes on.
func (n *Zones) CutPorts(ports ...int) {
	n.t.Helper()
	for _, z := range n.all {
		z.leave.ports = ports
	}
	n.apply(n.all...)
}

// Heal ends every cut and loss.
func (n *Zones) Heal() {
	n.t.Helper()
	for _, z := range n.all {
		z.leave, z.enter = rules{}, rules{}
	}
	n.apply(n.all...)
}

// Command is a process that will run inside the zone.
func (z *Zone) Command(name string, args ...string) *exec.Cmd {
	return exec.Command("ip", append([]string{"netns", "exec", z.ns, name}, args...)...)
}

// inside calls f on a thread of the zone: sockets that it opens stay there.
func (z *Zone) inside(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine, and never serves another one
		if err := unix.Setns(z.fd, unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("enter zone %s: %w", z.Name, err)
			return
		}
		done <- f()
	}()
	return <-done
}

// Dial connects from inside the zone; addr is IP:PORT.
func (z *Zone) Dial(ctx context.Context, network, addr string) (c net.Conn, err error) {
	err = z.inside(func() error { c, err = (&net.Dialer{}).DialContext(ctx, network, addr); return err })
	return c, err
}

// Listen listens on any free port of the zone.
func (z *Zone) Listen() (l net.Listener, err error) {
	err = z.inside(func() error { l, err = net.Listen("tcp", net.JoinHostPort(z.IP, "0")); return err })
	return l, err
}

// pids are the processes inside the zone.
func (z *Zone) pids() []int { return netnsPIDs(z.ns) }

func TestZonesCutLoseAndHeal(t *testing.T) {
	n := StartZones(t, "a", "b")
	a, b := n.Zone("a"), n.Zone("b")
	send := map[*Zone]func() bool{}
	for from, to := range map[*Zone]*Zone{a: b, b: a} {
		send[from] = datagrams(t, from, to)
	}
	arrive := func(from *Zone, want bool) {
		t.Helper()
		n := 0
		for range 10 {
			if send[from]() {
				n++
			}
		}
		if want && n != 10 || !want && n != 0 {
			t.Errorf("%d of 10 datagrams from zone %s arrived", n, from.Name)
		}
	}
	arrive(a, true)
	arrive(b, true)
	n.CutOneWay(a, b)
	arrive(a, false)
	arrive(b, true)
	n.Heal()
	n.Cut(a)
	arrive(a, false)
	arrive(b, false)
	n.Heal()
	n.Lose(a, 30)
	got := 0
	for range 100 {
		if send[a]() {
			got++
		}
	}
	arrive(b, true)
	// 70 are expected, and 5 are one standard deviation.
	if got < 45 || got > 95 {
		t.Errorf("%d of 100 datagrams arrived at a loss of 30 %%", got)
	}
	n.Heal()
	arrive(a, true)
	if out, err := a.Command("cat", "/proc/net/dev").Output(); err != nil || !strings.Contains(string(out), "eth0") {
		t.Errorf("a process in the zone sees the interfaces %q, %v", out, err)
	}
}

// datagrams returns a func that sends one from a zone to another and reports whether it arrived.
func datagrams(t *testing.T, from, to *Zone) func() bool {
	t.Helper()
	var in net.PacketConn
	var out net.Conn
	err := to.inside(func() (err error) { in, err = net.ListenPacket("udp", to.IP+":0"); return err })
	if err == nil {
		err = from.inside(func() (err error) { out, err = net.Dial("udp", in.LocalAddr().String()); return err })
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = in.Close(), out.Close() })
	p := make([]byte, 16)
	seq := 0
	return func() bool {
		seq++
		text := strconv.Itoa(seq)
		if _, err := out.Write([]byte(text)); err != nil {
			t.Fatalf("send from zone %s: %v", from.Name, err)
		}
		// A local datagram arrives within microseconds, or never.
		_ = in.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		for {
			k, _, err := in.ReadFrom(p)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				return false
			}
			if err != nil {
				t.Fatal(err)
			}
			if string(p[:k]) == text {
				return true
			}
		}
	}
}
