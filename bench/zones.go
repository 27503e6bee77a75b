package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"

	"understudy/cluster"
)

// cuts is what clients outside a zone notice when that is cut off with the primary in it.
type cuts struct {
	Skipped string  `json:"skipped,omitempty"` // why it was not measured
	Events  []event `json:"events"`
	// Back is how the nodes that were cut off, and lived, came back; Others how the other replica followed
	// the new primary. By peer.
	Back   map[string]counted `json:"resyncs_of_cut_nodes"`
	Others map[string]counted `json:"resyncs_of_other_replicas"`
}

// The peers of a zone that is cut off.
const (
	cutSync     = "understudy sync"
	cutAsync    = "understudy async"
	cutSentinel = "sentinel"
)

var cutGoals = map[string]float64{cutSync: 700, cutAsync: 1500} // ms, at p99

// measureZones cuts the primary's zone off, round by round, from each peer in turn.
func (b *bench) measureZones(ctx context.Context) (err error) {
	c := &cuts{Back: map[string]counted{}, Others: map[string]counted{}}
	b.report.Cuts = c
	if c.Skipped = zonesImpossible(); c.Skipped != "" {
		b.say("NOT MEASURED: zones need network namespaces: %s", c.Skipped)
		return nil
	}
	var peers []peer
	defer func() {
		for _, p := range peers {
			err = errors.Join(err, p.(interface{ stop() error }).stop())
		}
	}()
	for _, durability := range []string{"sync", "async"} {
		m, err := b.startMachines(ctx, durability)
		if err != nil {
			return err
		}
		peers = append(peers, m)
	}
	net, err := newNetwork("sentinel")
	defer func() { err = errors.Join(err, net.remove()) }()
	if err != nil {
		return err
	}
	s, err := b.startSentinels(ctx, net.zones...)
	if err != nil {
		return err
	}
	peers = append(peers, s)
	for round := range b.rounds {
		for i, p := range peers {
			if i == 2 && round%b.peerEvery != 0 {
				continue
			}
			if err := b.meet(ctx, p, event{Fault: "cut", Peer: p.name(), Round: round + 1}, &c.Events); err != nil {
				return err
			}
			if m, ok := p.(*machines); ok {
				c.Back[m.name()], c.Others[m.name()] = m.back, m.others
			}
		}
	}
	return nil
}

// machines are an agent with a store member, a redis-server and a proxy in each of three zones.
type machines struct {
	durability string
	dir        string
	net        *network
	processes  []*process
	http       map[*zone]*http.Client
	outside    *zone // where the clients are: not in the zone that is cut
	cut        *zone

	back, others counted // resyncs of nodes that were cut off, and of the other replicas
	before       map[string]counted
}

// Where the parts of a machine listen. Each zone has a loopback of its own.
const (
	agentHTTP    = "127.0.0.1:7401"
	proxyPrimary = "127.0.0.1:7379"
)

func (b *bench) startMachines(ctx context.Context, durability string) (_ *machines, err error) {
	b.say("starting Understudy on three machines, a zone each, durability %s", durability)
	m := &machines{durability: durability, dir: filepath.Join(b.dir, "zones-"+durability), http: map[*zone]*http.Client{}}
	if m.net, err = newNetwork(durability); err != nil {
		return nil, errors.Join(err, m.stop())
	}
	var members, endpoints []string
	for _, z := range m.net.zones {
		members = append(members, fmt.Sprintf("m-%s: %s:2380", z.name, z.ip))
		endpoints = append(endpoints, fmt.Sprintf("%q", z.ip+":2379"))
		m.http[z] = &http.Client{Transport: &http.Transport{DialContext: z.dial, DisableKeepAlives: true}}
	}
	for _, part := range []string{"agent", "proxy"} {
		for _, z := range m.net.zones {
			home := filepath.Join(m.dir, z.name)
			text := fmt.Sprintf("machine: m-%s\nzone: %s\ndata: data\nlisten: %s\nstore: {embed: {%s}}\ninsecure: true\ngroups: [{name: main, nodes: 3, durability: %s, profile: fast}]\n",
				z.name, z.name, z.ip, strings.Join(members, ", "), durability)
			if part == "proxy" {
				text = fmt.Sprintf("group: main\nzone: %s\nlisten: {primary: %q, reader: \"127.0.0.1:7380\", split: \"127.0.0.1:7381\", http: \"127.0.0.1:7390\"}\nstore: {endpoints: [%s]}\ninsecure: true\n",
					z.name, proxyPrimary, strings.Join(endpoints, ", "))
			}
			err = writeFile(home, part+".yaml", text)
			if err == nil {
				var p *process
				if p, err = z.start(home, part, b.tools.understudy, part, "--config", part+".yaml"); err == nil {
					m.processes = append(m.processes, p)
				}
			}
			if err != nil {
				return nil, errors.Join(err, m.stop())
			}
		}
	}
	if err := m.ready(ctx); err != nil {
		return nil, errors.Join(err, m.stop())
	}
	return m, nil
}

// stop ends the proxies and then the agents in order.
func (m *machines) stop() error {
	var errs []error
	for i := range m.processes {
		errs = append(errs, m.processes[len(m.processes)-1-i].end(syscall.SIGTERM, 20*time.Second))
	}
	return errors.Join(append(errs, m.net.remove())...)
}

func (m *machines) name() string { return "understudy " + m.durability }

// status is what the agent of a zone says.
func (m *machines) status(ctx context.Context, z *zone) (cluster.Status, error) {
	var s cluster.Status
	ctx, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+agentHTTP+"/api/status", nil)
	if err != nil {
		return s, err
	}
	res, err := m.http[z].Do(req)
	if err != nil {
		return s, err
	}
	defer res.Body.Close()
	return s, json.NewDecoder(res.Body).Decode(&s)
}

// ready waits until all agents see all nodes ready, and chooses the zone of the next clients.
func (m *machines) ready(ctx context.Context) error {
	err := await(ctx, "three machines whose nodes are ready", 2*readyWithin, func() error {
		for _, z := range m.net.zones {
			s, err := m.status(ctx, z)
			if err != nil {
				return errors.Join(err, m.lost())
			}
			electable := 0
			for _, n := range s.Nodes {
				if n.ID != s.Primary && n.Electable {
					electable++
				}
			}
			if s.State != cluster.GroupAvailable || electable < 2 {
				return fmt.Errorf("zone %s says that it is %s, with %d nodes that can take over", z.name, s.State, electable)
			}
			if s.Primary != "" {
				m.choose(s)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	m.before = m.resyncs()
	c := m.client()
	defer c.Close()
	return await(ctx, "the proxy of zone "+m.outside.name, readyWithin, func() error { return c.Ping(ctx).Err() })
}

func (m *machines) choose(s cluster.Status) {
	for _, n := range s.Nodes {
		if n.ID != s.Primary {
			continue
		}
		for _, z := range m.net.zones {
			if z.name == n.Zone {
				m.cut = z
			} else {
				m.outside = z
			}
		}
	}
}

// lost says what a process said last that has ended by itself.
func (m *machines) lost() error {
	for _, p := range m.processes {
		if !p.running() {
			return fmt.Errorf("%s has ended; its log ends with: %s", p.log, p.lastWords())
		}
	}
	return nil
}

func (m *machines) client() *redis.Client {
	return redis.NewClient(&redis.Options{Addr: proxyPrimary, Dialer: m.outside.dial, MaintNotificationsConfig: noHints})
}

func (m *machines) primary(ctx context.Context) (server, error) {
	s, err := m.status(ctx, m.outside)
	if err != nil {
		return server{}, err
	}
	return primaryOf(s)
}

// survivor reads what is there through the proxy.
func (m *machines) survivor(server) *redis.Client { return m.client() }

func (m *machines) switchover(context.Context) error {
	return errors.New("not part of this measurement")
}

func (m *machines) cutOff() error { return m.cut.cut(true) }

// heal joins the zone again, waits until its node is back, and counts how it came back.
func (m *machines) heal(ctx context.Context, _ server) error {
	if err := m.cut.cut(false); err != nil {
		return err
	}
	before, cut := m.before, m.cut
	if err := m.ready(ctx); err != nil {
		return err
	}
	for ip, now := range m.before {
		n := counted{now.Partial - before[ip].Partial, now.Full - before[ip].Full}
		if ip == cut.ip {
			m.back = m.back.plus(n)
		} else {
			m.others = m.others.plus(n)
		}
	}
	return nil
}

// counted is how many resyncs there were.
type counted struct {
	Partial int `json:"partial"`
	Full    int `json:"full"`
}

func (c counted) plus(n counted) counted { return counted{c.Partial + n.Partial, c.Full + n.Full} }

func (c counted) String() string {
	if c.Partial+c.Full == 0 {
		return "none"
	}
	return fmt.Sprintf("%d partial, %d full: %.0f %% partial", c.Partial, c.Full, 100*float64(c.Partial)/float64(c.Partial+c.Full))
}

// resyncs counts the resyncs that the primaries of the group have granted so far, by the replica's
// address. The servers let nobody in but their agents, so their logs have to tell.
func (m *machines) resyncs() map[string]counted {
	all := map[string]counted{}
	for _, depth := range []string{"*", "*/*", "*/*/*"} { // of the group and the node below the data directory
		logs, _ := filepath.Glob(filepath.Join(m.dir, "*", "data", depth, "redis", "redis.log"))
		for _, path := range logs {
			if text, err := os.ReadFile(path); err == nil {
				countResyncs(string(text), all)
			}
		}
	}
	return all
}

// countResyncs adds what one redis-server's log tells: who asks, and in the next line what it gets.
func countResyncs(log string, into map[string]counted) {
	who := ""
	for line := range strings.Lines(log) {
		if _, rest, found := strings.Cut(line, " * Replica "); found && strings.Contains(rest, "asks for synchronization") {
			who, _, _ = strings.Cut(rest, ":")
			continue
		}
		switch {
		case who == "":
		case strings.Contains(line, "Partial resynchronization request from"):
			into[who], who = into[who].plus(counted{Partial: 1}), ""
		case strings.Contains(line, "Full resync requested by replica"), strings.Contains(line, "Partial resynchronization not accepted"),
			strings.Contains(line, "Unable to partial resync"):
			into[who], who = into[who].plus(counted{Full: 1}), ""
		}
	}
}

// attribute takes the phases from the survivors' own record.
func (m *machines) attribute(ctx context.Context, _ *load, e *event) error {
	s, err := m.status(ctx, m.outside)
	if err == nil && s.LastFailover != nil {
		e.Phases = s.LastFailover.PhasesMs
	}
	return err
}

func (r *report) printZones(w io.Writer) {
	fmt.Fprintln(w, "\nZONE CUT OFF with the primary in it; clients outside, in another zone; network namespaces as zones")
	c := r.Cuts
	if c == nil || c.Skipped != "" {
		fmt.Fprintln(w, "NOT MEASURED")
		if c != nil {
			fmt.Fprintln(w, "zones need network namespaces:", c.Skipped)
		}
		return
	}
	t := table(w)
	fmt.Fprintln(t, "peer\tlongest gap between acked writes, ms: p50\tp99\tmax\tgoal (p99)\tbefore the cut: p99\terrors\tunknown\tlost\tof acked writes\tn")
	for _, peer := range []string{cutSync, cutAsync, cutSentinel} {
		printCut(t, peer, pick(c.Events, "cut", peer))
	}
	_ = t.Flush()
	for _, peer := range []string{cutSync, cutAsync} {
		fmt.Fprintf(w, "sentinel ÷ %s, by round: %s\n", peer, spreadOf(ratios(c.Events, "cut", peer, cutSentinel)).format(1))
		fmt.Fprintf(w, "%s: resyncs of the node that was cut off: %v; of the other replica: %v\n", peer, c.Back[peer], c.Others[peer])
	}
	printPhases(w, []string{cutSync, cutAsync}, func(peer string) []event { return pick(c.Events, "cut", peer) })
	fmt.Fprintln(w, `detect: from the last renewal that the new primary saw until it took the lead for vacant.
Both sides run in three namespaces that a bridge joins: an agent with a store member, a redis-server and a proxy in
each; or a redis-server and a sentinel in each. A cut drops every frame of the zone and tells nobody. The clients of
Understudy use the proxy of their own zone; those of Sentinel are go-redis' failover client. Lost: acked outside the
cut, and absent afterwards.`)
	for _, e := range c.Events {
		if e.Failed != "" {
			fmt.Fprintf(w, "NOT COUNTED: %s, round %d: %s\n", e.Peer, e.Round, e.Failed)
		}
	}
}

func printCut(w io.Writer, peer string, some []event) {
	if len(some) == 0 {
		fmt.Fprintf(w, "%s\tnot measured\t\t\t\t\t\t\t\t\t0\n", peer)
		return
	}
	gap := each(some, func(e event) float64 { return e.GapMs })
	quiet := each(some, func(e event) float64 { return e.QuietMs })
	goal := ""
	if g := cutGoals[peer]; g > 0 {
		goal = fmt.Sprintf("%.0f: %s", g, met(quantile(gap, 0.99), g))
	}
	sum := sumOf(some)
	fmt.Fprintf(w, "%s\t%.0f\t%.0f\t%.0f\t%s\t%.1f\t%d\t%d\t%d\t%d\t%d\n", peer, quantile(gap, 0.5), quantile(gap, 0.99), quantile(gap, 1), goal,
		quantile(quiet, 0.99), sum.Errors, sum.Unknown, sum.Lost, sum.Acked, len(some))
}
