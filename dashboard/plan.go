package dashboard

import (
	"fmt"
	"strings"

	"understudy/cluster"
	"understudy/failover"
)

// Plan is what a change of primary would do now, step by step.
type Plan struct {
	Steps     []string       `json:"steps"`
	From      cluster.NodeID `json:"from,omitempty"`
	To        cluster.NodeID `json:"to"`
	Why       string         `json:"why"` // why To
	LostBytes int64          `json:"lost_bytes"`
	Loss      string         `json:"loss"` // the same in words
	// ExpectedMs is how long the newest change of this kind took here; null when there has been none.
	ExpectedMs *float64           `json:"expected_ms"`
	PhasesMs   map[string]float64 `json:"phases_ms,omitempty"` // of that change
}

// expect fills in the time that the newest change of the kind took.
func (d *Dashboard) expect(p *Plan, kind string) *Plan {
	d.mu.Lock()
	defer d.mu.Unlock()
	if c := d.changes()[kind]; c != nil {
		p.ExpectedMs, p.PhasesMs = &c.DurationMs, c.PhasesMs
	}
	return p
}

// planFailover is what killing the primary would lead to.
func planFailover(s cluster.Status, e failover.Explanation, victim cluster.StatusNode) *Plan {
	b := e.Election
	var candidates []string
	for _, c := range b.Ranking {
		candidates = append(candidates, string(c.Node))
	}
	return &Plan{From: victim.ID, To: b.Winner, Why: b.Reason, LostBytes: b.LostBytes, Loss: b.Loss, Steps: []string{
		fmt.Sprintf("redis-server of %s (pid %d, zone %s) gets SIGKILL", victim.ID, victim.PID, victim.Zone),
		fmt.Sprintf("the agent of %s sees the exit and releases epoch %d in the store; from the exit on the proxy holds requests", victim.ID, s.Epoch),
		fmt.Sprintf("%s read what is still on its way, let go of %s for good and tell one another where their logs end", strings.Join(candidates, " and "), victim.ID),
		fmt.Sprintf("%s takes epoch %d in the store", b.Winner, s.Epoch+1),
		fmt.Sprintf("redis-server of %s is promoted, its log goes on record, and the held requests go there", b.Winner),
		others(s, victim.ID, b.Winner),
	}}
}

// others says what becomes of the rest.
func others(s cluster.Status, from, to cluster.NodeID) string {
	var rest []string
	for _, n := range s.Nodes {
		if n.ID != from && n.ID != to {
			rest = append(rest, string(n.ID))
		}
	}
	back := fmt.Sprintf("%s is started again, with its data, and follows too", from)
	if len(rest) == 0 {
		return back
	}
	return fmt.Sprintf("%s: from now on a replica of %s; %s", strings.Join(rest, ", "), to, back)
}

// planSwitchover is what handing over would do.
func planSwitchover(s cluster.Status, to cluster.NodeID) *Plan {
	successor, _ := s.Node(to)
	var follow []string
	for _, n := range s.Nodes {
		if n.ID != to {
			follow = append(follow, string(n.ID))
		}
	}
	p := &Plan{From: s.Primary, To: to, Loss: "nothing: the primary stops first, and every byte is at the successor before it is demoted",
		Why: fmt.Sprintf("%s chose it among those that the request allows: connected, caught up, highest priority, then the most that it has acknowledged", s.Primary),
		Steps: []string{
			"the proxy holds new writes",
			fmt.Sprintf("redis-server of %s takes no writes any more (CLIENT PAUSE) until %s has every byte; it is %d bytes behind now", s.Primary, to, successor.LagBytes),
			fmt.Sprintf("%s is demoted first", s.Primary),
			fmt.Sprintf("epoch %d goes to %s in the store", s.Epoch+1, to),
			fmt.Sprintf("redis-server of %s is promoted, its log goes on record, and the held writes go there", to),
			fmt.Sprintf("%s follow %s, without a full sync", strings.Join(follow, " and "), to),
		}}
	if len(follow) == 1 {
		p.Steps[5] = fmt.Sprintf("%s follows %s, without a full sync", follow[0], to)
	}
	return p
}

// planForce is what going on with what is left would do.
func planForce(e failover.Explanation) *Plan {
	b := e.Election
	return &Plan{To: b.Best, Why: "it has the best log that is left, and nobody can be chosen: " + b.Reason, LostBytes: b.LostBytes, Loss: b.Loss, Steps: []string{
		fmt.Sprintf("%s takes epoch %d in the store, although acked writes may be lost", b.Best, e.Epoch+1),
		fmt.Sprintf("redis-server of %s is promoted, its log goes on record, and held requests go there", b.Best),
		fmt.Sprintf("the other nodes follow %s; one that has writes which are given up puts its data set aside first, under lost/", b.Best),
	}}
}
