package dashboard

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"understudy/cluster"
)

// Status is the answer of GET /api/status and of `understudy status --json`.
type Status struct {
	Group      string             `json:"group"`
	State      cluster.GroupState `json:"state"`
	Epoch      cluster.Epoch      `json:"epoch"`
	Durability cluster.Durability `json:"durability"`
	Profile    string             `json:"profile"`
	Primary    cluster.NodeID     `json:"primary"` // "" when nobody may accept writes
	Nodes      []NodeLine         `json:"nodes"`   // ordered by id
	Endpoints  Endpoints          `json:"endpoints"`
	// LastFailover is the newest change of primary that this process has seen; null when none.
	LastFailover *Change `json:"last_failover"`
}

// NodeLine is one node of a Status.
type NodeLine struct {
	ID        cluster.NodeID    `json:"id"`
	Zone      string            `json:"zone"`
	Role      cluster.Role      `json:"role"`
	State     cluster.NodeState `json:"state"`
	Addr      string            `json:"addr"` // HOST:PORT of the redis-server
	PID       int               `json:"pid"`  // of the redis-server, 0 when it is not running
	AgentPID  int               `json:"agent_pid"`
	Offset    int64             `json:"offset"`
	LagBytes  int64             `json:"lag_bytes"`
	LagMs     float64           `json:"lag_ms"`
	Electable bool              `json:"electable"`
	Reason    string            `json:"reason"`
}

// Endpoints are the addresses that clients use, as HOST:PORT.
type Endpoints struct {
	Primary string `json:"primary"`
	Reader  string `json:"reader"`
	Split   string `json:"split"`
	HTTP    string `json:"http"`
}

// silence is how long a node may say nothing before it counts as down, in renewals: agents speak at
// least once each renewal, and one word may be late.
const silence = 6

// settle is how long after the last permit a change of primary counts as on its way: longer than
// the slowest election (TTL and δ twice over, and the promotion).
func (d *Dashboard) settle() time.Duration { return 3*d.opts.Profile.TTL + 2*time.Second }

// Status says how the group is now.
func (d *Dashboard) Status() Status {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.opts.Clock()
	s := Status{
		Group: d.opts.Group, Durability: d.opts.Durability, Profile: d.opts.Profile.Name,
		Endpoints: d.opts.Endpoints, Nodes: []NodeLine{}, LastFailover: d.lastChange(),
	}
	pausing, ready, alive := false, true, false
	for id := range d.opts.Nodes {
		h := d.nodes[id]
		n := d.line(id, h, now)
		s.Nodes = append(s.Nodes, n)
		s.Epoch = max(s.Epoch, h.status.Epoch)
		ready = ready && n.State == cluster.StateReady
		alive = alive || n.State != cluster.StateDown
		if n.Role == cluster.RolePrimary && h.status.Epoch >= d.led.epoch {
			s.Primary, pausing = id, h.status.Pausing
		}
	}
	slices.SortFunc(s.Nodes, func(a, b NodeLine) int { return strings.Compare(string(a.ID), string(b.ID)) })
	if s.Primary != "" && alone(d.nodes[s.Primary].status) {
		s.giveNoHope()
	}
	switch {
	case pausing:
		s.State = cluster.GroupFailingOver
	case s.Primary != "" && ready:
		s.State = cluster.GroupAvailable
	case s.Primary != "":
		s.State = cluster.GroupDegraded
	case alive && d.led.epoch > 0 && now-d.lastLed < d.settle():
		s.State = cluster.GroupFailingOver
	default:
		s.State = cluster.GroupNoPrimary
	}
	return s
}

// line is what is shown of one node. Its role is primary only while its permit lasts.
func (d *Dashboard) line(id cluster.NodeID, h heard, now time.Duration) NodeLine {
	s := h.status
	n := NodeLine{
		ID: id, Zone: s.Zone, Role: cluster.RoleReplica, State: s.State, Addr: s.Addr, PID: s.PID, AgentPID: s.AgentPID,
		Offset: s.Position.Offset, LagBytes: s.LagBytes, LagMs: s.LagMs, Electable: s.Electable, Reason: s.Reason,
	}
	switch quiet := now - h.at; {
	case s.Node == "":
		n.State, n.Reason = cluster.StateDown, "its agent has not spoken yet"
	case quiet > silence*d.opts.Profile.Renew:
		n.State, n.Electable = cluster.StateDown, false
		n.Reason = fmt.Sprintf("its agent has been silent for %v", quiet.Round(100*time.Millisecond))
	case s.Leads && s.Permit > quiet:
		n.Role = cluster.RolePrimary
	}
	return n
}

// alone reports whether the primary acks writes that no replica need have: then none may take over,
// whatever it has. So it is for the first moment of a group, and while all replicas are away.
func alone(primary cluster.NodeStatus) bool {
	if primary.Durability != cluster.DurabilitySync {
		return false
	}
	// The first rule is the one in the store, by which an election would go.
	return len(primary.Rules) == 0 || primary.Rules[0].W == 0
}

// giveNoHope says of every replica that it cannot take over from a primary that is alone.
func (s *Status) giveNoHope() {
	for i := range s.Nodes {
		if n := &s.Nodes[i]; n.Electable {
			n.Electable, n.Reason = false, "the primary does not wait for it yet before it acks a write"
		}
	}
}

// Writable reports why the group accepts no writes; "" when it does.
func (s Status) Writable() string {
	switch {
	case s.State == cluster.GroupFailingOver && s.Primary != "":
		return "a switchover is under way: writes are held"
	case s.Primary != "":
		return ""
	case s.State == cluster.GroupFailingOver:
		return "a failover is under way: writes are held"
	}
	reasons := []string{"no node may accept writes"}
	for _, n := range s.Nodes {
		if n.Reason != "" {
			reasons = append(reasons, fmt.Sprintf("%s: %s", n.ID, n.Reason))
		}
	}
	return strings.Join(reasons, "; ")
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

func (d *Dashboard) answer(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	if err := json.NewEncoder(w).Encode(v); err != nil {
		d.log.Debug("answer not sent", "error", err)
	}
}
