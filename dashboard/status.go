package dashboard

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"understudy/cluster"
	"understudy/failover"
)

// settle is how long after the last permit a change of primary counts as on its way: longer than
// the slowest election (TTL and δ twice over, and the promotion).
func (d *Dashboard) settle() time.Duration { return 3*d.opts.Profile.TTL + 2*time.Second }

// Status says how the group is now.
func (d *Dashboard) Status() cluster.Status {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.status()
}

// status is Status; the caller holds mu.
func (d *Dashboard) status() cluster.Status {
	now := d.opts.Clock()
	s := cluster.Status{
		Group: d.opts.Group, Mode: d.opts.Mode, Durability: d.opts.Durability, Profile: d.opts.Profile.Name, OnLostQuorum: d.opts.OnLostQuorum,
		Endpoints: d.opts.Endpoints, Nodes: []cluster.StatusNode{}, LastFailover: d.lastChange(),
	}
	for id := range d.group().nodes {
		h := d.nodes[id]
		n := d.line(id, h, now)
		s.Nodes = append(s.Nodes, n)
		s.Epoch = max(s.Epoch, h.status.Epoch)
		if n.Role == cluster.RolePrimary && h.status.Epoch >= d.led.epoch {
			s.Primary = id
		}
	}
	slices.SortFunc(s.Nodes, func(a, b cluster.StatusNode) int { return strings.Compare(string(a.ID), string(b.ID)) })
	if s.Primary != "" {
		d.describePrimary(&s, now)
	}
	s.Troubles = d.troubles(&s)
	s.State, s.Reason = d.state(&s, now)
	d.noteState(s.State)
	s.Since = d.since
	return s
}

// describePrimary fills in what the primary alone knows.
func (d *Dashboard) describePrimary(s *cluster.Status, now time.Duration) {
	h := d.nodes[s.Primary]
	s.PermitMs = float64((h.at + h.status.Permit - now).Microseconds()) / 1000
	switch {
	case h.status.Pausing:
		s.Held = "a switchover is under way: writes are held"
	case h.status.NoQuorum:
		s.Held = "no replica can hold a copy of a write, and on_lost_quorum is refuse: writes wait"
	}
	if rules := h.status.Rules; len(rules) > 0 {
		// The first rule is the one in the store, by which an election would go.
		s.Rule = &cluster.StatusRule{Voters: rules[0].Voters, W: rules[0].W}
	}
	if d.alone(s) {
		giveNoHope(s)
	}
}

// alone reports whether the primary acks writes that no replica need have: then none may take over,
// whatever it has. So it is for the first moment of a group, and while all replicas are away.
func (d *Dashboard) alone(s *cluster.Status) bool {
	return d.opts.Durability == cluster.DurabilitySync && s.Primary != "" && (s.Rule == nil || s.Rule.W == 0 || d.nodes[s.Primary].status.Alone)
}

// giveNoHope says of every replica that it cannot take over from a primary that is alone.
func giveNoHope(s *cluster.Status) {
	for i := range s.Nodes {
		if n := &s.Nodes[i]; n.Electable {
			n.Electable, n.Reason = false, "the primary does not wait for it yet before it acks a write"
		}
	}
}

// state is the group's, and why it is not available. Where nobody leads and nobody is about to, what the
// nodes say of themselves is not enough: a node that could be promoted may still not be chosen.
func (d *Dashboard) state(s *cluster.Status, now time.Duration) (cluster.GroupState, string) {
	switch {
	case s.Primary != "" && d.nodes[s.Primary].status.Pausing:
		return cluster.GroupFailingOver, s.Held
	case s.Primary != "":
		if len(s.Troubles) > 0 {
			return cluster.GroupDegraded, strings.Join(s.Troubles, "; ")
		}
		return cluster.GroupAvailable, ""
	case d.led.epoch > 0 && now-d.lastLed < d.settle() && slices.ContainsFunc(s.Nodes, alive):
		return cluster.GroupFailingOver, "a failover is under way: writes are held"
	case d.opts.Operator != "":
		return cluster.GroupNoPrimary, "no node says that it is the primary; " + d.opts.Operator
	}
	e := d.Explain()
	for i := range s.Nodes {
		n := &s.Nodes[i]
		if at := slices.IndexFunc(e.Nodes, func(x failover.NodeInWords) bool { return x.ID == n.ID }); at >= 0 {
			n.Electable, n.Reason = e.Nodes[at].Electable, e.Nodes[at].Reason
		}
	}
	return cluster.GroupNoPrimary, "no node may accept writes: " + e.Failover
}

func alive(n cluster.StatusNode) bool { return n.State != cluster.StateDown }

// troubles are all that is not as it should be. The caller holds mu.
func (d *Dashboard) troubles(s *cluster.Status) []string {
	all := []string{}
	if s.Primary != "" {
		d.ledTill = time.Time{}
		all = append(all, d.missing(*s)...)
	} else {
		if d.ledTill.IsZero() {
			d.ledTill = time.Now()
		}
		all = append(all, "no primary since "+d.ledTill.UTC().Format(time.RFC3339))
	}
	if d.counts.failsafe {
		all = append(all, storeAway)
	}
	if d.opts.Troubles != nil {
		all = append(all, d.opts.Troubles()...)
	}
	return all
}

// storeAway is what a failsafe means.
const storeAway = "the store is unreachable for the primary, which goes on because every node confirms it: there can be no failover"

// StoreTroubles say what the agents have told of a store that is away; none: nothing.
func (d *Dashboard) StoreTroubles() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.counts.failsafe {
		return nil
	}
	return []string{storeAway}
}

// missing says what a group with a primary lacks.
func (d *Dashboard) missing(s cluster.Status) (lacks []string) {
	if s.Held != "" {
		lacks = append(lacks, s.Held)
	} else if d.alone(&s) && len(s.Nodes) > 1 {
		lacks = append(lacks, fmt.Sprintf("no replica has to hold a write before it is acked: %s alone has the newest%s", s.Primary, shrunk(s)))
	}
	for _, n := range s.Nodes {
		switch {
		case n.State != cluster.StateReady:
			lacks = append(lacks, strings.TrimSuffix(fmt.Sprintf("%s is %s: %s", n.ID, n.State, n.Reason), ": "))
		case n.ID != s.Primary && s.Rule != nil && s.Rule.W > 0 && !slices.Contains(s.Rule.Voters, n.ID):
			lacks = append(lacks, fmt.Sprintf("%s does not count yet before a write is acked", n.ID))
		}
	}
	return lacks
}

// shrunk says by which setting a primary goes on alone. A group begins like that, before a replica counts.
func shrunk(s cluster.Status) string {
	if s.OnLostQuorum != cluster.LostQuorumShrink {
		return ""
	}
	return "; on_lost_quorum shrink is in force, or none has caught up yet"
}

// noteState keeps since when the group has been as it is. The caller holds mu.
func (d *Dashboard) noteState(state cluster.GroupState) {
	if state != d.was || d.since.IsZero() {
		d.was, d.since = state, time.Now()
	}
}

// line is what is shown of one node. Its role is primary only while its permit lasts.
func (d *Dashboard) line(id cluster.NodeID, h heard, now time.Duration) cluster.StatusNode {
	s := h.status
	n := cluster.StatusNode{
		ID: id, Zone: s.Zone, Machine: d.opts.Machines[id], Role: cluster.RoleReplica, State: s.State, Addr: s.Addr, PID: s.PID,
		AgentPID: s.AgentPID, Offset: s.Position.Offset, LagBytes: s.LagBytes, LagMs: s.LagMs, Electable: s.Electable, Reason: s.Reason,
		Revoked: d.group().nodes[id].Knows().Report.Revoked, Fences: s.Fences, Lost: s.Lost,
	}
	switch quiet := now - h.at; {
	case s.Node == "":
		n.State, n.Reason = cluster.StateDown, "its agent has not spoken yet"
	case quiet > d.opts.Profile.Silent():
		n.State, n.Electable = cluster.StateDown, false
		n.Reason = fmt.Sprintf("its agent has been silent for %v", quiet.Round(100*time.Millisecond))
	case s.Leads && s.Permit > quiet:
		n.Role = cluster.RolePrimary
	}
	return n
}

func (d *Dashboard) serveStatus(w http.ResponseWriter, _ *http.Request) {
	d.answer(w, http.StatusOK, d.Status())
}

// health is the answer of GET /healthz.
type health struct {
	OK      bool               `json:"ok"`
	State   cluster.GroupState `json:"state"`
	Primary cluster.NodeID     `json:"primary,omitempty"`
	Epoch   cluster.Epoch      `json:"epoch"`
	Reason  string             `json:"reason,omitempty"`
}

// serveHealth answers 200 while a primary accepts writes, else 503 and why.
func (d *Dashboard) serveHealth(w http.ResponseWriter, _ *http.Request) {
	s := d.Status()
	h := health{State: s.State, Primary: s.Primary, Epoch: s.Epoch, Reason: s.Writable()}
	h.OK = h.Reason == ""
	code := http.StatusOK
	if !h.OK {
		code = http.StatusServiceUnavailable
	}
	d.answer(w, code, h)
}

func (d *Dashboard) answer(w http.ResponseWriter, code int, v any) { answer(w, code, v) }

// answer sends v as JSON. It is not kept by anybody in between.
func answer(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(v) // the asker has gone
}
