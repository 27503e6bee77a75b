package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Machines are three machines, each alone in a zone, as a user sets them up: an agent with a member of the
// store on each, and a proxy beside it for the clients of the zone.
//
//	zone a: m1, agent, redis-server, store member, proxy, clients ┐
//	zone b: m2, …                                                 ┼ bridge
//	zone c: m3, …                                                 ┘
type Machines struct {
	t   *testing.T
	net *Zones
	all []*Machine
}

// Machine is one of them.
type Machine struct {
	*Zone
	t     *testing.T
	dir   string
	agent *up
	proxy *up
	http  *http.Client // with sockets of the zone
}

// Where the parts of a machine listen. Each zone has its own loopback, so that all machines use the same.
const (
	agentHTTP    = "127.0.0.1:7401"
	proxyPrimary = "127.0.0.1:7379"
	proxyReader  = "127.0.0.1:7380"
)

// StartMachines starts a group of three nodes, one in each of the zones a, b and c, with a proxy in each, and
// waits until every node is ready. durability is that of the group.
func StartMachines(t *testing.T, durability string) *Machines {
	t.Helper()
	return startMachines(t, durability, func(string, string) string { return "insecure: true" })
}

// StartSecureMachines is StartMachines with a certificate for each machine and each proxy.
func StartSecureMachines(t *testing.T, durability string) *Machines {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "certs")
	certs := func(args ...string) {
		if _, text, code := run(t, append(append([]string{"certs"}, args...), "--dir", dir)...); code != 0 {
			t.Fatalf("understudy certs %s: exit %d: %s", strings.Join(args, " "), code, text)
		}
	}
	certs("init")
	return startMachines(t, durability, func(name, host string) string {
		certs("issue", name, "--host", host)
		return fmt.Sprintf("tls: {ca: %[1]s/ca.pem, cert: %[1]s/%[2]s.pem, key: %[1]s/%[2]s.key}", dir, name)
	})
}

// startMachines starts them; identity is the line of the configuration that says who a part is, given its name
// and its address.
func startMachines(t *testing.T, durability string, identity func(name, host string) string) *Machines {
	t.Helper()
	n := StartZones(t, "a", "b", "c")
	g := &Machines{t: t, net: n}
	dir := t.TempDir()
	var members, endpoints []string
	for i, z := range n.all {
		members = append(members, fmt.Sprintf("m%d: %s:2380", i+1, z.IP))
		endpoints = append(endpoints, `"`+z.IP+`:2379"`)
	}
	for i, z := range n.all {
		m := &Machine{Zone: z, t: t, dir: filepath.Join(dir, fmt.Sprintf("m%d", i+1))}
		m.http = &http.Client{Transport: &http.Transport{DialContext: z.Dial, DisableKeepAlives: true}}
		g.all = append(g.all, m)
		m.write("agent.yaml", fmt.Sprintf(`machine: m%d
zone: %s
data: data
listen: %s
store: {embed: {%s}}
%s
groups: [{name: main, nodes: 3, durability: %s, profile: fast}]
`, i+1, z.Name, z.IP, strings.Join(members, ", "), identity(fmt.Sprintf("m%d", i+1), z.IP), durability))
		m.write("proxy.yaml", fmt.Sprintf(`group: main
zone: %s
listen: {primary: "%s", reader: "%s", split: "127.0.0.1:7381", http: "127.0.0.1:7390"}
store: {endpoints: [%s]}
%s
`, z.Name, proxyPrimary, proxyReader, strings.Join(endpoints, ", "), identity(fmt.Sprintf("p%d", i+1), z.IP)))
	}
	for _, m := range g.all {
		m.startAgent()
	}
	for _, m := range g.all {
		m.startProxy()
	}
	t.Cleanup(func() { // runs while everything is still there
		if t.Failed() {
			g.explain()
		}
	})
	g.WaitAvailable()
	return g
}

// explain logs what every machine says of the group, and why.
func (g *Machines) explain() {
	for _, m := range g.all {
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		cmd := exec.CommandContext(ctx, "ip", "netns", "exec", m.ns, program, "status", "--http", agentHTTP, "--explain")
		out, err := cmd.CombinedOutput()
		cancel()
		g.t.Logf("zone %s says (%v):\n%s", m.Name, err, out)
	}
}

func (m *Machine) write(name, text string) {
	m.t.Helper()
	err := os.MkdirAll(m.dir, 0o700)
	if err == nil {
		err = os.WriteFile(filepath.Join(m.dir, name), []byte(text), 0o600)
	}
	if err != nil {
		m.t.Fatal(err)
	}
}

// startAgent starts the agent of the machine; it does not wait for anything.
func (m *Machine) startAgent() { m.agent = m.start("agent") }

// startProxy starts the proxy of the machine.
func (m *Machine) startProxy() { m.proxy = m.start("proxy") }

func (m *Machine) start(part string) *up {
	m.t.Helper()
	u := startProgram(m.t, m.Command(program, part, "--config", filepath.Join(m.dir, part+".yaml")))
	m.t.Cleanup(func() {
		if m.t.Failed() {
			m.t.Logf("log of the %s in zone %s, process %d:\n%s", part, m.Name, u.cmd.Process.Pid, u.log())
		}
	})
	return u
}

// kill ends a process of the machine with SIGKILL and waits for its end.
func (m *Machine) kill(u *up) {
	m.t.Helper()
	if err := u.cmd.Process.Kill(); err != nil {
		m.t.Fatalf("kill process %d of zone %s: %v", u.cmd.Process.Pid, m.Name, err)
	}
	<-u.ended
}

// files are all files of that name below the machine's directory.
func (m *Machine) files(name string) []string {
	m.t.Helper()
	var found []string
	err := filepath.WalkDir(m.dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Name() == name {
			found = append(found, path)
		}
		return nil // what vanishes while this looks is not there
	})
	if err != nil {
		m.t.Fatal(err)
	}
	return found
}

// place is where this machine's clients are.
func (m *Machine) place() place { return place{zone: m.Zone, addr: proxyPrimary} }

// status is what the machine's agent says of the group.
func (m *Machine) status() (Status, error) {
	var s Status
	err := m.get("/api/status", &s)
	return s, err
}

// get asks the machine's agent over HTTP.
func (m *Machine) get(path string, into any) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+agentHTTP+path, nil)
	if err != nil {
		return err
	}
	resp, err := m.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var b bytes.Buffer
	if _, err := b.ReadFrom(resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %d: %s", path, resp.StatusCode, b.Bytes())
	}
	return json.Unmarshal(b.Bytes(), into)
}

// voters are the nodes of which one must hold a write before it is acked, as the machine knows it.
func (m *Machine) voters() ([]string, error) {
	var x struct {
		Rule struct {
			Voters []string
			W      int
		}
	}
	if err := m.get("/api/explain", &x); err != nil || x.Rule.W == 0 {
		return nil, err
	}
	return x.Rule.Voters, nil
}

// wait waits until the machine says what is wanted of the group.
func (m *Machine) wait(what string, ok func(Status) bool) Status {
	m.t.Helper()
	var last Status
	eventually(m.t, "zone "+m.Name+" to see "+what, func() error {
		s, err := m.status()
		if err != nil {
			return err
		}
		if last = s; !ok(s) {
			return fmt.Errorf("the status is %+v", s)
		}
		return nil
	})
	return last
}

// WaitAvailable waits until every machine sees every node ready and every replica in the voter rule, and every
// proxy reaches the primary.
func (g *Machines) WaitAvailable() Status {
	g.t.Helper()
	var s Status
	for _, m := range g.all {
		s = m.wait("the group available", func(s Status) bool { return s.State == "available" && len(s.Nodes) == len(g.all) })
		if s.Durability == "sync" {
			eventually(g.t, "the voters", func() error {
				if v, err := m.voters(); err != nil || len(v) != len(g.all)-1 {
					return fmt.Errorf("zone %s sees the voters %v, %w", m.Name, v, err)
				}
				return nil
			})
		}
		c := m.place().client(g.t)
		eventually(g.t, "the proxy of zone "+m.Name, func() error { return c.Ping(background).Err() })
		_ = c.Close()
	}
	return s
}

// primary is the machine that leads by a status, and the others.
func (g *Machines) primary(s Status) (leads *Machine, others []*Machine) {
	g.t.Helper()
	for _, m := range g.all {
		if m.Name == s.node(s.Primary).Zone {
			leads = m
			continue
		}
		others = append(others, m)
	}
	if leads == nil {
		g.t.Fatalf("no machine leads: %+v", s)
	}
	return leads, others
}

// stop ends every process of the group in order, and demands that none is left in any zone.
func (g *Machines) stop() {
	g.t.Helper()
	for _, part := range []func(*Machine) *up{func(m *Machine) *up { return m.proxy }, func(m *Machine) *up { return m.agent }} {
		for _, m := range g.all {
			if u := part(m); u != nil && u.running() {
				_ = u.cmd.Process.Signal(syscall.SIGTERM)
			}
		}
		for _, m := range g.all {
			if u := part(m); u != nil {
				<-u.ended
			}
		}
	}
	for _, m := range g.all {
		if left := m.pids(); len(left) > 0 {
			g.t.Errorf("left behind in zone %s: %v", m.Name, left)
		}
	}
}

func TestMachinesWithCertificatesServeClientsInEveryZoneThroughACut(t *testing.T) {
	g := StartSecureMachines(t, "sync")
	s := g.WaitAvailable()
	leads, others := g.primary(s)
	t.Logf("%s leads in zone %s", s.Primary, leads.Name)
	if err := others[0].place().client(t).Set(background, "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	for _, m := range g.all {
		if v, err := m.place().client(t).Get(background, "k").Result(); err != nil || v != "v" {
			t.Errorf("zone %s reads %q, %v", m.Name, v, err)
		}
	}
	g.net.Cut(leads.Zone)
	for _, m := range others {
		if n, err := m.place().client(t).Incr(background, "n").Result(); err != nil || n == 0 {
			t.Errorf("zone %s counts %d, %v", m.Name, n, err)
		}
	}
	g.net.Heal()
	g.WaitAvailable()
	if n, err := leads.place().client(t).Get(background, "n").Int(); err != nil || n != 2 {
		t.Errorf("zone %s reads %d after two increments elsewhere, %v", leads.Name, n, err)
	}
	g.stop()
}
